//! What has to be tried before a server may be called interoperable, as far as no outside program
//! is needed for it: time, cuts, chunk sizes, unusual commands. Each test names what it tries.

use relay::wire::amf::Value;
use relay::wire::control::ControlMessage;

use crate::support::digest;
use crate::support::node::Node;
use crate::support::script::{HELLO, PACKET, Script, call, hex, metadata, playing, publishing};
use crate::support::server::{CONNECTED, PUBLISHED, Server, check, served};

/// A frame whose last byte tells it from others.
fn frame(key: bool, last: u8) -> Vec<u8> {
    vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0, last]
}

/// Frames at these times, a key frame first, through a worker: an early player gets all of them,
/// at their times.
#[track_caller]
fn check_times(times: &[u32], bytes: usize) {
    let mut node = Node::new();
    let mut player = node.client(&playing());
    let mut encoder = node.client(&publishing());
    let mut expected = Vec::new();
    for (place, timestamp) in times.iter().enumerate() {
        let mut payload = frame(place == 0, place.to_le_bytes()[0]);
        payload.resize(bytes, 0x77);
        encoder.send(&Script::empty().video(*timestamp, &payload).out);
        node.run(&mut [&mut player, &mut encoder], 40);
        expected.push((9, *timestamp, payload));
    }
    node.run(&mut [&mut player, &mut encoder], 100);
    assert_eq!(player.media(), expected);
    assert!(!player.ended && !encoder.ended);
}

#[test]
fn line_2_a_stream_crosses_the_extended_timestamp() {
    for bytes in [6, 129, 60_001] {
        check_times(&[16_770_000, 16_777_214, 16_777_215, 16_777_216, 16_777_300], bytes);
    }
}

#[test]
fn line_2_a_player_joins_beyond_the_extended_timestamp() {
    let header = hex("17 00 000000 0164");
    let mut node = Node::new();
    let script = publishing().video(0, &header).video(16_777_300, &frame(true, 1));
    let mut encoder = node.client(&script);
    let mut late = node.client(&playing());
    node.run(&mut [&mut late, &mut encoder], 100);
    assert_eq!(late.media(), [(9, 16_777_300, header), (9, 16_777_300, frame(true, 1))]);
}

#[test]
fn line_3_time_wraps_crosses_the_sign_starts_anywhere_and_jumps() {
    check_times(&[u32::MAX - 80, u32::MAX - 40, u32::MAX, 39, 79], 200);
    check_times(&[0x7FFF_FFD0, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0040], 200);
    check_times(&[3_000_000_000, 3_000_000_040], 200);
    check_times(&[1_000, 3_601_000, 3_601_040], 200);
    check_times(&[7_200_000, 3_600_000, 3_600_040], 200);
    check_times(&[10_000, 8_500, 10_040], 200);
}

#[test]
fn line_3_deltas_go_backwards_on_a_shared_chunk_stream() {
    let script = publishing()
        .hex("04 000064 000003 08 01000000 AF 01 00")
        .hex("44 FFFFFF 000003 08 FFFFFFFB AF 01 01")
        // A fmt-3 message repeats the extended delta.
        .hex("C4 FFFFFFFB AF 01 02")
        .hex("84 FFFFFF 00FFFFFF AF 01 03")
        .hex("84 000005 AF 01 04");
    let times: Vec<u32> = served(&script).media.iter().map(|(timestamp, _)| *timestamp).collect();
    assert_eq!(times, [100, 95, 90, 16_777_305, 16_777_310]);
}

#[test]
fn line_5_every_cut_of_a_conversation_gives_the_same() {
    let script = Script::after(&digest::c1(0, [9, 0, 0x7C, 2]))
        .connect_encoder("live")
        .create_stream(4.0)
        .publish(1, "s")
        .metadata(&[("width", Value::Number(640.0))])
        .video(16_777_215, &[&hex("17 01 000000")[..], &[9; 300]].concat())
        .audio(0, &hex("AF 01 22"))
        .named("FCUnpublish", 6.0, "s");
    let play = |pieces: &[&[u8]]| {
        let mut server = Server::new();
        pieces.iter().for_each(|piece| server.feed(piece).unwrap());
        (server.events, server.media, server.output)
    };
    let whole = play(&[&script.out]);
    assert_eq!(whole.0.len(), 7, "{:?}", whole.0);
    for at in 0..=script.out.len() {
        let (front, back) = script.out.split_at(at);
        assert!(play(&[front, back]) == whole, "cut at {at}");
    }
    assert!(play(&script.out.chunks(1).collect::<Vec<_>>()) == whole, "byte by byte");
    // C0 alone, then C1, then C2 and everything else in one piece.
    let pieces = [&script.out[..1], &script.out[1..1 + PACKET], &script.out[1 + PACKET..]];
    assert!(play(&pieces) == whole, "C0 alone");
}

