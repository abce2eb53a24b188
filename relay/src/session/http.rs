//! The heads of HTTP requests, read within limits, and those of answers, written.
//!
//! Reading and judging HTTP is `httparse`'s work; here are the limits, and what a request may not
//! be because two readers could understand it differently. Bodies are not looked at: whoever is
//! asked reads his own. No request is kept in memory beyond its head.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::limits::Limits;

/// The head of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, as written.
    pub method: String,
    /// The target in origin form, as written: the path, and the query behind `?`.
    pub target: String,
    /// The minor version: 0 or 1.
    pub minor: u8,
    /// Names in lower case, with their values without the spaces around them, in order.
    pub headers: Vec<(String, String)>,
}

/// Why a head is refused. Each has a status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The head does not end within `request_head_bytes_max`.
    #[error("the head of the request is longer than {limit} bytes")]
    HeadTooLong {
        /// The limit in force.
        limit: usize,
    },
    /// More fields than `request_headers_max`.
    #[error("the request has more than {limit} header fields")]
    TooManyHeaders {
        /// The limit in force.
        limit: usize,
    },
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("the request is of no version of HTTP that is spoken here")]
    Version,
    /// It is not HTTP at all, or one reader could take it for something else than another.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads one head after the other.
#[derive(Debug, Default)]
pub struct HeadReader {
    bytes: Vec<u8>,
    /// Where the present line begins.
    line: usize,
}

impl HeadReader {
    /// Takes bytes from `input` up to the end of a head; `None` when all are taken and it has not
    /// ended. What follows the head, a body or another request, stays in `input`.
    ///
    /// # Errors
    /// When the head is not acceptable. The connection is to be answered and closed.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<RequestHead>, HttpError> {
        let limit = limits.request_head_bytes_max;
        while let Some((first, rest)) = input.split_first() {
            *input = rest;
            if self.bytes.is_empty() && matches!(first, b'\r' | b'\n') {
                // Empty lines before a request are to be passed over (RFC 9112 section 2.2).
                continue;
            }
            self.bytes.push(*first);
            if *first == b'\n' {
                let line = self.bytes.get(self.line..).unwrap_or_default();
                if matches!(line, b"\r\n" | b"\n") {
                    let bytes = std::mem::take(self).bytes;
                    return parse(&bytes, limits).map(Some);
                }
                self.line = self.bytes.len();
            }
            if self.bytes.len() >= limit {
                return Err(HttpError::HeadTooLong { limit });
            }
        }
        Ok(None)
    }

    /// Whether a head has begun and not ended.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl RequestHead {
    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// What stands behind `?`, or nothing.
    #[must_use]
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of the first field of this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Whether the elements of a field that is a list, such as Connection, hold this one, which is
    /// given in lower case.
    #[must_use]
    pub fn lists(&self, name: &str, element: &str) -> bool {
        let fields = self.headers.iter().filter(|(known, _)| known == name);
        fields
            .flat_map(|(_, value)| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(element))
    }

    /// Whether another request may follow on the connection (RFC 9112 section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        !self.lists("connection", "close")
            && (self.minor == 1 || self.lists("connection", "keep-alive"))
    }

    /// The length of its body: 0 when it has none; `None` when it is sent in chunks.
    #[must_use]
    pub fn body_bytes(&self) -> Option<u64> {
        if self.header("transfer-encoding").is_some() {
            return None;
        }
        // Judged when it was read.
        Some(self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}

/// Queries may hold secrets, so only the path is shown.
impl fmt::Debug for RequestHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} HTTP/1.{}", self.method, self.path(), self.minor)
    }
}

impl HttpError {
    /// Its status code and the reason phrase of that.
    #[must_use]
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Self::HeadTooLong { .. } | Self::TooManyHeaders { .. } => {
                (431, "Request Header Fields Too Large")
            }
            Self::Version => (505, "HTTP Version Not Supported"),
            Self::Malformed(_) => (400, "Bad Request"),
        }
    }
}

