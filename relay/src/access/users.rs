//! Users with passwords, for encoders that have fields for them.
//!
//! ```text
//! # names within the application, user, password
//! cam*  alice  correct-horse-battery
//! *     bob    md5:c29kaXVt:V1TL65skrxnpPX/TjeSOGg==:5f4dcc3b5aa765d61d8327deb882cf99
//! ```
//!
//! The second form holds no password but what the two ways of asking for one need of it; `relay key
//! --user` makes it. Whoever reads the file can answer for the user all the same, since both ways
//! are built upon MD5, so it is kept as secret as the first form.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use super::parameter::{bad_lines, from_hex, hex, lines};
use super::pattern::Pattern;

/// Most users of one file.
const USERS_MAX: usize = 10_000;

/// Longest name of a user, in bytes.
pub(super) const USER_BYTES_MAX: usize = 128;

/// Length of a salt that is made here, in characters.
const SALT_CHARACTERS: usize = 8;

/// The users of one file.
#[derive(PartialEq, Eq)]
pub(super) struct Users {
    pub(super) file: Arc<str>,
    users: BTreeMap<String, User>,
    /// What challenges are made with: equal on all nodes that have the same file.
    secret: [u8; 32],
}

#[derive(PartialEq, Eq)]
struct User {
    names: Vec<Pattern>,
    proof: Proof,
}

/// What is known of a user's password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) salt: String,
    /// Adobe: base64 of the MD5 of user, salt and password.
    pub(super) adobe: String,
    /// Limelight: MD5 of `user:live:password`, in hexadecimal digits.
    pub(super) limelight: String,
}

impl Users {
    /// Reads a file's content.
    ///
    /// # Errors
    /// What it must be and is not, without a word of it.
    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Self, String> {
        let lines = lines(bytes).ok_or_else(|| format!("a rule whose file {file} is text"))?;
        let secret = code(bytes, &[b"relay authmod"]);
        let mut known = Self { file: file.into(), users: BTreeMap::new(), secret };
        let mut wrong = Vec::new();
        for (number, words) in lines {
            if !known.enter(&words) {
                wrong.push(number);
            }
        }
        if !wrong.is_empty() {
            let form = "nothing but a stream name, a user and a password without spaces, the same \
                        password for every line of a user";
            return Err(bad_lines(file, &wrong, form));
        }
        if !(1..=USERS_MAX).contains(&known.users.len()) {
            return Err(format!("a rule whose file {file} has 1 to {USERS_MAX} users"));
        }
        Ok(known)
    }

    fn enter(&mut self, words: &[&str]) -> bool {
        let [name, user, password] = words else { return false };
        let (Some(pattern), Some(proof)) = (Pattern::new(name), self.proof(user, password)) else {
            return false;
        };
        // Parameters of a query are not escaped by those who ask for a password.
        let plain = user.bytes().all(|byte| byte.is_ascii_graphic() && !b"&?=#".contains(&byte));
        if !plain || user.len() > USER_BYTES_MAX {
            return false;
        }
        let fresh = User { names: Vec::new(), proof: proof.clone() };
        let entry = self.users.entry((*user).to_owned()).or_insert(fresh);
        let same = entry.proof == proof;
        entry.names.push(pattern);
        same
    }

    fn proof(&self, user: &str, password: &str) -> Option<Proof> {
        match password.strip_prefix("md5:") {
            Some(hashes) => Proof::parse(hashes),
            None => Some(Proof::new(user, &self.salt(user), password)),
        }
    }

    /// What is known of a user. One that is not known has a salt and no way in, so that nobody
    /// learns which users there are.
    pub(super) fn challenged(&self, user: &str) -> (String, Option<&Proof>) {
        match self.users.get(user) {
            Some(known) => (known.proof.salt.clone(), Some(&known.proof)),
            None => (self.salt(user), None),
        }
    }

    /// Whether a user, known by its password, may use a name within the application.
    pub(super) fn may_use(&self, user: &str, name: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.names.iter().any(|own| own.fits(name)))
    }

    /// A code that only who has this file can make.
    pub(super) fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        code(&self.secret, parts)
    }

    fn salt(&self, user: &str) -> String {
        let code = self.code(&[b"salt", user.as_bytes()]);
        STANDARD
            .encode(code)
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(SALT_CHARACTERS)
            .collect()
    }
}

