//! Messages that are small on the wire and large in what they ask for: none makes the relay hold,
//! copy or say more than its limits allow.

use relay::limits::Limits;
use relay::wire::amf::Value;

use crate::support::script::{Script, call, hex, publishing};
use crate::support::server::{Server, served};

/// An unsigned 29-bit integer of AMF3.
fn u29(value: usize) -> Vec<u8> {
    let byte = |shift: usize| u8::try_from((value >> shift) & 0x7F).unwrap();
    match value {
        0..0x80 => vec![byte(0)],
        0x80..0x4000 => vec![byte(7) | 0x80, byte(0)],
        _ => vec![byte(14) | 0x80, byte(7) | 0x80, byte(0)],
    }
}

/// An AMF3 array of a string of `length` bytes and of arrays of 1,000 references to it each.
fn references(length: usize, arrays: usize, reference: u8) -> Vec<u8> {
    let array = |count: usize| [&[9][..], &u29(count << 1 | 1), &[1]].concat();
    let mut value = [array(arrays + 1), vec![6], u29(length << 1 | 1)].concat();
    value.extend(vec![b'x'; length]);
    for _ in 0..arrays {
        value.extend(array(1_000));
        value.extend([6, reference].repeat(1_000));
    }
    value
}

#[test]
fn amf3_references_cannot_make_a_data_message_grow() {
    let longest = Limits::default().data_bytes_max;
    let hello = |length, arrays| {
        [&hex("00 02 0005 68656C6C6F 11")[..], &references(length, arrays, 0)].concat()
    };
    // The string is the second of its table: the key is the first.
    let metadata = |length, arrays| {
        let head = hex("02 000A 6F6E4D65746144617461 11 0A 0B 01 03 6B");
        [&head[..], &references(length, arrays, 2), &[1]].concat()
    };
    for (kind, payload, reason) in [
        (15, hello(60_000, 4), "dropped data_too_long"),
        (18, metadata(60_000, 4), "dropped bad_data"),
    ] {
        assert!(payload.len() < 70_000);
        let server = served(&publishing().message(5, 1, 0, kind, &payload));
        assert_eq!(server.events.last().unwrap(), reason);
        assert!(server.media.is_empty());
    }
    // A few of them are spelt out.
    for (kind, payload) in [(15, hello(20, 2)), (18, metadata(20, 2))] {
        let server = served(&publishing().message(5, 1, 0, kind, &payload));
        let relayed = server.media[0].1.len();
        assert!(relayed > 2_000 * 20 && relayed < longest, "{relayed}");
    }
}

#[test]
fn connect_keeps_a_few_short_names_of_codecs() {
    // One string of 30,000 control characters, 64 times a codec of each of three lists.
    let mut payload = call("connect", 1.0, &[]).to_vec();
    payload.extend(hex("11 0A 0B 01 07617070 06 09 6C697665 15"));
    payload.extend(b"fourCcList");
    payload.extend([&[9][..], &u29(64 << 1 | 1), &[1, 6], &u29(30_000 << 1 | 1)].concat());
    payload.extend(vec![1; 30_000]);
    payload.extend([6, 6].repeat(63));
    for key in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
        payload.extend([&u29(key.len() << 1 | 1)[..], key.as_bytes(), &hex("0A 0B 01")].concat());
        payload.extend([6, 4, 1].repeat(64));
        payload.push(1);
    }
    payload.push(1);
    // Their sum is a reference too many.
    let error = Server::new().feed(&Script::plain().message(3, 0, 0, 20, &payload).out);
    let sentence = "connect cannot be read: AMF3 references stand for too many bytes";
    assert_eq!(error.unwrap_err().to_string(), sentence);

    let many: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    let long = "x".repeat(50);
    let names = || many.iter().map(String::as_str).chain([&long[..], "", "*"]);
    let map = || Value::Object(names().map(|n| (n.as_bytes(), Value::Number(2.0))).collect());
    let script = Script::plain().connect(&[
        ("app", Value::text("live")),
        ("fourCcList", Value::StrictArray(["*", &long, "hvc1", "*"].map(Value::text).to_vec())),
        ("videoFourCcInfoMap", map()),
        ("audioFourCcInfoMap", map()),
    ]);
    let server = served(&script);
    let codecs = &server.session.client().unwrap().enhanced.as_ref().unwrap().codecs;
    assert_eq!(codecs.len(), 64);
    assert_eq!(codecs[..3], [("*", 0), ("hvc1", 0), ("0000", 2)].map(|(n, b)| (n.to_owned(), b)));
    assert!(codecs.iter().all(|(name, _)| name.len() <= 4));
    assert!(server.session.held_bytes() < 8_192, "{}", server.session.held_bytes());
}

#[test]
fn what_connect_leaves_is_counted_and_no_longer_than_what_came() {
    // Control characters, and bytes that are no UTF-8.
    for filler in [1_u8, 0xFF] {
        let text = vec![filler; 4_000];
        let script = Script::plain().connect(&[
            ("app", Value::text("live")),
            ("flashVer", Value::String(&text)),
            ("swfUrl", Value::String(&text)),
            ("pageUrl", Value::String(&text)),
            ("tcUrl", Value::text("rtmp://h/live")),
        ]);
        let server = served(&script);
        let held = server.session.held_bytes();
        assert!((3 * 4_000..13_000).contains(&held), "{held}");
        assert_eq!(server.session.client().unwrap().flash_ver, "?".repeat(4_000));
    }
}
