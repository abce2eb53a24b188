//! A player of FLV over HTTP or a WebSocket: its request, the answers to it, and what it may say
//! while it plays.
//!
//! ```text
//!   RequestHead -> FlvRequest::read -> FlvSession --> verdict --> take_output -> 200 or 101, and then FLV
//!                                                           \--> take_output -> 404, 401, 403, 503
//! ```
//!
//! The stream itself never passes through here: it follows what [`FlvSession::take_output`] gave,
//! and ends with the connection. After any other answer the connection may carry another request.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use sha1::{Digest as _, Sha1};

use super::error::SessionError;
use super::event::{PlayRefusal, PlayRefusalCode, StreamRequest, StreamWords, printable};
use super::http::{RequestHead, plain_response, response_head};
use crate::limits::Limits;
use crate::wire::message::MEDIA_STREAM;
use crate::wire::stream_name::{NameError, StreamAddress};
use crate::wire::websocket::{ClientFrame, FrameReader, Opcode, write_header};

/// Which pages may play: the origins that browsers let read what they are sent, and from which
/// WebSockets are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Those of every origin.
    #[default]
    Any,
    /// Only those of our own, which no page of ours has: none.
    Off,
    /// Those of these origins, such as `https://example.org`.
    Origins(Vec<String>),
}

/// Which kinds of media are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// Audio and video.
    #[default]
    Both,
    /// `?only=audio`
    Audio,
    /// `?only=video`
    Video,
}

/// What a player asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct FlvRequest {
    /// The stream; the message stream of all players of FLV is that of shared bytes.
    pub stream: StreamRequest,
    /// Which kinds of media.
    pub only: Only,
    /// `?extras=1`: all of Enhanced RTMP, even what players in browsers end at.
    pub extras: bool,
    /// How its WebSocket is agreed to; `None` for plain HTTP.
    pub websocket: Option<WebSocketOpening>,
    /// Only whether and how it would be answered is asked (HEAD).
    pub head_only: bool,
    /// What it calls itself; no control characters.
    pub client: String,
    /// The token of `Authorization: Bearer`, a secret.
    pub bearer: Option<String>,
    origin: Option<String>,
    keeps_alive: bool,
}

/// The answer to the opening handshake of a WebSocket (RFC 6455 section 4.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketOpening {
    accept: String,
    protocol: Option<String>,
}

/// Why a request is none for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The name of the stream.
    #[error("{0}")]
    Name(NameError),
    /// An escape in the path that is none.
    #[error("the path has a % that is not followed by two hexadecimal digits")]
    Escape,
    /// The path, or the query, longer than any that has a meaning.
    #[error("the target is too long")]
    TargetTooLong,
    /// A body, which nobody would read.
    #[error("a request for a stream has no body")]
    Body,
    /// A value of `only` other than `audio` and `video`.
    #[error("only may be audio or video")]
    Only,
    /// The opening of a WebSocket without a good key.
    #[error("the key of the WebSocket is missing or not 16 bytes in base64")]
    WebSocketKey,
    /// A version of the WebSocket protocol other than 13.
    #[error("the version of the WebSocket protocol must be 13")]
    WebSocketVersion,
    /// A WebSocket of a page whose origin is not listed.
    #[error("pages of this origin may not open WebSockets here")]
    Origin,
}

impl RequestError {
    /// The status code and its reason phrase.
    #[must_use]
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Self::Name(NameError::TooLong) | Self::TargetTooLong => (414, "URI Too Long"),
            Self::Body => (413, "Content Too Large"),
            Self::WebSocketVersion => (426, "Upgrade Required"),
            Self::Origin => (403, "Forbidden"),
            Self::Name(_) | Self::Escape | Self::Only | Self::WebSocketKey => (400, "Bad Request"),
        }
    }
}

impl Cors {
    /// Whether a page of this origin may read the answers.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Off => false,
            Self::Origins(origins) => origins.iter().any(|one| one.eq_ignore_ascii_case(origin)),
        }
    }

    /// The fields of an answer to a request of this origin.
    fn fields<'a>(&self, origin: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
        let mut fields = Vec::new();
        match (self, origin) {
            (Self::Any, _) => fields.push(("Access-Control-Allow-Origin", "*")),
            (Self::Off, _) => return fields,
            (Self::Origins(_), Some(origin)) if self.allows(origin) => {
                fields.push(("Access-Control-Allow-Origin", origin));
                fields.push(("Vary", "Origin"));
            }
            (Self::Origins(_), _) => {
                fields.push(("Vary", "Origin"));
                return fields;
            }
        }
        fields.push(("Access-Control-Expose-Headers", "*"));
        fields
    }
}

