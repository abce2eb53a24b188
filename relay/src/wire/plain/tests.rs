//! What is left of messages without the extras.

use super::*;
use crate::wire::media::{Class, Role, Tracks, classify_audio, classify_video};
use crate::wire::message::{CHUNK_BYTES, MediaMessage};
use crate::wire::testing::bytes as hex;
use crate::wire::timestamp::Timestamp;

/// The payload that is left, `None` for nothing.
fn left(kind: MediaKind, payload: &[u8]) -> Option<Vec<u8>> {
    let class = Class { role: Role::Data, tracks: Tracks::default() };
    let message = MediaMessage::new(kind, class, Timestamp(0), payload);
    match Plain::of(kind, message.payload_head(), payload.len()) {
        Plain::Whole => Some(payload.to_vec()),
        Plain::Nothing => None,
        Plain::Track(track) => {
            let left: Vec<u8> = track.payload(message.payload()).flatten().copied().collect();
            assert_eq!(left.len(), track.payload_bytes());
            Some(left)
        }
    }
}

#[track_caller]
fn check(kind: MediaKind, payload: &str, expected: Option<&str>) {
    assert_eq!(left(kind, &hex(payload)), expected.map(hex), "{payload}");
}

#[test]
fn what_players_know_passes_as_it_is() {
    for payload in [
        "17 00 000000 01",
        "27 01 000000 a*30",
        "1C 01 000000 a*30",
        "57 00",
        "90 68766331 01 02",
        "91 68766331 000000 a*30",
        "A3 68766331 a*30",
        "92 68766331",
        "91 76703039 a*30",
        "",
    ] {
        check(MediaKind::Video, payload, Some(payload));
    }
    for payload in ["", "AF 00 1210", "AF 01 a*30", "2F a*30", "90 4F707573 01", "91 4F707573 a*9"]
    {
        check(MediaKind::Audio, payload, Some(payload));
    }
    check(
        MediaKind::Data,
        "02 000A 6F6E4D65746144617461 96",
        Some("02 000A 6F6E4D65746144617461 96"),
    );
}

#[test]
fn extras_are_left_out() {
    // video metadata of OBS and of FFmpeg, commands, MPEG-2 TS headers, packets of the future
    for payload in [
        "84 68766331 02",
        "D4 68766331 02",
        "D1 00",
        "95 61763031 01",
        "98 68766331 01",
        "91 6876",
        "91 00000000 01",
    ] {
        check(MediaKind::Video, payload, None);
    }
    // a multichannel layout, packets of the future, a header cut short
    for payload in ["94 6D703461 01 02 00000003", "93 4F707573 01", "91 4F70", "9F"] {
        check(MediaKind::Audio, payload, None);
    }
}

#[test]
fn track_0_is_given_alone() {
    let video = |payload, expected| check(MediaKind::Video, payload, expected);
    let audio = |payload, expected| check(MediaKind::Audio, payload, expected);
    // one track
    video("96 01 68766331 00 000000 A1A2", Some("91 68766331 000000 A1A2"));
    video("A6 03 68766331 00 A1A2", Some("A3 68766331 A1A2"));
    video("96 01 68766331 01 000000 A1A2", None);
    audio("95 01 6D703461 00 A1A2", Some("91 6D703461 A1A2"));
    audio("95 00 6D703461 02 1210", None);
    audio("95 04 6D703461 00 01 02 00000003", None);
    // several of one codec, and of several
    video(
        "96 11 68766331 01 000002 B1B2 00 000003 A1A2A3 02 000001 C1",
        Some("91 68766331 A1A2A3"),
    );
    video("96 11 68766331 01 000002 B1B2 02 000001 C1", None);
    video("96 21 61766331 01 000002 B1B2 68766331 00 000003 A1A2A3", Some("91 68766331 A1A2A3"));
    // a body that is not all there
    video("96 11 68766331 00 000003 A1A2", None);
    video("96 11 68766331 00 0000", None);
    video("96 11 68766331 00 000000", Some("91 68766331"));
    // the first of two tracks 0
    video("96 11 68766331 00 000001 A1 00 000001 B1", Some("91 68766331 A1"));
}

#[test]
fn modifications_are_left_out() {
    let video = |payload, expected| check(MediaKind::Video, payload, expected);
    video("97 02 0F423F 01 68766331 000000 A1", Some("91 68766331 000000 A1"));
    video("97 02 0F423F 07 00 00 03 68766331 A1", Some("93 68766331 A1"));
    video("97 02 0F423F 06 01 68766331 00 A1A2", Some("91 68766331 A1A2"));
    video("97 02 0F423F 04 68766331 A1A2", None);
    check(MediaKind::Audio, "97 02 0F423F 01 4F707573 A1", Some("91 4F707573 A1"));
}

#[test]
fn long_tracks_are_cut_out_of_their_chunks() {
    for before in [0, 1, CHUNK_BYTES - 30, CHUNK_BYTES - 20] {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7] {
            let field = |count: usize| hex(&format!("{count:06X}"));
            let body = hex(&format!("b*{length}"));
            let mut payload = hex("96 11 68766331 01");
            payload.extend(field(before));
            payload.extend(hex(&format!("a*{before}")));
            payload.push(0);
            payload.extend(field(length));
            payload.extend_from_slice(&body);
            payload.extend(hex("02 000002 C1C2"));
            let expected = [&hex("91 68766331"), &body[..]].concat();
            assert_eq!(left(MediaKind::Video, &payload), Some(expected), "{before} {length}");
        }
    }
}

#[test]
fn what_is_left_has_no_extras_and_the_same_role() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cut = 0;
    for _ in 0..50_000 {
        let kind = if random.bool() { MediaKind::Audio } else { MediaKind::Video };
        let multitrack = if kind == MediaKind::Audio { 0x95 } else { 0x96 };
        let mut payload = vec![multitrack, random.u8(..0x30)];
        for _ in 0..random.usize(1..4) {
            payload.extend(b"hvc1");
            let length = random.u8(..4);
            payload.extend([random.u8(..2), 0, 0, length]);
            let more = random.usize(..4);
            payload.extend(std::iter::repeat_with(|| random.u8(..)).take(more));
        }
        if random.bool() {
            payload.truncate(random.usize(..payload.len()));
        }
        if random.bool() {
            let modified = multitrack & 0xF0 | 0x07;
            let then = payload.first().map_or(0, |first| first & 0x0F);
            payload.splice(..payload.len().min(1), [modified, 1, 9, 9, then]);
        }
        let Some(plain) = left(kind, &payload) else { continue };
        assert_eq!(left(kind, &plain).as_deref(), Some(&plain[..]), "seed {seed}: {payload:02x?}");
        let classify = if kind == MediaKind::Audio { classify_audio } else { classify_video };
        let (whole, part) = (classify(&payload), classify(&plain));
        assert_eq!(whole.map(|c| c.role), part.map(|c| c.role), "seed {seed}: {payload:02x?}");
        cut += usize::from(plain != payload);
    }
    assert!(cut > 1_000, "seed {seed}: only {cut} were cut");
}
