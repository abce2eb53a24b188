//! The client's side of a connection that carries a push or a pull: RTMP, perhaps inside HTTP.
//!
//! ```text
//!   socket -> [TLS] -> [answers of a tunnel] -> ClientSession -> events
//!   log, ClientSession -> [requests of a tunnel] -> [TLS] -> socket
//! ```
//!
//! What follows from the events is in `outlet.rs`. Without a tunnel media goes from the log to the
//! socket as to any player. With one it waits in the tunnel for the next request: at most
//! [`TUNNEL_BYTES`] and the batch that passes them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::outlet_tunnel::Way;
use super::outside::{OutsideEnd, OutsideFault, OutsideKind};
use crate::limits::Limits;
use crate::reactor::ConnectionKey;
use crate::session::{
    ClientSession, PlayRefusal, PublishRefusal, SessionError, TunnelClient, TunnelError,
};
use crate::stream::{ViewFormat, ViewKind};
use crate::wire::message::MediaMessage;

/// RTMP bytes that wait in a tunnel before no more are taken from the log.
pub(super) const TUNNEL_BYTES: usize = 64 << 10;

/// One connection to another server.
pub(super) struct Client {
    /// The order that it carries out.
    pub(super) id: u64,
    pub(super) kind: OutsideKind,
    /// The stream here.
    pub(super) name: Arc<str>,
    /// It takes the place of another connection of the same stream.
    pub(super) replaces: bool,
    /// What the server was told and nobody else is to read, longest first.
    pub(super) secrets: Vec<String>,
    pub(super) session: ClientSession,
    pub(super) tunnel: Option<Box<TunnelClient>>,
    /// Of one inside HTTP: where its connections go.
    pub(super) way: Option<Box<Way>>,
    /// The one that carries it now, if one does.
    pub(super) socket: Option<ConnectionKey>,
    /// The answer of the registrar is outstanding.
    pub(super) waits: bool,
    /// The first message of a pull, while its name is asked for.
    pub(super) held: Option<Box<MediaMessage>>,
    /// RTMP bytes that came behind it out of a tunnel.
    pub(super) unread: Vec<u8>,
    /// Why it ends, once that is known.
    pub(super) end: Option<OutsideEnd>,
    /// The last word is said.
    pub(super) done: bool,
    heard: Duration,
    /// When somebody will look at its tunnel, unless something happens before.
    pub(super) timer: Option<Duration>,
    /// It is on the list of those whose tunnel is to be seen to.
    pub(super) noted: bool,
}

impl Client {
    pub(super) fn new(
        (id, kind, name): (u64, OutsideKind, Arc<str>),
        session: ClientSession,
        now: Duration,
    ) -> Self {
        Self {
            id,
            kind,
            name,
            replaces: false,
            secrets: Vec::new(),
            session,
            tunnel: None,
            way: None,
            socket: None,
            waits: false,
            held: None,
            unread: Vec::new(),
            end: None,
            done: false,
            heard: now,
            timer: None,
            noted: false,
        }
    }

    /// It lives inside HTTP, and `socket` carries it.
    pub(super) fn live_in(&mut self, tunnel: TunnelClient, way: Way, socket: ConnectionKey) {
        (self.tunnel, self.way) = (Some(Box::new(tunnel)), Some(Box::new(way)));
        self.socket = Some(socket);
    }

    /// What a push reads of its stream.
    pub(super) fn view(&self) -> ViewKind {
        ViewKind {
            message_stream: self.session.message_stream(),
            format: ViewFormat::Published,
            ..ViewKind::default()
        }
    }

    /// Notes why it ends; what was known before stays.
    pub(super) fn ends(&mut self, fault: OutsideFault, detail: impl Into<String>) {
        if self.end.is_none() {
            self.end = Some(OutsideEnd { fault, detail: detail.into(), redirect: None });
        }
    }

    /// What a server wrote, without the secrets that it may have repeated. Salt and challenge of a
    /// password that it asks for are left, since they are answered by it.
    pub(super) fn hide(&self, text: &str) -> String {
        let hidden = |text: String, secret: &String| text.replace(secret.as_str(), "***");
        self.secrets.iter().fold(text.to_owned(), hidden)
    }

    /// A server sends us there: what stands behind the first segment of the application is nobody
    /// else's business either, though the server may say it in words.
    pub(super) fn hide_way(&mut self, tc_url: &str) {
        let rest = tc_url.split_once("://").map_or(tc_url, |(_, rest)| rest);
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        self.secrets.extend(secrets("", path));
    }

    /// Says goodbye to the server. Nothing more is to be said.
    pub(super) fn finish(&mut self) {
        self.session.finish();
        self.done = true;
    }

    /// It is not let publish or play here.
    pub(super) fn refused_here(&mut self, fault: OutsideFault, detail: &str) {
        self.waits = false;
        self.ends(fault, detail);
        self.finish();
    }

    /// See [`Self::refused_here`].
    pub(super) fn play_refused(&mut self, refusal: &PlayRefusal) {
        let ended = matches!(refusal.code, crate::session::PlayRefusalCode::StreamNotFound);
        let fault = if ended { OutsideFault::Ended } else { OutsideFault::Limit };
        self.refused_here(fault, &refusal.description);
    }

