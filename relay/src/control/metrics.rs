//! `/metrics`: the cells of all workers, summed when somebody asks.
//!
//! Every series that can exist does so from 0 at the start. A `core` label is only where a core
//! matters; histograms are merged over cores. No name chosen by a peer becomes a label.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};

use super::budget::Budget;
use super::families::{Families, float, seconds};
use super::log::LEVELS;
use super::state::{Phase, State};
use super::usage;
use crate::limits::Value;
use crate::worker::cells::{Cell64, Cells, Family, HistogramReading};
use crate::worker::labels::{Label, MessageKind};

/// Everything `/metrics` shows.
pub(super) struct Metrics {
    registry: Registry,
    state: Arc<State>,
    /// Pages that may be made, and the last one: this thread has others to answer.
    budget: Budget,
    last: Mutex<String>,
}

/// Pages that are made in a second; who asks more often is given the last one again.
const PAGES_PER_SECOND: usize = 50;

impl Metrics {
    pub(super) fn new(state: Arc<State>) -> Self {
        let registry = Registry::new();
        let node = NodeCollector::new(Arc::clone(&state));
        registry.register(Box::new(node)).expect("our names are distinct, as a test shows");
        let process = Box::new(ProcessCollector::for_self());
        registry.register(process).expect("nobody else registers process metrics");
        Self { registry, state, budget: Budget::default(), last: Mutex::default() }
    }

    /// The text exposition format, version 0.0.4.
    pub(super) fn text(&self) -> Result<String, prometheus::Error> {
        self.text_at(Instant::now())
    }

    fn text_at(&self, begun: Instant) -> Result<String, prometheus::Error> {
        if !self.budget.spend(PAGES_PER_SECOND, begun) {
            return Ok(self.last.lock().clone());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        self.state.set_scrape_duration(begun.elapsed());
        let text = String::from_utf8_lossy(&text).into_owned();
        self.last.lock().clone_from(&text);
        Ok(text)
    }
}

/// The series of the relay itself.
struct NodeCollector {
    state: Arc<State>,
    descs: Vec<Desc>,
}

impl NodeCollector {
    fn new(state: Arc<State>) -> Self {
        let descs = collect(&state)
            .iter()
            .map(|family| {
                let (name, help) = (family.name().to_owned(), family.help().to_owned());
                let labels = family.get_metric().first().map_or(&[][..], |m| m.get_label());
                let labels = labels.iter().map(|label| label.name().to_owned()).collect();
                Desc::new(name, help, labels, Default::default())
                    .expect("our names are valid, as a test shows")
            })
            .collect();
        Self { state, descs }
    }
}

impl Collector for NodeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        collect(&self.state)
    }
}

fn collect(state: &State) -> Vec<MetricFamily> {
    let mut out = Families::default();
    node(&mut out, state);
    let cells = AllCells(state.workers.iter().map(|worker| &*worker.cells).collect());
    connections(&mut out, state, &cells);
    traffic(&mut out, &cells);
    viewers(&mut out, &cells);
    reactor(&mut out, &cells);
    super::cluster::expose(&mut out, &cells, state);
    state.gatherer.expose(&mut out);
    limits(&mut out, state);
    let overloaded: Vec<_> = cells.sum(|cells| &cells.hooks_overloaded).collect();
    state.hooks.expose(&mut out, &overloaded);
    let help = "Connections to other servers that were to be opened, by result.";
    out.counter("relay_dials_total", &["result"], help).cells(&[], cells.sum(|cells| &cells.dials));
    state.outside.families(&mut out);
    state.certificates.collect(&mut out);
    out.into_inner()
}

