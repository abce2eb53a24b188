//! What clients ask for and what they are told: the commands of RTMP 1.0 section 7.2 on a server.
//!
//! Commands are taken strictly in order. What the session's owner has to know becomes a [`Step`];
//! what the client has to know is written to the output. Bytes, messages and time are not dealt
//! with here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::streams::{Role, Streams};
use crate::limits::Limits;
use crate::session::error::SessionError;
use crate::session::event::{
    ConnectRefusal, ConnectRefusalCode, ConnectRequest, DropReason, PlayRefusal, PlayRefusalCode,
    PublishEnd, PublishRefusal, PublishRefusalCode, StreamRequest, StreamWords,
};
use crate::session::output::Output;
use crate::session::parts::Placed;
use crate::session::transport::{Transport, WINDOW_BYTES};
use crate::wire::amf::Value;
use crate::wire::command::{Call, Command, PlayRange};
use crate::wire::connect::{ConnectProperties, caps};
use crate::wire::control::{BandwidthLimit, ControlMessage, UserControl};
use crate::wire::reply::{self, Level};
use crate::wire::stream_name::{NameError, StreamAddress, StreamName};

/// An event without the borrows of [`ServerEvent`](crate::session::ServerEvent).
#[derive(Debug)]
pub(super) enum Step {
    HandshakeDone { digest: bool },
    Connect,
    Publish(StreamRequest),
    Play(StreamRequest),
    Media { message_stream: u32 },
    ClearMetadata { message_stream: u32 },
    EndPublish { message_stream: u32 },
    EndPlay { message_stream: u32 },
    Pause { message_stream: u32, paused: bool },
    ReceiveTracks { message_stream: u32, audio: bool, video: bool },
    Dropped { reason: DropReason },
}

impl Step {
    /// What became of a message of a publisher.
    pub(super) fn placed(placed: Placed, message_stream: u32) -> Self {
        match placed {
            Placed::Media => Self::Media { message_stream },
            Placed::ClearMetadata => Self::ClearMetadata { message_stream },
            Placed::Dropped(reason) => Self::Dropped { reason },
        }
    }
}

/// Which verdict is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Connect,
    Publish(u32),
    Play(u32),
}

/// The state of the conversation.
pub(super) struct Dialogue {
    pub(super) output: Output,
    /// The last word is said.
    pub(super) wants_close: bool,
    /// What the client was told when something was last refused.
    pub(super) refusal: Option<String>,
    limits: Arc<Limits>,
    client: Option<Box<ConnectRequest>>,
    connect_transaction: f64,
    connected: bool,
    streams: Streams,
    verdict: Option<Verdict>,
    /// Seldom more than one: a second play ends the first.
    steps: VecDeque<Step>,
}

impl Dialogue {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self {
            output: Output::new(limits.output_bytes_max),
            wants_close: false,
            refusal: None,
            client: None,
            connect_transaction: 0.0,
            connected: false,
            streams: Streams::new(limits.streams_per_connection_max),
            verdict: None,
            steps: VecDeque::new(),
            limits,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.verdict.is_some()
    }

    pub(super) fn client(&self) -> Option<&ConnectRequest> {
        self.client.as_deref()
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The next thing to report. Waiting begins when the question is asked.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        let step = self.steps.pop_front()?;
        if self.steps.is_empty() {
            // Room for four steps is more than most clients hold otherwise.
            self.steps = VecDeque::new();
        }
        match &step {
            Step::Connect => self.verdict = Some(Verdict::Connect),
            Step::Publish(request) => self.verdict = Some(Verdict::Publish(request.message_stream)),
            Step::Play(request) => self.verdict = Some(Verdict::Play(request.message_stream)),
            _ => {}
        }
        Some(step)
    }

