//! What a case is: a piece of hot work that can be repeated, measured by time or by instructions.
//!
//! A case separates what is measured from what must happen around it by [`Meter::measure`]: only
//! the work inside counts, for the clock and for the instruction counter alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A piece of work to measure.
pub(crate) struct Case {
    /// Its name in tables, on the command line and in the file of bounds.
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) what: &'static str,
    /// What is counted.
    pub(crate) per: Per,
    /// What its time should be, if anything was promised.
    pub(crate) aim: Option<Aim>,
    /// Rounds whose instructions are counted: a few, and then more, so that what happens once
    /// cancels out. `None`: the case shows memory at work, which instruction counts do not.
    pub(crate) counted: Option<(u32, u32)>,
    /// Gets everything ready.
    pub(crate) prepare: fn() -> Work,
}

/// What a figure is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    /// A byte of input; times are given as GB/s.
    Byte,
    /// One of these; times are given in ns.
    Each(&'static str),
}

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// At least this many bytes per nanosecond, which is GB/s.
    Above(f64),
    /// At most this many nanoseconds.
    Below(f64),
}

/// A prepared case.
pub(crate) struct Work {
    /// How many of what is counted one round handles.
    pub(crate) units: u64,
    /// One round. It judges its own result, outside of what is measured, and panics when that is
    /// wrong: a figure for work not done is worth nothing.
    pub(crate) round: Box<dyn FnMut(&mut Meter)>,
}

impl Work {
    /// A case of which one round handles `units`.
    pub(crate) fn new(units: usize, round: impl FnMut(&mut Meter) + 'static) -> Self {
        Self { units: u64::try_from(units).expect("a count fits 64 bits"), round: Box::new(round) }
    }
}

impl Per {
    /// The word behind "per".
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Byte => "byte",
            Self::Each(unit) => unit,
        }
    }
}

/// Measures work.
#[derive(Debug)]
pub(crate) struct Meter {
    spent: Duration,
    overhead: Duration,
    /// False under the instruction counter, where the clock that is used here is not to be had.
    looks_at_clock: bool,
}

impl Meter {
    /// A meter that knows what looking at the clock costs.
    pub(crate) fn new() -> Self {
        let mut meter = Self { looks_at_clock: true, ..Self::without_clock() };
        let empty = (0..1_000).map(|_| {
            meter.measure(|| {});
            meter.take()
        });
        let overhead = empty.min().unwrap_or_default();
        Self { overhead, ..meter }
    }

    /// A meter that lets the work be done and measures nothing itself.
    pub(crate) fn without_clock() -> Self {
        Self { spent: Duration::ZERO, overhead: Duration::ZERO, looks_at_clock: false }
    }

    /// Does the work, once, and adds what it took.
    pub(crate) fn measure(&mut self, mut work: impl FnMut()) {
        if !self.looks_at_clock {
            return measured(&mut work);
        }
        let from = processor_time();
        measured(&mut work);
        self.spent += processor_time().saturating_sub(from).saturating_sub(self.overhead);
    }

    /// What was measured since the last call.
    pub(crate) fn take(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }
}

/// Time that this thread has had a core: other load on the machine takes turns with it, but adds
/// nothing.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The function whose instructions are counted, everything that it calls included. One function for
/// all cases and never inlined, so that the counter finds it by its name.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

/// A pattern that matches the name of [`measured`] as the counter sees it, and no other.
pub(crate) const MEASURED: &str = "*case*measured*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_inside_is_measured() {
        let work = |spent: Duration| {
            let until = processor_time() + spent;
            while processor_time() < until {}
        };
        let mut meter = Meter::new();
        work(Duration::from_millis(20));
        meter.measure(|| {});
        assert!(meter.take() < Duration::from_millis(10));
        meter.measure(|| work(Duration::from_millis(20)));
        assert!(meter.take() >= Duration::from_millis(19));
        meter.measure(|| std::thread::sleep(Duration::from_millis(20)));
        assert!(meter.take() < Duration::from_millis(10), "a thread that waits uses no core");
        assert_eq!(meter.take(), Duration::ZERO);
    }
}
