//! The connections of one worker, by the slot that their key names.
//!
//! A connection is taken out while it is worked on and put back, so that its handler may use the
//! rest of the worker freely. A slot holds one pointer; an idle slot costs eight bytes.
//!
//! Connections with a socket have the reactor's keys. Those without, inside tunnels, have keys that
//! are made here and that no reactor makes.

use super::connection::Connection;
use crate::reactor::ConnectionKey;

/// The table.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Box<Connection>>>,
    /// Those with keys of its own.
    own: Vec<Option<Box<Connection>>>,
    /// Slots of those that were used and are not.
    vacant: Vec<usize>,
    /// Keys made so far.
    made: u64,
    len: usize,
}

/// Marks keys of the table's own: a reactor's would need 2^39 connections to come so far.
const OWN: u64 = 1 << 63;

/// Bits of a key that are its slot, as [`ConnectionKey::slot`] reads it.
const SLOT_BITS: u32 = 24;

/// Whether a key was made by the table, and not by the reactor.
pub(super) fn is_own(key: ConnectionKey) -> bool {
    key.0 & OWN != 0
}

impl Table {
    /// Connections in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots in use or used before; the bound of a sweep.
    pub(super) fn slots(&self) -> usize {
        self.slots.len() + self.own.len()
    }

    /// A key for a connection without a socket. It is to be put in at once.
    pub(super) fn own_key(&mut self) -> ConnectionKey {
        self.made += 1;
        let slot = self.vacant.pop().unwrap_or(self.own.len());
        let slot = u64::try_from(slot).expect("a usize fits into 64 bits");
        ConnectionKey(OWN | self.made << SLOT_BITS | slot)
    }

    /// The key of a connection without a socket is no longer used.
    pub(super) fn give_back(&mut self, key: ConnectionKey) {
        if is_own(key) {
            self.vacant.push(key.slot());
        }
    }

    /// Adds a connection, or puts back one that was taken.
    pub(super) fn put(&mut self, connection: Box<Connection>) {
        let slot = connection.key.slot();
        let slots = if is_own(connection.key) { &mut self.own } else { &mut self.slots };
        if slot >= slots.len() {
            slots.resize_with(slot + 1, || None);
        }
        self.len += usize::from(slots[slot].is_none());
        slots[slot] = Some(connection);
    }

    /// Takes a connection out, unless it is gone.
    pub(super) fn take(&mut self, key: ConnectionKey) -> Option<Box<Connection>> {
        let slots = if is_own(key) { &mut self.own } else { &mut self.slots };
        let slot = slots.get_mut(key.slot())?;
        if slot.as_ref()?.key != key {
            return None;
        }
        self.len -= 1;
        slot.take()
    }

    /// Looks at a connection, unless it is gone.
    pub(super) fn get(&self, key: ConnectionKey) -> Option<&Connection> {
        let slots = if is_own(key) { &self.own } else { &self.slots };
        slots.get(key.slot())?.as_deref().filter(|connection| connection.key == key)
    }

    /// Works on a connection in place, unless it is gone.
    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let slots = if is_own(key) { &mut self.own } else { &mut self.slots };
        slots.get_mut(key.slot())?.as_deref_mut().filter(|connection| connection.key == key)
    }

    /// Loads what sending looks at of these connections, all at once: the caches then miss once for
    /// many of them and not, one after the other, for each.
    pub(super) fn warm(&self, keys: impl Iterator<Item = ConnectionKey>) {
        for key in keys.filter(|key| !is_own(*key)) {
            if let Some(Some(connection)) = self.slots.get(key.slot()) {
                connection.warm();
            }
        }
    }

    /// The key of the connection in a slot; those without a socket come behind the others.
    pub(super) fn key_at(&self, slot: usize) -> Option<ConnectionKey> {
        let slots = self.slots.len();
        let found = if slot < slots { self.slots.get(slot) } else { self.own.get(slot - slots) };
        found?.as_ref().map(|connection| connection.key)
    }

    /// Every connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().chain(&self.own).filter_map(|slot| slot.as_deref())
    }

    /// Gives back the memory of slots at the end that are no longer used.
    pub(super) fn shrink(&mut self) {
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        if self.slots.capacity() > 1_024 && self.slots.len() * 4 < self.slots.capacity() {
            self.slots.shrink_to_fit();
        }
        if self.vacant.len() == self.own.len() && self.own.len() > 64 {
            self.own = Vec::new();
            self.vacant = Vec::new();
        }
    }
}
