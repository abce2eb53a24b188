//! What workers say to each other. Names are decided by the registrar on worker 0; segments travel
//! from a stream's home to the workers that read it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::balance::Door;
use super::carriage::Parcel;
use super::level::Step;
use super::links::LinkMail;
use super::origin::Origin;
use super::settings::{PublishConflict, UnknownStream};
use crate::cluster::Term;
use crate::reactor::{ConnectionKey, LooseSocket};
use crate::stream::{Heritage, Segment};

/// A worker of this node: 0 is the registrar.
pub(super) type WorkerIndex = usize;

/// A name while it is in use, numbered by the registrar. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct StreamId(pub(super) u64);

/// Which stream key, user or token let a publisher in: a digest of it.
pub(super) type Credential = [u8; 16];

/// One publish or play: which connection of which worker, and which of its message streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Party {
    /// The worker that owns the connection.
    pub(super) worker: WorkerIndex,
    /// The connection.
    pub(super) connection: ConnectionKey,
    /// Its message stream id.
    pub(super) message_stream: u32,
}

/// Why a publisher is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The name has a publisher and the application does not allow take-over.
    Busy,
    /// This publisher was taken over a moment ago and the holder is well.
    HeldOff,
    /// `streams_max` is reached.
    TooManyStreams,
    /// `publishers_per_key_max` is reached.
    TooManyOfKey,
    /// `log_bytes_total` is reached.
    OutOfMemory,
    /// The node is ending.
    Draining,
    /// `control_mail_max` is reached.
    Overloaded,
}

/// To the registrar.
#[derive(Debug)]
pub(super) enum Request {
    /// A publisher asks for a name.
    Claim {
        publisher: Party,
        name: Arc<str>,
        address: IpAddr,
        conflict: PublishConflict,
        /// What let it in, if that is known by itself.
        key: Option<Credential>,
    },
    /// A publisher is gone; its stream's grace begins.
    Release { stream: StreamId, publisher: Party },
    /// A player asks for a name.
    Want {
        player: Party,
        name: Arc<str>,
        unknown: UnknownStream,
        /// It is no player but a push, which no limit of players counts.
        push: bool,
    },
    /// A player that the registrar let play is gone, or was before it could begin.
    Leave {
        stream: StreamId,
        /// It was a push.
        push: bool,
    },
    /// A player that is another relay's pull has begun, or is gone: the marks of the relays behind
    /// it, which what is pulled for it must not come through.
    Marks { name: Arc<str>, marks: Box<str>, begun: bool },
    /// The last player of a stream left this worker.
    Unwant { worker: WorkerIndex, stream: StreamId },
    /// From a stream's home: it has so many bytes a second.
    Rate { stream: StreamId, rate: u64 },
    /// The home's answer to [`Order::Yield`].
    Yielded { stream: StreamId, yielded: bool },
    /// From a stream's home: its publisher sent a key frame, or turned out to have no video.
    Live { stream: StreamId },
}

/// From the registrar.
#[derive(Debug)]
pub(super) enum Order {
    /// Publish: this worker is now the stream's home. With `fresh` the log begins anew; otherwise
    /// the log of this very worker, or the [`Mail::Handover`] sent before, goes on. `term`: which
    /// source of the cluster it is; a link from another node is a publisher, too.
    Grant {
        stream: StreamId,
        publisher: Party,
        name: Arc<str>,
        fresh: bool,
        term: Option<Term>,
        /// The publisher is such a link.
        link: bool,
    },
    /// The publisher is refused.
    Refuse { publisher: Party, refusal: Refusal },
    /// To the home: let `to` continue the stream, `if_silent` only when its own publisher has been
    /// silent. Answered by [`Request::Yielded`], after a [`Mail::Handover`] when `to` is elsewhere.
    Yield { stream: StreamId, to: Party, if_silent: bool },
    /// Publishing is over: nobody has played the stream for too long.
    Unwatched { publisher: Party },
    /// Publishing is over: the stream was taken over on another node.
    Overtaken { publisher: Party },
    /// Play: the name has this number; its home, when it has one, is named.
    Play {
        stream: StreamId,
        player: Party,
        name: Arc<str>,
        home: Option<WorkerIndex>,
        /// It is a push.
        push: bool,
    },
    /// The player is refused.
    RefusePlay { player: Party, name: Arc<str>, why: PlayRefused },
    /// To workers with players: the stream has a (new) home, or the same home a new publisher.
    Appeared { stream: StreamId, home: WorkerIndex },
    /// To the home and to workers with players: the grace is over, the name is free.
    Ended { stream: StreamId },
}

/// Anything that one worker sends another.
#[derive(Debug)]
pub(super) enum Mail {
    /// To worker 0.
    Request(Request),
    /// From worker 0.
    Order(Order),
    /// To a stream's home: send me this stream.
    Subscribe { stream: StreamId, worker: WorkerIndex },
    /// To a stream's home: no longer. Its count of bytes sent goes on to the home, so that the sum
    /// over workers loses nothing.
    Unsubscribe { stream: StreamId, worker: WorkerIndex, bytes_out: u64 },
    /// From a stream's home, first: what a reader needs to begin.
    Snapshot { stream: StreamId, segments: Vec<Segment> },
    /// From a stream's home, in order. The only mail that may be lost, when the ring is full.
    Segment { stream: StreamId, segment: Segment },
    /// From a stream's home: a segment was lost, and none is sent any more. The reader subscribes
    /// again.
    Lost { stream: StreamId },
    /// A fresh connection, for whoever has room, and what its listener takes.
    Socket { socket: LooseSocket, door: Door },
    /// A connection with a request of a tunnel whose session lives on the other worker.
    Carrier { parcel: Box<Parcel> },
    /// To every other worker: this one asks for another flush level.
    Step { worker: WorkerIndex, step: Step },
    /// What links to other nodes and the cluster's machine, on worker 0, say to each other.
    Link(Box<LinkMail>),
    /// From the old home to the new one.
    Handover { stream: StreamId, name: Arc<str>, heritage: Box<Heritage>, inheritance: Inheritance },
}

/// What the new home of a stream must know besides its log.
#[derive(Debug)]
pub(super) struct Inheritance {
    /// Workers that are mailed its segments.
    pub(super) readers: Vec<WorkerIndex>,
    /// When the stream began.
    pub(super) since: Duration,
    /// Publishers so far.
    pub(super) epoch: u64,
    /// Which source of the cluster its log holds.
    pub(super) origin: Origin,
}

/// A publisher that was granted a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) party: Party,
    /// Which source of the cluster it is.
    pub(super) term: Option<Term>,
    /// It is a link from another node, whether that is still there or not.
    pub(super) link: bool,
    /// It lost the stream before it could begin.
    pub(super) over: bool,
}

/// Why a player is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlayRefused {
    /// Nobody publishes the name.
    Unknown,
    /// `wanted_names_max` is reached.
    TooManyNames,
    /// The stream has `players_per_stream_max` players on this node.
    Full,
    /// The application has `players_per_app_max` players on this node.
    AppFull,
    /// The node has `players_max` players.
    NodeFull,
    /// The stream would not fit into `egress_rate_max`.
    EgressFull,
}
