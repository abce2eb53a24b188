//! The sum of what all workers of all processes measured, second by second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::expect::{Figure, Statistic};
use crate::measure::{Counters, Failures, Interval, SpanKind, Spans, Sparse, add_failures};
use crate::plan::Plan;
use crate::units::wide;

/// Everything measured so far.
#[derive(Debug, Default)]
pub struct Collected {
    /// Counters of the load.
    pub counters: Counters,
    /// Counters of the readers that are slow on purpose.
    pub slow: Counters,
    /// Spans over the whole run.
    pub spans: Spans,
    /// Failures by cause.
    pub failures: Failures,
    /// Each second's share, from the beginning of the load.
    pub seconds: BTreeMap<u64, Second>,
    /// The backends of all workers' reactors.
    pub reactors: BTreeSet<String>,
    /// CPU time and length of each worker's seconds, in nanoseconds, by worker and second.
    workers: BTreeMap<(u64, u64), (u64, u64)>,
}

/// What happened within one second.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// Counted within it.
    pub counters: Counters,
    /// Players that received at its end.
    pub players: u64,
    /// Publishers that sent at its end.
    pub publishers: u64,
    latency: BTreeMap<u64, u64>,
    join: BTreeMap<u64, u64>,
}

impl Collected {
    /// Adds what a worker handed over.
    pub fn add(&mut self, interval: &Interval) {
        self.counters.add(&interval.counters);
        self.slow.add(&interval.slow);
        self.spans.add(&interval.spans);
        add_failures(&mut self.failures, &interval.failures);
        let second = self.seconds.entry(interval.second).or_default();
        second.counters.add(&interval.counters);
        second.players += interval.players;
        second.publishers += interval.publishers;
        let of = |kind: SpanKind| interval.spans.get(kind.name());
        add_sparse(&mut second.latency, of(SpanKind::Latency));
        add_sparse(&mut second.join, of(SpanKind::Join));
        if !self.reactors.contains(&interval.reactor) {
            self.reactors.insert(interval.reactor.clone());
        }
        let spent = self.workers.entry((interval.worker, interval.second)).or_default();
        spent.0 += interval.cpu_ns;
        spent.1 += interval.wall_ns;
    }

    /// The whole seconds during which the full load was on.
    pub fn full_seconds(&self, plan: &Plan) -> impl Iterator<Item = (u64, &Second)> {
        let from = plan.full_from();
        let from = from.as_secs() + u64::from(from.subsec_nanos() > 0);
        let to = plan.length().as_secs().max(from);
        self.seconds.range(from..to).map(|(number, second)| (*number, second))
    }

    /// The last second that is over, or the first one while it lasts.
    #[must_use]
    pub fn whole_second(&self) -> Option<&Second> {
        let mut newest = self.seconds.values().rev();
        let running = newest.next();
        newest.next().or(running)
    }

    /// Received bits per second while the full load was on; of the whole run when that was shorter
    /// than a second.
    #[must_use]
    pub fn rate(&self, plan: &Plan) -> f64 {
        let full: Vec<u64> =
            self.full_seconds(plan).map(|(_, second)| second.counters.bytes_received).collect();
        if full.is_empty() {
            let seconds = plan.length().as_secs_f64().max(0.001);
            return self.counters.bytes_received as f64 * 8.0 / seconds;
        }
        full.iter().sum::<u64>() as f64 * 8.0 / full.len() as f64
    }

