//! A player: its dialogue, then its judge.
//!
//! It is given bytes and asked for bytes; what carries them is somebody else's.

use std::time::Duration;

use relay::session::{ClientEvent, SessionError};

use super::dialogue::Dialogue;
use super::task::Task;
use crate::measure::{Meter, SpanKind};
use crate::plan::Pace;
use crate::verify::Verifier;

/// A player on one connection.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) dialogue: Dialogue,
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
    pub(super) fn new(dialogue: Dialogue, verifier: Verifier, task: &Task, pace: Pace) -> Self {
        Self {
            dialogue,
            verifier,
            slow: pace != Pace::Full,
            due: task.due,
            asked: None,
            started: false,
            heard: false,
            joined: false,
            counts: !task.joined_before,
            outage_since: task.outage_since,
        }
    }

    /// Takes bytes that arrived at `now`.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        now: Duration,
        meter: &mut Meter,
    ) -> Result<Option<Turn>, SessionError> {
        let mut turn = None;
        loop {
            let event = self.dialogue.session.next_event(&mut bytes, now)?;
            match event {
                None => {
                    self.note(now, meter);
                    return Ok(turn);
                }
                Some(ClientEvent::Connected) => self.dialogue.connected(now, &mut meter.spans),
                Some(ClientEvent::Started { .. }) => {
                    self.note(now, meter);
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

    fn note(&mut self, now: Duration, meter: &mut Meter) {
        self.dialogue.note(now, &mut meter.spans);
        if self.dialogue.asked(now, &mut meter.spans) {
            self.asked = Some(now);
            self.verifier.begin(now);
        }
    }

    fn frame(&mut self, key: bool, now: Duration, meter: &mut Meter) {
        let asked = self.asked.unwrap_or(now);
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
