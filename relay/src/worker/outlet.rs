//! Pushes and pulls on a worker: orders become connections, and connections become players and
//! publishers of this node.
//!
//! A push is one more reader of a stream's log, by the rules for slow players; a pull is one more
//! publisher. Nobody judges whether they may, since the operator ordered them. Both carry marks in
//! the name of their program: this node's, and behind it those of the relay whose publisher this
//! is. A relay that finds its own mark in a connect refuses it: no stream goes round in a circle.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::client::{Client, LOOP, fault_of, fault_of_tunnel, secrets};
use super::connection::{Connection, Parked, PlayNumber};
use super::dial::{Dial, DialFault, Dialled, Purpose};
use super::labels::{CloseReason, RefuseReason, Role, Transport};
use super::local::Place;
use super::mail::{Party, Request};
use super::outside::{
    News, OutsideEnd, OutsideFault, OutsideKind, OutsideNews, OutsideOrder, Watch,
};
use super::receive::caught;
use super::settings::{PublishConflict, UnknownStream};
use super::speech::Speech;
use super::tunnel_fill::next_play;
use crate::reactor::{ConnectionKey, Operation};
use crate::session::{
    ClientEvent, ClientRole, ClientSession, ClientSettings, ConnectRefusal, ConnectRefusalCode,
    SessionError, TunnelClient, TunnelSettings,
};
use crate::wire::media::Role as MediaRole;
use crate::wire::message::MediaMessage;

/// What introduces the marks of relays in the name of a program.
const MARKS: &str = "relay-path=";

/// Most relays that a stream may pass by pushes.
const MARKS_MAX: usize = 8;

/// A tunnel that asks its server does so at least this often.
const TIMER_MAX: Duration = Duration::from_secs(1);

/// Pushes and pulls of one worker.
#[derive(Default)]
pub(super) struct Outlets {
    /// Connections by their orders.
    connections: HashMap<u64, ConnectionKey>,
    /// News that found no room on the road.
    unsent: VecDeque<News>,
    /// Tunnels that are to be seen to.
    todo: VecDeque<ConnectionKey>,
    /// When tunnels are to be looked at.
    timers: BinaryHeap<Reverse<(Duration, ConnectionKey)>>,
}

impl Outlets {
    /// When the next tunnel is to be looked at.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if !self.todo.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }
}

/// What follows from an event, when it is no longer borrowed.
enum Deed {
    Nothing,
    Started,
    Reconnect(Option<String>),
    Hold(Box<MediaMessage>),
    End(OutsideEnd, CloseReason),
}

impl Worker {
    /// The control thread orders a push or a pull.
    pub(super) fn begin_outside(&mut self, order: OutsideOrder, now: Duration) {
        let tls = match order.tls.as_ref().map(|(tls, host)| tls.connect(host)).transpose() {
            Ok(layer) => layer.map(Box::new),
            Err(error) => {
                return self.outside_over(order.id, OutsideFault::Tls, error.to_string());
            }
        };
        let (address, within) = (order.address, order.within);
        let purpose = Purpose::Outside(Box::new(order));
        self.dial(Dial { address, within, tls, purpose }, now);
    }

    /// The control thread wants an order no longer.
    pub(super) fn end_outside(&mut self, id: u64, now: Duration) {
        let of_order =
            |purpose: &Purpose| matches!(purpose, Purpose::Outside(order) if order.id == id);
        self.give_up_dials(of_order, now);
        let Some(key) = self.outlets.connections.get(&id).copied() else { return };
        self.work(key, now, |worker, connection| {
            if let Some(client) = connection.speech.outside_mut() {
                client.ends(OutsideFault::Stopped, "it is not wanted any more");
            }
            worker.end_session(connection, CloseReason::Ended, "It is not wanted any more", now);
            if let Some(client) = connection.speech.outside_mut() {
                client.finish();
            }
        });
    }

