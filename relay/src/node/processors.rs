//! How many workers this process has processors for, and whether to pin them.
//!
//! A container sees all processors of its host but may be given less: by affinity (exclusive
//! processors) or by a quota of time (shared ones). Everything here is a function of file contents
//! and lists, so that it can be tried without a container; only the last functions ask the kernel.

use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::cgroup::{self, Version};

/// Processor time per period, both in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    time: u64,
    period: u64,
}

/// Workers for this many processors under this quota: rounded down, since a worker that is
/// throttled in mid-turn delays all of its streams, and at least 1.
pub(super) fn workers(processors: usize, quota: Option<Quota>) -> usize {
    let by_quota = quota.map_or(usize::MAX, |quota| {
        usize::try_from(quota.time / quota.period).unwrap_or(usize::MAX)
    });
    processors.min(by_quota).max(1)
}

/// The processor of each worker, when there are exactly as many as workers and no quota: then they
/// are most likely ours alone. Otherwise the kernel places the threads, and a busy neighbour does
/// not stall one of them. A quota means that processors are shared, even where it allows all of
/// their time; who is given processors of its own has none.
pub(super) fn places(
    processors: &[usize],
    workers: usize,
    quota: Option<Quota>,
) -> Option<Vec<usize>> {
    (processors.len() == workers && quota.is_none()).then(|| processors.to_vec())
}

/// The tightest quota of this process's control groups, version 2 or 1. `read` gives a file's
/// content.
pub(super) fn quota(read: impl Fn(&Path) -> Option<String>) -> Option<Quota> {
    let groups = read(Path::new(cgroup::GROUPS))?;
    let folders = cgroup::folders(&groups, "cpu");
    let quotas = folders.into_iter().filter_map(|(version, folder)| match version {
        Version::Two => version_2(&read(&folder.join("cpu.max"))?),
        Version::One => {
            let time = read(&folder.join("cpu.cfs_quota_us"))?;
            version_1(&time, &read(&folder.join("cpu.cfs_period_us"))?)
        }
    });
    // A fraction is the less, the less time and the longer the period: compared by cross products.
    quotas.min_by(|a, b| {
        let [a, b] = [(a, b), (b, a)].map(|(x, y)| u128::from(x.time) * u128::from(y.period));
        a.cmp(&b)
    })
}

/// `cpu.max`: `max 100000` or `50000 100000`.
fn version_2(text: &str) -> Option<Quota> {
    let (time, period) = text.trim().split_once(' ')?;
    made(time, period)
}

/// `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`.
fn version_1(time: &str, period: &str) -> Option<Quota> {
    made(time.trim(), period.trim())
}

fn made(time: &str, period: &str) -> Option<Quota> {
    let (time, period) = (time.parse().ok()?, period.parse().ok()?);
    (period > 0).then_some(Quota { time, period })
}

/// The processors that this thread may run on, ascending; processor 0 when the kernel does not
/// tell.
pub(super) fn ours() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect()
}

/// The quota of this process.
pub(super) fn our_quota() -> Option<Quota> {
    quota(|path| std::fs::read_to_string(path).ok())
}

/// Keeps the calling thread on one processor.
///
/// # Errors
///
/// What the kernel says; the thread then runs where it did.
pub(super) fn pin(processor: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(files: &[(&str, &str)]) -> Option<Quota> {
        quota(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn workers_follow_affinity_and_quota() {
        fn check(processors: usize, quota: Option<(u64, u64)>, expected: usize) {
            let quota = quota.map(|(time, period)| Quota { time, period });
            assert_eq!(workers(processors, quota), expected, "{processors} {quota:?}");
        }
        check(4, None, 4);
        check(0, None, 1);
        check(8, Some((200_000, 100_000)), 2);
        check(8, Some((250_000, 100_000)), 2);
        check(8, Some((299_999, 100_000)), 2);
        check(8, Some((50_000, 100_000)), 1);
        check(2, Some((1_600_000, 100_000)), 2);
        check(8, Some((0, 100_000)), 1);
    }

    #[test]
    fn threads_are_pinned_only_to_processors_of_their_own() {
        fn check(processors: &[usize], workers: usize, quota: Option<(u64, u64)>, pinned: bool) {
            let quota = quota.map(|(time, period)| Quota { time, period });
            let expected = pinned.then(|| processors.to_vec());
            assert_eq!(places(processors, workers, quota), expected, "{processors:?} {quota:?}");
        }
        check(&[2, 5], 2, None, true);
        check(&[0, 1, 2, 3], 2, None, false);
        check(&[0], 2, None, false);
        // As much time as two processors have, but of any two.
        check(&[0, 1], 2, Some((200_000, 100_000)), false);
        check(&[0, 1], 2, Some((1_600_000, 100_000)), false);
    }

    #[test]
    fn the_quota_is_read_from_both_versions() {
        fn check(files: &[(&str, &str)], expected: Option<(u64, u64)>) {
            let expected = expected.map(|(time, period)| Quota { time, period });
            assert_eq!(read_from(files), expected, "{files:?}");
        }
        const GROUPS: &str = "/proc/self/cgroup";
        check(&[], None);
        // Version 2, seen from inside a container.
        check(
            &[(GROUPS, "0::/\n"), ("/sys/fs/cgroup/cpu.max", "50000 100000\n")],
            Some((50_000, 100_000)),
        );
        check(&[(GROUPS, "0::/\n"), ("/sys/fs/cgroup/cpu.max", "max 100000\n")], None);
        // Version 2 on a host: the tightest of the group and those above it.
        check(
            &[
                (GROUPS, "0::/kubepods/pod1/c1\n"),
                ("/sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "max 100000\n"),
                ("/sys/fs/cgroup/kubepods/pod1/cpu.max", "300000 100000\n"),
                ("/sys/fs/cgroup/kubepods/cpu.max", "200000 50000\n"),
            ],
            Some((300_000, 100_000)),
        );
        // Version 1, alone on its mount or together with cpuacct; and a host's path in a container.
        check(
            &[
                (GROUPS, "3:cpuset:/\n2:cpu:/pod\n0::/\n"),
                ("/sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us", "150000\n"),
                ("/sys/fs/cgroup/cpu/pod/cpu.cfs_period_us", "100000\n"),
                ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
            Some((150_000, 100_000)),
        );
        check(
            &[
                (GROUPS, "4:cpu,cpuacct:/kubepods/only-on-the-host\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ],
            Some((400_000, 100_000)),
        );
        // Exclusive processors lift the quota.
        check(
            &[
                (GROUPS, "2:cpu:/\n"),
                ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
            None,
        );
    }

    #[test]
    fn nonsense_in_a_file_means_no_quota() {
        for text in ["", "max", "1 0", "x y", "-1 100000", "1 2 3", "50000\n"] {
            assert_eq!(version_2(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_thread_can_be_pinned_to_one_of_its_processors() {
        let processors = ours();
        assert!(!processors.is_empty());
        let last = processors[processors.len() - 1];
        let pinned = std::thread::spawn(move || pin(last).map(|()| ours()));
        assert_eq!(pinned.join().expect("no panic").ok(), Some(vec![last]));
        assert_eq!(ours(), processors, "other threads stay as they were");
    }
}
