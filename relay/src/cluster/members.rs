//! Who is there: connections that greet, nodes that are known, and the one connection that each
//! pair keeps.
//!
//! A node is known from its greeting until nothing was heard of it for `node_silence_max`, it said
//! that it leaves, or a later process of its name appeared. A connection that breaks does not end
//! it: until then another one may take its place, and everything is told anew on that. Of two
//! connections of a pair the one dialled by the smaller id stays; of two that the same side
//! dialled, the newer one, because who dials again has lost the older one. Only the connection that
//! stays is read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::chance::Chance;
use super::clock::{ClockFilter, ClockOffset, RoundTrip, micros};
use super::command::{Command, Line, Note};
use super::deadlines::Deadlines;
use super::hello::{Binding, Credentials, Greeted, Greeting, Met, Role, refused};
use super::identity::{Identity, NodeKey};
use super::message::{Beat, Message};
use super::outbox::Outbox;
use super::places::Places;
use super::refusal::Refusal;
use crate::limits::Limits;

/// Nodes and connections.
#[derive(Debug)]
pub(super) struct Members {
    credentials: Arc<Credentials>,
    limits: Arc<Limits>,
    chance: Chance,
    peers: BTreeMap<NodeKey, Peer>,
    /// The newest process of each name.
    names: BTreeMap<Arc<str>, NodeKey>,
    lines: BTreeMap<Line, LineState>,
    places: Places,
    deadlines: Deadlines<Due>,
    /// Accepted connections that have not greeted.
    strangers: usize,
    spare_kbit: u32,
    draining: bool,
    full: bool,
}

/// A known node.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) identity: Identity,
    /// The connection, unless it broke a moment ago.
    pub(super) line: Option<Line>,
    /// Where it takes links.
    pub(super) address: SocketAddr,
    /// The version that is spoken with it.
    pub(super) version: u16,
    heard: Duration,
    clock: ClockFilter,
    /// Its newest beat: its time, and ours when it came.
    beat: Option<(u64, Duration)>,
    /// What it could still send, less what was asked of it since it said so.
    pub(super) spare_kbit: u32,
    /// It wants to feed nobody.
    pub(super) draining: bool,
    /// It takes no more players.
    pub(super) full: bool,
    /// Where clients reach it.
    pub(super) doors: Arc<[Arc<str>]>,
}

#[derive(Debug)]
enum LineState {
    Greeting { greeting: Option<Box<Greeting>>, address: SocketAddr },
    Up { peer: NodeKey },
}

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Of all peers at once: this node wakes once for all of them.
    Beat,
    /// Of one that has missed a beat; the others are looked at when this node beats.
    Silence(NodeKey),
    Greeting(Line),
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// A node has a new connection: everything is to be told to it. An older process of its name
    /// is to be lost.
    Connected { key: NodeKey, older: Option<NodeKey> },
    /// A node drains, or no longer.
    Changed(NodeKey),
    /// A node is gone.
    Gone(NodeKey),
    /// A node says this.
    Says(NodeKey, Message),
}

impl Members {
    pub(super) fn new(
        credentials: &Arc<Credentials>,
        limits: &Arc<Limits>,
        seed: [u8; 32],
    ) -> Self {
        Self {
            credentials: Arc::clone(credentials),
            limits: Arc::clone(limits),
            chance: Chance::new(seed),
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            lines: BTreeMap::new(),
            places: Places::default(),
            deadlines: Deadlines::default(),
            strangers: 0,
            spare_kbit: u32::MAX,
            draining: false,
            full: false,
        }
    }

    pub(super) fn set_limits(&mut self, limits: &Arc<Limits>) {
        self.limits = Arc::clone(limits);
    }

