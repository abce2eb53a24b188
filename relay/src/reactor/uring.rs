//! The backend over io_uring, and in this file its face to the kernel: the one place of the relay
//! that is `unsafe`.
//!
//! Everything the kernel may read or write while an operation is under way is owned by the [`Ring`]
//! and freed only after the operation's last completion, also when the ring itself is dropped. So
//! whoever uses it (`reactor.rs` and its neighbours, which are safe code) cannot hand the kernel
//! memory that goes away. What is `unsafe` here is one call wide and says why it is sound.
//!
//! ```text
//!   push: an entry and its memory --> submit(): one system call for all of them
//!                                        |   a send: no completion of its own means it was sent
//!   wait(timeout): sleeps, runs what     v
//!                  the kernel deferred --> next(): Done, with the memory given back
//! ```
//!
//! That a send without a completion is done, is certain and not a guess. It carries
//! `MSG_DONTWAIT`, so the kernel tries it while it is submitted and never parks it; with
//! `MSG_WAITALL` everything less than the whole counts as a failure; only success skips the
//! completion; and links or drains, which could put it off, are never used. So once the submission
//! queue is empty and the completion queue was emptied with nothing left over, the sends that were
//! not heard of are with the kernel.

mod connection;
mod flight;
mod listener;
mod pool;
mod reactor;
mod sending;
mod start;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;

use self::flight::{Done, File, Flight, Memory, OperationKey, What};
use self::pool::{Buffer, Pool};
pub use self::reactor::UringReactor;
pub use self::start::{Unavailable, UringOptions, probe};
use super::slots::Slots;
use super::{Batch, ConnectionKey, SLICES_MAX};

/// A ring of the kernel. Made and used by one thread; its raw pointers keep it there.
struct Ring {
    kernel: IoUring,
    pool: Pool,
    flights: Slots<Flight>,
    /// Entries for which the submission queue had no room.
    backlog: VecDeque<squeue::Entry>,
    /// Sends submitted whose success nobody will report.
    unheard: Vec<OperationKey>,
    done: VecDeque<Done>,
    /// Slots of the file table.
    table: u32,
    /// The kernel may have put off more than it ran: of that it says nothing.
    has_more: bool,
    syscalls: u64,
}

impl Ring {
    /// Registers the buffers of `pool` and a file table of `table` slots (0: none) with a ring.
    fn new(kernel: IoUring, pool: Pool, table: u32) -> io::Result<Self> {
        let submitter = kernel.submitter();
        let (page, count) = (pool.entries().addr().get(), pool.count());
        let page = u64::try_from(page).expect("an address fits into 64 bits");
        // SAFETY: the entries lie in a page that the pool owns, and the pool is dropped after the
        // ring, with which the registration ends.
        #[allow(unsafe_code)]
        let registered =
            unsafe { submitter.register_buf_ring_with_flags(page, count, BUFFER_GROUP, 0) };
        registered?;
        // Without a table (a locked-memory limit of an old kernel, say) descriptors do as well.
        let table = match submitter.register_files_sparse(table) {
            Ok(()) if table > 0 => table,
            _ => 0,
        };
        let mut ring = Self {
            kernel,
            pool,
            flights: Slots::new(),
            backlog: VecDeque::new(),
            unheard: Vec::new(),
            done: VecDeque::new(),
            table,
            has_more: false,
            syscalls: 0,
        };
        for id in 0..count {
            ring.provide(id);
        }
        Ok(ring)
    }

    /// Puts a socket into a slot of the file table, if there is such a slot.
    fn register(&mut self, slot: usize, socket: BorrowedFd<'_>) -> File {
        let number = socket.as_raw_fd();
        let by_descriptor = File { number, registered: false };
        let Some(slot) = u32::try_from(slot).ok().filter(|slot| *slot < self.table) else {
            return by_descriptor;
        };
        self.syscalls += 1;
        match self.kernel.submitter().register_files_update(slot, &[number]) {
            Ok(1) => File { number: i32::try_from(slot).unwrap_or(i32::MAX), registered: true },
            _ => by_descriptor,
        }
    }

