//! One connection's TLS, of a server or of a client.
//!
//! It holds what of a record has come, and records of its own that wait to be sent: parts of the
//! handshake, alerts. Plaintext goes to the caller's buffer, and sealed batches are the caller's.

use std::sync::Arc;

use bytes::Bytes;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};

use super::binding::Witness;
use super::buffers::SealBuffers;
use super::{TlsError, direct};

/// Most plaintext bytes of one record (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16_384;

/// Bytes that a record of any version and suite has besides its plaintext, at most.
const RECORD_OVERHEAD: usize = 32;

/// Most plaintext bytes that are encrypted at a time: a few records.
const PIECE_BYTES: usize = 4 * RECORD_BYTES;

/// Room for what goes in front of the records of a piece, and for the empty ones that stand for
/// them.
const FIRST_BYTES: usize = 256;

/// Slices shorter than this on average are joined before they are sealed: a record of its own costs
/// more than copying so much.
const JOINED_BYTES: usize = 4_096;

/// Bytes that rustls and the provider hold for a connection that is established, keys included, by
/// measurement; what is told as held.
const ESTABLISHED_BYTES: usize = 5 << 10;

/// One connection.
pub struct Layer {
    side: Side,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// Records to be sent before anything else.
    outgoing: Vec<u8>,
    established: Option<Established>,
    /// Whether its records can be encrypted where they are sent from.
    direct: bool,
    peer_closed: bool,
    said_close: bool,
    failed: bool,
    /// Of a connection that is bound to what is proven on it.
    witness: Option<Arc<Witness>>,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// TLS 1.3, not 1.2.
    pub is_tls13: bool,
    /// An earlier session goes on, without a signature.
    pub resumed: bool,
}

/// Where a connection's machine stopped.
enum Stop {
    /// It needs more of the peer.
    Starved,
    /// It may send.
    Ready,
}