    /// See [`Self::refused_here`].
    pub(super) fn publish_refused(&mut self, refusal: &PublishRefusal) {
        let taken = matches!(refusal.code, crate::session::PublishRefusalCode::BadName);
        let fault = if taken { OutsideFault::NameTaken } else { OutsideFault::Limit };
        self.refused_here(fault, &refusal.description);
    }

    /// Something came.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// What it has to say besides media.
    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        let output = self.session.take_output()?;
        match &mut self.tunnel {
            Some(tunnel) => {
                tunnel.push(output);
                None
            }
            None => Some(output),
        }
    }

    /// The next request of its tunnel, if one is due.
    pub(super) fn take_request(&mut self, now: Duration) -> Option<Vec<Bytes>> {
        let tunnel = self.tunnel.as_mut().filter(|_| self.socket.is_some())?;
        if self.done && tunnel.waiting_bytes() == 0 {
            tunnel.finish();
        }
        tunnel.take_request(now)
    }

    /// When its tunnel has something to do by itself.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.tunnel.as_ref().filter(|_| self.socket.is_some())?.next_due()
    }

    /// Whether its tunnel takes more media.
    pub(super) fn takes_media(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.waiting_bytes() < TUNNEL_BYTES)
    }

    /// Gives media to its tunnel.
    pub(super) fn push_media(&mut self, media: impl Iterator<Item = Bytes>) {
        if let Some(tunnel) = &mut self.tunnel {
            media.for_each(|bytes| tunnel.push(bytes));
        }
    }

    /// Judges whether the server takes too long.
    pub(super) fn check_deadline(
        &mut self,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), SessionError> {
        self.session.check_deadline(now)?;
        if let Some(tunnel) = &self.tunnel {
            tunnel.check_deadline(now).map_err(|_| SessionError::AnswerTimeout)?;
        }
        let silent = now.saturating_sub(self.heard) >= limits.publisher_silence_max;
        if self.kind == OutsideKind::Pull && silent && !self.waits {
            return Err(SessionError::PublisherSilent);
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        let waiting = self.tunnel.as_ref().map_or(0, |tunnel| tunnel.held_bytes());
        let held = self.held.as_ref().map_or(0, |message| message.payload_bytes());
        size_of::<Self>() + waiting + held + self.unread.capacity()
    }
}

/// What a server wrote, for the log: without the salt and challenge of a password.
pub(super) fn without_challenge(text: &str) -> &str {
    text.find(ASKS).map_or(text, |at| &text[..at + ASKS.len()])
}

/// What a server writes before a salt and a challenge (Adobe's and Limelight's authentication).
const ASKS: &str = "reason=needauth";

/// What nobody else is to read of a stream's name on another server, and of the application there:
/// the whole of it, and its parts.
pub(super) fn secrets(stream: &str, app: &str) -> Vec<String> {
    let (name, query) = stream.split_once('?').unwrap_or((stream, ""));
    let (app_path, app_query) = app.split_once('?').unwrap_or((app, ""));
    // A redirect may have put a token there.
    let segments = app_path.split('/').skip(1);
    let values = query.split('&').chain(app_query.split('&'));
    // Which way a server asks for a password is none, and has to be read in its answers.
    let values =
        values.filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key != "authmod");
    let values = values.map(|(_, value)| value);
    let all = [stream, name, query, app_query].into_iter().chain(values).chain(segments);
    // What is shorter keeps nothing secret, and stands in words.
    let mut all: Vec<String> = all.filter(|text| text.len() >= 4).map(str::to_owned).collect();
    all.sort_by_key(|text| std::cmp::Reverse(text.len()));
    all
}

/// What a failure of the session is counted as.
pub(super) fn fault_of(error: &SessionError) -> OutsideFault {
    match error {
        SessionError::Refused { description, .. } if description.starts_with(LOOP) => {
            OutsideFault::Loop
        }
        SessionError::Refused { .. } => OutsideFault::Refused,
        error => match error.reason() {
            "answer_timeout" | "publisher_silent" => OutsideFault::Timeout,
            _ => OutsideFault::Protocol,
        },
    }
}

/// What a relay that finds its own mark in a connect answers begins with this.
pub(super) const LOOP: &str = "loop: ";

/// What a failure of the tunnel is counted as.
pub(super) fn fault_of_tunnel(error: &TunnelError) -> (OutsideFault, String) {
    (OutsideFault::Tunnel, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_whole_and_its_parts() {
        fn check(stream: &str, app: &str, expected: &[&str]) {
            assert_eq!(secrets(stream, app), expected, "{stream} {app}");
        }
        check("key1-2345", "live", &["key1-2345"; 2]);
        check("a?t=12345", "live", &["a?t=12345", "t=12345", "12345"]);
        let app = "live?authmod=adobe&response=abcd";
        check("a", app, &["authmod=adobe&response=abcd", "abcd"]);
        check("a", "live", &[]);
        check("a", "live/tokentoken", &["tokentoken"]);
    }
}
