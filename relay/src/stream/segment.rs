//! Segments: the unit in which a stream is stored, mailed between workers and sent.
//!
//! ```text
//!   bytes: [ message | message | message ]     whole messages in outbound chunk layout
//!   index:   entry     entry     entry         where each begins, its timestamp and role
//! ```
//!
//! A segment never changes once it is sealed and never shares its allocation with another stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::prelude::Prelude;
use crate::wire::media::Role;
use crate::wire::timestamp::Timestamp;

/// One sealed piece of a stream. Cheap to clone: three counts.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Contiguous per stream, continued over publishers. A view's segment has its source's number.
    pub number: u64,
    /// Whole messages, one behind the other.
    pub bytes: Bytes,
    /// One entry per message in `bytes`, in order.
    pub index: Arc<[Entry]>,
    /// When the first message was complete, on the publisher's worker; of a stream that another
    /// node feeds, when it was so at its origin, by this node's clock and as well as that is known.
    pub ingested: Duration,
    /// When it was complete on this node.
    pub arrived: Duration,
    /// The stream's count of messages before this segment.
    pub first_seq: u64,
    /// Messages of the stream in this segment. A view's segment may carry fewer of them.
    pub messages: u32,
    /// It only tells players which headers are in force: its messages are none of the stream's
    /// count.
    pub restates: bool,
    /// The messages in `bytes`, by kind.
    pub carried: Carried,
    /// Whether it starts with a key frame of the default track.
    pub key: bool,
    /// What the publisher's worker knew of the stream's video when it sealed this segment.
    pub video: Video,
    /// By how much this node moved each of the timestamps that another one fed it, in milliseconds:
    /// mostly not at all.
    pub shift: u32,
    /// Headers in force before the first message.
    pub prelude: Arc<Prelude>,
}

/// One message of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its first chunk header begins.
    pub offset: u32,
    /// Wire bytes, chunk headers included.
    pub length: u32,
    /// Its timestamp on the stream's timeline.
    pub timestamp: Timestamp,
    /// Its role.
    pub role: Role,
    /// Its first track.
    pub track: u8,
    /// Its place among the stream's messages of this segment: its count is `first_seq` plus this. A
    /// view that leaves messages out leaves gaps here.
    pub place: u32,
}

/// Messages by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Audio messages.
    pub audio: u32,
    /// Video messages.
    pub video: u32,
    /// Data messages.
    pub data: u32,
}

impl Carried {
    /// Counts messages by their roles.
    pub(super) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut carried = Self::default();
        for entry in entries {
            let kind = if entry.role.is_video() {
                &mut carried.video
            } else if entry.role.is_audio() {
                &mut carried.audio
            } else {
                &mut carried.data
            };
            *kind += 1;
        }
        carried
    }

    /// Adds another count.
    pub(super) fn add(&mut self, other: Self) {
        self.audio += other.audio;
        self.video += other.video;
        self.data += other.data;
    }
}

/// Whether a stream has video, by which joining players know what to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    /// Coded video arrives, or the stream is too young to say that none does.
    Flowing,
    /// There was video, but none for `video_idle_max`.
    Idle,
    /// There never was any, for `video_idle_max`.
    Never,
}

impl Entry {
    /// Where the message ends, as an offset into the segment's bytes.
    #[must_use]
    pub fn end(&self) -> usize {
        // usize has at least 32 bits on every platform that has a reactor
        usize::try_from(self.offset).unwrap_or(usize::MAX)
            + usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// Where the message begins, as an offset into the segment's bytes.
    #[must_use]
    pub fn start(&self) -> usize {
        usize::try_from(self.offset).unwrap_or(usize::MAX)
    }
}

impl Segment {
    /// Whether it comes from another node, as far as clocks tell.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.arrived > self.ingested
    }

    /// The stream's count of messages behind this segment: the next one's `first_seq`.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.first_seq + u64::from(self.messages)
    }

    /// Timestamp of the first message; `None` in a view's empty segment.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.index.first().map(|entry| entry.timestamp)
    }

    /// Bytes that holding this segment costs, for limits: its bytes, its index and a share of fixed
    /// overhead, but not its prelude, which segments share. The allocation behind `bytes` may be a
    /// third longer than they are.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.len() + self.index.len() * size_of::<Entry>() + OVERHEAD
    }

    /// Whether holding both segments costs one prelude.
    pub(super) fn shares_prelude(&self, other: &Self) -> bool {
        self.prelude.version() == other.prelude.version()
    }

    /// The same segment with a reference count of its own, so that counting on one core does not
    /// touch a cache line of another. Called once per receiving worker.
    #[must_use]
    pub fn rewrap(&self) -> Self {
        Self { bytes: Bytes::from_owner(self.bytes.clone()), ..self.clone() }
    }

    /// The messages from a boundary on.
    pub(super) fn carried_from(&self, start: usize) -> Carried {
        if start == 0 { self.carried } else { self.carried_between(start, self.bytes.len()) }
    }

    /// The messages between two boundaries.
    pub(super) fn carried_between(&self, start: usize, end: usize) -> Carried {
        let inside = |entry: &&Entry| entry.start() >= start && entry.end() <= end;
        Carried::of(self.index.iter().filter(inside))
    }

    /// The message that begins at or before `offset` and ends behind it, by its place in the index.
    pub(super) fn message_at(&self, offset: usize) -> Option<usize> {
        let place = self.index.partition_point(|entry| entry.end() <= offset);
        (place < self.index.len()).then_some(place)
    }

    /// The last end of a message that is at most `limit`; 0 when the first message is longer.
    pub(super) fn boundary_before(&self, limit: usize) -> usize {
        let place = self.index.partition_point(|entry| entry.end() <= limit);
        place.checked_sub(1).map_or(0, |last| self.index[last].end())
    }
}

/// What a segment costs besides its bytes and index: itself in the log's ring, two reference
/// counts, and the allocator's share.
const OVERHEAD: usize = 256;
