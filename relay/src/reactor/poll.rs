//! The backend over mio: readiness turned into completions. The fallback where io_uring may not be
//! used, and within a tenth of it.
//!
//! Readiness is edge-triggered, so whoever is told of it must remember it until the kernel answers
//! "would block". That burden stays in this room: `Connection` keeps two flags, only a refused read
//! or write clears one, and only an event of the kernel sets it. A send is tried when it is
//! submitted; all other work waits in one queue, in order, and is done by `drain`, so that a
//! worker's clock books it as work and not as waiting.
//!
//! ```text
//!   submit: Send ---- written at once --------------------> Sent --+
//!                \--- refused: kept until writable                 |
//!           Receive - if readable ---------> Receive --+           v
//!   wait:   epoll --- flags ---> Receive, Write, Accept, Connect: queue --> drain --> completions
//! ```
//!
//! It never blocks outside `wait` and never keeps a connection's bytes.

mod connection;
mod listener;
mod moving;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use self::connection::{Connection, ReadOutcome, WriteOutcome};
use self::listener::{AcceptOutcome, Listener};
use super::slots::{Slots, slot_of};
use super::socket::{SocketOptions, canonical, dial};
use super::{
    Batch, Completion, ConnectionKey, ListenerKey, LooseSocket, Operation, Reactor,
    ReactorCounters, Waker,
};

/// The reactor over mio (epoll).
pub struct PollReactor {
    poll: Poll,
    events: Events,
    waker: Arc<mio::Waker>,
    options: SocketOptions,
    listeners: Vec<Option<Listener>>,
    connections: Slots<Connection>,
    queue: VecDeque<Item>,
    /// Where every read goes; lent to the worker for one call.
    buffer: Box<[u8]>,
    counters: ReactorCounters,
}

/// What `drain` has to do, in order. An item that names a connection since closed is void.
enum Item {
    Accept(ListenerKey),
    AcceptFailed(ListenerKey, io::Error),
    Connecting(ConnectionKey),
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

type Each<'a> = dyn FnMut(Completion<'_>) + 'a;

