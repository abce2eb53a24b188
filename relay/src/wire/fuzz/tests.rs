//! The bodies on random bytes, so that they are run where nobody fuzzes. Seeds are printed on
//! failure.

use super::*;

/// Runs a body on random inputs. `shape` makes bytes likely to get far.
fn check(body: fn(&[u8]), rounds: u64, shape: fn(&mut fastrand::Rng) -> Vec<u8>) {
    for seed in 0..rounds {
        let data = shape(&mut fastrand::Rng::with_seed(seed));
        let result = std::panic::catch_unwind(|| body(&data));
        assert!(result.is_ok(), "seed {seed}: {data:02X?}");
    }
}

fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    let len = random.usize(0..200);
    (0..len).map(|_| random.u8(..)).collect()
}

/// Bytes that are few different ones, so that fields match each other often.
fn few(random: &mut fastrand::Rng) -> Vec<u8> {
    let bytes: [u8; 5] = std::array::from_fn(|_| random.u8(..));
    let len = random.usize(0..300);
    (0..len).map(|_| bytes[random.usize(0..5)]).collect()
}

/// Headers that are mostly right, and payloads of any bytes.
fn chunks(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = vec![random.u8(..)];
    for _ in 0..random.usize(1..30) {
        out.push(random.u8(0..4) << 6 | random.u8(2..6));
        if random.bool() {
            let time = if random.bool() { 0xFF } else { random.u8(..) };
            out.extend([time; 3]);
            out.extend([0, random.u8(0..2), random.u8(0..4), random.u8(0..24), 1, 0, 0, 0]);
        }
        let payload = random.usize(0..140);
        out.extend((0..payload).map(|_| random.u8(0..3)));
    }
    out
}

fn hello(random: &mut fastrand::Rng) -> Vec<u8> {
    let len = random.usize(0..4000);
    let mut out = vec![random.u8(..), 3];
    out.extend((0..len).map(|_| random.u8(..)));
    out
}

fn media(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = vec![random.u8(..) & 0xF7, random.u8(0..0x30)];
    out.extend(b"hvc1");
    for _ in 0..random.usize(0..6) {
        out.extend([random.u8(0..20), 0, 0, random.u8(0..8)]);
    }
    out
}

fn tags(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..random.usize(0..8) {
        let length = random.u8(0..4);
        out.extend([random.u8(7..24), 0, 0, length, random.u8(..), 0, 0, 0, 0, 0, 0]);
        out.resize(out.len() + usize::from(length) + 4, 0);
    }
    out.truncate(random.usize(0..=out.len()));
    out
}

fn file(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = vec![random.u8(..)];
    out.extend(b"FLV\x01");
    out.extend([random.u8(..), 0, 0, 0, 9 + random.u8(0..2) * random.u8(0..4), 0, 0, 0, 0]);
    out.extend(tags(random));
    out
}

fn own_message(random: &mut fastrand::Rng) -> Vec<u8> {
    let kinds = [(4, 8), (5, 18), (6, 9)];
    let (chunk_stream, kind) = kinds[random.usize(0..3)];
    let time = if random.bool() { 0xFF } else { 1 };
    let mut out = vec![chunk_stream, time, time, time, 0, 0, random.u8(0..8), kind, 1, 0, 0, 0];
    let len = random.usize(0..20);
    out.extend((0..len).map(|_| random.u8(..)));
    out
}

#[test]
fn any_bytes_are_survived() {
    for shape in [noise, few] {
        check(chunk_reader, 3000, shape);
        check(handshake, 500, shape);
        check(media_header, 3000, shape);
        check(control, 1000, shape);
        check(aggregate, 1000, shape);
        check(flv, 1000, shape);
        check(wire_message, 1000, shape);
    }
    check(chunk_reader, 5000, chunks);
    check(handshake, 200, hello);
    check(media_header, 5000, media);
    check(aggregate, 2000, tags);
    check(flv, 2000, file);
    check(wire_message, 2000, own_message);
}
