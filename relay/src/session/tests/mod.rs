//! What the tests of this room share: a server that answers by itself, a client written by hand,
//! and conversations as text.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod clients;
mod faults;
mod pair;
mod players;
mod publishers;
#[path = "../../../tests/quirks/support/words.rs"]
mod words;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use self::words::{show_event, show_values};
use super::*;
use crate::limits::Limits;
use crate::wire::amf::Value;
use crate::wire::amf0::{write_string, write_value};
use crate::wire::assembler::{Assembled, MessageAssembler};
use crate::wire::chunk_reader::ChunkReader;
use crate::wire::chunk_writer::write_message;
use crate::wire::control::ControlMessage;
use crate::wire::message::{MessageHeader, MessageType};
use crate::wire::timestamp::Timestamp;

/// Bytes of a client written by hand: what it sends, chunk by chunk.
struct Script {
    out: BytesMut,
    chunk_size: usize,
}

impl Script {
    /// After a plain handshake, of which the server's half is not read.
    fn new() -> Self {
        let mut out = BytesMut::new();
        out.extend_from_slice(&[3]);
        out.extend_from_slice(&[0; 1536]);
        out.extend_from_slice(&[7; 1536]);
        Self { out, chunk_size: 128 }
    }

    /// Connected to an application.
    fn connected(app: &str) -> Self {
        Self::new().connect(&[("app", Value::text(app)), ("tcUrl", Value::text("rtmp://h/x"))])
    }

