//! What a server session reports, and the verdicts that it is given.
//!
//! Strings from the peer are judged before they appear here: names are clean, and what else may be
//! printed has no control characters. Queries may carry secrets and are never printed.

use std::borrow::Cow;
use std::fmt;

use crate::limits::Limits;
use crate::wire::assembler;
use crate::wire::command::PlayRange;
use crate::wire::connect::{CODECS_MAX, ConnectProperties, EnhancedProperties, caps};
use crate::wire::data::DataFault;
use crate::wire::media::Codec;
use crate::wire::message::MediaMessage;
use crate::wire::needs::Need;
use crate::wire::reply::Level;
use crate::wire::stream_name::{
    NameError, StreamAddress, StreamName, app_name, connect_query, tc_url_host,
};

use super::error::SessionError;

/// Something that happened on a connection, in order. `Connect`, `Publish` and `Play` want a
/// verdict, until which the session takes no more bytes.
#[derive(Debug)]
pub enum ServerEvent<'a> {
    /// The handshake is complete.
    HandshakeDone {
        /// Whether it was the digest form.
        digest: bool,
    },
    /// The client wants to connect: accept or reject it.
    Connect(&'a ConnectRequest),
    /// The client wants to publish: accept or reject it.
    Publish(StreamRequest),
    /// The client wants to play: accept or reject it.
    Play(StreamRequest),
    /// Audio, video or data of a publisher.
    Media {
        /// The message stream it is published on, whatever id the message itself came with.
        message_stream: u32,
        /// The message, to be appended or taken before the next call.
        message: &'a mut MediaMessage,
    },
    /// The publisher took its metadata back.
    ClearMetadata {
        /// The message stream it is published on.
        message_stream: u32,
    },
    /// The client ended its publishing; the connection goes on.
    EndPublish {
        /// The message stream it was published on.
        message_stream: u32,
    },
    /// The client ended its playing; nothing more is to be sent on that message stream.
    EndPlay {
        /// The message stream it was played on.
        message_stream: u32,
    },
    /// The player paused, or goes on (at a key frame, with headers).
    Pause {
        /// The message stream.
        message_stream: u32,
        /// Whether nothing is to be sent.
        paused: bool,
    },
    /// The player chose which tracks it wants.
    ReceiveTracks {
        /// The message stream.
        message_stream: u32,
        /// Whether audio is wanted.
        audio: bool,
        /// Whether video is wanted.
        video: bool,
    },
    /// Something was not used; to be counted.
    Dropped {
        /// What it was.
        reason: DropReason,
    },
}

/// What a client asks to publish or to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// The message stream that the verdict names.
    pub message_stream: u32,
    /// The name, with query and host.
    pub address: StreamAddress,
    /// The name by what the client itself said: another one where a hook renamed its application.
    /// What it has to ask for elsewhere.
    pub asked: StreamName,
    /// What the client wrote.
    pub words: StreamWords,
}

/// What a client wrote in publish or play besides the name, as hooks are told it. May carry
/// secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StreamWords {
    /// What followed the question mark of the name.
    pub args: String,
    /// The type of publish: `live`, `record` or `append`.
    pub kind: String,
    /// What play said besides the name.
    pub range: PlayRange,
}

impl StreamWords {
    pub(super) fn new(name: &[u8], kind: &[u8], range: PlayRange) -> Self {
        let text = String::from_utf8_lossy(name);
        let args = text.split_once('?').map_or("", |(_, args)| args).to_owned();
        Self { args, kind: String::from_utf8_lossy(kind).into_owned(), range }
    }
}

impl fmt::Debug for StreamWords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StreamWords").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Why something a client sent was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Media or data on a message stream that does not publish, or before connect.
    NotPublishing,
    /// A data message that players would not stand.
    BadData,
    /// A data message longer than `data_bytes_max`, as it came or as it would be relayed.
    DataTooLong,
    /// A shared object message.
    SharedObject,
    /// A message type that is not known.
    UnknownType,
    /// Audio or video too short for its own header.
    EmptyMedia,
    /// A command without a readable name.
    BadCommand,
    /// A part of an aggregate message that cannot be used.
    BadAggregate,
    /// A publish or play whose name was refused.
    BadName,
    /// A ping beyond `pings_per_second_max`.
    PingFlood,
}

