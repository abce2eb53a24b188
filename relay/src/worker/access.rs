//! Permission: what a client may do is judged here, before its name is looked up.
//!
//! Every publish and every play comes by [`Worker::ask_permission`] and leaves it granted, refused,
//! or waiting for an answer from elsewhere; while it waits its session takes no bytes. Rules are
//! judged in the `access` room; nothing of what a client shows is logged or kept longer than it
//! may have to be judged again.

use std::net::IpAddr;
use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::hook_answers::HookRefusal;
use super::hooks::HookStep;
use super::labels::RefuseReason;
use super::settings::Challenges;
use crate::access::{
    Action, ConnectJudgement, Connecting, Grant, Guesser, Inquiry, Judgement, Question, Reason,
    claimed_user,
};
use crate::session::{
    ConnectRefusal, ConnectRefusalCode, PlayRefusal, PlayRefusalCode, PublishRefusal,
    PublishRefusalCode, StreamRequest,
};
use crate::wire::stream_name::StreamName;

/// What was granted, and to what request.
pub(super) struct Permit {
    pub(super) action: Action,
    pub(super) request: StreamRequest,
    pub(super) grant: Grant,
}

impl Permit {
    /// The stream's name; not always the one that was asked for.
    pub(super) fn name(&self) -> &StreamName {
        self.grant.name.as_ref().unwrap_or(&self.request.address.name)
    }

    /// Itself, unless nobody has to know it any more: nearly every player's.
    pub(super) fn into_remembered(self) -> Option<Box<Self>> {
        (self.grant.until.is_some() || self.grant.key.is_some()).then(|| Box::new(self))
    }

    /// Bytes of memory that it takes up.
    pub(super) fn held_bytes(&self) -> usize {
        let address = &self.request.address;
        size_of::<Self>() + address.query.capacity() + address.host.capacity()
    }
}

impl Worker {
    /// A client wants to connect.
    pub(super) fn ask_to_connect(&mut self, connection: &mut Connection, now: Duration) {
        let looped = self.judge_loop(connection);
        if let Some(refusal) = looped.or_else(|| self.judge_connect(connection, now)) {
            if let Some(session) = connection.speech.rtmp() {
                session.reject_connect(&refusal);
            }
            return;
        }
        match self.hook_connect(connection) {
            HookStep::Go => connection.speech.accept_connect(),
            HookStep::Wait => {}
            HookStep::Failed => self.refuse_connect_by_hook(connection, HookRefusal::Failed),
        }
    }

    /// Where encoders have to prove a user and password, they do it when they connect: the refusal
    /// is the next question, or the last word.
    fn judge_connect(
        &mut self,
        connection: &mut Connection,
        now: Duration,
    ) -> Option<ConnectRefusal> {
        let peer = connection.peer.ip();
        let client = connection.speech.client()?;
        let app = &client.app;
        let settings = self.settings.app(app.split('/').next().unwrap_or_default());
        if !settings.publish.have_users() {
            return None;
        }
        let query = client.query();
        let asked = format!("{app}?{}", claimed_user(&query));
        let guesser = self.guesser(peer, &asked);
        let connecting = Connecting {
            app,
            query: &query,
            is_encoder: client.is_encoder,
            peer,
            stands_for_many: self.settings.stands_for_many(peer),
            unix: self.unix(now),
            chance: self.random.u64(..),
            any_node: self.settings.challenges == Challenges::AnyNode,
            is_guessing: self.shared.is_guessing(guesser, now, &self.limits),
        };
        let judge = |answered: &mut _| settings.publish.judge_connect(&connecting, answered);
        let description = match self.shared.with_answered(judge) {
            ConnectJudgement::Accepted(login) => {
                connection.login = login.map(Box::new);
                return None;
            }
            ConnectJudgement::Challenged(question) => {
                connection.challenged = true;
                question
            }
            ConnectJudgement::Refused(reason, description) => {
                if reason.is_wrong_secret() {
                    self.shared.count_guess(guesser, now, &self.limits);
                }
                let reason = RefuseReason::from(reason);
                self.cells.refused.at(reason).increment();
                let (id, reason) = (connection.id, reason.label());
                let user = shown_user(&query);
                tracing::warn!(%id, peer = %connection.peer, app, user, reason, "connect refused");
                description
            }
        };
        let code = ConnectRefusalCode::Rejected;
        Some(ConnectRefusal { code, description: description.into() })
    }

    /// Judges a publish or play that the node has room for, and goes on with it.
    pub(super) fn ask_permission(
        &mut self,
        connection: &mut Connection,
        action: Action,
        request: StreamRequest,
        now: Duration,
    ) {
        if let Some(request) = self.hook_entry(connection, action, request) {
            self.judge(connection, action, request, now);
        }
    }

    /// The same for who may be in that application.
    pub(super) fn judge(
        &mut self,
        connection: &mut Connection,
        action: Action,
        request: StreamRequest,
        now: Duration,
    ) {
        let judgement = self.authorise(connection, action, &request, now);
        self.follow(connection, action, request, judgement, now);
    }

