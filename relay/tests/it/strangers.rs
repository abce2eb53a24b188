//! What comes to a port that is not what it should be, or is it and then stops: inside TLS as well,
//! and beside people who only watch.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::bystander::Bystander;
use crate::support::clip::{Clip, LENGTH};
use crate::support::flv::curl;
use crate::support::relay::{Options, Relay};
use crate::support::scene::END_MAX;
use crate::support::secure::{Door, Pair};
use crate::support::{Scratch, ffmpeg, http, wait_for};

const CLOSE_MAX: Duration = Duration::from_secs(15);

fn start(scratch: &Scratch, configuration: &str) -> Relay {
    Relay::start(scratch.path(), &Options { configuration, ..Options::default() })
}

fn of_tls(relay: &Relay, result: &str) -> f64 {
    relay.metrics().sum("relay_tls_handshakes_total", &[("result", result)]).unwrap()
}

fn closed(relay: &Relay, reason: &str) -> f64 {
    relay.metrics().sum("relay_connections_closed_total", &[("reason", reason)]).unwrap()
}

/// Reads until the other side ends the connection; gives after how long.
fn read_to_the_end(socket: &mut TcpStream) -> Duration {
    let started = Instant::now();
    socket.set_read_timeout(Some(CLOSE_MAX)).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return started.elapsed(),
            Ok(_) => {}
            Err(error) => {
                let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!waited, "not closed after {CLOSE_MAX:?}");
                return started.elapsed();
            }
        }
    }
}

#[test]
fn whoever_stops_inside_tls_is_closed_at_the_deadline() {
    let scratch = Scratch::new("slow-inside");
    let dir = scratch.path();
    let pair = Pair::make(dir, "relay", &["localhost"]);
    let limits = "[limits]\nconnect_timeout = \"2s\"\nstream_grace = \"2s\"\n";
    let relay = start(&scratch, &format!("{}{limits}", pair.configuration()));
    let bystander = Bystander::join(&relay, dir);
    relay.wait_for_role("publisher", 1);
    let door = Door::open(relay.rtmp, pair.client());
    let begun: [&[u8]; 4] =
        [b"", &[3; 700], b"GET /live/clip.flv HTTP/1.1\r\n", b"POST /open/1 HT"];
    let waiting: Vec<_> = begun
        .into_iter()
        .cycle()
        .take(20)
        .map(|bytes| {
            let mut socket = TcpStream::connect(door.address).unwrap();
            socket.write_all(bytes).unwrap();
            thread::spawn(move || read_to_the_end(&mut socket))
        })
        .collect();
    for (number, waiting) in waiting.into_iter().enumerate() {
        let after = waiting.join().unwrap();
        assert!(after < Duration::from_secs(6), "number {number} was closed after {after:?}");
    }
    assert_eq!(closed(&relay, "timeout"), 20.0);
    assert_eq!(of_tls(&relay, "full_1_3"), 20.0, "the handshakes themselves were complete");
    bystander.noticed_nothing();
}

/// A player of FLV with a small receive buffer, who asks and never reads.
fn ask(address: SocketAddr, request: &str) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut socket = TcpStream::from(socket);
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

#[test]
fn players_of_flv_that_never_read_are_closed_and_counted() {
    let scratch = Scratch::new("stuck-flv");
    let dir = scratch.path();
    let configuration = "[limits]\nsend_stall_max = \"4s\"\nstream_grace = \"2s\"\n";
    let relay = start(&scratch, configuration);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Heavy, &relay.url("clip"));
    let url = format!("http://{}/live/clip.flv", relay.rtmp);
    wait_for("the stream to be there", END_MAX, || {
        curl(&["-I", &url]).starts_with("HTTP/1.1 200 OK\r\n").then_some(())
    });
    let head = "GET /live/clip.flv HTTP/1.1\r\nHost: a\r\n";
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let _stuck =
        [ask(relay.rtmp, &format!("{head}\r\n")), ask(relay.rtmp, &format!("{head}{upgrade}\r\n"))];
    let slow = |transport: &str| {
        let labels = [("reason", "slow"), ("transport", transport)];
        relay.metrics().sum("relay_connections_closed_total", &labels)
    };
    wait_for("both to be closed", LENGTH, || {
        (slow("flv") == Some(1.0) && slow("wsflv") == Some(1.0)).then_some(())
    });
    publisher.succeed(LENGTH + END_MAX);
}

/// Shakes hands as a client and gives the connection, which is then without anybody to seal.
fn shaken(address: SocketAddr, pair: &Pair) -> TcpStream {
    let mut layer = pair.client().connect("localhost").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let (mut bytes, mut plain) = ([0; 16 * 1024], Vec::new());
    loop {
        if let Some(output) = layer.take_output() {
            socket.write_all(&output).unwrap();
        }
        if layer.established().is_some() {
            return socket;
        }
        let count = socket.read(&mut bytes).unwrap();
        layer.receive(&bytes[..count], &mut plain).unwrap();
    }
}

/// A record that says that it is a handshake, and is not.
const NO_HELLO: &[u8] = b"\x16\x03\x01\x00\x08\x01\xff\xff\xff\xff\xff\xff\xff";

