//! One server of one application: how many calls are made to it at a time, and whether any are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::breaker::{Admission, Breaker, Change};
use crate::worker::clock::in_seconds;
use crate::worker::hook_settings::HookSettings;

/// Notifications, and questions about those who are in, have places of their own, so that many of
/// them keep no client waiting.
#[derive(Debug)]
pub(super) struct Server {
    /// Places of each kind, once those that are too many are free.
    concurrency: AtomicUsize,
    pub(super) breaker: Mutex<Breaker>,
    /// Clients that wait for a verdict of this server first.
    pub(super) waiting: AtomicUsize,
    /// Wakes those who wait for the call that decides.
    decided: Notify,
    told: Mutex<Told>,
    questions: Semaphore,
    notices: Semaphore,
}

/// When a line of the log last told of a failure, and how many it left out since.
#[derive(Debug, Default)]
struct Told {
    last: Option<Duration>,
    left_out: u64,
}

/// From one line about failures of a server to the next.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn new(concurrency: usize) -> Arc<Self> {
        Arc::new(Self {
            concurrency: AtomicUsize::new(concurrency),
            breaker: Mutex::default(),
            waiting: AtomicUsize::new(0),
            decided: Notify::new(),
            told: Mutex::default(),
            questions: Semaphore::new(concurrency),
            notices: Semaphore::new(concurrency),
        })
    }

    /// Has so many places from now on; what is under way goes on.
    pub(super) fn resize(self: &Arc<Self>, concurrency: usize) {
        let before = self.concurrency.swap(concurrency, Ordering::Relaxed);
        let more = concurrency.saturating_sub(before);
        self.questions.add_permits(more);
        self.notices.add_permits(more);
        if concurrency >= before {
            return;
        }
        for is_awaited in [true, false] {
            let server = Arc::clone(self);
            tokio::spawn(async move {
                for _ in concurrency..before {
                    if let Some(place) = server.place(is_awaited).await {
                        place.forget();
                    }
                }
            });
        }
    }

    /// Waits for a place, in the order of asking. Never fails, since the places are never closed.
    pub(super) async fn place(&self, is_awaited: bool) -> Option<SemaphorePermit<'_>> {
        let places = if is_awaited { &self.questions } else { &self.notices };
        places.acquire().await.ok()
    }

    /// Free places for questions and for notifications.
    #[cfg(test)]
    pub(super) fn places(&self) -> (usize, usize) {
        (self.questions.available_permits(), self.notices.available_permits())
    }

    /// Whether the server may be called now.
    pub(super) fn admits(&self, settings: &HookSettings, now: Duration) -> Admission {
        self.breaker.lock().admit(now, settings.breaker_pause)
    }

    /// Comes when the next call has gone well or badly, whichever it is. To be had before
    /// [`Self::admits`] is asked, so that none is missed.
    pub(super) fn decided(&self) -> Notified<'_> {
        self.decided.notified()
    }

    /// Tells the log of a failure and its cause, and of no more than one a second.
    pub(super) fn tell_failure(
        &self,
        (app, server): (&str, &str),
        hook: &str,
        why: &str,
        now: Duration,
    ) {
        let left_out = {
            let mut told = self.told.lock();
            if told.last.is_some_and(|last| now < last + TELL_EVERY) {
                told.left_out += 1;
                return;
            }
            told.last = Some(now);
            std::mem::take(&mut told.left_out)
        };
        let left_out = (left_out > 0).then_some(left_out);
        tracing::warn!(app, server, hook, why, left_out, "a back end gives no answer");
    }

    /// Notes how a call went, and says when the breaker opens or closes. `server` is for the log.
    pub(super) fn note(&self, works: bool, settings: &HookSettings, server: &str, now: Duration) {
        let app = &*settings.app;
        let change = if works {
            self.breaker.lock().succeeded()
        } else {
            let (most, pause) = (settings.breaker_failures, settings.breaker_pause);
            self.breaker.lock().failed(now, most, pause)
        };
        self.decided.notify_waiters();
        match change {
            Change::Opened => {
                let seconds = in_seconds(settings.breaker_pause);
                tracing::warn!(app, server, seconds, "a back end fails and is left alone");
            }
            Change::Closed => tracing::info!(app, server, "a back end answers again"),
            Change::None => {}
        }
    }
}
