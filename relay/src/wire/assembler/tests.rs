#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::chunk_reader::ChunkReader;
use crate::wire::chunk_writer::write_message;
use crate::wire::media::Role;
use crate::wire::message::MEDIA_STREAM;
use crate::wire::testing::{bytes, every_split, pattern, random_pieces};
use crate::wire::timestamp::Timestamp;

/// What came out, with all that was borrowed copied.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Out {
    Media(u32, Role, Bytes),
    Plain(u8, Vec<u8>),
    Dropped(u8, DropReason),
}

fn assemble(pieces: &[&[u8]], assembler: &mut MessageAssembler) -> Result<Vec<Out>, AssembleError> {
    let mut reader = ChunkReader::new(&Limits::default());
    let mut out = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while let Some(fragment) = reader.next(&mut input).unwrap() {
            out.extend(assembler.push(&fragment)?.map(|assembled| match assembled {
                Assembled::Media { header, message } => {
                    assert_eq!(message.timestamp(), header.timestamp);
                    Out::Media(header.message_stream, message.class().role, message.take())
                }
                Assembled::Plain { header, payload } => {
                    Out::Plain(header.kind.id(), payload.to_vec())
                }
                Assembled::Dropped { header, reason } => Out::Dropped(header.kind.id(), reason),
            }));
        }
    }
    Ok(out)
}

/// The wire bytes of a message in the layout of the cluster, by the chunk writer.
fn media(kind: MediaKind, timestamp: u32, payload: &[u8]) -> Bytes {
    let header = MessageHeader {
        timestamp: Timestamp(timestamp),
        length: 0,
        kind: kind.message_type(),
        message_stream: MEDIA_STREAM,
    };
    let mut out = BytesMut::new();
    write_message(&mut out, kind.chunk_stream(), &header, payload, 60_000);
    out.freeze()
}

#[test]
fn interleaved_messages_come_out_whole() {
    // Audio and video on one chunk stream, as librtmp has them, a command and data between.
    let text = "04 00000A 000083 09 07000000 27 01 a*126
                05 00000B 000082 12 07000000 b*128
                03 000000 000002 14 00000000 c*2
                C4 a*3 C5 b*2
                04 00000C 000003 08 07000000 AF 01 d*1
                44 000001 000000 08 44 000001 000000 09 44 000001 000001 08 AF
                06 000000 000003 10 07000000 e*3
                07 000000 000003 07 07000000 e*3";
    let expected = [
        Out::Plain(20, pattern('c', 2)),
        Out::Media(
            7,
            Role::InterFrame,
            media(MediaKind::Video, 10, &[&[0x27, 1], &pattern('a', 129)[..]].concat()),
        ),
        Out::Plain(18, pattern('b', 130)),
        Out::Media(
            7,
            Role::AudioFrame,
            media(MediaKind::Audio, 12, &[&[0xAF, 1], &pattern('d', 1)[..]].concat()),
        ),
        Out::Media(7, Role::AudioFrame, media(MediaKind::Audio, 13, &[])),
        Out::Dropped(9, DropReason::EmptyMedia),
        Out::Dropped(8, DropReason::EmptyMedia),
        Out::Dropped(16, DropReason::SharedObject),
        Out::Dropped(7, DropReason::UnknownType),
    ];
    every_split(&bytes(text), |pieces| {
        for publishing in [false, true] {
            let mut assembler = MessageAssembler::new(&Limits::default());
            assembler.set_publishing(publishing);
            assert_eq!(assemble(pieces, &mut assembler).unwrap(), expected);
            assert_eq!(assembler.partial_bytes(), 0);
        }
    });
}

