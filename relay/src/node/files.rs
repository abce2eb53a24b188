//! Open files: as many as the kernel lets us have, and how many connections that makes.
//!
//! Every connection is an open file. Where the limit on these is lower than `connections_max`,
//! connections are refused a little before it is reached, so that health checks and metrics still
//! have files to be asked by. Nothing here fails a start.

use std::io;

use crate::limits::Limits;
use crate::reactor::socket::raise_file_limit;

/// What came of raising the limit.
pub(super) struct Files {
    limit: io::Result<(u64, u64)>,
    configured: usize,
    connections_max: usize,
}

impl Files {
    /// Raises the limit on open files as far as it goes, and fits `connections_max` to it.
    pub(super) fn prepare(limits: &mut Limits, workers: usize) -> Self {
        let configured = limits.connections_max;
        let limit = raise_file_limit();
        if let Ok((_, files)) = limit {
            limits.connections_max = configured.min(connections(files, workers));
        }
        Self { limit, configured, connections_max: limits.connections_max }
    }

    /// Says it in one line, once nothing that ends the start in one sentence can come any more.
    pub(super) fn log(&self) {
        let Self { configured, connections_max, .. } = *self;
        match &self.limit {
            Ok((before, files)) if connections_max < configured => tracing::info!(
                before,
                files,
                connections_max,
                configured,
                "open files allow fewer connections than configured"
            ),
            Ok((before, files)) => {
                tracing::info!(before, files, connections_max, "open files");
            }
            Err(error) => tracing::warn!(%error, "the limit on open files stays as it is"),
        }
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
