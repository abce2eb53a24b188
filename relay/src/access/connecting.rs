//! What is judged when a client connects: whether it has to prove to be a user first.
//!
//! A password can only be asked for now, when the stream is not named yet and whoever connects may
//! be a player. So it is asked of encoders, which say that they are some, unless a rule for their
//! address lets them in without or they show a secret already; and of whoever offers a user.

use std::net::IpAddr;

use super::authmod::{self, Answered, Asking, Method, Step};
use super::guesses::network;
use super::parameter::raw_parameter;
use super::users::Users;
use super::{Login, Reason};

/// Somebody who connects.
#[derive(Clone, Copy)]
pub struct Connecting<'a> {
    /// The application, clean and without query.
    pub app: &'a str,
    /// The merged query of app and tcUrl. May carry secrets.
    pub query: &'a str,
    /// Whether the client says that it came to publish.
    pub is_encoder: bool,
    /// Where the peer is.
    pub peer: IpAddr,
    /// Whether many share that address, so that a client may well come from another one next time.
    pub stands_for_many: bool,
    /// Seconds since 1970.
    pub unix: u64,
    /// Something that differs each time.
    pub chance: u64,
    /// Whether every node with the same file of users takes the answer to what this one asks.
    pub any_node: bool,
    /// Whether this address has shown too many wrong secrets of late.
    pub is_guessing: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectJudgement {
    /// It may connect, and perhaps proved to be a user.
    Accepted(Option<Login>),
    /// It is asked this, by a refusal, and comes back with the answer.
    Challenged(String),
    /// It may not, for this reason and with this description.
    Refused(Reason, String),
}

/// The user that a query of connect names, escaped as it came; empty without one.
#[must_use]
pub fn claimed_user(query: &str) -> &str {
    raw_parameter(query, "user").unwrap_or_default()
}

/// Parameters that show a secret of another kind.
const SECRETS: &[&str] = &["key", "signature", "token", "jwt"];

impl Connecting<'_> {
    /// Asks for a user, or judges the answer, by the files of users among the rules; `is_let_in`
    /// says whether a rule that needs no secret does.
    pub(super) fn judge(
        &self,
        files: &[(&Users, Method)],
        is_let_in: bool,
        answered: &mut Answered,
    ) -> ConnectJudgement {
        let user = claimed_user(self.query);
        let knows = |(users, _): &&(&Users, Method)| users.challenged(user).1.is_some();
        let Some((users, method)) = files.iter().find(knows).or(files.first()) else {
            return ConnectJudgement::Accepted(None);
        };
        let offers = raw_parameter(self.query, "authmod").is_some();
        if offers && self.is_guessing {
            let why = Reason::Guessing.text(super::Action::Publish).to_owned();
            return ConnectJudgement::Refused(Reason::Guessing, why);
        }
        let Self { query, app, unix, chance, any_node, .. } = *self;
        let place = (!self.stands_for_many).then(|| network(self.peer));
        let asking = Asking { app, place, unix, chance, any_node };
        match authmod::step(users, query, &asking, answered) {
            Step::Ask(question) => ConnectJudgement::Challenged(question),
            Step::Proved(login) => ConnectJudgement::Accepted(Some(login)),
            Step::Failed(why) => ConnectJudgement::Refused(Reason::WrongPassword, why),
            Step::None => {
                let shows = |name: &&str| raw_parameter(query, name).is_some();
                if self.is_encoder && !is_let_in && !SECRETS.iter().any(shows) {
                    ConnectJudgement::Challenged(method.need())
                } else {
                    ConnectJudgement::Accepted(None)
                }
            }
        }
    }
}
