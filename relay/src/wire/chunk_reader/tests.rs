#![allow(clippy::unwrap_used)]

use bytes::{BufMut, BytesMut};

use super::*;
use crate::wire::chunk_writer::{put_basic_header, write_message};
use crate::wire::control::ControlMessage;
use crate::wire::testing::{bytes, every_split, pattern, random_pieces};

/// A message put together from fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    chunk_stream: u32,
    timestamp: u32,
    kind: u8,
    message_stream: u32,
    discard: bool,
    payload: Vec<u8>,
}

/// Reads pieces as a session does: obeys Set Chunk Size and Abort, and does not list them.
fn read(pieces: &[&[u8]], limits: &Limits) -> (Vec<Message>, Result<(), ChunkError>) {
    let mut reader = ChunkReader::new(limits);
    let mut slots: Vec<Option<Vec<u8>>> = vec![None; limits.chunk_streams_max];
    let mut messages = Vec::new();
    let result = pieces.iter().try_for_each(|piece| {
        let mut input = *piece;
        while let Some(fragment) = reader.next(&mut input)? {
            let slot = &mut slots[fragment.slot];
            assert_eq!(slot.is_none(), fragment.first, "first comes first and only then");
            let payload = slot.get_or_insert_default();
            payload.extend_from_slice(fragment.payload);
            assert_eq!(payload.len() == fragment.header.length as usize, fragment.last);
            assert!(!fragment.payload.is_empty() || fragment.header.length == 0);
            if !fragment.last {
                continue;
            }
            let payload = slot.take().unwrap();
            match ControlMessage::parse(fragment.header.kind, &payload) {
                Ok(Some(ControlMessage::SetChunkSize(size))) => reader.set_chunk_size(size)?,
                Ok(Some(ControlMessage::Abort { chunk_stream })) => {
                    if let Some(slot) = reader.abort(chunk_stream) {
                        assert!(slots[slot].take().is_some(), "something to abort");
                    }
                }
                _ => messages.push(Message {
                    chunk_stream: fragment.chunk_stream,
                    timestamp: fragment.header.timestamp.0,
                    kind: fragment.header.kind.id(),
                    message_stream: fragment.header.message_stream,
                    discard: fragment.discard,
                    payload,
                }),
            }
        }
        assert!(input.is_empty(), "None means that all input is consumed");
        Ok(())
    });
    (messages, result)
}

fn small_limits() -> Limits {
    Limits {
        chunk_streams_max: 4,
        message_bytes_max: 1000,
        command_bytes_max: 100,
        data_bytes_max: 200,
        ..Limits::default()
    }
}

/// Chunk stream, timestamp, type, message stream, pattern, length.
type Row = (u32, u32, u8, u32, char, usize);

fn check_result(text: &str, rows: &[Row], result: Result<(), ChunkError>) {
    let expected: Vec<_> = rows
        .iter()
        .map(|&(chunk_stream, timestamp, kind, message_stream, letter, length)| Message {
            chunk_stream,
            timestamp,
            kind,
            message_stream,
            discard: letter.is_ascii_uppercase(),
            payload: pattern(letter.to_ascii_lowercase(), length),
        })
        .collect();
    every_split(&bytes(text), |pieces| {
        let cut = pieces.first().map_or(0, |piece| piece.len());
        assert_eq!(
            read(pieces, &small_limits()),
            (expected.clone(), result),
            "{text} cut at {cut}"
        );
    });
}

fn check(text: &str, rows: &[Row]) {
    check_result(text, rows, Ok(()));
}

fn check_error(text: &str, rows: &[Row], error: ChunkError) {
    check_result(text, rows, Err(error));
}

#[test]
fn basic_headers_have_three_forms() {
    let row = |id| (id, 0, 9, 1, 'a', 1);
    check("3F 000000 000001 09 01000000 a*1", &[row(63)]);
    check("02 000000 000001 09 01000000 a*1", &[row(2)]);
    check("00 00 000000 000001 09 01000000 a*1", &[row(64)]);
    check("00 FF 000000 000001 09 01000000 a*1", &[row(319)]);
    check("01 00 01 000000 000001 09 01000000 a*1", &[row(320)]);
    check("01 FF FF 000000 000001 09 01000000 a*1", &[row(65_599)]);
    // A longer form than needed is the same chunk stream.
    check(
        "00 06 000000 000001 09 01000000 a*1 C1 06 00 b*1",
        &[(70, 0, 9, 1, 'a', 1), (70, 0, 9, 1, 'b', 1)],
    );
    check("01 06 00 000000 000081 09 01000000 a*128 C0 06 a*1", &[(70, 0, 9, 1, 'a', 129)]);
}

