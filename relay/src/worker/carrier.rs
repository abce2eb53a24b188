//! Carriers: the HTTP connections that bring a tunnel's requests and take its answers.
//!
//! ```text
//!   head (http.rs) -> Body -> Asked -> Answering -> the next head
//!                       ^ Turn: others come first       or Depart: the session lives elsewhere
//! ```
//!
//! A carrier has one request in hand. What comes behind it stays unread until the answer is gone,
//! so answers are in the order of requests, and a connection can go to another core between two.
//! A carrier belongs to no session: proxies send requests of many by one connection.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::Worker;
use super::connection::Connection;
use super::http::HttpFront;
use super::labels::{CloseReason, RefuseReason, Role, Transport};
use super::mail::WorkerIndex;
use super::speech::Speech;
use super::tunnel::Todo;
use crate::reactor::ConnectionKey;
use crate::session::SessionError;
use crate::session::http::{RequestHead, response_head};
use crate::session::tunnel::{CONTENT_TYPE, IdFault, Numbered, Repeat, TunnelRequest, Turn, Verb};

/// A connection with a tunnel's request in hand.
pub(super) struct Carrier {
    /// Reads the next head.
    front: Box<HttpFront>,
    purpose: Purpose,
    step: Step,
    /// Bytes of the body that are yet to come.
    left: u64,
    keeps_alive: bool,
    /// When the body must be whole; what comes of a session's puts it off.
    deadline: Duration,
    /// Bytes of RTMP in the answer under way.
    carried: u64,
}

/// What the request is for.
enum Purpose {
    /// A new session.
    Open,
    /// Something that is not here, which its client does without.
    Nothing,
    /// A session of this worker.
    Session { session: ConnectionKey, request: Numbered },
    /// The same, which came before.
    Repeat { session: ConnectionKey, request: Numbered },
    /// A session of another worker, which is to read the head again.
    Elsewhere { to: WorkerIndex, head: Box<RequestHead> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The body comes.
    Body,
    /// Requests before it are missing, or it is about to leave.
    Turn,
    /// It is whole, and the session has not answered.
    Asked,
    /// The answer is being sent.
    Answering,
}

/// A session's body may take a second for each of these that came, besides the time that every one
/// has.
const BODY_BYTES_PER_SECOND: u32 = 16 * 1024;

/// The longest body of a request that is for no session: one byte is usual.
const BARE_BODY_BYTES: u64 = 1_024;

/// A piece of an answer so short is copied behind the head.
const SHORT_PIECE: usize = 1_024;

impl Carrier {
    /// Whether nothing may be received: what comes has to wait.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.step, Step::Turn | Step::Answering)
    }

    pub(super) fn check_deadline(&self, now: Duration) -> Result<(), SessionError> {
        let waits = matches!(self.step, Step::Body | Step::Turn);
        if waits && now >= self.deadline {
            return Err(SessionError::RequestTimeout);
        }
        Ok(())
    }

    /// Bytes that it holds, those of an answer that is being sent among them.
    pub(super) fn held_bytes(&self) -> usize {
        let sending = if self.step == Step::Answering { self.carried } else { 0 };
        let sending = usize::try_from(sending).unwrap_or(usize::MAX);
        size_of::<Self>().saturating_add(self.front.held_bytes()).saturating_add(sending)
    }

    /// The bytes of an answer that are no RTMP, of so many that were sent.
    pub(super) fn overhead(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.carried)
    }

    /// Whether an answer of this session is being sent.
    pub(super) fn answers(&self, session: ConnectionKey) -> bool {
        self.step == Step::Answering && self.session() == Some(session)
    }

    /// Where it is to go.
    pub(super) fn destination(&self) -> Option<WorkerIndex> {
        match &self.purpose {
            Purpose::Elsewhere { to, .. } => Some(*to),
            _ => None,
        }
    }
}

