//! Operations under way and their completions, as values.
//!
//! A flight owns whatever the kernel may read or write for it; nothing here does anything.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::pool::Buffer;
use super::{Count, Message};
use crate::reactor::{Batch, ConnectionKey, ListenerKey};

/// Names an operation under way: a slab key with a generation, like a connection's.
pub(super) type OperationKey = ConnectionKey;

/// What an operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The eventfd that wakes us was written to.
    Wake,
    /// A connection at a listener.
    Accept(ListenerKey),
    /// Somebody who knocks at a listener.
    Knock(ListenerKey),
    /// Bytes from a connection.
    Receive(ConnectionKey),
    /// Room to write to a connection, or the end of its opening.
    Writable(ConnectionKey),
    /// A batch to a connection.
    Send(ConnectionKey),
}

/// Where the kernel finds a socket: in a slot of the ring's file table, or by its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) number: i32,
    pub(super) registered: bool,
}

/// One completion.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) what: What,
    /// What the operation returned.
    pub(super) result: Result<usize, Errno>,
    /// Whether the kernel is done with it; else more completions follow.
    pub(super) last: bool,
    /// The second completion of a send without copying: nothing is read from the batch any more.
    pub(super) notification: bool,
    /// In a notification: the kernel made a copy after all, of something.
    pub(super) copied: bool,
    /// More bytes, or connections, are known to be there.
    pub(super) more_at_hand: bool,
    /// Where received bytes are. It must be given back.
    pub(super) buffer: Option<Buffer>,
    /// The connection that was accepted.
    pub(super) accepted: Option<OwnedFd>,
    /// The memory of a send, given back with its last completion.
    pub(super) batch: Option<Batch>,
    /// How many bytes a send was to take.
    pub(super) tried: usize,
}

/// An operation under way, with what the kernel may read or write for it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) what: What,
    pub(super) memory: Memory,
    pub(super) tried: usize,
    /// A send took some of that.
    pub(super) took: bool,
}

#[derive(Debug)]
pub(super) enum Memory {
    None,
    /// One slice, named by the entry itself.
    Batch(Batch),
    /// Several slices and their list.
    Slices {
        batch: Batch,
        _list: Message,
    },
    /// Where a read of the eventfd puts its count.
    Count {
        _count: Count,
    },
}
