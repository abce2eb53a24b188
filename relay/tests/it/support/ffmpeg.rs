//! FFmpeg as publisher and as player.
//!
//! The player's options make it write what it received: timestamps as they came (`-copyts`),
//! nothing left out before the first key frame (`-copyinkf`, `-copypriorss`). Payloads and
//! timestamps of coded packets are then bit-equal to those sent. It writes metadata of its own, the
//! sequence headers at the start of the file and an end of sequence at its end.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::clip::Clip;
use super::process::Process;

/// Which FFmpeg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The system's, which is Debian's FFmpeg 5: it knows nothing of Enhanced RTMP.
    System,
    /// FFmpeg 9, which `.ci/install` puts into `$TEST_TOOLS`, or else `~/.cache/relay`.
    Nine,
}

impl Version {
    /// The program, silent but for warnings.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.program());
        command.args(["-nostdin", "-hide_banner", "-loglevel", "warning"]);
        command
    }

    fn program(self) -> PathBuf {
        let cache = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/relay"));
        match self {
            Self::System => "ffmpeg".into(),
            Self::Nine => {
                let tools = std::env::var_os("TEST_TOOLS").map(PathBuf::from).or_else(cache);
                tools.expect("HOME or TEST_TOOLS is set").join("ffmpeg9")
            }
        }
    }
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
    let mut command = clip.version().command();
    command.args(["-re", "-stream_loop", &again, "-i"]).arg(clip.file());
    command.args(["-map", "0", "-c", "copy", "-f", "flv", url]);
    Process::start(dir, name, &mut command)
}

/// Plays `url` into `file` until the stream ends.
pub(crate) fn record(dir: &Path, name: &str, url: &str, file: &Path) -> Process {
    record_with(Version::System, dir, name, url, &[], file)
}

/// The same with this FFmpeg, and with tracks chosen by `-map`; none of them means what FFmpeg
/// takes by itself: one video and one audio track.
pub(crate) fn record_with(
    version: Version,
    dir: &Path,
    name: &str,
    url: &str,
    tracks: &[&str],
    file: &Path,
) -> Process {
    let mut command = version.command();
    command.args(["-copyts", "-i", url]);
    command.args(tracks.iter().flat_map(|track| ["-map", track]));
    command.args(["-c", "copy", "-copyinkf", "-copypriorss", "1"]);
    command.args(["-flush_packets", "1", "-flvflags", "no_duration_filesize"]);
    command.args(["-f", "flv", "-y"]).arg(file);
    Process::start(dir, name, &mut command)
}
