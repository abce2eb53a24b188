//! Chunks to message fragments (RTMP 1.0 section 5.3.1): the way in of every byte after the
//! handshake.
//!
//! The reader copies no payload and waits for none: it hands on what is there, as a [`Fragment`]
//! that points into the input. It judges each message when its header is complete, before a byte of
//! it is kept anywhere. It never assembles, never looks into a payload and never acts on a control
//! message: the caller does, and calls [`ChunkReader::set_chunk_size`] and [`ChunkReader::abort`].
//!
//! ```text
//!   held (at most 18 bytes of an unfinished header) ++ input
//!     header  -> judged, remembered per chunk stream
//!     payload -> Fragment, as many bytes of the chunk as there are
//! ```

use thiserror::Error;

use super::chunk_writer::{DEFAULT_CHUNK_BYTES, EXTENDED};
use super::message::{MESSAGE_BYTES_MAX, MessageHeader, MessageType};
use super::timestamp::Timestamp;
use crate::limits::Limits;

/// A piece of a message's payload, as it arrived. The fragments of one message have the same slot
/// and come in order; those of other messages may come between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// A dense index that stands for the chunk stream, below `chunk_streams_max`.
    pub slot: usize,
    /// The header of the whole message.
    pub header: MessageHeader,
    /// The chunk stream id.
    pub chunk_stream: u32,
    /// The first fragment of its message.
    pub first: bool,
    /// The last fragment of its message; an empty message has one fragment, first and last.
    pub last: bool,
    /// The message is not wanted whatever it holds (a data message that is too long, a shared
    /// object, an unknown type, media before connect): nothing of it is to be kept.
    pub discard: bool,
    /// Payload bytes; empty only when the message is.
    pub payload: &'a [u8],
}

/// What a peer did wrong on the chunk level. After any of these the byte stream cannot be followed
/// any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// fmt 2 and 3 refer to an earlier header; there is none.
    #[error("chunk stream {chunk_stream} starts with a header of format {format}")]
    NoEarlierHeader {
        /// The chunk stream id.
        chunk_stream: u32,
        /// 2 or 3.
        format: u8,
    },
    /// A new header where only a continuation may come.
    #[error("chunk stream {chunk_stream}: a new message header inside an unfinished message")]
    HeaderInsideMessage {
        /// The chunk stream id.
        chunk_stream: u32,
    },
    /// More chunk streams than `chunk_streams_max`.
    #[error("more than {limit} chunk streams")]
    TooManyChunkStreams {
        /// The limit in force.
        limit: usize,
    },
    /// A message longer than its type allows.
    #[error("a message of type {} with {length} bytes; at most {limit} are taken", kind.id())]
    MessageTooLong {
        /// The message's type.
        kind: MessageType,
        /// The length in its header.
        length: u32,
        /// The limit in force.
        limit: usize,
    },
    /// A long message in very small chunks, whose headers cost more than they carry.
    #[error("a message of {length} bytes in chunks of {chunk_size}; at most {limit} are taken")]
    ChunksTooSmall {
        /// Its bytes, or those of it that are still to come when the chunk size changes.
        length: usize,
        /// The chunk size in force.
        chunk_size: usize,
        /// `small_chunk_message_bytes_max`.
        limit: usize,
    },
    /// Set Chunk Size with 0 or with the top bit set (RTMP 1.0 section 5.4.1).
    #[error("chunk size {size:#x} is not allowed")]
    BadChunkSize {
        /// The value received.
        size: u32,
    },
}

/// Reads the chunks of one direction of one connection.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    /// Payload bytes still to come in the current chunk, of `streams[current]`. A header is next
    /// when 0.
    chunk_left: usize,
    current: usize,
    streams: Vec<ChunkStream>,
    /// Slot + 1 of each chunk stream id below 64, 0 when not seen yet. Larger ids are searched for.
    slots: [u16; 64],
    held: Held,
    /// Whether this peer repeats extended timestamps in continuations, as last seen.
    habit: Habit,
    /// Whether audio, video, data and aggregates are wanted.
    media_wanted: bool,
    chunk_streams_max: usize,
    small_chunk_bytes: usize,
    small_chunk_message_bytes_max: usize,
    message_bytes_max: usize,
    command_bytes_max: usize,
    data_bytes_max: usize,
}

