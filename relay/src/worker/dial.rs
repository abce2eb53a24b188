//! Dialling out of a worker: connections that this node opens to other servers.
//!
//! Whoever wants one has a variant of [`Purpose`] that carries all it needs, makes a [`Dial`] and
//! gives it to [`Worker::dial`]. The purpose comes back exactly once, to [`Worker::dialled`]: with
//! the connection, or with the reason why there is none. There the purpose makes the [`Speech`] of
//! the connection, and [`Worker::begin_outbound`] puts it among the others: it is received on, its
//! first words are sent, and its TLS, if any, lies under it as under accepted ones. From then on it
//! is a connection like any other, and ends by [`Worker::close`] alone.
//!
//! Names are not looked up here: the control thread does that. How many are under way and how long
//! each may take is bounded; a connection that comes too late is closed at once.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::labels::{DialResult, Role, Transport};
use super::outside::OutsideOrder;
use super::report::ConnectionId;
use super::secure::Secured;
use super::settings::Speaks;
use super::speech::Speech;
use crate::reactor::{ConnectionKey, Operation};
use crate::tls::Layer;

/// A connection to be opened.
pub(super) struct Dial {
    /// Where to.
    pub(super) address: SocketAddr,
    /// It must be there within this time.
    pub(super) within: Duration,
    /// TLS under whatever is spoken: the client's side of it, made by
    /// [`ClientTls::connect`](crate::tls::ClientTls::connect).
    pub(super) tls: Option<Box<Layer>>,
    /// What for.
    pub(super) purpose: Purpose,
}

/// What a connection is opened for.
pub(super) enum Purpose {
    /// A push or a pull.
    Outside(Box<OutsideOrder>),
    /// One that lives inside HTTP goes on by another connection.
    Carry(ConnectionKey),
}

/// A connection that is there.
pub(super) struct Dialled {
    pub(super) key: ConnectionKey,
    pub(super) peer: SocketAddr,
    pub(super) tls: Option<Box<Layer>>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum DialFault {
    /// As many are under way, or open, as may be.
    Full,
    /// It was not there in time.
    TimedOut,
    /// The kernel or the other side said no.
    Failed(io::Error),
    /// It was given up by [`Worker::give_up_dials`].
    Unwanted,
}

impl fmt::Display for DialFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => formatter.write_str("too many connections are open or being opened"),
            Self::TimedOut => formatter.write_str("nobody answered in time"),
            Self::Failed(error) => write!(formatter, "no connection: {error}"),
            Self::Unwanted => formatter.write_str("it was given up"),
        }
    }
}

/// The dials of one worker that are under way.
#[derive(Default)]
pub(super) struct Dials {
    under_way: BTreeMap<u64, Pending>,
    numbered: u64,
}

struct Pending {
    deadline: Duration,
    tls: Option<Box<Layer>>,
    purpose: Purpose,
}

impl Dials {
    /// How many are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

impl Worker {
    /// Opens a connection. [`Self::dialled`] hears of it, perhaps before this returns.
    pub(super) fn dial(&mut self, dial: Dial, now: Duration) {
        let Dial { address, within, tls, purpose } = dial;
        if self.dials.under_way.len() >= self.limits.outbound_dials_max {
            self.cells.dials.at(DialResult::Full).increment();
            self.dialled(purpose, Err(DialFault::Full), now);
            return;
        }
        self.dials.numbered += 1;
        let token = self.dials.numbered;
        let deadline = now.saturating_add(within);
        self.dials.under_way.insert(token, Pending { deadline, tls, purpose });
        self.operations.push(Operation::Connect { token, address });
    }

    /// What became of a dial.
    fn dialled(&mut self, purpose: Purpose, result: Result<Dialled, DialFault>, now: Duration) {
        match purpose {
            Purpose::Outside(order) => self.outside_dialled(*order, result, now),
            Purpose::Carry(session) => self.carrier_dialled(session, result, now),
        }
    }

    /// A connection that we opened is there.
    pub(super) fn connected(
        &mut self,
        token: u64,
        key: ConnectionKey,
        peer: SocketAddr,
        now: Duration,
    ) {
        let Some(Pending { tls, purpose, .. }) = self.dials.under_way.remove(&token) else {
            // It was given up, and has come too late.
            self.operations.push(Operation::Close { connection: key });
            return;
        };
        // It needs a file like those that are accepted. Whoever closes it gives the place back.
        if !self.shared.enter_connection(self.limits.connections_max) {
            self.operations.push(Operation::Close { connection: key });
            self.cells.dials.at(DialResult::Full).increment();
            self.dialled(purpose, Err(DialFault::Full), now);
            return;
        }
        self.cells.dials.at(DialResult::Ok).increment();
        self.dialled(purpose, Ok(Dialled { key, peer, tls }), now);
    }

    /// A connection could not be opened.
    pub(super) fn connect_failed(&mut self, token: u64, error: io::Error, now: Duration) {
        let Some(pending) = self.dials.under_way.remove(&token) else { return };
        let result = match error.kind() {
            io::ErrorKind::ConnectionRefused => DialResult::Refused,
            io::ErrorKind::TimedOut => DialResult::Timeout,
            _ => DialResult::Failed,
        };
        self.cells.dials.at(result).increment();
        self.dialled(pending.purpose, Err(DialFault::Failed(error)), now);
    }

    /// Gives up what takes too long. Called at every sweep.
    pub(super) fn check_dials(&mut self, now: Duration) {
        let late = |pending: &Pending| pending.deadline <= now;
        let late: Vec<u64> = (self.dials.under_way.iter())
            .filter(|(_, pending)| late(pending))
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            if let Some(pending) = self.dials.under_way.remove(&token) {
                self.cells.dials.at(DialResult::Timeout).increment();
                self.dialled(pending.purpose, Err(DialFault::TimedOut), now);
            }
        }
    }

    /// Gives up the dials that nobody wants any more. Their connections are closed when they come.
    pub(super) fn give_up_dials(&mut self, unwanted: impl Fn(&Purpose) -> bool, now: Duration) {
        let tokens: Vec<u64> = (self.dials.under_way.iter())
            .filter(|(_, pending)| unwanted(&pending.purpose))
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            if let Some(pending) = self.dials.under_way.remove(&token) {
                self.cells.dials.at(DialResult::Unwanted).increment();
                self.dialled(pending.purpose, Err(DialFault::Unwanted), now);
            }
        }
    }

    /// A connection that we opened is this worker's from now on, like those that are accepted. It
    /// has its role from the start. `key` is its socket's, unless it outlives that. Gives the id
    /// for log lines and the API.
    pub(super) fn begin_outbound(
        &mut self,
        key: ConnectionKey,
        dialled: Dialled,
        role: Role,
        transport: Transport,
        speech: Speech,
        now: Duration,
    ) -> ConnectionId {
        let Dialled { key: socket, peer, tls } = dialled;
        self.numbered += 1;
        let id = ConnectionId { core: self.index(), number: self.numbered };
        let mut connection = Connection::new(key, id, peer, Speaks::default(), now);
        connection.speech = speech;
        connection.transport = transport;
        connection.role = role;
        connection.purpose = role;
        // Handshakes are counted of those who come to us.
        connection.handshake_counted = true;
        connection.tls = tls.map(|layer| Box::new(Secured::of_client(*layer)));
        self.cells.opened_by_us(role, transport);
        self.connections.put(connection);
        self.operations.push(Operation::Receive { connection: socket });
        // What it has to say first goes out.
        self.work(key, now, |_, _| {});
        id
    }
}
