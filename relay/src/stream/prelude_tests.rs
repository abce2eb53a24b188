//! Which headers are kept, for how long, and in which order they are told.

use super::prelude::PreludeBuilder;
use super::testing::{AUDIO_ONLY, Player, VIDEO_ONLY, message, on_tracks};
use super::view::{ViewFormat, ViewKind, ViewTracks};
use crate::limits::Limits;
use crate::wire::media::{Role, Tracks};
use crate::wire::message::MediaMessage;
use crate::wire::timestamp::Timestamp;

const BOTH: ViewKind =
    ViewKind { tracks: ViewTracks::Both, message_stream: 1, format: ViewFormat::Chunks };

fn tracks(ids: &[u8]) -> Tracks {
    let mut tracks = Tracks::default();
    ids.iter().for_each(|&id| tracks.push(id));
    tracks
}

fn header(role: Role, ids: &[u8], id: u32) -> MediaMessage {
    on_tracks(role, tracks(ids), id, 77, 40)
}

fn rendered(builder: &PreludeBuilder, kind: ViewKind, at: u32) -> Vec<u32> {
    let mut player = Player::new();
    player.receive(&builder.current().render(kind, Timestamp(at)));
    assert!(player.seen.iter().all(|seen| seen.timestamp == at));
    assert!(player.seen.iter().all(|seen| seen.message_stream == kind.message_stream));
    player.ids()
}

/// Keeps messages, given as role, tracks and id, and expects these ids to be told.
fn check(kept: &[(Role, &[u8], u32)], expected: &[u32]) {
    let mut builder = PreludeBuilder::default();
    for &(role, ids, id) in kept {
        builder.keep(&header(role, ids, id), &Limits::default());
    }
    assert_eq!(rendered(&builder, BOTH, 5_000), expected, "{kept:?}");
    assert_eq!(rendered(&builder, BOTH, 20_000_000), expected, "extended timestamps");
}

use Role::{
    AudioChannels as C, AudioFrame, AudioHeader as A, Data, InterFrame, KeyFrame, Metadata as M,
    VideoEnd, VideoHeader as V, VideoMetadata as K,
};

#[test]
fn headers_are_told_in_the_order_that_players_need() {
    check(&[], &[]);
    check(&[(K, &[0], 5), (V, &[0], 4), (C, &[0], 3), (A, &[0], 2), (M, &[], 1)], &[1, 2, 3, 4, 5]);
    check(&[(V, &[2], 3), (V, &[0], 1), (V, &[1], 2)], &[1, 2, 3]);
    check(&[(KeyFrame, &[0], 1), (InterFrame, &[0], 2), (AudioFrame, &[0], 3)], &[]);
    check(&[(Data, &[], 1), (VideoEnd, &[0], 2), (V, &[0], 3), (VideoEnd, &[0], 4)], &[3]);
}

#[test]
fn the_newest_of_each_role_and_track_is_kept() {
    check(&[(V, &[0], 1), (V, &[0], 2), (M, &[], 3), (M, &[0], 4)], &[4, 2]);
    check(&[(A, &[0], 1), (A, &[1], 2), (A, &[0], 3)], &[3, 2]);
    check(&[(V, &[], 1), (V, &[0], 2)], &[2]);
}

#[test]
fn a_message_of_many_tracks_is_told_once_and_until_all_of_them_are_replaced() {
    check(&[(V, &[0, 1, 2], 1)], &[1]);
    check(&[(V, &[0, 1], 1), (V, &[1], 2)], &[1, 2]);
    // What is older must not be told after what took its place.
    check(&[(V, &[0, 1], 1), (V, &[0], 2)], &[1, 2]);
    check(&[(V, &[0, 1, 2], 1), (V, &[0, 1], 2), (V, &[0], 3)], &[1, 2, 3]);
    check(&[(V, &[2, 3], 1), (V, &[0, 1], 2), (V, &[0, 3], 3)], &[2, 1, 3]);
    check(&[(V, &[0, 1], 1), (V, &[1], 2), (V, &[0], 3)], &[3, 2]);
    check(&[(V, &[0], 1), (V, &[1], 2), (V, &[0, 1], 3)], &[3]);
}

