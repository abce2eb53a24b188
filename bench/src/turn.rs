//! One turn: a server, a load on it, and what both of them took within the window.

use std::time::Duration;

use loadgen::clock;
use loadgen::measure::SpanKind;
use serde::Serialize;

use crate::CannotRun;
use crate::account::{Sample, Sampler, cpu_of, resident_of, share_of};
use crate::load::{Load, Running, Sum, everybody_came, sleep_until};
use crate::place::Place;
use crate::server::{Flush, Kind, Server};

/// What a turn gave.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Turn {
    /// CPU seconds per delivered GB, by the server's own threads' account.
    pub(crate) cpu_per_gb: f64,
    /// The same by samples of its core; `None` without `perf`.
    pub(crate) sampled_per_gb: Option<f64>,
    /// The share of its core that the server took, by its own account.
    pub(crate) busy: f64,
    /// Delivered bytes over those published, times players, but for what one flush window and one
    /// sweep of the receivers may hold at the end.
    pub(crate) delivered: f64,
    /// From when a frame was due to its arrival, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// Frames that checking players received and should not have.
    pub(crate) wrong: u64,
    /// Frames that never came to checking players.
    pub(crate) missing: u64,
    /// Frames that were proven to be the publisher's.
    pub(crate) verified: u64,
    /// The share of its time that the load worked: near 1 it is the bottleneck.
    pub(crate) load_busy: f64,
    /// System calls of the server's reactor per second, where it tells.
    pub(crate) syscalls_per_second: Option<f64>,
    /// Sends per second, where it tells.
    pub(crate) sends_per_second: Option<f64>,
    /// The flush age that the server chose at the end, in seconds, where it tells.
    pub(crate) flush_level: Option<f64>,
    /// Resident memory of the server before its load and at the end of the window, in bytes.
    pub(crate) resident_bytes_before: u64,
    pub(crate) resident_bytes: u64,
    /// Players that came to their first key frame, and how long after they were due.
    pub(crate) joined: u64,
    pub(crate) join_p50_ms: Option<f64>,
    pub(crate) join_p99_ms: Option<f64>,
}

/// Between a server's start and its load.
const START_UP: Duration = Duration::from_millis(300);

/// The longest age that a server chooses by itself.
const FLUSH_AGE_MAX: Duration = Duration::from_millis(50);

/// Runs a turn; `sampled` takes samples of the server's core as well.
pub(crate) fn run(
    kind: Kind,
    flush: Flush,
    load: &Load,
    place: &Place,
    sampled: bool,
) -> Result<Turn, CannotRun> {
    let sampling = if sampled { Sampling::Processes } else { Sampling::Nothing };
    Ok(turn(kind, flush, load, place, sampling)?.0)
}

/// Runs a turn and gives the samples of the server with the functions that they hit.
pub(crate) fn run_with_symbols(
    kind: Kind,
    flush: Flush,
    load: &Load,
    place: &Place,
) -> Result<(Turn, Vec<Sample>), CannotRun> {
    let (turn, samples) = turn(kind, flush, load, place, Sampling::Functions)?;
    let missing = || {
        CannotRun(
            "there are no samples: perf is missing (apt install linux-perf) or not allowed \
                   (kernel.perf_event_paranoid)"
                .to_owned(),
        )
    };
    samples.map(|samples| (turn, samples)).ok_or_else(missing)
}

/// What samples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sampling {
    Nothing,
    Processes,
    Functions,
}

fn turn(
    kind: Kind,
    flush: Flush,
    load: &Load,
    place: &Place,
    sampling: Sampling,
) -> Result<(Turn, Option<Vec<Sample>>), CannotRun> {
    let server = Server::start(kind, flush, place)?;
    let resident_bytes_before = resident_of(server.id());
    let running = Running::start(load.plan(server.address)?, clock::now() + START_UP)?;
    let begin = running.plan.begin.unwrap_or_default();
    let seconds = load.measured(running.plan.full_from());

    sleep_until(begin + Duration::from_secs(seconds.start));
    // Asking costs the server something, which is kept out of the account.
    let told_before = Told::by(&server);
    let (began, before) = (clock::now(), cpu_of(server.id()));
    let sampler = if sampling == Sampling::Nothing {
        None
    } else {
        Sampler::start(place.server, load.window)
    };
    sleep_until(begin + Duration::from_secs(seconds.end));
    let (cpu, wall) = (cpu_of(server.id()).saturating_sub(before), clock::now() - began);
    let (cpu, wall) = (cpu.as_secs_f64(), wall.as_secs_f64());
    let told = Told::by(&server);
    let flush_level = server.metric("relay_flush_level_seconds");
    let resident_bytes = resident_of(server.id());

    let symbols = sampling == Sampling::Functions;
    let samples = sampler.and_then(|sampler| sampler.end(symbols));
    let intervals = running.end()?;
    let all = Sum::all(&intervals);
    everybody_came(&all)?;
    let within = Sum::of(&intervals, seconds);
    // Where nobody plays, what counts is what was published.
    let moved = match load.players {
        0 => within.counters.bytes_sent,
        _ => within.counters.bytes_received,
    };
    let gb = moved as f64 / 1e9;
    let flush_age = match flush {
        Flush::Fixed(age) => age,
        Flush::Auto => FLUSH_AGE_MAX,
    };
    let length = within.length.saturating_sub(flush_age + load.habit.sweep()).as_secs_f64();
    let expected = load.stream.wire_bytes_per_second() * length;
    let expected = expected * if load.players == 0 { load.streams } else { load.players } as f64;
    let rate = |after: Option<f64>, before: Option<f64>| Some((after? - before?) / wall);
    let share = samples.as_deref().map(|samples| share_of(samples, server.id()));
    let samples = samples.map(|mut samples| {
        samples.retain(|sample| sample.process == server.id());
        samples
    });
    let turn = Turn {
        cpu_per_gb: cpu / gb,
        sampled_per_gb: share.map(|share| share * wall / gb),
        busy: cpu / wall,
        delivered: (moved as f64 / expected).min(1.0),
        p50_ms: within.millis(SpanKind::Latency, 50.0),
        p99_ms: within.millis(SpanKind::Latency, 99.0),
        wrong: all.wrong(),
        missing: all.counters.missing,
        verified: all.counters.verified,
        load_busy: within.busy,
        syscalls_per_second: rate(told.syscalls, told_before.syscalls),
        sends_per_second: rate(told.sends, told_before.sends),
        flush_level,
        resident_bytes_before,
        resident_bytes,
        joined: all.counters.players_joined,
        join_p50_ms: all.millis(SpanKind::Join, 50.0),
        join_p99_ms: all.millis(SpanKind::Join, 99.0),
    };
    Ok((turn, samples))
}

/// What a server tells of its work, where it tells.
#[derive(Clone, Copy)]
struct Told {
    syscalls: Option<f64>,
    sends: Option<f64>,
}

impl Told {
    fn by(server: &Server) -> Self {
        Self { syscalls: server.metric("relay_syscalls_total"), sends: server.sends() }
    }
}
