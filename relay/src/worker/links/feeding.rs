//! Streams at home on this worker that other nodes are fed: one link to each such node.
//!
//! A stream has one message stream id on all links of this worker, so that one view of its log
//! serves them all. It is offered as soon as the link is open, and read when the other node takes
//! it up, from where its log ends.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Dialled, Kind, LinkConnection};
use super::{FeedOrder, LinkMail, Links};
use crate::cluster::message::{At, Message};
use crate::cluster::{NodeKey, Path, Position, Term};
use crate::reactor::ConnectionKey;
use crate::session::link::LinkSession;
use crate::stream::{Feed, Hub, Left, StreamKey};
use crate::worker::Worker;
use crate::worker::labels::LinkRefusal;
use crate::worker::local::{LocalStream, Place};
use crate::worker::mail::{Mail, StreamId, WorkerIndex};
use crate::worker::origin::{Beginning, Origin};

/// The link to a node that is fed.
pub(super) struct OutLink {
    address: SocketAddr,
    /// While it is being dialled.
    token: Option<u64>,
    pub(super) connection: Option<ConnectionKey>,
    /// The greeting is over.
    pub(super) up: bool,
    pub(super) since: Duration,
    pub(super) feeds: BTreeMap<u32, OutFeed>,
    /// Feeds that may have something to send, in turn.
    pub(super) active: VecDeque<u32>,
    /// Message streams that are over, which the other node has not been told.
    ended: Vec<u32>,
    /// Since when there is nothing to feed.
    pub(super) idle_since: Option<Duration>,
    /// When a stream was last let go because the link was behind.
    pub(super) shed: Duration,
}

/// A stream on it.
pub(super) struct OutFeed {
    pub(super) local: usize,
    pub(super) log: StreamKey,
    stream: StreamId,
    pub(super) order: FeedOrder,
    /// The other node has taken it up, and from where on.
    taken: Option<Option<Position>>,
    pub(super) reader: Option<Feed>,
    /// It stands among the active ones.
    pub(super) queued: bool,
    /// Bytes that it may send in this round; below 0 it sent more than that.
    pub(super) credit: i64,
    /// How far it may be behind, as it was when it began and has not caught up since.
    pub(super) allowance: Duration,
    /// When something was last said or sent of it.
    pub(super) said: Duration,
    /// Players that depend on it; `None` until the other node says.
    pub(super) players: Option<u32>,
}

/// What a stream knows of the nodes that it is fed to.
#[derive(Debug, Default)]
pub(in crate::worker) struct Fed {
    /// Its message stream id on all links of this worker; 0 before it had one.
    message_stream: u32,
    to: Vec<NodeKey>,
}

impl OutLink {
    /// Streams that are fed.
    pub(super) fn len(&self) -> usize {
        self.feeds.len()
    }

    /// Tells the other node which streams are over.
    pub(super) fn say_ended(&mut self, session: &mut LinkSession) {
        for message_stream in self.ended.drain(..) {
            session.close_stream(message_stream);
        }
    }

    /// Something may be there to be sent of a stream.
    fn wake(&mut self, message_stream: u32) {
        if let Some(feed) = self.feeds.get_mut(&message_stream)
            && feed.reader.is_some()
            && !std::mem::replace(&mut feed.queued, true)
        {
            self.active.push_back(message_stream);
        }
    }
}

impl OutFeed {
    /// Where the stream goes on. `ingested`: when the next message was taken in here.
    pub(super) fn at(&self, entry: &LocalStream, hub: &Hub, ingested: Option<Duration>) -> Message {
        let expected = self.reader.as_ref().and_then(Feed::expects);
        let seq = expected.or_else(|| hub.next_seq(self.log)).unwrap_or(0);
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let there = ingested
            .zip(entry.origin.ahead_micros)
            .map(|(time, ahead)| micros(time).saturating_add(ahead));
        Message::At(At {
            position: Position { epoch: self.order.term.epoch, seq },
            origin: self.order.term.origin,
            ingested: there.and_then(|micros| u64::try_from(micros).ok()).unwrap_or(0),
            path: Arc::clone(&self.order.path),
        })
    }
}

impl Links {
    /// A stream has a new segment.
    pub(in crate::worker) fn wake(&mut self, fed: &Fed) {
        for to in &fed.to {
            if let Some(link) = self.out.get_mut(to) {
                link.wake(fed.message_stream);
                self.woken.push(*to);
            }
        }
    }
}

