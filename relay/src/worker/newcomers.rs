//! Connections that neither publish nor play are heard in turn, a few in each turn of the worker.
//!
//! What they say costs much more than a send: a handshake is hashed, a connect is parsed, and a
//! handshake of TLS is signed, which costs ten times as much again. When thousands join at once,
//! those who play already must not wait for all of that. Whoever is not heard at once keeps what it
//! said, is not received from meanwhile, and is heard in order of arrival. TLS has a lane of its
//! own, so that those who come without do not wait behind it.

use std::collections::VecDeque;

use crate::reactor::ConnectionKey;

/// What a newcomer is about to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Something cheap.
    Plain,
    /// A part of a TLS handshake.
    Tls,
}

/// Who waits, and how many may still be heard in this turn, by lane.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    lanes: [Waiting; 2],
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<ConnectionKey>,
    left: usize,
}

impl Newcomers {
    /// Another turn, in which so many of each lane may be heard.
    pub(super) fn begin_turn(&mut self, shares: [usize; 2]) {
        for (lane, share) in self.lanes.iter_mut().zip(shares) {
            lane.left = share.max(1);
        }
    }

    /// Whether one that speaks is heard at once.
    pub(super) fn admit(&mut self, lane: Lane) -> bool {
        let lane = self.lane(lane);
        let admitted = lane.left > 0 && lane.queue.is_empty();
        lane.left -= usize::from(admitted);
        admitted
    }

    /// One that was not admitted waits.
    pub(super) fn queue(&mut self, lane: Lane, connection: ConnectionKey) {
        self.lane(lane).queue.push_back(connection);
    }

    /// The next one to be heard in this turn.
    pub(super) fn next(&mut self) -> Option<ConnectionKey> {
        self.lanes.iter_mut().find_map(Waiting::next)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.queue.is_empty())
    }

    fn lane(&mut self, lane: Lane) -> &mut Waiting {
        let [plain, tls] = &mut self.lanes;
        match lane {
            Lane::Plain => plain,
            Lane::Tls => tls,
        }
    }
}

impl Waiting {
    fn next(&mut self) -> Option<ConnectionKey> {
        let left = self.left.checked_sub(1)?;
        let next = self.queue.pop_front()?;
        self.left = left;
        if self.queue.is_empty() {
            // A storm is over: its room is not needed until the next one.
            self.queue = VecDeque::new();
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(newcomers: &mut Newcomers) -> Vec<u64> {
        std::iter::from_fn(|| newcomers.next()).map(|key| key.0).collect()
    }

    #[test]
    fn a_turn_hears_its_share_and_nobody_overtakes() {
        let mut newcomers = Newcomers::default();
        let mut at_once = Vec::new();
        newcomers.begin_turn([2, 1]);
        for n in 0..5 {
            if newcomers.admit(Lane::Plain) {
                at_once.push(n);
            } else {
                newcomers.queue(Lane::Plain, ConnectionKey(n));
            }
        }
        assert_eq!(at_once, [0, 1]);
        for expected in [&[2, 3][..], &[4]] {
            newcomers.begin_turn([2, 1]);
            assert!(!newcomers.admit(Lane::Plain), "others came before");
            assert_eq!(heard(&mut newcomers), expected);
        }
        assert!(newcomers.is_empty());
        assert!(newcomers.admit(Lane::Plain) && !newcomers.admit(Lane::Plain));
    }

    #[test]
    fn handshakes_of_tls_keep_nobody_else_waiting() {
        let mut newcomers = Newcomers::default();
        newcomers.begin_turn([2, 1]);
        assert!(newcomers.admit(Lane::Tls) && !newcomers.admit(Lane::Tls));
        for n in 0..3 {
            newcomers.queue(Lane::Tls, ConnectionKey(n));
        }
        assert!(newcomers.admit(Lane::Plain));
        newcomers.begin_turn([2, 1]);
        assert_eq!(heard(&mut newcomers), [0]);
        assert!(newcomers.admit(Lane::Plain) && newcomers.admit(Lane::Plain));
        newcomers.begin_turn([2, 2]);
        newcomers.queue(Lane::Plain, ConnectionKey(9));
        assert_eq!(heard(&mut newcomers), [9, 1, 2]);
        assert!(newcomers.is_empty());
    }
}
