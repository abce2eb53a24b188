//! What nodes say to each other on a control connection once they have greeted, and before the
//! first message of a stream on a media link.
//!
//! Everything is told as it stands, never as a change to something that might have been lost: a
//! lost connection is followed by the whole of it on the next one.

use std::net::SocketAddr;
use std::sync::Arc;

use super::identity::{NodeKey, Position};
use super::orders::Order;
use super::refusal::Refusal;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The connection ends, and this is why.
    Refused(Refusal),
    /// I am well. At least one in a `heartbeat_interval`.
    Beat(Beat),
    /// I am leaving: do not wait until I am silent.
    Bye,
    /// Where clients reach the sending node. Said once, behind the greeting, unless there is none.
    Doors {
        /// URLs without a path; see [`Settings::doors`](super::Settings::doors).
        doors: Arc<[Arc<str>]>,
    },
    /// Where the sending node answers operators. Said once, behind the greeting, if it does.
    Operators {
        /// See [`Settings::operators`](super::Settings::operators).
        address: SocketAddr,
    },
    /// Streams that are published on the sending node.
    Announce {
        /// Which part of all of them.
        part: Part,
        /// The streams.
        entries: Vec<Announced>,
    },
    /// Streams that are published there no longer.
    Withdraw {
        /// Their names, and the epochs that are over.
        entries: Vec<Ended>,
    },
    /// Orders of operators, and those that were taken back: what is new to the sender, and on a
    /// new connection all that it knows.
    Orders {
        /// The orders.
        entries: Vec<Order>,
    },
    /// All that was announced still stands.
    Refresh(Digest),
    /// It does not add up: announce everything again.
    Resync,
    /// From who reads streams to their origin: what it has of them and what it lacks.
    Wants {
        /// Which part of all that the sender wants of this origin.
        part: Part,
        /// The streams.
        entries: Vec<Report>,
    },
    /// From who read a stream to its origin: no longer.
    Left(Ended),
    /// From the origin to who wants a stream: this node will feed you.
    Parent {
        /// The stream's name.
        name: Arc<str>,
        /// The origin's epoch.
        epoch: u64,
        /// Counts the origin's answers to this node about this stream, from 1.
        order: u32,
        /// Who will feed it; `None` asks for patience.
        parent: Option<NodeKey>,
    },
    /// From the origin to who has streams: feed these nodes.
    Pushes {
        /// Which part of all that the origin asks of the receiver.
        part: Part,
        /// The streams.
        entries: Vec<Edge>,
    },
    /// From the origin: feed this node no longer.
    StopPush(Edge),
    /// To the origin: this node cannot be fed from here.
    Unfed(Edge),
    /// On a media link, before the first message of a stream and after each jump.
    At(At),
    /// On a media link: the messages up to the next [`Self::At`] are the headers in force there,
    /// and no part of the stream.
    Headers,
    /// On a media link, from who is fed: the stream is read from now on. The next message that is
    /// missing; none where nothing of that source is there.
    Take {
        /// Where what is there ends.
        position: Option<Position>,
    },
    /// On a media link, from who is fed: so many players depend on the stream.
    Audience {
        /// Players of that node and of those that it feeds.
        players: u32,
    },
}

/// Which part of a whole list a message is. A list that is neither begun nor ended by its message
/// adds to what was told before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The whole list begins here.
    pub first: bool,
    /// And ends here: what was not in it is no longer so.
    pub last: bool,
}

/// A heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The sender's time since its start, in microseconds.
    pub at: u64,
    /// The receiver's newest heartbeat: its time, and how long ago it came, both in microseconds.
    pub echo: Option<(u64, u64)>,
    /// What the sender could still send to nodes and players, in kbit/s.
    pub spare_kbit: u32,
    /// Whether the sender is on its way out and wants to feed nobody.
    pub draining: bool,
    /// Whether it has as many players as it may: others send it none.
    pub full: bool,
}

/// How far a source has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its publisher was let in and has not sent a key frame; an older source plays on.
    Pending,
    /// It is the stream.
    Live,
    /// Its publisher is gone and may come back within the grace.
    Resting,
}

/// A stream of the sending node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its name.
    pub name: Arc<str>,
    /// The source's epoch; its origin is the sender.
    pub epoch: u64,
    /// How far it is.
    pub phase: Phase,
    /// What feeding it to one node takes, in kbit/s; 0 while unknown.
    pub rate_kbit: u32,
}

/// A stream and the epoch that is over for the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub name: Arc<str>,
    /// The epoch.
    pub epoch: u64,
}

/// All that a node announces, added up: so that repeating it takes a few bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Streams.
    pub count: u32,
    /// The sum of their hashes, whatever their order.
    pub sum: u64,
}

/// What a node that wants a stream has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The stream's name.
    pub name: Arc<str>,
    /// The epoch that it wants of the receiver.
    pub epoch: u64,
    /// The newest answer of the receiver that it knows; 0 when none.
    pub order: u32,
    /// Who feeds it.
    pub source: Option<NodeKey>,
    /// Whether it would still change over to the parent of that answer.
    pub open: bool,
    /// Whether its source, or the parent of that answer, does not deliver.
    pub lost: bool,
    /// Whether it stays only because others read from it.
    pub leaving: bool,
}

/// A node that is fed with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The stream's name.
    pub name: Arc<str>,
    /// The epoch of the origin that this is said to, or by.
    pub epoch: u64,
    /// The node that is fed.
    pub child: NodeKey,
}

/// Where a stream on a media link goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The next message.
    pub position: Position,
    /// The source's node.
    pub origin: NodeKey,
    /// When the origin took that message in, by its own clock, in microseconds.
    pub ingested: u64,
    /// The nodes from the origin to the sender, both included.
    pub path: Arc<[NodeKey]>,
}

impl Digest {
    /// Adds a stream.
    pub fn add(&mut self, name: &str, epoch: u64, phase: Phase) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(name, epoch, phase));
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &str, epoch: u64, phase: Phase) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(name, epoch, phase));
    }
}

/// FNV-1a, 64 bits, over what was announced: part of the protocol.
fn hash(name: &str, epoch: u64, phase: Phase) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    mix(name.as_bytes());
    mix(&epoch.to_be_bytes());
    mix(&[phase.id()]);
    hash
}

impl Phase {
    pub(super) fn id(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Live => 1,
            Self::Resting => 2,
        }
    }
}
