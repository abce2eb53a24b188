//! `bench instructions`: instruction counts of hot functions, held to committed bounds.
//!
//! Each case runs under callgrind, which counts only inside of what is measured, once with a few
//! rounds and once with more; the difference belongs to the rounds alone. Counts hardly depend on
//! the machine (the C library chooses its copying functions by processor, and long copies count up
//! to an instruction per byte) and not at all on its load, so a regression shows wherever this
//! runs. They say nothing about caches: for that there is `bench micro`.

mod bounds;
mod counter;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::bounds::{Bounds, Verdict};
use crate::case::{Case, Meter};
use crate::cases;
use crate::report::{Table, number};
use crate::{CannotRun, Outcome};

/// Arguments of `bench instructions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only cases whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The file of bounds.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    bounds: PathBuf,
    /// Write the counts of this run into the file of bounds instead of judging them.
    #[arg(long)]
    write: bool,
}

/// Beside the crate's manifest.
const DEFAULT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");

/// Counts, prints and judges.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    if cfg!(debug_assertions) {
        let sentence = "instructions are counted in release builds: \
                        cargo run --release -p bench -- instructions";
        return Err(CannotRun(sentence.to_owned()));
    }
    counter::check()?;
    let only = arguments.only.as_deref().unwrap_or_default();
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| case.counted.is_some() && case.name.contains(only))
        .collect();
    let mut bounds = match Bounds::read(&arguments.bounds) {
        Err(_) if arguments.write => Bounds::default(),
        read => read?,
    };
    let counts = count(&cases)?;
    let measured: Vec<_> =
        cases.iter().zip(counts).map(|(case, count)| (case.name, case.per.unit(), count)).collect();
    if arguments.write {
        if only.is_empty() {
            bounds.clear();
        }
        measured.iter().for_each(|&(name, per, count)| bounds.set(name, per, count));
        bounds.write(&arguments.bounds)?;
    }
    let verdicts = bounds.judge(&measured, only);
    print(&verdicts, &bounds, &mut stdout().lock())
        .map_err(|error| CannotRun(format!("the counts cannot be printed: {error}")))?;
    let met = verdicts.iter().all(Verdict::is_met);
    Ok(if met { Outcome::Met } else { Outcome::NotMet })
}

/// Runs rounds of a case under the counter.
pub(crate) fn rounds(name: &str, rounds: u32) -> Result<Outcome, CannotRun> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| CannotRun(format!("there is no case '{name}'")))?;
    let mut work = (case.prepare)();
    let mut meter = Meter::without_clock();
    (0..rounds).for_each(|_| (work.round)(&mut meter));
    counter::say_units(work.units)?;
    Ok(Outcome::Met)
}

/// Instructions per unit of each case, as many cases at a time as there are cores.
fn count(cases: &[Case]) -> Result<Vec<f64>, CannotRun> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(vec![None; cases.len()]);
    let counter = || -> Result<(), CannotRun> {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some((few, more)) = case.counted else { continue };
            let (few, more) = (counter::count(case.name, few)?, counter::count(case.name, more)?);
            let mut counts = counts.lock().expect("no counting thread panics");
            let place = cases.iter().position(|other| other.name == case.name);
            counts[place.expect("it is one of them")] = Some(more.per_unit_beyond(&few));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(counter)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no counting panics"))
    })?;
    let counts = counts.into_inner().expect("no counting thread panics");
    Ok(counts.into_iter().map(|count| count.expect("every case was counted")).collect())
}

fn print(verdicts: &[Verdict], bounds: &Bounds, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new(&["case", "instructions", "committed", "change", "per", "verdict"]);
    for verdict in verdicts {
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let change = verdict.change_percent();
        table.row(vec![
            verdict.name.clone(),
            optional(verdict.measured),
            optional(verdict.committed),
            change.map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %")),
            verdict.per.clone(),
            verdict.sentence(bounds.margin_percent),
        ]);
    }
    table.write(out)?;
    let exceeded = verdicts.iter().filter(|verdict| !verdict.is_met()).count();
    writeln!(out)?;
    if exceeded == 0 {
        writeln!(out, "all within {} % of what is committed", bounds.margin_percent)
    } else {
        writeln!(out, "{exceeded} of {} not as committed", verdicts.len())
    }
}
