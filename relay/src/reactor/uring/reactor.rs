//! The reactor over a ring: operations become entries, completions become items of a queue, and
//! `drain` hands those over.
//!
//! ```text
//!   submit: Operation -> Ring::push ... Ring::submit -> Done -> Item --+
//!           closing and releasing come after that, since they cancel   |
//!   wait:                               Ring::wait   -> Done -> Item --+--> drain -> Completion
//! ```
//!
//! A connection that leaves is first cancelled, then waited for, and only then taken out of the
//! file table and closed. It never blocks outside `wait`, and no socket is in non-blocking mode:
//! with that the kernel would refuse where it is to wait for us.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use socket2::SockRef;

use super::connection::{Connection, Leaving};
use super::listener::Listener;
use super::pool::Buffer;
use super::start::{Unavailable, UringOptions, ring};
use super::{Done, Ring, What};
use crate::reactor::slots::{Slots, slot_of};
use crate::reactor::socket::{SocketOptions, addresses, connected, dial};
use crate::reactor::{
    Completion, ConnectionKey, ListenerKey, LooseSocket, Operation, Reactor, ReactorCounters, Waker,
};

/// The reactor over io_uring. It stays on the thread that made it.
pub struct UringReactor {
    pub(super) ring: Ring,
    eventfd: Arc<OwnedFd>,
    options: SocketOptions,
    pub(super) settings: UringOptions,
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) connections: Slots<Connection>,
    pub(super) queue: VecDeque<Item>,
    /// Ends of receiving, done after the queue: whoever hears of one often closes, and is to know
    /// of what was sent before.
    ended: VecDeque<Item>,
    /// Connections that leave and had operations under way when that was asked.
    leaving: Vec<ConnectionKey>,
    /// Connections whose bytes found no buffer.
    starved: Vec<ConnectionKey>,
    /// Connections that have room again for the rest of a batch, in order.
    pub(super) roomy: VecDeque<ConnectionKey>,
    /// Connections that are closed but for so many sends whose bytes the kernel still reads.
    pub(super) unacknowledged: HashMap<ConnectionKey, u32>,
    pub(super) counters: ReactorCounters,
}

/// What `drain` has to do, in order. An item that names a connection that left is void.
pub(super) enum Item {
    Accept(ListenerKey),
    Connected(ConnectionKey, u64, SocketAddr, SocketAddr),
    ConnectFailed(u64, io::Error),
    Received(ConnectionKey, Buffer),
    ReceiveEnded(ConnectionKey, Option<io::Error>),
    Sent(ConnectionKey, usize),
    SendFailed(ConnectionKey, io::Error),
    Closed(ConnectionKey),
    Released(ConnectionKey, LooseSocket),
    Adopted(u64, ConnectionKey, SocketAddr, SocketAddr),
    AdoptFailed(u64, io::Error),
}

pub(super) type Each<'a> = dyn FnMut(Completion<'_>) + 'a;

impl UringReactor {
    /// A reactor whose dialled connections get `options`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the kernel, or what stands before it, gives no io_uring that will do.
    pub fn new(settings: &UringOptions, options: SocketOptions) -> Result<Self, Unavailable> {
        let mut ring = ring(settings)?;
        // Blocking, so that a read of it waits in the kernel; nothing else reads it.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| super::start::refused("eventfd", &errno.into()))?;
        ring.read_eventfd(What::Wake, eventfd.as_fd());
        ring.submit();
        Ok(Self {
            ring,
            eventfd: Arc::new(eventfd),
            options,
            settings: *settings,
            listeners: Vec::new(),
            connections: Slots::new(),
            queue: VecDeque::new(),
            ended: VecDeque::new(),
            leaving: Vec::new(),
            starved: Vec::new(),
            roomy: VecDeque::new(),
            unacknowledged: HashMap::new(),
            counters: ReactorCounters::default(),
        })
    }

    /// Takes over a listener (see [`crate::reactor::socket::listen`]), not accepting yet.
    ///
    /// # Errors
    ///
    /// When the listener cannot be made blocking.
    pub fn add_listener(&mut self, listener: TcpListener) -> io::Result<ListenerKey> {
        listener.set_nonblocking(false)?;
        let key = ListenerKey(
            u32::try_from(self.listeners.len()).expect("fewer listeners than file descriptors"),
        );
        let queued_max = usize::from(self.options.backlog) + 1;
        self.listeners.push(Some(Listener::new(listener, queued_max)));
        Ok(key)
    }

