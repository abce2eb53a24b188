//! The slow side of a node, on one thread: HTTP for operators, metrics, health, and the way out.
//!
//! Ordinary libraries (tokio, axum, hyper) live here and nowhere else. Nothing here is on the way
//! of a media byte: workers are read through their cells, asked through bounded rings with a
//! deadline, and never waited for without one. A worker that hangs can make an answer fail, not
//! hang.
//!
//! ```text
//!   mod       the life of the node: signals, drain, the ends of workers
//!   state     what all handlers share
//!   server    connections of operators, bounded in number, size and time
//!   http      routes, who may use them, errors
//!   health    /startupz /readyz /livez
//!   metrics   /metrics: cells summed into series
//!   api       /api/v1: lists from workers, in pages
//!   log       log lines, counted, on standard error
//! ```

mod api;
mod ask;
pub mod ending;
mod families;
mod health;
mod http;
pub mod log;
mod metrics;
mod page;
mod server;
mod state;

#[cfg(test)]
mod testing;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::config::Effective;
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;
use crate::worker::report::Query;
use ending::{Ending, Endings};
use state::{Phase, State};

/// Everything that the control thread is started with.
pub struct Control {
    /// Where operators connect.
    pub listener: TcpListener,
    /// Every worker, by number.
    pub workers: Vec<WorkerHandle>,
    /// Where the ends of workers' threads are told.
    pub endings: Endings,
    /// The configuration in force.
    pub effective: Effective,
    /// The clock of all workers.
    pub clock: Clock,
    /// What was logged so far.
    pub log: log::LogCounts,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By a signal, every worker in its own time.
    InOrder,
    /// A worker failed, or did not end when told to.
    Failed,
}

/// After the drain window, and after being told to stop, workers have this long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How often the heartbeats of workers are looked at.
const HEARTBEAT_SAMPLE: Duration = Duration::from_millis(500);

/// Runs on the calling thread until the node has ended. `ready` is called once, when signals are
/// handled and operators are served.
///
/// # Errors
///
/// The listener or the signals cannot be set up.
pub fn run(control: Control, ready: impl FnOnce()) -> io::Result<Outcome> {
    let Control { listener, workers, endings, effective, clock, log } = control;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let window = effective.config.drain.window;
    let state = Arc::new(State::new(workers, &effective, clock, log));
    runtime.block_on(async {
        let signals = Signals::new()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = http::router(Arc::clone(&state));
        tokio::spawn(server::serve(listener, router, server::BOUNDS));
        tokio::spawn(sample_heartbeats(Arc::clone(&state)));
        state.set_phase(Phase::Running);
        ready();
        Ok(live(&state, endings, signals, window).await)
    })
}

/// The signals that end a node.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// What a signal asks for.
enum Wish {
    Drain,
    Stop,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Drain,
            _ = self.interrupt.recv() => Wish::Stop,
        }
    }
}

async fn sample_heartbeats(state: Arc<State>) {
    let mut ticks = tokio::time::interval(HEARTBEAT_SAMPLE);
    loop {
        ticks.tick().await;
        state.heartbeats.sample(&state.workers);
    }
}

/// From running to ended. The first SIGTERM drains, if there is a window for it; everything
/// further, or a failing worker, stops.
async fn live(
    state: &State,
    mut endings: Endings,
    mut signals: Signals,
    window: Duration,
) -> Outcome {
    let mut outcome = Outcome::InOrder;
    let mut running = state.workers.len();
    let mut stopping = false;
    let mut deadline: Option<Instant> = None;
    while running > 0 {
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let stop = tokio::select! {
            wish = signals.next() => {
                if matches!(wish, Wish::Drain) && !window.is_zero() && state.phase() != Phase::Draining {
                    tracing::info!(window_ms = window.as_millis(), "draining");
                    state.set_phase(Phase::Draining);
                    tell(state, move || Query::Drain { window });
                    deadline = Some(Instant::now() + window + STOP_PATIENCE);
                    false
                } else {
                    true
                }
            }
            ending = endings.next() => {
                running -= 1;
                if ended_well(ending, state) {
                    false
                } else {
                    outcome = Outcome::Failed;
                    true
                }
            }
            () = due => {
                if stopping {
                    tracing::error!(running, "workers did not end when told to stop");
                    return Outcome::Failed;
                }
                tracing::warn!(running, "workers did not end within the drain window");
                true
            }
        };
        if stop && !stopping {
            tracing::info!("stopping");
            stopping = true;
            state.set_phase(Phase::Draining);
            tell(state, || Query::Stop);
            deadline = Some(Instant::now() + STOP_PATIENCE);
        }
    }
    outcome
}

/// A worker may only end when it was told to.
fn ended_well(ending: Ending, state: &State) -> bool {
    let Ending { core, panicked } = ending;
    let told = state.phase() == Phase::Draining;
    if panicked || !told {
        tracing::error!(core, panicked, "a worker ended by itself");
    } else {
        tracing::debug!(core, "a worker ended");
    }
    told && !panicked
}

/// Tells every worker. One whose ring is full is told once more shortly after: it may just be busy.
fn tell(state: &State, order: impl Fn() -> Query + Clone + Send + 'static) {
    for worker in &state.workers {
        if worker.ask(order()).is_err() {
            tracing::warn!(core = worker.core, "a worker takes no orders, trying again");
            tokio::spawn(ask::insist(worker.clone(), order.clone()));
        }
    }
}
