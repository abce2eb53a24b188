//! One core: the only room that introduces the other rooms to each other.
//!
//! A [`Worker`] owns connections, streams and a hub, and nothing of it is shared: what other
//! workers must know travels by mail (`mail.rs`), what the control thread must know lies in cells
//! (`cells.rs`) or is asked for (`report.rs`). A worker does not know its reactor: completions come
//! in, operations go out (`turn.rs`), so the same worker runs on the kernel and in the simulation.
//!
//! ```text
//!   accept.rs   connections come and go; addresses.rs: how many from where
//!   balance.rs  connections move from a full worker to an empty one
//!   receive.rs  bytes -> session events -> publish.rs, play.rs; newcomers.rs: a few in each turn
//!   front.rs    what a connection speaks, by its first bytes; http.rs: who answers a request;
//!               secure.rs: TLS under all of it
//!   flv.rs      players of FLV over HTTP and WebSockets
//!   publish.rs  asking for a name, media into the hub, handing a stream over
//!   play.rs     asking for a stream, positions, the end of a stream; needs.rs: who may miss what
//!   level.rs    how long messages gather; flow.rs: what another level would cost
//!   pace.rs     flush levels: what is asked for, and what follows for each stream
//!   flush.rs    sealed segments -> mail and waiting players -> the send ring -> sends
//!   post.rs     mail from other workers; early.rs: mail that overtook what it is about
//!   registrar.rs  on worker 0: who publishes and plays which name; audience.rs: how many may;
//!               contest.rs: who may take over from whom
//!   tunnel.rs   sessions inside HTTP; carrier.rs: the connections that bring their requests,
//!               carriage.rs: to the right core; tunnel_fill.rs: what is answered
//!   links/      connections to other nodes, and on worker 0 the cluster's machine
//!   dial.rs     connections that we open
//!   outlet.rs   pushes and pulls; outside.rs: as they are ordered; client.rs: what they speak,
//!               outlet_hear.rs: what servers say, outlet_tunnel.rs: inside HTTP; circle.rs: never
//!               round in a circle
//!   forward.rs  publishers that their back ends send on
//!   sweep.rs    deadlines, limits of memory; limiting.rs: of sessions; ingest.rs: of publishers
//!   revoke.rs   permissions that end
//!   drain.rs    everybody is let go before the node ends; elsewhere.rs: to where
//!   answer.rs   queries of the control thread
//!   hooks.rs    what back ends are asked and told; hook_answers.rs: their verdicts;
//!               hook_renewals.rs: verdicts that hold no longer
//!   verdicts.rs the road between workers and the control thread, which speaks to back ends
//! ```

mod accept;
mod access;
mod addresses;
mod answer;
mod audience;
mod balance;
mod carriage;
mod carrier;
pub mod cells;
mod circle;
mod client;
pub mod clock;
mod connection;
mod contest;
mod dial;
mod drain;
mod dump;
mod early;
mod elsewhere;
mod flow;
mod flush;
mod flv;
mod forward;
mod front;
#[doc(hidden)]
pub mod fuzz;
pub mod handle;
mod hook_answers;
mod hook_connect;
mod hook_renewals;
pub mod hook_settings;
mod hooks;
mod http;
mod ingest;
pub mod labels;
mod level;
mod limiting;
mod links;
mod local;
mod mail;
pub mod mailbox;
mod needs;
mod newcomers;
mod notes;
mod origin;
mod outlet;
mod outlet_hear;
mod outlet_tunnel;
pub mod outside;
pub mod outside_url;
mod pace;
mod play;
mod post;
mod publish;
mod receive;
mod registrar;
pub mod report;
mod revoke;
mod ring;
mod secure;
pub mod settings;
mod shared;
mod speech;
mod sweep;
mod table;
mod tunnel;
mod tunnel_fill;
pub mod turn;
pub mod verdicts;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::balance::Balance;
use self::cells::Cells;
use self::connection::Connection;
use self::dial::Dials;
use self::drain::Drain;
use self::early::EarlyReaders;
use self::handle::QueryInbox;
use self::hooks::Hooks;
use self::level::{Controller, Step};
use self::links::Links;
pub use self::links::{LinkParts, LinkTls};
use self::local::LocalStreams;
use self::mail::{Mail, Request};
use self::mailbox::Mailbox;
use self::newcomers::Newcomers;
use self::outlet::Outlets;
use self::registrar::Registrar;
use self::ring::SendRing;
use self::settings::Settings;
pub use self::shared::Shared;
use self::sweep::Sweep;
use self::table::Table;
pub use self::tunnel::TunnelSource;
use self::tunnel::Tunnels;
use self::waiting::Waiting;
use crate::access::FetchedKeys;
use crate::limits::Limits;
use crate::reactor::{Completion, ConnectionKey, ListenerKey, Operation, Reactor, ReactorCounters};
use crate::stream::{Hub, StreamKey};
use crate::tls::SealBuffers;

