//! The machine as its driver sees it: what happened goes in with the time, commands come out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::clock::ClockOffset;
use super::command::{Command, Line, Note, Path};
use super::context::Context;
use super::counters::{Counters, Usage};
use super::deadlines::Deadlines;
use super::entry::{Entry, Fate, Local};
use super::hello::Binding;
use super::identity::{EPOCH_MAX, Identity, NodeKey, Term};
use super::members::{Members, Membership};
use super::message::{Announced, Digest, Message, Part, Phase};
use super::orders::Orders;
use super::outbox::Outbox;
use super::refusal::Refusal;
use super::settings::Settings;
use super::told::Told;
use crate::limits::Limits;

/// One node's part of the cluster. Every method takes the node's time since its start; after each
/// call the commands are to be taken by [`Self::next_command`], and [`Self::tick`] is to be called
/// when [`Self::next_due`] says so.
#[derive(Debug)]
pub struct Cluster {
    pub(super) settings: Settings,
    pub(super) members: Members,
    pub(super) out: Outbox,
    pub(super) streams: BTreeMap<Arc<str>, Entry>,
    /// Streams with a source on this node.
    pub(super) own: BTreeSet<Arc<str>>,
    /// Streams that this node reads or wants to.
    pub(super) reading: BTreeSet<Arc<str>>,
    /// Streams that this node feeds to others.
    pub(super) feeding: BTreeSet<Arc<str>>,
    /// What each peer has told.
    pub(super) told: BTreeMap<NodeKey, Told>,
    pub(super) digest: Digest,
    pub(super) orders: Orders,
    due: Deadlines<Arc<str>>,
    refresh: Duration,
    /// The highest epoch that was given out here for a name that is forgotten: other nodes may
    /// remember it, and must not take another source for that one.
    given: u64,
}

/// What becomes of a publisher whose stream has one on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It takes the stream over.
    Takeover,
    /// It is refused.
    Reject,
}

/// Why a publisher is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRefused {
    /// Another node has a publisher of that name.
    Busy,
    /// `streams_max` is reached, or the name has been fought over beyond all reason.
    TooMany,
}

impl fmt::Display for ClaimRefused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Busy => "another node has a publisher of that name",
            Self::TooMany => {
                "streams_max names are published, or a node announces this one with the last \
                 epoch there is"
            }
        })
    }
}

/// A known node, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Who it is.
    pub identity: Identity,
    /// Where it takes links.
    pub address: SocketAddr,
    /// Whether there is a connection; one that broke may come back within `node_silence_max`.
    pub connected: bool,
    /// The version of the protocol that is spoken with it.
    pub version: u16,
    /// Its clock.
    pub clock: Option<ClockOffset>,
    /// Whether it drains.
    pub draining: bool,
    /// Whether it takes no more players.
    pub full: bool,
    /// What it could still send, in kbit/s, as far as is known here; `u32::MAX`: without bounds.
    pub spare_kbit: u32,
    /// Where clients reach it.
    pub doors: Arc<[Arc<str>]>,
    /// Where it answers operators, as it says itself.
    pub operators: Option<SocketAddr>,
    /// Streams that it announced.
    pub streams: usize,
}

/// What this node has of a stream, for operators and for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamView {
    /// The source that counts.
    pub term: Option<Term>,
    /// The source that this node reads.
    pub source: Option<(NodeKey, Term)>,
    /// Whether this node has a source of it, pending ones included.
    pub local: bool,
    /// Nodes that this node feeds.
    pub feeds: Vec<NodeKey>,
    /// Places given out, if this node is the origin.
    pub placed: usize,
}

