//! Settings from the environment: `RELAY_SECTION__NAME`, and `RELAY_APPS__<application>__NAME`.
//!
//! Everything that begins with `RELAY_` is taken for a setting, so that a slip of the pen is found.
//! Only what Kubernetes puts into the environment of every program beside a Service that is called
//! `relay`, or `relay-` and more, is none of our business.

use std::ffi::OsString;

use super::Source;
use super::key::{Given, Key};
use super::settings::APPS;

/// The settings among the variables, ordered by name; a mistake is one sentence.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Given>, String> {
    let mut given = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix("RELAY_") else { continue };
        let key = key(rest);
        let source = Source::Environment(name.to_owned());
        let Ok(text) = value.into_string() else {
            return Err(format!("{key} ({source}) must be UTF-8 text."));
        };
        if !is_service_link(rest, &text) {
            given.push(Given { key, text, source });
        }
    }
    given.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(given)
}

/// The variable that sets what `key` names.
pub(super) fn variable(key: &Key) -> String {
    match key.0.as_slice() {
        [section, app, name] if section == APPS => {
            format!("RELAY_{}__{app}__{}", section.to_uppercase(), name.to_uppercase())
        }
        parts => format!("RELAY_{}", parts.join("__").to_uppercase()),
    }
}

/// An application keeps its letters, since names of applications are compared letter by letter, and
/// may hold two underscores itself; all else is lower case.
fn key(rest: &str) -> Key {
    let Some((section, rest)) = rest.split_once("__") else {
        return Key(vec![rest.to_ascii_lowercase()]);
    };
    let section = section.to_ascii_lowercase();
    if section != APPS {
        let parts = rest.split("__").map(str::to_ascii_lowercase);
        return Key(std::iter::once(section).chain(parts).collect());
    }
    let parts = match rest.rsplit_once("__") {
        Some((middle, name)) => vec![section, middle.to_owned(), name.to_ascii_lowercase()],
        None => vec![section, rest.to_ascii_lowercase()],
    };
    Key(parts)
}

/// Whether Kubernetes gave the variable, for a Service `relay` or `relay-...`: its host, its ports,
/// and for each port a URL with its parts.
fn is_service_link(rest: &str, value: &str) -> bool {
    // `RELAY_HTTP_PORT` is about the Service `relay-http`; `rest` begins behind `RELAY_`.
    let whole = format!("_{rest}");
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.ends_with("_SERVICE_HOST") || whole.ends_with("_SERVICE_PORT") {
        return true;
    }
    if let Some((_, port)) = whole.split_once("_SERVICE_PORT_") {
        return !port.is_empty() && is_port(value);
    }
    if whole.ends_with("_PORT") {
        return value.contains("://");
    }
    whole.match_indices("_PORT_").any(|(at, port)| {
        let mut parts = whole[at + port.len()..].split('_');
        let number = parts.next().is_some_and(is_port);
        let protocol = parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"));
        let last = parts.next().is_none_or(|part| matches!(part, "PROTO" | "PORT" | "ADDR"));
        number && protocol && last && parts.next().is_none()
    })
}
