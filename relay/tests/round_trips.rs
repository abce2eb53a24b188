//! Whatever is written is read back as it was: every writer of the `wire` room, on random values.
//! The number from which a run follows is printed, and `RELAY_SEED` repeats it.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use bytes::BytesMut;
use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::wire::amf0::{Amf0Reader, write_string, write_value};
use relay::wire::assembler::{Assembled, MessageAssembler};
use relay::wire::chunk_reader::ChunkReader;
use relay::wire::chunk_writer::write_message;
use relay::wire::command::{Answer, Call, Command, PlayRange, Status};
use relay::wire::control::{BandwidthLimit, ControlMessage, UserControl};
use relay::wire::flv::{FlvHeader, FlvReader, FlvTag, write_tag};
use relay::wire::media::{Class, Role, Tracks};
use relay::wire::message::{CHUNK_BYTES, MediaKind, MediaMessage, MessageHeader, MessageType};
use relay::wire::reply::{self, Level};
use relay::wire::timestamp::Timestamp;
use relay::wire::wire_message::WireMessage;

/// Runs a property on this many seeds, and says which one failed.
fn check(runs: u64, property: impl Fn(&mut fastrand::Rng)) {
    let first = std::env::var("RELAY_SEED").map_or(0, |seed| seed.parse().unwrap());
    for seed in first..first + runs {
        let run = std::panic::AssertUnwindSafe(|| property(&mut fastrand::Rng::with_seed(seed)));
        assert!(std::panic::catch_unwind(run).is_ok(), "RELAY_SEED={seed}");
    }
}

fn bytes(random: &mut fastrand::Rng, longest: usize) -> Vec<u8> {
    (0..random.usize(0..=longest)).map(|_| random.u8(..)).collect()
}

/// Numbers of all magnitudes, with their edges.
fn number(random: &mut fastrand::Rng) -> u32 {
    match random.u8(0..4) {
        0 => [0, 1, 0x7F, 0xFF_FFFE, 0xFF_FFFF, 0x100_0000, 0x7FFF_FFFF, u32::MAX]
            [random.usize(0..8)],
        1 => random.u32(0..300),
        _ => random.u32(..) >> random.u32(0..32),
    }
}

/// A value of AMF0, of which NaN is left out: it is not equal to itself.
fn value<'a>(random: &mut fastrand::Rng, store: &'a [Vec<u8>], depth: usize) -> Value<'a> {
    let text = |random: &mut fastrand::Rng| &store[random.usize(..store.len())][..];
    let short = |random: &mut fastrand::Rng| {
        let text = &store[random.usize(..store.len())];
        &text[..text.len().min(200)]
    };
    let kinds = if depth == 0 { 9 } else { 13 };
    let count = random.usize(0..4);
    match random.u8(0..kinds) {
        0 => Value::Number(f64::from(number(random)) * [1.0, -1.0, 0.001][random.usize(0..3)]),
        1 => Value::Number([f64::INFINITY, f64::MIN_POSITIVE, -0.0][random.usize(0..3)]),
        2 => Value::Boolean(random.bool()),
        3 => Value::String(text(random)),
        4 => Value::Null,
        5 => Value::Undefined,
        6 => Value::Unsupported,
        7 => Value::Date(f64::from(number(random))),
        8 => Value::Xml(text(random)),
        9 => Value::StrictArray((0..count).map(|_| value(random, store, depth - 1)).collect()),
        kind => {
            let mut properties = Vec::new();
            for _ in 0..count {
                let key = short(random);
                properties.push((key, value(random, store, depth - 1)));
            }
            match kind {
                10 => Value::Object(properties),
                11 => Value::EcmaArray(properties),
                _ => Value::TypedObject { class: short(random), properties },
            }
        }
    }
}

/// Strings to choose from: none is empty but the first, and one needs the long form.
fn store(random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let long = if random.u8(..) == 0 { 65_536 } else { 40 };
    let filled = |random: &mut fastrand::Rng, bytes: usize| vec![random.u8(..); bytes];
    (0..6).map(|place| filled(random, [0, 1, 5, 12, 40, long][place])).collect()
}