    /// Failures of all causes, except those of slow readers.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let counted = self.failures.iter().filter(|(cause, _)| !cause.starts_with("slow: "));
        counted.map(|(_, failed)| failed.count).sum()
    }

    /// The share of its time that the busiest worker spent working while the full load was on.
    #[must_use]
    pub fn busiest(&self, plan: &Plan) -> f64 {
        let full: Vec<u64> = self.full_seconds(plan).map(|(number, _)| number).collect();
        let mut shares: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for ((worker, second), (cpu, wall)) in &self.workers {
            if full.is_empty() || full.contains(second) {
                let share = shares.entry(*worker).or_default();
                share.0 += cpu;
                share.1 += wall;
            }
        }
        let of = |(cpu, wall): &(u64, u64)| *cpu as f64 / (*wall).max(1) as f64;
        shares.values().map(of).fold(0.0, f64::max)
    }

    /// CPU time of all workers.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.workers.values().map(|(cpu, _)| cpu).sum())
    }

    /// How many workers there were.
    #[must_use]
    pub fn workers(&self) -> u64 {
        let mut numbers: Vec<u64> = self.workers.keys().map(|(worker, _)| *worker).collect();
        numbers.dedup();
        wide(numbers.len())
    }

    /// The share of players that recovered, if there were any to do so.
    #[must_use]
    pub fn recovered(&self) -> Option<f64> {
        let players = self.counters.failover_players as f64;
        (players > 0.0).then(|| self.counters.failover_recovered as f64 / players)
    }

    /// What an expectation looks at; `None` when there was nothing to measure.
    #[must_use]
    pub fn figure(&self, figure: &Figure, plan: &Plan) -> Option<f64> {
        let planned = self.counters.players_planned as f64;
        match figure {
            Figure::Span(kind, statistic) => {
                let span = self.spans.of(*kind);
                Some(match statistic {
                    Statistic::Count => span.map_or(0.0, |span| span.count() as f64),
                    Statistic::Percentile(percent) => span?.percentile(*percent) as f64,
                    Statistic::Mean => span?.mean(),
                    Statistic::Max => span?.max() as f64,
                })
            }
            Figure::Counter(name) => {
                let table = self.counters.table();
                table.iter().find(|(known, ..)| known == name).map(|(_, value, _)| *value as f64)
            }
            Figure::Kept if planned > 0.0 => Some(self.counters.players_kept as f64 / planned),
            Figure::Joined if planned > 0.0 => Some(self.counters.players_joined as f64 / planned),
            Figure::Kept | Figure::Joined => None,
            Figure::Recovered => self.recovered(),
            Figure::Errors => Some(self.errors() as f64),
            Figure::Rate => Some(self.rate(plan)),
        }
    }
}

impl Second {
    /// A percentile of the latencies of this second, in microseconds.
    #[must_use]
    pub fn latency(&self, percent: f64) -> Option<u64> {
        percentile(&self.latency, percent)
    }

    /// A percentile of the join times of this second, in microseconds.
    #[must_use]
    pub fn join(&self, percent: f64) -> Option<u64> {
        percentile(&self.join, percent)
    }

    /// Joins of this second.
    #[must_use]
    pub fn joins(&self) -> u64 {
        self.join.values().sum()
    }
}

fn add_sparse(sum: &mut BTreeMap<u64, u64>, more: Option<&Sparse>) {
    for (value, count) in more.into_iter().flatten() {
        *sum.entry(*value).or_default() += count;
    }
}

fn percentile(counts: &BTreeMap<u64, u64>, percent: f64) -> Option<u64> {
    let total: u64 = counts.values().sum();
    let wanted = crate::units::whole((total as f64 * percent / 100.0).ceil()).max(1);
    let mut seen = 0;
    counts.iter().find_map(|(value, count)| {
        seen += count;
        (seen >= wanted).then_some(*value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_second() {
        let mut second = Second::default();
        assert_eq!(second.latency(50.0), None);
        add_sparse(&mut second.latency, Some(&vec![(10, 50), (20, 49)]));
        add_sparse(&mut second.latency, Some(&vec![(30, 1)]));
        assert_eq!(second.latency(50.0), Some(10));
        assert_eq!(second.latency(51.0), Some(20));
        assert_eq!(second.latency(99.0), Some(20));
        assert_eq!(second.latency(99.5), Some(30));
        assert_eq!(second.latency(0.0), Some(10));
    }
}
