//! How a cursor moves: joining, falling behind, jumping, changing views, and the batches in
//! between.
//!
//! The common case comes first and is a straight line: a player at the head takes the newest
//! segment whole, by count. Everything decided here is decided where a message ends, and every move
//! is forward.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::cursor::{Batch, Cursor, Join, JumpReason, Next, Phase, Reached};
use super::segment::{Carried, Segment, Video};
use super::view::{Renditions, ViewKind, ViewTracks};
use crate::limits::Limits;

/// Puts the next bytes of this player behind `out`: at most `batch_bytes_max` bytes in at most
/// [`SLICES_MAX`] slices, usually one.
pub(super) fn next_batch(
    renditions: &mut Renditions,
    cursor: &mut Cursor,
    limits: &Limits,
    now: Duration,
    out: &mut Vec<Bytes>,
) -> Batch {
    let mut batch = Batch::default();
    if cursor.outstanding > 0 {
        batch.next = Next::Busy;
        return batch;
    }
    let mut reader = Reader { renditions, cursor, limits, now, batch: &mut batch };
    let mut room = Room { bytes: limits.batch_bytes_max.max(1), slices: SLICES_MAX, out };
    let before = room.bytes;
    reader.cursor.put_head(&mut room);
    if reader.cursor.head.is_empty() {
        if reader.cursor.is_playing() {
            reader.keep_up();
        }
        if !reader.cursor.is_playing() {
            reader.join();
        }
        reader.cursor.put_head(&mut room);
        if reader.cursor.is_playing() && reader.cursor.head.is_empty() {
            reader.fill(&mut room);
        }
    }
    let bytes = before - room.bytes;
    cursor.outstanding = bytes;
    batch.next = match cursor.phase {
        _ if bytes > 0 => Next::Send { bytes },
        Phase::Playing { .. } => Next::AtHead,
        Phase::Waiting { .. } => Next::WaitingForKey,
    };
    batch
}

/// What is left of one batch.
struct Room<'a> {
    bytes: usize,
    slices: usize,
    out: &'a mut Vec<Bytes>,
}

impl Room<'_> {
    fn put(&mut self, bytes: Bytes) {
        self.bytes -= bytes.len();
        self.slices -= 1;
        self.out.push(bytes);
    }

    fn is_full(&self) -> bool {
        self.bytes == 0 || self.slices == 0
    }
}

impl Cursor {
    fn put_head(&mut self, room: &mut Room<'_>) {
        if !self.head.is_empty() && !room.is_full() {
            let piece = self.head.split_to(self.head.remaining().min(room.bytes));
            room.put(piece);
            if self.head.is_empty() {
                // an empty rest would go on pinning what it was cut from
                self.head = Bytes::new();
            }
        }
    }

    /// Passes the end of a segment.
    fn pass(&mut self, segment: &Segment) {
        self.segment = segment.number + 1;
        self.offset = 0;
        let version = segment.prelude.version();
        self.reached = Some(Reached { version, seq: segment.end_seq() });
    }
}

struct Reader<'a> {
    renditions: &'a mut Renditions,
    cursor: &'a mut Cursor,
    limits: &'a Limits,
    now: Duration,
    batch: &'a mut Batch,
}

