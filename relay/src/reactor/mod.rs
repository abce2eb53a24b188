//! The reactor: operations in, completions out. It knows bytes and connections, not RTMP.
//!
//! A worker hands over [`Operation`]s and gets [`Completion`]s back; it never sees a socket, a
//! readiness flag or a file descriptor. Buffers to be sent are owned ([`Batch`]); bytes received
//! are lent for the duration of one call. The shape is that of io_uring, because readiness can be
//! turned into completions cheaply, and not the other way round.
//!
//! ```text
//!   worker --Operation--> submit() ----> kernel            never waits
//!                         wait(timeout) <--- kernel        the only place where the thread sleeps
//!   worker <-Completion-- drain(each)                 bytes received are lent, gone after the call
//! ```
//!
//! Contract, checked by one suite for every backend:
//! - One receive and one send at most are outstanding per connection. A `Receive` is single-shot:
//!   it gives exactly one `Received` or `ReceiveEnded`; while one is outstanding, another changes
//!   nothing. Not receiving again *is* how a worker pauses a peer.
//! - A `Send` gives exactly one `Sent` once the whole batch was handed to the kernel, or one
//!   `SendFailed`, and the batch is released by then; where a backend was told to send without
//!   copying, the peer has to acknowledge it first. Backends retry short writes themselves; the
//!   worker holds the deadline. A second `Send` while one is outstanding fails with `InvalidInput`,
//!   one after `Shutdown` with `BrokenPipe`.
//! - `Shutdown` takes effect after the outstanding send, if any.
//! - `ReceiveEnded` and `SendFailed` leave the connection in place: only `Close` ends it. A failure
//!   is told by the operation that meets it, so a worker that neither receives nor sends learns
//!   nothing.
//! - After `Close` every outstanding operation of the connection is abandoned without a completion
//!   of its own, its buffers are released, and then exactly one `Closed` comes. The key is never
//!   valid again (generation).
//! - `Release` ends a connection here like `Close`, but leaves it open: its outstanding operations
//!   are abandoned, then exactly one `Released` brings its socket, which another reactor of the
//!   same kind of network may adopt. Bytes on their way meanwhile are kept by the kernel, but those
//!   of a receive that had completed are lost, and so is the rest of a batch: release before the
//!   first receive, or between two, and when nothing is being sent. An `Adopt` gives exactly one
//!   `Adopted` or `AdoptFailed`.
//! - Accepting starts turned off; meanwhile the kernel queues the listener's share of connections,
//!   and does not give it to the other workers. `AcceptFailed` turns it off again. `CloseListener`
//!   gives exactly one `ListenerClosed`, after an `Accepted` for each connection the kernel had
//!   queued (less those after an `AcceptFailed`, which it resets).
//! - A `Connect` gives exactly one `Connected` or `ConnectFailed`, at the latest when the kernel
//!   gives up ([`SocketOptions::user_timeout`]). A worker that no longer wants it closes it when it
//!   comes.
//! - An operation that names a connection or listener no longer there is ignored.
//! - Nothing is unbounded: a `drain` handles what was at hand when it began, at most one receive
//!   and one send per connection, and a bounded number of accepts per listener.

mod loose;
pub mod poll;
pub mod sim;
mod slots;
pub mod socket;
pub mod uring;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod contract;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::loose::LooseSocket;
pub use self::poll::PollReactor;
pub use self::socket::SocketOptions;
pub use self::uring::UringReactor;

/// A connection of one reactor: slot and generation, so that a late operation cannot hit a
/// successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u64);

impl ConnectionKey {
    /// A small number that no other open connection of the reactor has, for tables. A later
    /// connection may have it again.
    #[must_use]
    pub fn slot(self) -> usize {
        slots::slot_of(self)
    }
}

/// A listening socket of one reactor, numbered in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey(pub u32);

/// What one send carries, in order. `Many` is meant for at most [`SLICES_MAX`] slices.
#[derive(Debug)]
pub enum Batch {
    /// The usual case: one contiguous range of one segment.
    One(Bytes),
    /// The rest of a long message and what follows it: so common that it must not allocate.
    Two([Bytes; 2]),
    /// A reader that is behind: several ranges in one system call.
    Many(Vec<Bytes>),
}

/// Most slices of one [`Batch::Many`] that leave in one system call; more are sent in several.
pub const SLICES_MAX: usize = 16;

impl Batch {
    /// The slices, in the order in which they are sent.
    #[must_use]
    pub fn slices(&self) -> &[Bytes] {
        match self {
            Self::One(bytes) => std::slice::from_ref(bytes),
            Self::Two(both) => both,
            Self::Many(slices) => slices,
        }
    }

    /// The length in bytes of all slices together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slices().iter().map(Bytes::len).sum()
    }
}

