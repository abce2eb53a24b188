//! The name of a setting: a section and a name, with the application's name between them for
//! `[apps]`.

use std::fmt;

use super::Source;

/// The parts of a setting's name, in order. Any number of parts may have been written; the table of
/// settings decides which ones exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(pub(super) Vec<String>);

/// A value as a source gave it, not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) key: Key,
    pub(super) text: String,
    pub(super) source: Source,
}

impl Key {
    pub(super) fn new(parts: &[&str]) -> Self {
        Self(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    /// The same with further parts behind it.
    pub(super) fn with(mut self, parts: &[&str]) -> Self {
        self.0.extend(parts.iter().map(|part| (*part).to_owned()));
        self
    }

    /// All parts but the last, as written between the brackets of a TOML table.
    pub(super) fn section(&self) -> String {
        dotted(self.0.get(..self.0.len().saturating_sub(1)).unwrap_or_default())
    }

    /// The last part.
    pub(super) fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dotted(&self.0))
    }
}

fn dotted(parts: &[String]) -> String {
    let bare = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let quote = |part: &String| {
        if bare(part) { part.clone() } else { super::text::quoted(part) }
    };
    parts.iter().map(quote).collect::<Vec<_>>().join(".")
}
