#![allow(clippy::print_stderr)]

use bytes::BytesMut;

use super::*;
use crate::wire::amf0::write_string;
use crate::wire::chunk_writer::write_message;
use crate::wire::message::MessageHeader;
use crate::wire::timestamp::Timestamp;

const ROUNDS: usize = 4_000;

fn random_bytes(random: &mut fastrand::Rng, longest: usize) -> Vec<u8> {
    // Small values are markers, lengths and ids more often than large ones.
    let small = random.bool();
    let length = random.usize(0..longest);
    (0..length).map(|_| if small { random.u8(0..20) } else { random.u8(..) }).collect()
}

/// Changes, removes or adds a few bytes.
fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(0..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(0..bytes.len());
        match random.u8(0..4) {
            0 => bytes[at] = random.u8(..),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, random.u8(..)),
            _ => {
                bytes.remove(at);
            }
        }
    }
}

fn random_value(random: &mut fastrand::Rng, depth: usize) -> Value<'static> {
    const KEYS: [&[u8]; 6] = [b"", b"app", b"code", b"tcUrl", b"streamName", b"x\xff"];
    let key = |random: &mut fastrand::Rng| KEYS[random.usize(0..KEYS.len())];
    let kinds = if depth == 0 { 6 } else { 9 };
    match random.u8(0..kinds) {
        0 => Value::Number(f64::from(random.i32(-5..5))),
        1 => Value::Boolean(random.bool()),
        2 => Value::String(key(random)),
        3 => Value::Null,
        4 => Value::Undefined,
        5 => Value::Date(0.0),
        6 => Value::StrictArray((0..3).map(|_| random_value(random, depth - 1)).collect()),
        kind => {
            let properties =
                (0..3).map(|_| (key(random), random_value(random, depth - 1))).collect();
            if kind == 7 { Value::Object(properties) } else { Value::EcmaArray(properties) }
        }
    }
}

fn random_message(random: &mut fastrand::Rng, name: &str) -> Vec<u8> {
    let mut payload = BytesMut::new();
    write_string(&mut payload, name.as_bytes());
    for _ in 0..random.usize(0..4) {
        write_value(&mut payload, &random_value(random, 2));
    }
    payload.to_vec()
}

#[test]
fn random_bytes_do_no_harm() {
    for seed in 0..4 {
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..ROUNDS {
            let bytes = random_bytes(&mut random, 200);
            amf0(&bytes);
            amf3(&bytes);
            command(&bytes);
            data_message(&bytes);
        }
        for _ in 0..ROUNDS / 40 {
            let bytes = random_bytes(&mut random, 2_000);
            server_session(&bytes);
            client_session(&bytes);
        }
    }
}

#[test]
fn damaged_values_and_data_messages_do_no_harm() {
    for seed in 0..4 {
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..ROUNDS {
            let name = ["onMetaData", "@setDataFrame", "onText"][random.usize(0..3)];
            let mut bytes = random_message(&mut random, name);
            if name == "@setDataFrame" {
                bytes.extend(random_message(&mut random, "onMetaData"));
            }
            damage(&mut bytes, &mut random);
            amf0(&bytes);
            command(&bytes);
            data_message(&bytes);
        }
    }
}

#[test]
fn damaged_conversations_do_no_harm() {
    const NAMES: [&str; 14] = [
        "createStream",
        "publish",
        "play",
        "play2",
        "pause",
        "seek",
        "receiveAudio",
        "deleteStream",
        "closeStream",
        "FCPublish",
        "FCUnpublish",
        "onMetaData",
        "_result",
        "onStatus",
    ];
    for seed in 0..200 {
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut out = BytesMut::new();
        let mut send = |random: &mut fastrand::Rng, kind: u8, payload: &[u8]| {
            let header = MessageHeader {
                timestamp: Timestamp(random.u32(..)),
                length: 0,
                kind: MessageType::from_id(kind),
                message_stream: random.u32(0..3),
            };
            write_message(&mut out, random.u32(2..8), &header, payload, 128);
        };
        let mut connect = BytesMut::new();
        write_string(&mut connect, b"connect");
        write_value(&mut connect, &Value::Number(1.0));
        write_value(&mut connect, &Value::object([("app", Value::text("live"))]));
        send(&mut random, 20, &connect);
        for _ in 0..random.usize(1..30) {
            match random.u8(0..6) {
                0 => {
                    let payload = random_bytes(&mut random, 300);
                    send(
                        &mut random,
                        [8, 9, 22, 1, 4][usize::from(seed.to_le_bytes()[0] % 5)],
                        &payload,
                    );
                }
                1 => {
                    let payload = random_message(&mut random, "onMetaData");
                    send(&mut random, 18, &payload);
                }
                _ => {
                    let name = NAMES[random.usize(0..NAMES.len())];
                    let mut payload = BytesMut::new();
                    write_string(&mut payload, name.as_bytes());
                    write_value(&mut payload, &Value::Number(f64::from(random.u8(0..6))));
                    write_value(&mut payload, &Value::Null);
                    let arguments = [Value::text("s"), random_value(&mut random, 2)];
                    write_value(&mut payload, &arguments[random.usize(0..2)]);
                    send(&mut random, 20, &payload);
                }
            }
        }
        let mut bytes = vec![random.u8(..)];
        bytes.extend_from_slice(&out);
        if random.bool() {
            damage(&mut bytes, &mut random);
        }
        server_session(&bytes);
        client_session(&bytes);
    }
}
