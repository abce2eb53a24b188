//! TLS under links, where the node has a certificate for them: what comes is opened before anybody
//! reads it, what goes is sealed when it is sent.
//!
//! All links of a node are in TLS or none is, and it is TLS 1.3. Who is dialled shows a
//! certificate; who dials shows none: each proves that it knows the secret, and does so together
//! with what only the two ends of the connection share, so that nobody can stand in between,
//! whatever certificates he has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::line::{LinkConnection, Wrong};
use crate::cluster::Binding;
use crate::tls::{ClientTls, Layer, SealBuffers, ServerTls, TlsError};
use crate::worker::Worker;
use crate::worker::labels::{CloseReason, LinkRefusal};

/// What a node speaks TLS with other nodes by.
#[derive(Clone, Debug)]
pub struct LinkTls {
    server: Arc<ServerTls>,
    client: ClientTls,
    name: String,
}

impl LinkTls {
    /// `server` for those who dial, `client` to dial with; the certificates of all nodes are for
    /// `name`, whatever else they are for.
    ///
    /// # Errors
    /// When `name` is no name of one host.
    pub fn new(server: Arc<ServerTls>, client: ClientTls, name: &str) -> Result<Self, TlsError> {
        client.connect(name)?;
        Ok(Self { server, client, name: name.to_owned() })
    }

    /// A connection to another node.
    pub(super) fn dial(&self) -> Result<Layer, TlsError> {
        self.client.connect_bound(&self.name)
    }

    /// A connection from somebody.
    pub(super) fn accept(&self) -> Result<Layer, TlsError> {
        self.server.accept_bound()
    }
}

impl LinkConnection {
    /// What proofs on this connection are bound to.
    pub(super) fn binding(&self) -> Binding {
        self.tls.as_ref()?.binding()
    }

    /// Whether TLS is still being agreed on.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.tls.as_ref().is_some_and(|layer| layer.established().is_none())
    }

    /// What TLS itself has to say before anything else may be said.
    pub(super) fn handshake_output(&mut self) -> Option<Bytes> {
        let layer = self.tls.as_mut()?;
        let first = layer.established().is_none() || layer.has_failed();
        if first || self.outbox.is_empty() { layer.take_output() } else { None }
    }

    /// Whether what waits may be sent.
    pub(super) fn may_speak(&self) -> bool {
        let may = |layer: &Layer| layer.established().is_some() && !layer.has_failed();
        self.tls.as_deref().is_none_or(may)
    }

    /// What goes to the socket for these slices.
    pub(super) fn sealed(
        &mut self,
        slices: Vec<Bytes>,
        buffers: &SealBuffers,
    ) -> Result<Vec<Bytes>, TlsError> {
        let Some(layer) = &mut self.tls else { return Ok(slices) };
        let sealed = catch_unwind(AssertUnwindSafe(|| layer.seal(&slices, buffers)));
        sealed.unwrap_or_else(|_| Err(panicked())).map(|sealed| vec![sealed])
    }
}

impl Worker {
    /// Hears what came on a link.
    pub(super) fn hear_records(
        &mut self,
        link: &mut LinkConnection,
        bytes: &[u8],
        first: bool,
        now: Duration,
    ) -> Result<(), Wrong> {
        let begins = bytes.first().filter(|_| first).copied();
        let Some(layer) = &mut link.tls else {
            return match begins {
                Some(HANDSHAKE | ALERT) => Err(wrong(LinkRefusal::Tls, ONLY_THERE)),
                _ => self.hear_link(link, bytes, now),
            };
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let was_established = layer.established().is_some();
        let opened = catch_unwind(AssertUnwindSafe(|| layer.receive(bytes, &mut plain)));
        let opened = opened.unwrap_or_else(|_| Err(panicked()));
        let (established, closed) = (layer.established(), layer.peer_closed());
        let heard = match established {
            Some(agreed) if !was_established && !agreed.is_tls13 => {
                Err(wrong(LinkRefusal::Tls, "the other side speaks TLS 1.2, nodes speak 1.3"))
            }
            Some(_) => self.hear_link(link, &plain, now),
            None => Ok(()),
        };
        plain.clear();
        self.plain = plain;
        heard?;
        match opened {
            Err(TlsError::Internal(why)) => Err(Wrong::of_ours(why)),
            Err(_) if begins == Some(RTMP) => Err(wrong(LinkRefusal::Tls, ONLY_HERE)),
            // Whatever it is, it is no node, and said nothing of TLS.
            Err(error) if begins.is_some_and(|byte| byte != HANDSHAKE && byte != ALERT) => {
                Err(wrong(LinkRefusal::Foreign, &error.to_string()))
            }
            Err(error) => Err(wrong(LinkRefusal::Tls, &error.to_string())),
            Ok(()) if closed => Err(wrong(None, "the other side ended TLS")),
            Ok(()) => Ok(()),
        }
    }

    /// Bytes that TLS of links holds.
    pub(in crate::worker) fn link_tls_bytes(&self) -> usize {
        let layers = self.links.connections.values().filter_map(|link| link.tls.as_deref());
        layers.map(Layer::held_bytes).sum()
    }
}

fn wrong(refusal: impl Into<Option<LinkRefusal>>, why: &str) -> Wrong {
    Wrong::of_peer(CloseReason::Protocol, why.to_owned(), refusal.into())
}

fn panicked() -> TlsError {
    TlsError::Internal("a panic was caught".to_owned())
}

/// The first byte of what a node says: in TLS (RFC 8446 section 5.1), or of RTMP 1.0 section 5.2.2.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const RTMP: u8 = 3;

const ONLY_THERE: &str = "the other side speaks TLS and this node does not: cluster.tls_certificate_file is set there \
     only";

const ONLY_HERE: &str = "the other side does not speak TLS and this node does: cluster.tls_certificate_file is set \
     here only";

/// Why a link that was dialled broke off: most who speak no TLS say nothing at all.
pub(super) const NO_ANSWER: &str =
    "the other side left before TLS was agreed on; is cluster.tls_certificate_file set there?";