    /// Takes a command that came on a message stream.
    pub(super) fn command(&mut self, stream: u32, call: &Call<'_>) -> Result<(), SessionError> {
        if !self.connected {
            return self.command_before_connect(call);
        }
        let transaction = call.transaction;
        match call.command {
            Command::Connect(_) => return Err(SessionError::ConnectedTwice),
            Command::CreateStream => {
                let id = self.streams.create()?;
                self.answer(0, transaction, Value::Number(f64::from(id)));
            }
            Command::Publish { name, kind } => self.publish(stream, name, kind)?,
            Command::Play { name, range } => self.play(stream, name, range)?,
            Command::Pause { paused } => self.pause(stream, paused),
            Command::Seek { .. } => {
                if self.is_playing(stream) {
                    // FFmpeg stays in its seeking state until this comes; a live stream goes on.
                    self.status(stream, Level::Status, "NetStream.Seek.Notify", "Seeking");
                }
            }
            Command::ReceiveAudio(wanted) => self.receive_tracks(stream, Some(wanted), None),
            Command::ReceiveVideo(wanted) => self.receive_tracks(stream, None, Some(wanted)),
            Command::DeleteStream(id) => self.delete_stream(id),
            Command::CloseStream => self.close_stream(stream),
            Command::ReleaseStream => self.answer(stream, transaction, Value::Undefined),
            Command::FcPublish { name } => {
                self.answer(stream, transaction, Value::Undefined);
                self.on_fc(stream, "onFCPublish", "NetStream.Publish.Start", name);
            }
            Command::FcUnpublish { name } => self.fc_unpublish(stream, transaction, name),
            Command::FcSubscribe | Command::CheckBandwidth | Command::Unknown { .. } => {
                self.answer(stream, transaction, Value::Null);
            }
            Command::GetStreamLength => self.answer(stream, transaction, Value::Number(0.0)),
            // Answers are never answered.
            Command::Answer(_) | Command::Status(_) => {}
            Command::Close => self.wants_close = true,
        }
        Ok(())
    }

    fn command_before_connect(&mut self, call: &Call<'_>) -> Result<(), SessionError> {
        let command = match &call.command {
            Command::Connect(properties) => return self.connect(call.transaction, properties),
            Command::CreateStream => "createStream",
            Command::Publish { .. } => "publish",
            Command::Play { .. } => "play",
            // Whatever else is asked is no use before connect, and no harm.
            _ => return Ok(()),
        };
        Err(SessionError::NotConnected { command })
    }

    fn connect(
        &mut self,
        transaction: f64,
        properties: &ConnectProperties<'_>,
    ) -> Result<(), SessionError> {
        self.connect_transaction = transaction;
        match ConnectRequest::new(properties, &self.limits)? {
            Ok(request) => {
                self.client = Some(Box::new(request));
                self.steps.push_back(Step::Connect);
            }
            Err(error) => {
                self.steps.push_back(Step::Dropped { reason: DropReason::BadName });
                self.refuse_connect(ConnectRefusalCode::InvalidApp, &error.to_string());
            }
        }
        Ok(())
    }

    pub(super) fn accept_connect(&mut self, transport: &mut Transport) {
        if self.verdict.take_if(|verdict| *verdict == Verdict::Connect).is_none() {
            return;
        }
        let Some(client) = &self.client else { return };
        let (encoding, enhanced) = (client.object_encoding, client.enhanced.is_some());
        self.connected = true;
        transport.set_connected(true);
        // All of it before the answer: OBS looks at nothing of this kind later, and FFmpeg
        // publishes in chunks of the size that it was told before.
        transport.announce_window(WINDOW_BYTES, &mut self.output);
        self.output.control(ControlMessage::SetPeerBandwidth {
            window: WINDOW_BYTES,
            limit: BandwidthLimit::Dynamic,
        });
        self.output.grow_chunks();
        let transaction = self.connect_transaction;
        self.output.connection_command(|out| {
            reply::connect_result(out, transaction, encoding, enhanced);
        });
    }

    pub(super) fn reject_connect(&mut self, refusal: &ConnectRefusal) {
        if self.verdict.take_if(|verdict| *verdict == Verdict::Connect).is_some() {
            self.refuse_connect(refusal.code, &refusal.description);
        }
    }

