//! Sessions whose requests overtake each other, and limits on what sessions hold.

use std::time::{Duration, Instant};

use super::{bare, read, refused, status};
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
