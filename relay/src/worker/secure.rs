//! TLS under whatever a connection speaks: what comes is opened before anybody reads it, and what
//! goes is sealed when it is sent.
//!
//! Players read the same log as without TLS. A batch is sealed when it is its turn, its cursor
//! advances at once, and no other batch is sealed before it is gone: so a player holds at most one
//! batch of its own. A panic in here is our mistake and costs that one connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use super::connection::Connection;
use super::labels::{CloseReason, RefuseReason, TlsResult, Transport};
use super::outside::OutsideFault;
use crate::reactor::{Batch, Operation};
use crate::tls::{Established, Layer, SealBuffers, TlsError};

/// The TLS of one connection.
pub(super) struct Secured {
    layer: Layer,
    /// Plaintext received behind a verdict that is outstanding, or too little to tell what it is.
    unread: Vec<u8>,
    /// Bytes of the batch under way.
    sealed: usize,
    counted: bool,
    /// Why it failed.
    failure: Option<String>,
}

impl Secured {
    /// That of a connection that we opened. Handshakes are counted of those who come to us.
    pub(super) fn of_client(layer: Layer) -> Self {
        Self { layer, unread: Vec::new(), sealed: 0, counted: true, failure: None }
    }

    /// Seals plaintext behind what TLS itself has to say.
    pub(super) fn seal(&mut self, plain: &Batch, buffers: &SealBuffers) -> Result<Batch, TlsError> {
        self.seal_slices(plain.slices(), buffers).map(Batch::One)
    }

    fn seal_slices(&mut self, plain: &[Bytes], buffers: &SealBuffers) -> Result<Bytes, TlsError> {
        let layer = &mut self.layer;
        let sealed = catch_unwind(AssertUnwindSafe(|| layer.seal(plain, buffers)))
            .unwrap_or_else(|_| Err(TlsError::Internal("a panic was caught".to_owned())))?;
        self.sealed = sealed.len();
        Ok(sealed)
    }

    /// The batch under way is gone.
    pub(super) fn sent(&mut self) {
        self.sealed = 0;
    }

    /// Whether plaintext waits to be heard.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Bytes of plaintext that wait to be heard.
    pub(super) fn unread_bytes(&self) -> usize {
        self.unread.len()
    }

    /// Whether TLS itself has something to say.
    pub(super) fn has_output(&self) -> bool {
        self.layer.has_output()
    }

    /// Whether the handshake goes on.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.layer.established().is_none()
    }

    /// Why it failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.layer.held_bytes() + self.unread.capacity() + self.sealed
    }
}

impl Worker {
    /// A connection begins with TLS, and there is a certificate.
    pub(super) fn begin_tls(&mut self, connection: &mut Connection, now: Duration) {
        let Some(tls) = self.shared.tls() else { return };
        match tls.accept() {
            Ok(layer) => {
                let secured = Secured { counted: false, ..Secured::of_client(layer) };
                connection.tls = Some(Box::new(secured));
                self.set_transport(connection, Transport::Rtmps);
            }
            Err(error) => self.close(connection, CloseReason::Fault, Some(&error), now),
        }
    }

    /// Opens what came and passes it on. All of `input` is used up.
    pub(super) fn open_records(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        let Some(mut tls) = connection.tls.take() else { return };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        plain.append(&mut tls.unread);
        let layer = &mut tls.layer;
        let records = std::mem::take(input);
        let result = catch_unwind(AssertUnwindSafe(|| layer.receive(records, &mut plain)))
            .unwrap_or_else(|_| Err(TlsError::Internal("a panic was caught".to_owned())));
        let (closed, established) = (tls.layer.peer_closed(), tls.layer.established());
        if let Some(established) = established
            && !std::mem::replace(&mut tls.counted, true)
        {
            self.count_tls(connection, established, now);
        }
        connection.tls = Some(tls);
        let mut left = plain.as_slice();
        if !left.is_empty() {
            self.hear(connection, &mut left, now);
        }
        if let Some(tls) = connection.tls.as_mut() {
            tls.unread = left.to_vec();
        }
        plain.clear();
        if plain.capacity() > PLAIN_BYTES_KEPT {
            plain = Vec::new();
        }
        self.plain = plain;
        if let Err(error) = result {
            self.tls_failed(connection, &error, now);
        } else if closed {
            self.peer_ended(connection, None, now);
        }
    }

