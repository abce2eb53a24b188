//! `bench streams`: many streams of few players each, which is what most servers are bad at.
//!
//! Fan-out is of no help here: what counts is what a stream costs by itself, in time and in memory,
//! and that hundreds of publishers that come at the same moment are all served.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use loadgen::units;
use serde::Serialize;

use crate::load::{Habit, Load, Stream};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, figure, give_out, none_wrong, percent};
use crate::server::{Flush, Kind};
use crate::turn::{self, Turn};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench streams`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bits per second of each stream.
    #[arg(long, value_name = "RATE", default_value = "2.5M", value_parser = units::bit_rate)]
    bitrate: u64,
    /// How long to measure at a time, in whole seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// What is measured: what it shows, streams, players of all, and the time over which they come.
const CASES: [(&str, usize, usize, u64); 4] = [
    ("500 publishers within a second, 1 player each", 500, 500, 1),
    ("100 publishers, 10 players each", 100, 1_000, 2),
    ("500 publishers alone", 500, 0, 1),
    ("joining warm streams, 10 a second", 10, 200, 20),
];

#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    server: String,
    streams: usize,
    players: usize,
    /// Resident memory that came after the start, for each stream, in bytes.
    bytes_per_stream: f64,
    turn: Turn,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    bits_per_second: u64,
    rows: Vec<Row>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("streams")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let kinds: Vec<Kind> = place.relays().collect();
    let progress = Progress::new(kinds.len() * CASES.len());
    let mut report = Report {
        machine,
        place: place.describe(),
        bits_per_second: arguments.bitrate,
        rows: Vec::new(),
    };
    for (what, streams, players, ramp) in CASES {
        for &kind in &kinds {
            progress.say(format!("{what}: {kind}"));
            let load = Load {
                stream: Stream { bits_per_second: arguments.bitrate },
                streams,
                publishes: true,
                players,
                checking: players.min(200),
                habit: Habit::Eager,
                // Publishers come within the first half of it.
                warmup: Duration::from_secs(2),
                ramp: Duration::from_secs(ramp),
                window: Duration::from_secs(arguments.seconds),
            };
            let turn = turn::run(kind, Flush::Auto, &load, &place, false)?;
            let grown = turn.resident_bytes.saturating_sub(turn.resident_bytes_before);
            report.rows.push(Row {
                what,
                server: kind.to_string(),
                streams,
                players,
                bytes_per_stream: grown as f64 / streams as f64,
                turn,
            });
            progress.step();
        }
    }
    drop(progress);
    give_out(&report, arguments.json.as_ref())
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        let rate = units::show_rate(self.bits_per_second as f64);
        writeln!(out, "streams of {rate}, eager receivers, flush chosen by the relay\n")?;
        let mut table = Table::new(&[
            "what",
            "server",
            "CPU s/GB",
            "core",
            "kB per stream",
            "joined",
            "join p50 ms",
            "p99",
            "latency p99 ms",
            "delivered",
            "load",
        ]);
        for row in &self.rows {
            let turn = &row.turn;
            table.row(vec![
                row.what.to_owned(),
                row.server.clone(),
                format!("{:.2}", turn.cpu_per_gb),
                percent(turn.busy),
                format!("{:.0}", row.bytes_per_stream / 1e3),
                format!("{}/{}", turn.joined, row.players),
                figure(turn.join_p50_ms),
                figure(turn.join_p99_ms),
                figure(turn.p99_ms),
                format!("{:.4}", turn.delivered),
                percent(turn.load_busy),
            ]);
        }
        table.write(out)?;
        writeln!(out)?;
        writeln!(
            out,
            "CPU s/GB: of bytes delivered; of bytes published where nobody plays. kB per stream \
             hold the log: up to 12 s of the stream."
        )
    }

    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(none_wrong(self.rows.iter().map(|row| row.turn.wrong)))
    }
}
