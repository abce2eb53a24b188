//! The server's side of a connection: from the first byte to media messages and back to replies.
//!
//! This file moves bytes and events; what commands mean is in [`dialogue`]. A session asks for a
//! verdict on connect, publish and play, and until it has one it takes no bytes, so that pipelined
//! commands keep their order and media that follows publish is neither lost nor let through early.

mod dialogue;
mod parting;
mod streams;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::dialogue::{Dialogue, Step};
use super::error::SessionError;
use super::event::{
    ConnectRefusal, ConnectRequest, DropReason, PlayRefusal, PublishEnd, PublishRefusal, Redirect,
    ServerEvent,
};
use super::parts::place;
use super::transport::Transport;
use crate::limits::Limits;
use crate::wire::assembler::Assembled;
use crate::wire::command::{Call, CommandError};
use crate::wire::control::ControlMessage;
use crate::wire::handshake::{HandshakeProgress, ServerHandshake};
use crate::wire::message::{MediaMessage, MessageHeader, MessageType};
use crate::wire::stream_name::NameError;

/// What a connection is doing, for lists and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// The handshake is under way.
    Handshake,
    /// No connect was accepted yet.
    Connecting,
    /// Connected; neither publishing nor playing.
    Idle,
    /// At least one stream is published.
    Publishing,
    /// At least one stream is played, and none published.
    Playing,
    /// A last word was said; the connection is to be flushed and closed.
    Closing,
}

/// One connection from a client.
pub struct ServerSession {
    limits: Arc<Limits>,
    /// Gone when the handshake is done.
    handshake: Option<Box<ServerHandshake>>,
    transport: Transport,
    dialogue: Dialogue,
    /// The message that was reported last. Buffers are swapped with the assembler, not copied.
    media: MediaMessage,
    publishing: bool,
    accepted_at: Duration,
    /// When the last byte came.
    heard_at: Duration,
    /// Since when the client has neither published nor played.
    idle_since: Duration,
    /// A verdict was given since the session last saw the time.
    resumed: bool,
}

impl ServerSession {
    /// A connection just accepted. `seed` becomes the random bytes of the handshake.
    #[must_use]
    pub fn new(limits: Arc<Limits>, seed: u64, now: Duration) -> Self {
        let mut transport = Transport::new(&limits);
        transport.set_connected(false);
        Self {
            handshake: Some(Box::new(ServerHandshake::new(seed))),
            transport,
            dialogue: Dialogue::new(Arc::clone(&limits)),
            media: MediaMessage::empty(),
            publishing: false,
            accepted_at: now,
            heard_at: now,
            idle_since: now,
            resumed: false,
            limits,
        }
    }

