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

use super::network::{Network, is_private};
use super::{Grant, Inquiry, Judgement, Question, Reason};
use crate::wire::stream_name::StreamAddress;

/// Reads a whole file of secrets, for [`Rules::parse`]; `Err` says in words why it cannot be read.
pub type ReadFile<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// Most rules in one list.
const RULES_MAX: usize = 256;

/// Who may do one thing in one application. Cheap to clone. The default is [`Rules::private`].
#[derive(Clone, PartialEq, Eq)]
pub struct Rules(Arc<Vec<Rule>>);

/// Conditions that must all hold.
#[derive(Debug, PartialEq, Eq)]
struct Rule(Vec<Condition>);

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Everybody,
    Nobody,
    Private,
    Network(Network),
    Hook,
}

/// Why a list of rules is none, in words that continue "it must be ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RulesError(String);

/// What one condition says.
enum Verdict {
    Holds,
    Ask(Question),
    Fails(Reason),
}

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

    /// The name under which a request is logged and listed before it is granted.
    #[must_use]
    pub fn shown_name(&self, address: &StreamAddress) -> Arc<str> {
        address.name.as_str().into()
    }

    /// The first rule that grants decides; else whoever has to be asked; else the reason that says
    /// most.
    #[must_use]
    pub fn judge(&self, inquiry: &Inquiry<'_>) -> Judgement {
        let mut reason = Reason::Nobody;
        let mut question = None;
        for rule in self.0.iter() {
            match rule.judge(inquiry) {
                Judgement::Granted(grant) => return Judgement::Granted(grant),
                Judgement::Ask(asked) => question = question.or(Some(asked)),
                Judgement::Refused(why) => reason = reason.max(why),
            }
        }
        question.map_or(Judgement::Refused(reason), Judgement::Ask)
    }
}

impl Rule {
    fn parse(text: &str, read: ReadFile<'_>) -> Result<Self, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let conditions = words.split(|word| *word == "and");
        conditions.map(|words| Condition::parse(words, read)).collect::<Result<_, _>>().map(Self)
    }

    fn judge(&self, inquiry: &Inquiry<'_>) -> Judgement {
        let grant = Grant::default();
        let mut asks_hook = false;
        let mut waits = false;
        for condition in &self.0 {
            match condition.judge(inquiry) {
                Verdict::Holds => {}
                Verdict::Ask(Question::Hook(_)) => asks_hook = true,
                Verdict::Ask(Question::Keys) => waits = true,
                Verdict::Fails(reason) => return Judgement::Refused(reason),
            }
        }
        match (waits, asks_hook) {
            (true, _) => Judgement::Ask(Question::Keys),
            (false, true) => Judgement::Ask(Question::Hook(grant)),
            (false, false) => Judgement::Granted(grant),
        }
    }
}

impl Condition {
    fn parse(words: &[&str], _read: ReadFile<'_>) -> Result<Self, String> {
        match words {
            ["everybody"] => Ok(Self::Everybody),
            ["nobody"] => Ok(Self::Nobody),
            ["private"] => Ok(Self::Private),
            ["hook"] => Ok(Self::Hook),
            [word] if word.parse::<Network>().is_ok() => {
                word.parse().map(Self::Network).map_err(|_| String::new())
            }
            _ => Err(format!(
                "made of rules, which \"{}\" is not: they are \"everybody\", \"nobody\", \
                 \"private\", an address or network such as \"203.0.113.0/24\", or \"hook\"",
                words.join(" ")
            )),
        }
    }

    fn judge(&self, inquiry: &Inquiry<'_>) -> Verdict {
        let address = |holds| if holds { Verdict::Holds } else { Verdict::Fails(Reason::Address) };
        match self {
            Self::Everybody => Verdict::Holds,
            Self::Nobody => Verdict::Fails(Reason::Nobody),
            Self::Private => address(is_private(inquiry.peer)),
            Self::Network(network) => address(network.contains(inquiry.peer)),
            Self::Hook => Verdict::Ask(Question::Hook(Grant::default())),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::private()
    }
}

/// As the configuration file has it.
impl fmt::Display for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[")?;
        for (place, rule) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(formatter, "{comma}\"{rule}\"")?;
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
            Self::Hook => formatter.write_str("hook"),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