#[test]
fn amf0_values() {
    check(5_000, |random| {
        let store = store(random);
        let values: Vec<Value<'_>> = (0..4).map(|_| value(random, &store, 4)).collect();
        let mut out = BytesMut::new();
        values.iter().for_each(|value| write_value(&mut out, value));
        let limits = Limits::default();
        let mut reader = Amf0Reader::new(&out, &limits);
        for value in &values {
            assert_eq!(reader.read().as_ref(), Ok(value));
        }
        assert!(reader.is_at_end());
        // However much of it is missing, it is an error and nothing worse.
        let cut = random.usize(0..out.len());
        let mut reader = Amf0Reader::new(&out[..cut], &limits);
        while reader.read().is_ok() {}
    });
}

#[test]
fn control_messages() {
    check(5_000, |random| {
        let (a, b) = (number(random), number(random));
        let limits = [BandwidthLimit::Hard, BandwidthLimit::Soft, BandwidthLimit::Dynamic];
        let events = [
            UserControl::StreamBegin { message_stream: a },
            UserControl::StreamEof { message_stream: a },
            UserControl::StreamDry { message_stream: a },
            UserControl::SetBufferLength { message_stream: a, milliseconds: b },
            UserControl::StreamIsRecorded { message_stream: a },
            UserControl::PingRequest { time: a },
            UserControl::PingResponse { time: a },
        ];
        let message = match random.u8(0..6) {
            0 => ControlMessage::SetChunkSize(a),
            1 => ControlMessage::Abort { chunk_stream: a },
            2 => ControlMessage::Acknowledgement { sequence: a },
            3 => ControlMessage::WindowAckSize(a),
            4 => ControlMessage::SetPeerBandwidth { window: a, limit: limits[random.usize(0..3)] },
            _ => ControlMessage::UserControl(events[random.usize(0..7)]),
        };
        let mut out = BytesMut::new();
        message.write(&mut out);
        let (headers, payloads) = read(&out, 128);
        assert_eq!(headers.len(), 1);
        assert_eq!((headers[0].timestamp, headers[0].message_stream), (Timestamp(0), 0));
        assert_eq!(ControlMessage::parse(headers[0].kind, &payloads[0]), Ok(Some(message)));
    });
}

/// Messages from chunks of this size, in pieces that depend on it.
fn read(bytes: &[u8], chunk_size: usize) -> (Vec<MessageHeader>, Vec<Vec<u8>>) {
    let limits = Limits { small_chunk_bytes: 0, ..Limits::default() };
    let mut reader = ChunkReader::new(&limits);
    reader.set_chunk_size(u32::try_from(chunk_size).unwrap()).unwrap();
    let mut assembler = MessageAssembler::new(&limits);
    assembler.set_publishing(true);
    let (mut headers, mut payloads) = (Vec::new(), Vec::new());
    for mut piece in bytes.chunks(chunk_size % 977 + 1) {
        while let Some(fragment) = reader.next(&mut piece).unwrap() {
            match assembler.push(&fragment).unwrap() {
                None => {}
                Some(Assembled::Media { header, message }) => {
                    headers.push(header);
                    payloads.push(message.payload().flatten().copied().collect());
                }
                Some(Assembled::Plain { header, payload }) => {
                    headers.push(header);
                    payloads.push(payload.to_vec());
                }
                Some(Assembled::Dropped { header, reason }) => panic!("{header:?} {reason:?}"),
            }
        }
    }
    (headers, payloads)
}

