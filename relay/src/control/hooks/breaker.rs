//! The circuit breaker of one server: after so many failures in a row it is left alone for a while,
//! then one call decides. Pure; time comes in.

use std::time::Duration;

/// Whether a server is called.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures since the last success.
    failures: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// Nobody is let through before then.
    Open { until: Duration },
    /// One call was let through at that time and is to decide.
    Trying { since: Duration },
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Call,
    /// No, for a while.
    Left,
    /// A call is under way that decides.
    Wait,
}

/// What a result changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
    None,
}

impl Breaker {
    /// Whether a call may be made now. After a pause the first one may, and decides.
    pub(super) fn admit(&mut self, now: Duration, pause: Duration) -> Admission {
        match self.state {
            State::Closed => Admission::Call,
            State::Open { until } if now < until => Admission::Left,
            // One that was let through and never came back does not decide for ever.
            State::Trying { since } if now < since + pause => Admission::Wait,
            State::Open { .. } | State::Trying { .. } => {
                self.state = State::Trying { since: now };
                Admission::Call
            }
        }
    }

    /// A call was answered.
    pub(super) fn succeeded(&mut self) -> Change {
        self.failures = 0;
        match std::mem::take(&mut self.state) {
            State::Closed => Change::None,
            State::Open { .. } | State::Trying { .. } => Change::Closed,
        }
    }

    /// A call failed; `most` in a row open the breaker for `pause`.
    pub(super) fn failed(&mut self, now: Duration, most: usize, pause: Duration) -> Change {
        self.failures = self.failures.saturating_add(1);
        let until = now + pause;
        match self.state {
            State::Closed if self.failures >= most => {
                self.state = State::Open { until };
                Change::Opened
            }
            State::Trying { .. } => {
                self.state = State::Open { until };
                Change::None
            }
            State::Closed | State::Open { .. } => Change::None,
        }
    }

    /// Whether calls are kept from the server.
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::Admission::{Call, Left, Wait};
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            assert_eq!(breaker.failed(at(0), 3, PAUSE), Change::None);
        }
        assert_eq!(breaker.succeeded(), Change::None);
        for _ in 0..2 {
            assert_eq!(breaker.failed(at(0), 3, PAUSE), Change::None);
            assert_eq!(breaker.admit(at(0), PAUSE), Call);
        }
        assert_eq!(breaker.failed(at(1), 3, PAUSE), Change::Opened);
        assert!(breaker.is_open());
        assert_eq!(breaker.admit(at(5), PAUSE), Left);
        assert_eq!(breaker.admit(at(6), PAUSE), Call, "the pause is over");
        assert_eq!(breaker.admit(at(6), PAUSE), Wait, "one call decides");
        assert_eq!(breaker.failed(at(7), 3, PAUSE), Change::None);
        assert_eq!(breaker.admit(at(11), PAUSE), Left);
        assert_eq!(breaker.admit(at(12), PAUSE), Call);
        assert_eq!(breaker.succeeded(), Change::Closed);
        assert!(!breaker.is_open());
        assert_eq!(breaker.admit(at(12), PAUSE), Call);
    }

    #[test]
    fn a_try_that_never_comes_back_is_followed_by_another() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(at(0), 1, PAUSE), Change::Opened);
        assert_eq!(breaker.admit(at(5), PAUSE), Call);
        assert_eq!(breaker.admit(at(9), PAUSE), Wait);
        assert_eq!(breaker.admit(at(10), PAUSE), Call);
        // What was under way when it opened may still come back.
        assert_eq!(breaker.failed(at(10), 1, PAUSE), Change::None);
        assert!(breaker.is_open());
    }
}
