//! What ends a session: a peer's faults, each with one sentence and one label.
//!
//! None of these is ours: a fault of our own is a panic.

use thiserror::Error;

use crate::wire::assembler::AssembleError;
use crate::wire::chunk_reader::ChunkError;
use crate::wire::command::CommandError;
use crate::wire::control::ShortControlMessage;
use crate::wire::handshake::HandshakeError;
use crate::wire::websocket::FrameError;

/// Why a connection has to be closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The first bytes are not those of plain RTMP.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The handshake was not complete within `connect_timeout`.
    #[error("the handshake was not complete in time")]
    HandshakeTimeout,
    /// The head of an HTTP request did not end in time.
    #[error("the head of the HTTP request was not complete in time")]
    RequestTimeout,
    /// The connect command was not complete within `connect_timeout`.
    #[error("no connect command came in time")]
    ConnectTimeout,
    /// Connected, but neither publishing nor playing for `idle_timeout`.
    #[error("the connection neither published nor played for too long")]
    IdleTimeout,
    /// A publisher sent nothing for `publisher_silence_max`.
    #[error("the publisher sent nothing for too long")]
    PublisherSilent,
    /// The server did not let us start within `connect_timeout`.
    #[error("the server did not answer in time")]
    AnswerTimeout,
    /// The chunk stream cannot be followed.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Too many bytes of unfinished messages.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A control message that is too short.
    #[error(transparent)]
    Control(#[from] ShortControlMessage),
    /// A command that the connection stands on cannot be read.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A command that needs a connection came before connect.
    #[error("{command} came before connect")]
    NotConnected {
        /// The command.
        command: &'static str,
    },
    /// Connect came a second time.
    #[error("connect came a second time")]
    ConnectedTwice,
    /// A string of connect is longer than allowed.
    #[error("{property} of connect is longer than {limit} bytes")]
    ConnectString {
        /// The property.
        property: &'static str,
        /// The limit in force.
        limit: usize,
    },
    /// More message streams than `streams_per_connection_max`.
    #[error("more than {limit} message streams on one connection")]
    TooManyStreams {
        /// The limit in force.
        limit: usize,
    },
    /// More messages than `messages_per_second_max`.
    #[error("more than {limit} messages within a second")]
    TooManyMessages {
        /// The limit in force.
        limit: usize,
    },
    /// A message between nodes that is longer than they may be.
    #[error("a message between nodes is longer than {limit} bytes")]
    NodeMessageTooLong {
        /// The limit in force.
        limit: usize,
    },
    /// A player of FLV said more than `flv_input_bytes_max`.
    #[error("a player that has nothing to say sent more than {limit} bytes")]
    TooTalkative {
        /// The limit in force.
        limit: usize,
    },
    /// A frame of a WebSocket that breaks its protocol, or is too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More replies waiting than `output_bytes_max`.
    #[error("more than {limit} bytes of replies wait to be sent")]
    OutputFull {
        /// The limit in force.
        limit: usize,
    },
    /// The server said no.
    #[error("the server refused: {code}: {description}")]
    Refused {
        /// For example `NetStream.Publish.BadName`.
        code: String,
        /// For people.
        description: String,
    },
    /// The server's answer makes no sense.
    #[error("the server's answer to {command} cannot be used")]
    BadAnswer {
        /// What was asked.
        command: &'static str,
    },
}

impl SessionError {
    /// The error as a label: one of a dozen words.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Handshake(HandshakeError::RtmpeRefused(_)) => "rtmpe",
            Self::Handshake(HandshakeError::BadVersion(_)) => "bad_version",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::PublisherSilent => "publisher_silent",
            Self::AnswerTimeout => "answer_timeout",
            Self::Chunk(
                ChunkError::TooManyChunkStreams { .. }
                | ChunkError::MessageTooLong { .. }
                | ChunkError::ChunksTooSmall { .. },
            )
            | Self::Assemble(AssembleError::TooManyPartialBytes { .. })
            | Self::ConnectString { .. }
            | Self::TooManyStreams { .. }
            | Self::TooManyMessages { .. }
            | Self::NodeMessageTooLong { .. }
            | Self::TooTalkative { .. }
            | Self::Frame(FrameError::TooLong { .. })
            | Self::OutputFull { .. } => "limit",
            Self::Chunk(
                ChunkError::NoEarlierHeader { .. }
                | ChunkError::HeaderInsideMessage { .. }
                | ChunkError::BadChunkSize { .. },
            ) => "chunk",
            Self::Command(_) => "amf",
            Self::Control(_)
            | Self::Frame(_)
            | Self::NotConnected { .. }
            | Self::ConnectedTwice
            | Self::BadAnswer { .. } => "protocol",
            Self::Refused { .. } => "refused",
        }
    }
}
