//! `bench cycles`: where the server's time goes when thousands play.
//!
//! By samples of its core: the kernel's part, which every sender pays, and ours, function by
//! function. Beside it how many sends and system calls it takes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use loadgen::units;
use serde::Serialize;

use crate::account::Sample;
use crate::bare::segments_per_second;
use crate::load::{Habit, Load, Stream};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, give_out, none_wrong};
use crate::server::{Flush, Kind};
use crate::turn::{self, Turn};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench cycles`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many players.
    #[arg(long, value_name = "N", default_value = "4000", value_parser = units::count)]
    players: usize,
    /// When small messages are sent.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = units::duration)]
    flush: Duration,
    /// How long to measure at a time, in whole seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// How many functions to show of each part.
    #[arg(long, value_name = "N", default_value_t = 12)]
    top: usize,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// Who spends the server's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Kernel,
    Ours,
    Libraries,
}

/// What one function takes of the server's time.
#[derive(Debug, Serialize)]
struct Function {
    part: Part,
    name: String,
    /// Of all samples of the server.
    share: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    server: String,
    /// Shares of the server's samples.
    kernel: f64,
    ours: f64,
    libraries: f64,
    samples: usize,
    /// Sends to a player for each segment sealed.
    sends_per_segment: Option<f64>,
    turn: Turn,
    functions: Vec<Function>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    players: usize,
    segments_per_second: f64,
    rows: Vec<Row>,
    /// How many functions to show of each part.
    #[serde(skip)]
    top: usize,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("cycles")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let kinds: Vec<Kind> = place.relays().chain([Kind::Bare]).collect();
    let progress = Progress::new(kinds.len());
    let stream = Stream::default();
    let mut report = Report {
        machine,
        place: place.describe(),
        players: arguments.players,
        segments_per_second: segments_per_second(stream, arguments.flush),
        rows: Vec::new(),
        top: arguments.top,
    };
    for kind in kinds {
        progress.say(format!("{} players: {kind}", arguments.players));
        let load = Load {
            stream,
            streams: 1,
            publishes: true,
            players: arguments.players,
            checking: 16,
            habit: Habit::Eager,
            warmup: Duration::from_secs(1),
            ramp: Duration::from_secs(4),
            window: Duration::from_secs(arguments.seconds),
        };
        let flush = Flush::Fixed(arguments.flush);
        let (turn, samples) = turn::run_with_symbols(kind, flush, &load, &place)?;
        let per_segment = turn
            .sends_per_second
            .map(|sends| sends / (report.segments_per_second * arguments.players.max(1) as f64));
        report.rows.push(row(kind, turn, &samples, per_segment));
        progress.step();
    }
    drop(progress);
    give_out(&report, arguments.json.as_ref())
}

fn row(kind: Kind, turn: Turn, samples: &[Sample], sends_per_segment: Option<f64>) -> Row {
    let mut counts: BTreeMap<(Part, &str), usize> = BTreeMap::new();
    for sample in samples {
        *counts.entry((part_of(&sample.file), &sample.symbol)).or_default() += 1;
    }
    let share = |count: usize| count as f64 / samples.len().max(1) as f64;
    let of = |part: Part| {
        share(counts.iter().filter(|((of, _), _)| *of == part).map(|(_, count)| count).sum())
    };
    let (kernel, ours, libraries) = (of(Part::Kernel), of(Part::Ours), of(Part::Libraries));
    let mut functions: Vec<Function> = counts
        .into_iter()
        .map(|((part, name), count)| Function { part, name: name.to_owned(), share: share(count) })
        .collect();
    functions.sort_by(|a, b| b.share.total_cmp(&a.share));
    let server = kind.to_string();
    let samples = samples.len();
    Row { server, kernel, ours, libraries, samples, sends_per_segment, turn, functions }
}

/// By the file that holds the code.
fn part_of(file: &str) -> Part {
    if file.starts_with("[kernel") || file.ends_with(".ko") {
        Part::Kernel
    } else if file.ends_with("/relay") || file.ends_with("/bench") {
        Part::Ours
    } else {
        Part::Libraries
    }
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        let (players, segments) = (self.players, self.segments_per_second);
        writeln!(out, "{players} eager players of 2.5 Mbit/s, {segments:.1} segments a second\n")?;
        let mut table = Table::new(&[
            "server",
            "kernel",
            "ours",
            "libraries",
            "samples",
            "CPU s/GB",
            "core",
            "sends/s",
            "sends per segment",
            "system calls/s",
            "",
        ]);
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let whole =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        for row in &self.rows {
            table.row(vec![
                row.server.clone(),
                percent(row.kernel),
                percent(row.ours),
                percent(row.libraries),
                row.samples.to_string(),
                format!("{:.3}", row.turn.cpu_per_gb),
                percent(row.turn.busy),
                whole(row.turn.sends_per_second),
                row.sends_per_segment.map_or("-".to_owned(), |sends| format!("{sends:.2}")),
                whole(row.turn.syscalls_per_second),
                String::new(),
            ]);
        }
        table.write(out)?;
        for row in &self.rows {
            for part in [Part::Ours, Part::Libraries, Part::Kernel] {
                writeln!(out, "\n{}, {part:?}:", row.server)?;
                let of_part = row.functions.iter().filter(|function| function.part == part);
                for function in of_part.take(self.top) {
                    writeln!(out, "{:>8}  {}", percent(function.share), function.name)?;
                }
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(none_wrong(self.rows.iter().map(|row| row.turn.wrong)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_apart_by_whose_code_it_is() {
        for (file, part) in [
            ("[kernel.kallsyms]", Part::Kernel),
            ("/a/target/release/relay", Part::Ours),
            ("/usr/lib/libc.so.6", Part::Libraries),
            ("[vdso]", Part::Libraries),
        ] {
            assert_eq!(part_of(file), part, "{file}");
        }
    }
}