#[test]
fn message_headers_build_on_each_other() {
    // Message stream ids are little-endian.
    check("04 000001 000001 08 01020304 a*1", &[(4, 1, 8, 0x0403_0201, 'a', 1)]);
    check(
        "04 000064 000001 08 01000000 a*1 44 000017 000002 09 b*2 84 000003 c*2 C4 d*2",
        &[
            (4, 100, 8, 1, 'a', 1),
            (4, 123, 9, 1, 'b', 2),
            (4, 126, 9, 1, 'c', 2),
            (4, 129, 9, 1, 'd', 2),
        ],
    );
    // After fmt 0 the delta is the timestamp itself.
    check(
        "04 0003E8 000001 08 01000000 a*1 C4 b*1 C4 c*1",
        &[(4, 1000, 8, 1, 'a', 1), (4, 2000, 8, 1, 'b', 1), (4, 3000, 8, 1, 'c', 1)],
    );
    // fmt 1 on a new chunk stream starts from nothing.
    check("44 000017 000007 08 a*7", &[(4, 23, 8, 0, 'a', 7)]);
    check("42 000000 000006 04 a*6", &[(2, 0, 4, 0, 'a', 6)]);
    // fmt 0 starts time anew.
    check(
        "04 0003E8 000001 08 01000000 a*1 04 000001 000001 08 02000000 b*1",
        &[(4, 1000, 8, 1, 'a', 1), (4, 1, 8, 2, 'b', 1)],
    );
}

#[test]
fn time_runs_modulo_32_bits() {
    // Backwards by 5 ms, as librtmp, OBS and GStreamer write it.
    check(
        "04 000064 000001 08 01000000 a*1 44 FFFFFF 000007 08 FFFFFFFB b*7",
        &[(4, 100, 8, 1, 'a', 1), (4, 95, 8, 1, 'b', 7)],
    );
    check(
        "04 FFFFFF 000001 08 01000000 FFFFFFFF a*1 84 000002 b*1",
        &[(4, u32::MAX, 8, 1, 'a', 1), (4, 1, 8, 1, 'b', 1)],
    );
    // The escape value itself needs the long form.
    check("06 FFFFFF 000001 09 01000000 00FFFFFF a*1", &[(6, 0xFF_FFFF, 9, 1, 'a', 1)]);
    // The value that comes with a fmt-3 message is the one that counts.
    check(
        "04 FFFFFF 000001 08 01000000 01000000 a*1 C4 01000005 b*1 C4 01000000 c*1",
        &[
            (4, 0x0100_0000, 8, 1, 'a', 1),
            (4, 0x0200_0005, 8, 1, 'b', 1),
            (4, 0x0300_0005, 8, 1, 'c', 1),
        ],
    );
    // A fmt-3 message always repeats an extended delta.
    check(
        "04 FFFFFF 000001 08 01000000 01000000 a*1 C4 01000000 b*1 84 000001 c*1 C4 d*1",
        &[
            (4, 0x0100_0000, 8, 1, 'a', 1),
            (4, 0x0200_0000, 8, 1, 'b', 1),
            (4, 0x0200_0001, 8, 1, 'c', 1),
            (4, 0x0200_0002, 8, 1, 'd', 1),
        ],
    );
}

