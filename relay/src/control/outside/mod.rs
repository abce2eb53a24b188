//! Pushes to and pulls from other servers: what runs is decided here, workers carry it.
//!
//! ```text
//!   machine  what is to run, tries, pauses: pure       task  one stream that goes one way
//! report   the lists of the API, and metrics       orders    what is added here holds on all nodes
//! ```
//!
//! News of names and of orders come from workers by a road (`worker/outside.rs`), orders go to them
//! as queries. Names of hosts are looked up here, a few at a time. What stands in URLs behind the
//! application, user, password and query are never logged, and shown nowhere.

mod machine;
mod orders;
mod report;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

use super::ask::ask;
use crate::limits::Limits;
use crate::tls::{ClientTls, Trust};
use crate::worker::Shared;
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;
use crate::worker::outside::{
    News, NodeKey, Order, OutsideEnd, OutsideFault, OutsideNews, OutsideOrder,
};
use crate::worker::report::Query;
use crate::worker::settings::{OutsideSettings, Settings};
use machine::{Begin, Command, Machine};

pub(super) use machine::Added;
pub(super) use orders::AddedId;

/// Hosts looked up at a time: each takes a thread.
const LOOK_UPS: usize = 16;

/// News taken from the road before others of this thread get their turn.
const NEWS_AT_ONCE: usize = 256;

/// A worker whose inbox is full is asked again after this.
const INBOX_PAUSE: Duration = Duration::from_millis(50);

/// Longest sleep: draining is noticed within it.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// All pushes and pulls of the node.
pub(super) struct Outside {
    machine: Mutex<Machine>,
    workers: Vec<WorkerHandle>,
    shared: Arc<Shared>,
    clock: Clock,
    in_force: Mutex<InForce>,
    wake: Arc<Notify>,
    look_ups: Arc<Semaphore>,
    /// What operators asked for and could not be added, by reason.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    /// This node, where it is one of a cluster.
    node: Option<NodeKey>,
}

/// What orders are made with.
struct InForce {
    outside: OutsideSettings,
    limits: Limits,
    /// Whom servers are known by, once it was needed.
    tls: Option<Result<ClientTls, String>>,
}

impl Outside {
    pub(super) fn new(
        workers: Vec<WorkerHandle>,
        shared: Arc<Shared>,
        clock: Clock,
        seed: u64,
        node: Option<NodeKey>,
    ) -> Arc<Self> {
        let in_force =
            InForce { outside: OutsideSettings::default(), limits: Limits::default(), tls: None };
        Arc::new(Self {
            machine: Mutex::new(Machine::new(workers.len(), seed)),
            workers,
            shared,
            clock,
            in_force: Mutex::new(in_force),
            wake: Arc::new(Notify::new()),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
            refused: Mutex::default(),
            node,
        })
    }

    /// Goes by these settings from now on. Files of authorities are read again.
    pub(super) fn configure(&self, settings: &Settings) {
        let (outside, limits) = (settings.outside.clone(), settings.limits.clone());
        *self.in_force.lock() = InForce { outside, limits, tls: None };
        self.machine.lock().configure(Arc::new(settings.clone()), self.clock.now());
        self.wake.notify_one();
    }

    /// Works on what is pushed and pulled, and sees to what follows.
    fn with<T>(&self, work: impl FnOnce(&mut Machine, Duration) -> T) -> T {
        let result = work(&mut self.machine.lock(), self.clock.now());
        self.wake.notify_one();
        result
    }

