//! `bench cluster`: what it costs a stream to come by way of other nodes, and what it costs a node
//! to feed another one.
//!
//! Latency: four nodes in a row, each of which may feed one other, all on the server's core; the
//! first has the publisher and every one of them ten players, at the same time. CPU: one node with
//! many publishers, whose streams another node plays over one link, beside the same node alone,
//! whose players have a connection each.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loadgen::clock;
use loadgen::measure::SpanKind;
use loadgen::units;
use serde::Serialize;

use crate::account::cpu_of;
use crate::load::{Habit, Load, Running, Stream, Sum, count, everybody_came, sleep_until};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, figure, give_out, none_wrong, number};
use crate::server::{Flush, Kind, Server};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long to measure at a time, in whole seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Streams that cross from one node to another.
    #[arg(long, value_name = "N", default_value = "200", value_parser = units::count)]
    streams: usize,
    /// Bits per second of each of them.
    #[arg(long, value_name = "RATE", default_value = "500k", value_parser = units::bit_rate)]
    bitrate: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// Nodes in a row.
const NODES: usize = 4;

/// Players of each; all of them check every frame.
const PLAYERS: usize = 10;

/// What a hop may add to the median, in milliseconds.
const AIM_MS: f64 = 1.0;

/// From one node's players to the next one's.
const STEP: Duration = Duration::from_secs(2);

/// After the last ones came, it is measured.
const SETTLED: Duration = Duration::from_secs(2);

/// How long nodes may take to know each other.
const ACQUAINTANCE: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize)]
struct Latency {
    server: String,
    hops: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    wrong: u64,
}

#[derive(Debug, Serialize)]
struct Cost {
    server: String,
    way: &'static str,
    streams: u64,
    connections: f64,
    cpu_per_gb: f64,
    gb: f64,
    wrong: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    bits_per_second: u64,
    latency: Vec<Latency>,
    cost: Vec<Cost>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("cluster")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let kinds: Vec<Kind> = place.relays().collect();
    let progress = Progress::new(kinds.len() * 3);
    let (mut latency, mut cost) = (Vec::new(), Vec::new());
    for &kind in &kinds {
        progress.say(format!("{NODES} nodes in a row: {kind}"));
        latency.extend(in_a_row(arguments, kind, &place)?);
        progress.step();
        for way in [Way::Link, Way::Connections] {
            progress.say(format!("{}: {kind}", way.name()));
            cost.push(cost_of(arguments, kind, &place, way)?);
            progress.step();
        }
    }
    drop(progress);
    let bits_per_second = arguments.bitrate;
    let report = Report { machine, place: place.describe(), bits_per_second, latency, cost };
    give_out(&report, arguments.json.as_ref())
}

/// Nodes that know each other, each of which feeds a stream to one other at most.
struct Nodes {
    servers: Vec<Server>,
    _files: tempfile::TempDir,
}

