//! What a connection speaks, as the rest of the worker sees it.
//!
//! Plain RTMP lies in the connection itself and costs a branch; everything else is behind a
//! pointer. Verdicts and notices go to whoever understands them.

use std::time::Duration;

use bytes::Bytes;

use super::carrier::Carrier;
use super::client::Client;
use super::flv;
use super::http::HttpFront;
use super::outside::OutsideFault;
use crate::limits::Limits;
use crate::reactor::ConnectionKey;
use crate::session::http_flv::{FlvRequest, FlvSession};
use crate::session::{
    ConnectRefusal, ConnectRequest, PlayRefusal, PublishEnd, PublishRefusal, Redirect,
    ServerSession, SessionError,
};
use crate::stream::ViewKind;
use crate::wire::stream_name::NameError;

/// What is spoken on a connection, inside its TLS if it has any.
pub(super) enum Speech {
    /// Its first bytes are yet to come.
    Unknown,
    /// RTMP.
    Rtmp(Box<ServerSession>),
    /// HTTP, between requests or within the head of one.
    Http(Box<HttpFront>),
    /// A player of FLV, over HTTP or a WebSocket.
    Flv(Box<FlvSession>),
    /// HTTP, with a request of a tunnel in hand.
    Carrier(Box<Carrier>),
    /// RTMP as a client, on a connection that we opened.
    Outside(Box<Client>),
}

impl Speech {
    /// Its RTMP session.
    pub(super) fn rtmp(&mut self) -> Option<&mut ServerSession> {
        match self {
            Self::Rtmp(session) => Some(session),
            Self::Unknown | Self::Http(_) | Self::Flv(_) | Self::Carrier(_) | Self::Outside(_) => {
                None
            }
        }
    }

    fn session(&self) -> Option<&ServerSession> {
        match self {
            Self::Rtmp(session) => Some(session),
            Self::Unknown | Self::Http(_) | Self::Flv(_) | Self::Carrier(_) | Self::Outside(_) => {
                None
            }
        }
    }

    /// A push or a pull.
    pub(super) fn outside_mut(&mut self) -> Option<&mut Client> {
        match self {
            Self::Outside(client) => Some(client),
            _ => None,
        }
    }

    /// Whether this is a connection that we opened.
    pub(super) fn is_outside(&self) -> bool {
        matches!(self, Self::Outside(_))
    }

    /// Whether it sends an answer of this tunnelled session.
    pub(super) fn answers(&self, session: ConnectionKey) -> bool {
        matches!(self, Self::Carrier(carrier) if carrier.answers(session))
    }

    /// Whether what it says goes inside requests that we make.
    pub(super) fn makes_requests(&self) -> bool {
        matches!(self, Self::Outside(client) if client.tunnel.is_some())
    }

    /// The message stream of a push or pull on its server.
    pub(super) fn outside_stream(&self) -> u32 {
        match self {
            Self::Outside(client) => client.session.message_stream(),
            _ => 0,
        }
    }

    /// What the client said about itself.
    pub(super) fn client(&self) -> Option<&ConnectRequest> {
        self.session()?.client()
    }

    /// What the client calls itself.
    pub(super) fn client_name(&self) -> &str {
        match self {
            Self::Flv(session) => &session.request().client,
            _ => self.client().map_or("", |client| &client.flash_ver),
        }
    }

    /// The token that the client showed in a header of its request. A secret.
    pub(super) fn bearer(&self) -> Option<&str> {
        match self {
            Self::Flv(session) => session.request().bearer.as_deref(),
            _ => None,
        }
    }

    /// What a player of FLV asked for.
    pub(super) fn flv_request(&self) -> Option<&FlvRequest> {
        match self {
            Self::Flv(session) => Some(session.request()),
            _ => None,
        }
    }

    /// Whether the client plays FLV, or would.
    pub(super) fn is_flv(&self) -> bool {
        matches!(self, Self::Flv(_))
    }

    /// Whether the client asks for a stream only to learn how it would be answered.
    pub(super) fn only_asks(&self) -> bool {
        matches!(self, Self::Flv(session) if session.request().head_only)
    }

    /// What a player on this message stream reads at first.
    pub(super) fn view(&self, message_stream: u32) -> ViewKind {
        match self {
            Self::Flv(session) => flv::view(session),
            Self::Outside(client) => client.view(),
            _ => ViewKind { message_stream, ..ViewKind::default() },
        }
    }

