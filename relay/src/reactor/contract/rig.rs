//! Drives a backend through a case, and keeps the books on what the contract promises for every
//! run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::harness::{Harness, Peer};
use crate::reactor::sim::SimRead;
use crate::reactor::{
    Batch, Completion, ConnectionKey, ListenerKey, LooseSocket, Operation, Reactor,
};

/// A completion that outlives the call it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Accepted {
        connection: ConnectionKey,
        peer: SocketAddr,
        local: SocketAddr,
    },
    AcceptFailed,
    ListenerClosed,
    Connected {
        token: u64,
        connection: ConnectionKey,
        peer: SocketAddr,
        local: SocketAddr,
    },
    ConnectFailed {
        token: u64,
        kind: ErrorKind,
    },
    Received(ConnectionKey, Vec<u8>),
    ReceiveEnded(ConnectionKey, Option<ErrorKind>),
    Sent(ConnectionKey, usize),
    SendFailed(ConnectionKey, ErrorKind),
    Closed(ConnectionKey),
    /// Its socket is in `Rig::sockets`.
    Released(ConnectionKey),
    Adopted {
        token: u64,
        connection: ConnectionKey,
        peer: SocketAddr,
        local: SocketAddr,
    },
    AdoptFailed {
        token: u64,
    },
}

/// A reactor under test.
pub(super) struct Rig<H: Harness> {
    pub(super) harness: H,
    pub(super) reactor: H::Reactor,
    pub(super) listener: ListenerKey,
    pub(super) address: SocketAddr,
    /// What was reported and not yet taken by the case.
    pub(super) events: Vec<Event>,
    /// What was released and not yet taken by the case.
    pub(super) sockets: Vec<LooseSocket>,
    ledger: Ledger,
}

impl<H: Harness> Rig<H> {
    pub(super) fn new(mut harness: H) -> Self {
        let (reactor, listener, address) = harness.reactor();
        let ledger = Ledger { listener, ..Ledger::default() };
        let (events, sockets) = (Vec::new(), Vec::new());
        Self { harness, reactor, listener, address, events, sockets, ledger }
    }

    /// Goes on with another reactor, which has a listener of its own; returns the one so far.
    pub(super) fn change_reactor(&mut self) -> H::Reactor {
        let (reactor, listener, address) = self.harness.reactor();
        (self.listener, self.address) = (listener, address);
        self.ledger = Ledger { listener, ..Ledger::default() };
        std::mem::replace(&mut self.reactor, reactor)
    }

    /// Releases a connection and takes its socket.
    pub(super) fn release(&mut self, connection: ConnectionKey) -> LooseSocket {
        self.submit([Operation::Release { connection }]);
        self.expect(&Event::Released(connection));
        self.sockets.pop().unwrap()
    }

    /// Submits all at once.
    pub(super) fn submit(&mut self, operations: impl IntoIterator<Item = Operation>) {
        let mut operations: Vec<_> = operations.into_iter().collect();
        operations.iter().for_each(|operation| self.ledger.asked(operation));
        self.reactor.submit(&mut operations);
        assert!(operations.is_empty());
    }

    pub(super) fn accept(&mut self, on: bool) {
        let listener = self.listener;
        self.submit([Operation::Accept { listener, on }]);
    }

    pub(super) fn receive(&mut self, connection: ConnectionKey) {
        self.submit([Operation::Receive { connection }]);
    }

    pub(super) fn send(&mut self, connection: ConnectionKey, batch: Batch) {
        self.submit([Operation::Send { connection, batch }]);
    }

    pub(super) fn close(&mut self, connection: ConnectionKey) {
        self.submit([Operation::Close { connection }]);
    }

    /// Waits for a millisecond at most and takes in what completes; returns how much that was.
    pub(super) fn turn(&mut self) -> usize {
        self.harness.step();
        self.reactor.wait(Some(Duration::from_millis(1)));
        self.drain()
    }

    /// Takes in what completes; returns how much that was.
    pub(super) fn drain(&mut self) -> usize {
        let before = self.events.len();
        let (events, ledger) = (&mut self.events, &mut self.ledger);
        let sockets = &mut self.sockets;
        self.reactor.drain(&mut |completion| {
            let event = owned(completion, ledger.listener, sockets);
            ledger.told(&event);
            events.push(event);
        });
        let new = &self.events[before..];
        let accepted = new.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
        assert!(accepted <= 64, "{accepted} connections accepted at once");
        new.len()
    }

