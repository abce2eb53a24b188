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

/// Seconds as lines of the log and answers of the API show them, to the millisecond: those of
/// [`Duration::as_secs_f64`] have digits of no meaning behind them, as in 1.9609999999999999.
#[must_use]
pub fn in_seconds(time: Duration) -> f64 {
    let milliseconds = u32::try_from(time.as_millis()).map(f64::from);
    milliseconds.map_or_else(|_| time.as_secs_f64().floor(), |count| count / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_shown_to_the_millisecond() {
        for milliseconds in 0..20_000_u64 {
            let shown = in_seconds(Duration::from_millis(milliseconds) + Duration::from_nanos(7));
            let digits = format!("{shown}").split('.').nth(1).map_or(0, str::len);
            assert!(digits <= 3, "{shown}");
        }
        assert_eq!(in_seconds(Duration::from_millis(1_961)), 1.961);
        assert_eq!(in_seconds(Duration::from_secs(10_000_000)), 1e7);
    }
}