    pub(super) fn peer(&self, key: NodeKey) -> Option<&Peer> {
        self.peers.get(&key)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Peers, connections, addresses and deadlines.
    pub(super) fn usage(&self) -> (usize, usize, usize, usize) {
        (self.peers.len(), self.lines.len(), self.places.len(), self.deadlines.len())
    }

    /// What this node could still send, and whether it wants to feed nobody.
    pub(super) fn own_spare(&self) -> (u32, bool) {
        (self.spare_kbit, self.draining)
    }

    /// A node, which may be this one, is asked to send so much more. `u32::MAX` is without bounds.
    pub(super) fn promise(&mut self, key: NodeKey, kbit: u32) {
        let spare = match self.peers.get_mut(&key) {
            Some(peer) => &mut peer.spare_kbit,
            None => &mut self.spare_kbit,
        };
        if *spare < u32::MAX {
            *spare = spare.saturating_sub(kbit);
        }
    }

    pub(super) fn set_spare(&mut self, spare_kbit: u32, draining: bool) {
        (self.spare_kbit, self.draining) = (spare_kbit, draining);
    }

    /// Whether this node has as many players as it may.
    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// This node is on its way out, which the others are told at once.
    pub(super) fn drain(&mut self, now: Duration, out: &mut Outbox) {
        if !std::mem::replace(&mut self.draining, true) {
            let keys: Vec<NodeKey> = self.peers.keys().copied().collect();
            for key in keys {
                self.beat(key, now, out);
            }
        }
    }

    /// A node says where clients reach it.
    pub(super) fn set_doors(&mut self, key: NodeKey, doors: Arc<[Arc<str>]>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.doors = doors;
        }
    }

    /// The list of peers, as DNS answered or as it was configured.
    pub(super) fn addresses(&mut self, list: &[SocketAddr], now: Duration, out: &mut Outbox) {
        let (limits, chance) = (&self.limits, &mut self.chance);
        self.places.list(list, limits, chance, now, out);
        self.dial(now, out);
    }

    pub(super) fn accepted(
        &mut self,
        line: Line,
        from: SocketAddr,
        binding: Binding,
        now: Duration,
        out: &mut Outbox,
    ) {
        if self.strangers >= self.limits.cluster_strangers_max {
            out.counters.strangers_refused += 1;
            out.push(Command::Close { line });
            return;
        }
        self.strangers += 1;
        let greeting = Greeting::accept(&self.credentials, self.chance.nonce(), binding);
        let state = LineState::Greeting { greeting: Some(Box::new(greeting)), address: from };
        self.lines.insert(line, state);
        self.deadlines.set(Due::Greeting(line), now + self.limits.cluster_hello_timeout);
    }

    /// A connection that was to be dialled is open.
    pub(super) fn dialled(&mut self, line: Line, binding: Binding, out: &mut Outbox) {
        let Some(LineState::Greeting { greeting, .. }) = self.lines.get_mut(&line) else { return };
        if greeting.is_none() {
            let nonce = self.chance.nonce();
            let (dial, hello) = Greeting::dial(&self.credentials, Role::Control, nonce, binding);
            *greeting = Some(Box::new(dial));
            out.send(line, hello);
        }
    }

    /// A connection broke, or could not be opened.
    pub(super) fn closed(&mut self, line: Line, now: Duration) {
        self.forget(line, now);
    }

    /// A message came.
    pub(super) fn received(
        &mut self,
        line: Line,
        payload: &[u8],
        now: Duration,
        out: &mut Outbox,
    ) -> Option<Membership> {
        out.counters.received += 1;
        out.counters.received_bytes += u64::try_from(payload.len()).unwrap_or(u64::MAX);
        match self.lines.get_mut(&line)? {
            LineState::Greeting { greeting, .. } => {
                let greeted = greeting.as_mut()?.receive(payload, &self.limits);
                self.greeted(line, greeted, now, out)
            }
            LineState::Up { peer } => {
                let key = *peer;
                match Message::decode(payload, &self.limits) {
                    Ok(Some(message)) => self.hear(line, key, message, now, out),
                    Ok(None) => {
                        out.counters.unknown += 1;
                        self.note_heard(key, now);
                        None
                    }
                    Err(_) => {
                        self.refuse(
                            line,
                            Refusal::Malformed,
                            Some(refused(Refusal::Malformed)),
                            now,
                            out,
                        );
                        None
                    }
                }
            }
        }
    }

