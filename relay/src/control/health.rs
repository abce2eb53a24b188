//! Three questions that Kubernetes asks, each on a path of its own.
//!
//! Alive is: every worker has turned lately. It never depends on peers, load or limits, since a
//! restart helps against none of them. Answered by the control thread from the workers' turn
//! counters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use parking_lot::Mutex;

use super::cluster;
use super::draining::DrainReport;
use super::state::{Phase, State};
use crate::worker::handle::WorkerHandle;
use crate::worker::labels::Full;

/// When each worker was last seen to have turned.
pub(super) struct Heartbeats(Mutex<Vec<Heartbeat>>);

struct Heartbeat {
    turns: u64,
    moved: Instant,
}

impl Heartbeats {
    pub(super) fn new(workers: usize, now: Instant) -> Self {
        Self(Mutex::new((0..workers).map(|_| Heartbeat { turns: 0, moved: now }).collect()))
    }

    /// Looks at every worker's turns.
    pub(super) fn sample(&self, workers: &[WorkerHandle]) {
        self.sample_at(workers, Instant::now());
    }

    fn sample_at(&self, workers: &[WorkerHandle], now: Instant) {
        for (worker, heartbeat) in workers.iter().zip(self.0.lock().iter_mut()) {
            let turns = worker.cells.turns.get();
            if turns != heartbeat.turns {
                *heartbeat = Heartbeat { turns, moved: now };
            }
        }
    }

    /// The worker that has not turned for longest, and for how long, if that is too long.
    fn hanging(&self, now: Instant, most: Duration) -> Option<(usize, Duration)> {
        let heartbeats = self.0.lock();
        let still =
            heartbeats.iter().map(|heartbeat| now.saturating_duration_since(heartbeat.moved));
        still.enumerate().max_by_key(|(_, still)| *still).filter(|(_, still)| *still > most)
    }
}

type Answer = (StatusCode, String);

/// `/livez`
pub(super) async fn live(Shared(state): Shared<Arc<State>>) -> Answer {
    state.heartbeats.sample(&state.workers);
    match state.heartbeats.hanging(Instant::now(), state.in_force().limits.worker_hang_max) {
        None => ok(),
        Some((core, still)) => {
            no(format!("worker {core} has not turned for {} s", still.as_secs()))
        }
    }
}

/// `/startupz`
pub(super) async fn started(Shared(state): Shared<Arc<State>>) -> Answer {
    let waiting = state.workers.iter().find(|worker| worker.cells.turns.get() == 0);
    match (state.phase(), waiting) {
        (Phase::Starting, _) => no("starting".to_owned()),
        (_, Some(worker)) => no(format!("worker {} has not turned yet", worker.core)),
        (_, None) => ok(),
    }
}

/// `/readyz`
pub(super) async fn ready(shared: Shared<Arc<State>>) -> Answer {
    let state = Arc::clone(&shared.0);
    let limit = u64::try_from(state.in_force().limits.connections_max).unwrap_or(u64::MAX);
    match state.phase() {
        Phase::Starting => no("starting".to_owned()),
        Phase::Draining => {
            no(DrainReport::of(&state).map_or("draining".to_owned(), |drain| drain.sentence()))
        }
        Phase::Running if state.connections() >= limit => {
            no(format!("connections_max ({limit}) is reached"))
        }
        Phase::Running => match (full(&state), deaf(&state)) {
            (Some(limit), _) => no(format!("{limit} is reached", limit = limit.label())),
            (None, Some(core)) => no(format!("worker {core} cannot accept connections")),
            (None, None) => match cluster::unfound(&state) {
                Some(why) => no(why),
                None => started(shared).await,
            },
        },
    }
}

/// The limit of players or of what is sent that is reached, if one is.
fn full(state: &State) -> Option<Full> {
    let is = |full: &&Full| state.workers.iter().any(|w| w.cells.full.at(**full).get() > 0);
    Full::ALL.iter().find(is).copied()
}

/// A worker that listens and cannot accept: its share of those who come would wait in vain.
fn deaf(state: &State) -> Option<usize> {
    let is = |worker: &&WorkerHandle| worker.cells.accepts_failed.get() > 0;
    state.workers.iter().find(is).map(|worker| worker.core)
}

fn ok() -> Answer {
    (StatusCode::OK, "ok\n".to_owned())
}

fn no(why: String) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, why + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_worker_that_does_not_turn_is_named_in_time() {
        let (workers, _inboxes) = testing::workers(3);
        let start = Instant::now();
        let heartbeats = Heartbeats::new(3, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        for seconds in 1..=60 {
            workers[0].cells.turns.increment();
            workers[2].cells.turns.increment();
            if seconds <= 20 {
                workers[1].cells.turns.increment();
            }
            heartbeats.sample_at(&workers, at(seconds));
            let expected = (seconds > 30).then(|| (1, Duration::from_secs(seconds - 20)));
            assert_eq!(
                heartbeats.hanging(at(seconds), Duration::from_secs(10)),
                expected,
                "{seconds} s"
            );
        }
    }
}