impl Worker {
    /// The head of a tunnel's request has come.
    pub(super) fn begin_request(
        &mut self,
        connection: &mut Connection,
        head: &RequestHead,
        now: Duration,
    ) {
        // Answers to requests before this one.
        connection.collect_replies();
        if !matches!(connection.transport, Transport::Rtmpt | Transport::Rtmpts) {
            self.set_transport(connection, Transport::Rtmpt);
        }
        let Some(length) = head.body_bytes() else {
            let status = (411, "Length Required");
            return self.refuse_request(connection, status, RefuseReason::TunnelBody);
        };
        let request = TunnelRequest::parse(head.target.as_bytes());
        let limit = match request {
            Some(TunnelRequest::Session { .. }) => {
                u64::try_from(self.limits.tunnel_body_bytes_max).unwrap_or(u64::MAX)
            }
            _ => BARE_BODY_BYTES,
        };
        if length > limit {
            let status = (413, "Content Too Large");
            return self.refuse_request(connection, status, RefuseReason::TunnelBody);
        }
        let (purpose, step) = match request {
            Some(TunnelRequest::Open) => (Purpose::Open, Step::Body),
            Some(TunnelRequest::Ident) => (Purpose::Nothing, Step::Body),
            Some(TunnelRequest::Session { verb, id, number }) => {
                let request = Numbered { number, verb, length };
                match self.find_session(connection, id, request, head, now) {
                    Ok(found) => found,
                    Err(reason) => return self.refuse_request(connection, NOT_FOUND, reason),
                }
            }
            None => {
                return self.refuse_request(connection, NOT_FOUND, RefuseReason::HttpNotFound);
            }
        };
        let Speech::Http(front) = std::mem::replace(&mut connection.speech, Speech::Unknown) else {
            return;
        };
        let leaves = matches!(purpose, Purpose::Elsewhere { .. });
        connection.speech = Speech::Carrier(Box::new(Carrier {
            front,
            purpose,
            step,
            left: length,
            keeps_alive: head.keeps_alive(),
            deadline: now + self.limits.tunnel_body_timeout,
            carried: 0,
        }));
        if leaves {
            self.tunnels.note(Todo::Depart(connection.key));
        }
    }

    /// Finds the session of a request, and whether it is its turn.
    fn find_session(
        &mut self,
        connection: &mut Connection,
        id: &[u8],
        request: Numbered,
        head: &RequestHead,
        now: Duration,
    ) -> Result<(Purpose, Step), RefuseReason> {
        let id = self.tunnels.source.ids.read(id).map_err(|fault| match fault {
            IdFault::OtherNode => RefuseReason::TunnelNode,
            IdFault::Malformed | IdFault::Forged => RefuseReason::TunnelId,
        })?;
        let core = usize::from(id.core());
        if core != self.index() {
            let known = core < self.mailbox.workers();
            let elsewhere = Purpose::Elsewhere { to: core, head: Box::new(head.clone()) };
            return known.then_some((elsewhere, Step::Turn)).ok_or(RefuseReason::TunnelId);
        }
        let session = *self.tunnels.sessions.get(&id).ok_or(RefuseReason::TunnelExpired)?;
        let turn = self.ask_turn(session, connection.key, request, now);
        if !matches!(turn, Some(Turn::Stale | Turn::Fault(_)) | None) {
            self.becomes_carrier(connection);
        }
        match turn {
            Some(Turn::Now { .. }) => Ok((Purpose::Session { session, request }, Step::Body)),
            Some(Turn::Wait { .. }) => Ok((Purpose::Session { session, request }, Step::Turn)),
            Some(Turn::Again) => Ok((Purpose::Repeat { session, request }, Step::Body)),
            Some(Turn::Stale) => Err(RefuseReason::TunnelStale),
            Some(Turn::Fault(fault)) => {
                // Counted by whoever refuses the request.
                self.tunnels.note(Todo::Fault(session, fault));
                Err(RefuseReason::TunnelOrder)
            }
            None => Err(RefuseReason::TunnelExpired),
        }
    }

