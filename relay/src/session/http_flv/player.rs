//! The connection of a player of FLV, from its request on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::FlvRequest;
use super::cors::{Cors, persistence};
use crate::limits::Limits;
use crate::session::error::SessionError;
use crate::session::event::{PlayRefusal, PlayRefusalCode, Redirect};
use crate::session::http::{plain_response, response_head};
use crate::wire::websocket::{ClientFrame, FrameReader, Opcode, write_header};

/// A player's connection from its request on.
#[derive(Debug)]
pub struct FlvSession {
    request: FlvRequest,
    cors: Arc<Cors>,
    state: State,
    /// Since when it is known to be answered.
    answered: Option<Duration>,
    /// Reads what the client says, if it opens a WebSocket.
    frames: FrameReader,
    /// Bytes that a player over HTTP said, who has nothing to say.
    said: usize,
    limits: Arc<Limits>,
    pings: Budget,
    messages: Budget,
    output: VecDeque<Bytes>,
    refusal: Option<String>,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The verdict is outstanding.
    Asked,
    /// FLV follows.
    Playing,
    /// Answered by other than FLV: another request may come on the connection.
    Answered,
    /// Nothing more is to come.
    Closing,
}

/// So many a second.
#[derive(Debug)]
struct Budget {
    most: usize,
    second: u64,
    used: usize,
}

impl Budget {
    fn new(most: usize) -> Self {
        Self { most, second: 0, used: 0 }
    }

    fn take(&mut self, now: Duration) -> bool {
        if std::mem::replace(&mut self.second, now.as_secs()) != now.as_secs() {
            self.used = 0;
        }
        self.used = self.used.saturating_add(1);
        self.used <= self.most
    }
}

impl FlvSession {
    /// A session that waits for the verdict on its request.
    #[must_use]
    pub fn new(request: FlvRequest, cors: Arc<Cors>, limits: Arc<Limits>) -> Self {
        Self {
            request,
            cors,
            state: State::Asked,
            answered: None,
            frames: FrameReader::new(limits.flv_input_bytes_max),
            said: 0,
            pings: Budget::new(limits.pings_per_second_max),
            messages: Budget::new(limits.messages_per_second_max),
            limits,
            output: VecDeque::new(),
            refusal: None,
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &FlvRequest {
        &self.request
    }

    /// Whether the verdict is outstanding, so that nothing more may be received.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == State::Asked
    }

    /// Whether it is over and the connection open for another request.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.state == State::Answered
    }

