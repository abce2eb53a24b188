#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::testing::bytes as hex;

const ON_META: &str = "02 000A 6F6E4D65746144617461";
const SET_FRAME: &str = "02 000D 40736574446174614672616D65";

#[track_caller]
fn check(kind: MessageType, payload: &str, role: Role, expected: &str) {
    let payload = hex(payload);
    let found = judge(kind, &payload, &Limits::default());
    assert_eq!(found, DataAction::Relay { role, payload: hex(expected).into() });
}

#[track_caller]
fn check_dropped(payload: &[u8], fault: DataFault) {
    for kind in [MessageType::DataAmf0, MessageType::DataAmf3] {
        assert_eq!(judge(kind, payload, &Limits::default()), DataAction::Drop(fault));
    }
}

#[test]
fn metadata_loses_its_prefix_and_nothing_else() {
    let (plain, amf3) = (MessageType::DataAmf0, MessageType::DataAmf3);
    let array = format!("{ON_META} 08 00000000 0001 61 00 3FF0000000000000 000009");
    let object = format!("{ON_META} 03 0001 61 02 0001 62 000009");
    let nested = format!("{ON_META} 08 00000001 0001 61 03 0001 62 05 000009 000009");
    for body in [&array, &object, &nested] {
        check(plain, &format!("{SET_FRAME} {body}"), Role::Metadata, body);
        check(plain, body, Role::Metadata, body);
        check(amf3, &format!("00 {SET_FRAME} {body}"), Role::Metadata, body);
        check(amf3, &format!("{SET_FRAME} {body}"), Role::Metadata, body);
        // What follows the body is cut off.
        check(plain, &format!("{body} 05"), Role::Metadata, body);
    }
}

