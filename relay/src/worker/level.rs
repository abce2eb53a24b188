//! How long small messages gather before they are sent: the flush level that one worker asks for.
//!
//! A send costs a worker nearly the same whatever it carries, so a busy worker asks for fewer and
//! larger ones. What it asks for is a [`Step`] of a short ladder; low-rate streams come first at
//! each level, because their sends cost as much and carry less:
//!
//! ```text
//!   step    low-rate streams    other streams
//!    0            0 ms               0 ms
//!    1           20 ms               0 ms
//!    2           20 ms              20 ms
//!    3           50 ms              20 ms
//!    4           50 ms              50 ms
//! ```
//!
//! A step up is taken soon, a step down late and only if the worker would still have room there, as
//! its [`Estimate`] tells: so it settles. A step down that turns out to be wrong makes the next one
//! come later, should the estimate be wrong for good. A stream is flushed at the highest level that
//! its home or any worker reading it asks for, so a home that is idle cannot drown a busy reader.
//!
//! Pure: time and working time in, a step out.

use std::time::Duration;

use super::flow::Estimate;

/// A worker that works more than this share of the time asks for larger sends.
const BUSY: f64 = 0.6;

/// It asks for smaller ones only if it would then work less than this share of the time.
const ROOM: f64 = 0.5;

/// How long it must be too busy before it goes up.
const UP_AFTER: Duration = Duration::from_millis(500);

/// How long there must be room before it goes down.
const DOWN_AFTER: Duration = Duration::from_secs(5);

/// Who goes up so soon after going down was wrong to go down.
const REGRET: Duration = Duration::from_secs(20);

/// How often `DOWN_AFTER` is doubled at most by steps down that were wrong (5 s becomes 160 s).
const DOUBLINGS_MAX: u32 = 5;

/// The share of working time is smoothed over about this time.
const SMOOTHING: Duration = Duration::from_millis(500);

/// The saving by which a step up must be worth its delay.
const WORTH: f64 = 0.99;

/// The lower of the two levels that gather.
const LEVEL_1: Duration = Duration::from_millis(20);

/// The higher one.
const LEVEL_2: Duration = Duration::from_millis(50);

/// A place on the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step(u8);

impl Step {
    /// The last one.
    const LAST: Self = Self(4);

    /// The flush age that it asks for, by whether a stream has a low rate.
    pub(super) fn level(self, low_rate: bool) -> Duration {
        match (self.0, low_rate) {
            (0, _) | (1, false) => Duration::ZERO,
            (1, true) | (2, _) | (3, false) => LEVEL_1,
            _ => LEVEL_2,
        }
    }

    /// Every step, the lowest first.
    #[cfg(test)]
    pub(super) fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=Self::LAST.0).map(Self)
    }

    fn higher(self) -> impl Iterator<Item = Self> {
        (self.0 + 1..=Self::LAST.0).map(Self)
    }

    fn lower(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

/// Chooses the step of one worker.
#[derive(Debug, Default)]
pub(super) struct Controller {
    step: Step,
    /// Working time since the last look.
    worked: Duration,
    looked: Option<Duration>,
    /// The share of working time, smoothed; unknown at the start and after each step.
    busy: Option<f64>,
    too_busy_since: Option<Duration>,
    room_since: Option<Duration>,
    went_down: Option<Duration>,
    doublings: u32,
}

impl Controller {
    /// The step asked for.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Counts the working time of a turn.
    pub(super) fn worked(&mut self, time: Duration) {
        self.worked += time;
    }

    /// Looks at what was counted since the last look. To be called several times in `UP_AFTER`;
    /// `estimate` is asked for only when it matters. Whether the step changed.
    pub(super) fn look<'a>(
        &mut self,
        now: Duration,
        estimate: impl FnOnce() -> Estimate<'a>,
    ) -> bool {
        let worked = std::mem::take(&mut self.worked);
        let Some(passed) = self.looked.replace(now).and_then(|last| now.checked_sub(last)) else {
            return false;
        };
        if passed.is_zero() {
            self.worked = worked;
            return false;
        }
        let share = (worked.as_secs_f64() / passed.as_secs_f64()).min(1.0);
        let weight = passed.as_secs_f64() / (SMOOTHING + passed).as_secs_f64();
        let busy = self.busy.map_or(share, |busy| busy + (share - busy) * weight);
        self.busy = Some(busy);
        if busy > BUSY {
            self.room_since = None;
            let since = *self.too_busy_since.get_or_insert(now);
            return now - since >= UP_AFTER && self.go_up(now, &estimate());
        }
        self.too_busy_since = None;
        let Some(lower) = self.step.lower() else { return false };
        let has_room = busy < ROOM && busy * estimate().growth(lower) < ROOM;
        if !has_room {
            self.room_since = None;
            return false;
        }
        let since = *self.room_since.get_or_insert(now);
        if now - since < DOWN_AFTER * 2_u32.pow(self.doublings) {
            return false;
        }
        self.went_down = Some(now);
        self.take(lower);
        true
    }

    /// To the next step that saves something, if any does.
    fn go_up(&mut self, now: Duration, estimate: &Estimate<'_>) -> bool {
        let saves = |step: &Step| estimate.growth(*step) < WORTH;
        let Some(higher) = self.step.higher().find(saves) else { return false };
        match self.went_down.take() {
            Some(then) if now - then < REGRET => {
                self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
            }
            Some(_) => self.doublings = 0,
            None => {}
        }
        self.take(higher);
        true
    }

    fn take(&mut self, step: Step) {
        self.step = step;
        self.busy = None;
        self.too_busy_since = None;
        self.room_since = None;
    }
}

#[cfg(test)]
#[path = "level_tests.rs"]
mod tests;
