//! User and password by challenge, as Adobe's and Limelight's ingest points ask for them: what
//! FFmpeg, OBS and librtmp understand (`rtmp://user:password@host/app`).
//!
//! Each step is a new connection whose connect is refused with the next question in its
//! description, until one carries the answer in the query of its application:
//!
//! ```text
//! connect app                                     -> code=403 need auth; authmod=adobe
//! connect app?authmod=adobe&user=U                -> ?reason=needauth&user=U&salt=S&challenge=C
//! connect app?authmod=adobe&user=U&challenge=..&response=..   -> accepted, or ?reason=authfailed
//! ```
//!
//! Nothing is kept between the steps. The challenge says when it was made and is authentic by a
//! code, which the file of users and the node that asks are the key of; so any worker takes the
//! answer, and another node only where the operator wants that. It is good for
//! [`CHALLENGE_SECONDS`], only from the address that was asked, unless that stands for many, and,
//! on one node, once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use subtle::ConstantTimeEq;

use super::Login;
use super::parameter::{from_hex, hex, raw_parameter};
use super::users::{USER_BYTES_MAX, Users, base64_md5, hex_md5};

/// How long an answer to a challenge is awaited, in seconds.
pub const CHALLENGE_SECONDS: u64 = 60;

/// Which way a user is asked for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Adobe,
    Limelight,
}

/// What a question is bound to besides its user.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    /// The application that is connected to.
    pub(super) app: &'a str,
    /// Where the answer has to come from; `None`: from anywhere.
    pub(super) place: Option<IpAddr>,
    /// Seconds since 1970.
    pub(super) unix: u64,
    /// Makes challenges differ; it need not be secret.
    pub(super) chance: u64,
    /// Whether every node with the same file takes the answer, and not this one alone.
    pub(super) any_node: bool,
}

/// What a connect that may be a step of this comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It carries nothing of this: who wants a password asks for a user.
    None,
    /// It is refused with this description, the next question.
    Ask(String),
    /// It proved to be this user.
    Proved(Login),
    /// It did not; with the description for the refusal.
    Failed(String),
}

/// The challenges of one run of a node: those that were answered, until they are too old to be
/// answered again.
#[derive(Default)]
pub struct Answered {
    /// What they are known by.
    node: [u8; 32],
    challenges: BTreeSet<[u8; 24]>,
    by_age: BTreeMap<u64, Vec<[u8; 24]>>,
}

/// Most answered challenges that are remembered. Only who knows a password can add one.
const ANSWERED_MAX: usize = 65_536;

/// The time, eight bytes of chance and twelve of the code.
const CHALLENGE_BYTES: usize = 24;

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Adobe => "adobe",
            Self::Limelight => "llnw",
        }
    }

    /// What asks for a user. Most clients look for two parts of it; gortmplib compares all of it.
    pub(super) fn need(self) -> String {
        format!("code=403 need auth; authmod={}", self.name())
    }

    fn failed(self) -> String {
        format!("[ AccessManager.Reject ] : [ authmod={} ] : ?reason=authfailed", self.name())
    }

    /// Clients look for what begins with the question mark; some compare what goes before it. The
    /// ampersand at the end is for librtmp, which reads its last parameter until it finds one, and
    /// else on into whatever lies behind it.
    fn challenge(self, user: &str, salt: &str, challenge: &str) -> String {
        let name = self.name();
        match self {
            Self::Adobe => format!(
                "authmod={name} ?reason=needauth&user={user}&salt={salt}\
                 &challenge={challenge}&opaque={challenge}&"
            ),
            Self::Limelight => {
                format!("authmod={name} ?reason=needauth&user={user}&nonce={challenge}&")
            }
        }
    }
}