fn node(out: &mut Families, state: &State) {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("BUILD_COMMIT").unwrap_or("unknown");
    out.gauge("relay_build_info", &["version", "commit"], "What was built; always 1.")
        .value(&[version, commit], 1.0);
    out.gauge("relay_node_info", &["node"], "The node's name; always 1.")
        .value(&[&state.node], 1.0);
    let help = "Digest of the settings in force but [node], [listen] and cluster.peers; always 1.";
    out.gauge("relay_config_hash_info", &["hash"], help).value(&[&state.in_force().hash], 1.0);
    let labels = &["core", "backend", "reason"];
    let mut info = out.gauge("relay_reactor_info", labels, "Each core's reactor; always 1.");
    for worker in &state.workers {
        info.value(&[&worker.core.to_string(), worker.backend, &worker.backend_reason], 1.0);
    }
    let help = "Readings of the configuration while the node runs.";
    out.counter("relay_config_reloads_total", &["result"], help)
        .value(&["ok"], float(state.reloads.good.get()))
        .value(&["error"], float(state.reloads.bad.get()));
    let draining = if state.phase() == Phase::Draining { 1.0 } else { 0.0 };
    out.gauge("relay_draining", &[], "1 while the node is on its way out.").value(&[], draining);
    out.gauge("relay_scrape_duration_seconds", &[], "Time spent on the scrape before this one.")
        .value(&[], state.scrape_duration().as_secs_f64());
    let mut lines = out.counter("relay_log_messages_total", &["level"], "Log messages by level.");
    for level in LEVELS {
        lines.value(&[&level.as_str().to_lowercase()], float(state.log.messages(level)));
    }
    out.counter(
        "relay_log_lines_lost_total",
        &[],
        "Log lines dropped since standard error is slow.",
    )
    .value(&[], float(state.log.lost()));
    let help = "Log lines left out since there were too many of one kind in a second.";
    out.counter("relay_log_lines_left_out_total", &[], help)
        .value(&[], float(state.log.left_out()));
}

fn connections(out: &mut Families, state: &State, cells: &AllCells<'_>) {
    let help = "Open connections.";
    let mut open = out.gauge("relay_connections", &["core", "role", "transport"], help);
    for (core, cells) in cells.by_core() {
        open.cells(&[&core], cells.connections.iter());
    }
    let help = "Connections that entered a role; every one begins as pending.";
    out.counter("relay_connections_opened_total", &["role", "transport"], help)
        .cells(&[], cells.sum(|cells| &cells.connections_opened));
    let help = "Connections that ended, by the last role they had.";
    out.counter("relay_connections_closed_total", &["role", "transport", "reason"], help)
        .cells(&[], cells.sum(|cells| &cells.connections_closed));
    out.counter("relay_refused_total", &["reason"], "Connections and requests turned away.")
        .cells(&[], cells.sum(|cells| &cells.refused))
        .value(&["http"], float(state.http_refused.get()))
        .value(&["api"], float(state.api_refused.get()));
    out.counter("relay_handshakes_total", &["result", "transport"], "Handshakes by result.")
        .cells(&[], cells.sum(|cells| &cells.handshakes));
    let help = "Handshakes of TLS by result.";
    out.counter("relay_tls_handshakes_total", &["result"], help)
        .cells(&[], cells.sum(|cells| &cells.tls_handshakes));
    let help = "From accept to the end of a successful handshake of TLS.";
    out.histogram("relay_tls_handshake_duration_seconds", &[], help)
        .reading(&[], &cells.merge(|cells| cells.tls_handshake_duration.read()));
    let help = "From accept to the end of a successful handshake.";
    out.histogram("relay_handshake_duration_seconds", &[], help)
        .reading(&[], &cells.merge(|cells| cells.handshake_duration.read()));
}

fn traffic(out: &mut Families, cells: &AllCells<'_>) {
    let help = "Bytes received, by the connection's role.";
    let mut bytes = out.counter("relay_ingest_bytes_total", &["core", "via"], help);
    for (core, cells) in cells.by_core() {
        bytes.cells(&[&core], cells.ingest_bytes.iter());
    }
    let help = "Bytes handed to the kernel, by the connection's role.";
    let mut bytes = out.counter("relay_egress_bytes_total", &["core", "via"], help);
    for (core, cells) in cells.by_core() {
        bytes.cells(&[&core], cells.egress_bytes.iter());
    }
    let is_media = |(kind, _): &(MessageKind, u64)| *kind != MessageKind::Control;
    let help = "Complete messages of audio, video and data received.";
    out.counter("relay_ingest_messages_total", &["type"], help)
        .cells(&[], cells.sum(|cells| &cells.ingest_messages).filter(is_media));
    let help = "Messages of audio, video and data handed to the kernel, once for each reader.";
    out.counter("relay_egress_messages_total", &["type"], help)
        .cells(&[], cells.sum(|cells| &cells.egress_messages).filter(is_media));
    let help = "Messages not taken from a publisher or not given to a player.";
    out.counter("relay_messages_dropped_total", &["type", "reason"], help)
        .cells(&[], cells.sum(|cells| &cells.messages_dropped));
    out.counter("relay_copied_bytes_total", &[], "Media bytes copied by the relay itself.").value(
        &[],
        cells.total(|cells| &cells.copied_bytes) + cells.total(|cells| &cells.assembled_bytes),
    );
    out.gauge("relay_memory_bytes", &["kind"], "Bytes held, by what holds them.")
        .cells(&[], cells.sum(|cells| &cells.memory));
}