#[test]
fn chunks_of_every_size_on_every_form_of_chunk_stream() {
    let kinds = [MessageType::Audio, MessageType::Video, MessageType::DataAmf0];
    check(2_000, |random| {
        let seed = usize::try_from(random.u32(..)).unwrap();
        let chunk_size = match random.u8(0..4) {
            0 => random.usize(1..8),
            1 => [127, 128, 129, 4_096, 60_000, 65_536, 0xFF_FFFF][random.usize(0..7)],
            _ => random.usize(1..3_000),
        };
        let mut out = BytesMut::new();
        let mut written = Vec::new();
        for place in 0..random.usize(1..5) {
            let mut payload = vec![0x17, 1, 0, 0, 0];
            payload.extend(bytes(random, 1_000));
            // Once in a while a whole number of chunks, and one byte more or less.
            if random.bool() && chunk_size < 3_000 {
                payload.resize((chunk_size * 2 + random.usize(0..3)).max(6) - 1, 7);
            }
            let ids = [2, 3, 63, 64, 319, 320, 65_599, random.u32(2..65_600)];
            let header = MessageHeader {
                timestamp: Timestamp(number(random)),
                length: u32::try_from(payload.len()).unwrap(),
                kind: kinds[(seed + place) % 3],
                message_stream: number(random),
            };
            write_message(&mut out, ids[random.usize(0..8)], &header, &payload, chunk_size);
            written.push((header, payload));
        }
        let (headers, payloads) = read(&out, chunk_size);
        let found: Vec<_> = headers.into_iter().zip(payloads).collect();
        assert!(found == written, "chunks of {chunk_size}");
    });
}

#[test]
fn media_in_the_layout_of_the_cluster() {
    let kinds = [MediaKind::Audio, MediaKind::Video, MediaKind::Data];
    check(400, |random| {
        let length = match random.u8(0..3) {
            0 => CHUNK_BYTES * random.usize(1..4) + random.usize(0..3) - 1,
            _ => random.usize(0..70_000),
        };
        let filler = random.u8(..);
        let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0] ^ filler).collect();
        let class = Class { role: Role::Data, tracks: Tracks::default() };
        let kind = kinds[random.usize(0..3)];
        let mut message = MediaMessage::new(kind, class, Timestamp(number(random)), &payload);
        let time = Timestamp(number(random));
        message.set_timestamp(time);
        let mut copied = BytesMut::new();
        message.append_to(&mut copied);
        let taken = message.take();
        assert!(taken == copied);
        let (parsed, rest) = WireMessage::parse(&taken).unwrap();
        assert!(rest.is_empty() && parsed.kind == kind && parsed.header.timestamp == time);
        assert!(parsed.payload().flatten().eq(&payload));
        let (chunks, mut input) = (&mut ChunkReader::new(&Limits::default()), &taken[..]);
        chunks.set_chunk_size(u32::try_from(CHUNK_BYTES).unwrap()).unwrap();
        let mut read = Vec::new();
        while let Some(fragment) = chunks.next(&mut input).unwrap() {
            assert_eq!(fragment.header, parsed.header);
            read.extend_from_slice(fragment.payload);
        }
        assert!(read == payload);
    });
}

#[test]
fn flv() {
    let kinds = [MediaKind::Audio, MediaKind::Video, MediaKind::Data];
    check(1_000, |random| {
        let header = FlvHeader { audio: random.bool(), video: random.bool() };
        let mut out = BytesMut::new();
        header.write(&mut out);
        let mut written = Vec::new();
        for _ in 0..random.usize(0..6) {
            let kind = kinds[random.usize(0..3)];
            let mut payload = bytes(random, 300);
            if random.u8(0..50) == 0 {
                payload.resize([0xFF, 0x100, 0xFFFF, 0x1_0000, 0x2_0000][random.usize(0..5)], 7);
            }
            let timestamp = Timestamp(number(random));
            write_tag(&mut out, kind, timestamp, &payload);
            written.push(FlvTag { kind, timestamp, payload: payload.into() });
        }
        let mut reader = FlvReader::new(&Limits::default());
        let (mut input, mut found) = (BytesMut::new(), Vec::new());
        let mut rest = &out[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(random.usize(0..=rest.len()));
            input.extend_from_slice(piece);
            rest = later;
            while let Some(tag) = reader.next(&mut input).unwrap() {
                found.push(tag);
            }
        }
        assert_eq!((reader.header(), reader.dropped()), (Some(header), 0));
        assert!(found == written && input.is_empty());
    });
}

