//! Other servers and load generators that publish to this one.

use relay::wire::amf::Value;
use relay::wire::control::ControlMessage;

use crate::support::digest;
use crate::support::node::Node;
use crate::support::script::{PACKET, Script, hex, metadata, playing};
use crate::support::server::served;

#[test]
fn srs_bench_and_srs_as_client_shake_hands_in_schema_1() {
    let c1 = digest::c1(1, [0x80, 0, 7, 2]);
    let script = Script::after(&c1).connect_encoder("live").create_stream(4.0).publish(1, "s");
    let server = served(&script);
    assert_eq!(server.events, ["digest handshake", "connect live", "publish 1 live/s"]);
    let (s1, s2) = server.output[1..].split_at(PACKET);
    digest::assert_answered(1, &c1, s1, &s2[..PACKET]);
}

#[test]
fn joy4_and_restreamer_announce_a_chunk_size_of_134217728() {
    let mut script = Script::plain()
        .control(ControlMessage::SetChunkSize(134_217_728))
        .connect_encoder("live")
        .create_stream(4.0)
        .publish(1, "s");
    let payload = [&hex("17 01 000000")[..], &[7; 300_000]].concat();
    script = script.video(0, &payload);
    assert_eq!(served(&script).media, [(0, payload)]);
}

#[test]
fn ngx_as_relay_source_has_habits_of_its_own() {
    let key = [&hex("17 01 000000")[..], &[1; 5_000]].concat();
    let audio = hex("AF 01 22");
    let script = Script::after(&digest::c1(1, [0x0D, 0x0E, 0x0A, 0x0D]))
        .control(ControlMessage::SetChunkSize(4_096))
        .connect(&[
            ("app", Value::text("live")),
            ("tcUrl", Value::text("rtmp://h:1935/live")),
            ("pageUrl", Value::text("")),
            ("swfUrl", Value::text("")),
            ("flashVer", Value::text("LNX.11,1,102,55")),
            ("audioCodecs", Value::Number(3575.0)),
            ("videoCodecs", Value::Number(252.0)),
        ])
        .create_stream(2.0)
        .publish(1, "s")
        // Metadata without @setDataFrame.
        .message(4, 1, 0, 18, &metadata(&[("width", Value::Number(640.0))]))
        // Packets made ready once for all: fmt 0, then fmt 1 with deltas, fmt 3 for a delta of 0
        // that is read as the one before it, and fmt 0 again.
        .hex("07 0186A0 00138D 09 01000000")
        .raw(&key[..4_096])
        .hex("C7")
        .raw(&key[4_096..])
        .hex("06 0186A0 000003 08 01000000")
        .raw(&audio)
        .hex("46 000017 000003 08")
        .raw(&audio)
        .hex("C6")
        .raw(&audio)
        .hex("06 0186D0 000003 08 01000000")
        .raw(&audio);
    let mut node = Node::new();
    let mut player = node.client(&playing());
    let mut source = node.client(&script);
    node.run(&mut [&mut player, &mut source], 300);
    assert!(!source.ended);
    let expected = [
        (18, 0, metadata(&[("width", Value::Number(640.0))]).to_vec()),
        (9, 100_000, key),
        (8, 100_000, audio.clone()),
        (8, 100_023, audio.clone()),
        (8, 100_046, audio.clone()),
        (8, 100_048, audio),
    ];
    let got = player.media();
    assert_eq!(got[1..], expected[1..]);
    assert_eq!((got[0].0, &got[0].2), (18, &expected[0].2));
}
