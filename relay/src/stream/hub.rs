//! The hub: all streams of one worker, those whose publisher is here and those that are mailed
//! here.
//!
//! ```text
//!   append  ->  flush(now) -> ready keys -> take_sealed -> mail to workers that read the stream
//!   receive ->                           -> next_batch for each waiting player of the stream
//! ```
//!
//! The worker calls [`Hub::flush`] once a turn; it never has to look at a stream in which nothing
//! happened. A key names a stream for as long as it is there; calls with a key of one that is gone
//! do nothing, because the news may still be on its way.

mod links;

pub use links::Left;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;

use super::cursor::{Batch, Cursor, Join, Next};
use super::home::{Appended, Counts, Dropped, Heritage, Home};
use super::log::Log;
use super::reader;
use super::segment::{Segment, Video};
use super::view::{Renditions, ViewKind};
use crate::limits::{Limits, is_sparse};
use crate::wire::media::Codec;
use crate::wire::message::MediaMessage;

/// Names a stream of one hub. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    slot: usize,
    generation: u64,
}

/// The flush age of a stream until [`Hub::set_flush_age`] says otherwise.
const FLUSH_AGE: Duration = Duration::from_millis(20);

/// All streams of one worker.
#[derive(Debug)]
pub struct Hub {
    limits: Arc<Limits>,
    streams: Slab<Stream>,
    generation: u64,
    /// When which stream's pending segment is due. Entries outlive segments that were sealed early.
    deadlines: BinaryHeap<Reverse<(Duration, StreamKey, u64)>>,
    /// Streams with segments not yet reported by [`Hub::flush`].
    ready: Vec<StreamKey>,
    /// Bytes copied for streams that are gone.
    copied: u64,
}

#[derive(Debug)]
struct Stream {
    generation: u64,
    renditions: Renditions,
    home: Option<Box<Home>>,
    flush_age: Duration,
    /// Number of the first segment not yet taken for mailing.
    mailed: u64,
    ready: bool,
}

/// Bytes held in logs, overhead included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBytes {
    /// Of streams whose publisher is on this worker.
    pub home: usize,
    /// Of streams mailed here; most of these bytes are shared with the publisher's worker.
    pub remote: usize,
    /// In views; bytes that a view shares with its log are counted in both.
    pub views: usize,
}

/// What is known of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Whether a publisher is connected to this worker.
    pub publishing: bool,
    /// Payload bytes taken from publishers.
    pub payload_bytes: u64,
    /// Messages taken from publishers.
    pub messages: u64,
    /// Messages of publishers that were not taken.
    pub dropped: u64,
    /// Key frames of the default track.
    pub key_frames: u64,
    /// When the last of them came.
    pub last_key: Option<Duration>,
    /// Time between the last two.
    pub gop: Option<Duration>,
    /// When the last message came.
    pub last_ingest: Option<Duration>,
    /// Codec of the audio, by its header on track 0 or else by the first message that says.
    pub audio_codec: Option<Codec>,
    /// Codec of the video, likewise.
    pub video_codec: Option<Codec>,
    /// Bytes held in the log.
    pub log_bytes: usize,
    /// Bytes held in views.
    pub view_bytes: usize,
}

