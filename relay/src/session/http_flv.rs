//! A player of FLV over HTTP or a WebSocket: its request, the answers to it, and what it may say
//! while it plays.
//!
//! ```text
//!   RequestHead -> FlvRequest::read -> FlvSession -> verdict --> take_output -> 200 or 101, FLV
//!                                                          \--> take_output -> 404, 401, 403, 503
//! ```
//!
//! The stream itself never passes through here: it follows what [`FlvSession::take_output`] gave,
//! and ends with the connection. After any other answer the connection may carry another request.

mod cors;
mod player;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

pub use self::cors::{Cors, preflight};
pub use self::player::FlvSession;
use super::event::{StreamRequest, StreamWords, printable};
use super::http::RequestHead;
use crate::limits::Limits;
use crate::wire::message::MEDIA_STREAM;
use crate::wire::stream_name::{NameError, StreamAddress};

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
    /// The page that it plays on, if it says so (Referer). May carry secrets.
    pub page: String,
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
        let words = StreamWords { args: head.query().to_owned(), ..StreamWords::default() };
        let text = |name, most| {
            let text = head.header(name).unwrap_or_default();
            printable(&text.as_bytes()[..text.floor_char_boundary(most)])
        };
        Ok(Self {
            stream: StreamRequest {
                message_stream: MEDIA_STREAM,
                asked: address.name.clone(),
                address,
                words,
            },
            only,
            extras,
            websocket,
            head_only,
            client: text("user-agent", AGENT_BYTES_MAX),
            page: text("referer", limits.url_bytes_max),
            bearer,
            origin: origin.map(str::to_owned),
            keeps_alive: head.keeps_alive(),
        })
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
