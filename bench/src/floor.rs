//! `bench floor`: the relay beside the least that any server can do, in turns within one run.
//!
//! A machine's figures drift by half from one hour to the next, so only what took turns is
//! compared: at each point the bare sender and the relay on each reactor serve the same load one
//! after the other, several rounds of it, and the median of the rounds' ratios counts.

mod aims;
mod points;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use self::aims::Aim;
use self::points::{Name, Point, points};
use crate::bare::segments_per_second;
use crate::load::{Habit, Load, Stream};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, figure, give_out, none_wrong, percent};
use crate::server::{Flush, Kind};
use crate::turn::{self, Turn};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench floor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds, in each of which every server has its turn at every point.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Only points whose description contains this, such as '2000 x 2.5' or '50ms, eager'.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only receivers of this habit.
    #[arg(long, value_name = "HABIT", value_parser = ["eager", "lazy"])]
    receivers: Option<String>,
    /// How long to measure at a time, in whole seconds, once all players are there.
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// A smoke run: two small points for two seconds. It fails when a server cannot be measured or
    /// sends wrong bytes, never for its figures.
    #[arg(long)]
    quick: bool,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// Players that check every byte.
const CHECKING: usize = 16;

/// Players of the ramp, per second.
const JOINS_PER_SECOND: usize = 1_000;

/// A floor that delivers less than this share is at its end, and nothing is compared with it.
const DELIVERED_MIN: f64 = 0.999;

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    if !arguments.quick {
        release_only("floor")?;
    }
    let habits: Vec<Habit> = match arguments.receivers.as_deref() {
        Some("lazy") => vec![Habit::Lazy],
        Some(_) => vec![Habit::Eager],
        None if arguments.quick => vec![Habit::Eager],
        None => vec![Habit::Eager, Habit::Lazy],
    };
    let only = arguments.only.as_deref().unwrap_or_default();
    let points: Vec<Point> = points(arguments.quick, &habits)
        .into_iter()
        .filter(|point| point.text().contains(only))
        .collect();
    if points.is_empty() {
        return Err(CannotRun(format!("no point has '{only}' in its description")));
    }
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let runs = if arguments.quick { 1 } else { arguments.runs };
    let window = Duration::from_secs(if arguments.quick { 2 } else { arguments.seconds });
    let kinds: Vec<Kind> = place.relays().chain([Kind::Bare]).collect();

    let turns = points.len() * kinds.len() * usize::try_from(runs).unwrap_or(1);
    let progress = Progress::new(turns);
    let mut report = Report {
        machine,
        place: place.describe(),
        runs,
        seconds: window.as_secs(),
        points: Vec::new(),
        quick: arguments.quick,
    };
    for point in &points {
        let mut rounds = Vec::new();
        for round in 0..runs {
            rounds.push(self::round(point, &kinds, round, window, &place, &progress)?);
        }
        report.points.push(PointReport::of(*point, &kinds, rounds));
    }
    drop(progress);
    give_out(&report, arguments.json.as_ref())
}

/// Every server's turn at a point, in another order each time; results in the order of `kinds`.
fn round(
    point: &Point,
    kinds: &[Kind],
    round: u32,
    window: Duration,
    place: &Place,
    progress: &Progress,
) -> Result<Vec<Turn>, CannotRun> {
    let mut order: Vec<usize> = (0..kinds.len()).collect();
    // The floor follows the level that the relay chose, so there it comes last.
    if point.flush != Flush::Auto {
        order.rotate_left(usize::try_from(round).unwrap_or(0) % kinds.len());
    }
    let mut turns: Vec<Option<Turn>> = vec![None; kinds.len()];
    let mut chosen = LEVELS[0];
    for place_in_kinds in order {
        let kind = kinds[place_in_kinds];
        progress.say(format!("{}: {kind}", point.text()));
        let flush = match (kind, point.flush) {
            (Kind::Bare, Flush::Auto) => Flush::Fixed(chosen),
            (_, flush) => flush,
        };
        let load = Load {
            stream: Stream { bits_per_second: point.bits_per_second },
            streams: 1,
            publishes: true,
            players: point.players,
            checking: CHECKING,
            habit: point.habit,
            warmup: Duration::from_secs(1),
            ramp: Duration::from_secs(loadgen::units::wide(
                point.players.div_ceil(JOINS_PER_SECOND),
            )),
            window,
        };
        let turn = turn::run(kind, flush, &load, place, true)?;
        if kind != Kind::Bare {
            chosen = level_of(&turn, &load).unwrap_or(chosen);
        }
        turns[place_in_kinds] = Some(turn);
        progress.step();
    }
    Ok(turns.into_iter().flatten().collect())
}

