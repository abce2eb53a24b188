//! Who is sent to next: players at the head of their stream before those that catch up.

use std::collections::VecDeque;

use super::connection::PlayNumber;
use crate::limits::is_sparse;
use crate::reactor::ConnectionKey;

/// A play and its connection.
pub(super) type Entry = (ConnectionKey, PlayNumber);

/// Fewer entries than this are not worth clearing up.
const SMALL: usize = 64;

/// A play with something to send is in one of two queues, each served in order of arrival.
#[derive(Debug, Default)]
pub(super) struct SendRing {
    head: VecDeque<Entry>,
    behind: VecDeque<Entry>,
    /// Entries whose play is over.
    stale: usize,
}

/// What one turn may take.
#[derive(Debug)]
pub(super) struct Share {
    all: usize,
    behind: usize,
}

impl Share {
    /// A turn of `sends` sends, of which those that catch up get at most a quarter: that paces the
    /// storm when thousands join at once.
    pub(super) fn of_turn(sends: usize) -> Self {
        Self { all: sends.max(1), behind: (sends / 4).max(1) }
    }
}

impl SendRing {
    /// Queues plays that have the newest segment to send; about `stale` of them are over.
    pub(super) fn push_heads(&mut self, plays: impl Iterator<Item = Entry>, stale: usize) {
        self.head.extend(plays);
        self.stale += stale;
    }

    /// Queues a play that has older bytes to send.
    pub(super) fn push_behind(&mut self, play: Entry) {
        self.behind.push_back(play);
    }

    /// The next play within this turn's share, and whether it was at the head.
    pub(super) fn pop(&mut self, share: &mut Share) -> Option<(Entry, bool)> {
        if share.all == 0 {
            return None;
        }
        let (next, at_head) = if let Some(next) = self.head.pop_front() {
            (next, true)
        } else {
            if share.behind == 0 {
                return None;
            }
            share.behind -= 1;
            (self.behind.pop_front()?, false)
        };
        share.all -= 1;
        Some((next, at_head))
    }

    /// An entry's play is over. The entry itself goes when its turn comes, or with many others.
    pub(super) fn left(&mut self) {
        self.stale += 1;
    }

    /// The play of the entry that came up is over: it takes nothing of the share.
    pub(super) fn pass_over(&mut self, share: &mut Share, at_head: bool) {
        share.all += 1;
        share.behind += usize::from(!at_head);
        self.stale = self.stale.saturating_sub(1);
    }

    /// Forgets entries of plays that are over once they are the most, so that there are never many
    /// more entries than plays.
    pub(super) fn clear_up(&mut self, mut is_live: impl FnMut(&Entry) -> bool) {
        if self.stale > SMALL && self.stale * 2 > self.len() {
            self.head.retain(&mut is_live);
            self.behind.retain(&mut is_live);
            self.stale = 0;
        }
    }

    /// The next entries, as many as there are up to `count`: about those that come up next.
    pub(super) fn next(&self, count: usize) -> impl Iterator<Item = &Entry> {
        self.head.iter().chain(&self.behind).take(count)
    }

    /// Entries, of plays that are over, too.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.behind.len()
    }

    /// Gives back room beyond what `players` need.
    pub(super) fn shrink(&mut self, players: usize) {
        for queue in [&mut self.head, &mut self.behind] {
            if is_sparse(players.max(queue.len()), queue.capacity()) {
                queue.shrink_to(players);
            }
        }
    }

    /// Whether nobody is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.behind.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_goes_first_and_those_behind_get_a_quarter() {
        let mut ring = SendRing::default();
        for n in 0..10 {
            ring.push_behind((ConnectionKey(100 + n), 1));
        }
        ring.push_heads((0..5).map(|n| (ConnectionKey(n), 1)), 0);
        let mut share = Share::of_turn(8);
        let turn: Vec<u64> =
            std::iter::from_fn(|| ring.pop(&mut share)).map(|((key, _), _)| key.0).collect();
        assert_eq!(turn, [0, 1, 2, 3, 4, 100, 101]);
        let mut share = Share::of_turn(8);
        let turn: Vec<u64> =
            std::iter::from_fn(|| ring.pop(&mut share)).map(|((key, _), _)| key.0).collect();
        assert_eq!(turn, [102, 103]);
        assert!(!ring.is_empty());
    }

    #[test]
    fn entries_of_plays_that_are_over_do_not_gather() {
        let mut ring = SendRing::default();
        let mut most = 0;
        for number in 0..100_000 {
            ring.push_behind((ConnectionKey(1), number));
            ring.left();
            ring.clear_up(|_| false);
            most = most.max(ring.len());
        }
        assert!(most <= 2 * SMALL, "{most} entries");
        let live = (ConnectionKey(2), 7);
        ring.push_heads([live].into_iter(), 0);
        ring.push_heads((0..1_000).map(|number| (ConnectionKey(1), number)), 1_000);
        ring.clear_up(|entry| *entry == live);
        ring.shrink(1);
        assert_eq!(ring.len(), 1);
        assert!(ring.head.capacity() <= SMALL * 4, "{}", ring.head.capacity());
        assert_eq!(ring.pop(&mut Share::of_turn(8)), Some((live, true)));
    }

    #[test]
    fn a_turn_is_bounded() {
        let mut ring = SendRing::default();
        ring.push_heads((0..10).map(|n| (ConnectionKey(n), 1)), 0);
        let mut share = Share::of_turn(4);
        assert_eq!(std::iter::from_fn(|| ring.pop(&mut share)).count(), 4);
        // Entries of plays that are over are not sends.
        ring.push_heads((10..20).map(|n| (ConnectionKey(n), 1)), 10);
        let mut share = Share::of_turn(4);
        let mut passed = 0;
        while let Some((_, at_head)) = ring.pop(&mut share) {
            ring.pass_over(&mut share, at_head);
            passed += 1;
        }
        assert_eq!((passed, ring.stale), (16, 0));
    }
}