impl Worker {
    /// The cluster's machine asks this worker to feed a stream to a node.
    pub(super) fn feed(&mut self, stream: StreamId, order: FeedOrder, now: Duration) {
        if let Some(home) = self.moved_to(stream) {
            self.mailbox.send(home, Mail::Link(Box::new(LinkMail::Feed { stream, order })));
            return;
        }
        let local = self.streams.find(stream);
        let entry = local.and_then(|local| self.streams.get_mut(local));
        let here = entry.filter(|entry| entry.is_here() || entry.granted.is_some());
        let (Some(local), Some(entry)) = (local, here) else {
            self.feed_ended(&order);
            return;
        };
        let Some(log) = entry.log else {
            self.feed_ended(&order);
            return;
        };
        let to = order.to;
        if entry.fed.message_stream == 0 {
            self.links.message_stream += 1;
            entry.fed.message_stream = self.links.message_stream;
        }
        let message_stream = entry.fed.message_stream;
        if !entry.fed.to.contains(&to) {
            entry.fed.to.push(to);
        }
        if !self.links.out.contains_key(&to) {
            let token = self.dial_link(Dialled::Media(to), order.address);
            let link = OutLink {
                address: order.address,
                token: Some(token),
                connection: None,
                up: false,
                since: now,
                feeds: BTreeMap::new(),
                active: VecDeque::new(),
                ended: Vec::new(),
                idle_since: None,
                shed: Duration::ZERO,
            };
            self.links.out.insert(to, link);
        }
        let Some(link) = self.links.out.get_mut(&to) else { return };
        link.idle_since = None;
        if let Some(feed) = link.feeds.get_mut(&message_stream) {
            let same = feed.order.term == order.term;
            feed.order = order;
            if !same {
                feed.taken = None;
                let reader = feed.reader.take();
                if let Some(reader) = reader {
                    self.hub.close_feed(log, &reader);
                }
            }
            self.say_at(to, message_stream, now);
            return;
        }
        if link.feeds.len() >= self.limits.link_streams_max {
            self.cells.link_refused.at(LinkRefusal::Streams).increment();
            self.end_feed(to, message_stream, local);
            self.feed_ended(&order);
            return;
        }
        let feed = OutFeed {
            local,
            log,
            stream,
            order,
            taken: None,
            reader: None,
            queued: false,
            credit: 0,
            allowance: Duration::ZERO,
            said: now,
            players: None,
        };
        link.feeds.insert(message_stream, feed);
        if link.up {
            self.offer(to, message_stream, now);
        }
    }

    /// The greeting is over: everything is offered.
    pub(super) fn out_link_up(&mut self, own: &mut LinkConnection, to: NodeKey, now: Duration) {
        let Some(link) = self.links.out.get_mut(&to) else { return own.close_when_sent() };
        (link.up, link.token) = (true, None);
        link.ended.clear();
        for (message_stream, feed) in &mut link.feeds {
            own.session.publish(*message_stream, &feed.order.name);
            if let Some(entry) = self.streams.get(feed.local) {
                let at = feed.at(entry, &self.hub, None);
                own.session.say(*message_stream, &at.encode());
            }
            feed.said = now;
        }
        self.links.woken.push(to);
    }

    fn offer(&mut self, to: NodeKey, message_stream: u32, now: Duration) {
        let name = self
            .links
            .out
            .get(&to)
            .and_then(|link| Some(Arc::clone(&link.feeds.get(&message_stream)?.order.name)));
        if let (Some(name), Some(link)) = (name, self.out_connection(to)) {
            link.session.publish(message_stream, &name);
            self.say_at(to, message_stream, now);
        }
    }

    /// Says where a stream goes on, by which way, and that it is still fed.
    pub(super) fn say_at(&mut self, to: NodeKey, message_stream: u32, now: Duration) {
        let Some(link) = self.links.out.get_mut(&to).filter(|link| link.up) else { return };
        let Some(feed) = link.feeds.get_mut(&message_stream) else { return };
        let Some(entry) = self.streams.get(feed.local) else { return };
        feed.said = now;
        let at = feed.at(entry, &self.hub, None).encode();
        if let Some(link) = self.out_connection(to) {
            link.session.say(message_stream, &at);
            self.links.woken.push(to);
        }
    }

    fn out_connection(&mut self, to: NodeKey) -> Option<&mut Box<LinkConnection>> {
        let out = self.links.out.get_mut(&to)?;
        let link = self.links.connections.get_mut(&out.connection?)?;
        out.say_ended(&mut link.session);
        Some(link)
    }

