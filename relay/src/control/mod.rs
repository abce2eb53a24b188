//! The slow side of a node, on one thread: HTTP for operators, metrics, health, and the way out.
//!
//! Ordinary libraries (tokio, axum, hyper) live here and nowhere else. Nothing here is on the way
//! of a media byte: workers are read through their cells, asked through bounded rings with a
//! deadline, and never waited for without one. A worker that hangs can make an answer fail, not
//! hang.
//!
//! ```text
//!   life      from running to ended: signals, drain, the ends of workers
//!   state     what all handlers share
//!   server    connections of operators, bounded in number, size and time
//!   http      routes, who may use them, errors
//!   health    /startupz /readyz /livez
//!   metrics   /metrics: cells summed into series
//!   api       /api/v1: lists from workers, in pages; guard: who may ask
//!   reload    a changed configuration, without a restart
//!   log       log lines, counted, on standard error
//! ```

mod api;
mod ask;
mod certificates;
pub mod ending;
mod families;
mod guard;
mod health;
mod http;
mod life;
pub mod log;
mod metrics;
mod page;
mod places;
pub mod reload;
mod server;
mod state;
mod usage;

#[cfg(test)]
mod testing;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Effective;
use crate::tls::{ServerTls, Watch};
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;
use ending::Endings;
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
    /// What was logged so far, and how much is.
    pub log: log::LogCounts,
    /// What else a reload reads again.
    pub rereads: Vec<Box<dyn reload::Reread>>,
    /// Fits limits to this host.
    pub fit: reload::Fit,
    /// The certificates, if there are any, and what is known of their files.
    pub tls: Option<(Arc<ServerTls>, Watch)>,
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
    let Control { listener, workers, endings, effective, clock, log, rereads, fit, tls } = control;
    let (tls, watch) = tls.unzip();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reloader = reload::Reloader { parts: rereads, fit };
    let state = Arc::new(State::new(workers, effective, clock, log, reloader, tls));
    runtime.block_on(async {
        let wishes = life::wishes()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = http::router(Arc::clone(&state));
        let bounds = server::Bounds::of(&state.in_force().limits);
        tokio::spawn(server::serve(listener, router, bounds, Arc::clone(&state.http_refused)));
        tokio::spawn(sample_heartbeats(Arc::clone(&state)));
        if let Some(watch) = watch {
            let state = Arc::clone(&state);
            tokio::spawn(async move { state.certificates.watch(watch).await });
        }
        state.set_phase(Phase::Running);
        ready();
        Ok(life::live(&state, endings, wishes, STOP_PATIENCE).await)
    })
}

async fn sample_heartbeats(state: Arc<State>) {
    let mut ticks = tokio::time::interval(HEARTBEAT_SAMPLE);
    loop {
        ticks.tick().await;
        state.heartbeats.sample(&state.workers);
    }
}
