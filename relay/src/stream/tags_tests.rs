//! Streams read as FLV.

use super::cursor::{Join, Next};
use super::flv_player::{FlvPlayer, Tag};
use super::tags::FlvForm;
use super::testing::{Rig, ms};
use super::view::{ViewKind, ViewTracks};
use crate::limits::Limits;
use crate::wire::media::Role::{
    AudioFrame, AudioHeader, Data, InterFrame, KeyFrame, Metadata, VideoHeader,
};
use crate::wire::media::{Class, Tracks, classify_audio, classify_video};
use crate::wire::message::{CHUNK_BYTES, MediaKind, MediaMessage};
use crate::wire::testing::bytes as hex;
use crate::wire::timestamp::Timestamp;

const HTTP: FlvForm = FlvForm { websocket: false, extras: false };
const WEBSOCKET: FlvForm = FlvForm { websocket: true, extras: false };

fn flv(tracks: ViewTracks, form: FlvForm) -> ViewKind {
    ViewKind::flv(tracks, form)
}

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
fn each_view_promises_and_shows_its_kinds() {
    let check = |tracks, promised, expected: &[u32]| {
        for form in [HTTP, WEBSOCKET, FlvForm { extras: true, ..HTTP }] {
            let mut rig = rig();
            let (mut cursor, mut player) = rig.open(Join::Gop, flv(tracks, form));
            assert!(rig.drain(&mut cursor, &mut player).joined);
            assert_eq!(player.promised(), Some(promised), "{tracks:?}");
            assert_eq!(player.ids(), expected, "{tracks:?} {form:?}");
        }
    };
    check(ViewTracks::Both, (true, true), &[1, 2, 3, 4, 5, 6, 7, 8]);
    check(ViewTracks::AudioOnly, (true, false), &[1, 2, 5, 7, 8]);
    check(ViewTracks::VideoOnly, (false, true), &[1, 3, 4, 6, 8]);
}

#[test]
fn long_messages_and_late_times_are_whole() {
    for base in [0, 0xFF_FFF0, 0x7FFF_FF00, 0xFFFF_FF00] {
        for bytes in [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 2_000_000] {
            for form in [HTTP, WEBSOCKET] {
                let mut rig = Rig::new(Limits::default());
                rig.base = base;
                rig.seal(AudioHeader, 50);
                rig.seal(KeyFrame, bytes);
                let (mut cursor, mut player) = rig.open(Join::Gop, flv(ViewTracks::Both, form));
                rig.drain(&mut cursor, &mut player);
                let times: Vec<u32> = player.seen.iter().map(|seen| seen.timestamp).collect();
                assert_eq!(times, [base.wrapping_add(1_000); 2]);
                assert_eq!(player.ids(), [1, 2]);
            }
        }
    }
}

#[test]
fn tags_are_made_once_however_many_read_them() {
    let mut rig = rig();
    let before = rig.hub.copied_bytes();
    let view = flv(ViewTracks::Both, HTTP);
    let mut readers: Vec<_> = (0..50).map(|_| rig.open(Join::Gop, view)).collect();
    let mut sent = 0;
    for (cursor, player) in &mut readers {
        rig.drain(cursor, player);
        assert_eq!(player.ids(), [1, 2, 3, 4, 5, 6, 7, 8]);
        sent = rig.hub.copied_bytes() - before;
    }
    let prelude = 13 + 3 * (50 + 15);
    let gop = 3 * (50 + 15) + (60 + 15) + (70 + 15);
    assert_eq!(sent, prelude + gop, "copied once, and each player is sent as much");
    for round in 0..20 {
        rig.pass(20);
        let before = rig.hub.copied_bytes();
        let id = rig.seal(InterFrame, 500);
        for (cursor, player) in &mut readers {
            rig.drain(cursor, player);
            assert_eq!(player.ids(), [id]);
        }
        let copied = rig.hub.copied_bytes() - before;
        // into the pending segment, and into a tag
        assert_eq!(copied, (500 + 12) + (500 + 15), "round {round}");
    }
}

