//! Players that fall behind, and messages that no batch can hold.

use super::cursor::{Cursor, Join, JumpReason, Next};
use super::testing::{AUDIO_ONLY, Player, Rig};
use super::view::{ViewFormat, ViewKind, ViewTracks};
use crate::limits::Limits;
use crate::wire::media::Role::{AudioFrame, AudioHeader, InterFrame, KeyFrame, VideoHeader};

const BOTH: ViewKind =
    ViewKind { tracks: ViewTracks::Both, message_stream: 1, format: ViewFormat::Chunks };

/// A player at the head of a stream that begins with a header (id 1) and a key frame (id 2).
fn rig(limits: Limits) -> (Rig, Cursor, Player) {
    let mut rig = Rig::new(limits);
    rig.send(VideoHeader, 50);
    rig.seal(KeyFrame, 100);
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
    assert_eq!(player.ids(), [1, 2]);
    (rig, cursor, player)
}

#[test]
fn a_player_may_be_as_far_behind_as_the_limit_says() {
    let check = |behind: u64, jumps: bool| {
        let (mut rig, mut cursor, mut player) = rig(Limits::default());
        rig.seal(InterFrame, 100);
        rig.pass(behind);
        rig.seal(KeyFrame, 100);
        let batch = rig.drain(&mut cursor, &mut player);
        assert_eq!(batch.jumped, jumps.then_some(JumpReason::Lag), "{behind} ms");
        assert_eq!(batch.skipped, u64::from(jumps));
        assert_eq!(player.ids(), if jumps { vec![4] } else { vec![3, 4] });
    };
    check(0, false);
    check(6_000, false);
    check(6_001, true);
}

#[test]
fn timestamps_do_not_count() {
    let (mut rig, mut cursor, mut player) = rig(Limits::default());
    rig.base = 3_000_000_000;
    rig.run(InterFrame, 5_000, 1_000);
    assert_eq!(rig.drain(&mut cursor, &mut player).jumped, None);
}

#[test]
fn a_jump_goes_to_the_newest_key_frame_if_that_is_near_enough_and_else_waits() {
    // the key frame lies so far behind the head; below half of the 6 s it is worth going to
    let check = |behind: u64, goes: bool| {
        let (mut rig, mut cursor, mut player) = rig(Limits::default());
        rig.run(InterFrame, 6_100, 100);
        let key = rig.seal(KeyFrame, 100);
        rig.pass(behind);
        let rest = rig.seal(InterFrame, 100);
        let batch = rig.drain(&mut cursor, &mut player);
        assert_eq!((batch.jumped, batch.joined), (Some(JumpReason::Lag), false));
        if goes {
            assert_eq!((batch.next, batch.skipped), (Next::AtHead, 61));
            assert_eq!(player.ids(), [key, rest], "no header changed, so none is told again");
        } else {
            assert_eq!((batch.next, batch.skipped), (Next::WaitingForKey, 0));
            let next = rig.seal(KeyFrame, 100);
            let batch = rig.drain(&mut cursor, &mut player);
            assert_eq!((batch.joined, batch.jumped, batch.skipped), (true, None, 63));
            assert_eq!(player.ids(), [next]);
        }
    };
    check(100, true);
    check(2_999, true);
    check(3_000, false);
}

#[test]
fn headers_that_changed_are_told_before_the_picture_goes_on() {
    let (mut rig, mut cursor, mut player) = rig(Limits::default());
    rig.run(InterFrame, 6_001, 100);
    rig.pass(101);
    let header = rig.send(VideoHeader, 50);
    let key = rig.seal(KeyFrame, 100);
    assert_eq!(rig.drain(&mut cursor, &mut player).jumped, Some(JumpReason::Lag));
    assert_eq!(player.ids(), [header, key]);
}