/// The worker that decides names.
const REGISTRAR: mail::WorkerIndex = 0;

/// A worker to which no segment was mailed for this long is woken by the next one instead of
/// looking for it.
const FED_FOR: Duration = Duration::from_millis(250);

/// What a worker is made of.
pub struct Parts {
    /// Configuration.
    pub settings: Arc<Settings>,
    /// Its end of the post; its index is the worker's number.
    pub mailbox: Mailbox,
    /// Where it counts.
    pub cells: Arc<Cells>,
    /// What the control thread asks.
    pub queries: QueryInbox,
    /// Sums of the whole node.
    pub shared: Arc<Shared>,
    /// The listeners of its reactor.
    pub listeners: Vec<ListenerKey>,
    /// Ids of tunnelled sessions.
    pub tunnel: TunnelSource,
    /// What it takes to be part of a cluster; `None` when there is none.
    pub links: Option<LinkParts>,
    /// Seed of all its other randomness (handshakes only). The same seed gives the same run.
    pub seed: u64,
}

/// One core's share of the node.
pub struct Worker {
    settings: Arc<Settings>,
    limits: Arc<Limits>,
    mailbox: Mailbox,
    cells: Arc<Cells>,
    queries: QueryInbox,
    shared: Arc<Shared>,
    listeners: Vec<ListenerKey>,
    random: fastrand::Rng,
    registrar: Option<Registrar>,
    connections: Table,
    /// Connections accepted so far; the newest one's number.
    numbered: u64,
    /// When a line last told of a connection that was refused.
    told_refusal: accept::LastLine,
    /// Connections to other nodes, and on worker 0 the cluster's machine.
    links: Links,
    /// Connections on their way from or to another worker.
    balance: Balance,
    /// Who may speak next of those that neither publish nor play.
    newcomers: Newcomers,
    /// Sessions inside HTTP.
    tunnels: Tunnels,
    /// Connections that are being opened.
    dials: Dials,
    /// Pushes and pulls.
    outlets: Outlets,
    /// Connections that neither publish nor play.
    pending: usize,
    /// Plays.
    players: u64,
    /// How many of them play what comes from another node, as last seen by the sweep.
    players_remote: u64,
    /// Plays so far; the newest one's number.
    plays: connection::PlayNumber,
    /// Whether segments may come from other workers.
    reads_remote: bool,
    /// When the last one came: while they do, this worker looks at its mail by itself.
    last_segment: Option<Duration>,
    /// Chooses how long small messages gather, as far as this worker is concerned.
    level: Controller,
    /// What each worker asks for, this one included.
    steps: Vec<Step>,
    /// Workers that asked for streams of which this one has not heard yet.
    early: EarlyReaders,
    streams: LocalStreams,
    /// Plays that the registrar was asked for and has not answered, by name.
    wanted: HashMap<Arc<str>, u32>,
    hooks: Hooks,
    hub: Hub,
    ring: SendRing,
    sweep: Sweep,
    operations: Vec<Operation>,
    /// To whom the last operations sent; kept to be used again.
    submitted: Vec<ConnectionKey>,
    /// Streams with new segments; kept to be used again.
    ready: Vec<StreamKey>,
    /// Slices of the batch being made; kept to be used again.
    slices: Vec<bytes::Bytes>,
    /// Plaintext of what came last in TLS; kept to be used again.
    plain: Vec<u8>,
    /// Buffers for what goes in TLS.
    seal_buffers: SealBuffers,
    /// Batches sealed in this turn.
    sealed: usize,
    ending: Ending,
    /// How those that are there are let go.
    drain: Drain,
    /// The time since 1970 at which the node started.
    epoch: Duration,
    /// The keys of tokens that were fetched.
    fetched_keys: FetchedKeys,
    /// Who waits for them.
    waiting_for_keys: Vec<Waiting>,
}

/// How far a worker is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// No more connections; those that are there are let go.
    Draining,
    /// Everything is closed with the next turn.
    Now,
    Ended,
}

