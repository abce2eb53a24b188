//! A player: its dialogue, then its judge.
//!
//! It is given bytes and asked for bytes; what carries them is somebody else's.

use std::time::Duration;

use bytes::Bytes;
use relay::session::ClientEvent;

use super::dialogue::{Dialogue, Opening};
use super::task::{Loss, Task};
use super::web::WebDialogue;
use crate::failover::Silence;
use crate::measure::{Meter, SpanKind, Spans};
use crate::plan::Pace;
use crate::verify::Verifier;

/// How a player asks, and is answered.
#[derive(Debug)]
pub(super) enum Voice {
    /// By RTMP.
    Rtmp(Box<Dialogue>),
    /// By HTTP, to be sent FLV.
    Web {
        dialogue: Box<WebDialogue>,
        /// When it asked, and must have been answered.
        asked: Duration,
        deadline: Duration,
    },
}

impl Voice {
    /// The connection is there at `now`, and was due at `due`.
    pub(super) fn new(
        opening: &Opening<'_>,
        due: Duration,
        now: Duration,
        spans: &mut Spans,
    ) -> Self {
        if opening.target.scheme.is_flv() {
            spans.record(SpanKind::Tcp, now.saturating_sub(due));
            let deadline = now + opening.limits.connect_timeout;
            let dialogue = Box::new(WebDialogue::new(opening));
            return Self::Web { dialogue, asked: now, deadline };
        }
        Self::Rtmp(Box::new(Dialogue::new(opening, due, now, spans)))
    }

    /// What is to be sent.
    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        match self {
            Self::Rtmp(dialogue) => dialogue.take_output(),
            Self::Web { dialogue, .. } => dialogue.take_output(),
        }
    }

    /// Says goodbye.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Rtmp(dialogue) => dialogue.session.finish(),
            Self::Web { dialogue, .. } => dialogue.finish(),
        }
    }

    /// Where the server that refused said to go.
    pub(super) fn redirect(&self) -> Option<&str> {
        match self {
            Self::Rtmp(dialogue) => dialogue.session.redirect(),
            Self::Web { dialogue, .. } => dialogue.location(),
        }
    }

    /// Whether the server expects to be told what was received.
    pub(super) fn acknowledges(&self) -> bool {
        matches!(self, Self::Rtmp(_))
    }

    /// Bytes received so far.
    pub(super) fn bytes_received(&self) -> u64 {
        match self {
            Self::Rtmp(dialogue) => dialogue.session.bytes_received(),
            Self::Web { dialogue, .. } => dialogue.bytes_received(),
        }
    }

    fn next(&mut self, bytes: &mut &[u8], now: Duration) -> Result<Option<ClientEvent<'_>>, Loss> {
        match self {
            Self::Rtmp(dialogue) => {
                dialogue.session.next_event(bytes, now).map_err(|error| Loss::session(&error))
            }
            Self::Web { dialogue, .. } => dialogue.next(bytes),
        }
    }
}

/// A player on one connection.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) voice: Voice,
    verifier: Verifier,
    /// Slow on purpose: its losses are not held against the server.
    slow: bool,
    /// When it was due.
    due: Duration,
    /// When it asked to play.
    asked: Option<Duration>,
    started: bool,
    heard: bool,
    joined: bool,
    /// Whether its join is still to be counted: not when it joined before, on another connection.
    counts: bool,
    /// Its last frame on an earlier connection.
    outage_since: Option<Duration>,
    pub(super) silence: Silence,
}

/// What the server did that changes the player's way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It ended the stream.
    Ended(String),
    /// It asks to go elsewhere.
    Elsewhere(Option<String>),
}

impl Turn {
    /// What an event means that publishers and players take alike.
    pub(super) fn of(event: ClientEvent<'_>) -> Option<Self> {
        match event {
            ClientEvent::Ended { code } => Some(Self::Ended(code)),
            ClientEvent::ReconnectRequest { tc_url } => Some(Self::Elsewhere(tc_url)),
            _ => None,
        }
    }
}

