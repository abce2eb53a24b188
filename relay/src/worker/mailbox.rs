//! Mail between workers: one bounded ring per ordered pair, and a flag that says who sleeps.
//!
//! Most pairs never write to each other, and there are as many as workers squared. So a ring holds
//! memory for what lies in it, in small blocks, and none before its first piece.
//!
//! A segment that does not fit is dropped (its reader is told, and takes a new snapshot).
//! Everything else is never dropped: it waits in the sender's own queue and goes before anything
//! newer, so that the order per pair holds. Waking another core costs as much as several sends, so
//! a worker that looks at its mail by itself is not woken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;

use super::mail::{Mail, WorkerIndex};
use crate::reactor::Waker;

/// The shared side of one worker.
struct Desk {
    /// One ring per sender.
    rings: Vec<Ring>,
    /// Set while the worker may sleep without looking at its mail.
    asleep: AtomicBool,
    /// How to wake it; set once its reactor is there.
    waker: OnceLock<Waker>,
}

/// The way from one worker to another. One of them pushes and the other pops.
struct Ring {
    mail: SegQueue<Mail>,
    /// Pieces in it, never fewer than there are: counted before they are pushed and after they are
    /// popped.
    held: AtomicUsize,
    capacity: usize,
}

/// One worker's end of the post: it sends to every worker, itself included, and reads its own mail.
pub struct Mailbox {
    index: WorkerIndex,
    desks: Arc<[Desk]>,
    /// Mail that did not fit yet, per receiver.
    waiting: Vec<VecDeque<Mail>>,
    /// Mail to oneself.
    own: VecDeque<Mail>,
    /// Whose mail is looked at first.
    from: WorkerIndex,
}

/// Mailboxes for `workers` workers, each ring holding `capacity` pieces.
#[must_use]
pub fn mailboxes(workers: usize, capacity: usize) -> Vec<Mailbox> {
    let desks: Arc<[Desk]> = (0..workers)
        .map(|_| Desk {
            rings: (0..workers).map(|_| Ring::new(capacity)).collect(),
            asleep: AtomicBool::new(false),
            waker: OnceLock::new(),
        })
        .collect();
    let mailbox = |index| Mailbox {
        index,
        desks: Arc::clone(&desks),
        waiting: (0..workers).map(|_| VecDeque::new()).collect(),
        own: VecDeque::new(),
        from: 0,
    };
    (0..workers).map(mailbox).collect()
}

impl Mailbox {
    /// This worker's number.
    pub(super) fn index(&self) -> WorkerIndex {
        self.index
    }

    /// Workers of this node.
    pub(super) fn workers(&self) -> usize {
        self.desks.len()
    }

    /// Says how this worker is woken. Called once, before the first turn.
    pub fn set_waker(&self, waker: Waker) {
        // A second call would be our own mistake; the first waker stays good.
        let _ = self.desks[self.index].waker.set(waker);
    }

    /// Sends mail that must arrive.
    pub(super) fn send(&mut self, to: WorkerIndex, mail: Mail) {
        if to == self.index {
            self.own.push_back(mail);
            return;
        }
        if self.waiting[to].is_empty() {
            match self.desks[to].rings[self.index].push(mail) {
                None => self.wake(to),
                Some(mail) => self.waiting[to].push_back(mail),
            }
        } else {
            self.waiting[to].push_back(mail);
        }
    }

    /// Sends mail that may be lost when the receiver does not keep up. Returns whether it went.
    pub(super) fn send_or_lose(&mut self, to: WorkerIndex, mail: Mail) -> bool {
        let fits = to != self.index && self.waiting[to].is_empty();
        if fits && self.desks[to].rings[self.index].push(mail).is_none() {
            self.wake(to);
            return true;
        }
        false
    }

    /// Pushes what waited, as far as there is room. Called once a turn.
    pub(super) fn push_waiting(&mut self) {
        for to in 0..self.waiting.len() {
            let mut pushed = false;
            while let Some(mail) = self.waiting[to].pop_front() {
                if let Some(mail) = self.desks[to].rings[self.index].push(mail) {
                    self.waiting[to].push_front(mail);
                    break;
                }
                pushed = true;
            }
            if pushed {
                self.wake(to);
            }
        }
    }

    /// The next piece of mail: own mail first, then a piece of each sender in turn, so that one who
    /// sends without end keeps no other waiting.
    pub(super) fn receive(&mut self) -> Option<Mail> {
        if let Some(mail) = self.own.pop_front() {
            return Some(mail);
        }
        let rings = &self.desks[self.index].rings;
        for sender in (self.from..rings.len()).chain(0..self.from) {
            if let Some(mail) = rings[sender].pop() {
                self.from = (sender + 1) % rings.len();
                return Some(mail);
            }
        }
        None
    }