    fn refuse_connect(&mut self, code: ConnectRefusalCode, description: &str) {
        let transaction = self.connect_transaction;
        self.output.connection_command(|out| {
            reply::error(out, transaction, code.as_str(), description);
        });
        self.refusal = Some(description.to_owned());
        self.wants_close = true;
    }

    fn publish(&mut self, stream: u32, name: &[u8], kind: &[u8]) -> Result<(), SessionError> {
        let Some(entry) = self.streams.usable(stream)? else {
            let code = PublishRefusalCode::BadName.as_str();
            self.steps.push_back(Step::Dropped { reason: DropReason::BadName });
            self.refuse(stream, code, "There is no such message stream");
            return Ok(());
        };
        if entry.role != Role::Idle {
            // The first use of a message stream stays; the client may go on with it.
            let code = PublishRefusalCode::BadName.as_str();
            self.status(stream, Level::Error, code, "The message stream is in use");
            return Ok(());
        }
        match self.resolve(name) {
            Ok(address) => {
                let words = StreamWords::new(name, kind, PlayRange::default());
                self.set_role(stream, Role::WantsPublish(address.name.clone()));
                let asked = self.as_asked(name, &address);
                let request = StreamRequest { message_stream: stream, address, asked, words };
                self.steps.push_back(Step::Publish(request));
            }
            Err(description) => {
                self.steps.push_back(Step::Dropped { reason: DropReason::BadName });
                self.refuse(stream, PublishRefusalCode::BadName.as_str(), &description);
            }
        }
        Ok(())
    }

    pub(super) fn accept_publish(&mut self, stream: u32) {
        if self.verdict.take_if(|verdict| *verdict == Verdict::Publish(stream)).is_none() {
            return;
        }
        let Some(entry) = self.streams.get(stream) else { return };
        if let Role::WantsPublish(name) = std::mem::replace(&mut entry.role, Role::Idle) {
            entry.role = Role::Publishing(name);
            self.status(stream, Level::Status, "NetStream.Publish.Start", "Start publishing");
        }
    }

    pub(super) fn reject_publish(&mut self, stream: u32, refusal: &PublishRefusal) {
        if self.take_publish_verdict(stream) {
            self.refuse(stream, refusal.code.as_str(), &refusal.description);
        }
    }

    /// Whether the verdict on this publish was outstanding; it is not any more.
    pub(super) fn take_publish_verdict(&mut self, stream: u32) -> bool {
        self.verdict.take_if(|verdict| *verdict == Verdict::Publish(stream)).is_some()
    }

    fn play(&mut self, stream: u32, name: &[u8], range: PlayRange) -> Result<(), SessionError> {
        let Some(entry) = self.streams.usable(stream)? else {
            let code = PlayRefusalCode::Failed.as_str();
            self.steps.push_back(Step::Dropped { reason: DropReason::BadName });
            self.refuse(stream, code, "There is no such message stream");
            return Ok(());
        };
        match entry.role {
            Role::Idle => {}
            // Flash's "reset": the second play takes the place of the first.
            Role::Playing { .. } => {
                entry.role = Role::Idle;
                self.steps.push_back(Step::EndPlay { message_stream: stream });
            }
            Role::WantsPublish(_) | Role::Publishing(_) | Role::WantsPlay(_) => {
                let code = PlayRefusalCode::Failed.as_str();
                self.status(stream, Level::Error, code, "The message stream is in use");
                return Ok(());
            }
        }
        match self.resolve(name) {
            Ok(address) => {
                let words = StreamWords::new(name, b"", range);
                self.set_role(stream, Role::WantsPlay(address.name.clone()));
                let asked = self.as_asked(name, &address);
                let request = StreamRequest { message_stream: stream, address, asked, words };
                self.steps.push_back(Step::Play(request));
            }
            Err(description) => {
                self.steps.push_back(Step::Dropped { reason: DropReason::BadName });
                self.refuse(stream, PlayRefusalCode::StreamNotFound.as_str(), &description);
            }
        }
        Ok(())
    }

