//! What `failover` does besides playing: it runs a command at a time, which kills, cuts or drains
//! something, and follows each player's silence from then on, over all of its connections.

mod command;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use command::{Pending, Ran};

use crate::measure::{Meter, SpanKind};
use crate::plan::Plan;
use crate::target::Target;
use crate::units::nanos;

/// What is done, and what is expected of players.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Run by `sh -c`; `None` where somebody else does it.
    pub command: Option<String>,
    /// It may run for so long.
    pub command_max: Duration,
    /// When, from the point from which the full load is on.
    pub at: Duration,
    /// A player has recovered when it was never without a frame for longer than this.
    pub within: Duration,
    /// Where those go who lose their connection; where they came from, or to another target, if
    /// there are none.
    pub fallback: Vec<Target>,
}

impl Failover {
    /// The moment of the command.
    #[must_use]
    pub fn moment(&self, plan: &Plan, begin: Duration) -> Duration {
        begin + plan.full_from() + self.at
    }

    /// Runs the command when it is time, if there is one, and unless `stop` is set before.
    #[must_use]
    pub fn begin(plan: &Plan, begin: Duration, stop: &Arc<AtomicBool>) -> Option<Pending> {
        let failover = plan.failover.as_ref()?;
        let command = failover.command.clone()?;
        let moment = failover.moment(plan, begin);
        Some(command::begin(command, moment, failover.command_max, stop))
    }
}

/// One player's silences, carried from connection to connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Silence {
    /// The moment of the command.
    event: Option<Duration>,
    last: Option<Duration>,
    /// The longest that ended after the moment.
    longest: Duration,
    /// It goes on over a new connection, which had no frame yet.
    fresh: bool,
    /// The silence before the first frame of the new connection, unless another one had frames
    /// meanwhile: from when, until when.
    before: Option<(Duration, Duration)>,
    /// It had frames before the moment.
    counts: bool,
}

/// A player whose last frame is older than this at its end has none any more.
const STILL_PLAYS: Duration = Duration::from_secs(1);

impl Silence {
    /// A player that has played nothing yet.
    pub(crate) fn new(event: Duration) -> Self {
        Self { event: Some(event), ..Self::default() }
    }

    /// The same player over a new connection, while the old one may still have frames.
    pub(crate) fn onward(&self) -> Self {
        Self { longest: self.longest(), fresh: true, before: None, ..*self }
    }

    /// Whether it is followed.
    pub(crate) fn is_followed(&self) -> bool {
        self.event.is_some()
    }

    /// A frame came.
    pub(crate) fn frame(&mut self, now: Duration, meter: &mut Meter) {
        let Some(event) = self.event else { return };
        if !self.counts && now < event {
            self.counts = true;
            meter.counters.failover_players += 1;
        }
        if now >= event
            && let Some(last) = self.last
        {
            if self.fresh {
                self.before = Some((last, now));
            } else {
                self.longest = self.longest.max(now.saturating_sub(last));
            }
        }
        self.fresh = false;
        self.last = Some(now);
    }

    fn longest(&self) -> Duration {
        let before = self.before.map_or(Duration::ZERO, |(from, until)| until.saturating_sub(from));
        self.longest.max(before)
    }

    /// The same player had frames on another connection besides.
    pub(crate) fn merge(&mut self, other: &Self) {
        if let (Some((from, _)), Some(last)) = (&mut self.before, other.last) {
            *from = last.max(*from);
        }
        self.last = self.last.max(other.last);
        self.longest = self.longest.max(other.longest());
        self.counts |= other.counts;
    }

    /// A player lost its connection, or was sent elsewhere.
    pub(crate) fn moved(&self, now: Duration, meter: &mut Meter) {
        if self.counts && self.event.is_some_and(|event| now >= event) {
            meter.counters.failover_moves += 1;
        }
    }

    /// The player leaves by plan, or the run is over: what it went through is counted.
    pub(crate) fn settle(&mut self, within: Duration, now: Duration, meter: &mut Meter) {
        let (true, Some(last)) = (std::mem::take(&mut self.counts), self.last) else { return };
        let silent = now.saturating_sub(last);
        let longest = self.longest();
        let gap = if silent > STILL_PLAYS { longest.max(silent) } else { longest };
        meter.spans.record(SpanKind::Gap, gap);
        meter.counters.failover_recovered += u64::from(gap <= within);
    }
}

/// From a loss to the first try to connect again, drawn between half of this and all of it, and
/// then doubled each time, up to [`AGAIN_MAX`]: players that are to be measured do not dawdle.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// How long a player or publisher waits before it tries again.
pub(crate) fn backoff(attempt: u32, random: &mut fastrand::Rng) -> Duration {
    let longest = AGAIN_FIRST.saturating_mul(1 << attempt.min(8)).min(AGAIN_MAX);
    Duration::from_nanos(random.u64(nanos(longest) / 2..=nanos(longest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Duration = Duration::from_secs(10);
    const WITHIN: Duration = Duration::from_secs(2);

    /// Frames at these times in tenths of a second; the run ends at `end`.
    fn check(frames: &[u64], end: u64, expected: Option<(u64, bool)>) {
        let tenths = |tenths: u64| Duration::from_millis(tenths * 100);
        let mut meter = Meter::default();
        let mut silence = Silence::new(EVENT);
        for frame in frames {
            silence.frame(tenths(*frame), &mut meter);
        }
        silence.settle(WITHIN, tenths(end), &mut meter);
        silence.settle(WITHIN, tenths(end), &mut meter);
        let counters = &meter.counters;
        let gap = meter.spans.of(SpanKind::Gap).map(|span| (span.max() + 50_000) / 100_000);
        let recovered = counters.failover_recovered == 1;
        let found = gap.map(|gap| (gap, recovered));
        assert_eq!(found, expected, "{frames:?} until {end}");
        assert_eq!(counters.failover_players, u64::from(expected.is_some()));
    }

    #[test]
    fn a_gap_is_the_longest_silence_that_ends_after_the_moment() {
        check(&[90, 91, 99, 105, 106, 107], 108, Some((6, true)));
        check(&[50, 98, 102, 103], 108, Some((4, true)));
        check(&[98, 128, 129], 130, Some((30, false)));
        check(&[98, 118, 119, 139, 140], 142, Some((20, true)));
        // It never plays again, or stops once more.
        check(&[98, 99], 150, Some((51, false)));
        check(&[98, 102, 103], 150, Some((47, false)));
        // Who came later has nothing to recover from.
        check(&[101, 102, 130], 131, None);
        check(&[], 131, None);
    }

    #[test]
    fn a_player_that_moves_is_one_player() {
        let mut meter = Meter::default();
        let mut before = Silence::new(EVENT);
        before.frame(Duration::from_secs(9), &mut meter);
        let mut after = before.onward();
        before.frame(Duration::from_secs(11), &mut meter);
        after.frame(Duration::from_millis(11_500), &mut meter);
        after.merge(&before);
        after.settle(WITHIN, Duration::from_secs(12), &mut meter);
        assert_eq!((meter.counters.failover_players, meter.counters.failover_recovered), (1, 1));
    }
}
