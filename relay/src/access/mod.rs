//! Who may publish and who may play: rules, and what they are judged by.
//!
//! Each application has a list of rules for either action ([`Rules`]). Whoever asks is described by
//! an [`Inquiry`]; [`Rules::judge`] answers at once with a [`Judgement`], or says that somebody
//! else has to be asked. Nothing here opens a file or a socket, reads a clock, or logs: texts and
//! times come in, verdicts go out.
//!
//! Secrets are compared in constant time, and no `Debug` or `Display` here prints one: neither
//! those of the files nor those of the peers.

mod answering;
mod authmod;
mod connecting;
#[doc(hidden)]
pub mod fuzz;
mod guesses;
mod key_set;
mod network;
mod parameter;
mod pattern;
mod rules;
mod signed;
mod stream_keys;
mod token;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::wire::stream_name::StreamName;

pub use self::answering::answer;
pub use self::authmod::{Answered, CHALLENGE_SECONDS};
pub use self::connecting::{ConnectJudgement, Connecting, claimed_user};
pub use self::guesses::{Guesser, Guesses};
pub use self::key_set::{Fetched, FetchedKeys, KeySet};
pub use self::network::{Network, is_private};
pub use self::rules::{ReadFile, Rules, RulesError, Verdict, without_last};
pub use self::signed::{Claim, SECRET_BYTES_MIN, signed_name, signing_secrets};
pub use self::stream_keys::key_line;
pub use self::token::REFETCH_SECONDS;
pub use self::users::password_hash;

/// What somebody wants to do with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Send it.
    Publish,
    /// Receive it.
    Play,
}

/// Somebody who wants to publish or to play. `Debug` leaves out what may be secret.
#[derive(Clone, Copy)]
pub struct Inquiry<'a> {
    /// What is wanted.
    pub action: Action,
    /// The stream, as asked for: its last part may be a key.
    pub name: &'a StreamName,
    /// The merged query of name, app and tcUrl, without the question mark. May carry secrets.
    pub query: &'a str,
    /// Where the peer is: behind a trusted proxy, as that proxy says.
    pub peer: IpAddr,
    /// The user that connect proved itself to be, if any.
    pub login: Option<&'a Login>,
    /// The token of an HTTP `Authorization: Bearer` header.
    pub bearer: Option<&'a str>,
    /// The keys of tokens that were fetched.
    pub fetched: &'a FetchedKeys,
    /// Seconds since 1970.
    pub unix: u64,
    /// Whether this address has shown too many wrong secrets of late: none is looked at.
    pub is_guessing: bool,
    /// Whether it may be asked to wait for keys of tokens. If not, what cannot be checked is
    /// refused.
    pub may_wait: bool,
}

/// The answer to an [`Inquiry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Yes.
    Granted(Grant),
    /// No.
    Refused(Reason),
    /// What is known here does not decide: ask, and wait for the answer.
    Ask(Question),
}

/// What was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The second since 1970 from which it holds no longer; `None` when it has no end.
    pub until: Option<u64>,
    /// What was shown for it, so that those who show the same can be counted together.
    pub key: Option<KeyId>,
    /// The stream's name when it is another than the one asked for: a key was taken off its end.
    pub name: Option<StreamName>,
}

/// Who has to be asked. In every case the session waits and its core does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The hook of the application. If it says yes, this is granted.
    Hook(Grant),
    /// The keys of tokens are not there yet, or the one that was named is not among them: judge
    /// anew when they were fetched.
    Keys,
}

/// Something secret that was shown, by a digest of it: equal for the same stream key, user or
/// token. `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(crate) [u8; 16]);

impl KeyId {
    /// The digest, for those who count and know nothing of keys.
    #[must_use]
    pub fn digest(self) -> [u8; 16] {
        self.0
    }
}

/// A user that proved itself, and by which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: Arc<str>,
    /// The file of users that knows it.
    pub file: Arc<str>,
}