    /// The connection to the server is there, or not.
    pub(super) fn outside_dialled(
        &mut self,
        order: OutsideOrder,
        result: Result<Dialled, DialFault>,
        now: Duration,
    ) {
        let dialled = match result {
            Ok(dialled) => dialled,
            Err(DialFault::Unwanted) => {
                return self.outside_over(order.id, OutsideFault::Stopped, String::new());
            }
            Err(fault) => {
                return self.outside_over(order.id, OutsideFault::Dial, fault.to_string());
            }
        };
        let (tls, tunnel) = (dialled.tls.is_some(), order.tunnel.is_some());
        let transport = match (tls, tunnel) {
            (false, false) => Transport::Rtmp,
            (true, false) => Transport::Rtmps,
            (false, true) => Transport::Rtmpt,
            (true, true) => Transport::Rtmpts,
        };
        let (role, client_role) = match order.kind {
            OutsideKind::Push => (Role::Push, ClientRole::Publish),
            OutsideKind::Pull => (Role::Pull, ClientRole::Play),
        };
        let secrets = secrets(&order.stream, &order.app);
        let settings = ClientSettings {
            app: order.app,
            tc_url: order.tc_url,
            name: order.stream,
            role: client_role,
            enhanced: order.enhanced,
        };
        let seed = self.random.u64(..);
        let mut session = ClientSession::new(settings, self.limits.clone(), seed, now);
        match self.marks_for(order.kind, &order.name) {
            Some(marks) => session.introduce(marks),
            None => {
                let detail = format!("the stream has passed {MARKS_MAX} relays");
                self.outside_over(order.id, OutsideFault::Loop, detail);
                self.operations.push(Operation::Close { connection: dialled.key });
                self.shared.leave_connection();
                return;
            }
        }
        let tunnel = order.tunnel.map(|host| TunnelClient::new(TunnelSettings::new(host), now));
        let about = (order.id, order.kind, order.name.clone());
        let mut client = Client::new(about, session, tunnel, now);
        (client.replaces, client.secrets) = (order.replaces, secrets);
        let key = dialled.key;
        self.outlets.connections.insert(order.id, key);
        let speech = Speech::Outside(Box::new(client));
        let peer = dialled.peer;
        let id = self.begin_outbound(dialled, role, transport, speech, now);
        let (stream, transport) = (&order.name, transport.label());
        tracing::info!(%id, %peer, role = role.label(), %stream, transport, "connection opened by us");
        if let Some(connection) = self.connections.get_mut(key) {
            connection.stream_name = Some(order.name);
        }
    }

    /// What a connection to another server is to say of the relays on the way: `None` when they
    /// are too many.
    fn marks_for(&self, kind: OutsideKind, name: &str) -> Option<String> {
        let own = self.shared.mark();
        if own.is_empty() {
            return Some(String::new());
        }
        let publisher = || {
            let (_, entry) = self.streams.iter().find(|(_, entry)| &*entry.name == name)?;
            let Place::Here { publisher, .. } = &entry.place else { return None };
            self.connections.get(publisher.as_ref()?.connection)
        };
        let before = match (kind, publisher()) {
            (OutsideKind::Push, Some(publisher)) => marks(publisher.client()),
            _ => "",
        };
        if before.split(',').filter(|mark| !mark.is_empty()).count() >= MARKS_MAX {
            return None;
        }
        let comma = if before.is_empty() { "" } else { "," };
        Some(format!("{MARKS}{own}{comma}{before}"))
    }

    /// Whether a client that connects is this node itself, perhaps by others.
    pub(super) fn judge_loop(&mut self, connection: &Connection) -> Option<ConnectRefusal> {
        let own = self.shared.mark();
        let client = connection.speech.client()?;
        if own.is_empty() || !marks(&client.flash_ver).split(',').any(|mark| mark == own) {
            return None;
        }
        self.cells.refused.at(RefuseReason::Loop).increment();
        let (id, peer) = (&connection.id, &connection.peer);
        let reason = RefuseReason::Loop.label();
        tracing::warn!(%id, %peer, reason, "connect refused: a push or pull leads back here");
        let description = format!("{LOOP}the stream comes from this server").into();
        Some(ConnectRefusal { code: ConnectRefusalCode::Rejected, description })
    }

    /// Takes what came of another server.
    pub(super) fn hear_outside(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        let copied = |connection: &mut Connection| {
            let client = connection.speech.outside_mut();
            client.map_or(0, |client| client.session.copied_bytes())
        };
        let before = copied(connection);
        self.take_from_server(connection, input, now);
        self.cells.assembled_bytes.add(copied(connection).saturating_sub(before));
    }

