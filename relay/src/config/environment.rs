//! Settings from the environment: `RELAY_SECTION__NAME`, and `RELAY_APPS__<application>__NAME`.
//!
//! Only names with `RELAY_` and two underscores together are looked at: Kubernetes puts variables
//! such as `RELAY_PORT` into the environment of every program beside a Service that is called
//! relay.

use std::ffi::OsString;

use super::key::{Given, Key};
use super::{ConfigError, Source};

/// The settings among the variables, ordered by name.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(key) = name.strip_prefix("RELAY_").and_then(key) else { continue };
        let source = Source::Environment(name.to_owned());
        let Ok(text) = value.into_string() else {
            return Err(ConfigError(format!("{key} ({source}) must be UTF-8 text.")));
        };
        given.push(Given { key, text, source });
    }
    given.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(given)
}

/// An application keeps its letters and may hold two underscores itself; all else is lower case.
fn key(rest: &str) -> Option<Key> {
    let (section, rest) = rest.split_once("__")?;
    let section = section.to_ascii_lowercase();
    let parts = match rest.rsplit_once("__") {
        Some((middle, name)) => vec![section, middle.to_owned(), name.to_ascii_lowercase()],
        None => vec![section, rest.to_ascii_lowercase()],
    };
    Some(Key(parts))
}
