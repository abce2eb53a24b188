//! Pushes and pulls on a worker: orders become connections, and connections become players and
//! publishers of this node.
//!
//! A push is one more reader of a stream's log, by the rules for slow players; a pull is one more
//! publisher. Nobody judges whether they may, since the operator ordered them.
//! `circle.rs` keeps streams from going round, `outlet_hear.rs` follows what servers say, and
//! `outlet_tunnel.rs` makes the requests of those that live inside HTTP.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::Worker;
use super::circle::MARKS_MAX;
use super::client::{Client, secrets};
use super::connection::Connection;
use super::dial::{Dial, DialFault, Dialled, Purpose};
use super::labels::{CloseReason, Role, Transport};
use super::outlet_tunnel::Way;
use super::outside::{
    News, OutsideEnd, OutsideFault, OutsideKind, OutsideNews, OutsideOrder, Watch,
};
use super::speech::Speech;
use crate::reactor::{ConnectionKey, Operation};
use crate::session::{ClientRole, ClientSession, ClientSettings, TunnelClient, TunnelSettings};

/// Pushes and pulls of one worker.
#[derive(Default)]
pub(super) struct Outlets {
    /// Connections by their orders.
    connections: HashMap<u64, ConnectionKey>,
    /// News that found no room on the road.
    pub(super) unsent: VecDeque<News>,
    /// Tunnels by the sockets that carry them.
    pub(super) sockets: HashMap<ConnectionKey, ConnectionKey>,
    /// Tunnels that nothing carries any more, and why.
    pub(super) lost: VecDeque<(ConnectionKey, DialFault)>,
    /// Tunnels that are to be seen to.
    pub(super) todo: VecDeque<ConnectionKey>,
    /// When tunnels are to be looked at.
    pub(super) timers: BinaryHeap<Reverse<(Duration, ConnectionKey)>>,
}

impl Outlets {
    /// When the next tunnel is to be looked at.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if !self.todo.is_empty() || !self.lost.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.sockets.is_empty()
    }
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
        match self.marks_for(order.kind, &order.name, &order.marks) {
            Some(marks) => session.introduce(marks),
            None => {
                let detail = format!("the stream has passed {MARKS_MAX} relays");
                self.outside_over(order.id, OutsideFault::Loop, detail);
                self.operations.push(Operation::Close { connection: dialled.key });
                self.shared.leave_connection();
                return;
            }
        }
        let about = (order.id, order.kind, order.name.clone());
        let mut client = Client::new(about, session, now);
        (client.replaces, client.secrets) = (order.replaces, secrets);
        let mut key = dialled.key;
        if let Some(host) = order.tunnel {
            let tunnel = TunnelClient::new(TunnelSettings::new(host), now);
            let (address, within, tls) = (order.address, order.within, order.tls);
            let way = Way { address, within, tls, again: None };
            key = self.connections.own_key();
            client.live_in(tunnel, way, dialled.key);
            self.outlets.sockets.insert(dialled.key, key);
        }
        self.outlets.connections.insert(order.id, key);
        let speech = Speech::Outside(Box::new(client));
        let peer = dialled.peer;
        let id = self.begin_outbound(key, dialled, role, transport, speech, now);
        let (stream, transport) = (&order.name, transport.label());
        tracing::info!(%id, %peer, role = role.label(), %stream, transport, "connection opened by us");
        if let Some(connection) = self.connections.get_mut(key) {
            connection.stream_name = Some(order.name);
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
            CloseReason::Tls => OutsideFault::Tls,
            CloseReason::Refused | CloseReason::Challenge => OutsideFault::Refused,
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

    pub(super) fn tell_outside(&mut self, id: u64, what: OutsideNews) {
        self.tell_news(News::Outside { id, core: self.index(), what });
    }

    /// Tells the control thread, now or when there is room.
    pub(super) fn tell_news(&mut self, news: News) {
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
