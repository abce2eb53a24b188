//! A slab whose keys are never reused: slot and generation packed into a [`ConnectionKey`].
//!
//! Every backend keeps its connections here, so that an operation that comes too late finds
//! nothing, even when another connection has moved into the slot. It never grows by a number from
//! outside: a slot exists per connection that the kernel really gave us.

use slab::Slab;

use super::ConnectionKey;

/// Connections by key. The low [`SLOT_BITS`] bits of a key are the slot, the rest is the
/// generation, a counter of all insertions: at a thousand connections a second it lasts for 34
/// years.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Slab<(u64, T)>,
    generation: u64,
}

impl<T> Slots<T> {
    /// No connections.
    pub(super) fn new() -> Self {
        Self { entries: Slab::new(), generation: 0 }
    }

    /// Stores what `make` builds for the new key.
    pub(super) fn insert(&mut self, make: impl FnOnce(ConnectionKey) -> T) -> ConnectionKey {
        let entry = self.entries.vacant_entry();
        let slot = u64::try_from(entry.key()).expect("a usize fits into 64 bits");
        debug_assert!(slot < 1 << SLOT_BITS, "more connections than file descriptors can exist");
        self.generation += 1;
        let key = ConnectionKey(self.generation << SLOT_BITS | slot);
        entry.insert((key.0, make(key)));
        key
    }

    /// The connection, unless it is gone.
    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut T> {
        match self.entries.get_mut(slot_of(key)) {
            Some((owner, value)) if *owner == key.0 => Some(value),
            _ => None,
        }
    }

    /// The connection in a slot, with its key.
    pub(super) fn at_mut(&mut self, slot: usize) -> Option<(ConnectionKey, &mut T)> {
        self.entries.get_mut(slot).map(|(key, value)| (ConnectionKey(*key), value))
    }

    /// Takes the connection out, unless it is gone.
    pub(super) fn remove(&mut self, key: ConnectionKey) -> Option<T> {
        self.get_mut(key)?;
        self.entries.try_remove(slot_of(key)).map(|(_, value)| value)
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every key in use.
    pub(super) fn keys(&self) -> Vec<ConnectionKey> {
        self.entries.iter().map(|(_, (key, _))| ConnectionKey(*key)).collect()
    }
}

/// The slot that a key was made for.
pub(super) fn slot_of(key: ConnectionKey) -> usize {
    usize::try_from(key.0 & ((1 << SLOT_BITS) - 1)).expect("24 bits fit into a usize")
}

/// 16 million slots: Linux allows a process no more than a million files by default.
const SLOT_BITS: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_connection_without_naming_the_next() {
        let mut slots = Slots::new();
        let first = slots.insert(|key| key);
        assert_eq!(slots.get_mut(first), Some(&mut first.clone()));
        assert_eq!(slots.remove(first), Some(first));
        let second = slots.insert(|key| key);
        assert_eq!(slot_of(first), slot_of(second), "the slot is used again");
        assert_ne!(first, second);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.keys(), [second]);
        assert_eq!(slots.remove(second), Some(second));
        assert_eq!(slots.len(), 0);
        assert_eq!(slots.get_mut(ConnectionKey(u64::MAX)), None, "a slot never used");
    }
}
