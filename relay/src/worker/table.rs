//! The connections of one worker, by the slot that their key names.
//!
//! A connection is taken out while it is worked on and put back, so that its handler may use the
//! rest of the worker freely. Connections lie side by side, a few in a chunk: a flush looks at one
//! after the other, and so finds many of them in each page of memory. A slot that is not used costs
//! as much as a connection without its session, until its whole chunk is not used.
//!
//! Connections with a socket have the reactor's keys. Those without, inside tunnels, have keys that
//! are made here and that no reactor makes.

use super::connection::Connection;
use crate::limits::is_sparse;
use crate::reactor::ConnectionKey;

/// The table.
#[derive(Default)]
pub(super) struct Table {
    slots: Slots,
    /// Those with keys of its own.
    own: Slots,
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
        self.slots.bound() + self.own.bound()
    }

    /// A key for a connection without a socket. It is to be put in at once.
    pub(super) fn own_key(&mut self) -> ConnectionKey {
        self.made += 1;
        let slot = self.vacant.pop().unwrap_or_else(|| self.own.used());
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
    pub(super) fn put(&mut self, connection: Connection) {
        let key = connection.key;
        let place = self.of_mut(key).reach(key.slot());
        let is_more = place.is_none();
        *place = Some(connection);
        self.len += usize::from(is_more);
    }

    /// Takes a connection out, unless it is gone.
    pub(super) fn take(&mut self, key: ConnectionKey) -> Option<Connection> {
        let place = self.of_mut(key).get_mut(key.slot())?;
        if place.as_ref()?.key != key {
            return None;
        }
        let taken = place.take();
        self.len -= 1;
        taken
    }

    /// Looks at a connection, unless it is gone.
    pub(super) fn get(&self, key: ConnectionKey) -> Option<&Connection> {
        let slots = if is_own(key) { &self.own } else { &self.slots };
        slots.get(key.slot()).filter(|connection| connection.key == key)
    }

    /// Works on a connection in place, unless it is gone.
    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let place = self.of_mut(key).get_mut(key.slot())?;
        place.as_mut().filter(|connection| connection.key == key)
    }

    /// Loads what sending looks at of these connections, all at once: the caches then miss once for
    /// many of them and not, one after the other, for each.
    pub(super) fn warm(&self, keys: impl Iterator<Item = ConnectionKey>) {
        for key in keys.filter(|key| !is_own(*key)) {
            if let Some(connection) = self.slots.get(key.slot()) {
                connection.warm();
            }
        }
    }

    /// The key of the connection in a slot; those without a socket come behind the others.
    pub(super) fn key_at(&self, slot: usize) -> Option<ConnectionKey> {
        let found = match slot.checked_sub(self.slots.bound()) {
            None => self.slots.get(slot),
            Some(slot) => self.own.get(slot),
        };
        found.map(|connection| connection.key)
    }

    /// Every connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().chain(self.own.iter())
    }

    /// Gives back the memory of slots that are no longer used.
    pub(super) fn shrink(&mut self) {
        self.slots.shrink();
        if self.vacant.len() == self.own.used() && self.own.used() > 64 {
            self.own = Slots::default();
            self.vacant = Vec::new();
        }
    }

    fn of_mut(&mut self, key: ConnectionKey) -> &mut Slots {
        if is_own(key) { &mut self.own } else { &mut self.slots }
    }
}

/// Slots that lie side by side.
#[derive(Default)]
struct Slots {
    chunks: Vec<Option<Box<Chunk>>>,
    /// The highest slot ever used, and one more.
    used: usize,
}

type Chunk = [Option<Connection>; CHUNK];

/// Few enough for a chunk to be empty soon when a crowd has left.
const CHUNK: usize = 8;

impl Slots {
    fn bound(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    fn used(&self) -> usize {
        self.used
    }

    fn get(&self, slot: usize) -> Option<&Connection> {
        self.chunks.get(slot / CHUNK)?.as_ref()?[slot % CHUNK].as_ref()
    }

    fn get_mut(&mut self, slot: usize) -> Option<&mut Option<Connection>> {
        Some(&mut self.chunks.get_mut(slot / CHUNK)?.as_mut()?[slot % CHUNK])
    }

    /// A slot, which is there from now on.
    fn reach(&mut self, slot: usize) -> &mut Option<Connection> {
        self.used = self.used.max(slot + 1);
        let chunk = slot / CHUNK;
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| Box::new([const { None }; CHUNK]));
        &mut chunk[slot % CHUNK]
    }

    fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.chunks.iter().flatten().flat_map(|chunk| chunk.iter().flatten())
    }

    fn shrink(&mut self) {
        for chunk in &mut self.chunks {
            if chunk.as_ref().is_some_and(|chunk| chunk.iter().all(Option::is_none)) {
                *chunk = None;
            }
        }
        while self.chunks.last().is_some_and(Option::is_none) {
            self.chunks.pop();
        }
        if is_sparse(self.chunks.len(), self.chunks.capacity()) {
            self.chunks.shrink_to_fit();
        }
    }
}