/// The answer to OPTIONS, by which browsers ask whether a page may send a request.
#[must_use]
pub fn preflight(head: &RequestHead, cors: &Cors) -> Bytes {
    let mut fields = vec![("Allow", METHODS)];
    let shared = cors.fields(head.header("origin"));
    if shared.iter().any(|(name, _)| *name == "Access-Control-Allow-Origin") {
        fields.push(("Access-Control-Allow-Methods", METHODS));
        // The asterisk does not stand for Authorization.
        fields.push(("Access-Control-Allow-Headers", "*, Authorization"));
        fields.push(("Access-Control-Max-Age", "86400"));
    }
    fields.extend(shared);
    fields.push(("Connection", persistence(head.keeps_alive())));
    response_head((204, "No Content"), &fields)
}

const METHODS: &str = "GET, HEAD, OPTIONS";

fn persistence(keeps_alive: bool) -> &'static str {
    if keeps_alive { "keep-alive" } else { "close" }
}

impl FlvRequest {
    /// Reads a GET or HEAD of `/{app}/{name}.flv`; a name may have slashes.
    ///
    /// # Errors
    /// Whatever keeps it from being a request for a stream. The connection is to be answered and
    /// closed.
    pub fn read(head: &RequestHead, cors: &Cors, limits: &Limits) -> Result<Self, RequestError> {
        if head.body_bytes() != Some(0) {
            return Err(RequestError::Body);
        }
        let address = address(head, limits)?;
        let mut only = Only::Both;
        let mut extras = false;
        for pair in head.query().split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("only", "audio") => only = Only::Audio,
                ("only", "video") => only = Only::Video,
                ("only", _) => return Err(RequestError::Only),
                ("extras", value) => extras = value == "1",
                _ => {}
            }
        }
        let head_only = head.method == "HEAD";
        let origin = head.header("origin");
        let websocket = if head_only || !head.lists("upgrade", "websocket") {
            None
        } else if origin.is_some_and(|origin| !cors.allows(origin)) {
            return Err(RequestError::Origin);
        } else {
            Some(WebSocketOpening::read(head)?)
        };
        let bearer = head.header("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        let agent = head.header("user-agent").unwrap_or_default();
        let end = agent.floor_char_boundary(AGENT_BYTES_MAX);
        Ok(Self {
            stream: StreamRequest { message_stream: MEDIA_STREAM, address, words: words(head) },
            only,
            extras,
            websocket,
            head_only,
            client: printable(&agent.as_bytes()[..end]),
            bearer,
            origin: origin.map(str::to_owned),
            keeps_alive: head.keeps_alive(),
        })
    }
}

/// What the client wrote, for those who are asked about it: the name without what marks it as FLV,
/// as a client of RTMP would have written it.
fn words(head: &RequestHead) -> StreamWords {
    let path = head.path().trim_start_matches('/');
    let name = path.split_once('/').map_or(path, |(_, name)| name);
    StreamWords {
        name: name.strip_suffix(".flv").unwrap_or(name).to_owned(),
        args: head.query().to_owned(),
        ..StreamWords::default()
    }
}

/// What is kept of a user agent.
const AGENT_BYTES_MAX: usize = 256;

/// Queries may hold secrets.
impl fmt::Debug for FlvRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FlvRequest")
            .field("stream", &self.stream)
            .field("only", &self.only)
            .field("extras", &self.extras)
            .field("websocket", &self.websocket.is_some())
            .field("head_only", &self.head_only)
            .finish_non_exhaustive()
    }
}

