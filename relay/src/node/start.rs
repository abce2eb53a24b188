//! Starting workers: each on its own thread, where it makes its reactor, all let go at the same
//! time.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::NodeError;
use super::{chance, processors};
use crate::cluster;
use crate::config::{Config, ReactorChoice};
use crate::control::ending::EndingGuard;
use crate::reactor::socket::SocketOptions;
use crate::reactor::uring::{self, Unavailable, UringOptions, UringReactor};
use crate::reactor::{ListenerKey, PollReactor, Reactor};
use crate::session::tunnel::TunnelIds;
use crate::worker::cells::Cells;
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;
use crate::worker::mailbox::{Mailbox, mailboxes};
use crate::worker::settings::Settings;
use crate::worker::{self, LinkParts, LinkTls, Shared, TunnelSource, Worker, turn};

/// How many workers, where, on which reactor.
pub(super) struct Plan {
    /// The node's name.
    name: String,
    pub(super) workers: usize,
    /// The processor of each worker, if they are pinned.
    places: Option<Vec<usize>>,
    backend: Backend,
    zero_copy_bytes_min: Option<usize>,
}

/// Which reactor workers are to have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Backend {
    kind: Kind,
    /// Why it is this one, for metrics.
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mio,
    /// Since io_uring cannot be had.
    MioInstead,
    /// And nothing else, if `only`.
    IoUring {
        only: bool,
    },
}