    /// The number of connections, those being opened and those leaving included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len() + self.unacknowledged.len()
    }

    pub(super) fn start(&mut self, operation: Operation) {
        match operation {
            Operation::Accept { listener, on } => self.set_accepting(listener, on),
            Operation::CloseListener { listener } => self.close_listener(listener),
            Operation::Connect { token, address } => {
                if let Err(error) = self.connect(token, address) {
                    self.queue.push_back(Item::ConnectFailed(token, error));
                }
            }
            Operation::Receive { connection } => {
                if let Some(entry) = self.connections.get_mut(connection)
                    && entry.leaving.is_none()
                    && !std::mem::replace(&mut entry.receiving, true)
                {
                    self.receive(connection);
                }
            }
            Operation::Send { connection, batch } => self.start_send(connection, batch),
            Operation::Shutdown { connection } => self.start_shutdown(connection),
            Operation::Close { connection } => self.leave(connection, Leaving::Close),
            Operation::Release { connection } => self.leave(connection, Leaving::Release),
            Operation::Adopt { token, socket } => {
                let item = match self.adopt(socket) {
                    Ok((connection, peer, local)) => Item::Adopted(token, connection, peer, local),
                    Err(error) => Item::AdoptFailed(token, error),
                };
                self.queue.push_back(item);
            }
        }
    }

    /// Stores a connection, in blocking mode, and puts it into the file table.
    pub(super) fn add_connection(
        &mut self,
        stream: TcpStream,
        connecting: Option<u64>,
        peer: SocketAddr,
    ) -> ConnectionKey {
        let (ring, loopback) = (&mut self.ring, peer.ip().is_loopback());
        let key = self.connections.insert(|key| {
            let file = ring.register(slot_of(key), stream.as_fd());
            Connection::new(stream, file, connecting)
        });
        if let Some(entry) = self.connections.get_mut(key) {
            let allowed = !loopback || self.settings.zero_copy_to_loopback;
            entry.zero_copy = self.settings.zero_copy_bytes_min.is_some() && allowed;
        }
        key
    }

    fn adopt(
        &mut self,
        socket: LooseSocket,
    ) -> io::Result<(ConnectionKey, SocketAddr, SocketAddr)> {
        let stream = socket.into_stream()?;
        self.counters.syscalls += 3;
        stream.set_nonblocking(false)?;
        let (peer, local) = addresses(&stream)?;
        Ok((self.add_connection(stream, None, peer), peer, local))
    }

    fn connect(&mut self, token: u64, address: SocketAddr) -> io::Result<()> {
        let stream = dial(address, &self.options)?;
        let key = self.add_connection(stream, Some(token), address);
        self.await_connection(key);
        Ok(())
    }

    fn await_connection(&mut self, key: ConnectionKey) {
        if let Some(entry) = self.connections.get_mut(key) {
            entry.send = Some(self.ring.poll_writable(What::Writable(key), entry.file));
            entry.in_flight += 1;
        }
    }

    /// A connection being opened is there, or failed, or neither yet.
    fn opened(&mut self, key: ConnectionKey, token: u64) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        self.counters.syscalls += 4;
        let there = connected(&entry.stream).and_then(|there| {
            if there.is_some() {
                entry.stream.set_nonblocking(false)?;
            }
            Ok(there)
        });
        match there {
            Ok(Some((peer, local))) => {
                entry.connecting = None;
                self.queue.push_back(Item::Connected(key, token, peer, local));
            }
            Ok(None) => self.await_connection(key),
            Err(error) => {
                self.remove(key);
                self.queue.push_back(Item::ConnectFailed(token, error));
            }
        }
    }

    fn receive(&mut self, key: ConnectionKey) {
        if let Some(entry) = self.connections.get_mut(key) {
            let operation = self.ring.receive(What::Receive(key), entry.file, entry.at_hand);
            entry.receive = Some(operation);
            entry.in_flight += 1;
        }
    }

    /// A `Close` or `Release`. What was asked before it in the same turn is still submitted.
    fn leave(&mut self, key: ConnectionKey, why: Leaving) {
        if let Some(entry) = self.connections.get_mut(key)
            && entry.leaving.is_none()
        {
            entry.leaving = Some(why);
            if entry.in_flight == 0 {
                self.leave_if_done(key);
            } else {
                self.leaving.push(key);
            }
        }
    }

    /// Makes the kernel let go of those that leave.
    fn cancel_leaving(&mut self) {
        for key in std::mem::take(&mut self.leaving) {
            let Some(entry) = self.connections.get_mut(key) else { continue };
            if entry.leaving == Some(Leaving::Close) {
                self.counters.syscalls += 1;
                // It fails only when the peer has reset the connection.
                let _ = entry.stream.shutdown(Shutdown::Both);
            }
            for operation in [entry.receive, entry.send].into_iter().flatten() {
                self.ring.cancel(operation);
            }
        }
    }

    /// Ends a connection that leaves, once the kernel has nothing of its socket any more. What it
    /// still reads, having sent it without copying, delays `Closed`; where the peer would not have
    /// got all of it anyway, the connection is reset, and the kernel forgets it at once.
    pub(super) fn leave_if_done(&mut self, key: ConnectionKey) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        let Some(why) = entry.leaving.filter(|_| entry.in_flight == 0) else { return };
        let (unfinished, notifications) = (entry.sending.is_some(), entry.notifications);
        let Some(stream) = self.remove(key) else { return };
        match why {
            Leaving::Release => {
                self.queue.push_back(Item::Released(key, LooseSocket::from(stream)));
            }
            Leaving::Close if notifications == 0 => self.queue.push_back(Item::Closed(key)),
            Leaving::Close => {
                if unfinished {
                    reset(&stream);
                }
                self.unacknowledged.insert(key, notifications);
            }
        }
    }

    fn remove(&mut self, key: ConnectionKey) -> Option<TcpStream> {
        let entry = self.connections.remove(key)?;
        self.ring.unregister(entry.file);
        self.counters.syscalls += 1;
        Some(entry.stream)
    }

    /// Turns what the ring reports into items, and goes on with what is not finished.
    fn collect(&mut self) {
        while let Some(done) = self.ring.next() {
            match done.what {
                What::Wake => {
                    self.ring.read_eventfd(What::Wake, self.eventfd.as_fd());
                }
                What::Accept(listener) => self.accept_done(listener, done),
                What::Knock(listener) => self.knocked(listener),
                What::Receive(connection) => self.receive_done(connection, done),
                What::Send(connection) => self.send_done(connection, done),
                What::Writable(connection) => {
                    let Some(entry) = self.connections.get_mut(connection) else { continue };
                    entry.in_flight -= 1;
                    entry.send = None;
                    match (entry.leaving, entry.connecting) {
                        (Some(_), _) => self.leave_if_done(connection),
                        (None, Some(token)) => self.opened(connection, token),
                        (None, None) => self.roomy.push_back(connection),
                    }
                }
            }
        }
    }

    fn receive_done(&mut self, key: ConnectionKey, done: Done) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        entry.in_flight -= 1;
        entry.receive = None;
        entry.at_hand = done.more_at_hand;
        let buffer = match (done.result, done.buffer) {
            (Ok(1..), Some(buffer)) if entry.leaving.is_none() => {
                return self.queue.push_back(Item::Received(key, buffer));
            }
            (_, buffer) => buffer,
        };
        if let Some(buffer) = buffer {
            self.ring.give_back(buffer);
        }
        if entry.leaving.is_some() {
            return self.leave_if_done(key);
        }
        match done.result {
            Ok(_) => self.ended.push_back(Item::ReceiveEnded(key, None)),
            Err(Errno::NOBUFS) => {
                entry.at_hand = true;
                self.starved.push(key);
            }
            Err(Errno::INTR | Errno::AGAIN) => self.receive(key),
            Err(errno) => self.ended.push_back(Item::ReceiveEnded(key, Some(errno.into()))),
        }
    }

    /// The connection, if it is there and does not leave.
    fn open(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections.get_mut(key).filter(|entry| entry.leaving.is_none())
    }

    /// Does one item of the queue.
    fn finish(&mut self, item: Item, each: &mut Each<'_>) {
        match item {
            Item::Accept(listener) => self.finish_accept(listener, each),
            Item::Connected(connection, token, peer, local) => {
                each(Completion::Connected { token, connection, peer, local });
            }
            Item::ConnectFailed(token, error) => each(Completion::ConnectFailed { token, error }),
            Item::Received(connection, buffer) => {
                if let Some(entry) = self.open(connection) {
                    entry.receiving = false;
                    let bytes = self.ring.bytes(&buffer);
                    each(Completion::Received { connection, bytes });
                }
                self.ring.give_back(buffer);
            }
            Item::ReceiveEnded(connection, error) => {
                if let Some(entry) = self.open(connection) {
                    entry.receiving = false;
                    each(Completion::ReceiveEnded { connection, error });
                }
            }
            Item::Sent(connection, bytes) => {
                if self.open(connection).is_some() {
                    each(Completion::Sent { connection, bytes });
                }
            }
            Item::SendFailed(connection, error) => {
                if self.open(connection).is_some() {
                    each(Completion::SendFailed { connection, error });
                }
            }
            Item::Closed(connection) => each(Completion::Closed { connection }),
            Item::Released(connection, socket) => each(Completion::Released { connection, socket }),
            Item::Adopted(token, connection, peer, local) => {
                each(Completion::Adopted { token, connection, peer, local });
            }
            Item::AdoptFailed(token, error) => each(Completion::AdoptFailed { token, error }),
        }
    }
}

