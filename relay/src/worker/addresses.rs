//! How many connections each address has open, and how fast it opens them: shared by all workers.
//!
//! Looked at when a connection comes and when it goes, never in between: the locks here are held
//! for a few lookups, and an address always meets the same one. IPv6 counts by the /64, which is
//! what one customer has. An entry is there while its address has a connection, and for a second
//! longer; those without one are bounded in number, so that made-up addresses cannot fill the
//! memory.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::labels::RefuseReason;
use crate::limits::Limits;

/// The table.
#[derive(Debug)]
pub(super) struct Addresses {
    shards: Box<[Mutex<Shard>]>,
}

/// Locks; a flood from one address holds up those of few others.
const SHARDS: usize = 16;

/// Addresses without a connection that a shard remembers. Past it the one that left first is
/// forgotten, and with it how fast it came.
const LEFT_MAX: usize = 1_024;

/// Over which an address's connections are counted.
const SECOND: Duration = Duration::from_secs(1);

/// An IPv4 address, or the upper half of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    V4(u32),
    V6(u64),
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Key, Entry>,
    /// Addresses whose last connection went, and when; some have come back since.
    left: VecDeque<(Duration, Key)>,
    /// How many addresses have so many connections, by that number: the last is the most.
    by_open: BTreeMap<usize, usize>,
    /// Most connections that one address opened within a second, since it was last asked.
    peak: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    open: usize,
    /// When all that was opened would have been opened at the permitted rate. A second ahead of now
    /// means that a second's worth has come.
    paid: Duration,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Addresses {
    /// Counts a connection that comes, unless its address has as many as it may or opens them too
    /// fast.
    ///
    /// # Errors
    /// The reason to refuse it, in which case nothing was counted.
    pub(super) fn enter(
        &self,
        address: IpAddr,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), RefuseReason> {
        self.shard(address, |shard, key| shard.enter(key, limits, now))
    }

    /// Counts a connection that was judged before, on another worker.
    pub(super) fn enter_again(&self, address: IpAddr) {
        self.shard(address, |shard, key| {
            let entry = shard.entries.entry(key).or_default();
            entry.open += 1;
            let open = entry.open;
            shard.moved(open - 1, open);
        });
    }

    /// Uncounts a connection.
    pub(super) fn leave(&self, address: IpAddr, now: Duration) {
        self.shard(address, |shard, key| shard.leave(key, now));
    }

    /// Most connections of one address.
    pub(super) fn most_open(&self) -> usize {
        let most = |shard: &Mutex<Shard>| shard.lock().by_open.keys().next_back().copied();
        self.shards.iter().filter_map(most).max().unwrap_or(0)
    }

    /// Most connections that one address opened within a second since this was last asked.
    pub(super) fn take_peak(&self) -> usize {
        let peak = |shard: &Mutex<Shard>| std::mem::take(&mut shard.lock().peak);
        self.shards.iter().map(peak).max().unwrap_or(0)
    }

    /// Addresses remembered, for tests.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }

    fn shard<T>(&self, address: IpAddr, act: impl FnOnce(&mut Shard, Key) -> T) -> T {
        let key = Key::of(address);
        act(&mut self.shards[key.shard()].lock(), key)
    }
}

impl Key {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }

    fn shard(self) -> usize {
        let bits = match self {
            Self::V4(bits) => u64::from(bits),
            Self::V6(bits) => bits,
        };
        // Neighbours in a network differ in their last bits, networks in those before.
        let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(mixed).unwrap_or(0) % SHARDS
    }
}

impl Shard {
    fn enter(&mut self, key: Key, limits: &Limits, now: Duration) -> Result<(), RefuseReason> {
        self.forget(now);
        let known = self.entries.get(&key).copied().unwrap_or_default();
        if known.open >= limits.connections_per_address_max {
            return Err(RefuseReason::AddressConnections);
        }
        let per_second = limits.handshakes_per_address_max.max(1);
        let price = SECOND / u32::try_from(per_second).unwrap_or(u32::MAX);
        let ahead = known.paid.saturating_sub(now);
        if ahead + price > SECOND {
            self.peak = self.peak.max(per_second);
            return Err(RefuseReason::AddressHandshakes);
        }
        let paid = now + ahead + price;
        self.entries.insert(key, Entry { open: known.open + 1, paid });
        self.moved(known.open, known.open + 1);
        let price = price.as_nanos().max(1);
        let come = usize::try_from((paid - now).as_nanos().div_ceil(price)).unwrap_or(usize::MAX);
        self.peak = self.peak.max(come.min(per_second));
        Ok(())
    }

