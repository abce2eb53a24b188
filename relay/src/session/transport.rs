//! What client and server sessions have in common: chunks to messages, acknowledgements, control
//! messages, and the limits on how many of them may come.
//!
//! Commands and media are not looked at here.

use std::time::Duration;

use bytes::Bytes;

use super::error::SessionError;
use super::output::Output;
use super::parts::Parts;
use crate::limits::Limits;
use crate::wire::assembler::{Assembled, MessageAssembler};
use crate::wire::chunk_reader::ChunkReader;
use crate::wire::control::{BandwidthLimit, ControlMessage, UserControl};
use crate::wire::message::MessageHeader;

/// The window that we announce, and the one in which we acknowledge to a peer that announced none:
/// Wirecast stalls after 10 s without acknowledgements although it never asked for them.
pub(super) const WINDOW_BYTES: u32 = 2_500_000;

/// The receiving half of a connection after the handshake.
pub(super) struct Transport {
    reader: ChunkReader,
    assembler: MessageAssembler,
    parts: Parts,
    messages: RateLimit,
    pings: RateLimit,
    bytes_received: u64,
    bytes_acknowledged: u64,
    /// The peer wants an acknowledgement after this many bytes.
    window: u64,
    window_min: u32,
    /// The last Window Acknowledgement Size that we sent.
    window_sent: Option<u32>,
}

impl Transport {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            reader: ChunkReader::new(limits),
            assembler: MessageAssembler::new(limits),
            parts: Parts::default(),
            messages: RateLimit::new(limits.messages_per_second_max),
            pings: RateLimit::new(limits.pings_per_second_max),
            bytes_received: 0,
            bytes_acknowledged: 0,
            window: u64::from(WINDOW_BYTES),
            window_min: u32::try_from(limits.window_ack_bytes_min).unwrap_or(u32::MAX),
            window_sent: None,
        }
    }

    /// Bytes received so far, the handshake included.
    pub(super) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes of unfinished messages.
    pub(super) fn partial_bytes(&self) -> usize {
        self.assembler.partial_bytes()
    }

    /// Bytes copied to put messages together.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.assembler.copied_bytes()
    }

    /// Counts bytes that did not pass through [`Self::next_message`].
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes_received += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Whether connect was accepted. Until this is called for the first time the peer counts as
    /// connected; before connect, media and data are not kept.
    pub(super) fn set_connected(&mut self, connected: bool) {
        self.reader.set_media_wanted(connected);
        self.assembler.set_connected(connected);
    }

    /// The peer may send so many messages in a second.
    pub(super) fn set_messages_per_second(&mut self, most: usize) {
        self.messages.per_second = most;
    }

    /// Whether large messages may be under way.
    pub(super) fn set_publishing(&mut self, publishing: bool) {
        self.assembler.set_publishing(publishing);
    }

    /// Takes bytes up to the end of the next message; `None` when all of `input` is consumed.
    pub(super) fn next_message(
        &mut self,
        input: &mut &[u8],
        now: Duration,
    ) -> Result<Option<Assembled<'_>>, SessionError> {
        let before = input.len();
        let last = loop {
            match self.reader.next(input)? {
                Some(fragment) if fragment.last => break Some(fragment),
                // Only a last fragment completes a message.
                Some(fragment) => {
                    self.assembler.push(&fragment)?;
                }
                None => break None,
            }
        };
        self.count(before - input.len());
        let Some(fragment) = last else { return Ok(None) };
        self.allow_message(now)?;
        Ok(self.assembler.push(&fragment)?)
    }

    /// Takes an aggregate message apart: its parts come from [`Self::next_part`]. False when a part
    /// cannot be used.
    pub(super) fn unfold(
        &mut self,
        header: &MessageHeader,
        payload: &Bytes,
        limits: &Limits,
    ) -> bool {
        self.parts.unfold(header, payload, limits)
    }

    /// The next message out of an aggregate; to be asked before [`Self::next_message`]. Each counts
    /// like one that came by itself.
    pub(super) fn next_part(
        &mut self,
        now: Duration,
    ) -> Result<Option<(MessageHeader, Bytes)>, SessionError> {
        let Some(part) = self.parts.next() else { return Ok(None) };
        self.allow_message(now)?;
        Ok(Some(part))
    }

    fn allow_message(&mut self, now: Duration) -> Result<(), SessionError> {
        if self.messages.allow(now) {
            Ok(())
        } else {
            Err(SessionError::TooManyMessages { limit: self.messages.per_second })
        }
    }

    /// Writes an acknowledgement when half of the window has come since the last one.
    pub(super) fn acknowledge(&mut self, output: &mut Output) {
        if self.bytes_received - self.bytes_acknowledged < self.window / 2 {
            return;
        }
        self.bytes_acknowledged = self.bytes_received;
        // The count goes modulo 2^32 and never starts again.
        let sequence =
            u32::try_from(self.bytes_received & u64::from(u32::MAX)).expect("32 bits are left");
        output.control(ControlMessage::Acknowledgement { sequence });
    }

    /// Announces our window.
    pub(super) fn announce_window(&mut self, window: u32, output: &mut Output) {
        self.window_sent = Some(window);
        output.control(ControlMessage::WindowAckSize(window));
    }

    /// Does what a control message asks for. False when it was a ping too many.
    pub(super) fn obey(
        &mut self,
        message: ControlMessage,
        output: &mut Output,
        now: Duration,
    ) -> Result<bool, SessionError> {
        match message {
            ControlMessage::SetChunkSize(size) => self.reader.set_chunk_size(size)?,
            ControlMessage::Abort { chunk_stream } => {
                if let Some(slot) = self.reader.abort(chunk_stream) {
                    self.assembler.abort(slot);
                }
            }
            ControlMessage::WindowAckSize(window) => {
                self.window = u64::from(window.max(self.window_min));
            }
            ControlMessage::SetPeerBandwidth { window, limit } => {
                // FFmpeg takes 0 and what looks negative for an error when it comes back.
                let usable = window > 0 && i32::try_from(window).is_ok();
                let wanted = limit != BandwidthLimit::Soft && self.window_sent != Some(window);
                if usable && wanted {
                    self.announce_window(window, output);
                }
            }
            ControlMessage::UserControl(UserControl::PingRequest { time }) => {
                if !self.pings.allow(now) {
                    return Ok(false);
                }
                output.event(UserControl::PingResponse { time });
            }
            // Old clients do not acknowledge, so nothing of ours waits for it; the rest are hints.
            ControlMessage::Acknowledgement { .. } | ControlMessage::UserControl(_) => {}
        }
        Ok(true)
    }
}

/// So many in each second, counted from the first of them.
struct RateLimit {
    per_second: usize,
    since: Duration,
    count: usize,
}

impl RateLimit {
    fn new(per_second: usize) -> Self {
        Self { per_second, since: Duration::ZERO, count: 0 }
    }

    fn allow(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.count = 0;
        }
        self.count += 1;
        self.count <= self.per_second
    }
}
