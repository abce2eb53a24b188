//! Load on a server, and what came of it within one window of time: loadgen, driven by benchmarks.
//!
//! The window lies where all players are there and between key frames, so that what is delivered
//! within it can be compared with what was published.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use loadgen::cli::{self, Asked};
use loadgen::clock;
use loadgen::engine;
use loadgen::failure::Failure;
use loadgen::measure::{Counters, Failures, Interval, Span, SpanKind, add_failures};
use loadgen::payload::VideoCodec;
use loadgen::plan::Plan;
use loadgen::profile::Profile;
use loadgen::units::wide;
use relay::reactor::socket::raise_file_limit;
use serde::Serialize;

use crate::CannotRun;

/// What is published: 50 video frames a second with a key frame every two seconds, 43 audio frames
/// of 200 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) bits_per_second: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self { bits_per_second: 2_500_000 }
    }
}

const FRAMES_PER_SECOND: f64 = 50.0;
/// From key frame to key frame.
pub(crate) const GOP: Duration = Duration::from_secs(2);
/// 200 bytes in each of 43.07 frames a second.
const AUDIO_BITS_PER_SECOND: u64 = 68_907;

/// Bytes of a chunk header in front of a message (RTMP 1.0 section 5.3.1).
const HEADER_BYTES: f64 = 12.0;

impl Stream {
    /// As loadgen knows it.
    pub(crate) fn profile(self) -> Arc<Profile> {
        Arc::new(Profile {
            codec: VideoCodec::H264,
            bits_per_second: self.bits_per_second,
            frames_per_second: FRAMES_PER_SECOND,
            gop: GOP,
            audio_bits_per_second: AUDIO_BITS_PER_SECOND,
        })
    }

    /// Wire bytes of one second, on average over a group of pictures.
    pub(crate) fn wire_bytes_per_second(self) -> f64 {
        let profile = self.profile();
        let inter = profile.video_bytes(false) as f64 + HEADER_BYTES;
        let key = profile.video_bytes(true) as f64 + HEADER_BYTES;
        let frames = profile.gop_frames() as f64;
        let video = (inter * (frames - 1.0) + key) / GOP.as_secs_f64();
        let audio_frames = profile.messages_per_second() - FRAMES_PER_SECOND;
        video + audio_frames * (profile.audio_bytes() as f64 + HEADER_BYTES)
    }
}

/// How receivers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Habit {
    /// Every millisecond, as a program does that waits for bytes.
    Eager,
    /// Every 25 ms: the kernel has time to merge what arrives and what it acknowledges.
    Lazy,
}

impl Habit {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Lazy => "lazy",
        }
    }

    /// How often they read.
    pub(crate) fn sweep(self) -> Duration {
        match self {
            Self::Eager => Duration::from_millis(1),
            Self::Lazy => Duration::from_millis(25),
        }
    }
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) stream: Stream,
    pub(crate) streams: usize,
    /// Whether the streams are published by this load; else they are there.
    pub(crate) publishes: bool,
    pub(crate) players: usize,
    /// How many of the players check every byte; the others count.
    pub(crate) checking: usize,
    pub(crate) habit: Habit,
    /// How long publishers have before the first player comes.
    pub(crate) warmup: Duration,
    /// Over which time the players come.
    pub(crate) ramp: Duration,
    /// How long to measure, whole groups of pictures.
    pub(crate) window: Duration,
}

