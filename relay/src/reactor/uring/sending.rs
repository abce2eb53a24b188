//! How a batch gets away: tried at once, and what is left when there is room again.
//!
//! Whatever an attempt took is progress; why it took no more is told by the next one. A send never
//! waits in the kernel: where there is no room, one poll waits instead, and the batch is ours
//! meanwhile.

use std::io::{self, ErrorKind};
use std::net::Shutdown;

use rustix::io::Errno;

use super::connection::{Connection, Outgoing};
use super::reactor::{Item, UringReactor};
use super::{Done, What};
use crate::reactor::{Batch, ConnectionKey};

impl UringReactor {
    /// A `Send`.
    pub(super) fn start_send(&mut self, key: ConnectionKey, batch: Batch) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        let wrong = match entry {
            Connection { leaving: Some(_), .. } => return,
            Connection { sending: Some(_), .. } => Some(ErrorKind::InvalidInput),
            Connection { ended: true, .. } => Some(ErrorKind::BrokenPipe),
            _ => None,
        };
        let bytes = batch.bytes();
        if let Some(kind) = wrong {
            self.queue.push_back(Item::SendFailed(key, kind.into()));
        } else if bytes == 0 {
            self.queue.push_back(Item::Sent(key, 0));
        } else {
            entry.sending = Some(Outgoing { bytes, sent: 0, batch: Some(batch) });
            self.send_rest(key, true);
        }
    }

    /// Tries to send what is left of the batch.
    fn send_rest(&mut self, key: ConnectionKey, may_skip_copy: bool) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        let Some(outgoing) = &mut entry.sending else { return };
        let Some(batch) = outgoing.batch.take() else { return };
        let (what, file, sent) = (What::Send(key), entry.file, outgoing.sent);
        let large =
            self.settings.zero_copy_bytes_min.is_some_and(|min| outgoing.bytes - sent >= min);
        let operation = match batch.slices() {
            [bytes] if may_skip_copy && entry.zero_copy && large => {
                let bytes = bytes.clone();
                outgoing.batch = Some(batch);
                self.ring.send_zero_copy(what, file, &bytes, sent)
            }
            _ => self.ring.send(what, file, batch, sent),
        };
        entry.send = Some(operation);
        entry.in_flight += 1;
        self.counters.sends += 1;
    }

    /// The socket has room, or failed; the next attempt finds out which.
    pub(super) fn writable(&mut self, key: ConnectionKey) {
        self.send_rest(key, true);
    }

    /// A completion of a send.
    pub(super) fn send_done(&mut self, key: ConnectionKey, done: Done) {
        if done.notification {
            return self.notified(key, done.copied);
        }
        let Some(entry) = self.connections.get_mut(key) else { return };
        entry.in_flight -= 1;
        entry.notifications += u32::from(!done.last);
        entry.send = None;
        if entry.leaving.is_some() {
            drop(done);
            return self.leave_if_done(key);
        }
        let Some(outgoing) = &mut entry.sending else { return };
        if outgoing.batch.is_none() {
            outgoing.batch = done.batch;
        }
        match done.result {
            Ok(count) => {
                outgoing.sent += count;
                let bytes = outgoing.bytes;
                if outgoing.sent >= bytes {
                    self.send_ended(key, Item::Sent(key, bytes));
                } else if count < done.tried {
                    self.await_room(key);
                } else {
                    self.send_rest(key, true);
                }
            }
            Err(Errno::AGAIN) => self.await_room(key),
            Err(Errno::INTR) => self.send_rest(key, true),
            // The limit of locked memory, or a kernel that does not tell whether it copied.
            Err(Errno::NOMEM | Errno::NOBUFS | Errno::INVAL | Errno::OPNOTSUPP)
                if entry.zero_copy =>
            {
                entry.zero_copy = matches!(done.result, Err(Errno::NOMEM | Errno::NOBUFS));
                self.send_rest(key, false);
            }
            Err(errno) => {
                self.send_ended(key, Item::SendFailed(key, io::Error::from(errno)));
            }
        }
    }

    /// The kernel no longer reads what it sent without copying. That it copied after all makes
    /// this way dearer than the other, for all of the connection's life.
    fn notified(&mut self, key: ConnectionKey, copied: bool) {
        if let Some(entry) = self.connections.get_mut(key) {
            entry.notifications -= 1;
            entry.zero_copy &= !copied || self.settings.zero_copy_though_copied;
        } else if let Some(left) = self.unacknowledged.get_mut(&key) {
            *left -= 1;
            if *left == 0 {
                self.unacknowledged.remove(&key);
                self.queue.push_back(Item::Closed(key));
            }
        }
    }

    fn await_room(&mut self, key: ConnectionKey) {
        self.counters.short_sends += 1;
        if let Some(entry) = self.connections.get_mut(key) {
            let operation = self.ring.poll_writable(What::Writable(key), entry.file);
            entry.send = Some(operation);
            entry.in_flight += 1;
        }
    }

    fn send_ended(&mut self, key: ConnectionKey, item: Item) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        entry.sending = None;
        self.queue.push_back(item);
        if entry.ended {
            self.end(key);
        }
    }

    /// A `Shutdown`: done after the outstanding send, if any.
    pub(super) fn start_shutdown(&mut self, key: ConnectionKey) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        if entry.leaving.is_none()
            && !std::mem::replace(&mut entry.ended, true)
            && entry.sending.is_none()
        {
            self.end(key);
        }
    }

    fn end(&mut self, key: ConnectionKey) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        self.counters.syscalls += 1;
        // It fails only when the peer has reset the connection, which the next receive tells.
        let _ = entry.stream.shutdown(Shutdown::Write);
    }
}
