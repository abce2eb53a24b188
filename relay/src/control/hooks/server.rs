//! One server of one application: how many calls are made to it at a time, and whether any are.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::breaker::{Breaker, Change};
use crate::worker::hook_settings::HookSettings;

/// Notifications, and questions about those who are in, have places of their own, so that many of
/// them keep no client waiting.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) concurrency: usize,
    pub(super) breaker: Mutex<Breaker>,
    questions: Semaphore,
    notices: Semaphore,
}

impl Server {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            breaker: Mutex::default(),
            questions: Semaphore::new(concurrency),
            notices: Semaphore::new(concurrency),
        }
    }

    /// Waits for a place, in the order of asking. Never fails, since the places are never closed.
    pub(super) async fn place(&self, is_awaited: bool) -> Option<SemaphorePermit<'_>> {
        let places = if is_awaited { &self.questions } else { &self.notices };
        places.acquire().await.ok()
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
