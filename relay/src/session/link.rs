//! One connection between two nodes of a cluster, either end of it: RTMP that carries messages of
//! the cluster and, from the end that dialled, the media of many streams.
//!
//! ```text
//!   dialler                                        acceptor
//!     handshake (plain)                      <->
//!     connect("relay-link")                   ->   _result, or _error to whoever is no node
//!     data messages on message stream 0      <->   the greeting, then what nodes tell each other
//!     publish(name) on message stream n       ->
//!     data messages on stream n + CONTROL    <->   where stream n goes on, and from where on
//!     audio, video, data on stream n          ->
//!                                            <-    onStatus on stream n: not wanted, or no longer
//!     closeStream on stream n                 ->
//! ```
//!
//! The dialler does not wait for the answer to connect. What data messages of the cluster mean is
//! not known here: they are told from the data of publishers by their message stream ids, so that
//! no publisher can say anything in the cluster's name. Media leave past this session, behind what
//! it has to say; it only says between which of them.

use std::time::Duration;

use bytes::Bytes;

use super::error::SessionError;
use super::output::Output;
use super::parts::{Placed, place};
use super::transport::Transport;
use crate::limits::Limits;
use crate::wire::amf::Value;
use crate::wire::assembler::Assembled;
use crate::wire::command::{Call, Command, Status};
use crate::wire::control::ControlMessage;
use crate::wire::handshake::{ClientHandshake, HandshakeProgress, ServerHandshake};
use crate::wire::message::{MediaMessage, MessageHeader, MessageType};
use crate::wire::reply::{self, Level};

/// The application that nodes ask each other for.
pub const LINK_APP: &str = "relay-link";

/// Added to the id of a message stream: data messages of the cluster about that stream.
pub const CONTROL: u32 = 1 << 31;

/// What happened on a link, in order.
#[derive(Debug)]
pub enum LinkEvent<'a> {
    /// The other end is one that speaks as nodes do; nothing is proven yet.
    Open,
    /// A data message of the cluster.
    Data {
        /// The media stream that it is about; 0 for the connection itself.
        message_stream: u32,
        /// Its payload.
        payload: Bytes,
    },
    /// The dialler feeds a stream.
    Publish {
        /// On this message stream.
        message_stream: u32,
        /// The stream's name, as it came.
        name: Bytes,
    },
    /// The dialler feeds it no longer.
    Close {
        /// The message stream.
        message_stream: u32,
    },
    /// The acceptor does not want what is fed on this message stream.
    Unwanted {
        /// The message stream.
        message_stream: u32,
    },
    /// Audio, video or data of a stream.
    Media {
        /// The message stream.
        message_stream: u32,
        /// The message, to be used before the next call.
        message: &'a mut MediaMessage,
    },
    /// A message of a stream that cannot be used; it counts among the stream's messages.
    Unusable {
        /// The message stream.
        message_stream: u32,
    },
}

/// An event without its borrow.
enum Step {
    Open,
    Data(u32, Bytes),
    Publish(u32, Bytes),
    Close(u32),
    Unwanted(u32),
    Media(u32),
    Unusable(u32),
}

enum Handshake {
    Dialling(Box<ClientHandshake>),
    Accepting(Box<ServerHandshake>),
    Done,
}

/// One end of a link.
pub struct LinkSession {
    handshake: Handshake,
    transport: Transport,
    output: Output,
    media: MediaMessage,
    /// Whether connect was said or heard.
    connected: bool,
    dials: bool,
    limits: Limits,
}

impl LinkSession {
    /// The end that dialled; the first output is there at once. `seed` becomes the random bytes of
    /// the handshake.
    #[must_use]
    pub fn dial(limits: &Limits, seed: u64) -> Self {
        let mut handshake = Box::new(ClientHandshake::new(seed));
        let hello = handshake.hello();
        let mut session = Self::new(limits, Handshake::Dialling(handshake), true);
        session.output.raw(&hello);
        session
    }

    /// The end that accepted. Until connect came, nothing but that is kept.
    #[must_use]
    pub fn accept(limits: &Limits, seed: u64) -> Self {
        let handshake = Handshake::Accepting(Box::new(ServerHandshake::new(seed)));
        let mut session = Self::new(limits, handshake, false);
        session.transport.set_connected(false);
        session
    }

