//! Who has shown wrong secrets of late: those that guess are no longer listened to.
//!
//! Counted by address, those of IPv6 by their first 64 bits, which is what one customer is given.
//! The table is bounded; when it is full the oldest entry goes, so a flood of addresses can make
//! the relay forget guesses but not memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::limits::Limits;

/// The table.
#[derive(Debug, Default)]
pub struct Guesses {
    entries: BTreeMap<IpAddr, Entry>,
    /// The same by age, so that the oldest is found.
    by_age: BTreeSet<(Duration, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wrong: usize,
    /// When the last wrong secret was shown.
    last: Duration,
}

impl Guesses {
    /// Counts a wrong secret.
    pub fn count(&mut self, peer: IpAddr, now: Duration, limits: &Limits) {
        let key = key(peer);
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
    pub fn is_guessing(&self, peer: IpAddr, now: Duration, limits: &Limits) -> bool {
        let entry = self.entries.get(&key(peer));
        entry.is_some_and(|entry| {
            entry.wrong >= limits.auth_failures_per_address && !entry.is_over(now, limits)
        })
    }

    /// Addresses in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn take(&mut self, key: IpAddr) -> Option<Entry> {
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

fn key(peer: IpAddr) -> IpAddr {
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
        let peer: IpAddr = "203.0.113.7".parse().unwrap();
        for second in 0..3 {
            assert!(!guesses.is_guessing(peer, secs(second), &limits));
            guesses.count(peer, secs(second), &limits);
        }
        assert!(guesses.is_guessing(peer, secs(3), &limits));
        assert!(guesses.is_guessing("::ffff:203.0.113.7".parse().unwrap(), secs(3), &limits));
        assert!(!guesses.is_guessing("203.0.113.8".parse().unwrap(), secs(3), &limits));
        assert!(guesses.is_guessing(peer, secs(61), &limits));
        assert!(!guesses.is_guessing(peer, secs(62), &limits));
        guesses.count(peer, secs(62), &limits);
        assert!(!guesses.is_guessing(peer, secs(62), &limits), "counted anew");
    }

    #[test]
    fn neighbours_of_ipv6_are_one() {
        let (mut guesses, limits) = (Guesses::default(), limits());
        for address in ["2001:db8:1:1::1", "2001:db8:1:1:ffff::", "2001:db8:1:2::1"] {
            guesses.count(address.parse().unwrap(), secs(1), &limits);
        }
        assert_eq!(guesses.len(), 2);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let (mut guesses, limits) = (Guesses::default(), limits());
        let peer = |n: u8| IpAddr::from([203, 0, 113, n]);
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
