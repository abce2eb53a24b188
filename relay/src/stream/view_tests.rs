//! Readings of a stream in other bytes.

use super::cursor::{Join, Next};
use super::testing::{AUDIO_ONLY, Rig, VIDEO_ONLY};
use super::view::{ViewFormat, ViewKind, ViewTracks};
use crate::limits::Limits;
use crate::wire::media::Role::{
    AudioFrame, AudioHeader, Data, InterFrame, KeyFrame, Metadata, VideoHeader,
};

const BOTH: ViewKind =
    ViewKind { tracks: ViewTracks::Both, message_stream: 1, format: ViewFormat::Chunks };

/// Metadata, audio header, video header (ids 1 to 3); key frame, audio, inter frame, audio, data (4
/// to 8) in one segment.
fn rig() -> Rig {
    let mut rig = Rig::new(Limits::default());
    for role in [Metadata, AudioHeader, VideoHeader, KeyFrame, AudioFrame, InterFrame] {
        rig.send(role, 50);
    }
    rig.send(AudioFrame, 60);
    rig.seal(Data, 70);
    rig
}

#[test]
fn each_view_shows_its_messages_and_its_message_stream() {
    let check = |tracks, message_stream: u32, expected: &[u32]| {
        let mut rig = rig();
        let (mut cursor, mut player) =
            rig.open(Join::Gop, ViewKind { tracks, message_stream, ..BOTH });
        rig.drain(&mut cursor, &mut player);
        assert!(player.seen.iter().all(|seen| seen.message_stream == message_stream));
        assert_eq!(player.ids(), expected, "{tracks:?} {message_stream}");
    };
    for message_stream in [1, 2, 0x00AB_CDEF] {
        check(ViewTracks::Both, message_stream, &[1, 2, 3, 4, 5, 6, 7, 8]);
        check(ViewTracks::AudioOnly, message_stream, &[1, 2, 5, 7, 8]);
        check(ViewTracks::VideoOnly, message_stream, &[1, 3, 4, 6, 8]);
    }
}

#[test]
fn long_messages_keep_their_chunks_in_another_message_stream() {
    for base in [0, 0xFF_FFFF] {
        let mut rig = Rig::new(Limits::default());
        rig.base = base;
        rig.seal(KeyFrame, 200_000);
        let (mut cursor, mut player) = rig.open(Join::Gop, ViewKind { message_stream: 9, ..BOTH });
        rig.drain(&mut cursor, &mut player);
        assert!(player.seen.iter().all(|seen| seen.message_stream == 9));
        assert_eq!(player.ids(), [1]);
    }
}

#[test]
fn a_view_is_rendered_once_however_many_read_it() {
    let mut rig = rig();
    let mut readers = Vec::new();
    let before = rig.hub.copied_bytes();
    let (mut cursor, mut player) = rig.open(Join::Gop, AUDIO_ONLY);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [1, 2, 5, 7, 8]);
    readers.push((cursor, player));
    let one = rig.hub.copied_bytes() - before;
    assert!(one > 0);
    for _ in 0..50 {
        readers.push(rig.open(Join::Gop, AUDIO_ONLY));
    }
    for (cursor, player) in readers.iter_mut().skip(1) {
        rig.drain(cursor, player);
        assert_eq!(player.ids(), [1, 2, 5, 7, 8]);
    }
    assert_eq!(rig.hub.copied_bytes() - before, one);
    for (cursor, _) in readers {
        assert!(rig.hub.held_bytes().views > 0, "it stays until the last reader is gone");
        rig.hub.close(rig.key, cursor);
    }
    rig.forget_left_views();
    assert_eq!(rig.hub.held_bytes().views, 0);
}

