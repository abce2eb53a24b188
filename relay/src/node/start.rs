//! Starting workers: each on its own thread, where it makes its reactor, all let go at the same
//! time.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::NodeError;
use super::processors;
use crate::config::{Config, ReactorChoice};
use crate::control::ending::EndingGuard;
use crate::reactor::socket::SocketOptions;
use crate::reactor::{PollReactor, Reactor};
use crate::worker::cells::Cells;
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;
use crate::worker::mailbox::{Mailbox, mailboxes};
use crate::worker::settings::Settings;
use crate::worker::{Parts, Shared, Worker, turn};

/// How many workers, where, on which reactor.
pub(super) struct Plan {
    pub(super) workers: usize,
    /// The processor of each worker, if they are pinned.
    places: Option<Vec<usize>>,
    /// Why the reactor is the one it is, for metrics.
    reason: &'static str,
}

/// Workers that run.
pub(super) struct Started {
    pub(super) handles: Vec<WorkerHandle>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl Plan {
    /// From the configuration and what the kernel allows this process.
    pub(super) fn new(config: &Config) -> Result<Self, NodeError> {
        let reason = match config.node.reactor {
            ReactorChoice::Auto => "the only backend of this build",
            ReactorChoice::Mio => "by configuration",
            ReactorChoice::IoUring => {
                let why = "node.reactor is io_uring, but this build has only mio.";
                return Err(NodeError(why.to_owned()));
            }
        };
        let processors = processors::ours();
        let quota = processors::our_quota();
        let automatic = || processors::workers(processors.len(), quota);
        let workers = config.node.workers.unwrap_or_else(automatic);
        let places = processors::places(&processors, workers, quota);
        tracing::debug!(workers, ?processors, ?quota, pinned = places.is_some(), "planned");
        Ok(Self { workers, places, reason })
    }
}

/// What one worker's thread starts with.
struct Seat {
    core: usize,
    processor: Option<usize>,
    listener: TcpListener,
    mailbox: Mailbox,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    options: SocketOptions,
    clock: Clock,
    seed: u64,
    reason: &'static str,
}

/// Starts every worker, one listener and one guard each. They begin to turn when all of them are
/// there.
pub(super) fn workers(
    plan: &Plan,
    settings: &Arc<Settings>,
    listeners: Vec<TcpListener>,
    guards: Vec<EndingGuard>,
    options: &SocketOptions,
    clock: Clock,
    seed: u64,
) -> Result<Started, NodeError> {
    let shared = Arc::new(Shared::default());
    let mut started = Started { handles: Vec::new(), threads: Vec::new() };
    let mut starts = Vec::new();
    let mut seeds = fastrand::Rng::with_seed(seed);
    let mailboxes = mailboxes(plan.workers, settings.limits.mail_ring_max);
    for (core, ((listener, guard), mailbox)) in
        listeners.into_iter().zip(guards).zip(mailboxes).enumerate()
    {
        let seat = Seat {
            core,
            processor: plan.places.as_ref().and_then(|places| places.get(core).copied()),
            listener,
            mailbox,
            settings: Arc::clone(settings),
            shared: Arc::clone(&shared),
            options: options.clone(),
            clock,
            seed: seeds.u64(..),
            reason: plan.reason,
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
        turn::run(&mut worker, &mut reactor, clock);
    }
}

fn made(seat: Seat) -> Result<(Worker, PollReactor, WorkerHandle), NodeError> {
    let core = seat.core;
    let receive_bytes = seat.settings.limits.receive_bytes;
    let mut reactor =
        PollReactor::new(receive_bytes, seat.options).map_err(|error| failed(core, &error))?;
    let listener = reactor.add_listener(seat.listener).map_err(|error| failed(core, &error))?;
    let cells = Arc::new(Cells::default());
    let (backend, reason) = (reactor.backend(), seat.reason.to_owned());
    let (handle, queries) =
        WorkerHandle::new(core, backend, reason, Arc::clone(&cells), reactor.waker());
    seat.mailbox.set_waker(reactor.waker());
    let worker = Worker::new(Parts {
        settings: seat.settings,
        mailbox: seat.mailbox,
        cells,
        queries,
        shared: seat.shared,
        listeners: vec![listener],
        seed: seat.seed,
    });
    Ok((worker, reactor, handle))
}

fn failed(core: usize, why: &dyn std::fmt::Display) -> NodeError {
    NodeError(format!("Worker {core} cannot start: {why}."))
}
