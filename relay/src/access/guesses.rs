//! Who has shown wrong secrets of late: those that guess are no longer listened to.
//!
//! Counted by address, those of IPv6 by their first 64 bits, which is what one customer is given.
//! An address that stands for many clients is counted by what they ask for, too: none of them keeps
//! the others out of anything else. The table is bounded; when it is full the oldest entry goes, so
//! a flood of addresses can make the relay forget guesses but not memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::KeyId;
use crate::limits::Limits;

/// The table.
#[derive(Debug, Default)]
pub struct Guesses {
    entries: BTreeMap<Guesser, Entry>,
    /// The same by age, so that the oldest is found.
    by_age: BTreeSet<(Duration, Guesser)>,
}

/// Who is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guesser {
    address: IpAddr,
    /// The digest of what is asked for, if the address stands for many.
    asked: [u8; 16],
}

impl Guesser {
    /// Somebody at an address, and `asked` for this if the address stands for many.
    #[must_use]
    pub fn new(peer: IpAddr, asked: Option<&str>) -> Self {
        let digest = |asked: &str| KeyId::of("guess", &[asked.as_bytes()]).digest();
        Self { address: network(peer), asked: asked.map(digest).unwrap_or_default() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wrong: usize,
    /// When the last wrong secret was shown.
    last: Duration,
}

impl Guesses {
    /// Counts a wrong secret.
    pub fn count(&mut self, key: Guesser, now: Duration, limits: &Limits) {
        let mut entry = self.take(key).filter(|entry| !entry.is_over(now, limits));
        let wrong = entry.take().map_or(0, |entry| entry.wrong).saturating_add(1);
        while self.entries.len() >= limits.auth_failure_addresses_max.max(1) {
            let Some((_, oldest)) = self.by_age.first().copied() else { break };
            self.take(oldest);
        }
        self.entries.insert(key, Entry { wrong, last: now });
        self.by_age.insert((now, key));
    }

    /// Whether so many wrong secrets came from there that no further one is looked at, the right
    /// ones among them: otherwise guessing would go on.
    #[must_use]
    pub fn is_guessing(&self, key: Guesser, now: Duration, limits: &Limits) -> bool {
        let entry = self.entries.get(&key);
        entry.is_some_and(|entry| {
            entry.wrong >= limits.auth_failures_per_address && !entry.is_over(now, limits)
        })
    }

    /// Guessers in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn take(&mut self, key: Guesser) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.by_age.remove(&(entry.last, key));
        Some(entry)
    }
}

impl Entry {
    fn is_over(&self, now: Duration, limits: &Limits) -> bool {
        now.saturating_sub(self.last) >= limits.auth_failure_window
    }
}

/// What one customer is given: an address of IPv4, or the first 64 bits of one of IPv6.
pub(super) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn limits() -> Limits {
        Limits {
            auth_failures_per_address: 3,
            auth_failure_window: secs(60),
            auth_failure_addresses_max: 4,
            ..Limits::default()
        }
    }

    #[test]
    fn who_guesses_too_often_is_not_heard_for_a_while() {
        let (mut guesses, limits) = (Guesses::default(), limits());
        let at = |address: &str| Guesser::new(address.parse().unwrap(), None);
        let peer = at("203.0.113.7");
        for second in 0..3 {
            assert!(!guesses.is_guessing(peer, secs(second), &limits));
            guesses.count(peer, secs(second), &limits);
        }
        assert!(guesses.is_guessing(peer, secs(3), &limits));
        assert!(guesses.is_guessing(at("::ffff:203.0.113.7"), secs(3), &limits));
        assert!(!guesses.is_guessing(at("203.0.113.8"), secs(3), &limits));
        assert!(guesses.is_guessing(peer, secs(61), &limits));
        assert!(!guesses.is_guessing(peer, secs(62), &limits));
        guesses.count(peer, secs(62), &limits);
        assert!(!guesses.is_guessing(peer, secs(62), &limits), "counted anew");
    }

    #[test]
    fn of_many_at_one_address_none_keeps_out_who_asks_for_something_else() {
        let (mut guesses, limits) = (Guesses::default(), limits());
        let asks = |asked| Guesser::new("10.0.0.1".parse().unwrap(), asked);
        for _ in 0..3 {
            guesses.count(asks(Some("live/a")), secs(1), &limits);
        }
        assert!(guesses.is_guessing(asks(Some("live/a")), secs(2), &limits));
        assert!(!guesses.is_guessing(asks(Some("live/b")), secs(2), &limits));
        assert!(!guesses.is_guessing(asks(None), secs(2), &limits));
    }

    #[test]
    fn neighbours_of_ipv6_are_one() {
        let (mut guesses, limits) = (Guesses::default(), limits());
        for address in ["2001:db8:1:1::1", "2001:db8:1:1:ffff::", "2001:db8:1:2::1"] {
            guesses.count(Guesser::new(address.parse().unwrap(), None), secs(1), &limits);
        }
        assert_eq!(guesses.len(), 2);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let (mut guesses, limits) = (Guesses::default(), limits());
        let peer = |n: u8| Guesser::new(IpAddr::from([203, 0, 113, n]), None);
        for n in 0..3 {
            guesses.count(peer(0), secs(n), &limits);
        }
        for n in 1..4 {
            guesses.count(peer(n), secs(10), &limits);
        }
        assert!(guesses.is_guessing(peer(0), secs(10), &limits));
        guesses.count(peer(4), secs(11), &limits);
        assert!(!guesses.is_guessing(peer(0), secs(11), &limits));
        assert_eq!((guesses.len(), guesses.by_age.len()), (4, 4));
        for n in 0..=255 {
            guesses.count(peer(n), secs(12), &limits);
        }
        assert_eq!((guesses.len(), guesses.by_age.len()), (4, 4));
    }
}
