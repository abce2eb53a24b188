//! Hooks of connect: who is let into an application, and who enters one without having said so.
//!
//! A client of RTMP names its application when it connects, and is asked about then. One that named
//! none, and a player of FLV, which never connects, name it with their stream: the application's
//! `on_connect` is asked before that, so that nobody gets past it by another way of saying the
//! same.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::hook_answers::HookRefusal;
use super::hook_settings::HookSettings;
use super::hooks::{Asked, HookStep, Hooked, hooked, without_verdict};
use super::labels::HookName::{OnClose, OnConnect, OnDisconnect};
use super::verdicts::{Call, Question, Subject, Verdict};
use crate::access::Action;
use crate::session::StreamRequest;
use crate::wire::stream_name::StreamAddress;

impl Hooked {
    /// The connection was let into this application; `told` if its back end knows.
    fn enter(&mut self, app: &str, told: bool) {
        if self.client.app != app {
            app.clone_into(&mut Arc::make_mut(&mut self.client).app);
        }
        self.owes_close = told && self.settings.has_any(&[OnDisconnect, OnClose]);
        self.entered = Some(first_part(app).into());
    }
}

impl Worker {
    /// A client wants to connect.
    pub(super) fn hook_connect(&mut self, connection: &mut Connection) -> HookStep {
        let Some(client) = connection.speech.client() else { return HookStep::Go };
        let settings = Arc::clone(&self.settings.app(first_part(&client.app)).hooks);
        let owes_close = settings.has_any(&[OnDisconnect, OnClose]);
        let asks = settings.has(OnConnect);
        if !owes_close && !asks {
            return HookStep::Go;
        }
        hooked(connection, &settings, "").owes_close = owes_close && !asks;
        if !asks {
            return HookStep::Go;
        }
        match self.ask_of_connect(connection, &settings, Asked::Connect) {
            None => HookStep::Wait,
            Some(_) => without_verdict(&settings),
        }
    }

    /// A client wants to publish or play in an application: asks about that, unless it was let in
    /// there. `None` when there is something to wait for, or it is refused.
    pub(super) fn hook_entry(
        &mut self,
        connection: &mut Connection,
        action: Action,
        request: StreamRequest,
    ) -> Option<StreamRequest> {
        let app = request.address.name.app();
        let settings = Arc::clone(&self.settings.app(app).hooks);
        let asks = settings.has(OnConnect);
        let known = connection.hooked.as_ref();
        if known.is_some_and(|hooked| hooked.entered.as_deref() == Some(app)) {
            return Some(request);
        }
        if asks || connection.speech.is_flv() {
            self.leave_app(connection);
        }
        if !asks {
            return Some(request);
        }
        let hooked = hooked(connection, &settings, app);
        hooked.settings = Arc::clone(&settings);
        app.clone_into(&mut Arc::make_mut(&mut hooked.client).app);
        let asked = Asked::Entry(Box::new((action, request)));
        let unasked = self.ask_of_connect(connection, &settings, asked)?;
        let Asked::Entry(waiting) = unasked else { return None };
        match without_verdict(&settings) {
            HookStep::Failed => {
                let message_stream = waiting.1.message_stream;
                self.refuse_by_hook(connection, action, message_stream, HookRefusal::Failed);
                None
            }
            _ => Some(waiting.1),
        }
    }

    /// Puts the question; gives back what was to wait for the verdict when it cannot be put.
    fn ask_of_connect(
        &mut self,
        connection: &mut Connection,
        settings: &Arc<HookSettings>,
        asked: Asked,
    ) -> Option<Asked> {
        let Some(hooked) = &mut connection.hooked else { return Some(asked) };
        let question = Question { number: self.hooks.next_number(), stream: None };
        let number = question.number;
        if !self.put_question(OnConnect, settings, &hooked.client, question) {
            return Some(asked);
        }
        hooked.asked = Some((number, asked));
        None
    }

    /// The connection turns to another application: that of before hears of its end.
    fn leave_app(&mut self, connection: &mut Connection) {
        let (sent, received) = (connection.bytes_out, connection.bytes_in);
        let Some(hooked) = &mut connection.hooked else { return };
        hooked.entered = None;
        if std::mem::take(&mut hooked.owes_close) {
            let (settings, client) = (Arc::clone(&hooked.settings), Arc::clone(&hooked.client));
            let subject = Subject::Closed { after: None, sent, received };
            self.notify(Some(Call { settings, client, subject }));
        }
    }

    /// The verdict on connect.
    pub(super) fn hear_of_connect(
        &mut self,
        connection: &mut Connection,
        verdict: Verdict,
        now: Duration,
    ) {
        let heard = let_in(verdict).and_then(|(app, told)| {
            if let Some(app) = app {
                connection.speech.rename_app(&app).map_err(|_| HookRefusal::BadName)?;
            }
            Ok(told)
        });
        match heard {
            Ok(told) => {
                let app = connection.speech.client().map(|client| client.app.clone());
                if let Some(hooked) = &mut connection.hooked {
                    hooked.enter(&app.unwrap_or_default(), told);
                }
                connection.speech.accept_connect();
                self.resume(connection, now);
            }
            Err(refusal) => self.refuse_connect_by_hook(connection, refusal),
        }
    }

    /// The verdict on connect, of who waits for it with a publish or play.
    pub(super) fn hear_of_entry(
        &mut self,
        connection: &mut Connection,
        (action, mut request): (Action, StreamRequest),
        verdict: Verdict,
        now: Duration,
    ) {
        let heard = let_in(verdict).and_then(|(app, told)| {
            if let Some(app) = app {
                let stream = request.address.name.stream().as_bytes();
                let found = StreamAddress::resolve(app.as_bytes(), b"", stream, &self.limits);
                request.address.name = found.map_err(|_| HookRefusal::BadName)?.name;
            }
            Ok(told)
        });
        match heard {
            Ok(told) => {
                if let Some(hooked) = &mut connection.hooked {
                    hooked.enter(request.address.name.app(), told);
                }
                self.judge(connection, action, request, now);
            }
            Err(why) => self.refuse_by_hook(connection, action, request.message_stream, why),
        }
    }
}

/// Under which other name of the application, if under one, and whether its back end knows; or why
/// not.
fn let_in(verdict: Verdict) -> Result<(Option<String>, bool), HookRefusal> {
    match verdict {
        Verdict::Go { told } => Ok((None, told)),
        Verdict::Rename { to, told } => Ok((Some(to), told)),
        Verdict::Elsewhere { .. } | Verdict::Forward { .. } => Err(HookRefusal::Elsewhere(None)),
        Verdict::Refused => Err(HookRefusal::Refused),
        _ => Err(HookRefusal::Failed),
    }
}

/// The part of an application by which its settings are chosen.
fn first_part(app: &str) -> &str {
    app.split('/').next().unwrap_or_default()
}
