//! The network: connections that keep their order, are slow, cut and reset.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use relay::cluster::Line;

/// A place that a process runs at.
pub(crate) type Slot = usize;

/// One process: its place, and which one of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Station {
    pub(crate) slot: Slot,
    pub(crate) life: u32,
}

/// A control connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The dialling end, then the accepting one.
    pub(crate) ends: [End; 2],
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) station: Station,
    pub(crate) line: Line,
    /// Whether this end still has it open.
    pub(crate) open: bool,
    /// What is on its way to this end and cannot come through.
    pub(crate) held: VecDeque<Carried>,
    /// When the last thing arrives that is on its way to this end.
    pub(crate) last: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum Carried {
    Message(Bytes),
    Closed,
}

/// All connections, by their numbers, which are not used twice.
#[derive(Debug, Default)]
pub(crate) struct Connections(Vec<Option<Connection>>);

impl Connections {
    pub(crate) fn insert(&mut self, connection: Connection) -> u64 {
        self.0.push(Some(connection));
        u64::try_from(self.0.len() - 1).unwrap()
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Connection> {
        self.0.get(usize::try_from(number).unwrap())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Connection> {
        self.0.get_mut(usize::try_from(number).unwrap())?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u64) {
        self.0[usize::try_from(number).unwrap()] = None;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Connection)> {
        (0..).zip(&self.0).filter_map(|(number, it)| Some((number, it.as_ref()?)))
    }
}

/// Who can reach whom, and how fast.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Groups of places that cannot reach each other.
    side: BTreeMap<Slot, u8>,
    /// Pairs that cannot, the smaller one first.
    pub(crate) cut: BTreeSet<(Slot, Slot)>,
    /// Pairs between which everything takes longer.
    pub(crate) slow: BTreeMap<(Slot, Slot), Duration>,
}

pub(crate) fn pair(a: Slot, b: Slot) -> (Slot, Slot) {
    (a.min(b), a.max(b))
}

impl Weather {
    pub(crate) fn reaches(&self, a: Slot, b: Slot) -> bool {
        let side = |slot| self.side.get(&slot).copied().unwrap_or(0);
        a == b || (side(a) == side(b) && !self.cut.contains(&pair(a, b)))
    }

    pub(crate) fn split(&mut self, apart: impl IntoIterator<Item = Slot>) {
        self.side = apart.into_iter().map(|slot| (slot, 1)).collect();
    }

    /// Between 1 and 8 ms, the same for a pair in every run, and more where it is slow.
    pub(crate) fn latency(&self, a: Slot, b: Slot) -> Duration {
        let (low, high) = pair(a, b);
        let mix = u64::try_from(low * 31 + high * 17).unwrap() % 8;
        let slow = self.slow.get(&(low, high)).copied().unwrap_or_default();
        Duration::from_micros(1_000 + mix * 1_000) + slow
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
