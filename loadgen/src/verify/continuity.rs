//! Numbers that ought to come one after the other: which were left out, which came late or again.

use std::collections::VecDeque;
use std::ops::Range;

/// The numbers seen so far.
#[derive(Debug, Default)]
pub struct Continuity {
    next: Option<u64>,
    /// Ranges left out and still waited for, in order.
    holes: VecDeque<Range<u64>>,
}

/// What a number meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the one expected, or the first.
    InOrder,
    /// Numbers before it were left out.
    Ahead,
    /// It had been left out.
    Late,
    /// It was there before, or lies before the first.
    Again,
}

/// Most holes waited for at once; the oldest is settled early.
const HOLES_MAX: usize = 64;

impl Continuity {
    /// The number expected; `None` before the first.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// Takes a number.
    pub fn take(&mut self, number: u64) -> Step {
        let after = number.saturating_add(1);
        let Some(next) = self.next else {
            self.next = Some(after);
            return Step::InOrder;
        };
        if number >= next {
            self.next = Some(after);
            if number == next {
                return Step::InOrder;
            }
            self.holes.push_back(next..number);
            return Step::Ahead;
        }
        let Some(place) = self.holes.iter().position(|hole| hole.contains(&number)) else {
            return Step::Again;
        };
        if let Some(hole) = self.holes.remove(place) {
            // What is left of the hole on either side stays a hole.
            for part in [after..hole.end, hole.start..number] {
                if !part.is_empty() {
                    self.holes.insert(place, part);
                }
            }
        }
        Step::Late
    }

    /// Gives up one hole that ends at or before `before`, or one too many.
    pub fn settle(&mut self, before: u64) -> Option<Range<u64>> {
        let due = self.holes.front()?.end <= before || self.holes.len() > HOLES_MAX;
        if due { self.holes.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn steps() {
        let check = |numbers: &[u64], steps: &[Step], holes: &[Range<u64>]| {
            let mut continuity = Continuity::default();
            let taken: Vec<_> = numbers.iter().map(|number| continuity.take(*number)).collect();
            assert_eq!(taken, steps, "{numbers:?}");
            let mut left = Vec::new();
            while let Some(hole) = continuity.settle(u64::MAX) {
                left.push(hole);
            }
            assert_eq!(left, holes, "{numbers:?}");
        };
        use Step::{Again, Ahead, InOrder, Late};
        check(&[5, 6, 7], &[InOrder, InOrder, InOrder], &[]);
        check(&[5, 7, 8], &[InOrder, Ahead, InOrder], &[6..7]);
        check(&[5, 7, 6], &[InOrder, Ahead, Late], &[]);
        check(&[5, 9, 7], &[InOrder, Ahead, Late], &[6..7, 8..9]);
        check(&[5, 5], &[InOrder, Again], &[]);
        check(&[5, 4], &[InOrder, Again], &[]);
        check(&[5, 7, 6, 6], &[InOrder, Ahead, Late, Again], &[]);
    }

    #[test]
    fn agrees_with_a_set_of_numbers() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut continuity = Continuity::default();
            let mut seen = BTreeSet::new();
            for _ in 0..60 {
                let number = random.u64(10..40);
                let step = continuity.take(number);
                let newest = seen.last().copied();
                let first = seen.first().copied();
                let expected = match newest {
                    None => Step::InOrder,
                    Some(newest) if number == newest + 1 => Step::InOrder,
                    Some(newest) if number > newest => Step::Ahead,
                    _ if seen.contains(&number) || Some(number) < first => Step::Again,
                    _ => Step::Late,
                };
                assert_eq!(step, expected, "seed {seed}");
                if expected != Step::Again {
                    seen.insert(number);
                }
            }
            let (Some(first), Some(last)) = (seen.first(), seen.last()) else { continue };
            let absent = (*first..*last).filter(|number| !seen.contains(number)).count();
            let mut missing = 0;
            while let Some(hole) = continuity.settle(u64::MAX) {
                missing += usize::try_from(hole.end - hole.start).expect("below 40");
            }
            assert_eq!(missing, absent, "seed {seed}");
        }
    }
}