#[test]
fn broken_tls_is_told_apart_and_counted() {
    let scratch = Scratch::new("broken-tls");
    let pair = Pair::make(scratch.path(), "relay", &["localhost"]);
    let relay = start(&scratch, &pair.configuration());
    let mut socket = TcpStream::connect(relay.rtmp).unwrap();
    socket.write_all(NO_HELLO).unwrap();
    read_to_the_end(&mut socket);
    wait_for("it to be counted", CLOSE_MAX, || (of_tls(&relay, "malformed") == 1.0).then_some(()));
    // A client that does not trust us.
    let address = relay.rtmp.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-verify_return_error", "-connect", &address]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!command.status().unwrap().success());
    wait_for("it to be counted", CLOSE_MAX, || (of_tls(&relay, "alert") == 1.0).then_some(()));
    // A record inside the connection that nobody sealed.
    let mut socket = shaken(relay.rtmp, &pair);
    socket.write_all(&[&b"\x17\x03\x03\x00\x20"[..], &[7; 32]].concat()).unwrap();
    read_to_the_end(&mut socket);
    wait_for("it to be counted", CLOSE_MAX, || (closed(&relay, "tls") == 3.0).then_some(()));
    assert_eq!(of_tls(&relay, "full_1_3"), 1.0);
}

#[test]
fn a_bystander_notices_nothing_of_storms_at_the_doors() {
    let scratch = Scratch::new("storms");
    let dir = scratch.path();
    let pair = Pair::make(dir, "relay", &["localhost"]);
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\nspeaks = \"rtmps\"\n";
    let relay = start(&scratch, &format!("{listener}{}", pair.configuration()));
    let said = std::fs::read_to_string(dir.join("relay-1.out")).unwrap();
    let line = said.lines().find(|line| line.starts_with("listener ")).unwrap();
    let secure: SocketAddr = line.split(' ').find_map(|word| word.parse().ok()).unwrap();
    let bystander = Bystander::join(&relay, dir);
    relay.wait_for_role("publisher", 1);

    let (over, hands) = (AtomicBool::new(false), AtomicU32::new(0));
    let refuse = |address: SocketAddr, bytes: &[u8]| {
        let mut socket = TcpStream::connect(address).unwrap();
        let _ = socket.write_all(bytes);
        read_to_the_end(&mut socket);
    };
    let storm = |deed: &dyn Fn()| {
        while !over.load(Ordering::Relaxed) {
            deed();
        }
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                storm(&|| {
                    drop(shaken(relay.rtmp, &pair));
                    hands.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        scope.spawn(|| storm(&|| refuse(secure, &[3; 1_537])));
        scope.spawn(|| storm(&|| refuse(relay.rtmp, NO_HELLO)));
        scope.spawn(|| {
            storm(&|| refuse(relay.rtmp, b"PROXY TCP4 192.0.2.1 127.0.0.1 1111 1935\r\n"));
        });
        thread::sleep(Duration::from_secs(5));
        over.store(true, Ordering::Relaxed);
    });
    println!("{} handshakes in 5 s", hands.load(Ordering::Relaxed));
    let refused = |reason| relay.metrics().sum("relay_refused_total", &[("reason", reason)]);
    assert!(of_tls(&relay, "full_1_3") > 100.0);
    assert!(refused("plain_text") > Some(20.0) && refused("proxy") > Some(20.0));
    // Those who broke TLS are given a second to hear of it.
    assert!(of_tls(&relay, "malformed") > 2.0);
    bystander.noticed_nothing();
}

#[test]
fn pages_of_other_origins_may_not_play_unless_they_are_named() {
    let scratch = Scratch::new("origins");
    let dir = scratch.path();
    let configuration = "[http_flv]\ncors = [\"https://page.example\"]\n\
                         base = \"https://live.example\"\n";
    let relay = start(&scratch, configuration);
    let _publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Plain, 3, &relay.url("clip"));
    let url = format!("http://{}/live/clip.flv", relay.rtmp);
    wait_for("the stream to be there", END_MAX, || {
        curl(&["-I", &url]).starts_with("HTTP/1.1 200 OK\r\n").then_some(())
    });
    let ask = |origin: &str, more: &[&str]| {
        let origin = format!("Origin: {origin}");
        curl(&[&["-i", "-m", "1", "-o", "-", "-H", &origin], more, &[&url]].concat())
    };
    let upgrade = [
        "-H",
        "Upgrade: websocket",
        "-H",
        "Connection: Upgrade",
        "-H",
        "Sec-WebSocket-Version: 13",
        "-H",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let named = ask("https://page.example", &["-I"]);
    assert!(named.contains("Access-Control-Allow-Origin: https://page.example\r\n"), "{named}");
    let other = ask("https://other.example", &["-I"]);
    assert!(other.starts_with("HTTP/1.1 200 ") && !other.contains("Allow-Origin"), "{other}");
    let named = ask("https://page.example", &upgrade);
    assert!(named.starts_with("HTTP/1.1 101 "), "{named}");
    let other = ask("https://other.example", &upgrade);
    assert!(other.starts_with("HTTP/1.1 403 "), "{other}");
    assert_eq!(relay.metrics().sum("relay_refused_total", &[("reason", "origin")]), Some(1.0));
    let page = http::get(relay.http, "/watch/live/clip").unwrap().body;
    assert!(page.contains("data-base=\"https://live.example\""), "{page}");
}