impl Reactor for UringReactor {
    fn submit(&mut self, operations: &mut Vec<Operation>) {
        for operation in operations.drain(..) {
            self.start(operation);
        }
        self.ring.submit();
        self.collect();
        if !self.leaving.is_empty() {
            self.cancel_leaving();
            self.ring.submit();
            self.collect();
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        for _ in 0..self.roomy.len().min(RESTS_PER_WAIT) {
            if let Some(connection) = self.roomy.pop_front()
                && self.open(connection).is_some()
            {
                self.writable(connection);
            }
        }
        // What was begun since `submit`: rests of batches, receives that had found no buffer.
        self.ring.submit();
        self.collect();
        if self.ring.is_waiting() {
            // What that began: it is to be heard of in this turn.
            self.ring.submit();
            self.collect();
        }
        let is_idle = self.queue.is_empty() && self.ended.is_empty() && self.roomy.is_empty();
        let at_hand = !is_idle || self.ring.is_waiting();
        self.ring.wait(if at_hand { Some(Duration::ZERO) } else { timeout });
        self.collect();
    }

    fn drain(&mut self, each: &mut dyn FnMut(Completion<'_>)) {
        for item in std::mem::take(&mut self.ended) {
            self.queue.push_back(item);
        }
        for _ in 0..self.queue.len() {
            if let Some(item) = self.queue.pop_front() {
                self.finish(item, each);
            }
        }
        for key in std::mem::take(&mut self.starved) {
            if self.open(key).is_some() {
                self.receive(key);
            }
        }
    }

    fn waker(&self) -> Waker {
        let eventfd = Arc::clone(&self.eventfd);
        // It fails only when the count is full, and then the reactor is woken anyway.
        Waker::new(move || {
            let _ = rustix::io::write(&eventfd, &1_u64.to_ne_bytes());
        })
    }

    fn counters(&self) -> ReactorCounters {
        let mut counters = self.counters;
        counters.syscalls += self.ring.syscalls();
        counters
    }

    fn backend(&self) -> &'static str {
        "io_uring"
    }
}

impl Drop for UringReactor {
    /// Resets what the kernel would otherwise go on reading from: bytes sent without copying that
    /// the peer has not acknowledged. The ring waits for the rest.
    fn drop(&mut self) {
        for key in self.connections.keys() {
            let Some(entry) = self.connections.get_mut(key) else { continue };
            if entry.notifications > 0 {
                reset(&entry.stream);
            }
            self.remove(key);
        }
    }
}

/// Rests of batches that are sent in one turn, a quarter of what a worker asks for in a turn:
/// thousands of sockets may have room again at once, and those that never lacked any go first.
const RESTS_PER_WAIT: usize = 64;

/// Makes the end of a connection a reset.
fn reset(stream: &TcpStream) {
    // It fails for no open socket.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