#[test]
fn repeating_a_header_changes_nothing() {
    let mut builder = PreludeBuilder::default();
    let limits = Limits::default();
    let mut version = builder.current().version();
    let mut check = |builder: &mut PreludeBuilder, role, ids: &[u8], id, changes: bool| {
        builder.keep(&header(role, ids, id), &limits);
        let now = builder.current().version();
        assert_eq!(now > version, changes, "{role:?} {ids:?} {id}");
        version = now;
    };
    check(&mut builder, V, &[0], 1, true);
    check(&mut builder, V, &[0], 1, false);
    check(&mut builder, V, &[0], 2, true);
    check(&mut builder, V, &[1], 2, true);
    check(&mut builder, M, &[], 3, true);
    check(&mut builder, M, &[0], 3, false);
    check(&mut builder, InterFrame, &[0], 9, false);
    let copied = builder.copied_bytes();
    check(&mut builder, M, &[], 3, false);
    assert_eq!(builder.copied_bytes(), copied);
}

#[test]
fn snapshots_never_change() {
    let mut builder = PreludeBuilder::default();
    builder.keep(&header(V, &[0], 1), &Limits::default());
    let snapshot = builder.current().clone();
    builder.keep(&header(V, &[0], 2), &Limits::default());
    builder.reset();
    let mut player = Player::new();
    player.receive(&snapshot.render(BOTH, Timestamp(1)));
    assert_eq!(player.ids(), [1]);
    assert!(builder.current().is_empty());
    assert!(builder.current().version() > snapshot.version());
}

#[test]
fn metadata_can_be_cleared_alone() {
    let mut builder = PreludeBuilder::default();
    builder.keep(&header(M, &[], 1), &Limits::default());
    builder.keep(&header(V, &[0], 2), &Limits::default());
    builder.clear_metadata();
    assert_eq!(rendered(&builder, BOTH, 9), [2]);
    let version = builder.current().version();
    builder.clear_metadata();
    assert_eq!(builder.current().version(), version);
}

#[test]
fn views_are_told_their_part() {
    let mut builder = PreludeBuilder::default();
    for (role, id) in [(M, 1), (A, 2), (C, 3), (V, 4), (K, 5)] {
        builder.keep(&header(role, &[0], id), &Limits::default());
    }
    assert_eq!(rendered(&builder, AUDIO_ONLY, 9), [1, 2, 3]);
    assert_eq!(rendered(&builder, VIDEO_ONLY, 9), [1, 4, 5]);
    assert_eq!(
        rendered(&builder, ViewKind { message_stream: 0x01_02_03, ..BOTH }, 9),
        [1, 2, 3, 4, 5]
    );
}

#[test]
fn tracks_and_lengths_are_limited() {
    let limits = Limits { tracks_max: 2, header_bytes_max: 100_000, ..Limits::default() };
    let mut builder = PreludeBuilder::default();
    for (ids, id) in [(&[0][..], 1), (&[1], 2), (&[2], 3), (&[1, 3], 4), (&[4], 5)] {
        builder.keep(&header(V, ids, id), &limits);
    }
    assert_eq!(rendered(&builder, BOTH, 9), [1, 4]);
    builder.keep(&header(A, &[7], 6), &limits);
    assert_eq!(rendered(&builder, BOTH, 9), [6, 1, 4], "each role has its own tracks");
    builder.keep(&message(A, 7, 0, 100_000), &limits);
    assert_eq!(rendered(&builder, BOTH, 9), [7, 6, 1, 4], "as long as allowed, over two chunks");
    assert!(builder.current().bytes() > 100_000);
    builder.keep(&message(A, 8, 0, 100_001), &limits);
    assert_eq!(rendered(&builder, BOTH, 9), [6, 1, 4], "neither it nor what it replaced");
}
