//! One connection of the io_uring backend: what the worker asked for and what the kernel has of it.
//!
//! It only remembers. A connection that is to leave stays in its slot until the kernel has let go
//! of its last operation, so that nothing of it can be mistaken for its successor's.

use std::net::TcpStream;

use super::{File, OperationKey};
use crate::reactor::Batch;

/// A connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) file: File,
    /// The token of the `Connect`, until the connection is there.
    pub(super) connecting: Option<u64>,
    /// Operations that the kernel has not finished with the socket.
    pub(super) in_flight: u32,
    /// A `Receive` is outstanding.
    pub(super) receiving: bool,
    /// Its operation.
    pub(super) receive: Option<OperationKey>,
    /// Bytes are likely to be there: the next receive tries before it waits.
    pub(super) at_hand: bool,
    /// The outstanding `Send`.
    pub(super) sending: Option<Outgoing>,
    /// Its operation: writing, or waiting for room.
    pub(super) send: Option<OperationKey>,
    /// A `Shutdown` was asked for. It is done as soon as nothing is being sent.
    pub(super) ended: bool,
    /// Large sends are not copied.
    pub(super) zero_copy: bool,
    /// Sends whose bytes the kernel still reads, having sent them without copying.
    pub(super) notifications: u32,
    /// It is on its way out: no operation is taken any more.
    pub(super) leaving: Option<Leaving>,
}

/// A batch on its way.
pub(super) struct Outgoing {
    pub(super) bytes: usize,
    /// How many of its bytes the kernel has; less than `bytes`.
    pub(super) sent: usize,
    /// The batch, while the kernel does not have it.
    pub(super) batch: Option<Batch>,
}

/// Why a connection leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    Close,
    Release,
}

impl Connection {
    /// A connection without operations.
    pub(super) fn new(stream: TcpStream, file: File, connecting: Option<u64>) -> Self {
        Self {
            stream,
            file,
            connecting,
            in_flight: 0,
            receiving: false,
            receive: None,
            at_hand: true,
            sending: None,
            send: None,
            ended: false,
            zero_copy: false,
            notifications: 0,
            leaving: None,
        }
    }
}