    /// The node that is fed says something about a stream.
    pub(super) fn feeding_told(
        &mut self,
        to: NodeKey,
        message_stream: u32,
        payload: &[u8],
    ) -> Result<(), String> {
        let message = Message::decode(payload, &self.limits).map_err(|error| error.to_string())?;
        let link = self.links.out.get_mut(&to);
        let Some(feed) = link.and_then(|link| link.feeds.get_mut(&message_stream)) else {
            return Ok(());
        };
        match message {
            Some(Message::Take { position }) => {
                feed.taken = Some(position);
                self.open_reader(to, message_stream);
            }
            Some(Message::Audience { players }) => feed.players = Some(players),
            _ => {}
        }
        Ok(())
    }

    /// Begins to read for a node that took the stream up, if its source is there.
    fn open_reader(&mut self, to: NodeKey, message_stream: u32) {
        let Some(link) = self.links.out.get_mut(&to) else { return };
        let Some(feed) = link.feeds.get_mut(&message_stream) else { return };
        let Some(entry) = self.streams.get(feed.local) else { return };
        let Some(position) = feed.taken.filter(|_| entry.origin.term == Some(feed.order.term))
        else {
            return;
        };
        let here = position.filter(|position| position.epoch == feed.order.term.epoch);
        let seq = here.map(|position| position.seq);
        if let Some(old) = feed.reader.take() {
            self.hub.close_feed(feed.log, &old);
        }
        feed.allowance = Duration::ZERO;
        feed.reader = self.hub.open_feed(feed.log, message_stream, entry.origin.from, seq);
        if feed.reader.is_none() {
            let local = feed.local;
            self.let_go(to, message_stream, local);
            return;
        }
        link.wake(message_stream);
        self.links.woken.push(to);
    }

    /// Another source begins in a log, or the same goes on, which is said. `ahead_micros`: see
    /// [`Origin`].
    pub(in crate::worker) fn begin_source(
        &mut self,
        local: usize,
        term: Option<Term>,
        ahead_micros: Option<i64>,
    ) -> Beginning {
        let nothing = Beginning::New(Left::default());
        let Some(entry) = self.streams.get_mut(local) else { return nothing };
        let Some(source) = term else {
            // Nobody is fed it, under whatever term.
            entry.origin = Origin::default();
            self.end_feeds(local);
            return nothing;
        };
        let Some(log) = entry.log else { return nothing };
        self.hub.seal(log);
        let (segment, left) = (self.hub.next_number(log), self.hub.left(log));
        let beginning = entry.origin.begin(source, ahead_micros, segment, left);
        let (from, message_stream) = (entry.origin.from, entry.fed.message_stream);
        for to in entry.fed.to.clone() {
            let link = self.links.out.get_mut(&to);
            let Some(feed) = link.and_then(|link| link.feeds.get_mut(&message_stream)) else {
                continue;
            };
            if Some(feed.order.term) != term {
                if let Some(reader) = &mut feed.reader {
                    reader.stop_at(from);
                }
            } else if feed.reader.is_none() {
                self.open_reader(to, message_stream);
            }
        }
        beginning
    }

    /// A stream comes another way.
    pub(super) fn repath(&mut self, stream: StreamId, path: &Path, now: Duration) {
        if let Some(home) = self.moved_to(stream) {
            let mail = LinkMail::Repath { stream, path: Arc::clone(path) };
            return self.mailbox.send(home, Mail::Link(Box::new(mail)));
        }
        let Some(local) = self.streams.find(stream) else { return };
        let Some(entry) = self.streams.get(local) else { return };
        let message_stream = entry.fed.message_stream;
        for to in entry.fed.to.clone() {
            let link = self.links.out.get_mut(&to);
            if let Some(feed) = link.and_then(|link| link.feeds.get_mut(&message_stream)) {
                feed.order.path = Arc::clone(path);
                self.say_at(to, message_stream, now);
            }
        }
    }

    /// A node is fed a stream no longer.
    pub(super) fn stop_feed(&mut self, stream: StreamId, to: NodeKey) {
        if let Some(home) = self.moved_to(stream) {
            let mail = LinkMail::StopFeed { stream, to };
            return self.mailbox.send(home, Mail::Link(Box::new(mail)));
        }
        let Some(local) = self.streams.find(stream) else { return };
        let Some(entry) = self.streams.get(local) else { return };
        let message_stream = entry.fed.message_stream;
        self.end_feed(to, message_stream, local);
    }

    /// The other node does not want a stream.
    pub(super) fn not_wanted(&mut self, to: NodeKey, message_stream: u32) {
        let feed = self.links.out.get(&to).and_then(|link| link.feeds.get(&message_stream));
        let Some((local, order)) = feed.map(|feed| (feed.local, feed.order.clone())) else {
            return;
        };
        // It may be that what was not wanted is over by now, and this is the next offer.
        self.end_feed(to, message_stream, local);
        self.feed_ended(&order);
    }

