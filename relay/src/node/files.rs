//! Open files: as many as the kernel lets us have, and how many connections that makes.
//!
//! Every connection is an open file. Where the limit on these is lower than `connections_max`,
//! connections are refused a little before it is reached, so that health checks and metrics still
//! have files to be asked by. Nothing here fails a start.

use crate::limits::Limits;
use crate::reactor::socket::raise_file_limit;

/// Raises the limit on open files as far as it goes, fits `connections_max` to it, and says so.
pub(super) fn prepare(limits: &mut Limits, workers: usize) {
    let (before, files) = match raise_file_limit() {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files stays as it is");
            return;
        }
    };
    let room = connections(files, workers);
    if room < limits.connections_max {
        tracing::info!(
            before,
            files,
            connections_max = room,
            configured = limits.connections_max,
            "open files allow fewer connections than configured"
        );
        limits.connections_max = room;
    } else {
        tracing::info!(before, files, connections_max = limits.connections_max, "open files");
    }
}

/// Connections for so many open files: what the node itself needs is kept back, but never more than
/// half.
fn connections(files: u64, workers: usize) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let own = OWN_FILES + workers.saturating_mul(FILES_PER_WORKER);
    (files - own.min(files / 2)).max(1)
}

/// Log, listeners, the control thread and those it serves.
const OWN_FILES: usize = 64;

/// Its ring or epoll, its eventfd, its listener, and a connection about to be refused.
const FILES_PER_WORKER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_node_itself() {
        fn check(files: u64, workers: usize, expected: usize) {
            assert_eq!(connections(files, workers), expected, "{files} files, {workers} workers");
        }
        check(20_000, 2, 19_920);
        check(1_024, 4, 928);
        check(100, 4, 50);
        check(1, 1, 1);
        check(0, 1, 1);
        check(u64::MAX, 256, usize::MAX - 2_112);
    }
}
