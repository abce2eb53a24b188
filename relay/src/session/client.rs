//! The client's side of a connection: publishes to a server, or plays from one.
//!
//! Used for pushing to and pulling from other servers, by the load generator and in tests. It takes
//! what servers are seen to send: answers are matched by transaction id and not by order, any id of
//! a message stream is good, unknown commands are passed over.

mod heard;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::heard::Heard;
use super::error::SessionError;
use super::output::Output;
use super::parts::{Placed, place};
use super::transport::Transport;
use crate::limits::Limits;
use crate::wire::amf::Value;
use crate::wire::assembler::Assembled;
use crate::wire::chunk_writer::write_message;
use crate::wire::command::Call;
use crate::wire::control::{ControlMessage, UserControl};
use crate::wire::data::SET_DATA_FRAME;
use crate::wire::handshake::{ClientHandshake, HandshakeProgress};
use crate::wire::message::{CHUNK_BYTES, MediaKind, MediaMessage, MessageHeader, MessageType};
use crate::wire::reply;
use crate::wire::timestamp::Timestamp;

/// What a client wants from a server.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// The application, as the server shall see it.
    pub app: String,
    /// The URL without the stream's name.
    pub tc_url: String,
    /// The stream's name, perhaps with a query.
    pub name: String,
    /// Whether to publish or to play.
    pub role: ClientRole,
    /// Whether to name the E-RTMP capabilities; some servers refuse properties that they do not
    /// know.
    pub enhanced: bool,
}

/// Queries of URL and name may carry secrets.
impl fmt::Debug for ClientSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientSettings")
            .field("role", &self.role)
            .field("enhanced", &self.enhanced)
            .finish_non_exhaustive()
    }
}

/// Publish or play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRole {
    /// Send a stream.
    Publish,
    /// Receive a stream.
    Play,
}

/// Something that happened on the connection, in order.
#[derive(Debug)]
pub enum ClientEvent<'a> {
    /// The server accepted connect.
    Connected,
    /// The server accepted publish or play. A publisher sends metadata, sequence headers, and from
    /// a key frame on.
    Started {
        /// The id of the message stream.
        message_stream: u32,
    },
    /// Audio, video or data from the server.
    Media {
        /// The message, to be used before the next call.
        message: &'a mut MediaMessage,
    },
    /// A status that decides nothing.
    Status {
        /// For example `NetStream.Play.Reset`.
        code: String,
        /// `status`, `warning` or `error`.
        level: String,
        /// For people.
        description: String,
    },
    /// The server asks to connect again, there or to the same URL, while this connection goes on.
    ReconnectRequest {
        /// Absolute, or relative to the URL in use.
        tc_url: Option<String>,
    },
    /// The server ended what was started.
    Ended {
        /// The status that said so.
        code: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Creating,
    Starting,
    Running,
    Ended,
}

/// An event without its borrow.
enum Step {
    Connected,
    Started,
    Media,
    Status { code: String, level: String, description: String },
    ReconnectRequest { tc_url: Option<String> },
    Ended { code: String },
}

mod transaction {
    pub(super) const CONNECT: f64 = 1.0;
    pub(super) const RELEASE_STREAM: f64 = 2.0;
    pub(super) const FC_PUBLISH: f64 = 3.0;
    pub(super) const CREATE_STREAM: f64 = 4.0;
    pub(super) const START: f64 = 5.0;
    pub(super) const FC_UNPUBLISH: f64 = 6.0;
}

/// How much a player says it buffers.
const BUFFER_MILLISECONDS: u32 = 3_000;

/// One connection to a server.
pub struct ClientSession {
    settings: ClientSettings,
    /// What is said behind the name of the program.
    introduction: String,
    limits: Arc<Limits>,
    /// Gone when the handshake is done.
    handshake: Option<Box<ClientHandshake>>,
    transport: Transport,
    output: Output,
    state: State,
    message_stream: u32,
    media: MediaMessage,
    begun_at: Duration,
    redirect: Option<String>,
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientSession")
            .field("settings", &self.settings)
            .field("state", &self.state)
            .field("message_stream", &self.message_stream)
            .field("bytes_received", &self.bytes_received())
            .finish_non_exhaustive()
    }
}

impl ClientSession {
    /// A connection just made; the first output is there at once. `seed` becomes the random bytes
    /// of the handshake.
    #[must_use]
    pub fn new(settings: ClientSettings, limits: Arc<Limits>, seed: u64, now: Duration) -> Self {
        Self::with_handshake(settings, limits, ClientHandshake::new(seed), now)
    }

