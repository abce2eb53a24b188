//! Enhanced RTMP as FFmpeg 9 publishes and records it, and beside it players that know nothing of
//! it: they are sent the same bytes, and what they did not announce is said once.

use std::thread;

use crate::support::clip::{Clip, LENGTH};
use crate::support::ffmpeg::{self, Version};
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::scene::{END_MAX, Scene};

/// What the relay says of a player that did not announce what its stream asks for.
const UNANNOUNCED: &str = "player did not announce what its stream asks for";

/// Publishes `clip` by FFmpeg 9 to players that wait, FFmpeg 9, rtmpdump and the FFmpeg 5 of
/// `legacy`, and to an FFmpeg 9 that joins half-way. None of them announces anything of Enhanced
/// RTMP, so the relay must say of each, once, that the stream asks for `needs`, and count each once
/// under every one of `labels`. Gives what was sent.
fn five_players(
    test: &str,
    clip: Clip,
    legacy: impl Fn(&Scene) -> Process,
    needs: &str,
    labels: &[&str],
) -> (Scene, Process, Recording) {
    let scene = Scene::new(test, "127.0.0.1:0");
    let record = |name: &str| {
        let (dir, file) = (scene.scratch.path(), scene.file(name));
        ffmpeg::record_with(Version::Nine, dir, name, &scene.url(), &["0"], &file)
    };
    let mut old = legacy(&scene);
    let mut players = [record("early"), scene.rtmpdump_player("dump")];
    scene.relay.wait_for_role("player", 3);
    let mut publisher = ffmpeg::publish(scene.scratch.path(), "publisher", clip, &scene.url());
    thread::sleep(LENGTH / 2);
    let mut late = record("late");
    publisher.succeed(LENGTH + END_MAX);
    for player in players.iter_mut().chain([&mut late]) {
        player.succeed(END_MAX);
    }
    old.wait(END_MAX);

    let sent = clip.sent();
    assert_eq!(sent.check_whole(&scene.recording("dump")), Ok(()), "dump");
    let early = sent.check_tracks(&scene.recording("early"));
    assert_eq!(early, Ok(sent.before_first_key_frame()), "early");
    let before = sent.check_tracks(&scene.recording("late")).unwrap();
    assert!(before > 200, "the late player joined after only {before} packets");

    let unannounced = |need: &str| {
        scene.relay.metrics().sum("relay_players_unannounced_total", &[("need", need)])
    };
    for need in ["codec", "multitrack", "video_metadata"] {
        let players = if labels.contains(&need) { 4.0 } else { 0.0 };
        assert_eq!(unannounced(need), Some(players), "{need}");
    }
    let said = scene.relay.log();
    let lines: Vec<_> = said.lines().filter(|line| line.contains(UNANNOUNCED)).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for line in &lines {
        assert!(line.contains(&format!("needs=\"{needs}\"")), "{line}");
        let id = line.split(' ').find(|word| word.starts_with("id="));
        let same = lines.iter().filter(|other| other.split(' ').any(|word| Some(word) == id));
        assert_eq!(same.count(), 1, "one line for each connection: {lines:#?}");
    }
    (scene, old, sent)
}

/// A player without Enhanced RTMP that takes what it takes.
fn legacy_player(scene: &Scene) -> Process {
    scene.ffmpeg_player("legacy")
}

#[test]
fn hevc_and_aac_reach_players_packet_by_packet_and_legacy_ones_with_a_word() {
    let needs = "enhanced hevc, video metadata";
    five_players("hevc", Clip::Hevc, legacy_player, needs, &["codec", "video_metadata"]);
}

#[test]
fn av1_and_opus_reach_players_packet_by_packet_and_legacy_ones_with_a_word() {
    let needs = "enhanced opus, enhanced av1, video metadata";
    five_players("av1", Clip::Av1, legacy_player, needs, &["codec", "video_metadata"]);
}

#[test]
fn two_tracks_of_each_kind_reach_players_and_legacy_ones_get_the_first_of_each() {
    let first_tracks = |scene: &Scene| {
        let (dir, file) = (scene.scratch.path(), scene.file("legacy"));
        let tracks = ["0:v:0", "0:a:0"];
        ffmpeg::record_with(Version::System, dir, "legacy", &scene.url(), &tracks, &file)
    };
    let needs = "enhanced aac, multitrack, enhanced avc";
    let labels = ["codec", "multitrack"];
    let (scene, mut old, sent) = five_players("tracks", Clip::Tracks, first_tracks, needs, &labels);
    old.succeed(END_MAX);
    let first = sent.0.into_iter().filter(|packet| packet.track == 0);
    let first = Recording(first.collect());
    let before = first.check_tracks(&scene.recording("legacy"));
    assert_eq!(before, Ok(first.before_first_key_frame()));
}