/// What a worker asks for.
#[derive(Debug)]
pub enum Operation {
    /// Starts (or, with `on: false`, stops) taking connections from a listener.
    Accept {
        /// The listener.
        listener: ListenerKey,
        /// Whether connections are taken from now on.
        on: bool,
    },
    /// Stops accepting for good: takes what the kernel had queued, whether or not accepting was
    /// turned on, then closes the listener.
    CloseListener {
        /// The listener.
        listener: ListenerKey,
    },
    /// Opens a connection; answered by `Connected` or `ConnectFailed` with the same token.
    Connect {
        /// Chosen by the worker, to know the answer by.
        token: u64,
        /// Where to.
        address: SocketAddr,
    },
    /// Receives once.
    Receive {
        /// The connection.
        connection: ConnectionKey,
    },
    /// Sends a batch. The connection must have no send outstanding.
    Send {
        /// The connection.
        connection: ConnectionKey,
        /// The bytes; owned until `Sent`, `SendFailed` or `Closed`.
        batch: Batch,
    },
    /// Ends our direction (FIN) after what was sent; the other direction goes on.
    Shutdown {
        /// The connection.
        connection: ConnectionKey,
    },
    /// Closes: see the contract above.
    Close {
        /// The connection.
        connection: ConnectionKey,
    },
    /// Takes the connection out of this reactor without closing it: see the contract above.
    Release {
        /// The connection.
        connection: ConnectionKey,
    },
    /// Takes over a connection that another reactor released.
    Adopt {
        /// Chosen by the worker, to know the answer by.
        token: u64,
        /// The connection.
        socket: LooseSocket,
    },
}

/// What a reactor reports. Addresses are canonical: IPv4 is never written as IPv4-mapped IPv6.
#[derive(Debug)]
pub enum Completion<'a> {
    /// A connection was accepted.
    Accepted {
        /// The listener it came by.
        listener: ListenerKey,
        /// Its key.
        connection: ConnectionKey,
        /// The other end's address.
        peer: SocketAddr,
        /// Our end's address.
        local: SocketAddr,
    },
    /// Accepting failed and was turned off (for example: no file descriptor left). The worker says
    /// so and turns it on again later.
    AcceptFailed {
        /// The listener.
        listener: ListenerKey,
        /// Why.
        error: std::io::Error,
    },
    /// The listener is closed, as asked, and every connection it had queued was reported before.
    ListenerClosed {
        /// The listener.
        listener: ListenerKey,
    },
    /// The connection asked for is there.
    Connected {
        /// The token of the `Connect`.
        token: u64,
        /// Its key.
        connection: ConnectionKey,
        /// The other end's address.
        peer: SocketAddr,
        /// Our end's address.
        local: SocketAddr,
    },
    /// The connection asked for could not be made.
    ConnectFailed {
        /// The token of the `Connect`.
        token: u64,
        /// Why.
        error: std::io::Error,
    },
    /// Bytes arrived (never empty). They are lent for this call only.
    Received {
        /// The connection.
        connection: ConnectionKey,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The peer ended its direction (`None`) or the connection failed.
    ReceiveEnded {
        /// The connection.
        connection: ConnectionKey,
        /// The failure, unless the peer ended in order.
        error: Option<std::io::Error>,
    },
    /// The whole batch was handed to the kernel.
    Sent {
        /// The connection.
        connection: ConnectionKey,
        /// The length of the batch.
        bytes: usize,
    },
    /// The connection cannot be sent to any more.
    SendFailed {
        /// The connection.
        connection: ConnectionKey,
        /// Why.
        error: std::io::Error,
    },
    /// The connection is closed and all of its buffers are released.
    Closed {
        /// The connection.
        connection: ConnectionKey,
    },
    /// The connection is no longer this reactor's, and its key no longer valid. Dropping the socket
    /// closes it.
    Released {
        /// The key that it had.
        connection: ConnectionKey,
        /// The connection.
        socket: LooseSocket,
    },
    /// A connection was adopted.
    Adopted {
        /// The token of the `Adopt`.
        token: u64,
        /// Its key here.
        connection: ConnectionKey,
        /// The other end's address.
        peer: SocketAddr,
        /// Our end's address.
        local: SocketAddr,
    },
    /// A connection could not be adopted (for example: it was reset meanwhile) and is closed.
    AdoptFailed {
        /// The token of the `Adopt`.
        token: u64,
        /// Why.
        error: std::io::Error,
    },
}

/// Wakes a reactor that waits; callable from any thread.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Makes the reactor's current or next `wait` return at once.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Waker")
    }
}

/// What a reactor has done since it was made. Plain numbers, to be copied into a worker's metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorCounters {
    /// System calls made (in the simulation: those a kernel would have seen).
    pub syscalls: u64,
    /// Attempts to write: one per `Send` to a peer that keeps up.
    pub sends: u64,
    /// Attempts of those that could not take all that was left of their batch.
    pub short_sends: u64,
}

/// A backend: mio, io_uring, or the simulation.
pub trait Reactor {
    /// Starts the operations, leaving the vector empty. Never waits.
    fn submit(&mut self, operations: &mut Vec<Operation>);

    /// Waits until something completes, the waker is called, or `timeout` (if any) has passed.
    /// A completion already at hand, or a zero timeout, makes it return at once. It may also return
    /// early for no reason.
    fn wait(&mut self, timeout: Option<Duration>);

    /// Hands over each completion at hand, in order per connection. What becomes possible meanwhile
    /// is left for the next call.
    fn drain(&mut self, each: &mut dyn FnMut(Completion<'_>));

    /// A handle that wakes this reactor from any thread.
    fn waker(&self) -> Waker;

    /// What was done so far.
    fn counters(&self) -> ReactorCounters;

    /// The backend's name for logs and metrics: `io_uring`, `mio` or `sim`.
    fn backend(&self) -> &'static str;
}