    fn count_tls(&self, connection: &Connection, established: Established, now: Duration) {
        let Established { is_tls13, resumed } = established;
        let result = match (is_tls13, resumed) {
            (true, false) => TlsResult::Full13,
            (true, true) => TlsResult::Resumed13,
            (false, false) => TlsResult::Full12,
            (false, true) => TlsResult::Resumed12,
        };
        self.cells.tls_handshakes.at(result).increment();
        self.cells.tls_handshake_duration.observe(now.saturating_sub(connection.since));
        let version = if is_tls13 { "1.3" } else { "1.2" };
        tracing::debug!(id = %connection.id, version, resumed, "TLS established");
    }

    fn tls_failed(&mut self, connection: &mut Connection, error: &TlsError, now: Duration) {
        if connection.ended {
            return;
        }
        let shaking_hands = connection.tls.as_ref().is_some_and(|tls| tls.is_shaking_hands());
        if shaking_hands {
            let result = match error {
                TlsError::Incompatible(_) => TlsResult::Incompatible,
                TlsError::Alert(_) => TlsResult::Alert,
                TlsError::Malformed(_) => TlsResult::Malformed,
                TlsError::Certificate(_) | TlsError::Internal(_) => TlsResult::Failed,
            };
            self.count_failed_tls(connection, result);
        }
        if let Some(tls) = connection.tls.as_mut() {
            tls.failure = Some(error.to_string());
        }
        if let Some(client) = connection.speech.outside_mut() {
            client.ends(OutsideFault::Tls, error.to_string());
        }
        // The alert is to be read before the connection ends.
        let fault = matches!(error, TlsError::Internal(_));
        let reason = if fault { CloseReason::Fault } else { CloseReason::Tls };
        self.close_soon(connection, reason, now);
    }

    /// Counts a handshake of TLS that came to nothing, once.
    pub(super) fn count_failed_tls(&self, connection: &mut Connection, result: TlsResult) {
        if let Some(tls) = connection.tls.as_mut()
            && !std::mem::replace(&mut tls.counted, true)
        {
            self.cells.tls_handshakes.at(result).increment();
        }
    }

    /// Sends what waits, sealed, if anything does.
    pub(super) fn sealed_replies(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Option<Batch>, TlsError> {
        let Some(tls) = connection.tls.as_deref() else { return Ok(None) };
        if tls.is_shaking_hands() || tls.layer.has_failed() {
            // Flights of the handshake and alerts. Nothing else can be said yet, or any more.
            let tls = connection.tls.as_deref_mut().expect("looked at just now");
            return Ok(tls.layer.take_output().map(Batch::One));
        }
        let replies = connection.take_replies();
        let last = connection.closing.is_some();
        let Some(tls) = connection.tls.as_deref_mut() else { return Ok(None) };
        let mut sealed = Vec::new();
        if let Some(replies) = &replies {
            sealed.push(tls.seal_slices(replies.slices(), &self.seal_buffers)?);
        }
        if last {
            tls.layer.close();
        }
        sealed.extend(tls.layer.take_output());
        tls.sealed = sealed.iter().map(Bytes::len).sum();
        Ok(match sealed.len() {
            0 => None,
            1 => sealed.pop().map(Batch::One),
            _ => Some(Batch::Many(sealed)),
        })
    }

    /// Says goodbye on a connection that is about to be closed, if nothing is under way.
    pub(super) fn say_tls_goodbye(&mut self, connection: &mut Connection) {
        let Some(tls) = connection.tls.as_deref_mut() else { return };
        if connection.sending.is_some() {
            return;
        }
        tls.layer.close();
        let alert = tls.layer.take_output();
        if let (Some(alert), Some(socket)) = (alert, connection.socket()) {
            let batch = Batch::One(alert);
            self.operations.push(Operation::Send { connection: socket, batch });
        }
    }

    /// Somebody speaks what a listener or this node does not take.
    pub(super) fn refuse_speech(
        &mut self,
        connection: &mut Connection,
        reason: RefuseReason,
        now: Duration,
    ) {
        self.turn_away(connection, reason);
        self.close(connection, CloseReason::Protocol, Some(&reason.label()), now);
    }
}

/// A buffer for plaintext that grew beyond this is not kept: it holds what one receive brings.
const PLAIN_BYTES_KEPT: usize = 256 << 10;
