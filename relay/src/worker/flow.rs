//! What flows through a worker, and what it would cost at another flush level.
//!
//! A [`Flow`] watches one stream's log: messages, segments and bytes a second. An [`Estimate`] adds
//! up what this worker's streams cost by a simple model of a send, and gives only ratios: how fast
//! this machine is, and what else the worker does, is in its measured working time, which the ratio
//! is applied to. Pure, and nothing here is done per message or per player.

use std::time::Duration;

use super::level::Step;

/// A send costs this many microseconds whatever it carries (measured; the ratio of this and the
/// next is what counts).
const SEND_US: f64 = 5.2;

/// And this many for each KiB.
const SEND_KIB_US: f64 = 0.2;

/// To seal a segment, or to mail one to another worker, costs about this much.
const SEGMENT_US: f64 = 1.0;

/// Rates below this many bytes a second are low: half a send's bytes at 20 ms cost a twentieth of
/// the send.
const LOW_BELOW: f64 = 100_000.0;

/// A low rate that rises is no longer low from here on. Between the two a stream stays what it is.
const LOW_UNTIL: f64 = 150_000.0;

/// How much a new measurement weighs against those before it.
const WEIGHT: f64 = 0.5;

/// What a stream's log has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) segments: u64,
    pub(super) bytes: u64,
}

/// The rates of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    last: Option<(Duration, Totals)>,
    rates: Option<Rates>,
    bytes_per_second: Option<u64>,
    low: bool,
}

/// Per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    messages: f64,
    segments: f64,
    bytes: f64,
}

/// One stream's part in a worker's load.
#[derive(Clone, Debug)]
pub(super) struct Load<'a> {
    pub(super) flow: &'a Flow,
    /// Players on this worker.
    pub(super) players: usize,
    /// Other workers that it mails the stream to.
    pub(super) readers: usize,
    /// Whether its level is given by configuration.
    pub(super) fixed: bool,
}

/// What all streams of a worker cost.
#[derive(Debug, Default)]
pub(super) struct Estimate<'a>(Vec<Load<'a>>);

impl Flow {
    /// Measures anew. To be called about twice a second.
    pub(super) fn observe(&mut self, now: Duration, totals: Totals) {
        let Some((then, before)) = self.last.replace((now, totals)) else { return };
        let Some(passed) = now.checked_sub(then).filter(|passed| !passed.is_zero()) else { return };
        let rate =
            |after: u64, before: u64| float(after.saturating_sub(before)) / passed.as_secs_f64();
        let measured = Rates {
            messages: rate(totals.messages, before.messages),
            segments: rate(totals.segments, before.segments),
            bytes: rate(totals.bytes, before.bytes),
        };
        let rates = self.rates.map_or(measured, |old| old.towards(measured));
        self.rates = Some(rates);
        let bytes = totals.bytes.saturating_sub(before.bytes).saturating_mul(1_000);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        let bytes = bytes / millis;
        self.bytes_per_second =
            Some(self.bytes_per_second.map_or(bytes, |old| old.midpoint(bytes)));
        self.low = rates.bytes < if self.low { LOW_UNTIL } else { LOW_BELOW };
    }

    /// Bytes a second, once it was measured.
    pub(super) fn bytes_per_second(&self) -> Option<u64> {
        self.bytes_per_second
    }

    /// Whether few bytes flow.
    pub(super) fn is_low(&self) -> bool {
        self.low
    }
}

impl Rates {
    fn towards(self, other: Self) -> Self {
        let mix = |old: f64, new: f64| old + (new - old) * WEIGHT;
        Self {
            messages: mix(self.messages, other.messages),
            segments: mix(self.segments, other.segments),
            bytes: mix(self.bytes, other.bytes),
        }
    }

    /// Segments a second at a flush age. A window begins with a message and takes in what follows
    /// for so long, so to the next one it is that and the wait for another message. What is large
    /// does not wait.
    fn segments_at(&self, age: Duration) -> f64 {
        let gathered = self.messages / (1.0 + self.messages * age.as_secs_f64());
        gathered.max(self.bytes / SEGMENT_BYTES).min(self.messages)
    }
}

/// Segments are sealed at this size, whatever their age.
const SEGMENT_BYTES: f64 = 16_384.0;

