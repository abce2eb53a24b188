//! Memory: what the container may use, and what that leaves for logs and connections.
//!
//! Over its control group's limit the kernel ends the process and everybody is disconnected, so the
//! totals by which newcomers are refused must lie below it. Totals that nobody set are fitted to
//! the limit; those that somebody set and that do not fit keep the node from starting, by one
//! sentence. Without a limit nothing changes.

use std::path::Path;

use super::NodeError;
use super::cgroup::{self, Version};
use crate::config::Effective;
use crate::limits::Limits;

/// The program itself, without streams and connections.
const OWN_BYTES: usize = 16 << 20;

/// Totals together are not fitted below this: a node that can hold next to nothing would refuse
/// everybody.
const LEAST_BYTES: usize = 16 << 20;

const MIB: usize = 1 << 20;

/// The limits that together bound what the node holds.
const TOTALS: [&str; 3] = ["log_bytes_total", "connection_bytes_total", "tunnel_bytes_total"];

/// What came of fitting the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// There is room for all, or no limit.
    Ample,
    /// Totals that nobody set were made smaller; so many bytes the container has.
    Fitted(usize),
    /// Those that somebody set do not fit, and nothing was changed.
    TooSmall(usize),
}

impl Memory {
    /// Fits the totals to the container's limit.
    pub(super) fn fit(effective: &mut Effective) -> Self {
        let set = TOTALS.map(|name| effective.is_set("limits", name));
        Self::fit_to(&mut effective.config.settings.limits, set, our_limit())
    }

    /// `somebody` says which of the totals somebody set.
    fn fit_to(limits: &mut Limits, somebody: [bool; 3], container: Option<usize>) -> Self {
        let Some(container) = container else { return Self::Ample };
        let room = room(container);
        let (mut set, mut unset) = (0_usize, 0_usize);
        for (total, somebody) in totals(limits).into_iter().zip(somebody) {
            let sum = if somebody { &mut set } else { &mut unset };
            *sum = sum.saturating_add(total);
        }
        if set.saturating_add(unset) <= room {
            return Self::Ample;
        }
        let left = room.saturating_sub(set);
        if unset == 0 || left < LEAST_BYTES {
            return Self::TooSmall(container);
        }
        for (total, somebody) in totals_mut(limits).into_iter().zip(somebody) {
            if !somebody {
                *total = share(*total, unset, left);
            }
        }
        Self::Fitted(container)
    }

    /// What somebody set must be what is in force.
    ///
    /// # Errors
    /// It does not fit into the container.
    pub(super) fn judge(self, limits: &Limits) -> Result<(), NodeError> {
        let Self::TooSmall(container) = self else { return Ok(()) };
        let totals = TOTALS.iter().zip(totals(limits));
        let totals: Vec<_> =
            totals.map(|(name, total)| format!("limits.{name} ({} MiB)", total / MIB)).collect();
        Err(NodeError(format!(
            "The container may use {} MiB, of which {} MiB are left for {}: set these lower, or \
             raise the container's limit.",
            container / MIB,
            room(container) / MIB,
            totals.join(", "),
        )))
    }

    /// Says in one line what came of it.
    pub(super) fn log(self, limits: &Limits) {
        let [log_mib, connection_mib, tunnel_mib] = totals(limits).map(|total| total / MIB);
        match self {
            Self::Ample => {}
            Self::Fitted(container) => tracing::info!(
                container_mib = container / MIB,
                log_mib,
                connection_mib,
                tunnel_mib,
                "the container's memory allows smaller totals than the default ones"
            ),
            // It was judged: nothing is in force that does not fit.
            Self::TooSmall(_) => {}
        }
    }
}

/// The values of [`TOTALS`].
fn totals(limits: &Limits) -> [usize; 3] {
    [limits.log_bytes_total, limits.connection_bytes_total, limits.tunnel_bytes_total]
}

fn totals_mut(limits: &mut Limits) -> [&mut usize; 3] {
    [
        &mut limits.log_bytes_total,
        &mut limits.connection_bytes_total,
        &mut limits.tunnel_bytes_total,
    ]
}

/// What a container's memory leaves for the totals: a quarter is for sockets, which the kernel
/// counts as the container's.
fn room(container: usize) -> usize {
    (container - container / 4).saturating_sub(OWN_BYTES).max(LEAST_BYTES)
}

/// `room` as `total` is to `wanted`.
fn share(total: usize, wanted: usize, room: usize) -> usize {
    let [total, wanted, room] =
        [total, wanted, room].map(|bytes| u128::try_from(bytes).unwrap_or(u128::MAX));
    usize::try_from(total.saturating_mul(room) / wanted.max(1)).unwrap_or(usize::MAX)
}

