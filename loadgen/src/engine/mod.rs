//! The load itself: workers, one to a core, each with its own connections and its own measures.
//!
//! ```text
//!   Plan -> Tasks, dealt out -> Worker (thread, pinned): State  publishers, players that verify
//!                                                        Crowd  players that count
//!                               once a second: Interval ------> whoever collects
//! ```
//!
//! A connection belongs to one worker for life. Workers share nothing but the plan.

mod attack;
mod client;
mod crowd;
mod dialogue;
mod lane;
mod player;
mod publisher;
mod sources;
mod state;
mod task;
mod timers;
mod unframe;
mod web;
mod worker;

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use relay::limits::Limits;

pub use self::attack::Attack;
use self::task::{Job, Task};
use self::worker::{Shared, Worker};
use crate::clock;
use crate::failure::Failure;
use crate::flv::FileStream;
use crate::measure::Interval;
use crate::payload::Filler;
use crate::pinned;
use crate::plan::Plan;
use crate::units::wide;

/// Workers need this long to come up before the load begins.
const START_UP: Duration = Duration::from_millis(100);

/// Runs this process's share of a plan to its end. Each worker sends an interval a second, and the
/// last one drops its sender. `stop` ends the load early.
///
/// # Errors
/// One sentence when the kernel gives no threads or event queues.
pub fn run(
    plan: &Arc<Plan>,
    stop: &Arc<AtomicBool>,
    intervals: Sender<Interval>,
) -> Result<(), Failure> {
    let file = plan.file.iter().cycle().take(plan.publishers);
    let shared = Arc::new(Shared {
        plan: Arc::clone(plan),
        files: file.map(|file| Arc::new(FileStream::new(Arc::clone(file)))).collect(),
        filler: Arc::new(Filler::new(plan.seed)),
        limits: Arc::new(Limits { connect_timeout: OPENING_MAX, ..Limits::default() }),
        host: clock::host_tag(),
        begin: plan.begin.unwrap_or_else(|| clock::now() + START_UP),
        stop: Arc::clone(stop),
        broken: Mutex::new(None),
    });
    let cores = pinned::cores();
    let mut threads = Vec::new();
    for (number, tasks) in deal(&shared).into_iter().enumerate() {
        let shared = Arc::clone(&shared);
        let intervals = intervals.clone();
        let core = cores.get(number % cores.len().max(1)).copied();
        // One core and no other is of use only when every worker has its own.
        let core = core.filter(|_| plan.cores > 1 && plan.cores <= cores.len());
        let worker = wide(plan.part.0 * WORKERS_MAX + number);
        let thread = thread::Builder::new()
            .name(format!("load-{number}"))
            .spawn(move || {
                if let Some(core) = core {
                    // Not allowed to: the scheduler does as well as it can.
                    let _ = pinned::pin_thread(core);
                }
                match Worker::new(worker, Arc::clone(&shared), tasks, intervals) {
                    Ok(worker) => worker.run(),
                    Err(failure) => {
                        if let Ok(mut broken) = shared.broken.lock() {
                            *broken = Some(failure);
                        }
                    }
                }
            })
            .map_err(|error| Failure::new(format!("no thread can be started: {error}")))?;
        threads.push(thread);
    }
    drop(intervals);
    for thread in threads {
        if thread.join().is_err() {
            return Err(Failure::new("a worker of the generator panicked"));
        }
    }
    match shared.broken.lock().ok().and_then(|mut broken| broken.take()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Most workers of one process.
const WORKERS_MAX: usize = 1_024;

/// A server that has not let a client begin after this long is counted as not answering.
const OPENING_MAX: Duration = Duration::from_secs(20);

/// Deals the tasks of this process out to its workers, each worker's sorted by when they are due.
fn deal(shared: &Shared) -> Vec<Vec<Task>> {
    let plan = &shared.plan;
    let (part, parts) = plan.part;
    let mut tasks: Vec<Task> = Vec::new();
    let mut add = |job, at| tasks.push(Task::new(job, shared.begin + at));
    for index in (part..plan.publishers).step_by(parts) {
        add(Job::Publisher(index), plan.publisher_due(index));
    }
    for arrival in plan.arrivals().into_iter().skip(part).step_by(parts) {
        add(Job::Player(arrival), arrival.at);
    }
    for index in (part..plan.attackers).step_by(parts) {
        let kind = plan.attacks[index % plan.attacks.len()];
        let spread = plan.ramp.max(Duration::from_secs(1));
        let at = plan.warmup + spread.mul_f64(index as f64 / plan.attackers as f64);
        add(Job::Attacker(index, kind), at);
    }
    let workers = plan.cores.min(tasks.len()).clamp(1, WORKERS_MAX);
    let mut dealt: Vec<Vec<Task>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, task) in tasks.into_iter().enumerate() {
        dealt[number % workers].push(task);
    }
    for tasks in &mut dealt {
        tasks.sort_by_key(|task| task.due);
    }
    dealt
}
