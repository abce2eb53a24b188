//! A run from its plan to its outcome: the engine in this process or in several, the watch on the
//! server, the limits of the generator itself, the verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use relay::reactor::socket::raise_file_limit;

use crate::clock;
use crate::collect::{Collected, Second};
use crate::engine;
use crate::expect::Verdict;
use crate::failover::{Failover, Pending, Ran};
use crate::failure::Failure;
use crate::measure::{Failures, Interval, SpanKind};
use crate::parts::Parts;
use crate::plan::Plan;
use crate::server::{ServerReport, Watch};
use crate::units::wide;

/// A finished run.
#[derive(Debug)]
pub struct Outcome {
    /// What was to be done.
    pub plan: Arc<Plan>,
    /// Everything measured.
    pub collected: Collected,
    /// What the server took, if it was watched.
    pub server: Option<ServerReport>,
    /// Why the figures are not the server's: the generator was the bottleneck.
    pub invalid: Vec<String>,
    /// What became of each expectation.
    pub verdicts: Vec<Verdict>,
    /// What the generator took of this machine.
    pub own: Own,
    /// What became of the command of `failover`, if there was one.
    pub ran: Option<Ran>,
    /// When it began, in seconds since 1970.
    pub began_at: u64,
    /// Whether somebody ended it early.
    pub stopped: bool,
}

/// What the generator took of this machine.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Own {
    /// Processes, worker threads over all of them.
    pub processes: u64,
    /// Worker threads over all processes.
    pub workers: u64,
    /// The backends of their reactors.
    pub reactors: Vec<String>,
    /// CPU time of all workers, in seconds.
    pub cpu_seconds: f64,
    /// The share of its time that the busiest worker worked under full load.
    pub busiest: f64,
    /// Resident memory of this process at its largest, in bytes.
    pub resident_bytes_max: u64,
    /// Of that, what came after the start, for each connection of this process.
    pub bytes_per_connection: f64,
}

/// What the whole of a run comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every expectation was met.
    Met,
    /// At least one was not.
    NotMet,
    /// Nothing may be said: the run was ended early, the command of `failover` failed, or the
    /// generator was the bottleneck and nothing was missed that its slowness could not explain.
    Unknown,
}

impl Outcome {
    /// What was wrong with the command of `failover`, if something was.
    #[must_use]
    pub fn command_failed(&self) -> Option<&str> {
        self.ran.as_ref()?.failure.as_deref()
    }

    /// Whether what was expected was met, that somebody could play first of all. Where the
    /// generator was the bottleneck, what may come of its slowness is not held against the server;
    /// what was met all the same is met.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        let mut unmet = self.verdicts.iter().filter(|verdict| !verdict.met).peekable();
        let counters = &self.collected.counters;
        let nobody = counters.players_planned > 0 && counters.players_joined == 0;
        let unjudged = self.verdicts.is_empty() && !self.invalid.is_empty();
        if self.command_failed().is_some() {
            // Nobody knows what was struck, so nothing can be said of how it was borne.
            return Judgement::Unknown;
        }
        if unmet.peek().is_none() {
            if self.stopped || unjudged {
                Judgement::Unknown
            } else if nobody {
                Judgement::NotMet
            } else {
                Judgement::Met
            }
        } else if self.invalid.is_empty() || unmet.any(|verdict| !verdict.by_slowness) {
            Judgement::NotMet
        } else {
            Judgement::Unknown
        }
    }
}

/// Who is told how a run goes.
pub trait Watcher {
    /// Called some times a second with what was collected, and how long the load has been on.
    fn look(&mut self, plan: &Plan, collected: &Collected, elapsed: Duration);
}

/// A worker that is busier than this is the bottleneck.
const BUSY_MAX: f64 = 0.9;
/// So is a generator of which a hundredth of the timers is later than this, in microseconds.
const LATE_P99_MICROS_MAX: u64 = 20_000;
/// And one that finds so many of its reads full.
const FULL_READS_MAX: f64 = 0.25;
/// Too few reads say nothing.
const READS_MIN: u64 = 1_000;

