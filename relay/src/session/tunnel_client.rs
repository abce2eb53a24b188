//! The client's side of RTMP inside HTTP: for links to other servers through networks that pass
//! nothing else, and for the load generator.
//!
//! One request is under way at a time. What the RTMP session has to say goes out with the next
//! one; while it has nothing, the server is asked at an interval that follows what it answers. It
//! holds no socket: bytes of the TCP connection go in and come out, and bytes of RTMP the other way
//! round. The session inside outlives the TCP connection: when that ends, the unanswered request is
//! said again on the next one.
//!
//! ```text
//!   RTMP bytes --> push ------> take_request --> TCP
//!   RTMP bytes <-- receive <-------------------- TCP
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::tunnel::{CONTENT_TYPE, Verb};

/// How a tunnel is opened and how often it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSettings {
    /// Host and port, as the server shall see them in `Host`.
    pub authority: String,
    /// The server is asked again no sooner than this after it was asked last.
    pub poll_min: Duration,
    /// After answers without anything the interval doubles, up to this.
    pub poll_max: Duration,
}

impl TunnelSettings {
    /// The usual intervals: as often as frames come, and ten times a second when none do.
    #[must_use]
    pub fn new(authority: String) -> Self {
        let (poll_min, poll_max) = (Duration::from_millis(20), Duration::from_millis(100));
        Self { authority, poll_min, poll_max }
    }
}

/// Why a tunnel came to an end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TunnelError {
    /// What answers is no HTTP.
    #[error("the answer is no HTTP")]
    NotHttp,
    /// A head longer than any that a tunnel needs.
    #[error("the head of an answer is too long")]
    HeadTooLong,
    /// The server, or something before it, refused.
    #[error("the server answered with HTTP status {status}")]
    Status {
        /// For example 404, when it does not know the session.
        status: u16,
    },
    /// Without a length nothing tells where an answer ends.
    #[error("an answer does not tell its length")]
    NoLength,
    /// The answer to the first request is no id.
    #[error("the server gave no id of a session")]
    BadId,
    /// Bytes came that were not asked for.
    #[error("an answer came to no request")]
    Unasked,
    /// A request was not answered in time.
    #[error("a request was not answered in time")]
    NoAnswer,
}

/// One tunnel.
pub struct TunnelClient {
    settings: TunnelSettings,
    state: State,
    id: String,
    number: u64,
    /// RTMP bytes that go out with the next request.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    flight: Option<Flight>,
    reading: Reading,
    /// The TCP connection carries no further request.
    connection_over: bool,
    /// Connections in a row on which nothing was answered.
    fruitless: u32,
    interval: Duration,
    poll_at: Duration,
    polls: u64,
    empty_polls: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Closing,
    Closed,
}

/// The request under way.
struct Flight {
    /// `None` is the one that opens.
    verb: Option<Verb>,
    /// Its RTMP bytes, to be said again when the connection is lost.
    body: Vec<Bytes>,
    asked: Duration,
    /// Bytes of RTMP in the answer that were handed on, on this or an earlier connection.
    delivered: usize,
    /// Bytes of the answer's body read so far on this connection.
    read: usize,
}

/// Where in an answer the connection is.
enum Reading {
    Head(Vec<u8>),
    Body { left: usize },
}

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Headers of an answer.
const HEADERS_MAX: usize = 64;

/// Longest id that is taken.
const ID_CHARS_MAX: usize = 255;

/// Most RTMP bytes of one request.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// A request must be answered within this time.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Connections in a row that may bring nothing before a session is given up.
const FRUITLESS_MAX: u32 = 3;

impl TunnelClient {
    /// A tunnel to be opened: [`Self::take_request`] gives the first request at once.
    #[must_use]
    pub fn new(settings: TunnelSettings, now: Duration) -> Self {
        Self {
            interval: settings.poll_min,
            settings,
            state: State::Opening,
            id: String::new(),
            number: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            flight: None,
            reading: Reading::Head(Vec::new()),
            connection_over: false,
            fruitless: 0,
            poll_at: now,
            polls: 0,
            empty_polls: 0,
        }
    }