    fn new(limits: &Limits, handshake: Handshake, dials: bool) -> Self {
        let limits = Limits {
            messages_per_second_max: limits.link_messages_per_second_max,
            // Messages of the cluster are data messages, too.
            data_bytes_max: limits.data_bytes_max.max(limits.cluster_message_bytes_max),
            ..limits.clone()
        };
        Self {
            handshake,
            transport: Transport::new(&limits),
            output: Output::new(usize::MAX),
            media: MediaMessage::empty(),
            connected: false,
            dials,
            limits,
        }
    }

    /// Takes bytes from `input` until there is an event, or until all of it is consumed (`None`).
    ///
    /// # Errors
    /// What the other end did wrong. The connection is to be closed, after [`Self::take_output`].
    pub fn next_event<'a>(
        &'a mut self,
        input: &mut &[u8],
        now: Duration,
    ) -> Result<Option<LinkEvent<'a>>, SessionError> {
        Ok(self.step(input, now)?.map(|step| match step {
            Step::Open => LinkEvent::Open,
            Step::Data(message_stream, payload) => LinkEvent::Data { message_stream, payload },
            Step::Publish(message_stream, name) => LinkEvent::Publish { message_stream, name },
            Step::Close(message_stream) => LinkEvent::Close { message_stream },
            Step::Unwanted(message_stream) => LinkEvent::Unwanted { message_stream },
            Step::Media(message_stream) => {
                LinkEvent::Media { message_stream, message: &mut self.media }
            }
            Step::Unusable(message_stream) => LinkEvent::Unusable { message_stream },
        }))
    }

    /// Bytes to be sent, in order.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.output.take()
    }

    /// The other end is a node that may feed streams: large messages may be under way.
    pub fn expect_media(&mut self) {
        self.transport.set_publishing(true);
    }

    /// Bytes of unfinished messages.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.transport.partial_bytes()
    }

    /// Bytes copied to put messages together.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.transport.copied_bytes()
    }

    /// Says a data message of the cluster about a stream; 0 is the connection itself.
    pub fn say(&mut self, message_stream: u32, payload: &[u8]) {
        let id = if message_stream == 0 { 0 } else { message_stream | CONTROL };
        self.output.stream_data(id, |out| out.extend_from_slice(payload));
    }

    /// As the dialler: feeds a stream on this message stream from now on.
    pub fn publish(&mut self, message_stream: u32, name: &str) {
        let values = [Value::Null, Value::text(name), Value::text("live")];
        self.output.stream_command(message_stream, |out| reply::call(out, "publish", 0.0, &values));
    }

    /// As the dialler: feeds it no longer.
    pub fn close_stream(&mut self, message_stream: u32) {
        self.output.stream_command(message_stream, |out| {
            reply::call(out, "closeStream", 0.0, &[Value::Null]);
        });
    }

    /// As the acceptor: a stream is not wanted, or no longer.
    pub fn refuse_stream(&mut self, message_stream: u32) {
        self.output.stream_command(message_stream, |out| {
            reply::status(out, Level::Error, NOT_WANTED, "The stream is not wanted here.", None);
        });
    }

    fn step(&mut self, input: &mut &[u8], now: Duration) -> Result<Option<Step>, SessionError> {
        if !self.shake_hands(input)? {
            return Ok(None);
        }
        if self.dials && !self.connected {
            self.connected = true;
            return Ok(Some(Step::Open));
        }
        loop {
            let Some(assembled) = self.transport.next_message(input, now)? else {
                self.transport.acknowledge(&mut self.output);
                return Ok(None);
            };
            let step = match assembled {
                Assembled::Media { header, message } => {
                    std::mem::swap(&mut self.media, message);
                    Some(Step::Media(header.message_stream))
                }
                Assembled::Dropped { header, .. } => {
                    is_media(&header).then_some(Step::Unusable(header.message_stream))
                }
                Assembled::Plain { header, payload } => {
                    let payload = std::mem::take(payload).freeze();
                    self.hear(&header, payload, now)?
                }
            };
            self.transport.acknowledge(&mut self.output);
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    fn hear(
        &mut self,
        header: &MessageHeader,
        payload: Bytes,
        now: Duration,
    ) -> Result<Option<Step>, SessionError> {
        let message_stream = header.message_stream;
        match header.kind {
            MessageType::CommandAmf0 => self.command(message_stream, &payload),
            MessageType::DataAmf0 if message_stream == 0 => Ok(Some(Step::Data(0, payload))),
            MessageType::DataAmf0 if message_stream & CONTROL != 0 => {
                Ok(Some(Step::Data(message_stream & !CONTROL, payload)))
            }
            MessageType::DataAmf0 => {
                Ok(Some(match place(&mut self.media, header, &payload, &self.limits) {
                    Placed::Media => Step::Media(message_stream),
                    Placed::ClearMetadata | Placed::Dropped(_) => Step::Unusable(message_stream),
                }))
            }
            kind => {
                if let Some(message) = ControlMessage::parse(kind, &payload)? {
                    self.transport.obey(message, &mut self.output, now)?;
                }
                Ok(None)
            }
        }
    }

    fn command(
        &mut self,
        message_stream: u32,
        payload: &Bytes,
    ) -> Result<Option<Step>, SessionError> {
        let call = Call::parse(MessageType::CommandAmf0, payload, &self.limits)?;
        Ok(match call.command {
            Command::Connect(properties) if !self.dials && !self.connected => {
                if properties.app != LINK_APP.as_bytes() {
                    let why = "This is the port for nodes of the cluster";
                    self.output.connection_command(|out| {
                        reply::error(out, call.transaction, CONNECT_REJECTED, why);
                    });
                    return Err(SessionError::Refused {
                        code: CONNECT_REJECTED.to_owned(),
                        description: why.to_owned(),
                    });
                }
                self.connected = true;
                self.transport.set_connected(true);
                self.output.connection_command(|out| {
                    reply::connect_result(out, call.transaction, 0.0, false);
                });
                Some(Step::Open)
            }
            Command::Answer(answer) if self.dials && !answer.success => {
                let status = Status::from_value(&answer.value);
                let text = |bytes: &[u8]| super::event::printable(bytes);
                let (code, description) = (text(status.code), text(status.description));
                return Err(SessionError::Refused { code, description });
            }
            _ if !self.connected => {
                return Err(SessionError::NotConnected { command: "a command of the cluster" });
            }
            Command::Publish { name, .. } if !self.dials => {
                Some(Step::Publish(message_stream, payload.slice_ref(name)))
            }
            Command::CloseStream if !self.dials => Some(Step::Close(message_stream)),
            Command::Status(status) if self.dials && status.level == b"error" => {
                Some(Step::Unwanted(message_stream))
            }
            _ => None,
        })
    }

    /// True when the handshake is done.
    fn shake_hands(&mut self, input: &mut &[u8]) -> Result<bool, SessionError> {
        loop {
            let before = input.len();
            let progress = match &mut self.handshake {
                Handshake::Done => return Ok(true),
                Handshake::Dialling(handshake) => handshake.receive(input)?,
                Handshake::Accepting(handshake) => handshake.receive(input)?,
            };
            self.transport.count(before - input.len());
            match progress {
                HandshakeProgress::More => return Ok(false),
                HandshakeProgress::Reply(reply) => self.output.raw(&reply),
                HandshakeProgress::Done => {
                    self.handshake = Handshake::Done;
                    self.output.grow_chunks();
                    if self.dials {
                        let app = Value::object([("app", Value::text(LINK_APP))]);
                        self.output.connection_command(|out| {
                            reply::call(out, "connect", 1.0, &[app]);
                        });
                    }
                }
            }
        }
    }
}

/// Whether a message counts among those of its stream.
fn is_media(header: &MessageHeader) -> bool {
    let kind =
        matches!(header.kind, MessageType::Audio | MessageType::Video | MessageType::DataAmf0);
    kind && header.message_stream != 0 && header.message_stream & CONTROL == 0
}

const CONNECT_REJECTED: &str = "NetConnection.Connect.Rejected";
const NOT_WANTED: &str = "NetStream.Publish.BadName";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "link_tests.rs"]
mod tests;
