//! What stands before RTMP: listeners that do not take everything, PROXY headers, and peers that
//! trickle or send what is none of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bystander::Bystander;
use crate::support::client::{Client, Player};
use crate::support::clip::{Clip, LENGTH};
use crate::support::flv::curl;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::scene::END_MAX;
use crate::support::secure::{Door, Pair};
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

const CLOSE_MAX: Duration = Duration::from_secs(15);

fn start(scratch: &Scratch, configuration: &str) -> Relay {
    Relay::start(scratch.path(), &Options { configuration, ..Options::default() })
}

/// Sends bytes and gives what comes until the relay closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(CLOSE_MAX)).unwrap();
    // The relay may close at the first byte and reset the rest.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    if let Err(error) = socket.read_to_end(&mut answer) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed: {bytes:?}");
    }
    answer
}

fn refused(relay: &Relay, reason: &str) -> f64 {
    relay.metrics().sum("relay_refused_total", &[("reason", reason)]).unwrap()
}

/// Waits until so many were refused for a reason.
fn wait_refused(relay: &Relay, reason: &str, count: f64) {
    wait_for(&format!("{count} refusals of reason {reason}"), CLOSE_MAX, || {
        (refused(relay, reason) >= count).then_some(())
    });
    assert!(refused(relay, reason) < count + 0.5, "{reason}: too many");
}

/// The beginning of a ClientHello, as it stands on the wire.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// The addresses that the relay names for its further listeners.
fn listeners(said: &str) -> Vec<SocketAddr> {
    let lines = said.lines().filter(|line| line.starts_with("listener "));
    lines.map(|line| line.split(' ').find_map(|word| word.parse().ok()).unwrap()).collect()
}

#[test]
fn a_listener_takes_what_it_is_for_and_counts_the_rest() {
    let scratch = Scratch::new("listeners");
    let dir = scratch.path();
    let pair = Pair::make(dir, "relay", &["localhost"]);
    let listener =
        |speaks: &str| format!("[[listeners]]\naddress = \"127.0.0.1:0\"\nspeaks = \"{speaks}\"\n");
    let further = ["rtmps, https", "rtmp", "http"].map(listener).concat();
    let relay = start(&scratch, &format!("{further}{}", pair.configuration()));
    let said = std::fs::read_to_string(dir.join("relay-1.out")).unwrap();
    let [secure, plain, web] = listeners(&said)[..] else { panic!("{said}") };

    let door = Door::open(secure, pair.client());
    drop(Player::join(Client::open(door.address).unwrap(), "live", "a").unwrap());
    drop(Player::join(Client::open(plain).unwrap(), "live", "a").unwrap());
    let answer = exchange(web, b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&answer));
    let inside = exchange(door.address, b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(inside, answer, "HTTP inside TLS");

    exchange(secure, &[3; 1_537]);
    exchange(secure, b"GET / HTTP/1.0\r\n\r\n");
    wait_refused(&relay, "plain_text", 2.0);
    exchange(plain, b"GET / HTTP/1.0\r\n\r\n");
    exchange(web, &[3; 1_537]);
    let alert = exchange(plain, HELLO);
    assert_eq!(alert.first(), Some(&0x15), "{alert:?}");
    wait_refused(&relay, "not_spoken", 3.0);
}

#[test]
fn tls_to_a_port_without_a_certificate_gets_an_alert_and_a_count() {
    let scratch = Scratch::new("no-certificate");
    let relay = start(&scratch, "");
    let alert = exchange(relay.rtmp, HELLO);
    assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 40]);
    wait_refused(&relay, "no_certificate", 1.0);
}

#[test]
fn whoever_trickles_is_closed_at_the_deadline_whatever_it_trickles() {
    let scratch = Scratch::new("slow-loris");
    let dir = scratch.path();
    let pair = Pair::make(dir, "relay", &["localhost"]);
    let configuration = format!(
        "[listen]\nproxy_from = \"127.0.0.1\"\n{}[limits]\nconnect_timeout = \"2s\"\n\
         stream_grace = \"2s\"\n",
        pair.configuration()
    );
    let relay = start(&scratch, &configuration);
    let address = relay.rtmp;
    let bystander = Bystander::join(&relay, dir);
    relay.wait_for_role("publisher", 1);

    let cut: [&[u8]; 6] = [
        &HELLO[..1],
        HELLO,
        b"PROX",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\0",
        b"GET /live/clip.flv HTTP/1.1\r\n",
        b"POST /open/1 HTTP/1.1\r\nA: ",
    ];
    let trickling: Vec<_> = (0..60)
        .map(|number| {
            let bytes = cut[number % cut.len()].to_vec();
            thread::spawn(move || {
                let mut socket = TcpStream::connect(address).unwrap();
                let started = Instant::now();
                let _ = socket.write_all(&bytes);
                let mut end = [0; 64];
                socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                while started.elapsed() < CLOSE_MAX {
                    let more: &[u8] =
                        if bytes == HELLO[..1] || bytes == b"PROX" { b"" } else { b"x" };
                    let gone = socket.write_all(more).is_err();
                    match socket.read(&mut end) {
                        Ok(0) => return started.elapsed(),
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                            return started.elapsed();
                        }
                        _ if gone => return started.elapsed(),
                        _ => {}
                    }
                }
                started.elapsed()
            })
        })
        .collect();
    for (number, trickle) in trickling.into_iter().enumerate() {
        let after = trickle.join().unwrap();
        let what = cut[number % cut.len()];
        assert!(after < Duration::from_secs(6), "{what:?} was closed after {after:?}");
    }
    let timeouts = relay.metrics().sum("relay_connections_closed_total", &[("reason", "timeout")]);
    assert_eq!(timeouts, Some(60.0));
    let of_tls = relay.metrics().sum("relay_tls_handshakes_total", &[("result", "timeout")]);
    assert_eq!(of_tls, Some(10.0));
    bystander.noticed_nothing();
}

