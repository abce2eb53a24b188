//! `bench storm`: thousands of players join one live stream within a second.
//!
//! Two things count: how long the newcomers wait for their first key frame, and whether those who
//! were there before notice. The latter check every frame; the former count.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use loadgen::measure::SpanKind;
use loadgen::{clock, units};
use serde::Serialize;

use crate::account::cpu_of;
use crate::load::{Habit, Load, Running, Stream, Sum, everybody_came, sleep_until};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, figure, give_out, none_wrong, percent};
use crate::server::{Flush, Kind, Server};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench storm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many players join.
    #[arg(long, value_name = "N", default_value = "5000", value_parser = units::count)]
    joiners: usize,
    /// Over which time.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    over: Duration,
    /// Bits per second of the stream.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["500k", "2.5M"])]
    #[arg(value_parser = units::bit_rate)]
    bitrates: Vec<u64>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// Players that are there before the storm.
const RESIDENTS: usize = 100;

/// When the storm begins, from the beginning of the residents' load. They are all there from the
/// third second on; the storm falls between key frames.
const STORM_AT: u64 = 7;

/// How long its effects are looked at.
const STORM_SECONDS: u64 = 6;

/// The floor's flush age, and the relay's for most loads.
const FLUSH: Duration = Duration::from_millis(20);

/// One storm over one server.
#[derive(Debug, Serialize)]
struct Storm {
    server: String,
    bits_per_second: u64,
    joiners: u64,
    /// Of those, players that came to their first key frame.
    joined: u64,
    join_p50_ms: Option<f64>,
    join_p99_ms: Option<f64>,
    join_max_ms: Option<f64>,
    /// The residents' latency in the seconds before.
    quiet_p99_ms: Option<f64>,
    quiet_max_ms: Option<f64>,
    /// And from the storm's beginning on.
    storm_p99_ms: Option<f64>,
    storm_max_ms: Option<f64>,
    /// Frames that residents received and should not have, or never received.
    wrong: u64,
    missing: u64,
    /// The share of its core that the server took meanwhile.
    busy: f64,
    /// The share of their time that both loads worked.
    load_busy: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    storms: Vec<Storm>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("storm")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let kinds: Vec<Kind> = place.relays().chain([Kind::Bare]).collect();
    let progress = Progress::new(kinds.len() * arguments.bitrates.len());
    let mut report = Report { machine, place: place.describe(), storms: Vec::new() };
    for &bits_per_second in &arguments.bitrates {
        for &kind in &kinds {
            progress.say(format!("{} at {bits_per_second} bit/s: {kind}", arguments.joiners));
            report.storms.push(storm(kind, bits_per_second, arguments, &place)?);
            progress.step();
        }
    }
    drop(progress);
    give_out(&report, arguments.json.as_ref())
}

fn storm(
    kind: Kind,
    bits_per_second: u64,
    arguments: &Arguments,
    place: &Place,
) -> Result<Storm, CannotRun> {
    let flush = if kind == Kind::Bare { Flush::Fixed(FLUSH) } else { Flush::Auto };
    let server = Server::start(kind, flush, place)?;
    let residents = Load {
        stream: Stream { bits_per_second },
        streams: 1,
        publishes: true,
        players: RESIDENTS,
        checking: RESIDENTS,
        habit: Habit::Eager,
        warmup: Duration::from_secs(1),
        ramp: Duration::from_secs(1),
        window: Duration::from_secs(STORM_AT + STORM_SECONDS),
    };
    let joiners = Load {
        publishes: false,
        players: arguments.joiners,
        checking: 0,
        ramp: arguments.over,
        window: Duration::from_secs(STORM_SECONDS - 2),
        ..residents
    };
    let begin = clock::now() + Duration::from_secs(1);
    let there = Running::start(residents.plan(server.address)?, begin)?;
    let storm_at = begin + Duration::from_secs(STORM_AT);
    let coming = Running::start(joiners.plan(server.address)?, storm_at)?;
    sleep_until(storm_at);
    let before = cpu_of(server.id());
    sleep_until(storm_at + Duration::from_secs(STORM_SECONDS));
    let busy = cpu_of(server.id()).saturating_sub(before).as_secs_f64() / STORM_SECONDS as f64;
    let coming = Sum::all(&coming.end()?);
    let there = there.end()?;
    let all = Sum::all(&there);
    everybody_came(&all)?;
    let quiet = Sum::of(&there, 4..STORM_AT);
    let storm = Sum::of(&there, STORM_AT..STORM_AT + STORM_SECONDS);
    let max = |sum: &Sum, kind| sum.millis(kind, 100.0);
    Ok(Storm {
        server: kind.to_string(),
        bits_per_second,
        joiners: coming.counters.players_planned,
        joined: coming.counters.players_joined,
        join_p50_ms: coming.millis(SpanKind::Join, 50.0),
        join_p99_ms: coming.millis(SpanKind::Join, 99.0),
        join_max_ms: max(&coming, SpanKind::Join),
        quiet_p99_ms: quiet.millis(SpanKind::Latency, 99.0),
        quiet_max_ms: max(&quiet, SpanKind::Latency),
        storm_p99_ms: storm.millis(SpanKind::Latency, 99.0),
        storm_max_ms: max(&storm, SpanKind::Latency),
        wrong: all.wrong(),
        missing: all.counters.missing,
        busy,
        load_busy: coming.busy + storm.busy,
    })
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        writeln!(out, "{RESIDENTS} players were there before and check every frame\n")?;
        let mut table = Table::new(&[
            "stream",
            "server",
            "joined",
            "join p50 ms",
            "p99",
            "max",
            "others before: p99 ms",
            "max",
            "in the storm: p99",
            "max",
            "core",
            "load",
            "",
        ]);
        for storm in &self.storms {
            let mut notes = Vec::new();
            if storm.wrong > 0 {
                notes.push(format!("{} WRONG FRAMES", storm.wrong));
            }
            if storm.missing > 0 {
                notes.push(format!("{} frames skipped", storm.missing));
            }
            table.row(vec![
                units::show_rate(storm.bits_per_second as f64),
                storm.server.clone(),
                format!("{}/{}", storm.joined, storm.joiners),
                figure(storm.join_p50_ms),
                figure(storm.join_p99_ms),
                figure(storm.join_max_ms),
                figure(storm.quiet_p99_ms),
                figure(storm.quiet_max_ms),
                figure(storm.storm_p99_ms),
                figure(storm.storm_max_ms),
                percent(storm.busy),
                percent(storm.load_busy),
                notes.join(", "),
            ]);
        }
        table.write(out)?;
        writeln!(out)?;
        writeln!(
            out,
            "aims: nobody who was there waits more than 100 ms longer than before; p99 of the join \
             below 3 s at 500 kbit/s"
        )
    }

    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(none_wrong(self.storms.iter().map(|row| row.wrong)))
    }
}