#[test]
fn line_5_nothing_is_answered_before_c1_and_everything_of_it_then() {
    let script = Script::plain();
    let mut server = Server::new();
    for (at, byte) in script.out.chunks(1).enumerate() {
        let expected = if at < 1 + PACKET { 0 } else { HELLO };
        assert_eq!(server.output.len(), expected, "after {at} bytes");
        server.feed(byte).unwrap();
    }
    assert_eq!(server.output.len(), HELLO);
}

#[test]
fn line_6_chunk_sizes_from_1_to_the_largest() {
    let frames: Vec<Vec<u8>> = [1, 5, 127, 128, 129, 4_000]
        .iter()
        .map(|bytes| {
            let mut payload = frame(true, 1);
            payload.resize(6.max(*bytes), 0x42);
            payload
        })
        .collect();
    for size in [1, 2, 127, 128, 129, 65_536, 0x00FF_FFFF, 0x0100_0000, 0x7FFF_FFFF] {
        for timestamp in [7, 0x0100_0000] {
            let mut script = publishing().control(ControlMessage::SetChunkSize(size));
            for payload in &frames {
                script = script.video(timestamp, payload);
            }
            let server = served(&script);
            let got: Vec<_> = server.media.into_iter().map(|(_, payload)| payload).collect();
            assert_eq!(got, frames, "chunks of {size} at {timestamp}");
        }
    }
}

#[test]
fn line_6_chunk_streams_interleave_and_one_message_is_given_up() {
    let (video, audio) = ([0x27; 300], [0xAF; 200]);
    let script = publishing()
        .hex("06 000064 00012C 09 01000000")
        .raw(&video[..128])
        .hex("04 000064 0000C8 08 01000000")
        .raw(&audio[..128])
        .hex("C6")
        .raw(&video[128..256])
        // The chunk size changes in the middle of both messages.
        .control(ControlMessage::SetChunkSize(40))
        .hex("C4")
        .raw(&audio[128..168])
        .hex("C6")
        .raw(&video[256..296])
        .hex("C4")
        .raw(&audio[168..])
        .hex("C6")
        .raw(&video[296..]);
    assert_eq!(served(&script).media, [(100, audio.to_vec()), (100, video.to_vec())]);
    let script = publishing()
        .hex("06 000064 00012C 09 01000000")
        .raw(&video[..128])
        .control(ControlMessage::Abort { chunk_stream: 6 })
        .control(ControlMessage::Abort { chunk_stream: 9 })
        // The header stays: a delta, and then the same length again.
        .hex("86 00000A")
        .raw(&video[..128])
        .hex("C6")
        .raw(&video[128..256])
        .hex("C6")
        .raw(&video[256..]);
    let server = served(&script);
    assert_eq!(server.media, [(110, video.to_vec())]);
    assert_eq!(server.session.partial_bytes(), 0);
}

#[test]
fn line_6_chunk_stream_ids_of_every_form() {
    for (place, basic) in
        ["3F", "00 00", "00 FF", "01 00 01", "01 FF FF", "01 00 00"].iter().enumerate()
    {
        let script = publishing()
            .hex(basic)
            .hex("000001 000003 08 01000000 AF 01 05")
            .hex(&format!("{:02X}", 0xC0 | u8::from_str_radix(&basic[..2], 16).unwrap()))
            .hex(&basic[2..])
            .hex("AF 01 06");
        let media = [(1, hex("AF 01 05")), (2, hex("AF 01 06"))];
        assert_eq!(served(&script).media, media, "form {place}");
    }
}

