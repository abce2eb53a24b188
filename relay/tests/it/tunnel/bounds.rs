//! Sessions whose requests overtake each other, and limits on what sessions hold.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{bare, read, refused, status};
use crate::support::client::Client;
use crate::support::clip::{Clip, LENGTH};
use crate::support::relay::{Options, Relay};
use crate::support::scene::{END_MAX, Scene};
use crate::support::tunnel::{Manner, Tunnel};
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
    let configuration = "[limits]\ntunnel_bytes_total = \"48KiB\"\n\
                         tunnel_idle_timeout = \"4s\"\n";
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
        others.extend((0..40).filter_map(|_| open().ok()));
        number += 1;
        assert_eq!(goes_on(number), 200, "it is there already");
        (refused(&relay, "memory") > 0.0).then_some(())
    });
    println!("{} sessions were let in", others.len());
    // Nothing is kept for who asks a second time.
    wait_for("the last answer to be let go", Duration::from_secs(20), || {
        (goes_on(number) == 404).then_some(())
    });
    assert_eq!(refused(&relay, "tunnel_stale"), 1.0);
    assert_eq!(goes_on(number + 1), 200);
    drop(others);
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

/// A relay with these limits, a player inside HTTP whom nothing carries at the moment, and a
/// publisher of its stream who has sent so many pictures of 50,000 bytes.
fn left_behind(limits: &str, pictures: u32) -> (Scratch, Relay, Tunnel, Client) {
    let scratch = Scratch::new("tunnel-left");
    let configuration = format!("[limits]\n{limits}");
    let options = Options {
        configuration: &configuration,
        arguments: &["--workers", "1"],
        ..Options::default()
    };
    let relay = Relay::start(scratch.path(), &options);
    let mut publisher = Client::open(relay.rtmp).unwrap();
    publisher.enter("live").unwrap();
    publisher.publish("clip").unwrap();
    let (_player, bridge) = bare(&relay, Manner::default());
    relay.wait_for_role("player", 1);
    let tunnel = bridge.stop().unwrap();
    let mut picture = vec![0x17, 1, 0, 0, 0];
    picture.resize(PICTURE, 7);
    for number in 0..pictures {
        publisher.message(9, number * 40, 1, &picture);
        // The group of the first goes on: whoever joins gets all of it.
        picture[0] = 0x27;
    }
    let sent = f64::from(pictures) * PICTURE as f64;
    wait_for("the pictures to be there", END_MAX, || {
        let came = relay.metrics().sum("relay_ingest_bytes_total", &[]);
        (came.unwrap_or_default() >= sent).then_some(())
    });
    (scratch, relay, tunnel, publisher)
}

const PICTURE: usize = 50_000;

/// Most bytes of one batch.
const BATCH: usize = 61_440;

#[test]
fn an_answer_is_as_long_as_it_may_be_and_the_rest_waits() {
    for limit in [64 << 10, 256 << 10] {
        let limits = format!("tunnel_reply_bytes_max = \"{}KiB\"\n", limit >> 10);
        let (_scratch, _relay, mut tunnel, _publisher) = left_behind(&limits, 40);
        let (mut lengths, mut total) = (Vec::new(), 0);
        while total < 40 * PICTURE {
            let answer = tunnel.exchange(&[]);
            let length = answer.unwrap_or_else(|why| panic!("{why}: {total} bytes came")).len();
            assert!(length <= limit + BATCH, "{length} bytes, {limit} and a batch may be");
            total += length;
            lengths.push(length);
        }
        println!("{limit}: {lengths:?}");
        assert!(lengths.iter().filter(|length| **length >= limit).count() >= 3, "{lengths:?}");
    }
}

#[test]
fn a_carrier_that_does_not_read_is_closed_and_its_session_is_left() {
    let limits = "tunnel_reply_bytes_max = \"8MiB\"\ntunnel_bytes_total = \"1MiB\"\n\
                  send_stall_max = \"3s\"\ntunnel_idle_timeout = \"8s\"\n";
    let (_scratch, relay, tunnel, _publisher) = left_behind(limits, 160);
    let held = || relay.metrics().sum("relay_memory_bytes", &[("kind", "tunnel")]).unwrap();
    let before = held();
    let mut carrier = Client::narrow(relay.rtmp, 8 << 10).unwrap();
    let request = format!(
        "POST /idle/{}/{} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n\0",
        tunnel.id, tunnel.number
    );
    let since = Instant::now();
    carrier.write_all(request.as_bytes()).unwrap();
    // What is on its way counts, though nothing is kept for who asks again.
    wait_for("the answer to be counted", END_MAX, || (held() > before + 6e6).then_some(()));
    let closed = |role: &str, reason: &str| {
        let labels = [("role", role), ("reason", reason)];
        relay.metrics().sum("relay_connections_closed_total", &labels).unwrap_or_default()
    };
    wait_for("the carrier to be closed", END_MAX, || {
        (closed("carrier", "slow") == 1.0).then_some(())
    });
    let stalled = since.elapsed();
    assert!(stalled > Duration::from_millis(2_900), "{stalled:?}");
    wait_for("its session to end", END_MAX, || (closed("player", "timeout") == 1.0).then_some(()));
    println!("the carrier was closed after {stalled:?}, its session after {:?}", since.elapsed());
    wait_for("its memory to be given back", END_MAX, || (held() < 1e5).then_some(()));
    assert_eq!(relay.metrics().sum("relay_tunnel_sessions", &[]), Some(0.0));
}