#[test]
fn headers_that_were_told_in_band_are_not_told_again() {
    let (mut rig, mut cursor, mut player) = rig(Limits::default());
    let header = rig.seal(VideoHeader, 50);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [header]);
    rig.run(InterFrame, 6_100, 100);
    let key = rig.seal(KeyFrame, 100);
    rig.pass(1);
    rig.seal(InterFrame, 100);
    assert_eq!(rig.drain(&mut cursor, &mut player).jumped, Some(JumpReason::Lag));
    assert_eq!(player.ids()[0], key);
}

#[test]
fn on_audio_alone_a_jump_goes_to_the_head() {
    let mut rig = Rig::new(Limits::default());
    rig.send(AudioHeader, 50);
    rig.run(AudioFrame, 3_000, 20);
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.drain(&mut cursor, &mut player);
    player.ids();
    let passed = rig.run(AudioFrame, 6_040, 20);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((batch.jumped, batch.next), (Some(JumpReason::Lag), Next::AtHead));
    assert_eq!(batch.skipped, u64::try_from(passed.len()).unwrap() - 1);
    assert_eq!(player.ids(), passed[passed.len() - 1..]);
}

#[test]
fn a_player_that_gets_the_audio_for_want_of_a_key_frame_jumps_within_it() {
    let mut rig = Rig::new(Limits::default());
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    rig.run(InterFrame, 10_000, 20);
    rig.seal(AudioFrame, 100);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(cursor.view(), AUDIO_ONLY);
    rig.run(InterFrame, 6_100, 20);
    let audio = rig.seal(AudioFrame, 100);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((batch.jumped, batch.next), (Some(JumpReason::Lag), Next::AtHead));
    assert_eq!(player.ids().last(), Some(&audio));
}

#[test]
fn a_player_whose_segment_is_gone_jumps_too() {
    let (mut rig, mut cursor, mut player) = rig(Limits::default());
    rig.run(InterFrame, 15_000, 100);
    rig.run(KeyFrame, 100, 100);
    rig.run(InterFrame, 100, 100);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((batch.jumped, batch.skipped), (Some(JumpReason::Trimmed), 150));
    assert_eq!(player.ids().len(), 2);
}

#[test]
fn a_player_that_catches_up_is_measured_by_the_limit_alone() {
    let mut rig = Rig::new(Limits::default());
    rig.seal(KeyFrame, 100);
    rig.run(InterFrame, 10_000, 10);
    let (mut cursor, mut player) = rig.open(Join::Gop, BOTH);
    let batch = rig.step(&mut cursor, &mut player);
    assert!(batch.joined && batch.jumped.is_none());
    // 10 s behind at the start, it may fall 6 s further behind, but not more
    rig.run(InterFrame, 5_900, 100);
    assert_eq!(rig.step(&mut cursor, &mut player).jumped, None);
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
    rig.run(InterFrame, 6_100, 100);
    assert_eq!(rig.step(&mut cursor, &mut player).jumped, None);
    rig.run(InterFrame, 6_100, 100);
    assert_eq!(rig.step(&mut cursor, &mut player).jumped, Some(JumpReason::Lag));
}

#[test]
fn a_message_longer_than_a_batch_is_cut_and_finished_before_anything_else() {
    for bytes in [61_440, 61_500, 120_000, 200_000, 3_000_000] {
        let (mut rig, mut cursor, mut player) = rig(Limits::default());
        rig.seal(InterFrame, bytes);
        let after = rig.seal(InterFrame, 100);
        let batches = bytes / 61_440;
        for _ in 0..batches {
            rig.step(&mut cursor, &mut player);
            assert!(!cursor.at_boundary(), "{bytes}");
            assert!(player.seen.is_empty());
        }
        assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
        assert_eq!(player.ids(), [after - 1, after]);
        assert!(cursor.at_boundary());
    }
}

#[test]
fn a_message_half_sent_survives_the_trimming_of_its_log() {
    let (mut rig, mut cursor, mut player) = rig(Limits::default());
    let long = rig.seal(InterFrame, 200_000);
    rig.step(&mut cursor, &mut player);
    rig.run(InterFrame, 60_000, 100);
    let key = rig.seal(KeyFrame, 100);
    assert!(rig.hub.log(rig.key).unwrap().first() > 10);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((batch.jumped, batch.skipped), (Some(JumpReason::Trimmed), 600));
    assert_eq!(player.ids(), [long, key]);
}

