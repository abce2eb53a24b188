//! One process: the machine, and what its driver knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use relay::cluster::{
    Cluster, Credentials, Identity, Line, NodeKey, Order, OrderId, Path, Secret, Settings, Term,
};
use relay::limits::Limits;

use super::net::Station;

/// A stream by its number.
pub(crate) type Stream = usize;

pub(crate) const PORT: u16 = 11_935;

pub(crate) struct Process {
    pub(crate) station: Station,
    pub(crate) cluster: Cluster,
    pub(crate) key: NodeKey,
    pub(crate) address: SocketAddr,
    /// What its own clock shows less the world's, in microseconds; its clock began at its start.
    pub(crate) skew: i64,
    /// Its lines, by the connection and the end of it.
    pub(crate) lines: BTreeMap<Line, (u64, usize)>,
    pub(crate) accepted: u64,
    /// When it is to tick.
    pub(crate) tick: Option<Duration>,
    pub(crate) publishers: BTreeMap<Stream, Publisher>,
    pub(crate) players: BTreeSet<Stream>,
    /// Streams that players were told are live.
    pub(crate) shown: BTreeMap<Stream, Term>,
    /// Whether other nodes keep a stream and are fed it from here, as it was told.
    pub(crate) said: BTreeMap<Stream, (bool, bool)>,
    /// Orders that were heard of, and whether each stands.
    pub(crate) orders: BTreeMap<OrderId, bool>,
    /// What is fed from here, by stream and receiver: the media link.
    pub(crate) feeds: BTreeMap<(Stream, NodeKey), u64>,
    /// What comes here, by stream and sender.
    pub(crate) links: BTreeMap<(Stream, NodeKey), Incoming>,
    /// Which of that is read.
    pub(crate) adopted: BTreeMap<Stream, (NodeKey, Term)>,
    pub(crate) draining: bool,
}

/// A publisher on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publisher {
    /// It has not sent a key frame.
    Pending,
    Live,
    /// It is gone, and the grace runs.
    Resting,
}

/// A stream that is fed to this process.
pub(crate) struct Incoming {
    pub(crate) link: u64,
    pub(crate) term: Term,
    pub(crate) path: Path,
    pub(crate) heard: Duration,
    pub(crate) quiet: bool,
}

/// The limits of a run, which differ from the defaults so that runs are short.
pub(crate) fn limits(nodes: usize) -> Limits {
    Limits {
        nodes_max: nodes.max(2) * 2,
        stream_grace: Duration::from_secs(if nodes > 40 { 2 } else { 5 }),
        cluster_strangers_max: (nodes * 2).max(64),
        dials_max: 64,
        ..Limits::default()
    }
}

/// What a process is made of.
pub(crate) struct Plan {
    pub(crate) station: Station,
    pub(crate) name: String,
    pub(crate) key: NodeKey,
    pub(crate) started: u64,
    pub(crate) zone: &'static str,
    pub(crate) ip: Ipv4Addr,
    pub(crate) now: Duration,
    pub(crate) fanout_max: usize,
    pub(crate) limits: Arc<Limits>,
    pub(crate) secret: &'static [u8],
    pub(crate) versions: (u16, u16),
}

impl Process {
    pub(crate) fn new(plan: Plan) -> Self {
        let identity = Identity {
            name: plan.name.into(),
            key: plan.key,
            started: plan.started,
            zone: plan.zone.into(),
            link_port: PORT,
        };
        let secret = Secret::new(plan.secret).unwrap();
        let versions = plan.versions.0..=plan.versions.1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&plan.key.0.to_be_bytes());
        let cluster = Cluster::new(Settings {
            credentials: Arc::new(Credentials { identity, secret, versions }),
            limits: plan.limits,
            fanout_max: plan.fanout_max,
            link_linger: Duration::from_secs(1),
            doors: [].into(),
            operators: Some(([0, 0, 0, 0], 8935).into()),
            seed,
        });
        Self {
            station: plan.station,
            cluster,
            key: plan.key,
            address: SocketAddr::new(IpAddr::V4(plan.ip), PORT),
            skew: -i64::try_from(plan.now.as_micros()).unwrap(),
            lines: BTreeMap::new(),
            accepted: 0,
            tick: None,
            publishers: BTreeMap::new(),
            players: BTreeSet::new(),
            shown: BTreeMap::new(),
            said: BTreeMap::new(),
            orders: BTreeMap::new(),
            feeds: BTreeMap::new(),
            links: BTreeMap::new(),
            adopted: BTreeMap::new(),
            draining: false,
        }
    }

    /// Its clock when the world's shows `now`.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        let micros = i64::try_from(now.as_micros()).unwrap() + self.skew;
        Duration::from_micros(u64::try_from(micros).unwrap())
    }

    /// The world's time when its clock shows `time`.
    pub(crate) fn world_time(&self, time: Duration) -> Duration {
        let micros = i64::try_from(time.as_micros()).unwrap() - self.skew;
        // Rounded up, so that what is due then is due.
        Duration::from_micros(u64::try_from(micros).unwrap() + 1)
    }

    /// No node publishes a stream any more.
    pub(crate) fn vanished(&mut self, stream: Stream) {
        self.shown.remove(&stream);
    }

    /// What other nodes have to do with a stream is otherwise than before.
    pub(crate) fn changed(&mut self, stream: Option<&Stream>, name: &str) {
        let said = (self.cluster.is_kept(name), self.cluster.is_fed(name));
        self.said.extend(stream.map(|stream| (*stream, said)));
    }

    /// An order was heard of.
    pub(crate) fn ordered(&mut self, order: &Order) {
        self.orders.insert(order.id, order.text.is_some());
    }

    /// Whether it is the stream's source for those it feeds.
    pub(crate) fn is_origin(&self, stream: Stream) -> bool {
        matches!(self.publishers.get(&stream), Some(Publisher::Live | Publisher::Resting))
    }
}