    fn note_heard(&mut self, key: NodeKey, now: Duration) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.heard = now;
        }
    }

    fn hear(
        &mut self,
        line: Line,
        key: NodeKey,
        message: Message,
        now: Duration,
        out: &mut Outbox,
    ) -> Option<Membership> {
        self.note_heard(key, now);
        match message {
            Message::Beat(beat) => {
                let peer = self.peers.get_mut(&key)?;
                if let Some((sent, held)) = beat.echo {
                    peer.clock.add(RoundTrip { sent, held, there: beat.at, now: micros(now) });
                }
                peer.beat = Some((beat.at, now));
                (peer.spare_kbit, peer.full) = (beat.spare_kbit, beat.full);
                let changed = std::mem::replace(&mut peer.draining, beat.draining) != beat.draining;
                changed.then_some(Membership::Changed(key))
            }
            Message::Bye => self.lose(key, Refusal::Left, now, out),
            Message::Refused(why) => {
                let address = self.peers.get(&key)?.address;
                out.counters.turn_away(why);
                out.push(Command::Note(Note::TurnedAway(address, why)));
                out.push(Command::Close { line });
                self.forget(line, now);
                None
            }
            message => Some(Membership::Says(key, message)),
        }
    }

    fn greeted(
        &mut self,
        line: Line,
        greeted: Greeted,
        now: Duration,
        out: &mut Outbox,
    ) -> Option<Membership> {
        match greeted {
            Greeted::Reply(payload) => out.send(line, payload),
            Greeted::Refused(why, payload) => self.refuse(line, why, payload, now, out),
            Greeted::TurnedAway(why, by) => {
                if let Some(LineState::Greeting { address, .. }) = self.lines.get(&line) {
                    out.counters.turn_away(why);
                    let is_up =
                        |key: &NodeKey| self.peers.get(key).is_some_and(|peer| peer.line.is_some());
                    match (why, by.filter(is_up)) {
                        (Refusal::Oneself, _) => self.places.is_oneself(*address),
                        (Refusal::Duplicate, Some(key)) => self.places.belongs(*address, key),
                        (Refusal::Duplicate, None) => {}
                        _ => out.push(Command::Note(Note::TurnedAway(*address, why))),
                    }
                }
                out.push(Command::Close { line });
                self.forget(line, now);
            }
            Greeted::Done(met, payload) => match self.judge(line, &met) {
                Ok(()) => {
                    if let Some(payload) = payload {
                        out.send(line, payload);
                    }
                    return self.meet(line, met, now, out);
                }
                Err(why) => {
                    if let Some(LineState::Greeting { address, .. }) = self.lines.get(&line)
                        && why == Refusal::Duplicate
                    {
                        self.places.belongs(*address, met.identity.key);
                    }
                    self.refuse(line, why, Some(refused(why)), now, out);
                }
            },
        }
        None
    }

    /// Whether a node that greeted well is taken in over this connection.
    fn judge(&self, line: Line, met: &Met) -> Result<(), Refusal> {
        let own = &self.credentials.identity;
        let theirs = &met.identity;
        if met.role != Role::Control {
            return Err(Refusal::Malformed);
        }
        // The other one finds the same; whoever knows both keeps the later one.
        if own.name == theirs.name {
            return Err(Refusal::Replaced);
        }
        if let Some(known) = self.peers.get(&theirs.key) {
            if known.identity.name != theirs.name {
                return Err(Refusal::SameKey);
            }
            return match known.line {
                Some(old) if !self.stays(line, old, own, theirs) => Err(Refusal::Duplicate),
                _ => Ok(()),
            };
        }
        let namesake = self.names.get(&theirs.name).and_then(|key| self.peers.get(key));
        match namesake {
            Some(peer) if !theirs.replaces(&peer.identity) => Err(Refusal::Replaced),
            Some(_) => Ok(()),
            None if self.peers.len() + 1 >= self.limits.nodes_max => Err(Refusal::TooManyNodes),
            None => Ok(()),
        }
    }

    /// Whether of two connections of a pair the new one stays.
    fn stays(&self, new: Line, old: Line, own: &Identity, theirs: &Identity) -> bool {
        match (new, old) {
            (Line::Dialled(_), Line::Accepted(_)) => own.dials_for(theirs),
            (Line::Accepted(_), Line::Dialled(_)) => theirs.dials_for(own),
            _ => true,
        }
    }

    fn meet(
        &mut self,
        line: Line,
        met: Met,
        now: Duration,
        out: &mut Outbox,
    ) -> Option<Membership> {
        let Some(LineState::Greeting { address, .. }) = self.lines.get(&line) else { return None };
        let mut address = *address;
        let mut older = None;
        out.counters.greeted += 1;
        out.push(Command::Met { line, zone: Arc::clone(&met.identity.zone) });
        self.deadlines.cancel(&Due::Greeting(line));
        let (key, identity) = (met.identity.key, met.identity);
        match line {
            Line::Accepted(_) => {
                self.strangers -= 1;
                address.set_port(identity.link_port);
            }
            Line::Dialled(_) => {}
        }
        self.lines.insert(line, LineState::Up { peer: key });
        self.places.belongs(address, key);
        if let Some(peer) = self.peers.get_mut(&key) {
            let old = peer.line.replace(line);
            peer.heard = now;
            peer.address = address;
            if let Some(old) = old {
                out.counters.refuse(Refusal::Duplicate);
                out.push(Command::Close { line: old });
                self.lines.remove(&old);
            }
        } else {
            out.push(Command::Note(Note::Joined(identity.clone())));
            let peer = Peer {
                identity,
                line: Some(line),
                address,
                version: met.version,
                heard: now,
                clock: ClockFilter::default(),
                beat: None,
                spare_kbit: u32::MAX,
                draining: false,
                full: false,
                doors: Arc::default(),
            };
            if self.peers.is_empty() {
                self.deadlines.set(Due::Beat, now + self.limits.heartbeat_interval);
            }
            older = self.names.insert(Arc::clone(&peer.identity.name), key);
            self.peers.insert(key, peer);
        }
        self.beat(key, now, out);
        Some(Membership::Connected { key, older })
    }

    /// A node is gone for good.
    pub(super) fn lose(
        &mut self,
        key: NodeKey,
        why: Refusal,
        now: Duration,
        out: &mut Outbox,
    ) -> Option<Membership> {
        let peer = self.peers.get_mut(&key)?;
        if let Some(line) = peer.line {
            out.send(line, refused(why));
            out.push(Command::Close { line });
            self.forget(line, now);
        }
        let peer = self.peers.remove(&key)?;
        out.counters.refuse(why);
        self.deadlines.cancel(&Due::Silence(key));
        if self.names.get(&peer.identity.name) == Some(&key) {
            self.names.remove(&peer.identity.name);
        }
        out.push(Command::Note(Note::Lost(peer.identity, why)));
        self.places.gone(key, &mut self.chance, now);
        Some(Membership::Gone(key))
    }

    fn refuse(
        &mut self,
        line: Line,
        why: Refusal,
        payload: Option<Bytes>,
        now: Duration,
        out: &mut Outbox,
    ) {
        let address = match self.lines.get(&line) {
            Some(LineState::Greeting { address, .. }) => Some(*address),
            Some(LineState::Up { peer }) => self.peers.get(peer).map(|peer| peer.address),
            None => return,
        };
        out.counters.refuse(why);
        // What follows from a peer list that names this node, or from two nodes that dial each
        // other at once, is no news.
        if let Some(address) = address
            && !matches!(why, Refusal::Duplicate | Refusal::Oneself)
        {
            out.push(Command::Note(Note::Refused(address, why)));
        }
        if let (Some(address), Refusal::Oneself) = (address, why) {
            self.places.is_oneself(address);
        }
        if let Some(payload) = payload {
            out.send(line, payload);
        }
        out.push(Command::Close { line });
        self.forget(line, now);
    }

    /// A connection is no more.
    fn forget(&mut self, line: Line, now: Duration) {
        match self.lines.remove(&line) {
            None => {}
            Some(LineState::Greeting { address, .. }) => {
                self.deadlines.cancel(&Due::Greeting(line));
                match line {
                    Line::Accepted(_) => self.strangers -= 1,
                    Line::Dialled(_) => {
                        self.places.failed(address, &self.limits, &mut self.chance, now);
                    }
                }
            }
            Some(LineState::Up { peer: key }) => {
                if let Some(peer) = self.peers.get_mut(&key)
                    && peer.line == Some(line)
                {
                    peer.line = None;
                    let silent = peer.heard + self.limits.node_silence_max;
                    self.deadlines.set(Due::Silence(key), silent);
                    self.places.gone(key, &mut self.chance, now);
                }
            }
        }
    }

    /// Does what is due; whoever is gone comes back one by one.
    pub(super) fn tick(&mut self, now: Duration, out: &mut Outbox) -> Option<Membership> {
        while let Some(due) = self.deadlines.pop(now) {
            match due {
                Due::Beat => self.beat_all(now, out),
                Due::Greeting(line) => {
                    let state = self.lines.get(&line);
                    let open = matches!(state, Some(LineState::Greeting { greeting: Some(_), .. }));
                    let payload = open.then(|| refused(Refusal::Timeout));
                    self.refuse(line, Refusal::Timeout, payload, now, out);
                }
                Due::Silence(key) => {
                    let Some(peer) = self.peers.get(&key) else { continue };
                    let until = peer.heard + self.limits.node_silence_max;
                    if until > now {
                        // Heard again; the next beat looks after it, unless it has no connection.
                        if peer.line.is_none() {
                            self.deadlines.set(due, until);
                        }
                    } else if let Some(gone) = self.lose(key, Refusal::Silence, now, out) {
                        return Some(gone);
                    }
                }
            }
        }
        self.dial(now, out);
        None
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.deadlines.next().into_iter().chain(self.places.next(&self.limits)).min()
    }

    fn dial(&mut self, now: Duration, out: &mut Outbox) {
        while let Some((line, address)) = self.places.dial(&self.limits, now) {
            let state = LineState::Greeting { greeting: None, address };
            self.lines.insert(line, state);
            self.deadlines.set(Due::Greeting(line), now + self.limits.cluster_hello_timeout);
            out.counters.dialled += 1;
            out.push(Command::Dial { line, address });
        }
    }

    fn beat_all(&mut self, now: Duration, out: &mut Outbox) {
        let next = now + self.limits.heartbeat_interval;
        let keys: Vec<NodeKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.beat(key, now, out);
            let Some(peer) = self.peers.get(&key) else { continue };
            let silent = peer.heard + self.limits.node_silence_max;
            if silent <= next {
                self.deadlines.set(Due::Silence(key), silent.max(now));
            }
        }
        if !self.peers.is_empty() {
            self.deadlines.set(Due::Beat, next);
        }
    }

    fn beat(&mut self, key: NodeKey, now: Duration, out: &mut Outbox) {
        let Some(peer) = self.peers.get(&key) else { return };
        let Some(line) = peer.line else { return };
        let echo = peer.beat.map(|(at, came)| (at, micros(now.saturating_sub(came))));
        let (spare_kbit, draining, full) = (self.spare_kbit, self.draining, self.full);
        let beat = Beat { at: micros(now), echo, spare_kbit, draining, full };
        out.send(line, Message::Beat(beat).encode());
    }

    /// How far a node's clock is from ours.
    pub(super) fn clock(&self, key: NodeKey) -> Option<ClockOffset> {
        self.peers.get(&key)?.clock.offset()
    }
}
