//! Enhanced RTMP through a whole worker: what a player that joins late is told, and in which order.
//! What the headers mean is tested where they are read.

use relay::wire::amf::Value;

use crate::support::node::Node;
use crate::support::script::{hex, metadata, playing, publishing};

/// Type 8 or 9, and the payload in hexadecimal digits.
type Row<'a> = (u8, &'a str);

/// An encoder sends `before`, then a key frame; who joins then gets `expected`, then that frame.
#[track_caller]
fn check(before: &[Row<'_>], expected: &[Row<'_>], key: &str) {
    let properties = [("videocodecid", Value::Number(1_752_589_105.0))];
    let mut script = publishing().metadata(&properties);
    for (place, (kind, payload)) in before.iter().chain(&[(9, key)]).enumerate() {
        let time = 1_000 + u32::try_from(place).unwrap();
        let chunk_stream = if *kind == 8 { 4 } else { 6 };
        script = script.message(chunk_stream, 1, time, *kind, &hex(payload));
    }
    let mut node = Node::new();
    let mut encoder = node.client(&script);
    let mut late = node.client(&playing());
    node.run(&mut [&mut encoder, &mut late], 200);
    let joined = 1_000 + u32::try_from(before.len()).unwrap();
    let mut all = vec![(18, joined, metadata(&properties).to_vec())];
    let last = [(9, key)];
    all.extend(expected.iter().chain(&last).map(|(kind, payload)| (*kind, joined, hex(payload))));
    assert_eq!(late.media(), all);
}

const KEY: &str = "91 68766331 000000 AA";

#[test]
fn headers_of_every_kind_come_before_the_key_frame() {
    check(
        &[
            (9, "D4 68766331 02 0009 636F6C6F72496E666F 03 000009"),
            (9, "90 68766331 0102"),
            (8, "94 4F707573 01 02 00000003"),
            (8, "90 4F707573"),
            // Media that nobody needs who joins later.
            (9, KEY),
            (9, "A3 68766331 BB"),
            (8, "91 4F707573 CC"),
        ],
        &[
            (8, "90 4F707573"),
            (8, "94 4F707573 01 02 00000003"),
            (9, "90 68766331 0102"),
            (9, "D4 68766331 02 0009 636F6C6F72496E666F 03 000009"),
        ],
        KEY,
    );
}

#[test]
fn headers_of_many_tracks_are_told_once() {
    let both = "96 10 68766331 00 000003 AABBCC 01 000002 DDEE";
    check(&[(9, both)], &[(9, both)], KEY);
    let codecs = "96 20 61763031 00 000001 AA 68766331 01 000001 BB";
    check(&[(9, codecs)], &[(9, codecs)], "91 61763031 AA");
    // One of the tracks gets a new header: the older message first.
    let newer = "90 68766331 EE";
    check(&[(9, both), (9, newer)], &[(9, both), (9, newer)], KEY);
    let newer = "96 00 68766331 01 EE";
    check(&[(9, both), (9, newer)], &[(9, both), (9, newer)], KEY);
}

#[test]
fn every_way_to_write_a_key_frame_is_a_place_to_join() {
    let header = (9, "90 68766331 0102");
    for key in [
        "91 68766331 000000 AA",
        "93 68766331 AA",
        "C1 68766331 000000 AA",
        "97 02 0F423F 01 68766331 000000 AA",
        "97 02 0F423F 07 02 000001 03 68766331 AA",
        "96 01 68766331 00 AA",
        "96 11 68766331 00 000001 AA 01 000001 BB",
        "96 21 68766331 00 000001 AA 61763031 01 000001 BB",
        "1C 01 000000 AA",
        "17 01 000000 AA",
    ] {
        check(&[header], &[header], key);
    }
}

#[test]
fn what_is_not_understood_is_passed_on_and_no_place_to_join() {
    let odd = ["91 00000000 AA", "98 68766331 AA", "96 31 68766331 00", "97 FF 0010 00", "D0 01"];
    let mut node = Node::new();
    let mut early = node.client(&playing());
    let mut script = publishing().video(0, &hex(KEY));
    for payload in odd {
        script = script.video(40, &hex(payload));
    }
    let mut encoder = node.client(&script);
    node.run(&mut [&mut encoder, &mut early], 200);
    let mut expected = vec![(9, 0, hex(KEY))];
    expected.extend(odd.map(|payload| (9, 40, hex(payload))));
    assert_eq!(early.media(), expected);
    let mut late = node.client(&playing());
    node.run(&mut [&mut encoder, &mut late], 200);
    assert_eq!(late.media(), expected, "from the key frame on");
}
