//! A storm of handshakes, and those who play meanwhile.
//!
//! Whoever storms is cheaper than whoever is stormed: each connection says the same hello, waits
//! for the server's signed answer, and goes. It storms every other few seconds, so that whatever
//! else the machine does falls on the calm as well.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use loadgen::clock;
use loadgen::measure::SpanKind;
use relay::tls::{CertificateFiles, ClientTls, Trust};
use rustix::net::sockopt::set_socket_linger;
use serde::Serialize;

use super::cannot;
use crate::CannotRun;
use crate::account::cpu_of;
use crate::load::{Habit, Load, Running, Stream, Sum, everybody_came, sleep_until};
use crate::place::Place;
use crate::server::{Flush, Kind, Server};

/// One storm over one server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Storm {
    pub(super) server: String,
    pub(super) residents: usize,
    /// The residents' latency in the calms.
    pub(super) quiet_p50_ms: Option<f64>,
    pub(super) quiet_p99_ms: Option<f64>,
    /// And in the storms.
    pub(super) storm_p50_ms: Option<f64>,
    pub(super) storm_p99_ms: Option<f64>,
    pub(super) storm_max_ms: Option<f64>,
    /// Answered hellos.
    pub(super) handshakes_per_second: f64,
    /// The share of its core that the server took meanwhile.
    pub(super) busy: f64,
    /// Frames that residents should not have received.
    pub(super) wrong: u64,
}

/// When the first calm begins, from the beginning of the residents' load.
const BEGIN: u64 = 6;

/// How long a calm and a storm last each, and how often one follows the other.
const SPELL_SECONDS: u64 = 3;
const SPELLS: u64 = 4;

/// What the stormers do now.
#[derive(Debug, Default)]
struct Mood {
    storms: AtomicBool,
    over: AtomicBool,
}

/// Connections that storm at a time.
const STORMERS: usize = 32;

/// The residents play 500 kbit/s: 1,000 of them leave a core room for more.
pub(super) fn measure(
    kind: Kind,
    residents: usize,
    files: &CertificateFiles,
    place: &Place,
) -> Result<Storm, CannotRun> {
    let settings = [
        ("RELAY_TLS__CERTIFICATES__1__CERTIFICATE", files.certificate.as_path()),
        ("RELAY_TLS__CERTIFICATES__1__KEY", files.key.as_path()),
    ];
    let server = Server::start_with(kind, Flush::Auto, place, &settings)?;
    let load = Load {
        stream: Stream { bits_per_second: 500_000 },
        streams: 1,
        publishes: true,
        players: residents,
        checking: residents.min(200),
        habit: Habit::Eager,
        warmup: Duration::from_secs(1),
        ramp: Duration::from_secs(3),
        window: Duration::from_secs(BEGIN + 2 * SPELL_SECONDS * SPELLS - 4),
    };
    let begin = clock::now();
    let running = Running::start(load.plan(server.address)?, begin)?;
    let trust = Trust::Authorities(files.certificate.clone());
    let tls = ClientTls::new(&trust).map_err(|error| cannot("TLS cannot be had", &error))?;
    let hello = tls.connect("localhost").ok().and_then(|mut layer| layer.take_output());
    let hello = hello.ok_or_else(|| CannotRun("a client has nothing to say".to_owned()))?;
    let (mood, answered) = (Arc::new(Mood::default()), Arc::new(AtomicU64::new(0)));
    let stormers: Vec<_> = (0..STORMERS)
        .map(|_| {
            let (mood, answered) = (Arc::clone(&mood), Arc::clone(&answered));
            let (hello, address) = (hello.clone(), server.address);
            thread::spawn(move || {
                while !mood.over.load(Ordering::Relaxed) {
                    let storms = mood.storms.load(Ordering::Relaxed);
                    if storms && is_answered(address, &hello) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            })
        })
        .collect();
    let spell = |number: u64| BEGIN + number * SPELL_SECONDS;
    let (mut cpu, mut took) = (Duration::ZERO, Duration::ZERO);
    for number in (0..2 * SPELLS).skip(1).step_by(2) {
        sleep_until(begin + Duration::from_secs(spell(number)));
        let (used, from) = (cpu_of(server.id()), clock::now());
        mood.storms.store(true, Ordering::Relaxed);
        sleep_until(begin + Duration::from_secs(spell(number + 1)));
        mood.storms.store(false, Ordering::Relaxed);
        cpu += cpu_of(server.id()).saturating_sub(used);
        took += clock::now() - from;
    }
    let busy = cpu.as_secs_f64() / took.as_secs_f64();
    let count = answered.load(Ordering::Relaxed);
    mood.over.store(true, Ordering::Relaxed);
    for stormer in stormers {
        stormer.join().map_err(|_| CannotRun("a stormer panicked".to_owned()))?;
    }
    let there = running.end()?;
    let all = Sum::all(&there);
    everybody_came(&all)?;
    // The first second of each spell still has something of the one before.
    let of = |storms: bool| {
        let within = |second: u64| {
            let (number, at) = (second.checked_sub(BEGIN)? / SPELL_SECONDS, second - BEGIN);
            let inside = number < 2 * SPELLS && !at.is_multiple_of(SPELL_SECONDS);
            Some(inside && (number % 2 == 1) == storms)
        };
        let intervals = there.iter().filter(|interval| within(interval.second) == Some(true));
        Sum::all(&intervals.cloned().collect::<Vec<_>>())
    };
    let (quiet, storm) = (of(false), of(true));
    Ok(Storm {
        server: kind.to_string(),
        residents,
        quiet_p50_ms: quiet.millis(SpanKind::Latency, 50.0),
        quiet_p99_ms: quiet.millis(SpanKind::Latency, 99.0),
        storm_p50_ms: storm.millis(SpanKind::Latency, 50.0),
        storm_p99_ms: storm.millis(SpanKind::Latency, 99.0),
        storm_max_ms: storm.millis(SpanKind::Latency, 100.0),
        handshakes_per_second: count as f64 / took.as_secs_f64(),
        busy,
        wrong: all.wrong(),
    })
}

/// Says hello and waits for the beginning of an answer.
fn is_answered(address: SocketAddr, hello: &Bytes) -> bool {
    let visit = || -> std::io::Result<usize> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Resets when it is closed: ports that wait for late packets would soon be used up.
        set_socket_linger(&socket, Some(Duration::ZERO))?;
        socket.write_all(hello)?;
        socket.read(&mut [0; 64])
    };
    visit().is_ok_and(|count| count > 0)
}
