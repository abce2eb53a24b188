//! Commands: the calls that a peer makes (RTMP 1.0 section 7.2), as typed values borrowed from the
//! message.
//!
//! A command message is a name, a transaction id, an object or null, and arguments. Types 20 (AMF0)
//! and 17 (AMF3, in practice AMF0 behind a selector byte) are read alike. Arguments that nobody
//! needs are not looked at, an argument of the wrong kind reads as absent, and only for the three
//! calls that decide what a connection is (connect, publish, play) an unreadable message is a
//! fault.

use thiserror::Error;

use super::amf::{AmfError, Value, saturating_i64, saturating_u32};
use super::amf0::Amf0Reader;
use super::connect::ConnectProperties;
use super::message::MessageType;
use crate::limits::Limits;

/// A command with the id by which its answer is recognised.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<'a> {
    /// The caller's transaction id; 0 asks for no answer.
    pub transaction: f64,
    /// What is asked.
    pub command: Command<'a>,
}

/// What a peer asks for. Names of streams are raw: they are judged by
/// [`StreamName`](super::stream_name::StreamName).
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// `connect` (section 7.2.1.1).
    Connect(Box<ConnectProperties<'a>>),
    /// `createStream` (section 7.2.1.3).
    CreateStream,
    /// `publish` (section 7.2.2.6).
    Publish {
        /// The stream's name, perhaps with a query.
        name: &'a [u8],
        /// `live`, `record` or `append`; it makes no difference to a relay, only to hooks.
        kind: &'a [u8],
    },
    /// `play` (section 7.2.2.1), or `play2` (7.2.2.2), which names the stream in an object.
    Play {
        /// The stream's name, perhaps with a query.
        name: &'a [u8],
        /// What makes no difference to a live stream, only to hooks.
        range: PlayRange,
    },
    /// `pause` (section 7.2.2.8) and `pauseRaw`.
    Pause {
        /// False resumes.
        paused: bool,
    },
    /// `seek` (section 7.2.2.7).
    Seek {
        /// The position in milliseconds.
        milliseconds: f64,
    },
    /// `receiveAudio` (section 7.2.2.4).
    ReceiveAudio(bool),
    /// `receiveVideo` (section 7.2.2.5).
    ReceiveVideo(bool),
    /// `deleteStream` (section 7.2.2.3). `None` when a name stands in the place of the id
    /// (GStreamer).
    DeleteStream(Option<u32>),
    /// `closeStream`, and `publish` or `play` with `false` instead of a name, which mean the same.
    CloseStream,
    /// `releaseStream`, by which encoders ask to end what is left of their last session.
    ReleaseStream,
    /// `FCPublish`.
    FcPublish {
        /// The stream's name, not to be relied upon.
        name: &'a [u8],
    },
    /// `FCUnpublish`.
    FcUnpublish {
        /// The stream's name, not to be relied upon.
        name: &'a [u8],
    },
    /// `FCSubscribe`.
    FcSubscribe,
    /// `getStreamLength`.
    GetStreamLength,
    /// `_checkbw`.
    CheckBandwidth,
    /// `_result` or `_error`: an answer, never to be answered.
    Answer(Answer<'a>),
    /// `onStatus`.
    Status(Status<'a>),
    /// `close`, which ends the connection.
    Close,
    /// Any other name.
    Unknown {
        /// The name.
        name: &'a [u8],
    },
}

/// Which part of a recording `play` asks for (RTMP 1.0 section 7.2.2.1); what is missing is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayRange {
    /// Where it begins, in the client's unit; negative for live streams.
    pub start: i64,
    /// How long it is, in the client's unit.
    pub duration: i64,
    /// Whether what was played before ends.
    pub reset: bool,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<'a> {
    /// `_result` and not `_error`.
    pub success: bool,
    /// The third value: properties of the answering side, or null.
    pub object: Value<'a>,
    /// The fourth value: what the call gave.
    pub value: Value<'a>,
}

/// The information object of `onStatus` and of some answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status<'a> {
    /// `status`, `warning` or `error`.
    pub level: &'a [u8],
    /// For example `NetStream.Publish.Start`.
    pub code: &'a [u8],
    /// For people.
    pub description: &'a [u8],
    /// Where to go to (reconnect request, E-RTMP "Reconnect Request").
    pub tc_url: Option<&'a [u8]>,
    /// Where a server sends a client that it refuses: the `tcUrl` of its `ex.redirect`.
    pub redirect: Option<&'a [u8]>,
}

impl<'a> Status<'a> {
    /// Reads the information object; what is missing is empty.
    #[must_use]
    pub fn from_value(value: &Value<'a>) -> Self {
        let text = |key| value.get(key).and_then(Value::as_bytes);
        Self {
            level: text("level").unwrap_or_default(),
            code: text("code").unwrap_or_default(),
            description: text("description").unwrap_or_default(),
            tc_url: text("tcUrl"),
            redirect: value.get("ex").and_then(|ex| ex.get("redirect")).and_then(Value::as_bytes),
        }
    }
}

/// Why a command cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// There is no name, so nobody knows what is asked. Such a message may be passed over.
    #[error("a command message has no readable name")]
    Name,
    /// One of the calls that a connection stands on.
    #[error("{command} cannot be read: {fault}")]
    Unreadable {
        /// The call.
        command: &'static str,
        /// What is wrong with it.
        fault: AmfError,
    },
    /// One of the calls that a connection stands on lacks an argument.
    #[error("{command} has no {argument}")]
    Missing {
        /// The call.
        command: &'static str,
        /// The argument.
        argument: &'static str,
    },
}