    /// A stream cannot be fed to a node any longer, and the machine is told.
    pub(super) fn let_go(&mut self, to: NodeKey, message_stream: u32, local: usize) {
        let feed = self.links.out.get(&to).and_then(|link| link.feeds.get(&message_stream));
        let order = feed.map(|feed| feed.order.clone());
        self.end_feed(to, message_stream, local);
        if let Some(order) = order {
            self.feed_ended(&order);
        }
    }

    /// Ends a feed and says so to the other node.
    fn end_feed(&mut self, to: NodeKey, message_stream: u32, local: usize) {
        let offered = self.links.out.get(&to).is_some_and(|link| link.up);
        if self.forget_feed(to, message_stream, local)
            && offered
            && let Some(link) = self.links.out.get_mut(&to)
        {
            // The connection may be at hand elsewhere: it is said before whatever else is.
            link.ended.push(message_stream);
            self.links.woken.push(to);
        }
    }

    fn forget_feed(&mut self, to: NodeKey, message_stream: u32, local: usize) -> bool {
        if let Some(entry) = self.streams.get_mut(local) {
            entry.fed.to.retain(|known| *known != to);
        }
        let Some(link) = self.links.out.get_mut(&to) else { return false };
        let Some(feed) = link.feeds.remove(&message_stream) else { return false };
        link.active.retain(|active| *active != message_stream);
        if let Some(reader) = &feed.reader {
            self.hub.close_feed(feed.log, reader);
        }
        true
    }

    /// The worker that became a stream's home while what the machine asks for was on its way here.
    fn moved_to(&self, stream: StreamId) -> Option<WorkerIndex> {
        let entry = self.streams.get(self.streams.find(stream)?)?;
        match entry.place {
            Place::There { home, .. } if entry.granted.is_none() && home != self.index() => {
                Some(home)
            }
            _ => None,
        }
    }

    fn feed_ended(&mut self, order: &FeedOrder) {
        let (name, to, number) = (Arc::clone(&order.name), order.to, order.number);
        self.tell_seat(LinkMail::FeedEnded { name, to, number });
    }

    /// A stream is gone from this worker, and with it whatever was fed of it.
    pub(in crate::worker) fn end_feeds(&mut self, local: usize) {
        let Some(entry) = self.streams.get(local) else { return };
        let message_stream = entry.fed.message_stream;
        for to in entry.fed.to.clone() {
            self.let_go(to, message_stream, local);
        }
    }

    /// A stream has a new home: what was fed from here is fed from there.
    pub(in crate::worker) fn hand_over_feeds(&mut self, local: usize, home: WorkerIndex) {
        let Some(entry) = self.streams.get(local) else { return };
        let (message_stream, stream) = (entry.fed.message_stream, entry.id);
        for to in entry.fed.to.clone() {
            let feed = self.links.out.get(&to).and_then(|link| link.feeds.get(&message_stream));
            let order = feed.map(|feed| feed.order.clone());
            self.end_feed(to, message_stream, local);
            if let Some(order) = order {
                self.mailbox.send(home, Mail::Link(Box::new(LinkMail::Feed { stream, order })));
            }
        }
    }

    /// The link to a node is gone.
    pub(super) fn end_out_link(&mut self, to: NodeKey) {
        let Some(link) = self.links.out.remove(&to) else { return };
        if let Some(token) = link.token {
            self.links.dialling.remove(&token);
        }
        for feed in link.feeds.into_values() {
            if let Some(reader) = &feed.reader {
                self.hub.close_feed(feed.log, reader);
            }
            if let Some(entry) = self.streams.get_mut(feed.local) {
                entry.fed.to.retain(|known| *known != to);
            }
            tracing::debug!(node = %to, address = %link.address, stream = ?feed.stream, "not fed");
            self.feed_ended(&feed.order);
        }
    }

    /// Players on other nodes that depend on a stream of this worker.
    pub(super) fn players_downstream(&self, local: usize) -> u32 {
        let Some(entry) = self.streams.get(local) else { return 0 };
        let feeds = entry
            .fed
            .to
            .iter()
            .filter_map(|to| self.links.out.get(to)?.feeds.get(&entry.fed.message_stream));
        feeds.fold(0, |sum, feed| sum.saturating_add(feed.players.unwrap_or(0)))
    }

    /// Whether a connection feeds a node.
    pub(super) fn is_feeding(link: &LinkConnection) -> bool {
        matches!(link.kind, Kind::Feeding(_))
    }
}
