//! What the simulated network keeps per reactor: its connections, its listeners, its queue.
//!
//! Nothing here changes the network; it only remembers what a worker asked for and what `drain` has
//! to do.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::net::{LinkKey, Side};
use crate::reactor::slots::Slots;
use crate::reactor::{Batch, ConnectionKey, ListenerKey, LooseSocket, ReactorCounters};

/// One reactor.
pub(super) struct ReactorState {
    pub(super) address: IpAddr,
    pub(super) connections: Slots<Connection>,
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) queue: VecDeque<Item>,
    pub(super) counters: ReactorCounters,
    pub(super) woken: Arc<AtomicBool>,
    /// Most connections, like a limit on open files.
    pub(super) files_max: usize,
    /// It was not dropped.
    pub(super) alive: bool,
}

/// One connection, with its outstanding operations.
pub(super) struct Connection {
    pub(super) link: LinkKey,
    pub(super) side: Side,
    pub(super) receiving: bool,
    pub(super) receive_queued: bool,
    pub(super) sending: Option<Outgoing>,
    pub(super) write_queued: bool,
    pub(super) ended: bool,
}

/// A batch on its way.
pub(super) struct Outgoing {
    pub(super) batch: Batch,
    pub(super) bytes: usize,
    pub(super) sent: usize,
}

/// One listener.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) accepting: bool,
    pub(super) closing: bool,
    pub(super) queued: bool,
    /// Calls that wait to be accepted.
    pub(super) calls: VecDeque<LinkKey>,
}

/// What `drain` has to do, in order. An item that names a connection since closed is void.
pub(super) enum Item {
    Accept(ListenerKey),
    Connected(u64, ConnectionKey),
    ConnectFailed(u64, io::Error),
    Receive(ConnectionKey),
    Write(ConnectionKey),
    Sent(ConnectionKey, usize),
    SendFailed(ConnectionKey, io::Error),
    Closed(ConnectionKey),
    Released(ConnectionKey, LooseSocket),
    Adopted(u64, ConnectionKey),
    AdoptFailed(u64, io::Error),
}

impl ReactorState {
    /// A reactor of the host with this address.
    pub(super) fn new(address: IpAddr) -> Self {
        Self {
            address,
            connections: Slots::new(),
            listeners: Vec::new(),
            queue: VecDeque::new(),
            counters: ReactorCounters::default(),
            woken: Arc::new(AtomicBool::new(false)),
            files_max: usize::MAX,
            alive: true,
        }
    }

    /// Stores a connection.
    pub(super) fn add_connection(&mut self, link: LinkKey, side: Side) -> ConnectionKey {
        self.connections.insert(|_| Connection {
            link,
            side,
            receiving: false,
            receive_queued: false,
            sending: None,
            write_queued: false,
            ended: false,
        })
    }

    /// The listener, unless it is closed.
    pub(super) fn listener(&mut self, key: ListenerKey) -> Option<&mut Listener> {
        self.listeners.get_mut(usize::try_from(key.0).ok()?)?.as_mut()
    }

    /// Lets a call wait at a listener; false when it takes none.
    pub(super) fn queue_call(&mut self, key: ListenerKey, call: LinkKey) -> bool {
        match self.listener(key) {
            Some(listener) if !listener.closing && listener.calls.len() < CALLS_MAX => {
                listener.calls.push_back(call);
            }
            _ => return false,
        }
        self.queue_accept(key);
        true
    }

    /// Queues accepting, if the listener has something to accept or is to be closed.
    pub(super) fn queue_accept(&mut self, key: ListenerKey) {
        if let Some(listener) = self.listener(key)
            && (listener.closing || (listener.accepting && !listener.calls.is_empty()))
            && !std::mem::replace(&mut listener.queued, true)
        {
            self.queue.push_back(Item::Accept(key));
        }
    }

    /// The connection asked for is there.
    pub(super) fn connected(&mut self, token: u64, connection: ConnectionKey) {
        self.queue.push_back(Item::Connected(token, connection));
    }

    /// The connection asked for cannot be made.
    pub(super) fn connect_failed(&mut self, token: u64, error: io::Error) {
        self.queue.push_back(Item::ConnectFailed(token, error));
    }

    /// Queues what a connection can do, as far as it was asked for.
    pub(super) fn ready(&mut self, key: ConnectionKey, readable: bool, writable: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if readable && connection.receiving && !connection.receive_queued {
            connection.receive_queued = true;
            self.queue.push_back(Item::Receive(key));
        }
        if writable && connection.sending.is_some() && !connection.write_queued {
            connection.write_queued = true;
            self.queue.push_back(Item::Write(key));
        }
    }
}

/// Calls that wait at one listener: the default of `SocketOptions::backlog`.
const CALLS_MAX: usize = 4_096;
