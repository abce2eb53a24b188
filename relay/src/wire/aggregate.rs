//! Aggregate messages (type 22, RTMP 1.0 section 7.1.6), split into the messages that they carry.
//!
//! Split on the way in and never sent: OBS and FFmpeg do not agree on them. Parts are slices of the
//! one payload; nothing is copied here.
//!
//! ```text
//!   { type 1 | length 3 | timestamp, low 24 bits 3 | timestamp, high 8 bits 1 | message stream 3 |
//!     payload | back pointer 4 }*
//! ```

use super::message::{MessageHeader, MessageType};
use super::timestamp::Timestamp;
use crate::limits::Limits;

/// One message out of an aggregate message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregatePart<'a> {
    /// Its header: timestamp moved to the aggregate's, message stream id taken from it.
    pub header: MessageHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

/// The audio, video and AMF0 data messages of an aggregate message, in order. Other types are
/// skipped, above all aggregates, which are never unfolded inside one another. A part that overruns
/// the payload ends it, and so does `aggregate_parts_max`.
#[derive(Clone, Debug)]
pub struct AggregateParts<'a> {
    aggregate: MessageHeader,
    rest: &'a [u8],
    /// The timestamp of the first part, which stands for that of the aggregate.
    base: Option<Timestamp>,
    parts_left: usize,
    dropped: usize,
}

/// Bytes before a part's payload.
const PART_HEADER_BYTES: usize = 11;
const BACK_POINTER_BYTES: usize = 4;

impl<'a> AggregateParts<'a> {
    /// Splits the payload of a message whose header is `aggregate`.
    #[must_use]
    pub fn new(aggregate: &MessageHeader, payload: &'a [u8], limits: &Limits) -> Self {
        Self {
            aggregate: *aggregate,
            rest: payload,
            base: None,
            parts_left: limits.aggregate_parts_max,
            dropped: 0,
        }
    }

    /// Parts dropped so far; a tail that cannot be read counts once.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The next part of any type; `None` at the end, however it came.
    fn next_part(&mut self) -> Option<AggregatePart<'a>> {
        let (fields, rest) = self.rest.split_first_chunk::<PART_HEADER_BYTES>()?;
        let [kind, l0, l1, l2, t0, t1, t2, t3, ..] = *fields;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        // Its value is not looked at, and the last one may be missing.
        self.rest = rest.get(BACK_POINTER_BYTES..).unwrap_or_default();
        let timestamp = Timestamp(u32::from_be_bytes([t3, t0, t1, t2]));
        let base = *self.base.get_or_insert(timestamp);
        let header = MessageHeader {
            timestamp: self.aggregate.timestamp.plus(timestamp.since(base).cast_unsigned()),
            length,
            kind: MessageType::from_id(kind),
            message_stream: self.aggregate.message_stream,
        };
        Some(AggregatePart { header, payload })
    }
}

impl<'a> Iterator for AggregateParts<'a> {
    type Item = AggregatePart<'a>;

    fn next(&mut self) -> Option<AggregatePart<'a>> {
        while !self.rest.is_empty() {
            let part = if self.parts_left == 0 { None } else { self.next_part() };
            let Some(part) = part else {
                self.rest = &[];
                self.dropped += 1;
                return None;
            };
            self.parts_left -= 1;
            match part.header.kind {
                MessageType::Audio | MessageType::Video | MessageType::DataAmf0 => {
                    return Some(part);
                }
                _ => self.dropped += 1,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
