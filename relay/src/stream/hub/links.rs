//! Streams that come from other nodes, and those that other nodes are fed.
//!
//! Whoever brings a stream counts its messages; here that count is followed, so that the next one
//! who brings it, or is fed, can go on at the very message.
//!
//! **One law says what is taken**, whoever brings it, in whatever order feeders begin and end: of a
//! source only what lies behind all that was taken of it before. Each place of its count is passed
//! once and forward, by a message that is taken, left out for good, or never comes; what has a
//! place that was passed is here, and is not taken again. The count is that of one source: with
//! another one it begins again, or where that one's was left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Hub, StreamKey, find};
use crate::stream::feed::{self, Feed, FeedStep};
use crate::stream::home::{Appended, Dropped, Home};
use crate::stream::view::ViewKind;
use crate::wire::message::MediaMessage;

/// Where a source was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Its next message, by its own count.
    pub seq: u64,
    /// By how much its timestamps were moved, in milliseconds.
    pub shift: u32,
}

impl Hub {
    /// A link from another node goes on where another one left off: everything stays in force.
    pub fn resume_publish(&mut self, key: StreamKey) {
        if let Some(home) = self.home_mut(key) {
            home.resume();
        }
    }

    /// Like [`Self::begin_publish`], by a link from another node: its timestamps are those of the
    /// stream's source and are moved only where they do not go on from what was here. `left`: where
    /// this source was left, if it was here before, else [`Left::default`].
    pub fn begin_link(&mut self, key: StreamKey, left: Left) {
        self.begin_publish(key);
        if let Some(home) = self.home_mut(key) {
            home.trust_time(left.shift);
        }
        self.count_from(key, left.seq);
    }

    /// Like [`Self::begin_link`], by a link whose source was here before and of whose successor
    /// nothing came: what comes now goes on from what is here, key frame or not.
    pub fn return_link(&mut self, key: StreamKey, left: Left) {
        self.begin_link(key, left);
        if let Some(home) = self.home_mut(key) {
            home.await_no_key();
        }
    }

    /// Where the stream's source is left if another one begins.
    #[must_use]
    pub fn left(&self, key: StreamKey) -> Left {
        let home = self.stream(key).and_then(|stream| stream.home.as_deref());
        home.map_or_else(Left::default, |home| Left { seq: home.next_seq(), shift: home.shift() })
    }

    /// Takes a message that has this place in the count of the stream's source, unless that was
    /// passed. `ingested`: when its origin took it in, by the clock of this node.
    pub fn append_at(
        &mut self,
        key: StreamKey,
        seq: u64,
        message: &mut MediaMessage,
        ingested: Duration,
        now: Duration,
    ) -> Appended {
        let next = self.home_mut(key).map_or(seq, |home| home.next_seq());
        if seq < next {
            return Appended { sealed: 0, dropped: Some(Dropped::Held) };
        }
        if seq > next {
            self.count_from(key, seq);
        }
        let appended = self.take(key, message, ingested, now);
        if appended.dropped == Some(Dropped::BeforeKey) {
            self.pass(key, seq);
        }
        appended
    }

    /// A message that has this place in the count of the stream's source cannot be used.
    pub fn pass(&mut self, key: StreamKey, seq: u64) {
        if self.next_seq(key).is_some_and(|next| next <= seq) {
            self.count_from(key, seq + 1);
        }
    }

    /// The next message has this place in the count of the stream's source: it is another source,
    /// or the places up to there are passed.
    pub fn count_from(&mut self, key: StreamKey, seq: u64) {
        self.seal(key);
        if let Some(home) = self.home_mut(key) {
            home.set_next_seq(seq);
        }
    }

    /// Takes a header that is in force, unless it is known: players that are here already must be
    /// told of it. It has no place in the stream's count.
    pub fn append_header(&mut self, key: StreamKey, message: &mut MediaMessage, now: Duration) {
        if self.home_mut(key).is_none_or(|home| home.knows(message)) {
            return;
        }
        for restating in [true, false] {
            self.seal(key);
            if let Some(home) = self.home_mut(key) {
                home.set_restating(restating);
            }
            if restating {
                self.append(key, message, now);
            }
        }
    }

    /// The next message by the count of the stream's source; `None` where nobody publishes.
    #[must_use]
    pub fn next_seq(&self, key: StreamKey) -> Option<u64> {
        self.stream(key)?.home.as_deref().map(Home::next_seq)
    }

    /// Number of the next segment.
    #[must_use]
    pub fn next_number(&self, key: StreamKey) -> u64 {
        let stream = self.stream(key);
        let own = stream.and_then(|stream| stream.home.as_deref()).map(Home::next_number);
        own.or_else(|| Some(stream?.renditions.log.next())).unwrap_or(0)
    }

    // ---- feeding other nodes

    /// A position for feeding another node with the segments from `from` on: at the message `seq`
    /// if that is there. To be given back with [`Self::close_feed`]. `None`: the stream is gone.
    pub fn open_feed(
        &mut self,
        key: StreamKey,
        message_stream: u32,
        from: u64,
        seq: Option<u64>,
    ) -> Option<Feed> {
        self.seal(key);
        let limits = Arc::clone(&self.limits);
        let stream = self.stream_mut(key)?;
        let view = ViewKind::link(message_stream);
        let feed = Feed::new(&stream.renditions, view, from, seq);
        let first = feed.segment().unwrap_or(stream.renditions.log.next());
        stream.renditions.acquire(view, first, &limits).then_some(feed)
    }

    /// The feed is over.
    pub fn close_feed(&mut self, key: StreamKey, feed: &Feed) {
        if let Some(stream) = self.stream_mut(key) {
            stream.renditions.release(feed.view());
        }
    }

    /// Puts the feed's next whole messages behind `out`: at least one, and no more than fit into
    /// `room` bytes. Sealed segments only.
    pub fn next_of_feed(
        &mut self,
        key: StreamKey,
        feed: &mut Feed,
        room: usize,
        out: &mut Vec<Bytes>,
    ) -> FeedStep {
        match find(&mut self.streams, key) {
            Some(stream) => feed::next(&mut stream.renditions, feed, room, out),
            None => FeedStep::Nothing,
        }
    }

    /// How far a feed is behind of what came to this node, by time of arrival.
    #[must_use]
    pub fn feed_lag(&self, key: StreamKey, feed: &Feed) -> Duration {
        self.stream(key).map_or(Duration::ZERO, |stream| feed::lag(&stream.renditions, feed))
    }
}