/// The stream that a target names.
fn address(head: &RequestHead, limits: &Limits) -> Result<StreamAddress, RequestError> {
    let path = head.path().trim_start_matches('/');
    let most = 3 * (limits.app_bytes_max + limits.name_bytes_max) + ".flv/".len();
    if path.len() > most || head.query().len() > limits.url_bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    let escapes = path.split('%').skip(1);
    let is_escape = |text: &str| {
        text.as_bytes().first_chunk::<2>().is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.into_iter().all(is_escape) {
        return Err(RequestError::Escape);
    }
    let path: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    // What RTMP would take for the beginning of a query cannot be part of a name.
    if path.contains(&b'?') {
        return Err(RequestError::Name(NameError::Characters));
    }
    let slash = path.iter().position(|byte| *byte == b'/');
    let (app, mut name) = match slash.and_then(|at| path.split_at_checked(at)) {
        Some((app, rest)) => (app, rest.get(1..).unwrap_or_default().to_vec()),
        None => (&[][..], path.clone()),
    };
    if !head.query().is_empty() {
        name.push(b'?');
        name.extend_from_slice(head.query().as_bytes());
    }
    let host = head.header("host").unwrap_or_default();
    let url = format!("http://{host}/");
    StreamAddress::resolve(app, url.as_bytes(), &name, limits).map_err(RequestError::Name)
}

impl WebSocketOpening {
    fn read(head: &RequestHead) -> Result<Self, RequestError> {
        let is_upgrade = head.minor == 1 && head.lists("connection", "upgrade");
        if !is_upgrade || head.header("sec-websocket-version") != Some("13") {
            return Err(RequestError::WebSocketVersion);
        }
        let key = head.header("sec-websocket-key").unwrap_or_default();
        if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
            return Err(RequestError::WebSocketKey);
        }
        // Players that offer a subprotocol end unless one of theirs is chosen.
        let offered = head.header("sec-websocket-protocol").unwrap_or_default();
        let first = offered.split(',').next().unwrap_or_default().trim();
        let token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
        let usable = !first.is_empty() && first.bytes().all(token);
        Ok(Self { accept: accept(key), protocol: usable.then(|| first.to_owned()) })
    }
}

/// What proves that a key was read (RFC 6455 section 4.2.2).
fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The verdict is outstanding.
    Asked,
    /// FLV follows.
    Playing,
    /// Answered by other than FLV: another request may come on the connection.
    Answered,
    /// Nothing more is to come.
    Closing,
}

/// A player's connection from its request on.
#[derive(Debug)]
pub struct FlvSession {
    request: FlvRequest,
    cors: Arc<Cors>,
    state: State,
    /// Since when it is known to be answered.
    answered: Option<Duration>,
    /// Reads what the client says, if it opens a WebSocket.
    frames: FrameReader,
    /// Bytes that a player over HTTP said, who has nothing to say.
    said: usize,
    input_bytes_max: usize,
    pings: Budget,
    messages: Budget,
    output: VecDeque<Bytes>,
    refusal: Option<String>,
}

/// So many a second.
#[derive(Debug)]
struct Budget {
    most: usize,
    second: u64,
    used: usize,
}

impl Budget {
    fn new(most: usize) -> Self {
        Self { most, second: 0, used: 0 }
    }

    fn take(&mut self, now: Duration) -> bool {
        if std::mem::replace(&mut self.second, now.as_secs()) != now.as_secs() {
            self.used = 0;
        }
        self.used = self.used.saturating_add(1);
        self.used <= self.most
    }
}

impl FlvSession {
    /// A session that waits for the verdict on its request.
    #[must_use]
    pub fn new(request: FlvRequest, cors: Arc<Cors>, limits: &Limits) -> Self {
        Self {
            request,
            cors,
            state: State::Asked,
            answered: None,
            frames: FrameReader::new(limits.flv_input_bytes_max),
            said: 0,
            input_bytes_max: limits.flv_input_bytes_max,
            pings: Budget::new(limits.pings_per_second_max),
            messages: Budget::new(limits.messages_per_second_max),
            output: VecDeque::new(),
            refusal: None,
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &FlvRequest {
        &self.request
    }

    /// Whether the verdict is outstanding, so that nothing more may be received.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == State::Asked
    }

    /// Whether it is over and the connection open for another request.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.state == State::Answered
    }

