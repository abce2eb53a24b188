//! `bench micro`: times of hot functions, in time of the core: what else runs costs caches, not
//! time.
//!
//! Each case is warmed up, then measured several times, all cases in turn, so that a noisy moment
//! of the machine falls on all of them. The median counts; the range beside it says how far to
//! trust it.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use relay::session::ServerSession;
use relay::stream::{Cursor, Entry, Segment};
use relay::wire::message::MediaMessage;
use serde::Serialize;

use crate::case::{Aim, Case, Meter, Per, Work};
use crate::cases;
use crate::machine::Machine;
use crate::report::{self, Table, give_out, number};
use crate::{CannotRun, Outcome};

/// Arguments of `bench micro`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only cases whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// A smoke run: the same cases, too short for figures to be quoted.
    #[arg(long)]
    quick: bool,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    if cfg!(debug_assertions) && !arguments.quick {
        let sentence = "times of a debug build mean nothing: cargo run --release -p bench -- micro";
        return Err(CannotRun(sentence.to_owned()));
    }
    let only = arguments.only.as_deref().unwrap_or_default();
    let cases: Vec<Case> =
        cases::all().into_iter().filter(|case| case.name.contains(only)).collect();
    if cases.is_empty() {
        return Err(CannotRun(format!("no case has '{only}' in its name")));
    }
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let report = Report {
        machine: Machine::here(),
        quick: arguments.quick,
        repetitions: effort.repetitions,
        rows: measure(&cases, &effort),
        sizes: [
            ("Cursor", size_of::<Cursor>()),
            ("ServerSession", size_of::<ServerSession>()),
            ("Segment", size_of::<Segment>()),
            ("Entry", size_of::<Entry>()),
            ("MediaMessage", size_of::<MediaMessage>()),
        ],
    };
    give_out(&report, arguments.json.as_ref())
}

/// How long to measure.
struct Effort {
    repetitions: usize,
    sample: Duration,
}

impl Effort {
    const FULL: Self = Self { repetitions: 15, sample: Duration::from_millis(60) };
    const QUICK: Self = Self { repetitions: 3, sample: Duration::from_millis(2) };
}

/// The figures of one run.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    repetitions: usize,
    rows: Vec<Row>,
    /// Bytes of what there is one of per player, connection, segment or message.
    sizes: [(&'static str, usize); 5],
}

/// The figures of one case.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    what: &'static str,
    /// `GB/s`, or `ns per` something.
    unit: String,
    median: f64,
    /// The least favourable repetition.
    worst: f64,
    /// The most favourable one.
    best: f64,
    /// In words.
    aim: Option<String>,
    met: Option<bool>,
}

fn measure(cases: &[Case], effort: &Effort) -> Vec<Row> {
    let mut meter = Meter::new();
    let mut prepared: Vec<Prepared> =
        cases.iter().map(|case| Prepared::new((case.prepare)(), effort, &mut meter)).collect();
    for _ in 0..effort.repetitions {
        for case in &mut prepared {
            case.repeat(&mut meter);
        }
    }
    cases.iter().zip(prepared).map(|(case, prepared)| Row::new(case, prepared.samples)).collect()
}

/// A case under measurement.
struct Prepared {
    work: Work,
    rounds: u32,
    /// Nanoseconds per unit.
    samples: Vec<f64>,
}

impl Prepared {
    /// Warms a case up, and finds how many rounds make a sample.
    fn new(mut work: Work, effort: &Effort, meter: &mut Meter) -> Self {
        let mut rounds = 0_u32;
        let mut spent = Duration::ZERO;
        let begun = Instant::now();
        // what happens around the measured work may take far longer than it
        while spent < effort.sample / 2 && begun.elapsed() < effort.sample {
            (work.round)(meter);
            spent += meter.take();
            rounds += 1;
        }
        Self { work, rounds: rounds.saturating_mul(2), samples: Vec::new() }
    }

    fn repeat(&mut self, meter: &mut Meter) {
        // the other cases have used the caches since
        (self.work.round)(meter);
        meter.take();
        (0..self.rounds).for_each(|_| (self.work.round)(meter));
        let units = self.work.units.saturating_mul(u64::from(self.rounds));
        self.samples.push(meter.take().as_secs_f64() * 1e9 / as_float(units));
    }
}

