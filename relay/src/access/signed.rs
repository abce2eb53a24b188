//! Signed URLs: a web server that shares a secret with the relay lets whoever it gives the URL.
//!
//! The query carries `expires` (seconds since 1970), perhaps `address` (an address or network that
//! the peer must be in), and `signature`: the HMAC-SHA256 of the lines below by the secret, in
//! base64 for URLs without padding.
//!
//! ```text
//! relay
//! publish              or play
//! live/cam1            application and name
//! 1790000000           expires
//! 203.0.113.7          address, or an empty line
//! ```
//!
//! Each line ends in a line feed. Until it expires a URL may be used any number of times; bound to
//! an address it is of no use elsewhere. Expiry is judged by the relay's own clock, without leave:
//! whoever signs with another clock adds the difference that it may have.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use super::network::Network;
use super::parameter::{bad_lines, lines, parameter};
use super::{Action, Grant, Inquiry, KeyId, Reason};
use crate::limits::Limits;
use crate::wire::stream_name::{StreamAddress, StreamName};

/// Most secrets of one file.
const SECRETS_MAX: usize = 16;

/// Shortest secret, in bytes: so long that nobody finds it by trying.
pub const SECRET_BYTES_MIN: usize = 16;

/// The secrets of one file. Any of them may have signed; new URLs are signed with the first.
#[derive(PartialEq, Eq)]
pub(super) struct Secrets {
    pub(super) file: Arc<str>,
    secrets: Vec<Vec<u8>>,
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What the URL is for.
    pub action: Action,
    /// Application and name, joined by a slash.
    pub name: &'a str,
    /// The second since 1970 from which it holds no longer.
    pub expires: u64,
    /// Who may use it; everybody who has it when `None`.
    pub address: Option<Network>,
}

impl Claim<'_> {
    /// The query that proves it, without a question mark. Colons of addresses are escaped, since
    /// some clients take them for the end of something.
    #[must_use]
    pub fn sign(&self, secret: &[u8]) -> String {
        let address = self.address.map(|address| address.to_string());
        let code = self.code(secret, address.as_deref().unwrap_or_default());
        let signature = URL_SAFE_NO_PAD.encode(code.finalize().into_bytes());
        let address = address.map_or(String::new(), |address| {
            format!("&address={}", address.replace(':', "%3A").replace('/', "%2F"))
        });
        format!("expires={}{address}&signature={signature}", self.expires)
    }

    fn code(&self, secret: &[u8], address: &str) -> Hmac<Sha256> {
        let action = match self.action {
            Action::Publish => "publish",
            Action::Play => "play",
        };
        let (name, expires) = (self.name, self.expires);
        let code = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        code.chain_update(format!("relay\n{action}\n{name}\n{expires}\n{address}\n"))
    }
}

/// The stream that a URL names, as the relay will know it: `rtmp://host/app/name`, or
/// `http://host/app/name.flv`, where escapes are resolved. `None` when it names none.
#[must_use]
pub fn signed_name(url: &str) -> Option<StreamName> {
    let (scheme, rest) = url.split_once("://")?;
    let known = ["rtmp", "rtmps", "rtmpt", "rtmpts", "http", "https", "ws", "wss"];
    let (host, path) = rest.split_once('/')?;
    if !known.contains(&scheme) || host.is_empty() {
        return None;
    }
    let is_rtmp = scheme.starts_with("rtmp");
    let path: Vec<u8> = if is_rtmp {
        path.into()
    } else {
        percent_decode_str(path.split(['?', '#']).next().unwrap_or_default()).collect()
    };
    if !is_rtmp && path.contains(&b'?') {
        return None;
    }
    let address = StreamAddress::resolve(b"", b"", &path, &Limits::default()).ok()?;
    address.name.as_str().contains('/').then_some(address.name)
}

/// Reads the secrets of a file, the one that signs first.
///
/// # Errors
/// What the file must be and is not, without a word of it.
pub fn signing_secrets(file: &str, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let lines = lines(bytes).ok_or_else(|| format!("a rule whose file {file} is text"))?;
    let (mut secrets, mut wrong) = (Vec::new(), Vec::new());
    for (number, words) in lines {
        match words.as_slice() {
            [secret] if secret.len() >= SECRET_BYTES_MIN => secrets.push(secret.as_bytes().into()),
            _ => wrong.push(number),
        }
    }
    if !wrong.is_empty() {
        let form = format!("one secret without spaces, of at least {SECRET_BYTES_MIN} characters");
        return Err(bad_lines(file, &wrong, &form));
    }
    if !(1..=SECRETS_MAX).contains(&secrets.len()) {
        return Err(format!("a rule whose file {file} has 1 to {SECRETS_MAX} secrets, one a line"));
    }
    Ok(secrets)
}

impl Secrets {
    /// Reads a file's content; errors as in [`signing_secrets`].
    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Self, String> {
        Ok(Self { file: file.into(), secrets: signing_secrets(file, bytes)? })
    }

    /// Whether the query of an inquiry about `name` was signed for it.
    pub(super) fn judge(&self, inquiry: &Inquiry<'_>, name: &str) -> Result<Grant, Reason> {
        let Some(signature) = parameter(inquiry.query, "signature") else {
            return Err(Reason::NoSignature);
        };
        let expires = parameter(inquiry.query, "expires").and_then(|text| seconds(&text));
        let address = parameter(inquiry.query, "address").unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(signature.as_bytes());
        let (Some(expires), Ok(bytes)) = (expires, bytes) else {
            return Err(Reason::WrongSignature);
        };
        let claim = Claim { action: inquiry.action, name, expires, address: None };
        let is_signed =
            |secret: &Vec<u8>| claim.code(secret, &address).verify_slice(&bytes).is_ok();
        if !self.secrets.iter().any(is_signed) {
            return Err(Reason::WrongSignature);
        }
        if expires <= inquiry.unix {
            return Err(Reason::Expired);
        }
        if !address.is_empty() && !admits(&address, inquiry.peer) {
            return Err(Reason::OtherAddress);
        }
        let key = Some(KeyId::of("signature", &[&bytes]));
        Ok(Grant { until: Some(expires), key, name: None })
    }
}

/// Whether what was signed as an address is one, or a network, with the peer in it.
fn admits(address: &str, peer: IpAddr) -> bool {
    address.parse::<Network>().is_ok_and(|network| network.contains(peer))
}

/// A number of seconds in digits and nothing else.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "signed {}", self.file)
    }
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
