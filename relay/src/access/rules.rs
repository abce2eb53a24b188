//! The rules of one action in one application, as an operator writes them.
//!
//! A list of rules; any rule that grants suffices. A rule is one condition, or several with `and`
//! between them, all of which must hold:
//!
//! ```text
//! publish = ["private", "203.0.113.0/24 and key /etc/relay/stream-keys"]
//! ```

use std::fmt;
use std::sync::Arc;

use super::authmod::{Answered, Method};
use super::connecting::{ConnectJudgement, Connecting};
use super::network::{Network, is_private};
use super::parameter::parameter;
use super::signed::Secrets;
use super::stream_keys::StreamKeys;
use super::token::Tokens;
use super::users::Users;
use super::{Action, Grant, Inquiry, Judgement, KeyId, Question, Reason};
use crate::wire::stream_name::{StreamAddress, StreamName};

/// Reads a whole file of secrets, for [`Rules::parse`]; `Err` says in words why it cannot be read.
pub type ReadFile<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// Most rules in one list, and conditions in one rule.
const RULES_MAX: usize = 64;

/// Who may do one thing in one application. Cheap to clone. The default is [`Rules::private`].
#[derive(Clone, PartialEq, Eq)]
pub struct Rules(Arc<Vec<Rule>>);

/// A judgement, and whether a wrong secret was shown on the way to it. If it grants, none was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The answer.
    pub judgement: Judgement,
    /// To be counted, even when somebody else is asked.
    pub wrong_secret: bool,
}

/// Conditions that must all hold.
#[derive(PartialEq, Eq)]
struct Rule(Vec<Condition>);

#[derive(PartialEq, Eq)]
enum Condition {
    Everybody,
    Nobody,
    Private,
    Network(Network),
    Key(StreamKeys),
    Signed(Secrets),
    Token(Tokens),
    Password(Users, Method),
    Hook,
}

/// Why a list of rules is none, in words that continue "it must be ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RulesError(String);

/// What rules look like, for who wrote another one.
const FORMS: &str = "\"everybody\", \"nobody\", \"private\", an address or network such as \
    \"203.0.113.0/24\", \"key FILE\", \"signed FILE\", \"jwt RS256 FILE\", \"password FILE\", \"password FILE llnw\" \
    or \"hook\", or several of these with \"and\" between them";

impl Rules {
    /// Loopback and private networks, and nobody else.
    #[must_use]
    pub fn private() -> Self {
        Self(Arc::new(vec![Rule(vec![Condition::Private])]))
    }

    /// Everybody.
    #[must_use]
    pub fn everybody() -> Self {
        Self(Arc::new(vec![Rule(vec![Condition::Everybody])]))
    }