/// Runs a plan, telling `watchers` how it goes.
///
/// # Errors
/// One sentence when the run cannot be made, or nothing of it could begin.
pub fn execute(
    plan: Plan,
    stop: &Arc<AtomicBool>,
    watchers: &mut [Box<dyn Watcher>],
) -> Result<Outcome, Failure> {
    let (_, files) = raise_file_limit().map_err(|error| {
        Failure::new(format!("the limit on open files cannot be read: {error}"))
    })?;
    let connections = plan.connections_max();
    let parts = Parts::needed(connections, files)?;
    let resident_before = resident_bytes();
    let watch = Watch::begin(&plan.outputs)?;
    let began_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let began_at = began_at.map(|since| since.as_secs()).unwrap_or_default();
    let begin = plan.begin.unwrap_or_else(|| clock::now() + parts.start_up());
    let plan = Arc::new(Plan { begin: Some(begin), ..plan });

    let command = Failover::begin(&plan, begin, stop);
    let (sender, receiver) = mpsc::channel();
    let engine = start(&plan, &parts, stop, sender);
    let mut collected = Collected::default();
    let resident = follow(&plan, &receiver, &mut collected, stop, watchers, begin);
    let failed = match engine.join() {
        Ok(result) => result.err(),
        Err(_) => Some(Failure::new("the generator panicked")),
    };
    let server = watch.map(Watch::end);
    let ran = command.and_then(Pending::end);
    if let Some(failure) = failed.or_else(|| nothing_began(&plan, &collected)) {
        return Err(failure);
    }
    let own = Own {
        processes: wide(parts.count()),
        workers: collected.workers(),
        reactors: collected.reactors.iter().cloned().collect(),
        cpu_seconds: collected.cpu().as_secs_f64(),
        busiest: collected.busiest(&plan),
        resident_bytes_max: resident,
        bytes_per_connection: resident.saturating_sub(resident_before) as f64
            / (connections / parts.count()).max(1) as f64,
    };
    let verdicts = plan.expect.iter();
    let verdicts =
        verdicts.map(|term| term.judge(collected.figure(term.figure(), &plan))).collect();
    Ok(Outcome {
        invalid: limits_passed(&collected, &own),
        stopped: stop.load(Ordering::Relaxed),
        plan,
        collected,
        server,
        verdicts,
        own,
        ran,
        began_at,
    })
}

fn start(
    plan: &Arc<Plan>,
    parts: &Parts,
    stop: &Arc<AtomicBool>,
    intervals: Sender<Interval>,
) -> JoinHandle<Result<(), Failure>> {
    let (plan, stop, parts) = (Arc::clone(plan), Arc::clone(stop), parts.clone());
    thread::spawn(move || {
        if parts.count() > 1 {
            parts.run(&plan, &stop, &intervals)
        } else {
            engine::run(&plan, &stop, intervals)
        }
    })
}

