//! RTMP as bytes and values: handshake, chunks, messages, AMF, commands, media headers.
//!
//! Nothing here owns a socket, reads a clock, draws a random number or logs.

pub mod amf;
pub mod amf0;
pub mod amf3;
pub mod command;
pub mod connect;
pub mod data;
pub mod media;
pub mod message;
pub mod reply;
pub mod stream_name;
pub mod timestamp;

#[cfg(test)]
pub(crate) mod test_bytes;