impl Cluster {
    /// A node that knows nobody.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let members = Members::new(&settings.credentials, &settings.limits, settings.seed);
        Self {
            settings,
            members,
            out: Outbox::default(),
            streams: BTreeMap::new(),
            own: BTreeSet::new(),
            reading: BTreeSet::new(),
            feeding: BTreeSet::new(),
            told: BTreeMap::new(),
            digest: Digest::default(),
            orders: Orders::default(),
            due: Deadlines::default(),
            refresh: Duration::ZERO,
            given: 0,
        }
    }

    /// Takes the next thing to do.
    pub fn next_command(&mut self) -> Option<Command> {
        let command = self.out.pop();
        if command.is_none() {
            self.out.shrink();
        }
        command
    }

    /// When [`Self::tick`] is to be called.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let due = self.due.next().into_iter().chain(self.members.next());
        due.chain((!self.own.is_empty() || !self.told.is_empty()).then_some(self.refresh)).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        while let Some(gone) = self.members.tick(now, &mut self.out) {
            self.membership(gone, now);
        }
        while let Some(name) = self.due.pop(now) {
            self.settle(&name, now);
        }
        if self.refresh <= now {
            self.refresh = now + self.settings.limits.directory_refresh;
            self.refresh(now);
        }
    }

    /// The peer list as it was looked up last: every address, unready nodes and this one included.
    /// To be called again whenever it was looked up; not when that failed.
    pub fn addresses(&mut self, list: &[SocketAddr], now: Duration) {
        self.members.addresses(list, now, &mut self.out);
    }

    /// A control connection was accepted.
    pub fn accepted(&mut self, line: Line, from: SocketAddr, binding: Binding, now: Duration) {
        self.members.accepted(line, from, binding, now, &mut self.out);
    }

    /// A connection that was to be dialled is open.
    pub fn dialled(&mut self, line: Line, binding: Binding) {
        self.members.dialled(line, binding, &mut self.out);
    }

    /// A connection broke, or could not be opened.
    pub fn closed(&mut self, line: Line, now: Duration) {
        self.members.closed(line, now);
    }

    /// The payload of a data message came.
    pub fn received(&mut self, line: Line, payload: &[u8], now: Duration) {
        if let Some(event) = self.members.received(line, payload, now, &mut self.out) {
            self.membership(event, now);
        }
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: &Arc<Limits>) {
        self.settings.limits = Arc::clone(limits);
        self.members.set_limits(limits);
    }

    /// Whether a local publisher that takes over whatever there is would be let in.
    ///
    /// # Errors
    /// When it would be refused.
    pub fn may_claim(&self, name: &str) -> Result<(), ClaimRefused> {
        let (known, epoch) = (self.streams.get(name), self.next_epoch(name));
        let is_own = known.is_some_and(|entry| entry.local.is_some());
        let is_full = self.own.len() >= self.settings.limits.streams_max;
        if !is_own && (epoch > EPOCH_MAX || is_full) { Err(ClaimRefused::TooMany) } else { Ok(()) }
    }

    /// A local publisher asks for a name. Once granted, the node is to say when the stream is
    /// [`live`](Self::live). Until then an older source plays on, but not here: what this node read
    /// of that ends, and whom it fed is fed by others.
    ///
    /// # Errors
    /// When it is refused.
    pub fn claim(
        &mut self,
        name: &Arc<str>,
        conflict: Conflict,
        now: Duration,
    ) -> Result<Term, ClaimRefused> {
        let me = self.settings.credentials.identity.key;
        let known = self.streams.get(name);
        if let Some(local) = known.and_then(|entry| entry.local) {
            if local.phase == Phase::Resting {
                self.change(name, Phase::Live, now);
            }
            return Ok(local.term(me));
        }
        if conflict == Conflict::Reject && self.is_busy(name) {
            return Err(ClaimRefused::Busy);
        }
        let epoch = self.next_epoch(name);
        self.may_claim(name)?;
        let entry = self.streams.entry(Arc::clone(name)).or_default();
        (entry.highest, entry.given) = (epoch, epoch);
        let local = Local { epoch, phase: Phase::Pending, rate_kbit: 0 };
        entry.local = Some(local);
        self.own.insert(Arc::clone(name));
        self.digest.add(name, epoch, Phase::Pending);
        self.announce(name, local, now);
        self.settle(name, now);
        Ok(local.term(me))
    }

    /// The first key frame of a local publisher is there, or it turned out to have no video.
    pub fn live(&mut self, name: &Arc<str>, now: Duration) {
        self.change(name, Phase::Live, now);
    }

    /// A local publisher is gone; the name stays for the stream's grace.
    pub fn resting(&mut self, name: &Arc<str>, now: Duration) {
        let phase = self.streams.get(name).and_then(|entry| entry.local).map(|local| local.phase);
        if phase == Some(Phase::Pending) {
            // Nobody has seen it.
            self.released(name, now);
        } else {
            self.change(name, Phase::Resting, now);
        }
    }

    /// The grace is over: the name is not this node's any more.
    pub fn released(&mut self, name: &Arc<str>, now: Duration) {
        let Some(entry) = self.streams.get_mut(name) else { return };
        let Some(local) = entry.local.take() else { return };
        let (_, mut ctx) = self.split(now);
        ctx.withdraw(name, local);
        self.settle(name, now);
    }

    /// What feeding a local stream to one node takes, in kbit/s. Told with the next announcement.
    pub fn set_rate(&mut self, name: &Arc<str>, kbit: u32) {
        if let Some(local) = self.streams.get_mut(name).and_then(|entry| entry.local.as_mut()) {
            local.rate_kbit = kbit;
        }
    }

    /// The first player of a stream came to this node, wherever it is published, if at all.
    pub fn wanted(&mut self, name: &Arc<str>, now: Duration) {
        let entry = self.streams.entry(Arc::clone(name)).or_default();
        entry.reception.get_or_insert_default().set_players(true, now);
        self.reading.insert(Arc::clone(name));
        self.settle(name, now);
    }

    /// The last player of a stream left this node.
    pub fn unwanted(&mut self, name: &Arc<str>, now: Duration) {
        let until = now + self.settings.link_linger;
        let entry = self.streams.get_mut(name);
        if let Some(reception) = entry.and_then(|entry| entry.reception.as_mut()) {
            reception.set_players(false, until);
            self.settle(name, now);
        }
    }

    /// A peer feeds a stream, as its [`At`](super::message::At) says: at first, after each jump,
    /// and when it is heard again after it was [`quiet`](Self::quiet). Bytes that follow are held
    /// back until [`Command::Adopt`] or [`Command::Drop`].
    pub fn fed(&mut self, name: &Arc<str>, from: NodeKey, term: Term, path: &Path, now: Duration) {
        let (streams, mut ctx) = self.split(now);
        let entry = streams.get_mut(name);
        let holds = entry.as_ref().is_some_and(|entry| entry.local.is_some());
        match entry.and_then(|entry| entry.reception.as_mut()) {
            Some(reception) if !holds => {
                reception.fed(name, from, term, Arc::clone(path), &mut ctx);
                self.settle(name, now);
            }
            _ => {
                ctx.out.counters.unasked += 1;
                ctx.drop_link(name, from);
            }
        }
    }

    /// Nothing came of a stream from a peer for `link_silence`.
    pub fn quiet(&mut self, name: &Arc<str>, from: NodeKey, now: Duration) {
        if let Some(reception) = self.reception(name) {
            reception.quiet(from, now);
            self.settle(name, now);
        }
    }

    /// A peer feeds a stream no longer: it said so, or its link broke.
    pub fn unfed(&mut self, name: &Arc<str>, from: NodeKey, now: Duration) {
        if let Some(reception) = self.reception(name) {
            reception.unfed(from);
            self.settle(name, now);
        }
    }

    /// What a peer feeds cannot be taken in here, for want of room: it is asked for again, but not
    /// at once.
    pub fn declined(&mut self, name: &Arc<str>, from: NodeKey, now: Duration) {
        let (streams, mut ctx) = self.split(now);
        let entry = streams.get_mut(name);
        if let Some(reception) = entry.and_then(|entry| entry.reception.as_mut()) {
            reception.decline(name, from, &mut ctx);
            self.settle(name, now);
        }
    }

    /// What was to be fed to a peer was refused there, its link broke, or could not be opened.
    pub fn feed_ended(&mut self, name: &Arc<str>, to: NodeKey, now: Duration) {
        let (streams, mut ctx) = self.split(now);
        if let Some(entry) = streams.get_mut(name) {
            entry.feed_ended(name, to, &mut ctx);
            self.settle(name, now);
        }
    }

    /// What this node could still send, in kbit/s (`u32::MAX`: without bounds), and whether it
    /// drains: then its peers feed from elsewhere. Told with the next heartbeat.
    pub fn set_spare(&mut self, kbit: u32, draining: bool) {
        self.members.set_spare(kbit, draining);
    }

    /// Whether this node has as many players as it may: then others send it none. Told with the
    /// next heartbeat.
    pub fn set_full(&mut self, full: bool) {
        self.members.set_full(full);
    }

    /// This node begins to drain, which the others are told at once: they are fed from elsewhere
    /// from now on, and its publishers stand in the way of nobody.
    pub fn drain(&mut self, now: Duration) {
        self.members.drain(now, &mut self.out);
    }

    /// This node ends now. Nothing is to be called after this.
    pub fn leave(&mut self, now: Duration) {
        let (_, mut ctx) = self.split(now);
        ctx.tell_all(&Message::Bye);
    }

    /// Sums since start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.out.counters
    }

    /// What is held now. Counted one by one.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (peers, lines, addresses, deadlines) = self.members.usage();
        let mut usage = Usage {
            peers,
            lines,
            addresses,
            names: self.streams.len(),
            own: self.own.len(),
            wants: self.reading.len(),
            deadlines: deadlines + self.due.len(),
            ..Usage::default()
        };
        for entry in self.streams.values() {
            usage.claims += entry.claims.len();
            usage.feeds += entry.feeds.len();
            usage.placed += entry.tree.as_ref().map_or(0, super::tree::Tree::len);
            usage.offers += entry.reception.as_ref().map_or(0, |reception| reception.offers());
        }
        usage
    }

    /// How many nodes are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.members.peers().filter(|peer| peer.line.is_some()).count()
    }

    /// The nodes that are known.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.members.peers().map(|peer| PeerView {
            identity: peer.identity.clone(),
            address: peer.address,
            connected: peer.line.is_some(),
            version: peer.version,
            clock: self.members.clock(peer.identity.key),
            draining: peer.draining,
            full: peer.full,
            spare_kbit: peer.spare_kbit,
            doors: Arc::clone(&peer.doors),
            operators: self.told.get(&peer.identity.key).and_then(|told| told.operators),
            streams: self.told.get(&peer.identity.key).map_or(0, |told| told.names.len()),
        })
    }

    /// A peer's clock beside this node's, for the age of what it took in.
    #[must_use]
    pub fn clock(&self, peer: NodeKey) -> Option<ClockOffset> {
        self.members.clock(peer)
    }

    /// Whether another node has a publisher of this name that is connected. One on a node that
    /// drains is on its way, perhaps to here.
    #[must_use]
    pub fn is_busy(&self, name: &str) -> bool {
        let draining = |key| self.members.peer(key).is_some_and(|peer| peer.draining);
        self.streams.get(name).is_some_and(|entry| entry.is_busy(draining))
    }

    /// Whether another node that is there and stays publishes this name, is about to, or waits for
    /// its publisher to come back: then no other need fetch it from outside. One that drains or is
    /// gone keeps nothing, so that others take over what it fetched.
    #[must_use]
    pub fn is_kept(&self, name: &str) -> bool {
        let draining = |key| self.members.peer(key).is_some_and(|peer| peer.draining);
        self.streams.get(name).is_some_and(|entry| entry.is_kept(draining))
    }

    /// Whether other nodes are fed a stream from here: there is somebody who plays it.
    #[must_use]
    pub fn is_fed(&self, name: &str) -> bool {
        self.feeding.contains(name)
    }

    /// What is known of a stream; `None` when nothing is.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<StreamView> {
        let me = self.settings.credentials.identity.key;
        let entry = self.streams.get(name)?;
        let reception = entry.reception.as_ref();
        Some(StreamView {
            term: entry.visible(me),
            source: reception.and_then(|reception| Some((reception.from()?, reception.term()?))),
            local: entry.local.is_some(),
            feeds: entry.feeds.iter().map(|feed| feed.to).collect(),
            placed: entry.tree.as_ref().map_or(0, super::tree::Tree::len),
        })
    }

    /// What the machine knows of a stream, for a failing test to show.
    #[doc(hidden)]
    #[must_use]
    pub fn describe(&self, name: &str) -> String {
        format!("{:?}", self.streams.get(name))
    }

    fn reception(&mut self, name: &str) -> Option<&mut super::reception::Reception> {
        self.streams.get_mut(name)?.reception.as_mut()
    }

    /// The streams, and what dealing with one of them takes.
    pub(super) fn split(&mut self, now: Duration) -> (&mut BTreeMap<Arc<str>, Entry>, Context<'_>) {
        let ctx = Context {
            settings: &self.settings,
            members: &mut self.members,
            out: &mut self.out,
            digest: &mut self.digest,
            now,
        };
        (&mut self.streams, ctx)
    }

    /// Makes true whatever follows from what is known of a stream.
    pub(super) fn settle(&mut self, name: &Arc<str>, now: Duration) {
        let (streams, mut ctx) = self.split(now);
        let Some(entry) = streams.get_mut(name) else { return };
        let fate = entry.settle(name, &mut ctx);
        let (own, reading) = (entry.local.is_some(), entry.reception.is_some());
        let feeding = !entry.feeds.is_empty();
        if !own {
            self.own.remove(name);
        }
        if !reading {
            self.reading.remove(name);
        }
        if !feeding {
            self.feeding.remove(name);
        } else if !self.feeding.contains(name) {
            self.feeding.insert(Arc::clone(name));
        }
        match fate {
            Fate::Kept(Some(at)) => self.due.set(Arc::clone(name), at.max(now)),
            Fate::Kept(None) => self.due.cancel(name),
            Fate::Over => {
                let given = self.streams.remove(name).map_or(0, |entry| entry.given);
                // Who drives one name's epochs to the end does not do so to all names.
                self.given =
                    self.given.max(Some(given).filter(|it| *it < EPOCH_MAX / 2).unwrap_or(0));
                self.due.cancel(name);
            }
        }
    }

    /// The epoch of the next publisher of a name here: never one that was given out here before.
    fn next_epoch(&self, name: &str) -> u64 {
        self.streams.get(name).map_or(0, |entry| entry.highest).max(self.given) + 1
    }

    fn change(&mut self, name: &Arc<str>, phase: Phase, now: Duration) {
        let local = self.streams.get_mut(name).and_then(|entry| entry.local.as_mut());
        let Some(local) = local.filter(|local| local.phase != phase) else { return };
        let before = std::mem::replace(&mut local.phase, phase);
        let local = *local;
        self.digest.remove(name, local.epoch, before);
        self.digest.add(name, local.epoch, phase);
        self.announce(name, local, now);
        self.settle(name, now);
    }

    fn announce(&mut self, name: &Arc<str>, local: Local, now: Duration) {
        let entries = vec![local.announced(name)];
        let (_, mut ctx) = self.split(now);
        ctx.tell_all(&Message::Announce { part: Part::default(), entries });
    }

    fn refresh(&mut self, now: Duration) {
        let digest = Message::Refresh(self.digest);
        let (_, mut ctx) = self.split(now);
        ctx.tell_all(&digest);
        self.forget_stale(now);
    }

    pub(super) fn membership(&mut self, event: Membership, now: Duration) {
        match event {
            Membership::Connected { key, older } => {
                let lost = older.and_then(|older| {
                    self.members.lose(older, Refusal::Replaced, now, &mut self.out)
                });
                if let Some(Membership::Gone(older)) = lost {
                    self.gone(older, now);
                }
                self.greet(key, now);
            }
            Membership::Changed(key) => {
                // Whom it feeds is to be fed by others, and what it has is kept no longer.
                let mut names = self.own.clone();
                names.extend(self.told.get(&key).iter().flat_map(|told| told.names.clone()));
                for name in names {
                    self.settle(&name, now);
                }
            }
            Membership::Gone(key) => self.gone(key, now),
            Membership::Says(key, message) => self.hear(key, message, now),
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.out.push(Command::Note(note));
    }
}

impl Local {
    pub(super) fn announced(&self, name: &Arc<str>) -> Announced {
        let (epoch, phase, rate_kbit) = (self.epoch, self.phase, self.rate_kbit);
        Announced { name: Arc::clone(name), epoch, phase, rate_kbit }
    }
}
