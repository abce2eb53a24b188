//! RTMP inside HTTP (RTMPT): real programs, a client with bad manners, and attacks.

mod bounds;
mod proxies;

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::Player;
use crate::support::clip::{Clip, LENGTH};
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::scene::{END_MAX, Scene};
use crate::support::secure::{Door, Pair};
use crate::support::tunnel::{self, Bridge, Manner, Tunnel};
use crate::support::{Scratch, ffmpeg, rtmpdump, wait_for};

/// FFmpeg throws away what it has not sent when it closes.
const LOST_BY_FFMPEG: usize = 24;

fn tunnelled(url: &str) -> String {
    url.replace("rtmp://", "rtmpt://")
}

fn bare(relay: &Relay, manner: Manner) -> (Player, Bridge) {
    let (client, bridge) = Bridge::client(relay.rtmp, manner).unwrap();
    (Player::join(client, "live", "clip").unwrap(), bridge)
}

fn read(mut player: Player) -> thread::JoinHandle<Recording> {
    thread::spawn(move || {
        let end = Instant::now() + LENGTH + END_MAX * 2;
        let why = player.read(end, |player| player.ends > 0).unwrap();
        assert!(player.ends > 0, "{why:?} before the end of the stream was told");
        player.recording
    })
}

/// Every way out, of a stream that comes in by RTMP.
#[test]
fn tunnelled_players_see_every_packet() {
    let scene = Scene::new("tunnel-out", "127.0.0.1:0");
    let (dir, url) = (scene.scratch.path(), tunnelled(&scene.url()));
    let mut players = [
        ffmpeg::record(dir, "ffmpeg", &url, &scene.file("ffmpeg")),
        rtmpdump::record(dir, "dump", &url, &scene.file("dump")),
        scene.ffmpeg_player("plain"),
    ];
    let (player, _bridge) = bare(&scene.relay, Manner::default());
    let bare = read(player);
    scene.relay.wait_for_role("player", 4);
    let metrics = scene.relay.metrics();
    let of = |role| {
        let labels = [("role", role), ("transport", "rtmpt")];
        metrics.sum("relay_connections", &labels)
    };
    assert_eq!((of("player"), of("carrier")), (Some(3.0), Some(3.0)));
    ffmpeg::publish(dir, "publisher", Clip::BFrames, &scene.url()).succeed(LENGTH + END_MAX);
    let sent = Clip::BFrames.sent();
    for (player, name) in players.iter_mut().zip(["ffmpeg", "dump", "plain"]) {
        player.succeed(END_MAX);
        assert_eq!(sent.check_whole(&scene.recording(name)), Ok(()), "{name}");
    }
    assert_eq!(sent.check_whole(&bare.join().unwrap()), Ok(()));
    let metrics = scene.relay.metrics();
    let polls = metrics.sum("relay_tunnel_polls_total", &[]).unwrap();
    let empty = metrics.sum("relay_tunnel_empty_polls_total", &[]).unwrap();
    println!("{polls} polls, {empty} of them empty");
    // librtmp asks without a pause: what keeps it from asking thousands of times is the server.
    assert!(polls < 3.0 * 40.0 * (LENGTH.as_secs_f64() + 10.0), "{polls}");
    wait_for("the tunnels to be forgotten", Duration::from_secs(25), || {
        let left = scene.relay.metrics().sum("relay_tunnel_sessions", &[]);
        (left == Some(0.0)).then_some(())
    });
}