#[test]
fn the_header_waits_until_it_can_be_true() {
    // a stream that begins with video: its audio comes a little later, or never
    let check = |audio_after: Option<u64>, expected: (bool, bool), greeted_after: u64| {
        let mut rig = Rig::new(Limits::default());
        rig.seal(VideoHeader, 50);
        rig.seal(KeyFrame, 500);
        let (mut cursor, mut player) = rig.open(Join::Gop, flv(ViewTracks::Both, HTTP));
        let mut greeted = None;
        for step in 1..100 {
            if audio_after == Some(step * 20 - 20) {
                rig.seal(AudioFrame, 50);
            }
            rig.drain(&mut cursor, &mut player);
            if player.promised().is_some() {
                greeted.get_or_insert(step * 20 - 20);
            }
            rig.pass(20);
            rig.seal(InterFrame, 100);
        }
        assert_eq!((player.promised(), greeted), (Some(expected), Some(greeted_after)));
        let first = player.ids()[..2].to_vec();
        assert_eq!(first, [1, 2], "headers, and all from the key frame on");
    };
    check(Some(0), (true, true), 0);
    check(Some(300), (true, true), 300);
    check(None, (false, true), 1_000);
    check(Some(1_200), (false, true), 1_000);
}

#[test]
fn of_a_stream_that_is_known_the_header_is_written_at_once() {
    let join = |rig: &mut Rig, tracks| {
        let (mut cursor, mut player) = rig.open(Join::Gop, flv(tracks, HTTP));
        let batch = rig.drain(&mut cursor, &mut player);
        rig.hub.close(rig.key, cursor);
        (batch.joined, player.promised())
    };
    // video alone, for long
    let mut rig = Rig::new(Limits::default());
    rig.seal(KeyFrame, 500);
    rig.run(InterFrame, 3_000, 40);
    rig.seal(KeyFrame, 500);
    assert_eq!(join(&mut rig, ViewTracks::Both), (true, Some((false, true))));
    assert_eq!(join(&mut rig, ViewTracks::VideoOnly), (true, Some((false, true))));
    // audio without a header, for long, and then without video any more
    rig.run(AudioFrame, 1_000, 20);
    assert_eq!(join(&mut rig, ViewTracks::Both), (true, Some((true, true))));
    rig.run(AudioFrame, 14_000, 20);
    assert_eq!(join(&mut rig, ViewTracks::Both), (true, Some((true, false))));
    // audio alone from the beginning
    let mut rig = Rig::new(Limits::default());
    rig.seal(AudioHeader, 50);
    rig.run(AudioFrame, 2_100, 20);
    for tracks in [ViewTracks::Both, ViewTracks::AudioOnly] {
        assert_eq!(join(&mut rig, tracks), (true, Some((true, false))));
    }
    assert_eq!(join(&mut rig, ViewTracks::VideoOnly), (true, Some((false, false))));
}

#[test]
fn slow_players_jump_between_tags_and_are_greeted_once() {
    for form in [HTTP, WEBSOCKET] {
        let mut rig = rig();
        let (mut cursor, mut player) = rig.open(Join::Gop, flv(ViewTracks::Both, form));
        rig.step(&mut cursor, &mut player);
        rig.run(InterFrame, 5_000, 40);
        rig.seal(VideoHeader, 60);
        rig.run(InterFrame, 5_000, 40);
        let key = rig.seal(KeyFrame, 70_000);
        player.ids();
        let batch = rig.drain(&mut cursor, &mut player);
        assert!(batch.jumped.is_some() && batch.skipped > 200);
        assert!(player.is_between_messages());
        let ids = player.ids();
        assert_eq!(ids[..2], [1, 2], "headers changed, so they are told");
        assert_eq!((ids.len(), ids[3]), (4, key));
        let after = rig.seal(AudioFrame, 50);
        rig.drain(&mut cursor, &mut player);
        assert_eq!(player.ids(), [after]);
    }
}

