//! Sessions whose requests overtake each other, and limits on what sessions hold.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::{bare, read, refused, status};
use crate::support::clip::{Clip, LENGTH};
use crate::support::relay::{Options, Relay};
use crate::support::scene::{END_MAX, Scene};
use crate::support::tunnel::{Bridge, Manner, Tunnel};
use crate::support::{Scratch, ffmpeg, wait_for};

/// By way of three cores, so that most requests come by another one than their session's.
#[test]
fn requests_that_overtake_each_other_are_served_in_their_order() {
    let scene = Scene::new("tunnel-races", "127.0.0.1:0");
    let racing = Manner { at_once: 4, races: true, ..Manner::default() };
    let silent = Manner { cut: Some(5), silent: true, ..Manner::default() };
    let players: Vec<_> = [racing, silent]
        .into_iter()
        .map(|manner| {
            let (player, bridge) = bare(&scene.relay, manner);
            (read(player), bridge, manner)
        })
        .collect();
    scene.relay.wait_for_role("player", 2);
    ffmpeg::publish(scene.scratch.path(), "publisher", Clip::BFrames, &scene.url())
        .succeed(LENGTH + END_MAX);
    for (recording, bridge, manner) in players {
        let whole = Clip::BFrames.sent().check_whole(&recording.join().unwrap());
        assert_eq!(whole, Ok(()), "{manner:?}");
        drop(bridge);
    }
    assert_eq!(refused(&scene.relay, "tunnel_order"), 0.0);
    // One that comes much too early is not waited for.
    let session = Tunnel::open(scene.relay.rtmp, Manner::default()).unwrap();
    assert_eq!(status(scene.relay.rtmp, &format!("/idle/{}/0", session.id), &[0]), 200);
    let since = Instant::now();
    assert_eq!(status(scene.relay.rtmp, &format!("/idle/{}/9", session.id), &[0]), 404);
    assert!(since.elapsed() < Duration::from_millis(700), "{:?}", since.elapsed());
    assert_eq!(refused(&scene.relay, "tunnel_order"), 1.0);
}

#[test]
fn what_sessions_hold_is_bounded_and_those_that_are_there_go_on() {
    let scratch = Scratch::new("tunnel-bounds");
    let configuration = "[limits]\ntunnel_sessions_per_worker_max = 40\n\
                         tunnel_bytes_total = \"48KiB\"\ntunnel_idle_timeout = \"4s\"\n";
    let options = Options { configuration, arguments: &["--workers", "1"], ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let open = || Tunnel::open(relay.rtmp, Manner::default());
    let first = open().unwrap();
    let goes_on = |number: u64| status(relay.rtmp, &format!("/idle/{}/{number}", first.id), &[0]);
    assert_eq!(goes_on(0), 200);
    // What is held is summed up twice a second.
    let mut number = 0;
    let mut others = Vec::new();
    wait_for("sessions to hold as much as they may", Duration::from_secs(20), || {
        others.extend(open());
        number += 1;
        assert_eq!(goes_on(number), 200, "it is there already");
        thread::sleep(Duration::from_millis(40));
        (refused(&relay, "memory") > 0.0).then_some(())
    });
    println!("{} sessions were let in", others.len());
    assert_eq!(goes_on(number + 1), 200);
    // Its last answer is no longer kept for it: then it is asked anew.
    wait_for("there to be room again", Duration::from_secs(20), || open().ok());

    let options = Options {
        configuration: "[limits]\ntunnel_sessions_per_worker_max = 3\n",
        arguments: &["--workers", "1"],
        ..Options::default()
    };
    let few = Relay::start(scratch.path(), &options);
    let sessions: Vec<_> =
        (0..5).filter_map(|_| Tunnel::open(few.rtmp, Manner::default()).ok()).collect();
    assert_eq!((sessions.len(), refused(&few, "tunnel_sessions")), (3, 2.0));
}

/// A client that asks and does not take the answer costs its connection, and no more: whoever
/// comes back for the session finds it where it was.
#[test]
fn a_connection_that_does_not_take_its_answer_ends_and_its_session_does_not() {
    let scratch = Scratch::new("tunnel-stalls");
    let dir = scratch.path();
    let configuration = "[limits]\nsend_stall_max = \"6s\"\ntunnel_idle_timeout = \"4s\"\n\
                         tunnel_reply_bytes_max = \"4MiB\"\nstream_grace = \"2s\"\n";
    let options = Options { configuration, arguments: &["--workers", "1"], ..Options::default() };
    let relay = Relay::start(dir, &options);
    let _publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Heavy, 4, &relay.url("clip"));
    relay.wait_for_role("publisher", 1);
    let (player, bridge) = {
        let (client, bridge) = Bridge::client(relay.rtmp, Manner::default()).unwrap();
        (crate::support::client::Player::join(client, "live", "clip").unwrap(), bridge)
    };
    relay.wait_for_role("player", 1);
    let mut session = bridge.stop().unwrap();
    drop(player);
    // The answers of some seconds, none of which is read, into a socket that takes little.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&relay.rtmp.into()).unwrap();
    let mut socket = std::net::TcpStream::from(socket);
    let slow = [("role", "carrier"), ("reason", "slow")];
    let ended = || relay.metrics().sum("relay_connections_closed_total", &slow);
    let asked = session.number;
    for number in asked..asked + 200 {
        let head = format!("POST /idle/{}/{number} HTTP/1.1\r\nHost: x\r\n", session.id);
        if write!(socket, "{head}Content-Length: 1\r\n\r\n\0").is_err() {
            break;
        }
    }
    wait_for("the connection to be closed", Duration::from_secs(40), || {
        (ended() >= Some(1.0)).then_some(())
    });
    assert_eq!(relay.metrics().sum("relay_tunnel_sessions", &[]), Some(1.0), "it waited for long");
    // About how many were answered is told by what is left in the socket. One that was answered
    // before is refused, and the first that was not is next.
    let mut left = Vec::new();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let _ = socket.read_to_end(&mut left);
    let head = b"HTTP/1.1 200 OK";
    let answers = left.windows(head.len()).filter(|window| window == head).count();
    let answers = u64::try_from(answers).unwrap();
    let next = (answers.saturating_sub(1)..=answers + 20).any(|more| {
        session.number = asked + more;
        session.exchange(&[]).is_ok()
    });
    assert!(next, "{answers} answers had come, and the session is gone");
    session.close().unwrap();
}