impl Reader<'_> {
    /// Puts out segments from the position on.
    fn fill(&mut self, room: &mut Room<'_>) {
        while !room.is_full() {
            let cursor = &mut *self.cursor;
            if cursor.view != cursor.wanted && cursor.offset == 0 {
                self.change_view();
                self.cursor.put_head(room);
                if !self.cursor.head.is_empty() || room.is_full() {
                    return;
                }
            }
            let cursor = &mut *self.cursor;
            let Some(log) = self.renditions.reading(cursor.view) else { return };
            let Some(segment) = log.get(cursor.segment) else { return };
            let start = usize::try_from(cursor.offset).unwrap_or(usize::MAX);
            let rest = segment.bytes.len().saturating_sub(start);
            if rest <= room.bytes {
                if rest > 0 {
                    room.put(segment.bytes.slice(start..));
                    self.batch.carried.add(segment.carried_from(start));
                }
                cursor.pass(segment);
                if cursor.segment >= log.next() {
                    // At the head, as nearly always.
                    return;
                }
            } else {
                let carried =
                    split(cursor, segment, start, self.limits.batch_bytes_max.max(1), room);
                self.batch.carried.add(carried);
                return;
            }
        }
    }

    /// Moves a player forward that is too far behind or that the log was trimmed under.
    fn keep_up(&mut self) {
        let cursor = &mut *self.cursor;
        let log = &self.renditions.log;
        let Phase::Playing { allowance } = &mut cursor.phase else { return };
        if cursor.segment >= log.next() {
            *allowance = Duration::ZERO;
            return;
        }
        let Some(segment) = log.get(cursor.segment) else { return self.jump(JumpReason::Trimmed) };
        let newest = log.newest().map_or(segment.ingested, |newest| newest.ingested);
        let lag = newest.saturating_sub(segment.ingested);
        *allowance = lag.min(*allowance);
        if lag > self.limits.player_lag_max.saturating_add(*allowance) {
            if let (0, Some(reached)) = (cursor.offset, &mut cursor.reached) {
                reached.version = segment.prelude.version();
            }
            self.jump(JumpReason::Lag);
        }
    }

    /// To the newest key frame if that lies ahead and leaves the player below half the limit; else
    /// to the head, to wait for the next key frame, or to go on there where none is needed.
    fn jump(&mut self, reason: JumpReason) {
        self.batch.jumped = Some(reason);
        let log = &self.renditions.log;
        let wanted = self.cursor.wanted;
        let key = log.newest_key().filter(|key| {
            wanted.has_video()
                && *key > self.cursor.segment
                && log.lag(*key) < self.limits.player_lag_max / 2
        });
        let next = log.next();
        let place = key.map(|key| (key, wanted)).or_else(|| {
            let newest = log.newest()?;
            let view = self.falling_back().or(without_key(wanted, newest.video))?;
            Some((newest.number, view))
        });
        if !place.is_some_and(|(number, view)| self.start_at(number, view)) {
            self.cursor.segment = next;
            self.cursor.offset = 0;
            self.cursor.phase = Phase::Waiting { since: self.now, join: Join::Live };
        }
    }

    /// Starts a waiting player if there is a place to start.
    fn join(&mut self) {
        let Phase::Waiting { since, join } = self.cursor.phase else { return };
        let log = &self.renditions.log;
        let Some(newest) = log.newest() else { return };
        let (number, video) = (newest.number, newest.video);
        let from = if join == Join::Gop { 0 } else { self.cursor.segment };
        let wanted = self.cursor.wanted;
        let flowing = video == Video::Flowing;
        let key = log.newest_key().filter(|key| {
            // without video the newest message is a better place than a key frame of long ago
            let near = flowing || log.lag(*key) <= self.limits.player_lag_max;
            wanted.has_video() && *key >= from && near
        });
        let waited = self.now.saturating_sub(since) >= self.limits.key_wait_max;
        let place = if let Some(key) = key {
            Some((key, wanted))
        } else if number < from {
            None
        } else if let Some(view) = without_key(wanted, video) {
            Some((self.first_without_video(number), view))
        } else {
            (waited && wanted.has_audio()).then(|| (number, wanted.audio_only()))
        };
        let Some((start, view)) = place else { return };
        if !self.cursor.greeted && !self.may_greet(start, view, since) {
            return;
        }
        let behind = self.renditions.lag(start);
        let started = self.start_at(start, view);
        if started {
            self.cursor.phase = Phase::Playing { allowance: behind };
        }
        self.batch.joined |= started;
    }

    /// Whether the header of the format can be written: it tells whether there is audio, and must
    /// not be wrong. A stream that has only begun is given a moment to show it.
    fn may_greet(&self, start: u64, view: ViewKind, since: Duration) -> bool {
        self.now.saturating_sub(since) >= self.limits.flv_header_wait
            || self.renditions.knows_audio(start, view, self.limits)
    }

    /// Where a player that waited to learn that there is no video starts: at the first segment
    /// since it came behind which there is none. `newest` if it came only now.
    fn first_without_video(&self, newest: u64) -> u64 {
        let log = &self.renditions.log;
        let is_silent = |number: u64| log.get(number).is_some_and(|held| held.carried.video == 0);
        let mut start = newest;
        while start > self.cursor.segment && is_silent(start - 1) {
            start -= 1;
        }
        start
    }

    /// Puts the player at the start of a segment that is held, telling it the headers in force
    /// there unless it knows them. `false`, and nothing moved: there is no room for such a view.
    fn start_at(&mut self, number: u64, view: ViewKind) -> bool {
        let Some(segment) = self.renditions.log.get(number) else { return false };
        let (version, seq) = (segment.prelude.version(), segment.first_seq);
        let more = adds(self.cursor.view, view);
        if !self.read(view, number) {
            return false;
        }
        let cursor = &mut *self.cursor;
        if more
            || !cursor.greeted
            || cursor.reached.is_none_or(|reached| reached.version != version)
        {
            cursor.head = self.renditions.prelude_at(number, view, !cursor.greeted);
            cursor.greeted = true;
        }
        let passed = cursor.reached.map_or(0, |reached| seq.saturating_sub(reached.seq));
        self.batch.skipped += passed;
        cursor.segment = number;
        cursor.offset = 0;
        cursor.phase = Phase::Playing { allowance: Duration::ZERO };
        cursor.reached = Some(Reached { version, seq });
        true
    }

    /// At the start of a segment: goes over to the wanted view if that is possible here.
    fn change_view(&mut self) {
        let (view, wanted) = (self.cursor.view, self.cursor.wanted);
        let Some(segment) = self.renditions.log.get(self.cursor.segment) else { return };
        let number = segment.number;
        if wanted.has_video() && !view.has_video() {
            if segment.key {
                self.start_at(number, wanted);
            }
        } else {
            let more = wanted.has_audio() && !view.has_audio();
            if self.read(wanted, number) && more {
                self.cursor.head = self.renditions.audio_prelude(number, wanted);
            }
        }
    }

    /// The view of a player that gets the audio until a key frame comes: it may go on anywhere.
    fn falling_back(&self) -> Option<ViewKind> {
        let view = self.cursor.view;
        (self.cursor.is_playing() && view != self.cursor.wanted && !view.has_video())
            .then_some(view)
    }

    /// Goes over to `view`, to be read from the segment `from` on. `false`: there is no room.
    fn read(&mut self, view: ViewKind, from: u64) -> bool {
        if self.cursor.view == view {
            self.renditions.cover(view, from);
            return true;
        }
        let acquired = self.renditions.acquire(view, from, self.limits);
        if acquired {
            self.renditions.release(self.cursor.view);
            self.cursor.view = view;
        }
        acquired
    }
}