impl DropReason {
    /// The reason as a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPublishing => "not_publishing",
            Self::BadData => "bad_data",
            Self::DataTooLong => "data_too_long",
            Self::SharedObject => "shared_object",
            Self::UnknownType => "unknown_type",
            Self::EmptyMedia => "empty_media",
            Self::BadCommand => "bad_command",
            Self::BadAggregate => "bad_aggregate",
            Self::BadName => "bad_name",
            Self::PingFlood => "ping_flood",
        }
    }
}

impl From<assembler::DropReason> for DropReason {
    fn from(reason: assembler::DropReason) -> Self {
        match reason {
            assembler::DropReason::DataTooLong => Self::DataTooLong,
            assembler::DropReason::SharedObject => Self::SharedObject,
            assembler::DropReason::UnknownType => Self::UnknownType,
            assembler::DropReason::EmptyMedia => Self::EmptyMedia,
            assembler::DropReason::NotConnected => Self::NotPublishing,
        }
    }
}

impl From<DataFault> for DropReason {
    fn from(fault: DataFault) -> Self {
        match fault {
            DataFault::Name | DataFault::Metadata => Self::BadData,
            DataFault::TooLong => Self::DataTooLong,
        }
    }
}

/// What a client said about itself in connect.
#[derive(Clone, PartialEq)]
pub struct ConnectRequest {
    /// The application, clean and without query; may be empty.
    pub app: String,
    /// The host of tcUrl without port; empty when there is none.
    pub host: String,
    /// The client's name and version.
    pub flash_ver: String,
    /// Where the player program came from; may hold a query.
    pub swf_url: Box<str>,
    /// The page that the player program is on; may hold a query.
    pub page_url: Box<str>,
    /// The object encoding it asked for; 0 when it did not.
    pub object_encoding: f64,
    /// Legacy audio codecs that it plays, a bit for each sound format; 0 when it did not say.
    pub audio_codecs: u32,
    /// Legacy video codecs that it plays, a bit for each codec id; 0 when it did not say.
    pub video_codecs: u32,
    /// Video functions (E-RTMP): 2 is HDR, 4 video metadata.
    pub video_function: u32,
    /// Whether it says that it came to publish (`type` is `nonprivate`), as encoders do.
    pub is_encoder: bool,
    /// What it said of E-RTMP; `None` from legacy clients, and from OBS.
    pub enhanced: Option<EnhancedClient>,
    raw_app: Vec<u8>,
    raw_tc_url: Vec<u8>,
    /// The application that the client named, if it has another name since.
    asked_app: Option<Box<str>>,
}

/// What a client said of E-RTMP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnhancedClient {
    /// Capability bits, see [`caps`](crate::wire::connect::caps).
    pub caps_ex: u32,
    /// Codecs by their FourCC (or `*`), each once and at most [`CODECS_MAX`] of them, with what
    /// the client does with them: decode 1, encode 2, forward 4; 0 from a bare list.
    pub codecs: Vec<(String, u32)>,
}

impl EnhancedClient {
    fn new(properties: &EnhancedProperties<'_>) -> Self {
        let mut codecs = Vec::<(String, u32)>::new();
        let listed = properties.four_cc_list.iter().map(|name| (*name, 0));
        let maps = properties.video_four_cc.iter().chain(&properties.audio_four_cc);
        for (name, bits) in listed.chain(maps.copied()) {
            let name = printable(name);
            if let Some((_, known)) = codecs.iter_mut().find(|(known, _)| *known == name) {
                *known |= bits;
            } else if codecs.len() < CODECS_MAX {
                codecs.push((name, bits));
            }
        }
        Self { caps_ex: properties.caps_ex, codecs }
    }

    fn held_bytes(&self) -> usize {
        let names: usize = self.codecs.iter().map(|(name, _)| name.capacity()).sum();
        self.codecs.capacity() * size_of::<(String, u32)>() + names
    }
}