#[test]
fn metadata_that_a_player_cannot_walk_is_written_anew() {
    let plain = MessageType::DataAmf0;
    let good = format!("{ON_META} 08 00000001 0001 61 05 000009");
    // The end is missing, in four lengths.
    check(plain, &format!("{ON_META} 08 00000000 0001 61 05"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 08 00000000 0001 61 05 00"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 03 0001 61 05 0000"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 03 0001 61 05 0001 62 00 00"), Role::Metadata, &good);
    // Kinds of values that FFmpeg cannot step over.
    check(plain, &format!("{ON_META} 03 0001 61 06 000009"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 03 0001 61 07 0001 000009"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 03 0001 61 0D 000009"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 03 0001 61 11 01 000009"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 10 0001 43 0001 61 05 000009"), Role::Metadata, &good);
    check(plain, &format!("{ON_META} 11 0A 0B 01 03 61 01 01"), Role::Metadata, &good);
    check(
        plain,
        &format!("{ON_META} 03 0001 61 0F 00000001 3C 000009"),
        Role::Metadata,
        &format!("{ON_META} 08 00000001 0001 61 02 0001 3C 000009"),
    );
    check(
        plain,
        &format!("{ON_META} 03 0001 61 10 0001 43 0001 62 06 000009 000009"),
        Role::Metadata,
        &format!("{ON_META} 08 00000001 0001 61 03 0001 62 05 000009 000009"),
    );
    // A key that is too long goes, at any depth.
    let key = format!("0080 {}", "78".repeat(128));
    let longest = format!("007F {}", "78".repeat(127));
    check(plain, &format!("{ON_META} 03 0001 61 05 {key} 05 000009"), Role::Metadata, &good);
    check(
        plain,
        &format!("{ON_META} 03 0001 61 03 {key} 05 000009 000009"),
        Role::Metadata,
        &format!("{ON_META} 08 00000001 0001 61 03 000009 000009"),
    );
    let kept = format!("{ON_META} 03 {longest} 05 000009");
    check(plain, &kept, Role::Metadata, &kept);
}

#[test]
fn metadata_of_a_live_stream_says_no_duration() {
    let plain = MessageType::DataAmf0;
    let (thirty, none) = ("00 403E000000000000", "00 0000000000000000");
    let key = "0008 6475726174696F6E";
    let good = format!("{ON_META} 08 00000001 0001 61 05 000009");
    check(
        plain,
        &format!("{ON_META} 08 00000002 {key} {thirty} 0001 61 05 000009"),
        Role::Metadata,
        &good,
    );
    check(plain, &format!("{ON_META} 03 0001 61 05 {key} {thirty} 000009"), Role::Metadata, &good);
    for kept in [
        format!("{ON_META} 08 00000001 {key} {none} 000009"),
        format!("{ON_META} 03 {key} 05 000009"),
        format!("{ON_META} 03 0001 61 03 {key} {thirty} 000009 000009"),
    ] {
        check(plain, &kept, Role::Metadata, &kept);
    }
}

#[test]
fn other_data_is_relayed_as_it_is() {
    let text = "02 0006 6F6E54657874 03 0001 61 06 000009 FF";
    check(MessageType::DataAmf0, text, Role::Data, text);
    check(MessageType::DataAmf0, &format!("{SET_FRAME} {text}"), Role::Data, text);
    check(MessageType::DataAmf3, &format!("00 {text}"), Role::Data, text);
    // Values in AMF3 become AMF0, because the message becomes one of type 18.
    check(
        MessageType::DataAmf3,
        "00 02 0006 6F6E54657874 11 06 03 61 11 04 01",
        Role::Data,
        "02 0006 6F6E54657874 02 0001 61 00 3FF0000000000000",
    );
}

#[test]
fn what_no_player_stands_is_dropped() {
    let name = |length: u16| {
        let mut bytes = vec![2];
        bytes.extend(length.to_be_bytes());
        bytes.extend(b"n".repeat(usize::from(length)));
        bytes
    };
    check_dropped(b"", DataFault::Name);
    check_dropped(&[0, 0, 0, 0], DataFault::Name);
    check_dropped(&hex("03 0001 61 05 000009"), DataFault::Name);
    check_dropped(&hex("0C 00000001 61"), DataFault::Name);
    check_dropped(&name(0), DataFault::Name);
    check_dropped(&name(64), DataFault::Name);
    check_dropped(&name(100), DataFault::Name);
    check_dropped(&hex(SET_FRAME), DataFault::Name);
    check_dropped(&hex(&format!("{SET_FRAME} {SET_FRAME} {ON_META}")), DataFault::Name);
    check_dropped(&hex(ON_META), DataFault::Metadata);
    check_dropped(&hex(&format!("{ON_META} 05")), DataFault::Metadata);
    check_dropped(&hex(&format!("{ON_META} 03 000009")), DataFault::Metadata);
    check_dropped(&hex(&format!("{ON_META} 08 00000000 0001")), DataFault::Metadata);
    // Nothing would be left of it (the first was found by fuzzing).
    let key = format!("0080 {}", "78".repeat(128));
    check_dropped(&hex(&format!("{ON_META} 03 {key} 05 000009")), DataFault::Metadata);
    let duration = "0008 6475726174696F6E 00 403E000000000000";
    check_dropped(&hex(&format!("{ON_META} 03 {duration} 000009")), DataFault::Metadata);
    let longest = name(63);
    let found = judge(MessageType::DataAmf0, &longest, &Limits::default());
    assert_eq!(found, DataAction::Relay { role: Role::Data, payload: longest.as_slice().into() });
}

/// An AMF3 array of a string of 100 bytes and `times` references of these bits to it.
fn repeated(reference: u8, times: u8) -> Vec<u8> {
    let mut bytes = vec![9, (times + 1) << 1 | 1, 1, 6, 0x81, 0x49];
    bytes.extend([b'x'; 100]);
    (0..times).for_each(|_| bytes.extend([6, reference]));
    bytes
}

#[test]
fn what_is_written_anew_has_the_length_of_data() {
    let check = |limits: Limits, expected: Option<usize>| {
        let text = [&hex("00 02 0006 6F6E54657874")[..], &[0x11], &repeated(0, 20)].concat();
        // The key is the first in the table of strings.
        let object = hex("11 0A 0B 01 03 6B");
        let metadata = [&hex(ON_META)[..], &object, &repeated(2, 20), &[1]].concat();
        let text = judge(MessageType::DataAmf3, &text, &limits);
        let metadata = judge(MessageType::DataAmf0, &metadata, &limits);
        for found in [text, metadata] {
            match (found, expected) {
                (DataAction::Relay { payload, .. }, Some(longest)) => {
                    assert!(payload.len() > 300 && payload.len() <= longest);
                }
                (DataAction::Drop(_), None) => {}
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
    };
    let limits = Limits::default;
    check(limits(), Some(2_500));
    check(Limits { amf_reference_bytes_max: 19, ..limits() }, None);
    check(Limits { data_bytes_max: 1_000, ..limits() }, None);
}

#[test]
fn data_has_its_length_however_it_came() {
    let limits = Limits { data_bytes_max: 9, ..Limits::default() };
    let payload = hex("02 0006 6F6E54657874 05");
    let found = judge(MessageType::DataAmf0, &payload, &limits);
    assert_eq!(found, DataAction::Drop(DataFault::TooLong));
    let found = judge(MessageType::DataAmf0, &payload[..9], &limits);
    let payload = payload[..9].into();
    assert_eq!(found, DataAction::Relay { role: Role::Data, payload });
}

#[test]
fn metadata_can_be_taken_back() {
    let payload = hex("02 000F 40636C656172446174614672616D65 02 000A 6F6E4D65746144617461");
    let found = judge(MessageType::DataAmf0, &payload, &Limits::default());
    assert_eq!(found, DataAction::ClearMetadata);
}

#[test]
fn metadata_cut_anywhere_is_never_relayed_broken() {
    let whole = hex(&format!(
        "{SET_FRAME} {ON_META} 08 00000002 0001 61 02 0003 616263 0001 62 0A 00000001 05 000009"
    ));
    for end in 0..whole.len() {
        match judge(MessageType::DataAmf0, &whole[..end], &Limits::default()) {
            DataAction::Relay { payload, .. } => {
                let mut reader = Amf0Reader::new(&payload, &Limits::default());
                reader.read().unwrap();
                reader.read().unwrap();
                assert!(reader.is_at_end(), "cut at {end}");
            }
            DataAction::Drop(_) => {}
            DataAction::ClearMetadata => panic!("nobody cleared anything"),
        }
    }
}