    fn leave(&mut self, key: Key, now: Duration) {
        let Place::Occupied(mut place) = self.entries.entry(key) else { return };
        let entry = place.get_mut();
        let before = entry.open;
        entry.open = before.saturating_sub(1);
        let after = entry.open;
        self.moved(before, after);
        if after == 0 {
            self.left.push_back((now, key));
        }
        self.forget(now);
    }

    /// An address has another number of connections.
    fn moved(&mut self, before: usize, after: usize) {
        if let Some(addresses) = self.by_open.get_mut(&before) {
            *addresses -= 1;
            if *addresses == 0 {
                self.by_open.remove(&before);
            }
        }
        if after > 0 {
            *self.by_open.entry(after).or_default() += 1;
        }
    }

    /// Forgets addresses that left a second ago, and those that left first when there are many.
    fn forget(&mut self, now: Duration) {
        while let Some((since, key)) = self.left.front().copied() {
            if now < since + SECOND && self.left.len() <= LEFT_MAX {
                return;
            }
            self.left.pop_front();
            if self.entries.get(&key).is_some_and(|entry| entry.open == 0) {
                self.entries.remove(&key);
            }
        }
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to_fit();
            self.left.shrink_to_fit();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits(open: usize, per_second: usize) -> Limits {
        Limits {
            connections_per_address_max: open,
            handshakes_per_address_max: per_second,
            ..Limits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn an_ipv6_network_is_one_address_and_an_ipv4_address_is_itself() {
        fn check(one: &str, other: &str, same: bool) {
            let addresses = Addresses::default();
            let limits = limits(1, 10);
            addresses.enter(ip(one), &limits, START).unwrap();
            let refused = addresses.enter(ip(other), &limits, START);
            let expected = if same { Err(RefuseReason::AddressConnections) } else { Ok(()) };
            assert_eq!(refused, expected, "{one} {other}");
        }
        check("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true);
        check("2001:db8:1:2::1", "2001:db8:1:3::1", false);
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("192.0.2.1", "::ffff:192.0.2.2", false);
    }

    #[test]
    fn what_goes_makes_room() {
        let (addresses, limits) = (Addresses::default(), limits(2, 1_000));
        let own = ip("192.0.2.1");
        assert_eq!(addresses.enter(own, &limits, START), Ok(()));
        assert_eq!(addresses.enter(own, &limits, START), Ok(()));
        let refused = Err(RefuseReason::AddressConnections);
        assert_eq!(addresses.enter(own, &limits, START), refused);
        assert_eq!(addresses.most_open(), 2);
        addresses.leave(own, START);
        assert_eq!(addresses.most_open(), 1);
        addresses.enter_again(own);
        assert_eq!(addresses.enter(own, &limits, START), refused);
        for _ in 0..2 {
            addresses.leave(own, START);
        }
        assert_eq!(addresses.most_open(), 0);
        // One too many is no harm.
        addresses.leave(own, START);
        assert_eq!(addresses.enter(own, &limits, START), Ok(()));
    }

    #[test]
    fn an_address_that_comes_too_fast_waits_and_no_other_does() {
        let (addresses, limits) = (Addresses::default(), limits(1_000, 10));
        let (own, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let come = |address, at| {
            let entered = addresses.enter(address, &limits, at).is_ok();
            if entered {
                addresses.leave(address, at);
            }
            entered
        };
        let entered = (0..100).filter(|_| come(own, START)).count();
        assert_eq!((entered, addresses.take_peak()), (10, 10));
        assert!(come(other, START));
        assert_eq!(addresses.take_peak(), 1);
        // A tenth of a second buys one.
        let later = START + Duration::from_millis(100);
        assert!(come(own, later) && !come(own, later));
        // Whoever goes on at the permitted rate is never refused.
        let at = |n: u32| START + SECOND + Duration::from_millis(101) * n;
        assert!((1..100).all(|n| come(own, at(n))));
    }

    #[test]
    fn addresses_are_forgotten_after_a_second_or_when_they_are_many() {
        let (addresses, limits) = (Addresses::default(), limits(10, 10));
        for n in 0..100_000 {
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(n));
            addresses.enter(address, &limits, START).unwrap();
            addresses.leave(address, START);
        }
        assert!(addresses.len() <= SHARDS * LEFT_MAX, "{}", addresses.len());
        // Each shard forgets when something comes or goes there.
        for n in 0..1_000 {
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(n));
            addresses.enter(address, &limits, START + SECOND).unwrap();
        }
        assert_eq!((addresses.len(), addresses.most_open()), (1_000, 1));
    }
}
