//! TLS as bytes: records in and out, certificates, trust. rustls does the cryptography.
//!
//! ```text
//!   socket bytes -> Layer::receive -> plaintext -> whoever speaks inside
//!   log, replies -> Layer::seal    -> records, one contiguous batch -> socket
//! ```
//!
//! Nothing here knows a socket, a thread or what is spoken inside. [`ServerTls`] is what a node
//! has: certificates, chosen by the name that the client asks for, and replaced while connections
//! run; [`ClientTls`] is what a client has: whom it trusts. A [`Layer`] is one connection of either
//! side.
//!
//! The provider is aws-lc: with AES-NI and AVX-512 it encrypts records of 16 KiB at 0.11 s/GB, ring
//! at 0.13, and it signs three times as fast with RSA. Records are as long as they may be, 16 KiB:
//! of 4 KiB they cost a fifth more, of 1 KiB twice as much (`bench tls`). Those of AES-GCM in TLS
//! 1.3, which nearly all clients agree on, are encrypted from the log into the very buffer that
//! goes to the socket.

mod binding;
mod buffers;
mod certificates;
mod client;
mod direct;
mod layer;
mod sentence;
mod server;

use rustls::{AlertDescription, Error};
use thiserror::Error as ThisError;

pub use self::buffers::SealBuffers;
pub use self::certificates::{CertificateError, CertificateFiles};
pub use self::client::{ClientTls, Trust};
pub use self::layer::{Established, Layer};
pub use self::sentence::sentence;
pub use self::server::{CertificateFacts, Read, Reloaded, ServerTls, Watch};

/// Why a connection's TLS failed. The connection is to be closed after [`Layer::take_output`],
/// which may hold an alert.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum TlsError {
    /// The peer cannot speak any version or suite that we speak, or none of its names is ours.
    #[error("TLS cannot be agreed on: {0}")]
    Incompatible(String),
    /// The peer sent an alert: it does not trust our certificate, for example.
    #[error("the peer ended TLS with an alert: {0}")]
    Alert(String),
    /// The peer's certificate is not acceptable.
    #[error("the peer's certificate is not acceptable: {0}")]
    Certificate(String),
    /// The peer's records are not those of TLS, or do not follow its rules.
    #[error("the peer broke TLS: {0}")]
    Malformed(String),
    /// Ours.
    #[error("TLS failed: {0}")]
    Internal(String),
}

impl TlsError {
    /// A short name for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Incompatible(_) => "incompatible",
            Self::Alert(_) => "alert",
            Self::Certificate(_) => "certificate",
            Self::Malformed(_) => "malformed",
            Self::Internal(_) => "internal",
        }
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        let text = sentence(&error);
        match error {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible(text),
            Error::AlertReceived(AlertDescription::HandshakeFailure) => Self::Incompatible(text),
            Error::AlertReceived(_) => Self::Alert(text),
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::UnsupportedNameType => Self::Certificate(text),
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => Self::Malformed(text),
            _ => Self::Internal(text),
        }
    }
}

/// The cryptography that both sides use.
fn provider() -> rustls::crypto::CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    direct::make_direct(&mut provider);
    provider
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