    /// Takes RTMP bytes that are to go to the server. The caller bounds them by
    /// [`Self::waiting_bytes`].
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && matches!(self.state, State::Opening | State::Open) {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
    }

    /// RTMP bytes that wait for the next request.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Requests that could bring something, and those of them that brought nothing.
    #[must_use]
    pub fn polls(&self) -> (u64, u64) {
        (self.polls, self.empty_polls)
    }

    /// The session is to be closed, once what waits has gone out.
    pub fn finish(&mut self) {
        self.state = match self.state {
            State::Open => State::Closing,
            // Nobody knows of it yet, or it is over.
            State::Opening => State::Closed,
            state => state,
        };
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The TCP connection is over. Whether another one is to carry the session on, which
    /// [`Self::reconnected`] is then told of: not before the server knows of the session, nor when
    /// so many in a row were of no use.
    pub fn outlives_connection(&mut self) -> bool {
        self.fruitless += 1;
        let is_open = matches!(self.state, State::Open | State::Closing) && !self.id.is_empty();
        is_open && self.fruitless <= FRUITLESS_MAX
    }

    /// The connection that was to come was not even tried, which says nothing of the server.
    pub fn connection_not_tried(&mut self) {
        self.fruitless = self.fruitless.saturating_sub(1);
    }

    /// Bytes held: what waits, and the request that may have to be said again.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let body = self.flight.iter().flat_map(|flight| &flight.body);
        self.waiting_bytes + body.map(Bytes::len).sum::<usize>()
    }

    /// Whether the server ends the TCP connection after its answer: another one is needed, and
    /// [`Self::reconnected`] to be called.
    #[must_use]
    pub fn needs_connection(&self) -> bool {
        // Its last answer may still be on its way.
        self.connection_over && self.flight.is_none() && !self.is_closed()
    }

    /// The TCP connection is lost, or over, and there is another one. What was not answered is
    /// asked again on it.
    pub fn reconnected(&mut self) {
        self.connection_over = false;
        self.reading = Reading::Head(Vec::new());
        if let Some(flight) = &mut self.flight {
            flight.read = 0;
            if flight.verb.is_none() {
                self.id.clear();
            }
        }
    }

    /// The unanswered request, to be sent on a new connection; `None` when there is none.
    pub fn repeat_request(&mut self) -> Option<Vec<Bytes>> {
        let flight = self.flight.as_ref()?;
        Some(self.render(flight.verb, &flight.body))
    }

