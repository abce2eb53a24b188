//! A tunnel's connection goes to the core that its request's session lives on.
//!
//! It leaves between two requests, with the head that has come and the bytes behind it: nothing is
//! being sent, and no receive is outstanding. Its socket is released by one reactor and adopted by
//! the other, like a fresh connection's (`balance.rs`); the rest of it travels along.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::connection::Connection;
use super::labels::{CloseReason, Role};
use super::mail::{Mail, WorkerIndex};
use super::speech::Speech;
use super::{Ending, Worker};
use crate::reactor::{ConnectionKey, LooseSocket, Operation};

/// Connections on their way.
#[derive(Default)]
pub(super) struct Carriage {
    /// Those that the reactor is to release.
    leaving: HashMap<ConnectionKey, (WorkerIndex, Box<Connection>)>,
    /// Those that it is to adopt, by token.
    arriving: HashMap<u64, Box<Connection>>,
}

/// A connection between two workers.
pub(super) struct Parcel {
    socket: LooseSocket,
    connection: Box<Connection>,
}

impl fmt::Debug for Parcel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parcel").field("id", &self.connection.id).finish_non_exhaustive()
    }
}

impl Carriage {
    /// Connections between two workers, as far as this one holds them.
    pub(super) fn under_way(&self) -> usize {
        self.leaving.len() + self.arriving.len()
    }
}

impl Worker {
    /// Lets a carrier go to where its session lives.
    pub(super) fn depart(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.take(key) else { return };
        let to = match &connection.speech {
            Speech::Carrier(carrier) => carrier.destination(),
            _ => None,
        };
        let at_rest = connection.sending.is_none() && !connection.receiving;
        let Some(to) = to.filter(|_| at_rest && !connection.has_replies()) else {
            self.connections.put(connection);
            return;
        };
        self.cells.left(connection.role, connection.transport());
        self.pending -= usize::from(connection.role == Role::Pending);
        self.tunnels.carriage.leaving.insert(key, (to, Box::new(connection)));
        self.operations.push(Operation::Release { connection: key });
    }

    /// A carrier is no longer this reactor's. Gives the socket back if it is none.
    pub(super) fn departed(
        &mut self,
        key: ConnectionKey,
        socket: LooseSocket,
    ) -> Option<LooseSocket> {
        let Some((to, connection)) = self.tunnels.carriage.leaving.remove(&key) else {
            return Some(socket);
        };
        self.cells.tunnel_moves.increment();
        let parcel = Box::new(Parcel { socket, connection });
        self.mailbox.send(to, Mail::Carrier { parcel });
        None
    }

    /// A carrier comes from another worker; the node counts it already.
    pub(super) fn take_over_carrier(&mut self, mut parcel: Parcel, now: Duration) {
        if self.ending == Ending::Now || self.ending == Ending::Ended {
            return self.ended_on_the_way(&mut parcel.connection, CloseReason::Drain, now);
        }
        let token = self.balance.next_token();
        self.tunnels.carriage.arriving.insert(token, parcel.connection);
        self.operations.push(Operation::Adopt { token, socket: parcel.socket });
    }

    /// Whether an adopted connection is a carrier, which then goes on here.
    pub(super) fn carrier_adopted(
        &mut self,
        token: u64,
        key: ConnectionKey,
        now: Duration,
    ) -> bool {
        let Some(mut connection) = self.tunnels.carriage.arriving.remove(&token) else {
            return false;
        };
        connection.key = key;
        connection.receiving = false;
        self.cells.arrived(connection.role, connection.transport());
        self.pending += usize::from(connection.role == Role::Pending);
        self.connections.put(*connection);
        self.work(key, now, |worker, connection| worker.arrived(connection, now));
        true
    }

    /// Whether what could not be adopted was a carrier, which has then ended on the way.
    pub(super) fn carrier_lost(&mut self, token: u64, now: Duration) -> bool {
        let Some(mut connection) = self.tunnels.carriage.arriving.remove(&token) else {
            return false;
        };
        self.ended_on_the_way(&mut connection, CloseReason::Reset, now);
        true
    }

    /// It has no place in this worker's tables, and no socket.
    fn ended_on_the_way(&mut self, lost: &mut Connection, reason: CloseReason, now: Duration) {
        let role = lost.role;
        self.cells.arrived(role, lost.transport());
        self.pending += usize::from(role == Role::Pending);
        self.account(lost, role, None, (reason, None), now);
    }
}
