//! Tunnelled sessions on this worker: RTMP inside the bodies of HTTP requests.
//!
//! ```text
//!   carrier (a socket)  --body-->  session (a Connection without a socket)  -->  publish, play
//!   carrier             <-answer-  at a request: replies and media from its cursors
//! ```
//!
//! A session is a [`Connection`] like any other to whoever publishes and plays. It has no socket:
//! its key is one of the [table's own](super::table), and no operation names it. Its carriers
//! (`carrier.rs`) bring requests; what it has to say leaves when one asks (`answer` here), straight
//! from the log, and no sooner: between requests a seal costs it nothing.
//!
//! Whoever works on a session or a carrier only notes what follows for others. It is done at the
//! end of the turn's preparations, one after the other, so that no two are ever in hand at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use super::carriage::Carriage;
use super::connection::Connection;
use super::labels::{CloseReason, RefuseReason, Role};
use super::report::ConnectionId;
use super::speech::Speech;
use crate::reactor::ConnectionKey;
use crate::session::ServerSession;
use crate::session::tunnel::{Order, OrderFault, Pace, Ready, TunnelId, TunnelIds, Verb};

/// Where the ids of a node's tunnels come from.
pub struct TunnelSource {
    /// Makes and judges ids; the same on every worker of the node.
    pub ids: TunnelIds,
    /// Bytes that nobody can foretell: of the operating system, or of a seed in tests.
    pub random: Box<dyn FnMut() -> [u8; 16] + Send>,
}

/// The tunnelled sessions of one worker, and what is to be done for them.
pub(super) struct Tunnels {
    pub(super) source: TunnelSource,
    pub(super) sessions: HashMap<TunnelId, ConnectionKey>,
    todo: VecDeque<Todo>,
    /// When sessions are to be looked at.
    timers: BinaryHeap<Reverse<(Duration, ConnectionKey)>>,
    /// Carriers on their way from or to another worker.
    pub(super) carriage: Carriage,
    /// Bytes of bodies that were given to sessions.
    pub(super) fed: u64,
    /// This worker's share of the bytes that tunnels hold, as last reported.
    pub(super) bytes: usize,
}

/// Something to be done when nothing is in hand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Todo {
    /// Something happened to a session: it may be able to answer, or to go on.
    Look(ConnectionKey),
    /// A request's turn may have come, or its session can take more of it.
    Wake(ConnectionKey),
    /// A carrier is gone.
    Lost {
        /// The session of its request.
        session: ConnectionKey,
        /// The carrier.
        carrier: ConnectionKey,
    },
    /// The session of a carrier's request is gone, or another carrier brings the request.
    Orphan(ConnectionKey),
    /// A session cannot go on; its fault is counted.
    Fault(ConnectionKey, OrderFault),
    /// A carrier is to go to the core of its request's session.
    Depart(ConnectionKey),
}

/// What a connection has besides, when it is tunnelled.
pub(super) struct Tunnelled {
    id: TunnelId,
    pub(super) order: Order<ConnectionKey>,
    pace: Pace,
    /// When the request whose turn it is had come whole.
    pub(super) asked: Option<Duration>,
    /// Another request stands behind that one.
    pub(super) hurry: bool,
    /// A play has something to be sent.
    pub(super) media: bool,
    /// When bytes of a request last came, or an answer was still being taken.
    pub(super) heard: Duration,
    /// Whom it last answered by.
    answered: Option<ConnectionKey>,
    /// When it is to be looked at.
    timer: Option<Duration>,
    pub(super) noted: bool,
}

impl fmt::Debug for TunnelSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TunnelSource").field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl TunnelSource {
    /// The same ids in every run, for simulations and tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let ids = TunnelIds::new("seeded", [0; 32]);
        Self { ids, random: Box::new(move || random.u128(..).to_be_bytes()) }
    }
}

impl Tunnels {
    pub(super) fn new(source: TunnelSource) -> Self {
        Self {
            source,
            sessions: HashMap::new(),
            todo: VecDeque::new(),
            timers: BinaryHeap::new(),
            carriage: Carriage::default(),
            fed: 0,
            bytes: 0,
        }
    }

    /// Notes something to be done.
    pub(super) fn note(&mut self, todo: Todo) {
        self.todo.push_back(todo);
    }

