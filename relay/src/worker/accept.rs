//! Connections come and go: the one place where they are counted, logged and ended.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Worker;
use super::clock::in_seconds;
use super::connection::{Closing, Connection};
use super::dump;
use super::labels::{
    CloseReason, HandshakeResult, PlayerDropReason, RefuseReason, Role, TlsResult, Transport,
};
use super::report::ConnectionId;
use super::secure::Secured;
use super::settings::Speaks;
use crate::reactor::{ConnectionKey, ListenerKey, Operation};

/// When a line last told of something that may come in floods. One a second tells of them as well
/// as all would.
#[derive(Debug, Default)]
pub(super) struct LastLine(Option<Duration>);

impl LastLine {
    /// Whether another one may be written now, which is noted.
    pub(super) fn may_tell(&mut self, now: Duration) -> bool {
        let may = self.0.is_none_or(|at| now >= at + Duration::from_secs(1));
        if may {
            self.0 = Some(now);
        }
        may
    }
}

impl Worker {
    pub(super) fn accepted(
        &mut self,
        listener: ListenerKey,
        key: ConnectionKey,
        peer: SocketAddr,
        now: Duration,
    ) {
        if self.links.listens(listener) {
            if !self.give_link_away(key) {
                self.link_accepted(key, peer, now);
            }
            return;
        }
        let speaks = self.settings.speaks(listener);
        match self.admit(peer, now) {
            Err(reason) => {
                self.cells.refused.at(reason).increment();
                if self.told_refusal.may_tell(now) {
                    tracing::warn!(%peer, reason = reason.label(), "connection refused");
                } else {
                    tracing::debug!(%peer, reason = reason.label(), "connection refused");
                }
                self.operations.push(Operation::Close { connection: key });
            }
            Ok(counted) if self.give_away(key, speaks) => {
                // Whoever takes it counts it again.
                self.leave_address(counted, now);
            }
            Ok(counted) => self.begin_connection(key, peer, speaks, counted, now),
        }
    }

    /// Whether one more connection may come; if so, it is counted for the node and for the address
    /// that is given back.
    fn admit(&self, peer: SocketAddr, now: Duration) -> Result<Option<IpAddr>, RefuseReason> {
        // Who was on its way when the node began to drain is told where to go.
        if self.shared.is_draining() && !self.links.siblings.have_doors() {
            return Err(RefuseReason::Draining);
        }
        if self.pending >= self.limits.pending_connections_max {
            return Err(RefuseReason::Pending);
        }
        let counted = self.enter_address(peer.ip(), now)?;
        if self.shared.enter_connection(self.limits.connections_max) {
            return Ok(counted);
        }
        self.leave_address(counted, now);
        Err(RefuseReason::Connections)
    }

    /// Counts a connection for its address, unless that is exempt or stands for others: what a
    /// proxy passes on is counted when it says whose it is.
    ///
    /// # Errors
    /// The address has as many as it may, or opens them too fast.
    pub(super) fn enter_address(
        &self,
        address: IpAddr,
        now: Duration,
    ) -> Result<Option<IpAddr>, RefuseReason> {
        if self.settings.stands_for_many(address) {
            return Ok(None);
        }
        self.shared.addresses().enter(address, &self.limits, now)?;
        Ok(Some(address))
    }

    /// Uncounts a connection for its address.
    pub(super) fn leave_address(&self, counted: Option<IpAddr>, now: Duration) {
        if let Some(address) = counted {
            self.shared.addresses().leave(address, now);
        }
    }

    /// A connection is this worker's from now on, for life.
    pub(super) fn begin_connection(
        &mut self,
        key: ConnectionKey,
        peer: SocketAddr,
        speaks: Speaks,
        counted: Option<IpAddr>,
        now: Duration,
    ) {
        self.numbered += 1;
        self.pending += 1;
        let id = ConnectionId { core: self.index(), number: self.numbered };
        self.cells.opened(Transport::Rtmp);
        tracing::info!(%id, %peer, "connection opened");
        let mut connection = Connection::new(key, id, peer, speaks, now);
        connection.counted = counted;
        self.connections.put(connection);
        self.operations.push(Operation::Receive { connection: key });
    }

    pub(super) fn accept_failed(
        &mut self,
        listener: ListenerKey,
        error: &io::Error,
        now: Duration,
    ) {
        self.cells.refused.at(RefuseReason::Files).increment();
        tracing::error!(%error, "accepting failed and is tried again in a second; raise the limit of open files");
        self.sweep.accept_later(listener, now);
        self.show_failed_accepts();
    }

