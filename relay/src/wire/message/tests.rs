#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::chunk_writer::write_message;
use crate::wire::testing::{bytes, pattern};

const KINDS: [MediaKind; 3] = [MediaKind::Audio, MediaKind::Video, MediaKind::Data];
const LENGTHS: [usize; 9] = [0, 1, 59_999, 60_000, 60_001, 119_999, 120_000, 120_001, 200_000];
const TIMES: [u32; 6] = [0, 40, 0xFF_FFFE, 0xFF_FFFF, 0x100_0000, u32::MAX];

fn class() -> Class {
    Class { role: Role::KeyFrame, tracks: Tracks::one(3) }
}

/// What the chunk writer, which knows nothing of the layout, makes of the same message.
fn expected(kind: MediaKind, timestamp: u32, payload: &[u8]) -> Bytes {
    let header = MessageHeader {
        timestamp: Timestamp(timestamp),
        length: 0,
        kind: kind.message_type(),
        message_stream: MEDIA_STREAM,
    };
    let mut out = BytesMut::new();
    write_message(&mut out, kind.chunk_stream(), &header, payload, CHUNK_BYTES);
    out.freeze()
}

fn check(message: &mut MediaMessage, kind: MediaKind, timestamp: u32, payload: &[u8]) {
    let expected = expected(kind, timestamp, payload);
    let what = format!("{kind:?} of {} bytes at {timestamp}", payload.len());
    assert_eq!(message.kind(), kind);
    assert_eq!(message.class(), &class());
    assert_eq!(message.timestamp(), Timestamp(timestamp));
    assert_eq!(message.payload_bytes(), payload.len(), "{what}");
    assert_eq!(message.wire_bytes(), expected.len(), "{what}");
    assert!(message.payload().flatten().eq(payload), "{what}");
    assert_eq!(message.payload_head(), &payload[..payload.len().min(CHUNK_BYTES)]);
    let mut out = BytesMut::from(&b"before"[..]);
    message.append_to(&mut out);
    assert!(out[..6] == *b"before" && out[6..] == expected, "{what}");
}

#[test]
fn wire_bytes_are_those_of_the_chunk_writer() {
    for (kind, length) in KINDS.iter().flat_map(|&kind| LENGTHS.map(|length| (kind, length))) {
        let payload = pattern('a', length);
        for timestamp in TIMES {
            let mut message = MediaMessage::new(kind, class(), Timestamp(timestamp), &payload);
            check(&mut message, kind, timestamp, &payload);
            assert!(message.take() == expected(kind, timestamp, &payload));
            // What is left is an empty message.
            check(&mut message, kind, timestamp, &[]);
            assert_eq!(message.take(), expected(kind, timestamp, &[]));
        }
    }
}

#[test]
fn a_timestamp_can_be_moved_any_number_of_times() {
    for length in LENGTHS {
        let payload = pattern('a', length);
        for (from, to) in TIMES.iter().flat_map(|&from| TIMES.map(|to| (from, to))) {
            let mut message =
                MediaMessage::new(MediaKind::Video, class(), Timestamp(from), &payload);
            for timestamp in [to, from, to] {
                message.set_timestamp(Timestamp(timestamp));
                check(&mut message, MediaKind::Video, timestamp, &payload);
            }
            assert!(message.take() == expected(MediaKind::Video, to, &payload));
        }
    }
}

#[test]
fn a_short_message_holds_no_long_buffer() {
    for length in [100, 5_000, 20_000, 600_000] {
        let long = pattern('a', 1_000_000);
        let mut message = MediaMessage::new(MediaKind::Video, class(), Timestamp(0), &long);
        let payload = pattern('b', length);
        assert!(message.replace(MediaKind::Data, class(), Timestamp(0), &payload));
        let bytes = message.take();
        assert!(bytes == expected(MediaKind::Data, 0, &payload));
        let held = bytes.try_into_mut().unwrap().capacity();
        assert!(held <= 2 * length + 512, "{held} bytes for {length}");
        assert!(message.capacity() <= 32 * 1024, "{} bytes stay", message.capacity());
    }
}

#[test]
fn a_payload_too_long_for_a_message_is_refused() {
    let mut message = MediaMessage::new(MediaKind::Audio, class(), Timestamp(5), &[1, 2]);
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert!(!message.replace(MediaKind::Data, class(), Timestamp(0), &long));
    check(&mut message, MediaKind::Audio, 5, &[1, 2]);
    assert!(message.replace(MediaKind::Data, class(), Timestamp(0), &long[1..]));
}

#[test]
fn a_replaced_message_is_like_a_new_one() {
    let mut message = MediaMessage::empty();
    assert_eq!(message.payload().count(), 0);
    for length in [300, 200_000, 0, 60_001] {
        let payload = pattern('b', length);
        assert!(message.replace(MediaKind::Data, class(), Timestamp(1 << 24), &payload));
        check(&mut message, MediaKind::Data, 1 << 24, &payload);
    }
}

#[test]
fn taking_copies_nothing() {
    let payload = pattern('a', 70_000);
    let mut message = MediaMessage::new(MediaKind::Video, class(), Timestamp(0), &payload);
    let before = message.payload_head().as_ptr();
    assert_eq!(message.take()[12..].as_ptr(), before);
    assert_eq!(message.capacity(), 0, "the memory left with the bytes");
}

/// Buffers grow with what was received, end without waste when they are to leave, and small ones do
/// not grow again.
#[test]
fn buffers_grow_by_bytes_received() {
    let grown = |received: usize, length: usize, expected: usize| {
        let mut message = MediaMessage::empty();
        message.begin(MediaKind::Video, Timestamp(0));
        message.extend(&pattern('a', received), length, expected);
        message.capacity()
    };
    assert_eq!(grown(1, 0xFF_FFFF, 0), 512, "a claim alone gets the least");
    assert_eq!(grown(1000, 0xFF_FFFF, 0), 2 * 1016);
    assert_eq!(grown(1000, 0xFF_FFFF, 30_000), 30_000, "a size that was received before");
    assert_eq!(grown(1000, 20_000, 30_000), 20_016, "but not beyond the message");
    assert_eq!(grown(60_001, 60_001, 0), 60_001 + 17);
    assert_eq!(grown(100, 3_000, 65_536), 4096);

    let mut message = MediaMessage::empty();
    for length in (1000..4000).chain((1..4000).rev()) {
        message.begin(MediaKind::Audio, Timestamp(0));
        message.extend(&pattern('a', length), length, 0);
        assert!(message.capacity() <= 4096);
    }
    assert_eq!(message.capacity(), 4096);
}

#[test]
fn message_types_have_their_numbers() {
    for id in 0..=255 {
        assert_eq!(MessageType::from_id(id).id(), id);
    }
    for kind in KINDS {
        assert_eq!(MediaKind::from_message_type(kind.message_type()), Some(kind));
        assert_eq!(u32::from(kind.continuation_byte()), 0xC0 | kind.chunk_stream());
    }
    assert_eq!(MediaKind::from_message_type(MessageType::Aggregate), None);
}

#[test]
fn worked_bytes() {
    let class = class();
    let mut message =
        MediaMessage::new(MediaKind::Audio, class, Timestamp(0x0001_0203), &[0xAF, 1, 2]);
    assert_eq!(message.take()[..], bytes("04 010203 000003 08 01000000 AF0102"));
    let mut message = MediaMessage::new(MediaKind::Video, class, Timestamp(0xFF_FFFF), &[0x27, 1]);
    assert_eq!(message.take()[..], bytes("06 FFFFFF 000002 09 01000000 00FFFFFF 2701"));
}
