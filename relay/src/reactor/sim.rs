//! The simulated backend: a network in memory, under virtual time, with seeded faults.
//!
//! Workers run on it unchanged, many of them on one thread, so that a whole cluster can be stepped
//! through by a test and every run repeated from its seed. A direction of a connection holds 64 KiB
//! like a kernel's buffers, so a reader that stalls really stops its writer.
//!
//! ```text
//!   SimNet::connect -> SimEndpoint  <== pipe: delay, 64 KiB ==>  SimReactor -> a worker
//!   SimReactor      <================= pipes ==================> SimReactor
//! ```
//!
//! A driver runs the turn of every worker whose [`SimWatch::has_work`] until none has, then moves
//! the clock by [`SimNet::advance_to`] to the earliest of [`SimNet::next_event_time`] and the
//! workers' own deadlines. Nothing here sleeps, reads a clock or draws a number that does not come
//! from the seed.
//!
//! What it leaves out: acknowledgements, so a write is free as soon as the other end has read it,
//! and a connection whose peer vanished behind a cut never times out by itself.

mod endpoint;
mod moving;
mod net;
mod pipe;
mod reactor;
mod state;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

pub use self::endpoint::{SimEndpoint, SimRead};
use self::net::{Net, Owner};
pub use self::reactor::{SimReactor, SimWatch};

/// What goes wrong, and how often. `Default` is a network without faults or delays. Probabilities
/// lie between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SimFaults {
    /// A reactor's read gives less than has arrived.
    pub partial_read: f64,
    /// A reactor's write takes less than there is room for.
    pub partial_write: f64,
    /// What is sent, a call, an answer and the end of a connection included, takes up to this long.
    /// Each direction of a connection stays in order.
    pub delay_max: Duration,
    /// A reactor's read or write finds that the connection was reset, at both ends.
    pub reset: f64,
    /// A call is refused, though somebody listens.
    pub connect_fail: f64,
}

/// A handle to the simulated network. Handles share one network and stay on one thread.
#[derive(Clone)]
pub struct SimNet(Rc<RefCell<Net>>);

impl SimNet {
    /// A network at time 0 whose chance comes from `seed` alone.
    #[must_use]
    pub fn new(seed: u64, faults: SimFaults) -> Self {
        Self(Rc::new(RefCell::new(Net::new(seed, faults))))
    }

    /// The virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.borrow().now
    }

    /// Moves the clock on, doing on the way what falls due.
    pub fn advance(&self, by: Duration) {
        let until = self.now() + by;
        self.advance_to(until);
    }

    /// Moves the clock to `until`, doing on the way what falls due. The clock never goes back.
    pub fn advance_to(&self, until: Duration) {
        self.0.borrow_mut().advance_to(until);
    }

    /// When something happens next in the network by itself; `None` when nothing is under way.
    #[must_use]
    pub fn next_event_time(&self) -> Option<Duration> {
        self.0.borrow().next_event_time()
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: SimFaults) {
        self.0.borrow_mut().faults = faults;
    }

    /// Sets how many bytes one direction holds, of connections made from now on: 64 KiB by default.
    pub fn set_capacity(&self, bytes: usize) {
        self.0.borrow_mut().capacity = bytes;
    }

    /// Shows `observer` each slice that a reactor is asked to send, when it is asked, so that a
    /// test can prove by its address range that it was never copied.
    pub fn set_send_observer(&self, observer: Box<dyn FnMut(&Bytes)>) {
        self.0.borrow_mut().observer = Some(observer);
    }

    /// Cuts the way `from` one host `to` another, or mends it. Meanwhile nothing arrives there: not
    /// bytes, nor ends, calls or answers. What was under way arrives when the way is mended, except
    /// that a call is given up after 60 s.
    pub fn set_cut(&self, from: IpAddr, to: IpAddr, cut: bool) {
        let mut net = self.0.borrow_mut();
        let way = (from.to_canonical(), to.to_canonical());
        if cut {
            net.cut.insert(way);
        } else if net.cut.remove(&way) {
            net.touch_all();
        }
    }

    /// A reactor of the host 10.0.0.1.
    #[must_use]
    pub fn reactor(&self) -> SimReactor {
        self.reactor_at(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)))
    }

    /// A reactor of the host with this address; one host may have several, each for a worker.
    #[must_use]
    pub fn reactor_at(&self, host: IpAddr) -> SimReactor {
        SimReactor::new(Rc::clone(&self.0), host)
    }

    /// A client of the host 10.0.2.1 that connects. It may write at once; when the call is
    /// refused, it finds itself reset.
    #[must_use]
    pub fn connect(&self, to: SocketAddr) -> SimEndpoint {
        self.connect_from(IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1)), to)
    }

    /// The same from another host.
    #[must_use]
    pub fn connect_from(&self, host: IpAddr, to: SocketAddr) -> SimEndpoint {
        let mut net = self.0.borrow_mut();
        let from = SocketAddr::new(host.to_canonical(), net.fresh_port());
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let link = net.dial(from, to, Owner::Endpoint);
        drop(net);
        SimEndpoint::new(Rc::clone(&self.0), link, from)
    }

    /// The number of connections in the network, those being opened included. Zero when all sides
    /// of all connections were closed.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.borrow().links.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
