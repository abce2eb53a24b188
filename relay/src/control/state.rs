//! What all handlers share.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use super::budget::Budget;
use super::certificates::Certificates;
use super::gather::Gatherer;
use super::health::Heartbeats;
use super::hooks::Hooks;
use super::life::Wish;
use super::log::LogCounts;
use super::outside::Outside;
use super::peers::Peers;
use super::reload::Reloader;
use super::stream_series::StreamSeries;
use crate::config::Effective;
use crate::limits::Limits;
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;

pub(super) struct State {
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) heartbeats: Heartbeats,
    pub(super) hooks: Arc<Hooks>,
    pub(super) outside: Arc<Outside>,
    pub(super) log: LogCounts,
    /// The node's name.
    pub(super) node: String,
    /// The port for players.
    pub(super) port: u16,
    in_force: Mutex<Arc<InForce>>,
    /// Held while a reload is under way.
    pub(super) reloader: tokio::sync::Mutex<Reloader>,
    pub(super) reloads: Reloads,
    /// Requests to the API that were turned away.
    pub(super) api_refused: Count,
    /// Connections of operators that were turned away or gave their place up.
    pub(super) http_refused: Arc<Count>,
    pub(super) certificates: Certificates,
    /// How it stands with other nodes.
    pub(super) peers: Peers,
    /// Lists of the whole cluster.
    pub(super) gatherer: Gatherer,
    /// Lists that operators may ask for.
    pub(super) lists: Budget,
    /// What `/metrics/streams` remembers.
    pub(super) stream_series: StreamSeries,
    /// Where wishes of operators go, once the node lives.
    pub(super) wishes: OnceLock<UnboundedSender<Wish>>,
    /// Set once an address of `cluster.peers` is known.
    pub(super) peers_found: OnceLock<()>,
    /// The time that a drain has, and when it is over.
    drain: OnceLock<(Duration, Duration)>,
    phase: AtomicU8,
    clock: Clock,
    /// Wall clock at the start of `clock`, since 1970. Taken once, so that moments do not waver.
    started: Duration,
    scrape_ns: AtomicU64,
}

/// What the node goes by; a reload replaces it whole.
#[derive(Clone)]
pub(super) struct InForce {
    pub(super) effective: Effective,
    /// All limits.
    pub(super) limits: Limits,
    /// A few digits that differ when settings do that are not of this node alone.
    pub(super) hash: String,
}

/// How reloads went.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) good: Count,
    pub(super) bad: Count,
}

impl Reloads {
    pub(super) fn count(&self, good: bool) {
        if good { &self.good } else { &self.bad }.increment();
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Not everything is there yet.
    Starting,
    /// As it should be.
    Running,
    /// On its way out.
    Draining,
}

impl State {
    pub(super) fn new(
        workers: Vec<WorkerHandle>,
        effective: Effective,
        clock: Clock,
        log: LogCounts,
        reloader: Reloader,
        certificates: Certificates,
        (hooks, outside): (Arc<Hooks>, Arc<Outside>),
    ) -> Self {
        log.set_lines_per_second(effective.config.settings.limits.log_lines_per_second_max);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            hooks,
            outside,
            heartbeats: Heartbeats::new(workers.len(), std::time::Instant::now()),
            workers,
            log,
            node: effective.config.node.name.clone(),
            port: effective.config.listen.rtmp.port(),
            in_force: Mutex::new(Arc::new(InForce::new(effective))),
            reloader: tokio::sync::Mutex::new(reloader),
            reloads: Reloads::default(),
            api_refused: Count::default(),
            http_refused: Arc::default(),
            certificates,
            peers: Peers::default(),
            gatherer: Gatherer::default(),
            lists: Budget::default(),
            stream_series: StreamSeries::default(),
            wishes: OnceLock::new(),
            peers_found: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            drain: OnceLock::new(),
            clock,
            started: wall.saturating_sub(clock.now()),
            scrape_ns: AtomicU64::new(0),
        }
    }

    /// What the node goes by at this moment.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.lock())
    }

    pub(super) fn put_in_force(&self, new: InForce) {
        *self.in_force.lock() = Arc::new(new);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Draining,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// The node begins to drain and has so much time.
    pub(super) fn begin_drain(&self, window: Duration) {
        // It begins once.
        let _ = self.drain.set((window, self.now() + window));
        self.set_phase(Phase::Draining);
    }

    /// The time that a drain has, and when it is over; `None` before it begins.
    pub(super) fn drain(&self) -> Option<(Duration, Duration)> {
        self.drain.get().copied()
    }

    /// Time since the node's start.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// A moment of the node as milliseconds since 1970.
    pub(super) fn unix_ms(&self, moment: Duration) -> u64 {
        u64::try_from((self.started + moment).as_millis()).unwrap_or(u64::MAX)
    }

    /// Open connections of all workers.
    pub(super) fn connections(&self) -> u64 {
        self.workers.iter().map(|worker| worker.cells.connections.total()).sum()
    }

    /// How long the last scrape took.
    pub(super) fn scrape_duration(&self) -> Duration {
        Duration::from_nanos(self.scrape_ns.load(Ordering::Relaxed))
    }

    pub(super) fn set_scrape_duration(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.scrape_ns.store(nanos, Ordering::Relaxed);
    }
}

/// A digest of what nodes of a cluster ought to have in common: not of who and where each is.
pub(super) fn hash(effective: &Effective) -> String {
    let mut hash = Sha256::new();
    let own = |section: &str, name: &str| match section {
        "node" | "listen" => true,
        // A list need not name the node itself.
        "cluster" => name == "peers",
        _ => false,
    };
    for row in effective.rows.iter().filter(|row| !own(&row.section, &row.name)) {
        hash.update(format!("{}.{} = {}\n", row.section, row.name, row.value));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
