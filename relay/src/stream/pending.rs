//! The pending segment: where small messages gather on the publisher's worker until it is sealed.
//!
//! This is the one copy of media between assembly and the socket. Each segment gets an allocation
//! of its own, so that a segment that lives long pins nothing else. It is made as large as recent
//! segments were, and a quarter more: taking far too much and giving it back strews the heap with
//! remainders, through which every later allocation searches (measured: fan-out four times as dear
//! with one player per stream). It never grows, which would be another copy: what does not fit
//! begins the next segment, for which twice as much is taken. Much too large an allocation is cut
//! down in place.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::prelude::Prelude;
use super::segment::{Carried, Entry, Segment, Video};
use crate::wire::media::Role;
use crate::wire::message::MediaMessage;

/// The segment that is being filled. Empty most of the time between two flushes.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: BytesMut,
    entries: Vec<Entry>,
    start: Option<Start>,
    /// Size of recent segments; 0 before the first one.
    usual_bytes: usize,
    /// A message had no room.
    outgrown: bool,
    copied: u64,
}

/// What is known of a segment when its first message comes.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// When that message was complete, at the stream's origin.
    pub(super) ingested: Duration,
    /// When it was complete here.
    pub(super) arrived: Duration,
    /// It and those behind it are none of the stream's count.
    pub(super) restates: bool,
    /// The stream's count of messages before it.
    pub(super) first_seq: u64,
    /// By how much this node moved its timestamp and those of all behind it.
    pub(super) shift: u32,
    /// Headers in force before it.
    pub(super) prelude: Arc<Prelude>,
}

impl Pending {
    /// Bytes gathered.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// When the first message came; `None` when there is none.
    pub(super) fn since(&self) -> Option<Duration> {
        self.start.as_ref().map(|start| start.arrived)
    }

    /// By how much the timestamps of all that was gathered were moved; `None` when nothing was.
    pub(super) fn shift(&self) -> Option<u32> {
        self.start.as_ref().map(|start| start.shift)
    }

    /// Whether the first message is a key frame of the default track.
    pub(super) fn starts_with_key(&self) -> bool {
        self.entries.first().is_some_and(|entry| entry.role == Role::KeyFrame)
    }

    /// Whether a message of this length can be appended. One that cannot begins the next segment,
    /// because to grow this one would be a copy of all that it holds.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.start.is_none() || self.bytes.len() + length <= self.bytes.capacity()
    }

    /// A message that would have waited with the others had no room: what was usual is too little.
    /// Said before the segment is sealed. Without it a segment that began small would make all
    /// later ones as small, whatever the flush age.
    pub(super) fn note_outgrown(&mut self) {
        self.outgrown = true;
    }

    /// Bytes copied so far.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.copied
    }

    /// Copies a message behind the others; `start` is asked for if it is the first. A segment is
    /// never longer than `room`.
    pub(super) fn append(
        &mut self,
        message: &mut MediaMessage,
        room: usize,
        start: impl FnOnce() -> Start,
    ) {
        let length = message.wire_bytes();
        if self.start.is_none() {
            self.start = Some(start());
            self.bytes.reserve(self.expected_bytes(length, room));
        }
        debug_assert!(self.bytes.len() + length <= self.bytes.capacity(), "growing is a copy");
        self.entries.push(entry(message, self.entries.len(), self.bytes.len(), length));
        message.append_to(&mut self.bytes);
        self.copied += u64::try_from(length).unwrap_or(u64::MAX);
    }

    /// Ends the segment. `None` when nothing was gathered.
    pub(super) fn seal(&mut self, number: u64, video: Video) -> Option<Segment> {
        let start = self.start.take()?;
        let key = self.starts_with_key();
        let index = Arc::from(self.entries.as_slice());
        self.entries.clear();
        let mut bytes = Vec::from(std::mem::take(&mut self.bytes));
        // rises fast and falls slowly; a key frame is no measure for what follows it
        if !key {
            self.usual_bytes = bytes.len().max(self.usual_bytes - self.usual_bytes / 32);
        }
        if std::mem::take(&mut self.outgrown) {
            self.usual_bytes = self.usual_bytes.saturating_mul(2);
        }
        if bytes.len() < bytes.capacity() / 4 * 3 {
            bytes.shrink_to_fit();
        }
        let bytes = Bytes::from(bytes);
        Some(segment(number, bytes, index, start, key, video))
    }

    /// What to allocate for a segment of which only the first message's length is known.
    fn expected_bytes(&self, first: usize, room: usize) -> usize {
        let expected = match self.usual_bytes {
            0 => room,
            // The others come behind it all the same.
            usual if first > usual => first.saturating_add(usual),
            usual => usual.saturating_add(usual / 4).max(SMALLEST_BYTES),
        };
        expected.min(room).max(first)
    }
}

