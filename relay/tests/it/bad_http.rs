//! HTTP that no honest player sends: refused with the right status, counted by its reason, and
//! noticed by nobody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bystander::Bystander;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, wait_for};

const CLOSE_MAX: Duration = Duration::from_secs(15);

/// A request, the status it gets, and the label of `relay_refused_total` under which it counts.
fn cases() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let get = |target: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: relay\r\n{fields}\r\n").into_bytes()
    };
    let flv = |fields: &str| get("/live/none.flv", fields);
    let malformed = "http_malformed";
    let long = |length: usize| "a".repeat(length);
    let websocket = |version: &str, key: &str| {
        flv(&format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: {version}\r\n\
             Sec-WebSocket-Key: {key}\r\n"
        ))
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    vec![
        // which request is it?
        ("two lengths", flv("Content-Length: 3\r\nContent-Length: 4\r\n"), 400, malformed),
        ("one length twice", flv("Content-Length: 0\r\nContent-Length: 0\r\n"), 400, malformed),
        (
            "a length and chunks",
            flv("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            400,
            malformed,
        ),
        ("an unknown coding", flv("Transfer-Encoding: gzip, x\r\n"), 400, malformed),
        ("a length with a sign", flv("Content-Length: +3\r\n"), 400, malformed),
        ("a length below zero", flv("Content-Length: -1\r\n"), 400, malformed),
        ("a length in hex", flv("Content-Length: 0x3\r\n"), 400, malformed),
        ("a huge length", flv("Content-Length: 99999999999999999999\r\n"), 400, malformed),
        ("a space before a colon", flv("Content-Length : 3\r\n"), 400, malformed),
        ("a folded field", flv("X: a\r\n b\r\n"), 400, malformed),
        ("no host", b"GET /live/a.flv HTTP/1.1\r\n\r\n".to_vec(), 400, malformed),
        ("two hosts", flv("Host: other\r\n"), 400, malformed),
        ("a target elsewhere", get("rtmp://relay/live/a.flv", ""), 400, malformed),
        (
            "an authority",
            b"CONNECT relay:80 HTTP/1.1\r\nHost: relay\r\n\r\n".to_vec(),
            400,
            malformed,
        ),
        ("a body", flv("Content-Length: 3\r\n"), 413, malformed),
        ("a body in chunks", flv("Transfer-Encoding: chunked\r\n"), 413, malformed),
        (
            "a body of OPTIONS",
            b"OPTIONS /a/b.flv HTTP/1.1\r\nHost: a\r\nContent-Length: 39\r\n\r\n\
              GET /live/none.flv HTTP/1.1\r\nHost: a\r\n\r\n"
                .to_vec(),
            413,
            malformed,
        ),
        // which stream?
        ("dots", get("/live/../etc/passwd.flv", ""), 400, "name"),
        ("escaped dots", get("/live/%2e%2e/a.flv", ""), 400, "name"),
        ("NUL", get("/live/a%00.flv", ""), 400, "name"),
        ("a line end", get("/live/a%0d%0aX.flv", ""), 400, "name"),
        ("no UTF-8", get("/live/%ff.flv", ""), 400, "name"),
        ("a cut escape", get("/live/a%2.flv", ""), 400, malformed),
        ("no name", get("/.flv", ""), 400, "name"),
        ("a raw NUL", get("/live/a\0.flv", ""), 400, malformed),
        (
            "a raw byte",
            b"GET /live/\xff.flv HTTP/1.1\r\nHost: relay\r\n\r\n".to_vec(),
            400,
            malformed,
        ),
        ("a long name", get(&format!("/live/{}.flv", long(700)), ""), 414, "name"),
        ("a long target", get(&format!("/live/{}.flv", long(4_000)), ""), 414, malformed),
        ("a wrong choice", get("/live/a.flv?only=both", ""), 400, malformed),
        // too much
        ("a long field", flv(&format!("X: {}\r\n", long(9_000))), 431, "http_head"),
        ("many fields", flv(&"X: a\r\n".repeat(100)), 431, "http_head"),
        ("no end", [b"GET /".to_vec(), long(20_000).into_bytes()].concat(), 431, "http_head"),
        // something else
        ("another version", b"GET /a.flv HTTP/2.0\r\nHost: r\r\n\r\n".to_vec(), 505, malformed),
        (
            "another method",
            b"PATCH /a.flv HTTP/1.1\r\nHost: r\r\n\r\n".to_vec(),
            405,
            "http_method",
        ),
        ("another path", get("/metrics", ""), 404, "http_not_found"),
        ("no stream", flv(""), 404, "unknown_stream"),
        // no WebSocket
        ("an old WebSocket", websocket("8", key), 426, malformed),
        ("a short key", websocket("13", "dGhl"), 400, malformed),
        ("a WebSocket to nowhere", websocket("13", key), 404, "unknown_stream"),
    ]
}

