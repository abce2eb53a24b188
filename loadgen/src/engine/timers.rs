//! What a worker has to do at which time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::task::Task;

/// Something to be done.
#[derive(Debug)]
pub(super) enum Event {
    /// Make a connection.
    Start(Box<Task>),
    /// A publisher's next frame.
    Frame(u64),
    /// A slow reader reads again.
    Read(u64),
    /// A hostile client goes on; how many tenths of a second it is at it.
    Attack(u64, u64),
    /// Nothing; how late it fires says how much time the worker gets, even when nothing else is
    /// due.
    Beat,
    /// A player's or publisher's time is over.
    Leave(u64),
    /// A session ought to have begun.
    Deadline(u64),
    /// A tunnelled client may have to ask its server for more.
    Poll(u64),
    /// A client that said goodbye is closed whatever it still had to say.
    Close(u64),
}

/// Timers, the earliest first; those of one instant in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    count: u64,
}

#[derive(Debug)]
struct Timer {
    due: Duration,
    number: u64,
    event: Event,
}

impl Timers {
    pub(super) fn set(&mut self, due: Duration, event: Event) {
        self.count += 1;
        self.heap.push(Reverse(Timer { due, number: self.count, event }));
    }

    /// When the next is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.heap.peek().map(|timer| timer.0.due)
    }

    /// Takes the next, if it is due.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Duration, Event)> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| (timer.due, timer.event))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_equals_in_order() {
        let mut timers = Timers::default();
        let at = Duration::from_millis;
        for (due, id) in [(5, 1), (3, 2), (5, 3), (4, 4)] {
            timers.set(at(due), Event::Read(id));
        }
        assert!(timers.take(at(2)).is_none());
        let mut order = Vec::new();
        while let Some((_, Event::Read(id))) = timers.take(at(9)) {
            order.push(id);
        }
        assert_eq!(order, [2, 4, 1, 3]);
        assert_eq!(timers.next_due(), None);
    }
}
