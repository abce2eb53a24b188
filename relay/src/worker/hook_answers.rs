//! Verdicts of hooks come back: sessions go on, or are refused, and ends are told that had waited
//! for them.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::access::Permit;
use super::connection::Connection;
use super::elsewhere::redirect;
use super::hooks::Asked;
use super::labels::{CloseReason, RefuseReason};
use super::outside_url::OutsideRule;
use super::verdicts::{Answer, Verdict};
use crate::access::Action;
use crate::limits::Limits;
use crate::reactor::ConnectionKey;
use crate::session::{
    ConnectRefusal, ConnectRefusalCode, PlayRefusal, PlayRefusalCode, PublishRefusal,
    PublishRefusalCode,
};
use crate::wire::stream_name::StreamAddress;

/// Verdicts heard in one turn: each may begin a publish or a play.
const ANSWERS_PER_TURN: usize = 64;

/// Why a hook keeps somebody out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HookRefusal {
    /// It said no.
    Refused,
    /// It said nothing usable.
    Failed,
    /// It named another server, where players may go by this URL.
    Elsewhere(Option<String>),
    /// It named what can be no name.
    BadName,
    /// It sends a stream on to, or has it fetched from, what can be no server.
    BadUrl,
}

impl HookRefusal {
    /// How it is counted.
    pub(super) fn reason(&self) -> RefuseReason {
        match self {
            Self::Refused => RefuseReason::Hook,
            Self::Failed | Self::BadName | Self::BadUrl => RefuseReason::HookFailed,
            Self::Elsewhere(_) => RefuseReason::HookElsewhere,
        }
    }

    /// What the client is told.
    pub(super) fn description(&self) -> &'static str {
        match self {
            Self::Refused => "The back end refused",
            Self::Failed => "The back end gave no answer",
            Self::BadName => "The back end gave a name that cannot be",
            Self::BadUrl => "The back end gave a URL that cannot be",
            Self::Elsewhere(Some(_)) => "The back end named another server",
            Self::Elsewhere(None) => "The back end named another server, which is not supported",
        }
    }
}

impl Worker {
    /// Handles the verdicts that have come.
    pub(super) fn hear_verdicts(&mut self, now: Duration) {
        for _ in 0..ANSWERS_PER_TURN {
            let Some(answer) = self.queries.next_answer() else { return };
            self.hear_verdict(answer, now);
        }
    }

    fn hear_verdict(&mut self, answer: Answer, now: Duration) {
        let Answer { key, number, verdict, .. } = answer;
        match verdict {
            Verdict::End => return self.end_by_hook(key, number, now),
            Verdict::Holds | Verdict::Heard | Verdict::Unheard => {
                return self.hear_again(key, number, &verdict, now);
            }
            _ => {}
        }
        if let Some(orphan) = self.hooks.orphan(number) {
            let began = verdict.began();
            self.notify(orphan.ended.filter(|_| began));
            self.notify(orphan.closed.filter(|_| began || !orphan.of_connect));
            return;
        }
        self.work(key, now, |worker, connection| {
            let Some(hooked) = &mut connection.hooked else { return };
            let Some((_, asked)) = hooked.asked.take_if(|(asked, _)| *asked == number) else {
                return;
            };
            // From here on the registrar's time runs, not the back end's.
            connection.asked_since = Some(now);
            match asked {
                Asked::Connect => worker.hear_of_connect(connection, verdict, now),
                Asked::Entry(waiting) => worker.hear_of_entry(connection, *waiting, verdict, now),
                Asked::Stream(permit) => {
                    let (action, stream) = (permit.action, permit.request.message_stream);
                    match heard(connection, number, *permit, verdict, &worker.limits) {
                        Ok(permit) => worker.permitted(connection, permit),
                        Err(why) => worker.refuse_by_hook(connection, action, stream, why),
                    }
                }
            }
            if connection.speech.is_flv() {
                // It may have asked for something else already.
                worker.resume(connection, now);
            }
        });
    }

