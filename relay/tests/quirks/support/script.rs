//! The bytes of a client, written by hand: handshake, chunks, commands.

use bytes::BytesMut;
use relay::wire::amf::Value;
use relay::wire::amf0::{write_string, write_value};
use relay::wire::chunk_writer::write_message;
use relay::wire::control::ControlMessage;
use relay::wire::message::{MessageHeader, MessageType};
use relay::wire::timestamp::Timestamp;

/// Bytes of C1 and C2 each.
pub(crate) const PACKET: usize = 1536;

/// C0, C1 and C2 together.
pub(crate) const HELLO: usize = 1 + 2 * PACKET;

/// What a client sends, in order.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) out: BytesMut,
    chunk_size: usize,
}

impl Script {
    /// Nothing yet, not even a handshake.
    pub(crate) fn empty() -> Self {
        Self { out: BytesMut::new(), chunk_size: 128 }
    }

    /// A handshake with this C1. C2 is no echo, which nobody may mind.
    pub(crate) fn after(c1: &[u8; PACKET]) -> Self {
        Self::empty().raw(&[3]).raw(c1).raw(&[0xC2; PACKET])
    }

    /// A plain handshake: time and version 0.
    pub(crate) fn plain() -> Self {
        let mut c1 = [0x5A; PACKET];
        c1[..8].fill(0);
        Self::after(&c1)
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// Bytes in hexadecimal digits.
    pub(crate) fn hex(self, digits: &str) -> Self {
        self.raw(&hex(digits))
    }

    /// A message whose chunks all begin anew with fmt 0 or continue with fmt 3.
    pub(crate) fn message(
        mut self,
        chunk_stream: u32,
        message_stream: u32,
        timestamp: u32,
        kind: u8,
        payload: &[u8],
    ) -> Self {
        let header = MessageHeader {
            timestamp: Timestamp(timestamp),
            length: 0,
            kind: MessageType::from_id(kind),
            message_stream,
        };
        write_message(&mut self.out, chunk_stream, &header, payload, self.chunk_size);
        self
    }

    /// A control message on chunk stream 2. Set Chunk Size takes effect.
    pub(crate) fn control(mut self, message: ControlMessage) -> Self {
        message.write(&mut self.out);
        if let ControlMessage::SetChunkSize(size) = message {
            self.chunk_size = usize::try_from(size).unwrap();
        }
        self
    }

    /// A command of type 20.
    pub(crate) fn call(
        self,
        chunk_stream: u32,
        message_stream: u32,
        name: &str,
        transaction: f64,
        values: &[Value<'_>],
    ) -> Self {
        self.message(chunk_stream, message_stream, 0, 20, &call(name, transaction, values))
    }

    /// A command with null and one string, on the connection.
    pub(crate) fn named(self, name: &str, transaction: f64, text: &str) -> Self {
        self.call(3, 0, name, transaction, &[Value::Null, Value::text(text)])
    }

    /// `connect` with these properties.
    pub(crate) fn connect(self, properties: &[(&str, Value<'_>)]) -> Self {
        let properties = properties.iter().map(|(key, value)| (key.as_bytes(), value.clone()));
        self.call(3, 0, "connect", 1.0, &[Value::Object(properties.collect())])
    }

    /// `connect` as encoders say it.
    pub(crate) fn connect_encoder(self, app: &str) -> Self {
        self.connect(&[
            ("app", Value::text(app)),
            ("type", Value::text("nonprivate")),
            ("flashVer", Value::text("FMLE/3.0 (compatible; FMSc/1.0)")),
            ("swfUrl", Value::text(&format!("rtmp://h/{app}"))),
            ("tcUrl", Value::text(&format!("rtmp://h/{app}"))),
        ])
    }

    pub(crate) fn create_stream(self, transaction: f64) -> Self {
        self.call(3, 0, "createStream", transaction, &[Value::Null])
    }

    pub(crate) fn publish(self, message_stream: u32, name: &str) -> Self {
        let values = [Value::Null, Value::text(name), Value::text("live")];
        self.call(4, message_stream, "publish", 5.0, &values)
    }

    pub(crate) fn play(self, message_stream: u32, name: &str) -> Self {
        let values = [Value::Null, Value::text(name), Value::Number(-2000.0)];
        self.call(8, message_stream, "play", 5.0, &values)
    }

    /// Video on message stream 1.
    pub(crate) fn video(self, timestamp: u32, payload: &[u8]) -> Self {
        self.message(6, 1, timestamp, 9, payload)
    }

    /// Audio on message stream 1.
    pub(crate) fn audio(self, timestamp: u32, payload: &[u8]) -> Self {
        self.message(4, 1, timestamp, 8, payload)
    }

    /// `@setDataFrame onMetaData` on message stream 1.
    pub(crate) fn metadata(self, properties: &[(&str, Value<'_>)]) -> Self {
        let mut payload = BytesMut::new();
        write_string(&mut payload, b"@setDataFrame");
        payload.extend_from_slice(&metadata(properties));
        self.message(4, 1, 0, 18, &payload)
    }
}

/// An encoder in the middle of everything: connected, publishing `live/s` on message stream 1.
pub(crate) fn publishing() -> Script {
    publishing_as("s")
}

/// The same under another name.
pub(crate) fn publishing_as(name: &str) -> Script {
    Script::plain().connect_encoder("live").create_stream(4.0).publish(1, name)
}

/// A player of `live/s` on message stream 1.
pub(crate) fn playing() -> Script {
    Script::plain().connect(&[("app", Value::text("live"))]).create_stream(4.0).play(1, "s")
}

/// The payload of a command.
pub(crate) fn call(name: &str, transaction: f64, values: &[Value<'_>]) -> BytesMut {
    let mut payload = BytesMut::new();
    write_string(&mut payload, name.as_bytes());
    write_value(&mut payload, &Value::Number(transaction));
    values.iter().for_each(|value| write_value(&mut payload, value));
    payload
}

/// The payload of `onMetaData`, as players are to get it.
pub(crate) fn metadata(properties: &[(&str, Value<'_>)]) -> BytesMut {
    let properties = properties.iter().map(|(key, value)| (key.as_bytes(), value.clone()));
    let mut payload = BytesMut::new();
    write_string(&mut payload, b"onMetaData");
    write_value(&mut payload, &Value::EcmaArray(properties.collect()));
    payload
}

/// Bytes from hexadecimal digits; white space is left out.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).unwrap())
        .collect();
    assert_eq!(digits.len() % 2, 0, "two digits make a byte");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}