impl Load {
    /// What loadgen makes of it.
    pub(crate) fn plan(&self, server: SocketAddr) -> Result<Plan, CannotRun> {
        let seconds = |span: Duration| format!("{}s", span.as_secs_f64());
        let command = match (self.publishes, self.players) {
            (true, 0) => "publish",
            (true, _) => "run",
            (false, _) => "play",
        };
        let mut words = vec!["loadgen".to_owned(), command.to_owned(), "--quiet".to_owned()];
        let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        option("target", format!("rtmp://{server}/live"));
        option("streams", self.streams.to_string());
        if self.players > 0 {
            let checking = self.checking as f64 / self.players as f64;
            option("players", self.players.to_string());
            option("verify", checking.min(1.0).to_string());
        }
        option("ramp", seconds(self.ramp));
        option("cores", "1".to_owned());
        option("sweep", seconds(self.habit.sweep()));
        if self.publishes {
            option("bitrate", self.stream.bits_per_second.to_string());
            option("fps", FRAMES_PER_SECOND.to_string());
            option("gop", seconds(GOP));
            option("audio", AUDIO_BITS_PER_SECOND.to_string());
            option("warmup", seconds(self.warmup));
        }
        // Publishers go first when there is somebody to wait for them.
        let waits = self.publishes && self.players > 0;
        let full_from = self.ramp + if waits { self.warmup } else { Duration::ZERO };
        let length = Duration::from_secs(self.measured(full_from).end) + TAIL;
        option("duration", seconds(length - full_from));
        match cli::parse(words.into_iter().map(OsString::from).collect()) {
            Ok(Asked::Run(plan)) => Ok(*plan),
            Ok(Asked::Text(text)) => Err(CannotRun(text)),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The seconds that are measured, from the beginning of the load. They begin and end a second
    /// away from key frames, which come at even ones.
    pub(crate) fn measured(&self, full_from: Duration) -> Range<u64> {
        let from = full_from.as_secs() + 2;
        let from = from + u64::from(from.is_multiple_of(2));
        from..from + self.window.as_secs().max(1)
    }
}

/// The load stays a little longer than it is measured.
const TAIL: Duration = Duration::from_millis(200);

/// A load under way.
pub(crate) struct Running {
    pub(crate) plan: Arc<Plan>,
    intervals: Receiver<Interval>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Running {
    /// Starts a load that begins at a time of [`clock::now`]. It stays on the caller's core.
    pub(crate) fn start(plan: Plan, begin: Duration) -> Result<Self, CannotRun> {
        raise_file_limit().map_err(|error| {
            CannotRun(format!("the limit on open files cannot be read: {error}"))
        })?;
        let plan = Arc::new(Plan { begin: Some(begin), ..plan });
        let (sender, intervals) = mpsc::channel();
        let thread = thread::spawn({
            let plan = Arc::clone(&plan);
            move || engine::run(&plan, &Arc::new(AtomicBool::new(false)), sender)
        });
        Ok(Self { plan, intervals, thread })
    }

    /// Waits for its end; gives what was measured in each second.
    pub(crate) fn end(self) -> Result<Vec<Interval>, CannotRun> {
        let intervals = self.intervals.iter().collect();
        let panicked = |_| CannotRun("the load generator panicked".to_owned());
        self.thread.join().map_err(panicked)??;
        Ok(intervals)
    }
}

/// Sleeps until a time of [`clock::now`].
pub(crate) fn sleep_until(time: Duration) {
    thread::sleep(time.saturating_sub(clock::now()));
}

/// What happened within some seconds of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) counters: Counters,
    pub(crate) failures: Failures,
    spans: Vec<(&'static str, Span)>,
    /// The share of its time that the load's thread worked.
    pub(crate) busy: f64,
    /// How long the seconds were: whoever tells of them does so when there is time.
    pub(crate) length: Duration,
}

impl Sum {
    /// Adds up.
    pub(crate) fn of(intervals: &[Interval], seconds: Range<u64>) -> Self {
        let mut sum = Self::default();
        let (mut cpu, mut wall) = (0, 0);
        for interval in intervals.iter().filter(|interval| seconds.contains(&interval.second)) {
            sum.counters.add(&interval.counters);
            add_failures(&mut sum.failures, &interval.failures);
            cpu += interval.cpu_ns;
            wall += interval.wall_ns;
        }
        sum.spans = SpanKind::ALL
            .iter()
            .map(|kind| {
                let mut span = Span::default();
                intervals
                    .iter()
                    .filter(|interval| seconds.contains(&interval.second))
                    .filter_map(|interval| interval.spans.get(kind.name()))
                    .for_each(|sparse| span.add(sparse));
                (kind.name(), span)
            })
            .collect();
        sum.busy = cpu as f64 / wall.max(1) as f64;
        let workers: BTreeSet<u64> = intervals.iter().map(|interval| interval.worker).collect();
        sum.length = Duration::from_nanos(wall / wide(workers.len()).max(1));
        sum
    }

    /// Everything.
    pub(crate) fn all(intervals: &[Interval]) -> Self {
        Self::of(intervals, 0..u64::MAX)
    }

    /// A span of time, by its kind.
    pub(crate) fn span(&self, kind: SpanKind) -> &Span {
        let (_, span) = self.spans.iter().find(|(name, _)| *name == kind.name()).expect("all are");
        span
    }

    /// A percentile of a span, in milliseconds; `None` when it never passed.
    pub(crate) fn millis(&self, kind: SpanKind, percent: f64) -> Option<f64> {
        let span = self.span(kind);
        (span.count() > 0).then(|| span.percentile(percent) as f64 / 1_000.0)
    }

    /// What checking players received that was never sent so. Frames left out are not among it: a
    /// server may skip for a player that lags.
    pub(crate) fn wrong(&self) -> u64 {
        let counters = &self.counters;
        let unequal = if counters.gaps == 0 { counters.gops_unequal } else { 0 };
        counters.altered
            + counters.foreign
            + counters.doubled
            + counters.reordered
            + counters.headless
            + counters.keyless
            + counters.backward
            + counters.retimed
            + unequal
    }
}

/// Fails unless every player that was to come came and stayed, in one sentence.
pub(crate) fn everybody_came(sum: &Sum) -> Result<(), CannotRun> {
    let counters = &sum.counters;
    let somebody = counters.players_joined + counters.publishers_started > 0;
    if counters.players_joined >= counters.players_planned && somebody {
        return Ok(());
    }
    let example = sum.failures.values().next().map(|failed| format!(": {}", failed.example));
    Err(CannotRun(format!(
        "of {} players {} joined{}",
        counters.players_planned,
        counters.players_joined,
        example.unwrap_or_default()
    )))
}

/// A number of things, for reports.
pub(crate) fn count(things: usize) -> u64 {
    wide(things)
}