/// The tightest limit in bytes of this process's control groups. `read` gives a file's content.
fn limit(read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let groups = read(Path::new(cgroup::GROUPS))?;
    let folders = cgroup::folders(&groups, "memory");
    let limits = folders.into_iter().filter_map(|(version, folder)| {
        let name = match version {
            Version::Two => "memory.max",
            Version::One => "memory.limit_in_bytes",
        };
        // "max" in version 2; a number that no machine has in version 1 is as good as none.
        read(&folder.join(name))?.trim().parse::<u64>().ok()
    });
    usize::try_from(limits.min()?).ok()
}

fn our_limit() -> Option<usize> {
    limit(|path| std::fs::read_to_string(path).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_from_both_versions() {
        fn check(files: &[(&str, &str)], expected: Option<usize>) {
            let read = |path: &Path| {
                let file = files.iter().find(|(name, _)| Path::new(name) == path);
                file.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(limit(read), expected, "{files:?}");
        }
        const GROUPS: &str = cgroup::GROUPS;
        check(&[], None);
        check(&[(GROUPS, "0::/\n"), ("/sys/fs/cgroup/memory.max", "268435456\n")], Some(268435456));
        check(&[(GROUPS, "0::/\n"), ("/sys/fs/cgroup/memory.max", "max\n")], None);
        check(
            &[
                (GROUPS, "0::/kubepods/pod1/c1\n"),
                ("/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "max\n"),
                ("/sys/fs/cgroup/kubepods/pod1/memory.max", "1000\n"),
                ("/sys/fs/cgroup/kubepods/memory.max", "2000\n"),
            ],
            Some(1_000),
        );
        check(
            &[
                (GROUPS, "4:memory:/kubepods/only-on-the-host\n0::/\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ],
            Some(536_870_912),
        );
        check(&[(GROUPS, "0::/\n"), ("/sys/fs/cgroup/memory.max", "much\n")], None);
    }

    #[test]
    fn totals_that_nobody_set_are_fitted_in_proportion() {
        fn check(container: Option<usize>, set: Option<usize>, expected: [usize; 3]) {
            let mut limits = Limits::default();
            if let Some(set) = set {
                limits.log_bytes_total = set * MIB;
            }
            let before = totals(&limits).map(|total| total / MIB);
            let somebody = [set.is_some(), false, false];
            let memory = Memory::fit_to(&mut limits, somebody, container.map(|mib| mib * MIB));
            let fitted = totals(&limits).map(|total| total / MIB);
            assert_eq!(fitted, expected, "{container:?} {set:?}");
            let expected = match container {
                Some(container) if fitted != before => Memory::Fitted(container * MIB),
                _ => Memory::Ample,
            };
            assert_eq!(memory, expected, "{container:?} {set:?}");
            assert!(memory.judge(&limits).is_ok());
        }
        check(None, None, [1_024, 1_024, 256]);
        check(Some(4_096), None, [1_024, 1_024, 256]);
        // Three quarters are 768 MiB, of which 752 are left.
        check(Some(1_024), None, [334, 334, 83]);
        check(Some(1_024), Some(252), [252, 400, 100]);
        // What is set to its default is set.
        check(Some(2_048), Some(1_024), [1_024, 396, 99]);
        check(Some(8), None, [7, 7, 1]);
        check(Some(0), None, [7, 7, 1]);
    }

    #[test]
    fn totals_that_somebody_set_must_fit() {
        fn check(set: [usize; 3], somebody: [bool; 3], fits: bool) {
            let mut limits = Limits::default();
            for (total, set) in totals_mut(&mut limits).into_iter().zip(set) {
                *total = set * MIB;
            }
            let memory = Memory::fit_to(&mut limits, somebody, Some(256 * MIB));
            let judged = memory.judge(&limits);
            assert_eq!(judged.is_ok(), fits, "{set:?}");
            if let Err(error) = judged {
                let kept = totals(&limits).map(|total| total / MIB);
                assert_eq!(kept, set, "nothing is changed");
                let said = error.to_string();
                let total = format!("limits.log_bytes_total ({} MiB)", set[0]);
                for word in ["may use 256 MiB", "176 MiB are left", &total] {
                    assert!(said.contains(word), "{word:?} is missing in {said:?}");
                }
            }
        }
        check([100, 60, 16], [true; 3], true);
        check([100, 60, 17], [true; 3], false);
        let one = [true, false, false];
        check([160, 1_024, 256], one, true);
        check([161, 1_024, 256], one, false);
        check([3_072, 1_024, 256], one, false);
        check([1_024, 1_024, 256], one, false);
    }
}
