//! Pushes and pulls inside HTTP: their requests, when they are made, and by which connection.
//!
//! ```text
//!   session (a Connection with a key of the table's own) -- socket -- server or proxy
//!                                                        -- socket after that one ended
//! ```
//!
//! A session outlives the connections that carry it: proxies and servers end them after some number
//! of requests, or when nothing was said for a while. What was not answered is asked again by the
//! next one, which is dialled like the first.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use super::Worker;
use super::connection::{Connection, Parked, PlayNumber};
use super::dial::{Dial, DialFault, Dialled, Purpose};
use super::labels::CloseReason;
use super::outside::OutsideFault;
use super::secure::Secured;
use super::table::is_own;
use super::tunnel_fill::next_play;
use crate::reactor::{ConnectionKey, Operation};
use crate::tls::ClientTls;

/// A tunnel that asks its server does so at least this often.
const TIMER_MAX: Duration = Duration::from_secs(1);

/// Where the connections of one session go.
pub(super) struct Way {
    pub(super) address: SocketAddr,
    /// One must be there within this time.
    pub(super) within: Duration,
    /// Whom to trust, and the name that the server has to prove, where TLS is spoken.
    pub(super) tls: Option<(ClientTls, String)>,
    /// When the next one is to be dialled after one that did not come, and why that did not.
    pub(super) again: Option<(Duration, String)>,
}

/// From a connection that did not come to the next try: a proxy that starts again is back by then.
const REDIAL_PAUSE: Duration = Duration::from_millis(500);

