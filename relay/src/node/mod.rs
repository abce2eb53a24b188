//! A node: puts the rooms together, starts the threads, and ends with them.
//!
//! ```text
//!   main thread    log, listeners, workers; then it is the control thread
//!   relay-worker-N one per core: reactor and worker
//!   relay-log      writes log lines
//! ```
//!
//! Nothing here is on the way of a byte. What cannot be had at the start ends the program with one
//! sentence; after the start a worker that fails ends it too, and who started it starts it again.

mod cgroup;
mod chance;
mod cluster;
mod files;
mod fronts;
mod memory;
mod processors;
mod start;

use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Effective, Log, LogFormat, shown, without_secrets};
use crate::control::{self, Control, Outcome, ending, log, reload};
use crate::reactor::socket::{SocketOptions, listen};
use crate::worker::Shared;
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;

/// Why a node could not start, or how it failed: one sentence, for exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NodeError(String);

/// Runs a node until it is told to end and has ended in order.
///
/// # Errors
///
/// What it needs cannot be had, or a worker failed.
pub fn run(mut effective: Effective) -> Result<(), NodeError> {
    let clock = Clock::start();
    let logging = log::start(effective.config.log)
        .map_err(|error| NodeError(format!("The log cannot be set up: {error}.")))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
    let plan = start::Plan::new(&effective.config)?;
    let files = files::Files::prepare(&mut effective.config.settings.limits, plan.workers);
    let memory = memory::Memory::fit(&mut effective);
    memory.judge(&effective.config.settings.limits)?;
    let count = plan.workers;
    let fit: reload::Fit = Box::new(move |effective| {
        files::Files::prepare(&mut effective.config.settings.limits, count);
        let memory = memory::Memory::fit(effective);
        let limits = &effective.config.settings.limits;
        memory.judge(limits).map_err(|NodeError(sentence)| sentence)?;
        memory.log(limits);
        Ok(())
    });
    let config = effective.config.clone();
    let options = socket_options(&config);
    let tls = fronts::certificates(&config)?;
    let (links, link_tls) = cluster::certificates(&config)?.unzip();
    let http = open("listen.http", config.listen.http, 1, &options)?;
    let http_address = bound(http.first(), config.listen.http);
    let fronts = fronts::Fronts::open(&config, plan.workers, &options)?;
    let (addresses, link) = (fronts.addresses.clone(), fronts.link);
    if let Some(chosen) = addresses.first() {
        effective.config.listen.rtmp = *chosen;
    }
    files.log();
    memory.log(&config.settings.limits);
    plan.log();
    let listener = http.into_iter().next().expect("one was asked for");

    let settings = Arc::new(config.settings.clone());
    let (guards, endings) = ending::channel(plan.workers);
    let cluster = cluster::settings(&config, fronts.link, http_address);
    // The nodes of a cluster know each other's marks.
    let node = cluster.as_ref().map(|cluster| cluster.credentials.identity.key);
    let mark = node.map_or_else(seed, |key| key.0);
    let shared = Shared::of(plan.workers)
        .with_road(settings.limits.hook_calls_max)
        .with_outside(settings.limits.outside_news_max, mark)
        .with_challenges(chance::bytes())
        .with_tls(tls.as_ref().map(|(tls, _)| Arc::clone(tls)));
    let shared = Arc::new(shared);
    let parts = start::Parts {
        settings,
        shared: Arc::clone(&shared),
        guards,
        options,
        clock,
        cluster,
        links,
    };
    let workers = start::workers(&plan, parts, fronts.sockets, seed())?;
    let said = Said::new(&config, &workers.handles, &addresses, http_address, link);
    let log = logging.counts.clone();
    let handles = workers.handles;
    let rereads = Vec::new();
    let control = Control {
        listener,
        workers: handles,
        shared,
        endings,
        effective,
        clock,
        log,
        rereads,
        fit,
        tls,
        link_tls,
        seed: seed(),
        node,
    };
    let outcome = control::run(control, || {
        if config.log.format == LogFormat::Text {
            // Whoever started us may not be listening; that is no reason not to run.
            let mut out = io::stdout().lock();
            let _ = out.write_all(said.text().as_bytes()).and_then(|()| out.flush());
        }
        said.log();
    });
    match outcome {
        Ok(Outcome::InOrder) => {
            for thread in workers.threads {
                // A panic would have been told as a failed ending.
                let _ = thread.join();
            }
            tracing::info!("ended");
            Ok(())
        }
        Ok(Outcome::Failed) => Err(NodeError("A worker failed; the log says which.".to_owned())),
        Err(error) => Err(NodeError(format!("The control thread cannot start: {error}."))),
    }
}

/// Says on standard error why there is no node: in the form of its log, since whoever reads that
/// reads this.
pub fn complain(log: Log, sentences: &[String]) {
    if log.format == LogFormat::Json {
        return log::apart(log, || sentences.iter().for_each(|why| tracing::error!("{why}")));
    }
    for why in sentences {
        // Nothing can be said about a standard error that is closed.
        let _ = writeln!(io::stderr(), "relay: {why}");
    }
}