    /// When the next session is to be looked at.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }
}

impl Tunnelled {
    /// Whether it was left: no request is under way, and none came for so long.
    pub(super) fn is_left(&self, now: Duration, after: Duration) -> bool {
        self.order.carriers().next().is_none() && now.saturating_sub(self.heard) >= after
    }

    /// Bytes that it holds and nobody else counts. An answer that is being sent is its carrier's.
    fn held_bytes(&self, is_sending: bool) -> usize {
        size_of::<Self>() + if is_sending { 0 } else { self.order.held_bytes() }
    }
}

impl Worker {
    /// A new session, asked for by a carrier. Gives its id, or why there is none.
    pub(super) fn open_tunnel(
        &mut self,
        carrier: &Connection,
        now: Duration,
    ) -> Result<Bytes, RefuseReason> {
        let held = self.shared.tunnel_bytes();
        if self.shared.is_draining() {
            return Err(RefuseReason::Draining);
        } else if self.pending >= self.limits.pending_connections_max {
            return Err(RefuseReason::Pending);
        } else if self.is_out_of_memory() || held >= self.limits.tunnel_bytes_total {
            return Err(RefuseReason::Memory);
        } else if self.tunnels.sessions.len() >= self.limits.tunnel_sessions_per_worker_max {
            return Err(RefuseReason::TunnelSessions);
        }
        // It counts like a connection, besides those that carry it.
        let counted = self.enter_address(carrier.peer.ip(), now)?;
        if !self.shared.enter_tunnel(self.limits.tunnel_sessions_max) {
            self.leave_address(counted, now);
            return Err(RefuseReason::TunnelSessions);
        }
        if !self.shared.enter_connection(self.limits.connections_max) {
            self.leave_address(counted, now);
            self.shared.leave_tunnel();
            return Err(RefuseReason::Connections);
        }
        let core = u16::try_from(self.index()).unwrap_or(u16::MAX);
        let id = self.tunnels.source.ids.make(core, (self.tunnels.source.random)());
        self.numbered += 1;
        self.pending += 1;
        let number = ConnectionId { core: self.index(), number: self.numbered };
        let key = self.connections.own_key();
        let mut session = Connection::new(key, number, carrier.peer, carrier.speaks, now);
        let rtmp = ServerSession::new(self.limits.clone(), self.random.u64(..), now);
        session.speech = Speech::Rtmp(Box::new(rtmp));
        session.transport = carrier.transport;
        session.counted = counted;
        session.tunnel = Some(Box::new(Tunnelled {
            id,
            order: Order::default(),
            pace: Pace::new(self.limits.tunnel_hold, self.limits.tunnel_interval),
            asked: None,
            hurry: false,
            media: false,
            heard: now,
            answered: None,
            timer: None,
            noted: false,
        }));
        self.cells.opened(session.transport);
        tracing::info!(id = %session.id, peer = %session.peer, carrier = %carrier.id, "tunnel opened");
        self.connections.put(session);
        self.tunnels.sessions.insert(id, key);
        self.count_tunnels();
        Ok(Bytes::from(format!("{}\n", id.text())))
    }

    /// A session ended: its id is no longer known.
    pub(super) fn tunnel_ended(&mut self, key: ConnectionKey, tunnel: &Tunnelled) {
        self.connections.give_back(key);
        self.tunnels.sessions.remove(&tunnel.id);
        self.shared.leave_tunnel();
        for carrier in tunnel.order.carriers() {
            self.tunnels.note(Todo::Orphan(carrier));
        }
        self.count_tunnels();
    }

    fn count_tunnels(&self) {
        let sessions = self.tunnels.sessions.len();
        self.cells.tunnels.set(u64::try_from(sessions).unwrap_or(u64::MAX));
    }

    /// A tunnelled session was worked on: it is looked at once this turn.
    pub(super) fn note_tunnelled(&mut self, connection: &mut Connection) {
        let Some(tunnel) = &mut connection.tunnel else { return };
        if !std::mem::replace(&mut tunnel.noted, true) {
            self.tunnels.note(Todo::Look(connection.key));
        }
    }