    /// Turns until `done` gives something.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            let about = self.harness.describe();
            assert!(!self.harness.is_overdue(), "{about}: no {what}; have {:?}", self.events);
            self.turn();
        }
    }

    /// Turns until an event of which `pick` wants something, and takes that event out.
    pub(super) fn event<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        self.until(what, |rig| {
            let place = rig.events.iter().position(|event| pick(event).is_some())?;
            pick(&rig.events.remove(place))
        })
    }

    /// Turns until this event, and takes it out.
    pub(super) fn expect(&mut self, event: &Event) {
        self.event(&format!("{event:?}"), |seen| (seen == event).then_some(()));
    }

    /// Turns until nothing more is to be expected.
    pub(super) fn settle(&mut self) {
        let mut idle = 0;
        self.until("rest", |rig| {
            if rig.turn() > 0 || !rig.harness.is_quiet() {
                idle = 0;
            }
            idle += 1;
            (idle > rig.harness.quiet_turns()).then_some(())
        });
    }

    /// Turns until nothing more is to be expected, and finds nothing reported.
    pub(super) fn expect_nothing(&mut self) {
        self.settle();
        assert_eq!(self.events, [], "{}", self.harness.describe());
    }

    /// A peer and the connection that was accepted from it. Turns accepting on.
    pub(super) fn pair(&mut self) -> (H::Peer, ConnectionKey) {
        self.accept(true);
        let peer = self.harness.peer(self.address);
        let address = peer.address();
        let connection = self.event("connection", |event| match event {
            Event::Accepted { connection, peer, .. } if *peer == address => Some(*connection),
            _ => None,
        });
        (peer, connection)
    }

    /// Receives from the connection until there are `count` bytes.
    pub(super) fn receive_bytes(&mut self, connection: ConnectionKey, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            self.receive(connection);
            bytes.extend(self.event("bytes", |event| match event {
                Event::Received(from, bytes) if *from == connection => Some(bytes.clone()),
                _ => None,
            }));
        }
        bytes
    }

    /// Reads at the peer until there are `count` bytes.
    pub(super) fn read_bytes(&mut self, peer: &mut H::Peer, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("bytes at the peer", |_| {
            while matches!(peer.read(&mut bytes, 64 * 1024), SimRead::Data(_)) {}
            (bytes.len() >= count).then_some(())
        });
        bytes
    }

    /// Writes at the peer until all is gone.
    pub(super) fn write_bytes(&mut self, peer: &mut H::Peer, data: &[u8]) {
        let mut written = 0;
        self.until("room to write", |_| {
            written += peer.write(&data[written..]);
            (written == data.len()).then_some(())
        });
    }

    /// Sends so much that the peer, which does not read, holds it up; returns the bytes.
    pub(super) fn stall(&mut self, connection: ConnectionKey) -> bytes::Bytes {
        let bytes = bytes::Bytes::from(pattern(7, STALLING));
        self.send(connection, Batch::One(bytes.clone()));
        self.settle();
        bytes
    }
}

/// More than all buffers between a reactor and a peer hold.
pub(super) const STALLING: usize = 4 * 1024 * 1024;

/// Bytes that differ from each other, and by `seed`, enough to show any of them misplaced.
pub(super) fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(count).collect()
}

fn owned(completion: Completion<'_>, only: ListenerKey, sockets: &mut Vec<LooseSocket>) -> Event {
    match completion {
        Completion::Accepted { listener, connection, peer, local } => {
            assert_eq!(listener, only);
            Event::Accepted { connection, peer, local }
        }
        Completion::AcceptFailed { listener, .. } => {
            assert_eq!(listener, only);
            Event::AcceptFailed
        }
        Completion::ListenerClosed { listener } => {
            assert_eq!(listener, only);
            Event::ListenerClosed
        }
        Completion::Connected { token, connection, peer, local } => {
            Event::Connected { token, connection, peer, local }
        }
        Completion::ConnectFailed { token, error } => {
            Event::ConnectFailed { token, kind: error.kind() }
        }
        Completion::Received { connection, bytes } => Event::Received(connection, bytes.to_vec()),
        Completion::ReceiveEnded { connection, error } => {
            Event::ReceiveEnded(connection, error.map(|error| error.kind()))
        }
        Completion::Sent { connection, bytes } => Event::Sent(connection, bytes),
        Completion::SendFailed { connection, error } => Event::SendFailed(connection, error.kind()),
        Completion::Closed { connection } => Event::Closed(connection),
        Completion::Released { connection, socket } => {
            sockets.push(socket);
            Event::Released(connection)
        }
        Completion::Adopted { token, connection, peer, local } => {
            Event::Adopted { token, connection, peer, local }
        }
        Completion::AdoptFailed { token, .. } => Event::AdoptFailed { token },
    }
}