    /// Reads a list of rules, and with `read` the files that they name.
    ///
    /// # Errors
    /// Every rule that cannot be understood or whose file cannot be used.
    pub fn parse<'a>(
        rules: impl IntoIterator<Item = &'a str>,
        read: ReadFile<'_>,
    ) -> Result<Self, RulesError> {
        let (mut parsed, mut wrong) = (Vec::new(), Vec::new());
        for text in rules {
            match Rule::parse(text, read) {
                Ok(rule) => parsed.push(rule),
                Err(why) => wrong.push(why),
            }
        }
        if !wrong.is_empty() {
            return Err(RulesError(wrong.join(", and ")));
        }
        if parsed.is_empty() || parsed.len() > RULES_MAX {
            return Err(RulesError(format!(
                "a list of 1 to {RULES_MAX} rules such as [\"private\", \"203.0.113.0/24\"]"
            )));
        }
        Ok(Self(Arc::new(parsed)))
    }

    /// Whoever the hooks say.
    #[must_use]
    pub fn hook() -> Self {
        Self(Arc::new(vec![Rule(vec![Condition::Hook])]))
    }

    /// Whether the hooks may be asked.
    #[must_use]
    pub fn asks_hook(&self) -> bool {
        self.0.iter().any(|rule| rule.0.contains(&Condition::Hook))
    }

    /// Whether these are the rules of a relay that nobody configured.
    #[must_use]
    pub fn is_private(&self) -> bool {
        *self == Self::private()
    }

    /// The first rule that grants decides; else whoever has to be asked; else the reason that says
    /// most. A key at the end of the name is taken off even if a rule before it grants without.
    #[must_use]
    pub fn judge(&self, inquiry: &Inquiry<'_>) -> Verdict {
        let mut reason = Reason::Nobody;
        let (mut granted, mut question) = (None::<Grant>, None);
        let mut wrong_secret = false;
        for rule in self.0.iter() {
            if granted.is_some() && !rule.takes_key() {
                continue;
            }
            match rule.judge(inquiry) {
                Judgement::Granted(grant) => {
                    let named = granted.as_ref().is_some_and(|granted| granted.name.is_some());
                    if granted.is_none() || (!named && grant.name.is_some()) {
                        granted = Some(grant);
                    }
                }
                // Keys of tokens come soon, and decide without anybody else.
                Judgement::Ask(Question::Keys) => question = Some(Question::Keys),
                Judgement::Ask(asked) => question = question.or(Some(asked)),
                Judgement::Refused(why) => {
                    wrong_secret |= why.is_wrong_secret();
                    reason = reason.max(why);
                }
            }
        }
        let judgement = match (granted, question) {
            (Some(grant), _) => return Verdict::from(Judgement::Granted(grant)),
            (None, Some(question)) => Judgement::Ask(question),
            (None, None) => Judgement::Refused(reason),
        };
        Verdict { judgement, wrong_secret }
    }

    /// Where keys of tokens are to be fetched.
    pub fn key_urls(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|rule| &rule.0).filter_map(|condition| match condition {
            Condition::Token(tokens) => tokens.url(),
            _ => None,
        })
    }

    /// Whether users with passwords are among them, so that connects have to be judged.
    #[must_use]
    pub fn have_users(&self) -> bool {
        let mut conditions = self.0.iter().flat_map(|rule| &rule.0);
        conditions.any(|condition| matches!(condition, Condition::Password(..)))
    }

    /// Judges a connect: whether it has to prove a user and password first.
    #[must_use]
    pub fn judge_connect(
        &self,
        connecting: &Connecting<'_>,
        answered: &mut Answered,
    ) -> ConnectJudgement {
        let conditions = self.0.iter().flat_map(|rule| &rule.0);
        let files: Vec<_> = conditions
            .filter_map(|condition| match condition {
                Condition::Password(users, method) => Some((users, *method)),
                _ => None,
            })
            .collect();
        let lets = |condition: &Condition| match condition {
            Condition::Everybody => true,
            Condition::Private => is_private(connecting.peer),
            Condition::Network(network) => network.contains(connecting.peer),
            _ => false,
        };
        let is_let_in = self.0.iter().any(|rule| rule.0.iter().all(lets));
        connecting.judge(&files, is_let_in, answered)
    }

    /// Whether a key may be the last part of a name that is asked for.
    #[must_use]
    pub fn take_keys(&self) -> bool {
        self.0.iter().any(Rule::takes_key)
    }

    /// Whether the last part of a name is a key of these rules.
    #[must_use]
    pub fn ends_in_key(&self, name: &StreamName) -> bool {
        let Some((name, key)) = name.split_last() else { return false };
        let mut conditions = self.0.iter().flat_map(|rule| &rule.0);
        conditions.any(|condition| match condition {
            Condition::Key(keys) => keys.find(name.stream(), key).is_some(),
            _ => false,
        })
    }

    /// The name under which a request is logged and listed before it is granted: where a key may be
    /// its last part, that is left out.
    #[must_use]
    pub fn shown_name(&self, address: &StreamAddress) -> Arc<str> {
        let is_key = self.take_keys() && key_parameter(&address.query).is_none();
        if is_key { without_last(&address.name) } else { address.name.as_str().into() }
    }
}

