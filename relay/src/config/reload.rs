//! Reading a configuration again: what differs, and what of it can take effect while the node runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::key::Key;
use super::settings::{APPS, LIMITS};
use super::{Command, Effective, Row, Source, load};

/// Where a configuration was read from: the command line and the environment of this process.
#[derive(Clone, Default)]
pub struct Origin {
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// The environment may hold secrets, so `Debug` shows nothing of it.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}

/// A setting whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Section and name.
    pub name: String,
    /// The value that was in force; `None` where there was no such listener or certificate.
    pub from: Option<String>,
    /// The value that was read; `None` where there is no such listener or certificate any more.
    pub to: Option<String>,
    /// Whether it takes effect without a restart.
    pub live: bool,
}

impl Effective {
    /// Whether somebody set this, be it to its default.
    #[must_use]
    pub fn is_set(&self, section: &str, name: &str) -> bool {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.section == section && row.name == name);
        row.is_some_and(|row| row.source != Source::Default)
    }

    /// Reads everything again that this was read from, files that settings name included.
    ///
    /// # Errors
    /// Every mistake, as one sentence each.
    pub fn read_again(&self) -> Result<Self, Vec<String>> {
        let Origin { arguments, environment } = (*self.origin).clone();
        match load(arguments, environment).map_err(|error| error.sentences)? {
            Command::Run(effective) => Ok(*effective),
            Command::Print(_) | Command::Top(_) => {
                Err(vec!["The arguments ask for no node.".to_owned()])
            }
        }
    }

    /// What is different in `new`, in the order of the documentation. A section of an application
    /// that is there on one side only is compared with what holds for the application on the other.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let find = |rows: &[Row], row: &Row| rows.iter().find(|other| same(other, row)).cloned();
        let (ours, theirs) = (self.apps(), new.apps());
        let mut changes: Vec<Change> = Vec::new();
        for row in &new.rows {
            let old = find(&self.rows, row).or_else(|| self.inherited(&theirs, row));
            if old.as_ref().is_none_or(|old| old.value != row.value) {
                let from = old.map(|old| old.shown_value());
                changes.push(change(row, from, Some(row.shown_value())));
            }
        }
        for row in &self.rows {
            if find(&new.rows, row).is_some() {
                continue;
            }
            let to = new.inherited(&ours, row);
            if to.as_ref().is_none_or(|to| to.value != row.value) {
                let to = to.map(|to| to.shown_value());
                changes.push(change(row, Some(row.shown_value()), to));
            }
        }
        changes
    }

    /// The applications that have a section, by its name.
    fn apps(&self) -> BTreeMap<String, &str> {
        let apps = self.config.settings.apps.keys();
        apps.map(|app| (Key::new(&[APPS, app, ""]).section(), app.as_str())).collect()
    }

    /// What holds here for a setting of an application of the other side.
    fn inherited(&self, theirs: &BTreeMap<String, &str>, row: &Row) -> Option<Row> {
        let app = theirs.get(&row.section)?;
        let section = Key::new(&[APPS, self.config.settings.section(app), ""]).section();
        self.rows.iter().find(|other| other.section == section && other.name == row.name).cloned()
    }

    /// This, with what `old` has where only a restart changes it: what is in force afterwards.
    #[must_use]
    pub fn as_far_as_live(mut self, old: &Self) -> Self {
        let limits = &mut self.config.settings.limits;
        for row in old.config.settings.limits.table() {
            if !is_live_limit(row.name) {
                // A row of the table has a name and a unit that the table knows.
                let _ = limits.set(row.name, row.value);
            }
        }
        // Numbered tables, certificates and listeners, may be there on one side only.
        let found = |rows: &[Row], row: &Row| rows.iter().find(|other| same(other, row)).cloned();
        self.rows.retain(|row| row.is_live() || found(&old.rows, row).is_some());
        for row in &mut self.rows {
            if !row.is_live()
                && let Some(old) = found(&old.rows, row)
            {
                *row = old;
            }
        }
        for row in old.rows.iter().filter(|row| !row.is_live()) {
            if found(&self.rows, row).is_none() {
                self.rows.push(row.clone());
            }
        }
        let old = &old.config;
        let config = &mut self.config;
        config.node = old.node.clone();
        config.listen = old.listen.clone();
        config.listeners.clone_from(&old.listeners);
        config.tls = old.tls.clone();
        config.settings.listeners.clone_from(&old.settings.listeners);
        config.settings.proxy_from.clone_from(&old.settings.proxy_from);
        config.sockets = old.sockets.clone();
        config.log.format = old.log.format;
        config.cluster = old.cluster.clone();
        self
    }
}

impl Row {
    /// Whether a change takes effect without a restart.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match (self.section.as_str(), self.name.as_str()) {
            (LIMITS, name) => is_live_limit(name),
            ("overflow" | "api" | "drain" | "http_flv" | "access" | "outside", _)
            | ("log", "level") => true,
            // Listeners, TLS and sockets are made at the start; files of certificates are watched.
            (section, _) => section.starts_with(APPS),
        }
    }

    /// The value, unless it is or holds a secret. Settings name secrets by their files, but a URL
    /// may carry one.
    #[must_use]
    pub fn shown_value(&self) -> String {
        let names = ["secret", "token", "password", "key"];
        let is_file = self.name.ends_with("_file") || self.name.ends_with("_max");
        if !is_file && names.iter().any(|name| self.name.split('_').any(|part| part == *name)) {
            return HIDDEN.to_owned();
        }
        // Of hooks the path, too, is often all that keeps others from calling them.
        without_secrets(&self.value, self.name.starts_with("on_"))
    }
}

/// What stands for a secret.
const HIDDEN: &str = "\"***\"";

fn same(one: &Row, other: &Row) -> bool {
    one.section == other.section && one.name == other.name
}

fn change(row: &Row, from: Option<String>, to: Option<String>) -> Change {
    let name = format!("{}.{}", row.section, row.name);
    Change { name, from, to, live: row.is_live() }
}

/// Rings, buffers and bounds that are made once.
fn is_live_limit(name: &str) -> bool {
    let made_once = [
        "mail_ring_max",
        "receive_bytes",
        "http_connections_max",
        "http_header_timeout",
        "http_header_bytes_max",
        "http_body_bytes_max",
        "hook_calls_max",
        "hook_questions_max",
        "hook_probe_waiters_max",
        "hook_notices_max",
        "hook_reply_bytes_max",
        "hook_cache_max",
        "hook_idle_connections_max",
        "outside_news_max",
        "tls_sessions_max",
    ];
    !made_once.contains(&name)
}

/// A text without the user and password of the URLs in it, and without their queries, or all of
/// their paths.
pub fn without_secrets(text: &str, hides_paths: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        out.push_str(before);
        let end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ']' | '>');
        let (mut url, behind) = url.split_at(url.find(end).unwrap_or(url.len()));
        let authority = url.find(['/', '?']).unwrap_or(url.len());
        if let Some(at) = url[..authority].rfind('@') {
            out.push_str("***@");
            url = &url[at + 1..];
        }
        match url.split_once('?') {
            _ if hides_paths => {
                let (authority, path) = url.split_at(url.find(['/', '?']).unwrap_or(url.len()));
                out.push_str(authority);
                out.push_str(if matches!(path, "" | "/") { path } else { "/***" });
            }
            Some((path, _)) => {
                out.push_str(path);
                out.push_str("?***");
            }
            None => out.push_str(url),
        }
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "reload_tests.rs"]
mod tests;