    /// Moves a connection to the role that its publishes and plays give it.
    pub(super) fn update_role(&mut self, connection: &mut Connection) {
        if connection.speech.is_outside() {
            // It has its role for life.
            return;
        }
        let role = if !connection.publishes.is_empty() {
            Role::Publisher
        } else if !connection.plays.is_empty() {
            Role::Player
        } else {
            Role::Pending
        };
        if role == connection.role {
            return;
        }
        self.cells.changed_role(connection.role, role, connection.transport());
        if connection.role == Role::Pending {
            self.pending -= 1;
        } else if role == Role::Pending {
            self.pending += 1;
        }
        connection.role = role;
        if role != Role::Pending {
            connection.purpose = role;
            connection.opening = Vec::new();
        }
    }

    /// Ends a connection once its replies are gone and the peer had time to close by itself.
    pub(super) fn close_soon(
        &mut self,
        connection: &mut Connection,
        reason: CloseReason,
        now: Duration,
    ) {
        if connection.closing.is_none() {
            let at = now + self.limits.close_linger;
            connection.closing = Some(Closing { reason, at });
        }
    }

    /// Ends a connection now: its publishes and plays, its place in every table, its socket.
    pub(super) fn close(
        &mut self,
        connection: &mut Connection,
        reason: CloseReason,
        detail: Option<&dyn std::fmt::Display>,
        now: Duration,
    ) {
        if std::mem::replace(&mut connection.ended, true) {
            return;
        }
        let role = connection.role;
        let lag = self.lag_of(connection);
        while let Some(publish) = connection.publishes.pop() {
            self.publish_ended(connection.key, &publish);
        }
        while let Some(play) = connection.plays.pop() {
            self.play_ended(connection.key, play, now);
        }
        self.hook_closed(connection);
        self.account(connection, role, lag, (reason, detail), now);
        dump::log_opening(connection);
        self.say_tls_goodbye(connection);
        match connection.tunnel.take() {
            Some(tunnel) => self.tunnel_ended(connection.key, &tunnel),
            None => self.close_socket(connection, now),
        }
        self.carrier_ended(connection);
    }

    /// Counts and logs an end, and gives back the connection's places among all and among those of
    /// its address.
    pub(super) fn account(
        &mut self,
        connection: &mut Connection,
        role: Role,
        lag: Option<Duration>,
        (reason, detail): (CloseReason, Option<&dyn std::fmt::Display>),
        now: Duration,
    ) {
        // What became of a player; a line about anybody else does without.
        let lag_ms = lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        let was_player = connection.purpose == Role::Player;
        let (jumps, dropped) = (was_player.then_some(connection.jumps), connection.dropped);
        let dropped = (was_player || dropped > 0).then_some(dropped);
        self.count_close(connection, role, reason);
        let stream = connection.stream_name.as_deref().unwrap_or("-");
        // What became of the socket behind a last word matters less than that word.
        let why = match reason {
            CloseReason::Refused => connection.speech.refusal(),
            CloseReason::Tls | CloseReason::Fault => {
                connection.tls.as_deref().and_then(Secured::failure)
            }
            _ => connection.ending.as_deref(),
        };
        let detail = why.map(str::to_owned).or_else(|| detail.map(ToString::to_string));
        let open = now.saturating_sub(connection.since);
        tracing::info!(
            id = %connection.id,
            peer = %connection.peer,
            role = connection.purpose.label(),
            transport = connection.transport().label(),
            stream,
            reason = reason.label(),
            detail,
            seconds = in_seconds(open),
            bytes_in = connection.bytes_in,
            bytes_out = connection.bytes_out,
            lag_ms,
            jumps,
            dropped,
            "connection closed"
        );
        self.outside_closed(connection, reason, detail.as_deref());
        self.leave_address(connection.counted.take(), now);
        self.shared.leave_connection();
    }

    pub(super) fn count_failed_handshake(
        &mut self,
        connection: &mut Connection,
        result: HandshakeResult,
    ) {
        connection.handshake_counted = true;
        self.cells.handshakes.at((result, connection.transport())).increment();
    }

