//! What a connection turns out to be: its first bytes decide, layer by layer.
//!
//! ```text
//!   socket -> [PROXY header] -> [TLS] -> sniff -> RTMP | HTTP
//! ```
//!
//! Nothing is taken from the bytes by looking at them: whoever speaks what they begin reads them
//! from the first one on. What a listener does not take is refused, and counted by reason.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use super::connection::Connection;
use super::http::HttpFront;
use super::labels::{CloseReason, HandshakeResult, RefuseReason, Transport};
use super::speech::Speech;
use crate::session::ServerSession;
use crate::session::proxy;
use crate::session::sniff::{Sniffed, sniff};

/// A fatal TLS alert, `handshake_failure` (RFC 8446 section 6.2), as a record without encryption.
const TLS_ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 40];

impl Worker {
    /// What came on a connection goes through its TLS, if it has any, to whoever speaks on it,
    /// until the bytes are used up, a verdict is outstanding, too few have come to tell what they
    /// are, or the connection ends. What is left of `input` is to be shown again, with what follows
    /// it.
    pub(super) fn take_in(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        if connection.tls.is_some() {
            self.open_records(connection, input, now);
        } else {
            self.hear(connection, input, now);
        }
    }

    /// The same for what is said, whether it came inside TLS or not.
    pub(super) fn hear(&mut self, connection: &mut Connection, input: &mut &[u8], now: Duration) {
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
                Speech::Carrier(_) => {
                    self.hear_carrier(connection, input, now);
                    if matches!(connection.speech, Speech::Carrier(_)) {
                        return;
                    }
                }
                Speech::Outside(_) => return self.hear_outside(connection, input, now),
                Speech::Unknown => {
                    if connection.ended || connection.closing.is_some() {
                        *input = &[];
                        return;
                    }
                    if !self.recognise(connection, input, now) {
                        return;
                    }
                }
            }
        }
    }

    /// Finds out what is spoken. False when that takes more bytes, or when somebody else goes on.
    fn recognise(&mut self, connection: &mut Connection, input: &mut &[u8], now: Duration) -> bool {
        let inside = connection.tls.is_some();
        let speaks = connection.speaks;
        match sniff(input) {
            Sniffed::More => false,
            Sniffed::Rtmp if if inside { speaks.rtmps } else { speaks.rtmp } => {
                let seed = self.random.u64(..);
                let session = ServerSession::new(self.limits.clone(), seed, connection.since);
                connection.speech = Speech::Rtmp(Box::new(session));
                true
            }
            Sniffed::Http if if inside { speaks.https } else { speaks.http } => {
                let deadline = connection.since + self.limits.connect_timeout;
                let http = HttpFront::new(Arc::clone(&self.limits), deadline);
                connection.speech = Speech::Http(Box::new(http));
                // Handshakes are those of RTMP.
                connection.handshake_counted = true;
                true
            }
            Sniffed::Tls if !inside => {
                self.begin_tls_or_not(connection, input, now);
                false
            }
            Sniffed::Proxy if !inside && !connection.proxied => {
                self.read_proxy_header(connection, input, now)
            }
            _ => {
                *input = &[];
                let wants_tls = !speaks.rtmp && !speaks.http;
                let plain = !inside && wants_tls;
                let reason = if plain { RefuseReason::PlainText } else { RefuseReason::NotSpoken };
                self.count_failed_handshake(connection, HandshakeResult::BadVersion);
                self.refuse_speech(connection, reason, now);
                false
            }
        }
    }

    fn begin_tls_or_not(&mut self, connection: &mut Connection, input: &mut &[u8], now: Duration) {
        let taken = connection.speaks.rtmps || connection.speaks.https;
        if taken && self.shared.tls().is_some() {
            self.begin_tls(connection, now);
            if connection.tls.is_some() {
                self.open_records(connection, input, now);
            }
            return;
        }
        *input = &[];
        connection.outbox.push_back(Bytes::from_static(TLS_ALERT));
        self.count_failed_handshake(connection, HandshakeResult::BadVersion);
        let reason = if taken { RefuseReason::NoCertificate } else { RefuseReason::NotSpoken };
        self.turn_away(connection, reason);
        self.close_soon(connection, CloseReason::Protocol, now);
    }

    /// Believes a proxy that may be believed. True when what follows its header can be looked at.
    fn read_proxy_header(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) -> bool {
        let reason = match proxy::read(input) {
            _ if !self.settings.is_proxy(connection.peer.ip()) => RefuseReason::Proxy,
            Ok(None) => return false,
            Ok(Some(header)) => {
                *input = input.get(header.length..).unwrap_or_default();
                connection.proxied = true;
                let Some(client) = header.client else { return !input.is_empty() };
                let (id, proxy) = (connection.id, connection.peer);
                connection.peer = client;
                tracing::info!(%id, %proxy, peer = %client, "connection comes by a proxy");
                match self.enter_address(client.ip(), now) {
                    Ok(counted) => {
                        connection.counted = counted;
                        return !input.is_empty();
                    }
                    Err(reason) => reason,
                }
            }
            Err(_) => RefuseReason::ProxyHeader,
        };
        *input = &[];
        self.count_failed_handshake(connection, HandshakeResult::BadVersion);
        self.refuse_speech(connection, reason, now);
        false
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
        let transport = match transport {
            Transport::Rtmp if connection.tls.is_some() => Transport::Rtmps,
            Transport::Rtmpt if connection.tls.is_some() => Transport::Rtmpts,
            transport => transport,
        };
        let before = std::mem::replace(&mut connection.transport, transport);
        self.cells.changed_transport(connection.role, before, transport);
    }
}