/// Every way out, of a stream that comes in by RTMPT.
#[test]
fn a_tunnelled_publisher_reaches_plain_and_tunnelled_players() {
    let scene = Scene::new("tunnel-in", "127.0.0.1:0");
    let (dir, url) = (scene.scratch.path(), tunnelled(&scene.url()));
    let flv = format!("http://{}/live/clip.flv", scene.relay.rtmp);
    let mut players = [
        ffmpeg::record(dir, "ffmpeg", &url, &scene.file("ffmpeg")),
        rtmpdump::record(dir, "dump", &url, &scene.file("dump")),
        scene.rtmpdump_player("plain"),
        ffmpeg::record(dir, "flv", &flv, &scene.file("flv")),
    ];
    scene.relay.wait_for_role("player", 4);
    ffmpeg::publish(dir, "publisher", Clip::Plain, &url).succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    for (player, name) in players.iter_mut().zip(["ffmpeg", "dump", "plain", "flv"]) {
        player.succeed(END_MAX);
        let whole = sent.check_whole_but_last(&scene.recording(name), LOST_BY_FFMPEG);
        assert_eq!(whole, Ok(()), "{name}");
    }
    let log = scene.relay.log();
    assert!(log.contains("publish started") && !log.contains("/send/"), "{log}");
}

/// The same inside TLS: FFmpeg, librtmp where TLS is 1.2 (with 1.3 it takes a request's bytes for a
/// record of its own), and a client that spreads its requests over connections and cores.
#[test]
fn tunnels_inside_tls_carry_every_packet() {
    let scratch = Scratch::new("tunnel-tls");
    let dir = scratch.path();
    let pair = Pair::make(dir, "tls", &["localhost", "127.0.0.1"]);
    let configuration = format!(
        "{}[limits]\nstream_grace = \"2s\"\nhandshakes_per_address_max = 100000\n",
        pair.configuration()
    );
    let options = Options {
        configuration: &configuration,
        arguments: &["--workers", "2"],
        ..Options::default()
    };
    let relay = Relay::start(dir, &options);
    let url = format!("rtmpts://127.0.0.1:{}/live/clip", relay.rtmp.port());
    let old = scratch.file("gnutls.conf");
    std::fs::write(&old, "[overrides]\ndisabled-version = tls1.3\n").unwrap();
    let mut dump = Command::new("rtmpdump");
    dump.env("GNUTLS_SYSTEM_PRIORITY_FILE", &old).args(["--live", "--timeout", "60", "-r", &url]);
    dump.arg("-o").arg(scratch.file("dump.flv"));
    let mut players = [
        ffmpeg::record(dir, "ffmpeg", &url, &scratch.file("ffmpeg.flv")),
        Process::start(dir, "dump", &mut dump),
    ];
    let door = Door::open(relay.rtmp, pair.client());
    let manner = Manner { connections: 5, twice: Some(9), ..Manner::default() };
    let (client, _bridge) = Bridge::client(door.address, manner).unwrap();
    let bare = read(Player::join(client, "live", "clip").unwrap());
    relay.wait_for_role("player", 3);
    let of = |role| {
        let labels = [("role", role), ("transport", "rtmpts")];
        relay.metrics().sum("relay_connections", &labels)
    };
    assert_eq!(of("player"), Some(3.0));
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("clip"));
    publisher.succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    for (player, name) in players.iter_mut().zip(["ffmpeg", "dump"]) {
        player.succeed(END_MAX);
        let recording = Recording::of_file(&scratch.file(&format!("{name}.flv")));
        assert_eq!(sent.check_whole(&recording), Ok(()), "{name}");
    }
    assert_eq!(sent.check_whole(&bare.join().unwrap()), Ok(()));
    let moves = relay.metrics().sum("relay_tunnel_moves_total", &[]).unwrap();
    assert!(moves > 0.0, "no connection inside TLS went to another core");
}

