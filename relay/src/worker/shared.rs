//! The few numbers that all workers of a node share: sums against limits of the node as a whole.
//!
//! Each worker adds its own changes; nobody waits for anybody, but for the moment that looking up
//! who guessed secrets takes, which is no part of the data path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::access::{Answered, Guesser, Guesses};
use crate::limits::Limits;

use super::addresses::Addresses;
use super::outside::NewsRoad;
use super::registrar::AppUsage;
use super::verdicts::Road;
use crate::tls::ServerTls;

/// Sums over the workers of one node.
#[derive(Debug, Default)]
pub struct Shared {
    connections: AtomicUsize,
    log_bytes: AtomicUsize,
    connection_bytes: AtomicUsize,
    /// How often a worker found too many bytes in logs.
    log_cuts: AtomicUsize,
    tunnels: AtomicUsize,
    tunnel_bytes: AtomicUsize,
    draining: AtomicBool,
    /// Clients that each worker still has while the node drains; [`usize::MAX`] until it looked.
    left: Box<[AtomicUsize]>,
    /// Streams that are fed to other nodes, each once for every node.
    feeds: AtomicUsize,
    guesses: Mutex<Guesses>,
    /// How many are in `guesses`: mostly none, and then nobody has to look.
    guessers: AtomicUsize,
    answered: Mutex<Answered>,
    /// What back ends are to be asked and told.
    hooks: Road,
    addresses: Addresses,
    /// What the control thread is told of names, pushes and pulls.
    news: NewsRoad,
    /// What this node is known by to itself when a push or pull leads back to it; empty where that
    /// is not looked for.
    mark: String,
    /// What each worker sends, in bytes a second.
    egress: Box<[AtomicU64]>,
    /// How many play in applications with limits of their own.
    app_usage: Mutex<AppUsage>,
    /// The certificates, if there are any.
    tls: Option<Arc<ServerTls>>,
}

impl Shared {
    /// The sums of a node with so many workers. One by [`Default`] knows nothing of single workers,
    /// so that none gives connections to another.
    #[must_use]
    pub fn of(workers: usize) -> Self {
        let egress = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let left = (0..workers).map(|_| AtomicUsize::new(usize::MAX)).collect();
        Self { egress, left, ..Self::default() }
    }

    /// The same with a road to the control thread on which so many calls of hooks may be.
    #[must_use]
    pub fn with_road(self, calls_max: usize) -> Self {
        Self { hooks: Road::new(calls_max), ..self }
    }

    /// The same with challenges for passwords that are known by a key of this run of the node.
    #[must_use]
    pub fn with_challenges(self, key: [u8; 32]) -> Self {
        Self { answered: Mutex::new(Answered::new(key)), ..self }
    }

    /// The same with a road on which so many news may be, and a mark that no other node has.
    #[must_use]
    pub fn with_outside(self, news_max: usize, mark: u64) -> Self {
        Self { news: NewsRoad::new(news_max), mark: format!("{mark:016x}"), ..self }
    }

    /// The road of news of names, pushes and pulls.
    #[must_use]
    pub fn news(&self) -> &NewsRoad {
        &self.news
    }

    /// What this node is known by to itself, and to the others of its cluster: a number drawn at
    /// its start.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The road of calls to back ends.
    #[must_use]
    pub fn hooks(&self) -> &Road {
        &self.hooks
    }

