//! The test's end of a simulated connection: a client that does only what it is told.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::net::{LinkKey, Net};

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimRead {
    /// So many bytes.
    Data(usize),
    /// Nothing yet.
    Empty,
    /// The other side has ended, and all its bytes were read.
    Eof,
    /// The connection was refused or reset.
    Reset,
}

/// A client. Dropping it closes it.
pub struct SimEndpoint {
    net: Rc<RefCell<Net>>,
    link: LinkKey,
    address: SocketAddr,
    closed: bool,
}

impl SimEndpoint {
    pub(super) fn new(net: Rc<RefCell<Net>>, link: LinkKey, address: SocketAddr) -> Self {
        Self { net, link, address, closed: false }
    }

    /// Its own address: the peer's address of the connection that the other side accepts.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes as much as there is room for; returns how much, 0 too when it was reset or has ended.
    pub fn write(&mut self, data: &[u8]) -> usize {
        if self.closed {
            return 0;
        }
        self.net.borrow_mut().write(self.link, SIDE, data).unwrap_or(0)
    }

    /// Appends at most `max` bytes of what has arrived.
    pub fn read(&mut self, into: &mut Vec<u8>, max: usize) -> SimRead {
        if self.closed {
            return SimRead::Reset;
        }
        let mut net = self.net.borrow_mut();
        let start = into.len();
        into.resize(start + max.min(net.arrived(self.link, SIDE)), 0);
        net.read(self.link, SIDE, &mut into[start..])
    }

    /// From now on takes at once all that is sent to it and only counts the bytes, without delay,
    /// however much it is: a thousand players at the price of a number each.
    pub fn count_only(&mut self) {
        let mut net = self.net.borrow_mut();
        let unread = net.arrived(self.link, SIDE);
        let mut rest = vec![0; unread];
        net.read(self.link, SIDE, &mut rest);
        if let Some(link) = net.links.get_mut(self.link) {
            let counted = &mut link.sides[SIDE].counted;
            *counted = Some(u64::try_from(unread).expect("a usize fits into 64 bits"));
        }
        net.touch(self.link, 1 - SIDE);
    }

    /// Bytes counted since [`SimEndpoint::count_only`], with those that had arrived unread before.
    #[must_use]
    pub fn counted(&self) -> u64 {
        let mut net = self.net.borrow_mut();
        net.links.get_mut(self.link).and_then(|link| link.sides[SIDE].counted).unwrap_or(0)
    }

    /// Ends its direction; it can still read.
    pub fn shutdown(&mut self) {
        if !self.closed {
            self.net.borrow_mut().end(self.link, SIDE);
        }
    }

    /// Closes it. Bytes it has not read make this a reset, as with TCP.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.net.borrow_mut().close(self.link, SIDE);
        }
    }

    /// Resets the connection and closes it.
    pub fn reset(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            let mut net = self.net.borrow_mut();
            net.reset(self.link, SIDE);
            net.forget(self.link, SIDE);
        }
    }
}

impl Drop for SimEndpoint {
    fn drop(&mut self) {
        if !self.closed
            && let Ok(mut net) = self.net.try_borrow_mut()
        {
            net.close(self.link, SIDE);
        }
    }
}

/// An endpoint always dials.
const SIDE: usize = 0;
