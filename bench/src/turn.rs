//! One turn: a server, a load on it, and what both of them took within the window.

use std::time::Duration;

use loadgen::clock;
use loadgen::measure::SpanKind;
use serde::Serialize;

use crate::CannotRun;
use crate::account::{Sampler, cpu_of, resident_of, share_of};
use crate::load::{GOP, Load, Running, Sum, everybody_came, sleep_until};
use crate::place::Place;
use crate::server::{Flush, Kind, Server, Task};

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
    /// Resident memory of the server at the end of the window, in bytes.
    pub(crate) resident_bytes: u64,
}

/// Between a server's start and its load.
const START_UP: Duration = Duration::from_millis(300);

/// The longest age that a server chooses by itself.
const FLUSH_AGE_MAX: Duration = Duration::from_millis(50);

/// Runs a turn.
pub(crate) fn run(
    kind: Kind,
    flush: Flush,
    load: &Load,
    place: &Place,
    sampled: bool,
) -> Result<Turn, CannotRun> {
    let makes_up = (!load.publishes).then_some(load.stream.bits_per_second);
    let server = Server::start(kind, Task { flush, makes_up }, place)?;
    // A stream that the server makes up has its key frames at multiples of this from its start.
    let lead = if load.publishes { START_UP } else { GOP };
    let running = Running::start(load.plan(server.address)?, clock::now() + lead)?;
    let begin = running.plan.begin.unwrap_or_default();
    let seconds = load.measured(running.plan.full_from());

    sleep_until(begin + Duration::from_secs(seconds.start));
    // Asking costs the server something, which is kept out of the account.
    let told_before = Told::by(&server);
    let (began, before) = (clock::now(), cpu_of(server.id()));
    let sampler = if sampled { Sampler::start(place.server, load.window) } else { None };
    sleep_until(begin + Duration::from_secs(seconds.end));
    let (cpu, wall) = (cpu_of(server.id()).saturating_sub(before), clock::now() - began);
    let (cpu, wall) = (cpu.as_secs_f64(), wall.as_secs_f64());
    let told = Told::by(&server);
    let flush_level = server.metric("relay_flush_level_seconds");
    let resident_bytes = resident_of(server.id());

    let samples = sampler.and_then(|sampler| sampler.end(false));
    let intervals = running.end()?;
    let all = Sum::all(&intervals);
    everybody_came(&all)?;
    let within = Sum::of(&intervals, seconds);
    let gb = within.counters.bytes_received as f64 / 1e9;
    let flush_age = match flush {
        Flush::Fixed(age) => age,
        Flush::Auto => FLUSH_AGE_MAX,
    };
    let length = within.length.saturating_sub(flush_age + load.habit.sweep()).as_secs_f64();
    let expected = load.stream.wire_bytes_per_second() * length * load.players as f64;
    let rate = |after: Option<f64>, before: Option<f64>| Some((after? - before?) / wall);
    Ok(Turn {
        cpu_per_gb: cpu / gb,
        sampled_per_gb: samples.map(|samples| share_of(&samples, server.id()) * wall / gb),
        busy: cpu / wall,
        delivered: (within.counters.bytes_received as f64 / expected).min(1.0),
        p50_ms: within.millis(SpanKind::Latency, 50.0),
        p99_ms: within.millis(SpanKind::Latency, 99.0),
        wrong: all.wrong(),
        missing: all.counters.missing,
        verified: all.counters.verified,
        load_busy: within.busy,
        syscalls_per_second: rate(told.syscalls, told_before.syscalls),
        sends_per_second: rate(told.sends, told_before.sends),
        flush_level,
        resident_bytes,
    })
}

/// What a server tells of its work, where it tells.
#[derive(Clone, Copy)]
struct Told {
    syscalls: Option<f64>,
    sends: Option<f64>,
}

impl Told {
    fn by(server: &Server) -> Self {
        Self {
            syscalls: server.metric("relay_syscalls_total"),
            sends: server.metric("relay_sends_total"),
        }
    }
}
