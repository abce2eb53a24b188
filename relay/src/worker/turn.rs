//! One turn of a worker, and the loop of turns.
//!
//! ```text
//!   prepare(now)  mail, queries, due segments, deadlines, the send ring   -> operations
//!   submit        the kernel gets the operations; nothing waits
//!   clock, wait   the only place where the thread sleeps
//!   clock, drain  completions are handled                                 -> operations
//! ```
//!
//! The clock is read three times a turn: before the deadlines are judged, and around the wait, so
//! that time spent waiting and time spent working can be told apart. Everything between two
//! readings happens at one time; no message and no player has a reading of its own. The calendar,
//! by which permissions end, is looked at once a second.

use std::time::Duration;

use super::Worker;
use super::clock::Clock;
use crate::reactor::Reactor;

/// Longest sleep: a worker turns at least this often, which is its heartbeat.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// How often the calendar is looked at: somebody may set the host's clock.
const EPOCH_EVERY: Duration = Duration::from_secs(1);

/// Runs a worker until it was told to end and has ended.
pub fn run(worker: &mut Worker, reactor: &mut dyn Reactor, clock: Clock) {
    let mut awake_since = clock.now();
    let mut epoch_due = awake_since;
    worker.start();
    while !worker.has_ended() {
        let now = clock.now();
        if now >= epoch_due {
            worker.set_epoch(clock.epoch());
            epoch_due = now + EPOCH_EVERY;
        }
        worker.prepare(now);
        worker.submit(reactor);
        let before = clock.now();
        let timeout = worker.sleep_for(before).min(SLEEP_MAX);
        worker.count_work(before.saturating_sub(awake_since));
        reactor.wait(Some(timeout));
        awake_since = clock.now();
        worker.wake_up(awake_since.saturating_sub(before));
        reactor.drain(&mut |completion| worker.handle(completion, awake_since));
        worker.count_reactor(reactor.counters());
    }
    worker.submit(reactor);
}

/// One turn under virtual time, from the end of one sleep to the beginning of the next: everything
/// happens at `now` and nothing waits. [`Worker::start`] comes first. Gives the time by which the
/// next turn must come; completions, the waker and mail to one who sleeps make it come earlier.
pub fn step(worker: &mut Worker, reactor: &mut dyn Reactor, now: Duration) -> Duration {
    reactor.wait(Some(Duration::ZERO));
    worker.wake_up(Duration::ZERO);
    reactor.drain(&mut |completion| worker.handle(completion, now));
    worker.count_reactor(reactor.counters());
    worker.prepare(now);
    worker.submit(reactor);
    now + worker.sleep_for(now).min(SLEEP_MAX)
}