/// Least to allocate for a segment.
const SMALLEST_BYTES: usize = 1_024;

/// A segment that is one large message, taken without a copy.
pub(super) fn whole(
    message: &mut MediaMessage,
    number: u64,
    start: Start,
    video: Video,
) -> Segment {
    let entry = entry(message, 0, 0, message.wire_bytes());
    let key = entry.role == Role::KeyFrame;
    segment(number, message.take(), Arc::from([entry]), start, key, video)
}

fn segment(
    number: u64,
    bytes: Bytes,
    index: Arc<[Entry]>,
    start: Start,
    key: bool,
    video: Video,
) -> Segment {
    let Start { ingested, arrived, restates, first_seq, shift, prelude } = start;
    let messages = if restates { 0 } else { u32::try_from(index.len()).unwrap_or(u32::MAX) };
    let carried = Carried::of(index.iter());
    Segment {
        number,
        bytes,
        index,
        ingested,
        arrived,
        first_seq,
        messages,
        restates,
        carried,
        key,
        video,
        shift,
        prelude,
    }
}

fn entry(message: &MediaMessage, place: usize, offset: usize, length: usize) -> Entry {
    let class = message.class();
    Entry {
        offset: position(offset),
        length: position(length),
        timestamp: message.timestamp(),
        role: class.role,
        track: class.tracks.ids().first().copied().unwrap_or(0),
        place: position(place),
    }
}

fn position(bytes: usize) -> u32 {
    u32::try_from(bytes)
        .expect("segments are sealed at most 16 MiB beyond segment_bytes, itself capped")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::testing::message;

    /// Wire bytes of a message beyond its payload.
    const HEADER: usize = 12;

    #[test]
    fn every_message_is_copied_once_and_little_is_allocated_in_vain() {
        // payload sizes as messages come, a zero for a flush, and those of each segment
        #[track_caller]
        fn check(sizes: &[usize], expected: &[&[u32]]) {
            let mut pending = Pending::default();
            let mut segments = Vec::new();
            let mut gathered = 0;
            let mut seal = |pending: &mut Pending| {
                let Some(segment) = pending.seal(0, Video::Never) else { return };
                let header = u32::try_from(HEADER).expect("few");
                let payloads = segment.index.iter().map(|entry| entry.length - header);
                segments.push(payloads.collect::<Vec<_>>());
                let length = segment.bytes.len();
                gathered += length;
                let allocated = Vec::from(segment.bytes).capacity();
                assert!(allocated <= length + length / 3 + 4, "{allocated} bytes for {length}");
            };
            for &size in sizes {
                if size > 0 && !pending.has_room(size + HEADER) {
                    pending.note_outgrown();
                    seal(&mut pending);
                }
                if size == 0 {
                    seal(&mut pending);
                }
                if size > 0 {
                    let start = || Start {
                        ingested: Duration::ZERO,
                        arrived: Duration::ZERO,
                        restates: false,
                        first_seq: 0,
                        shift: 0,
                        prelude: Arc::default(),
                    };
                    pending.append(&mut message(Role::AudioFrame, 1, 0, size), 32_768, start);
                }
            }
            seal(&mut pending);
            assert_eq!(segments, expected);
            assert_eq!(pending.copied_bytes(), u64::try_from(gathered).expect("few"));
        }
        check(&[1_000], &[&[1_000]]);
        check(&[16_000, 16_000], &[&[16_000, 16_000]]);
        check(&[1_000, 0, 1_000, 200], &[&[1_000], &[1_000, 200]]);
        check(&[1_000, 0, 1_000, 1_000], &[&[1_000], &[1_000], &[1_000]]);
        // what had no room once has room from then on
        let pairs: &[&[u32]] = &[&[1_000], &[1_000], &[1_000], &[1_000, 1_000], &[1_000, 1_000]];
        check(&[1_000, 0, 1_000, 1_000, 0, 1_000, 1_000, 0, 1_000, 1_000], pairs);
        check(&[1_000, 0, 20_000], &[&[1_000], &[20_000]]);
    }
}
