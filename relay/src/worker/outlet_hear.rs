//! What other servers say on connections that push or pull, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::client::{fault_of, fault_of_tunnel, without_challenge};
use super::connection::Connection;
use super::labels::CloseReason;
use super::mail::{Party, Request};
use super::outside::{OutsideEnd, OutsideFault, OutsideKind, OutsideNews};
use super::receive::caught;
use super::settings::{PublishConflict, UnknownStream};
use crate::session::{ClientEvent, SessionError};
use crate::wire::media::Role as MediaRole;
use crate::wire::message::MediaMessage;

/// What follows from an event, when it is no longer borrowed.
enum Deed {
    Nothing,
    Started,
    Reconnect(Option<String>),
    Hold(Box<MediaMessage>),
    End(OutsideEnd, CloseReason),
}

impl Worker {
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
                    let detail = without_challenge(&end.detail).to_owned();
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
                if let Some(to) = &redirect {
                    client.hide_way(to);
                }
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
                let code = client.hide(&code);
                tracing::debug!(id = %connection.id, code, level, "status of the server");
                Deed::Nothing
            }
            ClientEvent::ReconnectRequest { tc_url } => Deed::Reconnect(tc_url),
            ClientEvent::Ended { code } => {
                let fault = OutsideFault::ServerEnded;
                let end = OutsideEnd { fault, detail: client.hide(&code), redirect: None };
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
}
