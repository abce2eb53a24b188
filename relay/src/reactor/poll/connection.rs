//! One connection of the mio backend: its two readiness flags and its outstanding operations.
//!
//! It reads, writes and remembers; whoever calls it keeps the queue. It never calls the worker.

use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use crate::reactor::socket::connected;
use crate::reactor::{Batch, ReactorCounters, SLICES_MAX};

/// A connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// The token of the `Connect`, until the connection is there.
    pub(super) connecting: Option<u64>,
    /// The kernel may have bytes for us: set by an event, cleared by a read that would block.
    readable: bool,
    /// The kernel may have room for us: set by an event, cleared by a write that would block.
    writable: bool,
    /// A `Receive` is outstanding.
    receiving: bool,
    /// An item for it is in the queue.
    receive_queued: bool,
    /// The outstanding `Send`, which the kernel had no room for. Nearly no connection has one, so
    /// it lies elsewhere, and thousands of connections take up less of the caches.
    sending: Option<Box<Outgoing>>,
    /// An item for it is in the queue.
    write_queued: bool,
    /// A `Shutdown` was asked for. It is done as soon as nothing is being sent.
    ended: bool,
}

/// A batch on its way.
struct Outgoing {
    batch: Batch,
    bytes: usize,
    /// How many of its bytes the kernel has; less than `bytes`, unless both are 0.
    sent: usize,
}

/// What an event makes possible; each flag asks for one item in the queue.
pub(super) struct Ready {
    pub(super) connect: bool,
    pub(super) receive: bool,
    pub(super) write: bool,
}

/// How an attempt to read went.
pub(super) enum ReadOutcome {
    /// Nothing to do, or nothing there: the `Receive`, if any, is still outstanding.
    Blocked,
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// The peer ended, or the connection failed.
    Ended(Option<io::Error>),
}

/// How an attempt to write went.
pub(super) enum WriteOutcome {
    /// Nothing to do, or no room: the `Send`, if any, is still outstanding.
    Blocked,
    /// The batch of this length is with the kernel.
    Sent(usize),
    /// The connection failed, or the worker broke the contract.
    Failed(io::Error),
}

impl Connection {
    /// A new connection; `connecting` has the token while it is being opened. Its first event tells
    /// whether it is readable; room to write it has.
    pub(super) fn new(stream: TcpStream, connecting: Option<u64>) -> Self {
        Self {
            stream,
            connecting,
            readable: false,
            writable: connecting.is_none(),
            receiving: false,
            receive_queued: false,
            sending: None,
            write_queued: false,
            ended: false,
        }
    }

    /// Takes down an event.
    pub(super) fn note(&mut self, event: &Event) -> Ready {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        if self.connecting.is_some() {
            return Ready { connect: self.writable, receive: false, write: false };
        }
        let write = self.writable && self.sending.is_some() && !self.write_queued;
        self.write_queued |= write;
        Ready { connect: false, receive: self.queue_receive(), write }
    }