fn viewers(out: &mut Families, cells: &AllCells<'_>) {
    out.gauge("relay_streams", &["source"], "Streams with a publisher, or in their grace.")
        .cells(&[], cells.sum(|cells| &cells.streams));
    out.gauge("relay_players", &["source"], "Players.")
        .cells(&[], cells.sum(|cells| &cells.players));
    let help = "Players closed by the relay, or lost through an error.";
    out.counter("relay_players_dropped_total", &["reason"], help)
        .cells(&[], cells.sum(|cells| &cells.players_dropped));
    let help = "Times that a publisher was not read on since it sent more than it may.";
    out.counter("relay_publishers_slowed_total", &[], help)
        .value(&[], cells.total(|cells| &cells.publishers_slowed));
    let help = "Players that found no room and were told where there is some.";
    out.counter("relay_players_redirected_total", &[], help)
        .value(&[], cells.total(|cells| &cells.players_redirected));
    let help = "Publishers and players that were let go since the node drains, and those that came \
                and were told where to go instead.";
    out.counter("relay_drain_clients_total", &["role", "way"], help)
        .cells(&[], cells.sum(|cells| &cells.drained));
    let help = "Players that did not announce what their stream asks for; they are sent it.";
    out.counter("relay_players_unannounced_total", &["need"], help)
        .cells(&[], cells.sum(|cells| &cells.players_unannounced));
    out.counter("relay_player_jumps_total", &["reason"], "Jumps of slow players.")
        .cells(&[], cells.sum(|cells| &cells.player_jumps));
    let help =
        "From a message complete at ingest to written to the socket of a player at the head.";
    let mut lag = out.histogram("relay_fanout_lag_seconds", &["hop"], help);
    for (hop, reading) in cells.merge_each(|cells| cells.fanout_lag.iter().collect()) {
        lag.reading(&[hop.label()], &reading);
    }
    let help = "From the play command to the first key frame written.";
    let mut join = out.histogram("relay_join_time_seconds", &["source"], help);
    for (source, reading) in cells.merge_each(|cells| cells.join_time.iter().collect()) {
        join.reading(&[source.label()], &reading);
    }
    let help = "How far players are behind their publisher, observed when they are sent to.";
    out.histogram("relay_player_lag_seconds", &[], help)
        .reading(&[], &cells.merge(|cells| cells.player_lag.read()));
}

fn reactor(out: &mut Families, cells: &AllCells<'_>) {
    type Row = (&'static str, fn(&Cells) -> &Cell64, &'static str);
    const TIMES: [Row; 2] = [
        ("relay_reactor_busy_seconds_total", |c| &c.busy_ns, "Time spent working."),
        ("relay_reactor_poll_wait_seconds_total", |c| &c.wait_ns, "Time spent waiting."),
    ];
    const COUNTS: [Row; 13] = [
        ("relay_reactor_turns_total", |c| &c.turns, "Turns of the loop."),
        ("relay_io_submissions_total", |c| &c.submissions, "Operations given to the reactor."),
        ("relay_syscalls_total", |c| &c.syscalls, "System calls of the reactor."),
        ("relay_sends_total", |c| &c.sends, "Batches and replies submitted."),
        (
            "relay_short_sends_total",
            |c| &c.short_sends,
            "Attempts to write that could not take all.",
        ),
        ("relay_connections_given_total", |c| &c.connections_given, "Given to an emptier core."),
        ("relay_connections_taken_total", |c| &c.connections_taken, "Taken from a fuller core."),
        ("relay_tunnel_polls_total", |c| &c.tunnel_polls, "Requests of tunnels answered."),
        (
            "relay_tunnel_empty_polls_total",
            |c| &c.tunnel_empty_polls,
            "Those that brought nothing.",
        ),
        ("relay_tunnel_moves_total", |c| &c.tunnel_moves, "Carriers sent to another core."),
        ("relay_mail_segments_total", |c| &c.mail_sent, "Segments mailed to other cores."),
        ("relay_mail_segments_lost_total", |c| &c.mail_lost, "Segments that found a ring full."),
        ("relay_mail_snapshots_total", |c| &c.mail_snapshots, "Snapshots given to other cores."),
    ];
    for (name, cell, help) in TIMES {
        let mut family = out.counter(name, &["core"], help);
        for (core, cells) in cells.by_core() {
            family.value(&[&core], seconds(cell(cells).get()));
        }
    }
    for (name, cell, help) in COUNTS {
        let mut family = out.counter(name, &["core"], help);
        for (core, cells) in cells.by_core() {
            family.value(&[&core], float(cell(cells).get()));
        }
    }
    let mut tunnels = out.gauge("relay_tunnel_sessions", &["core"], "Tunnelled sessions.");
    for (core, cells) in cells.by_core() {
        tunnels.value(&[&core], float(cells.tunnels.get()));
    }
    let help = "The flush age that a core asks for.";
    let mut flush = out.gauge("relay_flush_level_seconds", &["core"], help);
    for (core, cells) in cells.by_core() {
        flush.value(&[&core], seconds(cells.flush_level_ns.get()));
    }
    out.histogram("relay_reactor_turn_duration_seconds", &[], "Working time of one turn.")
        .reading(&[], &cells.merge(|cells| cells.turn_duration.read()));
}

