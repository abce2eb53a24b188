//! Threads and processes on cores of their own.
//!
//! A figure per core is one only when the measured work has a core for itself: [`run_pair`] gives
//! two pieces of work a core each and says what CPU each of them took.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::clock;

/// The cores that this process may use, in order.
#[must_use]
pub fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// When the kernel does not allow the core.
pub fn pin_thread(core: usize) -> io::Result<()> {
    pin(None, core)
}

/// Keeps every thread that a process has now on one core; those that it starts later inherit it.
///
/// # Errors
/// When the process is not there or the kernel does not allow the core.
pub fn pin_process(id: u32, core: usize) -> io::Result<()> {
    for entry in fs::read_dir(format!("/proc/{id}/task"))? {
        let thread = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let thread = thread.and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        pin(Some(thread), core)?;
    }
    Ok(())
}

fn pin(thread: Option<Pid>, core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(thread, &set)?)
}

/// What two pieces of work gave and took.
#[derive(Clone, Copy, Debug)]
pub struct Pair<A, B> {
    /// What the first gave.
    pub first: A,
    /// What the second gave.
    pub second: B,
    /// CPU time of the first one's thread.
    pub first_cpu: Duration,
    /// CPU time of the second one's thread.
    pub second_cpu: Duration,
    /// From the start of both to the end of both.
    pub wall: Duration,
}

/// Runs two pieces of work at the same time, each on a core of its own.
///
/// # Errors
/// When there are not two cores, or one cannot be had.
///
/// # Panics
/// When one of the two panics.
pub fn run_pair<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> io::Result<Pair<A, B>> {
    let cores = cores();
    let (Some(first_core), Some(second_core)) = (cores.first(), cores.get(1)) else {
        return Err(io::Error::other("two cores are needed, and there is one"));
    };
    let began = clock::now();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| pinned(*first_core, first));
        let second = scope.spawn(|| pinned(*second_core, second));
        (first.join().expect("the first did not panic"), second.join().expect("nor the second"))
    });
    let wall = clock::now() - began;
    let ((first, first_cpu), (second, second_cpu)) = (first?, second?);
    Ok(Pair { first, second, first_cpu, second_cpu, wall })
}

fn pinned<T>(core: usize, work: impl FnOnce() -> T) -> io::Result<(T, Duration)> {
    pin_thread(core)?;
    let before = clock::thread_cpu();
    let result = work();
    Ok((result, clock::thread_cpu() - before))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_of_a_pair_has_its_core_and_its_own_account() {
        if cores().len() < 2 {
            assert!(run_pair(|| (), || ()).is_err());
            return;
        }
        let pair = run_pair(
            || {
                let end = clock::thread_cpu() + Duration::from_millis(30);
                while clock::thread_cpu() < end {}
                cores()
            },
            || {
                thread::sleep(Duration::from_millis(1));
                cores()
            },
        )
        .unwrap();
        assert_eq!((pair.first.len(), pair.second.len()), (1, 1));
        assert_ne!(pair.first, pair.second);
        assert!(pair.first_cpu >= Duration::from_millis(30));
        assert!(pair.second_cpu < Duration::from_millis(20), "{:?}", pair.second_cpu);
        assert!(pair.wall >= pair.first_cpu);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(pin_thread(CpuSet::MAX_CPU).is_err());
        assert!(pin_process(u32::MAX, 0).is_err());
    }
}