/// One session over many connections and cores, with requests at once, cut off, twice, and in
/// HTTP/1.0.
#[test]
fn a_session_outlives_its_connections_and_finds_its_core() {
    let scratch = Scratch::new("tunnel-cores");
    let options = Options {
        configuration: "[limits]\nstream_grace = \"2s\"\nhandshakes_per_address_max = 100000\n",
        arguments: &["--workers", "3"],
        ..Options::default()
    };
    let relay = Relay::start(scratch.path(), &options);
    let plain = Manner::default();
    let manners = [
        Manner { connections: 7, ..plain },
        Manner { connections: 4, at_once: 3, first: 1, ..plain },
        Manner { connections: 3, cut: Some(5), twice: Some(7), ..plain },
        Manner { old: true, ..plain },
    ];
    let players: Vec<_> = manners.iter().map(|manner| bare(&relay, *manner)).collect();
    relay.wait_for_role("player", 4);
    let mut publisher =
        ffmpeg::publish(scratch.path(), "publisher", Clip::Plain, &relay.url("clip"));
    let (players, bridges): (Vec<_>, Vec<_>) = players.into_iter().unzip();
    let readers: Vec<_> = players.into_iter().map(read).collect();
    publisher.succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    for (reader, manner) in readers.into_iter().zip(manners) {
        assert_eq!(sent.check_whole(&reader.join().unwrap()), Ok(()), "{manner:?}");
    }
    drop(bridges);
    let moves = relay.metrics().sum("relay_tunnel_moves_total", &[]).unwrap();
    println!("{moves} moves");
    assert!(moves > 10.0, "{moves} moves: no connection came to another core than its session's");
    let faults = relay.metrics().sum("relay_connections_closed_total", &[("reason", "fault")]);
    assert_eq!(faults.unwrap_or_default(), 0.0);
}

/// A tunnelled publisher with bad manners.
#[test]
fn what_is_published_over_many_connections_arrives_once_and_in_order() {
    let scratch = Scratch::new("tunnel-publish");
    let options = Options {
        configuration: "[limits]\nhandshakes_per_address_max = 100000\n",
        arguments: &["--workers", "2"],
        ..Options::default()
    };
    let relay = Relay::start(scratch.path(), &options);
    let manner =
        Manner { connections: 5, at_once: 4, cut: Some(3), twice: Some(4), ..Manner::default() };
    let (mut client, bridge) = Bridge::client(relay.rtmp, manner).unwrap();
    client.enter("live").unwrap();
    client.publish("clip").unwrap();
    let (player, _other) = bare(&relay, Manner::default());
    let mut player = player;
    let frame = |number: u32| {
        // A key frame of H.264 that says which it is.
        let mut payload = vec![0x17, 1, 0, 0, 0];
        payload.extend((0..2_000 + number % 7).flat_map(|at| (number * 31 + at).to_be_bytes()));
        payload
    };
    for number in 0..200 {
        client.message(9, number * 20, 1, &frame(number));
        thread::sleep(Duration::from_millis(10));
    }
    let end = Instant::now() + Duration::from_secs(20);
    player.read(end, |player| player.recording.coded().len() >= 150).unwrap();
    let frames = player.recording.coded();
    let times: Vec<u32> = frames.iter().map(|packet| packet.time_ms).collect();
    assert!(times.len() >= 150, "{} frames came", times.len());
    for (packet, time) in frames.iter().zip(&times) {
        let want = crate::support::packets::Packet::new(9, *time, &frame(time / 20));
        assert!(packet.same_payload(&want), "{packet:?}");
    }
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 20), "{times:?}");
    // Closed in order, the publish ends at once.
    bridge.stop().unwrap().close().unwrap();
    relay.wait_for_role("publisher", 0);
}

fn refused(relay: &Relay, reason: &str) -> f64 {
    relay.metrics().sum("relay_refused_total", &[("reason", reason)]).unwrap_or_default()
}

/// One request on a connection of its own: the status, once the answer is whole.
fn status(address: SocketAddr, target: &str, body: &[u8]) -> u16 {
    let mut socket = tunnel::connect(address).unwrap();
    tunnel::post(&mut socket, &Manner::default(), target, body).unwrap().status
}

