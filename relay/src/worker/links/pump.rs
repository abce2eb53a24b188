//! What a link that feeds a node is sent next: what is to be said, then whole messages of its
//! streams, in turn, so many bytes of each in a round.

use std::time::Duration;

use bytes::Bytes;

use super::feeding::{OutFeed, OutLink};
use crate::cluster::NodeKey;
use crate::cluster::message::Message;
use crate::stream::FeedStep;
use crate::worker::Worker;
use crate::worker::labels::MessageKind;

/// What a stream may send in one round. A message that is longer is sent whole, and the stream
/// pays for it in the rounds that follow.
const QUANTUM: i64 = 64 << 10;

/// Most bytes of one send, but for the last message in it.
const BATCH_BYTES: usize = 256 << 10;

/// The same where they are sealed: with its records it fits the buffers that are used again.
const SEALED_BATCH_BYTES: usize = 60 << 10;

/// Most slices of one send: it leaves in a few system calls. With this many streams that each have
/// a small segment at every flush are carried in few round trips of the reactor.
const BATCH_SLICES: usize = 256;

/// What comes of looking at a feed.
enum Turn {
    /// There is more, and its turn comes again.
    More,
    /// Everything sealed was sent.
    Idle,
}

impl Worker {
    /// Sends on every link that can take something and has something.
    pub(in crate::worker) fn pump_links(&mut self, now: Duration) {
        if self.links.woken.is_empty() {
            return;
        }
        let mut woken = std::mem::take(&mut self.links.woken);
        woken.sort_unstable();
        woken.dedup();
        for to in &woken {
            self.pump(*to, now);
        }
        woken.clear();
        woken.append(&mut self.links.woken);
        self.links.woken = woken;
    }

    fn pump(&mut self, to: NodeKey, now: Duration) {
        let Some(mut link) = self.links.out.remove(&to) else { return };
        let key = link.connection;
        if let Some(mut own) = key.and_then(|key| self.links.connections.remove(&key)) {
            link.say_ended(&mut own.session);
            own.collect_output();
            if own.holds_too_much(&self.limits) {
                self.links.out.insert(to, link);
                self.close_unread(own);
                return;
            }
            if !own.is_sending() && own.may_speak() {
                let mut slices: Vec<Bytes> = own.take_outbox().into();
                if Self::is_feeding(&own) {
                    let room = if own.tls.is_some() { SEALED_BATCH_BYTES } else { BATCH_BYTES };
                    self.fill_link(&mut link, &mut own.session, &mut slices, room, now);
                }
                if !slices.is_empty() {
                    self.send_slices(&mut own, slices, now);
                }
            }
            if own.is_broken() {
                self.links.out.insert(to, link);
                self.close_broken(own);
                return;
            }
            self.links.connections.insert(own.key, own);
        }
        self.links.out.insert(to, link);
    }

    /// Rounds of streams, until the batch is full or all has been sent.
    fn fill_link(
        &mut self,
        link: &mut OutLink,
        session: &mut crate::session::link::LinkSession,
        slices: &mut Vec<Bytes>,
        mut room: usize,
        now: Duration,
    ) {
        while room > 0 && slices.len() < BATCH_SLICES {
            let Some(message_stream) = link.active.pop_front() else { return };
            let Some(feed) = link.feeds.get_mut(&message_stream) else { continue };
            // What a full batch kept it from using is not saved up.
            feed.credit = (feed.credit + QUANTUM).min(2 * QUANTUM);
            match self.send_of(feed, message_stream, session, slices, &mut room, now) {
                Turn::More => link.active.push_back(message_stream),
                Turn::Idle => (feed.queued, feed.credit) = (false, 0),
            }
        }
    }

    fn send_of(
        &mut self,
        feed: &mut OutFeed,
        message_stream: u32,
        session: &mut crate::session::link::LinkSession,
        slices: &mut Vec<Bytes>,
        room: &mut usize,
        now: Duration,
    ) -> Turn {
        while *room > 0 && slices.len() < BATCH_SLICES {
            let Some(reader) = &mut feed.reader else { return Turn::Idle };
            let Ok(most @ 1..) = usize::try_from(feed.credit) else { return Turn::More };
            let most = most.min(*room);
            match self.hub.next_of_feed(feed.log, reader, most, slices) {
                FeedStep::Nothing => return Turn::Idle,
                FeedStep::Start(start) => {
                    let Some(entry) = self.streams.get(feed.local) else { return Turn::Idle };
                    if start.headers.is_some() {
                        feed.allowance = self.hub.feed_lag(feed.log, reader);
                    }
                    if let Some(headers) = start.headers {
                        session.say(message_stream, &Message::Headers.encode());
                        slices.extend(session.take_output());
                        slices.extend((!headers.is_empty()).then_some(headers));
                    }
                    let at = feed.at(entry, &self.hub, Some(start.ingested));
                    session.say(message_stream, &at.encode());
                    slices.extend(session.take_output());
                }
                FeedStep::Sent { bytes, carried } => {
                    feed.said = now;
                    *room = room.saturating_sub(bytes);
                    feed.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
                    for (kind, count) in [
                        (MessageKind::Audio, carried.audio),
                        (MessageKind::Video, carried.video),
                        (MessageKind::Data, carried.data),
                    ] {
                        self.cells.egress_messages.at(kind).add(u64::from(count));
                    }
                }
            }
        }
        Turn::More
    }
}
