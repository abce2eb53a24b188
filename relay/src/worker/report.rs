//! What the control thread asks of a worker, and what a worker answers.
//!
//! A worker answers from its own tables within one turn, so every answer is bounded: lists come in
//! pages, at most [`PAGE_MAX`] rows each, in the order of their keys. A stream is spread over
//! workers (one is its home, several may have players of it), therefore each answers with its share
//! and the control thread adds the shares up. Moments are durations since the node's start, as
//! everywhere.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::labels::{LinkWay, Role, Source, Transport};
use super::outside::{Order, OutsideOrder, Watch};
use super::settings::Settings;
use crate::access::FetchedKeys;
pub use crate::session::tunnel::tunnel_tag;

/// Most rows of one page.
pub const PAGE_MAX: usize = 1_000;

/// A question to one worker.
#[derive(Debug)]
pub enum Query {
    /// The streams of which this worker is the home or has players.
    Streams {
        /// Only keys greater than this one.
        after: Option<StreamKey>,
        /// At most so many rows, those with the smallest keys, in order.
        limit: usize,
        /// Where the answer goes.
        reply: Reply<Vec<StreamShare>>,
    },
    /// One stream; `None` when this worker has nothing to do with it.
    Stream {
        /// Its name.
        key: StreamKey,
        /// Where the answer goes.
        reply: Reply<Option<StreamShare>>,
    },
    /// What all streams of this worker add up to, some at a time, in the order of its table: for
    /// sums over all of them, which a page in the order of names would cost much more.
    StreamSums {
        /// The slot of the table to begin at: 0, then [`StreamSums::next`].
        from: usize,
        /// At most so many rows.
        limit: usize,
        /// Where the answer goes.
        reply: Reply<StreamSums>,
    },
    /// The connections of this worker.
    Connections {
        /// Only ids greater than this one.
        after: Option<ConnectionId>,
        /// Only those that fit.
        filter: ConnectionFilter,
        /// At most so many rows, those with the smallest ids, in order.
        limit: usize,
        /// Where the answer goes.
        reply: Reply<Vec<ConnectionShare>>,
    },
    /// Close one connection. The answer says whether it was there.
    Close {
        /// Which one; its `core` is this worker's.
        connection: ConnectionId,
        /// Where the answer goes.
        reply: Reply<bool>,
    },
    /// Go by these settings from now on.
    Settings {
        /// All of them.
        settings: Arc<Settings>,
        /// Told when it does.
        reply: Reply<()>,
    },
    /// The addresses of nodes, as looked up just now. To worker 0.
    Peers(Vec<SocketAddr>),
    /// The other nodes of the cluster. To worker 0.
    Nodes {
        /// Where the answer goes.
        reply: Reply<Vec<NodeShare>>,
    },
    /// Whether another node of the cluster has a publisher of a name. To worker 0.
    Elsewhere {
        /// `app/name`.
        name: Arc<str>,
        /// Where the answer goes.
        reply: Reply<bool>,
    },
    /// The connections of this worker that carry streams between nodes.
    Links {
        /// Where the answer goes.
        reply: Reply<Vec<LinkShare>>,
    },
    /// Push or pull a stream. What becomes of it is told by the road of news.
    Outside(Box<OutsideOrder>),
    /// The push or pull of this order is not wanted any more.
    EndOutside(u64),
    /// An order of an operator that holds on all nodes, or is taken back. To worker 0.
    Order(Order),
    /// Tell of these names, and how all of them stand now. For worker 0; nothing to others.
    Watch(Watch),
    /// The keys of tokens, as fetched just now.
    TokenKeys(FetchedKeys),
    /// Take no more connections; let those that are there go over this time, then end the thread.
    Drain {
        /// The time there is, from now.
        window: Duration,
    },
    /// Close everything in order and end the thread at once.
    Stop,
}

/// Where one answer goes. Dropping it unsent is an answer, too: the asker learns that none will
/// come.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// A reply that hands the answer to `deliver`, on the worker's thread: it must not wait.
    pub fn new(deliver: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(deliver))
    }

    /// Answers.
    pub fn send(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A stream's name in its two parts. Ordered by application, then name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The application.
    pub app: Arc<str>,
    /// The name within the application, without its query.
    pub name: Arc<str>,
}

impl StreamKey {
    /// From its parts.
    #[must_use]
    pub fn new(app: &str, name: &str) -> Self {
        Self { app: app.into(), name: name.into() }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.name)
    }
}

/// A connection of this node for as long as the node runs; never reused. Written `core-number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The worker that owns it.
    pub core: usize,
    /// Counted by that worker from 1.
    pub number: u64,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.core, self.number)
    }
}

impl FromStr for ConnectionId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (core, number) = text.split_once('-').ok_or(NotAnId)?;
        Ok(Self {
            core: core.parse().map_err(|_| NotAnId)?,
            number: number.parse().map_err(|_| NotAnId)?,
        })
    }
}

/// The text is no [`ConnectionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection id looks like 0-17")]
pub struct NotAnId;

/// Which connections are meant: those that fit every part that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// What it is there for.
    pub role: Option<Role>,
    /// How it speaks.
    pub transport: Option<Transport>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The application of what it publishes or plays.
    pub app: Option<String>,
    /// The name of that within the application.
    pub name: Option<String>,
}

