//! One server of one application: how many calls are made to it at a time, and whether any are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::breaker::{Breaker, Change};
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
    questions: Semaphore,
    notices: Semaphore,
}

impl Server {
    pub(super) fn new(concurrency: usize) -> Arc<Self> {
        Arc::new(Self {
            concurrency: AtomicUsize::new(concurrency),
            breaker: Mutex::default(),
            waiting: AtomicUsize::new(0),
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
    pub(super) fn admits(&self, settings: &HookSettings, now: Duration) -> bool {
        self.breaker.lock().admit(now, settings.breaker_pause)
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
        match change {
            Change::Opened => {
                let seconds = settings.breaker_pause.as_secs_f64();
                tracing::warn!(app, server, seconds, "a back end fails and is left alone");
            }
            Change::Closed => tracing::info!(app, server, "a back end answers again"),
            Change::None => {}
        }
    }
}
