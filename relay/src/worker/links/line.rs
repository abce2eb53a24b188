//! Connections between nodes: accepted or dialled, read, and sent to.
//!
//! What is said on them is dealt with elsewhere; here bytes become events and output becomes sends.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::taking::Taking;
use super::{LinkTls, Links, is_link_token};
use crate::cluster::{Greeting, Line, NodeKey, Nonce};
use crate::limits::Limits;
use crate::reactor::{Batch, ConnectionKey, Operation};
use crate::session::SessionError;
use crate::session::link::{LinkEvent, LinkSession};
use crate::tls::{Layer, TlsError};
use crate::worker::Worker;
use crate::worker::labels::{CloseReason, LinkRefusal, LinkWay, LinkZone, Role, Transport};
use crate::worker::mail::Party;
use crate::worker::receive::{caught, close_reason};

/// One connection to another node.
pub(super) struct LinkConnection {
    pub(super) key: ConnectionKey,
    pub(super) peer: SocketAddr,
    pub(super) session: LinkSession,
    pub(super) tls: Option<Box<Layer>>,
    pub(super) kind: Kind,
    /// Where the other end stands.
    pub(super) zone: LinkZone,
    /// What waits for the send under way.
    pub(super) outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    /// Since when a send has been under way.
    pub(super) sending: Option<Duration>,
    /// It ends when all of that is gone.
    pub(super) closing: bool,
    /// Nothing more can be sent, by a fault of this node.
    broken: Option<TlsError>,
    pub(super) since: Duration,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// What a connection is for.
pub(super) enum Kind {
    /// It was accepted and has not said what for.
    Stranger,
    /// It was accepted, is to bring streams, and proves that it is a node.
    Greets(Box<Greeting>),
    /// It was dialled to feed this node; the greeting is there when the other end speaks RTMP.
    Dials(NodeKey, Option<Box<Greeting>>),
    /// Messages to and from the cluster's machine.
    Control(Line),
    /// It brings streams.
    Taking(Taking),
    /// It feeds this node.
    Feeding(NodeKey),
}

/// Why a link has to end. What is only said comes of what the other end did.
pub(super) struct Wrong {
    reason: CloseReason,
    why: String,
    /// What it counts as, if not as whoever says such things before it has greeted.
    refusal: Option<LinkRefusal>,
}

impl Wrong {
    fn of_session(error: &SessionError) -> Self {
        Self::of_peer(close_reason(error), error.to_string(), None)
    }

    pub(super) fn of_peer(reason: CloseReason, why: String, refusal: Option<LinkRefusal>) -> Self {
        Self { reason, why, refusal }
    }

    /// A fault of this node.
    pub(super) fn of_ours(why: String) -> Self {
        Self { reason: CloseReason::Fault, why, refusal: None }
    }
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::of_peer(CloseReason::Protocol, why, None)
    }
}

/// What is being dialled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dialled {
    /// A control connection.
    Control(Line),
    /// A link to feed this node.
    Media(NodeKey),
}