#[test]
fn extended_timestamps_in_continuations_may_be_missing() {
    let repeated = "06 FFFFFF 00012C 09 01000000 01000000 a*128 C6 01000000 a*128 C6 01000000 a*44";
    let omitted = "06 FFFFFF 00012C 09 01000000 01000000 a*128 C6 a*128 C6 a*44";
    let row = (6, 16_777_216, 9, 1, 'a', 300);
    check(repeated, &[row]);
    check(omitted, &[row]);
    // An extended delta: what is repeated is the delta.
    check(
        "46 FFFFFF 000082 09 01000001 a*128 C6 01000001 a*2",
        &[(6, 0x0100_0001, 9, 0, 'a', 130)],
    );
    // Tails of 1 to 3 bytes: without a habit seen before, the bytes behind them decide ...
    for tail in 1..4 {
        let length = format!("0000{:02X}", 128 + tail);
        let head = format!("06 FFFFFF {length} 09 01000000 01000000 a*128");
        let next = "04 000005 000001 08 01000000 b*1";
        let rows = [(6, 1 << 24, 9, 1, 'a', 128 + tail), (4, 5, 8, 1, 'b', 1)];
        check(&format!("{head} C6 01000000 a*{tail} {next}"), &rows);
        check(&format!("{head} C6 a*{tail} {next}"), &rows);
        // ... and with it nothing is waited for: the input ends with the message.
        let length = format!("0001{tail:02X}");
        let head = format!("06 FFFFFF {length} 09 01000000 01000000 a*128");
        let rows = [(6, 1 << 24, 9, 1, 'a', 256 + tail)];
        check(&format!("{head} C6 01000000 a*128 C6 01000000 a*{tail}"), &rows);
        check(&format!("{head} C6 a*128 C6 a*{tail}"), &rows);
    }
    // Chunk size 1: what was looked at and is payload may hold headers too.
    let one_by_one = |separator: &str| {
        let first = "02 000000 000004 01 00000000 00000001";
        let header = "06 FFFFFF 000006 09 01000000 01000000 a*1";
        let rest = format!(" {separator} a*1").repeat(5);
        format!("{first} {header} {rest} 06 000007 000001 09 01000000 b*1")
    };
    let rows = [(6, 1 << 24, 9, 1, 'a', 6), (6, 7, 9, 1, 'b', 1)];
    check(&one_by_one("C6 01000000"), &rows);
    check(&one_by_one("C6"), &rows);
}

#[test]
fn messages_without_payload_end_with_their_header() {
    check("04 000001 000000 08 01000000", &[(4, 1, 8, 1, 'a', 0)]);
    check(
        "04 000001 000000 08 01000000 C4 84 000005 44 000001 000002 08 a*2",
        &[(4, 1, 8, 1, 'a', 0), (4, 2, 8, 1, 'a', 0), (4, 7, 8, 1, 'a', 0), (4, 8, 8, 1, 'a', 2)],
    );
}

#[test]
fn chunk_streams_interleave() {
    let text = "06 00000A 000102 09 01000000 a*128 04 00000B 000081 08 01000000 b*128 C6 a*128
                03 000000 000001 14 00000000 c*1 C4 b*1 C6 a*2";
    check(text, &[(3, 0, 20, 0, 'c', 1), (4, 11, 8, 1, 'b', 129), (6, 10, 9, 1, 'a', 258)]);
}

#[test]
fn set_chunk_size_holds_at_once() {
    // In the middle of a message of another chunk stream.
    let text = "06 00000A 000102 09 01000000 a*128 02 000000 000004 01 00000000 00000040
                C6 a*64 C6 a*64 02 000000 000004 01 00000000 7FFFFFFF C6 a*2";
    check(text, &[(6, 10, 9, 1, 'a', 258)]);
    check_error("02 000000 000004 01 00000000 00000000", &[], ChunkError::BadChunkSize { size: 0 });
    let size = 0x8000_0000;
    check_error("02 000000 000004 01 00000000 80000000", &[], ChunkError::BadChunkSize { size });

    let mut reader = ChunkReader::new(&Limits::default());
    let mut check = |size, expected| {
        reader.set_chunk_size(size).unwrap();
        assert_eq!(reader.chunk_size(), expected);
    };
    check(1, 1);
    check(0xFF_FFFF, 0xFF_FFFF);
    check(0x7FFF_FFFF, 0xFF_FFFF);
}

#[test]
fn abort_drops_a_partial_message_and_keeps_its_header() {
    let abort = "02 000000 000004 02 00000000 00000006";
    let text = format!("06 00000A 000102 09 01000000 a*128 {abort} C6 b*128 C6 b*128 C6 b*2");
    check(&text, &[(6, 20, 9, 1, 'b', 258)]);
    let text = format!("06 00000A 000102 09 01000000 a*128 {abort} 46 000001 000001 09 b*1");
    check(&text, &[(6, 11, 9, 1, 'b', 1)]);
    // Nothing under way, or no such chunk stream: nothing to do.
    let text = format!("06 00000A 000001 09 01000000 a*1 {abort} C6 b*1");
    check(&text, &[(6, 10, 9, 1, 'a', 1), (6, 20, 9, 1, 'b', 1)]);
    check(abort, &[]);
}