    /// Whether the connection being opened is there: `None` means not yet.
    pub(super) fn connected(
        &mut self,
        counters: &mut ReactorCounters,
    ) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
        counters.syscalls += 3;
        let there = connected(&self.stream)?;
        self.writable &= there.is_some();
        Ok(there)
    }

    /// A `Receive`: true when it asks for an item in the queue.
    pub(super) fn want_receive(&mut self) -> bool {
        self.receiving = true;
        self.queue_receive()
    }

    fn queue_receive(&mut self) -> bool {
        let queue = self.readable && self.receiving && !self.receive_queued;
        self.receive_queued |= queue;
        queue
    }

    /// Reads once, for the item in the queue.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        counters: &mut ReactorCounters,
    ) -> ReadOutcome {
        self.receive_queued = false;
        loop {
            counters.syscalls += 1;
            let outcome = match self.stream.read(buffer) {
                Ok(0) => ReadOutcome::Ended(None),
                Ok(count) => ReadOutcome::Bytes(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return ReadOutcome::Blocked;
                }
                Err(error) => ReadOutcome::Ended(Some(error)),
            };
            self.receiving = false;
            return outcome;
        }
    }

    /// A `Send`: tried at once. The kernel is known to have no room only while another is
    /// outstanding.
    pub(super) fn send(&mut self, batch: Batch, counters: &mut ReactorCounters) -> WriteOutcome {
        if self.sending.is_some() {
            return WriteOutcome::Failed(ErrorKind::InvalidInput.into());
        }
        if self.ended {
            return WriteOutcome::Failed(ErrorKind::BrokenPipe.into());
        }
        let bytes = batch.bytes();
        if bytes == 0 {
            return WriteOutcome::Sent(0);
        }
        let mut outgoing = Outgoing { batch, bytes, sent: 0 };
        match outgoing.write(&self.stream, counters) {
            Ok(()) => WriteOutcome::Sent(bytes),
            Err(Errno::AGAIN) => {
                self.writable = false;
                self.sending = Some(Box::new(outgoing));
                WriteOutcome::Blocked
            }
            Err(error) => WriteOutcome::Failed(error.into()),
        }
    }

    /// Loads what a send looks at, and uses none of it.
    pub(super) fn warm(&self) {
        black_box((self.ended, self.sending.is_some()));
    }

    /// Writes what is left of the batch, as far as the kernel has room.
    pub(super) fn write(&mut self, counters: &mut ReactorCounters) -> WriteOutcome {
        self.write_queued = false;
        let Some(sending) = &mut self.sending else { return WriteOutcome::Blocked };
        let outcome = match sending.write(&self.stream, counters) {
            Ok(()) => WriteOutcome::Sent(sending.bytes),
            Err(Errno::AGAIN) => {
                self.writable = false;
                return WriteOutcome::Blocked;
            }
            Err(error) => WriteOutcome::Failed(error.into()),
        };
        self.sending = None;
        if self.ended {
            self.end(counters);
        }
        outcome
    }

    /// A `Shutdown`.
    pub(super) fn shutdown(&mut self, counters: &mut ReactorCounters) {
        if !self.ended {
            self.ended = true;
            if self.sending.is_none() {
                self.end(counters);
            }
        }
    }

    fn end(&self, counters: &mut ReactorCounters) {
        counters.syscalls += 1;
        // It fails only when the peer has reset the connection, which the next receive tells.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl Outgoing {
    /// Writes until all is gone or the kernel refuses ([`Errno::AGAIN`]: it has no room). After a
    /// short write it tries again, because only a refusal is sure to be followed by an event.
    fn write(
        &mut self,
        stream: &TcpStream,
        counters: &mut ReactorCounters,
    ) -> rustix::io::Result<()> {
        // By the kernel's own calls: those of the C library first see to it that the thread may be
        // cancelled in them, which none of ours ever is.
        const FLAGS: SendFlags = SendFlags::NOSIGNAL;
        while self.sent < self.bytes {
            counters.syscalls += 1;
            counters.sends += 1;
            let (tried, result) = match self.batch.slices() {
                [bytes] => {
                    let rest = &bytes[self.sent..];
                    (rest.len(), send(stream, rest, FLAGS))
                }
                slices => {
                    let mut room = [IoSlice::new(&[]); SLICES_MAX];
                    let mut count = 0;
                    let mut tried = 0;
                    let mut skip = self.sent;
                    for slice in slices {
                        if skip >= slice.len() {
                            skip -= slice.len();
                            continue;
                        }
                        let Some(place) = room.get_mut(count) else { break };
                        *place = IoSlice::new(&slice[skip..]);
                        count += 1;
                        tried += slice.len() - skip;
                        skip = 0;
                    }
                    let mut nothing = SendAncillaryBuffer::default();
                    (tried, sendmsg(stream, &room[..count], &mut nothing, FLAGS))
                }
            };
            match result {
                // It takes something or refuses.
                Ok(0) => return Err(Errno::PIPE),
                Ok(count) => {
                    self.sent += count;
                    counters.short_sends += u64::from(count < tried);
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    counters.short_sends += u64::from(error == Errno::AGAIN);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