    /// Empties a slot of the file table, without which a closed socket would live on in it.
    fn unregister(&mut self, file: File) {
        if let (true, Ok(slot)) = (file.registered, u32::try_from(file.number)) {
            self.syscalls += 1;
            // It fails only for a slot that is not in the table.
            let _ = self.kernel.submitter().register_files_update(slot, &[-1]);
        }
    }

    /// Receives once into any buffer of the pool. Unless bytes are `at_hand`, the kernel waits for
    /// some before it tries.
    fn receive(&mut self, what: What, file: File, at_hand: bool) -> OperationKey {
        let entry = opcode::Recv::new(types::Fd(file.number), std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .ioprio(if at_hand { 0 } else { RECVSEND_POLL_FIRST })
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(what, file, entry, Memory::None, 0)
    }

    /// Sends what is left of a batch after `sent` bytes, as far as one operation can, and reports
    /// it by its last completion or, if there is none, by [`Ring::submit`].
    fn send(&mut self, what: What, file: File, batch: Batch, sent: usize) -> OperationKey {
        let (entry, memory, tried) = if let [bytes] = batch.slices() {
            let (start, length) = piece(bytes, sent);
            let entry = opcode::Send::new(types::Fd(file.number), start, length).flags(SEND_FLAGS);
            (entry.build(), Memory::Batch(batch), usize::try_from(length).unwrap_or(0))
        } else {
            let (message, tried) = Message::new(&batch, sent);
            let entry = opcode::SendMsg::new(types::Fd(file.number), message.header())
                .flags(u32::try_from(SEND_FLAGS).expect("flags are positive"));
            (entry.build(), Memory::Slices { batch, _list: message }, tried)
        };
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        let key = self.push(what, file, entry, memory, tried);
        self.unheard.push(key);
        key
    }

    /// The same without copying, for a batch of one slice. It is reported by one completion, and
    /// if that is not the last, the kernel goes on reading the batch until the notification.
    fn send_zero_copy(
        &mut self,
        what: What,
        file: File,
        bytes: &bytes::Bytes,
        sent: usize,
    ) -> OperationKey {
        let (start, length) = piece(bytes, sent);
        let entry = opcode::SendZc::new(types::Fd(file.number), start, length)
            .flags(SEND_FLAGS)
            .zc_flags(SEND_ZC_REPORT_USAGE)
            .build();
        let tried = usize::try_from(length).unwrap_or(0);
        self.push(what, file, entry, Memory::Batch(Batch::One(bytes.clone())), tried)
    }

    /// Waits once until the socket can be written to, or has failed.
    fn poll_writable(&mut self, what: What, file: File) -> OperationKey {
        self.poll(what, file, libc::POLLOUT)
    }

    /// Waits once until somebody knocks at a listener.
    fn poll_listener(&mut self, what: What, listener: BorrowedFd<'_>) -> OperationKey {
        let file = File { number: listener.as_raw_fd(), registered: false };
        self.poll(what, file, libc::POLLIN)
    }

    fn poll(&mut self, what: What, file: File, events: libc::c_short) -> OperationKey {
        let events = u32::from(events.unsigned_abs());
        let entry = opcode::PollAdd::new(types::Fd(file.number), events).build();
        self.push(what, file, entry, Memory::None, 0)
    }

    /// Accepts again and again, until a completion is the last.
    fn accept(&mut self, what: What, listener: BorrowedFd<'_>) -> OperationKey {
        let file = File { number: listener.as_raw_fd(), registered: false };
        let entry =
            opcode::AcceptMulti::new(types::Fd(file.number)).flags(libc::SOCK_CLOEXEC).build();
        self.push(what, file, entry, Memory::None, 0)
    }

    /// Reads the count of an eventfd, once it is not 0.
    fn read_eventfd(&mut self, what: What, eventfd: BorrowedFd<'_>) -> OperationKey {
        let file = File { number: eventfd.as_raw_fd(), registered: false };
        let count = Count::new();
        let entry = opcode::Read::new(types::Fd(file.number), count.0.as_ptr().cast(), 8).build();
        self.push(what, file, entry, Memory::Count { _count: count }, 0)
    }

    /// Asks the kernel to end an operation early. It may have ended meanwhile; either way its last
    /// completion tells.
    fn cancel(&mut self, key: OperationKey) {
        self.enqueue(opcode::AsyncCancel::new(key.0).build().user_data(CANCEL));
    }

    fn push(
        &mut self,
        what: What,
        file: File,
        mut entry: squeue::Entry,
        memory: Memory,
        tried: usize,
    ) -> OperationKey {
        if file.registered {
            entry = entry.flags(squeue::Flags::FIXED_FILE);
        }
        let key = self.flights.insert(|_| Flight { what, memory, tried, took: false });
        self.enqueue(entry.user_data(key.0));
        key
    }

    fn enqueue(&mut self, entry: squeue::Entry) {
        // SAFETY: whatever the entry points to is owned by its flight, which `reap` and `submit`
        // let go only after the last completion (that of a send that succeeded is known to have
        // happened), and `drop` only once all of them are done.
        #[allow(unsafe_code)]
        let pushed =
            self.backlog.is_empty() && unsafe { self.kernel.submission().push(&entry) }.is_ok();
        if !pushed {
            self.backlog.push_back(entry);
        }
    }

    /// Hands all entries to the kernel and takes in what they gave at once. Never waits.
    fn submit(&mut self) {
        let mut stuck = 0;
        while self.is_waiting() && stuck < STUCK_MAX {
            let entries = std::mem::take(&mut self.backlog);
            entries.into_iter().for_each(|entry| self.enqueue(entry));
            self.syscalls += 1;
            match self.kernel.submit() {
                Ok(count) if count > 0 => stuck = 0,
                Ok(_) => stuck += 1,
                Err(error) => {
                    must_be_passing(&error);
                    stuck += 1;
                }
            }
            self.reap();
        }
        if !self.is_waiting() {
            self.hear_of_sends();
        }
    }

    /// Whether the kernel has entries to take or completions for which the queue had no room.
    fn is_waiting(&mut self) -> bool {
        let queue = self.kernel.submission();
        !queue.is_empty() || queue.cq_overflow() || !self.backlog.is_empty()
    }

    /// Waits for a completion, at most for `timeout`, and runs what the kernel deferred: all of it,
    /// while there are buffers for what it brings. Whatever was pushed must have been submitted.
    fn wait(&mut self, timeout: Option<Duration>) {
        let at_once = timeout.is_some_and(|timeout| timeout.is_zero());
        if at_once && !self.has_more && !self.kernel.submission().taskrun() {
            return;
        }
        let mut last = self.enter(timeout, usize::from(!at_once));
        let mut all = last;
        // In one call it runs a few only, in the order in which they came. Left at that, what a
        // publisher sends waits for seconds behind thousands of sockets that have room again.
        while last >= DEFERRED_PER_CALL / 2
            && all < COMPLETIONS_PER_WAIT
            && self.pool.free() >= DEFERRED_PER_CALL
        {
            last = self.enter(Some(Duration::ZERO), 0);
            all += last;
        }
        self.has_more = last >= DEFERRED_PER_CALL / 2;
    }

    /// One call that waits for `least` completions; gives how many came.
    fn enter(&mut self, timeout: Option<Duration>, least: usize) -> usize {
        self.syscalls += 1;
        let timespec = timeout.map(types::Timespec::from);
        let args = types::SubmitArgs::new();
        let args = timespec.iter().fold(args, |args, timespec| args.timespec(timespec));
        let result = self.kernel.submitter().submit_with_args(least, &args);
        if let Err(error) = result
            && error.raw_os_error() != Some(Errno::TIME.raw_os_error())
        {
            must_be_passing(&error);
        }
        self.reap()
    }

    /// System calls made.
    fn syscalls(&self) -> u64 {
        self.syscalls
    }

    /// The next completion, in the order in which they came.
    fn next(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// Takes in the completion queue; gives how many there were.
    fn reap(&mut self) -> usize {
        let mut count = 0;
        for entry in self.kernel.completion() {
            count += 1;
            let key = ConnectionKey(entry.user_data());
            let Some(flight) = self.flights.get_mut(key) else { continue };
            let (flags, what, tried) = (entry.flags(), flight.what, flight.tried);
            let last = !cqueue::more(flags);
            let notification = cqueue::notif(flags);
            flight.took |= !notification && entry.result() > 0;
            // Of an attempt that took nothing the kernel says that it made a copy.
            let says_copied = entry.result().cast_unsigned() & ZC_COPIED != 0;
            let copied = notification && flight.took && says_copied;
            let memory = last.then(|| self.flights.remove(key)).flatten().map(|old| old.memory);
            let batch = match memory {
                Some(Memory::Batch(batch) | Memory::Slices { batch, .. }) => Some(batch),
                _ => None,
            };
            let result = match usize::try_from(entry.result()) {
                Ok(count) => Ok(count),
                Err(_) if notification => Ok(0),
                Err(_) => Err(Errno::from_raw_os_error(-entry.result())),
            };
            let accepted = match (what, &result) {
                (What::Accept(_), Ok(_)) => {
                    // SAFETY: the kernel made this descriptor for us just now and tells of it once.
                    #[allow(unsafe_code)]
                    Some(unsafe { OwnedFd::from_raw_fd(entry.result()) })
                }
                _ => None,
            };
            let buffer = cqueue::buffer_select(flags)
                .map(|id| self.pool.taken(id, *result.as_ref().unwrap_or(&0)));
            self.done.push_back(Done {
                what,
                result,
                last,
                notification,
                copied,
                more_at_hand: cqueue::sock_nonempty(flags),
                buffer,
                accepted,
                batch,
                tried,
            });
        }
        count
    }

    /// Reports the sends that had no completion: see the top of this file. Before all that did have
    /// one, since what a peer sent meanwhile may make its connection close.
    fn hear_of_sends(&mut self) {
        for key in self.unheard.drain(..).rev() {
            let Some(Flight { what, memory, tried, .. }) = self.flights.remove(key) else {
                continue;
            };
            let batch = match memory {
                Memory::Batch(batch) | Memory::Slices { batch, .. } => Some(batch),
                Memory::None | Memory::Count { .. } => None,
            };
            self.done.push_front(Done {
                what,
                result: Ok(tried),
                last: true,
                notification: false,
                copied: false,
                more_at_hand: false,
                buffer: None,
                accepted: None,
                batch,
                tried,
            });
        }
    }

    /// The bytes in a buffer.
    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let (start, length) = self.pool.filled(buffer);
        // SAFETY: the place lies inside the pool's memory, all of which was initialised, and from
        // the completion that brought the buffer until it is given back, which takes the `Buffer`,
        // the kernel does not write to it.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(start.as_ptr(), length)
        }
    }