    /// The same with certificates.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<ServerTls>>) -> Self {
        self.tls = tls;
        self
    }

    /// The certificates, if there are any.
    #[must_use]
    pub fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_deref()
    }

    /// Counts a wrong secret.
    pub(super) fn count_guess(&self, who: Guesser, now: Duration, limits: &Limits) {
        let mut guesses = self.guesses.lock();
        guesses.count(who, now, limits);
        self.guessers.store(guesses.len(), Ordering::Relaxed);
    }

    /// Whether somebody has shown too many wrong secrets.
    pub(super) fn is_guessing(&self, who: Guesser, now: Duration, limits: &Limits) -> bool {
        self.guessers.load(Ordering::Relaxed) > 0
            && self.guesses.lock().is_guessing(who, now, limits)
    }

    /// Runs `judge` with the challenges that were answered on any worker.
    pub(super) fn with_answered<T>(&self, judge: impl FnOnce(&mut Answered) -> T) -> T {
        judge(&mut self.answered.lock())
    }

    /// Shows how many play in applications with limits of their own.
    pub(super) fn show_app_usage(&self, usage: AppUsage) {
        *self.app_usage.lock() = usage;
    }

    /// Players of the application, and of the stream, that has the most, where settings of this
    /// name hold.
    #[must_use]
    pub fn app_usage(&self, section: &str) -> (usize, usize) {
        self.app_usage.lock().get(section).copied().unwrap_or_default()
    }

    /// Says what a worker sends, in bytes a second.
    pub(super) fn publish_egress(&self, worker: usize, rate: u64) {
        if let Some(cell) = self.egress.get(worker) {
            cell.store(rate, Ordering::Relaxed);
        }
    }

    /// What each worker sends, in bytes a second.
    pub(super) fn egress(&self) -> Vec<u64> {
        self.egress.iter().map(|cell| cell.load(Ordering::Relaxed)).collect()
    }

    /// What all workers send, in bytes a second.
    pub(super) fn egress_total(&self) -> u64 {
        let rates = self.egress.iter().map(|cell| cell.load(Ordering::Relaxed));
        rates.fold(0, u64::saturating_add)
    }

    /// Connections of the address that has most of them, for tests.
    #[must_use]
    pub fn most_of_an_address(&self) -> usize {
        self.addresses.most_open()
    }

    /// What each address has open.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Counts a connection unless `max` are open. Returns whether it was counted.
    pub(super) fn enter_connection(&self, max: usize) -> bool {
        let counted = self.connections.fetch_add(1, Ordering::Relaxed) < max;
        if !counted {
            self.leave_connection();
        }
        counted
    }

    /// Uncounts a connection.
    pub(super) fn leave_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Replaces a worker's share of the bytes in logs, `before`, by `after`.
    pub(super) fn move_log_bytes(&self, before: usize, after: usize) {
        move_share(&self.log_bytes, before, after);
    }

    /// Replaces a worker's share of the bytes that connections hold, `before`, by `after`.
    pub(super) fn move_connection_bytes(&self, before: usize, after: usize) {
        move_share(&self.connection_bytes, before, after);
    }

    /// Bytes in the logs of all workers.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// A worker cuts its logs: the others hear of it even if the sum is small again by then.
    pub(super) fn count_log_cut(&self) {
        self.log_cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a worker cut its logs.
    pub(super) fn log_cuts(&self) -> usize {
        self.log_cuts.load(Ordering::Relaxed)
    }

    /// Bytes that the connections of all workers hold.
    #[must_use]
    pub fn connection_bytes(&self) -> usize {
        self.connection_bytes.load(Ordering::Relaxed)
    }

    /// Counts a tunnelled session unless there are `max`. Returns whether it was counted.
    pub(super) fn enter_tunnel(&self, max: usize) -> bool {
        let counted = self.tunnels.fetch_add(1, Ordering::Relaxed) < max;
        if !counted {
            self.leave_tunnel();
        }
        counted
    }

    /// Uncounts a tunnelled session.
    pub(super) fn leave_tunnel(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tunnelled sessions.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Replaces a worker's share of the bytes that tunnels hold, `before`, by `after`.
    pub(super) fn move_tunnel_bytes(&self, before: usize, after: usize) {
        move_share(&self.tunnel_bytes, before, after);
    }

    /// Bytes that the tunnels of all workers hold.
    #[must_use]
    pub fn tunnel_bytes(&self) -> usize {
        self.tunnel_bytes.load(Ordering::Relaxed)
    }

    /// Replaces a worker's share of the streams that are fed to other nodes, `before`, by `after`.
    pub(super) fn move_feeds(&self, before: usize, after: usize) {
        move_share(&self.feeds, before, after);
    }

    /// Streams that are fed to other nodes, each once for every node.
    pub(super) fn feeds(&self) -> usize {
        self.feeds.load(Ordering::Relaxed)
    }

    /// Says how many clients a worker of a node that drains still has.
    pub(super) fn show_left(&self, worker: usize, clients: usize) {
        if let Some(cell) = self.left.get(worker) {
            cell.store(clients, Ordering::Relaxed);
        }
    }

    /// Whether no worker of a node that drains has any client.
    pub(super) fn nobody_is_left(&self) -> bool {
        match self.left.is_empty() {
            true => self.connections() == 0,
            false => self.left.iter().all(|cell| cell.load(Ordering::Relaxed) == 0),
        }
    }

    /// Turns further publishers and players away from now on.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node is ending.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

fn move_share(sum: &AtomicUsize, before: usize, after: usize) {
    if after >= before {
        sum.fetch_add(after - before, Ordering::Relaxed);
    } else {
        sum.fetch_sub(before - after, Ordering::Relaxed);
    }
}
