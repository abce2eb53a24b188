//! FFmpeg as publisher and as player.

use relay::wire::amf::Value;
use relay::wire::control::{ControlMessage, UserControl};

use crate::support::digest;
use crate::support::node::Node;
use crate::support::script::{PACKET, Script, call, hex, metadata, playing, publishing};
use crate::support::server::{CONNECTED, PLAYED, PUBLISHED, check};

/// The version that FFmpeg writes into C1.
pub(crate) const VERSION: [u8; 4] = [9, 0, 0x7C, 2];

/// Its handshake and connect as a publisher.
fn publisher() -> Script {
    Script::after(&digest::c1(1, VERSION)).connect(&[
        ("app", Value::text("live")),
        ("type", Value::text("nonprivate")),
        ("flashVer", Value::text("FMLE/3.0 (compatible; Lavf58.76.100)")),
        ("tcUrl", Value::text("rtmp://h:1935/live")),
    ])
}

#[test]
fn ffmpeg_publish_is_answered_with_a_digest_and_adopts_our_chunk_size() {
    // C2 and connect come in one piece, which `check` plays too.
    let script = publisher()
        .control(ControlMessage::SetChunkSize(60_000))
        .named("releaseStream", 2.0, "s")
        .named("FCPublish", 3.0, "s")
        .create_stream(4.0)
        .call(8, 1, "publish", 5.0, &[Value::Null, Value::text("s"), Value::text("live")])
        .metadata(&[("encoder", Value::text("Lavf58.76.100"))])
        .video(0, &[0x17; 150_000]);
    let mut said = CONNECTED.to_vec();
    said.extend([
        "3/0 _result 2 null undefined",
        "3/0 _result 3 null undefined",
        "3/0 onFCPublish 0 null {code=NetStream.Publish.Start, description=s}",
        "3/0 _result 4 null 1",
        PUBLISHED,
    ]);
    let events = [
        "digest handshake",
        "connect live",
        "publish 1 live/s",
        "Metadata 1 46 B",
        "KeyFrame 1 150000 B",
    ];
    let server = check(&script, &events, &said);
    let c1 = digest::c1(1, VERSION);
    let (s1, s2) = server.output[1..].split_at(PACKET);
    digest::assert_answered(1, &c1, s1, &s2[..PACKET]);
}

#[test]
fn ffmpeg_play_asks_for_the_length_and_starts_at_minus_2000() {
    let script = Script::after(&digest::c1(1, VERSION))
        .connect(&[
            ("app", Value::text("live")),
            ("flashVer", Value::text("LNX 9,0,124,2")),
            ("tcUrl", Value::text("rtmp://h:1935/live")),
            ("fpad", Value::Boolean(false)),
            ("capabilities", Value::Number(15.0)),
            ("audioCodecs", Value::Number(4071.0)),
            ("videoCodecs", Value::Number(252.0)),
            ("videoFunction", Value::Number(1.0)),
        ])
        .control(ControlMessage::WindowAckSize(2_500_000))
        .create_stream(2.0)
        .call(8, 0, "getStreamLength", 3.0, &[Value::Null, Value::text("s")])
        .play(1, "s")
        .control(ControlMessage::UserControl(UserControl::SetBufferLength {
            message_stream: 1,
            milliseconds: 3000,
        }));
    let mut said = CONNECTED.to_vec();
    said.extend(["3/0 _result 2 null 1", "3/0 _result 3 null 0"]);
    said.extend(PLAYED);
    let server = check(&script, &["digest handshake", "connect live", "play 1 live/s"], &said);
    let (s1, s2) = server.output[1..].split_at(PACKET);
    digest::assert_answered(1, &digest::c1(1, VERSION), s1, &s2[..PACKET]);
}

#[test]
fn ffmpeg_play_takes_a_plain_answer_only_with_four_zero_bytes() {
    // A version, but no valid digest.
    let mut c1 = digest::c1(1, VERSION);
    c1[100] ^= 1;
    c1[700] ^= 1;
    let server = check(&Script::after(&c1), &["handshake"], &[]);
    assert_eq!(server.output[5..9], [0; 4], "S1 promises no digest");
    assert_eq!(server.output[1 + PACKET..1 + 2 * PACKET], c1, "S2 echoes C1");
}

/// What is sent, and what of it reaches a player.
type Case<'a> = (&'a str, &'a [u8], Option<Vec<u8>>);

#[test]
fn ffmpeg_play_is_spared_data_messages_that_break_it() {
    let long_name = call(&"n".repeat(100), 0.0, &[]);
    let unended =
        hex("02 000A 6F6E4D65746144617461 08 00000001 0005 7769647468 00 4084000000000000");
    let long_key = metadata(&[(&"k".repeat(128), Value::Null), ("width", Value::Number(640.0))]);
    let cases: [Case<'_>; 6] = [
        ("four bytes that are no AMF", &[0, 0, 0, 1], None),
        ("an object first", &hex("03 0001 61 05 000009"), None),
        ("a name of 100 bytes", &long_name, None),
        (
            "metadata without its end",
            &unended,
            Some(metadata(&[("width", Value::Number(640.0))]).to_vec()),
        ),
        (
            "metadata with a long key",
            &long_key,
            Some(metadata(&[("width", Value::Number(640.0))]).to_vec()),
        ),
        ("metadata without a body", &hex("02 000A 6F6E4D65746144617461"), None),
    ];
    let mut node = Node::new();
    let mut player = node.client(&playing());
    let mut publisher = node.client(&publishing());
    let key = hex("17 01 000000");
    publisher.send(&Script::empty().video(0, &key).out);
    node.run(&mut [&mut publisher, &mut player], 200);
    assert_eq!(player.media(), [(9, 0, key)]);
    for (name, payload, expected) in cases {
        publisher.send(&Script::empty().message(5, 1, 0, 18, payload).out);
        node.run(&mut [&mut publisher, &mut player], 200);
        let got: Vec<_> = player.media().into_iter().map(|(_, _, payload)| payload).collect();
        assert_eq!(got, expected.into_iter().collect::<Vec<_>>(), "{name}");
        assert!(!publisher.ended, "{name}");
    }
}

#[test]
fn ffmpeg_end_says_it_twice() {
    // The second command is a fmt-3 message when it is as long as the first.
    let first = call("FCUnpublish", 6.0, &[Value::Null, Value::text("s")]);
    let second = call("deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]);
    let script = publishing().message(3, 0, 0, 20, &first).message(3, 0, 0, 20, &second);
    let mut said = CONNECTED.to_vec();
    said.extend([
        "3/0 _result 4 null 1",
        PUBLISHED,
        "3/0 onFCUnpublish 0 null {code=NetStream.Unpublish.Success, description=s}",
        "3/0 _result 6 null undefined",
        "5/1 onStatus 0 null {level=status, code=NetStream.Unpublish.Success, \
         description=Stopped publishing}",
    ]);
    let events = ["handshake", "connect live", "publish 1 live/s", "end publish 1"];
    check(&script, &events, &said);
    let padded = call("deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]);
    let same = call("deleteStream", 8.0, &[Value::Null, Value::Number(1.0)]);
    assert_eq!(padded.len(), same.len());
    let script = publishing().message(3, 0, 0, 20, &padded).raw(&[0xC3]).raw(&same);
    let mut said = CONNECTED.to_vec();
    said.extend(["3/0 _result 4 null 1", PUBLISHED]);
    check(&script, &events, &said);
}