impl Hub {
    /// A hub without streams.
    #[must_use]
    pub fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            streams: Slab::new(),
            generation: 0,
            deadlines: BinaryHeap::new(),
            ready: Vec::new(),
            copied: 0,
        }
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: Arc<Limits>) {
        self.limits = limits;
    }

    /// A new, empty stream: for a publisher ([`Self::begin_publish`]) or for segments mailed here
    /// ([`Self::receive`]).
    pub fn create(&mut self) -> StreamKey {
        self.generation += 1;
        let slot = self.streams.insert(Stream {
            generation: self.generation,
            renditions: Renditions::default(),
            home: None,
            flush_age: FLUSH_AGE,
            mailed: 0,
            ready: false,
        });
        StreamKey { slot, generation: self.generation }
    }

    /// Forgets a stream and all of its segments.
    pub fn remove(&mut self, key: StreamKey) {
        if self.stream(key).is_some() {
            let stream = self.streams.remove(key.slot);
            self.copied += stream.copied_bytes();
        }
    }

    /// Number of streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is no stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Every stream, in an order of no meaning.
    pub fn keys(&self) -> impl Iterator<Item = StreamKey> {
        let key =
            |(slot, stream): (usize, &Stream)| StreamKey { slot, generation: stream.generation };
        self.streams.iter().map(key)
    }

    // ---- the publisher's side

    /// A publisher begins. After another one it continues the stream: numbers, counts and time go
    /// on, headers start empty, and its inter frames are dropped until its first key frame. A
    /// stream that was mailed here is continued as far as its log tells, unless [`Self::inherit`]
    /// told all.
    pub fn begin_publish(&mut self, key: StreamKey) {
        self.seal(key);
        if let Some(stream) = self.stream_mut(key) {
            let log = &stream.renditions.log;
            if stream.home.is_none() {
                stream.mailed = log.next();
            }
            stream.home.get_or_insert_with(|| Box::new(Home::after(log))).begin();
        }
    }

    /// The publisher is gone. The log stays, for as long as the worker keeps the stream.
    pub fn end_publish(&mut self, key: StreamKey) {
        self.seal(key);
        if let Some(home) = self.home_mut(key) {
            home.end();
        }
    }

    /// The next publisher is on another worker: gives up what that worker must know, and from now
    /// on the stream here is one that is mailed. `None` when no publisher was here.
    pub fn hand_over(&mut self, key: StreamKey) -> Option<Heritage> {
        self.seal(key);
        let stream = self.stream_mut(key)?;
        let home = stream.home.take()?;
        let copied = home.copied_bytes();
        self.copied += copied;
        Some(home.heritage())
    }

    /// Continues a stream that had its publisher on another worker; to be followed by
    /// [`Self::begin_publish`].
    pub fn inherit(&mut self, key: StreamKey, heritage: Heritage) {
        if let Some(stream) = self.stream_mut(key) {
            let home = Home::inherit(heritage);
            stream.mailed = home.next_number();
            stream.home = Some(Box::new(home));
        }
    }

    /// Takes a message of the publisher; its timestamp may be moved, and a large one's bytes are
    /// taken.
    pub fn append(
        &mut self,
        key: StreamKey,
        message: &mut MediaMessage,
        now: Duration,
    ) -> Appended {
        self.take(key, message, now, now)
    }

    fn take(
        &mut self,
        key: StreamKey,
        message: &mut MediaMessage,
        ingested: Duration,
        now: Duration,
    ) -> Appended {
        let refused = Appended { sealed: 0, dropped: Some(Dropped::NoPublisher) };
        let limits = &*self.limits;
        let Some(stream) = find(&mut self.streams, key) else { return refused };
        let Some(home) = stream.home.as_deref_mut() else { return refused };
        let before = home.pending();
        let appended = home.append(message, limits, ingested, now, &mut stream.renditions);
        if let Some((number, since)) = home.pending()
            && before.is_none_or(|(before, _)| before != number)
        {
            let due = since.saturating_add(stream.flush_age);
            self.deadlines.push(Reverse((due, key, number)));
        }
        if appended.sealed > 0 {
            self.mark_ready(key);
        }
        appended
    }

    /// Forgets the metadata kept for joining players (`@clearDataFrame`).
    pub fn clear_metadata(&mut self, key: StreamKey) {
        if let Some(home) = self.home_mut(key) {
            home.clear_metadata();
        }
    }

    /// The age at which the stream's pending segment is sealed. Zero seals with the next
    /// [`Self::flush`]: messages that arrived together leave together all the same.
    pub fn set_flush_age(&mut self, key: StreamKey, age: Duration) {
        let Some(stream) = self.stream_mut(key) else { return };
        if std::mem::replace(&mut stream.flush_age, age) == age {
            return;
        }
        if let Some((number, since)) = stream.home.as_deref().and_then(Home::pending) {
            self.deadlines.push(Reverse((since.saturating_add(age), key, number)));
        }
    }

    /// When [`Self::flush`] next has a segment to seal; never later than that.
    pub fn next_flush(&mut self) -> Option<Duration> {
        while let Some(&Reverse((due, key, number))) = self.deadlines.peek() {
            if self.is_pending(key, number) {
                return Some(due);
            }
            self.deadlines.pop();
        }
        None
    }

    /// Seals what is due and puts the keys of all streams with new segments into `ready`, each
    /// once: sealed here or received since the last call.
    pub fn flush(&mut self, now: Duration, ready: &mut Vec<StreamKey>) {
        while let Some(due) = self.next_flush()
            && due <= now
            && let Some(Reverse((_, key, _))) = self.deadlines.pop()
        {
            self.seal(key);
        }
        for key in self.ready.drain(..) {
            if let Some(stream) = find(&mut self.streams, key) {
                stream.ready = false;
                ready.push(key);
            }
        }
    }

    /// Seals the stream's pending segment, if there is one.
    pub fn seal(&mut self, key: StreamKey) {
        let Some(stream) = find(&mut self.streams, key) else { return };
        let Some(home) = stream.home.as_deref_mut() else { return };
        if home.seal(&self.limits, &mut stream.renditions) {
            self.mark_ready(key);
        }
    }

    /// The segments sealed here since the last call, for mailing.
    pub fn take_sealed(&mut self, key: StreamKey) -> impl Iterator<Item = &Segment> {
        let stream = self.stream_mut(key).filter(|stream| stream.home.is_some());
        stream.into_iter().flat_map(|stream| {
            let from = std::mem::replace(&mut stream.mailed, stream.renditions.log.next());
            stream.renditions.log.from(from)
        })
    }

    /// What another worker needs to begin reading the stream: the newest group of pictures, or the
    /// newest segment when there is none. Segments mailed from now on follow without a gap.
    pub fn snapshot(&mut self, key: StreamKey) -> Vec<Segment> {
        self.seal(key);
        let Some(log) = self.log(key) else { return Vec::new() };
        let from = log.newest_key().unwrap_or(log.next().saturating_sub(1));
        log.from(from).cloned().collect()
    }

    /// Takes a segment that was mailed here. `false` when it is held already, or the stream is
    /// gone.
    pub fn receive(&mut self, key: StreamKey, segment: &Segment) -> bool {
        let Some(stream) = find(&mut self.streams, key) else { return false };
        let added = stream.renditions.push(segment.rewrap(), &self.limits);
        if added {
            self.mark_ready(key);
        }
        added
    }

    // ---- the players' side

    /// Whether a player may read the stream in this view: see `views_per_stream_max`.
    #[must_use]
    pub fn has_room(&self, key: StreamKey, view: ViewKind) -> bool {
        self.stream(key).is_some_and(|stream| stream.renditions.has_room(view, &self.limits))
    }

    /// A position for a player that joins. To be given back with [`Self::close`]. `None`: the
    /// stream is gone, or [`Self::has_room`] says that there is no room for such a view.
    pub fn open(
        &mut self,
        key: StreamKey,
        join: Join,
        view: ViewKind,
        now: Duration,
    ) -> Option<Cursor> {
        let stream = self.stream(key)?;
        let pending_key = stream.home.as_deref().is_some_and(Home::pending_key);
        if pending_key || stream.renditions.log.newest_key().is_none() {
            self.seal(key);
        }
        let stream = find(&mut self.streams, key)?;
        let next = stream.renditions.log.next();
        let acquired = stream.renditions.acquire(view, next, &self.limits);
        acquired.then(|| Cursor::new(join, view, next, now))
    }

    /// The player is gone.
    pub fn close(&mut self, key: StreamKey, cursor: Cursor) {
        if let Some(stream) = self.stream_mut(key) {
            stream.renditions.release(cursor.view);
        }
    }

    /// Puts the player's next bytes behind `out`: at most `batch_bytes_max` in at most 16 slices,
    /// usually one. Sealed segments only.
    pub fn next_batch(
        &mut self,
        key: StreamKey,
        cursor: &mut Cursor,
        now: Duration,
        out: &mut Vec<Bytes>,
    ) -> Batch {
        match find(&mut self.streams, key) {
            Some(stream) => {
                reader::next_batch(&mut stream.renditions, cursor, &self.limits, now, out)
            }
            None => Batch { next: Next::Gone, ..Batch::default() },
        }
    }

    /// The player goes on at the next key frame, with fresh headers: after a pause.
    pub fn rejoin(&mut self, key: StreamKey, cursor: &mut Cursor, now: Duration) {
        if let Some(log) = self.log(key) {
            cursor.restart(log.next(), now);
        }
    }

    /// How far a player is behind, by time of ingest.
    #[must_use]
    pub fn lag(&self, key: StreamKey, cursor: &Cursor) -> Duration {
        self.stream(key).map_or(Duration::ZERO, |stream| stream.renditions.lag(cursor.segment))
    }

    /// Whether a player goes on with a key frame next, or with anything where none is needed: it
    /// may leave here, and go on elsewhere at the same place.
    #[must_use]
    pub fn is_before_key(&self, key: StreamKey, cursor: &Cursor) -> bool {
        if !cursor.is_playing() {
            return true;
        }
        let next = self.log(key).and_then(|log| log.get(cursor.segment()));
        let starts = |next: &Segment| next.key || next.video != Video::Flowing;
        cursor.at_boundary() && cursor.offset == 0 && next.is_some_and(starts)
    }

    // ---- accounts

    /// Forgets what was kept for players that may come back soon and did not. To be called now and
    /// then.
    pub fn forget_left_views(&mut self, now: Duration) {
        for (_, stream) in &mut self.streams {
            stream.renditions.forget_left_views(now);
        }
    }

    /// The stream's log.
    #[must_use]
    pub fn log(&self, key: StreamKey) -> Option<&Log> {
        self.stream(key).map(|stream| &stream.renditions.log)
    }

    /// Bytes held by all logs of this hub.
    #[must_use]
    pub fn held_bytes(&self) -> HeldBytes {
        let mut held = HeldBytes::default();
        for (_, stream) in &self.streams {
            let bytes = stream.renditions.log.held_bytes();
            *(if stream.home.is_some() { &mut held.home } else { &mut held.remote }) += bytes;
            held.views += stream.renditions.view_bytes();
        }
        held
    }

    /// Shrinks what only this worker holds, the logs of streams whose publisher is here and all
    /// views, to the newest group of pictures, largest first, until all of it together is at most
    /// `target` bytes. Gives the bytes held then, which may still be more.
    pub fn shrink(&mut self, target: usize) -> usize {
        self.shrink_by(target, |stream| {
            let log = stream.home.as_ref().map_or(0, |_| stream.renditions.log.held_bytes());
            log + stream.renditions.view_bytes()
        })
    }

    /// The same for the logs of streams that are mailed here.
    pub fn shrink_remote(&mut self, target: usize) -> usize {
        self.shrink_by(target, |stream| match stream.home {
            Some(_) => 0,
            None => stream.renditions.log.held_bytes(),
        })
    }

    fn shrink_by(&mut self, target: usize, held: impl Fn(&Stream) -> usize) -> usize {
        let sizes = self.streams.iter().map(|(slot, stream)| (held(stream), slot));
        let mut sizes: Vec<_> = sizes.collect();
        sizes.sort_unstable_by_key(|&(bytes, _)| Reverse(bytes));
        let mut total: usize = sizes.iter().map(|&(bytes, _)| bytes).sum();
        for (bytes, slot) in sizes {
            if total <= target {
                break;
            }
            let stream = &mut self.streams[slot];
            stream.renditions.shrink_to_newest_gop();
            total -= bytes - held(stream);
        }
        total
    }

    /// Gives back the memory of tables that once held much more than they do now.
    pub fn shrink_tables(&mut self) {
        if is_sparse(self.streams.len(), self.streams.capacity()) {
            self.streams.shrink_to_fit();
        }
        if is_sparse(self.deadlines.len(), self.deadlines.capacity()) {
            self.deadlines.shrink_to_fit();
        }
        if is_sparse(self.ready.len(), self.ready.capacity()) {
            self.ready.shrink_to(self.streams.len());
        }
    }

    /// Media and header bytes copied so far, over all streams that ever were here: into pending
    /// segments, preludes and views. All other bytes sent were counted references.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.copied + self.streams.iter().map(|(_, stream)| stream.copied_bytes()).sum::<u64>()
    }

    /// What is known of a stream; `None` when it is gone.
    #[must_use]
    pub fn stats(&self, key: StreamKey) -> Option<StreamStats> {
        let stream = self.stream(key)?;
        let counts = stream.home.as_deref().map_or_else(Counts::default, |home| *home.counts());
        Some(StreamStats {
            publishing: stream.home.as_deref().is_some_and(Home::is_publishing),
            payload_bytes: counts.payload_bytes,
            messages: counts.messages,
            dropped: counts.dropped,
            key_frames: counts.key_frames,
            last_key: counts.last_key,
            gop: counts.gop,
            last_ingest: counts.last_ingest,
            audio_codec: counts.audio_codec,
            video_codec: counts.video_codec,
            log_bytes: stream.renditions.log.held_bytes(),
            view_bytes: stream.renditions.view_bytes(),
        })
    }

    fn stream(&self, key: StreamKey) -> Option<&Stream> {
        self.streams.get(key.slot).filter(|stream| stream.generation == key.generation)
    }

    fn stream_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        find(&mut self.streams, key)
    }

    fn home_mut(&mut self, key: StreamKey) -> Option<&mut Home> {
        self.stream_mut(key)?.home.as_deref_mut()
    }

    fn is_pending(&self, key: StreamKey, number: u64) -> bool {
        let home = self.stream(key).and_then(|stream| stream.home.as_deref());
        home.and_then(Home::pending).is_some_and(|(pending, _)| pending == number)
    }

    fn mark_ready(&mut self, key: StreamKey) {
        if let Some(stream) = self.stream_mut(key)
            && !std::mem::replace(&mut stream.ready, true)
        {
            self.ready.push(key);
        }
    }
}

fn find(streams: &mut Slab<Stream>, key: StreamKey) -> Option<&mut Stream> {
    streams.get_mut(key.slot).filter(|stream| stream.generation == key.generation)
}

impl Stream {
    fn copied_bytes(&self) -> u64 {
        self.renditions.copied_bytes() + self.home.as_deref().map_or(0, Home::copied_bytes)
    }
}
