//! What is remembered of a client, and what clients of one kind are told: those that know Enhanced
//! RTMP, AMF3 or the digest. The first flights of real clients are among the quirks.

use super::*;
use crate::wire::testing::bytes;

const BEGIN: &str = "handshake\nconnect live\n";

#[test]
fn ffmpeg_publishes_with_the_chunk_size_it_was_told() {
    let script = Script::new()
        .connect(&[
            ("app", Value::text("live")),
            ("type", Value::text("nonprivate")),
            ("flashVer", Value::text("FMLE/3.0 (compatible; Lavf58.76.100)")),
            ("tcUrl", Value::text("rtmp://h:1935/live")),
        ])
        .control(ControlMessage::SetChunkSize(60_000))
        .named(0, "releaseStream", 2.0, "s")
        .named(0, "FCPublish", 3.0, "s")
        .create_stream()
        .publish(1, "s")
        .metadata(1)
        .message(6, 1, 9, &vec![0x17; 200_000])
        .named(0, "FCUnpublish", 6.0, "s")
        .call(3, 0, "deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]);
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    assert_lines(
        &server.events,
        &format!("{BEGIN}publish 1 live/s\nMetadata 1 37 B\nKeyFrame 1 200000 B\nend publish 1"),
    );
    assert_eq!(server.session.state(), SessionState::Idle);
    let client = server.session.client().unwrap();
    assert_eq!(client.flash_ver, "FMLE/3.0 (compatible; Lavf58.76.100)");
    assert_eq!(client.host, "h");
    assert_eq!(client.tc_url(), "rtmp://h:1935/live");
}

#[test]
fn fmle_publishes_three_streams_on_one_connection() {
    let mut script = Script::connected("live");
    for (stream, name) in [(1, "a"), (2, "b"), (3, "c")] {
        script = script.create_stream().publish(stream, name).video(stream);
    }
    let mut server = Server::new();
    server.feed(&script.named(0, "FCUnpublish", 0.0, "b").video(2).out).unwrap();
    assert_lines(
        &server.events,
        &format!(
            "{BEGIN}publish 1 live/a
            KeyFrame 1 5 B
            publish 2 live/b
            KeyFrame 2 5 B
            publish 3 live/c
            KeyFrame 3 5 B
            end publish 2
            dropped not_publishing"
        ),
    );
}

#[test]
fn enhanced_clients_are_told_what_we_forward() {
    let script = Script::new()
        .connect(&[
            ("app", Value::text("live")),
            ("swfUrl", Value::Null),
            ("capsEx", Value::Number(3.0)),
            ("fourCcList", Value::StrictArray(vec![Value::text("hvc1"), Value::text("av\n1")])),
            ("videoFourCcInfoMap", Value::object([("hvc1", Value::Number(3.0))])),
        ])
        .create_stream();
    let fields = "fourCcList=[*], videoFourCcInfoMap={*=4}, audioFourCcInfoMap={*=4}, capsEx=15";
    let connected = CONNECTED
        .replace("capabilities=31", &format!("capabilities=31, {fields}"))
        .replace("objectEncoding=0", &format!("objectEncoding=0, {fields}"));
    let mut server = check(script, BEGIN, &format!("{connected}3/0 _result 4 null 1"));
    let client = server.session.client().unwrap();
    assert_eq!(client.caps_ex(), 3);
    let codecs = client.enhanced.clone().unwrap().codecs;
    let expected = [("hvc1", 3), ("av?1", 0)];
    assert_eq!(codecs, expected.map(|(name, bits)| (name.to_owned(), bits)));

    assert!(server.session.reconnect_request(Some("rtmp://other/live")));
    assert!(server.session.reconnect_request(None));
    server.feed(&[]).unwrap();
    let code = "NetConnection.Connect.ReconnectRequest, description=Please connect again";
    assert_lines(
        &server.said(),
        &format!(
            "3/0 onStatus 0 null {{level=status, code={code}, tcUrl=rtmp://other/live}}
            3/0 onStatus 0 null {{level=status, code={code}}}"
        ),
    );
}

#[test]
fn an_amf3_client_is_answered_in_amf0() {
    let mut payload = BytesMut::new();
    payload.extend_from_slice(&[0]);
    write_string(&mut payload, b"connect");
    write_value(&mut payload, &Value::Number(1.0));
    write_value(
        &mut payload,
        &Value::object([("app", Value::text("live")), ("objectEncoding", Value::Number(3.0))]),
    );
    let script = Script::new().message(3, 0, 17, &payload);
    let said = CONNECTED.replace("objectEncoding=0", "objectEncoding=3");
    check(script, BEGIN, &said);
}

#[test]
fn a_digest_handshake_is_noticed() {
    // A worked C1 of schema 1, with its digest at 66; FFmpeg and Flash send such.
    let digest = "57558039f689da2cd14bff731a86b6af64501620e140ff7d2265d3260626b728";
    let mut script = Script::connected("live");
    let c1 = &mut script.out[1..1537];
    c1[4..8].copy_from_slice(&[0x80, 0, 7, 2]);
    for (index, byte) in c1[8..].iter_mut().enumerate() {
        *byte = u8::try_from((7 * index + 3) % 256).unwrap();
    }
    c1[66..98].copy_from_slice(&bytes(digest));
    check(script, &format!("digest {BEGIN}"), CONNECTED);
    // A version without a digest is a plain handshake.
    let mut script = Script::connected("live");
    script.out[5..9].copy_from_slice(&[9, 0, 0x7c, 2]);
    check(script, BEGIN, CONNECTED);
}
