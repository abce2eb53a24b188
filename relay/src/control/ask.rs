//! Asking workers, with a deadline: an answer, or the reason why there is none.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::worker::handle::WorkerHandle;
use crate::worker::report::{Query, Reply};

/// A worker answers within a turn; one that takes longer is as good as gone.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A worker gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {core} does not answer")]
pub(super) struct NoAnswer {
    pub(super) core: usize,
}

/// Asks one worker.
pub(super) async fn ask<T: Send + 'static>(
    worker: &WorkerHandle,
    query: impl FnOnce(Reply<T>) -> Query,
) -> Result<T, NoAnswer> {
    put(worker, query)?.by(Instant::now() + ANSWER_WITHIN).await
}

/// Asks all workers at once; all have to answer.
pub(super) async fn ask_all<T: Send + 'static>(
    workers: &[WorkerHandle],
    query: impl Fn(Reply<T>) -> Query,
) -> Result<Vec<T>, NoAnswer> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let asked = workers.iter().map(|worker| put(worker, &query)).collect::<Result<Vec<_>, _>>()?;
    let mut answers = Vec::with_capacity(asked.len());
    for pending in asked {
        answers.push(pending.by(deadline).await?);
    }
    Ok(answers)
}

/// Repeats an order to a worker whose ring is full. The caller's own deadline decides what then.
pub(super) async fn insist(worker: WorkerHandle, order: impl Fn() -> Query) {
    for _ in 0..100 {
        sleep(Duration::from_millis(50)).await;
        if worker.ask(order()).is_ok() {
            return;
        }
    }
}

/// An answer that is under way.
struct Pending<T> {
    core: usize,
    receiver: oneshot::Receiver<T>,
}

fn put<T: Send + 'static>(
    worker: &WorkerHandle,
    query: impl FnOnce(Reply<T>) -> Query,
) -> Result<Pending<T>, NoAnswer> {
    let (sender, receiver) = oneshot::channel();
    // An asker that gave up has dropped its end; the answer is then dropped, too.
    let reply = Reply::new(move |answer| drop(sender.send(answer)));
    let core = worker.core;
    worker.ask(query(reply)).map_err(|_| NoAnswer { core })?;
    Ok(Pending { core, receiver })
}

impl<T> Pending<T> {
    async fn by(self, deadline: Instant) -> Result<T, NoAnswer> {
        match timeout_at(deadline, self.receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(NoAnswer { core: self.core }),
        }
    }
}