    fn ask_turn(
        &mut self,
        session: ConnectionKey,
        carrier: ConnectionKey,
        request: Numbered,
        now: Duration,
    ) -> Option<Turn<ConnectionKey>> {
        let tunnel = self.connections.get_mut(session)?.tunnel.as_mut()?;
        let turn = tunnel.order.begin(request, carrier, now);
        tunnel.heard = now;
        if let Turn::Now { instead_of } | Turn::Wait { instead_of } = turn {
            if matches!(turn, Turn::Now { .. }) {
                tunnel.asked = None;
            }
            if let Some(other) = instead_of {
                self.tunnels.note(Todo::Orphan(other));
            }
        }
        // Requests that wait may wait in vain from now on.
        if !std::mem::replace(&mut tunnel.noted, true) {
            self.tunnels.note(Todo::Look(session));
        }
        Some(turn)
    }

    /// It brings requests of sessions that there are.
    fn becomes_carrier(&mut self, connection: &mut Connection) {
        if connection.role == Role::Pending {
            self.cells.changed_role(connection.role, Role::Carrier, connection.transport());
            self.pending -= 1;
            connection.role = Role::Carrier;
            connection.purpose = Role::Carrier;
            connection.opening = Vec::new();
        }
    }

    /// Refuses a request: the answer has no body, and the connection ends.
    fn refuse_request(
        &mut self,
        connection: &mut Connection,
        status: (u16, &'static str),
        reason: RefuseReason,
    ) {
        self.cells.refused.at(reason).increment();
        tracing::debug!(id = %connection.id, reason = reason.label(), "request refused");
        if let Speech::Http(front) = &mut connection.speech {
            front.refuse_bare(status, reason.label());
        }
    }

    /// Takes what came of the request in hand.
    pub(super) fn hear_carrier(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        while let Speech::Carrier(carrier) = &mut connection.speech {
            if connection.ended || connection.closing.is_some() {
                *input = &[];
                return;
            }
            match carrier.step {
                Step::Turn | Step::Answering => return,
                Step::Asked => {
                    if let (Purpose::Session { session, .. }, false) =
                        (&carrier.purpose, input.is_empty())
                    {
                        let session = *session;
                        self.hurry(session, now);
                    }
                    return;
                }
                Step::Body if carrier.left == 0 => self.request_whole(connection, now),
                Step::Body => {
                    let Purpose::Session { session, request } = carrier.purpose else {
                        let piece = piece(input, &mut carrier.left);
                        if piece.is_empty() {
                            return;
                        }
                        continue;
                    };
                    let blocked = self.connections.get(session).is_some_and(Connection::is_paused);
                    if blocked || input.is_empty() {
                        return;
                    }
                    let piece = piece(input, &mut carrier.left);
                    carrier.deadline += time_for(piece.len());
                    self.bring(session, request.verb, piece, now);
                }
            }
        }
    }

    /// Gives bytes of a body to the session.
    fn bring(&mut self, session: ConnectionKey, verb: Verb, bytes: &[u8], now: Duration) {
        let Some(found) = self.connections.get_mut(session) else { return };
        let Some(tunnel) = &mut found.tunnel else { return };
        tunnel.heard = now;
        let known = tunnel.order.take(bytes.len());
        let fresh = bytes.get(known..).unwrap_or_default();
        if verb == Verb::Send && !fresh.is_empty() {
            self.tunnels.fed += u64::try_from(fresh.len()).unwrap_or(u64::MAX);
            self.work(session, now, |worker, session| worker.came(session, fresh, now));
        }
    }

    fn hurry(&mut self, session: ConnectionKey, now: Duration) {
        self.work(session, now, |_, session| {
            if let Some(tunnel) = &mut session.tunnel {
                tunnel.hurry = true;
            }
        });
    }

    /// The request in hand has come to its end.
    fn request_whole(&mut self, connection: &mut Connection, now: Duration) {
        let Speech::Carrier(carrier) = &mut connection.speech else { return };
        match carrier.purpose {
            Purpose::Session { session, .. } => {
                carrier.step = Step::Asked;
                self.work(session, now, |_, session| {
                    if let Some(tunnel) = &mut session.tunnel {
                        tunnel.asked = Some(now);
                    }
                });
            }
            Purpose::Repeat { session, request } => {
                self.repeat_request(connection, session, request);
            }
            Purpose::Open => match self.open_tunnel(connection, now) {
                Ok(id) => {
                    self.becomes_carrier(connection);
                    self.answer_request(connection, &[id], 0);
                }
                Err(reason) => {
                    let (id, peer) = (&connection.id, &connection.peer);
                    tracing::debug!(%id, %peer, reason = reason.label(), "tunnel refused");
                    self.give_up(connection, (503, "Service Unavailable"), reason);
                }
            },
            Purpose::Nothing => {
                let head = answer_head(NOT_FOUND, 0, carrier.keeps_alive);
                carrier.step = Step::Answering;
                connection.outbox.push_back(head);
            }
            Purpose::Elsewhere { .. } => {}
        }
    }

    /// A request that came before has come again, whole.
    fn repeat_request(
        &mut self,
        connection: &mut Connection,
        session: ConnectionKey,
        request: Numbered,
    ) {
        let found = self.connections.get_mut(session).and_then(|found| found.tunnel.as_mut());
        let repeat = found.map(|tunnel| {
            let repeat = tunnel.order.repeat(request.number, connection.key);
            (repeat, tunnel.order.held_answer().to_vec())
        });
        match repeat {
            Some((Repeat::Held, held)) => self.answer_request(connection, &held, 0),
            Some((Repeat::InsteadOf(other), _)) => {
                if let Speech::Carrier(carrier) = &mut connection.speech {
                    carrier.purpose = Purpose::Session { session, request };
                    carrier.step = Step::Asked;
                }
                if let Some(other) = other {
                    self.tunnels.note(Todo::Orphan(other));
                }
                self.tunnels.note(Todo::Look(session));
            }
            Some((Repeat::Stale, _)) | None => {
                self.give_up(connection, NOT_FOUND, RefuseReason::TunnelStale);
            }
        }
    }

    /// Refuses the request in hand, whose body is read.
    fn give_up(
        &mut self,
        connection: &mut Connection,
        status: (u16, &'static str),
        reason: RefuseReason,
    ) {
        self.back_to_http(connection, Duration::MAX);
        self.refuse_request(connection, status, reason);
    }

    /// Answers the request in hand.
    pub(super) fn answer_request(
        &mut self,
        connection: &mut Connection,
        body: &[Bytes],
        carried: usize,
    ) {
        let Speech::Carrier(carrier) = &mut connection.speech else { return };
        carrier.step = Step::Answering;
        carrier.carried = u64::try_from(carried).unwrap_or(u64::MAX);
        let length: usize = body.iter().map(Bytes::len).sum();
        let head = answer_head(OK, length, carrier.keeps_alive);
        let mut gathered = BytesMut::from(&head[..]);
        for piece in body {
            if piece.len() <= SHORT_PIECE {
                gathered.put_slice(piece);
                continue;
            }
            if !gathered.is_empty() {
                connection.outbox.push_back(gathered.split().freeze());
            }
            connection.outbox.push_back(piece.clone());
        }
        if !gathered.is_empty() {
            connection.outbox.push_back(gathered.freeze());
        }
    }

    /// A carrier's answer is gone: it is read again, from what it sent meanwhile.
    pub(super) fn answer_gone(&mut self, key: ConnectionKey, now: Duration) {
        self.work(key, now, |worker, connection| {
            let Speech::Carrier(carrier) = &connection.speech else { return };
            if carrier.destination().is_some() {
                worker.tunnels.note(Todo::Depart(key));
                return;
            }
            let under_way = connection.sending.is_some() || connection.has_replies();
            if carrier.step != Step::Answering || under_way {
                return;
            }
            if !carrier.keeps_alive {
                worker.close(connection, CloseReason::Client, None, now);
                return;
            }
            worker.back_to_http(connection, now + worker.limits.tunnel_idle_timeout);
            worker.resume(connection, now);
        });
    }

    fn back_to_http(&mut self, connection: &mut Connection, deadline: Duration) {
        match std::mem::replace(&mut connection.speech, Speech::Unknown) {
            Speech::Carrier(carrier) => {
                let mut front = carrier.front;
                front.go_on(deadline);
                connection.speech = Speech::Http(front);
            }
            speech => connection.speech = speech,
        }
    }

    /// A carrier may go on: its turn has come, or its session takes more.
    pub(super) fn wake_carrier(&mut self, key: ConnectionKey, now: Duration) {
        self.work(key, now, |worker, connection| {
            let Speech::Carrier(carrier) = &mut connection.speech else { return };
            let Purpose::Session { session, request } = carrier.purpose else { return };
            if carrier.step == Step::Turn {
                let turn = worker.ask_turn(session, key, request, now);
                let Speech::Carrier(carrier) = &mut connection.speech else { return };
                match turn {
                    Some(Turn::Now { .. }) => carrier.step = Step::Body,
                    Some(Turn::Wait { .. }) => return,
                    _ => return worker.give_up(connection, NOT_FOUND, RefuseReason::TunnelStale),
                }
            }
            worker.go_on_reading(connection, now);
        });
    }

    /// Nobody will answer the request in hand.
    pub(super) fn orphan(&mut self, key: ConnectionKey, now: Duration) {
        self.work(key, now, |worker, connection| {
            let Speech::Carrier(carrier) = &connection.speech else { return };
            if carrier.step != Step::Answering && carrier.session().is_some() {
                worker.give_up(connection, NOT_FOUND, RefuseReason::TunnelStale);
            }
        });
    }

    /// A carrier ends: its session is told.
    pub(super) fn carrier_ended(&mut self, connection: &Connection) {
        let Speech::Carrier(carrier) = &connection.speech else { return };
        if let Some(session) = carrier.session().filter(|_| carrier.step != Step::Answering) {
            self.tunnels.note(Todo::Lost { session, carrier: connection.key });
        }
    }

    /// A carrier from another worker is here: its request begins anew.
    pub(super) fn arrived(&mut self, connection: &mut Connection, now: Duration) {
        let Speech::Carrier(carrier) = &mut connection.speech else { return };
        let purpose = std::mem::replace(&mut carrier.purpose, Purpose::Nothing);
        let Purpose::Elsewhere { head, .. } = purpose else { return };
        self.back_to_http(connection, Duration::MAX);
        self.begin_request(connection, &head, now);
        self.go_on_reading(connection, now);
    }

    /// Goes on with the request in hand, even if nothing of it is left to be read.
    fn go_on_reading(&mut self, connection: &mut Connection, now: Duration) {
        self.hear(connection, &mut &[][..], now);
        self.resume(connection, now);
    }
}

impl Carrier {
    fn session(&self) -> Option<ConnectionKey> {
        match self.purpose {
            Purpose::Session { session, .. } => Some(session),
            _ => None,
        }
    }
}

const OK: (u16, &str) = (200, "OK");
const NOT_FOUND: (u16, &str) = (404, "Not Found");

/// The head of an answer. librtmp looks for the status line and for the length by these very
/// letters, with one space before the number.
fn answer_head(status: (u16, &str), length: usize, keeps_alive: bool) -> Bytes {
    let length = length.to_string();
    let connection = if keeps_alive { "Keep-Alive" } else { "close" };
    response_head(
        status,
        &[
            ("Content-Length", &length),
            ("Content-Type", CONTENT_TYPE),
            ("Connection", connection),
            ("Cache-Control", "no-cache"),
        ],
    )
}

/// How much later a body may end of which so much came.
fn time_for(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Duration::from_secs(1) * bytes / BODY_BYTES_PER_SECOND
}

/// Takes what is there of a body.
fn piece<'a>(input: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    let (piece, rest) = input.split_at(length);
    *input = rest;
    *left -= u64::try_from(length).unwrap_or(u64::MAX);
    piece
}
