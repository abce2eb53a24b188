//! Events and AMF0 values as words, so that conversations can be compared as text. The unit tests
//! of the sessions use this file, too.

use relay::limits::Limits;
use relay::session::{ServerEvent, StreamRequest};
use relay::wire::amf::Value;
use relay::wire::amf0::Amf0Reader;

/// An event on one line.
pub(crate) fn show_event(event: &ServerEvent<'_>) -> String {
    let address = |request: &StreamRequest| {
        let address = &request.address;
        let query = if address.query.is_empty() { "" } else { "?" };
        format!("{} {}{query}{}", request.message_stream, address.name, address.query)
    };
    match event {
        ServerEvent::HandshakeDone { digest: false } => "handshake".into(),
        ServerEvent::HandshakeDone { digest: true } => "digest handshake".into(),
        ServerEvent::Connect(request) => format!("connect {}", request.app),
        ServerEvent::Publish(request) => format!("publish {}", address(request)),
        ServerEvent::Play(request) => format!("play {}", address(request)),
        ServerEvent::Media { message_stream, message } => {
            let role = message.class().role;
            format!("{role:?} {message_stream} {} B", message.payload_bytes())
        }
        ServerEvent::ClearMetadata { message_stream } => format!("clear {message_stream}"),
        ServerEvent::EndPublish { message_stream } => format!("end publish {message_stream}"),
        ServerEvent::EndPlay { message_stream } => format!("end play {message_stream}"),
        ServerEvent::Pause { message_stream, paused } => format!("pause {message_stream} {paused}"),
        ServerEvent::ReceiveTracks { message_stream, audio, video } => {
            format!("tracks {message_stream} {audio} {video}")
        }
        ServerEvent::Dropped { reason } => format!("dropped {}", reason.as_str()),
    }
}

/// AMF0 values, one after the other.
pub(crate) fn show_values(payload: &[u8]) -> String {
    let mut reader = Amf0Reader::new(payload, &Limits::default());
    let mut words = Vec::new();
    while !reader.is_at_end() {
        words.push(show_value(&reader.read().unwrap()));
    }
    words.join(" ")
}

fn show_value(value: &Value<'_>) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::String(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Null => "null".into(),
        Value::Undefined => "undefined".into(),
        Value::Object(properties) | Value::EcmaArray(properties) => {
            let shown: Vec<_> = properties
                .iter()
                .map(|(key, value)| {
                    format!("{}={}", String::from_utf8_lossy(key), show_value(value))
                })
                .collect();
            format!("{{{}}}", shown.join(", "))
        }
        Value::StrictArray(elements) => {
            format!("[{}]", elements.iter().map(show_value).collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}