impl Load<'_> {
    /// Microseconds a second with so many segments a second.
    fn cost(&self, rates: Rates, segments: f64) -> f64 {
        let sends =
            count(self.players) * (segments * SEND_US + rates.bytes / 1_024.0 * SEND_KIB_US);
        sends + (1.0 + count(self.readers)) * segments * SEGMENT_US
    }

    /// What it costs now, and what it would at a step.
    fn now_and_at(&self, step: Step) -> (f64, f64) {
        let rates = self.flow.rates.unwrap_or_default();
        let now = self.cost(rates, rates.segments);
        if self.fixed {
            return (now, now);
        }
        (now, self.cost(rates, rates.segments_at(step.level(self.flow.low))))
    }
}

impl<'a> Estimate<'a> {
    /// Of these streams.
    pub(super) fn of(loads: impl Iterator<Item = Load<'a>>) -> Self {
        Self(loads.collect())
    }

    /// By which factor the cost would change if every stream were flushed as this step asks. What
    /// is seen now is the measure, whoever asked for it.
    pub(super) fn growth(&self, step: Step) -> f64 {
        let mut sum = (0.0, 0.0);
        for load in &self.0 {
            let (now, then) = load.now_and_at(step);
            sum = (sum.0 + now, sum.1 + then);
        }
        if sum.0 > 0.0 { sum.1 / sum.0 } else { 1.0 }
    }
}

fn float(number: u64) -> f64 {
    // Above 2^53 the last digits are lost, which no rate shows.
    number as f64
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that was measured for a while: messages, segments and bytes a second.
    fn flow(messages: u64, segments: u64, bytes: u64) -> Flow {
        let mut flow = Flow::default();
        for second in 0..20 {
            let totals = Totals {
                messages: messages * second,
                segments: segments * second,
                bytes: bytes * second,
            };
            flow.observe(Duration::from_secs(second), totals);
        }
        flow
    }

    #[test]
    fn a_rate_is_low_until_it_is_clearly_not() {
        let mut flow = Flow::default();
        let mut totals = Totals::default();
        let mut seen = Vec::new();
        let rates = [50, 99, 120, 149, 170, 200, 120, 101, 60, 60];
        for (second, kilobytes) in (1..).zip(rates) {
            // Long enough for what was before to be forgotten.
            for tick in 0..20 {
                totals.bytes += kilobytes * 1_000;
                flow.observe(Duration::from_secs(second * 20 + tick), totals);
            }
            seen.push(flow.is_low());
        }
        let expected = [true, true, true, true, false, false, false, false, true, true];
        assert_eq!(seen, expected);
        let bytes = flow.bytes_per_second();
        assert!(bytes.is_some_and(|bytes| bytes.abs_diff(60_000) < 10), "{bytes:?}");
        assert_eq!(Flow::default().bytes_per_second(), None);
    }

    #[test]
    fn what_another_step_would_cost_is_told_by_messages_and_bytes() {
        let growth = |flow: &Flow, players: usize, fixed: bool, step: Step| {
            let load = Load { flow, players, readers: 0, fixed };
            Estimate::of(std::iter::once(load)).growth(step)
        };
        let [none, .., last] = Step::all().collect::<Vec<_>>()[..] else { unreachable!() };
        // 96 messages a second, at 0 ms: at 50 ms there are 16.6 sends, each with more in it.
        let usual = flow(96, 96, 312_500);
        let up = growth(&usual, 1_000, false, last);
        assert!((0.2..0.3).contains(&up), "{up}");
        assert!((growth(&usual, 1_000, false, none) - 1.0).abs() < 0.01);
        // The same at 50 ms.
        let gathered = flow(96, 17, 312_500);
        let down = growth(&gathered, 1_000, false, none);
        assert!((3.3..5.0).contains(&down), "{down}");
        // Large messages do not gather, nothing is lost where nothing flows or nothing may change.
        let large = growth(&flow(30, 30, 1_000_000), 1_000, false, last);
        assert!((0.99..1.01).contains(&large), "{large}");
        for (flow, fixed) in [(&flow(0, 0, 0), false), (&usual, true), (&Flow::default(), false)] {
            assert!((growth(flow, 1_000, fixed, last) - 1.0).abs() < 1e-9);
        }
        assert!((Estimate::default().growth(last) - 1.0).abs() < 1e-9);
    }
}