#[test]
fn media_is_laid_out_whatever_the_chunks_and_pieces() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let chunk_size = random.choice([1, 128, 4096, 59_999, 60_000, 60_001, 65_536]).unwrap();
        let mut input = BytesMut::new();
        let mut expected = Vec::new();
        for length in [2, 40_000, 3, 130_000, 300, 60_000, 60_001] {
            let timestamp = random.choice([0, 0xFF_FFFE, 0xFF_FFFF, u32::MAX]).unwrap();
            let mut payload = pattern('a', length);
            payload[0] = 0x17;
            payload[1] = 1;
            let header = MessageHeader {
                timestamp: Timestamp(timestamp),
                length: 0,
                kind: MessageType::Video,
                message_stream: 3,
            };
            write_message(&mut input, 4, &header, &payload, chunk_size);
            expected.push((media(MediaKind::Video, timestamp, &payload), Role::KeyFrame));
        }
        let any = Limits { small_chunk_message_bytes_max: usize::MAX, ..Limits::default() };
        let mut reader = ChunkReader::new(&any);
        reader.set_chunk_size(u32::try_from(chunk_size).unwrap()).unwrap();
        let mut assembler = MessageAssembler::new(&Limits::default());
        assembler.set_publishing(random.bool());
        let mut found = Vec::new();
        for mut piece in random_pieces(&input, 100_000, &mut random) {
            while let Some(fragment) = reader.next(&mut piece).unwrap() {
                if let Some(Assembled::Media { message, .. }) = assembler.push(&fragment).unwrap() {
                    let role = message.class().role;
                    // Large ones leave with the buffer, small ones are copied.
                    let mut out = BytesMut::new();
                    message.append_to(&mut out);
                    found.push((out.freeze(), role));
                    if message.wire_bytes() >= 16_384 {
                        assert!(message.take() == found.last().unwrap().0, "seed {seed}");
                    }
                }
            }
        }
        assert!(found == expected, "seed {seed}");
    }
}

fn fragment(slot: usize, length: u32, payload: &[u8], first: bool, last: bool) -> Fragment<'_> {
    let (timestamp, kind, message_stream) = (Timestamp(0), MessageType::Video, 1);
    let header = MessageHeader { timestamp, length, kind, message_stream };
    Fragment { slot, header, chunk_stream: 4, first, last, discard: false, payload }
}

fn limited(publishing: bool) -> MessageAssembler {
    let mut assembler = MessageAssembler::new(&Limits {
        partial_bytes_max: 1000,
        partial_bytes_idle_max: 100,
        data_bytes_max: 9_000,
        ..Limits::default()
    });
    assembler.set_publishing(publishing);
    assembler
}

#[test]
fn unfinished_messages_share_one_limit() {
    for (publishing, limit) in [(false, 100), (true, 1000)] {
        let payload = vec![0; limit];
        let error = Err(AssembleError::TooManyPartialBytes { limit });
        let mut assembler = limited(publishing);
        let mut push = |slot, bytes, first, last| {
            let length = u32::try_from(limit).unwrap();
            let fragment = fragment(slot, length, &payload[..bytes], first, last);
            let result = assembler.push(&fragment).map(|assembled| assembled.is_some());
            (result, assembler.partial_bytes())
        };
        // One message, at once or in two pieces, may be as long as the limit, and not longer.
        assert_eq!(push(0, limit, true, true), (Ok(true), 0));
        assert_eq!(push(0, limit - 1, true, false), (Ok(false), limit - 1));
        assert_eq!(push(0, 1, false, true), (Ok(true), 0));
        assert_eq!(push(0, limit, true, false), (Ok(false), limit));
        assert_eq!(push(0, 1, false, true), (error, limit));
        // Several ones together the same.
        assert_eq!(push(0, 40, true, false), (Ok(false), 40));
        assert_eq!(push(1, limit - 40, true, false), (Ok(false), limit));
        assert_eq!(push(2, 1, true, false), (error, limit));
        assert_eq!(push(2, 1, true, true), (error, limit));
        // A message that starts anew forgets the old one.
        assert_eq!(push(1, 1, true, true), (Ok(true), 40));
        assert_eq!(push(2, limit - 40, true, false), (Ok(false), limit));
    }
}