impl Nodes {
    fn start(kind: Kind, place: &Place, wanted: usize, flush: Flush) -> Result<Self, CannotRun> {
        let wrong = |error: std::io::Error| CannotRun(format!("nodes cannot be made: {error}"));
        let files = tempfile::tempdir().map_err(wrong)?;
        let secret = files.path().join("secret");
        fs::write(&secret, "what the nodes of this benchmark know").map_err(wrong)?;
        // Free at this moment; each is in its own node's list as well.
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|one| one.local_addr());
        let links: Vec<String> = (0..wanted)
            .map(|_| free().map(|address| address.to_string()).map_err(wrong))
            .collect::<Result<_, _>>()?;
        let peers = links.join(",");
        let mut servers = Vec::new();
        for (number, link) in links.iter().enumerate() {
            let name = format!("node-{number}");
            let settings = [
                ("RELAY_NODE__NAME", Path::new(&name)),
                ("RELAY_LISTEN__LINK", Path::new(link)),
                ("RELAY_CLUSTER__PEERS", Path::new(&peers)),
                ("RELAY_CLUSTER__SECRET_FILE", secret.as_path()),
                ("RELAY_CLUSTER__FANOUT_MAX", Path::new("1")),
            ];
            servers.push(Server::start_with(kind, flush, place, &settings)?);
        }
        let nodes = Self { servers, _files: files };
        nodes.wait_until_acquainted()?;
        Ok(nodes)
    }

    fn wait_until_acquainted(&self) -> Result<(), CannotRun> {
        let (begun, others) = (Instant::now(), (self.servers.len() - 1) as f64);
        let knows_all = |server: &Server| server.metric("relay_cluster_nodes") == Some(others);
        while !self.servers.iter().all(knows_all) {
            if begun.elapsed() > ACQUAINTANCE {
                return Err(CannotRun("the nodes do not find each other".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// Publishers alone, or players of what is published already.
fn load(arguments: &Arguments, stream: Stream, streams: usize, players: usize) -> Load {
    Load {
        stream,
        streams,
        publishes: players == 0,
        players,
        checking: players,
        habit: Habit::Eager,
        warmup: Duration::ZERO,
        ramp: Duration::from_secs(1),
        window: Duration::from_secs(arguments.seconds),
    }
}

/// Latency at each of some nodes in a row, in the same seconds.
fn in_a_row(arguments: &Arguments, kind: Kind, place: &Place) -> Result<Vec<Latency>, CannotRun> {
    let nodes = Nodes::start(kind, place, NODES, Flush::Fixed(Duration::ZERO))?;
    let stream = Stream::default();
    let mut publisher = load(arguments, stream, 1, 0);
    publisher.window += (STEP * 2).mul_f64(NODES as f64);
    let first = &nodes.servers[0];
    let begin = clock::now();
    let publishing = Running::start(publisher.plan(first.address)?, begin)?;
    let mut playing = Vec::new();
    // Whoever comes next is fed by the last one. Seconds are counted from when a node's players
    // come; in those that count, all of them are there.
    for (number, server) in (1..).zip(&nodes.servers) {
        sleep_until(begin + STEP * number);
        let before = STEP * (u32::try_from(NODES).unwrap_or(u32::MAX) - number) + SETTLED;
        let mut players = load(arguments, stream, 1, PLAYERS);
        players.window = before + players.window - players.ramp;
        let running = Running::start(players.plan(server.address)?, clock::now())?;
        playing.push((running, before.as_secs()));
    }
    let mut rows = Vec::new();
    for (hops, (running, from)) in (0..).zip(playing) {
        let intervals = running.end()?;
        let all = Sum::all(&intervals);
        everybody_came(&all)?;
        let within = Sum::of(&intervals, from..from + arguments.seconds - 1);
        rows.push(Latency {
            server: kind.to_string(),
            hops,
            p50_ms: within.millis(SpanKind::Latency, 50.0),
            p99_ms: within.millis(SpanKind::Latency, 99.0),
            wrong: all.wrong() + all.counters.missing,
        });
    }
    drop(publishing);
    Ok(rows)
}

/// How streams leave the node that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Link,
    Connections,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Link => "one link",
            Self::Connections => "a connection each",
        }
    }
}

/// What a gigabyte costs the node that has the publishers.
fn cost_of(arguments: &Arguments, kind: Kind, place: &Place, way: Way) -> Result<Cost, CannotRun> {
    let flush = Flush::Fixed(Duration::from_millis(20));
    let nodes = Nodes::start(kind, place, 2, flush)?;
    let stream = Stream { bits_per_second: arguments.bitrate };
    let (origin, other) = (&nodes.servers[0], &nodes.servers[1]);
    let from = if way == Way::Link { other } else { origin };
    let players = load(arguments, stream, arguments.streams, arguments.streams);
    let mut publishers = load(arguments, stream, arguments.streams, 0);
    publishers.window += Duration::from_secs(10);
    let begin = clock::now();
    let publishing = Running::start(publishers.plan(origin.address)?, begin)?;
    sleep_until(begin + Duration::from_secs(4));
    let playing = Running::start(players.plan(from.address)?, clock::now())?;
    let seconds = players.measured(playing.plan.full_from());
    let begin = playing.plan.begin.unwrap_or_default();
    sleep_until(begin + Duration::from_secs(seconds.start));
    let sent = || origin.metric("relay_egress_bytes_total").unwrap_or_default();
    let (sent_before, before) = (sent(), cpu_of(origin.id()));
    sleep_until(begin + Duration::from_secs(seconds.end));
    let cpu = cpu_of(origin.id()).saturating_sub(before).as_secs_f64();
    let gb = (sent() - sent_before) / 1e9;
    let connections = match way {
        Way::Link => origin.metric("relay_links").unwrap_or_default(),
        Way::Connections => origin.metric("relay_players").unwrap_or_default(),
    };
    let all = Sum::all(&playing.end()?);
    everybody_came(&all)?;
    drop(publishing);
    Ok(Cost {
        server: kind.to_string(),
        way: way.name(),
        streams: count(arguments.streams),
        connections,
        cpu_per_gb: cpu / gb,
        gb,
        wrong: all.wrong(),
    })
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        writeln!(out, "2.5 Mbit/s, no flush window, {PLAYERS} players at each of {NODES} nodes\n")?;
        let mut table = Table::new(&["server", "hops", "p50 ms", "p99 ms", "p50 per hop", ""]);
        let mut alone = None;
        for row in &self.latency {
            alone = if row.hops == 0 { row.p50_ms } else { alone };
            let added = row.p50_ms.zip(alone).map(|(here, alone)| here - alone);
            let per_hop = added.filter(|_| row.hops > 0).map(|added| added / row.hops as f64);
            table.row(vec![
                row.server.clone(),
                row.hops.to_string(),
                figure(row.p50_ms),
                figure(row.p99_ms),
                figure(per_hop),
                if per_hop > Some(AIM_MS) { "above the aim".to_owned() } else { String::new() },
            ]);
        }
        table.write(out)?;
        let rate = units::show_rate(self.bits_per_second as f64);
        writeln!(
            out,
            "\nstreams of {rate}, flush 20 ms, by the account of the publishers' node\n"
        )?;
        let mut table = Table::new(&["server", "streams over", "streams", "CPU s/GB", "GB"]);
        for row in &self.cost {
            table.row(vec![
                row.server.clone(),
                row.way.to_owned(),
                row.streams.to_string(),
                number(row.cpu_per_gb),
                number(row.gb),
            ]);
        }
        table.write(out)?;
        writeln!(out, "\naims: under {AIM_MS} ms per hop; a link no dearer than connections")
    }

    fn judge(&self) -> Result<Outcome, CannotRun> {
        let wrong = self.latency.iter().map(|row| row.wrong);
        Ok(none_wrong(wrong.chain(self.cost.iter().map(|row| row.wrong))))
    }
}