#[test]
fn line_7_unusual_commands_and_data_end_nothing() {
    let script = Script::plain()
        .connect_encoder("live")
        .call(3, 0, "checkBandwidth", 11.0, &[Value::Null])
        .call(3, 0, "onBWDone", 0.0, &[Value::Null])
        .call(3, 0, "setPeerInfo", 12.0, &[Value::Null, Value::text("x"), Value::Number(1.0)])
        .create_stream(4.0)
        .publish(1, "s")
        .message(5, 1, 0, 18, &[0, 0, 0, 9])
        .message(3, 0, 0, 4, &hex("001F 00000001"))
        .message(3, 0, 0, 4, &hex("00"))
        .message(5, 1, 0, 18, &call("onTextData", 0.0, &[]))
        .video(0, &frame(true, 1));
    let mut said = CONNECTED.to_vec();
    said.extend([
        "3/0 _result 11 null null",
        "3/0 _result 12 null null",
        "3/0 _result 4 null 1",
        PUBLISHED,
    ]);
    let events = [
        "handshake",
        "connect live",
        "publish 1 live/s",
        "dropped bad_data",
        "Data 1 22 B",
        "KeyFrame 1 6 B",
    ];
    check(&script, &events, &said);
}

#[test]
fn line_7_connect_in_every_dress() {
    let properties = [("app", Value::text("live")), ("objectEncoding", Value::Number(3.0))];
    let object = Value::object(properties.clone());
    let array = Value::EcmaArray(vec![(b"app", Value::text("live"))]);
    let plain = call("connect", 1.0, &[object]);
    let with_selector = [&[0][..], &plain].concat();
    // An AMF3 object: dynamic, no class; "app" = "live".
    let amf3 =
        [&call("connect", 1.0, &[])[..], &hex("11 0A 0B 01 07617070 06 09 6C697665 01")].concat();
    let cases: [(&str, u8, &[u8]); 5] = [
        ("AMF0 in type 17 behind a selector", 17, &with_selector),
        ("AMF0 in type 17 without one", 17, &plain),
        ("an AMF3 object in type 17", 17, &[&[0][..], &amf3].concat()),
        ("an AMF3 object in type 20", 20, &amf3),
        (
            "an ECMA array with more arguments behind",
            20,
            &call("connect", 1.0, &[array, Value::text("user")]),
        ),
    ];
    for (name, kind, payload) in cases {
        let mut server =
            served(&Script::plain().message(3, 0, 0, kind, payload).create_stream(2.0));
        assert_eq!(server.events, ["handshake", "connect live"], "{name}");
        let answers = server.messages();
        assert!(answers.iter().all(|answer| answer.header.kind.id() != 17), "{name}");
        assert_eq!(answers.last().unwrap().show(), "3/0 _result 2 null 1", "{name}");
    }
}

#[test]
fn line_7_metadata_as_object_and_as_array_reaches_players_as_it_came() {
    let properties = [("width", Value::Number(640.0)), ("stereo", Value::Boolean(true))];
    let array = metadata(&properties);
    let mut object = array.clone();
    let body = object.split_off(13);
    object.extend_from_slice(&[3]);
    object.extend_from_slice(&body[5..]);
    let set = hex("02 000D 40736574446174614672616D65");
    for (name, sent, expected) in [
        ("array", array.to_vec(), &array),
        ("object", object.to_vec(), &object),
        ("array to be kept", [&set[..], &array].concat(), &array),
        ("object to be kept", [&set[..], &object].concat(), &object),
    ] {
        for (kind, selector) in [(18, &[][..]), (15, &[0][..]), (15, &[])] {
            let payload = [selector, &sent].concat();
            let mut node = Node::new();
            let script = publishing().message(5, 1, 0, kind, &payload).video(0, &frame(true, 1));
            let mut encoder = node.client(&script);
            let mut player = node.client(&playing());
            node.run(&mut [&mut encoder, &mut player], 100);
            let got = player.media();
            assert_eq!(got[0], (18, 0, expected.to_vec()), "{name} in type {kind}");
        }
    }
}

#[test]
fn line_10_players_are_told_of_the_end_when_the_grace_is_over() {
    let mut node = Node::new();
    let mut player = node.client(&playing());
    let mut encoder = node.client(&publishing().video(0, &frame(true, 1)));
    node.run(&mut [&mut player, &mut encoder], 100);
    assert_eq!(player.media().len(), 1);
    // Killed without a word, then silent until its time is over.
    encoder.close();
    node.run(&mut [&mut player], 14_000);
    assert_eq!(player.said(), [""; 0], "nothing is said while it may come back");
    assert!(!player.ended);
    node.run(&mut [&mut player], 3_000);
    let expected = [
        "2/0 UserControl(StreamEof { message_stream: 1 })",
        "5/1 onStatus 0 null {level=status, code=NetStream.Play.UnpublishNotify, \
         description=The stream is no longer published}",
    ];
    assert_eq!(player.said(), expected);
    assert!(player.ended);
}
