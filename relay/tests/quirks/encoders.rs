//! Encoders in software and hardware.

use std::sync::Arc;
use std::time::Duration;

use relay::limits::Limits;
use relay::session::ServerSession;
use relay::wire::amf::Value;
use relay::wire::control::ControlMessage;

use crate::support::node::Node;
use crate::support::script::{PACKET, Script, hex, publishing};
use crate::support::server::{CONNECTED, PUBLISHED, Server, check, served};

#[test]
fn wirecast_is_acknowledged_though_it_announced_no_window() {
    let mut server = served(&publishing());
    server.said();
    let frame = Script::empty().control(ControlMessage::SetChunkSize(65_536)).message(
        6,
        1,
        0,
        9,
        &[0x27; 50_000],
    );
    let mut acknowledged = Vec::new();
    while server.session.bytes_received() < 6_000_000 {
        server.feed(&frame.out).unwrap();
        for line in server.said() {
            assert!(line.contains("Acknowledgement"), "{line}");
            acknowledged.push(server.session.bytes_received());
        }
    }
    assert_eq!(acknowledged.len(), 4, "half of 2,500,000 bytes each: {acknowledged:?}");
    assert!(acknowledged[0] < 1_250_000 + 51_000);
}

#[test]
fn fmle_is_acknowledged_beyond_4_gigabytes() {
    let mut session = ServerSession::new(Arc::new(Limits::default()), 1, Duration::ZERO);
    let mut hello = &publishing()
        .control(ControlMessage::SetChunkSize(0x00FF_FFFF))
        .control(ControlMessage::WindowAckSize(2_500_000))
        .out[..];
    let now = Duration::ZERO;
    loop {
        if session.next_event(&mut hello, now).unwrap().is_none() && hello.is_empty() {
            break;
        }
        session.accept_connect();
        session.accept_publish(1);
    }
    // Messages of a type without meaning, which are skipped: nothing else is fast enough here.
    let mut message = hex("07 000000 FFFFFF 63 01000000");
    message.resize(12 + 0x00FF_FFFF, 0);
    let (mut before, mut last, mut wraps) = (0, 0_u32, 0);
    while session.bytes_received() < 0x1_2000_0000 {
        for mut piece in message.chunks(600_000) {
            while session.next_event(&mut piece, now).unwrap().is_some() {}
            let Some(output) = session.take_output() else { continue };
            if before < 5 {
                before += 1;
                continue;
            }
            let expected = u32::try_from(session.bytes_received() & 0xFFFF_FFFF).unwrap();
            assert_eq!(output[..12], hex("02 000000 000004 03 00000000"));
            assert_eq!(output[12..], expected.to_be_bytes(), "bytes received modulo 2^32");
            wraps += u32::from(expected < last);
            last = expected;
        }
    }
    assert_eq!(wraps, 1, "it goes round once and never starts anew");
}

#[test]
fn fmle_says_fmt_3_after_fmt_0_and_means_the_timestamp_as_delta() {
    let script = publishing()
        .hex("04 000017 000003 08 01000000 AF 01 AA")
        .hex("C4 AF 01 BB")
        .hex("C4 AF 01 CC")
        .hex("84 000010 AF 01 DD")
        .hex("C4 AF 01 EE");
    let times: Vec<u32> = served(&script).media.iter().map(|(timestamp, _)| *timestamp).collect();
    assert_eq!(times, [23, 46, 69, 85, 101]);
}

#[test]
fn fmle_publishes_three_streams_on_one_connection() {
    let mut script = Script::plain().connect_encoder("live");
    for (stream, name) in [(1, "low"), (2, "middle"), (3, "high")] {
        script = script.create_stream(f64::from(stream)).publish(stream, name);
    }
    for stream in [3, 1, 2] {
        script = script.message(6, stream, 0, 9, &hex("17 01 000000"));
    }
    let script =
        script.named("FCUnpublish", 0.0, "middle").message(6, 3, 0, 9, &hex("27 01 000000"));
    let events = [
        "handshake",
        "connect live",
        "publish 1 live/low",
        "publish 2 live/middle",
        "publish 3 live/high",
        "KeyFrame 3 5 B",
        "KeyFrame 1 5 B",
        "KeyFrame 2 5 B",
        "end publish 2",
        "InterFrame 3 5 B",
    ];
    assert_eq!(served(&script).events, events);
}

