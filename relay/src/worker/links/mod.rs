//! Connections to other nodes: what the cluster's machine decides is carried out here.
//!
//! ```text
//!   worker 0      seat.rs      the machine, the registrar's news to it and its commands
//!   every worker  line.rs      connections between nodes: accepted, dialled, read, sent to, ended
//!                 control.rs   messages between nodes, on their way to worker 0 and from it
//!                 strangers.rs whom there are places for
//!                 feeding.rs   streams at home here that other nodes are fed, one link to each
//!                 tending.rs   what they are looked after for, and what is let go
//!                 pump.rs      what a link is sent next
//!                 taking.rs    streams that other nodes feed
//!                 siblings.rs  the other nodes as places for clients
//!                 secure.rs    TLS under all of it
//!                 shares.rs    what operators are shown of all this
//! ```
//!
//! A stream that another node feeds is published here by its link: the worker that has the link is
//! the stream's home on this node, and the registrar, the hub and the players know no difference.
//! Media is offered first and sent when it is taken up: until then nothing of it crosses.
//!
//! Connections between nodes are none of the table of clients: they have their own, speak
//! [`LinkSession`](crate::session::link::LinkSession) and nothing else, and come by a port of their
//! own. The machine knows control connections only; media links are found by the
//! node that they lead to.

mod control;
mod ending;
mod feeding;
mod line;
mod pump;
mod seat;
mod secure;
mod shares;
mod siblings;
mod strangers;
mod taking;
mod tending;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub(super) use self::feeding::Fed;
use self::feeding::OutLink;
use self::line::{Dialled, LinkConnection};
use self::seat::Seat;
pub use self::secure::LinkTls;
use self::siblings::Siblings;
use super::accept::LastLine;
use super::labels::{LinkRefusal, LinkZone};
use super::local::{LocalStream, Place};
use super::mail::{Party, StreamId};
use crate::cluster::{Binding, ClockOffset, Credentials, Line, NodeKey, Path, Settings, Term};
use crate::reactor::{ConnectionKey, ListenerKey};

/// What a worker of a cluster is given.
pub struct LinkParts {
    /// What the cluster's machine is told.
    pub settings: Settings,
    /// The listener for nodes.
    pub listener: ListenerKey,
    /// Where links are in TLS.
    pub tls: Option<LinkTls>,
}

/// A worker's connections to other nodes.
#[derive(Default)]
pub(super) struct Links {
    /// `None` when there is no cluster.
    credentials: Option<Arc<Credentials>>,
    tls: Option<LinkTls>,
    listener: Option<ListenerKey>,
    /// How long a link without streams stays open.
    linger: Duration,
    /// On worker 0.
    seat: Option<Box<Seat>>,
    connections: HashMap<ConnectionKey, Box<LinkConnection>>,
    /// What is being dialled, by token.
    dialling: BTreeMap<u64, Dialled>,
    tokens: u64,
    /// Accepted connections that have not greeted.
    strangers: usize,
    /// Control connections accepted so far.
    accepted: u64,
    /// The nodes that are fed from here.
    out: BTreeMap<NodeKey, OutLink>,
    /// The last message stream id given to a stream that is fed.
    message_stream: u32,
    /// The other nodes that are known, and their clocks beside ours.
    known: HashMap<NodeKey, Option<ClockOffset>>,
    /// The other nodes as places for clients.
    pub(super) siblings: Siblings,
    /// Streams fed from here, as last added to those of the node.
    fed: usize,
    /// Links with something to be said or sent.
    woken: Vec<NodeKey>,
    /// Links that this worker refused, by reason.
    refused: [u64; LinkRefusal::COUNT],
    /// When a line last told of a connection that was refused.
    told_refusal: LastLine,
}

