//! HTTP on the port for clients: heads of requests are read here and passed on to whoever answers.
//!
//! ```text
//!   GET, HEAD, OPTIONS of /{app}/{name}.flv -> the player of FLV
//!   POST of /open, /send, /idle, /close     -> the tunnel of RTMP
//!   everything else                         -> an answer that says what is wrong
//! ```
//!
//! An answer that refuses ends the connection. Metrics and the API are on the operators' port only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use super::connection::Connection;
use super::labels::RefuseReason;
use super::speech::Speech;
use crate::limits::Limits;
use crate::session::SessionError;
use crate::session::http::{HeadReader, HttpError, RequestHead, plain_response, response_head};

/// A connection that speaks HTTP and was not passed on.
pub(super) struct HttpFront {
    limits: Arc<Limits>,
    reader: HeadReader,
    /// When the present head must have ended, however it trickles.
    deadline: Duration,
    output: VecDeque<Bytes>,
    refusal: Option<String>,
    /// The last word is said.
    over: bool,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Flv,
    Tunnel,
    /// Nowhere: the status, the sentence, and how it is counted.
    Nowhere((u16, &'static str), &'static str, RefuseReason),
}

impl HttpFront {
    /// Its first head must have ended at `deadline`.
    pub(super) fn new(limits: Arc<Limits>, deadline: Duration) -> Self {
        let output = VecDeque::new();
        Self { limits, reader: HeadReader::default(), deadline, output, refusal: None, over: false }
    }

    /// What the client was told before, if it was refused something.
    pub(super) fn told(self, refusal: Option<String>) -> Self {
        Self { refusal, ..self }
    }

    /// Refuses: the answer is sent, then the connection ends.
    fn refuse(&mut self, status: (u16, &str), field: Option<(&str, &str)>, sentence: &str) {
        let fields: Vec<_> = [("Connection", "close")].into_iter().chain(field).collect();
        let answer = plain_response(status, &fields, sentence);
        self.refuse_with(answer, sentence.to_owned());
    }

    /// The same with an answer of one's own.
    pub(super) fn refuse_with(&mut self, answer: Bytes, sentence: String) {
        self.output.push_back(answer);
        self.refusal = Some(sentence);
        self.over = true;
    }

    /// Answers. The head of another request must have ended at `next`; `None`: no other is taken.
    pub(super) fn answer(&mut self, answer: Bytes, next: Option<Duration>) {
        self.output.push_back(answer);
        self.refusal = None;
        self.over = next.is_none();
        self.deadline = next.unwrap_or(self.deadline);
    }

    /// Refuses with an answer that has no body, as the client of a tunnel expects it.
    pub(super) fn refuse_bare(&mut self, status: (u16, &str), reason: &str) {
        let fields = [("Content-Length", "0"), ("Connection", "close")];
        self.refuse_with(response_head(status, &fields), reason.to_owned());
    }

    /// Another head is to be read, which must have ended at `deadline`.
    pub(super) fn go_on(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    pub(super) fn wants_close(&self) -> bool {
        self.over
    }

    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        self.output.pop_front()
    }

    pub(super) fn check_deadline(&self, now: Duration) -> Result<(), SessionError> {
        if !self.over && now >= self.deadline {
            return Err(SessionError::RequestTimeout);
        }
        Ok(())
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.reader.held_bytes()
    }
}

impl Worker {
    /// Reads heads of requests until the bytes are used up or somebody else reads on. What follows
    /// a head stays in `input`.
    pub(super) fn hear_http(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        while let Speech::Http(http) = &mut connection.speech {
            if http.wants_close() {
                *input = &[];
                return;
            }
            match http.reader.read(input, &http.limits) {
                Ok(None) => return,
                Ok(Some(head)) => self.dispatch(connection, &head, now),
                Err(error) => {
                    let reason = match error {
                        HttpError::HeadTooLong { .. } | HttpError::TooManyHeaders { .. } => {
                            RefuseReason::HttpHead
                        }
                        HttpError::Version | HttpError::Malformed(_) => RefuseReason::HttpMalformed,
                    };
                    let sentence = format!("Refused: {error}.");
                    self.refuse_http(connection, error.status(), None, (&sentence, reason));
                }
            }
        }
    }

