//! loadgen's figures agree with independent ones: bytes with what passed through the test itself,
//! latency with a delay that the test makes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use loadgen::measure::SpanKind;
use loadgen::units::micros;

use crate::support::servers::{nginx, relay, relay_with};
use crate::support::{Scratch, independent, tester};

/// A pipe that counts bytes in both directions and holds each piece towards the client for a while.
fn pipe(server: SocketAddr, delay: Duration) -> (SocketAddr, Arc<AtomicU64>, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (up, down) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (Arc::clone(&up), Arc::clone(&down));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(server).unwrap();
            server.set_nodelay(true).unwrap();
            client.set_nodelay(true).unwrap();
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let up = Arc::clone(&counts.0);
            thread::spawn(move || carry(from, to, &up, Duration::ZERO));
            let down = Arc::clone(&counts.1);
            thread::spawn(move || carry(server, client, &down, delay));
        }
    });
    (address, up, down)
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64, delay: Duration) {
    let mut buffer = [0; 65_536];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        thread::sleep(delay);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        count.fetch_add(u64::try_from(bytes).unwrap(), Ordering::SeqCst);
    }
    // The other direction ends as well.
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

#[test]
fn bytes_are_those_that_passed() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    for verify in ["100%", "0%"] {
        let (address, up, down) = pipe(server.address, Duration::ZERO);
        let line = format!(
            "run --target rtmp://{address}/live/bytes{} --players 5 --verify {verify} --bitrate 400k \
             --gop 1s --duration 3s --cores 1",
            verify.trim_end_matches('%')
        );
        let outcome = tester::run(tester::plan(&line));
        let counters = &outcome.collected.counters;
        let (up, down) = (up.load(Ordering::SeqCst), down.load(Ordering::SeqCst));
        // Everything that loadgen sent has passed. Of what passed towards it, what came after a
        // player had left was never read: less than the frames of a second.
        assert!(
            counters.bytes_sent.abs_diff(up) < 200,
            "{} sent, {up} passed",
            counters.bytes_sent
        );
        let unread = down - counters.bytes_received;
        assert!(unread < 5 * 50_000, "{verify}: {unread} of {down} bytes unread");
        assert!(counters.bytes_received > 5 * 3 * 40_000, "{verify}");
    }
}

#[test]
fn latency_is_the_delay_on_the_way() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    for (name, delay) in [("straight", 0), ("delayed", 12)] {
        let (address, ..) = pipe(server.address, Duration::from_millis(delay));
        let line = format!(
            "run --target {} --play-target rtmp://{address}/live/{name} --players 1 --bitrate 200k \
             --audio off --fps 10 --gop 1s --duration 4s --cores 1",
            server.url(name)
        );
        let outcome = tester::run(tester::plan(&line));
        let latency = outcome.collected.spans.of(SpanKind::Latency).unwrap();
        // Ten frames a second: none waits for another one's delay. The machine may add, never take.
        let least = Duration::from_millis(delay);
        assert!(latency.min() >= micros(least), "{name}: {}", latency.min());
        let most = micros(least) + 10_000;
        assert!(latency.percentile(50.0) < most, "{name}: {}", latency.percentile(50.0));
    }
}

/// The same server, the same way, the same number of frames; measured here and there at once.
#[test]
fn latency_is_what_others_measure() {
    let dir = Scratch::new();
    // From one core to another takes longer, and who is on which is chance.
    let server = relay_with(dir.path(), &["--workers", "1"]);
    thread::scope(|scope| {
        for delay in [0, 50] {
            let server = &server;
            scope.spawn(move || {
                let (front, ..) = pipe(server.address, Duration::from_millis(delay));
                let (to, name) = (server.address, format!("theirs{delay}"));
                let length = Duration::from_secs(6);
                let theirs =
                    thread::spawn(move || independent::latencies(to, front, &name, length));
                let line = format!(
                    "run --target {} --play-target rtmp://{front}/live/ours{delay} --players 1 \
                     --bitrate 200k --audio off --fps 10 --gop 1s --warmup 0s --ramp 0s \
                     --duration 6s --cores 1",
                    server.url(&format!("ours{delay}"))
                );
                let outcome = tester::run(tester::plan(&line));
                let ours = outcome.collected.spans.of(SpanKind::Latency).unwrap();
                let theirs = theirs.join().unwrap();
                assert!(theirs.len() > 40 && ours.count() > 40, "{}", theirs.len());
                for percent in [50, 90] {
                    let theirs = micros(theirs[theirs.len() * percent / 100]);
                    let ours = ours.percentile(percent as f64);
                    eprintln!("{delay} ms on the way, p{percent}: {ours} µs, others {theirs} µs");
                    // A machine that does other things at the time delays either.
                    let apart = 5_000 + ours.max(theirs) / 10;
                    assert!(ours.abs_diff(theirs) < apart, "p{percent}: {ours} and {theirs} µs");
                    assert!(ours > delay * 1_000, "{ours}");
                }
            });
        }
    });
}

#[test]
fn the_server_says_the_same() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let url = server.url("counted");
    let metrics = server.http.expect("relay has metrics").to_string();
    let arguments = [
        "run",
        "--target",
        &url,
        "--players",
        "5",
        "--bitrate",
        "400k",
        "--duration",
        "2s",
        "--cores",
        "1",
        "--server-metrics",
        &metrics,
    ];
    for (verify, unread_max) in [("all", 0), ("0%", 5 * 50_000)] {
        let arguments = [&arguments[..], &["--verify", verify]].concat();
        let (ended, json) = tester::program_with_json(dir.path(), &arguments);
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        let ours = |name: &str| json["counters"][name].as_u64().unwrap();
        let theirs = |name: &str| json["server"]["report"][name].as_u64().unwrap();
        // To the byte, handshakes included; only players that count leave before everything that
        // was sent to them has come.
        assert_eq!(ours("bytes_sent"), theirs("ingest_bytes"), "{verify}");
        let unread = theirs("egress_bytes").checked_sub(ours("bytes_received"));
        assert!(unread.is_some_and(|unread| unread <= unread_max), "{verify}: {unread:?}");
    }

    let id = server.process.id().to_string();
    let mut arguments = arguments.to_vec();
    arguments.truncate(arguments.len() - 2);
    arguments.extend(["--server-pid", &id]);
    let (ended, json) = tester::program_with_json(dir.path(), &arguments);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let report = &json["server"]["report"];
    assert!(report["cpu_seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["resident_bytes_max"].as_u64().unwrap() > 1_000_000, "{report}");
    assert!(!report["threads"].as_array().unwrap().is_empty(), "{report}");
}