#[test]
fn players_do_not_choose_how_many_views_there_are() {
    let limits = Limits { views_per_stream_max: 3, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.seal(KeyFrame, 50_000);
    let on = |message_stream| ViewKind { message_stream, ..BOTH };
    let mut readers = Vec::new();
    for message_stream in 2..5 {
        let (mut cursor, mut player) = rig.open(Join::Gop, on(message_stream));
        rig.drain(&mut cursor, &mut player);
        assert_eq!(player.ids(), [1]);
        readers.push(cursor);
    }
    let views = rig.hub.held_bytes().views;
    for message_stream in 5..50 {
        assert!(!rig.hub.has_room(rig.key, on(message_stream)));
        assert!(rig.hub.open(rig.key, Join::Gop, on(message_stream), rig.now).is_none());
    }
    assert!(rig.hub.has_room(rig.key, BOTH) && rig.hub.has_room(rig.key, on(3)));
    assert_eq!(rig.hub.held_bytes().views, views);

    // one that cannot have what it asks for keeps what it has
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.drain(&mut cursor, &mut player);
    cursor.set_view(AUDIO_ONLY);
    let rest = rig.run(InterFrame, 100, 20);
    rig.drain(&mut cursor, &mut player);
    assert_eq!((player.ids(), cursor.view()), ([&[1][..], &rest].concat(), BOTH));

    // the place of a view that nobody reads is free at once
    rig.hub.close(rig.key, readers.swap_remove(0));
    let audio = rig.run(AudioFrame, 20, 20);
    rig.drain(&mut cursor, &mut player);
    assert_eq!((player.ids(), cursor.view()), (audio, AUDIO_ONLY));
}

#[test]
fn changing_ones_mind_again_and_again_costs_little() {
    let mut rig = Rig::new(Limits::default());
    rig.seal(KeyFrame, 100_000);
    for _ in 0..100 {
        rig.seal(InterFrame, 10_000);
        rig.pass(20);
    }
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.drain(&mut cursor, &mut player);
    let before = rig.hub.copied_bytes();
    for _ in 0..50 {
        for view in [VIDEO_ONLY, BOTH] {
            cursor.set_view(view);
            rig.run(InterFrame, 20, 20);
            rig.drain(&mut cursor, &mut player);
        }
    }
    let copied = rig.hub.copied_bytes() - before;
    assert!(copied < 100_000, "{copied} bytes copied, and the log holds a megabyte");
}

#[test]
fn what_a_view_shows_in_one_piece_is_not_copied() {
    let mut rig = Rig::new(Limits::default());
    let (mut cursor, mut player) = rig.open(Join::Gop, AUDIO_ONLY);
    rig.send(AudioFrame, 50);
    rig.send(AudioFrame, 50);
    rig.seal(InterFrame, 20_000);
    let before = rig.hub.copied_bytes();
    rig.send(InterFrame, 50);
    rig.send(AudioFrame, 50);
    let appended = rig.hub.copied_bytes() - before;
    rig.hub.seal(rig.key);
    rig.drain(&mut cursor, &mut player);
    let sealed = rig.hub.copied_bytes() - before - appended;
    assert!(sealed <= appended, "at most once more, to leave a too large allocation");
    let log = rig.hub.log(rig.key).unwrap().from(0).map(|segment| segment.bytes.clone());
    let shared: Vec<_> = log.collect();
    let mut out = Vec::new();
    let (mut again, _) = rig.open(Join::Gop, AUDIO_ONLY);
    rig.hub.next_batch(rig.key, &mut again, rig.now, &mut out);
    assert!(shared.iter().any(|whole| whole.as_ptr_range().contains(&out[0].as_ptr())));
}

#[test]
fn a_view_goes_with_its_log() {
    let mut rig = rig();
    let (mut cursor, mut player) = rig.open(Join::Gop, AUDIO_ONLY);
    rig.run(AudioFrame, 60_000, 100);
    rig.drain(&mut cursor, &mut player);
    let held = rig.hub.held_bytes();
    let prelude = 200;
    assert!(held.views <= held.home + prelude, "{held:?}");
    rig.seal(KeyFrame, 100);
    rig.hub.shrink(0);
    let log = rig.hub.log(rig.key).unwrap();
    assert_eq!(log.next() - log.first(), 1);
    assert!(rig.hub.held_bytes().views < 1_000);
    rig.hub.close(rig.key, cursor);
}

#[test]
fn video_off_and_on_again() {
    let mut rig = rig();
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.drain(&mut cursor, &mut player);
    player.ids();
    cursor.set_view(AUDIO_ONLY);
    rig.run(InterFrame, 100, 20);
    let audio = rig.run(AudioFrame, 100, 20);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), audio);
    cursor.set_view(BOTH);
    rig.run(InterFrame, 100, 20);
    let audio = rig.run(AudioFrame, 100, 20);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), audio, "the picture comes back with a key frame only");
    let key = rig.seal(KeyFrame, 100);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [1, 2, 3, key]);
    rig.forget_left_views();
    assert_eq!((cursor.view(), rig.hub.held_bytes().views), (BOTH, 0));
}

#[test]
fn audio_off_and_on_again() {
    let mut rig = rig();
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.drain(&mut cursor, &mut player);
    player.ids();
    cursor.set_view(VIDEO_ONLY);
    rig.run(AudioFrame, 100, 20);
    let video = rig.run(InterFrame, 100, 20);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), video, "the picture goes on without a break");
    cursor.set_view(BOTH);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
    let rest = rig.run(InterFrame, 20, 20);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [&[1, 2][..], &rest].concat(), "audio headers, then on");
}

#[test]
fn from_one_kind_alone_to_the_other() {
    let mut rig = rig();
    let (mut cursor, mut player) = rig.open(Join::Gop, VIDEO_ONLY);
    rig.drain(&mut cursor, &mut player);
    player.ids();
    cursor.set_view(AUDIO_ONLY);
    let audio = rig.run(AudioFrame, 20, 20);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [&[1, 2][..], &audio].concat());
    cursor.set_view(VIDEO_ONLY);
    let audio = rig.run(AudioFrame, 20, 20);
    let key = rig.seal(KeyFrame, 100);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [&audio[..], &[1, 3, key]].concat());
}

#[test]
fn views_that_players_chose_keep_no_other_node_from_being_fed() {
    let mut rig = Rig::new(Limits { views_per_stream_max: 1, ..Limits::default() });
    let own = ViewKind { message_stream: 2, ..ViewKind::default() };
    assert!(rig.hub.has_room(rig.key, own));
    let cursor = rig.hub.open(rig.key, Join::Gop, own, rig.now).unwrap();
    let other = ViewKind { message_stream: 3, ..ViewKind::default() };
    assert!(!rig.hub.has_room(rig.key, other));
    let feed = rig.hub.open_feed(rig.key, 77, 0, None).unwrap();
    assert!(!rig.hub.has_room(rig.key, other), "and it is none of theirs");
    rig.hub.close_feed(rig.key, &feed);
    rig.hub.close(rig.key, cursor);
}
