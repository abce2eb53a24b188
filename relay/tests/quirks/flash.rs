//! Flash Player, AIR, and players that grew up with their streams.

use relay::wire::amf::Value;

use crate::support::digest;
use crate::support::node::{Client, Node};
use crate::support::script::{PACKET, Script, hex, metadata, playing, publishing};
use crate::support::server::served;

/// What Flash says first.
fn connected() -> Script {
    Script::after(&digest::c1(0, [10, 0, 32, 18])).connect(&[
        ("app", Value::text("live")),
        ("flashVer", Value::text("WIN 32,0,0,465")),
        ("swfUrl", Value::text("http://h/player.swf")),
        ("tcUrl", Value::text("rtmp://h/live")),
        ("fpad", Value::Boolean(false)),
        ("capabilities", Value::Number(239.0)),
        ("audioCodecs", Value::Number(3575.0)),
        ("videoCodecs", Value::Number(252.0)),
        ("videoFunction", Value::Number(1.0)),
        ("pageUrl", Value::text("http://h/")),
        ("objectEncoding", Value::Number(3.0)),
    ])
}

fn flash() -> Script {
    connected().create_stream(2.0).play(1, "s")
}

/// A command on the played stream.
fn ask(client: &mut Client, name: &str, value: bool) {
    let script = Script::empty().call(8, 1, name, 0.0, &[Value::Null, Value::Boolean(value)]);
    client.send(&script.out);
}

fn kinds(client: &mut Client) -> Vec<u8> {
    client.media().into_iter().map(|(kind, _, _)| kind).collect()
}

/// A picture and a sound.
fn both(time: u32, key: bool) -> Script {
    let frame = if key { hex("17 01 000000 AA") } else { hex("27 01 000000 BB") };
    Script::empty().video(time, &frame).audio(time, &hex("AF 01 CC"))
}

#[test]
fn flash_needs_the_digest_and_access_to_samples() {
    let c1 = digest::c1(0, [10, 0, 32, 18]);
    let mut server = served(&flash());
    assert_eq!(server.events[0], "digest handshake");
    let (s1, s2) = server.output[1..].split_at(PACKET);
    digest::assert_answered(0, &c1, s1, &s2[..PACKET]);
    let said = server.said();
    assert!(said[3].ends_with("objectEncoding=3}"), "its encoding is echoed: {said:?}");
    assert_eq!(said.last().unwrap(), "5/1 |RtmpSampleAccess true true");
}

#[test]
fn flash_with_object_encoding_3_speaks_in_type_17_and_is_answered_in_type_20() {
    let amf3 = |name: &str, transaction: f64, values: &[Value<'_>]| {
        let mut payload = vec![0];
        payload.extend_from_slice(&crate::support::script::call(name, transaction, values));
        payload
    };
    let mut script = connected();
    // Null in AMF3, behind the marker that leads there.
    let mut create = amf3("createStream", 2.0, &[]);
    create.extend_from_slice(&hex("11 01"));
    script = script.message(3, 0, 0, 17, &create);
    let mut play = amf3("play", 3.0, &[Value::Null]);
    play.extend_from_slice(&hex("11 06 03 73"));
    script = script.message(8, 1, 0, 17, &play);
    let mut server = served(&script);
    assert_eq!(server.events.last().unwrap(), "play 1 live/s");
    let types: Vec<u8> = server.messages().iter().map(|message| message.header.kind.id()).collect();
    assert_eq!(types, [5, 6, 1, 20, 20, 4, 20, 20, 18]);
}

#[test]
fn flash_receive_video_comes_back_at_a_key_frame_with_headers() {
    let mut node = Node::new();
    let header = hex("17 00 000000 0164");
    let mut encoder = node.client(&publishing().video(0, &header));
    let mut player = node.client(&flash());
    encoder.send(&both(0, true).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    assert_eq!(kinds(&mut player), [9, 9, 8], "header, picture, sound");
    ask(&mut player, "receiveVideo", false);
    node.run(&mut [&mut encoder, &mut player], 100);
    encoder.send(&both(40, false).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    assert_eq!(kinds(&mut player), [8]);
    ask(&mut player, "receiveVideo", true);
    node.run(&mut [&mut encoder, &mut player], 100);
    let said = player.said().join("\n");
    assert!(said.contains("NetStream.Seek.Notify") && said.contains("NetStream.Play.Start"));
    encoder.send(&both(80, false).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    assert_eq!(kinds(&mut player), [8], "no picture before a key frame");
    encoder.send(&both(120, true).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    let back = player.media();
    assert_eq!(back[0], (9, 120, header), "the header again, at the key frame's time");
    assert_eq!(back[1].2, hex("17 01 000000 AA"));
}

#[test]
fn flash_pause_stops_everything_until_a_key_frame_after_it() {
    let mut node = Node::new();
    let mut encoder = node.client(&publishing());
    let mut player = node.client(&flash());
    encoder.send(&both(0, true).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    assert_eq!(kinds(&mut player), [9, 8]);
    ask(&mut player, "pause", true);
    node.run(&mut [&mut encoder, &mut player], 100);
    assert!(player.said().join("\n").contains("NetStream.Pause.Notify"));
    encoder.send(&both(40, true).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    assert_eq!(kinds(&mut player), [0_u8; 0]);
    ask(&mut player, "pause", false);
    node.run(&mut [&mut encoder, &mut player], 100);
    encoder.send(&both(80, false).out);
    encoder.send(&both(120, true).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    let times: Vec<_> = player.media().into_iter().map(|(kind, time, _)| (kind, time)).collect();
    assert_eq!(times, [(9, 120), (8, 120)]);
}

#[test]
fn exoplayer_is_told_no_duration_that_a_live_stream_cannot_have() {
    let mut node = Node::new();
    let mut player = node.client(&playing());
    let sent = [
        ("duration", Value::Number(30.5)),
        ("width", Value::Number(640.0)),
        ("filesize", Value::Number(0.0)),
    ];
    let script = publishing().metadata(&sent).video(0, &hex("17 01 000000"));
    let mut encoder = node.client(&script);
    node.run(&mut [&mut encoder, &mut player], 100);
    let expected = metadata(&[sent[1].clone(), sent[2].clone()]);
    assert_eq!(player.media()[0].2, expected.to_vec());
    // Zero is what live encoders write, and is passed on as it came.
    let sent = [("duration", Value::Number(0.0)), ("width", Value::Number(640.0))];
    encoder.send(&Script::empty().metadata(&sent).out);
    node.run(&mut [&mut encoder, &mut player], 100);
    assert_eq!(player.media()[0].2, metadata(&sent).to_vec());
}
