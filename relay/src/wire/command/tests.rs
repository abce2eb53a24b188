#![allow(clippy::unwrap_used)]

use bytes::BytesMut;

use super::*;
use crate::wire::amf0::{write_string, write_value};
use crate::wire::connect::EnhancedProperties;
use crate::wire::testing::bytes as hex;

fn payload(name: &str, transaction: f64, values: &[Value<'_>]) -> BytesMut {
    let mut out = BytesMut::new();
    write_string(&mut out, name.as_bytes());
    write_value(&mut out, &Value::Number(transaction));
    for value in values {
        write_value(&mut out, value);
    }
    out
}

fn parse(payload: &[u8]) -> Result<Call<'_>, CommandError> {
    Call::parse(MessageType::CommandAmf0, payload, &Limits::default())
}

#[test]
fn every_call_is_understood() {
    #[track_caller]
    fn check(name: &str, arguments: &[Value<'_>], expected: Command<'_>) {
        let mut values = vec![Value::Null];
        values.extend_from_slice(arguments);
        let payload = payload(name, 7.0, &values);
        assert_eq!(parse(&payload), Ok(Call { transaction: 7.0, command: expected.clone() }));
        // The same behind the selector byte of type 17, and without it.
        let mut selected = vec![0];
        selected.extend_from_slice(&payload);
        for bytes in [&selected[..], &payload[..]] {
            let call = Call::parse(MessageType::CommandAmf3, bytes, &Limits::default());
            assert_eq!(call.unwrap().command, expected);
        }
    }
    let name = || Value::text("s?k=v");
    check("createStream", &[], Command::CreateStream);
    check(
        "publish",
        &[name(), Value::text("live")],
        Command::Publish { name: b"s?k=v", kind: b"live" },
    );
    check("publish", &[name()], Command::Publish { name: b"s?k=v", kind: b"" });
    check("publish", &[Value::Null], Command::Publish { name: b"", kind: b"" });
    check("publish", &[], Command::Publish { name: b"", kind: b"" });
    check("publish", &[Value::Boolean(false)], Command::CloseStream);
    let play = |start, duration, reset| Command::Play {
        name: b"s?k=v",
        range: PlayRange { start, duration, reset },
    };
    let [minus, seven] = [-2000.0, 7.0].map(Value::Number);
    check("play", &[name()], play(0, 0, false));
    check("play", &[name(), minus.clone()], play(-2000, 0, false));
    check("play", &[name(), minus, seven, Value::Boolean(true)], play(-2000, 7, true));
    check("play", &[name(), Value::Null, Value::Number(f64::NAN)], play(0, 0, false));
    check("play", &[Value::Boolean(false)], Command::CloseStream);
    check("play2", &[Value::object([("streamName", name())])], play(0, 0, false));
    let later = [("streamName", name()), ("start", Value::Number(9.5))];
    check("play2", &[Value::object(later)], play(9, 0, false));
    check("pause", &[Value::Boolean(true), Value::Number(0.0)], Command::Pause { paused: true });
    check("pause", &[Value::Boolean(false)], Command::Pause { paused: false });
    check("pauseRaw", &[Value::Number(0.0)], Command::Pause { paused: false });
    check("pause", &[], Command::Pause { paused: true });
    check("seek", &[Value::Number(5.0)], Command::Seek { milliseconds: 5.0 });
    check("receiveAudio", &[Value::Boolean(false)], Command::ReceiveAudio(false));
    check("receiveVideo", &[Value::Boolean(true)], Command::ReceiveVideo(true));
    check("deleteStream", &[Value::Number(3.0)], Command::DeleteStream(Some(3)));
    check("deleteStream", &[Value::Number(-3.0)], Command::DeleteStream(Some(0)));
    check("deleteStream", &[name()], Command::DeleteStream(None));
    check("deleteStream", &[], Command::DeleteStream(None));
    check("closeStream", &[], Command::CloseStream);
    check("releaseStream", &[name()], Command::ReleaseStream);
    check("FCPublish", &[name()], Command::FcPublish { name: b"s?k=v" });
    check("FCPublish", &[], Command::FcPublish { name: b"" });
    check("FCUnpublish", &[name()], Command::FcUnpublish { name: b"s?k=v" });
    check("FCSubscribe", &[name()], Command::FcSubscribe);
    check("getStreamLength", &[name()], Command::GetStreamLength);
    check("_checkbw", &[], Command::CheckBandwidth);
    check("close", &[], Command::Close);
    check("createstream", &[], Command::Unknown { name: b"createstream" });
    check(
        "_result",
        &[Value::Number(1.0)],
        Command::Answer(Answer { success: true, object: Value::Null, value: Value::Number(1.0) }),
    );
    let information = Value::object([
        ("level", Value::text("error")),
        ("code", Value::text("a.b")),
        ("description", Value::text("c")),
        ("tcUrl", Value::text("d")),
    ]);
    check(
        "onStatus",
        &[information],
        Command::Status(Status {
            level: b"error",
            code: b"a.b",
            description: b"c",
            tc_url: Some(b"d"),
            redirect: None,
        }),
    );
    check("onStatus", &[], Command::Status(Status::default()));
}

#[test]
fn connect_is_read_whatever_its_properties() {
    let list = Value::StrictArray(vec![Value::text("hvc1"), Value::Null, Value::text("av01")]);
    let properties = Value::object([
        ("app", Value::text("live")),
        ("type", Value::text("nonprivate")),
        ("flashVer", Value::text("x")),
        ("swfUrl", Value::Null),
        ("tcurl", Value::text("rtmp://h/live")),
        ("fpad", Value::Boolean(true)),
        ("capabilities", Value::Number(239.0)),
        ("audioCodecs", Value::Number(f64::NAN)),
        ("videoFunction", Value::Number(1.0)),
        ("objectEncoding", Value::Number(3.0)),
        ("CapsEx", Value::Number(3.0)),
        ("fourCcList", list),
        ("videoFourCcInfoMap", Value::object([("hvc1", Value::Number(3.0))])),
    ]);
    let payload = payload("connect", 1.0, &[properties, Value::text("extra")]);
    let Command::Connect(found) = parse(&payload).unwrap().command else { panic!("connect") };
    let expected = ConnectProperties {
        app: b"live",
        tc_url: b"rtmp://h/live",
        flash_ver: b"x",
        kind: b"nonprivate",
        fpad: true,
        capabilities: 239,
        video_function: 1,
        object_encoding: Some(3.0),
        enhanced: Some(EnhancedProperties {
            caps_ex: 3,
            four_cc_list: vec![b"hvc1", b"av01"],
            video_four_cc: vec![(b"hvc1", 3)],
            audio_four_cc: vec![],
        }),
        ..ConnectProperties::default()
    };
    assert_eq!(*found, expected);
    // Cut inside its properties it cannot be read; after them the rest is not needed.
    for end in 0..payload.len() {
        match parse(&payload[..end]) {
            Ok(call) => assert!(matches!(call.command, Command::Connect(_)), "cut at {end}"),
            Err(CommandError::Name) => assert!(end < 10, "cut at {end}"),
            Err(error) => assert!(end < payload.len() - 8, "cut at {end}: {error}"),
        }
    }
}

#[test]
fn only_what_a_connection_stands_on_must_be_readable() {
    #[track_caller]
    fn check(bytes: &str, expected: Result<Call<'_>, CommandError>) {
        assert_eq!(parse(&hex(bytes)), expected);
    }
    let truncated = |command| CommandError::Unreadable { command, fault: AmfError::Truncated };
    let missing = |command, argument| CommandError::Missing { command, argument };
    let call = |command| Ok(Call { transaction: 0.0, command });
    check("", Err(CommandError::Name));
    check("00 3FF0000000000000", Err(CommandError::Name));
    check("02 0007 63", Err(CommandError::Name));
    check("02 0007 636F6E6E656374 00", Err(truncated("connect")));
    check("02 0007 636F6E6E656374 00 3FF0000000000000 03 0003", Err(truncated("connect")));
    check("02 0007 636F6E6E656374 00 3FF0000000000000 05", {
        Err(missing("connect", "properties"))
    });
    check("02 0007 7075626C697368 00 0000000000000000 05 02 0005 61", Err(truncated("publish")));
    check("02 0007 7075626C697368 00 0000000000000000 05 00 0000000000000000", {
        Err(missing("publish", "stream name"))
    });
    check("02 0004 706C6179 00 0000000000000000 05 04", {
        Err(CommandError::Unreadable { command: "play", fault: AmfError::Marker(4) })
    });
    check("02 0005 706C617932 00 0000000000000000 05 05", Err(missing("play2", "streamName")));
    check("02 000B 636C6F736553747265616D", call(Command::CloseStream));
    check("02 0004 7365656B 00 0000000000000000 05 04", {
        call(Command::Seek { milliseconds: 0.0 })
    });
}