    /// Lets the kernel use a buffer again.
    fn give_back(&mut self, buffer: Buffer) {
        self.provide(buffer.id());
    }

    /// Appends a buffer to those that the kernel may fill.
    fn provide(&mut self, id: u16) {
        let (address, length) = self.pool.whole(id);
        let (place, tail) = self.pool.provide();
        // SAFETY: the pool gives a place inside the page of entries, aligned for an entry; the
        // kernel reads it only after the tail was moved past it, below.
        #[allow(unsafe_code)]
        let entry = unsafe { &mut *place.as_ptr() };
        entry.set_addr(address);
        entry.set_len(length);
        entry.set_bid(id);
        // SAFETY: the pointer is that to the first entry of the page, which is initialised.
        #[allow(unsafe_code)]
        let shared = unsafe { types::BufRingEntry::tail(self.pool.entries().as_ptr()) };
        // SAFETY: the tail lies in that page, aligned, and everybody accesses it atomically.
        #[allow(unsafe_code)]
        let shared = unsafe { AtomicU16::from_ptr(shared.cast_mut()) };
        shared.store(tail, Ordering::Release);
    }
}

impl Drop for Ring {
    /// Ends everything under way and waits for it. What the kernel will not let go of within two
    /// seconds (unacknowledged bytes of a send without copying, say) is never freed.
    fn drop(&mut self) {
        let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.enqueue(all.user_data(CANCEL));
        for _ in 0..DROP_WAITS {
            self.submit();
            if self.flights.len() == 0 {
                break;
            }
            self.wait(Some(DROP_WAIT));
            self.done.clear();
        }
        // Sockets live on in the table otherwise, until the kernel has taken the ring apart.
        let _ = self.kernel.submitter().unregister_files();
        if self.flights.len() > 0 {
            let _ = ManuallyDrop::new(std::mem::replace(&mut self.flights, Slots::new()));
            self.pool.leak();
        }
    }
}

