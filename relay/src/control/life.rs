//! From running to ended: what signals ask for, the drain window, and the ends of workers.
//!
//! Every step has a deadline. A worker that does not end in time makes the node fail; it never
//! makes it hang.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::ending::{Ending, Endings};
use super::state::{Phase, State};
use super::{Outcome, ask, draining, reload};
use crate::worker::clock::in_seconds;
use crate::worker::report::Query;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGTERM: end when everybody has gone, or the window is over.
    Drain,
    /// The API: the same, but asked again it changes nothing.
    DrainOnce,
    /// SIGINT: end now.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
    /// This thread cannot go on: end now, and say that it was no order.
    Fail,
}

/// The wishes of those who run us, as signals and the API bring them.
pub(super) fn wishes(state: &State) -> io::Result<mpsc::UnboundedReceiver<Wish>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // A node lives once.
    let _ = state.wishes.set(sender.clone());
    for (kind, wish) in [
        (SignalKind::terminate(), Wish::Drain),
        (SignalKind::interrupt(), Wish::Stop),
        (SignalKind::hangup(), Wish::Reload),
    ] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(wish).is_ok() {}
        });
    }
    Ok(receiver)
}

/// From running to ended. The first SIGTERM drains, if there is a window for it; everything
/// further, or a failing worker, stops. After the window, and after being told to stop, workers
/// have `patience` to end.
pub(super) async fn live(
    state: &Arc<State>,
    mut endings: Endings,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    patience: Duration,
) -> Outcome {
    let mut outcome = Outcome::InOrder;
    let mut running = state.workers.len();
    let mut stopping = false;
    let mut deadline: Option<Instant> = None;
    while running > 0 {
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let stop = tokio::select! {
            Some(wish) = wishes.recv() => {
                let window = state.in_force().effective.config.drain.window;
                if wish == Wish::Fail {
                    tracing::error!("what every node needs panicked");
                    outcome = Outcome::Failed;
                    true
                } else if wish == Wish::Reload {
                    let state = Arc::clone(state);
                    tokio::spawn(async move { reload::reload(&state).await.is_ok() });
                    false
                } else if wish == Wish::DrainOnce && state.phase() == Phase::Draining {
                    false
                } else if wish != Wish::Stop && !window.is_zero() && state.phase() != Phase::Draining {
                    tracing::info!(seconds = in_seconds(window), "draining");
                    state.begin_drain(window);
                    tokio::spawn(draining::tell_progress(Arc::clone(state)));
                    tell(state, move || Query::Drain { window });
                    deadline = Some(Instant::now() + window + patience);
                    false
                } else {
                    true
                }
            }
            ending = endings.next() => {
                running -= 1;
                if ended_well(ending, state) {
                    false
                } else {
                    outcome = Outcome::Failed;
                    true
                }
            }
            () = due => {
                if stopping {
                    tracing::error!(running, "workers did not end when told to stop");
                    return Outcome::Failed;
                }
                tracing::warn!(running, "workers did not end within the drain window");
                true
            }
        };
        if stop && !stopping {
            tracing::info!("stopping");
            stopping = true;
            state.set_phase(Phase::Draining);
            tell(state, || Query::Stop);
            deadline = Some(Instant::now() + patience);
        }
    }
    outcome
}

/// A worker may only end when it was told to.
fn ended_well(ending: Ending, state: &State) -> bool {
    let Ending { core, panicked } = ending;
    let told = state.phase() == Phase::Draining;
    if panicked || !told {
        tracing::error!(core, panicked, "a worker ended by itself");
    } else {
        tracing::debug!(core, "a worker ended");
    }
    told && !panicked
}

/// Tells every worker. One whose ring is full is told once more shortly after: it may just be busy.
fn tell(state: &State, order: impl Fn() -> Query + Clone + Send + 'static) {
    for worker in &state.workers {
        if worker.ask(order()).is_err() {
            tracing::warn!(core = worker.core, "a worker takes no orders, trying again");
            tokio::spawn(ask::insist(worker.clone(), order.clone()));
        }
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