#[test]
fn what_a_peer_must_not_do() {
    let row = (4, 0, 8, 1, 'a', 1);
    let none = |format, chunk_stream| ChunkError::NoEarlierHeader { chunk_stream, format };
    check_error("84 000000", &[], none(2, 4));
    check_error("04 000000 000001 08 01000000 a*1 C5", &[row], none(3, 5));
    check_error("81 00 01", &[], none(2, 320));

    let inside = ChunkError::HeaderInsideMessage { chunk_stream: 6 };
    for header in ["06 000000", "46 000000", "86 000000"] {
        check_error(&format!("06 000000 000081 09 01000000 a*128 {header}"), &[], inside);
    }

    let all = "02 000000 000000 08 01000000 03 000000 000000 08 01000000
               04 000000 000000 08 01000000 00 00 000000 000000 08 01000000";
    let empty = |id| (id, 0, 8, 1, 'a', 0);
    check(&format!("{all} C0 00"), &[empty(2), empty(3), empty(4), empty(64), empty(64)]);
    check_error(
        &format!("{all} 05 000000 000000 08 01000000"),
        &[empty(2), empty(3), empty(4), empty(64)],
        ChunkError::TooManyChunkStreams { limit: 4 },
    );
}

#[test]
fn lengths_are_judged_in_the_header() {
    // Small limits: 1000 bytes of media, 100 of commands, 200 of data.
    let too_long = |kind: u8, length, limit| {
        let kind = MessageType::from_id(kind);
        ChunkError::MessageTooLong { kind, length, limit }
    };
    for kind in [8, 9, 22] {
        let text = format!("04 000000 0003E9 {kind:02X} 01000000");
        check_error(&text, &[], too_long(kind, 1001, 1000));
    }
    for kind in [1, 2, 3, 4, 5, 6, 17, 20] {
        let text = format!("04 000000 000065 {kind:02X} 01000000");
        check_error(&text, &[], too_long(kind, 101, 100));
    }
    check("04 000000 000064 14 01000000 a*100", &[(4, 0, 20, 1, 'a', 100)]);
    // Data messages, shared objects and unknown types are marked (capital letter) and passed over.
    for kind in [15, 18] {
        let data = format!("04 000000 0000C9 {kind:02X} 01000000 a*128 C4 a*73");
        let next = "44 000000 0000C8 12 b*128 C4 b*72";
        check(&format!("{data} {next}"), &[(4, 0, kind, 1, 'A', 201), (4, 0, 18, 1, 'b', 200)]);
    }
    for kind in [0, 7, 16, 19, 255] {
        let text = format!("04 000000 000002 {kind:02X} 01000000 a*2 C4 b*2");
        check(&text, &[(4, 0, kind, 1, 'A', 2), (4, 0, kind, 1, 'B', 2)]);
    }
}

#[test]
fn round_trip_at_every_chunk_size() {
    let lengths = [0, 1, 127, 128, 129, 4096, 60_000, 60_001, 65_537, 180_001];
    let times = [0, 0xFF_FFFE, 0xFF_FFFF, 0x100_0000, u32::MAX];
    for chunk_size in [1, 2, 128, 4096, 60_000, 65_536, 0xFF_FFFF] {
        let mut out = BytesMut::new();
        let mut expected = Vec::new();
        let size = u32::try_from(chunk_size).unwrap();
        ControlMessage::SetChunkSize(size).write(&mut out);
        for (length, timestamp) in lengths.iter().flat_map(|&l| times.map(|t| (l, t))) {
            let payload = pattern('a', length);
            let header = MessageHeader {
                timestamp: Timestamp(timestamp),
                length: 0,
                kind: MessageType::Video,
                message_stream: 7,
            };
            for chunk_stream in [6, 64, 400] {
                write_message(&mut out, chunk_stream, &header, &payload, chunk_size);
                let (payload, kind, message_stream, discard) = (payload.clone(), 9, 7, false);
                expected.push(Message {
                    chunk_stream,
                    timestamp,
                    kind,
                    message_stream,
                    discard,
                    payload,
                });
            }
        }
        let any = Limits { small_chunk_message_bytes_max: usize::MAX, ..Limits::default() };
        let (messages, result) = read(&[&out], &any);
        assert_eq!(result, Ok(()));
        assert!(messages == expected, "chunk size {chunk_size}");
    }
}

/// Writes interleaved messages as different senders do: any header format that is right, extended
/// timestamps repeated in continuations or not.
struct RandomSender {
    random: fastrand::Rng,
    chunk_size: usize,
    repeats: bool,
    streams: Vec<SenderStream>,
    out: BytesMut,
}