/// Reads a command's payload.
fn call(payload: &[u8]) -> (f64, String, Command<'_>) {
    let limits = Limits::default();
    let name = Amf0Reader::new(payload, &limits).read().unwrap();
    let name = String::from_utf8(name.as_bytes().unwrap().to_vec()).unwrap();
    let call = Call::parse(MessageType::CommandAmf0, payload, &limits).unwrap();
    (call.transaction, name, call.command)
}

#[test]
fn answers_and_statuses() {
    check(2_000, |random| {
        let words: Vec<String> = (0..4)
            .map(|_| (0..random.usize(0..60)).map(|_| random.char('!'..'\u{2FF}')).collect())
            .collect();
        let transaction = f64::from(number(random));
        let mut out = BytesMut::new();

        let store = store(random);
        let given = value(random, &store, 2);
        reply::result(&mut out, transaction, given.clone());
        let answer = Answer { success: true, object: Value::Null, value: given };
        let expected = (transaction, "_result".to_owned(), Command::Answer(answer));
        assert_eq!(call(&out), expected);

        out.clear();
        reply::error(&mut out, transaction, &words[0], &words[1]);
        let (found, name, command) = call(&out);
        assert_eq!((found, &*name), (transaction, "_error"));
        let Command::Answer(Answer { success: false, value, .. }) = command else {
            panic!("{command:?}")
        };
        let status = Status::from_value(&value);
        assert_eq!(status.level, b"error");
        assert_eq!((status.code, status.description), (words[0].as_bytes(), words[1].as_bytes()));

        out.clear();
        let level = if random.bool() { Level::Status } else { Level::Error };
        let detail = random.bool().then_some(("tcUrl", &*words[2]));
        reply::status(&mut out, level, &words[0], &words[1], detail);
        let expected = Status {
            level: level.as_str().as_bytes(),
            code: words[0].as_bytes(),
            description: words[1].as_bytes(),
            tc_url: detail.map(|(_, url)| url.as_bytes()),
            redirect: None,
        };
        assert_eq!(call(&out), (0.0, "onStatus".to_owned(), Command::Status(expected)));

        out.clear();
        reply::on_fc(&mut out, "onFCPublish", &words[0], words[1].as_bytes());
        let (found, name, _) = call(&out);
        assert_eq!((found, &*name), (0.0, "onFCPublish"));

        out.clear();
        let encoding = [0.0, 3.0][random.usize(0..2)];
        reply::connect_result(&mut out, transaction, encoding, random.bool());
        let (found, _, command) = call(&out);
        assert_eq!(found, transaction);
        let Command::Answer(answer) = command else { panic!("{command:?}") };
        assert_eq!(answer.value.get("objectEncoding"), Some(&Value::Number(encoding)));
        assert_eq!(Status::from_value(&answer.value).code, b"NetConnection.Connect.Success");
    });
}

#[test]
fn calls_with_names_of_streams() {
    check(2_000, |random| {
        let text = bytes(random, 300);
        let transaction = f64::from(number(random));
        let write = |name: &str| {
            let mut out = BytesMut::new();
            let values = [Value::Null, Value::String(&text), Value::text("live")];
            reply::call(&mut out, name, transaction, &values);
            out
        };
        let check = |name: &str, expected: Command<'_>| {
            assert_eq!(call(&write(name)), (transaction, name.to_owned(), expected));
        };
        check("publish", Command::Publish { name: &text, kind: b"live" });
        check("play", Command::Play { name: &text, range: PlayRange::default() });
        check("FCPublish", Command::FcPublish { name: &text });
        check("FCUnpublish", Command::FcUnpublish { name: &text });
        check("releaseStream", Command::ReleaseStream);
        check("createStream", Command::CreateStream);
        check("deleteStream", Command::DeleteStream(None));
    });
}

#[test]
fn strings_take_the_short_form_whenever_it_is_long_enough() {
    for length in [0, 1, 65_534, 65_535, 65_536, 200_000] {
        let text = vec![b'x'; length];
        let mut out = BytesMut::new();
        write_string(&mut out, &text);
        assert_eq!(out[0], if length <= 65_535 { 2 } else { 12 });
        let read = Amf0Reader::new(&out, &Limits::default()).read();
        assert_eq!(read, Ok(Value::String(&text)));
    }
}
