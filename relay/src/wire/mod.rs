//! RTMP as bytes and values: handshake, chunks, messages, AMF, commands, media headers.
//!
//! Nothing here owns a socket, reads a clock, draws a random number or logs.

pub mod aggregate;
pub mod amf;
pub mod amf0;
pub mod amf3;
pub mod assembler;
pub mod chunk_reader;
pub mod chunk_writer;
pub mod command;
pub mod connect;
pub mod control;
pub mod data;
mod enhanced;
pub mod flv;
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
mod handshake_digest;
pub mod media;
pub mod message;
pub mod needs;
pub mod plain;
pub mod reply;
pub mod stream_name;
pub mod timestamp;
pub mod websocket;
pub mod wire_message;

#[cfg(test)]
pub(crate) mod testing;
