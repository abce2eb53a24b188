//! Tokens (JWT, RFC 7519): signed statements of a server of the operator's about what their bearer
//! may do.
//!
//! ```text
//! jwt RS256+ES256 https://login.example/jwks.json aud=relay iss=https://login.example leeway=30s
//! ```
//!
//! Which algorithms are good is said by the rule and not by the token; `none` is not one. What the
//! bearer may do are the claims `publish` and `play`: `true`, a pattern of `app/name`, or a list of
//! those. `exp` must be there, `nbf` may be; `aud` and `iss` are compared if the rule names them.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::key_set::{FetchedKeys, KeySet};
use super::parameter::parameter;
use super::pattern::Pattern;
use super::{Action, Grant, Inquiry, Judgement, KeyId, Question, Reason};

/// How wrong clocks may go unless a rule says otherwise, in seconds.
const LEEWAY: u64 = 30;

/// Longest such time, in seconds.
const LEEWAY_MAX: u64 = 3_600;

/// After a set of keys was fetched, or tried to be, nobody waits for it so soon again, in seconds:
/// else made-up key ids would have it fetched without end.
pub const REFETCH_SECONDS: u64 = 30;

/// Names and algorithms.
const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
];

/// One rule for tokens.
#[derive(PartialEq, Eq)]
pub(super) struct Tokens {
    algorithms: Vec<Algorithm>,
    /// As written: a file or a URL.
    source: Arc<str>,
    /// Unless they are fetched.
    keys: Option<KeySet>,
    audience: Option<String>,
    issuer: Option<String>,
    leeway: u64,
}

/// What a token states.
type Claims = Map<String, Value>;

