//! Messages between nodes: the greeting of links, and what the cluster's machine on worker 0 hears
//! and says, wherever its connections are.

use std::time::Duration;

use super::LinkMail;
use super::line::{Kind, LinkConnection};
use super::taking::Taking;
use crate::cluster::{self, Greeted, Greeting, Line, Met, NodeKey, Refusal, asks_for};
use crate::reactor::ConnectionKey;
use crate::worker::labels::{CloseReason, Label, LinkRefusal};
use crate::worker::mail::Mail;
use crate::worker::{REGISTRAR, Worker};

impl Worker {
    /// The other end speaks RTMP as nodes do.
    pub(super) fn link_open(&mut self, link: &mut LinkConnection, now: Duration) {
        let worker = u16::try_from(self.index()).unwrap_or(u16::MAX);
        let binding = link.binding();
        match &mut link.kind {
            Kind::Control(line) => {
                let line = *line;
                self.with_cluster(now, |cluster| cluster.dialled(line, binding));
            }
            Kind::Dials(_, greeting) => {
                let Some(credentials) = self.links.credentials.clone() else { return };
                let nonce = self.nonce();
                let role = cluster::Role::Media { worker };
                let (dial, hello) = Greeting::dial(&credentials, role, nonce, binding);
                *greeting = Some(Box::new(dial));
                link.session.say(0, &hello);
            }
            Kind::Stranger | Kind::Greets(_) | Kind::Taking(_) | Kind::Feeding(_) => {}
        }
    }

    /// A message about the connection itself.
    pub(super) fn link_heard(
        &mut self,
        link: &mut LinkConnection,
        payload: &bytes::Bytes,
        now: Duration,
    ) -> Result<(), String> {
        match &mut link.kind {
            Kind::Stranger => self.stranger_said(link, payload, now),
            Kind::Control(line) => {
                let heard = LinkMail::Heard { line: *line, payload: payload.clone() };
                self.mailbox.send(REGISTRAR, Mail::Link(Box::new(heard)));
                Ok(())
            }
            Kind::Greets(greeting) => {
                let greeted = greeting.receive(payload, &self.limits);
                self.greeted(link, greeted, now);
                Ok(())
            }
            Kind::Dials(_, Some(greeting)) => {
                let greeted = greeting.receive(payload, &self.limits);
                self.greeted(link, greeted, now);
                Ok(())
            }
            Kind::Dials(_, None) => Err("a message came before the link was open".to_owned()),
            Kind::Taking(_) | Kind::Feeding(_) => Ok(()),
        }
    }

    fn stranger_said(
        &mut self,
        link: &mut LinkConnection,
        payload: &bytes::Bytes,
        now: Duration,
    ) -> Result<(), String> {
        match asks_for(payload, &self.limits) {
            Some(cluster::Role::Control) => {
                self.links.accepted += 1;
                let worker = u64::try_from(self.index()).unwrap_or(u64::MAX);
                let line = Line::Accepted(worker << 48 | self.links.accepted);
                self.links.no_stranger();
                link.kind = Kind::Control(line);
                let (from, party) = (link.peer, self.on_link(link.key, 0));
                let binding = link.binding();
                for mail in [
                    LinkMail::Opened { line, from, party, binding },
                    LinkMail::Heard { line, payload: payload.clone() },
                ] {
                    self.mailbox.send(REGISTRAR, Mail::Link(Box::new(mail)));
                }
                Ok(())
            }
            Some(cluster::Role::Media { .. }) => {
                let Some(credentials) = self.links.credentials.clone() else { return Ok(()) };
                let mut greeting = Greeting::accept(&credentials, self.nonce(), link.binding());
                let greeted = greeting.receive(payload, &self.limits);
                link.kind = Kind::Greets(Box::new(greeting));
                self.greeted(link, greeted, now);
                Ok(())
            }
            None => Err(Refusal::Malformed.to_string()),
        }
    }

