//! Who is sent to next: players at the head of their stream before those that catch up.

use std::collections::VecDeque;

use super::sweep::is_sparse;
use crate::reactor::ConnectionKey;

/// A play: its connection and message stream.
pub(super) type Entry = (ConnectionKey, u32);

/// A play with something to send is in one of two queues, each served in order of arrival.
#[derive(Debug, Default)]
pub(super) struct SendRing {
    head: VecDeque<Entry>,
    behind: VecDeque<Entry>,
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
    /// Queues a play that has the newest segment to send.
    pub(super) fn push_head(&mut self, play: Entry) {
        self.head.push_back(play);
    }

    /// Queues a play that has older bytes to send.
    pub(super) fn push_behind(&mut self, play: Entry) {
        self.behind.push_back(play);
    }

    /// The next play within this turn's share.
    pub(super) fn pop(&mut self, share: &mut Share) -> Option<Entry> {
        if share.all == 0 {
            return None;
        }
        let next = if let Some(next) = self.head.pop_front() {
            next
        } else {
            if share.behind == 0 {
                return None;
            }
            share.behind -= 1;
            self.behind.pop_front()?
        };
        share.all -= 1;
        Some(next)
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
        for n in 0..5 {
            ring.push_head((ConnectionKey(n), 1));
        }
        let mut share = Share::of_turn(8);
        let turn: Vec<u64> =
            std::iter::from_fn(|| ring.pop(&mut share)).map(|(key, _)| key.0).collect();
        assert_eq!(turn, [0, 1, 2, 3, 4, 100, 101]);
        let mut share = Share::of_turn(8);
        let turn: Vec<u64> =
            std::iter::from_fn(|| ring.pop(&mut share)).map(|(key, _)| key.0).collect();
        assert_eq!(turn, [102, 103]);
        assert!(!ring.is_empty());
    }

    #[test]
    fn a_turn_is_bounded() {
        let mut ring = SendRing::default();
        for n in 0..10 {
            ring.push_head((ConnectionKey(n), 1));
        }
        let mut share = Share::of_turn(4);
        assert_eq!(std::iter::from_fn(|| ring.pop(&mut share)).count(), 4);
    }
}
