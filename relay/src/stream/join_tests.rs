//! Where players start, and what they are told first.

use super::cursor::{Join, Next};
use super::testing::{AUDIO_ONLY, Rig, VIDEO_ONLY, on_tracks};
use super::view::{ViewFormat, ViewKind};
use crate::limits::Limits;
use crate::wire::media::Role::{
    self, AudioFrame, AudioHeader, InterFrame, KeyFrame, Metadata, TrackKeyFrame, VideoCommand,
    VideoHeader, VideoOpaque,
};
use crate::wire::media::Tracks;

const BOTH: ViewKind = ViewKind {
    tracks: super::view::ViewTracks::Both,
    message_stream: 1,
    format: ViewFormat::Chunks,
};

/// A rig whose stream has sent metadata and headers (ids 1 to 3).
fn rig() -> Rig {
    let mut rig = Rig::new(Limits::default());
    for role in [Metadata, AudioHeader, VideoHeader] {
        rig.send(role, 50);
    }
    rig
}

fn play(rig: &mut Rig, join: Join, view: ViewKind) -> Vec<u32> {
    let (mut cursor, mut player) = rig.open(join, view);
    rig.drain(&mut cursor, &mut player);
    rig.hub.close(rig.key, cursor);
    player.ids()
}

#[test]
fn a_joining_player_gets_the_prelude_and_the_newest_group_of_pictures() {
    let mut rig = rig();
    let key = rig.seal(KeyFrame, 30_000);
    let joined_at = rig.now;
    let rest = rig.run(InterFrame, 200, 20);
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    let batch = rig.drain(&mut cursor, &mut player);
    assert!(batch.joined && batch.jumped.is_none() && batch.skipped == 0);
    assert_eq!(batch.next, Next::AtHead);
    let stamped = u32::try_from(joined_at.as_millis()).unwrap();
    assert!(player.seen.iter().take(4).all(|seen| seen.timestamp == stamped));
    assert_eq!(player.ids(), [&[1, 2, 3, key][..], &rest].concat());
    let next = rig.run(InterFrame, 20, 20);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
    assert_eq!(player.ids(), next);
}

#[test]
fn a_pending_key_frame_is_sealed_for_the_player_that_joins_there() {
    let mut rig = rig();
    rig.seal(KeyFrame, 100);
    let key = rig.send(KeyFrame, 100);
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [1, 2, 3, key]);
    let inter = rig.send(InterFrame, 100);
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [1, 2, 3, key], "the next flush is soon enough");
    rig.hub.seal(rig.key);
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [1, 2, 3, key, inter]);
}

#[test]
fn a_live_player_waits_for_the_next_key_frame() {
    let mut rig = rig();
    rig.seal(KeyFrame, 100);
    let (mut cursor, mut player) = rig.open(Join::Live, BOTH);
    rig.run(InterFrame, 500, 50);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::WaitingForKey);
    let key = rig.seal(KeyFrame, 100);
    assert!(rig.drain(&mut cursor, &mut player).joined);
    assert_eq!(player.ids(), [1, 2, 3, key]);
}

#[test]
fn the_prelude_is_rendered_once_for_all_who_join_at_a_key_frame() {
    let mut rig = rig();
    rig.seal(KeyFrame, 100);
    assert_eq!(play(&mut rig, Join::Gop, BOTH).len(), 4);
    let copied = rig.hub.copied_bytes();
    for _ in 0..100 {
        assert_eq!(play(&mut rig, Join::Gop, BOTH).len(), 4);
    }
    assert_eq!(rig.hub.copied_bytes(), copied);
}

#[test]
fn a_header_before_a_key_frame_leads_into_it() {
    let mut rig = rig();
    rig.seal(KeyFrame, 100);
    let header = rig.send(VideoHeader, 60);
    let key = rig.seal(KeyFrame, 100);
    let late = rig.seal(AudioHeader, 60);
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [1, 2, header, key, late]);
}

