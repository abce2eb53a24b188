//! loadgen's figures agree with independent ones: bytes with what passed through the test itself,
//! latency with a delay that the test makes.

use std::thread;
use std::time::Duration;

use loadgen::measure::SpanKind;
use loadgen::units::micros;

use crate::support::pipe::Pipe;
use crate::support::servers::{nginx, relay, relay_with};
use crate::support::{Scratch, independent, tester};

#[test]
fn bytes_are_those_that_passed() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    for verify in ["100%", "0%"] {
        let pipe = Pipe::start(server.address, Duration::ZERO);
        let line = format!(
            "run --target rtmp://{}/live/bytes{} --players 5 --verify {verify} --bitrate 400k \
             --gop 1s --duration 3s --cores 1",
            pipe.address,
            verify.trim_end_matches('%')
        );
        let outcome = tester::run(tester::plan(&line));
        let counters = &outcome.collected.counters;
        let (up, down) = (pipe.up(), pipe.down());
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
        let pipe = Pipe::start(server.address, Duration::from_millis(delay));
        let line = format!(
            "run --target {} --play-target rtmp://{}/live/{name} --players 1 --bitrate 200k \
             --audio off --fps 10 --gop 1s --duration 4s --cores 1",
            server.url(name),
            pipe.address
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

/// Players come when they are due and not when the one before is served, and each one's waiting
/// counts from then.
#[test]
fn a_server_that_answers_late_is_late_for_everybody() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    for verify in ["all", "0%"] {
        // Nobody hears from the server until 1.5 s after the first one came.
        let pipe = Pipe::start_late(server.address, Duration::from_millis(1_500));
        let name = format!("late{}", verify.trim_end_matches('%'));
        let line = format!(
            "run --target {} --play-target rtmp://{}/live/{name} --players 20 --verify {verify} \
             --bitrate 200k --gop 500ms --ramp 1s --duration 3s --cores 1",
            server.url(&name),
            pipe.address
        );
        let outcome = tester::run(tester::plan(&line));
        assert_eq!(outcome.collected.counters.players_joined, 20, "{verify}");
        let join = outcome.collected.spans.of(SpanKind::Join).unwrap();
        // The first one waits 1.5 s, the last one 0.5 s less 50 ms; nginx joins at a key frame.
        assert!(join.min() >= 500_000, "{verify}: {}", join.min());
        assert!(join.max() >= 1_450_000, "{verify}: {}", join.max());
        let half = join.percentile(50.0);
        assert!((950_000..1_900_000).contains(&half), "{verify}: {half}");
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
                let front = Pipe::start(server.address, Duration::from_millis(delay)).address;
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
