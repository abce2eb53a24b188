//! What the tests of this binary stand on: programs to start, clips to send, recordings to compare.
//!
//! Nothing here knows what is being tested. Every wait is bounded, every program is reaped by its
//! id, and everything that goes wrong ends in one sentence followed by the end of the program's own
//! output.

pub(crate) mod amf;
pub(crate) mod backend;
pub(crate) mod bystander;
pub(crate) mod chunk;
pub(crate) mod client;
pub(crate) mod clip;
pub(crate) mod continuity;
pub(crate) mod ffmpeg;
pub(crate) mod flv;
pub(crate) mod gstreamer;
pub(crate) mod http;
pub(crate) mod nginx;
pub(crate) mod obs;
pub(crate) mod packets;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod rtmpdump;
pub(crate) mod scene;
pub(crate) mod secure;
pub(crate) mod tunnel;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a program may take to come up. Generous, because many start at once on few cores.
pub(crate) const START: Duration = Duration::from_secs(20);

/// A directory of one test's own. Kept, and its place said, when the test fails.
pub(crate) struct Scratch(Option<TempDir>);

impl Scratch {
    pub(crate) fn new(test: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(&format!("{test}-"))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("the build's directory for tests can be written");
        Self(Some(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("present until dropped").path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(dir) = self.0.take()
        {
            eprintln!("what the programs wrote is kept in {}", dir.keep().display());
        }
    }
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

/// Whether the longer forms of the tests are asked for (`RELAY_TEST_LONG=1`).
pub(crate) fn long() -> bool {
    std::env::var_os("RELAY_TEST_LONG").is_some_and(|value| value == "1")
}
