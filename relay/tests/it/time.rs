//! Timestamps as publishers have them, through the relay to FFmpeg and rtmpdump: jumps, wraps,
//! signs, extended ones. They pass unchanged.
//!
//! The publisher is synthetic, since no program can be made to send such times; what it sends is
//! the beginning of a real clip.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::clip::Clip;
use crate::support::packets::{self, Packet, Recording};
use crate::support::scene::{END_MAX, Scene};

/// How much of the clip is sent, and where its time changes: at a key frame.
const LENGTH_MS: u32 = 8_000;
const CHANGE_MS: u32 = 4_000;

/// How much faster than the clip's own time it is sent.
const SPEED: u32 = 2;

/// What FFmpeg makes of the times when it records; rtmpdump keeps them as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ffmpeg {
    /// Keeps them, but for the highest bit, which it never writes.
    Keeps,
    /// Moves all by the same, since it takes what lies shortly before a wrap for negative.
    Moves,
    /// Writes no time before the last one, and changes composition times to match.
    Rewrites,
}

/// Publishes with every time put through `time`, to players that wait, and checks that each
/// recorded everything from the first key frame on, in order.
fn check(name: &str, habit: Ffmpeg, time: impl Fn(u32) -> u32) {
    let scene = Scene::new(name, "127.0.0.1:0");
    let mut ffmpeg = scene.ffmpeg_player("ffmpeg");
    let mut dump = scene.rtmpdump_player("dump");
    let bare = scene.bare_player();
    scene.relay.wait_for_role("player", 3);
    let file = std::fs::read(Clip::BFrames.file()).unwrap();
    let mut tags = packets::tags(&file).unwrap();
    tags.retain(|tag| tag.time_ms < LENGTH_MS);
    let mut publisher = Client::open(scene.relay.rtmp).unwrap();
    publisher.enter("live").unwrap();
    publisher.publish("clip").unwrap();
    let start = Instant::now();
    let mut sent = Recording::default();
    for tag in tags {
        let at = Duration::from_millis((tag.time_ms / SPEED).into());
        thread::sleep(at.saturating_sub(start.elapsed()));
        publisher.message(tag.kind, time(tag.time_ms), 1, tag.payload);
        sent.0.push(Packet::new(tag.kind, time(tag.time_ms), tag.payload));
    }
    drop(publisher);
    dump.succeed(END_MAX);
    ffmpeg.succeed(END_MAX);

    assert_eq!(sent.check_whole(&bare.join().unwrap().unwrap()), Ok(()), "bare");
    assert_eq!(sent.check_whole(&scene.recording("dump")), Ok(()), "rtmpdump");
    let mut recorded = scene.recording("ffmpeg");
    match habit {
        Ffmpeg::Keeps => sent.0.iter_mut().for_each(|packet| packet.time_ms &= 0x7fff_ffff),
        Ffmpeg::Moves => [&mut sent, &mut recorded].into_iter().for_each(from_zero),
        Ffmpeg::Rewrites => {
            recorded = timeless(&std::fs::read(scene.file("ffmpeg")).unwrap());
            sent = timeless(&std::fs::read(scene.file("dump")).unwrap());
        }
    }
    assert_eq!(sent.check_tracks(&recorded), Ok(sent.before_first_key_frame()), "FFmpeg");
}

/// Counts times from the first coded packet on.
fn from_zero(recording: &mut Recording) {
    let first = recording.coded()[0].time_ms;
    let times = recording.0.iter_mut().map(|packet| &mut packet.time_ms);
    times.for_each(|time| *time = time.wrapping_sub(first) & 0x7fff_ffff);
}

/// A recording without times, those in the payloads of video included.
fn timeless(file: &[u8]) -> Recording {
    let packet = |tag: &packets::Tag<'_>| {
        let mut payload = tag.payload.to_vec();
        if let (9, Some(composition_time)) = (tag.kind, payload.get_mut(2..5)) {
            composition_time.fill(0);
        }
        Packet::new(tag.kind, 0, &payload)
    };
    Recording(packets::tags(file).unwrap().iter().map(packet).collect())
}

/// Past [`CHANGE_MS`] all times are moved by `by`; before it they are moved by `start`.
fn jump(start: u32, by: i32) -> impl Fn(u32) -> u32 {
    move |time| {
        let moved = if time < CHANGE_MS { 0 } else { by };
        start.wrapping_add(time).wrapping_add_signed(moved)
    }
}

#[test]
fn a_jump_of_an_hour_forward_passes_unchanged() {
    check("hour-on", Ffmpeg::Keeps, jump(0, 3_600_000));
}

#[test]
fn a_jump_of_an_hour_back_passes_unchanged() {
    check("hour-back", Ffmpeg::Rewrites, jump(7_200_000, -3_600_000));
}

#[test]
fn a_jump_of_a_second_and_a_half_back_passes_unchanged() {
    check("bit-back", Ffmpeg::Rewrites, jump(10_000, -1_500));
}

#[test]
fn times_wrap_at_32_bits() {
    check("wrap", Ffmpeg::Moves, jump(0u32.wrapping_sub(CHANGE_MS), 0));
}

#[test]
fn times_cross_31_bits() {
    check("sign", Ffmpeg::Keeps, jump((1 << 31) - CHANGE_MS, 0));
}

#[test]
fn a_stream_may_start_anywhere() {
    check("start", Ffmpeg::Keeps, jump(3_000_000_000, 0));
}

#[test]
fn times_become_extended_after_four_hours_and_a_half() {
    check("extended", Ffmpeg::Keeps, jump(16_777_215 - CHANGE_MS, 0));
}