/// The head of an answer: status line and fields, in order, with the empty line.
#[must_use]
pub fn response_head(status: (u16, &str), fields: &[(&str, &str)]) -> Bytes {
    let mut head = BytesMut::new();
    put_head(&mut head, status, fields);
    head.freeze()
}

/// A whole answer in plain text: `sentence` is its body, on one line. `fields` come first.
#[must_use]
pub fn plain_response(status: (u16, &str), fields: &[(&str, &str)], sentence: &str) -> Bytes {
    let length = (sentence.len() + 1).to_string();
    let mut all = fields.to_vec();
    all.push(("Content-Type", "text/plain; charset=utf-8"));
    all.push(("Content-Length", &length));
    all.push(("Cache-Control", "no-store"));
    all.push(("X-Content-Type-Options", "nosniff"));
    let mut answer = BytesMut::new();
    put_head(&mut answer, status, &all);
    answer.put_slice(sentence.as_bytes());
    answer.put_slice(b"\n");
    answer.freeze()
}

fn put_head(out: &mut BytesMut, (code, reason): (u16, &str), fields: &[(&str, &str)]) {
    out.put_slice(format!("HTTP/1.1 {code} {reason}\r\n").as_bytes());
    for (name, value) in fields {
        out.put_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.put_slice(b"\r\n");
}

fn parse(bytes: &[u8], limits: &Limits) -> Result<RequestHead, HttpError> {
    let limit = limits.request_headers_max;
    let mut room = vec![httparse::EMPTY_HEADER; limit];
    let mut request = httparse::Request::new(&mut room);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HttpError::Malformed("it ends too early")),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyHeaders { limit }),
        Err(httparse::Error::Version) => return Err(HttpError::Version),
        Err(error) => return Err(HttpError::Malformed(sentence(error))),
    }
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_matches([' ', '\t']).to_owned()),
        Err(_) => Err(HttpError::Malformed("a header field is not text")),
    };
    let mut headers = Vec::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        headers.push((header.name.to_ascii_lowercase(), text(header.value)?));
    }
    let head = RequestHead {
        method: request.method.unwrap_or_default().to_owned(),
        target: origin_form(request.path.unwrap_or_default()).to_owned(),
        minor: request.version.unwrap_or_default(),
        headers,
    };
    judge(&head).map(|()| head)
}

/// The path and query of a target. One that is a whole URL has to be taken as well (RFC 9112
/// section 3.2.2); whose it is counts no more than the host field does.
fn origin_form(target: &str) -> &str {
    let Some((scheme, rest)) = target.split_once("://") else { return target };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return target;
    }
    rest.find(['/', '?']).map_or("/", |path| &rest[path..])
}

/// Refuses what one reader could take for one request and another for two.
fn judge(head: &RequestHead) -> Result<(), HttpError> {
    let wrong = |why| Err(HttpError::Malformed(why));
    if !head.target.starts_with('/') && head.target != "*" {
        return wrong("its target is not a path");
    }
    if head.target.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return wrong("its target has characters that have to be escaped");
    }
    let count = |name| head.headers.iter().filter(|(known, _)| known == name).count();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    if lengths > 1 || (lengths == 1 && codings > 0) {
        return wrong("its length is told twice");
    }
    if let Some(length) = head.header("content-length")
        && (length.is_empty() || length.len() > 15 || !length.bytes().all(|b| b.is_ascii_digit()))
    {
        return wrong("its length is no number");
    }
    let is_chunked = || head.lists("transfer-encoding", "chunked") && head.minor == 1;
    if codings > 1 || (codings == 1 && !is_chunked()) {
        return wrong("its transfer coding is not known here");
    }
    if head.minor == 1 && count("host") != 1 {
        return wrong("it has no host, or more than one");
    }
    Ok(())
}

fn sentence(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header field's name is none",
        httparse::Error::HeaderValue => "a header field's value is none",
        httparse::Error::NewLine => "a line does not end as it should",
        httparse::Error::Token => "its method or target is none",
        _ => "its first line is none",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