    /// The one place where a request finds who answers it.
    fn dispatch(&mut self, connection: &mut Connection, head: &RequestHead, now: Duration) {
        // The path may end in a stream key.
        tracing::debug!(id = %connection.id, method = %head.method, "request");
        match route(head) {
            Route::Flv => self.ask_for_flv(connection, head, now),
            Route::Tunnel => self.begin_request(connection, head, now),
            Route::Nowhere(status, sentence, reason) => {
                // RFC 9110 section 15.5.6: what would have been allowed.
                let allow = (status.0 == 405).then(|| ("Allow", allowed(head.path())));
                self.refuse_http(connection, status, allow, (sentence, reason));
            }
        }
    }

    /// Answers that something is refused, counts it, and lets the connection end.
    pub(super) fn refuse_http(
        &mut self,
        connection: &mut Connection,
        status: (u16, &str),
        field: Option<(&str, &str)>,
        (sentence, reason): (&str, RefuseReason),
    ) {
        let Speech::Http(http) = &mut connection.speech else { return };
        http.refuse(status, field, sentence);
        self.cells.refused.at(reason).increment();
    }
}

fn route(head: &RequestHead) -> Route {
    let path = head.path();
    match &*head.method {
        "GET" | "HEAD" | "OPTIONS" if path.ends_with(".flv") => Route::Flv,
        "GET" | "HEAD" if is_tunnel(path) => Route::Nowhere(
            (405, "Method Not Allowed"),
            "A tunnel (RTMPT) is spoken by POST.",
            RefuseReason::HttpMethod,
        ),
        "GET" | "HEAD" | "OPTIONS" => Route::Nowhere(
            (404, "Not Found"),
            "There is nothing here but streams, at /{app}/{name}.flv.",
            RefuseReason::HttpNotFound,
        ),
        "POST" if is_tunnel(path) => Route::Tunnel,
        "POST" => Route::Nowhere(
            (404, "Not Found"),
            "Nothing is posted here but RTMP in a tunnel (RTMPT).",
            RefuseReason::HttpNotFound,
        ),
        _ => Route::Nowhere(
            (405, "Method Not Allowed"),
            "Of the methods of HTTP, GET, HEAD, OPTIONS and POST are known here.",
            RefuseReason::HttpMethod,
        ),
    }
}

/// The methods that a path is asked by.
fn allowed(path: &str) -> &'static str {
    if is_tunnel(path) {
        "POST"
    } else if path.ends_with(".flv") {
        "GET, HEAD, OPTIONS"
    } else {
        "GET, HEAD, OPTIONS, POST"
    }
}

fn is_tunnel(path: &str) -> bool {
    ["/fcs/", "/open/", "/send/", "/idle/", "/close/"].iter().any(|start| path.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_where_its_method_and_path_say() {
        fn check(method: &str, target: &str, expected: Result<Route, u16>) {
            let (method, target) = (method.to_owned(), target.to_owned());
            let head = RequestHead { method, target, minor: 1, headers: Vec::new() };
            let found = match route(&head) {
                Route::Nowhere((status, _), ..) => Err(status),
                route => Ok(route),
            };
            assert_eq!(found, expected, "{head:?}");
        }
        check("GET", "/live/a.flv", Ok(Route::Flv));
        check("HEAD", "/live/a.flv?only=audio", Ok(Route::Flv));
        check("OPTIONS", "/live/b/a.flv", Ok(Route::Flv));
        check("GET", "/send/abc/1", Err(405));
        check("GET", "/", Err(404));
        check("GET", "/metrics", Err(404));
        check("GET", "/?x=.flv", Err(404));
        check("OPTIONS", "*", Err(404));
        check("POST", "/open/1", Ok(Route::Tunnel));
        check("POST", "/fcs/ident2", Ok(Route::Tunnel));
        check("POST", "/send/abc/1", Ok(Route::Tunnel));
        check("POST", "/live/a.flv", Err(404));
        check("PUT", "/live/a.flv", Err(405));
        check("PRI", "*", Err(405));
    }

    #[test]
    fn a_path_says_by_which_methods_it_is_asked() {
        assert_eq!(allowed("/open/1"), "POST");
        assert_eq!(allowed("/live/a.flv"), "GET, HEAD, OPTIONS");
        assert_eq!(allowed("/live"), "GET, HEAD, OPTIONS, POST");
    }
}