    pub(super) fn accept_play(&mut self, stream: u32) {
        if self.verdict.take_if(|verdict| *verdict == Verdict::Play(stream)).is_none() {
            return;
        }
        let Some(entry) = self.streams.get(stream) else { return };
        let playing = Role::Playing { audio: true, video: true };
        let Role::WantsPlay(name) = std::mem::replace(&mut entry.role, playing) else { return };
        self.output.event(UserControl::StreamBegin { message_stream: stream });
        for (code, description) in [
            ("NetStream.Play.Reset", "Playing and resetting stream"),
            ("NetStream.Play.Start", "Started playing stream"),
        ] {
            self.output.stream_command(stream, |out| {
                let details = Some(("details", name.stream()));
                reply::status(out, Level::Status, code, description, details);
            });
        }
        self.output.stream_data(stream, reply::sample_access);
    }

    pub(super) fn reject_play(&mut self, stream: u32, refusal: &PlayRefusal) {
        if self.take_play_verdict(stream) {
            self.refuse(stream, refusal.code.as_str(), &refusal.description);
        }
    }

    /// Whether the verdict on this play is outstanding, and no longer from here on.
    pub(super) fn take_play_verdict(&mut self, stream: u32) -> bool {
        self.verdict.take_if(|verdict| *verdict == Verdict::Play(stream)).is_some()
    }

    fn pause(&mut self, stream: u32, paused: bool) {
        if !self.is_playing(stream) {
            return;
        }
        if paused {
            self.status(stream, Level::Status, "NetStream.Pause.Notify", "Paused");
            self.output.event(UserControl::StreamEof { message_stream: stream });
        } else {
            self.status(stream, Level::Status, "NetStream.Unpause.Notify", "Going on");
            self.output.event(UserControl::StreamBegin { message_stream: stream });
        }
        self.steps.push_back(Step::Pause { message_stream: stream, paused });
    }

    fn receive_tracks(&mut self, stream: u32, new_audio: Option<bool>, new_video: Option<bool>) {
        let Some(entry) = self.streams.get(stream) else { return };
        let Role::Playing { audio, video } = &mut entry.role else { return };
        *audio = new_audio.unwrap_or(*audio);
        *video = new_video.unwrap_or(*video);
        let (audio, video) = (*audio, *video);
        if new_audio == Some(true) || new_video == Some(true) {
            self.status(stream, Level::Status, "NetStream.Seek.Notify", "Seeking");
            let description = "Started playing stream";
            self.status(stream, Level::Status, "NetStream.Play.Start", description);
        }
        self.steps.push_back(Step::ReceiveTracks { message_stream: stream, audio, video });
    }

    /// Ends the use of a message stream and forgets it; no reply by specification. GStreamer names
    /// the stream instead of its id, and then means the one it has.
    fn delete_stream(&mut self, id: Option<u32>) {
        let Some(id) = id.or_else(|| self.streams.newest()) else { return };
        match self.streams.remove(id) {
            Some(Role::Publishing(_)) => {
                self.steps.push_back(Step::EndPublish { message_stream: id });
            }
            Some(Role::Playing { .. }) => {
                self.steps.push_back(Step::EndPlay { message_stream: id });
            }
            _ => {}
        }
    }

    fn close_stream(&mut self, stream: u32) {
        if self.streams.publishing_exactly(stream) {
            self.end_publish(stream);
        } else if self.is_playing(stream) {
            self.streams.end(stream);
            self.steps.push_back(Step::EndPlay { message_stream: stream });
        }
    }

    fn fc_unpublish(&mut self, stream: u32, transaction: f64, name: &[u8]) {
        self.on_fc(stream, "onFCUnpublish", "NetStream.Unpublish.Success", name);
        self.answer(stream, transaction, Value::Undefined);
        let address = self.resolve(name).ok();
        let name = address.map(|address| address.name);
        if let Some(id) = self.streams.publishing_as(stream, name.as_ref()) {
            self.end_publish(id);
        }
    }

    fn end_publish(&mut self, stream: u32) {
        self.streams.end(stream);
        let code = "NetStream.Unpublish.Success";
        self.status(stream, Level::Status, code, "Stopped publishing");
        self.steps.push_back(Step::EndPublish { message_stream: stream });
    }

