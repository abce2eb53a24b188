//! The log: the newest segments of a stream, within its limits.
//!
//! A log is made of segments alone, so that the log of a worker that only reads a stream is the
//! same as the one of the worker that the publisher is connected to. It never copies a byte of
//! media.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::segment::Segment;
use crate::limits::Limits;
use crate::wire::flv::FlvHeader;

/// The newest segments of one stream or of one of its views.
#[derive(Debug, Default)]
pub struct Log {
    /// Contiguous; the last one's number is `next - 1`.
    segments: VecDeque<Segment>,
    next: u64,
    newest_key: Option<u64>,
    held: usize,
    pushed: Pushed,
    /// The prelude of one segment, rendered for all players that join there.
    rendered: Option<Rendered>,
}

#[derive(Debug)]
struct Rendered {
    at: u64,
    /// The header before it.
    header: Option<FlvHeader>,
    bytes: Bytes,
}

/// What was added to a log since it began, whether or not it is still held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Segments.
    pub segments: u64,
    /// Messages in them.
    pub messages: u64,
    /// Wire bytes in them.
    pub bytes: u64,
}

impl Log {
    /// An empty log whose first segment will have this number.
    pub(super) fn starting_at(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Number of the oldest segment held; equal to [`Self::next`] when there is none.
    #[must_use]
    pub fn first(&self) -> u64 {
        let held = u64::try_from(self.segments.len()).unwrap_or(u64::MAX);
        self.next - held
    }

    /// Number that the next segment will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The segment of this number, if it is held.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Segment> {
        let place = usize::try_from(number.checked_sub(self.first())?).ok()?;
        self.segments.get(place)
    }

    /// The newest segment.
    #[must_use]
    pub fn newest(&self) -> Option<&Segment> {
        self.segments.back()
    }

    /// Number of the newest segment that starts with a key frame, if one is held.
    #[must_use]
    pub fn newest_key(&self) -> Option<u64> {
        self.newest_key
    }

    /// What was added so far.
    #[must_use]
    pub fn pushed(&self) -> Pushed {
        self.pushed
    }

    /// Bytes held, overhead included.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held + self.rendered.as_ref().map_or(0, |rendered| rendered.bytes.len())
    }

    /// The segments from `number` on.
    pub fn from(&self, number: u64) -> impl Iterator<Item = &Segment> {
        let skip = usize::try_from(number.saturating_sub(self.first())).unwrap_or(usize::MAX);
        self.segments.iter().skip(skip)
    }

    /// All segments, the newest one first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().rev()
    }

    /// How far the segment of this number lies behind the newest one, by time of ingest. Zero at
    /// the head and beyond; for a segment no longer held, the oldest one's.
    #[must_use]
    pub fn lag(&self, number: u64) -> Duration {
        match (self.get(number.max(self.first())), self.newest()) {
            (Some(segment), Some(newest)) => newest.ingested.saturating_sub(segment.ingested),
            _ => Duration::ZERO,
        }
    }

    /// The same by time of arrival: how far whoever is at this segment is behind of what came here,
    /// however late that came.
    #[must_use]
    pub fn backlog(&self, number: u64) -> Duration {
        match (self.get(number.max(self.first())), self.newest()) {
            (Some(segment), Some(newest)) => newest.arrived.saturating_sub(segment.arrived),
            _ => Duration::ZERO,
        }
    }

    /// Adds the next segment. One that is held already is refused (`false`). One that leaves a gap
    /// makes the log start over with it, because a log has none.
    pub fn push(&mut self, segment: Segment) -> bool {
        if segment.number < self.next {
            return false;
        }
        if segment.number > self.next {
            self.clear();
        }
        self.next = segment.number + 1;
        if segment.key {
            self.newest_key = Some(segment.number);
        }
        if self.segments.back().is_none_or(|last| !last.shares_prelude(&segment)) {
            self.held += segment.prelude.held_bytes();
        }
        self.held += segment.held_bytes();
        self.pushed.segments += 1;
        self.pushed.messages += u64::from(segment.messages);
        self.pushed.bytes += u64::try_from(segment.bytes.len()).unwrap_or(u64::MAX);
        self.segments.push_back(segment);
        true
    }

    /// Drops the oldest segments until the log is within its limits. The newest key frame and what
    /// follows it stay beyond `log_span`, up to `gop_span_max`; nothing stays beyond
    /// `log_bytes_max` but the newest segment.
    pub fn trim(&mut self, limits: &Limits) {
        while self.segments.len() > 1 {
            let age = self.lag(self.first());
            let span = match self.newest_key {
                Some(key) if self.first() >= key => limits.gop_span_max.max(limits.log_span),
                _ => limits.log_span,
            };
            if age <= span && self.held <= limits.log_bytes_max {
                break;
            }
            self.drop_oldest();
        }
    }

    /// Drops every segment before `number`: a view follows its source.
    pub fn trim_before(&mut self, number: u64) {
        while self.first() < number.min(self.next) {
            self.drop_oldest();
        }
    }

    /// Drops all but the newest group of pictures; without a key frame, all but the newest segment.
    pub fn shrink_to_newest_gop(&mut self) {
        self.trim_before(self.newest_key.unwrap_or(self.next.saturating_sub(1)));
        self.segments.shrink_to_fit();
    }

    /// The prelude for joining at the segment `number`, which must be held, as `render` gives it
    /// behind this header. Rendered once however many players join there.
    pub(super) fn prelude_at(
        &mut self,
        number: u64,
        header: Option<FlvHeader>,
        render: impl FnOnce() -> Bytes,
    ) -> Bytes {
        match &self.rendered {
            Some(kept) if kept.at == number && kept.header == header => kept.bytes.clone(),
            _ => {
                let bytes = render();
                self.rendered = Some(Rendered { at: number, header, bytes: bytes.clone() });
                bytes
            }
        }
    }

    fn drop_oldest(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        self.held -= segment.held_bytes();
        if self.segments.front().is_none_or(|next| !next.shares_prelude(&segment)) {
            self.held -= segment.prelude.held_bytes();
        }
        self.newest_key = self.newest_key.filter(|key| *key != segment.number);
        if self.rendered.as_ref().is_some_and(|rendered| rendered.at == segment.number) {
            self.rendered = None;
        }
    }

    fn clear(&mut self) {
        self.segments.clear();
        self.newest_key = None;
        self.held = 0;
        self.rendered = None;
    }
}
