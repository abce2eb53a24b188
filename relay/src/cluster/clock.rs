//! How far another node's clock is from ours, from heartbeats that answer each other.
//!
//! Nodes tell each other their time since they started, which no one sets and nothing turns back;
//! so a wall clock that is minutes off does no harm. Of the last few round trips the shortest one
//! counts: the less time a beat was under way, the less of it can have been spent on one half.

use std::collections::VecDeque;
use std::time::Duration;

/// Another node's clock beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// Their time minus ours, in microseconds.
    pub micros: i64,
    /// The estimate is wrong by no more than this, in microseconds.
    pub error_micros: i64,
}

impl ClockOffset {
    /// Our time of an instant that they tell in microseconds of theirs. Before our start it is
    /// zero.
    #[must_use]
    pub fn here(self, their_micros: u64) -> Duration {
        let there = i64::try_from(their_micros).unwrap_or(i64::MAX);
        Duration::from_micros(u64::try_from(there.saturating_sub(self.micros)).unwrap_or(0))
    }
}

/// The last round trips with one peer.
#[derive(Debug, Default)]
pub(super) struct ClockFilter {
    samples: VecDeque<ClockOffset>,
}

/// One round trip: ours went out at `sent` and was held there for `held`; the answer says `there`,
/// the peer's time when it left, and came at `now`. All in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    pub(super) sent: u64,
    pub(super) held: u64,
    pub(super) there: u64,
    pub(super) now: u64,
}

const SAMPLES: usize = 8;

impl ClockFilter {
    /// Takes a round trip into account; one that cannot have been is passed over.
    pub(super) fn add(&mut self, trip: RoundTrip) {
        let signed = |micros| i64::try_from(micros).ok().filter(|micros| *micros < i64::MAX / 8);
        let (Some(sent), Some(held)) = (signed(trip.sent), signed(trip.held)) else { return };
        let (Some(there), Some(now)) = (signed(trip.there), signed(trip.now)) else { return };
        let round = now - sent - held;
        if round < 0 || sent > now || held > there {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        let micros = (there - held - sent + there - now) / 2;
        self.samples.push_back(ClockOffset { micros, error_micros: round / 2 + 1 });
    }

    /// The best estimate.
    pub(super) fn offset(&self) -> Option<ClockOffset> {
        self.samples.iter().copied().min_by_key(|sample| sample.error_micros)
    }
}

/// Whole microseconds of a time since start.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trips: &[(u64, u64, u64, u64)], expected: Option<(i64, i64)>) {
        let mut filter = ClockFilter::default();
        for &(sent, held, there, now) in trips {
            filter.add(RoundTrip { sent, held, there, now });
        }
        let offset = filter.offset().map(|offset| (offset.micros, offset.error_micros));
        assert_eq!(offset, expected, "{trips:?}");
    }

    #[test]
    fn the_shortest_round_trip_says_how_far_clocks_are_apart() {
        // There and back 100 each, held for 1,000, and their clock shows 50,000 more.
        check(&[(7_000, 1_000, 58_100, 8_200)], Some((50_000, 101)));
        // Theirs behind ours.
        check(&[(70_000, 10, 20_110, 70_210)], Some((-50_000, 101)));
        // All of a long way was spent on one half: the error covers it.
        check(&[(7_000, 1_000, 58_000, 9_000)], Some((49_500, 501)));
        // The shorter one counts, whenever it was.
        check(&[(7_000, 1_000, 58_100, 8_200), (9_000, 0, 59_000, 19_000)], Some((50_000, 101)));
        let mut old = vec![(7_000, 1_000, 58_100, 8_200)];
        old.extend([(10_000, 0, 60_500, 11_000); SAMPLES]);
        check(&old, Some((50_000, 501)));
    }

    #[test]
    fn what_cannot_have_been_is_passed_over() {
        check(&[(9_000, 0, 59_000, 8_000)], None);
        check(&[(7_000, 5_000, 58_000, 8_000)], None);
        check(&[(u64::MAX, 0, 0, 0)], None);
        check(&[(0, u64::MAX, 0, 0)], None);
        check(&[(0, 0, u64::MAX, u64::MAX)], None);
    }

    #[test]
    fn their_time_becomes_ours() {
        let offset = ClockOffset { micros: 50_000, error_micros: 1 };
        assert_eq!(offset.here(58_100), Duration::from_micros(8_100));
        assert_eq!(offset.here(10), Duration::ZERO);
        let behind = ClockOffset { micros: -50_000, error_micros: 1 };
        assert_eq!(behind.here(10), Duration::from_micros(50_010));
    }
}