impl Layer {
    /// The server's side of a connection just accepted.
    ///
    /// # Errors
    /// When the configuration cannot be used, which is our fault.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(Side::Server(Box::new(connection))))
    }

    /// The client's side. Its first bytes are to be taken at once ([`Self::take_output`]).
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsError> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        let mut layer = Self::new(Side::Client(Box::new(connection)));
        layer.receive(&[], &mut Vec::new())?;
        Ok(layer)
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            established: None,
            direct: false,
            peer_closed: false,
            said_close: false,
            failed: false,
            witness: None,
        }
    }

    /// The same, looked on by who remembers what its two ends share.
    pub(super) fn with_witness(self, witness: Arc<Witness>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// Takes all of `input` and appends the plaintext of each record that is complete to `plain`.
    /// What is to be answered waits in [`Self::take_output`].
    ///
    /// # Errors
    /// When the peer broke the rules or they cannot be agreed on. What was appended is good;
    /// nothing more can be received or sealed, and the output may hold an alert.
    pub fn receive(&mut self, input: &[u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.failed || self.peer_closed {
            return Ok(());
        }
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.extend_from_slice(input);
        let mut used = 0;
        let result = self.pump(&mut incoming, &mut used, plain);
        if let Err(error) = result {
            self.failed = true;
            self.take_alert(incoming.get_mut(used..).unwrap_or_default(), plain);
            return Err(error);
        }
        if used < incoming.len() {
            incoming.drain(..used);
            self.incoming = incoming;
        }
        Ok(())
    }

    /// Records that wait to be sent, to go before whatever is sealed from now on.
    pub fn take_output(&mut self) -> Option<Bytes> {
        if self.outgoing.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.outgoing).into())
    }

    /// Whether [`Self::take_output`] or [`Self::seal`] would give records that wait.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Seals plaintext, behind records that wait, as one batch. The plaintext may be forgotten.
    ///
    /// # Errors
    /// When the handshake is not complete, the connection failed, or its keys are used up.
    pub fn seal(&mut self, slices: &[Bytes], buffers: &SealBuffers) -> Result<Bytes, TlsError> {
        let plain: usize = slices.iter().map(Bytes::len).sum();
        let joined;
        let slices = if slices.len() > 1 && plain < slices.len() * JOINED_BYTES {
            joined = [Bytes::from(slices.concat())];
            &joined
        } else {
            slices
        };
        let records: usize = slices.iter().map(|slice| slice.len().div_ceil(RECORD_BYTES)).sum();
        // One record more for a key update, which is due after many terabytes.
        let room = plain + (records + 2) * RECORD_OVERHEAD + self.outgoing.len();
        let mut out = buffers.take(room);
        out.room()[..self.outgoing.len()].copy_from_slice(&self.outgoing);
        out.fill(self.outgoing.len());
        self.outgoing = Vec::new();
        for piece in slices.iter().flat_map(|slice| slice.chunks(PIECE_BYTES)) {
            // The machine wants to see the beginning of a record again, if it knows of one.
            let mut incoming = std::mem::take(&mut self.incoming);
            let begin = out.filled();
            let mut first = [0; FIRST_BYTES];
            let side = &mut self.side;
            let mut encrypt = |room: &mut [u8]| match side {
                Side::Server(c) => seal(c.process_tls_records(&mut incoming), piece, room),
                Side::Client(c) => seal(c.process_tls_records(&mut incoming), piece, room),
            };
            let used = if self.direct {
                let (sealed, buffer) = direct::into_buffer(out, || encrypt(&mut first));
                let (used, written) = sealed?;
                out = buffer;
                // Empty records stand for those that are in the buffer. What is in front of them, a
                // key update, goes in front of these, too.
                let empty = piece.len().div_ceil(RECORD_BYTES) * direct::RECORD_HEADER_BYTES;
                out.insert(begin, first.get(..written.saturating_sub(empty)).unwrap_or_default());
                used
            } else {
                let (used, written) = encrypt(out.room())?;
                out.fill(written);
                used
            };
            incoming.drain(..used);
            self.incoming = incoming;
        }
        Ok(out.freeze())
    }

    /// Says that nothing more will be sent (close_notify): once, and only when that can be read.
    pub fn close(&mut self) {
        if self.established.is_none() || self.failed || self.said_close {
            return;
        }
        self.said_close = true;
        let mut alert = [0; 64 + RECORD_OVERHEAD];
        let incoming = &mut self.incoming;
        let written = match &mut self.side {
            Side::Server(c) => say_close(c.process_tls_records(incoming), &mut alert),
            Side::Client(c) => say_close(c.process_tls_records(incoming), &mut alert),
        };
        self.outgoing.extend_from_slice(&alert[..written]);
    }

    /// What was agreed on, once the handshake is complete.
    #[must_use]
    pub fn established(&self) -> Option<Established> {
        self.established
    }

    /// What only the two ends of this connection share (RFC 9266), once it is established; `None`
    /// with TLS 1.2, and where nobody asked for it at its beginning.
    #[must_use]
    pub fn binding(&self) -> Option<[u8; 32]> {
        self.established?;
        self.witness.as_ref()?.binding()
    }

    /// Whether the peer said that it will send nothing more.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether it failed, so that nothing more can be sealed. An alert may wait.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Bytes held: a good estimate of what belongs to rustls and to keys, and exactly what is here.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + ESTABLISHED_BYTES + self.incoming.capacity() + self.outgoing.capacity()
    }

    /// The alert that tells the peer why it failed is handed out by the next call of the machine,
    /// the last one that may be made. It wants to see what it has not done with: if there is no
    /// alert, it looks where it stopped.
    fn take_alert(&mut self, left: &mut [u8], plain: &mut Vec<u8>) {
        let (out, closed, used) = (&mut self.outgoing, &mut self.peer_closed, &mut 0);
        let _ = match &mut self.side {
            Side::Server(c) => step(c.process_tls_records(left), used, out, plain, closed),
            Side::Client(c) => step(c.process_tls_records(left), used, out, plain, closed),
        };
    }

    /// Runs the machine until it needs more bytes, counting in `used` those that it is done with.
    fn pump(
        &mut self,
        incoming: &mut [u8],
        used: &mut usize,
        plain: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let (out, closed) = (&mut self.outgoing, &mut self.peer_closed);
        loop {
            let left = incoming.get_mut(*used..).unwrap_or_default();
            let step = match &mut self.side {
                Side::Server(c) => step(c.process_tls_records(left), used, out, plain, closed),
                Side::Client(c) => step(c.process_tls_records(left), used, out, plain, closed),
            };
            match step? {
                None => {}
                Some(Stop::Starved) => return Ok(()),
                Some(Stop::Ready) => break,
            }
        }
        if self.established.is_none() {
            let (version, kind, handshaking) = match &self.side {
                Side::Server(c) => (c.protocol_version(), c.handshake_kind(), c.is_handshaking()),
                Side::Client(c) => (c.protocol_version(), c.handshake_kind(), c.is_handshaking()),
            };
            if !handshaking {
                let suite = match &self.side {
                    Side::Server(c) => c.negotiated_cipher_suite(),
                    Side::Client(c) => c.negotiated_cipher_suite(),
                };
                self.direct = suite.is_some_and(|suite| direct::is_direct(suite.suite()));
                self.established = Some(Established {
                    is_tls13: version == Some(ProtocolVersion::TLSv1_3),
                    resumed: kind == Some(HandshakeKind::Resumed),
                });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Layer").field("established", &self.established).finish()
    }
}

/// One step of a connection's machine; what it stopped at, unless it goes on at once.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    used: &mut usize,
    out: &mut Vec<u8>,
    plain: &mut Vec<u8>,
    peer_closed: &mut bool,
) -> Result<Option<Stop>, TlsError> {
    let UnbufferedStatus { mut discard, state } = status;
    let stop = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                plain.extend_from_slice(record.payload);
            }
            None
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let (begin, mut room) = (out.len(), 4 << 10);
            loop {
                out.resize(begin + room, 0);
                match data.encode(&mut out[begin..]) {
                    Ok(written) => {
                        out.truncate(begin + written);
                        break;
                    }
                    Err(EncodeError::InsufficientSize(size)) => room = size.required_size,
                    Err(error) => {
                        out.truncate(begin);
                        return Err(TlsError::Internal(error.to_string()));
                    }
                }
            }
            None
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            None
        }
        Ok(ConnectionState::BlockedHandshake) => Some(Stop::Starved),
        Ok(ConnectionState::WriteTraffic(_)) => Some(Stop::Ready),
        Ok(ConnectionState::PeerClosed) => {
            *peer_closed = true;
            None
        }
        Ok(ConnectionState::Closed) => Some(Stop::Ready),
        // Early data is never offered.
        Ok(state) => return Err(TlsError::Internal(format!("unexpected {state:?}"))),
        Err(error) => {
            *used += discard;
            return Err(error.into());
        }
    };
    *used += discard;
    Ok(stop)
}

/// Seals a piece into `room`. Gives the bytes of what came that are done with, and those written.
fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    piece: &[u8],
    room: &mut [u8],
) -> Result<(usize, usize), TlsError> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            let written = traffic.encrypt(piece, room).map_err(|error| match error {
                EncryptError::EncryptExhausted => {
                    TlsError::Internal("the keys are used up".to_owned())
                }
                error => TlsError::Internal(error.to_string()),
            })?;
            Ok((status.discard, written))
        }
        state => Err(TlsError::Internal(format!("nothing can be sent in {state:?}"))),
    }
}

fn say_close<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.queue_close_notify(out).unwrap_or(0)
        }
        _ => 0,
    }
}
