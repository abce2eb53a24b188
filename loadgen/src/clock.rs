//! The one clock: the kernel's monotonic time since boot, the same for every thread, process and
//! container of a host.
//!
//! That makes a time written into a payload by one process comparable in another. Across hosts it
//! is not, so whoever compares also compares [`host_tag`].

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Time since boot.
#[must_use]
pub fn now() -> Duration {
    span(clock_gettime(ClockId::Monotonic))
}

/// CPU time of the calling thread.
#[must_use]
pub fn thread_cpu() -> Duration {
    span(clock_gettime(ClockId::ThreadCPUTime))
}

/// CPU time of this process, all threads together.
#[must_use]
pub fn process_cpu() -> Duration {
    span(clock_gettime(ClockId::ProcessCPUTime))
}

/// A number that two processes share exactly when they share this clock.
#[must_use]
pub fn host_tag() -> u32 {
    // Without the file (another system than Linux) all hosts look alike, as on a single one.
    let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mixed = id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from(mixed >> 32).expect("32 bits are left")
}

fn span(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