#[test]
fn a_lagging_player_within_a_message_finishes_it_first() {
    let (mut rig, mut cursor, mut player) = rig(Limits::default());
    let long = rig.seal(InterFrame, 200_000);
    rig.step(&mut cursor, &mut player);
    rig.run(InterFrame, 7_000, 100);
    let key = rig.seal(KeyFrame, 100);
    assert_eq!(rig.step(&mut cursor, &mut player).jumped, None);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [long, key]);
}

#[test]
fn batches_end_where_messages_end() {
    // messages of 3,012 bytes on the wire: how many fit one batch of a longer segment
    let check = |batch_bytes_max: usize, fit: usize| {
        let limits = Limits { segment_bytes: 100_000, batch_bytes_max, ..Limits::default() };
        let (mut rig, mut cursor, mut player) = rig(limits);
        let ids: Vec<u32> = (0..24).map(|_| rig.send(InterFrame, 3_000)).collect();
        rig.hub.seal(rig.key);
        let mut seen = Vec::new();
        for _ in 0..24 / fit {
            rig.step(&mut cursor, &mut player);
            assert!(cursor.at_boundary());
            assert_eq!(player.seen.len(), fit, "{batch_bytes_max}");
            seen.extend(player.ids());
        }
        assert_eq!(seen, ids);
    };
    check(9_035, 2);
    check(9_036, 3);
    check(10_000, 3);
}

#[test]
fn one_batch_at_a_time() {
    let (mut rig, mut cursor, mut player) = rig(Limits::default());
    rig.seal(InterFrame, 100);
    let mut out = Vec::new();
    let batch = rig.hub.next_batch(rig.key, &mut cursor, rig.now, &mut out);
    let Next::Send { bytes } = batch.next else { panic!("{batch:?}") };
    let mut busy = |cursor: &mut Cursor| {
        let batch = rig.hub.next_batch(rig.key, cursor, rig.now, &mut out);
        assert_eq!(batch.next, Next::Busy);
    };
    busy(&mut cursor);
    cursor.advance(bytes - 1);
    busy(&mut cursor);
    cursor.advance(1);
    out.iter().for_each(|slice| player.receive(slice));
    assert_eq!(rig.drain(&mut cursor, &mut player).next, Next::AtHead);
    assert_eq!(player.ids(), [3]);
}

#[test]
fn a_cursor_is_small() {
    assert!(size_of::<Cursor>() <= 128, "{} bytes", size_of::<Cursor>());
}

#[test]
fn a_player_at_the_head_takes_one_slice_and_nothing_is_allocated_for_it() {
    let (mut rig, cursor, _) = rig(Limits::default());
    let (second, _) = rig.open(Join::Live, BOTH);
    let (third, _) = rig.open(Join::Live, BOTH);
    let mut cursors = [cursor, second, third];
    let mut out = Vec::with_capacity(16);
    for turn in 0..200 {
        rig.seal(if turn % 50 == 0 { KeyFrame } else { InterFrame }, 5_000);
        let newest = rig.hub.log(rig.key).unwrap().newest().unwrap().bytes.as_ptr();
        for (place, cursor) in cursors.iter_mut().enumerate() {
            let mut next = Next::AtHead;
            let allocated = allocation_counter::measure(|| {
                next = rig.hub.next_batch(rig.key, cursor, rig.now, &mut out).next;
            });
            if turn > 0 {
                // the first to read a segment makes its count: once per segment, not per player
                assert!(allocated.count_total <= u64::from(place == 0), "turn {turn}");
                assert_eq!((out.len(), next), (1, Next::Send { bytes: 5_012 }));
                assert_eq!(out[0].as_ptr(), newest, "by count, not by copy");
            }
            out.clear();
            cursor.advance(cursor.outstanding());
        }
    }
}
