//! What is measured: counters and spans of time, each with a name that reports, expectations and
//! the JSON share.
//!
//! A worker owns a [`Meter`] and nobody else touches it. Once a second it hands over what was added
//! since ([`Interval`]); intervals of all workers and processes add up to the whole.

mod counters;
mod spans;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::counters::Counters;
pub use self::spans::{Span, SpanKind, Spans, Sparse};

/// What one worker measures.
#[derive(Debug, Default)]
pub struct Meter {
    /// Of the load itself.
    pub counters: Counters,
    /// Of readers that are slow on purpose, whose losses are not held against the server.
    pub slow: Counters,
    /// Spans of time since the last interval.
    pub spans: Spans,
    /// Failures by cause, since the last interval.
    pub failures: Failures,
    /// Where slow readers' spans go, to be forgotten.
    forgotten: Spans,
}

/// Failures by cause, with one sentence each.
pub type Failures = BTreeMap<String, Failed>;

/// Failures of one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// How often.
    pub count: u64,
    /// The first one, in words.
    pub example: String,
}

/// What happened within a second, in one worker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Which worker, over all processes.
    pub worker: u64,
    /// Seconds since the load began.
    pub second: u64,
    /// Counted within it.
    pub counters: Counters,
    /// The same of slow readers.
    pub slow: Counters,
    /// Spans of time.
    pub spans: BTreeMap<String, Sparse>,
    /// Failures by cause.
    pub failures: Failures,
    /// Players that receive at its end.
    pub players: u64,
    /// Publishers that send at its end.
    pub publishers: u64,
    /// The backend of its reactor.
    pub reactor: String,
    /// CPU time that the worker's thread used, in nanoseconds.
    pub cpu_ns: u64,
    /// How long the interval was, in nanoseconds.
    pub wall_ns: u64,
}

impl Meter {
    /// Where a player's frames are counted.
    pub fn of(&mut self, slow: bool) -> (&mut Counters, &mut Spans) {
        if slow {
            (&mut self.slow, &mut self.forgotten)
        } else {
            (&mut self.counters, &mut self.spans)
        }
    }

    /// Counts a failure.
    pub fn fail(&mut self, cause: &str, example: impl FnOnce() -> String) {
        if let Some(failed) = self.failures.get_mut(cause) {
            failed.count += 1;
            return;
        }
        self.failures.insert(cause.to_owned(), Failed { count: 1, example: example() });
    }

    /// Gives what was measured since the last call and starts anew.
    pub fn take(&mut self) -> Interval {
        Interval {
            counters: std::mem::take(&mut self.counters),
            slow: std::mem::take(&mut self.slow),
            spans: self.spans.take(),
            failures: std::mem::take(&mut self.failures),
            ..Interval::default()
        }
    }
}

/// Adds failures to others.
pub fn add_failures(sum: &mut Failures, more: &Failures) {
    for (cause, failed) in more {
        let entry = sum.entry(cause.clone()).or_default();
        entry.count += failed.count;
        if entry.example.is_empty() {
            entry.example.clone_from(&failed.example);
        }
    }
}
