//! What the machine asks of who drives it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::identity::{Identity, NodeKey, Term};
use super::orders::Order;
use super::refusal::Refusal;

/// A control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// One that this node dialled, numbered by the machine.
    Dialled(u64),
    /// One that it accepted, numbered by the driver. No number is used twice.
    Accepted(u64),
}

/// Nodes from a stream's origin to a node that has it, both included.
pub type Path = Arc<[NodeKey]>;

/// One thing to do. All that one call asks for is to be taken before the next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a connection to the link port there, and tell [`dialled`](super::Cluster::dialled) or
    /// [`closed`](super::Cluster::closed).
    Dial {
        /// The connection that comes of it.
        line: Line,
        /// Where to.
        address: SocketAddr,
    },
    /// Send this as a data message.
    Send {
        /// The connection.
        line: Line,
        /// The message's payload.
        payload: Bytes,
    },
    /// Close the connection once what was sent before is out. Nothing is to be told of it.
    Close {
        /// The connection.
        line: Line,
    },
    /// The other end of this connection has proven that it is a node: it may say as much as nodes
    /// do.
    Met {
        /// The connection.
        line: Line,
        /// Where that node stands; empty if it does not say.
        zone: Arc<str>,
    },
    /// A wanted stream is published on another node: its players may be told that it is live.
    Appeared {
        /// The stream.
        name: Arc<str>,
        /// Its source.
        term: Term,
    },
    /// No node publishes a stream that appeared, and its grace is over: its players may be told.
    Vanished {
        /// The stream.
        name: Arc<str>,
    },
    /// It changed whether other nodes [keep](super::Cluster::is_kept) a name, or whether they are
    /// [fed](super::Cluster::is_fed) it from here, played here or not.
    Changed {
        /// The stream.
        name: Arc<str>,
    },
    /// Close the local publisher: it was taken over on another node. The name is not this node's
    /// any more.
    Yield {
        /// The stream.
        name: Arc<str>,
        /// The source that counts.
        to: Term,
    },
    /// Feed a stream to a node, over the one media connection that its home has to that node; from
    /// where that node's log ends, which it says when it takes the stream. Asked again for a stream
    /// that is fed already: say `At` again.
    Feed {
        /// The stream.
        name: Arc<str>,
        /// Its source.
        term: Term,
        /// The node to feed.
        to: NodeKey,
        /// Where that takes links.
        address: SocketAddr,
        /// What the first [`At`](super::message::At) says.
        path: Path,
    },
    /// Tell all nodes that are fed this stream that it comes another way now.
    Repath {
        /// The stream.
        name: Arc<str>,
        /// The way.
        path: Path,
    },
    /// Stop feeding a stream to a node.
    StopFeed {
        /// The stream.
        name: Arc<str>,
        /// The node.
        to: NodeKey,
    },
    /// What this node sends of the stream is from now on read into its log, and nothing else is.
    Adopt {
        /// The stream.
        name: Arc<str>,
        /// The node that feeds it.
        from: NodeKey,
        /// Its source.
        term: Term,
    },
    /// Refuse what this node sends, or would send, of the stream.
    Drop {
        /// The stream.
        name: Arc<str>,
        /// The node that feeds it.
        from: NodeKey,
    },
    /// An operator gave an order to another node, or took it back.
    Ordered(Order),
    /// One sentence for the log.
    Note(Note),
}

/// Something that operators should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A node was met.
    Joined(Identity),
    /// A node is gone.
    Lost(Identity, Refusal),
    /// A connection to this address, or from it, was ended by this side.
    Refused(SocketAddr, Refusal),
    /// A connection to this address, or from it, was ended by the other side.
    TurnedAway(SocketAddr, Refusal),
    /// A node announces more than `announced_streams_max` streams.
    TooManyStreams(Identity),
    /// The peer list has more addresses than are dialled.
    TooManyAddresses(usize),
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(node) => write!(formatter, "node {} ({}) joined", node.name, node.key),
            Self::Lost(node, why) => {
                write!(formatter, "node {} ({}) is gone: {why}", node.name, node.key)
            }
            Self::Refused(address, why) => {
                write!(formatter, "link with {address} refused: {why}")
            }
            Self::TurnedAway(address, why) => {
                write!(formatter, "link with {address} was refused by the other side: {why}")
            }
            Self::TooManyStreams(node) => write!(
                formatter,
                "node {} announces more than announced_streams_max streams; the rest of them \
                 cannot be had from it",
                node.name
            ),
            Self::TooManyAddresses(count) => write!(
                formatter,
                "the peer list has {count} addresses too many; those are not dialled"
            ),
        }
    }
}