/// What is remembered of a chunk stream.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    header: MessageHeader,
    /// The last timestamp field read, 24 or 32 bits: of fmt 1 and 2 a delta, and of fmt 0 the
    /// timestamp, which the specification makes the delta of a fmt-3 message that follows.
    field: u32,
    /// Whether `field` came in the extended form.
    extended: bool,
    discard: bool,
    /// Payload bytes still to come of the message under way; 0 between messages.
    remaining: usize,
}

/// What a sender does with an extended timestamp in a continuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Unknown,
    Repeats,
    Omits,
}

/// Bytes taken from the input but not yet understood: an unfinished header.
#[derive(Debug, Default)]
struct Held {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

/// Basic header, message header and extended timestamp at their longest.
const HEADER_BYTES_MAX: usize = 3 + 11 + 4;

impl ChunkReader {
    /// A reader at the end of the handshake: chunk size 128, no chunk stream known.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_BYTES,
            chunk_left: 0,
            current: 0,
            streams: Vec::new(),
            slots: [0; 64],
            held: Held::default(),
            habit: Habit::Unknown,
            media_wanted: true,
            chunk_streams_max: limits.chunk_streams_max.min(usize::from(u16::MAX)),
            small_chunk_bytes: limits.small_chunk_bytes,
            small_chunk_message_bytes_max: limits.small_chunk_message_bytes_max,
            message_bytes_max: limits.message_bytes_max,
            command_bytes_max: limits.command_bytes_max,
            data_bytes_max: limits.data_bytes_max,
        }
    }

    /// Whether audio, video, data and aggregate messages that begin from now on are wanted (they
    /// are until this is called). Before connect nobody may send them.
    pub fn set_media_wanted(&mut self, wanted: bool) {
        self.media_wanted = wanted;
    }

    /// Takes bytes from `input` up to the end of the next fragment. `None` when all of `input` is
    /// consumed and more is needed.
    ///
    /// # Errors
    /// What the peer did wrong; the connection is to be closed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Fragment<'a>>, ChunkError> {
        if self.chunk_left == 0 {
            if !self.continues(input) && !self.read_header(input)? {
                return Ok(None);
            }
            if self.chunk_left == 0 {
                return Ok(Some(self.fragment(&[])));
            }
        }
        let payload = if self.held.len > 0 {
            self.held.take_byte()
        } else if input.is_empty() {
            return Ok(None);
        } else {
            let (payload, rest) = input.split_at(input.len().min(self.chunk_left));
            *input = rest;
            payload
        };
        self.chunk_left -= payload.len();
        Ok(Some(self.fragment(payload)))
    }

    /// Obeys a Set Chunk Size message: holds from the next chunk header on, also for messages under
    /// way (RTMP 1.0 section 5.4.1). Sizes beyond the longest message mean "whole messages".
    ///
    /// # Errors
    /// [`ChunkError::BadChunkSize`] for 0 and for values with the top bit set,
    /// [`ChunkError::ChunksTooSmall`] when a long message is under way.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        if size == 0 || size > i32::MAX.unsigned_abs() {
            return Err(ChunkError::BadChunkSize { size });
        }
        self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX).min(MESSAGE_BYTES_MAX);
        let longest = self.streams.iter().map(|stream| stream.remaining).max();
        self.judge_chunks(longest.unwrap_or_default())
    }

    /// The chunk size in force, in bytes.
    #[must_use]
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Obeys an Abort message (RTMP 1.0 section 5.4.2): forgets the unfinished message of a chunk
    /// stream, and keeps its header for those that follow. Gives the slot whose partial message is
    /// to be dropped; `None` when none is under way.
    pub fn abort(&mut self, chunk_stream: u32) -> Option<usize> {
        let slot = self.slot(chunk_stream)?;
        // In the middle of a chunk of this very stream no Abort can have arrived.
        let in_chunk = self.chunk_left > 0 && self.current == slot;
        let stream = &mut self.streams[slot];
        if stream.remaining == 0 || in_chunk {
            return None;
        }
        stream.remaining = 0;
        Some(slot)
    }

    /// The common case in one straight line: a one-byte fmt-3 header that continues a message
    /// without an extended timestamp. False when it is anything else; nothing is consumed then.
    #[inline]
    fn continues(&mut self, input: &mut &[u8]) -> bool {
        let Some((&first @ 0xC2.., rest)) = input.split_first() else { return false };
        let slot = usize::from(self.slots[usize::from(first & 0x3F)]).wrapping_sub(1);
        let Some(stream) = self.streams.get(slot) else { return false };
        if stream.remaining == 0 || stream.extended || self.held.len > 0 {
            return false;
        }
        self.chunk_left = stream.remaining.min(self.chunk_size);
        self.current = slot;
        *input = rest;
        true
    }

    /// Reads a header from the held bytes and the input. False when it is not complete: all of the
    /// input is held then.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, ChunkError> {
        if self.held.len == 0 {
            if let Some(consumed) = self.parse_header(input)? {
                *input = &input[consumed..];
                return Ok(true);
            }
            self.held.push(input);
            *input = &[];
            return Ok(false);
        }
        let held = self.held.len;
        let added = self.held.push(input);
        let joined = self.held.bytes;
        match self.parse_header(&joined[..self.held.len])? {
            // The header ends in the input.
            Some(consumed) if consumed >= held => {
                *input = &input[consumed - held..];
                self.held.len = 0;
                Ok(true)
            }
            // It ended before, where an extended timestamp was looked for that is not there.
            Some(consumed) => {
                self.held.len = held;
                self.held.drop_front(consumed);
                Ok(true)
            }
            None => {
                *input = &input[added..];
                Ok(false)
            }
        }
    }

    /// Reads the header at the start of `bytes` and sets up the chunk that follows it. Gives its
    /// length; `None`, and nothing changed, when `bytes` end too early. Never needs more than
    /// [`HEADER_BYTES_MAX`].
    fn parse_header(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkError> {
        let (format, chunk_stream, basic) = match *bytes {
            [first, ..] if first & 0x3F > 1 => (first >> 6, u32::from(first & 0x3F), 1),
            [first, id, ..] if first & 0x3F == 0 => (first >> 6, 64 + u32::from(id), 2),
            [first, low, high, ..] if first & 0x3F == 1 => {
                (first >> 6, 64 + u32::from(u16::from_le_bytes([low, high])), 3)
            }
            _ => return Ok(None),
        };
        let fields = &bytes[basic..];
        let slot = self.slot(chunk_stream);
        let consumed = match (format, slot) {
            (3, Some(slot)) if self.streams[slot].remaining > 0 => {
                self.parse_continuation(slot, fields)
            }
            (3, Some(slot)) => self.parse_repeated(slot, fields)?,
            (_, Some(slot)) if self.streams[slot].remaining > 0 => {
                return Err(ChunkError::HeaderInsideMessage { chunk_stream });
            }
            // fmt 1 is taken on a new chunk stream: librtmp answers its first ping that way.
            (2 | 3, None) => return Err(ChunkError::NoEarlierHeader { chunk_stream, format }),
            _ => self.parse_message_header(format, chunk_stream, slot, fields)?,
        };
        Ok(consumed.map(|consumed| basic + consumed))
    }

    /// fmt 0, 1 and 2 (RTMP 1.0 sections 5.3.1.2.1 to 5.3.1.2.3).
    fn parse_message_header(
        &mut self,
        format: u8,
        chunk_stream: u32,
        slot: Option<usize>,
        bytes: &[u8],
    ) -> Result<Option<usize>, ChunkError> {
        let earlier = slot.map(|slot| self.streams[slot].header);
        let mut header = earlier.unwrap_or(MessageHeader {
            timestamp: Timestamp(0),
            length: 0,
            kind: MessageType::Other(0),
            message_stream: 0,
        });
        let plain = match (format, bytes) {
            (0, &[_, _, _, a, b, c, kind, m0, m1, m2, m3, ..]) => {
                header.length = u32::from_be_bytes([0, a, b, c]);
                header.kind = MessageType::from_id(kind);
                header.message_stream = u32::from_le_bytes([m0, m1, m2, m3]);
                11
            }
            (1, &[_, _, _, a, b, c, kind, ..]) => {
                header.length = u32::from_be_bytes([0, a, b, c]);
                header.kind = MessageType::from_id(kind);
                7
            }
            (2, &[_, _, _, ..]) => 3,
            _ => return Ok(None),
        };
        let field = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        let extended = field == EXTENDED;
        let (field, consumed) = match bytes[plain..].first_chunk() {
            Some(value) if extended => (u32::from_be_bytes(*value), plain + 4),
            None if extended => return Ok(None),
            _ => (field, plain),
        };
        header.timestamp =
            if format == 0 { Timestamp(field) } else { header.timestamp.plus(field) };
        let discard = self.judge(&header)?;
        let slot = match slot {
            Some(slot) => slot,
            None => self.add_stream(chunk_stream, header)?,
        };
        let stream = &mut self.streams[slot];
        (stream.header, stream.field, stream.extended) = (header, field, extended);
        self.start_message(slot, discard);
        Ok(Some(consumed))
    }

    /// fmt 3 between messages: a new one with everything as before and the delta once more (RTMP
    /// 1.0 section 5.3.1.2.4). An extended timestamp is always there.
    fn parse_repeated(&mut self, slot: usize, bytes: &[u8]) -> Result<Option<usize>, ChunkError> {
        let discard = self.judge(&self.streams[slot].header)?;
        let stream = &mut self.streams[slot];
        let mut consumed = 0;
        if stream.extended {
            let Some(value) = bytes.first_chunk() else { return Ok(None) };
            stream.field = u32::from_be_bytes(*value);
            consumed = 4;
        }
        stream.header.timestamp = stream.header.timestamp.plus(stream.field);
        self.start_message(slot, discard);
        Ok(Some(consumed))
    }

    /// fmt 3 inside a message. Whether an extended timestamp is repeated here is something on which
    /// senders differ (FFmpeg repeats it; OBS before 2024 and librtmp before 2015 do not), so the
    /// next four bytes decide, by comparison. A payload tail of less than four bytes may be
    /// followed by nothing for long; a sender known to omit is not waited for.
    fn parse_continuation(&mut self, slot: usize, bytes: &[u8]) -> Option<usize> {
        let stream = &self.streams[slot];
        let mut consumed = 0;
        if stream.extended && !(stream.remaining < 4 && self.habit == Habit::Omits) {
            let value = u32::from_be_bytes(*bytes.first_chunk()?);
            if value == stream.field {
                self.habit = Habit::Repeats;
                consumed = 4;
            } else {
                self.habit = Habit::Omits;
            }
        }
        self.chunk_left = stream.remaining.min(self.chunk_size);
        self.current = slot;
        Some(consumed)
    }

    /// Applies the length limits. Whether the message is to be discarded.
    fn judge(&self, header: &MessageHeader) -> Result<bool, ChunkError> {
        use MessageType::{
            Aggregate, Audio, DataAmf0, DataAmf3, Other, SharedObjectAmf0, SharedObjectAmf3, Video,
        };
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        self.judge_chunks(length)?;
        let limit = match header.kind {
            Audio | Video | Aggregate => self.message_bytes_max,
            DataAmf0 | DataAmf3 => return Ok(length > self.data_bytes_max || !self.media_wanted),
            SharedObjectAmf0 | SharedObjectAmf3 | Other(_) => return Ok(true),
            _ => self.command_bytes_max,
        };
        if length > limit {
            let (kind, length) = (header.kind, header.length);
            return Err(ChunkError::MessageTooLong { kind, length, limit });
        }
        Ok(!self.media_wanted && matches!(header.kind, Audio | Video | Aggregate))
    }

    /// Whether a message of this length may come in chunks of the size in force.
    fn judge_chunks(&self, length: usize) -> Result<(), ChunkError> {
        let (chunk_size, limit) = (self.chunk_size, self.small_chunk_message_bytes_max);
        if chunk_size < self.small_chunk_bytes && length > limit {
            return Err(ChunkError::ChunksTooSmall { length, chunk_size, limit });
        }
        Ok(())
    }

    fn start_message(&mut self, slot: usize, discard: bool) {
        let stream = &mut self.streams[slot];
        stream.discard = discard;
        stream.remaining = usize::try_from(stream.header.length).unwrap_or(usize::MAX);
        self.chunk_left = stream.remaining.min(self.chunk_size);
        self.current = slot;
    }

    fn slot(&self, chunk_stream: u32) -> Option<usize> {
        match usize::try_from(chunk_stream) {
            Ok(id @ 0..64) => usize::from(self.slots[id]).checked_sub(1),
            _ if self.streams.get(self.current)?.id == chunk_stream => Some(self.current),
            _ => self.streams.iter().position(|stream| stream.id == chunk_stream),
        }
    }

    fn add_stream(&mut self, id: u32, header: MessageHeader) -> Result<usize, ChunkError> {
        let slot = self.streams.len();
        if slot >= self.chunk_streams_max {
            return Err(ChunkError::TooManyChunkStreams { limit: self.chunk_streams_max });
        }
        if let Ok(id @ 0..64) = usize::try_from(id) {
            self.slots[id] = u16::try_from(slot + 1).expect("chunk_streams_max is clamped to u16");
        }
        self.streams.push(ChunkStream {
            id,
            header,
            field: 0,
            extended: false,
            discard: false,
            remaining: 0,
        });
        Ok(slot)
    }

    /// Hands on payload of the current chunk.
    #[inline]
    fn fragment<'a>(&mut self, payload: &'a [u8]) -> Fragment<'a> {
        let stream = &mut self.streams[self.current];
        let first = usize::try_from(stream.header.length) == Ok(stream.remaining);
        stream.remaining -= payload.len();
        Fragment {
            slot: self.current,
            header: stream.header,
            chunk_stream: stream.id,
            first,
            last: stream.remaining == 0,
            discard: stream.discard,
            payload,
        }
    }
}

impl Held {
    /// Adds as much of `input` as fits; gives how much.
    fn push(&mut self, input: &[u8]) -> usize {
        let room = &mut self.bytes[self.len..];
        let added = input.len().min(room.len());
        room[..added].copy_from_slice(&input[..added]);
        self.len += added;
        added
    }

    fn drop_front(&mut self, count: usize) {
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Takes the first byte as a payload of its own. Happens when a look for an extended timestamp
    /// ended a read and found payload; the input of that read is gone, hence the table.
    fn take_byte(&mut self) -> &'static [u8] {
        let at = usize::from(self.bytes[0]);
        self.drop_front(1);
        &EACH_BYTE[at..=at]
    }
}

/// Every byte at its own place.
static EACH_BYTE: [u8; 256] = {
    let mut table = [0; 256];
    let mut value: u8 = 0;
    loop {
        table[value as usize] = value;
        if value == u8::MAX {
            break table;
        }
        value += 1;
    }
};

#[cfg(test)]
mod tests;
