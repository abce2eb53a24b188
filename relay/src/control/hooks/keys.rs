//! What calls are signed by and whom they trust: the files that the configuration names, read once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::worker::hook_settings::HookSettings;
use crate::worker::labels::HookName;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The contents of the files, ready for use. Never printed.
#[derive(Default)]
pub(super) struct Keys {
    secrets: HashMap<PathBuf, Arc<[u8]>>,
    trusts: HashMap<Option<PathBuf>, Arc<ClientConfig>>,
}

impl Keys {
    /// Reads what these hooks need, or says in a sentence what cannot be used.
    pub(super) fn read<'a>(
        hooks: impl Iterator<Item = &'a Arc<HookSettings>>,
    ) -> Result<Self, String> {
        let mut keys = Self::default();
        for hooks in hooks.filter(|hooks| hooks.contract.is_some()) {
            if let Some(path) = &hooks.secret_file
                && !keys.secrets.contains_key(path)
            {
                keys.secrets.insert(path.clone(), secret(path)?);
            }
            let calls_https = |name| hooks.urls(name).iter().any(|url| url.tls);
            if HookName::ALL.iter().any(|name| calls_https(*name))
                && !keys.trusts.contains_key(&hooks.ca_file)
            {
                keys.trusts.insert(hooks.ca_file.clone(), trust(hooks.ca_file.as_deref())?);
            }
        }
        Ok(keys)
    }

    /// The secret in a file that was read.
    pub(super) fn secret(&self, path: &Path) -> Option<Arc<[u8]>> {
        self.secrets.get(path).cloned()
    }

    /// How https servers are trusted by a file that was read, or by the system.
    pub(super) fn trust(&self, ca_file: &Option<PathBuf>) -> Option<Arc<ClientConfig>> {
        self.trusts.get(ca_file).cloned()
    }
}

fn secret(path: &Path) -> Result<Arc<[u8]>, String> {
    let text = bytes(path)?;
    let secret = text.trim_ascii();
    if secret.is_empty() {
        return Err(format!("hooks_secret_file {} holds no secret.", path.display()));
    }
    Ok(secret.into())
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| format!("The file {} cannot be read: {error}.", path.display()))?;
    Ok(bytes)
}

fn trust(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let from = match ca_file {
        Some(path) => {
            let text = bytes(path)?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let added = certificate.ok().map(|certificate| roots.add(certificate));
                if !matches!(added, Some(Ok(()))) {
                    let path = path.display();
                    return Err(format!("hooks_ca_file {path} holds what is no certificate."));
                }
            }
            format!("hooks_ca_file {}", path.display())
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "The system".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(format!("{from} has no certificate to trust https back ends by."));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}."))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