/// The query of a connect, judged by one file of users.
pub(super) fn step(
    users: &Users,
    query: &str,
    asking: &Asking<'_>,
    answered: &mut Answered,
) -> Step {
    let Asking { app, unix, .. } = *asking;
    let method = match raw_parameter(query, "authmod") {
        Some("adobe") => Method::Adobe,
        Some("llnw") => Method::Limelight,
        _ => return Step::None,
    };
    let Some(user) = raw_parameter(query, "user").filter(|user| user.len() <= USER_BYTES_MAX)
    else {
        return Step::Ask(method.need());
    };
    let (salt, proof) = users.challenged(user);
    let Some(response) = raw_parameter(query, "response") else {
        let printable = user.bytes().all(|byte| byte.is_ascii_graphic());
        let user = if printable { user } else { "-" };
        let challenge = make(users, user, asking, answered);
        return Step::Ask(method.challenge(user, &salt, &challenge));
    };
    // Adobe's challenge comes back as `opaque`, since `challenge` is then the client's own.
    let parameter = if method == Method::Adobe { "opaque" } else { "nonce" };
    let challenge = raw_parameter(query, parameter).unwrap_or_default();
    let fresh = is_fresh(users, user, challenge, asking, answered);
    let expected = proof.and_then(|proof| match method {
        Method::Adobe => {
            let own = raw_parameter(query, "challenge")?;
            Some(base64_md5(&[&proof.adobe, challenge, own]))
        }
        Method::Limelight => {
            let own = raw_parameter(query, "cnonce")?;
            let count = raw_parameter(query, "nc")?;
            let instance = if app.contains('/') { "" } else { "/_definst_" };
            let target = hex_md5(&["publish:/", app, instance]);
            let parts = [&proof.limelight, ":", challenge, ":", count, ":", own, ":auth:", &target];
            Some(hex_md5(&parts))
        }
    });
    let right =
        expected.is_some_and(|expected| bool::from(expected.as_bytes().ct_eq(response.as_bytes())));
    match fresh {
        // Somebody who was slow, or whose answer was used: asked anew, if it was right.
        _ if !right => Step::Failed(method.failed()),
        Some((time, bytes)) if answered.enter(bytes, time, unix) => {
            Step::Proved(Login { user: user.into(), file: users.file.clone() })
        }
        _ => Step::Ask(method.challenge(user, &salt, &make(users, user, asking, answered))),
    }
}

fn make(users: &Users, user: &str, asking: &Asking<'_>, answered: &Answered) -> String {
    let time = u32::try_from(asking.unix).unwrap_or(u32::MAX).to_be_bytes();
    let (time, chance) = (&time[..], &asking.chance.to_be_bytes()[..]);
    let code = asking.code(users, user, [time, chance], answered);
    hex(&[time, chance, &code[..12]].concat())
}

/// The time and the bytes of a challenge that was made for this user at this place, and not long
/// ago.
fn is_fresh(
    users: &Users,
    user: &str,
    challenge: &str,
    asking: &Asking<'_>,
    answered: &Answered,
) -> Option<(u64, [u8; CHALLENGE_BYTES])> {
    let unix = asking.unix;
    let bytes: [u8; CHALLENGE_BYTES] = from_hex(challenge)?;
    let (time, rest) = bytes.split_first_chunk::<4>()?;
    let (chance, code) = rest.split_at(8);
    let expected = asking.code(users, user, [time, chance], answered);
    let authentic = bool::from(expected[..12].ct_eq(code));
    let time = u64::from(u32::from_be_bytes(*time));
    let fresh = time <= unix.saturating_add(CHALLENGE_SECONDS)
        && unix < time.saturating_add(CHALLENGE_SECONDS);
    (authentic && fresh).then_some((time, bytes))
}

impl Asking<'_> {
    /// By which a challenge is known again.
    fn code(
        &self,
        users: &Users,
        user: &str,
        [time, chance]: [&[u8]; 2],
        answered: &Answered,
    ) -> [u8; 32] {
        let node: &[u8] = if self.any_node { &[] } else { &answered.node };
        let (v4, v6);
        let place: &[u8] = match self.place {
            None => &[],
            Some(IpAddr::V4(place)) => {
                v4 = place.octets();
                &v4
            }
            Some(IpAddr::V6(place)) => {
                v6 = place.octets();
                &v6
            }
        };
        users.code(&[b"challenge", node, user.as_bytes(), time, chance, place])
    }
}

impl Answered {
    /// None yet. `node` is drawn from the operating system when the node starts.
    #[must_use]
    pub fn new(node: [u8; 32]) -> Self {
        Self { node, ..Self::default() }
    }

    /// Notes an answer; false when this challenge was answered before.
    fn enter(&mut self, challenge: [u8; CHALLENGE_BYTES], time: u64, unix: u64) -> bool {
        while let Some(oldest) = self.by_age.first_entry() {
            let over = oldest.key().saturating_add(CHALLENGE_SECONDS) <= unix;
            if !over && self.challenges.len() < ANSWERED_MAX {
                break;
            }
            for challenge in oldest.remove() {
                self.challenges.remove(&challenge);
            }
        }
        let fresh = self.challenges.insert(challenge);
        if fresh {
            self.by_age.entry(time).or_default().push(challenge);
        }
        fresh
    }
}

/// The key is not shown.
impl fmt::Debug for Answered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Answered").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "authmod_tests.rs"]
mod tests;
