//! The one door by which time enters the workers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since the node's start. Every worker of a node holds a copy of the same clock, so their
/// times compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time since 1970 at which the node would have started if the host's clock had always
    /// gone as it goes now: it changes when somebody sets that clock.
    #[must_use]
    pub fn epoch(&self) -> Duration {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        unix.saturating_sub(self.now())
    }
}