impl Row {
    fn new(case: &Case, samples: Vec<f64>) -> Self {
        let mut figures: Vec<f64> = match case.per {
            Per::Byte => samples.iter().map(|nanoseconds| 1.0 / nanoseconds).collect(),
            Per::Each(_) => samples,
        };
        figures.sort_by(f64::total_cmp);
        let (least, most) = (figures[0], figures[figures.len() - 1]);
        let median = median(&figures);
        let (worst, best) = match case.per {
            Per::Byte => (least, most),
            Per::Each(_) => (most, least),
        };
        let aim = case.aim.map(|aim| match aim {
            Aim::Above(bound) => (format!("above {bound}"), median > bound),
            Aim::Below(bound) => (format!("below {bound}"), median < bound),
        });
        let (aim, met) = aim.unzip();
        Self {
            name: case.name,
            what: case.what,
            unit: match case.per {
                Per::Byte => "GB/s".to_owned(),
                Per::Each(unit) => format!("ns per {unit}"),
            },
            median,
            worst,
            best,
            aim,
            met,
        }
    }
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Machine { processor, cores, build } = &self.machine;
        writeln!(out, "{processor}, {cores} cores, {build} build; one core is used")?;
        writeln!(out, "medians of {} interleaved repetitions", self.repetitions)?;
        if self.quick {
            writeln!(out, "a smoke run: the figures are not to be quoted")?;
        }
        writeln!(out)?;
        let mut table =
            Table::new(&["case", "median", "worst", "best", "unit", "aim", "what is measured"]);
        for row in &self.rows {
            let aim = match (&row.aim, row.met) {
                (Some(aim), Some(true)) => format!("{aim}: met"),
                (Some(aim), _) => format!("{aim}: MISSED"),
                (None, _) => String::new(),
            };
            table.row(vec![
                row.name.to_owned(),
                number(row.median),
                number(row.worst),
                number(row.best),
                row.unit.clone(),
                aim,
                row.what.to_owned(),
            ]);
        }
        table.write(out)?;
        let sizes: Vec<_> =
            self.sizes.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
        writeln!(out, "\nbytes, what they point to apart: {}", sizes.join(", "))
    }

    /// Times are judged by whoever reads them.
    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(Outcome::Met)
    }
}

/// Of sorted figures, at least one.
fn median(figures: &[f64]) -> f64 {
    let middle = figures.len() / 2;
    if figures.len().is_multiple_of(2) {
        f64::midpoint(figures[middle - 1], figures[middle])
    } else {
        figures[middle]
    }
}

/// Counts stay far below 2^53.
#[expect(clippy::cast_precision_loss)]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[1.0]), 1.0);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
    }

    #[test]
    fn aims_are_judged_by_the_median() {
        #[track_caller]
        fn check(per: Per, aim: Aim, samples: &[f64], expected: (f64, f64, f64, bool)) {
            let case = Case {
                name: "x",
                what: "x",
                per,
                aim: Some(aim),
                counted: None,
                prepare: || Work::new(1, |_| {}),
            };
            let row = Row::new(&case, samples.to_vec());
            assert_eq!((row.median, row.worst, row.best, row.met), {
                let (median, worst, best, met) = expected;
                (median, worst, best, Some(met))
            });
        }
        let each = Per::Each("message");
        check(each, Aim::Below(100.0), &[300.0, 90.0, 80.0], (90.0, 300.0, 80.0, true));
        check(each, Aim::Below(100.0), &[300.0, 110.0, 80.0], (110.0, 300.0, 80.0, false));
        // 0.25 ns per byte are 4 GB/s
        check(Per::Byte, Aim::Above(3.0), &[0.25, 0.5, 0.125], (4.0, 2.0, 8.0, true));
        check(Per::Byte, Aim::Above(3.0), &[0.5, 0.5, 0.125], (2.0, 2.0, 8.0, false));
    }

    #[test]
    fn times_are_in_nanoseconds_per_unit() {
        let effort = Effort { repetitions: 2, sample: Duration::from_millis(10) };
        let case = Case {
            name: "fill",
            what: "fill",
            per: Per::Each("MiB"),
            aim: None,
            counted: None,
            prepare: || {
                Work::new(1, |meter| {
                    meter.measure(|| drop(std::hint::black_box(vec![1_u8; 1 << 20])));
                })
            },
        };
        let rows = measure(&[case], &effort);
        assert!((1e3..1e8).contains(&rows[0].median), "{:?}: ns for a MiB", rows[0]);
    }
}
