//! One core: a reactor, its clients, their timers, and the players that only count.
//!
//! ```text
//!   loop: fire timers that are due -> submit -> wait for the next one or for bytes -> complete
//!         -> let the counting players read -> once a second hand over what was measured
//! ```

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use relay::config::ReactorChoice;
use relay::limits::Limits;
use relay::reactor::uring::{UringOptions, UringReactor};
use relay::reactor::{Operation, PollReactor, Reactor, SocketOptions};

use super::crowd::Crowd;
use super::state::State;
use super::task::Task;
use crate::clock;
use crate::failure::Failure;
use crate::flv::FileStream;
use crate::measure::{Interval, Meter};
use crate::payload::{Filler, mix};
use crate::plan::Plan;
use crate::units::nanos;

/// What all workers of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pub(super) filler: Arc<Filler>,
    /// Each published stream, when a file is published.
    pub(super) files: Vec<Arc<FileStream>>,
    pub(super) limits: Arc<Limits>,
    pub(super) host: u32,
    /// When the load begins.
    pub(super) begin: Duration,
    /// Set when somebody wants it to end early.
    pub(super) stop: Arc<AtomicBool>,
    /// Why the run came to nothing, if it did.
    pub(super) broken: Mutex<Option<Failure>>,
}

/// A worker of one thread.
pub(super) struct Worker {
    number: u64,
    shared: Arc<Shared>,
    reactor: Box<dyn Reactor>,
    state: State,
    crowd: Crowd,
    intervals: Sender<Interval>,
    /// Intervals handed over.
    reported: u64,
    reported_at: Duration,
    reported_cpu: Duration,
}

/// How long a worker waits at most before it looks whether it shall stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// After the end, clients have this long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// epoll waits whole milliseconds; what is due sooner is waited for by sleeping.
const MILLISECOND: Duration = Duration::from_millis(1);

impl Worker {
    /// A worker with its share of the load, sorted by when it is due.
    pub(super) fn new(
        number: u64,
        shared: Arc<Shared>,
        tasks: Vec<Task>,
        intervals: Sender<Interval>,
    ) -> Result<Self, Failure> {
        let options = SocketOptions {
            // A server that does not answer a connection for so long is counted as not there.
            user_timeout: Some(Duration::from_secs(20)),
            notsent_bytes_max: None,
            ..SocketOptions::default()
        };
        let reactor = reactor(shared.plan.reactor, shared.limits.receive_bytes, &options)?;
        let crowd = Crowd::new(Arc::clone(&shared)).map_err(no_poll)?;
        let state = State::new(Arc::clone(&shared), tasks, mix(shared.plan.seed, number + 1));
        let begin = shared.begin;
        Ok(Self {
            number,
            shared,
            reactor,
            state,
            crowd,
            intervals,
            reported: 0,
            reported_at: begin,
            reported_cpu: Duration::ZERO,
        })
    }

    /// Runs the load to its end.
    pub(super) fn run(mut self) {
        self.reported_cpu = clock::thread_cpu();
        let mut operations: Vec<Operation> = Vec::new();
        loop {
            let now = clock::now();
            if self.shared.stop.load(Ordering::Relaxed) {
                self.state.stop(now);
            }
            self.state.fire(now, &mut self.crowd);
            operations.append(self.state.operations());
            self.reactor.submit(&mut operations);
            self.wait();
            let state = &mut self.state;
            self.reactor.drain(&mut |completion| state.complete(completion));
            self.crowd.turn(self.state.meter());
            for (task, loss) in self.crowd.take_losses() {
                self.state.lost_in_crowd(task, &loss);
            }
            for task in self.crowd.take_redirected() {
                self.state.restart(task);
            }
            let now = clock::now();
            self.report(now);
            let end = self.state.end();
            let idle = self.state.is_idle() && self.crowd.is_empty();
            if now > end && (idle || now > end + FAREWELL) {
                self.state.settle(now);
                self.crowd.settle(now, self.state.meter());
                self.hand_over(now);
                return;
            }
        }
    }

    fn wait(&mut self) {
        let now = clock::now();
        let due = self.state.next_due().unwrap_or(now + PATIENCE);
        let left = due.saturating_sub(now).min(PATIENCE).min(self.crowd.patience());
        let left = if self.state.has_operations() { Duration::ZERO } else { left };
        if left >= MILLISECOND {
            // Rounded down; the rest is slept below, in the next turn.
            let whole = u64::try_from(left.as_millis()).unwrap_or_default();
            self.reactor.wait(Some(Duration::from_millis(whole)));
        } else {
            if !left.is_zero() {
                thread::sleep(left);
            }
            self.reactor.wait(Some(Duration::ZERO));
        }
    }

    /// Hands over what was measured, once for each second.
    fn report(&mut self, now: Duration) {
        let next = self.shared.begin + Duration::from_secs(self.reported + 1);
        if now >= next {
            self.hand_over(now);
            self.reported += 1;
        }
    }

    fn hand_over(&mut self, now: Duration) {
        let cpu = clock::thread_cpu();
        let (verifying, publishers) = self.state.present();
        let meter: &mut Meter = self.state.meter();
        let interval = Interval {
            worker: self.number,
            second: self.reported,
            players: verifying + self.crowd.present(),
            publishers,
            reactor: self.reactor.backend().to_owned(),
            cpu_ns: nanos(cpu - self.reported_cpu),
            wall_ns: nanos(now.saturating_sub(self.reported_at)),
            ..meter.take()
        };
        self.reported_cpu = cpu;
        self.reported_at = now;
        // Nobody listens any more when the run was given up.
        let _ = self.intervals.send(interval);
    }
}

/// The reactor that was asked for, or the best that can be had.
fn reactor(
    choice: ReactorChoice,
    receive_bytes: usize,
    options: &SocketOptions,
) -> Result<Box<dyn Reactor>, Failure> {
    if choice != ReactorChoice::Mio {
        let settings = UringOptions { receive_bytes, ..UringOptions::default() };
        match UringReactor::new(&settings, options.clone()) {
            Ok(reactor) => return Ok(Box::new(reactor)),
            Err(_) if choice == ReactorChoice::Auto => {}
            Err(why) => return Err(Failure::new(format!("io_uring cannot be used: {why}"))),
        }
    }
    Ok(Box::new(PollReactor::new(receive_bytes, options.clone()).map_err(no_poll)?))
}

fn no_poll(error: io::Error) -> Failure {
    Failure::new(format!("the kernel gives no event queue: {error}"))
}