    fn greeted(&mut self, link: &mut LinkConnection, greeted: Greeted, now: Duration) {
        match greeted {
            Greeted::Reply(payload) => link.session.say(0, &payload),
            Greeted::Done(met, payload) => {
                if let Some(payload) = payload {
                    link.session.say(0, &payload);
                }
                self.met(link, &met, now);
            }
            Greeted::Refused(why, payload) => {
                if let Some(payload) = payload {
                    link.session.say(0, &payload);
                }
                self.refuse_link(link.peer, LinkRefusal::at(why.index()), &why, now);
                link.close_when_sent();
            }
            Greeted::TurnedAway(why, _) => {
                let peer = link.peer;
                tracing::warn!(%peer, detail = %why, "link refused by the other side");
                link.close_when_sent();
            }
        }
    }

    fn met(&mut self, link: &mut LinkConnection, met: &Met, now: Duration) {
        let key = met.identity.key;
        link.zone = self.links.zone_of(&met.identity.zone);
        match (&link.kind, met.role) {
            (Kind::Greets(_), cluster::Role::Media { worker }) => {
                self.links.no_stranger();
                if !self.has_place_for(key) {
                    let why = "the node has as many links as it may";
                    self.refuse_link(link.peer, LinkRefusal::Unknown, &why, now);
                    link.close_when_sent();
                }
                link.session.expect_media();
                link.kind = Kind::Taking(Taking::new(key, worker));
                self.end_older(key, worker);
            }
            (Kind::Dials(to, _), _) if *to == key => {
                link.kind = Kind::Feeding(key);
                self.out_link_up(link, key, now);
            }
            // Another process has the address by now.
            _ => link.close_when_sent(),
        }
    }

    /// Of two links from one worker of a node the older one has failed.
    fn end_older(&mut self, from: NodeKey, worker: u16) {
        let older = self.links.connections.values().find(|link| {
            matches!(&link.kind, Kind::Taking(old) if old.from == from && old.worker == worker)
        });
        let Some(key) = older.map(|link| link.key) else { return };
        if let Some(link) = self.links.connections.remove(&key) {
            let why = "the node has dialled again";
            self.close_link(link, CloseReason::Ended, Some(&why));
        }
    }

    /// Says something on a control connection of this worker.
    pub(super) fn say_on_line(&mut self, connection: ConnectionKey, payload: &[u8], now: Duration) {
        self.with_link(connection, now, |_, link| link.session.say(0, payload));
    }

    /// Closes a control connection of this worker when all is sent.
    pub(super) fn close_line(&mut self, connection: ConnectionKey, now: Duration) {
        self.with_link(connection, now, |_, link| {
            link.since = now;
            link.close_when_sent();
        });
    }

    pub(in crate::worker) fn read_link_mail(&mut self, mail: LinkMail, now: Duration) {
        match mail {
            LinkMail::Opened { .. }
            | LinkMail::Heard { .. }
            | LinkMail::Closed { .. }
            | LinkMail::Fed { .. }
            | LinkMail::Quiet { .. }
            | LinkMail::Unfed { .. }
            | LinkMail::Declined { .. }
            | LinkMail::Adopted { .. }
            | LinkMail::Vanished { .. }
            | LinkMail::FeedEnded { .. } => self.tell_cluster(mail, now),
            LinkMail::Say { connection, payload } => self.say_on_line(connection, &payload, now),
            LinkMail::Close { connection } => self.close_line(connection, now),
            LinkMail::Drop { connection, message_stream } => {
                self.end_taking(connection, message_stream, false, now);
            }
            LinkMail::Audience { connection, message_stream, players } => {
                self.tell_audience(connection, message_stream, players, now);
            }
            LinkMail::Feed { stream, order } => self.feed(stream, order, now),
            LinkMail::Repath { stream, path } => self.repath(stream, &path, now),
            LinkMail::StopFeed { stream, to } => self.stop_feed(stream, to),
            LinkMail::Siblings { siblings } => self.links.siblings = siblings,
            LinkMail::Met { connection, zone } => {
                if let Some(link) = self.links.connections.get_mut(&connection) {
                    link.zone = zone;
                    link.session.trust();
                }
            }
            LinkMail::Known { nodes } => self.links.known = nodes.iter().copied().collect(),
        }
    }
}
