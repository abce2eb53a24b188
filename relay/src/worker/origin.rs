//! Which sources of the cluster a stream's log holds, and where the count of each goes on.
//!
//! A log outlives its sources: a publisher comes back on another node, a node that was cut off has
//! fed an older one meanwhile. Each source counts its messages by itself, so places of one are
//! never compared with those of another; but one that was here before goes on where it was left,
//! and nothing of it comes twice. Knows nothing of media and of links.

use crate::cluster::Term;
use crate::stream::Left;

/// The source whose messages a stream's log takes, and those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The source; `None` without a cluster.
    pub(super) term: Option<Term>,
    /// Number of its first segment, or of the one that is to be.
    pub(super) from: u64,
    /// What is to be added to this node's time of ingest for the origin's own, in microseconds;
    /// `None` while the origin's clock is not known.
    pub(super) ahead_micros: Option<i64>,
    /// Sources of which something came, the one with the newest segments first.
    former: [Option<Former>; FORMER_MAX],
}

/// A source that was here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Former {
    term: Term,
    /// Number of its first segment.
    from: u64,
    left: Left,
}

/// Sources that are remembered per stream. Rarely does even one come back.
const FORMER_MAX: usize = 4;

/// How the source of a stream's log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It is another one than before, which was perhaps here earlier.
    New(Left),
    /// It is the same.
    GoesOn,
    /// It is the same; in between there was another one, of which nothing came.
    Returns(Left),
}

impl Origin {
    /// A source begins, or the same goes on. `segment` is the number of the log's next segment;
    /// there and so the source before is left.
    pub(super) fn begin(
        &mut self,
        term: Term,
        ahead_micros: Option<i64>,
        segment: u64,
        left: Left,
    ) -> Beginning {
        if self.term == Some(term) {
            return Beginning::GoesOn;
        }
        let has_brought = self.from < segment;
        if let Some(last) = self.term.filter(|_| has_brought) {
            self.remember(Former { term: last, from: self.from, left });
        }
        let newest = self.former[0];
        let known = self.former.into_iter().flatten().find(|former| former.term == term);
        (self.term, self.ahead_micros) = (Some(term), ahead_micros);
        match known {
            Some(Former { from, left, .. }) if !has_brought && known == newest => {
                self.from = from;
                Beginning::Returns(left)
            }
            _ => {
                self.from = segment;
                Beginning::New(known.map_or_else(Left::default, |former| former.left))
            }
        }
    }

    fn remember(&mut self, last: Former) {
        let same = |former: &Option<Former>| former.is_some_and(|it| it.term == last.term);
        let place = self.former.iter().position(same).unwrap_or(FORMER_MAX - 1);
        self.former[..=place].rotate_right(1);
        self.former[0] = Some(last);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cluster::NodeKey;

    fn term(epoch: u64) -> Term {
        Term { epoch, origin: NodeKey(epoch) }
    }

    /// Sources that begin one after the other, each with the number of the next segment and of the
    /// next message then: how each begins, and from which segment on it is.
    #[track_caller]
    fn check(steps: &[(u64, u64, u64)], expected: &[(Beginning, u64)]) {
        let mut origin = Origin::default();
        let begin = |&(epoch, segment, seq): &(u64, u64, u64)| {
            let beginning = origin.begin(term(epoch), Some(0), segment, left(seq));
            assert_eq!(origin.term, Some(term(epoch)));
            (beginning, origin.from)
        };
        let begun: Vec<_> = steps.iter().map(begin).collect();
        assert_eq!(begun, expected);
    }

    fn left(seq: u64) -> Left {
        Left { seq, shift: 7 }
    }

    #[test]
    fn a_source_goes_on_where_it_was_left_whoever_came_between() {
        use Beginning::{GoesOn, New, Returns};
        let new = New(Left::default());
        check(&[(1, 0, 0), (1, 5, 50)], &[(new, 0), (GoesOn, 0)]);
        // Nothing came of the second one.
        let back = (Returns(left(50)), 3);
        check(&[(1, 3, 0), (2, 5, 50), (1, 5, 0)], &[(new, 3), (new, 5), back]);
        // Something did.
        let again = (New(left(50)), 6);
        check(&[(1, 3, 0), (2, 5, 50), (1, 6, 9)], &[(new, 3), (new, 5), again]);
        // Both come back, and nothing comes of the first one's return.
        let second = (Returns(left(9)), 5);
        check(
            &[(1, 3, 0), (2, 5, 50), (1, 6, 9), (2, 6, 50)],
            &[(new, 3), (new, 5), again, second],
        );
        // Of one that brought nothing nothing is known.
        check(&[(1, 3, 7), (2, 3, 0), (1, 3, 0)], &[(new, 3), (new, 3), (new, 3)]);
        // What is remembered of one is where it was left last.
        let later = [(New(left(10)), 2), (New(left(5)), 3), (New(left(20)), 4)];
        let steps = [(1, 0, 0), (2, 1, 10), (1, 2, 5), (2, 3, 20), (1, 4, 6)];
        check(&steps, &[&[(new, 0), (new, 1)], &later[..]].concat());
    }

    #[test]
    fn so_many_sources_are_remembered() {
        let mut origin = Origin::default();
        let count = u64::try_from(FORMER_MAX).unwrap() + 1;
        for epoch in 0..=count {
            origin.begin(term(epoch), None, epoch, left(epoch * 10));
        }
        for epoch in 0..count {
            let mut later = origin;
            let beginning = later.begin(term(epoch), None, 100, Left::default());
            // Each is left when the next one begins; the newest one took the place of another.
            let known = if epoch > 1 { left(epoch * 10 + 10) } else { Left::default() };
            assert_eq!(beginning, Beginning::New(known), "source {epoch} of {count}");
        }
    }
}
