//! FLV, read and written (FLV 10.1 annex E): a file or an HTTP body as audio, video and data
//! messages, whose payloads are those of RTMP byte by byte.
//!
//! The reader works on the bytes that have come so far, and cuts payloads out of them without
//! copying. It never looks into a payload, never seeks and never keeps bytes of its own.
//!
//! ```text
//!   "FLV" | version 1 | flags 1 | offset of the body 4 | size of the tag before, 0 4
//!   { type 1 | length 3 | timestamp, low 24 bits 3 | timestamp, high 8 bits 1 | stream 3 |
//!     payload | size of this tag: 11 + length 4 }*
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::message::{MESSAGE_BYTES_MAX, MediaKind, MessageType};
use super::timestamp::Timestamp;
use crate::limits::Limits;

/// What a file says of itself (section E.2). Players believe it: one that is promised audio and
/// gets none may wait for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlvHeader {
    /// There are audio tags.
    pub audio: bool,
    /// There are video tags.
    pub video: bool,
}

/// An audio, video or script data tag (section E.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlvTag {
    /// Audio, video, or data for a script tag.
    pub kind: MediaKind,
    /// Milliseconds, all 32 bits.
    pub timestamp: Timestamp,
    /// What the message of this kind carries. Cut out of the input, whose memory it keeps alive.
    pub payload: Bytes,
}

/// Why bytes are not read as FLV. Nothing behind can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FlvError {
    /// The first bytes are not "FLV".
    #[error("it does not start with FLV")]
    BadSignature,
    /// Only version 1 was ever in use.
    #[error("it is of version {0} of FLV, not 1")]
    BadVersion(u8),
    /// The body would begin within the header.
    #[error("its body is said to begin at byte {0}, within the header")]
    BadOffset(u32),
    /// An audio or video tag longer than `message_bytes_max`.
    #[error("a tag of type {} with {length} bytes; at most {limit} are taken", kind.message_type().id())]
    TagTooLong {
        /// Audio or video.
        kind: MediaKind,
        /// Payload bytes in its header.
        length: usize,
        /// The limit in force.
        limit: usize,
    },
}

/// Reads FLV as it comes in.
///
/// Tags that are no message are skipped without being kept, and counted: those of other types,
/// encrypted ones, and script data longer than `data_bytes_max`. The sizes behind the tags and the
/// stream ids are not looked at: writers get them wrong, and the last size may be missing.
#[derive(Debug)]
pub struct FlvReader {
    /// `None` until it is read.
    header: Option<FlvHeader>,
    /// Bytes to pass over before the next tag.
    skip: usize,
    dropped: usize,
    message_bytes_max: usize,
    data_bytes_max: usize,
}

impl FlvReader {
    /// A reader at the first byte of a file.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            header: None,
            skip: 0,
            dropped: 0,
            message_bytes_max: limits.message_bytes_max,
            data_bytes_max: limits.data_bytes_max,
        }
    }

    /// The file's header; `None` until its bytes have been there.
    #[must_use]
    pub fn header(&self) -> Option<FlvHeader> {
        self.header
    }

    /// Tags skipped so far.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Takes the next tag off the front of `input`. `Ok(None)` when more bytes are needed: what is
    /// left stays in `input`, to be appended to. It is less than a tag of `message_bytes_max`, and
    /// nothing is reserved for what is to come.
    ///
    /// # Errors
    /// What is not FLV, and a tag that is too long, as soon as its header says so. The reader stays
    /// where it is.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<FlvTag>, FlvError> {
        if self.header.is_none() && !self.read_header(input)? {
            return Ok(None);
        }
        loop {
            let passed = self.skip.min(input.len());
            input.advance(passed);
            self.skip -= passed;
            let Some(fields) = input.first_chunk::<TAG_HEADER_BYTES>() else { return Ok(None) };
            let [kind, l0, l1, l2, t0, t1, t2, t3, ..] = *fields;
            let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
            let Some(kind) = self.wanted(kind, length)? else {
                self.dropped += 1;
                self.skip = TAG_HEADER_BYTES + length + SIZE_BYTES;
                continue;
            };
            if input.len() < TAG_HEADER_BYTES + length {
                return Ok(None);
            }
            input.advance(TAG_HEADER_BYTES);
            self.skip = SIZE_BYTES;
            let timestamp = Timestamp(u32::from_be_bytes([t3, t0, t1, t2]));
            let payload = input.split_to(length).freeze();
            return Ok(Some(FlvTag { kind, timestamp, payload }));
        }
    }

    /// Reads the file's header, and says whether it was there.
    fn read_header(&mut self, input: &[u8]) -> Result<bool, FlvError> {
        // A stranger is known by his first byte, however little has come.
        if !input.iter().zip(SIGNATURE).all(|(byte, expected)| byte == expected) {
            return Err(FlvError::BadSignature);
        }
        match input.get(SIGNATURE.len()) {
            Some(&version) if version != VERSION => return Err(FlvError::BadVersion(version)),
            _ => {}
        }
        let Some(header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(false) };
        let [_, _, _, _, flags, offset @ ..] = *header;
        let offset = u32::from_be_bytes(offset);
        // A longer header is one of later versions; what they add is passed over.
        let body = usize::try_from(offset).unwrap_or(usize::MAX);
        if body < HEADER_BYTES {
            return Err(FlvError::BadOffset(offset));
        }
        self.header = Some(FlvHeader { audio: flags & AUDIO != 0, video: flags & VIDEO != 0 });
        self.skip = body.saturating_add(SIZE_BYTES);
        Ok(true)
    }

    /// The kind of a tag that is to be handed out, by the first byte and the length of it.
    fn wanted(&self, first: u8, length: usize) -> Result<Option<MediaKind>, FlvError> {
        if first & FILTER != 0 {
            return Ok(None);
        }
        let kind = MediaKind::from_message_type(MessageType::from_id(first & TYPE));
        match kind {
            Some(MediaKind::Data) => Ok(kind.filter(|_| length <= self.data_bytes_max)),
            Some(kind) if length > self.message_bytes_max => {
                Err(FlvError::TagTooLong { kind, length, limit: self.message_bytes_max })
            }
            _ => Ok(kind),
        }
    }
}

