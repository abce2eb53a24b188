//! Connections that move between the reactors of one simulated network.
//!
//! A loose side stays in the network, and its address does not change. The network looks at its
//! loose sides when an operation or the clock moves it, and closes those that were dropped.

use std::io::ErrorKind;
use std::sync::Arc;

use super::net::{Net, Owner};
use super::state::Item;
use crate::reactor::loose::{Loose, SimSide};
use crate::reactor::{ConnectionKey, LooseSocket};

impl Net {
    pub(super) fn release(&mut self, id: usize, connection: ConnectionKey) {
        let state = &mut self.reactors[id];
        let Some(entry) = state.connections.remove(connection) else { return };
        state.counters.syscalls += 1;
        let held = Arc::new(());
        self.loose.push((entry.link, entry.side, Arc::downgrade(&held)));
        if let Some(link) = self.links.get_mut(entry.link) {
            link.sides[entry.side].owner = Owner::Loose;
        }
        let socket = Loose::Sim(SimSide { link: entry.link, side: entry.side, held });
        let item = Item::Released(connection, LooseSocket(socket));
        self.reactors[id].queue.push_back(item);
    }

    pub(super) fn adopt(&mut self, id: usize, token: u64, socket: LooseSocket) {
        let item = match socket.0 {
            Loose::Sim(SimSide { link, side, held }) if self.links.get_mut(link).is_some() => {
                let connection = self.reactors[id].add_connection(link, side);
                if let Some(link) = self.links.get_mut(link) {
                    link.sides[side].owner = Owner::Reactor(id, connection);
                }
                self.loose.retain(|(_, _, other)| !std::ptr::eq(other.as_ptr(), &raw const *held));
                self.reactors[id].counters.syscalls += 1;
                Item::Adopted(token, connection)
            }
            _ => Item::AdoptFailed(token, ErrorKind::NotConnected.into()),
        };
        self.reactors[id].queue.push_back(item);
    }

    /// Closes loose sides that nobody holds any more.
    pub(super) fn close_dropped(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        let dropped = self.loose.extract_if(.., |(_, _, held)| held.strong_count() == 0);
        for (link, side, _) in dropped.collect::<Vec<_>>() {
            self.close(link, side);
        }
    }
}
