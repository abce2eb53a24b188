//! Listeners of the io_uring backend: one multishot accept each while they are on.
//!
//! The kernel accepts by itself whoever knocks; what it has accepted waits here and is handed over
//! a bounded number per `drain`. A listener that was turned off keeps what had been accepted by
//! then until it is turned on again. Closing takes the rest of the kernel's queue one by one.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::reactor::{Each, Item, UringReactor};
use super::{Done, OperationKey, What};
use crate::reactor::socket::{addresses, concerns_one_connection};
use crate::reactor::{Completion, ListenerKey};

/// A listening socket.
pub(super) struct Listener {
    socket: TcpListener,
    accepting: bool,
    /// Accepting failed. The next time it begins when somebody knocks: without a file left the
    /// kernel would fail it at once, though nobody is there to be turned away.
    wary: bool,
    /// The multishot accept, or the wait before it, from its start to its last completion.
    armed: Option<OperationKey>,
    /// Accepted, not yet handed over.
    accepted: VecDeque<TcpStream>,
    /// Told once those are handed over.
    failed: Option<io::Error>,
    /// An item for it is in the queue.
    queued: bool,
    /// The most connections that the kernel can have queued.
    queued_max: usize,
    /// While it is being closed: how many more connections can have been queued when that began.
    closing: Option<usize>,
}

/// What there is to hand over.
enum Next {
    Connection(TcpStream),
    /// A connection that was gone before we took it.
    Gone,
    Failed(io::Error),
    Empty,
}

impl Listener {
    /// A listener that does not accept yet.
    pub(super) fn new(socket: TcpListener, queued_max: usize) -> Self {
        Self {
            socket,
            accepting: false,
            wary: false,
            armed: None,
            accepted: VecDeque::new(),
            failed: None,
            queued: false,
            queued_max,
            closing: None,
        }
    }

    fn next(&mut self, syscalls: &mut u64) -> Next {
        if !self.accepting && self.closing.is_none() && self.failed.is_none() {
            return Next::Empty;
        }
        if let Some(stream) = self.accepted.pop_front() {
            return Next::Connection(stream);
        }
        if let Some(error) = self.failed.take() {
            return Next::Failed(error);
        }
        match &mut self.closing {
            Some(left) if *left > 0 && self.armed.is_none() => *left -= 1,
            _ => return Next::Empty,
        }
        *syscalls += 1;
        match self.socket.accept() {
            Ok((stream, _)) => Next::Connection(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Empty,
            Err(error) if concerns_one_connection(&error) => Next::Gone,
            Err(error) => Next::Failed(error),
        }
    }
}

impl UringReactor {
    fn listener(&mut self, key: ListenerKey) -> Option<&mut Listener> {
        self.listeners.get_mut(usize::try_from(key.0).ok()?)?.as_mut()
    }

    pub(super) fn set_accepting(&mut self, key: ListenerKey, on: bool) {
        let Some(listener) = self.listener(key) else { return };
        if listener.closing.is_some() || listener.accepting == on {
            return;
        }
        listener.accepting = on;
        if on {
            self.arm(key);
            self.queue_accept(key);
        } else {
            self.disarm(key);
        }
    }

    pub(super) fn close_listener(&mut self, key: ListenerKey) {
        let Some(listener) = self.listener(key) else { return };
        listener.closing.get_or_insert(listener.queued_max);
        // What is left in the kernel's queue is taken without waiting. It fails for no open socket.
        let _ = listener.socket.set_nonblocking(true);
        if listener.armed.is_some() {
            self.disarm(key);
        } else {
            self.queue_accept(key);
        }
    }

    /// Starts accepting, unless that has been started and not ended yet.
    fn arm(&mut self, key: ListenerKey) {
        let place = usize::try_from(key.0).ok();
        let listener = place.and_then(|place| self.listeners.get_mut(place)?.as_mut());
        if let Some(listener) = listener
            && listener.armed.is_none()
        {
            let socket = listener.socket.as_fd();
            listener.armed = Some(if std::mem::take(&mut listener.wary) {
                self.ring.poll_listener(What::Knock(key), socket)
            } else {
                self.ring.accept(What::Accept(key), socket)
            });
        }
    }

    /// Somebody knocks at a listener that had failed, or the wait for that was cancelled.
    pub(super) fn knocked(&mut self, key: ListenerKey) {
        let Some(listener) = self.listener(key) else { return };
        listener.armed = None;
        if listener.closing.is_some() {
            self.queue_accept(key);
        } else if listener.accepting {
            self.arm(key);
        }
    }

    fn disarm(&mut self, key: ListenerKey) {
        if let Some(armed) = self.listener(key).and_then(|listener| listener.armed) {
            self.ring.cancel(armed);
        }
    }

    /// Queues an item for the listener, unless there is one.
    fn queue_accept(&mut self, key: ListenerKey) {
        if let Some(listener) = self.listener(key)
            && !std::mem::replace(&mut listener.queued, true)
        {
            self.queue.push_back(Item::Accept(key));
        }
    }

    /// A completion of the multishot accept.
    pub(super) fn accept_done(&mut self, key: ListenerKey, done: Done) {
        let Some(listener) = self.listener(key) else { return };
        if let Some(accepted) = done.accepted {
            listener.accepted.push_back(accepted.into());
        }
        if done.last {
            listener.armed = None;
            match done.result {
                Err(errno) if !is_passing(errno) => {
                    if listener.accepting {
                        listener.failed = Some(errno.into());
                    }
                    listener.accepting = false;
                    listener.wary = true;
                }
                _ if listener.accepting && listener.closing.is_none() => self.arm(key),
                _ => {}
            }
        }
        self.queue_accept(key);
    }

    /// Hands over what a listener has, at most [`ACCEPTS_PER_DRAIN`].
    pub(super) fn finish_accept(&mut self, key: ListenerKey, each: &mut Each<'_>) {
        for _ in 0..ACCEPTS_PER_DRAIN {
            let mut syscalls = 0;
            let Some(listener) = self.listener(key) else { return };
            listener.queued = false;
            let next = listener.next(&mut syscalls);
            let empty = matches!(next, Next::Empty | Next::Failed(_));
            let closed = empty && listener.closing.is_some() && listener.armed.is_none();
            self.counters.syscalls += syscalls;
            match next {
                Next::Connection(stream) => self.accepted(key, stream, each),
                Next::Failed(error) => {
                    if let Some(listener) = self.listener(key) {
                        listener.accepting = false;
                    }
                    each(Completion::AcceptFailed { listener: key, error });
                }
                Next::Gone | Next::Empty => {}
            }
            if closed {
                if let Some(place) =
                    usize::try_from(key.0).ok().and_then(|place| self.listeners.get_mut(place))
                {
                    *place = None;
                }
                each(Completion::ListenerClosed { listener: key });
                return;
            }
            if empty {
                return;
            }
        }
        self.queue_accept(key);
    }

    fn accepted(&mut self, listener: ListenerKey, stream: TcpStream, each: &mut Each<'_>) {
        self.counters.syscalls += 2;
        // One that was reset meanwhile has no address any more; the worker need not hear of it.
        let Ok((peer, local)) = addresses(&stream) else { return };
        let connection = self.add_connection(stream, None, peer);
        each(Completion::Accepted { listener, connection, peer, local });
    }
}

fn is_passing(errno: rustix::io::Errno) -> bool {
    errno == rustix::io::Errno::CANCELED || concerns_one_connection(&errno.into())
}

/// Connections handed over per listener and `drain`, so that a rush of newcomers cannot hold up
/// those who are being served already.
const ACCEPTS_PER_DRAIN: usize = 64;