#[test]
fn players_of_audio_alone_start_anywhere_once_there_was_no_video_for_long_enough() {
    let mut rig = Rig::new(Limits::default());
    rig.send(AudioHeader, 50);
    let (mut early, mut player) = rig.open(Join::Live, BOTH);
    let waited = rig.run(AudioFrame, 1_980, 20);
    assert_eq!(rig.drain(&mut early, &mut player).next, Next::WaitingForKey);
    let frame = rig.run(AudioFrame, 20, 20);
    assert!(rig.drain(&mut early, &mut player).joined);
    assert_eq!(
        player.ids(),
        [&[1][..], &waited, &frame].concat(),
        "what it waited for is not lost"
    );
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [&[1][..], &frame].concat());
    assert_eq!(play(&mut rig, Join::Live, BOTH), [] as [u32; 0]);
    // video that begins later needs no further start
    let key = rig.seal(KeyFrame, 100);
    let batch = rig.drain(&mut early, &mut player);
    assert!(!batch.joined && batch.next == Next::AtHead);
    assert_eq!(player.ids(), [key]);
}

#[test]
fn when_the_video_stops_players_start_with_the_audio_and_get_video_from_a_key_frame() {
    let mut rig = rig();
    rig.seal(KeyFrame, 100);
    rig.run(InterFrame, 1_000, 50);
    rig.run(AudioFrame, 7_000, 20);
    let newest = rig.run(AudioFrame, 20, 20);
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    assert!(rig.drain(&mut cursor, &mut player).joined);
    assert_eq!(cursor.view(), AUDIO_ONLY);
    assert_eq!(player.ids(), [&[1, 2][..], &newest].concat());
    rig.run(InterFrame, 100, 20);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
    assert_eq!(player.ids(), [] as [u32; 0]);
    let key = rig.seal(KeyFrame, 100);
    rig.drain(&mut cursor, &mut player);
    assert_eq!((player.ids(), cursor.view()), (vec![1, 2, 3, key], BOTH));
}

#[test]
fn a_player_that_saw_the_video_end_starts_behind_it() {
    let mut rig = rig();
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.run(AudioFrame, 100, 20);
    rig.run(InterFrame, 100, 20);
    let audio = rig.run(AudioFrame, 2_000, 20);
    assert!(rig.drain(&mut cursor, &mut player).joined);
    assert_eq!(player.ids(), [&[1, 2][..], &audio].concat());
    assert_eq!(cursor.view(), AUDIO_ONLY);
}

#[test]
fn players_of_the_audio_alone_need_no_key_frame() {
    let mut rig = rig();
    rig.seal(KeyFrame, 100);
    rig.run(AudioFrame, 100, 20);
    let newest = rig.seal(AudioFrame, 100);
    assert_eq!(play(&mut rig, Join::Gop, AUDIO_ONLY), [1, 2, newest]);
    let (mut cursor, mut player) = rig.open(Join::Live, AUDIO_ONLY);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::WaitingForKey);
    let next = rig.seal(AudioFrame, 100);
    assert!(rig.drain(&mut cursor, &mut player).joined);
    assert_eq!(player.ids(), [1, 2, next]);
}

#[test]
fn a_short_pause_of_the_video_does_not_hide_the_key_frame() {
    let mut rig = rig();
    let key = rig.seal(KeyFrame, 100);
    let audio = rig.run(AudioFrame, 5_000, 20);
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [&[1, 2, 3, key][..], &audio].concat());
}

#[test]
fn without_a_key_frame_players_wait_and_then_get_the_audio() {
    let mut rig = rig();
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    let (mut silent, mut mute) = rig.open(Join::Gop, VIDEO_ONLY);
    rig.run(InterFrame, 9_980, 20);
    rig.pass(19);
    rig.seal(AudioFrame, 100);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::WaitingForKey);
    rig.pass(1);
    let audio = rig.seal(AudioFrame, 100);
    let batch = rig.drain(&mut cursor, &mut player);
    assert!(batch.joined && batch.next == Next::AtHead);
    assert_eq!(rig.drain(&mut silent, &mut mute).next, Next::WaitingForKey);
    rig.run(InterFrame, 1_000, 20);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
    assert_eq!(player.ids(), [1, 2, audio]);
    let last = rig.send(AudioFrame, 100);
    let key = rig.seal(KeyFrame, 100);
    rig.drain(&mut cursor, &mut player);
    rig.drain(&mut silent, &mut mute);
    assert_eq!(player.ids(), [last, 1, 2, 3, key]);
    assert_eq!(mute.ids(), [1, 3, key]);
}