/// The list of slices that a send of several has, where the kernel reads it.
#[derive(Debug)]
struct Message(NonNull<MessageParts>);

#[repr(C)]
struct MessageParts {
    header: libc::msghdr,
    slices: [libc::iovec; SLICES_MAX],
}

impl Message {
    /// Lists what is left of a batch after `sent` bytes; returns also how many bytes that is.
    fn new(batch: &Batch, sent: usize) -> (Self, usize) {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: a `msghdr` of zeros is valid: no name, no slices, no control bytes, no flags.
        #[allow(unsafe_code)]
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        let mut slices = [empty; SLICES_MAX];
        let (mut count, mut tried, mut skip) = (0, 0, sent);
        for slice in batch.slices() {
            let Some(rest) = slice.get(skip..).filter(|rest| !rest.is_empty()) else {
                skip -= slice.len();
                continue;
            };
            skip = 0;
            let Some(place) = slices.get_mut(count) else { break };
            *place = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
            count += 1;
            tried += rest.len();
        }
        let parts = Box::new(MessageParts { header, slices });
        let message = Self(NonNull::from(Box::leak(parts)));
        // SAFETY: the box was made above and nobody else has it.
        #[allow(unsafe_code)]
        let parts = unsafe { &mut *message.0.as_ptr() };
        parts.header.msg_iov = parts.slices.as_mut_ptr();
        parts.header.msg_iovlen = count;
        (message, tried)
    }