/// Sends a request and gives the number in the status line of its answer.
fn status(relay: SocketAddr, request: &[u8]) -> Option<u16> {
    let mut socket = TcpStream::connect(relay).ok()?;
    socket.set_read_timeout(Some(CLOSE_MAX)).ok()?;
    // The relay may answer and close before all is said.
    let _ = socket.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        match socket.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

fn refused(relay: &Relay, reason: &str) -> f64 {
    relay.metrics().sum("relay_refused_total", &[("reason", reason)]).unwrap_or_default()
}

#[test]
fn each_kind_of_bad_request_has_its_status_and_its_count() {
    let scratch = Scratch::new("bad-http");
    let mut relay = Relay::start(scratch.path(), &Options::default());
    for (name, request, expected, reason) in cases() {
        let before = refused(&relay, reason);
        assert_eq!(status(relay.rtmp, &request), Some(expected), "{name}");
        wait_for(&format!("{name}: a count of reason {reason}"), CLOSE_MAX, || {
            (refused(&relay, reason) >= before + 1.0).then_some(())
        });
        assert!(refused(&relay, reason) < before + 1.5, "{name}: counted twice");
    }
    relay.must_run();
    wait_for("all of them to be gone", CLOSE_MAX * 2, || {
        let open = relay.metrics().sum("relay_connections", &[]);
        (open == Some(0.0)).then_some(())
    });
}

#[test]
fn a_head_that_trickles_is_closed_at_its_deadline() {
    let scratch = Scratch::new("slow-http");
    let configuration = "[limits]\nconnect_timeout = \"2s\"\n";
    let relay = Relay::start(scratch.path(), &Options { configuration, ..Options::default() });
    // A first request, one behind an answer, and one of which nothing comes.
    let asked = b"HEAD /live/none.flv HTTP/1.1\r\nHost: r\r\n\r\n";
    for (opening, trickles) in [(&b""[..], true), (&asked[..], true), (&asked[..], false)] {
        let mut socket = TcpStream::connect(relay.rtmp).unwrap();
        socket.write_all(opening).unwrap();
        let started = Instant::now();
        let mut writing = socket.try_clone().unwrap();
        let trickle = thread::spawn(move || {
            let mut text = b"GET /live/none.flv HTTP/1.1\r\nX: "
                .iter()
                .copied()
                .chain(std::iter::repeat(b'a'));
            while trickles && started.elapsed() < CLOSE_MAX {
                let byte = text.next().unwrap_or_default();
                if writing.write_all(&[byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        socket.set_read_timeout(Some(CLOSE_MAX)).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let after = started.elapsed();
        let within = Duration::from_millis(1_500)..Duration::from_secs(6);
        assert!(within.contains(&after), "closed after {after:?}, trickling: {trickles}");
        trickle.join().unwrap();
    }
    let closed = [("reason", "timeout")];
    assert_eq!(relay.metrics().sum("relay_connections_closed_total", &closed), Some(3.0));
}

#[test]
fn a_player_notices_nothing_of_bad_requests() {
    let scratch = Scratch::new("bad-http-often");
    let dir = scratch.path();
    let configuration = "[limits]\nstream_grace = \"2s\"\n";
    let mut relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let bystander = Bystander::join(&relay, dir);
    let address = relay.rtmp;
    let attack = move || {
        let cases = cases();
        for _ in 0..20 {
            for (name, request, expected, _) in &cases {
                assert_eq!(status(address, request), Some(*expected), "{name}");
            }
        }
    };
    attack();
    let before = relay.resident_bytes();
    let attackers: Vec<_> = (0..3).map(|_| thread::spawn(attack)).collect();
    attackers.into_iter().for_each(|attacker| attacker.join().unwrap());
    bystander.noticed_nothing();
    relay.must_run();
    let after = relay.resident_bytes();
    let bound = 6 * 1024 * 1024;
    assert!(after < before + bound, "the relay grew from {before} to {after} bytes");
}