    pub(super) fn refuse_connect_by_hook(&mut self, connection: &mut Connection, why: HookRefusal) {
        self.cells.refused.at(why.reason()).increment();
        let (id, peer, reason) = (connection.id, connection.peer, why.reason().label());
        let app = connection.speech.client().map_or("-", |client| &client.app);
        tracing::warn!(%id, %peer, app, reason, "connect refused");
        let description = why.description().into();
        let code = ConnectRefusalCode::Rejected;
        connection.speech.reject_connect(&ConnectRefusal { code, description });
    }

    /// A publish or play is kept out by its hook.
    pub(super) fn refuse_by_hook(
        &mut self,
        connection: &mut Connection,
        action: Action,
        message_stream: u32,
        why: HookRefusal,
    ) {
        let description = why.description().into();
        match action {
            Action::Publish => {
                let refusal = PublishRefusal { code: PublishRefusalCode::Denied, description };
                self.reject_publish(connection, message_stream, why.reason(), &refusal);
            }
            Action::Play => {
                let reason = why.reason();
                let refusal = PlayRefusal { code: PlayRefusalCode::Forbidden, description };
                let HookRefusal::Elsewhere(Some(to)) = why else {
                    return self.reject_play(connection, message_stream, reason, &refusal);
                };
                self.cells.players_redirected.increment();
                let to = redirect(&to, connection);
                self.redirect_play(connection, message_stream, reason, (&refusal, &to));
            }
        }
    }

    /// A back end that was told that a stream goes on, or asked again, wants it to end.
    fn end_by_hook(&mut self, key: ConnectionKey, number: u64, now: Duration) {
        self.work(key, now, |worker, connection| {
            let Some(hooked) = &connection.hooked else { return };
            let mut streams = hooked.streams.iter().map(|hooked| &hooked.stream);
            if streams.any(|stream| stream.number == number) {
                worker.end_session(connection, CloseReason::Hook, "The back end ended it", now);
            }
        });
    }
}

/// The publish or play as it may go on: as it was asked for, or under the name that its hook gave;
/// or why it may not.
fn heard(
    connection: &mut Connection,
    number: u64,
    mut permit: Permit,
    verdict: Verdict,
    limits: &Limits,
) -> Result<Permit, HookRefusal> {
    let (mut told, mut refusal, mut forward) = (false, None, None);
    match verdict {
        Verdict::Go { told: yes } => told = yes,
        Verdict::Rename { to, told: yes } => {
            told = yes;
            let app = permit.request.address.name.app().as_bytes();
            match StreamAddress::resolve(app, b"", to.as_bytes(), limits) {
                Ok(address) => permit.grant.name = Some(address.name),
                Err(_) => refusal = Some(HookRefusal::BadName),
            }
        }
        Verdict::Elsewhere { to } => {
            let plays = permit.action == Action::Play;
            refusal = Some(HookRefusal::Elsewhere(plays.then_some(to)));
        }
        Verdict::Forward { to, told: yes } => {
            told = yes;
            match OutsideRule::forward(permit.name().as_str(), &to) {
                Ok(rule) => forward = Some(Arc::new(rule)),
                Err(_) => refusal = Some(HookRefusal::BadUrl),
            }
        }
        Verdict::Refused => refusal = Some(HookRefusal::Refused),
        _ => refusal = Some(HookRefusal::Failed),
    }
    if let Some(hooked) = &mut connection.hooked {
        if !told && refusal.is_some() {
            hooked.forget(number);
        } else if let Some(stream) = hooked.stream(number) {
            // Who was let in by a remembered verdict, or without one, is asked about later.
            stream.told = told;
        }
        let message_stream = permit.request.message_stream;
        hooked.forwards.extend(forward.map(|rule| (message_stream, rule)));
    }
    refusal.map_or(Ok(permit), Err)
}