#[test]
fn fmle_reaches_the_players_of_each_of_its_three_streams() {
    let mut node = Node::new();
    let names = ["low", "middle", "high"];
    let mut players: Vec<_> = names
        .iter()
        .map(|name| {
            let script = Script::plain().connect_encoder("live").create_stream(2.0);
            node.client(&script.play(1, name))
        })
        .collect();
    let mut script = Script::plain().connect_encoder("live");
    for (place, name) in names.iter().enumerate() {
        let stream = u32::try_from(place).unwrap() + 1;
        script = script.create_stream(f64::from(stream)).publish(stream, name);
    }
    let frame = |stream: u8| vec![0x17, 1, 0, 0, 0, stream];
    for stream in [2, 3, 1_u8] {
        script = script.message(6, stream.into(), 40, 9, &frame(stream));
    }
    let mut fmle = node.client(&script);
    node.run(&mut [&mut fmle], 100);
    for (player, stream) in players.iter_mut().zip(1..) {
        node.run(&mut [player], 100);
        assert_eq!(player.media(), [(9, 40, frame(stream))]);
    }
}

#[test]
fn haivision_has_an_order_of_its_own() {
    let script = Script::plain()
        .connect_encoder("live")
        .call(3, 0, "_checkbw", 2.0, &[Value::Null])
        .create_stream(3.0)
        .named("FCPublish", 4.0, "s")
        .publish(1, "s");
    let mut said = CONNECTED.to_vec();
    said.extend([
        "3/0 _result 2 null null",
        "3/0 _result 3 null 1",
        "3/0 _result 4 null undefined",
        "3/0 onFCPublish 0 null {code=NetStream.Publish.Start, description=s}",
        PUBLISHED,
    ]);
    check(&script, &["handshake", "connect live", "publish 1 live/s"], &said);
}

#[test]
fn ip_cameras_say_fcpublish_after_publish_and_name_something_else() {
    let script = publishing()
        .named("FCPublish", 6.0, "s|@setDataFrame()")
        .video(0, &hex("17 01 000000"))
        .named("FCUnpublish", 7.0, "s|@setDataFrame()");
    let events =
        ["handshake", "connect live", "publish 1 live/s", "KeyFrame 1 5 B", "end publish 1"];
    assert_eq!(served(&script).events, events);
}

#[test]
fn ip_cameras_have_odd_handshakes() {
    // C2 of zeros, of C1, of anything; C1 with a time and a version but no digest.
    let mut c1 = [0x33; PACKET];
    for version in [[0; 4], [1, 0, 0, 0], [3, 5, 1, 1], [0xFF; 4]] {
        c1[4..8].copy_from_slice(&version);
        for c2 in [[0; PACKET], c1, [0xEE; PACKET]] {
            let script = Script::empty().raw(&[3]).raw(&c1).raw(&c2).connect_encoder("live");
            assert_eq!(served(&script).events, ["handshake", "connect live"], "{version:?}");
        }
    }
}

#[test]
fn livestream_studio_wants_a_whole_on_fc_publish() {
    let script = Script::plain().connect_encoder("live").named("FCPublish", 3.0, "key");
    let mut server = served(&script);
    let written = server.messages().pop().unwrap();
    assert_eq!((written.chunk_stream, written.header.message_stream), (3, 0));
    // The name, transaction 0, null, and the information object.
    let expected = hex("02 000B 6F6E46435075626C697368 00 0000000000000000 05
         03 0004 636F6465 02 0017 4E657453747265616D2E5075626C6973682E5374617274
            000B 6465736372697074696F6E 02 0003 6B6579 000009");
    assert_eq!(written.payload, expected);
}

#[test]
fn an_encoder_without_transaction_is_still_told_of_fc_publish() {
    let script = Script::plain().connect_encoder("live").named("FCPublish", 0.0, "key");
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    let said = server.said();
    assert!(said.last().unwrap().starts_with("3/0 onFCPublish 0 null"), "{said:?}");
}
