//! Certificates and keys from files: read, judged, and chosen by the name that a client asks for.
//!
//! A pair that no client would take is refused when it is read, in a sentence that names the file
//! and says why: an operator should learn of it from the relay and not from viewers.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::provider;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate and its key are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that lead to its authority, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// What the files of a pair hold, to be compared with what they hold later.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PairText {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate with its key, judged.
#[derive(Debug)]
pub(super) struct Pair {
    key: Arc<CertifiedKey>,
    /// DNS names and addresses, in lower case.
    pub(super) names: Vec<String>,
    /// Until when it is valid, since 1970.
    pub(super) expires: Duration,
}

/// Why a pair cannot be used: the file, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} {reason}", file.display())]
pub struct CertificateError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, as the rest of a sentence.
    pub reason: String,
}

/// Chooses by name. The first pair is for those who ask for no name, or for one that is not here.
#[derive(Debug)]
pub(super) struct Chooser {
    pairs: Vec<Arc<CertifiedKey>>,
    by_name: BTreeMap<String, Vec<usize>>,
}

impl PairText {
    /// Reads both files.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    /// Adds what they hold.
    pub(super) fn add_to(&self, digest: &mut Sha256) {
        for bytes in [&self.certificate, &self.key] {
            digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(bytes);
        }
    }
}

/// Keys are not to be shown.
impl fmt::Debug for PairText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PairText")
    }
}

impl Pair {
    /// Judges what the files hold, at `now` since 1970.
    pub(super) fn judge(
        files: &CertificateFiles,
        text: &PairText,
        now: Duration,
    ) -> Result<Self, CertificateError> {
        let of_certificate = |reason: String| fault(&files.certificate, reason);
        let of_key = |reason: String| fault(&files.key, reason);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text.certificate).collect();
        let chain = chain.map_err(|error| of_certificate(format!("is not PEM: {error:?}")))?;
        let Some(leaf) = chain.first() else {
            return Err(of_certificate("holds no certificate".to_owned()));
        };
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|_| of_certificate("holds no X.509 certificate".to_owned()))?;
        let names = names(&parsed);
        if names.is_empty() {
            let reason = "names no host (no subject alternative name), so no client would take it";
            return Err(of_certificate(reason.to_owned()));
        }
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        if seconds > validity.not_after.timestamp() {
            return Err(of_certificate(format!("has expired, on {}", validity.not_after)));
        }
        if seconds < validity.not_before.timestamp() {
            let reason = format!("is not valid yet, but from {}", validity.not_before);
            return Err(of_certificate(reason));
        }
        let expires = u64::try_from(validity.not_after.timestamp()).unwrap_or(0);
        let key = PrivateKeyDer::from_pem_slice(&text.key)
            .map_err(|_| of_key("holds no private key as PEM".to_owned()))?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| of_key(format!("holds a key that cannot be used: {error}")))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| {
            of_key(format!("is not the key of the certificate in {}", files.certificate.display()))
        })?;
        Ok(Self { key: Arc::new(key), names, expires: Duration::from_secs(expires) })
    }
}

impl Chooser {
    pub(super) fn new(pairs: &[Pair]) -> Self {
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, pair) in pairs.iter().enumerate() {
            for name in &pair.names {
                by_name.entry(name.clone()).or_default().push(place);
            }
        }
        Self { pairs: pairs.iter().map(|pair| Arc::clone(&pair.key)).collect(), by_name }
    }

    /// The pairs for a name, best first.
    fn candidates(&self, name: Option<&str>) -> Vec<usize> {
        let mut places = Vec::new();
        if let Some(name) = name {
            let name = name.to_ascii_lowercase();
            places.extend(self.by_name.get(&name).into_iter().flatten());
            if let Some((_, parent)) = name.split_once('.') {
                let wildcard = format!("*.{parent}");
                places.extend(self.by_name.get(&wildcard).into_iter().flatten());
            }
        }
        if places.is_empty() {
            // Another key may do where the first one's kind is not understood.
            places.extend(0..self.pairs.len());
        }
        places
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let pairs = || candidates.iter().filter_map(|place| self.pairs.get(*place));
        let usable =
            pairs().find(|pair| pair.key.choose_scheme(hello.signature_schemes()).is_some());
        // One that is not understood makes rustls say so.
        usable.or_else(|| pairs().next()).cloned()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(path, format!("cannot be read: {error}")))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(fault(path, format!("is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn fault(file: &Path, reason: String) -> CertificateError {
    CertificateError { file: file.to_owned(), reason }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::IpAddr::from(v4).to_string()),
            Err(_) => {
                <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::IpAddr::from(v6).to_string())
            }
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
