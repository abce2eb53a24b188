//! The client session of one connection, with the time that each step of its beginning took.
//!
//! Steps: TCP, handshake, connect, createStream, then publish or play. Each is measured from the
//! end of the one before, the first from when the connection was due.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use relay::limits::Limits;
use relay::session::{ClientRole, ClientSession, ClientSettings};

use crate::measure::{SpanKind, Spans};
use crate::target::Target;

/// A session under way.
#[derive(Debug)]
pub(super) struct Dialogue {
    pub(super) session: ClientSession,
    step: Step,
    /// When the last step was done.
    since: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Handshake,
    Connect,
    CreateStream,
    Start,
    Done,
}

/// S0, S1 and S2 (RTMP 1.0 section 5.2).
const HANDSHAKE_BYTES: u64 = 1 + 1536 + 1536;

/// What a client needs to begin.
pub(super) struct Opening<'a> {
    pub(super) target: &'a Target,
    pub(super) stream: usize,
    pub(super) streams: usize,
    pub(super) role: ClientRole,
    pub(super) limits: &'a Arc<Limits>,
    pub(super) enhanced: bool,
    pub(super) seed: u64,
}

impl Dialogue {
    /// The connection is there at `now`, and was due at `due`.
    pub(super) fn new(
        opening: &Opening<'_>,
        due: Duration,
        now: Duration,
        spans: &mut Spans,
    ) -> Self {
        spans.record(SpanKind::Tcp, now.saturating_sub(due));
        let settings = ClientSettings {
            app: opening.target.app.clone(),
            tc_url: opening.target.tc_url(),
            name: opening.target.stream_name(opening.stream, opening.streams),
            role: opening.role,
            enhanced: opening.enhanced,
        };
        let limits = Arc::clone(opening.limits);
        let session = ClientSession::new(settings, limits, opening.seed, now);
        Self { session, step: Step::Handshake, since: now }
    }

    /// Bytes were received up to `now`: which steps did that end? To be called after each event.
    pub(super) fn note(&mut self, now: Duration, spans: &mut Spans) {
        if self.step == Step::Handshake && self.session.bytes_received() >= HANDSHAKE_BYTES {
            self.done(Step::Connect, SpanKind::Handshake, now, spans);
        }
    }

    /// The server accepted connect.
    pub(super) fn connected(&mut self, now: Duration, spans: &mut Spans) {
        self.note(now, spans);
        self.done(Step::CreateStream, SpanKind::Connect, now, spans);
    }

    /// True once, when the stream was just created and publish or play asked for.
    pub(super) fn asked(&mut self, now: Duration, spans: &mut Spans) -> bool {
        let asked = self.step == Step::CreateStream && self.session.message_stream() != 0;
        if asked {
            self.done(Step::Start, SpanKind::CreateStream, now, spans);
        }
        asked
    }

    /// The server let a publisher start.
    pub(super) fn published(&mut self, now: Duration, spans: &mut Spans) {
        self.asked(now, spans);
        self.done(Step::Done, SpanKind::Publish, now, spans);
    }

    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        self.session.take_output()
    }

    fn done(&mut self, next: Step, kind: SpanKind, now: Duration, spans: &mut Spans) {
        spans.record(kind, now.saturating_sub(self.since));
        self.step = next;
        self.since = now;
    }
}
