//! The clips that are published: made once per run with FFmpeg, kept in the build's directory.
//!
//! A clip is brought into the form that FFmpeg itself writes while streaming (header fields that
//! need a seekable file left out), so that publishing it with `-c copy` sends exactly the packets
//! that the file holds. `expected` gives them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::ffmpeg::Version;
use super::packets::Recording;
use super::process::Process;

/// A kind of clip. All have a key frame every 2 s and AAC with 44.1 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Clip {
    /// 20 s of 1 Mbit/s, no B-frames: composition offsets are zero and audio comes first.
    Plain,
    /// The same with two B-frames: video comes first, composition offsets are not zero.
    BFrames,
    /// 20 s of 4 Mbit/s: enough to fill every socket buffer within seconds.
    Heavy,
    /// The sound of `Plain`.
    AudioOnly,
    /// The picture of `Plain`.
    VideoOnly,
    /// HEVC and AAC, by Enhanced RTMP, with colour metadata.
    Hevc,
    /// AV1 and Opus, the same way.
    Av1,
    /// Two tracks of H.264 and two of AAC: the first of each as ever, the second by multitrack
    /// messages.
    Tracks,
}

const EACH: [Clip; 8] = [
    Clip::Plain,
    Clip::BFrames,
    Clip::Heavy,
    Clip::AudioOnly,
    Clip::VideoOnly,
    Clip::Hevc,
    Clip::Av1,
    Clip::Tracks,
];

/// How long one pass over a clip takes at native speed.
pub(crate) const LENGTH: Duration = Duration::from_secs(20);

/// Made anew when the recipe below changes: part of the file names.
const RECIPE: u32 = 1;

/// Encoding 20 s takes a second or two on an idle core.
const MAKING_MAX: Duration = Duration::from_secs(120);

impl Clip {
    /// The file, made by the first test that asks.
    pub(crate) fn file(self) -> &'static Path {
        static FILES: [OnceLock<PathBuf>; EACH.len()] = [const { OnceLock::new() }; EACH.len()];
        let index = EACH.iter().position(|clip| *clip == self).expect("all are listed");
        FILES[index].get_or_init(|| self.find_or_make())
    }

    /// The FFmpeg that can make and publish it.
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Hevc | Self::Av1 | Self::Tracks => Version::Nine,
            _ => Version::System,
        }
    }

    /// What one pass over the clip sends.
    pub(crate) fn sent(self) -> Recording {
        Recording::of_file(self.file())
    }

    /// What `passes` over the clip send, one after the other, as `-stream_loop` plays them.
    pub(crate) fn sent_looped(self, passes: u32, dir: &Path) -> Recording {
        let file = dir.join(format!("{self:?}-{passes}.flv"));
        let again = (passes - 1).to_string();
        let input = self.file().to_string_lossy();
        self.run(dir, &file, &["-stream_loop", &again, "-i", &input, "-map", "0", "-c", "copy"]);
        Recording::of_file(&file)
    }

    fn find_or_make(self) -> PathBuf {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = dir.join(format!("clip-{RECIPE}-{self:?}.flv"));
        if !file.exists() {
            let scratch = tempfile::tempdir_in(dir).expect("the build's directory can be written");
            let (raw, done) = (scratch.path().join("raw.flv"), scratch.path().join("done.flv"));
            self.encode(scratch.path(), &raw);
            let raw = raw.to_string_lossy();
            self.run(scratch.path(), &done, &["-i", &raw, "-map", "0", "-c", "copy"]);
            std::fs::rename(&done, &file).expect("both are in one directory");
        }
        file
    }

    fn encode(self, dir: &Path, file: &Path) {
        let plain = || Clip::Plain.file().to_string_lossy();
        match self {
            Self::Plain => self.encode_h264(dir, file, "640x360", 900, 0),
            Self::BFrames => self.encode_h264(dir, file, "640x360", 900, 2),
            Self::Heavy => self.encode_h264(dir, file, "960x540", 4000, 0),
            Self::AudioOnly => self.run(dir, file, &["-i", &plain(), "-vn", "-c", "copy"]),
            Self::VideoOnly => self.run(dir, file, &["-i", &plain(), "-an", "-c", "copy"]),
            Self::Hevc => {
                let video = &[
                    &["-c:v", "libx265", "-preset", "ultrafast", "-b:v", "700k", "-x265-params"],
                    &["keyint=50:min-keyint=50:scenecut=0:bframes=0:log-level=error:pools=2"][..],
                ];
                self.encode_enhanced(dir, file, &video.concat(), "aac");
            }
            Self::Av1 => {
                let video = &["-c:v", "libsvtav1", "-preset", "10", "-g", "50", "-crf", "50"];
                let live = &["-svtav1-params", "pred-struct=1:lp=2"];
                self.encode_enhanced(dir, file, &[&video[..], live].concat(), "libopus");
            }
            Self::Tracks => {
                let video = &["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "0"];
                let keys = &["-keyint_min", "50", "-sc_threshold", "0", "-b:v", "500k"];
                let second = &["-map", "0:v", "-map", "2:v", "-map", "1:a", "-map", "3:a"];
                let video = [&video[..], keys, second].concat();
                self.encode_enhanced(dir, file, &video, "aac");
            }
        }
    }

    fn encode_h264(self, dir: &Path, file: &Path, size: &str, kbits: u32, b_frames: u32) {
        let video = format!("testsrc2=size={size}:rate=25:duration=20,noise=alls=20:allf=t");
        let rate = format!("{kbits}k");
        let b_frames = b_frames.to_string();
        let arguments = [
            &["-f", "lavfi", "-i", &video][..],
            &["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=20"],
            &["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", &b_frames],
            &["-b:v", &rate, "-minrate", &rate, "-maxrate", &rate, "-bufsize", &rate],
            &["-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-threads", "2"],
            &["-c:a", "aac", "-b:a", "96k"],
        ];
        self.run(dir, file, &arguments.concat());
    }

    /// Four sources, of which the first two are taken unless `video` maps others as well.
    fn encode_enhanced(self, dir: &Path, file: &Path, video: &[&str], audio: &str) {
        let arguments = [
            &["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=20"][..],
            &["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=20"],
            &["-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=20"],
            &["-f", "lavfi", "-i", "sine=frequency=880:sample_rate=48000:duration=20"],
            video,
            &["-pix_fmt", "yuv420p", "-c:a", audio, "-b:a", "64k"],
        ];
        self.run(dir, file, &arguments.concat());
    }

    /// Runs FFmpeg into `file` as if it were a stream: through a pipe, which cannot be sought in.
    fn run(self, dir: &Path, file: &Path, arguments: &[&str]) {
        let mut command = self.version().command();
        command.args(arguments).args(["-f", "flv", "pipe:1"]);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Process::start_apart(dir, &name, file, &mut command).succeed(MAKING_MAX);
    }
}
