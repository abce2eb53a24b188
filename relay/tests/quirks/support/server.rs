//! A server session whose owner says yes to everything, and what it saw and said.

use std::sync::Arc;
use std::time::Duration;

use relay::limits::Limits;
use relay::session::{ServerEvent, ServerSession, SessionError};

use super::script::{HELLO, Script};
use super::shown::{Message, Reader};
use super::words::show_event;

/// The server's side of one connection.
pub(crate) struct Server {
    pub(crate) session: ServerSession,
    pub(crate) now: Duration,
    /// One line per event.
    pub(crate) events: Vec<String>,
    /// Audio, video and data: timestamp and payload.
    pub(crate) media: Vec<(u32, Vec<u8>)>,
    /// All bytes that it wrote.
    pub(crate) output: Vec<u8>,
    unread: Vec<u8>,
    reader: Reader,
    shown: usize,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self {
            session: ServerSession::new(Arc::new(limits), 1, Duration::ZERO),
            now: Duration::ZERO,
            events: Vec::new(),
            media: Vec::new(),
            output: Vec::new(),
            unread: Vec::new(),
            reader: Reader::new(),
            shown: 0,
        }
    }

    /// Takes a client's bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut input = &unread[..];
        let result = self.handle(&mut input);
        self.unread = input.to_vec();
        while let Some(bytes) = self.session.take_output() {
            self.output.extend_from_slice(&bytes);
        }
        result
    }

    /// The messages written since the last call, the handshake left out.
    pub(crate) fn messages(&mut self) -> Vec<Message> {
        let from = self.shown.max(HELLO).min(self.output.len());
        self.shown = self.output.len();
        self.reader.read(&self.output[from..])
    }

    /// The same as text.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.messages().iter().map(Message::show).collect()
    }

    fn handle(&mut self, input: &mut &[u8]) -> Result<(), SessionError> {
        loop {
            let Some(event) = self.session.next_event(input, self.now)? else { return Ok(()) };
            self.events.push(show_event(&event));
            if let ServerEvent::Media { message, .. } = &event {
                let payload = message.payload().flatten().copied().collect();
                self.media.push((message.timestamp().0, payload));
            }
            match event {
                ServerEvent::Connect(_) => self.session.accept_connect(),
                ServerEvent::Publish(request) => {
                    self.session.accept_publish(request.message_stream);
                }
                ServerEvent::Play(request) => self.session.accept_play(request.message_stream),
                _ => {}
            }
        }
    }
}

/// Plays a client's bytes, whole and cut in several ways; the events and the server's replies must
/// be these, whatever the cut. Gives the server that got them whole.
#[track_caller]
pub(crate) fn check(script: &Script, events: &[&str], said: &[&str]) -> Server {
    let play = |pieces: usize| {
        let mut server = Server::new();
        script.out.chunks(pieces).for_each(|piece| server.feed(piece).unwrap());
        server
    };
    let mut server = play(script.out.len());
    assert_eq!(server.events, events);
    assert_eq!(server.said(), said);
    for piece_bytes in [1, 3, 1537, 3073] {
        let mut other = play(piece_bytes);
        assert_eq!(other.events, events, "in pieces of {piece_bytes}");
        assert_eq!(other.said(), said, "in pieces of {piece_bytes}");
        assert_eq!(other.media, server.media, "in pieces of {piece_bytes}");
    }
    server
}

/// The server after a client's bytes, without a look at them.
#[track_caller]
pub(crate) fn served(script: &Script) -> Server {
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    server
}

/// What every accepted connect is answered, by a client without wishes.
pub(crate) const CONNECTED: [&str; 4] = [
    "2/0 WindowAckSize(2500000)",
    "2/0 SetPeerBandwidth { window: 2500000, limit: Dynamic }",
    "2/0 SetChunkSize(60000)",
    "3/0 _result 1 {fmsVer=FMS/3,5,7,7009, capabilities=31} {level=status, \
     code=NetConnection.Connect.Success, description=Connection succeeded., objectEncoding=0}",
];

/// What an accepted publish on message stream 1 is answered.
pub(crate) const PUBLISHED: &str = "5/1 onStatus 0 null {level=status, \
    code=NetStream.Publish.Start, description=Start publishing}";

/// What an accepted play of `s` on message stream 1 is answered.
pub(crate) const PLAYED: [&str; 4] = [
    "2/0 UserControl(StreamBegin { message_stream: 1 })",
    "5/1 onStatus 0 null {level=status, code=NetStream.Play.Reset, \
     description=Playing and resetting stream, details=s}",
    "5/1 onStatus 0 null {level=status, code=NetStream.Play.Start, \
     description=Started playing stream, details=s}",
    "5/1 |RtmpSampleAccess true true",
];
