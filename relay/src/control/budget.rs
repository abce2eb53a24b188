//! How often operators may have workers look through their tables.
//!
//! Such a list costs a worker time that its players would have had. So no more of them than a limit
//! says are asked for in a second, whoever asks; what is more is answered 429 by the control thread
//! alone.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is left of this second's lists. A list may be asked for whenever so many of the past second
/// have not been, and after a quiet second a whole second's worth at once.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Option<Spent>>);

/// When the last list of the past would be paid for at the allowed pace.
#[derive(Clone, Copy, Debug)]
struct Spent {
    until: Instant,
}

impl Budget {
    /// Whether one more list may be made, of so many in a second.
    pub(super) fn spend(&self, per_second: usize, now: Instant) -> bool {
        let mut spent = self.0.lock();
        let pace = u32::try_from(per_second.max(1)).unwrap_or(u32::MAX);
        let cost = Duration::from_secs(1) / pace;
        let paid = spent.map_or(now, |spent| spent.until.max(now)) + cost;
        let fits = paid.saturating_duration_since(now) <= Duration::from_secs(1);
        if fits {
            *spent = Some(Spent { until: paid });
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_may_be_spent_at_once_and_then_at_its_pace() {
        let budget = Budget::default();
        let start = Instant::now();
        let spent_at = |millis: u64| {
            let now = start + Duration::from_millis(millis);
            (0..1_000).filter(|_| budget.spend(50, now)).count()
        };
        assert_eq!([spent_at(0), spent_at(0), spent_at(19), spent_at(20)], [50, 0, 0, 1]);
        assert_eq!([spent_at(520), spent_at(60_000), spent_at(60_001)], [25, 50, 0]);
        // Nothing at all would be no operating; a limit of 0 is one of 1.
        let least = Budget::default();
        assert!(least.spend(0, start) && !least.spend(0, start));
    }
}