#[test]
fn key_frames_far_apart_do_not_keep_players_from_joining() {
    let mut rig = rig();
    let key = rig.seal(KeyFrame, 100);
    let rest = rig.run(InterFrame, 30_000, 50);
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((batch.jumped, batch.skipped), (None, 0), "being behind at the start is no fault");
    assert_eq!(player.ids(), [&[1, 2, 3, key][..], &rest].concat());
    // a key frame older than gop_span_max is gone, and so is the picture until the next one
    rig.run(InterFrame, 10_050, 50);
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [] as [u32; 0]);
}

#[test]
fn after_a_pause_a_player_goes_on_at_the_next_key_frame_with_fresh_headers() {
    let mut rig = rig();
    rig.seal(KeyFrame, 200_000);
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.step(&mut cursor, &mut player);
    assert!(!cursor.at_boundary(), "paused within a message, which is finished first");
    rig.run(InterFrame, 20_000, 50);
    let before = rig.seal(KeyFrame, 100);
    rig.hub.rejoin(rig.key, &mut cursor, rig.now);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((batch.next, batch.jumped), (Next::WaitingForKey, None));
    let key = rig.seal(KeyFrame, 100);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((batch.joined, batch.skipped), (true, 0), "what a pause passes over was not wanted");
    assert_eq!(player.ids(), [1, 2, 3, before - 401, 1, 2, 3, key]);
}

#[test]
fn roles_alone_decide_where_video_may_start() {
    let check = |role: Role, starts: bool| {
        let mut rig = rig();
        rig.seal(role, 100);
        rig.run(AudioFrame, 100, 20);
        assert_eq!(!play(&mut rig, Join::Gop, BOTH).is_empty(), starts, "{role:?}");
    };
    check(KeyFrame, true);
    for role in [InterFrame, VideoOpaque, Role::VideoEnd, VideoCommand, VideoHeader] {
        check(role, false);
    }
}

/// Sends one message per entry (role and tracks), each a segment; says which of them start with a
/// key frame.
fn key_frames(sent: &[(Role, &[u8])]) -> Vec<usize> {
    let mut rig = Rig::new(Limits::default());
    for (id, &(role, ids)) in sent.iter().enumerate() {
        let mut tracks = Tracks::default();
        ids.iter().for_each(|&track| tracks.push(track));
        let mut message = on_tracks(role, tracks, u32::try_from(id).unwrap(), 0, 50);
        rig.hub.append(rig.key, &mut message, rig.now);
        rig.hub.seal(rig.key);
    }
    let log = rig.hub.log(rig.key).unwrap();
    log.from(0).enumerate().filter(|(_, segment)| segment.key).map(|(place, _)| place).collect()
}

#[test]
fn the_key_frames_of_a_stream_are_those_of_track_0_or_of_its_only_track() {
    #[track_caller]
    fn check(sent: &[(Role, &[u8])], keys: &[usize]) {
        assert_eq!(key_frames(sent), keys, "{sent:?}");
    }
    let (header, key, other) = (VideoHeader, KeyFrame, TrackKeyFrame);
    check(&[(header, &[2]), (other, &[2]), (InterFrame, &[2]), (other, &[2])], &[1, 3]);
    check(&[(header, &[0]), (header, &[1]), (key, &[0]), (other, &[1])], &[2]);
    check(&[(header, &[1]), (header, &[0]), (other, &[1]), (key, &[0])], &[3]);
    check(&[(header, &[3]), (header, &[1]), (other, &[1]), (other, &[3])], &[3]);
    check(&[(header, &[3, 1]), (other, &[1, 3])], &[1]);
    // Without headers the first frame tells.
    check(&[(other, &[5]), (other, &[4]), (other, &[5])], &[0, 2]);
    check(&[(InterFrame, &[4]), (other, &[5]), (other, &[4])], &[2]);
    // Track 0 may come late.
    check(&[(other, &[5]), (key, &[0]), (other, &[5])], &[0, 1]);
    // What names no track, and what is no picture, decides nothing.
    check(&[(VideoOpaque, &[]), (VideoCommand, &[0]), (other, &[7])], &[2]);
}

#[test]
fn a_player_joins_a_stream_whose_only_video_track_is_not_track_0() {
    let mut rig = Rig::new(Limits::default());
    let tracks = Tracks::one(2);
    for (id, role) in (1..).zip([VideoHeader, TrackKeyFrame, InterFrame]) {
        rig.hub.append(rig.key, &mut on_tracks(role, tracks, id, 0, 50), rig.now);
    }
    assert_eq!(play(&mut rig, Join::Gop, BOTH), [1, 2, 3]);
}