    /// A play of a tunnelled session has something to send: it waits for a request.
    pub(super) fn media_waits(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(tunnel) = &mut connection.tunnel else { return };
        tunnel.media = true;
        if tunnel.asked.is_some() && !std::mem::replace(&mut tunnel.noted, true) {
            self.tunnels.note(Todo::Look(key));
        }
    }

    /// Does what was noted, and what that leads to. Every request is answered once at most, since
    /// its carrier is not read again before the answer is gone: so this ends.
    pub(super) fn serve_tunnels(&mut self, now: Duration) {
        while let Some(Reverse((due, key))) = self.tunnels.timers.peek().copied() {
            if due > now {
                break;
            }
            self.tunnels.timers.pop();
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Some(tunnel) = &mut connection.tunnel else { continue };
            // Set anew below when it was too early.
            tunnel.timer = None;
            if !std::mem::replace(&mut tunnel.noted, true) {
                self.tunnels.note(Todo::Look(key));
            }
        }
        while let Some(todo) = self.tunnels.todo.pop_front() {
            match todo {
                Todo::Look(session) => self.look(session, now),
                Todo::Wake(carrier) => self.wake_carrier(carrier, now),
                Todo::Lost { session, carrier } => {
                    self.work(session, now, |_, session| {
                        if let Some(tunnel) = &mut session.tunnel {
                            tunnel.order.lost(carrier, now);
                        }
                    });
                }
                Todo::Orphan(carrier) => self.orphan(carrier, now),
                Todo::Fault(session, fault) => {
                    self.work(session, now, |worker, session| {
                        worker.close(session, CloseReason::Protocol, Some(&fault), now);
                    });
                }
                Todo::Depart(carrier) => self.depart(carrier),
            }
        }
    }

    /// What can go on with a session?
    fn look(&mut self, key: ConnectionKey, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let blocked = connection.is_paused();
        let says = connection.may_reply() && connection.has_replies();
        let publishes = connection.role == Role::Publisher;
        let Some(tunnel) = &mut connection.tunnel else { return };
        tunnel.noted = false;
        if let Err(fault) = tunnel.order.check(now) {
            self.cells.refused.at(RefuseReason::TunnelOrder).increment();
            self.tunnels.note(Todo::Fault(key, fault));
            return;
        }
        let mut due = tunnel.order.deadline();
        let (current, asking) = (tunnel.order.current(), tunnel.order.asking());
        if let (Some(request), Some(carrier), false) = (current, asking, blocked) {
            let ready = match (says, tunnel.media) {
                (true, _) => Ready::Now,
                (false, true) => Ready::Media,
                (false, false) => Ready::Nothing,
            };
            // Publishers have more to say, which a request that is held would keep back.
            let waits = request.verb == Verb::Idle && !publishes && !tunnel.hurry;
            let asked = tunnel.asked.unwrap_or(now);
            let at = tunnel.pace.due(asked, ready, waits);
            if at <= now || request.verb == Verb::Close {
                self.answer(key, carrier, request.verb, now);
                return;
            }
            due = Some(due.map_or(at, |due| due.min(at)));
        } else if !blocked {
            // A request that is next, or more of the one under way.
            let next = tunnel.order.next();
            let carrier = next.or_else(|| tunnel.order.bringing());
            let is_paused = |carrier: &ConnectionKey| {
                self.connections.get(*carrier).is_some_and(|c| !c.receiving)
            };
            if let Some(carrier) = carrier.filter(is_paused) {
                self.tunnels.note(Todo::Wake(carrier));
            }
        }
        if let Some(due) = due {
            self.look_again(key, due);
        }
    }

