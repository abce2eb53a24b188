//! `bench tunnel`: players inside HTTP (RTMPT) beside plain ones.
//!
//! Two things count: whether the plain ones notice, and what the tunnel costs against how often its
//! players ask. Tunnelled players check every frame, since the kernel cannot count what is inside
//! HTTP; of the plain ones some do. More players are more load whatever they speak, at which the
//! relay gathers for longer: so the plain ones are also seen beside as many more of their own kind,
//! and `--flush` keeps the level where it is.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use loadgen::measure::SpanKind;
use loadgen::plan::Plan;
use loadgen::target::Target;
use loadgen::{clock, units};
use serde::Serialize;

use crate::account::cpu_of;
use crate::load::{Habit, Load, Running, Stream, Sum, count, everybody_came, sleep_until};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, figure, give_out, none_wrong, percent};
use crate::server::{Flush, Kind, Server};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench tunnel`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Plain players.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = units::count)]
    plain: usize,
    /// Tunnelled players.
    #[arg(long, value_name = "N", default_value = "500", value_parser = units::count)]
    tunnelled: usize,
    /// Bits per second of the stream.
    #[arg(long, value_name = "RATE", default_value = "500k", value_parser = units::bit_rate)]
    bitrate: u64,
    /// How long tunnelled players wait at least from one request to the next.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[arg(default_values = ["20ms", "100ms", "250ms"], value_parser = units::duration)]
    polls: Vec<Duration>,
    /// A fixed flush level of the relay instead of the one that it chooses by its load.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    flush: Option<Duration>,
    /// How long to measure at a time, in whole seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// Of the plain players, those that check.
const CHECKING: usize = 50;

/// Over which time each crowd comes, and how long publishers have before.
const RAMP: Duration = Duration::from_secs(3);
const WARMUP: Duration = Duration::from_secs(1);

/// One crowd, or both.
#[derive(Debug, Serialize)]
struct Row {
    server: String,
    plain: u64,
    tunnelled: u64,
    poll_ms: Option<f64>,
    /// The flush level: the fixed one, or what the relay asked for at the end.
    flush_ms: Option<f64>,
    /// From when a frame was due to its arrival.
    plain_p50_ms: Option<f64>,
    plain_p99_ms: Option<f64>,
    tunnelled_p50_ms: Option<f64>,
    tunnelled_p99_ms: Option<f64>,
    /// Requests a second of one tunnelled player, and the share that brought nothing.
    polls_per_second: Option<f64>,
    empty_polls: Option<f64>,
    /// CPU seconds of the server per GB delivered.
    cpu_per_gb: f64,
    busy: f64,
    load_busy: f64,
    wrong: u64,
    missing: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    rows: Vec<Row>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("tunnel")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let kinds: Vec<Kind> = place.relays().collect();
    let all = arguments.plain + arguments.tunnelled;
    let crowds: Vec<(usize, usize, Option<Duration>)> =
        [(arguments.plain, 0, None), (arguments.plain, arguments.tunnelled, None), (all, 0, None)]
            .into_iter()
            .chain(arguments.polls.iter().map(|poll| (0, arguments.tunnelled, Some(*poll))))
            .collect();
    let progress = Progress::new(kinds.len() * crowds.len());
    let mut report = Report { machine, place: place.describe(), rows: Vec::new() };
    for &kind in &kinds {
        for &(plain, tunnelled, poll) in &crowds {
            progress.say(format!("{plain} plain, {tunnelled} tunnelled: {kind}"));
            report.rows.push(measure(kind, plain, tunnelled, poll, arguments, &place)?);
            progress.step();
        }
    }
    drop(progress);
    give_out(&report, arguments.json.as_ref())
}

fn measure(
    kind: Kind,
    plain: usize,
    tunnelled: usize,
    poll: Option<Duration>,
    arguments: &Arguments,
    place: &Place,
) -> Result<Row, CannotRun> {
    let flush = arguments.flush.map_or(Flush::Auto, Flush::Fixed);
    let server = Server::start(kind, flush, place)?;
    let first = Load {
        stream: Stream { bits_per_second: arguments.bitrate },
        streams: 1,
        publishes: true,
        players: plain,
        checking: CHECKING.min(plain),
        habit: Habit::Eager,
        warmup: WARMUP,
        ramp: RAMP,
        window: Duration::from_secs(arguments.seconds + 4),
    };
    let second = Load { publishes: false, players: tunnelled, checking: tunnelled, ..first };
    let begin = clock::now() + Duration::from_secs(1);
    let there = Running::start(first.plan(server.address)?, begin)?;
    let inside = match tunnelled {
        0 => None,
        _ => {
            let target = Target::parse(&format!("rtmpt://{}/live", server.address))?;
            let plan = second.plan(server.address)?;
            let plan = Plan { play_from: vec![target], poll, verify: 1.0, ..plan };
            Some(Running::start(plan, begin + WARMUP)?)
        }
    };
    // Everybody is there; each load counts its own seconds.
    let from = (WARMUP + RAMP).as_secs() + 2;
    let until = from + arguments.seconds;
    let told = || {
        let polls = server.metric("relay_tunnel_polls_total").unwrap_or_default();
        (polls, server.metric("relay_tunnel_empty_polls_total").unwrap_or_default())
    };
    sleep_until(begin + Duration::from_secs(from));
    let (told_before, before) = (told(), cpu_of(server.id()));
    sleep_until(begin + Duration::from_secs(until));
    let cpu = cpu_of(server.id()).saturating_sub(before).as_secs_f64();
    let told = told();
    let fixed = arguments.flush.map(|age| age.as_secs_f64());
    let flush = fixed.or_else(|| server.metric("relay_flush_level_seconds"));
    let there = there.end()?;
    let inside = inside.map(Running::end).transpose()?.unwrap_or_default();
    everybody_came(&Sum::all(&there))?;
    let shift = WARMUP.as_secs();
    let (ours, theirs) =
        (Sum::of(&there, from..until), Sum::of(&inside, from - shift..until - shift));
    let (all, all_inside) = (Sum::all(&there), Sum::all(&inside));
    if tunnelled > 0 {
        everybody_came(&all_inside)?;
    }
    let gb = (ours.counters.bytes_received + theirs.counters.bytes_received) as f64 / 1e9;
    let seconds = arguments.seconds as f64;
    let (polls, empty) = (told.0 - told_before.0, told.1 - told_before.1);
    let is_tunnel = tunnelled > 0;
    Ok(Row {
        server: kind.to_string(),
        plain: count(plain),
        tunnelled: count(tunnelled),
        poll_ms: poll.map(|poll| poll.as_secs_f64() * 1e3),
        flush_ms: flush.map(|seconds| seconds * 1e3),
        plain_p50_ms: ours.millis(SpanKind::Latency, 50.0),
        plain_p99_ms: ours.millis(SpanKind::Latency, 99.0),
        tunnelled_p50_ms: theirs.millis(SpanKind::Latency, 50.0),
        tunnelled_p99_ms: theirs.millis(SpanKind::Latency, 99.0),
        polls_per_second: is_tunnel.then(|| polls / seconds / tunnelled as f64),
        empty_polls: is_tunnel.then(|| empty / polls.max(1.0)),
        cpu_per_gb: cpu / gb.max(1e-9),
        busy: cpu / seconds,
        load_busy: ours.busy + theirs.busy,
        wrong: all.wrong() + all_inside.wrong(),
        missing: all.counters.missing + all_inside.counters.missing,
    })
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}\n", self.machine.describe(), self.place)?;
        let mut table = Table::new(&[
            "server",
            "plain",
            "in tunnels",
            "asking every ms",
            "flush ms",
            "plain p50 ms",
            "p99",
            "tunnel p50 ms",
            "p99",
            "polls/s each",
            "empty",
            "CPU s/GB",
            "core",
            "load",
            "",
        ]);
        for row in &self.rows {
            let mut notes = Vec::new();
            if row.wrong > 0 {
                notes.push(format!("{} WRONG FRAMES", row.wrong));
            }
            if row.missing > 0 {
                notes.push(format!("{} frames skipped", row.missing));
            }
            table.row(vec![
                row.server.clone(),
                row.plain.to_string(),
                row.tunnelled.to_string(),
                figure(row.poll_ms),
                figure(row.flush_ms),
                figure(row.plain_p50_ms),
                figure(row.plain_p99_ms),
                figure(row.tunnelled_p50_ms),
                figure(row.tunnelled_p99_ms),
                figure(row.polls_per_second),
                row.empty_polls.map_or_else(|| "-".to_owned(), percent),
                figure(Some(row.cpu_per_gb)),
                percent(row.busy),
                percent(row.load_busy),
                notes.join(", "),
            ]);
        }
        table.write(out)
    }

    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(none_wrong(self.rows.iter().map(|row| row.wrong)))
    }
}
