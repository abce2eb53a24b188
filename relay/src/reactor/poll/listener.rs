//! One listener of the mio backend: registered while it accepts, forgotten while it does not.
//!
//! A listener that is off is not registered with epoll, so that connections knocking at it cannot
//! wake the worker; turning it on registers it anew, and epoll then tells of those that wait
//! already. No descriptor is kept in reserve against the day when none is left: those who knock
//! stay queued in the kernel until the worker turns accepting on again.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::reactor::ReactorCounters;
use crate::reactor::socket::concerns_one_connection;

/// A listening socket.
pub(super) struct Listener {
    socket: TcpListener,
    token: Token,
    accepting: bool,
    /// An item for it is in the queue.
    pub(super) queued: bool,
    /// The most connections that the kernel can have queued.
    queued_max: usize,
    /// While it is being closed: how many more connections can have been queued when that began. It
    /// bounds the closing under a rush of new ones.
    closing: Option<usize>,
}

/// How an attempt to accept went.
pub(super) enum AcceptOutcome {
    /// A connection.
    Accepted(TcpStream, SocketAddr),
    /// A connection that was gone before we took it.
    Retry,
    /// Nothing more for the time being.
    Empty,
}

impl Listener {
    /// A listener that does not accept yet.
    pub(super) fn new(socket: std::net::TcpListener, token: Token, queued_max: usize) -> Self {
        Self {
            socket: TcpListener::from_std(socket),
            token,
            accepting: false,
            queued: false,
            queued_max,
            closing: None,
        }
    }

    /// Turns accepting on or off. A listener being closed takes no more orders.
    pub(super) fn set_accepting(&mut self, registry: &Registry, on: bool) -> io::Result<()> {
        if on == self.accepting || self.closing.is_some() {
            return Ok(());
        }
        if on {
            registry.register(&mut self.socket, self.token, Interest::READABLE)?;
            self.accepting = true;
        } else {
            self.stop_accepting(registry);
        }
        Ok(())
    }

    /// Turns accepting off, because the worker said so or because it failed.
    pub(super) fn stop_accepting(&mut self, registry: &Registry) {
        if std::mem::replace(&mut self.accepting, false) {
            // It fails only for a socket that is not registered.
            let _ = registry.deregister(&mut self.socket);
        }
    }

    /// Begins to close: true when this asks for an item in the queue.
    pub(super) fn start_closing(&mut self) -> bool {
        self.closing.get_or_insert(self.queued_max);
        !std::mem::replace(&mut self.queued, true)
    }

    /// Books one attempt to accept; true when the listener was being closed and is done.
    pub(super) fn closing_done(&mut self, empty: bool) -> bool {
        match &mut self.closing {
            None => false,
            Some(left) => {
                *left = left.saturating_sub(1);
                empty || *left == 0
            }
        }
    }

    /// Takes one connection.
    ///
    /// # Errors
    ///
    /// Those that concern the listener or the process, not one connection: mostly that no file
    /// descriptor or memory is left.
    pub(super) fn accept(&mut self, counters: &mut ReactorCounters) -> io::Result<AcceptOutcome> {
        if !self.accepting && self.closing.is_none() {
            return Ok(AcceptOutcome::Empty);
        }
        counters.syscalls += 1;
        match self.socket.accept() {
            Ok((stream, peer)) => {
                counters.syscalls += 2; // Its own address, and registering it.
                Ok(AcceptOutcome::Accepted(stream, peer))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(AcceptOutcome::Empty),
            Err(error) if concerns_one_connection(&error) => Ok(AcceptOutcome::Retry),
            Err(error) => Err(error),
        }
    }
}