    /// Whether a verdict is outstanding, so that nothing more may be received.
    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Self::Rtmp(session) => session.is_waiting(),
            Self::Flv(session) => session.is_waiting(),
            Self::Outside(client) => client.waits,
            Self::Unknown | Self::Http(_) | Self::Carrier(_) => false,
        }
    }

    /// Whether the last word is said.
    pub(super) fn wants_close(&self) -> bool {
        match self {
            Self::Rtmp(session) => session.wants_close(),
            Self::Http(http) => http.wants_close(),
            Self::Flv(session) => session.wants_close(),
            Self::Outside(client) => client.done,
            Self::Unknown | Self::Carrier(_) => false,
        }
    }

    /// What the client was told when something was last refused.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Rtmp(session) => session.refusal(),
            Self::Http(http) => http.refusal(),
            Self::Flv(session) => session.refusal(),
            Self::Unknown | Self::Carrier(_) | Self::Outside(_) => None,
        }
    }

    /// Replies, in order.
    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        match self {
            Self::Rtmp(session) => session.take_output(),
            Self::Http(http) => http.take_output(),
            Self::Flv(session) => session.take_output(),
            Self::Outside(client) => client.take_output(),
            Self::Unknown | Self::Carrier(_) => None,
        }
    }

    /// Judges whether the peer of a connection accepted at `since` took too long.
    pub(super) fn check_deadline(
        &mut self,
        since: Duration,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), SessionError> {
        match self {
            Self::Rtmp(session) => session.check_deadline(now),
            Self::Http(http) => http.check_deadline(now),
            Self::Flv(session) => session.check_deadline(limits, now),
            Self::Carrier(carrier) => carrier.check_deadline(now),
            Self::Outside(client) => client.check_deadline(limits, now),
            Self::Unknown if now.saturating_sub(since) >= limits.connect_timeout => {
                Err(SessionError::HandshakeTimeout)
            }
            Self::Unknown => Ok(()),
        }
    }

    /// Bytes of unfinished messages.
    pub(super) fn partial_bytes(&self) -> usize {
        self.session().map_or(0, ServerSession::partial_bytes)
    }

    /// Bytes held besides unfinished messages.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Rtmp(session) => session.held_bytes(),
            Self::Http(http) => http.held_bytes(),
            Self::Flv(session) => session.held_bytes(),
            Self::Carrier(carrier) => carrier.held_bytes(),
            Self::Outside(client) => client.held_bytes(),
            Self::Unknown => 0,
        }
    }

    /// A connect is granted.
    pub(super) fn accept_connect(&mut self) {
        if let Self::Rtmp(session) = self {
            session.accept_connect();
        }
    }

    /// Or refused.
    pub(super) fn reject_connect(&mut self, refusal: &ConnectRefusal) {
        if let Self::Rtmp(session) = self {
            session.reject_connect(refusal);
        }
    }

    /// The application is another one than the client said. Only RTMP has one of its own.
    pub(super) fn rename_app(&mut self, app: &str) -> Result<(), NameError> {
        match self {
            Self::Rtmp(session) => session.rename_app(app),
            _ => Ok(()),
        }
    }

    /// Whether a play is granted.
    pub(super) fn accept_play(&mut self, message_stream: u32) {
        match self {
            Self::Rtmp(session) => session.accept_play(message_stream),
            Self::Flv(session) => session.accept_play(),
            Self::Unknown | Self::Http(_) | Self::Carrier(_) | Self::Outside(_) => {}
        }
    }

    /// Or refused.
    pub(super) fn reject_play(&mut self, message_stream: u32, refusal: &PlayRefusal) {
        match self {
            Self::Rtmp(session) => session.reject_play(message_stream, refusal),
            Self::Flv(session) => session.reject_play(refusal),
            Self::Outside(client) => client.play_refused(refusal),
            Self::Unknown | Self::Http(_) | Self::Carrier(_) => {}
        }
    }

    /// Or sent elsewhere.
    pub(super) fn redirect_play(
        &mut self,
        message_stream: u32,
        refusal: &PlayRefusal,
        to: &Redirect,
    ) {
        match self {
            Self::Rtmp(session) => session.redirect_play(message_stream, refusal, to),
            Self::Flv(session) => session.redirect_play(refusal, to),
            Self::Unknown | Self::Http(_) | Self::Carrier(_) | Self::Outside(_) => {}
        }
    }

    /// A play is over though its stream goes on.
    pub(super) fn play_ended(&mut self, message_stream: u32, why: &str) {
        match self {
            Self::Rtmp(session) => session.play_ended_by_server(message_stream, why),
            Self::Flv(session) => session.end(),
            Self::Outside(client) => client.finish(),
            Self::Unknown | Self::Http(_) | Self::Carrier(_) => {}
        }
    }

    /// A waiting player's stream is published.
    pub(super) fn publish_notify(&mut self, message_stream: u32) {
        if let Self::Rtmp(session) = self {
            session.publish_notify(message_stream);
        }
    }

    /// A player's stream is gone for good.
    pub(super) fn unpublish_notify(&mut self, message_stream: u32) {
        match self {
            Self::Rtmp(session) => session.unpublish_notify(message_stream),
            Self::Flv(session) => session.end(),
            Self::Outside(client) => {
                client.ends(OutsideFault::Ended, "its stream ended");
                client.finish();
            }
            Self::Unknown | Self::Http(_) | Self::Carrier(_) => {}
        }
    }

    /// A publish is granted.
    pub(super) fn accept_publish(&mut self, message_stream: u32) {
        if let Self::Rtmp(session) = self {
            session.accept_publish(message_stream);
        }
    }

    /// Or refused.
    pub(super) fn reject_publish(&mut self, message_stream: u32, refusal: &PublishRefusal) {
        match self {
            Self::Rtmp(session) => session.reject_publish(message_stream, refusal),
            Self::Outside(client) => client.publish_refused(refusal),
            _ => {}
        }
    }

    /// Or sent elsewhere.
    pub(super) fn redirect_publish(
        &mut self,
        message_stream: u32,
        refusal: &PublishRefusal,
        to: &Redirect,
    ) {
        if let Self::Rtmp(session) = self {
            session.redirect_publish(message_stream, refusal, to);
        }
    }

    /// Asks the client to connect again. False: it never said that it understands.
    pub(super) fn reconnect_request(&mut self, tc_url: Option<&str>) -> bool {
        match self {
            Self::Rtmp(session) => session.reconnect_request(tc_url),
            _ => false,
        }
    }

    /// A publish is over, and not because the client said so.
    pub(super) fn publish_ended(&mut self, message_stream: u32, reason: PublishEnd) {
        match self {
            Self::Rtmp(session) => session.publish_ended_by_server(message_stream, reason),
            Self::Outside(client) => {
                if reason == PublishEnd::TakenOver {
                    client.ends(OutsideFault::Takeover, "another publisher took it over");
                }
                client.finish();
            }
            _ => {}
        }
    }
}