impl ConnectRequest {
    /// Judges the properties of connect.
    pub(super) fn new(
        properties: &ConnectProperties<'_>,
        limits: &Limits,
    ) -> Result<Result<Self, NameError>, SessionError> {
        let too_long = |property, limit| Err(SessionError::ConnectString { property, limit });
        if properties.tc_url.len() > limits.url_bytes_max {
            return too_long("tcUrl", limits.url_bytes_max);
        }
        let other = properties.longest_other_string().max(properties.app.len());
        if other > limits.connect_string_bytes_max {
            return too_long("a string", limits.connect_string_bytes_max);
        }
        let app = match app_name(properties.app, limits) {
            Ok(app) => app,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Self {
            app,
            host: printable(tc_url_host(properties.tc_url).as_bytes()),
            flash_ver: printable(properties.flash_ver),
            swf_url: printable(properties.swf_url).into(),
            page_url: printable(properties.page_url).into(),
            object_encoding: properties.object_encoding.unwrap_or(0.0),
            audio_codecs: properties.audio_codecs,
            video_codecs: properties.video_codecs,
            video_function: properties.video_function,
            is_encoder: properties.kind == b"nonprivate",
            enhanced: properties.enhanced.as_ref().map(EnhancedClient::new),
            raw_app: properties.app.to_vec(),
            raw_tc_url: properties.tc_url.to_vec(),
            asked_app: None,
        }))
    }

    /// The capability bits of E-RTMP, 0 from a client that named none.
    #[must_use]
    pub fn caps_ex(&self) -> u32 {
        self.enhanced.as_ref().map(|enhanced| enhanced.caps_ex).unwrap_or_default()
    }

    /// Whether the client said that it understands this. A client that named no codecs at all is
    /// believed to know the legacy ones; it may know others, too, and not say so.
    #[must_use]
    pub fn announced(&self, need: Need) -> bool {
        const HDR: u32 = 2;
        const VIDEO_METADATA: u32 = 4;
        match need {
            Need::Codec(Codec::FourCc(four_cc)) => {
                self.enhanced.as_ref().is_some_and(|enhanced| enhanced.takes(four_cc))
            }
            Need::Codec(Codec::Audio(format)) => knows(self.audio_codecs, format),
            Need::Codec(Codec::Video(id)) => knows(self.video_codecs, id),
            Need::Multitrack => self.caps_ex() & caps::MULTITRACK != 0,
            Need::VideoMetadata => {
                self.enhanced.is_some() || self.video_function & (HDR | VIDEO_METADATA) != 0
            }
        }
    }

    /// The application as it came, perhaps with a query, for hooks. May carry secrets.
    #[must_use]
    pub fn raw_app(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.raw_app)
    }

    /// Puts another application in the place of the one asked for; the query stays.
    pub(super) fn rename_app(&mut self, app: &str, limits: &Limits) -> Result<(), NameError> {
        let name = app_name(app.as_bytes(), limits)?;
        let query = self.raw_app.iter().position(|byte| *byte == b'?');
        let query = query.map(|at| self.raw_app.split_off(at)).unwrap_or_default();
        self.raw_app = name.as_bytes().to_vec();
        self.raw_app.extend_from_slice(&query);
        let asked = std::mem::replace(&mut self.app, name);
        self.asked_app.get_or_insert(asked.into());
        Ok(())
    }

    /// The application that the client named, clean and without query, whatever it is called
    /// since. What it has to name elsewhere; may be a secret.
    #[must_use]
    pub fn asked_app(&self) -> &str {
        self.asked_app.as_deref().unwrap_or(&self.app)
    }

    /// tcUrl as it came, for hooks. May carry secrets.
    #[must_use]
    pub fn tc_url(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.raw_tc_url)
    }

    /// The query of app and tcUrl, for hooks. May carry secrets.
    #[must_use]
    pub fn query(&self) -> String {
        connect_query(&self.raw_app, &self.raw_tc_url)
    }

    /// Bytes of memory that it takes up.
    pub(super) fn held_bytes(&self) -> usize {
        let strings = [&self.app, &self.host, &self.flash_ver];
        let urls = self.swf_url.len() + self.page_url.len();
        let asked = self.asked_app.as_ref().map_or(0, |app| app.len());
        let raw = self.raw_app.capacity() + self.raw_tc_url.capacity() + asked;
        let enhanced = self.enhanced.as_ref().map_or(0, EnhancedClient::held_bytes);
        size_of::<Self>()
            + strings.map(String::capacity).iter().sum::<usize>()
            + urls
            + raw
            + enhanced
    }

    /// The stream that a name of publish or play means by the application that the client named.
    pub(super) fn resolve_as_asked(&self, name: &[u8], limits: &Limits) -> Option<StreamName> {
        let asked = self.asked_app.as_ref()?;
        let address = StreamAddress::resolve(asked.as_bytes(), b"", name, limits);
        address.ok().map(|address| address.name)
    }

    /// The stream that a name of publish or play means on this connection.
    pub(super) fn resolve(&self, name: &[u8], limits: &Limits) -> Result<StreamAddress, NameError> {
        StreamAddress::resolve(&self.raw_app, &self.raw_tc_url, name, limits)
    }
}

