//! FFmpeg as publisher and as player.
//!
//! The player's options make it write what it received: timestamps as they came (`-copyts`),
//! nothing left out before the first key frame (`-copyinkf`, `-copypriorss`). Payloads and
//! timestamps of coded packets are then bit-equal to those sent. It writes metadata of its own, the
//! sequence headers at the start of the file and an end of sequence at its end.

use std::path::Path;
use std::process::Command;

use super::clip::Clip;
use super::process::Process;

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "warning"]);
    command
}

/// Publishes one pass over `clip` at native speed.
pub(crate) fn publish(dir: &Path, name: &str, clip: Clip, url: &str) -> Process {
    publish_looped(dir, name, clip, 1, url)
}

/// Publishes `passes` over `clip` at native speed, timestamps going on from pass to pass.
pub(crate) fn publish_looped(
    dir: &Path,
    name: &str,
    clip: Clip,
    passes: u32,
    url: &str,
) -> Process {
    let again = (passes - 1).to_string();
    let mut command = ffmpeg();
    command.args(["-re", "-stream_loop", &again, "-i"]).arg(clip.file());
    command.args(["-c", "copy", "-f", "flv", url]);
    Process::start(dir, name, &mut command)
}

/// Plays `url` into `file` until the stream ends.
pub(crate) fn record(dir: &Path, name: &str, url: &str, file: &Path) -> Process {
    let mut command = ffmpeg();
    command.args(["-copyts", "-i", url, "-c", "copy", "-copyinkf", "-copypriorss", "1"]);
    command.args(["-flush_packets", "1", "-flvflags", "no_duration_filesize"]);
    command.args(["-f", "flv", "-y"]).arg(file);
    Process::start(dir, name, &mut command)
}
