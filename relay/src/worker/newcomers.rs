//! Connections that neither publish nor play are heard in turn, a few in each turn of the worker.
//!
//! What they say costs much more than a send: a handshake is hashed, a connect is parsed. When
//! thousands join at once, those who play already must not wait for all of that. Whoever is not
//! heard at once keeps what it said, is not received from meanwhile, and is heard in order of
//! arrival.

use std::collections::VecDeque;

use crate::reactor::ConnectionKey;

/// Who waits, and how many may still be heard in this turn.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    waiting: VecDeque<ConnectionKey>,
    left: usize,
}

impl Newcomers {
    /// Another turn, in which so many may be heard.
    pub(super) fn begin_turn(&mut self, share: usize) {
        self.left = share.max(1);
    }

    /// Whether one that speaks is heard at once.
    pub(super) fn admit(&mut self) -> bool {
        let admitted = self.left > 0 && self.waiting.is_empty();
        self.left -= usize::from(admitted);
        admitted
    }

    /// One that was not admitted waits.
    pub(super) fn queue(&mut self, connection: ConnectionKey) {
        self.waiting.push_back(connection);
    }

    /// The next one to be heard in this turn.
    pub(super) fn next(&mut self) -> Option<ConnectionKey> {
        self.left = self.left.checked_sub(1)?;
        let next = self.waiting.pop_front();
        self.left += usize::from(next.is_none());
        if self.waiting.is_empty() {
            // A storm is over: its room is not needed until the next one.
            self.waiting = VecDeque::new();
        }
        next
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_hears_its_share_and_nobody_overtakes() {
        let mut newcomers = Newcomers::default();
        let mut heard = Vec::new();
        newcomers.begin_turn(2);
        for n in 0..5 {
            let key = ConnectionKey(n);
            if newcomers.admit() {
                heard.push(n);
            } else {
                newcomers.queue(key);
            }
        }
        assert_eq!(heard, [0, 1]);
        for expected in [&[2, 3][..], &[4]] {
            newcomers.begin_turn(2);
            assert!(!newcomers.admit(), "others came before");
            let next = std::iter::from_fn(|| newcomers.next()).map(|key| key.0);
            assert_eq!(next.collect::<Vec<_>>(), expected);
        }
        assert!(newcomers.is_empty() && newcomers.admit() && !newcomers.admit());
    }
}