    /// Whether the last word is said.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.state == State::Closing
    }

    /// What the client was told when it was refused and has to go.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The stream is there: what follows the output is FLV, unless only this was asked.
    pub fn accept_play(&mut self) {
        if self.state != State::Asked {
            return;
        }
        let mut fields = Vec::new();
        let status = match &self.request.websocket {
            Some(opening) => {
                fields.push(("Upgrade", "websocket"));
                fields.push(("Connection", "Upgrade"));
                fields.push(("Sec-WebSocket-Accept", &*opening.accept));
                if let Some(protocol) = &opening.protocol {
                    fields.push(("Sec-WebSocket-Protocol", protocol));
                }
                (101, "Switching Protocols")
            }
            None => {
                let is_kept = self.request.head_only && self.request.keeps_alive;
                fields.push(("Content-Type", "video/x-flv"));
                fields.push(("Cache-Control", "no-store"));
                fields.push(("Connection", persistence(is_kept)));
                // A proxy is to pass on what it has.
                fields.push(("X-Accel-Buffering", "no"));
                fields.push(("X-Content-Type-Options", "nosniff"));
                fields.extend(self.cors.fields(self.request.origin.as_deref()));
                (200, "OK")
            }
        };
        self.output.push_back(response_head(status, &fields));
        self.state = match (self.request.head_only, self.request.keeps_alive) {
            (false, _) => State::Playing,
            (true, true) => State::Answered,
            (true, false) => State::Closing,
        };
    }

    /// The stream is not to be had.
    pub fn reject_play(&mut self, refusal: &PlayRefusal) {
        if self.state != State::Asked {
            return;
        }
        let (status, more) = match refusal.code {
            PlayRefusalCode::StreamNotFound => ((404, "Not Found"), None),
            PlayRefusalCode::Unauthorized => {
                ((401, "Unauthorized"), Some(("WWW-Authenticate", "Bearer realm=\"relay\"")))
            }
            PlayRefusalCode::Forbidden => ((403, "Forbidden"), None),
            PlayRefusalCode::Failed => ((503, "Service Unavailable"), Some(("Retry-After", "1"))),
        };
        let keeps_alive = self.request.keeps_alive;
        let mut fields = vec![("Connection", persistence(keeps_alive))];
        fields.extend(more);
        fields.extend(self.cors.fields(self.request.origin.as_deref()));
        let sentence = format!("{}.", refusal.description.trim_end_matches('.'));
        let mut answer = plain_response(status, &fields, &sentence);
        if self.request.head_only {
            // What would follow is told, and does not follow.
            answer.truncate(answer.len() - sentence.len() - 1);
        }
        self.output.push_back(answer);
        if keeps_alive {
            self.state = State::Answered;
        } else {
            self.state = State::Closing;
            self.refusal = Some(sentence);
        }
    }

    /// The stream is gone for good.
    pub fn end(&mut self) {
        self.close(1000);
    }

    /// Takes all that the client says.
    ///
    /// # Errors
    /// When the client broke the protocol of WebSockets, or says more than it may.
    pub fn receive(&mut self, input: &mut &[u8], now: Duration) -> Result<(), SessionError> {
        if self.request.websocket.is_none() {
            self.said = self.said.saturating_add(input.len());
            *input = &[];
            let limit = self.input_bytes_max;
            return if self.said > limit {
                Err(SessionError::TooTalkative { limit })
            } else {
                Ok(())
            };
        }
        while self.state == State::Playing {
            let frame = match self.frames.next(input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.close(error.status());
                    return Err(error.into());
                }
            };
            if !self.messages.take(now) {
                self.close(1008);
                return Err(SessionError::TooManyMessages { limit: self.messages.most });
            }
            match frame {
                ClientFrame::Ping(payload) => {
                    if self.pings.take(now) {
                        self.output.push_back(frame_of(Opcode::Pong, &payload));
                    }
                }
                ClientFrame::Close(status) => self.close(status.unwrap_or(1000)),
                ClientFrame::Other => {}
            }
        }
        *input = &[];
        Ok(())
    }

    /// Judges whether the next request takes too long, at the latest `connect_timeout` after it was
    /// first asked.
    ///
    /// # Errors
    /// [`SessionError::RequestTimeout`].
    pub fn check_deadline(&mut self, limits: &Limits, now: Duration) -> Result<(), SessionError> {
        if self.state != State::Answered {
            return Ok(());
        }
        let since = *self.answered.get_or_insert(now);
        if now.saturating_sub(since) >= limits.connect_timeout {
            return Err(SessionError::RequestTimeout);
        }
        Ok(())
    }

    /// What is to be sent, in order.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.output.pop_front()
    }

    /// Bytes held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let request = &self.request;
        let address = &request.stream.address;
        let texts = request.client.capacity() + address.query.capacity() + address.host.capacity();
        size_of::<Self>() + texts + self.output.capacity() * size_of::<Bytes>()
    }

    /// Says goodbye over a WebSocket, and ends. Clients may not be sent every status, so what they
    /// said is not simply said back.
    fn close(&mut self, status: u16) {
        if self.state == State::Playing && self.request.websocket.is_some() {
            let sendable = matches!(status, 1000..=1003 | 1007..=1011 | 3000..=4999);
            let status = if sendable { status } else { 1000 };
            self.output.push_back(frame_of(Opcode::Close, &status.to_be_bytes()));
        }
        self.state = State::Closing;
    }
}

fn frame_of(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    write_header(&mut out, opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
