//! `bench latency`: from when a publisher is to write a frame to when a player has read it.
//!
//! Without a flush window, so that what remains is the relay's own time and the kernel's. Beside it
//! the floor: the bare sender, which forwards the same publisher's frames one by one.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::load::{Habit, Load, Stream, count};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, figure, give_out, none_wrong, percent};
use crate::server::{Flush, Kind};
use crate::turn::{self, Turn};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench latency`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
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

/// Players of an unloaded core; all of them check every frame.
const FEW: usize = 10;

/// Players by which is found out how many make half a core.
const TRIAL: usize = 300;

#[derive(Debug, Serialize)]
struct Row {
    load: &'static str,
    players: u64,
    server: String,
    turn: Turn,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    rows: Vec<Row>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("latency")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let kinds: Vec<Kind> = place.relays().chain([Kind::Bare]).collect();
    let progress = Progress::new(kinds.len() * 3);
    let window = Duration::from_secs(arguments.seconds);
    let measure = |kind: Kind, players: usize| {
        progress.say(format!("{players} players: {kind}"));
        let load = Load {
            stream: Stream::default(),
            streams: 1,
            publishes: true,
            players,
            checking: FEW,
            habit: Habit::Eager,
            warmup: Duration::from_secs(1),
            ramp: Duration::from_secs(1),
            window,
        };
        let turn = turn::run(kind, Flush::Fixed(Duration::ZERO), &load, &place, false);
        progress.step();
        turn
    };
    let mut report = Report { machine, place: place.describe(), rows: Vec::new() };
    let mut add = |load, players, kind: Kind, turn| {
        report.rows.push(Row { load, players: count(players), server: kind.to_string(), turn });
    };
    for &kind in &kinds {
        add("unloaded", FEW, kind, measure(kind, FEW)?);
    }
    for &kind in &kinds {
        let busy = measure(kind, TRIAL)?.busy.max(0.01);
        // Players cost the same each: half a core has this many.
        let half = (TRIAL as f64 * 0.5 / busy).clamp(FEW as f64, 20_000.0);
        let half = usize::try_from(loadgen::units::whole(half)).unwrap_or(FEW);
        add("half a core", half, kind, measure(kind, half)?);
    }
    drop(progress);
    give_out(&report, arguments.json.as_ref())
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        writeln!(out, "2.5 Mbit/s, no flush window, from due at the publisher to read\n")?;
        let mut table =
            Table::new(&["load", "server", "players", "core", "p50 ms", "p99 ms", "load's core"]);
        for row in &self.rows {
            table.row(vec![
                row.load.to_owned(),
                row.server.clone(),
                row.players.to_string(),
                percent(row.turn.busy),
                figure(row.turn.p50_ms),
                figure(row.turn.p99_ms),
                percent(row.turn.load_busy),
            ]);
        }
        table.write(out)
    }

    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(none_wrong(self.rows.iter().map(|row| row.turn.wrong)))
    }
}