    /// Goes on with what was judged.
    pub(super) fn follow(
        &mut self,
        connection: &mut Connection,
        action: Action,
        request: StreamRequest,
        judgement: Judgement,
        now: Duration,
    ) {
        match judgement {
            Judgement::Granted(grant) => {
                let permit = Permit { action, request, grant };
                self.tell_hook(connection, &permit, now);
                self.permitted(connection, permit);
            }
            Judgement::Ask(Question::Hook(grant)) => {
                self.ask_hook(connection, Permit { action, request, grant }, now);
            }
            Judgement::Refused(reason) => {
                self.not_permitted(connection, action, request.message_stream, reason);
            }
            Judgement::Ask(Question::Keys) => {
                self.wait_for_keys(connection, action, request, now);
            }
        }
    }

    /// What the rules of the application say to this request, now. Nothing is counted, logged or
    /// changed but the number of wrong secrets from the peer's address.
    pub(super) fn authorise(
        &mut self,
        connection: &Connection,
        action: Action,
        request: &StreamRequest,
        now: Duration,
    ) -> Judgement {
        self.authorise_now(connection, action, request, now, true)
    }

    /// The same; unless it may wait, what cannot be checked is refused.
    pub(super) fn authorise_now(
        &mut self,
        connection: &Connection,
        action: Action,
        request: &StreamRequest,
        now: Duration,
        may_wait: bool,
    ) -> Judgement {
        let peer = connection.peer.ip();
        // Without a key at its end, which is another one at each guess.
        let rules = self.settings.app(request.address.name.app()).rules(action);
        let guesser = self.guesser(peer, &rules.shown_name(&request.address));
        let inquiry = Inquiry {
            action,
            name: &request.address.name,
            query: &request.address.query,
            peer,
            login: connection.login.as_deref(),
            bearer: connection.speech.bearer(),
            fetched: &self.fetched_keys,
            unix: self.unix(now),
            is_guessing: self.shared.is_guessing(guesser, now, &self.limits),
            may_wait,
        };
        let verdict = rules.judge(&inquiry);
        if verdict.wrong_secret {
            self.shared.count_guess(guesser, now, &self.limits);
        }
        verdict.judgement
    }

    /// Who is counted when a wrong secret is shown: an address, or what is asked for from one that
    /// stands for many.
    fn guesser(&self, peer: IpAddr, asked: &str) -> Guesser {
        Guesser::new(peer, self.settings.stands_for_many(peer).then_some(asked))
    }

    /// The client may: its name comes next.
    pub(super) fn permitted(&mut self, connection: &mut Connection, permit: Permit) {
        match permit.action {
            Action::Publish => self.claim_name(connection, permit),
            Action::Play => self.want_stream(connection, permit),
        }
    }

    /// The client may not, and is told why.
    pub(super) fn not_permitted(
        &mut self,
        connection: &mut Connection,
        action: Action,
        message_stream: u32,
        reason: Reason,
    ) {
        let description = reason.text(action).into();
        let counted = RefuseReason::from(reason);
        match action {
            Action::Publish => {
                let refusal = PublishRefusal { code: PublishRefusalCode::Denied, description };
                self.reject_publish(connection, message_stream, counted, &refusal);
            }
            Action::Play => {
                let code = if reason.wants_credentials() {
                    PlayRefusalCode::Unauthorized
                } else {
                    PlayRefusalCode::Forbidden
                };
                let refusal = PlayRefusal { code, description };
                self.reject_play(connection, message_stream, counted, &refusal);
            }
        }
    }
}

/// The user that a client says it is, as far as a line has room for it.
fn shown_user(query: &str) -> &str {
    let user = claimed_user(query);
    user.char_indices().nth(SHOWN_USER_CHARS).map_or(user, |(end, _)| &user[..end])
}

/// Longest name of a user in a line of the log; those of the files of users are no longer.
const SHOWN_USER_CHARS: usize = 64;

impl From<Reason> for RefuseReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Nobody => Self::Nobody,
            Reason::Address => Self::Address,
            Reason::NoKey | Reason::WrongKey | Reason::PublishKey => Self::Key,
            Reason::NoSignature | Reason::WrongSignature => Self::Signature,
            Reason::NoToken | Reason::UnknownKey | Reason::WrongToken => Self::Token,
            Reason::NoPassword | Reason::WrongPassword => Self::Password,
            Reason::Unavailable => Self::Unavailable,
            Reason::User => Self::User,
            Reason::Scope => Self::Scope,
            Reason::OtherAddress => Self::SignedAddress,
            Reason::Issuer => Self::TokenIssuer,
            Reason::Audience => Self::TokenAudience,
            Reason::Undated => Self::TokenTimes,
            Reason::Expired | Reason::Early => Self::Expired,
            Reason::Guessing => Self::Guessing,
        }
    }
}