    /// The same with a handshake of the caller's choice: one with a digest, for servers that refuse
    /// plain ones.
    #[must_use]
    pub fn with_handshake(
        settings: ClientSettings,
        limits: Arc<Limits>,
        handshake: ClientHandshake,
        now: Duration,
    ) -> Self {
        let mut handshake = Box::new(handshake);
        let mut output = Output::new(limits.output_bytes_max);
        output.raw(&handshake.hello());
        let mut transport = Transport::new(&limits);
        // A player receives what a publisher sends.
        transport.set_publishing(settings.role == ClientRole::Play);
        Self {
            settings,
            introduction: String::new(),
            handshake: Some(handshake),
            transport,
            output,
            state: State::Connecting,
            message_stream: 0,
            media: MediaMessage::empty(),
            begun_at: now,
            redirect: None,
            limits,
        }
    }

    /// What connect is to say behind the name of the program. To be called before anything is
    /// received.
    pub fn introduce(&mut self, introduction: String) {
        self.introduction = introduction;
    }

    /// Takes bytes from `input` until there is an event, or until all of it is consumed (`None`).
    ///
    /// # Errors
    /// What the server did wrong, or [`SessionError::Refused`]. The connection is to be closed.
    pub fn next_event<'a>(
        &'a mut self,
        input: &mut &[u8],
        now: Duration,
    ) -> Result<Option<ClientEvent<'a>>, SessionError> {
        let step = self.step(input, now)?;
        self.output.check()?;
        Ok(step.map(|step| match step {
            Step::Connected => ClientEvent::Connected,
            Step::Started => ClientEvent::Started { message_stream: self.message_stream },
            Step::Media => ClientEvent::Media { message: &mut self.media },
            Step::Status { code, level, description } => {
                ClientEvent::Status { code, level, description }
            }
            Step::ReconnectRequest { tc_url } => ClientEvent::ReconnectRequest { tc_url },
            Step::Ended { code } => ClientEvent::Ended { code },
        }))
    }

    /// Bytes to be sent, in order: requests, acknowledgements, answers to pings. No media.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.output.take()
    }

    /// When [`Self::check_deadline`] becomes an error; `None` once started.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let starting = !matches!(self.state, State::Running | State::Ended);
        starting.then(|| self.begun_at.saturating_add(self.limits.connect_timeout))
    }

    /// Judges whether the server took longer than `connect_timeout` to let us start.
    ///
    /// # Errors
    /// [`SessionError::AnswerTimeout`] when it did.
    pub fn check_deadline(&mut self, now: Duration) -> Result<(), SessionError> {
        match self.next_deadline() {
            Some(deadline) if now >= deadline => Err(SessionError::AnswerTimeout),
            _ => Ok(()),
        }
    }

    /// The id of our message stream; 0 until the server gave one. When it is
    /// [`MEDIA_STREAM`](crate::wire::message::MEDIA_STREAM), the wire bytes of a [`MediaMessage`]
    /// may be sent as they are, once started (metadata excepted: see [`Self::media_output`]).
    #[must_use]
    pub fn message_stream(&self) -> u32 {
        self.message_stream
    }

    /// Where a server that refused connect, publish or play sent us instead: the `tcUrl` of its
    /// `ex.redirect`, as some clusters do.
    #[must_use]
    pub fn redirect(&self) -> Option<&str> {
        self.redirect.as_deref()
    }

    /// Bytes received, the handshake included.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.transport.bytes_received()
    }

    /// Bytes copied so far to put messages together, as
    /// [`ServerSession::copied_bytes`](super::ServerSession::copied_bytes).
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.transport.copied_bytes() + self.media.copied_bytes()
    }

    /// A message of a publisher as wire bytes for this connection, to be sent behind what
    /// [`Self::take_output`] gave. Metadata gets the `@setDataFrame` by which servers know what to
    /// keep.
    ///
    /// # Panics
    /// When the payload is longer than a message can be (16 MiB - 1).
    #[must_use]
    pub fn media_output(&self, kind: MediaKind, timestamp: Timestamp, payload: &[u8]) -> Bytes {
        const METADATA: &[u8] = b"\x02\x00\x0aonMetaData";
        let prefixed;
        let payload = if kind == MediaKind::Data && payload.starts_with(METADATA) {
            prefixed = [SET_DATA_FRAME, payload].concat();
            &prefixed
        } else {
            payload
        };
        let header = MessageHeader {
            timestamp,
            length: 0,
            kind: kind.message_type(),
            message_stream: self.message_stream,
        };
        let mut out = BytesMut::new();
        write_message(&mut out, kind.chunk_stream(), &header, payload, CHUNK_BYTES);
        out.freeze()
    }

    /// Ends what was started, in the order in which encoders do; then the connection may be closed.
    pub fn finish(&mut self) {
        if self.state != State::Running {
            return;
        }
        if self.settings.role == ClientRole::Publish {
            let name = self.settings.name.clone();
            self.request(
                "FCUnpublish",
                transaction::FC_UNPUBLISH,
                &[Value::Null, Value::text(&name)],
            );
        }
        let id = Value::Number(f64::from(self.message_stream));
        self.request("deleteStream", 0.0, &[Value::Null, id]);
        self.state = State::Ended;
    }

    fn step(&mut self, input: &mut &[u8], now: Duration) -> Result<Option<Step>, SessionError> {
        if self.handshake.is_some() && !self.shake_hands(input)? {
            return Ok(None);
        }
        loop {
            if let Some((header, payload)) = self.transport.next_part(now)? {
                if let Placed::Media = place(&mut self.media, &header, &payload, &self.limits) {
                    return Ok(Some(Step::Media));
                }
                continue;
            }
            let Some(assembled) = self.transport.next_message(input, now)? else {
                self.transport.acknowledge(&mut self.output);
                return Ok(None);
            };
            let (header, payload) = match assembled {
                Assembled::Media { message, .. } => {
                    std::mem::swap(&mut self.media, message);
                    self.transport.acknowledge(&mut self.output);
                    return Ok(Some(Step::Media));
                }
                Assembled::Dropped { .. } => continue,
                Assembled::Plain { header, payload } => (header, payload),
            };
            let step = match header.kind {
                MessageType::CommandAmf0 | MessageType::CommandAmf3 => {
                    let Ok(call) = Call::parse(header.kind, payload, &self.limits) else {
                        continue;
                    };
                    // What is of interest is owned before the state changes.
                    let heard = Heard::new(&call);
                    self.hear(heard)?
                }
                MessageType::DataAmf0 | MessageType::DataAmf3 => {
                    match place(&mut self.media, &header, payload, &self.limits) {
                        Placed::Media => Some(Step::Media),
                        Placed::ClearMetadata | Placed::Dropped(_) => None,
                    }
                }
                MessageType::Aggregate => {
                    let payload = std::mem::take(payload).freeze();
                    self.transport.unfold(&header, &payload, &self.limits);
                    None
                }
                kind => {
                    if let Some(message) = ControlMessage::parse(kind, payload)? {
                        self.transport.obey(message, &mut self.output, now)?;
                    }
                    None
                }
            };
            self.transport.acknowledge(&mut self.output);
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    /// True when the handshake is done.
    fn shake_hands(&mut self, input: &mut &[u8]) -> Result<bool, SessionError> {
        while let Some(handshake) = &mut self.handshake {
            let before = input.len();
            let progress = handshake.receive(input)?;
            self.transport.count(before - input.len());
            match progress {
                HandshakeProgress::More => return Ok(false),
                HandshakeProgress::Reply(reply) => self.output.raw(&reply),
                HandshakeProgress::Done => {
                    self.handshake = None;
                    self.output.grow_chunks();
                    self.connect();
                }
            }
        }
        Ok(true)
    }

    fn connect(&mut self) {
        let settings = self.settings.clone();
        let app = ("app", Value::text(&settings.app));
        let tc_url = ("tcUrl", Value::text(&settings.tc_url));
        let introduction = &self.introduction;
        let (publisher, player) = match introduction.as_str() {
            "" => ("FMLE/3.0 (compatible; relay)".to_owned(), "LNX 9,0,124,2".to_owned()),
            _ => (
                format!("FMLE/3.0 (compatible; relay; {introduction})"),
                format!("LNX 9,0,124,2 (relay; {introduction})"),
            ),
        };
        let mut properties = match settings.role {
            ClientRole::Publish => vec![
                app,
                ("type", Value::text("nonprivate")),
                ("flashVer", Value::text(&publisher)),
                tc_url,
            ],
            ClientRole::Play => vec![
                app,
                ("flashVer", Value::text(&player)),
                tc_url,
                ("fpad", Value::Boolean(false)),
                ("capabilities", Value::Number(15.0)),
                ("audioCodecs", Value::Number(4071.0)),
                ("videoCodecs", Value::Number(252.0)),
                ("videoFunction", Value::Number(1.0)),
            ],
        };
        if settings.enhanced {
            let forward = || Value::object([("*", Value::Number(4.0))]);
            properties.extend([
                ("fourCcList", Value::StrictArray(vec![Value::text("*")])),
                ("videoFourCcInfoMap", forward()),
                ("audioFourCcInfoMap", forward()),
                ("capsEx", Value::Number(15.0)),
            ]);
        }
        let properties = properties.into_iter().map(|(key, value)| (key.as_bytes(), value));
        let properties = Value::Object(properties.collect());
        self.request("connect", transaction::CONNECT, &[properties]);
    }

    fn hear(&mut self, heard: Heard) -> Result<Option<Step>, SessionError> {
        match heard {
            Heard::Answer { transaction, success, id, code, description, redirect } => {
                if transaction == transaction::CONNECT && !success {
                    self.redirect = redirect;
                }
                self.hear_answer(transaction, success, id, code, description)
            }
            Heard::Status { code, level, description, tc_url, redirect } => {
                if !matches!(self.state, State::Running | State::Ended) {
                    self.redirect = redirect;
                }
                self.hear_status(code, level, description, tc_url)
            }
            Heard::Close => {
                self.state = State::Ended;
                Ok(Some(Step::Ended { code: "close".to_owned() }))
            }
            Heard::Nothing => Ok(None),
        }
    }

    fn hear_answer(
        &mut self,
        transaction: f64,
        success: bool,
        id: Option<u32>,
        code: String,
        description: String,
    ) -> Result<Option<Step>, SessionError> {
        let name = self.settings.name.clone();
        if transaction == transaction::CONNECT && self.state == State::Connecting {
            if !success {
                return Err(SessionError::Refused { code, description });
            }
            self.state = State::Creating;
            if self.settings.role == ClientRole::Publish {
                let arguments = [Value::Null, Value::text(&name)];
                self.request("releaseStream", transaction::RELEASE_STREAM, &arguments);
                self.request("FCPublish", transaction::FC_PUBLISH, &arguments);
            }
            self.request("createStream", transaction::CREATE_STREAM, &[Value::Null]);
            return Ok(Some(Step::Connected));
        }
        if transaction == transaction::CREATE_STREAM && self.state == State::Creating {
            if !success {
                return Err(SessionError::Refused { code, description });
            }
            let id = id.ok_or(SessionError::BadAnswer { command: "createStream" })?;
            self.message_stream = id;
            self.state = State::Starting;
            let (command, last) = match self.settings.role {
                ClientRole::Publish => ("publish", Value::text("live")),
                ClientRole::Play => {
                    self.output.event(UserControl::SetBufferLength {
                        message_stream: id,
                        milliseconds: BUFFER_MILLISECONDS,
                    });
                    ("play", Value::Number(-2.0))
                }
            };
            let arguments = [Value::Null, Value::text(&name), last];
            self.output.stream_command(id, |out| {
                reply::call(out, command, transaction::START, &arguments);
            });
        }
        // Other answers, and refusals of calls that need not succeed, change nothing.
        Ok(None)
    }

    fn hear_status(
        &mut self,
        code: String,
        level: String,
        description: String,
        tc_url: Option<String>,
    ) -> Result<Option<Step>, SessionError> {
        if code == "NetConnection.Connect.ReconnectRequest" {
            return Ok(Some(Step::ReconnectRequest { tc_url }));
        }
        let is_error = level == "error";
        if is_error && !matches!(self.state, State::Running | State::Ended) {
            return Err(SessionError::Refused { code, description });
        }
        let started = match self.settings.role {
            ClientRole::Publish => code == "NetStream.Publish.Start",
            ClientRole::Play => {
                matches!(&*code, "NetStream.Play.Start" | "NetStream.Data.Start")
            }
        };
        if self.state == State::Starting && started {
            self.state = State::Running;
            return Ok(Some(Step::Started));
        }
        let ended = matches!(
            &*code,
            "NetStream.Play.Stop"
                | "NetStream.Play.UnpublishNotify"
                | "NetStream.Play.Complete"
                | "NetStream.Play.StreamNotFound"
                | "NetStream.Play.Failed"
                | "NetStream.Unpublish.Success"
        );
        if self.state == State::Running && (ended || is_error) {
            self.state = State::Ended;
            return Ok(Some(Step::Ended { code }));
        }
        Ok(Some(Step::Status { code, level, description }))
    }

    fn request(&mut self, name: &str, transaction: f64, values: &[Value<'_>]) {
        self.output.connection_command(|out| reply::call(out, name, transaction, values));
    }
}