/// Some of a worker's streams, for sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSums {
    /// The streams. One may be missing or come twice when it begins or ends meanwhile.
    pub rows: Vec<StreamSum>,
    /// Where to go on; `None` at the end of the table.
    pub next: Option<usize>,
}

/// The numbers of one worker's share of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSum {
    /// `app/name`.
    pub name: Arc<str>,
    /// Players on this worker.
    pub players: usize,
    /// As in [`StreamShare`].
    pub bytes_out: u64,
    /// What only the home knows.
    pub home: Option<HomeSum>,
}

/// The numbers that a stream's home knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeSum {
    /// Payload bytes received for it.
    pub bytes_in: u64,
    /// When its publisher was accepted; `None` during grace.
    pub published: Option<Duration>,
    /// When the newest key frame was complete.
    pub last_key: Option<Duration>,
}

/// One worker's share of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamShare {
    /// Its name.
    pub key: StreamKey,
    /// Players on this worker, those waiting for the stream included.
    pub players: usize,
    /// The same by how they speak; those of whom there are none are left out.
    pub transports: Vec<(Transport, usize)>,
    /// Bytes that this worker handed to the kernel for players of this stream; from the home also
    /// those of workers that have no players of it any more. The sum over workers never falls.
    pub bytes_out: u64,
    /// What only the home knows; `None` from the other workers.
    pub home: Option<StreamHome>,
}

/// What the home worker of a stream knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHome {
    /// Whether it is published on this node.
    pub source: Source,
    /// How often the name was given to another publisher; 1 for the first.
    pub epoch: u64,
    /// Live, or waiting for its publisher to come back.
    pub state: StreamState,
    /// Who publishes; `None` during grace.
    pub publisher: Option<Publisher>,
    /// When the stream began; it goes on through grace and takeover.
    pub since: Duration,
    /// Payload bytes received for it.
    pub bytes_in: u64,
    /// Payload bytes a second that come in, smoothed over about a second; `None` at first.
    pub bytes_per_second: Option<u64>,
    /// Messages received for it that were not taken.
    pub dropped: u64,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// The video codec (`avc`, `hevc`, `av1`, ...), once its sequence header was seen.
    pub video: Option<String>,
    /// Width and height in pixels, where metadata tells them.
    pub size: Option<(u32, u32)>,
    /// The audio codec (`aac`, `opus`, ...), once known.
    pub audio: Option<String>,
    /// Tracks of video and of audio, as far as their headers were seen.
    pub tracks: (usize, usize),
    /// When the newest key frame was complete.
    pub last_key: Option<Duration>,
    /// From the key frame before that to the newest.
    pub gop: Option<Duration>,
    /// What its headers ask of players, as in log lines: `enhanced hevc`, `multitrack`.
    pub needs: Vec<String>,
}

/// Whether a stream has its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// It is being published.
    Live,
    /// The publisher is gone; players stay until `stream_grace` is over.
    Grace,
}

/// The publisher of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Its connection.
    pub id: ConnectionId,
    /// Its address.
    pub peer: SocketAddr,
    /// When its publish was accepted.
    pub since: Duration,
    /// What it calls itself (`flashVer`); empty when it said nothing.
    pub client: String,
}

/// Another node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeShare {
    /// Its name.
    pub name: String,
    /// Its process: a number drawn at its start.
    pub process: String,
    /// Where it stands; empty when nobody said.
    pub zone: String,
    /// Where it takes links.
    pub address: SocketAddr,
    /// Where it answers operators, as it says itself.
    pub operators: Option<SocketAddr>,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// The version of the protocol that is spoken with it.
    pub version: u16,
    /// Streams that it announced.
    pub streams: usize,
    /// Its time since its start less ours, and how wrong that may be, in microseconds.
    pub clock_micros: Option<(i64, i64)>,
}

/// A connection that carries streams from one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkShare {
    /// The other node's process.
    pub process: String,
    /// The other end.
    pub peer: SocketAddr,
    /// Which way it carries them.
    pub way: LinkWay,
    /// How many.
    pub streams: usize,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// Whether it is in TLS.
    pub tls: bool,
    /// How far it is behind its streams.
    pub lag: Duration,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionShare {
    /// Its id.
    pub id: ConnectionId,
    /// What it is there for.
    pub role: Role,
    /// How it speaks.
    pub transport: Transport,
    /// Its address.
    pub peer: SocketAddr,
    /// What it publishes or plays; of several the first.
    pub stream: Option<StreamKey>,
    /// What it calls itself (`flashVer`); empty when it said nothing.
    pub client: String,
    /// When it was accepted.
    pub since: Duration,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// How far a player is behind its publisher.
    pub lag: Option<Duration>,
    /// How often a player jumped.
    pub jumps: u64,
    /// Messages that it jumped over.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_is_read_as_it_is_written() {
        fn check(text: &str, expected: Option<(usize, u64)>) {
            let id = expected.map(|(core, number)| ConnectionId { core, number });
            assert_eq!(text.parse::<ConnectionId>().ok(), id, "{text:?}");
        }
        check("0-1", Some((0, 1)));
        check("3-18446744073709551615", Some((3, u64::MAX)));
        check(&ConnectionId { core: 12, number: 34 }.to_string(), Some((12, 34)));
        for bad in ["", "-", "1", "1-", "-1", "1-2-3", "a-1", "0-18446744073709551616", "0--1"] {
            check(bad, None);
        }
    }
}
