//! A storm of handshakes, and those who play meanwhile.
//!
//! Whoever storms is cheaper than whoever is stormed: each connection says the same hello, waits
//! for the server's signed answer, and goes.

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
    /// The residents' latency in the seconds before.
    pub(super) quiet_p50_ms: Option<f64>,
    pub(super) quiet_p99_ms: Option<f64>,
    /// And during it.
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

/// When it begins, from the beginning of the residents' load.
const STORM_AT: u64 = 9;
const STORM_SECONDS: u64 = 6;

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
        window: Duration::from_secs(STORM_AT + STORM_SECONDS - 4),
    };
    let begin = clock::now();
    let running = Running::start(load.plan(server.address)?, begin)?;
    let trust = Trust::Authorities(files.certificate.clone());
    let tls = ClientTls::new(&trust).map_err(|error| cannot("TLS cannot be had", &error))?;
    let hello = tls.connect("localhost").ok().and_then(|mut layer| layer.take_output());
    let hello = hello.ok_or_else(|| CannotRun("a client has nothing to say".to_owned()))?;
    sleep_until(begin + Duration::from_secs(STORM_AT));
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (cpu, from) = (cpu_of(server.id()), clock::now());
    let stormers: Vec<_> = (0..STORMERS)
        .map(|_| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            let (hello, address) = (hello.clone(), server.address);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    answered.fetch_add(u64::from(is_answered(address, &hello)), Ordering::Relaxed);
                }
            })
        })
        .collect();
    sleep_until(begin + Duration::from_secs(STORM_AT + STORM_SECONDS));
    let took = clock::now() - from;
    let busy = cpu_of(server.id()).saturating_sub(cpu).as_secs_f64() / took.as_secs_f64();
    let count = answered.load(Ordering::Relaxed);
    over.store(true, Ordering::Relaxed);
    for stormer in stormers {
        stormer.join().map_err(|_| CannotRun("a stormer panicked".to_owned()))?;
    }
    let there = running.end()?;
    let all = Sum::all(&there);
    everybody_came(&all)?;
    let quiet = Sum::of(&there, STORM_AT - 4..STORM_AT);
    let storm = Sum::of(&there, STORM_AT..STORM_AT + STORM_SECONDS);
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
        socket.write_all(hello)?;
        socket.read(&mut [0; 64])
    };
    visit().is_ok_and(|count| count > 0)
}
