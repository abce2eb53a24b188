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
//!   cluster   other nodes: where they are, and what is shown of them; peers: series of each
//!   streams   /metrics/streams: a bounded number of series of single streams
//!   api       /api/v1: lists from workers, in pages; guard: who may ask, budget: how often
//!   together  the same of all nodes: gather asks the others, proof is how they know each other
//!   status    /: the page that shows all of it in a browser
//!   reload    a changed configuration, without a restart
//!   draining  how far the node is on its way out
//!   hooks     back ends that are asked and told
//!   outside   streams that go to and come from other servers; api_outside: the same by the API
//!   token     keys that tokens are checked by, fetched for the workers
//!   trust     whom https servers that are called are trusted by
//!   watch     /watch: a page that plays a stream in a browser
//!   log       log lines, counted, on standard error
//! ```

mod api;
mod api_outside;
mod ask;
mod budget;
mod certificates;
mod cluster;
mod draining;
pub mod ending;
mod families;
mod gather;
mod guard;
mod health;
mod hooks;
mod http;
mod life;
pub mod log;
mod log_level;
mod metrics;
mod nodes;
mod openapi;
mod outside;
mod page;
mod peers;
mod places;
mod proof;
pub mod reload;
mod server;
mod state;
mod status;
mod stream_series;
mod together;
mod token_fetch;
mod token_keys;
mod trust;
mod usage;
mod vital;
mod watch;

#[cfg(test)]
mod testing;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::Effective;
use crate::tls::{ServerTls, Watch};
use crate::worker::Shared;
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;
use crate::worker::outside::NodeKey;
use ending::Endings;
use hooks::Hooks;
use outside::Outside;
use state::{Phase, State};
use vital::Vital;

/// Everything that the control thread is started with.
pub struct Control {
    /// Where operators connect.
    pub listener: TcpListener,
    /// Every worker, by number.
    pub workers: Vec<WorkerHandle>,
    /// What all workers share, and by which they send calls of hooks.
    pub shared: Arc<Shared>,
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
    /// The same for other nodes.
    pub link_tls: Option<(Arc<ServerTls>, Watch)>,
    /// Chance for pauses between tries.
    pub seed: u64,
    /// This node, where it is one of a cluster.
    pub node: Option<NodeKey>,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By a signal, every worker in its own time.
    InOrder,
    /// A worker or what every node needs failed, or a worker did not end when told to.
    Failed,
}

/// After the drain window, and after being told to stop, workers have this long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// When all workers have ended, back ends have this long to hear of it.
const LAST_CALLS: Duration = Duration::from_secs(3);

/// How often the heartbeats of workers are looked at.
const HEARTBEAT_SAMPLE: Duration = Duration::from_millis(500);

/// Runs on the calling thread until the node has ended. `ready` is called once, when signals are
/// handled and operators are served.
///
/// # Errors
///
/// The listener or the signals cannot be set up.
pub fn run(control: Control, ready: impl FnOnce()) -> io::Result<Outcome> {
    let Control { listener, workers, shared, endings, effective, clock, log, .. } = control;
    let files = [control.tls, control.link_tls];
    let [clients, nodes] =
        files.each_ref().map(|files| files.as_ref().map(|(tls, _)| Arc::clone(tls)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (settings, node) = (&effective.config.settings, &effective.config.node.name);
    let outside =
        Outside::new(workers.clone(), Arc::clone(&shared), clock, control.seed, control.node);
    outside.configure(settings);
    let vital = Vital::default();
    let (ours, vital_to_hooks) = (workers.clone(), vital.clone());
    let hooks =
        hooks::Parts { workers: ours, shared, settings, clock, node, vital: vital_to_hooks };
    let hooks = Hooks::new(hooks).map_err(io::Error::other)?;
    let mut parts = control.rereads;
    parts.push(Box::new(hooks::Files::new(&hooks)));
    let certificates = certificates::Certificates::new(clients, nodes);
    parts.extend(certificates.files());
    let reloader = reload::Reloader { parts, fit: control.fit, vital: vital.clone() };
    let state =
        State::new(workers, effective, clock, log, reloader, certificates, (hooks, outside));
    let state = Arc::new(state);
    runtime.block_on(async {
        let wishes = life::wishes(&state)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = http::router(Arc::clone(&state));
        let bounds = server::Bounds::of(&state.in_force().limits);
        vital.spawn(server::serve(listener, router, bounds, Arc::clone(&state.http_refused)));
        vital.spawn(sample_heartbeats(Arc::clone(&state)));
        vital.spawn(keep_token_keys(Arc::clone(&state)));
        vital.spawn(cluster::look_up_peers(Arc::clone(&state)));
        vital.spawn(peers::watch(Arc::clone(&state)));
        vital.spawn(Arc::clone(&state.hooks).run());
        vital.spawn(Arc::clone(&state.outside).run());
        for (tls, watch) in files.into_iter().flatten() {
            let state = Arc::clone(&state);
            vital.spawn(async move { state.certificates.watch(&tls, watch).await });
        }
        if let Some(wishes) = state.wishes.get().cloned() {
            tokio::spawn(async move {
                vital.failed().await;
                // When nobody listens any more the node has ended.
                let _ = wishes.send(life::Wish::Fail);
            });
        }
        state.set_phase(Phase::Running);
        ready();
        let outcome = life::live(&state, endings, wishes, STOP_PATIENCE).await;
        state.hooks.settle(LAST_CALLS).await;
        Ok(outcome)
    })
}

async fn keep_token_keys(state: Arc<State>) {
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let fetch = |url: String, bytes_max| {
        let ca_file = state.in_force().effective.config.settings.token_keys_ca_file.clone();
        async move { token_fetch::fetch(&url, bytes_max, ca_file.as_deref()).await }
    };
    let in_force = || {
        let now = state.in_force();
        (token_keys::urls(&now.effective.config.settings), now.limits.clone())
    };
    token_keys::keep(in_force, state.workers.clone(), unix, fetch).await;
}

async fn sample_heartbeats(state: Arc<State>) {
    let mut ticks = tokio::time::interval(HEARTBEAT_SAMPLE);
    let mut left_out = 0;
    loop {
        ticks.tick().await;
        state.heartbeats.sample(&state.workers);
        let now = state.log.left_out();
        if now > left_out {
            tracing::warn!(lines = now - left_out, "log lines were left out, too many of one kind");
            left_out = now;
        }
    }
}
