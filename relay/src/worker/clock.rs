//! The one door by which time enters the workers.

use std::time::{Duration, Instant};

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
}
