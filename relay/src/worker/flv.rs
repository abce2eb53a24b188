//! Players of FLV over HTTP and WebSockets: they ask, play and leave as players of RTMP do, and
//! read a view of the stream.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::http::HttpFront;
use super::labels::{RefuseReason, Transport};
use super::receive::close_reason;
use super::speech::Speech;
use crate::session::http::{RequestHead, plain_response};
use crate::session::http_flv::{FlvRequest, FlvSession, Only, RequestError, preflight};
use crate::stream::{FlvForm, ViewKind, ViewTracks};

impl Worker {
    /// Answers a GET, HEAD or OPTIONS of a path that ends in `.flv`.
    pub(super) fn ask_for_flv(
        &mut self,
        connection: &mut Connection,
        head: &RequestHead,
        now: Duration,
    ) {
        let cors = Arc::clone(&self.settings.cors);
        if head.method == "OPTIONS" {
            self.set_transport(connection, Transport::Flv);
            // Its body would be read as the next request.
            if head.body_bytes() != Some(0) {
                return self.refuse_flv(connection, RequestError::Body);
            }
            let next = head.keeps_alive().then(|| now + self.limits.connect_timeout);
            if let Speech::Http(http) = &mut connection.speech {
                http.answer(preflight(head, &cors), next);
            }
            return;
        }
        let request = match FlvRequest::read(head, &cors, &self.limits) {
            Ok(request) => request,
            Err(error) => {
                self.set_transport(connection, Transport::Flv);
                return self.refuse_flv(connection, error);
            }
        };
        let over = if request.websocket.is_some() { Transport::WsFlv } else { Transport::Flv };
        self.set_transport(connection, over);
        // Answers to requests before this one.
        connection.collect_replies();
        let stream = request.stream.clone();
        let session = FlvSession::new(request, cors, Arc::clone(&self.limits));
        connection.speech = Speech::Flv(Box::new(session));
        self.ask_to_play(connection, stream, now);
    }

    fn refuse_flv(&mut self, connection: &mut Connection, error: RequestError) {
        let Speech::Http(http) = &mut connection.speech else { return };
        let mut fields = vec![("Connection", "close")];
        if error == RequestError::WebSocketVersion {
            fields.push(("Upgrade", "websocket"));
            fields.push(("Sec-WebSocket-Version", "13"));
        }
        let sentence = format!("Refused: {error}.");
        http.refuse_with(plain_response(error.status(), &fields, &sentence), sentence);
        let reason = match error {
            RequestError::Name(_) => RefuseReason::Name,
            RequestError::Origin => RefuseReason::Origin,
            _ => RefuseReason::HttpMalformed,
        };
        self.cells.refused.at(reason).increment();
    }

    /// What a player of FLV says. After an answer that was no stream it is asked again what it
    /// wants.
    pub(super) fn hear_flv(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        let Speech::Flv(session) = &mut connection.speech else { return };
        if session.is_waiting() {
            // What follows a request is for whoever reads on after the verdict.
            return;
        }
        if session.is_answered() {
            let refusal = session.refusal().map(str::to_owned);
            connection.collect_replies();
            let deadline = now + self.limits.connect_timeout;
            let http = HttpFront::new(Arc::clone(&self.limits), deadline).told(refusal);
            connection.speech = Speech::Http(Box::new(http));
            return;
        }
        let Err(error) = session.receive(input, now) else { return };
        *input = &[];
        if session.wants_close() {
            tracing::debug!(id = %connection.id, %error, "player says what it may not");
            self.close_soon(connection, close_reason(&error), now);
        } else {
            self.close(connection, close_reason(&error), Some(&error), now);
        }
    }
}

/// What the player of such a session reads.
pub(super) fn view(session: &FlvSession) -> ViewKind {
    let request = session.request();
    let tracks = match request.only {
        Only::Both => ViewTracks::Both,
        Only::Audio => ViewTracks::AudioOnly,
        Only::Video => ViewTracks::VideoOnly,
    };
    let form = FlvForm { websocket: request.websocket.is_some(), extras: request.extras };
    ViewKind::flv(tracks, form)
}
