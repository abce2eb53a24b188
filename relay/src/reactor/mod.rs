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
//!   worker <-Completion-- drain(each)                      received bytes are lent, gone after the
//! call
//! ```
//!
//! Contract, checked by one suite for every backend:
//! - One receive and one send at most are outstanding per connection. A `Receive` is single-shot:
//!   it gives exactly one `Received` or `ReceiveEnded`. Not receiving again *is* how a worker
//!   pauses a peer.
//! - A `Send` gives exactly one `Sent` once the whole batch was handed to the kernel, or one
//!   `SendFailed`. Backends retry short writes themselves; the worker holds the deadline.
//! - After `Close` every outstanding operation of the connection is abandoned without a completion
//!   of its own, its buffers are released, and then exactly one `Closed` comes. The key is never
//!   valid again (generation).
//! - An operation that names a connection no longer there is ignored.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// A connection of one reactor: slot and generation, so that a late operation cannot hit a
/// successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u64);

/// A listening socket of one reactor, numbered in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey(pub u32);

/// What one send carries, in order. `Many` holds at most [`SLICES_MAX`] slices.
#[derive(Debug)]
pub enum Batch {
    /// The usual case: one contiguous range of one segment.
    One(Bytes),
    /// A reader that is behind: several ranges in one system call.
    Many(Vec<Bytes>),
}

/// Most slices of one [`Batch::Many`].
pub const SLICES_MAX: usize = 16;

/// What a worker asks for.
#[derive(Debug)]
pub enum Operation {
    /// Starts (or, with `false`, stops) taking connections from a listener.
    Accept { listener: ListenerKey, on: bool },
    /// Stops accepting for good: takes what the kernel had queued, then closes the listener.
    CloseListener { listener: ListenerKey },
    /// Opens a connection; answered by `Connected` or `ConnectFailed` with the same token.
    Connect { token: u64, address: SocketAddr },
    /// Receives once.
    Receive { connection: ConnectionKey },
    /// Sends a batch. The connection must have no send outstanding.
    Send { connection: ConnectionKey, batch: Batch },
    /// Ends our direction (FIN) after what was sent; the other direction goes on.
    Shutdown { connection: ConnectionKey },
    /// Closes: see the contract above.
    Close { connection: ConnectionKey },
}

/// What a reactor reports.
#[derive(Debug)]
pub enum Completion<'a> {
    /// A connection was accepted.
    Accepted { listener: ListenerKey, connection: ConnectionKey, peer: SocketAddr, local: SocketAddr },
    /// Accepting failed and was turned off (for example: no file descriptor left). The worker says
    /// so and turns it on again later.
    AcceptFailed { listener: ListenerKey, error: std::io::Error },
    /// The connection asked for is there.
    Connected { token: u64, connection: ConnectionKey, peer: SocketAddr, local: SocketAddr },
    /// The connection asked for could not be made.
    ConnectFailed { token: u64, error: std::io::Error },
    /// Bytes arrived (never empty). They are lent for this call only.
    Received { connection: ConnectionKey, bytes: &'a [u8] },
    /// The peer ended its direction (`None`) or the connection failed.
    ReceiveEnded { connection: ConnectionKey, error: Option<std::io::Error> },
    /// The whole batch was handed to the kernel.
    Sent { connection: ConnectionKey, bytes: usize },
    /// The connection cannot be sent to any more.
    SendFailed { connection: ConnectionKey, error: std::io::Error },
    /// The connection is closed and all of its buffers are released.
    Closed { connection: ConnectionKey },
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

/// A backend: mio, io_uring, or the simulation.
pub trait Reactor {
    /// Starts the operations, leaving the vector empty. Never waits.
    fn submit(&mut self, operations: &mut Vec<Operation>);

    /// Waits until something completes, the waker is called, or `timeout` (if any) has passed.
    /// A completion already at hand, or a zero timeout, makes it return at once.
    fn wait(&mut self, timeout: Option<Duration>);

    /// Hands over each completion at hand, in order per connection.
    fn drain(&mut self, each: &mut dyn FnMut(Completion<'_>));

    /// A handle that wakes this reactor from any thread.
    fn waker(&self) -> Waker;

    /// The backend's name for logs and metrics: `io_uring`, `mio` or `sim`.
    fn backend(&self) -> &'static str;
}
