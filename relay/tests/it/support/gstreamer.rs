//! GStreamer as publisher and as player, through its own RTMP implementation (`rtmp2`).
//!
//! As a player it writes the messages as FLV tags, timestamps and payloads untouched, data messages
//! such as `|RtmpSampleAccess` included; a message that is still on its way inside when the server
//! says that the stream has ended may be lost. As a publisher it takes a clip apart and puts it
//! together again: coded packets keep payload and timestamp, the video sequence header loses the
//! extension of its parameter sets, and metadata is sent again several times.

use std::path::Path;
use std::process::Command;

use super::clip::Clip;
use super::process::Process;

/// Plays `url` into `file` until the stream ends.
pub(crate) fn record(dir: &Path, name: &str, url: &str, file: &Path) -> Process {
    let source = format!("location={url}");
    let sink = format!("location={}", file.display());
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "rtmp2src", &source, "!", "filesink", "buffer-mode=unbuffered", &sink]);
    Process::start(dir, name, &mut command)
}

/// Publishes `clip` at native speed.
pub(crate) fn publish(dir: &Path, name: &str, clip: Clip, url: &str) -> Process {
    let location = format!("location={url}");
    remux(dir, name, clip, &["rtmp2sink", "sync=true", &location])
}

/// Writes what [`publish`] sends into `file`, as fast as it goes.
pub(crate) fn publish_to_file(dir: &Path, name: &str, clip: Clip, file: &Path) -> Process {
    let location = format!("location={}", file.display());
    remux(dir, name, clip, &["filesink", &location])
}

/// Publishes `clip`, as fast as it goes, by librtmp; `target` is the property of its sink.
pub(crate) fn publish_by_librtmp(dir: &Path, clip: Clip, target: &str) -> Process {
    remux(dir, "librtmp", clip, &["rtmpsink", target])
}

fn remux(dir: &Path, name: &str, clip: Clip, sink: &[&str]) -> Process {
    let source = format!("location={}", clip.file().display());
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "filesrc", &source, "!", "flvdemux", "name=demux"]);
    command.args(["demux.video", "!", "queue", "!", "h264parse", "!", "mux.video"]);
    command.args(["demux.audio", "!", "queue", "!", "aacparse", "!", "mux.audio"]);
    command.args(["flvmux", "name=mux", "streamable=true", "!"]).args(sink);
    Process::start(dir, name, &mut command)
}
