//! AMF: the commands with which a connection begins.

use std::hint::black_box;

use bytes::BytesMut;
use relay::wire::amf::Value;
use relay::wire::amf0::{write_string, write_value};
use relay::wire::command::{Call, Command};
use relay::wire::message::MessageType;

use super::material;
use crate::case::{Case, Per, Work};

pub(super) fn cases() -> [Case; 2] {
    [
        Case {
            name: "command-connect",
            what: "parse connect, as FFmpeg sends it",
            per: Per::Each("command"),
            aim: None,
            counted: Some((100, 1_100)),
            prepare: || parse(&connect(), |command| matches!(command, Command::Connect(_))),
        },
        Case {
            name: "command-publish",
            what: "parse publish",
            per: Per::Each("command"),
            aim: None,
            counted: Some((100, 1_100)),
            prepare: || {
                let arguments = [Value::Null, Value::text("camera"), Value::text("live")];
                let payload = payload("publish", &arguments);
                parse(&payload, |command| {
                    matches!(command, Command::Publish { name: b"camera", .. })
                })
            },
        },
    ]
}

fn parse(payload: &[u8], expected: fn(&Command<'_>) -> bool) -> Work {
    let limits = material::limits();
    let payload = payload.to_vec();
    Work::new(BATCH, move |meter| {
        let mut sound = 0;
        meter.measure(|| {
            for _ in 0..BATCH {
                let kind = black_box(MessageType::CommandAmf0);
                let call = Call::parse(kind, black_box(&payload), &limits);
                sound += usize::from(call.is_ok_and(|call| expected(black_box(&call.command))));
            }
        });
        assert_eq!(sound, BATCH, "commands understood");
    })
}

fn connect() -> BytesMut {
    let properties = Value::object([
        ("app", Value::text("live")),
        ("type", Value::text("nonprivate")),
        ("flashVer", Value::text("FMLE/3.0 (compatible; Lavf59.27.100)")),
        ("tcUrl", Value::text("rtmp://relay.example:1935/live")),
        ("fpad", Value::Boolean(false)),
        ("capabilities", Value::Number(15.0)),
        ("audioCodecs", Value::Number(4_071.0)),
        ("videoCodecs", Value::Number(252.0)),
        ("videoFunction", Value::Number(1.0)),
    ]);
    payload("connect", &[properties])
}

fn payload(name: &str, arguments: &[Value<'_>]) -> BytesMut {
    let mut out = BytesMut::new();
    write_string(&mut out, name.as_bytes());
    write_value(&mut out, &Value::Number(1.0));
    arguments.iter().for_each(|argument| write_value(&mut out, argument));
    out
}

const BATCH: usize = 16;