fn limits(out: &mut Families, state: &State) {
    let help = "Limits in force, in seconds, bytes or things.";
    let mut limits = out.gauge("relay_limit", &["name"], help);
    for row in state.in_force().limits.table() {
        let value = match row.value {
            Value::Time(time) => time.as_secs_f64(),
            Value::Bytes(number) | Value::Count(number) => {
                float(u64::try_from(number).unwrap_or(u64::MAX))
            }
        };
        limits.value(&[row.name], value);
    }
    let help = "How much of a limit is used: of one of the node by all, of others by the one \
                that uses most.";
    let mut used = out.gauge("relay_limit_used", &["name"], help);
    for (name, number) in usage::of(state) {
        used.value(&[name], float(number));
    }
    let help = "Limits of applications that have their own, in seconds, bytes or things.";
    let mut limits = out.gauge("relay_app_limit", &["app", "name"], help);
    let apps = usage::of_apps(state);
    for row in &apps {
        limits.value(&[&row.app, row.name], row.limit);
    }
    let help = "How much of such a limit is used by the application or stream that uses most.";
    let mut used = out.gauge("relay_app_limit_used", &["app", "name"], help);
    for row in &apps {
        if let Some(number) = row.used {
            used.value(&[&row.app, row.name], float(number));
        }
    }
}

/// The cells of all cores.
pub(super) struct AllCells<'a>(Vec<&'a Cells>);

impl<'a> AllCells<'a> {
    fn by_core(&self) -> impl Iterator<Item = (String, &'a Cells)> {
        self.0.iter().enumerate().map(|(core, cells)| (core.to_string(), *cells))
    }

    pub(super) fn total(&self, cell: fn(&Cells) -> &Cell64) -> f64 {
        float(self.0.iter().map(|cells| cell(cells).get()).fold(0, u64::wrapping_add))
    }

    /// The sum over cores of each cell of a family.
    pub(super) fn sum<L: Label, const N: usize>(
        &self,
        family: fn(&Cells) -> &Family<L, N>,
    ) -> impl Iterator<Item = (L, u64)> {
        let mut sums = [0_u64; N];
        for cells in &self.0 {
            for (sum, (_, count)) in sums.iter_mut().zip(family(cells).iter()) {
                *sum = sum.wrapping_add(count);
            }
        }
        sums.into_iter().enumerate().map(|(index, sum)| (L::at(index), sum))
    }

    /// The sum over cores of a histogram.
    pub(super) fn merge(&self, read: fn(&Cells) -> HistogramReading) -> HistogramReading {
        let mut readings = self.0.iter().map(|cells| read(cells));
        let first = readings.next().unwrap_or_else(|| read(&Cells::default()));
        readings.fold(first, |mut sum, reading| {
            sum.add(&reading);
            sum
        })
    }

    /// The sum over cores of each histogram of a family.
    fn merge_each<L>(
        &self,
        read: fn(&Cells) -> Vec<(L, HistogramReading)>,
    ) -> Vec<(L, HistogramReading)> {
        let mut readings = self.0.iter().map(|cells| read(cells));
        let mut sums = readings.next().unwrap_or_else(|| read(&Cells::default()));
        for reading in readings {
            for ((_, sum), (_, more)) in sums.iter_mut().zip(&reading) {
                sum.add(more);
            }
        }
        sums
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