#[test]
fn when_the_publisher_returns_the_file_goes_on() {
    let mut rig = rig();
    let (mut cursor, mut player) = rig.open(Join::Gop, flv(ViewTracks::Both, HTTP));
    rig.run(InterFrame, 1_000, 40);
    rig.drain(&mut cursor, &mut player);
    let last = player.seen.back().unwrap().timestamp;
    player.ids();
    rig.hub.end_publish(rig.key);
    rig.pass(3_000);
    rig.hub.begin_publish(rig.key);
    // another publisher, whose time begins anew
    rig.base = 0u32.wrapping_sub(u32::try_from(rig.now.as_millis()).unwrap());
    let (mut late, mut latecomer) = rig.open(Join::Live, flv(ViewTracks::Both, HTTP));
    for role in [Metadata, AudioHeader, VideoHeader, KeyFrame, AudioFrame] {
        rig.seal(role, 50);
        rig.pass(10);
    }
    rig.run(InterFrame, 1_000, 40);
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.seen[0].timestamp, 0, "metadata has no time");
    let times: Vec<u32> = player.seen.iter().skip(1).map(|seen| seen.timestamp).collect();
    assert!(times[0] >= last && times.is_sorted(), "{last}: {times:?}");
    assert!(times[times.len() - 1] - last < 1_200);
    rig.drain(&mut late, &mut latecomer);
    assert_eq!(latecomer.promised(), Some((true, true)));
    let ids = player.ids();
    assert_eq!(latecomer.ids(), ids, "both are told the headers and then the same");
}

#[test]
fn video_that_begins_again_comes_behind_its_headers() {
    let mut rig = rig();
    rig.run(AudioFrame, 14_000, 20);
    let (mut cursor, mut player) = rig.open(Join::Gop, flv(ViewTracks::Both, HTTP));
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.promised(), Some((true, false)));
    player.ids();
    let key = rig.seal(KeyFrame, 100);
    let batch = rig.drain(&mut cursor, &mut player);
    assert_eq!((player.ids(), batch.next), (vec![1, 2, 3, key], Next::AtHead));
}

/// What a player in a browser, and one that asked for everything, is sent of a stream.
fn shown(messages: &[(MediaKind, &str)], form: FlvForm) -> (Option<(bool, bool)>, Vec<Tag>) {
    let mut rig = Rig::new(Limits::default());
    for (at, (kind, payload)) in messages.iter().enumerate() {
        let payload = hex(payload);
        let class = match kind {
            MediaKind::Audio => classify_audio(&payload).unwrap(),
            MediaKind::Video => classify_video(&payload).unwrap(),
            MediaKind::Data => Class { role: Metadata, tracks: Tracks::default() },
        };
        let at = Timestamp(u32::try_from(at).unwrap());
        let mut message = MediaMessage::new(*kind, class, at, &payload);
        assert_eq!(rig.hub.append(rig.key, &mut message, rig.now).dropped, None);
    }
    rig.hub.seal(rig.key);
    rig.pass(1_500);
    let mut cursor =
        rig.hub.open(rig.key, Join::Gop, flv(ViewTracks::Both, form), rig.now - ms(1_500)).unwrap();
    let mut player = FlvPlayer::new(form.websocket);
    let mut tags = Vec::new();
    let mut out = Vec::new();
    while let Next::Send { bytes } =
        rig.hub.next_batch(rig.key, &mut cursor, rig.now, &mut out).next
    {
        out.drain(..).for_each(|slice| tags.extend(player.read(&slice)));
        cursor.advance(bytes);
    }
    (player.promised(), tags)
}

#[test]
fn extras_are_kept_on_request_only() {
    let hevc = hex("90 68766331 01 02");
    let messages = [
        (MediaKind::Video, "90 68766331 01 02"),
        (MediaKind::Video, "96 00 68766331 01 03 04"),
        (MediaKind::Video, "D4 68766331 02 0009"),
        (MediaKind::Audio, "95 00 6D703461 01 1210"),
        (MediaKind::Video, "91 68766331 000000 A1A2"),
        (MediaKind::Video, "96 01 68766331 01 000000 B1B2"),
        (MediaKind::Video, "A6 13 68766331 00 000002 A3A4 01 000002 B3B4"),
        (MediaKind::Audio, "95 01 6D703461 01 D1D2"),
    ];
    for websocket in [false, true] {
        let (promised, tags) = shown(&messages, FlvForm { websocket, extras: false });
        assert_eq!(promised, Some((false, true)), "the only audio is on track 1");
        let payloads: Vec<_> = tags.into_iter().map(|tag| tag.payload).collect();
        let expected = [hevc.clone(), hex("91 68766331 000000 A1A2"), hex("A3 68766331 A3A4")];
        assert_eq!(payloads, expected);
        let (promised, tags) = shown(&messages, FlvForm { websocket, extras: true });
        assert_eq!(promised, Some((true, true)));
        assert_eq!(tags.len(), messages.len());
    }
}

