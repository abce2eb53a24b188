#![allow(clippy::unwrap_used)]

use bytes::BytesMut;

use super::*;
use crate::wire::media::{Class, Role, Tracks};
use crate::wire::message::{MEDIA_STREAM, MediaMessage};
use crate::wire::testing::{bytes, pattern};

#[test]
fn what_was_written_is_read() {
    let class = Class { role: Role::InterFrame, tracks: Tracks::one(0) };
    let mut segment = BytesMut::new();
    let mut messages = Vec::new();
    for kind in [MediaKind::Audio, MediaKind::Video, MediaKind::Data] {
        for timestamp in [0, 0xFF_FFFE, 0xFF_FFFF, u32::MAX].map(Timestamp) {
            for length in [0, 1, 60_000, 60_001, 180_000] {
                let payload = pattern('a', length);
                let mut message = MediaMessage::new(kind, class, timestamp, &payload);
                let start = segment.len();
                message.append_to(&mut segment);
                messages.push((kind, timestamp, payload, segment[start..].to_vec()));
            }
        }
    }
    let mut rest = &segment[..];
    for (kind, timestamp, payload, wire_bytes) in messages {
        let (message, later) = WireMessage::parse(rest).unwrap();
        let length = u32::try_from(payload.len()).unwrap();
        let (message_kind, message_stream) = (kind.message_type(), MEDIA_STREAM);
        assert_eq!(message.kind, kind);
        assert_eq!(
            message.header,
            MessageHeader { timestamp, length, kind: message_kind, message_stream }
        );
        assert!(message.payload().flatten().eq(&payload));
        assert!(message.payload().all(|piece| !piece.is_empty()));
        assert_eq!(message.bytes, wire_bytes);
        assert_eq!(message.bytes[WireMessage::MESSAGE_STREAM_AT], MEDIA_STREAM.to_le_bytes());
        assert!(message.bytes.len() + later.len() == rest.len());
        // No part of it is taken for a whole.
        for end in [0, 1, 11, message.bytes.len() - 1] {
            assert!(WireMessage::parse(&rest[..end]).is_none());
        }
        rest = later;
    }
    assert!(rest.is_empty());
}

#[test]
fn a_message_is_put_at_another_time_and_on_another_stream() {
    let class = Class { role: Role::InterFrame, tracks: Tracks::one(0) };
    let times = [0, 1, 0xFF_FFFE, 0xFF_FFFF, 0x100_0000, u32::MAX].map(Timestamp);
    for (from, to) in times.into_iter().flat_map(|from| times.map(|to| (from, to))) {
        for length in [0, 1, 60_000, 60_001, 180_000] {
            let payload = pattern('a', length);
            let mut wire = BytesMut::new();
            MediaMessage::new(MediaKind::Video, class, from, &payload).append_to(&mut wire);
            let mut expected = BytesMut::from(&b"before"[..]);
            MediaMessage::new(MediaKind::Video, class, to, &payload).append_to(&mut expected);
            let stream = 6 + WireMessage::MESSAGE_STREAM_AT.start;
            expected[stream..stream + 4].copy_from_slice(&77u32.to_le_bytes());
            let mut out = BytesMut::from(&b"before"[..]);
            WireMessage::parse(&wire).unwrap().0.put_as(&mut out, to, 77);
            assert!(out == expected, "{length} bytes from {from:?} to {to:?}");
        }
    }
}

#[test]
fn other_layouts_are_refused() {
    let check = |text| assert!(WireMessage::parse(&bytes(text)).is_none(), "{text}");
    check("46 000000 000001 09 01000000 00");
    check("04 000000 000001 09 01000000 00");
    check("06 000000 000001 16 01000000 00");
    check("02 000000 000004 01 00000000 00000001");
    check("06 FFFFFF 000000 09 01000000 000000");
}