impl Rule {
    fn parse(text: &str, read: ReadFile<'_>) -> Result<Self, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let conditions = words.split(|word| *word == "and").take(RULES_MAX);
        conditions.map(|words| Condition::parse(words, read)).collect::<Result<_, _>>().map(Self)
    }

    fn takes_key(&self) -> bool {
        self.0.iter().any(|condition| matches!(condition, Condition::Key(_)))
    }

    fn judge(&self, inquiry: &Inquiry<'_>) -> Judgement {
        let mut grant = Grant::default();
        if self.takes_key() {
            match self.judge_key(inquiry) {
                Ok(granted) => grant = granted,
                // Whoever else this rule keeps out is told that, and has guessed nothing.
                Err(reason) => {
                    return Judgement::Refused(self.keeps_out(inquiry).unwrap_or(reason));
                }
            }
        }
        let (mut asks_hook, mut waits) = (false, false);
        for condition in &self.0 {
            let name = grant.name.as_ref().unwrap_or(inquiry.name);
            match condition.judge(inquiry, name) {
                Judgement::Granted(further) => grant = grant.and(further),
                Judgement::Ask(Question::Hook(asked)) => {
                    asks_hook = true;
                    grant = grant.and(asked);
                }
                Judgement::Ask(Question::Keys) => waits = true,
                Judgement::Refused(reason) => return Judgement::Refused(reason),
            }
        }
        match (waits, asks_hook) {
            (true, _) => Judgement::Ask(Question::Keys),
            (false, true) => Judgement::Ask(Question::Hook(grant)),
            (false, false) => Judgement::Granted(grant),
        }
    }

    /// Why an address is kept out whatever it shows.
    fn keeps_out(&self, inquiry: &Inquiry<'_>) -> Option<Reason> {
        let refused = |condition: &Condition| match condition.judge(inquiry, inquiry.name) {
            Judgement::Refused(reason @ (Reason::Nobody | Reason::Address)) => Some(reason),
            _ => None,
        };
        let needs_none = |condition: &&Condition| condition.needs_no_secret();
        self.0.iter().filter(needs_none).find_map(refused)
    }

    /// The key is the parameter `key`, or else the last part of the name, which it is taken off.
    fn judge_key(&self, inquiry: &Inquiry<'_>) -> Result<Grant, Reason> {
        let parameter = key_parameter(inquiry.query);
        let split = inquiry.name.split_last();
        let (key, name) = match (&parameter, &split) {
            (Some(key), _) => (&**key, None),
            (None, Some((name, key))) => (*key, Some(name)),
            (None, None) => return Err(Reason::NoKey),
        };
        if inquiry.is_guessing {
            return Err(Reason::Guessing);
        }
        let stream = name.unwrap_or(inquiry.name).stream();
        let mut grant = Grant { name: name.cloned(), ..Grant::default() };
        for condition in &self.0 {
            if let Condition::Key(keys) = condition {
                let found = keys.find(stream, key).ok_or(Reason::WrongKey)?;
                grant.key = grant.key.or(Some(found));
            }
        }
        Ok(grant)
    }
}

/// A name that is shown without its last part, which is a secret.
#[must_use]
pub fn without_last(name: &StreamName) -> Arc<str> {
    let shown =
        name.as_str().rsplit_once('/').map_or("***".to_owned(), |(rest, _)| format!("{rest}/***"));
    shown.into()
}

fn key_parameter(query: &str) -> Option<std::borrow::Cow<'_, str>> {
    parameter(query, "key")
}

