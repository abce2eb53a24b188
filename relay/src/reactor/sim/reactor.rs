//! The simulated backend: a worker's view of the simulated network.
//!
//! It does what a kernel and a backend would do together. `wait` never blocks: whoever drives the
//! simulation moves the clock. No borrow of the network is held while the worker or an observer
//! runs.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::SimRead;
use super::net::{LinkKey, Net, Owner, Side};
use super::state::{Item, Listener, Outgoing, ReactorState};
use crate::reactor::{
    Batch, Completion, ConnectionKey, ListenerKey, Operation, Reactor, ReactorCounters, Waker,
};

/// A reactor of the simulated network. Dropping it ends it like a process that died: its
/// connections are closed, its listeners gone.
pub struct SimReactor {
    net: Rc<RefCell<Net>>,
    id: usize,
    buffer: Box<[u8]>,
}

/// Sees from outside whether a reactor has something to do, while a worker owns the reactor.
#[derive(Clone)]
pub struct SimWatch {
    net: Rc<RefCell<Net>>,
    id: usize,
}

impl SimWatch {
    /// Whether a turn of the worker would do something: completions are at hand, or it was woken.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let net = self.net.borrow();
        let state = &net.reactors[self.id];
        state.alive && (!state.queue.is_empty() || state.woken.load(Ordering::Acquire))
    }

    /// Whether the waker was called since the last `wait`.
    #[must_use]
    pub fn woken(&self) -> bool {
        self.net.borrow().reactors[self.id].woken.load(Ordering::Acquire)
    }
}

impl SimReactor {
    pub(super) fn new(net: Rc<RefCell<Net>>, address: std::net::IpAddr) -> Self {
        let id = {
            let mut net = net.borrow_mut();
            net.reactors.push(ReactorState::new(address.to_canonical()));
            net.reactors.len() - 1
        };
        Self { net, id, buffer: vec![0; RECEIVE_BYTES].into_boxed_slice() }
    }

    /// Listens, not accepting yet; several reactors may listen on one address and share its
    /// connections by chance. An unspecified address means that of this reactor's host, port 0 a
    /// fresh port. Returns the address in full.
    pub fn listen(&mut self, address: SocketAddr) -> (ListenerKey, SocketAddr) {
        let mut net = self.net.borrow_mut();
        let port = if address.port() == 0 { net.fresh_port() } else { address.port() };
        let state = &mut net.reactors[self.id];
        let ip = if address.ip().is_unspecified() { state.address } else { address.ip() };
        let address = SocketAddr::new(ip.to_canonical(), port);
        let key =
            ListenerKey(u32::try_from(state.listeners.len()).expect("fewer than 2^32 listeners"));
        state.listeners.push(Some(Listener {
            address,
            accepting: false,
            closing: false,
            queued: false,
            calls: std::collections::VecDeque::new(),
        }));
        net.listeners.entry(address).or_default().push((self.id, key));
        (key, address)
    }

    /// Lets the reactor have at most so many connections; more fail as if no file descriptor was
    /// left.
    pub fn set_files_max(&mut self, files_max: usize) {
        self.net.borrow_mut().reactors[self.id].files_max = files_max;
    }

    /// The number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.net.borrow().reactors[self.id].connections.len()
    }

    /// A look at this reactor from outside.
    #[must_use]
    pub fn watch(&self) -> SimWatch {
        SimWatch { net: Rc::clone(&self.net), id: self.id }
    }

    /// Shows the batch to the observer, which may look at the network meanwhile.
    fn observe(&self, batch: &Batch) {
        let observer = self.net.borrow_mut().observer.take();
        if let Some(mut observer) = observer {
            batch.slices().iter().for_each(&mut *observer);
            self.net.borrow_mut().observer.get_or_insert(observer);
        }
    }
}

impl Reactor for SimReactor {
    fn submit(&mut self, operations: &mut Vec<Operation>) {
        for operation in operations.drain(..) {
            if let Operation::Send { batch, .. } = &operation {
                self.observe(batch);
            }
            self.net.borrow_mut().start(self.id, operation);
        }
    }

    fn wait(&mut self, _timeout: Option<Duration>) {
        let mut net = self.net.borrow_mut();
        let state = &mut net.reactors[self.id];
        state.counters.syscalls += 1;
        state.woken.store(false, Ordering::Release);
    }

