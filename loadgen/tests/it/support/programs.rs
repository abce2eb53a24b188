//! What runs on the hosts of a test's network: FFmpeg and loadgen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::START;
use super::nets::Space;
use super::process::Process;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// What must hold where nothing goes wrong.
pub(crate) const CLEAN: &str = "missing=0,doubled=0,reordered=0,altered=0,foreign=0,backward=0,keyless=0,\
                     headless=0,gops_unequal=0,kept=1,joined=1,errors=0";

/// A clip of 12 s with a key frame each second, made by FFmpeg.
pub(crate) fn clip(dir: &Path) -> PathBuf {
    let file = dir.join("clip.flv");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-f", "lavfi"]);
    command.args(["-i", "testsrc2=size=160x90:rate=25:duration=12", "-f", "lavfi"]);
    command.args(["-i", "sine=sample_rate=44100:duration=12", "-c:v", "libx264"]);
    command.args(["-preset", "ultrafast", "-g", "25", "-c:a", "aac"]);
    command.args(["-flvflags", "no_duration_filesize"]).arg(&file);
    let mut process = Process::start(dir, "clip", &mut command);
    assert!(process.wait(3 * START).success(), "{}", process.said());
    file
}

/// FFmpeg in a namespace that publishes a file as if it were live.
pub(crate) fn publish(space: &Space, dir: &Path, file: &Path, url: &str) -> Process {
    let mut command = space.command("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-re", "-i"]).arg(file);
    command.args(["-c", "copy", "-f", "flv", url]);
    Process::start(dir, "publisher", &mut command)
}

/// FFmpeg in a namespace that writes down the time and the hash of each packet that it plays.
pub(crate) fn hashes(space: &Space, dir: &Path, name: &str, input: &str) -> (Process, PathBuf) {
    let file = dir.join(format!("{name}.hashes"));
    let mut command = space.command("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-copyts", "-i", input]);
    command.args(["-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "framehash", "-hash", "md5"]);
    command.arg("-y").arg(&file);
    (Process::start(dir, name, &mut command), file)
}

/// Kind, time and hash.
pub(crate) type Packet = (String, String, String);

/// The packets of such a file, by kind.
pub(crate) fn packets(file: &Path) -> Vec<Packet> {
    let text = fs::read_to_string(file).unwrap();
    let packet = |line: &str| {
        let words: Vec<&str> = line.split(',').map(str::trim).collect();
        let [kind, time, .., hash] = words[..] else { panic!("{line}") };
        (kind.to_owned(), time.to_owned(), hash.to_owned())
    };
    let mut packets: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#')).map(packet).collect();
    // Between kinds FFmpeg's own order is by chance.
    packets.sort_by(|a, b| a.0.cmp(&b.0));
    packets
}

/// loadgen in a namespace.
pub(crate) fn loadgen(space: &Space, dir: &Path, name: &str, arguments: &[&str]) -> Process {
    let mut command = space.command(LOADGEN);
    command.args(arguments).args(["--cores", "1", "--json"]).arg(dir.join(format!("{name}.json")));
    Process::start(dir, name, &mut command)
}

pub(crate) fn succeed(process: &mut Process, limit: Duration) {
    let status = process.wait(limit);
    assert!(status.success(), "{status}: {}", process.said());
}

/// What a run of loadgen that has ended wrote down.
pub(crate) fn json(dir: &Path, name: &str) -> Value {
    let text = fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}
