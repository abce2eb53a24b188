//! Messages: what chunks carry (RTMP 1.0 section 6), and media messages in the one shape in which the
//! whole cluster sends them.

use bytes::{Bytes, BytesMut};

use super::media::Class;
use super::timestamp::Timestamp;

/// Outbound chunk size of every connection. Fixed, because all readers of a stream share its bytes.
pub const CHUNK_BYTES: usize = 60_000;

/// Room kept before a payload for the largest first chunk header: 1 + 11 + 4 bytes.
pub const HEADROOM: usize = 16;

/// Outbound chunk stream ids. Fixed, because all readers of a stream share its bytes.
pub mod chunk_stream {
    /// Protocol control and user control messages (section 5.4).
    pub const CONTROL: u32 = 2;
    /// Commands of the connection.
    pub const COMMAND: u32 = 3;
    /// Audio.
    pub const AUDIO: u32 = 4;
    /// Data messages and the status of a stream.
    pub const DATA: u32 = 5;
    /// Video.
    pub const VIDEO: u32 = 6;
}

/// The message stream id of media in shared bytes; another one is served by a view.
pub const MEDIA_STREAM: u32 = 1;

/// Message type ids (RTMP 1.0 sections 5.4 and 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// 1
    SetChunkSize,
    /// 2
    Abort,
    /// 3
    Acknowledgement,
    /// 4
    UserControl,
    /// 5
    WindowAckSize,
    /// 6
    SetPeerBandwidth,
    /// 8
    Audio,
    /// 9
    Video,
    /// 15
    DataAmf3,
    /// 16
    SharedObjectAmf3,
    /// 17
    CommandAmf3,
    /// 18
    DataAmf0,
    /// 19
    SharedObjectAmf0,
    /// 20
    CommandAmf0,
    /// 22
    Aggregate,
    /// Any other id: ignored and counted.
    Other(u8),
}

impl MessageType {
    /// From the type id byte.
    #[must_use]
    pub fn from_id(id: u8) -> Self {
        match id {
            1 => Self::SetChunkSize,
            2 => Self::Abort,
            3 => Self::Acknowledgement,
            4 => Self::UserControl,
            5 => Self::WindowAckSize,
            6 => Self::SetPeerBandwidth,
            8 => Self::Audio,
            9 => Self::Video,
            15 => Self::DataAmf3,
            16 => Self::SharedObjectAmf3,
            17 => Self::CommandAmf3,
            18 => Self::DataAmf0,
            19 => Self::SharedObjectAmf0,
            20 => Self::CommandAmf0,
            22 => Self::Aggregate,
            other => Self::Other(other),
        }
    }

    /// The type id byte.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::SetChunkSize => 1,
            Self::Abort => 2,
            Self::Acknowledgement => 3,
            Self::UserControl => 4,
            Self::WindowAckSize => 5,
            Self::SetPeerBandwidth => 6,
            Self::Audio => 8,
            Self::Video => 9,
            Self::DataAmf3 => 15,
            Self::SharedObjectAmf3 => 16,
            Self::CommandAmf3 => 17,
            Self::DataAmf0 => 18,
            Self::SharedObjectAmf0 => 19,
            Self::CommandAmf0 => 20,
            Self::Aggregate => 22,
            Self::Other(id) => id,
        }
    }
}

/// The fields of a message header, as read from chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// Absolute timestamp.
    pub timestamp: Timestamp,
    /// Payload bytes (24 bits on the wire).
    pub length: u32,
    /// Type id.
    pub kind: MessageType,
    /// Message stream id; 0 is the connection itself.
    pub message_stream: u32,
}

/// Which of the three shared chunk streams a media message is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Type 8 on chunk stream 4.
    Audio,
    /// Type 9 on chunk stream 6.
    Video,
    /// Type 18 on chunk stream 5.
    Data,
}

/// A complete audio, video or data message, already cut into the chunks that every reader is sent.
///
/// ```text
///   buffer: [ 16 bytes of headroom | payload 0..60000 | fmt-3 header | payload 60000.. | ... ]
/// ```
///
/// The first chunk header is written into the end of the headroom when the bytes are taken, so that a
/// timestamp can still be moved without touching the payload.
#[derive(Debug)]
pub struct MediaMessage {
    kind: MediaKind,
    class: Class,
    timestamp: Timestamp,
    payload_bytes: usize,
    buffer: BytesMut,
}

impl MediaMessage {
    /// Cuts a contiguous payload into chunks (one copy). For messages that had to be rewritten, and for tests.
    #[must_use]
    pub fn new(kind: MediaKind, class: Class, timestamp: Timestamp, payload: &[u8]) -> Self {
        let _ = (kind, class, timestamp, payload);
        todo!()
    }

    /// Kind, and with it chunk stream and type id.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Role and tracks.
    #[must_use]
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Absolute timestamp.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Moves the message in time (a publisher that continues another's stream).
    pub fn set_timestamp(&mut self, timestamp: Timestamp) {
        let _ = timestamp;
        todo!("continuation headers repeat an extended timestamp: patch them, or lay out again when it appears or goes")
    }

    /// Payload bytes, headers not counted.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The payload's pieces, without chunk headers.
    pub fn payload(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer.chunks(1)
    }

    /// Bytes that [`Self::append_to`] writes and [`Self::take`] gives.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        todo!()
    }

    /// Copies the wire bytes behind `out` (small messages: the segment's copy).
    pub fn append_to(&mut self, out: &mut BytesMut) {
        let _ = out;
        todo!()
    }

    /// Takes the wire bytes without copying (large messages). The message is empty afterwards.
    pub fn take(&mut self) -> Bytes {
        todo!()
    }
}
