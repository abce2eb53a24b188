//! What a server says: the payloads of answers and status messages (type 20) and of
//! `|RtmpSampleAccess` (type 18).
//!
//! The name is always a short string and comes first, because FFmpeg compares bytes at fixed
//! offsets; the information object is always the fourth value.

use bytes::BytesMut;

use super::amf::Value;
use super::amf0::{write_string, write_value};

/// How far a status is from good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is well.
    Status,
    /// What was asked for will not happen.
    Error,
}

impl Level {
    /// As written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Error => "error",
        }
    }
}

/// The server's version, as Flash Media Server would say it; some clients look at its form.
const SERVER_VERSION: &str = "FMS/3,5,7,7009";
const CAPABILITIES: f64 = 31.0;
/// E-RTMP "can forward", for every codec: a relay passes on what it does not understand.
const CAN_FORWARD: f64 = 4.0;
/// The capability bits of E-RTMP: multitrack, modifier packets and nanosecond offsets pass through
/// unchanged, and clients are asked to connect elsewhere (reconnect).
const CAPS_EX: f64 = 15.0;

/// The answer to a successful `connect`. The E-RTMP fields are named only to a client that named
/// some itself, and then in both objects, because the specification does not say in which.
pub fn connect_result(out: &mut BytesMut, transaction: f64, object_encoding: f64, enhanced: bool) {
    let enhanced_fields = || {
        let every = |bits| Value::object([("*", Value::Number(bits))]);
        [
            ("fourCcList", Value::StrictArray(vec![Value::text("*")])),
            ("videoFourCcInfoMap", every(CAN_FORWARD)),
            ("audioFourCcInfoMap", every(CAN_FORWARD)),
            ("capsEx", Value::Number(CAPS_EX)),
        ]
        .into_iter()
        .map(|(key, value)| (key.as_bytes(), value))
        .filter(|_| enhanced)
    };
    let mut server = vec![
        (&b"fmsVer"[..], Value::text(SERVER_VERSION)),
        (b"capabilities", Value::Number(CAPABILITIES)),
    ];
    server.extend(enhanced_fields());
    let mut information = vec![
        (&b"level"[..], Value::text(Level::Status.as_str())),
        (b"code", Value::text("NetConnection.Connect.Success")),
        (b"description", Value::text("Connection succeeded.")),
        (b"objectEncoding", Value::Number(object_encoding)),
    ];
    information.extend(enhanced_fields());
    call(out, "_result", transaction, &[Value::Object(server), Value::Object(information)]);
}

/// `_result` with its two values: properties or null, and what the call gave.
pub fn result(out: &mut BytesMut, transaction: f64, value: Value<'_>) {
    call(out, "_result", transaction, &[Value::Null, value]);
}

/// `_error` with an information object.
pub fn error(out: &mut BytesMut, transaction: f64, code: &str, description: &str) {
    let information = information(Level::Error, code, description, None);
    call(out, "_error", transaction, &[Value::Null, information]);
}

/// `onStatus`; `detail` is one more property of the information object.
pub fn status(
    out: &mut BytesMut,
    level: Level,
    code: &str,
    description: &str,
    detail: Option<(&str, &str)>,
) {
    call(out, "onStatus", 0.0, &[Value::Null, information(level, code, description, detail)]);
}

/// `onStatus` that sends a client elsewhere, as SRS says it: `redirect` is the `tcUrl` to connect
/// to, `redirect2` the whole URL. Clients that do not know it see a refusal.
pub fn redirect(out: &mut BytesMut, description: &str, tc_url: &str, url: &str) {
    const CODE: f64 = 302.0;
    let ex = Value::object([
        ("code", Value::Number(CODE)),
        ("redirect", Value::text(tc_url)),
        ("redirect2", Value::text(url)),
    ]);
    let information = Value::object([
        ("level", Value::text(Level::Error.as_str())),
        ("code", Value::text("NetConnection.Connect.Rejected")),
        ("description", Value::text(description)),
        ("ex", ex),
    ]);
    call(out, "onStatus", 0.0, &[Value::Null, information]);
}