    fn take_from_server(&mut self, connection: &mut Connection, input: &mut &[u8], now: Duration) {
        let Some(client) = connection.speech.outside_mut() else { return };
        client.heard(now);
        if client.tunnel.is_none() {
            return self.hear_server(connection, input, now);
        }
        loop {
            let Some(client) = connection.speech.outside_mut() else { return };
            if connection.ended || connection.closing.is_some() {
                *input = &[];
                return;
            }
            if client.waits {
                return;
            }
            let Some(tunnel) = client.tunnel.as_mut() else { return };
            let piece = match tunnel.receive(input, now) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    let (fault, detail) = fault_of_tunnel(&error);
                    client.ends(fault, detail);
                    return self.close(connection, CloseReason::Protocol, Some(&error), now);
                }
            };
            let mut rtmp = piece;
            self.hear_server(connection, &mut rtmp, now);
            if let Some(client) = connection.speech.outside_mut() {
                client.unread.extend_from_slice(rtmp);
            }
        }
        self.note_outside(connection);
        let over = connection.speech.outside_mut().is_some_and(|client| {
            client.tunnel.as_ref().is_some_and(|tunnel| tunnel.needs_connection())
        });
        if over && !connection.ended {
            if let Some(client) = connection.speech.outside_mut() {
                let detail = "the server does not keep the connection of a tunnel";
                client.ends(OutsideFault::Tunnel, detail);
            }
            self.close(connection, CloseReason::Eof, None, now);
        }
    }

    fn hear_server(&mut self, connection: &mut Connection, input: &mut &[u8], now: Duration) {
        while !connection.ended {
            if connection.closing.is_some() {
                *input = &[];
                return;
            }
            if connection.speech.is_waiting() {
                return;
            }
            let Some(deed) = self.next_outside(connection, input, now) else { return };
            match deed {
                Deed::Nothing => {}
                Deed::Started => self.server_started(connection),
                Deed::Reconnect(tc_url) => {
                    if let Some(id) = connection.speech.outside_mut().map(|client| client.id) {
                        self.tell_outside(id, OutsideNews::Reconnect { tc_url });
                    }
                }
                Deed::Hold(message) => self.claim_for_pull(connection, message),
                Deed::End(end, reason) => {
                    let detail = end.detail.clone();
                    if let Some(client) = connection.speech.outside_mut() {
                        client.end.get_or_insert(end);
                    }
                    self.close(connection, reason, Some(&detail), now);
                }
            }
        }
        *input = &[];
    }

    fn next_outside(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) -> Option<Deed> {
        let client = connection.speech.outside_mut()?;
        let kind = client.kind;
        let event = match caught(|| client.session.next_event(input, now)) {
            Ok(Ok(event)) => event?,
            Ok(Err(error)) => {
                let redirect = client.session.redirect().map(str::to_owned);
                let refused = matches!(error, SessionError::Refused { .. });
                let redirect = redirect.filter(|_| refused);
                let fault = fault_of(&error);
                let detail = client.hide(&error.to_string());
                let end = OutsideEnd { fault, detail, redirect };
                let reason = if refused { CloseReason::Refused } else { CloseReason::Protocol };
                return Some(Deed::End(end, reason));
            }
            Err(_) => {
                let detail = "a panic in the session was caught".to_owned();
                let end = OutsideEnd { fault: OutsideFault::Fault, detail, redirect: None };
                return Some(Deed::End(end, CloseReason::Fault));
            }
        };
        Some(match event {
            ClientEvent::Connected => Deed::Nothing,
            ClientEvent::Started { .. } => Deed::Started,
            ClientEvent::Media { message } if kind == OutsideKind::Pull => {
                match connection.publishes.first() {
                    Some(publish) => {
                        self.append(publish.log, message, now);
                        Deed::Nothing
                    }
                    // What a server says to each player is no sign that there is a stream.
                    None if message.class().role == MediaRole::Data => Deed::Nothing,
                    None => {
                        let empty = MediaMessage::empty();
                        Deed::Hold(Box::new(std::mem::replace(message, empty)))
                    }
                }
            }
            ClientEvent::Media { .. } => Deed::Nothing,
            ClientEvent::Status { code, level, .. } => {
                tracing::debug!(id = %connection.id, code, level, "status of the server");
                Deed::Nothing
            }
            ClientEvent::ReconnectRequest { tc_url } => Deed::Reconnect(tc_url),
            ClientEvent::Ended { code } => {
                let fault = OutsideFault::ServerEnded;
                let end = OutsideEnd { fault, detail: code, redirect: None };
                Deed::End(end, CloseReason::Ended)
            }
        })
    }

    /// The server lets us publish or play.
    fn server_started(&mut self, connection: &mut Connection) {
        let player = Party {
            worker: self.index(),
            connection: connection.key,
            message_stream: connection.speech.outside_stream(),
        };
        let Some(client) = connection.speech.outside_mut() else { return };
        let (id, name) = (client.id, Arc::clone(&client.name));
        if client.kind == OutsideKind::Push {
            *self.wanted.entry(Arc::clone(&name)).or_default() += 1;
            let unknown = UnknownStream::Reject;
            self.ask_registrar(Request::Want { player, name, unknown, push: true });
        }
        let started = OutsideNews::Started { connection: connection.id };
        self.tell_outside(id, started);
    }

    /// The first message of a pull is here: its name is asked for.
    fn claim_for_pull(&mut self, connection: &mut Connection, message: Box<MediaMessage>) {
        let publisher = Party {
            worker: self.index(),
            connection: connection.key,
            message_stream: connection.speech.outside_stream(),
        };
        let refused = if self.shared.is_draining() {
            Some("the node is ending")
        } else if self.is_overloaded() || self.is_out_of_memory() {
            Some("the node has no room for it")
        } else {
            None
        };
        let Some(client) = connection.speech.outside_mut() else { return };
        if let Some(why) = refused {
            return client.refused_here(OutsideFault::Limit, why);
        }
        client.held = Some(message);
        client.waits = true;
        let name = Arc::clone(&client.name);
        // A publisher of this node goes before what is fetched.
        let conflict = match client.replaces {
            true => PublishConflict::Takeover,
            false => PublishConflict::Reject,
        };
        let address = connection.peer.ip();
        self.ask_registrar(Request::Claim { publisher, name, address, conflict, key: None });
    }

    /// The name of a pull is granted: what came meanwhile goes into the log.
    pub(super) fn go_on_pulling(&mut self, connection: &mut Connection, now: Duration) {
        if connection.publishes.is_empty() {
            return;
        }
        let Some(client) = connection.speech.outside_mut() else { return };
        client.waits = false;
        let held = client.held.take();
        let unread = std::mem::take(&mut client.unread);
        if let (Some(mut message), Some(publish)) = (held, connection.publishes.first()) {
            self.append(publish.log, &mut message, now);
        }
        let mut rtmp = unread.as_slice();
        if !rtmp.is_empty() {
            self.hear_server(connection, &mut rtmp, now);
        }
    }

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

    fn note_outside(&mut self, connection: &mut Connection) {
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
        if let Some(request) = client.take_request(now) {
            connection.outbox.extend(request);
        }
        // What is owed to us is looked at by the sweep.
        if let Some(due) = client.next_due().filter(|due| *due <= now + TIMER_MAX)
            && client.timer.is_none_or(|timer| due < timer)
        {
            client.timer = Some(due);
            self.outlets.timers.push(Reverse((due, connection.key)));
        }
    }

    /// A connection to another server ends, whatever the reason.
    pub(super) fn outside_closed(
        &mut self,
        connection: &mut Connection,
        reason: CloseReason,
        detail: Option<&str>,
    ) {
        let Some(client) = connection.speech.outside_mut() else { return };
        let fault = match reason {
            CloseReason::Timeout => OutsideFault::Timeout,
            CloseReason::Slow => OutsideFault::Slow,
            CloseReason::Protocol => OutsideFault::Protocol,
            CloseReason::Refused => OutsideFault::Refused,
            CloseReason::Takeover => OutsideFault::Takeover,
            CloseReason::Ended => OutsideFault::Ended,
            CloseReason::Limit | CloseReason::Revoked => OutsideFault::Limit,
            CloseReason::Operator | CloseReason::Hook => OutsideFault::Operator,
            CloseReason::Drain => OutsideFault::Stopped,
            CloseReason::Fault => OutsideFault::Fault,
            CloseReason::Client | CloseReason::Eof | CloseReason::Reset | CloseReason::Error => {
                OutsideFault::Lost
            }
        };
        client.ends(fault, detail.unwrap_or_default());
        let id = client.id;
        if let Some(end) = client.end.take() {
            self.outlets.connections.remove(&id);
            self.tell_outside(id, OutsideNews::Ended(end));
        }
    }

    fn outside_over(&mut self, id: u64, fault: OutsideFault, detail: String) {
        self.tell_outside(id, OutsideNews::Ended(OutsideEnd { fault, detail, redirect: None }));
    }

    fn tell_outside(&mut self, id: u64, what: OutsideNews) {
        let news = News::Outside { id, core: self.index(), what };
        if self.outlets.unsent.is_empty() {
            if let Err(news) = self.shared.news().send(news) {
                self.outlets.unsent.push_back(news);
            }
        } else {
            self.outlets.unsent.push_back(news);
        }
    }

    /// The control thread wants to hear of these names.
    pub(super) fn watch_names(&mut self, watch: Watch) {
        if let Some(registrar) = &mut self.registrar {
            registrar.watch(watch);
        }
    }
}

/// The marks of relays in the name of a program, with commas between them.
fn marks(flash_ver: &str) -> &str {
    let Some((_, marks)) = flash_ver.split_once(MARKS) else { return "" };
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == ',');
    marks.split(end).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_the_name_of_a_program() {
        let check = |said: &str, expected: &str| assert_eq!(marks(said), expected, "{said:?}");
        check("", "");
        check("FMLE/3.0 (compatible; relay)", "");
        check("FMLE/3.0 (compatible; relay-path=0a1b)", "0a1b");
        check("LNX 9,0,124,2 (relay-path=0a1b,2c3d; x)", "0a1b,2c3d");
        check("relay-path=", "");
    }
}
