//! What goes in comes out: real publishers, real players, every packet compared.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::clip::{Clip, LENGTH};
use crate::support::packets::Recording;
use crate::support::scene::{END_MAX, Scene};
use crate::support::{ffmpeg, gstreamer, wait_for};

/// Publishes `clip` with FFmpeg to four kinds of players that wait, and one that joins half-way.
fn four_players(test: &str, clip: Clip) {
    let scene = Scene::new(test, "127.0.0.1:0");
    let mut players = [
        scene.ffmpeg_player("early"),
        scene.rtmpdump_player("dump"),
        scene.gstreamer_player("gst"),
    ];
    let bare = scene.bare_player();
    scene.relay.wait_for_role("player", 4);
    let mut publisher = ffmpeg::publish(scene.scratch.path(), "publisher", clip, &scene.url());
    thread::sleep(LENGTH / 2);
    let mut late = scene.ffmpeg_player("late");
    publisher.succeed(LENGTH + END_MAX);
    for player in players.iter_mut().chain([&mut late]) {
        player.succeed(END_MAX);
    }

    let sent = clip.sent();
    let bare = bare.join().unwrap().unwrap();
    assert_eq!(sent.check_whole(&bare), Ok(()), "bare");
    for name in ["early", "dump", "gst"] {
        assert_eq!(sent.check_whole(&scene.recording(name)), Ok(()), "{name}");
    }
    let before = sent.check_from_key_frame(&scene.recording("late")).unwrap();
    assert!(before > 200, "the late player joined after only {before} packets");

    // FFmpeg writes metadata of its own; the others show the bytes that came.
    let metadata = sent.data()[0];
    for (name, recording) in
        [("bare", &bare), ("dump", &scene.recording("dump")), ("gst", &scene.recording("gst"))]
    {
        let found = recording.data().iter().any(|data| data.same_payload(&metadata));
        assert!(found, "{name}: {metadata:?} was sent, {:?} came", recording.data());
    }
}

#[test]
fn an_ffmpeg_stream_reaches_four_players_packet_by_packet() {
    four_players("four", Clip::Plain);
}

#[test]
fn an_ffmpeg_stream_with_b_frames_reaches_four_players_packet_by_packet() {
    four_players("four-b", Clip::BFrames);
}

#[test]
fn a_gstreamer_stream_reaches_ffmpeg_and_rtmpdump_packet_by_packet() {
    let scene = Scene::new("gst", "127.0.0.1:0");
    let dir = scene.scratch.path();
    let mut players = [scene.ffmpeg_player("early"), scene.rtmpdump_player("dump")];
    scene.relay.wait_for_role("player", 2);
    let mut publisher = gstreamer::publish(dir, "publisher", Clip::Plain, &scene.url());
    let reference = scene.file("reference");
    gstreamer::publish_to_file(dir, "reference", Clip::Plain, &reference).succeed(END_MAX);
    publisher.succeed(LENGTH + END_MAX);
    let sent = Recording::of_file(&reference);
    for (player, name) in players.iter_mut().zip(["early", "dump"]) {
        player.succeed(END_MAX);
        assert_eq!(sent.check_whole(&scene.recording(name)), Ok(()), "{name}");
    }
}

/// Publishes a clip that has one kind of media only to players that wait, of whose recordings the
/// first `missing_max` packets may be missing, and to one that joins half-way.
fn one_kind(
    test: &str,
    clip: Clip,
    missing_max: usize,
    check: impl Fn(&Recording, &Recording) -> Result<usize, String>,
) {
    let scene = Scene::new(test, "127.0.0.1:0");
    let mut players = [scene.ffmpeg_player("early"), scene.rtmpdump_player("dump")];
    scene.relay.wait_for_role("player", 2);
    let mut publisher = ffmpeg::publish(scene.scratch.path(), "publisher", clip, &scene.url());
    thread::sleep(LENGTH / 2);
    let mut joiner = scene.rtmpdump_player("late");
    publisher.succeed(LENGTH + END_MAX);
    for player in players.iter_mut().chain([&mut joiner]) {
        player.succeed(END_MAX);
    }
    let sent = clip.sent();
    for name in ["early", "dump"] {
        let missing = check(&sent, &scene.recording(name)).unwrap();
        assert!(missing <= missing_max, "{name}: the first {missing} packets are missing");
    }
    let before = check(&sent, &scene.recording("late")).unwrap();
    assert!(before > 100, "the late player joined after only {before} packets");
}

#[test]
fn a_stream_of_audio_alone_is_relayed_and_can_be_joined_anywhere() {
    // It takes the relay 2 s to be sure that no video comes; who waits for it loses nothing.
    one_kind("audio", Clip::AudioOnly, 0, Recording::check_from_anywhere);
}

#[test]
fn a_stream_of_video_alone_is_relayed_and_is_joined_at_a_key_frame() {
    one_kind("video", Clip::VideoOnly, 0, Recording::check_from_key_frame);
}

#[test]
fn publisher_and_player_meet_over_ipv6() {
    let scene = Scene::new("ipv6", "[::1]:0");
    assert!(scene.relay.rtmp.is_ipv6());
    let mut player = scene.ffmpeg_player("player");
    scene.relay.wait_for_role("player", 1);
    let dir = scene.scratch.path();
    ffmpeg::publish(dir, "publisher", Clip::Plain, &scene.url()).succeed(LENGTH + END_MAX);
    player.succeed(END_MAX);
    assert_eq!(Clip::Plain.sent().check_whole(&scene.recording("player")), Ok(()));
}

#[test]
fn players_end_in_order_when_the_publisher_is_gone_for_good() {
    let scene = Scene::new("gone", "127.0.0.1:0");
    let mut ffmpeg_player = scene.ffmpeg_player("player");
    let mut dump = scene.rtmpdump_player("dump");
    scene.relay.wait_for_role("player", 2);
    let dir = scene.scratch.path();
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &scene.url());
    wait_for("three seconds of recording", END_MAX, || {
        let file = std::fs::metadata(scene.file("player")).ok()?;
        (file.len() > 300_000).then_some(())
    });
    publisher.kill();
    let gone = Instant::now();
    for player in [&mut ffmpeg_player, &mut dump] {
        player.succeed(END_MAX);
        let after = gone.elapsed();
        let within = Duration::from_millis(1_900)..Duration::from_secs(8);
        assert!(within.contains(&after), "ended {after:?} after a publisher with 2 s of grace");
    }
    let sent = Clip::Plain.sent();
    assert_eq!(sent.check_start(&scene.recording("player")), Ok(()));
}