/// One thing that links and the machine say to each other, from one worker to another.
#[derive(Debug)]
pub(super) enum LinkMail {
    /// To worker 0: a control connection was accepted.
    Opened { line: Line, from: SocketAddr, party: Party, binding: Binding },
    /// To worker 0: a message came on one.
    Heard { line: Line, payload: Bytes },
    /// To worker 0: one broke.
    Closed { line: Line },
    /// To whoever has a control connection: send this.
    Say { connection: ConnectionKey, payload: Bytes },
    /// To whoever has a control connection: close it when all is sent.
    Close { connection: ConnectionKey },
    /// To worker 0: a node offers a stream on this link, or says how it comes there.
    Fed { name: Arc<str>, from: NodeKey, term: Term, path: Path, by: Party },
    /// To worker 0: nothing came of it for a while.
    Quiet { name: Arc<str>, from: NodeKey, by: Party },
    /// To worker 0: it is offered no longer.
    Unfed { name: Arc<str>, from: NodeKey, by: Party },
    /// To worker 0: it was taken up, and this node has no room for it.
    Declined { name: Arc<str>, from: NodeKey, by: Party },
    /// To a link: what is fed there is not wanted.
    Drop { connection: ConnectionKey, message_stream: u32 },
    /// To a link: so many players of this node depend on it.
    Audience { connection: ConnectionKey, message_stream: u32, players: u32 },
    /// To a stream's home: feed it to a node.
    Feed { stream: StreamId, order: FeedOrder },
    /// To a stream's home: it comes another way.
    Repath { stream: StreamId, path: Path },
    /// To a stream's home: feed it to this node no longer.
    StopFeed { stream: StreamId, to: NodeKey },
    /// To worker 0: what was to be fed was refused, or cannot be.
    FeedEnded { name: Arc<str>, to: NodeKey, number: u64 },
    /// To worker 0, from itself: a link is to be read into a stream's log.
    Adopted { name: Arc<str> },
    /// To worker 0, from itself: no node publishes a stream any more.
    Vanished { name: Arc<str> },
    /// To every worker: the other nodes that are there and stay.
    Siblings { siblings: Siblings },
    /// To whoever has a control connection: the other end has proven that it is a node.
    Met { connection: ConnectionKey, zone: LinkZone },
    /// To every worker: the nodes that are known, and their clocks where those are.
    Known { nodes: Arc<[(NodeKey, Option<ClockOffset>)]> },
}

/// A stream to be fed to a node.
#[derive(Clone, Debug)]
pub(super) struct FeedOrder {
    /// No two have the same.
    pub(super) number: u64,
    pub(super) name: Arc<str>,
    pub(super) term: Term,
    pub(super) to: NodeKey,
    /// Where that takes links.
    pub(super) address: SocketAddr,
    pub(super) path: Path,
}

impl Links {
    /// Without parts there is no cluster; with a seat this is worker 0.
    pub(super) fn new(parts: Option<LinkParts>, seat: bool) -> Self {
        let Some(LinkParts { settings, listener, tls }) = parts else { return Self::default() };
        Self {
            credentials: Some(Arc::clone(&settings.credentials)),
            tls,
            listener: Some(listener),
            linger: settings.link_linger,
            seat: seat.then(|| Box::new(Seat::new(settings))),
            ..Self::default()
        }
    }

    /// Whether there is a cluster.
    pub(super) fn is_on(&self) -> bool {
        self.credentials.is_some()
    }

    /// Where a node stands as seen from here; a zone that a node does not say is empty.
    fn zone_of(&self, zone: &str) -> LinkZone {
        let own = self.credentials.as_ref().map_or("", |ours| &ours.identity.zone);
        if own.is_empty() || zone.is_empty() {
            LinkZone::Unknown
        } else if own == zone {
            LinkZone::Same
        } else {
            LinkZone::Other
        }
    }

    /// Whether a listener is the one for nodes.
    pub(super) fn listens(&self, listener: ListenerKey) -> bool {
        self.listener == Some(listener)
    }

    /// Whether a connection is one to another node.
    pub(super) fn is_link(&self, key: ConnectionKey) -> bool {
        self.is_on() && self.connections.contains_key(&key)
    }

    /// Whether a stream at home here is brought by a link.
    pub(super) fn is_fed(&self, entry: &LocalStream) -> bool {
        let Place::Here { publisher: Some(party), .. } = &entry.place else { return false };
        self.is_link(party.connection)
    }

    /// Whether another node that stays publishes a stream, is about to, or keeps its name for its
    /// publisher.
    pub(super) fn is_kept_elsewhere(&self, name: &str) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.cluster.is_kept(name))
    }

    /// Whether other nodes are fed a stream from here.
    pub(super) fn is_fed_elsewhere(&self, name: &str) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.cluster.is_fed(name))
    }

    /// When the cluster's machine is to be looked at.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.seat.as_ref()?.next_due()
    }

    /// Streams that are fed or taken, and connections on their way, for tests.
    pub(super) fn under_way(&self) -> usize {
        let fed: usize = self.out.values().map(OutLink::len).sum();
        let taken: usize = self.connections.values().map(|link| link.taken()).sum();
        fed + taken
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        LINK_TOKEN | self.tokens
    }
}

/// Marks the tokens of connections that are dialled to nodes.
const LINK_TOKEN: u64 = 1 << 62;

/// Whether a token of a connection that was dialled is one of a link.
pub(super) fn is_link_token(token: u64) -> bool {
    token & LINK_TOKEN != 0
}