/// `onFCPublish` or `onFCUnpublish`. Encoders want the transaction id 0 and the null.
pub fn on_fc(out: &mut BytesMut, name: &str, code: &str, description: &[u8]) {
    let information =
        Value::object([("code", Value::text(code)), ("description", Value::String(description))]);
    call(out, name, 0.0, &[Value::Null, information]);
}

/// The data message that lets Flash look at samples; others ignore it.
pub fn sample_access(out: &mut BytesMut) {
    write_string(out, b"|RtmpSampleAccess");
    write_value(out, &Value::Boolean(true));
    write_value(out, &Value::Boolean(true));
}

/// Any call: name, transaction id, values.
pub fn call(out: &mut BytesMut, name: &str, transaction: f64, values: &[Value<'_>]) {
    write_string(out, name.as_bytes());
    write_value(out, &Value::Number(transaction));
    for value in values {
        write_value(out, value);
    }
}

fn information<'a>(
    level: Level,
    code: &'a str,
    description: &'a str,
    detail: Option<(&'a str, &'a str)>,
) -> Value<'a> {
    let mut properties = vec![
        (&b"level"[..], Value::text(level.as_str())),
        (b"code", Value::text(code)),
        (b"description", Value::text(description)),
    ];
    properties.extend(detail.map(|(key, value)| (key.as_bytes(), Value::text(value))));
    Value::Object(properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::bytes as hex;

    #[track_caller]
    fn check(write: impl FnOnce(&mut BytesMut), expected: &str, length: usize) {
        let mut out = BytesMut::new();
        write(&mut out);
        assert_eq!(out, hex(expected));
        assert_eq!(out.len(), length);
    }

    const CONNECT_SUCCESS: &str = "02 0007 5F726573756C74 00 3FF0000000000000
        03 0006 666D73566572 02 000E 464D532F332C352C372C37303039
           000C 6361706162696C6974696573 00 403F000000000000 000009
        03 0005 6C6576656C 02 0006 737461747573
           0004 636F6465 02 001D 4E6574436F6E6E656374696F6E2E436F6E6E6563742E53756363657373
           000B 6465736372697074696F6E 02 0015 436F6E6E656374696F6E207375636365656465642E
           000E 6F626A656374456E636F64696E67 00 0000000000000000 000009";

    #[test]
    fn answers_have_the_bytes_that_clients_compare() {
        check(
            |out| result(out, 4.0, Value::Number(1.0)),
            "02 0007 5F726573756C74 00 4010000000000000 05 00 3FF0000000000000",
            29,
        );
        check(|out| connect_result(out, 1.0, 0.0, false), CONNECT_SUCCESS, 191);
        check(
            |out| {
                let code = "NetStream.Publish.Start";
                status(out, Level::Status, code, "Start publishing", None);
            },
            "02 0008 6F6E537461747573 00 0000000000000000 05
             03 0005 6C6576656C 02 0006 737461747573
                0004 636F6465 02 0017 4E657453747265616D2E5075626C6973682E5374617274
                000B 6465736372697074696F6E 02 0010 5374617274207075626C697368696E67 000009",
            105,
        );
        check(sample_access, "02 0011 7C52746D7053616D706C65416363657373 01 01 01 01", 24);
        check(
            |out| on_fc(out, "onFCPublish", "x", b"y"),
            "02 000B 6F6E46435075626C697368 00 0000000000000000 05
             03 0004 636F6465 02 0001 78 000B 6465736372697074696F6E 02 0001 79 000009",
            55,
        );
        check(
            |out| error(out, 1.0, "x", "y"),
            "02 0006 5F6572726F72 00 3FF0000000000000 05
             03 0005 6C6576656C 02 0005 6572726F72 0004 636F6465 02 0001 78
                000B 6465736372697074696F6E 02 0001 79 000009",
            65,
        );
    }
}