    /// Pieces that wait for room at their receivers.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Says that this worker is about to sleep. Returns false when mail is there after all; then it
    /// must not.
    pub(super) fn fall_asleep(&mut self) -> bool {
        let desk = &self.desks[self.index];
        // Sequentially consistent against the load in `wake`: either the sender sees the flag, or
        // we see its mail below.
        desk.asleep.store(true, Ordering::SeqCst);
        let empty = self.own.is_empty() && desk.rings.iter().all(Ring::is_empty);
        if !empty {
            desk.asleep.store(false, Ordering::SeqCst);
        }
        empty
    }

    /// Says that this worker is awake and will look at its mail by itself.
    pub(super) fn awake(&self) {
        self.desks[self.index].asleep.store(false, Ordering::SeqCst);
    }

    fn wake(&self, to: WorkerIndex) {
        let desk = &self.desks[to];
        if desk.asleep.swap(false, Ordering::SeqCst)
            && let Some(waker) = desk.waker.get()
        {
            waker.wake();
        }
    }
}

impl Ring {
    /// An empty ring for at least one piece; it holds no memory of its own yet.
    fn new(capacity: usize) -> Self {
        Self { mail: SegQueue::new(), held: AtomicUsize::new(0), capacity: capacity.max(1) }
    }

    /// Gives the mail back when the ring is full.
    fn push(&self, mail: Mail) -> Option<Mail> {
        if self.held.load(Ordering::Acquire) >= self.capacity {
            return Some(mail);
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        self.mail.push(mail);
        None
    }

    fn pop(&self) -> Option<Mail> {
        let mail = self.mail.pop()?;
        self.held.fetch_sub(1, Ordering::Release);
        Some(mail)
    }

    fn is_empty(&self) -> bool {
        self.mail.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::mail::StreamId;

    fn mail(number: u64, from: usize) -> Mail {
        Mail::Subscribe { stream: StreamId(number), worker: from }
    }

    fn number(mail: Option<Mail>) -> Option<u64> {
        mail.map(|mail| match mail {
            Mail::Subscribe { stream, .. } => stream.0,
            other => panic!("unexpected {other:?}"),
        })
    }

    #[test]
    fn a_full_ring_delays_what_must_arrive_and_loses_what_may_be_lost() {
        let mut boxes = mailboxes(2, 2);
        let mut receiver = boxes.pop().unwrap();
        let mut sender = boxes.pop().unwrap();
        for n in 0..4 {
            sender.send(1, mail(n, 0));
        }
        assert_eq!(sender.waiting(), 2);
        assert!(!sender.send_or_lose(1, mail(99, 0)), "it would overtake what waits");
        assert_eq!(number(receiver.receive()), Some(0));
        sender.push_waiting();
        assert_eq!(number(receiver.receive()), Some(1));
        sender.push_waiting();
        assert_eq!((number(receiver.receive()), number(receiver.receive())), (Some(2), Some(3)));
        assert_eq!(number(receiver.receive()), None);
        assert!(sender.send_or_lose(1, mail(5, 0)));
    }

    #[test]
    fn a_sleeper_is_woken_once_and_one_who_looks_is_not() {
        let mut boxes = mailboxes(2, 8);
        let mut receiver = boxes.pop().unwrap();
        let mut sender = boxes.pop().unwrap();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        receiver.set_waker(Waker::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        sender.send(1, mail(0, 0));
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        assert!(!receiver.fall_asleep(), "there is mail");
        receiver.receive();
        assert!(receiver.fall_asleep());
        sender.send(1, mail(1, 0));
        sender.send(1, mail(2, 0));
        assert_eq!(woken.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_who_sends_without_end_keeps_no_other_waiting() {
        let mut boxes = mailboxes(3, 8);
        let mut receiver = boxes.remove(2);
        for n in 0..4 {
            boxes[0].send(2, mail(n, 0));
        }
        boxes[1].send(2, mail(100, 1));
        boxes[1].send(2, mail(101, 1));
        let order: Vec<_> = std::iter::from_fn(|| number(receiver.receive())).collect();
        assert_eq!(order, [0, 100, 1, 101, 2, 3]);
    }

    #[test]
    fn a_ring_is_never_overfull_and_keeps_the_order_while_both_ends_are_busy() {
        const PIECES: u64 = 100_000;
        const CAPACITY: usize = 64;
        let ring = Ring::new(CAPACITY);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..PIECES {
                    let mut piece = mail(n, 0);
                    while let Some(back) = ring.push(piece) {
                        piece = back;
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            while next < PIECES {
                assert!(ring.mail.len() <= CAPACITY, "{} pieces", ring.mail.len());
                match number(ring.pop()) {
                    Some(n) => {
                        assert_eq!(n, next);
                        next += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        assert!(ring.is_empty());
        assert_eq!(ring.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn mail_to_oneself_arrives() {
        let mut only = mailboxes(1, 1).pop().unwrap();
        only.send(0, mail(7, 0));
        assert!(!only.fall_asleep());
        assert_eq!(number(only.receive()), Some(7));
    }
}