    fn drain(&mut self, each: &mut dyn FnMut(Completion<'_>)) {
        let count = self.net.borrow().reactors[self.id].queue.len();
        for _ in 0..count {
            let item = self.net.borrow_mut().reactors[self.id].queue.pop_front();
            match item {
                None => {}
                Some(Item::Accept(listener)) => {
                    for _ in 0..ACCEPTS_PER_DRAIN {
                        let completion = self.net.borrow_mut().accept(self.id, listener);
                        let Some(completion) = completion else { break };
                        each(completion);
                    }
                    self.net.borrow_mut().accept_later(self.id, listener);
                }
                Some(item) => {
                    let completion = self.net.borrow_mut().finish(self.id, item, &mut self.buffer);
                    if let Some(completion) = completion {
                        each(completion);
                    }
                }
            }
        }
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.net.borrow().reactors[self.id].woken);
        Waker::new(move || woken.store(true, Ordering::Release))
    }

    fn counters(&self) -> ReactorCounters {
        self.net.borrow().reactors[self.id].counters
    }

    fn backend(&self) -> &'static str {
        "sim"
    }
}

impl Drop for SimReactor {
    fn drop(&mut self) {
        if let Ok(mut net) = self.net.try_borrow_mut() {
            net.end_reactor(self.id);
        }
    }
}

/// How an attempt to write went.
enum Written {
    Blocked,
    Sent(usize),
    Failed(ErrorKind),
}

impl Net {
    fn start(&mut self, id: usize, operation: Operation) {
        self.close_dropped();
        let state = &mut self.reactors[id];
        match operation {
            Operation::Accept { listener, on } => {
                if let Some(entry) = state.listener(listener) {
                    entry.accepting = on;
                    state.queue_accept(listener);
                }
            }
            Operation::CloseListener { listener } => {
                if let Some(entry) = state.listener(listener) {
                    entry.closing = true;
                    let address = entry.address;
                    state.queue_accept(listener);
                    self.stop_listening(address, id, listener);
                }
            }
            Operation::Connect { token, address } => {
                if state.connections.len() >= state.files_max {
                    state.connect_failed(token, Errno::MFILE.into());
                } else {
                    let from = SocketAddr::new(state.address, self.fresh_port());
                    let to = SocketAddr::new(address.ip().to_canonical(), address.port());
                    self.dial(from, to, Owner::Dialling(id, token));
                }
            }
            Operation::Receive { connection } => {
                if let Some(entry) = state.connections.get_mut(connection) {
                    entry.receiving = true;
                    let (link, side) = (entry.link, entry.side);
                    self.touch(link, side);
                }
            }
            Operation::Send { connection, batch } => self.send(id, connection, batch),
            Operation::Shutdown { connection } => {
                if let Some(entry) = state.connections.get_mut(connection)
                    && !std::mem::replace(&mut entry.ended, true)
                    && entry.sending.is_none()
                {
                    let (link, side) = (entry.link, entry.side);
                    state.counters.syscalls += 1;
                    self.end(link, side);
                }
            }
            Operation::Close { connection } => {
                if let Some(entry) = state.connections.remove(connection) {
                    state.counters.syscalls += 1;
                    state.queue.push_back(Item::Closed(connection));
                    self.close(entry.link, entry.side);
                }
            }
            Operation::Release { connection } => self.release(id, connection),
            Operation::Adopt { token, socket } => self.adopt(id, token, socket),
        }
    }

    fn send(&mut self, id: usize, key: ConnectionKey, batch: Batch) {
        let state = &mut self.reactors[id];
        let Some(entry) = state.connections.get_mut(key) else { return };
        let written = if entry.sending.is_some() {
            Written::Failed(ErrorKind::InvalidInput)
        } else if entry.ended {
            Written::Failed(ErrorKind::BrokenPipe)
        } else {
            let bytes = batch.bytes();
            entry.sending = Some(Outgoing { batch, bytes, sent: 0 });
            self.write_batch(id, key)
        };
        let queue = &mut self.reactors[id].queue;
        match written {
            Written::Blocked => {}
            Written::Sent(bytes) => queue.push_back(Item::Sent(key, bytes)),
            Written::Failed(kind) => queue.push_back(Item::SendFailed(key, kind.into())),
        }
    }