#[test]
fn metadata_promises_what_the_header_does() {
    let name = "02 000A 6F6E4D65746144617461";
    let check = |claims: &str, tracks, audio: bool, expected: (u8, u8)| {
        let [first, second] = claims.split(' ').collect::<Vec<_>>()[..] else { panic!("two") };
        let messages = format!(
            "{name} 03 0008 686173417564696F 01 {first} 0008 686173566964656F 01 {second} 000009"
        );
        let mut rig = Rig::new(Limits::default());
        let class = Class { role: Metadata, tracks: Tracks::default() };
        let metadata = hex(&messages);
        let mut message = MediaMessage::new(MediaKind::Data, class, Timestamp(0), &metadata);
        rig.hub.append(rig.key, &mut message, rig.now);
        if audio {
            rig.send(AudioHeader, 50);
        }
        rig.seal(KeyFrame, 50);
        let mut cursor = rig.hub.open(rig.key, Join::Gop, flv(tracks, HTTP), rig.now).unwrap();
        rig.pass(2_000);
        let mut out = Vec::new();
        rig.hub.next_batch(rig.key, &mut cursor, rig.now, &mut out);
        let mut player = FlvPlayer::new(false);
        let tags: Vec<_> = out.iter().flat_map(|slice| player.read(slice)).collect();
        let payload = &tags[0].payload;
        let value = |key: &[u8]| {
            let at = payload.windows(key.len()).position(|window| window == key).unwrap();
            payload[at + key.len() + 1]
        };
        assert_eq!((value(b"hasAudio"), value(b"hasVideo")), expected);
        assert_eq!(player.promised(), Some((expected.0 == 1, expected.1 == 1)));
        assert_eq!(payload.len(), metadata.len());
    };
    check("01 01", ViewTracks::Both, true, (1, 1));
    check("01 01", ViewTracks::AudioOnly, true, (1, 0));
    check("01 01", ViewTracks::VideoOnly, true, (0, 1));
    // A publisher that is wrong about itself.
    check("01 01", ViewTracks::Both, false, (0, 1));
    check("00 00", ViewTracks::Both, true, (1, 1));
}

#[test]
fn there_is_always_room_for_plain_flv_and_for_so_many_others() {
    let limits = Limits { views_per_stream_max: 2, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.seal(AudioHeader, 50);
    rig.seal(KeyFrame, 500);
    let extras = FlvForm { extras: true, ..HTTP };
    let kinds = [
        (ViewKind { message_stream: 2, ..ViewKind::default() }, true),
        (flv(ViewTracks::AudioOnly, HTTP), true),
        (flv(ViewTracks::AudioOnly, WEBSOCKET), false),
        (flv(ViewTracks::VideoOnly, HTTP), false),
        (flv(ViewTracks::Both, extras), false),
        (ViewKind { message_stream: 3, ..ViewKind::default() }, false),
        (flv(ViewTracks::AudioOnly, HTTP), true),
        (flv(ViewTracks::Both, HTTP), true),
        (flv(ViewTracks::Both, WEBSOCKET), true),
    ];
    let mut cursors = Vec::new();
    for (kind, fits) in kinds {
        let cursor = rig.hub.open(rig.key, Join::Gop, kind, rig.now);
        assert_eq!(cursor.is_some(), fits, "{kind:?}");
        cursors.extend(cursor);
    }
    cursors.into_iter().for_each(|cursor| rig.hub.close(rig.key, cursor));
    rig.forget_left_views();
    assert_eq!(rig.hub.held_bytes().views, 0);
}