#[test]
fn an_aborted_message_leaves_nothing() {
    let mut assembler = limited(false);
    assert!(assembler.push(&fragment(3, 200, &[7; 90], true, false)).unwrap().is_none());
    assembler.abort(3);
    assembler.abort(3);
    assembler.abort(9);
    assert_eq!(assembler.partial_bytes(), 0);
    let payload = [&[0x27, 1][..], &[8; 70]].concat();
    let complete = fragment(3, 72, &payload, true, true);
    let Some(Assembled::Media { message, .. }) = assembler.push(&complete).unwrap() else {
        panic!("a whole message")
    };
    assert!(message.payload().flatten().eq(&payload));
}

#[test]
fn unwanted_messages_are_not_stored() {
    let mut assembler = limited(false);
    let payload = [0; 5000];
    for (id, reason) in [
        (15, DropReason::DataTooLong),
        (18, DropReason::DataTooLong),
        (16, DropReason::SharedObject),
        (19, DropReason::SharedObject),
        (7, DropReason::UnknownType),
        (99, DropReason::UnknownType),
        (8, DropReason::NotConnected),
        (9, DropReason::NotConnected),
        (22, DropReason::NotConnected),
    ] {
        for last in [false, true] {
            let mut fragment = fragment(0, 10_000, &payload, !last, last);
            fragment.header.kind = MessageType::from_id(id);
            fragment.discard = true;
            let header = fragment.header;
            match assembler.push(&fragment).unwrap() {
                Some(Assembled::Dropped { header: found, reason: why }) => {
                    assert_eq!((last, found, why), (true, header, reason));
                }
                None => assert!(!last),
                other => panic!("{other:?}"),
            }
            assert_eq!(assembler.partial_bytes(), 0);
        }
    }
    assert!(assembler.slots.is_empty());
}

fn held_bytes(assembler: &MessageAssembler) -> usize {
    assembler.slots.iter().map(|slot| slot.media.capacity() + slot.plain.capacity()).sum()
}

#[test]
fn claims_get_no_memory_and_large_buffers_are_given_back() {
    let mut assembler = MessageAssembler::new(&Limits::default());
    assembler.set_publishing(true);
    for slot in 0..64 {
        assembler.push(&fragment(slot, 0xFF_FFFF, &[1], true, false)).unwrap();
    }
    assert!(held_bytes(&assembler) <= 64 * 512, "{}", held_bytes(&assembler));
    // A message that nobody took is given back when the next fragment comes ...
    let payload = vec![0x27; 200_000];
    assert!(assembler.push(&fragment(0, 200_000, &payload, true, true)).unwrap().is_some());
    assert!(held_bytes(&assembler) >= 200_000);
    assembler.push(&fragment(1, 2, &[1], false, false)).unwrap();
    assert!(held_bytes(&assembler) <= 64 * 512, "{}", held_bytes(&assembler));
    // ... and so is a plain one.
    let mut plain = fragment(0, 200_000, &payload, true, true);
    plain.header.kind = MessageType::Aggregate;
    assert!(assembler.push(&plain).unwrap().is_some());
    assembler.push(&fragment(1, 2, &[1], false, false)).unwrap();
    assert!(held_bytes(&assembler) <= 64 * 512, "{}", held_bytes(&assembler));
    // After publishing only small buffers stay.
    assert!(
        assembler.push(&fragment(0, 20_000, &payload[..20_000], true, true)).unwrap().is_some()
    );
    (1..64).for_each(|slot| assembler.abort(slot));
    assembler.set_publishing(false);
    assert!(assembler.slots.iter().all(|slot| slot.media.capacity() <= KEPT_BYTES_IDLE));
    assert!(assembler.slots.iter().all(|slot| slot.plain.capacity() <= KEPT_BYTES_IDLE));
}