/// Collects until the engine has ended; gives the largest resident memory seen.
fn follow(
    plan: &Plan,
    intervals: &Receiver<Interval>,
    collected: &mut Collected,
    stop: &AtomicBool,
    watchers: &mut [Box<dyn Watcher>],
    begin: Duration,
) -> u64 {
    let mut resident = 0;
    loop {
        match intervals.recv_timeout(Duration::from_millis(200)) {
            Ok(interval) => collected.add(&interval),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return resident,
        }
        resident = resident.max(resident_bytes());
        let elapsed = clock::now().saturating_sub(begin);
        watchers.iter_mut().for_each(|watcher| watcher.look(plan, collected, elapsed));
        if is_hopeless(plan, collected) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether every publisher (or every player, where nobody publishes) was refused or sent away at
/// once, and will not try again.
fn is_hopeless(plan: &Plan, collected: &Collected) -> bool {
    let wanted = if plan.publishers > 0 { plan.publishers } else { plan.players };
    !plan.reconnect && nobody_stayed(plan, collected) && collected.errors() >= wide(wanted)
}

/// Whether every publisher (or every player, where nobody publishes) that began was lost before a
/// second was over.
fn nobody_stayed(plan: &Plan, collected: &Collected) -> bool {
    let (counters, slow) = (&collected.counters, &collected.slow);
    let present = |second: &Second| {
        if plan.publishers > 0 { second.publishers > 0 } else { second.players > 0 }
    };
    let (started, lost) = if plan.publishers > 0 {
        (counters.publishers_started, counters.publishers_lost)
    } else {
        (counters.players_started + slow.players_started, counters.players_lost + slow.players_lost)
    };
    started == lost && !collected.seconds.values().any(present)
}

/// A run in which nobody began, or could stay, is none.
fn nothing_began(plan: &Plan, collected: &Collected) -> Option<Failure> {
    let planned = collected.counters.players_planned + collected.slow.players_planned;
    let anybody = plan.publishers > 0 || planned > 0;
    if !anybody || !nobody_stayed(plan, collected) {
        return None;
    }
    let who = if plan.publishers > 0 { "publisher" } else { "player" };
    let why = most_common(&collected.failures).unwrap_or("no answer came");
    Some(Failure::new(format!("no {who} could begin: {why}")))
}

fn most_common(failures: &Failures) -> Option<&str> {
    // What was still opening, or waited for media, at the end was cut off by us.
    let ours = ["still_opening", "no_media"];
    let told = failures.iter().filter(|(cause, _)| !ours.contains(&cause.as_str()));
    let most = told.max_by_key(|(_, failed)| failed.count)?;
    Some(&most.1.example)
}

fn limits_passed(collected: &Collected, own: &Own) -> Vec<String> {
    let mut passed = Vec::new();
    if own.busiest > BUSY_MAX {
        passed.push(format!("a core of the generator was {:.0} % busy", own.busiest * 100.0));
    }
    let late = collected.spans.of(SpanKind::TimerLate).map_or(0, |span| span.percentile(99.0));
    if late > LATE_P99_MICROS_MAX {
        let late = crate::units::show_micros(late);
        passed.push(format!("a hundredth of the generator's timers fired {late} late or later"));
    }
    let (reads, full) = (collected.counters.reads, collected.counters.full_reads);
    if reads >= READS_MIN && full as f64 > reads as f64 * FULL_READS_MAX {
        passed.push("the generator read more slowly than data came".to_owned());
    }
    passed
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Counters, Meter};

    #[test]
    fn a_generator_that_is_the_bottleneck_says_so() {
        let check = |busiest: f64, late_ms: u64, full_reads: u64, expected: &[&str]| {
            let mut meter = Meter::default();
            meter.counters = Counters { reads: 10_000, full_reads, ..Counters::default() };
            for timer in 0..100 {
                let late = if timer < 3 { late_ms } else { 1 };
                meter.spans.record(SpanKind::TimerLate, Duration::from_millis(late));
            }
            let mut collected = Collected::default();
            collected.add(&meter.take());
            let own = Own { busiest, ..Own::default() };
            let passed = limits_passed(&collected, &own);
            assert_eq!(passed.len(), expected.len(), "{passed:?}");
            for (sentence, part) in passed.iter().zip(expected) {
                assert!(sentence.contains(part), "{sentence}");
            }
        };
        check(0.5, 5, 100, &[]);
        check(0.95, 5, 100, &["95 % busy"]);
        check(0.5, 40, 100, &["timers fired 40"]);
        check(0.5, 5, 5_000, &["more slowly than data came"]);
        check(1.0, 400, 9_000, &["100 % busy", "timers", "more slowly"]);
    }
}