/// The options of every connection. Unless configured, the kernel's own verdict on a peer that
/// takes nothing comes after ours, so that ours carries the reason.
fn socket_options(config: &Config) -> SocketOptions {
    let sockets = &config.sockets;
    let defaults = SocketOptions::default();
    let ours = config.settings.limits.send_stall_max + Duration::from_secs(15);
    let derived = defaults.user_timeout.map(|default| default.max(ours));
    SocketOptions {
        nodelay: sockets.nodelay,
        congestion: sockets.congestion.clone(),
        notsent_bytes_max: sockets.notsent_bytes_max,
        user_timeout: sockets.user_timeout.or(derived),
        ..defaults
    }
}

fn open(
    name: &str,
    address: SocketAddr,
    count: usize,
    options: &SocketOptions,
) -> Result<Vec<TcpListener>, NodeError> {
    listen(address, count, options).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "the port is taken".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not open the port".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this host does not have the address".to_owned(),
            _ => format!("it cannot be opened: {error}"),
        };
        NodeError(format!("{name} is {address}, but {why}."))
    })
}

/// The address with the port that the kernel chose.
fn bound(listener: Option<&TcpListener>, wanted: SocketAddr) -> SocketAddr {
    listener.and_then(|listener| listener.local_addr().ok()).unwrap_or(wanted)
}

/// What is said at the start: with text logs on standard output for people, in the log for all.
struct Said {
    node: String,
    workers: usize,
    backend: String,
    rtmp: SocketAddr,
    http: SocketAddr,
    /// Where other nodes find it.
    link: Option<SocketAddr>,
    /// Further listeners, and what each takes.
    further: Vec<(SocketAddr, String)>,
    has_tls: bool,
    /// Who may publish and play.
    access: Vec<String>,
}

impl Said {
    fn new(
        config: &Config,
        workers: &[WorkerHandle],
        addresses: &[SocketAddr],
        http: SocketAddr,
        link: Option<SocketAddr>,
    ) -> Self {
        let mut backends: Vec<_> = workers.iter().map(|worker| worker.backend).collect();
        backends.dedup();
        let backend = backends.join(" and ");
        let node = config.node.name.clone();
        let rtmp = addresses.first().copied().unwrap_or(config.listen.rtmp);
        let takes = config.listeners.iter().map(|listener| shown(listener.speaks));
        let further = addresses.iter().skip(1).copied().zip(takes).collect();
        let has_tls = !config.tls.certificates.is_empty();
        let access = match config.settings.access_is_default() {
            true => vec![DEFAULT_ACCESS.to_owned()],
            // The URL of a rule's keys may hold a secret.
            false => {
                let lines = config.settings.access_lines();
                lines.iter().map(|line| without_secrets(line, false)).collect()
            }
        };
        Self { node, workers: workers.len(), backend, rtmp, http, link, further, has_tls, access }
    }

    /// Programs read the lines `rtmp`, `http`, `link` and `listener`.
    fn text(&self) -> String {
        let mut further = String::new();
        for (number, (address, takes)) in self.further.iter().enumerate() {
            let (number, address) = (number + 1, reachable(*address));
            further.push_str(&format!("listener {number}  {address} takes {takes}\n"));
        }
        format!(
            "relay {version}, node {node}, {count} worker{s} on {backend}\n\
             rtmp  rtmp://{rtmp}/live/<name>\n\
             http  http://{http}/\n\
             {link}\
             {further}\
             Publish to the rtmp address and play from it{secured}; \
             the http address has health, metrics and API.\n{access}",
            version = env!("CARGO_PKG_VERSION"),
            node = self.node,
            count = self.workers,
            s = if self.workers == 1 { "" } else { "s" },
            backend = self.backend,
            secured = if self.has_tls { ", or as rtmps://" } else { "" },
            rtmp = reachable(self.rtmp),
            http = reachable(self.http),
            link =
                self.link.map_or(String::new(), |link| format!("link  {link} for other nodes\n")),
            access = self.access.iter().map(|line| format!("{line}\n")).collect::<String>(),
        )
    }

    fn log(&self) {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = self.node,
            workers = self.workers,
            reactor = self.backend,
            rtmp = %self.rtmp,
            http = %self.http,
            link = self.link.map(tracing::field::display),
            "started"
        );
        for line in &self.access {
            tracing::info!("{}", line.trim_end_matches('.'));
        }
    }
}

/// What holds unless somebody configures it.
const DEFAULT_ACCESS: &str = "Loopback and private networks may publish and play, nobody else; \
    settings publish and play of [apps.\"*\"] say who.";

/// An address to type: every address of the host is written as `localhost`.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

/// The one source of chance of a node: the keys that the standard library draws for its hash maps.
fn seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