impl PollReactor {
    /// A reactor whose reads take at most `receive_bytes` (at least 1) and whose dialled
    /// connections get `options`.
    ///
    /// # Errors
    ///
    /// When the kernel gives no epoll instance or no eventfd: no file descriptor left.
    pub fn new(receive_bytes: usize, options: SocketOptions) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            waker,
            options,
            listeners: Vec::new(),
            connections: Slots::new(),
            queue: VecDeque::new(),
            buffer: vec![0; receive_bytes.max(1)].into_boxed_slice(),
            counters: ReactorCounters::default(),
        })
    }

    /// Takes over a listener (see [`super::socket::listen`]), not accepting yet.
    ///
    /// # Errors
    ///
    /// When the listener cannot be made non-blocking.
    pub fn add_listener(&mut self, listener: TcpListener) -> io::Result<ListenerKey> {
        listener.set_nonblocking(true)?;
        let key = ListenerKey(
            u32::try_from(self.listeners.len()).expect("fewer listeners than file descriptors"),
        );
        let queued_max = usize::from(self.options.backlog) + 1;
        self.listeners.push(Some(Listener::new(listener, listener_token(key), queued_max)));
        Ok(key)
    }

    /// The number of connections, those being opened included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn start(&mut self, operation: Operation) {
        match operation {
            Operation::Accept { listener, on } => self.accept(listener, on),
            Operation::CloseListener { listener } => {
                if let Some(entry) = listener_mut(&mut self.listeners, listener)
                    && entry.start_closing()
                {
                    self.queue.push_back(Item::Accept(listener));
                }
            }
            Operation::Connect { token, address } => {
                if let Err(error) = self.connect(token, address) {
                    self.queue.push_back(Item::ConnectFailed(token, error));
                }
            }
            Operation::Receive { connection } => {
                if let Some(entry) = self.connections.get_mut(connection)
                    && entry.want_receive()
                {
                    self.queue.push_back(Item::Receive(connection));
                }
            }
            Operation::Send { connection, batch } => self.send(connection, batch),
            Operation::Shutdown { connection } => {
                if let Some(entry) = self.connections.get_mut(connection) {
                    entry.shutdown(&mut self.counters);
                }
            }
            Operation::Close { connection } => {
                // Dropping closes the socket, which also takes it out of epoll, and lets go of a
                // batch that was not sent.
                if self.connections.remove(connection).is_some() {
                    self.counters.syscalls += 1;
                    self.queue.push_back(Item::Closed(connection));
                }
            }
            Operation::Release { connection } => self.release(connection),
            Operation::Adopt { token, socket } => self.adopt(token, socket),
        }
    }

    fn accept(&mut self, listener: ListenerKey, on: bool) {
        if let Some(entry) = listener_mut(&mut self.listeners, listener)
            && let Err(error) = entry.set_accepting(self.poll.registry(), on)
        {
            self.queue.push_back(Item::AcceptFailed(listener, error));
        }
    }

    fn connect(&mut self, token: u64, address: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::from_std(dial(address, &self.options)?);
        add_connection(&mut self.connections, self.poll.registry(), stream, Some(token))?;
        Ok(())
    }

    fn send(&mut self, connection: ConnectionKey, batch: Batch) {
        if let Some(entry) = self.connections.get_mut(connection) {
            let outcome = entry.send(batch, &mut self.counters);
            match outcome {
                WriteOutcome::Blocked => {}
                WriteOutcome::Sent(bytes) => self.queue.push_back(Item::Sent(connection, bytes)),
                WriteOutcome::Failed(error) => {
                    self.queue.push_back(Item::SendFailed(connection, error));
                }
            }
        }
    }

    /// Does one item of the queue.
    fn finish(&mut self, item: Item, each: &mut Each<'_>) {
        match item {
            Item::Accept(listener) => self.finish_accept(listener, each),
            Item::AcceptFailed(listener, error) => {
                each(Completion::AcceptFailed { listener, error });
            }
            Item::Connecting(connection) => self.finish_connect(connection, each),
            Item::ConnectFailed(token, error) => each(Completion::ConnectFailed { token, error }),
            Item::Receive(connection) => self.finish_receive(connection, each),
            Item::Write(connection) => self.finish_write(connection, each),
            Item::Sent(connection, bytes) => {
                if self.connections.get_mut(connection).is_some() {
                    each(Completion::Sent { connection, bytes });
                }
            }
            Item::SendFailed(connection, error) => {
                if self.connections.get_mut(connection).is_some() {
                    each(Completion::SendFailed { connection, error });
                }
            }
            Item::Closed(connection) => each(Completion::Closed { connection }),
            Item::Released(connection, socket) => each(Completion::Released { connection, socket }),
            Item::Adopted(token, connection) => self.finish_adopt(token, connection, each),
            Item::AdoptFailed(token, error) => each(Completion::AdoptFailed { token, error }),
        }
    }

    fn finish_accept(&mut self, key: ListenerKey, each: &mut Each<'_>) {
        let Some(listener) = listener_mut(&mut self.listeners, key) else { return };
        listener.queued = false;
        for _ in 0..ACCEPTS_PER_DRAIN {
            let outcome = listener.accept(&mut self.counters).and_then(|outcome| match outcome {
                AcceptOutcome::Accepted(stream, peer) => {
                    let local = canonical(stream.local_addr()?);
                    let connections = &mut self.connections;
                    let connection =
                        add_connection(connections, self.poll.registry(), stream, None)?;
                    let peer = canonical(peer);
                    each(Completion::Accepted { listener: key, connection, peer, local });
                    Ok(false)
                }
                AcceptOutcome::Retry => Ok(false),
                AcceptOutcome::Empty => Ok(true),
            });
            let done = match outcome {
                Ok(done) => done,
                Err(error) => {
                    listener.stop_accepting(self.poll.registry());
                    each(Completion::AcceptFailed { listener: key, error });
                    true
                }
            };
            if listener.closing_done(done) {
                if let Some(slot) = slot_mut(&mut self.listeners, key) {
                    *slot = None;
                }
                each(Completion::ListenerClosed { listener: key });
                return;
            }
            if done {
                return;
            }
        }
        listener.queued = true;
        self.queue.push_back(Item::Accept(key));
    }

    fn finish_connect(&mut self, connection: ConnectionKey, each: &mut Each<'_>) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        let Some(token) = entry.connecting else { return };
        match entry.connected(&mut self.counters) {
            Ok(None) => {}
            Ok(Some((peer, local))) => {
                entry.connecting = None;
                each(Completion::Connected { token, connection, peer, local });
            }
            Err(error) => {
                self.connections.remove(connection);
                each(Completion::ConnectFailed { token, error });
            }
        }
    }

    fn finish_receive(&mut self, connection: ConnectionKey, each: &mut Each<'_>) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        match entry.receive(&mut self.buffer, &mut self.counters) {
            ReadOutcome::Blocked => {}
            ReadOutcome::Bytes(count) => {
                each(Completion::Received { connection, bytes: &self.buffer[..count] });
            }
            ReadOutcome::Ended(error) => each(Completion::ReceiveEnded { connection, error }),
        }
    }

    fn finish_write(&mut self, connection: ConnectionKey, each: &mut Each<'_>) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        match entry.write(&mut self.counters) {
            WriteOutcome::Blocked => {}
            WriteOutcome::Sent(bytes) => each(Completion::Sent { connection, bytes }),
            WriteOutcome::Failed(error) => each(Completion::SendFailed { connection, error }),
        }
    }

    /// Takes down what the kernel just reported.
    fn note_events(&mut self) {
        for event in &self.events {
            match event.token() {
                WAKER => {}
                token if token.0 > LISTENER_TOKENS => {
                    let key = listener_of(token);
                    if let Some(listener) = listener_mut(&mut self.listeners, key)
                        && !std::mem::replace(&mut listener.queued, true)
                    {
                        self.queue.push_back(Item::Accept(key));
                    }
                }
                Token(slot) => {
                    if let Some((key, connection)) = self.connections.at_mut(slot) {
                        let ready = connection.note(event);
                        if ready.connect {
                            self.queue.push_back(Item::Connecting(key));
                        }
                        if ready.receive {
                            self.queue.push_back(Item::Receive(key));
                        }
                        if ready.write {
                            self.queue.push_back(Item::Write(key));
                        }
                    }
                }
            }
        }
    }
}