/// Workers that run.
pub(super) struct Started {
    pub(super) handles: Vec<WorkerHandle>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl Plan {
    /// From the configuration and what the kernel allows this process.
    pub(super) fn new(config: &Config) -> Result<Self, NodeError> {
        let backend = Backend::new(config.node.reactor, uring::probe())?;
        let processors = processors::ours();
        let quota = processors::our_quota();
        let automatic = || processors::workers(processors.len(), quota);
        let workers = config.node.workers.unwrap_or_else(automatic);
        let places = processors::places(&processors, workers, quota);
        tracing::debug!(workers, ?processors, ?quota, pinned = places.is_some(), "planned");
        let zero_copy_bytes_min = config.sockets.zero_copy_bytes_min;
        let name = config.node.name.clone();
        Ok(Self { name, workers, places, backend, zero_copy_bytes_min })
    }

    /// Says in one line what was not to be had.
    pub(super) fn log(&self) {
        if let Backend { kind: Kind::MioInstead, reason } = &self.backend {
            tracing::info!(reason, "io_uring cannot be used; the reactor is mio");
        }
    }
}

impl Backend {
    /// What was asked for, as far as io_uring is `available`.
    fn new(choice: ReactorChoice, available: Result<(), Unavailable>) -> Result<Self, NodeError> {
        let by_configuration = "by configuration".to_owned();
        let (kind, reason) = match (choice, available) {
            (ReactorChoice::Mio, _) => (Kind::Mio, by_configuration),
            (ReactorChoice::IoUring, Ok(())) => (Kind::IoUring { only: true }, by_configuration),
            (ReactorChoice::IoUring, Err(why)) => return Err(only_io_uring(&why)),
            (ReactorChoice::Auto, Ok(())) => {
                (Kind::IoUring { only: false }, "the best of this host".to_owned())
            }
            (ReactorChoice::Auto, Err(why)) => (Kind::MioInstead, why.to_string()),
        };
        Ok(Self { kind, reason })
    }
}

fn only_io_uring(why: &Unavailable) -> NodeError {
    NodeError(format!("node.reactor is io_uring, but it cannot be used: {why}."))
}

/// What one worker's thread starts with.
struct Seat {
    core: usize,
    processor: Option<usize>,
    listeners: Vec<TcpListener>,
    mailbox: Mailbox,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    options: SocketOptions,
    clock: Clock,
    seed: u64,
    tunnel_ids: TunnelIds,
    cluster: Option<cluster::Settings>,
    links: Option<LinkTls>,
    backend: Backend,
    zero_copy_bytes_min: Option<usize>,
}

/// What workers have in common, and a guard for each.
pub(super) struct Parts {
    pub(super) settings: Arc<Settings>,
    pub(super) shared: Arc<Shared>,
    pub(super) guards: Vec<EndingGuard>,
    pub(super) options: SocketOptions,
    pub(super) clock: Clock,
    /// What the cluster's machine is told, if there is a cluster.
    pub(super) cluster: Option<cluster::Settings>,
    /// By what links speak TLS, if they do.
    pub(super) links: Option<LinkTls>,
}

/// Starts every worker, with its sockets. They begin to turn when all of them are there.
pub(super) fn workers(
    plan: &Plan,
    parts: Parts,
    sockets: Vec<Vec<TcpListener>>,
    seed: u64,
) -> Result<Started, NodeError> {
    let Parts { settings, shared, guards, options, clock, cluster, links } = parts;
    let mut started = Started { handles: Vec::new(), threads: Vec::new() };
    let mut starts = Vec::new();
    let mut seeds = fastrand::Rng::with_seed(seed);
    let tunnel_ids = TunnelIds::new(&plan.name, chance::bytes());
    let mailboxes = mailboxes(plan.workers, settings.limits.mail_ring_max);
    for (core, ((listeners, guard), mailbox)) in
        sockets.into_iter().zip(guards).zip(mailboxes).enumerate()
    {
        let seat = Seat {
            core,
            processor: plan.places.as_ref().and_then(|places| places.get(core).copied()),
            listeners,
            mailbox,
            settings: Arc::clone(&settings),
            shared: Arc::clone(&shared),
            options: options.clone(),
            clock,
            seed: seeds.u64(..),
            tunnel_ids: tunnel_ids.clone(),
            cluster: cluster.clone(),
            links: links.clone(),
            backend: plan.backend.clone(),
            zero_copy_bytes_min: plan.zero_copy_bytes_min,
        };
        let (ready, is_ready) = channel();
        let (start, started_by) = channel();
        let thread = thread::Builder::new()
            .name(format!("relay-worker-{core}"))
            .spawn(move || {
                let _guard = guard;
                work(seat, &ready, &started_by);
            })
            .map_err(|error| failed(core, &error))?;
        let handle = is_ready.recv().unwrap_or_else(|_| Err(failed(core, &"it panicked")))?;
        started.handles.push(handle);
        started.threads.push(thread);
        starts.push(start);
    }
    if let Kind::IoUring { .. } = plan.backend.kind {
        let mut fallen = started.handles.iter().filter(|handle| handle.backend != "io_uring");
        if let Some(first) = fallen.next() {
            tracing::info!(
                workers = fallen.count() + 1,
                reason = first.backend_reason,
                "io_uring cannot be used by all workers; the reactor of some is mio"
            );
        }
    }
    for start in starts {
        // A worker that is gone already tells so by its guard.
        let _ = start.send(());
    }
    Ok(started)
}

/// A worker's thread, from its first to its last instruction.
fn work(seat: Seat, ready: &Sender<Result<WorkerHandle, NodeError>>, start: &Receiver<()>) {
    if let Some(processor) = seat.processor
        && let Err(error) = processors::pin(processor)
    {
        tracing::warn!(core = seat.core, processor, %error, "not pinned");
    }
    let clock = seat.clock;
    let (mut worker, mut reactor, handle) = match made(seat) {
        Ok(made) => made,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    // When nobody waits for the handle, or nobody starts us, the node has failed to start.
    if ready.send(Ok(handle)).is_ok() && start.recv().is_ok() {
        turn::run(&mut worker, reactor.as_mut(), clock);
    }
}

fn made(seat: Seat) -> Result<(Worker, Box<dyn Reactor>, WorkerHandle), NodeError> {
    let core = seat.core;
    let uring = UringOptions {
        receive_bytes: seat.settings.limits.receive_bytes,
        zero_copy_bytes_min: seat.zero_copy_bytes_min,
        ..UringOptions::default()
    };
    let (reactor, listeners, reason) =
        reactor(core, seat.backend, seat.listeners, &uring, &seat.options)?;
    let cells = Arc::new(Cells::default());
    let backend = reactor.backend();
    let (handle, queries) =
        WorkerHandle::new(core, backend, reason, Arc::clone(&cells), reactor.waker());
    seat.mailbox.set_waker(reactor.waker());
    let tls = seat.links;
    let links = seat.cluster.map(|settings| LinkParts {
        settings,
        tls,
        listener: *listeners.last().expect("a node of a cluster listens for others"),
    });
    let worker = Worker::new(worker::Parts {
        settings: seat.settings,
        mailbox: seat.mailbox,
        cells,
        queries,
        shared: seat.shared,
        listeners,
        tunnel: TunnelSource { ids: seat.tunnel_ids, random: Box::new(chance::bytes) },
        links,
        seed: seat.seed,
    });
    Ok((worker, reactor, handle))
}

/// A reactor, its listeners, and why it is this one.
type Made = (Box<dyn Reactor>, Vec<ListenerKey>, String);

/// A worker's reactor with its listeners, and why it is this one. A ring may be refused to one
/// worker after others had theirs, by a limit on memory.
fn reactor(
    core: usize,
    backend: Backend,
    sockets: Vec<TcpListener>,
    uring: &UringOptions,
    options: &SocketOptions,
) -> Result<Made, NodeError> {
    let mut reason = backend.reason;
    if let Kind::IoUring { only } = backend.kind {
        match UringReactor::new(uring, options.clone()) {
            Ok(mut reactor) => {
                let add = |socket| reactor.add_listener(socket);
                let keys = sockets.into_iter().map(add).collect::<Result<_, _>>();
                let keys = keys.map_err(|error| failed(core, &error))?;
                return Ok((Box::new(reactor), keys, reason));
            }
            Err(why) if only => return Err(only_io_uring(&why)),
            Err(why) => reason = why.to_string(),
        }
    }
    let reactor = PollReactor::new(uring.receive_bytes, options.clone());
    let mut reactor = reactor.map_err(|error| failed(core, &error))?;
    let keys = sockets.into_iter().map(|socket| reactor.add_listener(socket));
    let keys = keys.collect::<Result<_, _>>().map_err(|error| failed(core, &error))?;
    Ok((Box::new(reactor), keys, reason))
}

fn failed(core: usize, why: &dyn std::fmt::Display) -> NodeError {
    NodeError(format!("Worker {core} cannot start: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a refusal of the kernel looks like; a probe may be refused in a test of its own only.
    fn refused() -> Result<(), Unavailable> {
        Err(Unavailable::new("io_uring_setup: EPERM, not permitted here"))
    }

    #[test]
    fn the_backend_is_what_was_asked_for_as_far_as_it_can_be_had() {
        fn check(
            choice: ReactorChoice,
            available: Result<(), Unavailable>,
            expected: Result<(Kind, &str), &str>,
        ) {
            let found = Backend::new(choice, available).map_err(|error| error.to_string());
            let found = found.as_ref().map(|backend| (backend.kind, backend.reason.as_str()));
            assert_eq!(found.map_err(String::as_str), expected, "{choice:?}");
        }
        let (any, only) = (Kind::IoUring { only: false }, Kind::IoUring { only: true });
        let eperm = "io_uring_setup: EPERM, not permitted here";
        check(ReactorChoice::Auto, Ok(()), Ok((any, "the best of this host")));
        check(ReactorChoice::Auto, refused(), Ok((Kind::MioInstead, eperm)));
        check(ReactorChoice::Mio, Ok(()), Ok((Kind::Mio, "by configuration")));
        check(ReactorChoice::Mio, refused(), Ok((Kind::Mio, "by configuration")));
        check(ReactorChoice::IoUring, Ok(()), Ok((only, "by configuration")));
        let sentence = format!("node.reactor is io_uring, but it cannot be used: {eperm}.");
        check(ReactorChoice::IoUring, refused(), Err(&sentence));
    }
}