impl Condition {
    fn parse(words: &[&str], read: ReadFile<'_>) -> Result<Self, String> {
        let mut file =
            |file: &str| read(file).map_err(|why| format!("a rule whose file can be read: {why}"));
        match words {
            ["everybody"] => Ok(Self::Everybody),
            ["nobody"] => Ok(Self::Nobody),
            ["private"] => Ok(Self::Private),
            ["hook"] => Ok(Self::Hook),
            ["key", path] => StreamKeys::parse(path, &file(path)?).map(Self::Key),
            ["signed", path] => Secrets::parse(path, &file(path)?).map(Self::Signed),
            ["jwt", words @ ..] => Tokens::parse(words, &mut file).map(Self::Token),
            ["password", path] | ["password", path, "adobe"] => {
                Ok(Self::Password(Users::parse(path, &file(path)?)?, Method::Adobe))
            }
            ["password", path, "llnw"] => {
                Ok(Self::Password(Users::parse(path, &file(path)?)?, Method::Limelight))
            }
            [word] => word.parse().map(Self::Network).map_err(|_| no_rule(words)),
            _ => Err(no_rule(words)),
        }
    }

    fn needs_no_secret(&self) -> bool {
        matches!(self, Self::Everybody | Self::Nobody | Self::Private | Self::Network(_))
    }

    fn judge(&self, inquiry: &Inquiry<'_>, name: &StreamName) -> Judgement {
        let holds = |holds, reason| {
            if holds { Ok(Grant::default()) } else { Err(reason) }
        };
        let found = match self {
            // Keys were judged before, since the others need the name without one.
            Self::Everybody | Self::Key(_) => Ok(Grant::default()),
            Self::Nobody => Err(Reason::Nobody),
            Self::Private => holds(is_private(inquiry.peer), Reason::Address),
            Self::Network(network) => holds(network.contains(inquiry.peer), Reason::Address),
            Self::Signed(_) if inquiry.is_guessing => Err(Reason::Guessing),
            Self::Signed(secrets) => secrets.judge(inquiry, name.as_str()),
            Self::Token(tokens) => return tokens.judge(inquiry, name.as_str()),
            Self::Password(users, _) => match inquiry.login {
                Some(login) if login.file == users.file => {
                    let user = login.user.as_bytes();
                    let key = Some(KeyId::of("user", &[users.file.as_bytes(), user]));
                    holds(users.may_use(&login.user, name.stream()), Reason::User)
                        .map(|grant| Grant { key, ..grant })
                }
                _ => Err(Reason::NoPassword),
            },
            Self::Hook => return Judgement::Ask(Question::Hook(shown_to_hook(inquiry))),
        };
        found.map_or_else(Judgement::Refused, Judgement::Granted)
    }
}

/// What a publisher shows its back end is its query: publishers with the same one count together.
fn shown_to_hook(inquiry: &Inquiry<'_>) -> Grant {
    let counts = inquiry.action == Action::Publish && !inquiry.query.is_empty();
    let key = counts.then(|| KeyId::of("query", &[inquiry.query.as_bytes()]));
    Grant { key, ..Grant::default() }
}

/// Says what rules are there. The words are the operator's own; those of files stay in the files.
fn no_rule(words: &[&str]) -> String {
    format!("made of rules, which \"{}\" is not: they are {FORMS}", words.join(" "))
}

impl Default for Rules {
    fn default() -> Self {
        Self::private()
    }
}

impl From<Judgement> for Verdict {
    fn from(judgement: Judgement) -> Self {
        Self { judgement, wrong_secret: false }
    }
}

/// As the configuration file has it.
impl fmt::Display for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[")?;
        for (place, rule) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(formatter, "{comma}{:?}", rule.to_string())?;
        }
        formatter.write_str("]")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, condition) in self.0.iter().enumerate() {
            let and = if place == 0 { "" } else { " and " };
            write!(formatter, "{and}{condition}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => formatter.write_str("everybody"),
            Self::Nobody => formatter.write_str("nobody"),
            Self::Private => formatter.write_str("private"),
            Self::Network(network) => network.fmt(formatter),
            Self::Key(keys) => write!(formatter, "key {}", keys.file),
            Self::Signed(secrets) => write!(formatter, "signed {}", secrets.file),
            Self::Token(tokens) => tokens.fmt(formatter),
            Self::Password(users, Method::Adobe) => write!(formatter, "password {}", users.file),
            Self::Password(users, method) => {
                write!(formatter, "password {} {}", users.file, method.name())
            }
            Self::Hook => formatter.write_str("hook"),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