    /// Counts what an operator asked for and could not be added.
    pub(super) fn refuse(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    /// Adds one, on all nodes; gives its id, or `None` when there are as many as may be.
    pub(super) fn add(&self, added: Added) -> Option<AddedId> {
        let id = self.with(|machine, now| machine.add(added.clone(), self.node, now))?;
        if let Some(order) = id.order() {
            let order = orders::told(order, &added);
            self.insist(0, move || Query::Order(order.clone()));
        }
        Some(id)
    }

    /// Takes one away that was added, on all nodes. Whether there was one.
    pub(super) fn remove(&self, kind: crate::worker::labels::OutsideKind, id: AddedId) -> bool {
        let was_there = self.with(|machine, now| machine.remove(kind, id, now));
        if let Some(id) = id.order().filter(|_| was_there) {
            self.insist(0, move || Query::Order(Order { id, text: None }));
        }
        was_there
    }

    /// Runs for as long as the node.
    pub(super) async fn run(self: Arc<Self>) {
        let wake = Arc::clone(&self.wake);
        self.shared.news().set_waker(move || wake.notify_one());
        loop {
            let mut left = NEWS_AT_ONCE;
            {
                let mut machine = self.machine.lock();
                let now = self.clock.now();
                if self.shared.is_draining() {
                    machine.end();
                }
                while left > 0
                    && let Some(news) = self.shared.news().take()
                {
                    left -= 1;
                    machine.hear(news, now);
                }
                machine.tick(now);
            }
            // Each may lead to others, so they are taken one by one.
            while let Some(command) = self.next_command() {
                self.follow(command);
            }
            if left == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.machine.lock().next_due();
            let pause = due.map_or(SLEEP_MAX, |due| due.saturating_sub(self.clock.now()));
            let pause = pause.clamp(Duration::from_millis(1), SLEEP_MAX);
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    fn next_command(&self) -> Option<Command> {
        self.machine.lock().next_command()
    }

    fn follow(self: &Arc<Self>, command: Command) {
        match command {
            Command::LookUp { attempt, host, port, pulled } => {
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    if !this.is_elsewhere(attempt, pulled).await {
                        this.look_up(attempt, host, port).await;
                    }
                });
            }
            Command::Begin(begin) => self.begin(*begin),
            Command::End { attempt, worker } => {
                self.insist(worker, move || Query::EndOutside(attempt));
            }
            Command::Watch(watch) => self.insist(0, move || Query::Watch(watch.clone())),
        }
    }

    /// Whether a stream that is to be pulled is at another node already, which ends the attempt: of
    /// all nodes that want it one pulls it.
    async fn is_elsewhere(&self, attempt: u64, pulled: Option<Arc<str>>) -> bool {
        let (Some(name), Some(worker)) = (pulled, self.workers.first()) else { return false };
        let asked = ask(worker, |reply| Query::Elsewhere { name, reply }).await;
        let is_elsewhere = asked.unwrap_or(false);
        if is_elsewhere {
            let detail = "another node of the cluster has it".to_owned();
            self.not_begun(attempt, OutsideFault::Elsewhere, detail);
        }
        is_elsewhere
    }

    async fn look_up(&self, attempt: u64, host: String, port: u16) {
        let within = self.in_force.lock().limits.outside_connect_timeout;
        let look_up = async {
            let _turn = self.look_ups.acquire().await;
            tokio::net::lookup_host((host, port)).await
        };
        let found = match timeout(within, look_up).await {
            Ok(Ok(addresses)) => Ok(addresses.take(ADDRESSES_MAX).collect()),
            Ok(Err(error)) => Err(format!("the name of the server cannot be looked up: {error}")),
            Err(_) => Err("the name of the server could not be looked up in time".to_owned()),
        };
        self.with(|machine, now| machine.looked_up(attempt, found, now));
    }

    fn begin(&self, begin: Begin) {
        let Begin { attempt, worker, kind, name, address, url, challenge, replaces, marks } = begin;
        let (within, enhanced) = {
            let in_force = self.in_force.lock();
            (in_force.limits.outside_connect_timeout, in_force.outside.enhanced)
        };
        let tls = match url.scheme.is_tls().then(|| self.client_tls()).transpose() {
            Ok(tls) => tls.map(|tls| (tls, url.host.clone())),
            Err(why) => return self.not_begun(attempt, OutsideFault::Tls, why),
        };
        let order = OutsideOrder {
            id: attempt,
            kind,
            name,
            address,
            within,
            tls,
            tunnel: url.scheme.is_tunnel().then(|| url.authority()),
            app: url.app(&challenge),
            tc_url: url.tc_url(&challenge),
            stream: url.stream().to_owned(),
            enhanced,
            replaces,
            marks,
        };
        let asked =
            self.workers.get(worker).map(|worker| worker.ask(Query::Outside(Box::new(order))));
        if !matches!(asked, Some(Ok(()))) {
            let why = format!("worker {worker} does not answer");
            self.not_begun(attempt, OutsideFault::Limit, why);
        }
    }

    fn not_begun(&self, id: u64, fault: OutsideFault, detail: String) {
        let what = OutsideNews::Ended(OutsideEnd { fault, detail, redirect: None });
        self.with(|machine, now| machine.hear(News::Outside { id, core: 0, what }, now));
    }

    /// Whom servers are known by; read once for each configuration.
    fn client_tls(&self) -> Result<ClientTls, String> {
        let mut in_force = self.in_force.lock();
        if in_force.tls.is_none() {
            let file = in_force.outside.ca_file.clone();
            let trust = file.map_or(Trust::System, Trust::Authorities);
            in_force.tls = Some(ClientTls::new(&trust).map_err(|error| error.to_string()));
        }
        in_force.tls.clone().unwrap_or_else(|| Err(String::new()))
    }

    /// Orders that must not be lost, though the worker's inbox may be full.
    fn insist(&self, worker: usize, order: impl Fn() -> Query + Send + 'static) {
        let Some(worker) = self.workers.get(worker).cloned() else { return };
        if worker.ask(order()).is_err() {
            tokio::spawn(async move {
                // A worker that never answers again makes `/livez` fail.
                while worker.ask(order()).is_err() {
                    sleep(INBOX_PAUSE).await;
                }
            });
        }
    }
}

/// Addresses of one host that take turns.
const ADDRESSES_MAX: usize = 16;