    /// Writes what is left of the batch, as far as there is room and no fault strikes.
    fn write_batch(&mut self, id: usize, key: ConnectionKey) -> Written {
        let state = &mut self.reactors[id];
        let Some(entry) = state.connections.get_mut(key) else { return Written::Blocked };
        entry.write_queued = false;
        let (link, side) = (entry.link, entry.side);
        let Some(mut sending) = entry.sending.take() else { return Written::Blocked };
        state.counters.syscalls += 1;
        state.counters.sends += 1;
        let rest = sending.bytes - sending.sent;
        if self.strikes(self.faults.reset) {
            self.fail(link);
        }
        let cut_short = rest > 1 && self.strikes(self.faults.partial_write);
        let most = if cut_short { self.rng.usize(1..rest) } else { rest };
        let written = self.write_slices(link, side, &sending, most);
        let state = &mut self.reactors[id];
        let Some(entry) = state.connections.get_mut(key) else { return Written::Blocked };
        match written {
            Ok(count) if count < rest => {
                sending.sent += count;
                entry.sending = Some(sending);
                state.counters.short_sends += 1;
                if count == most {
                    // Cut short by a fault and not for want of room: nobody else will ask again.
                    let again = self.arrival();
                    self.touch_at(again, link, side);
                }
                return Written::Blocked;
            }
            Ok(_) if entry.ended => self.end(link, side),
            _ => {}
        }
        written.map_or_else(Written::Failed, |_| Written::Sent(sending.bytes))
    }

    /// Writes at most `most` bytes of what is left; returns how many found room.
    fn write_slices(
        &mut self,
        link: LinkKey,
        side: Side,
        sending: &Outgoing,
        most: usize,
    ) -> Result<usize, ErrorKind> {
        let mut skip = sending.sent;
        let mut written = 0;
        for slice in sending.batch.slices() {
            let Some(rest) = slice.get(skip..).filter(|rest| !rest.is_empty()) else {
                skip -= slice.len();
                continue;
            };
            skip = 0;
            let piece = &rest[..rest.len().min(most - written)];
            let count = self.write(link, side, piece)?;
            written += count;
            if count < rest.len() {
                break;
            }
        }
        Ok(written)
    }