impl Worker {
    /// A push that lives in a tunnel has something to be sent: it waits for a request.
    pub(super) fn media_for_tunnel(&mut self, key: ConnectionKey, number: PlayNumber) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let Some(play) = connection.play_numbered(number) else { return false };
        play.parked = Parked::No;
        if let Some(client) = connection.speech.outside_mut()
            && !std::mem::replace(&mut client.noted, true)
        {
            self.outlets.todo.push_back(key);
        }
        true
    }

    pub(super) fn note_outside(&mut self, connection: &mut Connection) {
        if let Some(client) = connection.speech.outside_mut()
            && client.tunnel.is_some()
            && !std::mem::replace(&mut client.noted, true)
        {
            self.outlets.todo.push_back(connection.key);
        }
    }

    /// Sees to tunnels in which something happened, or that are to ask the server again.
    pub(super) fn serve_outlets(&mut self, now: Duration) {
        while let Some(Reverse((due, key))) = self.outlets.timers.peek().copied() {
            if due > now {
                break;
            }
            self.outlets.timers.pop();
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Some(client) = connection.speech.outside_mut() else { continue };
            client.timer = None;
            if !std::mem::replace(&mut client.noted, true) {
                self.outlets.todo.push_back(key);
            }
        }
        while let Some(key) = self.outlets.todo.pop_front() {
            self.fill_tunnel(key, now);
            // Its next request is made where replies are seen to.
            self.work(key, now, |_, connection| {
                if let Some(client) = connection.speech.outside_mut() {
                    client.noted = false;
                }
            });
        }
        while let Some((key, fault)) = self.outlets.lost.pop_front() {
            self.work(key, now, |worker, connection| worker.dial_later(connection, &fault, now));
        }
        while let Some(news) = self.outlets.unsent.pop_front() {
            if let Err(news) = self.shared.news().send(news) {
                self.outlets.unsent.push_front(news);
                break;
            }
        }
    }

    /// Moves media into a tunnel, as far as it takes some.
    fn fill_tunnel(&mut self, key: ConnectionKey, now: Duration) {
        let mut out = Vec::new();
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let Some(client) = connection.speech.outside_mut() else { return };
            client.push_media(out.drain(..));
            if !client.takes_media() || connection.closing.is_some() {
                return;
            }
            let Some(number) = next_play(connection) else { return };
            match self.pull(key, number, &mut out, now) {
                Some(bytes) if bytes > 0 => {}
                _ => return,
            }
        }
    }

    /// What a connection to another server has to say goes to its outbox, in requests if it lives
    /// in a tunnel.
    pub(super) fn collect_outside(&mut self, connection: &mut Connection, now: Duration) {
        let Some(client) = connection.speech.outside_mut() else { return };
        if client.tunnel.is_none() {
            return;
        }
        let again = client.way.as_mut().and_then(|way| way.again.take_if(|(at, _)| *at <= now));
        if let Some((_, why)) = again {
            if !self.change_carrier(connection, now) {
                self.close(connection, CloseReason::Eof, Some(&why), now);
            }
            return;
        }
        if let Some(request) = client.take_request(now) {
            connection.outbox.extend(request);
        }
        let over = client.tunnel.as_ref().is_some_and(|tunnel| tunnel.needs_connection());
        if over && client.socket.is_some() && !self.change_carrier(connection, now) {
            let detail = "the server does not keep the connections of a tunnel";
            if let Some(client) = connection.speech.outside_mut() {
                client.ends(OutsideFault::Tunnel, detail);
            }
            return self.close(connection, CloseReason::Eof, Some(&detail), now);
        }
        let Some(client) = connection.speech.outside_mut() else { return };
        // What is owed to us is looked at by the sweep.
        if let Some(due) = client.next_due().filter(|due| *due <= now + TIMER_MAX)
            && client.timer.is_none_or(|timer| due < timer)
        {
            client.timer = Some(due);
            self.outlets.timers.push(Reverse((due, connection.key)));
        }
    }
    /// The connection that carries a session is over. Whether the session goes on by another one,
    /// which is dialled.
    pub(super) fn change_carrier(&mut self, connection: &mut Connection, now: Duration) -> bool {
        let is_over = connection.ended || connection.closing.is_some();
        let Some(client) = connection.speech.outside_mut() else { return false };
        // Who has said goodbye still waits for the server to hear it.
        let (Some(tunnel), Some(way)) = (&mut client.tunnel, &client.way) else { return false };
        if (is_over && !client.done) || !tunnel.outlives_connection() {
            return false;
        }
        let tls = way.tls.as_ref().map(|(tls, host)| tls.connect(host));
        let Ok(tls) = tls.transpose() else { return false };
        let (address, within) = (way.address, way.within);
        if let Some(socket) = client.socket.take() {
            self.outlets.sockets.remove(&socket);
            self.operations.push(Operation::Close { connection: socket });
        }
        // What was on its way is asked for again.
        (connection.tls, connection.sending) = (None, None);
        connection.outbox.clear();
        connection.unread.clear();
        connection.receiving = true;
        let purpose = Purpose::Carry(connection.key);
        self.dial(Dial { address, within, tls: tls.map(Box::new), purpose }, now);
        true
    }

    /// The next connection of a session did not come: it is dialled once more a little later, as
    /// long as the session is worth it.
    fn dial_later(&mut self, connection: &mut Connection, fault: &DialFault, now: Duration) {
        let Some(client) = connection.speech.outside_mut() else { return };
        let (Some(tunnel), Some(way)) = (&mut client.tunnel, &mut client.way) else { return };
        if matches!(fault, DialFault::Full) {
            tunnel.connection_not_tried();
        }
        let at = now + REDIAL_PAUSE;
        way.again = Some((at, fault.to_string()));
        client.timer = Some(at);
        self.outlets.timers.push(Reverse((at, connection.key)));
    }

    /// The next connection of a session is there, or not.
    pub(super) fn carrier_dialled(
        &mut self,
        session: ConnectionKey,
        result: Result<Dialled, DialFault>,
        now: Duration,
    ) {
        let dialled = match result {
            Ok(dialled) => dialled,
            Err(DialFault::Unwanted) => return,
            Err(fault) => {
                // It may be in hand just now.
                self.outlets.lost.push_back((session, fault));
                return;
            }
        };
        // The session has a place among connections already.
        self.shared.leave_connection();
        let Dialled { key: socket, tls, .. } = dialled;
        if self.connections.get(session).is_none() {
            self.operations.push(Operation::Close { connection: socket });
            return;
        }
        self.outlets.sockets.insert(socket, session);
        self.operations.push(Operation::Receive { connection: socket });
        self.work(session, now, |_, connection| {
            connection.tls = tls.map(|layer| Box::new(Secured::of_client(*layer)));
            let Some(client) = connection.speech.outside_mut() else { return };
            client.socket = Some(socket);
            let Some(tunnel) = &mut client.tunnel else { return };
            tunnel.reconnected();
            connection.outbox.extend(tunnel.repeat_request().into_iter().flatten());
        });
    }

    /// A connection ends: so does its socket, and whatever was to be one of its sockets.
    pub(super) fn close_socket(&mut self, connection: &mut Connection, now: Duration) {
        if let Some(socket) = connection.socket() {
            self.operations.push(Operation::Close { connection: socket });
            if is_own(connection.key) {
                self.outlets.sockets.remove(&socket);
            }
        }
        let key = connection.key;
        if is_own(key) {
            self.give_up_dials(
                |purpose| matches!(purpose, Purpose::Carry(own) if *own == key),
                now,
            );
            self.connections.give_back(key);
        }
    }
}
