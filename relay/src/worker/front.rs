//! What a connection turns out to be: its first bytes decide, layer by layer.
//!
//! ```text
//!   socket -> sniff -> RTMP | HTTP
//! ```
//!
//! Nothing is taken from the bytes by looking at them: whoever speaks what they begin reads them
//! from the first one on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use super::connection::Connection;
use super::http::HttpFront;
use super::labels::{CloseReason, HandshakeResult, RefuseReason, Transport};
use super::speech::Speech;
use crate::session::ServerSession;
use crate::session::sniff::{Sniffed, sniff};

/// A fatal TLS alert, `handshake_failure` (RFC 8446 section 6.2), as a record without encryption.
const TLS_ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 40];

impl Worker {
    /// What was said on a connection goes to whoever speaks it, until the bytes are used up, a
    /// verdict is outstanding, too few have come to tell what they are, or the connection ends.
    /// What is left of `input` is to be shown again, with what follows it.
    pub(super) fn take_in(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        loop {
            match connection.speech {
                Speech::Rtmp(_) => {
                    self.hear_rtmp(connection, input, now);
                    return;
                }
                Speech::Http(_) => {
                    self.hear_http(connection, input, now);
                    if matches!(connection.speech, Speech::Http(_)) {
                        return;
                    }
                }
                Speech::Flv(_) => {
                    self.hear_flv(connection, input, now);
                    if matches!(connection.speech, Speech::Flv(_)) {
                        return;
                    }
                }
                Speech::Unknown => {
                    if !self.recognise(connection, input, now) {
                        return;
                    }
                }
            }
        }
    }

    /// Finds out what is spoken. False when that takes more bytes, or when it is nothing for us.
    fn recognise(&mut self, connection: &mut Connection, input: &mut &[u8], now: Duration) -> bool {
        if connection.ended || connection.closing.is_some() {
            *input = &[];
            return false;
        }
        match sniff(input) {
            Sniffed::More => false,
            Sniffed::Rtmp => {
                let seed = self.random.u64(..);
                let session = ServerSession::new(self.limits.clone(), seed, connection.since);
                connection.speech = Speech::Rtmp(session);
                true
            }
            Sniffed::Http => {
                let deadline = connection.since + self.limits.connect_timeout;
                let http = HttpFront::new(Arc::clone(&self.limits), deadline);
                connection.speech = Speech::Http(Box::new(http));
                // Handshakes are those of RTMP.
                connection.handshake_counted = true;
                true
            }
            Sniffed::Tls => {
                *input = &[];
                connection.outbox.push_back(Bytes::from_static(TLS_ALERT));
                self.count_failed_handshake(connection, HandshakeResult::BadVersion);
                self.turn_away(connection, RefuseReason::NoCertificate);
                self.close_soon(connection, CloseReason::Protocol, now);
                false
            }
            Sniffed::Proxy => {
                *input = &[];
                self.count_failed_handshake(connection, HandshakeResult::BadVersion);
                self.turn_away(connection, RefuseReason::Proxy);
                self.close(connection, CloseReason::Protocol, None, now);
                false
            }
        }
    }

    /// Counts and logs that somebody is refused for what it speaks. Scanners do it all day, so it
    /// is no warning.
    pub(super) fn turn_away(&self, connection: &Connection, reason: RefuseReason) {
        self.cells.refused.at(reason).increment();
        let (id, peer, reason) = (&connection.id, &connection.peer, reason.label());
        tracing::info!(%id, %peer, reason, "connection refused");
    }

    /// The connection speaks by another transport than it was counted by.
    pub(super) fn set_transport(&self, connection: &mut Connection, transport: Transport) {
        let before = std::mem::replace(&mut connection.transport, transport);
        self.cells.changed_transport(connection.role, before, transport);
    }
}