    /// Takes bytes from `input` until there is an event, or until all of it is consumed (`None`).
    /// While a verdict is outstanding nothing is consumed and there is no event: the caller keeps
    /// the rest of its input, receives no more, and calls again after the verdict.
    ///
    /// # Errors
    /// What the client did wrong. The connection is to be closed, after [`Self::take_output`].
    pub fn next_event<'a>(
        &'a mut self,
        input: &mut &[u8],
        now: Duration,
    ) -> Result<Option<ServerEvent<'a>>, SessionError> {
        self.see_time(now);
        if !input.is_empty() {
            self.heard_at = now;
        }
        if self.publishing || self.state() != SessionState::Idle {
            self.idle_since = now;
        }
        let step = self.step(input, now)?;
        self.follow_publishing();
        self.dialogue.output.check()?;
        Ok(step.map(|step| self.event(step)))
    }

    /// Whether a verdict is outstanding.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.dialogue.is_waiting()
    }

    /// Whether the last word is said: flush, give the peer `close_linger` to close, then close.
    /// What it still sends is consumed and not looked at.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.dialogue.wants_close
    }

    /// What the client was told when a connect, publish or play was refused; the last of several.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.dialogue.refusal.as_deref()
    }

    /// Bytes to be sent, in order. Bounded by `output_bytes_max`: when more waits, the next
    /// [`Self::next_event`] or [`Self::check_deadline`] is an error.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.dialogue.output.take()
    }

    /// When [`Self::check_deadline`] may next be an error; `None` when time alone ends nothing.
    /// Moves on whenever bytes come.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match self.state() {
            // A verdict is ours to give, and closing is timed by whoever closes.
            _ if self.is_waiting() => None,
            SessionState::Closing | SessionState::Playing => None,
            SessionState::Handshake | SessionState::Connecting => {
                Some(self.accepted_at.saturating_add(self.limits.connect_timeout))
            }
            SessionState::Idle => Some(self.idle_since.saturating_add(self.limits.idle_timeout)),
            SessionState::Publishing => {
                Some(self.heard_at.saturating_add(self.limits.publisher_silence_max))
            }
        }
    }

    /// Judges whether the client took too long.
    ///
    /// # Errors
    /// When it did, or when it does not read its replies. The connection is to be closed.
    pub fn check_deadline(&mut self, now: Duration) -> Result<(), SessionError> {
        self.see_time(now);
        self.dialogue.output.check()?;
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        Err(match self.state() {
            SessionState::Handshake => SessionError::HandshakeTimeout,
            SessionState::Connecting => SessionError::ConnectTimeout,
            SessionState::Publishing => SessionError::PublisherSilent,
            SessionState::Idle | SessionState::Playing | SessionState::Closing => {
                SessionError::IdleTimeout
            }
        })
    }

    /// The verdict on connect: yes. Ignored, like all verdicts, when it was not asked for.
    pub fn accept_connect(&mut self) {
        self.resumed = true;
        self.dialogue.accept_connect(&mut self.transport);
    }

    /// Lets the client into another application than the one it asked for; the verdict on its
    /// connect is still to be given. Does nothing when that verdict is not outstanding.
    ///
    /// # Errors
    /// When that can be no application's name.
    pub fn rename_app(&mut self, app: &str) -> Result<(), NameError> {
        self.dialogue.rename_app(app)
    }

    /// The verdict on connect: no. The connection is to be closed.
    pub fn reject_connect(&mut self, refusal: &ConnectRefusal) {
        self.dialogue.reject_connect(refusal);
    }

    /// The verdict on publish: yes.
    pub fn accept_publish(&mut self, message_stream: u32) {
        self.resumed = true;
        self.dialogue.accept_publish(message_stream);
        self.follow_publishing();
    }

    /// The verdict on publish: no. The connection is to be closed.
    pub fn reject_publish(&mut self, message_stream: u32, refusal: &PublishRefusal) {
        self.dialogue.reject_publish(message_stream, refusal);
    }

    /// The verdict on play: yes. After the bytes of [`Self::take_output`] media may be sent.
    pub fn accept_play(&mut self, message_stream: u32) {
        self.resumed = true;
        self.dialogue.accept_play(message_stream);
    }

    /// The verdict on play: no. The connection is to be closed.
    pub fn reject_play(&mut self, message_stream: u32, refusal: &PlayRefusal) {
        self.dialogue.reject_play(message_stream, refusal);
    }

    /// The verdict on play: not here, but there. The connection is to be closed.
    pub fn redirect_play(&mut self, message_stream: u32, refusal: &PlayRefusal, to: &Redirect) {
        self.dialogue.redirect_play(message_stream, refusal, to);
    }

    /// The verdict on publish: not here, but there. The connection is to be closed.
    pub fn redirect_publish(
        &mut self,
        message_stream: u32,
        refusal: &PublishRefusal,
        to: &Redirect,
    ) {
        self.dialogue.redirect_publish(message_stream, refusal, to);
    }

    /// Tells a player that its playing ends though its stream goes on, and why. The connection is
    /// to be closed.
    pub fn play_ended_by_server(&mut self, message_stream: u32, description: &str) {
        self.dialogue.play_ended(message_stream, description);
    }

    /// Tells a waiting player that its stream is published (again).
    pub fn publish_notify(&mut self, message_stream: u32) {
        self.dialogue.publish_notify(message_stream);
    }

    /// Tells a player that its stream is gone for good, and ends its playing. The connection is to
    /// be closed unless it is used for something else.
    pub fn unpublish_notify(&mut self, message_stream: u32) {
        self.dialogue.unpublish_notify(message_stream);
    }

    /// Tells a publisher that it publishes no longer. The connection is to be closed.
    pub fn publish_ended_by_server(&mut self, message_stream: u32, reason: PublishEnd) {
        self.dialogue.publish_ended(message_stream, &reason);
        self.follow_publishing();
    }

    /// Asks the client to connect again, to `tc_url` or to where it is (E-RTMP "Reconnect
    /// Request"). False, and nothing said, when the client never announced that it understands.
    pub fn reconnect_request(&mut self, tc_url: Option<&str>) -> bool {
        self.dialogue.reconnect_request(tc_url)
    }

    /// What the connection is doing.
    #[must_use]
    pub fn state(&self) -> SessionState {
        let streams = self.dialogue.streams();
        if self.dialogue.wants_close {
            SessionState::Closing
        } else if self.handshake.is_some() {
            SessionState::Handshake
        } else if !self.dialogue.is_connected() {
            SessionState::Connecting
        } else if streams.any_publishing() {
            SessionState::Publishing
        } else if streams.any_playing() {
            SessionState::Playing
        } else {
            SessionState::Idle
        }
    }

    /// What the client said about itself; `None` before connect.
    #[must_use]
    pub fn client(&self) -> Option<&ConnectRequest> {
        self.dialogue.client()
    }

    /// Bytes of unfinished messages held.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.transport.partial_bytes()
    }

    /// Bytes copied so far to put messages together: each once, those of data and aggregates once
    /// more, and what was there already where a buffer had to grow.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.transport.copied_bytes() + self.media.copied_bytes()
    }

    /// Bytes of memory held beyond the session itself, unfinished messages and replies left out:
    /// what the client said about itself.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.client().map_or(0, ConnectRequest::held_bytes)
    }

    /// Bytes received, the handshake included.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.transport.bytes_received()
    }

    fn step(&mut self, input: &mut &[u8], now: Duration) -> Result<Option<Step>, SessionError> {
        loop {
            if let Some(step) = self.dialogue.next_step() {
                return Ok(Some(step));
            }
            if self.is_waiting() {
                return Ok(None);
            }
            if self.dialogue.wants_close {
                self.transport.count(input.len());
                *input = &[];
                return Ok(None);
            }
            if let Some((header, payload)) = self.transport.next_part(now)? {
                return Ok(Some(self.part(&header, &payload)));
            }
            if self.handshake.is_some() {
                return self.shake_hands(input);
            }
            let step = self.message(input, now)?;
            self.transport.acknowledge(&mut self.dialogue.output);
            // A short input may ask for much: what waits is judged message by message.
            self.dialogue.output.check()?;
            match step {
                Progress::Event(step) => return Ok(Some(step)),
                Progress::Continue => {}
                Progress::NeedsInput => return Ok(None),
            }
        }
    }

    fn shake_hands(&mut self, input: &mut &[u8]) -> Result<Option<Step>, SessionError> {
        while let Some(handshake) = &mut self.handshake {
            let before = input.len();
            let progress = handshake.receive(input)?;
            self.transport.count(before - input.len());
            match progress {
                HandshakeProgress::More => return Ok(None),
                HandshakeProgress::Reply(reply) => self.dialogue.output.raw(&reply),
                HandshakeProgress::Done => {
                    let digest = handshake.is_digest();
                    self.handshake = None;
                    return Ok(Some(Step::HandshakeDone { digest }));
                }
            }
        }
        Ok(None)
    }

    /// Takes one message.
    fn message(&mut self, input: &mut &[u8], now: Duration) -> Result<Progress, SessionError> {
        let Some(assembled) = self.transport.next_message(input, now)? else {
            return Ok(Progress::NeedsInput);
        };
        let (header, payload) = match assembled {
            Assembled::Media { header, message } => {
                let Some(message_stream) =
                    self.dialogue.streams().publishing(header.message_stream)
                else {
                    return Ok(Progress::dropped(DropReason::NotPublishing));
                };
                std::mem::swap(&mut self.media, message);
                return Ok(Progress::Event(Step::Media { message_stream }));
            }
            Assembled::Dropped { reason, .. } => return Ok(Progress::dropped(reason.into())),
            Assembled::Plain { header, payload } => (header, payload),
        };
        match header.kind {
            MessageType::CommandAmf0 | MessageType::CommandAmf3 => {
                match Call::parse(header.kind, payload, &self.limits) {
                    Ok(call) => self.dialogue.command(header.message_stream, &call)?,
                    // Before connect nothing else than connect is expected.
                    Err(CommandError::Name) if self.dialogue.is_connected() => {
                        return Ok(Progress::dropped(DropReason::BadCommand));
                    }
                    Err(error) => return Err(error.into()),
                }
                Ok(Progress::Continue)
            }
            MessageType::DataAmf0 | MessageType::DataAmf3 => {
                let Some(message_stream) =
                    self.dialogue.streams().publishing(header.message_stream)
                else {
                    return Ok(Progress::dropped(DropReason::NotPublishing));
                };
                let placed = place(&mut self.media, &header, payload, &self.limits);
                Ok(Progress::Event(Step::placed(placed, message_stream)))
            }
            MessageType::Aggregate => {
                if self.dialogue.streams().publishing(header.message_stream).is_none() {
                    return Ok(Progress::dropped(DropReason::NotPublishing));
                }
                let payload = std::mem::take(payload).freeze();
                if !self.transport.unfold(&header, &payload, &self.limits) {
                    return Ok(Progress::dropped(DropReason::BadAggregate));
                }
                Ok(Progress::Continue)
            }
            kind => {
                if let Some(message) = ControlMessage::parse(kind, payload)?
                    && !self.transport.obey(message, &mut self.dialogue.output, now)?
                {
                    return Ok(Progress::dropped(DropReason::PingFlood));
                }
                Ok(Progress::Continue)
            }
        }
    }

    /// Takes one message out of an aggregate.
    fn part(&mut self, header: &MessageHeader, payload: &[u8]) -> Step {
        match self.dialogue.streams().publishing(header.message_stream) {
            Some(message_stream) => {
                let placed = place(&mut self.media, header, payload, &self.limits);
                Step::placed(placed, message_stream)
            }
            None => Step::Dropped { reason: DropReason::NotPublishing },
        }
    }

    fn event(&mut self, step: Step) -> ServerEvent<'_> {
        match step {
            Step::HandshakeDone { digest } => ServerEvent::HandshakeDone { digest },
            Step::Connect => ServerEvent::Connect(
                self.dialogue.client().expect("the step comes after the request is kept"),
            ),
            Step::Publish(request) => ServerEvent::Publish(request),
            Step::Play(request) => ServerEvent::Play(request),
            Step::Media { message_stream } => {
                ServerEvent::Media { message_stream, message: &mut self.media }
            }
            Step::ClearMetadata { message_stream } => ServerEvent::ClearMetadata { message_stream },
            Step::EndPublish { message_stream } => ServerEvent::EndPublish { message_stream },
            Step::EndPlay { message_stream } => ServerEvent::EndPlay { message_stream },
            Step::Pause { message_stream, paused } => ServerEvent::Pause { message_stream, paused },
            Step::ReceiveTracks { message_stream, audio, video } => {
                ServerEvent::ReceiveTracks { message_stream, audio, video }
            }
            Step::Dropped { reason } => ServerEvent::Dropped { reason },
        }
    }

    /// The time that passed while a verdict was outstanding is not the client's.
    fn see_time(&mut self, now: Duration) {
        if std::mem::take(&mut self.resumed) {
            self.heard_at = now;
            self.idle_since = now;
        }
    }

    /// Lets large messages through for publishers only.
    fn follow_publishing(&mut self) {
        let publishing = self.dialogue.streams().any_publishing();
        if publishing != self.publishing {
            self.publishing = publishing;
            self.transport.set_publishing(publishing);
        }
    }
}

/// Says what the connection is doing and no more: buffers hold what clients call secret.
impl fmt::Debug for ServerSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServerSession")
            .field("state", &self.state())
            .field("client", &self.client())
            .field("streams", self.dialogue.streams())
            .field("bytes_received", &self.bytes_received())
            .finish_non_exhaustive()
    }
}

/// How one message went.
enum Progress {
    Event(Step),
    Continue,
    NeedsInput,
}

impl Progress {
    fn dropped(reason: DropReason) -> Self {
        Self::Event(Step::Dropped { reason })
    }
}
