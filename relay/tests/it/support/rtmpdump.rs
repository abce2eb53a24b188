//! rtmpdump (librtmp) as player.
//!
//! It writes the messages as FLV tags with timestamps and payloads untouched, metadata included,
//! and drops data messages it does not know.

use std::path::Path;
use std::process::Command;

use super::process::Process;

/// Plays `url` into `file` until the stream ends.
pub(crate) fn record(dir: &Path, name: &str, url: &str, file: &Path) -> Process {
    let mut command = Command::new("rtmpdump");
    command.args(["--live", "--timeout", "60", "-r", url, "-o"]).arg(file);
    Process::start(dir, name, &mut command)
}
