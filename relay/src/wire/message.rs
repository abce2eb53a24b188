//! Messages: what chunks carry (RTMP 1.0 section 6), and media messages in the one shape in which
//! the whole cluster sends them.
//!
//! A [`MediaMessage`] never looks at a codec, knows no stream and writes no message but its own.

use bytes::{Bytes, BytesMut};

use super::chunk_writer::{FirstHeader, is_extended};
use super::media::{Class, Role, Tracks};
use super::timestamp::Timestamp;
use super::wire_message::PayloadPieces;

/// Most payload bytes of one message: the length field has 24 bits (RTMP 1.0 section 5.3.1.2.1).
pub const MESSAGE_BYTES_MAX: usize = 0xFF_FFFF;

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

impl MediaKind {
    /// The chunk stream that shared bytes use.
    #[must_use]
    pub fn chunk_stream(self) -> u32 {
        match self {
            Self::Audio => chunk_stream::AUDIO,
            Self::Video => chunk_stream::VIDEO,
            Self::Data => chunk_stream::DATA,
        }
    }

    /// The message type.
    #[must_use]
    pub fn message_type(self) -> MessageType {
        match self {
            Self::Audio => MessageType::Audio,
            Self::Video => MessageType::Video,
            Self::Data => MessageType::DataAmf0,
        }
    }

    /// The kind of a message type; `None` when it is not one of the three.
    #[must_use]
    pub fn from_message_type(kind: MessageType) -> Option<Self> {
        match kind {
            MessageType::Audio => Some(Self::Audio),
            MessageType::Video => Some(Self::Video),
            MessageType::DataAmf0 => Some(Self::Data),
            _ => None,
        }
    }

    /// A fmt-3 basic header on this kind's chunk stream (RTMP 1.0 section 5.3.1.1).
    fn continuation_byte(self) -> u8 {
        match self {
            Self::Audio => 0xC4,
            Self::Video => 0xC6,
            Self::Data => 0xC5,
        }
    }
}

/// A complete audio, video or data message, already cut into the chunks that every reader is sent.
///
/// ```text
///   buffer: [ 16 bytes of headroom | payload 0..60000 | fmt-3 header | payload 60000.. | ... ]
/// ```
///
/// The first chunk header is written into the end of the headroom when the bytes are taken, so that
/// a timestamp can still be moved without touching the payload. A fmt-3 header is one byte, and
/// four more when the timestamp is extended, which every continuation repeats (RTMP 1.0 section
/// 5.3.1.3).
#[derive(Debug)]
pub struct MediaMessage {
    kind: MediaKind,
    class: Class,
    timestamp: Timestamp,
    payload_bytes: usize,
    buffer: BytesMut,
    copied: u64,
}

impl MediaMessage {
    /// Cuts a contiguous payload into chunks (one copy). For tests, and for what we write.
    ///
    /// # Panics
    /// When the payload is longer than [`MESSAGE_BYTES_MAX`]. What was made of a peer's bytes is
    /// therefore given to [`Self::replace`].
    #[must_use]
    pub fn new(kind: MediaKind, class: Class, timestamp: Timestamp, payload: &[u8]) -> Self {
        let mut message = Self::empty();
        let fits = message.replace(kind, class, timestamp, payload);
        assert!(fits, "a message payload fits 24 bits");
        message
    }

    /// A message without content, to be filled by [`Self::replace`].
    #[must_use]
    pub fn empty() -> Self {
        Self {
            kind: MediaKind::Audio,
            class: Class { role: Role::AudioFrame, tracks: Tracks::default() },
            timestamp: Timestamp(0),
            payload_bytes: 0,
            buffer: BytesMut::new(),
            copied: 0,
        }
    }