struct SenderStream {
    id: u32,
    last: Option<(u32, u32, usize, u8, u32)>,
    /// What is unsent of the message under way.
    pending: Vec<u8>,
    message: Option<Message>,
    field: u32,
}

impl RandomSender {
    fn step(&mut self, done: &mut Vec<Message>, may_start: bool) {
        let at = self.random.usize(0..self.streams.len());
        let stream = &mut self.streams[at];
        if stream.message.is_none() {
            if may_start {
                self.start(at);
            }
        } else {
            put_basic_header(&mut self.out, 3, stream.id);
            if self.repeats && stream.field >= EXTENDED {
                self.out.put_u32(stream.field);
            }
            self.send_payload(at);
        }
        let stream = &mut self.streams[at];
        if stream.pending.is_empty() {
            done.extend(stream.message.take());
        }
    }

    fn start(&mut self, at: usize) {
        let random = &mut self.random;
        let stream = &mut self.streams[at];
        let length = random.choice([0, 1, 3, 50, self.chunk_size + 2, 3 * self.chunk_size + 1]);
        let mut length = length.unwrap();
        let mut kind = if random.bool() { 8 } else { 9 };
        let mut message_stream = random.u32(0..3);
        let step = random.choice([0, 1, 40, 5u32.wrapping_neg(), 0x0123_4567]).unwrap();
        let mut format = random.u8(0..4);
        let timestamp;
        match stream.last {
            Some((before, delta, l, k, m)) if format > 0 => {
                message_stream = m;
                if format > 1 {
                    (length, kind) = (l, k);
                }
                stream.field = if format == 3 { delta } else { step };
                timestamp = before.wrapping_add(stream.field);
            }
            _ => {
                format = 0;
                timestamp = random.choice([0, 1000, 0xFF_FFF0, 0x1234_5678, u32::MAX]).unwrap();
                stream.field = timestamp;
            }
        }
        stream.last = Some((timestamp, stream.field, length, kind, message_stream));
        put_basic_header(&mut self.out, format, stream.id);
        let length_field = u32::try_from(length).unwrap().to_be_bytes();
        if format < 3 {
            self.out.put_slice(&stream.field.min(EXTENDED).to_be_bytes()[1..]);
        }
        if format < 2 {
            self.out.put_slice(&length_field[1..]);
            self.out.put_u8(kind);
        }
        if format == 0 {
            self.out.put_u32_le(message_stream);
        }
        if stream.field >= EXTENDED {
            self.out.put_u32(stream.field);
        }
        stream.pending = (0..length).map(|_| random.u8(..)).collect();
        let payload = stream.pending.clone();
        let (chunk_stream, discard) = (stream.id, false);
        stream.message =
            Some(Message { chunk_stream, timestamp, kind, message_stream, discard, payload });
        self.send_payload(at);
    }

    fn send_payload(&mut self, at: usize) {
        let pending = &mut self.streams[at].pending;
        let count = pending.len().min(self.chunk_size);
        self.out.extend(pending.drain(..count));
    }
}

#[test]
fn random_senders_are_understood() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let chunk_size = random.choice([1, 2, 7, 128, 4096]).unwrap();
        let streams = [2, 4, 63, 64, 319, 320, 65_599].map(|id| SenderStream {
            id,
            last: None,
            pending: Vec::new(),
            message: None,
            field: 0,
        });
        let mut sender = RandomSender {
            repeats: random.bool(),
            chunk_size,
            streams: streams.into(),
            out: BytesMut::new(),
            random,
        };
        ControlMessage::SetChunkSize(u32::try_from(chunk_size).unwrap()).write(&mut sender.out);
        let mut expected = Vec::new();
        for _ in 0..60 {
            sender.step(&mut expected, true);
        }
        while sender.streams.iter().any(|stream| stream.message.is_some()) {
            sender.step(&mut expected, false);
        }
        // Something follows, so that no look for an extended timestamp is left waiting.
        sender.out.put_slice(&bytes("03 000000 000001 08 00000000 00"));
        let longest = sender.random.choice([1, 5, 100, 10_000]).unwrap();
        let pieces = random_pieces(&sender.out, longest, &mut sender.random);
        let (mut messages, result) = read(&pieces, &Limits::default());
        assert_eq!(result, Ok(()), "seed {seed}");
        assert_eq!(messages.pop().map(|message| message.chunk_stream), Some(3), "seed {seed}");
        assert!(messages == expected, "seed {seed}");
    }
}