    fn look_again(&mut self, key: ConnectionKey, due: Duration) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(tunnel) = &mut connection.tunnel else { return };
        if tunnel.timer.is_none_or(|timer| due < timer) {
            tunnel.timer = Some(due);
            self.tunnels.timers.push(Reverse((due, key)));
        }
    }

    /// Answers the request whose turn it is.
    fn answer(&mut self, key: ConnectionKey, carrier: ConnectionKey, verb: Verb, now: Duration) {
        let mut body = vec![Bytes::new()];
        let mut carried = 0;
        if verb != Verb::Close {
            let (bytes, rest) = self.fill(key, &mut body, now);
            carried = bytes;
            self.cells.tunnel_polls.increment();
            if bytes == 0 {
                self.cells.tunnel_empty_polls.increment();
            }
            if let Some(tunnel) = self.tunnelled(key) {
                // The byte goes up from the first answer that the silence is seen in.
                body[0] = polling_byte(tunnel.pace.polling_byte());
                tunnel.pace.answered(bytes, rest, now);
                tunnel.media = rest;
            }
        } else {
            body[0] = polling_byte(0);
        }
        // What tunnels hold in all is bounded: then nothing is kept for those who ask twice.
        let keep = self.shared.tunnel_bytes() < self.limits.tunnel_bytes_total;
        let Some(tunnel) = self.tunnelled(key) else { return };
        tunnel.asked = None;
        tunnel.hurry = false;
        tunnel.answered = Some(carrier);
        let next = tunnel.order.answered(body.clone(), now);
        if !keep {
            tunnel.order.let_go();
        }
        if let Some(next) = next {
            self.tunnels.note(Todo::Wake(next));
        }
        self.work(carrier, now, |worker, connection| {
            worker.answer_request(connection, &body, carried);
        });
        if verb == Verb::Close {
            self.work(key, now, |worker, session| {
                worker.close(session, CloseReason::Client, None, now);
            });
        } else if let Some(connection) = self.connections.get_mut(key)
            && let Some(due) = connection.tunnel.as_ref().and_then(|tunnel| tunnel.order.deadline())
        {
            self.look_again(key, due);
        }
    }

    fn tunnelled(&mut self, key: ConnectionKey) -> Option<&mut Tunnelled> {
        self.connections.get_mut(key)?.tunnel.as_deref_mut()
    }

    /// Judges a session's order and its being left; for the sweep.
    pub(super) fn check_tunnel(&mut self, key: ConnectionKey, now: Duration) {
        let after = self.limits.tunnel_idle_timeout;
        let answered = self.tunnelled(key).and_then(|tunnel| tunnel.answered);
        let taker = answered.and_then(|carrier| self.connections.get(carrier));
        // How long that may take is judged by its own connection.
        if taker.is_some_and(|carrier| carrier.speech.answers(key))
            && let Some(tunnel) = self.tunnelled(key)
        {
            tunnel.heard = now;
        }
        let left = self.tunnelled(key).is_some_and(|tunnel| tunnel.is_left(now, after));
        if left {
            let detail = "no request came for tunnel_idle_timeout";
            self.work(key, now, |worker, session| {
                worker.close(session, CloseReason::Timeout, Some(&detail), now);
            });
        }
    }

    /// Reports this worker's share of what tunnels hold, and lets go of what is held for those who
    /// ask twice when it is too much.
    pub(super) fn watch_tunnels(&mut self) -> usize {
        let mut held = self.tunnel_bytes();
        if self.shared.tunnel_bytes() >= self.limits.tunnel_bytes_total {
            let keys: Vec<_> = self.tunnels.sessions.values().copied().collect();
            for key in keys {
                if let Some(tunnel) = self.tunnelled(key) {
                    tunnel.order.let_go();
                }
            }
            held = self.tunnel_bytes();
        }
        self.shared.move_tunnel_bytes(self.tunnels.bytes, held);
        self.tunnels.bytes = held;
        held
    }

    fn tunnel_bytes(&self) -> usize {
        let of = |connection: &Connection| match &connection.tunnel {
            Some(tunnel) => {
                let carrier = tunnel.answered.and_then(|carrier| self.connections.get(carrier));
                let key = connection.key;
                tunnel.held_bytes(carrier.is_some_and(|carrier| carrier.speech.answers(key)))
            }
            None if connection.role == Role::Carrier => connection.held_bytes(),
            None => 0,
        };
        self.connections.iter().map(of).sum()
    }
}

/// The first byte of an answer.
fn polling_byte(value: u8) -> Bytes {
    static BYTES: [u8; 34] = {
        let mut bytes = [0; 34];
        let mut value = 0;
        while value < 34 {
            bytes[value as usize] = value;
            value += 1;
        }
        bytes
    };
    let at = usize::from(value).min(BYTES.len() - 1);
    Bytes::from_static(&BYTES[at..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polling_byte_is_its_value() {
        for value in 0..=33 {
            assert_eq!(&polling_byte(value)[..], [value]);
        }
        assert_eq!(&polling_byte(255)[..], [33]);
    }
}