    /// When [`Self::take_request`] or [`Self::check_deadline`] next has something to say; `None`
    /// when the session is over or waits for a connection.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        if let Some(flight) = &self.flight {
            return Some(flight.asked.saturating_add(ANSWER_MAX));
        }
        if self.connection_over || self.is_closed() {
            return None;
        }
        let at_once = !self.waiting.is_empty() || self.state != State::Open;
        Some(if at_once { Duration::ZERO } else { self.poll_at })
    }

    /// The next request, when none is under way and one is due: the pieces of one send.
    pub fn take_request(&mut self, now: Duration) -> Option<Vec<Bytes>> {
        if self.flight.is_some() || self.next_due().is_none_or(|due| now < due) {
            return None;
        }
        let verb = match self.state {
            State::Opening => None,
            State::Closed => return None,
            State::Open | State::Closing if !self.waiting.is_empty() => Some(Verb::Send),
            State::Closing => Some(Verb::Close),
            State::Open => Some(Verb::Idle),
        };
        let body = match verb {
            Some(Verb::Send) => self.next_body(),
            _ => vec![Bytes::from_static(&[0])],
        };
        let request = self.render(verb, &body);
        self.flight = Some(Flight { verb, body, asked: now, delivered: 0, read: 0 });
        Some(request)
    }

    /// Judges whether the server took too long.
    ///
    /// # Errors
    /// When it did. The tunnel is over.
    pub fn check_deadline(&self, now: Duration) -> Result<(), TunnelError> {
        let asked = self.flight.as_ref().map(|flight| flight.asked);
        match asked {
            Some(asked) if now >= asked.saturating_add(ANSWER_MAX) => Err(TunnelError::NoAnswer),
            _ => Ok(()),
        }
    }

    /// Takes bytes of the TCP connection and gives the next piece of RTMP in them; `None` when all
    /// of `input` is consumed.
    ///
    /// # Errors
    /// When what comes is no answer of a tunnel, or a refusal. The tunnel is over.
    pub fn receive<'a>(
        &mut self,
        input: &mut &'a [u8],
        now: Duration,
    ) -> Result<Option<&'a [u8]>, TunnelError> {
        while !input.is_empty() {
            let rtmp = self.receive_one(input, now)?;
            if !rtmp.is_empty() {
                return Ok(Some(rtmp));
            }
        }
        Ok(None)
    }

    /// Takes bytes up to the end of a head or of a body, and gives the RTMP in them.
    pub(super) fn receive_one<'a>(
        &mut self,
        input: &mut &'a [u8],
        now: Duration,
    ) -> Result<&'a [u8], TunnelError> {
        match &mut self.reading {
            Reading::Head(head) => {
                if self.flight.is_none() {
                    return Err(TunnelError::Unasked);
                }
                if let Some(answer) = read_head(head, input)? {
                    self.begin_body(&answer, now)?;
                }
                Ok(&[])
            }
            Reading::Body { left } => {
                let (piece, rest) = input.split_at(input.len().min(*left));
                *input = rest;
                *left -= piece.len();
                let whole = *left == 0;
                let rtmp = self.read_body(piece)?;
                if whole {
                    self.end_body(now)?;
                }
                Ok(rtmp)
            }
        }
    }

    fn begin_body(&mut self, answer: &Answer, now: Duration) -> Result<(), TunnelError> {
        if answer.status != 200 {
            return Err(TunnelError::Status { status: answer.status });
        }
        self.connection_over = answer.closes;
        self.reading = Reading::Body { left: answer.length };
        if answer.length == 0 {
            self.end_body(now)?;
        }
        Ok(())
    }

    /// Gives the RTMP bytes of a piece of an answer that were not handed on before.
    fn read_body<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], TunnelError> {
        let Some(flight) = &mut self.flight else { return Err(TunnelError::Unasked) };
        let before = flight.read;
        flight.read += piece.len();
        match flight.verb {
            None => {
                if flight.read > ID_CHARS_MAX {
                    return Err(TunnelError::BadId);
                }
                self.id.push_str(std::str::from_utf8(piece).map_err(|_| TunnelError::BadId)?);
                Ok(&[])
            }
            Some(Verb::Close) => Ok(&[]),
            Some(Verb::Send | Verb::Idle) => {
                // Behind the polling byte, and behind what came before the connection was lost.
                let known = 1 + flight.delivered;
                let fresh = &piece[known.saturating_sub(before).min(piece.len())..];
                flight.delivered += fresh.len();
                if !fresh.is_empty() {
                    self.fruitless = 0;
                }
                Ok(fresh)
            }
        }
    }

    fn end_body(&mut self, now: Duration) -> Result<(), TunnelError> {
        self.reading = Reading::Head(Vec::new());
        let Some(flight) = self.flight.take() else { return Err(TunnelError::Unasked) };
        match flight.verb {
            None => {
                let id = self.id.trim().to_owned();
                let usable = |byte: u8| byte.is_ascii_graphic() && !b"/?#%".contains(&byte);
                if id.is_empty() || !id.bytes().all(usable) {
                    return Err(TunnelError::BadId);
                }
                self.id = id;
                self.state = if self.is_closed() { State::Closing } else { State::Open };
            }
            Some(Verb::Close) => self.state = State::Closed,
            Some(Verb::Send | Verb::Idle) => {
                self.number += 1;
                let empty = flight.delivered == 0;
                self.polls += 1;
                self.fruitless = 0;
                self.empty_polls += u64::from(empty);
                self.interval = if empty {
                    self.interval.saturating_mul(2).min(self.settings.poll_max)
                } else {
                    self.settings.poll_min
                };
                // Counted from the asking: a server that held the request is asked at once.
                self.poll_at = flight.asked.saturating_add(self.interval).max(now);
            }
        }
        Ok(())
    }

    fn next_body(&mut self) -> Vec<Bytes> {
        let mut body = Vec::new();
        let mut bytes = 0;
        while let Some(piece) = self.waiting.front() {
            if !body.is_empty() && bytes + piece.len() > BODY_BYTES_MAX {
                break;
            }
            bytes += piece.len();
            body.extend(self.waiting.pop_front());
        }
        self.waiting_bytes -= bytes;
        body
    }

    fn render(&self, verb: Option<Verb>, body: &[Bytes]) -> Vec<Bytes> {
        let target = match verb {
            None => "/open/1".to_owned(),
            Some(verb) => format!("/{}/{}/{}", verb.word(), self.id, self.number),
        };
        let length: usize = body.iter().map(Bytes::len).sum();
        // Servers of old look for this name, and proxies must not keep anything.
        let mut head = format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Shockwave Flash\r\nAccept: */*\r\n\
             Connection: Keep-Alive\r\nCache-Control: no-cache\r\nContent-Type: {CONTENT_TYPE}\r\n\
             Content-Length: {length}\r\n\r\n",
            self.settings.authority
        )
        .into_bytes();
        if let [only] = body
            && only.len() <= SHORT_BODY
        {
            head.extend_from_slice(only);
            return vec![Bytes::from(head)];
        }
        let mut pieces = vec![Bytes::from(head)];
        pieces.extend_from_slice(body);
        pieces
    }
}

/// A body so short goes into one piece with its head.
const SHORT_BODY: usize = 1_024;

/// The id is a secret, and so may be what is on its way.
impl fmt::Debug for TunnelClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TunnelClient")
            .field("state", &self.state)
            .field("number", &self.number)
            .field("waiting_bytes", &self.waiting_bytes)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// What matters of an answer's head.
struct Answer {
    status: u16,
    length: usize,
    closes: bool,
}

/// Takes bytes of `input` up to the end of a head, which it then reads and forgets.
fn read_head(head: &mut Vec<u8>, input: &mut &[u8]) -> Result<Option<Answer>, TunnelError> {
    while let Some((byte, rest)) = input.split_first() {
        *input = rest;
        head.push(*byte);
        if *byte == b'\n' && (head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n")) {
            let answer = parse_head(head)?;
            head.clear();
            return Ok(answer);
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(TunnelError::HeadTooLong);
        }
    }
    Ok(None)
}

/// `None` for an interim answer, which another follows.
fn parse_head(head: &[u8]) -> Result<Option<Answer>, TunnelError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(TunnelError::NotHttp),
    }
    let status = response.code.ok_or(TunnelError::NotHttp)?;
    if (100..200).contains(&status) {
        return Ok(None);
    }
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let says = |word: &str| {
        let value = header("connection").unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let closes = if response.version == Some(0) { !says("keep-alive") } else { says("close") };
    let length = header("content-length").and_then(|length| length.parse().ok());
    match length {
        Some(length) => Ok(Some(Answer { status, length, closes })),
        // Whoever refuses need not say more.
        None if status != 200 => Ok(Some(Answer { status, length: 0, closes })),
        None => Err(TunnelError::NoLength),
    }
}

#[cfg(test)]
#[path = "tunnel_client_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