    /// Puts another message in place of this one, reusing its buffer: [`Self::new`] without its
    /// allocation when the buffer is large enough, and not much larger. False, and nothing
    /// changed, when the payload is longer than [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn replace(
        &mut self,
        kind: MediaKind,
        class: Class,
        timestamp: Timestamp,
        payload: &[u8],
    ) -> bool {
        if payload.len() > MESSAGE_BYTES_MAX {
            return false;
        }
        let needed = wire_layout_bytes(payload.len(), is_extended(timestamp));
        // A short message is copied out of whatever it is in, and the buffer used again.
        if is_wasteful(self.buffer.capacity(), needed.max(KEPT_BYTES_MAX)) {
            self.release();
        }
        self.begin(kind, timestamp);
        self.extend(payload, payload.len(), 0);
        self.class = class;
        true
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

    /// Gives the message another role, by those who know the stream. Its bytes stay.
    pub fn set_role(&mut self, role: Role) {
        self.class.role = role;
    }

    /// Absolute timestamp.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Moves the message in time (a publisher that continues another's stream). Costs nothing up to
    /// 60,000 payload bytes; beyond, continuation headers are patched, and only when the timestamp
    /// becomes extended or stops being so is the payload laid out (copied) again.
    pub fn set_timestamp(&mut self, timestamp: Timestamp) {
        let was_extended = is_extended(self.timestamp);
        self.timestamp = timestamp;
        if self.payload_bytes <= CHUNK_BYTES {
            return;
        }
        match (was_extended, is_extended(timestamp)) {
            (false, false) => {}
            (true, true) => {
                let mut at = HEADROOM + CHUNK_BYTES;
                while let Some(field) = self.buffer.get_mut(at + 1..at + 5) {
                    field.copy_from_slice(&timestamp.0.to_be_bytes());
                    at += CHUNK_BYTES + 5;
                }
            }
            (was_extended, _) => {
                let old = std::mem::take(&mut self.buffer);
                let payload_bytes = self.payload_bytes;
                self.begin(self.kind, timestamp);
                let body = old.get(HEADROOM..).unwrap_or_default();
                for piece in PayloadPieces::new(body, continuation_bytes(was_extended)) {
                    self.extend(piece, payload_bytes, usize::MAX);
                }
            }
        }
    }

    /// Payload bytes, headers not counted.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The payload's pieces, without chunk headers: all but the last are [`CHUNK_BYTES`] long. No
    /// piece at all when the payload is empty.
    #[must_use]
    pub fn payload(&self) -> PayloadPieces<'_> {
        let body = self.buffer.get(HEADROOM..).unwrap_or_default();
        PayloadPieces::new(body, continuation_bytes(is_extended(self.timestamp)))
    }

    /// The first piece of the payload (at most [`CHUNK_BYTES`]): all that a media header may need.
    #[must_use]
    pub fn payload_head(&self) -> &[u8] {
        self.payload().next().unwrap_or_default()
    }

    /// Bytes copied so far to put together what was in this place, again where a buffer grew.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.copied
    }

    /// Bytes that [`Self::append_to`] writes and [`Self::take`] gives.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        let first = if is_extended(self.timestamp) { 16 } else { 12 };
        first + self.buffer.len().saturating_sub(HEADROOM)
    }

    /// Copies the wire bytes behind `out` (small messages: the segment's copy).
    pub fn append_to(&mut self, out: &mut BytesMut) {
        let start = self.write_first_header();
        out.extend_from_slice(&self.buffer[start..]);
    }

    /// Takes the wire bytes without copying (large messages). The message has an empty payload
    /// afterwards, and no buffer. Only what would hold a buffer of more than twice its size is
    /// copied out of it: who keeps the bytes keeps their buffer.
    pub fn take(&mut self) -> Bytes {
        let start = self.write_first_header();
        self.payload_bytes = 0;
        if is_wasteful(self.buffer.capacity(), self.buffer.len()) {
            self.count_copied(self.buffer.len() - start);
            let bytes = Bytes::copy_from_slice(&self.buffer[start..]);
            self.buffer.clear();
            return bytes;
        }
        let mut bytes = std::mem::take(&mut self.buffer).freeze();
        bytes.split_off(start)
    }

    /// Starts a message whose payload follows by [`Self::extend`]. Keeps the buffer.
    pub(super) fn begin(&mut self, kind: MediaKind, timestamp: Timestamp) {
        self.kind = kind;
        self.timestamp = timestamp;
        self.payload_bytes = 0;
        self.buffer.clear();
    }

    /// Adds received payload. `length` is what the header claims for the whole payload: it caps how
    /// far the buffer grows, and never makes it grow. `expected` is how much room to take at once
    /// if the claim allows it, because messages of that size were received before.
    pub(super) fn extend(&mut self, mut payload: &[u8], length: usize, expected: usize) {
        let extended = is_extended(self.timestamp);
        let after = wire_layout_bytes(self.payload_bytes + payload.len(), extended);
        if self.buffer.capacity() < after {
            let whole = wire_layout_bytes(length, extended);
            // A short message's buffer is kept for the next one: a round size serves more of them.
            // A long one's leaves with it: no byte is to be wasted.
            let enough = if whole < KEPT_BYTES_MAX { whole.next_power_of_two() } else { whole };
            let room = after.saturating_mul(2).max(expected).max(GROWTH_BYTES_MIN);
            self.grow(room.min(enough.max(GROWTH_BYTES_MIN)).max(after));
        }
        if self.buffer.is_empty() {
            self.buffer.resize(HEADROOM, 0);
        }
        self.count_copied(payload.len());
        while !payload.is_empty() {
            let used = self.payload_bytes % CHUNK_BYTES;
            if used == 0 && self.payload_bytes > 0 {
                self.buffer.extend_from_slice(&[self.kind.continuation_byte()]);
                if extended {
                    self.buffer.extend_from_slice(&self.timestamp.0.to_be_bytes());
                }
            }
            let (now, later) = payload.split_at(payload.len().min(CHUNK_BYTES - used));
            self.buffer.extend_from_slice(now);
            self.payload_bytes += now.len();
            payload = later;
        }
    }

    /// Ends a message: gives it its class.
    pub(super) fn finish(&mut self, class: Class) {
        self.class = class;
    }

    /// Memory held.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives the memory back.
    pub(super) fn release(&mut self) {
        self.payload_bytes = 0;
        self.buffer = BytesMut::new();
    }

    /// A new allocation of exactly `capacity`: growing in place would double once more at the end,
    /// and that waste would stay for as long as the message stays in a log.
    fn grow(&mut self, capacity: usize) {
        self.count_copied(self.buffer.len());
        let mut grown = BytesMut::with_capacity(capacity);
        grown.extend_from_slice(&self.buffer);
        self.buffer = grown;
    }

    fn count_copied(&mut self, bytes: usize) {
        self.copied += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Writes the first chunk header into the headroom and gives the offset where it starts.
    fn write_first_header(&mut self) -> usize {
        if self.buffer.len() < HEADROOM {
            self.buffer.resize(HEADROOM, 0);
        }
        let header = FirstHeader::new(
            self.timestamp,
            self.payload_bytes,
            self.kind.message_type(),
            MEDIA_STREAM,
        );
        let fields = header.bytes();
        let start = HEADROOM - 1 - fields.len();
        // A fmt-0 basic header is the chunk stream id alone, and the two upper bits zero.
        self.buffer[start] = self.kind.continuation_byte() & 0x3F;
        self.buffer[start + 1..HEADROOM].copy_from_slice(fields);
        start
    }
}

/// Least room taken when a buffer grows.
const GROWTH_BYTES_MIN: usize = 512;

/// Messages below this are copied into segments, and their buffers used again.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// Whether a buffer is more than twice as large as it must be, and not a small one.
fn is_wasteful(capacity: usize, needed: usize) -> bool {
    capacity > needed.saturating_mul(2).max(GROWTH_BYTES_MIN)
}

/// Bytes of a fmt-3 header on one of our chunk streams.
fn continuation_bytes(extended: bool) -> usize {
    if extended { 5 } else { 1 }
}

/// Bytes of the buffer that holds a payload of `payload_bytes`: headroom and continuations
/// included.
fn wire_layout_bytes(payload_bytes: usize, extended: bool) -> usize {
    let continuations = payload_bytes.saturating_sub(1) / CHUNK_BYTES;
    HEADROOM + payload_bytes + continuations * continuation_bytes(extended)
}

#[cfg(test)]
mod tests;