    /// Whether the last word is said.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.state == State::Closing
    }

    /// What the client was told when it was last refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The stream is there: what follows the output is FLV, unless only this was asked.
    pub fn accept_play(&mut self) {
        if self.state != State::Asked {
            return;
        }
        let mut fields = Vec::new();
        let status = match &self.request.websocket {
            Some(opening) => {
                fields.push(("Upgrade", "websocket"));
                fields.push(("Connection", "Upgrade"));
                fields.push(("Sec-WebSocket-Accept", &*opening.accept));
                if let Some(protocol) = &opening.protocol {
                    fields.push(("Sec-WebSocket-Protocol", protocol));
                }
                (101, "Switching Protocols")
            }
            None => {
                let is_kept = self.request.head_only && self.request.keeps_alive;
                fields.push(("Content-Type", "video/x-flv"));
                fields.push(("Cache-Control", "no-store"));
                fields.push(("Connection", persistence(is_kept)));
                // A proxy is to pass on what it has.
                fields.push(("X-Accel-Buffering", "no"));
                fields.push(("X-Content-Type-Options", "nosniff"));
                fields.extend(self.cors.fields(self.request.origin.as_deref()));
                (200, "OK")
            }
        };
        self.output.push_back(response_head(status, &fields));
        self.state = match (self.request.head_only, self.request.keeps_alive) {
            (false, _) => State::Playing,
            (true, true) => State::Answered,
            (true, false) => State::Closing,
        };
    }

    /// The stream is not to be had.
    pub fn reject_play(&mut self, refusal: &PlayRefusal) {
        if self.state != State::Asked {
            return;
        }
        let (status, more) = match refusal.code {
            PlayRefusalCode::StreamNotFound => ((404, "Not Found"), None),
            PlayRefusalCode::Unauthorized => {
                ((401, "Unauthorized"), Some(("WWW-Authenticate", "Bearer realm=\"relay\"")))
            }
            PlayRefusalCode::Forbidden => ((403, "Forbidden"), None),
            PlayRefusalCode::Failed => ((503, "Service Unavailable"), Some(("Retry-After", "1"))),
        };
        let sentence = format!("{}.", refusal.description.trim_end_matches('.'));
        self.answer(status, more.as_slice(), sentence);
    }

    /// The stream is to be had elsewhere: 302 (RFC 9110 section 15.4.3). Over a WebSocket it is
    /// refused, since browsers follow none when they open one.
    pub fn redirect_play(&mut self, refusal: &PlayRefusal, to: &Redirect) {
        if self.request.websocket.is_some() {
            return self.reject_play(refusal);
        }
        if self.state != State::Asked {
            return;
        }
        let sentence =
            format!("{}; play it from {}.", refusal.description.trim_end_matches('.'), to.shown);
        let fields = [("Location", &*to.url), ("Cache-Control", "no-store")];
        self.answer((302, "Found"), &fields, sentence);
    }

    /// Answers with a sentence instead of a stream.
    fn answer(&mut self, status: (u16, &str), more: &[(&str, &str)], sentence: String) {
        let keeps_alive = self.request.keeps_alive;
        let mut fields = vec![("Connection", persistence(keeps_alive))];
        fields.extend(more);
        fields.extend(self.cors.fields(self.request.origin.as_deref()));
        let mut answer = plain_response(status, &fields, &sentence);
        if self.request.head_only {
            // What would follow is told, and does not follow.
            answer.truncate(answer.len() - sentence.len() - 1);
        }
        self.output.push_back(answer);
        self.state = if keeps_alive { State::Answered } else { State::Closing };
        self.refusal = Some(sentence);
    }

    /// The stream is gone for good.
    pub fn end(&mut self) {
        self.close(1000);
    }

    /// Takes all that the client says.
    ///
    /// # Errors
    /// When the client broke the protocol of WebSockets, or says more than it may.
    pub fn receive(&mut self, input: &mut &[u8], now: Duration) -> Result<(), SessionError> {
        if self.request.websocket.is_none() {
            self.said = self.said.saturating_add(input.len());
            *input = &[];
            let limit = self.limits.flv_input_bytes_max;
            return if self.said > limit {
                Err(SessionError::TooTalkative { limit })
            } else {
                Ok(())
            };
        }
        while self.state == State::Playing {
            let frame = match self.frames.next(input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.close(error.status());
                    return Err(error.into());
                }
            };
            if !self.messages.take(now) {
                self.close(1008);
                return Err(SessionError::TooManyMessages { limit: self.messages.most });
            }
            match frame {
                ClientFrame::Ping(payload) => {
                    if self.pings.take(now) {
                        self.output.push_back(frame_of(Opcode::Pong, &payload));
                    }
                }
                ClientFrame::Close(status) => self.close(status.unwrap_or(1000)),
                ClientFrame::Other => {}
            }
        }
        *input = &[];
        Ok(())
    }

    /// Judges whether the next request takes too long, at the latest `connect_timeout` after it was
    /// first asked.
    ///
    /// # Errors
    /// [`SessionError::RequestTimeout`].
    pub fn check_deadline(&mut self, limits: &Limits, now: Duration) -> Result<(), SessionError> {
        if self.state != State::Answered {
            return Ok(());
        }
        let since = *self.answered.get_or_insert(now);
        if now.saturating_sub(since) >= limits.connect_timeout {
            return Err(SessionError::RequestTimeout);
        }
        Ok(())
    }

    /// What is to be sent, in order.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.output.pop_front()
    }

    /// Bytes held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let request = &self.request;
        let address = &request.stream.address;
        let texts = request.client.capacity()
            + request.page.capacity()
            + address.query.capacity()
            + address.host.capacity();
        size_of::<Self>() + texts + self.output.capacity() * size_of::<Bytes>()
    }

    /// Says goodbye over a WebSocket, and ends. Clients may not be sent every status, so what they
    /// said is not simply said back.
    fn close(&mut self, status: u16) {
        if self.state == State::Playing && self.request.websocket.is_some() {
            let sendable = matches!(status, 1000..=1003 | 1007..=1011 | 3000..=4999);
            let status = if sendable { status } else { 1000 };
            self.output.push_back(frame_of(Opcode::Close, &status.to_be_bytes()));
        }
        self.state = State::Closing;
    }
}

fn frame_of(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    write_header(&mut out, opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}