    pub(super) fn publish_notify(&mut self, stream: u32) {
        if self.is_playing(stream) {
            let code = "NetStream.Play.PublishNotify";
            self.status(stream, Level::Status, code, "The stream is published");
        }
    }

    pub(super) fn unpublish_notify(&mut self, stream: u32) {
        if !self.is_playing(stream) {
            return;
        }
        // The end-of-stream event alone is ignored by FFmpeg and rtmpdump; the status ends them.
        self.output.event(UserControl::StreamEof { message_stream: stream });
        let code = "NetStream.Play.UnpublishNotify";
        self.status(stream, Level::Status, code, "The stream is no longer published");
        self.streams.end(stream);
        self.wants_close |= !self.streams.any_publishing() && !self.streams.any_playing();
    }

    pub(super) fn publish_ended(&mut self, stream: u32, reason: &PublishEnd) {
        if self.streams.publishing_exactly(stream) {
            let (level, code, description) = reason.status();
            self.status(stream, level, code, description);
            self.streams.end(stream);
            self.wants_close = true;
        }
    }

    pub(super) fn reconnect_request(&mut self, tc_url: Option<&str>) -> bool {
        let understood =
            self.client().is_some_and(|client| client.caps_ex() & caps::RECONNECT != 0);
        if !understood || !self.connected {
            return false;
        }
        let code = "NetConnection.Connect.ReconnectRequest";
        self.output.connection_command(|out| {
            let detail = tc_url.map(|url| ("tcUrl", url));
            reply::status(out, Level::Status, code, "Please connect again", detail);
        });
        true
    }

    pub(super) fn is_playing(&mut self, stream: u32) -> bool {
        self.streams.get(stream).is_some_and(|entry| matches!(entry.role, Role::Playing { .. }))
    }

    fn set_role(&mut self, stream: u32, role: Role) {
        if let Some(entry) = self.streams.get(stream) {
            entry.role = role;
        }
    }

    /// Lets the client into another application than the one it asked for, while it waits for the
    /// verdict on its connect.
    pub(super) fn rename_app(&mut self, app: &str) -> Result<(), NameError> {
        let limits = Arc::clone(&self.limits);
        match (&mut self.client, self.verdict) {
            (Some(client), Some(Verdict::Connect)) => client.rename_app(app, &limits),
            _ => Ok(()),
        }
    }

    fn resolve(&self, name: &[u8]) -> Result<StreamAddress, String> {
        let client = self.client.as_ref().ok_or("not connected")?;
        client.resolve(name, &self.limits).map_err(|error| error.to_string())
    }

    /// The name by what the client itself said.
    fn as_asked(&self, name: &[u8], address: &StreamAddress) -> StreamName {
        let asked = self.client.as_ref().and_then(|it| it.resolve_as_asked(name, &self.limits));
        asked.unwrap_or_else(|| address.name.clone())
    }

    fn answer(&mut self, stream: u32, transaction: f64, value: Value<'_>) {
        if transaction == 0.0 {
            return;
        }
        let write = |out: &mut _| reply::result(out, transaction, value);
        match stream {
            0 => self.output.connection_command(write),
            stream => self.output.stream_command(stream, write),
        }
    }

    fn on_fc(&mut self, stream: u32, name: &str, code: &str, description: &[u8]) {
        let write = |out: &mut _| reply::on_fc(out, name, code, description);
        match stream {
            0 => self.output.connection_command(write),
            stream => self.output.stream_command(stream, write),
        }
    }

    fn status(&mut self, stream: u32, level: Level, code: &str, description: &str) {
        self.output
            .stream_command(stream, |out| reply::status(out, level, code, description, None));
    }

    pub(super) fn refuse(&mut self, stream: u32, code: &str, description: &str) {
        self.status(stream, Level::Error, code, description);
        self.give_up(stream, description.to_owned());
    }

    /// Ends what a message stream is used for, and with it the connection.
    pub(super) fn give_up(&mut self, stream: u32, description: String) {
        self.streams.end(stream);
        self.refusal = Some(description);
        self.wants_close = true;
    }
}