impl Reactor for PollReactor {
    fn submit(&mut self, operations: &mut Vec<Operation>) {
        let mut operations = operations.drain(..);
        loop {
            for operation in operations.as_slice().iter().take(WARMED) {
                if let Operation::Send { connection, .. } = operation
                    && let Some(entry) = self.connections.get_mut(*connection)
                {
                    entry.warm();
                }
            }
            let mut none_left = true;
            for operation in operations.by_ref().take(WARMED) {
                self.start(operation);
                none_left = false;
            }
            if none_left {
                return;
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        let timeout = if self.queue.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.counters.syscalls += 1;
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => self.note_events(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("epoll fails only when it is misused: {error}"),
        }
    }

    fn drain(&mut self, each: &mut dyn FnMut(Completion<'_>)) {
        for _ in 0..self.queue.len() {
            if let Some(item) = self.queue.pop_front() {
                self.finish(item, each);
            }
        }
    }

    fn waker(&self) -> Waker {
        let waker = Arc::clone(&self.waker);
        // It fails only when the eventfd's counter is full, and then the reactor is woken anyway.
        Waker::new(move || drop(waker.wake()))
    }

    fn counters(&self) -> ReactorCounters {
        self.counters
    }

    fn backend(&self) -> &'static str {
        "mio"
    }
}

/// Stores the stream and asks for its readiness, once and for both directions.
fn add_connection(
    connections: &mut Slots<Connection>,
    registry: &Registry,
    stream: TcpStream,
    connecting: Option<u64>,
) -> io::Result<ConnectionKey> {
    let key = connections.insert(|_| Connection::new(stream, connecting));
    let entry = connections.get_mut(key).expect("it was inserted just now");
    let interest = Interest::READABLE | Interest::WRITABLE;
    match registry.register(&mut entry.stream, Token(slot_of(key)), interest) {
        Ok(()) => Ok(key),
        Err(error) => {
            connections.remove(key);
            Err(error)
        }
    }
}

fn slot_mut(listeners: &mut [Option<Listener>], key: ListenerKey) -> Option<&mut Option<Listener>> {
    listeners.get_mut(usize::try_from(key.0).ok()?)
}

fn listener_mut(listeners: &mut [Option<Listener>], key: ListenerKey) -> Option<&mut Listener> {
    slot_mut(listeners, key)?.as_mut()
}

fn listener_token(key: ListenerKey) -> Token {
    Token(WAKER.0 - 1 - usize::try_from(key.0).expect("fewer listeners than file descriptors"))
}

fn listener_of(token: Token) -> ListenerKey {
    ListenerKey(u32::try_from(WAKER.0 - 1 - token.0).expect("made from a u32"))
}

/// Tokens: a connection's is its slot, the waker's is the last one, those of listeners count down
/// from there.
const WAKER: Token = Token(usize::MAX);
const LISTENER_TOKENS: usize = usize::MAX / 2;

/// Connections that are loaded into the caches together, before the first of them is sent to: their
/// misses then overlap.
const WARMED: usize = 16;

/// Events of one `wait`; more come with the next.
const EVENTS_PER_WAIT: usize = 1_024;

/// Connections taken from one listener per `drain`, so that a rush of joiners cannot hold up those
/// who are watching already.
const ACCEPTS_PER_DRAIN: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