impl LinkConnection {
    fn new(
        key: ConnectionKey,
        peer: SocketAddr,
        session: LinkSession,
        tls: Option<Layer>,
        kind: Kind,
        now: Duration,
    ) -> Self {
        Self {
            key,
            peer,
            session,
            tls: tls.map(Box::new),
            kind,
            zone: LinkZone::Unknown,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            sending: None,
            closing: false,
            broken: None,
            since: now,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Streams that it brings.
    pub(super) fn taken(&self) -> usize {
        match &self.kind {
            Kind::Taking(taking) => taking.streams.len(),
            _ => 0,
        }
    }

    /// Which way it carries streams.
    pub(super) fn way(&self) -> LinkWay {
        match self.kind {
            Kind::Taking(_) | Kind::Greets(_) => LinkWay::In,
            Kind::Feeding(_) | Kind::Dials(..) => LinkWay::Out,
            Kind::Stranger | Kind::Control(_) => LinkWay::Control,
        }
    }

    /// Whether nothing more can be sent.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether a send is under way.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Whether more waits for the other end than may.
    pub(super) fn holds_too_much(&self, limits: &Limits) -> bool {
        self.outbox_bytes > limits.link_queue_bytes_max
    }

    pub(super) fn is_stranger(&self) -> bool {
        matches!(self.kind, Kind::Stranger | Kind::Greets(_))
    }

    /// Takes over what the session has to say.
    pub(super) fn collect_output(&mut self) {
        while let Some(bytes) = self.session.take_output() {
            self.outbox_bytes += bytes.len();
            self.outbox.push_back(bytes);
        }
    }

    /// Everything that waits, to be sent before anything else.
    pub(super) fn take_outbox(&mut self) -> VecDeque<Bytes> {
        self.outbox_bytes = 0;
        std::mem::take(&mut self.outbox)
    }

    /// It is closed when all that was said is gone.
    pub(super) fn close_when_sent(&mut self) {
        self.closing = true;
    }
}

impl Worker {
    pub(in crate::worker) fn link_accepted(
        &mut self,
        key: ConnectionKey,
        peer: SocketAddr,
        now: Duration,
    ) {
        // Who drains goes on taking what its players play.
        let why = if self.links.strangers >= self.limits.cluster_strangers_max {
            Some("too many have not greeted yet")
        } else if self.strangers_of(peer.ip()) >= self.limits.cluster_strangers_per_address_max {
            Some("too many of this address have not greeted yet")
        } else {
            None
        };
        if let Some(why) = why {
            self.refuse_link(peer, LinkRefusal::Strangers, &why, now);
            self.operations.push(Operation::Close { connection: key });
            return;
        }
        let tls = match self.links.tls.as_ref().map(LinkTls::accept).transpose() {
            Ok(tls) => tls,
            Err(error) => return self.no_tls(key, &error),
        };
        self.links.strangers += 1;
        let session = LinkSession::accept(&self.limits, self.random.u64(..));
        self.begin_link(LinkConnection::new(key, peer, session, tls, Kind::Stranger, now), now);
    }

    /// TLS cannot begin: it is set up in a way that cannot be used.
    fn no_tls(&mut self, key: ConnectionKey, error: &TlsError) {
        tracing::error!(%error, "TLS of a link cannot begin");
        self.operations.push(Operation::Close { connection: key });
    }

    /// A link that was dialled in vain, by a fault of this node.
    fn never_begun(&mut self, link: LinkConnection, fault: &TlsError) {
        self.cells.opened(Transport::Rtmp);
        self.cells.changed_role(Role::Pending, Role::Link, Transport::Rtmp);
        tracing::error!(error = %fault, "TLS of a link cannot begin");
        self.close_link(Box::new(link), CloseReason::Fault, Some(fault));
    }

    fn begin_link(&mut self, mut link: LinkConnection, now: Duration) {
        self.cells.opened(Transport::Rtmp);
        self.cells.changed_role(Role::Pending, Role::Link, Transport::Rtmp);
        self.operations.push(Operation::Receive { connection: link.key });
        self.send_link(&mut link, now);
        self.links.connections.insert(link.key, Box::new(link));
    }

    /// Opens a connection to a node.
    pub(super) fn dial_link(&mut self, what: Dialled, address: SocketAddr) -> u64 {
        let token = self.links.token();
        self.links.dialling.insert(token, what);
        self.operations.push(Operation::Connect { token, address });
        token
    }

    pub(in crate::worker) fn link_dialled(
        &mut self,
        token: u64,
        key: ConnectionKey,
        peer: SocketAddr,
        now: Duration,
    ) {
        if !is_link_token(token) {
            return;
        }
        let kind = match self.links.dialling.remove(&token) {
            Some(Dialled::Control(line)) => {
                if let Some(seat) = &mut self.links.seat {
                    seat.opened(line, key);
                }
                Kind::Control(line)
            }
            Some(Dialled::Media(to)) => {
                if let Some(link) = self.links.out.get_mut(&to) {
                    link.connection = Some(key);
                }
                Kind::Dials(to, None)
            }
            // Nobody wants it any more.
            None => {
                self.operations.push(Operation::Close { connection: key });
                return;
            }
        };
        let session = LinkSession::dial(&self.limits, self.random.u64(..));
        let (tls, fault) = match self.links.tls.as_ref().map(LinkTls::dial).transpose() {
            Ok(tls) => (tls, None),
            Err(error) => (None, Some(error)),
        };
        let link = LinkConnection::new(key, peer, session, tls, kind, now);
        match fault {
            None => self.begin_link(link, now),
            Some(fault) => self.never_begun(link, &fault),
        }
    }

    pub(in crate::worker) fn link_not_dialled(&mut self, token: u64, error: &io::Error) {
        match self.links.dialling.remove(&token) {
            Some(Dialled::Control(line)) => {
                tracing::debug!(%error, "a node cannot be reached");
                self.line_closed(line);
            }
            Some(Dialled::Media(to)) => {
                let streams = self.links.out.get(&to).map_or(0, super::feeding::OutLink::len);
                let text = "a node that is to be fed cannot be reached";
                tracing::info!(node = %to, streams, %error, "{text}");
                self.end_out_link(to);
            }
            None => {}
        }
    }

    pub(in crate::worker) fn link_received(
        &mut self,
        key: ConnectionKey,
        bytes: &[u8],
        now: Duration,
    ) {
        let Some(mut link) = self.links.connections.remove(&key) else { return };
        let (first, count) = (link.bytes_in == 0, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        link.bytes_in += count;
        self.cells.ingest_bytes.at(Role::Link).add(count);
        self.cells.link_bytes.at((link.way(), link.zone)).add(count);
        let copied = link.session.copied_bytes();
        let heard = self.hear_records(&mut link, bytes, first, now);
        self.cells.assembled_bytes.add(link.session.copied_bytes().saturating_sub(copied));
        match heard {
            Ok(()) => {
                self.operations.push(Operation::Receive { connection: key });
                self.put_link(link, now);
            }
            Err(Wrong { reason, why, refusal }) => {
                // Whoever is no node is told so first.
                self.send_link(&mut link, now);
                let foreign = link.is_stranger() && reason != CloseReason::Fault;
                if let Some(refusal) = refusal.or(foreign.then_some(LinkRefusal::Foreign)) {
                    self.refuse_link(link.peer, refusal, &why, now);
                }
                self.close_link(link, reason, Some(&why));
            }
        }
    }

    pub(super) fn hear_link(
        &mut self,
        link: &mut LinkConnection,
        mut input: &[u8],
        now: Duration,
    ) -> Result<(), Wrong> {
        while !link.closing {
            let LinkConnection { session, kind, .. } = &mut *link;
            let event = match caught(|| session.next_event(&mut input, now)) {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(Wrong::of_session(&error)),
                Err(_) => {
                    let why = "a panic in the session was caught".to_owned();
                    return Err(Wrong::of_ours(why));
                }
            };
            match (event, kind) {
                (LinkEvent::Media { message_stream, message }, Kind::Taking(taking)) => {
                    self.take_media(taking, message_stream, Some(message), now);
                }
                (LinkEvent::Unusable { message_stream }, Kind::Taking(taking)) => {
                    self.take_media(taking, message_stream, None, now);
                }
                (LinkEvent::Media { .. } | LinkEvent::Unusable { .. }, _) => {}
                (LinkEvent::Open, _) => self.link_open(link, now),
                (LinkEvent::Data { message_stream: 0, payload }, _) => {
                    self.link_heard(link, &payload, now)?;
                }
                (LinkEvent::Data { message_stream, payload }, Kind::Taking(_)) => {
                    self.taking_told(link, message_stream, &payload, now)?;
                }
                (LinkEvent::Data { message_stream, payload }, Kind::Feeding(to)) => {
                    let to = *to;
                    self.feeding_told(to, message_stream, &payload)?;
                }
                (LinkEvent::Publish { message_stream, name }, Kind::Taking(_)) => {
                    self.offered(link, message_stream, &name, now)?;
                }
                (LinkEvent::Close { message_stream }, Kind::Taking(_)) => {
                    self.no_longer_fed(link, message_stream);
                }
                (LinkEvent::Unwanted { message_stream }, Kind::Feeding(to)) => {
                    let to = *to;
                    self.not_wanted(to, message_stream);
                }
                (
                    LinkEvent::Data { .. }
                    | LinkEvent::Publish { .. }
                    | LinkEvent::Close { .. }
                    | LinkEvent::Unwanted { .. },
                    _,
                ) => return Err("streams came before the greeting was over".to_owned().into()),
            }
        }
        Ok(())
    }

    /// Says what is to be said on a connection, and puts it back into the table.
    pub(super) fn put_link(&mut self, mut link: Box<LinkConnection>, now: Duration) {
        link.collect_output();
        if link.holds_too_much(&self.limits) {
            return self.close_unread(link);
        }
        match link.kind {
            // Goes with the next media.
            Kind::Feeding(to) => self.links.woken.push(to),
            _ => self.send_link(&mut link, now),
        }
        if link.broken.is_some() {
            return self.close_broken(link);
        }
        if link.closing && !link.is_sending() {
            self.close_link(link, CloseReason::Ended, None);
            return;
        }
        self.links.connections.insert(link.key, link);
    }

    /// Works on a connection, if it is there, and then says what is to be said.
    pub(super) fn with_link(
        &mut self,
        key: ConnectionKey,
        now: Duration,
        work: impl FnOnce(&mut Self, &mut LinkConnection),
    ) {
        let Some(mut link) = self.links.connections.remove(&key) else { return };
        work(self, &mut link);
        self.put_link(link, now);
    }

    /// Lets go of a node that does not read what it is told.
    pub(super) fn close_unread(&mut self, link: Box<LinkConnection>) {
        self.cells.link_refused.at(LinkRefusal::Queue).increment();
        let why = "it does not read what it is told";
        self.close_link(link, CloseReason::Slow, Some(&why));
    }

    fn send_link(&mut self, link: &mut LinkConnection, now: Duration) {
        link.collect_output();
        if link.is_sending() {
            return;
        }
        if let Some(handshake) = link.handshake_output() {
            self.submit_link(link, vec![handshake], now);
        } else if !link.outbox.is_empty() && link.may_speak() {
            let slices: Vec<Bytes> = link.take_outbox().into();
            self.send_slices(link, slices, now);
        }
    }

    /// Closes a link on which nothing more can be sent.
    pub(super) fn close_broken(&mut self, link: Box<LinkConnection>) {
        let why = link.broken.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::error!(peer = %link.peer, error = why, "a link cannot go on");
        self.close_link(link, CloseReason::Fault, Some(&why));
    }

    /// Sends; nothing may be under way. What cannot be sealed leaves the link broken.
    pub(super) fn send_slices(
        &mut self,
        link: &mut LinkConnection,
        slices: Vec<Bytes>,
        now: Duration,
    ) {
        match link.sealed(slices, &self.seal_buffers) {
            Ok(slices) => self.submit_link(link, slices, now),
            Err(error) => link.broken = Some(error),
        }
    }

    fn submit_link(&mut self, link: &mut LinkConnection, slices: Vec<Bytes>, now: Duration) {
        link.sending = Some(now);
        self.cells.sends.increment();
        let batch = Batch::Many(slices);
        self.operations.push(Operation::Send { connection: link.key, batch });
    }

    pub(in crate::worker) fn link_sent(&mut self, key: ConnectionKey, bytes: usize, now: Duration) {
        let Some(link) = self.links.connections.get_mut(&key) else { return };
        link.sending = None;
        let count = u64::try_from(bytes).unwrap_or(u64::MAX);
        link.bytes_out += count;
        self.cells.egress_bytes.at(Role::Link).add(count);
        self.cells.link_bytes.at((link.way(), link.zone)).add(count);
        if let Kind::Feeding(to) = link.kind {
            self.links.woken.push(to);
            return;
        }
        if let Some(link) = self.links.connections.remove(&key) {
            self.put_link(link, now);
        }
    }

    /// The place of a stream on a link.
    pub(super) fn on_link(&self, connection: ConnectionKey, message_stream: u32) -> Party {
        Party { worker: self.index(), connection, message_stream }
    }

    /// A number that nobody can foretell.
    pub(super) fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 32];
        for half in nonce.chunks_exact_mut(16) {
            half.copy_from_slice(&(self.tunnels.source.random)());
        }
        nonce
    }
}

impl Links {
    /// Somebody who was accepted has said what it wants.
    pub(super) fn no_stranger(&mut self) {
        self.strangers -= 1;
    }
}
