//! Where the control groups of this process say what it is given, version 2 and 1.
//!
//! Only paths are made here; what is in the files is for those who ask.

use std::path::{Path, PathBuf};

/// Which of the two layouts a folder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// One folder for each controller.
    One,
    /// One folder for all.
    Two,
}

/// What tells the groups of this process.
pub(super) const GROUPS: &str = "/proc/self/cgroup";

/// The folders that may hold limits of `controller`: those of the process's groups and of all above
/// them, since each may have a limit. `groups` is the content of [`GROUPS`].
pub(super) fn folders(groups: &str, controller: &str) -> Vec<(Version, PathBuf)> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        // hierarchy:controllers:path, where version 2 is `0::path`.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (version, roots) = if controllers.is_empty() {
            (Version::Two, ["/sys/fs/cgroup".to_owned(), "/sys/fs/cgroup/unified".to_owned()])
        } else if controllers.split(',').any(|one| one == controller) {
            let roots = [controllers, controller].map(|name| format!("/sys/fs/cgroup/{name}"));
            (Version::One, roots)
        } else {
            continue;
        };
        for root in &roots {
            folders.extend(upwards(root, path).map(|folder| (version, folder)));
        }
    }
    folders
}

/// The folder of a group and of all those above it. Inside a container the path may name folders
/// that only the host has; the topmost is then the container's.
fn upwards(root: &str, path: &str) -> impl Iterator<Item = PathBuf> {
    let inside = Path::new(path.trim_start_matches('/'));
    inside.ancestors().map(move |part| Path::new(root).join(part))
}
