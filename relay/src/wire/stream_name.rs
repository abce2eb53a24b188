//! Names of streams: what clients put into `app`, `tcUrl` and the name of publish and play, brought
//! to one form.
//!
//! Every client cuts `rtmp://host/a/b/c?k=v` at other places. A stream is therefore known by the
//! joined text `app/name`, in which it no longer shows where the cut was; the query and the host
//! are kept aside. Names become labels and lines of text, so control characters and the like are
//! refused here. The query may carry secrets: it is never printed.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::Limits;

/// The name of a stream: the joined text `app/name`. Never empty, no query, no control characters,
/// no empty or dotted segments. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// A stream as one client asked for it.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamAddress {
    /// The stream's name.
    pub name: StreamName,
    /// The merged query of name, app and tcUrl without the question mark; the first of these that
    /// names a key decides it. May carry secrets.
    pub query: String,
    /// The virtual host: the query's `vhost` or `domain`, else the host of tcUrl, else empty.
    pub host: String,
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("the stream name is empty")]
    Empty,
    /// `app_bytes_max` or `name_bytes_max` was passed, or `url_bytes_max` by a query.
    #[error("the stream name is too long")]
    TooLong,
    /// It is not UTF-8, holds a control character, or has a segment of dots.
    #[error("the stream name holds characters that are not allowed")]
    Characters,
}

impl StreamName {
    /// The joined text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first segment, by which settings are chosen; empty when there is but one. It does not
    /// depend on where the client cut, so nobody can choose other settings for the same stream.
    #[must_use]
    pub fn app(&self) -> &str {
        self.0.split_once('/').map(|(app, _)| app).unwrap_or_default()
    }

    /// The name without its last segment, and that segment; `None` unless at least two remain. For
    /// clients that have but one field for a name and a key.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, &str)> {
        let (name, last) = self.0.rsplit_once('/')?;
        name.contains('/').then(|| (Self(name.into()), last))
    }

    /// What follows the first segment.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, stream)| stream)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for StreamAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StreamAddress")
            .field("name", &self.name)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl StreamAddress {
    /// Brings `app` and `tcUrl` of connect and the `name` of publish or play to one form.
    ///
    /// # Errors
    /// When no name is left, or it is too long or holds what is not allowed.
    pub fn resolve(
        app: &[u8],
        tc_url: &[u8],
        name: &[u8],
        limits: &Limits,
    ) -> Result<Self, NameError> {
        let (app, app_query) = split_query(text(app)?);
        let (name, name_query) = split_query(text(name)?);
        // A URL that cannot be read names no host; it is of no other use.
        let (url, url_query) = split_query(text(tc_url).unwrap_or_default());

        let app = clean_app(app);
        let name = clean_name(name);
        // An empty name: the name is what follows the first slash of the application.
        let (app, name) = match app.split_once('/') {
            Some((head, tail)) if name.is_empty() => (head, clean_name(tail)),
            _ => (app, name),
        };
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let queries = [name_query, app_query, url_query];
        let query_too_long = queries.iter().any(|query| query.len() > limits.url_bytes_max);
        if app.len() > limits.app_bytes_max || name.len() > limits.name_bytes_max || query_too_long
        {
            return Err(NameError::TooLong);
        }

        let query = merge_queries(queries);
        let host = query_value(&query, "vhost")
            .or_else(|| query_value(&query, "domain"))
            .unwrap_or_else(|| host_of(url));
        if host.chars().any(char::is_control) {
            return Err(NameError::Characters);
        }
        Ok(Self { name: join(app, name)?, host: host.to_owned(), query })
    }
}

/// The application of connect in the form in which it is shown: without query, quotes and slashes.
///
/// # Errors
/// When it is too long or holds what is not allowed. It may be empty.
pub fn app_name(app: &[u8], limits: &Limits) -> Result<String, NameError> {
    let (app, _) = split_query(text(app)?);
    let app = clean_app(app);
    if app.len() > limits.app_bytes_max {
        return Err(NameError::TooLong);
    }
    if app.is_empty() {
        return Ok(String::new());
    }
    join(app, "").map(|name| name.as_str().to_owned())
}

/// The merged query of app and tcUrl, without the question mark. May carry secrets.
#[must_use]
pub fn connect_query(app: &[u8], tc_url: &[u8]) -> String {
    let query = |bytes| split_query(text(bytes).unwrap_or_default()).1;
    merge_queries(["", query(app), query(tc_url)])
}

/// The host of a tcUrl without its port; empty when there is none.
#[must_use]
pub fn tc_url_host(tc_url: &[u8]) -> &str {
    host_of(split_query(text(tc_url).unwrap_or_default()).0)
}

fn text(bytes: &[u8]) -> Result<&str, NameError> {
    std::str::from_utf8(bytes).map_err(|_| NameError::Characters)
}

fn strip_quotes(text: &str) -> &str {
    text.trim_matches(|character: char| matches!(character, ' ' | '"' | '\''))
}

fn split_query(text: &str) -> (&str, &str) {
    let text = strip_quotes(text);
    text.split_once('?').unwrap_or((text, ""))
}

fn strip_ends(text: &str) -> &str {
    text.trim_matches(|character| matches!(character, ' ' | '"' | '\'' | '/'))
}

fn clean_app(app: &str) -> &str {
    let app = strip_ends(app);
    let app = if app == "_definst_" { "" } else { app };
    strip_ends(app.strip_suffix("/_definst_").unwrap_or(app))
}

fn clean_name(name: &str) -> &str {
    let mut name = strip_ends(name);
    for prefix in ["mp4:", "flv:", "mp3:"] {
        name = name.strip_prefix(prefix).unwrap_or(name);
    }
    strip_ends(name.strip_suffix(".flv").unwrap_or(name))
}

fn join(app: &str, name: &str) -> Result<StreamName, NameError> {
    let mut joined = String::with_capacity(app.len() + 1 + name.len());
    for segment in app.split('/').chain(name.split('/')).filter(|segment| !segment.is_empty()) {
        if segment.contains("..") || segment == "." || segment.chars().any(char::is_control) {
            return Err(NameError::Characters);
        }
        if !joined.is_empty() {
            joined.push('/');
        }
        joined.push_str(segment);
    }
    if joined.is_empty() {
        return Err(NameError::Empty);
    }
    Ok(StreamName(joined.into()))
}

fn key_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(key, _)| key)
}

fn merge_queries(queries: [&str; 3]) -> String {
    let mut merged = String::new();
    for query in queries {
        // Pairs of one query never hide each other, only those of a later one.
        let decided = merged.len();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let known = merged[..decided].split('&').any(|other| key_of(other) == key_of(pair));
            if known {
                continue;
            }
            if !merged.is_empty() {
                merged.push('&');
            }
            merged.push_str(pair);
        }
    }
    merged
}

fn query_value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value).next()
}

fn host_of(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return "" };
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
