//! Our own media messages read back from their wire bytes: for views, which render them
//! differently.
//!
//! Only the layout that [`MediaMessage`](super::message::MediaMessage) writes is understood. What
//! peers send is read by [`ChunkReader`](super::chunk_reader::ChunkReader).

use bytes::BytesMut;

use super::chunk_writer::{EXTENDED, write_message};
use super::message::{CHUNK_BYTES, MediaKind, MessageHeader, MessageType};
use super::timestamp::Timestamp;

/// One media message in wire bytes.
#[derive(Clone, Copy, Debug)]
pub struct WireMessage<'a> {
    /// Audio, video or data.
    pub kind: MediaKind,
    /// The header's fields.
    pub header: MessageHeader,
    /// All of the message as it is on the wire.
    pub bytes: &'a [u8],
    first_header_bytes: usize,
}

impl<'a> WireMessage<'a> {
    /// Where a fmt-0 header on one of our chunk streams has its message stream id (little-endian):
    /// whoever needs another id copies `bytes` and changes these four.
    pub const MESSAGE_STREAM_AT: std::ops::Range<usize> = 8..12;

    /// Reads the message at the start of `bytes`; also gives what follows it. `None` when `bytes`
    /// do not start with a whole message in our layout.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let fields = bytes.first_chunk::<12>()?;
        let kind = MediaKind::from_message_type(MessageType::from_id(fields[7]))?;
        if u32::from(fields[0]) != kind.chunk_stream() {
            return None;
        }
        let field = u32::from_be_bytes([0, fields[1], fields[2], fields[3]]);
        let length = u32::from_be_bytes([0, fields[4], fields[5], fields[6]]);
        let message_stream = u32::from_le_bytes([fields[8], fields[9], fields[10], fields[11]]);
        let (timestamp, first_header_bytes) = if field == EXTENDED {
            (u32::from_be_bytes(*bytes[12..].first_chunk()?), 16)
        } else {
            (field, 12)
        };
        let continuation = first_header_bytes - 11;
        let payload_bytes = usize::try_from(length).ok()?;
        let continuations = payload_bytes.saturating_sub(1) / CHUNK_BYTES;
        let whole = first_header_bytes + payload_bytes + continuations * continuation;
        let (bytes, rest) = bytes.split_at_checked(whole)?;
        let header = MessageHeader {
            timestamp: Timestamp(timestamp),
            length,
            kind: kind.message_type(),
            message_stream,
        };
        Some((Self { kind, header, bytes, first_header_bytes }, rest))
    }

    /// Puts the message behind `out` with another timestamp, on another message stream. In the
    /// layout of its own, except that a timestamp may need room in each chunk header that it did
    /// not need before, or no longer does (RTMP 1.0 section 5.3.1.3).
    pub fn put_as(&self, out: &mut BytesMut, timestamp: Timestamp, message_stream: u32) {
        let was_extended = self.first_header_bytes != 12;
        if was_extended || timestamp.0 >= EXTENDED {
            let payload: Vec<u8> = self.payload().flatten().copied().collect();
            let header = MessageHeader { timestamp, message_stream, ..self.header };
            return write_message(out, self.kind.chunk_stream(), &header, &payload, CHUNK_BYTES);
        }
        let start = out.len();
        out.extend_from_slice(self.bytes);
        let fields = &mut out[start..];
        fields[TIMESTAMP_AT].copy_from_slice(&timestamp.0.to_be_bytes()[1..]);
        fields[Self::MESSAGE_STREAM_AT].copy_from_slice(&message_stream.to_le_bytes());
    }

    /// The payload's pieces, without chunk headers.
    #[must_use]
    pub fn payload(&self) -> PayloadPieces<'a> {
        PayloadPieces::new(&self.bytes[self.first_header_bytes..], self.first_header_bytes - 11)
    }
}

/// Where a fmt-0 header on one of our chunk streams has its timestamp.
const TIMESTAMP_AT: std::ops::Range<usize> = 1..4;

/// The payload of a message in our layout, piece by piece: [`CHUNK_BYTES`] each but the last.
#[derive(Clone, Debug)]
pub struct PayloadPieces<'a> {
    rest: &'a [u8],
    continuation_bytes: usize,
}

impl<'a> PayloadPieces<'a> {
    /// `body` starts with the first payload byte; `continuation_bytes` is the length of each fmt-3
    /// header in it.
    pub(super) fn new(body: &'a [u8], continuation_bytes: usize) -> Self {
        Self { rest: body, continuation_bytes }
    }

    /// A payload that lies in no chunks.
    #[must_use]
    pub fn whole(payload: &'a [u8]) -> Self {
        Self::new(payload, 0)
    }
}

impl<'a> Iterator for PayloadPieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at(self.rest.len().min(CHUNK_BYTES));
        self.rest = rest.get(self.continuation_bytes..).unwrap_or_default();
        Some(piece)
    }
}

#[cfg(test)]
mod tests;