#[test]
fn small_messages_reuse_their_buffer_and_large_ones_take_their_usual_room() {
    let mut assembler = MessageAssembler::new(&Limits::default());
    assembler.set_publishing(true);
    let payload = vec![0x27; 40_000];
    let mut place = None;
    for length in [3000u32, 2000, 3100, 2, 4000] {
        let fragment = fragment(0, length, &payload[..length as usize], true, true);
        let assembled = assembler.push(&fragment).unwrap();
        let Some(Assembled::Media { message, .. }) = assembled else { panic!("{length}") };
        message.append_to(&mut BytesMut::new());
        let found = message.payload_head().as_ptr();
        assert_eq!(*place.get_or_insert(found), found, "{length}");
    }
    for round in 0..3 {
        for (first, last) in [(true, false), (false, false), (false, true)] {
            let piece = &payload[..10_000];
            let assembled = assembler.push(&fragment(0, 30_000, piece, first, last)).unwrap();
            if let Some(Assembled::Media { message, .. }) = assembled {
                assert_eq!(message.take().len(), 30_012);
            } else if round > 0 {
                assert_eq!(assembler.slots[0].media.capacity(), 30_016, "at once, no byte more");
            }
        }
    }
}

#[test]
fn a_long_frame_is_copied_once_after_one_as_long() {
    let mut assembler = MessageAssembler::new(&Limits::default());
    assembler.set_publishing(true);
    let payload = vec![0x27; 10_000];
    for (round, pieces) in [50, 1, 50, 3, 40, 1, 20].into_iter().enumerate() {
        let before = assembler.copied_bytes();
        for piece in 1..=pieces {
            let fragment = fragment(0, pieces * 10_000, &payload, piece == 1, piece == pieces);
            if let Some(Assembled::Media { message, .. }) = assembler.push(&fragment).unwrap() {
                message.take();
            }
        }
        let (copied, length) = (assembler.copied_bytes() - before, u64::from(pieces) * 10_000);
        if round == 0 {
            assert!((length + 10_000..3 * length).contains(&copied), "{copied}");
        } else {
            assert_eq!(copied, length, "round {round}");
        }
    }
}

#[test]
fn plain_messages_count_as_copied() {
    let mut assembler = limited(false);
    let mut fragment = fragment(0, 80, &[7; 80], true, true);
    fragment.header.kind = MessageType::DataAmf0;
    assert!(assembler.push(&fragment).unwrap().is_some());
    assert_eq!(assembler.copied_bytes(), 80);
}

#[test]
fn room_taken_ahead_is_bounded_and_goes_with_its_message() {
    let mut assembler = MessageAssembler::new(&Limits::default());
    assembler.set_publishing(true);
    let long = vec![0x27; 2 << 20];
    let length = u32::try_from(long.len()).unwrap();
    for slot in 0..64 {
        assert!(assembler.push(&fragment(slot, length, &long, true, true)).unwrap().is_some());
    }
    for slot in 0..64 {
        assembler.push(&fragment(slot, 0xFF_FFFF, &[1], true, false)).unwrap();
    }
    let held = held_bytes(&assembler);
    assert!((3 << 20..(4 << 20) + 64 * 512).contains(&held), "{held}");
    (0..64).for_each(|slot| assembler.abort(slot));
    assert!(held_bytes(&assembler) <= 64 * 512, "{}", held_bytes(&assembler));
    // Nothing is taken ahead for ever.
    assembler.push(&fragment(0, length, &[1], true, false)).unwrap();
    assert!(held_bytes(&assembler) >= 1 << 20);
}

#[test]
fn short_data_is_unwanted_before_connect_only() {
    let mut fragment = fragment(0, 9_000, &[0; 9_000], true, true);
    fragment.header.kind = MessageType::DataAmf0;
    fragment.discard = true;
    let mut assembler = limited(false);
    let Some(Assembled::Dropped { reason, .. }) = assembler.push(&fragment).unwrap() else {
        panic!("nothing is kept")
    };
    assert_eq!(reason, DropReason::NotConnected);
}

#[test]
fn before_connect_little_is_held() {
    let limits = Limits { partial_bytes_connect_max: 50, ..Limits::default() };
    let mut assembler = MessageAssembler::new(&limits);
    assembler.set_connected(false);
    assembler.push(&fragment(0, 200, &[7; 50], true, false)).unwrap();
    let error = AssembleError::TooManyPartialBytes { limit: 50 };
    assert_eq!(assembler.push(&fragment(0, 200, &[7], false, false)).unwrap_err(), error);
    assembler.set_connected(true);
    assembler.push(&fragment(0, 200, &[7; 100], false, false)).unwrap();
}
