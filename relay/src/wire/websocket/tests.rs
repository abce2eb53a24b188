//! Frames of clients at every split, and our own read by an independent reader.

use super::*;
use crate::wire::testing::{bytes as hex, every_split};

const MASK: [u8; 4] = [0xA1, 0x02, 0x33, 0x54];

/// A masked frame, its first byte and its length field as given.
fn frame(first: u8, length: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(hex(length));
    out[1] |= 0x80;
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

#[track_caller]
fn check(input: &[u8], expected: &[ClientFrame], error: Option<FrameError>) {
    every_split(input, |pieces| {
        let mut reader = FrameReader::new(70_000);
        let mut frames = Vec::new();
        let mut fault = None;
        'pieces: for piece in pieces {
            let mut rest = *piece;
            loop {
                match reader.next(&mut rest) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        fault = Some(error);
                        break 'pieces;
                    }
                }
            }
            assert!(rest.is_empty(), "all of it is used up");
        }
        assert_eq!((&frames[..], fault), (expected, error));
    });
}

#[test]
fn what_matters_is_told_and_the_rest_is_passed_over() {
    use ClientFrame::{Close, Other, Ping};
    let ping = frame(0x89, "05", b"hello");
    check(&ping, &[Ping(b"hello".to_vec())], None);
    check(&frame(0x89, "00", b""), &[Ping(Vec::new())], None);
    check(&frame(0x89, "7D", &[7; 125]), &[Ping(vec![7; 125])], None);
    check(&frame(0x8A, "02", b"ab"), &[Other], None);
    check(&frame(0x81, "03", b"abc"), &[Other], None);
    check(&frame(0x82, "7E 007E", &[9; 126]), &[Other], None);
    check(&frame(0x88, "00", b""), &[Close(None)], None);
    check(&frame(0x88, "02", &hex("03E8")), &[Close(Some(1000))], None);
    check(&frame(0x88, "05", &hex("03E9 627965")), &[Close(Some(1001))], None);
    // a message in three pieces with a ping in between, then another one
    let fragmented = [
        frame(0x01, "01", b"a"),
        ping,
        frame(0x00, "00", b""),
        frame(0x80, "01", b"c"),
        frame(0x82, "01", b"d"),
    ];
    check(&fragmented.concat(), &[Other, Ping(b"hello".to_vec()), Other, Other, Other], None);
}

#[test]
fn long_frames_are_passed_over_up_to_the_limit() {
    let mut reader = FrameReader::new(70_000);
    let whole = frame(0x82, "7F 0000000000011170", &vec![1; 70_000]);
    for piece in whole.chunks(999) {
        let mut rest = piece;
        let told = reader.next(&mut rest);
        assert!(matches!(told, Ok(None | Some(ClientFrame::Other))), "{told:?}");
    }
    assert!(reader.frame.is_none() && reader.header.is_empty());
    let too_long = frame(0x82, "7F 0000000000011171", b"");
    let error = FrameError::TooLong { length: 70_001, limit: 70_000 };
    check(&too_long, &[], Some(error));
    assert_eq!((error.status(), FrameError::Reserved.status()), (1009, 1002));
    let huge = frame(0x82, "7F 7FFFFFFFFFFFFFFF", b"");
    check(&huge, &[], Some(FrameError::TooLong { length: u64::MAX >> 1, limit: 70_000 }));
}

#[test]
fn what_breaks_the_protocol_is_told_at_its_header() {
    use FrameError::{
        BadClose, BadContinuation, BadControl, BadLength, NotMasked, Reserved, UnknownOpcode,
    };
    check(&hex("82 05"), &[], Some(NotMasked));
    check(&frame(0xC2, "00", b""), &[], Some(Reserved));
    check(&frame(0x92, "00", b""), &[], Some(Reserved));
    check(&frame(0x83, "00", b""), &[], Some(UnknownOpcode(3)));
    check(&frame(0x8B, "00", b""), &[], Some(UnknownOpcode(11)));
    check(&frame(0x09, "00", b""), &[], Some(BadControl));
    check(&frame(0x89, "7E 007E", &[0; 126]), &[], Some(BadControl));
    check(&frame(0x88, "7F 0000000000010000", b""), &[], Some(BadControl));
    check(&frame(0x80, "00", b""), &[], Some(BadContinuation));
    let twice = [frame(0x01, "00", b""), frame(0x81, "00", b"")].concat();
    check(&twice, &[ClientFrame::Other], Some(BadContinuation));
    check(&frame(0x82, "7E 007D", b""), &[], Some(BadLength));
    check(&frame(0x82, "7F 000000000000FFFF", b""), &[], Some(BadLength));
    check(&frame(0x82, "7F 8000000000000000", b""), &[], Some(BadLength));
    check(&frame(0x88, "01", b"a"), &[], Some(BadClose));
}

#[test]
fn our_headers_have_the_shortest_length() {
    let check = |payload_bytes, expected: &str| {
        let mut out = BytesMut::new();
        write_header(&mut out, Opcode::Binary, payload_bytes);
        assert_eq!(out, hex(expected), "{payload_bytes}");
        assert!(out.len() <= HEADER_BYTES_MAX);
    };
    check(0, "82 00");
    check(125, "82 7D");
    check(126, "82 7E 007E");
    check(0xFFFF, "82 7E FFFF");
    check(0x1_0000, "82 7F 0000000000010000");
    check(0x12_3456, "82 7F 0000000000123456");
    let mut out = BytesMut::new();
    write_header(&mut out, Opcode::Pong, 1);
    write_header(&mut out, Opcode::Close, 2);
    assert_eq!(out, hex("8A 01 88 02"));
}

#[test]
fn random_bytes_are_judged_alike_at_every_split() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let mut input = Vec::new();
        for _ in 0..random.usize(..4) {
            let first = [0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8A, 0x88, 0x7F];
            let payload = vec![random.u8(..); random.usize(..6)];
            let length = format!("{:02X}", payload.len());
            input.extend(frame(first[random.usize(..first.len())], &length, &payload));
        }
        let mut whole = (Vec::new(), None);
        let mut reader = FrameReader::new(100);
        let mut rest = &input[..];
        loop {
            match reader.next(&mut rest) {
                Ok(Some(frame)) => whole.0.push(frame),
                Ok(None) => break,
                Err(error) => {
                    whole.1 = Some(error);
                    break;
                }
            }
        }
        check(&input, &whole.0, whole.1);
    }
}
