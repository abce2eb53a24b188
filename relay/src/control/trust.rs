//! Whom https servers that the relay calls are trusted by: a file of the operator's, or the system.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::sentence;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Trust in the certificates of a file that a setting names, or in those of the system; or a
/// sentence about what cannot be used.
pub(super) fn by(setting: &str, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let from = match ca_file {
        Some(path) => {
            let text = bytes(path)?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let added = certificate.ok().map(|certificate| roots.add(certificate));
                if !matches!(added, Some(Ok(()))) {
                    let path = path.display();
                    return Err(format!("{setting} {path} holds what is no certificate."));
                }
            }
            format!("{setting} {}", path.display())
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "The system".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(format!("{from} has no certificate to trust https servers by."));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}."))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Why a connection by TLS failed, as the end of a sentence.
pub(super) fn why(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner @ rustls::Error::InvalidCertificate(_)) => {
            format!("its certificate is not acceptable: {}", sentence(inner))
        }
        Some(inner) => sentence(inner),
        None => error.to_string(),
    }
}

/// The bytes of a file, of which no more than a few MiB are read.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| format!("The file {} cannot be read: {error}.", path.display()))?;
    Ok(bytes)
}
