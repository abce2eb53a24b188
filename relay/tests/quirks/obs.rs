//! OBS, old and new.

use std::time::Duration;

use relay::wire::amf::Value;
use relay::wire::control::ControlMessage;

use crate::support::node::Node;
use crate::support::script::{Script, hex, metadata, playing, publishing};
use crate::support::server::{CONNECTED, PUBLISHED, Server, check, served};

#[test]
fn obs_pipelines_sets_its_chunk_size_first_and_never_listens() {
    let script = Script::plain()
        .control(ControlMessage::SetChunkSize(4096))
        .connect_encoder("live")
        .named("releaseStream", 2.0, "s?key=1")
        .named("FCPublish", 3.0, "s?key=1")
        .create_stream(4.0)
        .publish(1, "s?key=1")
        .metadata(&[("duration", Value::Number(0.0)), ("encoder", Value::text("obs"))])
        .video(0, &hex("17 00 000000 0164"))
        .audio(0, &hex("AF 00 1210"))
        .video(0, &[0x17; 9_000]);
    let mut said = CONNECTED.to_vec();
    said.extend([
        "3/0 _result 2 null undefined",
        "3/0 _result 3 null undefined",
        "3/0 onFCPublish 0 null {code=NetStream.Publish.Start, description=s?key=1}",
        "3/0 _result 4 null 1",
        PUBLISHED,
    ]);
    let events = [
        "handshake",
        "connect live",
        "publish 1 live/s?key=1",
        "Metadata 1 55 B",
        "VideoHeader 1 7 B",
        "AudioHeader 1 4 B",
        "KeyFrame 1 9000 B",
    ];
    let mut server = check(&script, &events, &said);
    // Acks are not evaluated and pings not answered; it lives as long as it sends.
    for _ in 0..20 {
        server.now += Duration::from_secs(20);
        let frame = Script::empty().message(6, 1, 0, 9, &hex("27 01 000000"));
        server.feed(&frame.out).unwrap();
        server.session.check_deadline(server.now).unwrap();
    }
    let later = server.said();
    assert!(later.is_empty(), "nothing is asked of it: {later:?}");
    server.now += Duration::from_secs(31);
    assert!(server.session.check_deadline(server.now).is_err(), "silence ends it");
}

/// A video message in chunks of `chunk_bytes` whose continuations lack the extended timestamp.
fn without_repeated_timestamp(timestamp: u32, payload: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut out = hex("06 FFFFFF");
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    out.extend_from_slice(&hex("09 01000000"));
    out.extend_from_slice(&timestamp.to_be_bytes());
    for (place, piece) in payload.chunks(chunk_bytes).enumerate() {
        if place > 0 {
            out.push(0xC6);
        }
        out.extend_from_slice(piece);
    }
    out
}

#[test]
fn obs_before_2024_omits_the_extended_timestamp_of_continuations() {
    for chunk_bytes in [128, 4096] {
        for tail in 0..=5 {
            let size = u32::try_from(chunk_bytes).unwrap();
            let mut script = publishing().control(ControlMessage::SetChunkSize(size));
            let mut expected = Vec::new();
            for (place, timestamp) in [16_777_215, 16_777_216, 0x8000_0000].into_iter().enumerate()
            {
                let mut payload = vec![0x27, 1, 0, 0, place.to_le_bytes()[0]];
                payload.resize(2 * chunk_bytes + tail, 0x3C);
                script = script.raw(&without_repeated_timestamp(timestamp, &payload, chunk_bytes));
                expected.push((timestamp, payload));
            }
            // What ends in a tail may have to wait for what follows it.
            let script = script.message(4, 1, 7, 8, &hex("AF 01 00"));
            expected.push((7, hex("AF 01 00")));
            assert_eq!(served(&script).media, expected, "chunks of {chunk_bytes}, tail {tail}");
            for piece_bytes in [1, 2, 5, chunk_bytes] {
                let mut server = Server::new();
                script.out.chunks(piece_bytes).for_each(|piece| server.feed(piece).unwrap());
                assert_eq!(server.media, expected, "tail {tail} in pieces of {piece_bytes}");
            }
        }
    }
}

#[test]
fn obs_before_may_2024_says_the_same_time_again_with_fmt_3() {
    let mut node = Node::new();
    let mut player = node.client(&playing());
    let key = hex("17 01 000000 AA");
    let script = publishing()
        .video(1_000, &key)
        // Equal length, type and absolute time: meant is a delta of 0, read is the one of 1,000.
        .hex("C6 27 01 000000 BB")
        .video(1_040, &hex("27 01 000000 CC"));
    let mut obs = node.client(&script);
    node.run(&mut [&mut player, &mut obs], 500);
    assert!(!obs.ended && !player.ended, "never fatal");
    let frame = |last: u8| [&hex("27 01 000000")[..], &[last]].concat();
    let expected = [(9, 1_000, key), (9, 2_000, frame(0xBB)), (9, 1_040, frame(0xCC))];
    assert_eq!(player.media(), expected);
}

#[test]
fn obs_custom_key_puts_anything_into_app_and_key() {
    #[track_caller]
    fn check(app: &str, key: &str, expected: &str) {
        let script = Script::plain().connect_encoder(app).create_stream(4.0).publish(1, key);
        let server = served(&script);
        assert_eq!(server.events.last().unwrap(), &format!("publish 1 {expected}"));
    }
    check("", "key", "key");
    check("live", "key?token=1&x", "live/key?token=1&x");
    check("live/inner", "key", "live/inner/key");
    check("live/", "/room/key/", "live/room/key");
    check("live?token=1", "key?token=2", "live/key?token=2");
    check("live/key?token=1", "", "live/key?token=1");
}

#[test]
fn obs_multitrack_mixes_legacy_and_enhanced_tracks_and_announces_neither() {
    let headers = [
        (8, hex("AF 00 1210")),
        (8, hex("95 00 6D703461 01 1190")),
        (9, hex("17 00 000000 0164")),
        (9, hex("96 00 68766331 01 0101")),
    ];
    let media = [
        (9, hex("17 01 000000 AA")),
        (9, hex("96 01 68766331 01 000000 BB")),
        (8, hex("AF 01 CC")),
        (8, hex("95 01 6D703461 01 DD")),
        (9, hex("27 01 000000 EE")),
        (9, hex("A6 01 68766331 01 000000 FF")),
    ];
    let properties = [("videocodecid", Value::Number(7.0))];
    let mut script = publishing().metadata(&properties);
    for (kind, payload) in headers.iter().chain(&media) {
        script = script.message(if *kind == 8 { 4 } else { 6 }, 1, 40, *kind, payload);
    }
    let mut node = Node::new();
    let mut obs = node.client(&script);
    let mut late = node.client(&playing());
    node.run(&mut [&mut obs, &mut late], 200);
    let mut expected = vec![(18, 40, metadata(&properties).to_vec())];
    expected
        .extend(headers.iter().chain(&media).map(|(kind, payload)| (*kind, 40, payload.clone())));
    assert_eq!(late.media(), expected, "every track's header, then from the key frame on");
}