/// The flush ages that a relay chooses from.
const LEVELS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(50)];

/// The flush age at which a relay sent within the window, by how often it sent to each player: what
/// it tells of its level is how it treats streams of low rate, and only at the end.
fn level_of(turn: &Turn, load: &Load) -> Option<Duration> {
    let sends = turn.sends_per_second? / load.players.max(1) as f64;
    let distance = |age: Duration| (sends / segments_per_second(load.stream, age)).ln().abs();
    LEVELS.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
}

/// One server at one point.
#[derive(Clone, Debug, Serialize)]
struct Row {
    #[serde(skip)]
    point: Point,
    #[serde(skip)]
    kind: Kind,
    server: String,
    /// Medians over the rounds; sums of what is wrong.
    turn: Turn,
    /// The median of the rounds' ratios to the floor, by the threads' account; `None` for the floor
    /// itself and where it was saturated.
    ratio: Option<f64>,
    ratio_min: Option<f64>,
    ratio_max: Option<f64>,
    /// The same by samples of the core.
    sampled_ratio: Option<f64>,
    /// Every round.
    rounds: Vec<Turn>,
}

#[derive(Debug, Serialize)]
struct PointReport {
    point: Name,
    /// The floor itself was at its end.
    saturated: bool,
    servers: Vec<Row>,
    aims: Vec<Aim>,
}

impl PointReport {
    fn of(point: Point, kinds: &[Kind], rounds: Vec<Vec<Turn>>) -> Self {
        let floor_at = kinds.iter().position(|kind| *kind == Kind::Bare).unwrap_or_default();
        let delivered = rounds.iter().map(|round| Some(round[floor_at].delivered));
        let saturated = median(delivered).is_none_or(|share| share < DELIVERED_MIN);
        let mut servers = Vec::new();
        for (at, &kind) in kinds.iter().enumerate() {
            let of_round = |figure: fn(&Turn) -> Option<f64>| -> Vec<f64> {
                let compared = rounds.iter().filter(|_| kind != Kind::Bare && !saturated);
                compared
                    .filter_map(|round| Some(figure(&round[at])? / figure(&round[floor_at])?))
                    .collect()
            };
            let ratios = of_round(|turn| Some(turn.cpu_per_gb));
            let sampled = of_round(|turn| turn.sampled_per_gb);
            let own: Vec<Turn> = rounds.iter().map(|round| round[at].clone()).collect();
            servers.push(Row {
                point,
                kind,
                server: kind.to_string(),
                turn: medians(&own),
                ratio: median(ratios.iter().copied().map(Some)),
                ratio_min: ratios.iter().copied().reduce(f64::min),
                ratio_max: ratios.iter().copied().reduce(f64::max),
                sampled_ratio: median(sampled.into_iter().map(Some)),
                rounds: own,
            });
        }
        let aims = aims::judge(&servers);
        Self { point: point.name(), saturated, servers, aims }
    }
}

