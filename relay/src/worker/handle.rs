//! The two ends between the control thread and a worker: cells to read, and a bounded ring of
//! queries.
//!
//! Nobody waits here. Asking pushes onto the ring and wakes the worker's reactor; a full ring is an
//! error that the asker reports. The worker empties the ring once a turn and answers each query by
//! calling its reply.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::cells::Cells;
use super::report::Query;
use super::verdicts::Answer;
use crate::reactor::Waker;

/// Queries that may wait for one worker.
pub const QUERIES_MAX: usize = 64;

/// Verdicts of hooks that may wait for one worker.
pub const ANSWERS_MAX: usize = 1_024;

/// What the rest of the node holds of a worker.
#[derive(Clone)]
pub struct WorkerHandle {
    /// The worker's number, from 0; the `core` label in `/metrics`.
    pub core: usize,
    /// The reactor's backend: `io_uring` or `mio`.
    pub backend: &'static str,
    /// Why it is this backend, for `relay_reactor_info`; for example `asked for`.
    pub backend_reason: String,
    /// What the worker counts.
    pub cells: Arc<Cells>,
    queries: Arc<ArrayQueue<Query>>,
    answers: Arc<ArrayQueue<Answer>>,
    waker: Waker,
}

/// The worker's own end.
pub struct QueryInbox {
    queries: Arc<ArrayQueue<Query>>,
    answers: Arc<ArrayQueue<Answer>>,
}

/// A worker's ring of queries is full: it does not turn, or is asked faster than it can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has {QUERIES_MAX} queries waiting")]
pub struct Full;

impl WorkerHandle {
    /// Both ends of a new worker. Made on the worker's thread, where its reactor is.
    #[must_use]
    pub fn new(
        core: usize,
        backend: &'static str,
        backend_reason: String,
        cells: Arc<Cells>,
        waker: Waker,
    ) -> (Self, QueryInbox) {
        let queries = Arc::new(ArrayQueue::new(QUERIES_MAX));
        let answers = Arc::new(ArrayQueue::new(ANSWERS_MAX));
        let inbox = QueryInbox { queries: Arc::clone(&queries), answers: Arc::clone(&answers) };
        (Self { core, backend, backend_reason, cells, queries, answers, waker }, inbox)
    }

    /// Asks, and wakes the worker.
    ///
    /// # Errors
    ///
    /// [`Full`] when the ring is; the query is dropped, and with it its reply.
    pub fn ask(&self, query: Query) -> Result<(), Full> {
        self.queries.push(query).map_err(|_| Full)?;
        self.waker.wake();
        Ok(())
    }

    /// Brings the verdict of a hook, and wakes the worker.
    ///
    /// # Errors
    ///
    /// The verdict, when as many as may be are waiting; it is still owed.
    pub fn answer(&self, answer: Answer) -> Result<(), Answer> {
        self.answers.push(answer)?;
        self.waker.wake();
        Ok(())
    }
}

impl QueryInbox {
    /// Whether neither a query nor a verdict waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty() && self.answers.is_empty()
    }

    /// The oldest query waiting.
    #[must_use]
    pub fn next(&self) -> Option<Query> {
        self.queries.pop()
    }

    /// The oldest verdict waiting.
    #[must_use]
    pub fn next_answer(&self) -> Option<Answer> {
        self.answers.pop()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn queries_arrive_in_order_and_a_full_ring_says_so() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let waker = Waker::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let (handle, inbox) = WorkerHandle::new(0, "sim", String::new(), Arc::default(), waker);
        assert_eq!(handle.ask(Query::Stop), Ok(()));
        for _ in 1..QUERIES_MAX {
            assert_eq!(handle.ask(Query::Drain { window: Default::default() }), Ok(()));
        }
        assert_eq!(handle.ask(Query::Stop), Err(Full));
        assert_eq!(wakes.load(Ordering::Relaxed), QUERIES_MAX);
        assert!(matches!(inbox.next(), Some(Query::Stop)));
        assert!(matches!(inbox.next(), Some(Query::Drain { .. })));
        assert_eq!(handle.ask(Query::Stop), Ok(()));
    }
}