impl EnhancedClient {
    /// Whether the client decodes or forwards a codec, or names it without saying what for.
    fn takes(&self, four_cc: [u8; 4]) -> bool {
        const DECODE: u32 = 1;
        const FORWARD: u32 = 4;
        self.codecs.iter().any(|(name, bits)| {
            let named = name == "*" || name.as_bytes() == four_cc;
            named && (*bits == 0 || bits & (DECODE | FORWARD) != 0)
        })
    }
}

/// Whether a set of legacy codecs, if one was named, holds the codec of that number.
fn knows(codecs: u32, number: u8) -> bool {
    codecs == 0 || codecs >> (number & 0x0F) & 1 != 0
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectRequest")
            .field("app", &self.app)
            .field("host", &self.host)
            .field("flash_ver", &self.flash_ver)
            .field("object_encoding", &self.object_encoding)
            .field("enhanced", &self.enhanced)
            .finish_non_exhaustive()
    }
}

/// A peer's string with a question mark for each control character and for what is no UTF-8. Never
/// longer than what came.
pub(super) fn printable(bytes: &[u8]) -> String {
    let hidden = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    let mut text = String::with_capacity(bytes.len());
    text.extend(String::from_utf8_lossy(bytes).chars().map(|c| if hidden(c) { '?' } else { c }));
    text
}

/// A refusal of connect: `_error`, and the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRefusal {
    /// What the client is told.
    pub code: ConnectRefusalCode,
    /// For people.
    pub description: Cow<'static, str>,
}

/// Codes for refusing connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusalCode {
    /// Not allowed.
    Rejected,
    /// There is no such application.
    InvalidApp,
    /// Not possible.
    Failed,
    /// We are about to end.
    AppShutdown,
}

impl ConnectRefusalCode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "NetConnection.Connect.Rejected",
            Self::InvalidApp => "NetConnection.Connect.InvalidApp",
            Self::Failed => "NetConnection.Connect.Failed",
            Self::AppShutdown => "NetConnection.Connect.AppShutdown",
        }
    }
}

/// A refusal of publish: an error status, and the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRefusal {
    /// What the client is told.
    pub code: PublishRefusalCode,
    /// For people.
    pub description: Cow<'static, str>,
}

/// Codes for refusing publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefusalCode {
    /// The name is taken or cannot be.
    BadName,
    /// Not allowed.
    Denied,
    /// Not possible now (a limit, a drain).
    Rejected,
}

impl PublishRefusalCode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BadName => "NetStream.Publish.BadName",
            Self::Denied => "NetStream.Publish.Denied",
            Self::Rejected => "NetStream.Publish.Rejected",
        }
    }
}

/// A refusal of play: an error status, and the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayRefusal {
    /// What the client is told.
    pub code: PlayRefusalCode,
    /// For people.
    pub description: Cow<'static, str>,
}

/// Codes for refusing play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayRefusalCode {
    /// There is no such stream.
    StreamNotFound,
    /// Not possible.
    Failed,
    /// Not allowed without a secret that was not shown, or with the one that was.
    Unauthorized,
    /// Not allowed, whatever is shown.
    Forbidden,
}

impl PlayRefusalCode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::StreamNotFound => "NetStream.Play.StreamNotFound",
            Self::Failed | Self::Unauthorized | Self::Forbidden => "NetStream.Play.Failed",
        }
    }
}

/// Where a player is sent that finds no room here.
#[derive(Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The `tcUrl` to connect to, with the query of connect. May carry secrets.
    pub tc_url: String,
    /// The whole URL of the stream, with its query. May carry secrets.
    pub url: String,
    /// The same without the query, for people and log lines.
    pub shown: String,
}

/// Says where to and no more: queries hold what clients call secret.
impl fmt::Debug for Redirect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Redirect").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// Why we end what a client publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishEnd {
    /// Another publisher has the name now.
    TakenOver,
    /// An operator or a rule ended it; the reason, for people.
    Stopped(Cow<'static, str>),
    /// This node is about to end; the client may come back.
    Draining,
}

impl PublishEnd {
    pub(super) fn status(&self) -> (Level, &'static str, &str) {
        match self {
            Self::TakenOver => (
                Level::Error,
                "NetStream.Publish.BadName",
                "Another publisher took the stream over",
            ),
            Self::Stopped(why) => (Level::Error, "NetStream.Publish.Rejected", why),
            Self::Draining => (
                Level::Status,
                "NetStream.Unpublish.Success",
                "The server is about to end; connect again",
            ),
        }
    }
}