/// Puts out the part of a segment that fits, at most to where a message ends. A message that no
/// batch could hold is cut, and its rest becomes the cursor's head; any other waits for the next
/// batch.
fn split(
    cursor: &mut Cursor,
    segment: &Segment,
    start: usize,
    whole: usize,
    room: &mut Room<'_>,
) -> Carried {
    let end = segment.boundary_before(start + room.bytes);
    if end > start {
        room.put(segment.bytes.slice(start..end));
        let carried = segment.carried_between(start, end);
        cursor.move_to(segment, end);
        return carried;
    }
    let Some(place) = segment.message_at(start) else { return Carried::default() };
    let end = segment.index[place].end();
    if end - start > whole {
        cursor.head = segment.bytes.slice(start..end);
        cursor.move_to(segment, end);
        cursor.put_head(room);
        return segment.carried_between(start, end);
    }
    Carried::default()
}

impl Cursor {
    fn move_to(&mut self, segment: &Segment, end: usize) {
        if end >= segment.bytes.len() {
            return self.pass(segment);
        }
        self.offset = u32::try_from(end).unwrap_or(u32::MAX);
        let next = segment.message_at(end).map_or(0, |next| segment.index[next].place);
        let seq = segment.first_seq + u64::from(next);
        self.reached = Some(Reached { version: segment.prelude.version(), seq });
    }
}

/// What may be read from the newest segment on without a key frame, if anything.
fn without_key(wanted: ViewKind, video: Video) -> Option<ViewKind> {
    match (wanted.tracks, video) {
        (ViewTracks::AudioOnly, _) | (_, Video::Never) => Some(wanted),
        (ViewTracks::Both, Video::Idle) => Some(wanted.audio_only()),
        _ => None,
    }
}

/// Whether `new` shows a kind of media that `old` does not.
fn adds(old: ViewKind, new: ViewKind) -> bool {
    (new.has_video() && !old.has_video()) || (new.has_audio() && !old.has_audio())
}

/// Most slices of one batch.
const SLICES_MAX: usize = 16;
