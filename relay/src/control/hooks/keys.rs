//! What calls are signed by and whom they trust: the files that the configuration names, read once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;

use super::super::trust;
use crate::worker::hook_settings::HookSettings;
use crate::worker::labels::HookName;

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
                keys.trusts.insert(
                    hooks.ca_file.clone(),
                    trust::by("hooks_ca_file", hooks.ca_file.as_deref())?,
                );
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
    let text = trust::bytes(path)?;
    let secret = text.trim_ascii();
    if secret.is_empty() {
        return Err(format!("hooks_secret_file {} holds no secret.", path.display()));
    }
    Ok(secret.into())
}
