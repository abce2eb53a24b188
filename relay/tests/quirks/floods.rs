//! Messages that are small on the wire and large in what they ask for: none makes the relay hold,
//! copy or say more than its limits allow.

use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::wire::control::ControlMessage;

use crate::support::script::{Script, call, hex, playing, publishing};
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

#[test]
fn parts_of_aggregates_count_as_messages() {
    let part = hex("08 000000 000000 00 000000 0000000B");
    let mut script = publishing();
    for _ in 0..5 {
        script = script.message(6, 1, 0, 22, &part.repeat(4_096));
    }
    let mut server = Server::new();
    let error = server.feed(&script.out).unwrap_err();
    assert_eq!(error.to_string(), "more than 20000 messages within a second");
    assert!(server.media.len() < 20_000);
}

#[test]
fn data_out_of_an_aggregate_has_the_length_of_data() {
    let longest = Limits::default().data_bytes_max;
    for (length, event) in [(longest + 1, "dropped data_too_long"), (longest, "Data 1 262144 B")] {
        let mut part = [&[18][..], &u32::try_from(length).unwrap().to_be_bytes()[1..]].concat();
        part.extend(hex("000000 00 000000 02 0005 68656C6C6F 0C"));
        part.extend(u32::try_from(length - 13).unwrap().to_be_bytes());
        part.resize(11 + length, b'x');
        part.extend([0; 4]);
        let size = ControlMessage::SetChunkSize(1 << 20);
        let server = served(&publishing().control(size).message(6, 1, 0, 22, &part));
        assert_eq!(server.events.last().unwrap(), event);
    }
}

#[test]
fn before_connect_no_media_is_held() {
    for kind in [8, 9, 15, 18, 22] {
        let mut script = Script::plain().control(ControlMessage::SetChunkSize(65_536));
        script = script.raw(&[6]).hex("000000 03FFFF").raw(&[kind]).hex("00000000");
        script = script.raw(&[0; 65_536]).hex("C6").raw(&[0; 65_536]).hex("C6");
        let mut server = served(&script.raw(&[0; 65_536]));
        assert_eq!(server.session.partial_bytes(), 0);
        // The rest of it does not come to life by connect; the next one does.
        let size = ControlMessage::SetChunkSize(65_536);
        let mut script = Script::empty().hex("C6").raw(&[0; 65_535]);
        script = script.control(size).connect_encoder("live").create_stream(4.0).publish(1, "s");
        server.feed(&script.audio(7, &hex("AF 01 77")).out).unwrap();
        assert_eq!(server.events[1], "dropped not_publishing");
        assert_eq!(server.media, [(7, hex("AF 01 77"))]);
    }
    let command = Script::plain().message(3, 0, 0, 20, &vec![0; 40_000]);
    let error = Server::new().feed(&command.out).unwrap_err();
    assert_eq!(error.to_string(), "unfinished messages hold more than 32768 bytes");
}

#[test]
fn a_chunk_stream_that_was_not_wanted_before_connect_is_wanted_after_it() {
    // The message after connect has the header of the one before it (fmt 3).
    let script = Script::plain()
        .hex("06 000005 000003 08 01000000 AF 01 11")
        .connect_encoder("live")
        .create_stream(4.0)
        .publish(1, "s")
        .hex("C6 AF 01 22");
    assert_eq!(served(&script).media, [(10, hex("AF 01 22"))]);
}

#[test]
fn connect_with_all_its_strings_at_their_longest_is_taken() {
    let long = "x".repeat(4_096);
    let url = format!("rtmp://h/{}", "y".repeat(2_039));
    let script = Script::plain().connect(&[
        ("app", Value::text(&long[..256])),
        ("tcUrl", Value::text(&url)),
        ("flashVer", Value::text(&long)),
        ("swfUrl", Value::text(&long)),
        ("pageUrl", Value::text(&long)),
        ("type", Value::text(&long)),
    ]);
    assert!(served(&script).events[1].starts_with("connect x"));
}

#[test]
fn replies_are_bounded_within_one_input() {
    let seeks = |mut script: Script| {
        script = script.hex("07 000000 000007 14 01000000 02 0004 7365656B");
        for _ in 0..8_000 {
            script = script.hex("C7 02 0004 7365656B");
        }
        script
    };
    // Nobody is told of a seek who does not play.
    let server = served(&seeks(publishing()));
    assert!(server.output.len() < 5_000, "{}", server.output.len());
    let mut server = Server::new();
    let error = server.feed(&seeks(playing()).out).unwrap_err();
    let limit = Limits::default().output_bytes_max;
    assert_eq!(error.to_string(), format!("more than {limit} bytes of replies wait to be sent"));
    assert!(server.output.len() < limit + 1_000, "{}", server.output.len());
}

#[test]
fn message_streams_that_were_never_given_are_refused() {
    let connected = || Script::plain().connect_encoder("live");
    for (script, code) in [
        (connected().publish(u32::MAX, "a"), "NetStream.Publish.BadName"),
        (connected().publish(2, "a"), "NetStream.Publish.BadName"),
        (connected().create_stream(4.0).play(2, "a"), "NetStream.Play.Failed"),
    ] {
        let mut server = served(&script);
        let said = server.said();
        assert!(said.last().unwrap().contains(code), "{said:?}");
        assert!(server.session.wants_close());
        let refused = "dropped bad_name";
        assert_eq!(server.events.last().map(String::as_str), Some(refused), "{:?}", server.events);
    }
    // Some encoders never ask, and use 0 or 1; nobody else is then given the same.
    for unasked in [0, 1] {
        let script = connected().publish(unasked, "a").create_stream(4.0).create_stream(5.0);
        let mut server = served(&script);
        assert_eq!(server.events[2], format!("publish {unasked} live/a"));
        let said = server.said();
        let given = if unasked == 0 { [1, 2] } else { [2, 3] };
        for (line, transaction, id) in [(0, 5, given[1]), (1, 4, given[0])] {
            let line = &said[said.len() - 1 - line];
            assert_eq!(*line, format!("3/0 _result {transaction} null {id}"));
        }
    }
}