#[test]
fn what_is_no_request_of_a_session_is_refused_and_counted() {
    let scratch = Scratch::new("tunnel-refused");
    let options = Options { arguments: &["--workers", "2"], ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let session = Tunnel::open(relay.rtmp, Manner::default()).unwrap();
    assert_eq!(session.id.len(), 32);
    let check = |target: String, body: &[u8], want: u16, reason: &str| {
        let before = refused(&relay, reason);
        assert_eq!(status(relay.rtmp, &target, body), want, "{target}");
        assert_eq!(refused(&relay, reason), before + 1.0, "{target}: {reason}");
    };
    let guess = |at: usize| {
        let mut id = session.id.clone().into_bytes();
        id[at] = if id[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(id).unwrap()
    };
    check(format!("/send/{}/0", guess(0)), b"x", 404, "tunnel_node");
    for at in [4, 10, 20, 31] {
        check(format!("/send/{}/0", guess(at)), b"x", 404, "tunnel_id");
    }
    check("/idle/short/0".to_owned(), b"\0", 404, "tunnel_id");
    check(format!("/idle/{}/none", session.id), b"\0", 404, "http_not_found");
    // Flash Player asks for another address, and goes on by the same connection.
    let mut socket = tunnel::connect(relay.rtmp).unwrap();
    let plain = Manner::default();
    assert_eq!(tunnel::post(&mut socket, &plain, "/fcs/ident2", &[0]).unwrap().status, 404);
    assert_eq!(tunnel::post(&mut socket, &plain, "/open/1", &[0]).unwrap().status, 200);
    // A body longer than may be, one without a length, and the session is none the worse.
    let mut long = tunnel::connect(relay.rtmp).unwrap();
    let id = &session.id;
    write!(long, "POST /send/{id}/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        .unwrap();
    assert_eq!(tunnel::read_answer(&mut long).unwrap().status, 413);
    let mut chunked = tunnel::connect(relay.rtmp).unwrap();
    let head = "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    write!(chunked, "POST /send/{id}/0 HTTP/1.1\r\n{head}1\r\nx\r\n0\r\n\r\n").unwrap();
    assert_eq!(tunnel::read_answer(&mut chunked).unwrap().status, 411);
    assert_eq!(refused(&relay, "tunnel_body"), 2.0);
    let mut session = session;
    session.exchange(&[]).unwrap();
    // Said again it is answered again, but not for ever.
    assert_eq!(status(relay.rtmp, &format!("/idle/{}/0", session.id), &[0]), 200);
    session.exchange(&[]).unwrap();
    check(format!("/idle/{}/0", session.id), &[0], 404, "tunnel_stale");
    // Said again with another body, it ends the session.
    let number = session.number;
    let mut half = tunnel::connect(relay.rtmp).unwrap();
    let head = format!("POST /send/{}/{number} HTTP/1.1\r\nHost: x\r\n", session.id);
    write!(half, "{head}Content-Length: 100\r\n\r\n\x03bc").unwrap();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(status(relay.rtmp, &format!("/send/{}/{number}", session.id), b"x"), 404);
    assert_eq!(status(relay.rtmp, &format!("/idle/{}/{number}", session.id), &[0]), 404);
    // A gap is waited for, and then is one.
    let session = Tunnel::open(relay.rtmp, Manner::default()).unwrap();
    assert_eq!(status(relay.rtmp, &format!("/idle/{}/0", session.id), &[0]), 200);
    let since = Instant::now();
    assert_eq!(status(relay.rtmp, &format!("/idle/{}/3", session.id), &[0]), 404);
    let waited = since.elapsed();
    assert!((900..2_500).contains(&waited.as_millis()), "{waited:?}");
    check(format!("/idle/{}/1", session.id), &[0], 404, "tunnel_expired");
    assert_eq!(refused(&relay, "tunnel_order"), 2.0);
    // Nobody's id is in the log.
    assert!(!relay.log().contains(&session.id));
}

#[test]
fn tunnels_that_are_left_or_trickle_end_and_what_they_hold_is_bounded() {
    let scratch = Scratch::new("tunnel-left");
    let configuration = "[limits]\ntunnel_idle_timeout = \"3s\"\ntunnel_body_timeout = \"2s\"\n\
                         handshakes_per_address_max = 1000000\nconnections_per_address_max = 100000\n\
                         tunnel_sessions_max = 1500\nexempt = \"nobody\"\n";
    let options = Options { configuration, arguments: &["--workers", "2"], ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let expiring = Tunnel::open(relay.rtmp, Manner::default()).unwrap();
    assert_eq!(status(relay.rtmp, &format!("/idle/{}/0", expiring.id), &[0]), 200);
    // One that trickles its body.
    let slow = Tunnel::open(relay.rtmp, Manner::default()).unwrap();
    let mut socket = tunnel::connect(relay.rtmp).unwrap();
    let head = format!("POST /send/{}/0 HTTP/1.1\r\nHost: x\r\n", slow.id);
    write!(socket, "{head}Content-Length: 3000\r\n\r\n").unwrap();
    let since = Instant::now();
    while socket.write_all(&[3]).is_ok() && since.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(100));
    }
    assert!(since.elapsed() < Duration::from_secs(6), "it may trickle for ever");
    let ended = [("role", "carrier"), ("reason", "timeout")];
    let ended = relay.metrics().sum("relay_connections_closed_total", &ended);
    assert!(ended >= Some(1.0), "{ended:?}");
    let before = relay.resident_bytes();
    // Each is opened by a connection of its own and left.
    let (mut opened, mut turned_away) = (0, 0);
    for _ in 0..4_000 {
        let mut socket = tunnel::connect(relay.rtmp).unwrap();
        match tunnel::post(&mut socket, &Manner::default(), "/open/1", &[0]).unwrap().status {
            200 => opened += 1,
            503 => turned_away += 1,
            other => panic!("open was answered {other}"),
        }
    }
    let grown = relay.resident_bytes().saturating_sub(before);
    println!("{opened} opened, {turned_away} turned away, {grown} bytes more");
    // Besides the two from before, of which one or both may have expired.
    assert!(opened >= 1_498, "{opened}");
    assert_eq!(refused(&relay, "tunnel_sessions"), f64::from(turned_away));
    let sessions = relay.metrics().sum("relay_tunnel_sessions", &[]).unwrap();
    assert!(sessions <= 1_500.0, "{sessions}");
    assert!(grown < 1_500 * 8 * 1024 + (8 << 20), "{grown} bytes for {sessions} sessions");
    wait_for("all sessions to end", Duration::from_secs(15), || {
        let left = relay.metrics().sum("relay_tunnel_sessions", &[]);
        (left == Some(0.0)).then_some(())
    });
    let memory = |kind| relay.metrics().sum("relay_memory_bytes", &[("kind", kind)]);
    wait_for("the memory to be given back", Duration::from_secs(10), || {
        (memory("tunnel") == Some(0.0)).then_some(())
    });
    // Connections that are reset on their way to the session's core.
    let session = Tunnel::open(relay.rtmp, Manner::default()).unwrap();
    let asks =
        format!("POST /idle/{}/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\0", session.id);
    let moves = || relay.metrics().sum("relay_tunnel_moves_total", &[]).unwrap();
    let before = moves();
    for _ in 0..2_000 {
        let mut socket = tunnel::connect(relay.rtmp).unwrap();
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        socket.write_all(asks.as_bytes()).unwrap();
        thread::sleep(Duration::from_micros(300));
    }
    let moved = moves() - before;
    assert!(moved > 50.0, "only {moved} were on their way");
    drop(session);
    let labels = [("name", "connections_per_address_max")];
    wait_for("every connection of the address to be given back", Duration::from_secs(10), || {
        (relay.metrics().sum("relay_limit_used", &labels) == Some(0.0)).then_some(())
    });
    // An expired id is like one that never was, but for what is counted.
    for verb in ["idle", "send", "close"] {
        assert_eq!(status(relay.rtmp, &format!("/{verb}/{}/1", expiring.id), &[0]), 404, "{verb}");
    }
    assert_eq!(refused(&relay, "tunnel_expired"), 3.0);
    assert_eq!(refused(&relay, "tunnel_id"), 0.0);
    assert_eq!(status(relay.rtmp, "/open/1", &[0]), 200);
}
