//! A publisher: its dialogue, then its source, frame by frame when due.

use std::time::Duration;

use bytes::Bytes;
use relay::session::ClientEvent;
use relay::wire::message::MediaKind;
use relay::wire::timestamp::Timestamp;

use super::dialogue::Dialogue;
use super::player::Turn;
use super::task::Loss;
use crate::measure::Meter;
use crate::source::Source;

/// A publisher on one connection.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) dialogue: Dialogue,
    source: Source,
    /// When the source started: when the server let us.
    started: Option<Duration>,
    payload: Vec<u8>,
}

/// Frames written at once at most; a publisher that is further behind goes on in the next turn.
const FRAMES_PER_TURN: usize = 64;

impl Publisher {
    pub(super) fn new(dialogue: Dialogue, source: Source) -> Self {
        Self { dialogue, source, started: None, payload: Vec::new() }
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
            let event = self.dialogue.session.next_event(&mut bytes, now);
            match event.map_err(|error| Loss::session(&error))? {
                None => {
                    self.dialogue.note(now, &mut meter.spans);
                    self.dialogue.asked(now, &mut meter.spans);
                    return Ok(turn);
                }
                Some(ClientEvent::Connected) => self.dialogue.connected(now, &mut meter.spans),
                Some(ClientEvent::Started { .. }) => {
                    self.dialogue.published(now, &mut meter.spans);
                    meter.counters.publishers_started += 1;
                    self.started = Some(now);
                }
                Some(other) => turn = Turn::of(other).or(turn),
            }
        }
    }

    /// When it started to send.
    pub(super) fn started(&self) -> Option<Duration> {
        self.started
    }

    /// Metadata and sequence headers, to be sent before the first frame.
    pub(super) fn headers(&self) -> Vec<Bytes> {
        let session = &self.dialogue.session;
        let headers = self.source.headers().into_iter();
        headers.map(|(kind, payload)| session.media_output(kind, Timestamp(0), &payload)).collect()
    }

    /// When the next frame is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.started.map(|started| started + self.source.next_due())
    }

    /// Every frame that is due at `now`, in order.
    pub(super) fn due(&mut self, now: Duration, meter: &mut Meter, out: &mut Vec<Bytes>) {
        let Some(started) = self.started else { return };
        for _ in 0..FRAMES_PER_TURN {
            if started + self.source.next_due() > now {
                return;
            }
            let message = self.source.next(started, &mut self.payload);
            let session = &self.dialogue.session;
            out.push(session.media_output(message.kind, message.timestamp, &self.payload));
            meter.counters.messages_sent += u64::from(message.kind != MediaKind::Data);
        }
    }
}