    fn connect(self, properties: &[(&str, Value<'_>)]) -> Self {
        let properties =
            properties.iter().map(|(key, value)| (key.as_bytes(), value.clone())).collect();
        self.call(3, 0, "connect", 1.0, &[Value::Object(properties)])
    }

    fn message(mut self, chunk_stream: u32, stream: u32, kind: u8, payload: &[u8]) -> Self {
        let header = MessageHeader {
            timestamp: Timestamp(0),
            length: 0,
            kind: MessageType::from_id(kind),
            message_stream: stream,
        };
        write_message(&mut self.out, chunk_stream, &header, payload, self.chunk_size);
        self
    }

    fn call(
        self,
        chunk_stream: u32,
        stream: u32,
        name: &str,
        transaction: f64,
        values: &[Value<'_>],
    ) -> Self {
        let mut payload = BytesMut::new();
        write_string(&mut payload, name.as_bytes());
        write_value(&mut payload, &Value::Number(transaction));
        for value in values {
            write_value(&mut payload, value);
        }
        self.message(chunk_stream, stream, 20, &payload)
    }

    /// A command with null and one string.
    fn named(self, stream: u32, name: &str, transaction: f64, text: &str) -> Self {
        self.call(3, stream, name, transaction, &[Value::Null, Value::text(text)])
    }

    fn control(mut self, message: ControlMessage) -> Self {
        message.write(&mut self.out);
        if let ControlMessage::SetChunkSize(size) = message {
            self.chunk_size = usize::try_from(size).unwrap();
        }
        self
    }

    fn create_stream(self) -> Self {
        self.call(3, 0, "createStream", 4.0, &[Value::Null])
    }

    fn publish(self, stream: u32, name: &str) -> Self {
        let arguments = [Value::Null, Value::text(name), Value::text("live")];
        self.call(8, stream, "publish", 5.0, &arguments)
    }

    fn play(self, stream: u32, name: &str) -> Self {
        let arguments = [Value::Null, Value::text(name), Value::Number(-2000.0)];
        self.call(8, stream, "play", 5.0, &arguments)
    }

    /// A key frame.
    fn video(self, stream: u32) -> Self {
        self.message(6, stream, 9, &[0x17, 1, 0, 0, 0])
    }

    fn metadata(self, stream: u32) -> Self {
        let mut payload = BytesMut::new();
        write_string(&mut payload, b"@setDataFrame");
        write_string(&mut payload, b"onMetaData");
        write_value(&mut payload, &Value::EcmaArray(vec![(b"width", Value::Number(640.0))]));
        self.message(4, stream, 18, &payload)
    }
}

/// A server session whose owner accepts everything, unless told otherwise.
struct Server {
    session: ServerSession,
    now: Duration,
    /// Input that waits for a verdict.
    kept: Vec<u8>,
    /// Verdicts are given by the test.
    manual: bool,
    /// Events, one per line.
    events: String,
    output: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            session: ServerSession::new(Arc::new(limits), 1, Duration::ZERO),
            now: Duration::ZERO,
            kept: Vec::new(),
            manual: false,
            events: String::new(),
            output: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.kept.extend_from_slice(bytes);
        let kept = std::mem::take(&mut self.kept);
        let mut input = &kept[..];
        let result = self.handle(&mut input);
        self.kept = input.to_vec();
        while let Some(bytes) = self.session.take_output() {
            self.output.extend_from_slice(&bytes);
        }
        result
    }

    fn handle(&mut self, input: &mut &[u8]) -> Result<(), SessionError> {
        loop {
            let waiting = self.session.is_waiting();
            let before = input.len();
            let Some(event) = self.session.next_event(input, self.now)? else {
                assert!(self.session.is_waiting() || input.is_empty(), "all is consumed");
                return Ok(());
            };
            assert!(!waiting || before == input.len(), "nothing is consumed while waiting");
            let line = show_event(&event);
            let verdict = match event {
                ServerEvent::Connect(_) => Some(('c', 0)),
                ServerEvent::Publish(request) => Some(('p', request.message_stream)),
                ServerEvent::Play(request) => Some(('v', request.message_stream)),
                _ => None,
            };
            self.events.push_str(&line);
            self.events.push('\n');
            if let Some(verdict) = verdict {
                assert!(self.session.is_waiting());
                let before = input.len();
                assert!(self.session.next_event(input, self.now)?.is_none(), "until the verdict");
                assert_eq!(before, input.len(), "nothing is consumed while waiting");
                match verdict {
                    _ if self.manual => return Ok(()),
                    ('c', _) => self.session.accept_connect(),
                    ('p', stream) => self.session.accept_publish(stream),
                    (_, stream) => self.session.accept_play(stream),
                }
                assert!(!self.session.is_waiting());
            }
        }
    }

    /// What was said since the last call, the handshake left out, as text.
    fn said(&mut self) -> String {
        let output = std::mem::take(&mut self.output);
        show_messages(&output)
    }
}

/// Messages as text, one per line. A handshake in front is skipped.
fn show_messages(bytes: &[u8]) -> String {
    let is_handshake = bytes.len() >= 3073 && bytes[0] == 3;
    let mut input = if is_handshake { &bytes[3073..] } else { bytes };
    let limits = Limits::default();
    let mut reader = ChunkReader::new(&limits);
    let mut assembler = MessageAssembler::new(&limits);
    // What is said after connect is in large chunks; before, nothing is as long as a small one.
    reader.set_chunk_size(60_000).unwrap();
    let mut lines = String::new();
    while let Some(fragment) = reader.next(&mut input).unwrap() {
        let chunk_stream = fragment.chunk_stream;
        let (header, text) = match assembler.push(&fragment).unwrap() {
            None => continue,
            Some(Assembled::Plain { header, payload }) => (header, show_payload(&header, payload)),
            Some(Assembled::Media { header, message }) => {
                (header, format!("{:?} {} B", message.class().role, message.payload_bytes()))
            }
            Some(Assembled::Dropped { header, reason }) => (header, format!("{reason:?}")),
        };
        let stream = header.message_stream;
        writeln!(lines, "{chunk_stream}/{stream} {text}").unwrap();
    }
    lines
}

fn show_payload(header: &MessageHeader, payload: &[u8]) -> String {
    if let Some(message) = ControlMessage::parse(header.kind, payload).unwrap() {
        return format!("{message:?}");
    }
    show_values(payload)
}

/// Compares text line by line, leading white space left out.
#[track_caller]
fn assert_lines(found: &str, expected: &str) {
    let lines = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(found), lines(expected), "\nfound:\n{found}");
}

/// Runs a client's bytes against an accepting server; compares its events and what it says.
#[track_caller]
fn check(script: Script, events: &str, said: &str) -> Server {
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    assert_lines(&server.events, events);
    assert_lines(&server.said(), said);
    // However the bytes are cut, the same happens.
    for piece_bytes in [1, 7, 1537, 3074] {
        let mut other = Server::new();
        for piece in script.out.chunks(piece_bytes) {
            other.feed(piece).unwrap();
        }
        assert_eq!(other.events, server.events, "in pieces of {piece_bytes}");
        assert_lines(&other.said(), said);
    }
    server.events.clear();
    server
}

/// What every accepted connect is answered.
const CONNECTED: &str = "
    2/0 WindowAckSize(2500000)
    2/0 SetPeerBandwidth { window: 2500000, limit: Dynamic }
    2/0 SetChunkSize(60000)
    3/0 _result 1 {fmsVer=FMS/3,5,7,7009, capabilities=31} \
{level=status, code=NetConnection.Connect.Success, \
description=Connection succeeded., objectEncoding=0}
";