impl Tokens {
    /// Reads the words behind `jwt`.
    ///
    /// # Errors
    /// What the rule must be and is not.
    pub(super) fn parse(
        words: &[&str],
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, String> {
        let [algorithms, source, options @ ..] = words else { return Err(form()) };
        let algorithms = algorithms.split('+').map(|name| {
            let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
            known.map(|(_, algorithm)| *algorithm).ok_or_else(form)
        });
        let algorithms: Vec<_> = algorithms.collect::<Result<_, _>>()?;
        let keys = if is_url(source) {
            let secret = |algorithm: &Algorithm| {
                matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
            };
            if algorithms.iter().any(secret) {
                return Err("a rule that has the secret of HS algorithms in a file".to_owned());
            }
            None
        } else {
            let keys = KeySet::parse(&read(source)?)
                .map_err(|why| format!("a rule whose file {source} can be used: it {why}"))?;
            if algorithms.iter().any(|algorithm| keys.candidates(*algorithm, None).next().is_none())
            {
                return Err(format!("a rule whose file {source} has a key for each algorithm"));
            }
            Some(keys)
        };
        let mut rule = Self {
            algorithms,
            source: (*source).into(),
            keys,
            audience: None,
            issuer: None,
            leeway: LEEWAY,
        };
        for option in options {
            match option.split_once('=') {
                Some(("aud", value)) if !value.is_empty() => rule.audience = Some(value.to_owned()),
                Some(("iss", value)) if !value.is_empty() => rule.issuer = Some(value.to_owned()),
                Some(("leeway", value)) => {
                    let seconds = value.strip_suffix('s').and_then(|digits| digits.parse().ok());
                    let seconds = seconds.filter(|seconds| *seconds <= LEEWAY_MAX);
                    rule.leeway = seconds.ok_or_else(form)?;
                }
                _ => return Err(form()),
            }
        }
        Ok(rule)
    }

    /// Where its keys are fetched, if they are.
    pub(super) fn url(&self) -> Option<&str> {
        self.keys.is_none().then_some(&*self.source)
    }

    /// Whether the token of an inquiry lets it do what it wants with `name`.
    pub(super) fn judge(&self, inquiry: &Inquiry<'_>, name: &str) -> Judgement {
        let query = inquiry.query;
        let token = parameter(query, "token").or_else(|| parameter(query, "jwt"));
        let Some(token) = token.as_deref().or(inquiry.bearer) else {
            return Judgement::Refused(Reason::NoToken);
        };
        if inquiry.is_guessing {
            return Judgement::Refused(Reason::Guessing);
        }
        let wrong = Judgement::Refused(Reason::WrongToken);
        let Ok(header) = decode_header(token) else { return wrong };
        if !self.algorithms.contains(&header.alg) {
            return wrong;
        }
        let id = header.kid.as_deref();
        let keys = match self.keys(inquiry.fetched, id, inquiry.unix, inquiry.may_wait) {
            Ok(keys) => keys,
            Err(judgement) => return judgement,
        };
        let mut validation = Validation::new(header.alg);
        // The rest is compared below, by the time that is given.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let mut candidates = keys.candidates(header.alg, id);
        let claims = candidates.find_map(|key| decode::<Claims>(token, key, &validation).ok());
        match claims {
            Some(claims) => self
                .judge_claims(&claims.claims, token, inquiry, name)
                .map_or_else(Judgement::Refused, Judgement::Granted),
            // A key that came into use since the last look is nobody's guess.
            None if self.keys.is_none() && id.is_some_and(|id| !keys.has(id)) => {
                Judgement::Refused(Reason::UnknownKey)
            }
            None => wrong,
        }
    }

    /// The keys, or what to do about it that they, or the one of this id, are not there.
    fn keys<'a>(
        &'a self,
        fetched: &'a FetchedKeys,
        id: Option<&str>,
        unix: u64,
        may_wait: bool,
    ) -> Result<&'a KeySet, Judgement> {
        if let Some(keys) = &self.keys {
            return Ok(keys);
        }
        let fetched = fetched.get(&self.source);
        let tried = fetched.map(|fetched| fetched.tried.saturating_add(REFETCH_SECONDS));
        let helps = may_wait && tried.is_none_or(|tried| tried <= unix);
        match fetched.and_then(|fetched| fetched.keys.as_ref()) {
            Some(keys) if !helps || id.is_none_or(|id| keys.has(id)) => Ok(keys),
            _ if helps => Err(Judgement::Ask(Question::Keys)),
            _ => Err(Judgement::Refused(Reason::Unavailable)),
        }
    }

    fn judge_claims(
        &self,
        claims: &Claims,
        token: &str,
        inquiry: &Inquiry<'_>,
        name: &str,
    ) -> Result<Grant, Reason> {
        let expires = claims.get("exp").and_then(seconds).ok_or(Reason::Undated)?;
        let until = expires.saturating_add(self.leeway);
        if until <= inquiry.unix {
            return Err(Reason::Expired);
        }
        if let Some(begins) = claims.get("nbf") {
            let begins = seconds(begins).ok_or(Reason::Undated)?;
            if inquiry.unix.saturating_add(self.leeway) < begins {
                return Err(Reason::Early);
            }
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuer.as_deref().is_some_and(|wanted| issuer != Some(wanted)) {
            return Err(Reason::Issuer);
        }
        let for_us = self.audience.as_deref().is_none_or(|wanted| match claims.get("aud") {
            Some(Value::String(audience)) => audience == wanted,
            Some(Value::Array(audiences)) => audiences.iter().any(|one| one == wanted),
            _ => false,
        });
        if !for_us {
            return Err(Reason::Audience);
        }
        let permission = match inquiry.action {
            Action::Publish => claims.get("publish"),
            Action::Play => claims.get("play"),
        };
        if !permission.is_some_and(|permission| permits(permission, name)) {
            return Err(Reason::Scope);
        }
        let bearer = claims.get("sub").and_then(Value::as_str);
        let key = match bearer {
            Some(bearer) => {
                let issuer = issuer.unwrap_or_default();
                KeyId::of("subject", &[issuer.as_bytes(), bearer.as_bytes()])
            }
            None => KeyId::of("token", &[token.as_bytes()]),
        };
        Ok(Grant { until: Some(until), key: Some(key), name: None })
    }
}

fn permits(permission: &Value, name: &str) -> bool {
    let fits = |text: &str| Pattern::new(text).is_some_and(|pattern| pattern.fits(name));
    match permission {
        Value::Bool(all) => *all,
        Value::String(text) => fits(text),
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).any(fits),
        _ => false,
    }
}

/// A moment in seconds since 1970; some servers write fractions (RFC 7519 section 2).
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| (0.0..9e15).contains(number))?;
        // Whole, not negative and below 2^53, so its digits are those of an integer.
        format!("{:.0}", number.floor()).parse().ok()
    })
}

fn is_url(source: &str) -> bool {
    source.starts_with("https://") || source.starts_with("http://")
}

fn form() -> String {
    "a rule such as \"jwt RS256 /etc/relay/jwks.json\" or \"jwt RS256+ES256 \
     https://login.example/jwks.json aud=relay iss=https://login.example leeway=30s\", with \
     algorithms HS, RS and PS of 256, 384 and 512, ES256 and ES384"
        .to_owned()
}

impl fmt::Display for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            self.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
        write!(formatter, "jwt {} {}", names.join("+"), self.source)?;
        for (name, value) in [("aud", &self.audience), ("iss", &self.issuer)] {
            if let Some(value) = value {
                write!(formatter, " {name}={value}")?;
            }
        }
        if self.leeway != LEEWAY {
            write!(formatter, " leeway={}s", self.leeway)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