    fn header(&self) -> *const libc::msghdr {
        self.0.as_ptr().cast_const().cast()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: `new` made it as a box, and it is dropped once.
        #[allow(unsafe_code)]
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The eight bytes of an eventfd's count.
#[derive(Debug)]
struct Count(NonNull<u64>);

impl Count {
    fn new() -> Self {
        Self(NonNull::from(Box::leak(Box::new(0))))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        // SAFETY: `new` made it as a box, and it is dropped once.
        #[allow(unsafe_code)]
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Where the rest of a slice begins, and how much of it one operation takes.
fn piece(bytes: &bytes::Bytes, sent: usize) -> (*const u8, u32) {
    let rest = bytes.get(sent..).unwrap_or_default();
    (rest.as_ptr(), u32::try_from(rest.len()).unwrap_or(PIECE_MAX).min(PIECE_MAX))
}

/// The kernel was interrupted, or short of memory for a moment. Anything else is our mistake.
fn must_be_passing(error: &io::Error) {
    let passing = [Errno::INTR, Errno::AGAIN, Errno::BUSY].map(Errno::raw_os_error);
    let is_passing = error.raw_os_error().is_some_and(|code| passing.contains(&code));
    assert!(is_passing, "io_uring fails only when it is misused: {error}");
}

/// Sends never wait, count as failed unless whole, and raise no signal.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// The group of receive buffers; there is one.
const BUFFER_GROUP: u16 = 0;

/// The key of cancellations, whose results nobody needs. No slot has this number.
const CANCEL: u64 = u64::MAX;

/// Most bytes of one slice that one operation takes; a longer one takes several.
const PIECE_MAX: u32 = 1 << 30;

/// Constants of `linux/io_uring.h` that the crate keeps to itself.
const RECVSEND_POLL_FIRST: u16 = 1;
const SEND_ZC_REPORT_USAGE: u16 = 8;
const ZC_COPIED: u32 = 1 << 31;

/// What the kernel runs at most, of what it deferred, in one call that waits for less.
const DEFERRED_PER_CALL: usize = 20;

/// Completions after which a wait is over, whatever else there is: others have waited long enough.
const COMPLETIONS_PER_WAIT: usize = 1_024;

/// Attempts to hand entries to a kernel that takes none of them; the next turn goes on.
const STUCK_MAX: u32 = 4;

/// How long the end of a ring waits for the kernel: as often, and each time at most.
const DROP_WAITS: u32 = 20;
const DROP_WAIT: Duration = Duration::from_millis(100);
