//! What the tests of this binary stand on: servers to start, runs to make, waits that end.

pub(crate) mod balancer;
pub(crate) mod fake_node;
pub(crate) mod independent;
pub(crate) mod manifests;
pub(crate) mod nets;
pub(crate) mod nodes;
pub(crate) mod pipe;
pub(crate) mod pods;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod proxy;
pub(crate) mod scripted;
pub(crate) mod servers;
pub(crate) mod stateful;
pub(crate) mod tester;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a program may take to come up. Generous, because many start at once on few cores.
pub(crate) const START: Duration = Duration::from_secs(20);

/// A directory of one test's own.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's directory is there"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// A port that was free a moment ago, for programs that cannot be asked for theirs.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    listener.expect("a port is free").port()
}

/// Asks `attempt` until it gives something; fails with `what` after `limit`.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
