//! RTMP as bytes and values: handshake, chunks, messages, AMF, commands, media headers.
//!
//! Nothing here owns a socket, reads a clock, draws a random number or logs.

pub mod aggregate;
pub mod assembler;
pub mod chunk_reader;
pub mod chunk_writer;
pub mod control;
mod enhanced;
pub mod handshake;
mod handshake_digest;
pub mod media;
pub mod message;
pub mod timestamp;
pub mod wire_message;