impl Proof {
    /// For a password.
    pub(super) fn new(user: &str, salt: &str, password: &str) -> Self {
        let adobe = base64_md5(&[user, salt, password]);
        let limelight = hex_md5(&[user, ":live:", password]);
        Self { salt: salt.to_owned(), adobe, limelight }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (salt, adobe, limelight) = (parts.next()?, parts.next()?, parts.next()?);
        let salted = !salt.is_empty() && salt.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let hashed = STANDARD.decode(adobe).is_ok_and(|md5| md5.len() == 16)
            && from_hex::<16>(limelight).is_some();
        let fine = salted && hashed && parts.next().is_none();
        fine.then(|| Self {
            salt: salt.to_owned(),
            adobe: adobe.to_owned(),
            limelight: limelight.to_ascii_lowercase(),
        })
    }
}

/// What stands for a password in a line of a file of users.
#[must_use]
pub fn password_hash(user: &str, salt: &str, password: &str) -> String {
    let Proof { salt, adobe, limelight } = Proof::new(user, salt, password);
    format!("md5:{salt}:{adobe}:{limelight}")
}

pub(super) fn base64_md5(parts: &[&str]) -> String {
    STANDARD.encode(md5(parts))
}

pub(super) fn hex_md5(parts: &[&str]) -> String {
    hex(&md5(parts))
}

fn md5(parts: &[&str]) -> [u8; 16] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// A code over parts whose ends are not mistaken for each other.
fn code(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut code = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        code.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        code.update(part);
    }
    code.finalize().into_bytes().into()
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "password {}", self.file)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_names_and_one_password() {
        let file = b"cam* alice secret\ntv/1 alice secret\n* bob other\n";
        let users = Users::parse("f", file).unwrap();
        let check = |user: &str, name: &str, expected| {
            assert_eq!(users.may_use(user, name), expected, "{user} {name}");
        };
        check("alice", "cam1", true);
        check("alice", "tv/1", true);
        check("alice", "tv/2", false);
        check("bob", "tv/2", true);
        check("carol", "cam1", false);
        assert_eq!(format!("{users:?}"), "password f");
        let (salt, proof) = users.challenged("alice");
        assert!(
            salt.len() == SALT_CHARACTERS && proof == Some(&Proof::new("alice", &salt, "secret"))
        );
        let (salt, proof) = users.challenged("carol");
        assert!(salt.len() == SALT_CHARACTERS && proof.is_none());
        assert_eq!(users.challenged("carol").0, salt, "who asks twice learns nothing");
    }

    #[test]
    fn a_line_may_hold_hashes_instead_of_the_password() {
        let hash = password_hash("user", "abcd", "pass");
        assert!(hash.starts_with("md5:abcd:V1TL65skrxnpPX/TjeSOGg==:"), "{hash}");
        let users = Users::parse("f", format!("* user {hash}").as_bytes()).unwrap();
        let (salt, proof) = users.challenged("user");
        assert!(salt == "abcd" && proof == Some(&Proof::new("user", "abcd", "pass")));
    }

    #[test]
    fn mistakes_are_told_by_their_lines_and_show_no_secret() {
        #[track_caller]
        fn check(file: &str, expected: &str) {
            let error = Users::parse("f", file.as_bytes()).unwrap_err();
            assert!(error.contains(expected) && !error.contains("SECRET"), "{error}");
        }
        check("", "1 to 10000 users");
        check("alice SECRET", "in line 1 ");
        check("* alice SECRET\n* alice SECRET more", "in line 2 ");
        check("* alice SECRET\n* alice SECRETS", "in line 2 ");
        check("* a&b SECRET", "in line 1 ");
        check("* al\u{ef}ce SECRET", "in line 1 ");
        check("* alice md5:", "in line 1 ");
        check("* alice md5:a:SECRET:5f4dcc3b5aa765d61d8327deb882cf99", "in line 1 ");
        check("* alice md5:a:V1TL65skrxnpPX/TjeSOGg==:SECRET", "in line 1 ");
    }
}