impl FlvHeader {
    /// Appends the header, and the size of the tag that is not before the first one.
    pub fn write(self, out: &mut BytesMut) {
        let audio = if self.audio { AUDIO } else { 0 };
        let video = if self.video { VIDEO } else { 0 };
        out.extend_from_slice(SIGNATURE);
        out.extend_from_slice(&[VERSION, audio | video, 0, 0, 0, 9]);
        out.put_u32(0);
    }
}

/// Appends a tag and its size.
///
/// # Panics
/// When the payload is longer than [`MESSAGE_BYTES_MAX`], which no message's is.
pub fn write_tag(out: &mut BytesMut, kind: MediaKind, timestamp: Timestamp, payload: &[u8]) {
    out.reserve(TAG_HEADER_BYTES + payload.len() + SIZE_BYTES);
    write_tag_pieces(out, kind, timestamp, payload.len(), [payload]);
}

/// [`write_tag`] for a payload in pieces, of `length` bytes together.
///
/// # Panics
/// When that is longer than [`MESSAGE_BYTES_MAX`].
pub fn write_tag_pieces<'a>(
    out: &mut BytesMut,
    kind: MediaKind,
    timestamp: Timestamp,
    length: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) {
    assert!(length <= MESSAGE_BYTES_MAX, "a tag's payload fits 24 bits");
    let field = u32::try_from(length).expect("24 bits fit 32");
    let [_, length_bytes @ ..] = field.to_be_bytes();
    let [high, low @ ..] = timestamp.0.to_be_bytes();
    out.put_u8(kind.message_type().id());
    out.extend_from_slice(&length_bytes);
    out.extend_from_slice(&low);
    out.extend_from_slice(&[high, 0, 0, 0]);
    let start = out.len();
    pieces.into_iter().for_each(|piece| out.extend_from_slice(piece));
    debug_assert_eq!(out.len() - start, length, "the length goes before the payload");
    out.put_u32(field + 11);
}

/// Bytes of a file before its first tag, as [`FlvHeader::write`] writes them.
pub const START_BYTES: usize = HEADER_BYTES + SIZE_BYTES;

/// Bytes of a tag besides its payload.
pub const TAG_BYTES: usize = TAG_HEADER_BYTES + SIZE_BYTES;

const SIGNATURE: &[u8; 3] = b"FLV";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 9;
const TAG_HEADER_BYTES: usize = 11;
/// The size of the tag before.
const SIZE_BYTES: usize = 4;

/// Flags of the file's header.
const AUDIO: u8 = 4;
const VIDEO: u8 = 1;

/// Parts of a tag's first byte: its type, and whether an encryption header precedes the payload.
const TYPE: u8 = 0x1F;
const FILTER: u8 = 0x20;

#[cfg(test)]
mod tests;