/// Why somebody was refused. What a client is told says no more than it knows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No rule lets anybody.
    Nobody,
    /// The address is not among those that may.
    Address,
    /// The name to be played ends in a key for publishing.
    PublishKey,
    /// No stream key was shown.
    NoKey,
    /// No signature was shown.
    NoSignature,
    /// No token was shown.
    NoToken,
    /// No user and password were shown.
    NoPassword,
    /// The keys by which tokens are checked cannot be had.
    Unavailable,
    /// The user may not use this name.
    User,
    /// What was shown is true, and holds for something else.
    Scope,
    /// The signature is right, and holds for another address.
    OtherAddress,
    /// The token is right, and somebody else made it.
    Issuer,
    /// The token is right, and made for somebody else.
    Audience,
    /// The token is right, and does not say when it holds.
    Undated,
    /// What was shown was true once.
    Expired,
    /// What was shown is true, and holds from later on.
    Early,
    /// The token names a key that is not among those that were fetched: right or wrong, nobody
    /// knows.
    UnknownKey,
    /// The stream key is wrong.
    WrongKey,
    /// The signature is wrong.
    WrongSignature,
    /// The token is wrong.
    WrongToken,
    /// The password is wrong, or there is no such user.
    WrongPassword,
    /// Too many wrong secrets came from this address.
    Guessing,
}

impl Reason {
    /// Whether it counts as a wrong guess of a secret.
    #[must_use]
    pub fn is_wrong_secret(self) -> bool {
        matches!(
            self,
            Self::WrongKey | Self::WrongSignature | Self::WrongToken | Self::WrongPassword
        )
    }

    /// Whether showing something else may help: HTTP's 401 rather than 403.
    #[must_use]
    pub fn wants_credentials(self) -> bool {
        !matches!(self, Self::Nobody | Self::Address | Self::PublishKey | Self::Guessing)
    }

    /// What the client is told.
    #[must_use]
    pub fn text(self, action: Action) -> &'static str {
        let publish = action == Action::Publish;
        match self {
            Self::Nobody if publish => "Nobody may publish here",
            Self::Nobody => "Nobody may play here",
            Self::Address if publish => "Your address may not publish here",
            Self::Address => "Your address may not play here",
            Self::PublishKey => "The name ends in a stream key, which is for publishing only",
            Self::NoKey => "A stream key is missing",
            Self::NoSignature => "The signature of the URL is missing",
            Self::NoToken => "A token is missing",
            Self::NoPassword => "User and password are missing",
            Self::Unavailable => "Tokens cannot be checked at the moment",
            Self::User => "The user may not use this stream name",
            Self::Scope if publish => "What was shown does not allow publishing this stream",
            Self::Scope => "What was shown does not allow playing this stream",
            Self::OtherAddress => "The signature of the URL holds for another address",
            Self::Issuer => "The token is not from whom it must be (iss)",
            Self::Audience => "The token is not for this server (aud)",
            Self::Undated => "The token does not say in seconds when it holds (exp, nbf)",
            Self::Expired => "What was shown has expired",
            Self::Early => "What was shown is not valid yet",
            Self::UnknownKey => "The key of the token is not known here, perhaps not yet",
            Self::WrongKey => "The stream key is wrong",
            Self::WrongSignature => "The signature of the URL is wrong",
            Self::WrongToken => "The token is wrong",
            Self::WrongPassword => "User or password is wrong",
            Self::Guessing => "Too many wrong secrets came from your address; try again later",
        }
    }
}

impl Grant {
    /// What holds when both hold.
    fn and(self, other: Self) -> Self {
        let until = match (self.until, other.until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { until, key: self.key.or(other.key), name: self.name.or(other.name) }
    }
}

impl KeyId {
    /// Of something secret, or that stands for it, by its kind.
    fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new_with_prefix(kind);
        for part in parts {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&digest.finalize()[..16]);
        Self(id)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyId")
    }
}

impl fmt::Debug for Inquiry<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inquiry")
            .field("action", &self.action)
            .field("app", &self.name.app())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