/// What is outstanding: everything reported must have been asked for.
struct Ledger {
    listener: ListenerKey,
    /// Every key ever given.
    keys: BTreeSet<ConnectionKey>,
    open: BTreeMap<ConnectionKey, Account>,
    connects: BTreeSet<u64>,
    adopts: BTreeSet<u64>,
    closing: bool,
}

#[derive(Default)]
struct Account {
    receiving: bool,
    sends: usize,
    closing: bool,
    releasing: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            listener: ListenerKey(0),
            keys: BTreeSet::new(),
            open: BTreeMap::new(),
            connects: BTreeSet::new(),
            adopts: BTreeSet::new(),
            closing: false,
        }
    }
}

impl Ledger {
    fn asked(&mut self, operation: &Operation) {
        match operation {
            Operation::Accept { .. } | Operation::Shutdown { .. } => {}
            Operation::CloseListener { .. } => self.closing = true,
            Operation::Connect { token, .. } => assert!(self.connects.insert(*token)),
            Operation::Receive { connection } => {
                if let Some(account) = self.open.get_mut(connection) {
                    account.receiving = true;
                }
            }
            Operation::Send { connection, .. } => {
                if let Some(account) = self.open.get_mut(connection) {
                    account.sends += 1;
                }
            }
            Operation::Close { connection } => {
                if let Some(account) = self.open.get_mut(connection) {
                    account.closing = true;
                }
            }
            Operation::Release { connection } => {
                if let Some(account) = self.open.get_mut(connection) {
                    account.releasing = true;
                }
            }
            Operation::Adopt { token, .. } => assert!(self.adopts.insert(*token)),
        }
    }

    fn told(&mut self, event: &Event) {
        match event {
            Event::Accepted { connection, .. } => self.opened(*connection),
            Event::AcceptFailed => {}
            Event::ListenerClosed => {
                assert!(std::mem::replace(&mut self.closing, false), "{event:?} unasked");
            }
            Event::Connected { token, connection, .. } => {
                assert!(self.connects.remove(token), "{event:?} unasked");
                self.opened(*connection);
            }
            Event::ConnectFailed { token, .. } => {
                assert!(self.connects.remove(token), "{event:?} unasked");
            }
            Event::Received(connection, bytes) => {
                assert!(!bytes.is_empty());
                let account = self.account(*connection, event);
                assert!(std::mem::replace(&mut account.receiving, false), "{event:?} unasked");
            }
            Event::ReceiveEnded(connection, _) => {
                let account = self.account(*connection, event);
                assert!(std::mem::replace(&mut account.receiving, false), "{event:?} unasked");
            }
            Event::Sent(connection, _) | Event::SendFailed(connection, _) => {
                let account = self.account(*connection, event);
                assert!(account.sends > 0, "{event:?} unasked");
                account.sends -= 1;
            }
            Event::Closed(connection) => {
                let account = self.open.remove(connection);
                assert!(account.is_some_and(|account| account.closing), "{event:?} unasked");
            }
            Event::Released(connection) => {
                let account = self.open.remove(connection);
                assert!(account.is_some_and(|account| account.releasing), "{event:?} unasked");
            }
            Event::Adopted { token, connection, .. } => {
                assert!(self.adopts.remove(token), "{event:?} unasked");
                self.opened(*connection);
            }
            Event::AdoptFailed { token } => {
                assert!(self.adopts.remove(token), "{event:?} unasked");
            }
        }
    }

    fn opened(&mut self, connection: ConnectionKey) {
        assert!(self.keys.insert(connection), "{connection:?} was given before");
        self.open.insert(connection, Account::default());
    }

    fn account(&mut self, connection: ConnectionKey, event: &Event) -> &mut Account {
        let account = self.open.get_mut(&connection);
        let here = |account: &&mut Account| !account.closing && !account.releasing;
        account.filter(here).unwrap_or_else(|| panic!("late: {event:?}"))
    }
}
