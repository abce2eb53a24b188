//! The measuring tried on a server that is not ours: what these tests call equal is equal.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Player, Quiet};
use crate::support::clip::{Clip, LENGTH};
use crate::support::nginx::Nginx;
use crate::support::packets::Recording;
use crate::support::{Scratch, ffmpeg, gstreamer, rtmpdump};

/// Connecting, publishing and playing to the end.
const PASS_MAX: Duration = Duration::from_secs(60);

#[test]
fn every_recorder_gets_equal_packets_through_nginx() {
    let scratch = Scratch::new("harness");
    let dir = scratch.path();
    let sent = Clip::BFrames.sent();
    let nginx = Nginx::start(dir);
    let url = nginx.url("clip");
    let file = |name: &str| scratch.file(&format!("{name}.flv"));

    let mut early = ffmpeg::record(dir, "early", &url, &file("early"));
    let mut dump = rtmpdump::record(dir, "dump", &url, &file("dump"));
    let mut gst = gstreamer::record(dir, "gst", &url, &file("gst"));
    let mut raw = Player::join(Client::open(nginx.address).unwrap(), "live", "clip").unwrap();
    let reading = thread::spawn(move || {
        let ended = raw.read(Instant::now() + PASS_MAX, |player| player.ends > 0);
        ended.map(|_| raw.recording)
    });
    thread::sleep(Duration::from_secs(2));
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::BFrames, &url);
    thread::sleep(LENGTH / 2);
    let mut late = ffmpeg::record(dir, "late", &url, &file("late"));
    publisher.succeed(PASS_MAX);
    for player in [&mut early, &mut late] {
        player.succeed(PASS_MAX);
    }
    dump.wait(PASS_MAX);
    gst.wait(PASS_MAX);

    // nginx tells of the end at once, which may cost GStreamer what it has not written yet.
    for (name, lost_max) in [("early", 0), ("dump", 0), ("gst", 2)] {
        let received = Recording::of_file(&file(name));
        assert_eq!(sent.check_whole_but_last(&received, lost_max), Ok(()), "{name}");
    }
    assert_eq!(sent.check_whole(&reading.join().unwrap().unwrap()), Ok(()));
    let before = sent.check_from_key_frame(&Recording::of_file(&file("late"))).unwrap();
    assert!(before > 200, "the late player joined after {before} packets only");
}

#[test]
fn a_clip_looped_or_sent_by_gstreamer_is_known_in_advance() {
    let scratch = Scratch::new("expected");
    let dir = scratch.path();
    let once = Clip::Plain.sent();
    let twice = Clip::Plain.sent_looped(2, dir);
    assert_eq!(twice.coded().len(), once.coded().len() * 2);
    assert_eq!(twice.check_monotonic(), Ok(()));
    let file = scratch.file("gst.flv");
    gstreamer::publish_to_file(dir, "gst", Clip::Plain, &file).succeed(PASS_MAX);
    assert_eq!(Recording::of_file(&file).coded(), once.coded());
}

#[test]
fn a_player_sees_the_end_of_its_connection() {
    let scratch = Scratch::new("end");
    let nginx = Nginx::start(scratch.path());
    let mut player = Player::join(Client::open(nginx.address).unwrap(), "live", "x").unwrap();
    let soon = Instant::now() + Duration::from_millis(100);
    assert!(matches!(player.read(soon, |_| false), Ok(Quiet::Timeout)));
    drop(nginx);
    let later = Instant::now() + PASS_MAX;
    assert!(matches!(player.read(later, |_| false), Ok(Quiet::Closed)));
}
