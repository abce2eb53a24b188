//! The client's side: whom it trusts, and how it begins.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::binding::Witness;
use super::certificates::CertificateError;
use super::layer::Layer;
use super::{TlsError, provider};

/// Whom a client trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that the host trusts.
    #[default]
    System,
    /// The authorities in this file (PEM), and nobody else.
    Authorities(PathBuf),
}

/// The client's side of TLS. Sessions go on where they were, for all connections made by one of
/// these.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When there is nobody to trust: a file that cannot be used, or a host without authorities.
    pub fn new(trust: &Trust) -> Result<Self, CertificateError> {
        Self::of_versions(trust, &[&version::TLS13, &version::TLS12])
    }

    /// TLS 1.2 alone, as of old devices.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_tls12(trust: &Trust) -> Result<Self, CertificateError> {
        Self::of_versions(trust, &[&version::TLS12])
    }

    /// TLS 1.3 alone, as nodes of one program speak among each other.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_tls13(trust: &Trust) -> Result<Self, CertificateError> {
        Self::of_versions(trust, &[&version::TLS13])
    }

    /// The same without sessions that go on: each handshake is a full one.
    #[must_use]
    pub fn without_resumption(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = rustls::client::Resumption::disabled();
        Self { config: Arc::new(config) }
    }

    /// A connection to a server that must prove to be `host`: a DNS name or an address.
    ///
    /// # Errors
    /// When `host` is neither.
    pub fn connect(&self, host: &str) -> Result<Layer, TlsError> {
        Layer::client(Arc::clone(&self.config), server_name(host)?)
    }

    /// The same with a [`Layer::binding`].
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_bound(&self, host: &str) -> Result<Layer, TlsError> {
        let witness = Arc::new(Witness::default());
        let mut config = ClientConfig::clone(&self.config);
        config.key_log = Arc::clone(&witness) as _;
        Ok(Layer::client(Arc::new(config), server_name(host)?)?.with_witness(witness))
    }

    fn of_versions(
        trust: &Trust,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, CertificateError> {
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(versions)
            .expect("the provider has suites of both versions")
            .with_root_certificates(roots(trust)?)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::Certificate(format!("'{host}' is no name of a host")))
}

fn roots(trust: &Trust) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    let fault = |file: PathBuf, reason: String| Err(CertificateError { file, reason });
    match trust {
        Trust::System => {
            // Some of a host's many may be unreadable, which is no reason to trust none.
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map_or_else(String::new, ToString::to_string);
                let reason = format!("of this host name no authority to be trusted {why}");
                return fault("The certificates".into(), reason.trim_end().to_owned());
            }
        }
        Trust::Authorities(file) => {
            let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
            let certificates: Vec<_> = match certificates {
                Ok(certificates) => certificates,
                Err(error) => return fault(file.clone(), format!("cannot be read: {error:?}")),
            };
            for certificate in certificates {
                if let Err(error) = roots.add(certificate) {
                    let reason = format!("holds what is no certificate of an authority: {error}");
                    return fault(file.clone(), reason);
                }
            }
            if roots.is_empty() {
                return fault(file.clone(), "holds no certificate".to_owned());
            }
        }
    }
    Ok(roots)
}