fn medians(turns: &[Turn]) -> Turn {
    let of = |figure: fn(&Turn) -> Option<f64>| median(turns.iter().map(figure));
    let whole = |figure: fn(&Turn) -> u64| turns.iter().map(figure).sum();
    let median_of = |figure: fn(&Turn) -> u64| {
        let mut values: Vec<u64> = turns.iter().map(figure).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Turn {
        cpu_per_gb: of(|turn| Some(turn.cpu_per_gb)).unwrap_or_default(),
        sampled_per_gb: of(|turn| turn.sampled_per_gb),
        busy: of(|turn| Some(turn.busy)).unwrap_or_default(),
        delivered: of(|turn| Some(turn.delivered)).unwrap_or_default(),
        p50_ms: of(|turn| turn.p50_ms),
        p99_ms: of(|turn| turn.p99_ms),
        wrong: whole(|turn| turn.wrong),
        missing: whole(|turn| turn.missing),
        verified: whole(|turn| turn.verified),
        load_busy: of(|turn| Some(turn.load_busy)).unwrap_or_default(),
        syscalls_per_second: of(|turn| turn.syscalls_per_second),
        sends_per_second: of(|turn| turn.sends_per_second),
        flush_level: of(|turn| turn.flush_level),
        resident_bytes_before: median_of(|turn| turn.resident_bytes_before),
        resident_bytes: median_of(|turn| turn.resident_bytes),
        joined: whole(|turn| turn.joined),
        join_p50_ms: of(|turn| turn.join_p50_ms),
        join_p99_ms: of(|turn| turn.join_p99_ms),
    }
}

/// The median of those that are there; of two in the middle the lower one.
pub(crate) fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    runs: u32,
    seconds: u64,
    points: Vec<PointReport>,
    /// It was a smoke run.
    #[serde(skip)]
    quick: bool,
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        let (runs, seconds) = (self.runs, self.seconds);
        writeln!(out, "medians of {runs} rounds of {seconds} s, all servers in turn\n")?;
        let mut table = Table::new(&[
            "players, stream, flush, receivers",
            "server",
            "CPU s/GB",
            "of floor",
            "range",
            "sampled",
            "of floor",
            "p50 ms",
            "p99 ms",
            "delivered",
            "core",
            "load",
            "sends/s",
            "",
        ]);
        for point in &self.points {
            for row in &point.servers {
                table.row(row.cells(point.saturated));
            }
        }
        table.write(out)?;
        writeln!(out)?;
        writeln!(
            out,
            "CPU s/GB: the server's threads by their own account, per delivered GB. sampled: the \
             server's share of its core by perf's cpu-clock samples{}.",
            if self.has_samples() { "" } else { " (there were none: install perf)" }
        )?;
        writeln!(
            out,
            "delivered: bytes received over bytes published, one flush window on its way. load: the \
             generator's core."
        )?;
        let aims: Vec<&Aim> = self.points.iter().flat_map(|point| &point.aims).collect();
        if !aims.is_empty() {
            writeln!(out)?;
        }
        aims.iter().try_for_each(|aim| writeln!(out, "{}", aim.line()))
    }

    /// Wrong bytes fail; a smoke run also when it has verified nothing.
    fn judge(&self) -> Result<Outcome, CannotRun> {
        if let Some(row) = self.rows().find(|row| self.quick && row.turn.verified == 0) {
            return Err(CannotRun(format!("no frame of {} was verified", row.server)));
        }
        Ok(none_wrong(self.rows().map(|row| row.turn.wrong)))
    }
}

impl Report {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.points.iter().flat_map(|point| &point.servers)
    }

    fn has_samples(&self) -> bool {
        self.rows().any(|row| row.turn.sampled_per_gb.is_some())
    }
}

impl Row {
    fn cells(&self, saturated: bool) -> Vec<String> {
        let ratio =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
        let turn = &self.turn;
        let range = match (self.ratio_min, self.ratio_max) {
            (Some(min), Some(max)) => format!("{min:.2}-{max:.2}"),
            _ => "-".to_owned(),
        };
        let mut notes = Vec::new();
        if turn.wrong > 0 {
            notes.push(format!("{} WRONG FRAMES", turn.wrong));
        }
        if turn.missing > 0 {
            notes.push(format!("{} frames skipped", turn.missing));
        }
        if saturated {
            notes.push("saturated".to_owned());
        }
        if let Some(level) = turn.flush_level.filter(|_| self.point.flush == Flush::Auto) {
            notes.push(format!("chose {:.0} ms", level * 1e3));
        }
        vec![
            self.point.text(),
            self.server.clone(),
            format!("{:.3}", turn.cpu_per_gb),
            ratio(self.ratio),
            range,
            ratio(turn.sampled_per_gb),
            ratio(self.sampled_ratio),
            figure(turn.p50_ms),
            figure(turn.p99_ms),
            format!("{:.4}", turn.delivered),
            percent(turn.busy),
            percent(turn.load_busy),
            figure(turn.sends_per_second),
            notes.join(", "),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_pass_over_what_is_missing() {
        let check = |values: &[Option<f64>], expected| {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        };
        check(&[], None);
        check(&[None], None);
        check(&[Some(3.0), None, Some(1.0)], Some(1.0));
        check(&[Some(3.0), Some(2.0), Some(1.0)], Some(2.0));
    }

    #[test]
    fn a_saturated_floor_is_compared_with_nothing() {
        let point = points(true, &[Habit::Eager])[0];
        let turn = |cpu_per_gb, delivered| Turn { cpu_per_gb, delivered, ..Turn::default() };
        let kinds = [Kind::Relay("mio"), Kind::Bare];
        for (delivered, ratio) in [(1.0, Some(1.5)), (0.9, None)] {
            let round = vec![turn(0.6, 1.0), turn(0.4, delivered)];
            let report = PointReport::of(point, &kinds, vec![round]);
            assert_eq!(report.saturated, ratio.is_none());
            let close =
                report.servers[0].ratio.zip(ratio).is_none_or(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close && report.servers[0].ratio.is_some() == ratio.is_some());
            assert_eq!(report.servers[1].ratio, None);
        }
    }
}