impl Player {
    pub(super) fn new(voice: Voice, verifier: Verifier, task: &Task, pace: Pace) -> Self {
        let asked = match &voice {
            Voice::Rtmp(_) => None,
            Voice::Web { asked, .. } => Some(*asked),
        };
        Self {
            voice,
            verifier,
            slow: pace != Pace::Full,
            due: task.due,
            asked,
            started: false,
            heard: false,
            joined: false,
            counts: !task.joined_before,
            outage_since: task.outage_since,
            silence: task.silence,
        }
    }

    /// Takes bytes that arrived at `now`.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        now: Duration,
        meter: &mut Meter,
    ) -> Result<Option<Turn>, Loss> {
        let mut turn = None;
        loop {
            let event = self.voice.next(&mut bytes, now)?;
            match event {
                None => {
                    self.note(now, meter);
                    return Ok(turn);
                }
                Some(ClientEvent::Connected) => {
                    if let Voice::Rtmp(dialogue) = &mut self.voice {
                        dialogue.connected(now, &mut meter.spans);
                    }
                }
                Some(ClientEvent::Started { .. }) => {
                    self.note(now, meter);
                    if let Voice::Web { asked, .. } = &self.voice {
                        meter.spans.record(SpanKind::Connect, now.saturating_sub(*asked));
                    }
                    self.started = true;
                    meter.of(self.slow).0.players_started += u64::from(self.counts);
                }
                Some(ClientEvent::Media { message }) => {
                    let (counters, spans) = meter.of(self.slow);
                    let seen = self.verifier.receive(message, now, counters, spans);
                    if seen.coded {
                        self.frame(seen.key, now, meter);
                    }
                }
                Some(other) => turn = Turn::of(other).or(turn),
            }
        }
    }

    /// Whether it has come to its first key frame.
    pub(super) fn joined(&self) -> bool {
        self.joined
    }

    /// Whether the server let it start.
    pub(super) fn started(&self) -> bool {
        self.started
    }

    /// When its last frame came.
    pub(super) fn last_arrival(&self) -> Option<Duration> {
        self.verifier.last_arrival()
    }

    /// It leaves, or was cut off, at `now`: what is open is settled.
    pub(super) fn finish(&mut self, now: Duration, meter: &mut Meter) {
        self.verifier.finish(now, meter.of(self.slow).0);
    }

    /// Whether the server took too long to let it begin.
    pub(super) fn check_deadline(&mut self, now: Duration) -> Result<(), Loss> {
        match &mut self.voice {
            Voice::Rtmp(dialogue) => {
                dialogue.session.check_deadline(now).map_err(|error| Loss::session(&error))
            }
            Voice::Web { deadline, .. } if !self.started && now >= *deadline => Err(Loss {
                cause: "timeout".to_owned(),
                sentence: "the server did not answer the request".to_owned(),
            }),
            Voice::Web { .. } => Ok(()),
        }
    }

    fn note(&mut self, now: Duration, meter: &mut Meter) {
        let Voice::Rtmp(dialogue) = &mut self.voice else { return };
        dialogue.note(now, &mut meter.spans);
        if dialogue.asked(now, &mut meter.spans) {
            self.asked = Some(now);
            self.verifier.begin(now);
        }
    }

    fn frame(&mut self, key: bool, now: Duration, meter: &mut Meter) {
        let asked = self.asked.unwrap_or(now);
        self.silence.frame(now, meter);
        if !self.heard {
            self.heard = true;
            meter.spans.record(SpanKind::FirstByte, now.saturating_sub(asked));
            if let Some(since) = self.outage_since.take() {
                meter.spans.record(SpanKind::Outage, now.saturating_sub(since));
            }
        }
        // Audio without any video is joined at once.
        if !self.joined && (key || !self.verifier.may_have_video(now)) {
            self.joined = true;
            meter.of(self.slow).0.players_joined += u64::from(self.counts);
            meter.spans.record(SpanKind::FirstKey, now.saturating_sub(asked));
            meter.spans.record(SpanKind::Join, now.saturating_sub(self.due));
        }
    }
}