impl<'a> Call<'a> {
    /// Reads the payload of a message of type 20 or 17.
    ///
    /// # Errors
    /// When there is no name, or when `connect`, `publish` or `play` cannot be understood.
    pub fn parse(
        kind: MessageType,
        payload: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, CommandError> {
        let mut reader = Amf0Reader::new(without_selector(kind, payload), limits);
        let name = match reader.read() {
            Ok(Value::String(name)) => name,
            Ok(_) | Err(_) => return Err(CommandError::Name),
        };
        let mut values = Values { reader, fault: None };
        let transaction = values.next().as_number().unwrap_or(0.0);
        let object = values.next();
        let command = values.command(name, object)?;
        Ok(Self { transaction, command })
    }
}

/// Types 15, 16 and 17 begin with a format selector, which is 0 in all known traffic; some senders
/// leave it out.
#[must_use]
pub fn without_selector(kind: MessageType, payload: &[u8]) -> &[u8] {
    match (kind, payload) {
        (MessageType::CommandAmf3 | MessageType::DataAmf3, [0, rest @ ..]) => rest,
        _ => payload,
    }
}

/// The values after the name. Past the end, or past the first fault, every value is undefined.
struct Values<'a> {
    reader: Amf0Reader<'a>,
    fault: Option<AmfError>,
}

impl<'a> Values<'a> {
    fn next(&mut self) -> Value<'a> {
        if self.fault.is_some() || self.reader.is_at_end() {
            return Value::Undefined;
        }
        match self.reader.read() {
            Ok(value) => value,
            Err(fault) => {
                self.fault = Some(fault);
                Value::Undefined
            }
        }
    }

    fn command(&mut self, name: &'a [u8], object: Value<'a>) -> Result<Command<'a>, CommandError> {
        let text = |value: &Value<'a>| value.as_bytes().unwrap_or_default();
        Ok(match name {
            b"connect" => {
                self.must_be_readable("connect")?;
                if object.properties().is_none() {
                    return Err(CommandError::Missing {
                        command: "connect",
                        argument: "properties",
                    });
                }
                Command::Connect(Box::new(ConnectProperties::from_value(&object)))
            }
            b"createStream" => Command::CreateStream,
            b"publish" => match self.stream_name("publish")? {
                Some(name) => Command::Publish { name, kind: text(&self.next()) },
                None => Command::CloseStream,
            },
            b"play" => match self.stream_name("play")? {
                Some(name) => Command::Play { name, range: self.range() },
                None => Command::CloseStream,
            },
            b"play2" => {
                let options = self.next();
                self.must_be_readable("play2")?;
                let name = options
                    .get("streamName")
                    .and_then(Value::as_bytes)
                    .ok_or(CommandError::Missing { command: "play2", argument: "streamName" })?;
                let start = options.get("start").and_then(Value::as_number);
                let start = start.map(saturating_i64).unwrap_or_default();
                Command::Play { name, range: PlayRange { start, ..PlayRange::default() } }
            }
            b"pause" | b"pauseRaw" => {
                Command::Pause { paused: self.next().as_boolean().unwrap_or(true) }
            }
            b"seek" => Command::Seek { milliseconds: self.next().as_number().unwrap_or(0.0) },
            b"receiveAudio" => Command::ReceiveAudio(self.next().as_boolean().unwrap_or(true)),
            b"receiveVideo" => Command::ReceiveVideo(self.next().as_boolean().unwrap_or(true)),
            b"deleteStream" => Command::DeleteStream(self.next().as_number().map(saturating_u32)),
            b"closeStream" => Command::CloseStream,
            b"releaseStream" => Command::ReleaseStream,
            b"FCPublish" => Command::FcPublish { name: text(&self.next()) },
            b"FCUnpublish" => Command::FcUnpublish { name: text(&self.next()) },
            b"FCSubscribe" => Command::FcSubscribe,
            b"getStreamLength" => Command::GetStreamLength,
            b"_checkbw" => Command::CheckBandwidth,
            b"_result" | b"_error" => {
                Command::Answer(Answer { success: name == b"_result", object, value: self.next() })
            }
            b"onStatus" => Command::Status(Status::from_value(&self.next())),
            b"close" => Command::Close,
            _ => Command::Unknown { name },
        })
    }

    /// The name that publish and play begin with; `None` when it is a boolean, by which Flash ends
    /// what was begun.
    fn stream_name(&mut self, command: &'static str) -> Result<Option<&'a [u8]>, CommandError> {
        let name = self.next();
        self.must_be_readable(command)?;
        match name {
            Value::String(name) => Ok(Some(name)),
            Value::Boolean(_) => Ok(None),
            // No name at all: the last part of the application may be the name.
            Value::Null | Value::Undefined => Ok(Some(&[])),
            _ => Err(CommandError::Missing { command, argument: "stream name" }),
        }
    }

    fn range(&mut self) -> PlayRange {
        let mut number = || self.next().as_number().map(saturating_i64).unwrap_or_default();
        let (start, duration) = (number(), number());
        PlayRange { start, duration, reset: self.next().as_boolean().unwrap_or_default() }
    }

    fn must_be_readable(&self, command: &'static str) -> Result<(), CommandError> {
        match self.fault {
            None => Ok(()),
            Some(fault) => Err(CommandError::Unreadable { command, fault }),
        }
    }
}

#[cfg(test)]
mod tests;
