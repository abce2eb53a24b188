//! Values to chunks (RTMP 1.0 section 5.3.1): replies, control messages, and the first header of
//! media.
//!
//! A message always starts with a fmt-0 header and goes on with fmt 3, which repeats an extended
//! timestamp: nothing here depends on what was written before, so the same bytes serve every
//! reader. Media is not written here; see [`MediaMessage`](super::message::MediaMessage).

use bytes::{BufMut, BytesMut};

use super::message::{MESSAGE_BYTES_MAX, MessageHeader, MessageType};
use super::timestamp::Timestamp;

/// Chunk size of either direction until a Set Chunk Size (RTMP 1.0 section 5.4.1).
pub const DEFAULT_CHUNK_BYTES: usize = 128;

/// The value of the 24-bit timestamp field that says: the real one follows in 32 bits.
pub const EXTENDED: u32 = 0xFF_FFFF;

/// Whether a timestamp (or delta) needs the extended field: [`EXTENDED`] itself does.
#[must_use]
pub fn is_extended(timestamp: Timestamp) -> bool {
    timestamp.0 >= EXTENDED
}

/// Writes a whole message: a fmt-0 chunk and fmt-3 chunks for what does not fit `chunk_size`. The
/// length is that of `payload`; `header.length` is not looked at.
///
/// # Panics
/// When the chunk stream id lies outside 2..=65599, the chunk size is 0 or the payload is longer
/// than [`MESSAGE_BYTES_MAX`]: all three are ours to choose.
pub fn write_message(
    out: &mut BytesMut,
    chunk_stream: u32,
    header: &MessageHeader,
    payload: &[u8],
    chunk_size: usize,
) {
    assert!(chunk_size > 0, "a chunk carries at least one byte");
    let first =
        FirstHeader::new(header.timestamp, payload.len(), header.kind, header.message_stream);
    let continuations = payload.len().saturating_sub(1) / chunk_size;
    out.reserve(3 + first.bytes().len() + payload.len() + continuations * 7);
    put_basic_header(out, 0, chunk_stream);
    out.extend_from_slice(first.bytes());
    let mut pieces = payload.chunks(chunk_size);
    out.extend_from_slice(pieces.next().unwrap_or_default());
    for piece in pieces {
        put_basic_header(out, 3, chunk_stream);
        if is_extended(header.timestamp) {
            out.put_u32(header.timestamp.0);
        }
        out.extend_from_slice(piece);
    }
}

/// The fields of a fmt-0 message header behind the basic header, extended timestamp included
/// (RTMP 1.0 section 5.3.1.2.1): 11 or 15 bytes.
pub(super) struct FirstHeader {
    fields: [u8; 15],
    len: usize,
}

impl FirstHeader {
    pub(super) fn new(
        timestamp: Timestamp,
        payload_bytes: usize,
        kind: MessageType,
        message_stream: u32,
    ) -> Self {
        assert!(payload_bytes <= MESSAGE_BYTES_MAX, "a message payload fits 24 bits");
        let length = u32::try_from(payload_bytes).expect("24 bits fit 32");
        let mut fields = [0; 15];
        fields[..3].copy_from_slice(&timestamp.0.min(EXTENDED).to_be_bytes()[1..]);
        fields[3..6].copy_from_slice(&length.to_be_bytes()[1..]);
        fields[6] = kind.id();
        // The one little-endian field of the protocol.
        fields[7..11].copy_from_slice(&message_stream.to_le_bytes());
        fields[11..].copy_from_slice(&timestamp.0.to_be_bytes());
        Self { fields, len: if is_extended(timestamp) { 15 } else { 11 } }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.fields[..self.len]
    }
}

/// Writes a basic header in its shortest form (RTMP 1.0 section 5.3.1.1).
pub(super) fn put_basic_header(out: &mut BytesMut, format: u8, chunk_stream: u32) {
    let format = format << 6;
    let above = chunk_stream.wrapping_sub(64);
    match (u8::try_from(chunk_stream), u8::try_from(above), u16::try_from(above)) {
        (Ok(id @ 2..=63), _, _) => out.put_u8(format | id),
        (_, Ok(id), _) => out.extend_from_slice(&[format, id]),
        (_, _, Ok(id)) => {
            let [low, high] = id.to_le_bytes();
            out.extend_from_slice(&[format | 1, low, high]);
        }
        _ => panic!("chunk stream ids are 2 to 65599, not {chunk_stream}"),
    }
}