    /// Takes one call from a listener, or says why not; `None` when there is nothing to say.
    fn accept(&mut self, id: usize, key: ListenerKey) -> Option<Completion<'static>> {
        let state = &mut self.reactors[id];
        let full = state.connections.len() >= state.files_max;
        let listener = state.listener(key)?;
        if !listener.accepting && !listener.closing {
            return None;
        }
        if listener.calls.is_empty() {
            if listener.closing {
                *state.listeners.get_mut(usize::try_from(key.0).ok()?)? = None;
                return Some(Completion::ListenerClosed { listener: key });
            }
            return None;
        }
        if full {
            listener.accepting = false;
            let error = Errno::MFILE.into();
            if listener.closing {
                for call in std::mem::take(&mut listener.calls) {
                    self.refuse(call);
                }
            }
            return Some(Completion::AcceptFailed { listener: key, error });
        }
        let call = listener.calls.pop_front()?;
        state.counters.syscalls += 1;
        let connection = state.add_connection(call, 1);
        let link = self.links.get_mut(call)?;
        link.sides[1].owner = Owner::Reactor(id, connection);
        let [peer, local] = [link.sides[0].address, link.sides[1].address];
        Some(Completion::Accepted { listener: key, connection, peer, local })
    }

    /// Goes on accepting with the next `drain`, if calls are left.
    fn accept_later(&mut self, id: usize, key: ListenerKey) {
        if let Some(listener) = self.reactors[id].listener(key) {
            listener.queued = false;
            self.reactors[id].queue_accept(key);
        }
    }

    /// Does one item of the queue, other than accepting.
    fn finish<'buffer>(
        &mut self,
        id: usize,
        item: Item,
        buffer: &'buffer mut [u8],
    ) -> Option<Completion<'buffer>> {
        let state = &mut self.reactors[id];
        match item {
            Item::Accept(_) => None,
            Item::Connected(token, connection) => {
                let link = state.connections.get_mut(connection)?.link;
                let link = self.links.get_mut(link)?;
                let [local, peer] = [link.sides[0].address, link.sides[1].address];
                Some(Completion::Connected { token, connection, peer, local })
            }
            Item::ConnectFailed(token, error) => Some(Completion::ConnectFailed { token, error }),
            Item::Receive(connection) => self.receive(id, connection, buffer),
            Item::Write(connection) => {
                state.connections.get_mut(connection)?;
                match self.write_batch(id, connection) {
                    Written::Blocked => None,
                    Written::Sent(bytes) => Some(Completion::Sent { connection, bytes }),
                    Written::Failed(kind) => {
                        Some(Completion::SendFailed { connection, error: kind.into() })
                    }
                }
            }
            Item::Sent(connection, bytes) => {
                state.connections.get_mut(connection)?;
                Some(Completion::Sent { connection, bytes })
            }
            Item::SendFailed(connection, error) => {
                state.connections.get_mut(connection)?;
                Some(Completion::SendFailed { connection, error })
            }
            Item::Closed(connection) => Some(Completion::Closed { connection }),
            Item::Released(connection, socket) => Some(Completion::Released { connection, socket }),
            Item::Adopted(token, connection) => {
                let link = state.connections.get_mut(connection)?;
                let (link, side) = (link.link, link.side);
                let link = self.links.get_mut(link)?;
                let [peer, local] = [1 - side, side].map(|side| link.sides[side].address);
                Some(Completion::Adopted { token, connection, peer, local })
            }
            Item::AdoptFailed(token, error) => Some(Completion::AdoptFailed { token, error }),
        }
    }

    fn receive<'buffer>(
        &mut self,
        id: usize,
        connection: ConnectionKey,
        buffer: &'buffer mut [u8],
    ) -> Option<Completion<'buffer>> {
        let state = &mut self.reactors[id];
        let entry = state.connections.get_mut(connection)?;
        entry.receive_queued = false;
        let (link, side) = (entry.link, entry.side);
        state.counters.syscalls += 1;
        if self.strikes(self.faults.reset) {
            self.fail(link);
        }
        let mut most = self.arrived(link, side).clamp(1, buffer.len());
        if most > 1 && self.strikes(self.faults.partial_read) {
            most = self.rng.usize(1..most);
        }
        let read = self.read(link, side, &mut buffer[..most]);
        if read != SimRead::Empty {
            self.reactors[id].connections.get_mut(connection)?.receiving = false;
        }
        match read {
            SimRead::Empty => None,
            SimRead::Data(count) => {
                Some(Completion::Received { connection, bytes: &buffer[..count] })
            }
            SimRead::Eof => Some(Completion::ReceiveEnded { connection, error: None }),
            SimRead::Reset => {
                let error = Some(ErrorKind::ConnectionReset.into());
                Some(Completion::ReceiveEnded { connection, error })
            }
        }
    }

    /// No more calls come to this listener.
    fn stop_listening(&mut self, address: SocketAddr, id: usize, key: ListenerKey) {
        if let Some(group) = self.listeners.get_mut(&address) {
            group.retain(|member| *member != (id, key));
        }
    }

    /// Turns away a call that nobody will accept.
    fn refuse(&mut self, call: LinkKey) {
        self.reset(call, 1);
        self.forget(call, 1);
    }

    fn end_reactor(&mut self, id: usize) {
        let state = &mut self.reactors[id];
        state.alive = false;
        state.queue.clear();
        let listeners = std::mem::take(&mut state.listeners);
        for key in state.connections.keys() {
            if let Some(entry) = self.reactors[id].connections.remove(key) {
                self.close(entry.link, entry.side);
            }
        }
        for group in self.listeners.values_mut() {
            group.retain(|(reactor, _)| *reactor != id);
        }
        for call in listeners.into_iter().flatten().flat_map(|listener| listener.calls) {
            self.refuse(call);
        }
    }
}

/// One receive buffer, as large as the default of a real reactor.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Calls accepted per listener and `drain`, as with a real reactor.
const ACCEPTS_PER_DRAIN: usize = 64;
