//! What calls are signed by and whom they trust: the files that the configuration names, read once,
//! and kept as long as somebody's settings name them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rustls::ClientConfig;

use super::super::trust;
use crate::worker::hook_settings::HookSettings;
use crate::worker::labels::HookName;

/// The contents of the files, ready for use. Never printed.
#[derive(Default)]
pub(super) struct Keys {
    secrets: HashMap<PathBuf, Arc<[u8]>>,
    trusts: HashMap<Option<PathBuf>, Arc<ClientConfig>>,
    /// Who names them: a session keeps the settings that it began with.
    users: Vec<Weak<HookSettings>>,
}

impl Keys {
    /// Reads what these hooks need, or says in a sentence what cannot be used.
    pub(super) fn read<'a>(
        hooks: impl Iterator<Item = &'a Arc<HookSettings>>,
    ) -> Result<Self, String> {
        let mut keys = Self::default();
        for hooks in hooks.filter(|hooks| hooks.contract.is_some()) {
            keys.users.push(Arc::downgrade(hooks));
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

    /// Adds the files that are not known yet, for calls by settings that are on their way.
    pub(super) fn add(&mut self, new: &Self) {
        for (path, secret) in &new.secrets {
            self.secrets.entry(path.clone()).or_insert_with(|| Arc::clone(secret));
        }
        for (path, trust) in &new.trusts {
            self.trusts.entry(path.clone()).or_insert_with(|| Arc::clone(trust));
        }
    }

    /// Goes by new files from now on, and by old ones where sessions still name them.
    pub(super) fn replace(&mut self, new: Self) {
        let old = std::mem::replace(self, new);
        for user in old.users {
            let Some(hooks) = user.upgrade() else { continue };
            if let Some(path) = &hooks.secret_file
                && let Some(secret) = old.secrets.get(path)
            {
                self.secrets.entry(path.clone()).or_insert_with(|| Arc::clone(secret));
            }
            if let Some(trust) = old.trusts.get(&hooks.ca_file) {
                self.trusts.entry(hooks.ca_file.clone()).or_insert_with(|| Arc::clone(trust));
            }
            self.users.push(user);
        }
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
