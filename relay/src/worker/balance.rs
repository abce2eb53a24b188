//! Fresh connections go from a worker that sends much to one that sends little.
//!
//! The kernel spreads connections evenly, and knows nothing of what they will cost: a worker whose
//! players watch much may be full while another is idle. So a worker that sends much more than the
//! emptiest one gives it every second connection that it accepts, before it has read a byte: the
//! socket is released by one reactor, travels by mail, and is adopted by the other. Whoever takes
//! one keeps it. What every worker sends is published twice a second in cells that all can read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::labels::{LimitUse, RefuseReason};
use super::mail::{Mail, WorkerIndex};
use super::settings::Speaks;
use super::{Ending, Worker};
use crate::reactor::{ConnectionKey, LooseSocket, Operation};

/// A worker is much fuller than another if it sends more than twice as many bytes,
const RATIO: u64 = 2;

/// and by at least so many a second more (100 Mbit/s).
const MARGIN: u64 = 12_500_000;

/// Connections that one worker may be giving away at a time.
const GIVING_MAX: usize = 64;

/// What a worker knows of its own part.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// When the bytes sent were last looked at, and how many there were.
    looked: Option<(Duration, u64)>,
    /// The last connection was given away, so the next one is kept.
    gave_last: bool,
    /// Who is to have the connections that are being released.
    giving: BTreeMap<ConnectionKey, (WorkerIndex, Door)>,
    /// By which door those came that are being adopted, by token.
    taking: BTreeMap<u64, Door>,
    /// The token of the last adoption.
    token: u64,
}

/// By which door a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// That of clients, and what may be spoken there.
    Clients(Speaks),
    /// That of other nodes; these are none of the connections that the node counts.
    Nodes,
}

impl Balance {
    /// A token for an adoption that no other has.
    pub(super) fn next_token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    /// Connections between two workers, as far as this one holds them.
    pub(super) fn under_way(&self) -> usize {
        self.giving.len() + self.taking.len()
    }
}

impl Worker {
    /// Publishes what this worker sends, in bytes a second. Called twice a second.
    pub(super) fn publish_egress(&mut self, now: Duration) {
        let sent = self.cells.egress_bytes.total();
        let Some((then, before)) = self.balance.looked.replace((now, sent)) else { return };
        let millis = u64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(u64::MAX);
        let Some(rate) = sent.wrapping_sub(before).saturating_mul(1_000).checked_div(millis) else {
            return;
        };
        self.shared.publish_egress(self.index(), rate);
        self.cells.limit_used.at(LimitUse::EgressRate).set(rate);
    }

    /// Gives a connection that was just accepted to another worker, if one is much emptier.
    pub(super) fn give_away(&mut self, key: ConnectionKey, speaks: Speaks) -> bool {
        if std::mem::take(&mut self.balance.gave_last) || self.balance.giving.len() >= GIVING_MAX {
            return false;
        }
        let given = self.give(key, Door::Clients(speaks));
        self.balance.gave_last = given;
        given
    }

    /// The same for a link from another node: whatever streams it brings are at home where it is.
    pub(super) fn give_link_away(&mut self, key: ConnectionKey) -> bool {
        self.balance.giving.len() < GIVING_MAX && self.give(key, Door::Nodes)
    }

    fn give(&mut self, key: ConnectionKey, door: Door) -> bool {
        let Some(to) = emptier(&self.shared.egress(), self.index()) else { return false };
        self.balance.giving.insert(key, (to, door));
        self.operations.push(Operation::Release { connection: key });
        true
    }

    /// A connection is no longer this reactor's.
    pub(super) fn released(&mut self, key: ConnectionKey, socket: LooseSocket) {
        let Some(socket) = self.departed(key, socket) else { return };
        let Some((to, door)) = self.balance.giving.remove(&key) else { return };
        self.cells.connections_given.increment();
        self.mailbox.send(to, Mail::Socket { socket, door });
    }

    /// Another worker gives a connection to this one; the node counts it already.
    pub(super) fn take_over_socket(&mut self, socket: LooseSocket, door: Door) {
        let waiting = self.pending + self.balance.taking.len();
        let refused = if self.shared.is_draining() || self.ending != Ending::No {
            Some(RefuseReason::Draining)
        } else {
            (waiting >= self.limits.pending_connections_max).then_some(RefuseReason::Pending)
        };
        if let Some(reason) = refused.filter(|_| door != Door::Nodes) {
            self.cells.refused.at(reason).increment();
            tracing::warn!(peer = ?socket.peer(), reason = reason.label(), "connection refused");
            self.shared.leave_connection();
            return;
        }
        let token = self.balance.next_token();
        self.balance.taking.insert(token, door);
        self.operations.push(Operation::Adopt { token, socket });
    }

    /// It is this worker's from now on.
    pub(super) fn adopted(
        &mut self,
        token: u64,
        key: ConnectionKey,
        peer: SocketAddr,
        now: Duration,
    ) {
        if self.carrier_adopted(token, key, now) {
            return;
        }
        let door = self.balance.taking.remove(&token);
        self.cells.connections_taken.increment();
        let speaks = match door {
            Some(Door::Nodes) => return self.link_accepted(key, peer, now),
            Some(Door::Clients(speaks)) => speaks,
            None => Speaks::default(),
        };
        let address = peer.ip();
        let counted = (!self.settings.stands_for_many(address)).then_some(address);
        if let Some(address) = counted {
            self.shared.addresses().enter_again(address);
        }
        self.begin_connection(key, peer, speaks, counted, now);
    }

    /// It ended on the way.
    pub(super) fn not_adopted(&mut self, token: u64, error: &std::io::Error, now: Duration) {
        let door = self.balance.taking.remove(&token);
        tracing::debug!(%error, "a connection ended on its way from one core to another");
        if self.carrier_lost(token, now) || door == Some(Door::Nodes) {
            return;
        }
        self.shared.leave_connection();
    }
}

/// The emptiest worker, if `own` is much fuller. `rates` in bytes a second, by worker.
fn emptier(rates: &[u64], own: WorkerIndex) -> Option<WorkerIndex> {
    let mine = *rates.get(own)?;
    let (worker, least) = rates.iter().enumerate().min_by_key(|(_, rate)| **rate)?;
    let full = least.saturating_mul(RATIO).max(least.saturating_add(MARGIN));
    (mine > full).then_some(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gives_to_the_emptiest_if_that_is_much_emptier() {
        let check = |rates: &[u64], expected: Option<WorkerIndex>| {
            let mega: Vec<_> = rates.iter().map(|rate| rate * 1_000_000).collect();
            assert_eq!(emptier(&mega, 0), expected, "{rates:?}");
        };
        check(&[], None);
        check(&[100], None);
        check(&[0, 0], None);
        check(&[100, 0], Some(1));
        check(&[0, 100], None);
        check(&[100, 60], None);
        check(&[100, 49], Some(1));
        check(&[12, 0], None);
        check(&[13, 0], Some(1));
        check(&[100, 40, 20, 30], Some(2));
        check(&[100, 100, 100], None);
    }
}