#[test]
fn requests_that_are_none_are_answered_closed_and_counted() {
    let scratch = Scratch::new("bad-http");
    let relay = start(&scratch, "");
    let mut counted = [
        ("http_malformed", 0.0),
        ("http_head", 0.0),
        ("http_method", 0.0),
        ("http_not_found", 0.0),
        ("tunnel_body", 0.0),
    ];
    let mut check = |bytes: &[u8], status: &str, reason: &str| {
        let answer = exchange(relay.rtmp, bytes);
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        let place = counted.iter_mut().find(|(name, _)| *name == reason).unwrap();
        place.1 += 1.0;
    };
    check(b"GET / HTTP/1.1\r\n\r\n", "400", "http_malformed");
    check(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400", "http_malformed");
    check(
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "400",
        "http_malformed",
    );
    check(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "400",
        "http_malformed",
    );
    check(b"GET ftp://other/ HTTP/1.1\r\nHost: a\r\n\r\n", "400", "http_malformed");
    check(b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n", "404", "http_not_found");
    check(b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "http_malformed");
    check(b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505", "http_malformed");
    check(b"HELO there\r\n\r\n", "400", "http_malformed");
    check(
        &[b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(), b"a: b\r\n".repeat(100), b"\r\n".to_vec()]
            .concat(),
        "431",
        "http_head",
    );
    check(&[b"GET /".to_vec(), vec![b'a'; 9_000]].concat(), "431", "http_head");
    check(b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "405", "http_method");
    check(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "404", "http_not_found");
    check(b"GET /send/a/1 HTTP/1.1\r\nHost: a\r\n\r\n", "405", "http_method");
    check(
        b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\n\r\n",
        "413",
        "tunnel_body",
    );
    for (reason, count) in counted {
        wait_refused(&relay, reason, count);
    }
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    let scratch = Scratch::new("http-order");
    let relay = start(&scratch, "");
    let options = "OPTIONS /live/a.flv HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n";
    let open = "POST /open/1 HTTP/1.0\r\nContent-Length: 1\r\n\r\n\0";
    let get = "GET /live/none.flv HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let check = |requests: &[&str], expected: &[&str]| {
        let answer = exchange(relay.rtmp, requests.concat().as_bytes());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let found: Vec<&str> = answer
            .match_indices("HTTP/1.")
            .map(|(at, _)| &answer[at + "HTTP/1.1 ".len()..][..3])
            .collect();
        assert_eq!(found, expected, "{answer}");
    };
    check(&[options, open], &["204", "200"]);
    check(&[options, options, get], &["204", "204", "404"]);
}

/// The addresses of the peers of all connections, as the API tells them.
fn peers(relay: &Relay) -> String {
    http::get(relay.http, "/api/v1/connections").unwrap().body
}

/// Waits until the relay names this address as that of a player.
fn wait_for_peer(relay: &Relay, peer: SocketAddr) {
    wait_for(&format!("a connection of {peer}"), START, || {
        peers(relay).contains(&format!("\"{peer}\"")).then_some(())
    });
}

fn v2(command: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    let family = if addresses.is_empty() { 0 } else { 0x11 };
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, addresses].concat()
}

/// Plays on a connection that begins with a PROXY header.
fn play_behind(header: &[u8], relay: &Relay) -> Player {
    let mut socket = TcpStream::connect(relay.rtmp).unwrap();
    socket.write_all(header).unwrap();
    Player::join(Client::over(socket).unwrap(), "live", "a").unwrap()
}

#[test]
fn proxy_headers_are_believed_from_trusted_networks_and_refused_from_elsewhere() {
    let scratch = Scratch::new("proxy");
    let relay = start(&scratch, "[listen]\nproxy_from = \"10.0.0.0/8, 127.0.0.1\"\n");
    let addresses = [192, 168, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 7, 0x8F];
    let players = [
        play_behind(b"PROXY TCP4 192.168.2.1 127.0.0.1 1111 1935\r\n", &relay),
        play_behind(b"PROXY TCP6 fd00::2 ::1 2222 1935\r\n", &relay),
        play_behind(&v2(1, &addresses), &relay),
    ];
    for peer in ["192.168.2.1:1111", "[fd00::2]:2222", "192.168.2.7:4660"] {
        wait_for_peer(&relay, peer.parse().unwrap());
    }
    drop(players);
    // Permission is asked for the client's address: by default only the neighbourhood may play.
    let mut socket = TcpStream::connect(relay.rtmp).unwrap();
    socket.write_all(b"PROXY TCP4 192.0.2.1 127.0.0.1 1111 1935\r\n").unwrap();
    assert!(Player::join(Client::over(socket).unwrap(), "live", "a").is_err());
    // Those who speak for themselves, with and without a header.
    let own = [play_behind(&v2(0, &[]), &relay), play_behind(b"PROXY UNKNOWN\r\n", &relay)];
    drop((own, play_behind(b"", &relay)));
    exchange(relay.rtmp, b"PROXY TCP4 192.0.2.1 127.0.0.1 1111\r\n");
    exchange(relay.rtmp, &v2(2, &[]));
    wait_refused(&relay, "proxy_header", 2.0);
    // One header is enough.
    exchange(relay.rtmp, b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n");
    wait_refused(&relay, "not_spoken", 1.0);
    let log = relay.log_at_end(CLOSE_MAX);
    assert!(log.contains("192.0.2.1:1111"), "{log}");

    let scratch = Scratch::new("no-proxy");
    for configuration in ["", "[listen]\nproxy_from = \"10.0.0.0/8\"\n"] {
        let relay = start(&scratch, configuration);
        exchange(relay.rtmp, b"PROXY TCP4 192.0.2.1 127.0.0.1 1111 1935\r\n");
        exchange(relay.rtmp, &v2(1, &addresses));
        wait_refused(&relay, "proxy", 2.0);
    }
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap()
}

fn haproxy(dir: &Path, to: SocketAddr, send: &str) -> (Process, SocketAddr) {
    let at = free();
    let file = dir.join(format!("{send}.cfg"));
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen relay\n  bind {at}\n  server relay {to} {send}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("haproxy");
    let process = Process::start(dir, send, command.arg("-f").arg(file));
    (process, at)
}

fn nginx(dir: &Path, to: SocketAddr) -> (Process, SocketAddr) {
    let at = free();
    let (file, shown) = (dir.join("stream.conf"), dir.display());
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off; master_process off; pid {shown}/stream.pid; error_log {shown}/stream.err;\n\
         events {{ worker_connections 64; }}\n\
         stream {{ server {{ listen {at}; proxy_pass {to}; proxy_protocol on; }} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg(dir.join("stream.err"));
    (Process::start(dir, "stream", &mut command), at)
}

#[test]
fn clients_of_haproxy_and_nginx_are_known_by_their_own_addresses() {
    let scratch = Scratch::new("proxies");
    let dir = scratch.path();
    let pair = Pair::make(dir, "relay", &["localhost"]);
    let configuration = format!(
        "[listen]\nproxy_from = \"127.0.0.0/8\"\n{}[limits]\nstream_grace = \"2s\"\n",
        pair.configuration()
    );
    let relay = start(&scratch, &configuration);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("clip"));
    for (mut process, address) in [
        haproxy(dir, relay.rtmp, "send-proxy"),
        haproxy(dir, relay.rtmp, "send-proxy-v2"),
        nginx(dir, relay.rtmp),
    ] {
        let open = || Client::open(address).ok();
        let client = wait_for("a connection through the proxy", START, open);
        let local = client.local();
        let mut player = Player::join(client, "live", "clip").unwrap();
        wait_for_peer(&relay, local);
        let end = Instant::now() + END_MAX;
        player.read(end, |player| player.recording.0.len() > 50).unwrap();
        assert!(player.recording.0.len() > 50, "nothing came through");
        // TLS behind the header.
        let door = Door::open(address, pair.client());
        let mut player = Player::join(Client::open(door.address).unwrap(), "live", "clip").unwrap();
        player.read(end, |player| player.recording.0.len() > 50).unwrap();
        assert!(player.recording.0.len() > 50, "nothing came through inside TLS");
        // HTTP behind it, and inside TLS.
        for scheme in ["http", "https"] {
            let head = curl(&["-kI", &format!("{scheme}://{address}/live/clip.flv")]);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{scheme}: {head}");
            let id = curl(&["-kX", "POST", "-d", "0", &format!("{scheme}://{address}/open/1")]);
            assert!(id.len() > 16 && id.is_ascii() && !id.contains(' '), "{scheme}t: {id:?}");
        }
        process.must_run();
    }
    publisher.succeed(LENGTH + END_MAX);
}