    fn count_close(&mut self, connection: &mut Connection, role: Role, reason: CloseReason) {
        let transport = connection.transport();
        self.cells.closed(role, connection.purpose, transport, reason);
        if role == Role::Pending {
            self.pending -= 1;
        }
        self.count_failed_tls(
            connection,
            match reason {
                CloseReason::Timeout => TlsResult::Timeout,
                CloseReason::Eof | CloseReason::Reset | CloseReason::Error => TlsResult::Eof,
                _ => TlsResult::Failed,
            },
        );
        if !connection.handshake_counted {
            let result = match reason {
                CloseReason::Timeout => HandshakeResult::Timeout,
                CloseReason::Protocol => HandshakeResult::BadVersion,
                CloseReason::Client
                | CloseReason::Eof
                | CloseReason::Reset
                | CloseReason::Error => HandshakeResult::Eof,
                _ => HandshakeResult::Closed,
            };
            self.count_failed_handshake(connection, result);
        }
        if role == Role::Player {
            let dropped = match reason {
                CloseReason::Slow => PlayerDropReason::Slow,
                CloseReason::Limit => PlayerDropReason::Limit,
                CloseReason::Drain => PlayerDropReason::Drain,
                CloseReason::Error
                | CloseReason::Protocol
                | CloseReason::Tls
                | CloseReason::Fault => PlayerDropReason::Error,
                _ => return,
            };
            self.cells.players_dropped.at(dropped).increment();
        }
    }

    /// What is owed to a connection after it was worked on: its replies, and its next receive.
    pub(super) fn settle(&mut self, connection: &mut Connection, now: Duration) {
        if connection.ended {
            return;
        }
        connection.collect_replies();
        self.collect_outside(connection, now);
        if connection.ended {
            return;
        }
        if connection.speech.wants_close() {
            let reason = match connection.speech.refusal() {
                None => CloseReason::Client,
                Some(_) if connection.challenged => CloseReason::Challenge,
                Some(_) => CloseReason::Refused,
            };
            self.close_soon(connection, reason, now);
        }
        connection.asked_since = if connection.speech.is_waiting() {
            connection.asked_since.or(Some(now))
        } else {
            None
        };
        let queued: usize = connection.outbox.iter().map(bytes::Bytes::len).sum();
        // A carrier has one answer at a time, and a tunnel of ours one request, which are bounded
        // elsewhere.
        let in_requests = connection.role == Role::Carrier || connection.speech.makes_requests();
        if queued > self.limits.output_bytes_max && !in_requests {
            let detail = "it asks and does not read the replies";
            self.close(connection, CloseReason::Slow, Some(&detail), now);
            return;
        }
        if connection.tunnel.is_some() {
            self.note_tunnelled(connection);
            return;
        }
        let Some(socket) = connection.socket() else { return };
        self.send_replies(connection, now);
        let is_read = !connection.is_paused() || connection.listens_for_end();
        if is_read && !connection.receiving {
            connection.receiving = true;
            self.operations.push(Operation::Receive { connection: socket });
        }
    }

    pub(super) fn receive_ended(
        &mut self,
        key: ConnectionKey,
        error: Option<io::Error>,
        now: Duration,
    ) {
        if let Some(session) = self.outlets.sockets.get(&key).copied() {
            let lost = |worker: &mut Self, connection: &mut Connection| {
                worker.peer_ended(connection, error, now);
            };
            return self.work(session, now, lost);
        }
        match self.connections.take(key) {
            Some(mut connection) => self.peer_ended(&mut connection, error, now),
            None => self.link_ended(key, error.as_ref(), now),
        }
    }

    /// Ends a connection that its peer ended, or that failed.
    pub(super) fn peer_ended(
        &mut self,
        connection: &mut Connection,
        error: Option<io::Error>,
        now: Duration,
    ) {
        if self.change_carrier(connection, now) {
            return;
        }
        let reason = match (&connection.closing, &error) {
            (Some(closing), _) => closing.reason,
            // It could have asked for something else, and went.
            (None, _) if connection.speech.refusal().is_some() => CloseReason::Refused,
            (None, Some(error)) => failure(error),
            (None, None) if connection.said_goodbye => CloseReason::Client,
            (None, None) => CloseReason::Eof,
        };
        let detail = error.as_ref().map(|error| error as &dyn std::fmt::Display);
        self.close(connection, reason, detail, now);
    }

    pub(super) fn send_failed(&mut self, key: ConnectionKey, error: io::Error, now: Duration) {
        if self.outlets.sockets.contains_key(&key) {
            return self.receive_ended(key, Some(error), now);
        }
        let Some(mut connection) = self.connections.take(key) else {
            self.link_ended(key, Some(&error), now);
            return;
        };
        let reason = connection.closing.map_or_else(|| failure(&error), |closing| closing.reason);
        self.close(&mut connection, reason, Some(&error), now);
    }

    pub(super) fn count_handshake(&mut self, connection: &mut Connection, now: Duration) {
        connection.handshake_counted = true;
        let transport = connection.transport();
        self.cells.handshakes.at((HandshakeResult::Ok, transport)).increment();
        self.cells.handshake_duration.observe(now.saturating_sub(connection.since));
    }
}

/// How the failure of a socket is counted. Many players leave by a reset: they close with our bytes
/// unread.
pub(super) fn failure(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::Reset,
        _ => CloseReason::Error,
    }
}