impl Worker {
    /// A worker at rest; [`turn::run`] starts it.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let limits = Arc::new(parts.settings.limits.clone());
        let has_registrar = parts.mailbox.index() == REGISTRAR;
        let registrar = has_registrar.then(|| Registrar::new(parts.links.is_some()));
        let steps = vec![Step::default(); parts.mailbox.workers()];
        Self {
            hub: Hub::new(Arc::clone(&limits)),
            limits,
            registrar,
            settings: parts.settings,
            mailbox: parts.mailbox,
            cells: parts.cells,
            queries: parts.queries,
            shared: parts.shared,
            listeners: parts.listeners,
            random: fastrand::Rng::with_seed(parts.seed),
            connections: Table::default(),
            numbered: 0,
            told_refusal: accept::LastLine::default(),
            links: Links::new(parts.links, has_registrar),
            balance: Balance::default(),
            newcomers: Newcomers::default(),
            tunnels: Tunnels::new(parts.tunnel),
            dials: Dials::default(),
            outlets: Outlets::default(),
            pending: 0,
            players: 0,
            players_remote: 0,
            plays: 0,
            reads_remote: false,
            last_segment: None,
            level: Controller::default(),
            steps,
            early: EarlyReaders::default(),
            streams: LocalStreams::default(),
            wanted: HashMap::new(),
            hooks: Hooks::default(),
            ring: SendRing::default(),
            sweep: Sweep::default(),
            operations: Vec::new(),
            submitted: Vec::new(),
            ready: Vec::new(),
            slices: Vec::new(),
            plain: Vec::new(),
            seal_buffers: SealBuffers::default(),
            sealed: 0,
            ending: Ending::No,
            drain: Drain::default(),
            epoch: Duration::ZERO,
            fetched_keys: FetchedKeys::default(),
            waiting_for_keys: Vec::new(),
        }
    }

    /// Starts accepting.
    pub fn start(&mut self) {
        for listener in self.listeners.clone() {
            self.operations.push(Operation::Accept { listener, on: true });
        }
    }

    /// Everything that is due at `now`; leaves operations.
    pub fn prepare(&mut self, now: Duration) {
        self.mailbox.push_waiting();
        self.read_mail(now);
        self.answer_queries(now);
        self.hear_verdicts(now);
        self.sweep(now);
        self.drive_cluster(now);
        self.flush(now);
        self.pump_links(now);
        self.send_ring(now);
        self.part_at_keys(now);
        self.hear_newcomers(now);
        self.serve_tunnels(now);
        self.serve_outlets(now);
    }

    /// Hands the operations over.
    pub fn submit(&mut self, reactor: &mut dyn Reactor) {
        let count = u64::try_from(self.operations.len()).unwrap_or(u64::MAX);
        self.cells.submissions.add(count);
        let sent = self.operations.iter().filter_map(|operation| match operation {
            Operation::Send { connection, .. } => Some(*connection),
            _ => None,
        });
        self.submitted.clear();
        self.submitted.extend(sent);
        reactor.submit(&mut self.operations);
        // Sending to that many has filled the caches with other things, and most of them will be
        // heard of in a moment.
        self.connections.warm(self.submitted.iter().copied());
    }

    /// One completion.
    pub fn handle(&mut self, completion: Completion<'_>, now: Duration) {
        match completion {
            Completion::Accepted { listener, connection, peer, .. } => {
                self.accepted(listener, connection, peer, now);
            }
            Completion::AcceptFailed { listener, error } => {
                self.accept_failed(listener, &error, now)
            }
            Completion::Received { connection, bytes } => self.received(connection, bytes, now),
            Completion::ReceiveEnded { connection, error } => {
                self.receive_ended(connection, error, now);
            }
            Completion::Sent { connection, bytes } => self.sent(connection, bytes, now),
            Completion::SendFailed { connection, error } => {
                self.send_failed(connection, error, now)
            }
            Completion::Released { connection, socket } => self.released(connection, socket),
            Completion::Adopted { token, connection, peer, .. } => {
                self.adopted(token, connection, peer, now);
            }
            Completion::AdoptFailed { token, error } => self.not_adopted(token, &error, now),
            Completion::Connected { token, connection, peer, .. }
                if links::is_link_token(token) =>
            {
                self.link_dialled(token, connection, peer, now);
            }
            Completion::ConnectFailed { token, error } if links::is_link_token(token) => {
                self.link_not_dialled(token, &error);
            }
            Completion::Connected { token, connection, peer, .. } => {
                self.connected(token, connection, peer, now);
            }
            Completion::ConnectFailed { token, error } => self.connect_failed(token, error, now),
            // What ends here was ended by us, and forgotten when we decided it.
            Completion::Closed { .. } | Completion::ListenerClosed { .. } => {}
        }
    }

    /// How long the worker may sleep; it is asleep from here on when its mail allows it.
    pub fn sleep_for(&mut self, now: Duration) -> Duration {
        let is_behind = !self.ring.is_empty() || !self.newcomers.is_empty();
        if is_behind || !self.queries.is_empty() || self.ending == Ending::Now {
            return Duration::ZERO;
        }
        let mut until = self.sweep.next(now);
        if let Some(due) = self.hub.next_flush() {
            until = until.min(due);
        }
        if let Some(due) = self.tunnels.next_due() {
            until = until.min(due.max(now));
        }
        let dues = [self.links.next_due(), self.outlets.next_due()];
        if let Some(due) = dues.into_iter().flatten().min() {
            until = until.min(due.max(now));
        }
        let is_fed = self.last_segment.is_some_and(|last| now.saturating_sub(last) < FED_FOR);
        if self.mailbox.waiting() > 0 || (self.reads_remote && is_fed) {
            until = until.min(now + self.limits.mail_poll);
        } else if !self.mailbox.fall_asleep() {
            return Duration::ZERO;
        }
        until.saturating_sub(now)
    }

    /// The wait is over.
    pub fn wake_up(&mut self, waited: Duration) {
        self.mailbox.awake();
        self.cells.wait_ns.add(nanos(waited));
        self.cells.turns.increment();
    }

    /// Counts the working time of a turn.
    pub fn count_work(&mut self, busy: Duration) {
        self.level.worked(busy);
        self.cells.busy_ns.add(nanos(busy));
        self.cells.turn_duration.observe(busy);
    }

    /// Copies what the reactor counted.
    pub fn count_reactor(&self, counters: ReactorCounters) {
        self.cells.syscalls.set(counters.syscalls);
        self.cells.short_sends.set(counters.short_sends);
    }

    /// Whether everything is closed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ending == Ending::Ended
    }

    /// Whether nothing is left of anybody: no connection, stream, name or mail. What a worker is
    /// when everybody has gone, for tests.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let names = self.registrar.as_ref().map_or(0, Registrar::names);
        let left = self.connections.len()
            + self.balance.under_way()
            + self.tunnels.carriage.under_way()
            + self.links.under_way()
            + self.dials.under_way()
            + self.streams.len()
            + self.wanted.len()
            + names;
        let outlets = self.outlets.is_empty();
        let queues = self.ring.is_empty() && self.newcomers.is_empty() && self.hooks.is_empty();
        let queues = queues && outlets;
        let idle = self.pending == 0 && queues && self.mailbox.waiting() == 0;
        left == 0 && idle && self.hub.is_empty()
    }

    /// Entries in the send ring and among those who wait for a seal. At most a few more than twice
    /// the plays, for tests.
    #[must_use]
    pub fn queued_plays(&self) -> usize {
        let waiting: usize = self.streams.iter().map(|(_, entry)| entry.waiting.len()).sum();
        self.ring.len() + waiting
    }

    /// Bytes copied on their way into logs and views, and bytes held, for tests and metrics.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Says when, since 1970, the node started; until then it is taken for 1970 itself.
    pub fn set_epoch(&mut self, epoch: Duration) {
        self.epoch = epoch;
    }

    /// The seconds since 1970.
    fn unix(&self, now: Duration) -> u64 {
        self.epoch.saturating_add(now).as_secs()
    }

    fn index(&self) -> mail::WorkerIndex {
        self.mailbox.index()
    }

    /// Whether so much mail waits that nothing new is taken on.
    fn is_overloaded(&self) -> bool {
        self.mailbox.waiting() >= self.limits.control_mail_max
    }

    /// Whether the node holds as much as it may, so that nothing new is taken on.
    fn is_out_of_memory(&self) -> bool {
        self.shared.log_bytes() >= self.limits.log_bytes_total
            || self.shared.connection_bytes() >= self.limits.connection_bytes_total
    }

    fn ask_registrar(&mut self, request: Request) {
        self.mailbox.send(REGISTRAR, Mail::Request(request));
    }

    /// Takes a connection out of the table, works on it, puts it back unless it ended, and then
    /// sees to its replies and its next receive.
    fn work(
        &mut self,
        key: ConnectionKey,
        now: Duration,
        work: impl FnOnce(&mut Self, &mut Connection),
    ) {
        let Some(mut connection) = self.connections.take(key) else { return };
        work(self, &mut connection);
        self.settle(&mut connection, now);
        if !connection.ended {
            self.connections.put(connection);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
