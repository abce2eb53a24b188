//! Streams that come from other nodes, and those that other nodes are fed.
//!
//! Whoever brings a stream counts its messages; here that count is followed, so that the next one
//! who brings it, or is fed, can go on at the very message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Hub, StreamKey, find};
use crate::stream::feed::{self, Feed, FeedStep};
use crate::stream::home::{Appended, Home};
use crate::stream::view::ViewKind;
use crate::wire::message::MediaMessage;

impl Hub {
    /// A link from another node goes on where another one left off: everything stays in force.
    pub fn resume_publish(&mut self, key: StreamKey) {
        if let Some(home) = self.home_mut(key) {
            home.resume();
        }
    }

    /// Like [`Self::begin_publish`], by a link from another node: its timestamps are those of the
    /// stream's source and are moved only where they do not go on from what was here.
    pub fn begin_link(&mut self, key: StreamKey) {
        self.begin_publish(key);
        if let Some(home) = self.home_mut(key) {
            home.trust_time();
        }
    }

    /// Like [`Self::begin_link`], by a link whose source was here before and of whose successor
    /// nothing came: what comes now goes on from what is here, key frame or not.
    pub fn return_link(&mut self, key: StreamKey) {
        self.begin_link(key);
        if let Some(home) = self.home_mut(key) {
            home.await_no_key();
        }
    }

    /// Takes a message that has this place in the count of the stream's source. `ingested`: when
    /// its origin took it in, by the clock of this node.
    pub fn append_at(
        &mut self,
        key: StreamKey,
        seq: u64,
        message: &mut MediaMessage,
        ingested: Duration,
        now: Duration,
    ) -> Appended {
        if self.home_mut(key).is_some_and(|home| home.next_seq() != seq) {
            self.seal(key);
            if let Some(home) = self.home_mut(key) {
                home.set_next_seq(seq);
            }
        }
        self.take(key, message, ingested, now)
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

    /// The count of a new source begins.
    pub fn restart_count(&mut self, key: StreamKey) {
        self.seal(key);
        if let Some(home) = self.home_mut(key) {
            home.set_next_seq(0);
        }
    }

    /// The next message by the count of the stream's source; `None` where nobody publishes.
    #[must_use]
    pub fn next_seq(&self, key: StreamKey) -> Option<u64> {
        self.stream(key)?.home.as_deref().map(Home::next_seq)
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
