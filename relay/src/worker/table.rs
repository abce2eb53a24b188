//! The connections of one worker, by the slot that their key names.
//!
//! A connection is taken out while it is worked on and put back, so that its handler may use the
//! rest of the worker freely. A slot holds one pointer; an idle slot costs eight bytes.

use super::connection::Connection;
use crate::reactor::ConnectionKey;

/// The table.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Box<Connection>>>,
    len: usize,
}

impl Table {
    /// Connections in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots in use or used before; the bound of a sweep.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Adds a connection, or puts back one that was taken.
    pub(super) fn put(&mut self, connection: Box<Connection>) {
        let slot = connection.key.slot();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.len += usize::from(self.slots[slot].is_none());
        self.slots[slot] = Some(connection);
    }

    /// Takes a connection out, unless it is gone.
    pub(super) fn take(&mut self, key: ConnectionKey) -> Option<Box<Connection>> {
        let slot = self.slots.get_mut(key.slot())?;
        if slot.as_ref()?.key != key {
            return None;
        }
        self.len -= 1;
        slot.take()
    }

    /// Looks at a connection, unless it is gone.
    pub(super) fn get(&self, key: ConnectionKey) -> Option<&Connection> {
        self.slots.get(key.slot())?.as_deref().filter(|connection| connection.key == key)
    }

    /// Works on a connection in place, unless it is gone.
    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.slots.get_mut(key.slot())?.as_deref_mut().filter(|connection| connection.key == key)
    }

    /// Loads what sending looks at of these connections, all at once: the caches then miss once for
    /// many of them and not, one after the other, for each.
    pub(super) fn warm(&self, keys: impl Iterator<Item = ConnectionKey>) {
        for key in keys {
            if let Some(Some(connection)) = self.slots.get(key.slot()) {
                connection.warm();
            }
        }
    }

    /// The key of the connection in a slot.
    pub(super) fn key_at(&self, slot: usize) -> Option<ConnectionKey> {
        self.slots.get(slot)?.as_ref().map(|connection| connection.key)
    }

    /// Every connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.as_deref())
    }

    /// Gives back the memory of slots at the end that are no longer used.
    pub(super) fn shrink(&mut self) {
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        if self.slots.capacity() > 1_024 && self.slots.len() * 4 < self.slots.capacity() {
            self.slots.shrink_to_fit();
        }
    }
}
