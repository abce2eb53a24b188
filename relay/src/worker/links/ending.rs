//! How connections between nodes end: by the other end, by a fault, by time, or with the node; and
//! who is turned away.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::LinkMail;
use super::line::{Kind, LinkConnection};
use super::secure::NO_ANSWER;
use crate::cluster::Line;
use crate::reactor::{ConnectionKey, Operation};
use crate::worker::accept::failure;
use crate::worker::labels::{CloseReason, Label, LinkRefusal, Role, Transport};
use crate::worker::mail::Mail;
use crate::worker::{REGISTRAR, Worker};

impl Worker {
    /// The other end closed a connection, or it failed.
    pub(in crate::worker) fn link_ended(
        &mut self,
        key: ConnectionKey,
        error: Option<&io::Error>,
        now: Duration,
    ) {
        let Some(link) = self.links.connections.remove(&key) else { return };
        if link.is_stranger() && !link.closing {
            let why = "it left before it had greeted";
            self.refuse_link(link.peer, LinkRefusal::Foreign, &why, now);
        } else if link.is_shaking_hands() {
            self.refuse_link(link.peer, LinkRefusal::Tls, &NO_ANSWER, now);
        }
        let reason = error.map_or(CloseReason::Eof, failure);
        let detail = error.map(|error| error as &dyn Display);
        self.close_link(link, reason, detail);
    }

    /// Ends a connection, and with it the streams on it.
    pub(super) fn close_link(
        &mut self,
        link: Box<LinkConnection>,
        reason: CloseReason,
        detail: Option<&dyn Display>,
    ) {
        self.links.strangers -= usize::from(link.is_stranger());
        self.cells.closed(Role::Link, Role::Link, Transport::Rtmp, reason);
        self.operations.push(Operation::Close { connection: link.key });
        tracing::debug!(
            peer = %link.peer,
            way = ?link.way(),
            reason = reason.label(),
            detail = detail.map(ToString::to_string),
            "link closed"
        );
        let key = link.key;
        match link.kind {
            Kind::Stranger | Kind::Greets(_) => {}
            Kind::Control(_) if link.closing => {}
            Kind::Control(line) => self.line_closed(line),
            Kind::Taking(taking) => self.taking_ended(key, taking),
            Kind::Dials(to, _) | Kind::Feeding(to) => {
                if self.links.out.get(&to).is_some_and(|link| link.connection == Some(key)) {
                    self.end_out_link(to);
                }
            }
        }
    }

    /// A control connection broke, or could not be opened.
    pub(super) fn line_closed(&mut self, line: Line) {
        self.mailbox.send(REGISTRAR, Mail::Link(Box::new(LinkMail::Closed { line })));
    }

    /// Counts that somebody is no node, or is none that may come; one sentence for the log, at most
    /// one a second.
    pub(super) fn refuse_link(
        &mut self,
        peer: SocketAddr,
        why: LinkRefusal,
        detail: &dyn Display,
        now: Duration,
    ) {
        if let Some(count) = self.links.refused.get_mut(why.index()) {
            *count += 1;
        }
        self.cells.link_refused.at(why).increment();
        if self.links.told_refusal.may_tell(now) {
            tracing::warn!(%peer, reason = why.label(), %detail, "link refused");
        } else {
            tracing::debug!(%peer, reason = why.label(), %detail, "link refused");
        }
    }

    /// Closes links whose batch has not gone in time, whatever the reason.
    fn end_stalled_links(&mut self, now: Duration) {
        let most = self.limits.send_stall_max;
        let since = |link: &LinkConnection| link.sending.map(|since| now.saturating_sub(since));
        let links = self.links.connections.values();
        let stalled = links.filter(|link| since(link) >= Some(most));
        let mut stalled: Vec<ConnectionKey> = stalled.map(|link| link.key).collect();
        stalled.sort_unstable();
        for key in stalled {
            let Some(link) = self.links.connections.remove(&key) else { continue };
            self.cells.link_refused.at(LinkRefusal::Stalled).increment();
            let why = "a batch was not gone within send_stall_max";
            self.close_link(link, CloseReason::Slow, Some(&why));
        }
    }

    /// Closes links that took too long to greet, or to take what they are sent.
    pub(super) fn end_late_links(&mut self, now: Duration) {
        self.end_stalled_links(now);
        let most = self.limits.cluster_hello_timeout;
        let is_late = |link: &LinkConnection| now.saturating_sub(link.since) >= most;
        let greets = |link: &LinkConnection| {
            link.is_stranger() || link.closing || matches!(link.kind, Kind::Dials(..))
        };
        let late = self.links.connections.values().filter(|link| greets(link) && is_late(link));
        let mut late: Vec<ConnectionKey> = late.map(|link| link.key).collect();
        late.sort_unstable();
        for key in late {
            let Some(link) = self.links.connections.remove(&key) else { continue };
            let why = "the greeting took longer than cluster_hello_timeout";
            if !link.closing {
                self.refuse_link(link.peer, LinkRefusal::Timeout, &why, now);
            }
            self.close_link(link, CloseReason::Timeout, Some(&why));
        }
    }

    /// Closes all links at once: the node ends.
    pub(in crate::worker) fn end_links(&mut self, now: Duration) {
        self.leave_cluster(now);
        let mut keys: Vec<ConnectionKey> = self.links.connections.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let Some(mut link) = self.links.connections.remove(&key) else { continue };
            link.close_when_sent();
            self.close_link(link, CloseReason::Drain, None);
        }
    }
}
