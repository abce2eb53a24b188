//! Static stream keys: a file with one line for each, which holds a digest of the key and not the
//! key.
//!
//! ```text
//! # names within the application, then sha256:<salt>:<SHA-256 of salt and key, in hexadecimal>
//! cam1  sha256:5b1c9d02:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! tv/*  sha256:...
//! ```
//!
//! `relay key` makes such a line and the key for it; so does
//! `printf '%s' "$salt$key" | sha256sum`. One digest is enough because keys are long and made by
//! chance; a word that somebody thought of is none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::KeyId;
use super::parameter::{bad_lines, from_hex, hex, lines};
use super::pattern::Pattern;

/// Most lines of one file.
const KEYS_MAX: usize = 10_000;

/// Most lines whose pattern has a star: each costs a digest for each name that it fits.
const WILD_MAX: usize = 1_000;

/// Longest salt, in bytes.
const SALT_BYTES_MAX: usize = 64;

/// The keys of one file.
#[derive(PartialEq, Eq)]
pub(super) struct StreamKeys {
    pub(super) file: Arc<str>,
    exact: BTreeMap<String, Vec<HashedKey>>,
    wild: Vec<(Pattern, HashedKey)>,
}

#[derive(PartialEq, Eq)]
struct HashedKey {
    salt: String,
    digest: [u8; 32],
}

impl StreamKeys {
    /// Reads a file's content.
    ///
    /// # Errors
    /// What it must be and is not, without a word of it.
    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Self, String> {
        let mut keys = Self { file: file.into(), exact: BTreeMap::new(), wild: Vec::new() };
        let lines = lines(bytes).ok_or_else(|| format!("a rule whose file {file} is text"))?;
        let (mut count, mut wrong) = (0_usize, Vec::new());
        for (number, words) in lines {
            count += 1;
            match (Pattern::new(words[0]), words.get(1).and_then(|text| HashedKey::parse(text))) {
                (Some(pattern), Some(key)) if words.len() == 2 => match pattern.exact() {
                    Some(name) => keys.exact.entry(name.to_owned()).or_default().push(key),
                    None => keys.wild.push((pattern, key)),
                },
                _ => wrong.push(number),
            }
        }
        if !wrong.is_empty() {
            let form = "nothing but a stream name and sha256:<salt>:<64 hexadecimal digits>, \
                        as `relay key` writes it";
            return Err(bad_lines(file, &wrong, form));
        }
        if !(1..=KEYS_MAX).contains(&count) || keys.wild.len() > WILD_MAX {
            return Err(format!(
                "a rule whose file {file} has 1 to {KEYS_MAX} stream keys, at most {WILD_MAX} of \
                 them for names with a star"
            ));
        }
        Ok(keys)
    }

    /// Which key this is, if it is one for that name within the application.
    pub(super) fn find(&self, name: &str, key: &str) -> Option<KeyId> {
        let exact = self.exact.get(name).into_iter().flatten();
        let wild = self.wild.iter().filter(|(pattern, _)| pattern.fits(name));
        let mut candidates = exact.chain(wild.map(|(_, key)| key));
        candidates
            .find(|candidate| candidate.is(key))
            .map(|found| KeyId::of("key", &[found.salt.as_bytes(), &found.digest]))
    }
}

impl HashedKey {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (kind, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
        let fine = kind == "sha256" && parts.next().is_none() && salt.len() <= SALT_BYTES_MAX;
        fine.then_some(())?;
        Some(Self { salt: salt.to_owned(), digest: from_hex(digest)? })
    }

    fn is(&self, key: &str) -> bool {
        digest(&self.salt, key).ct_eq(&self.digest).into()
    }
}

/// A line for a key, without the name that goes before it.
#[must_use]
pub fn key_line(salt: &str, key: &str) -> String {
    format!("sha256:{salt}:{}", hex(&digest(salt, key)))
}

fn digest(salt: &str, key: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(key).finalize().into()
}

impl fmt::Debug for StreamKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "key {}", self.file)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_the_names_of_its_line() {
        let file = format!(
            "# cameras\ncam1 {}\ncam1 {}\ntv/* {}\n",
            key_line("ab", "first"),
            key_line("", "second"),
            key_line("cd", "wild")
        );
        let keys = StreamKeys::parse("f", file.as_bytes()).unwrap();
        let check = |name: &str, key: &str, expected: bool| {
            assert_eq!(keys.find(name, key).is_some(), expected, "{name} with {key}");
        };
        check("cam1", "first", true);
        check("cam1", "second", true);
        check("cam1", "wild", false);
        check("cam1", "firs", false);
        check("cam1", "first ", false);
        check("cam1", "abfirst", false);
        check("cam1", "", false);
        check("cam2", "first", false);
        check("tv/1", "wild", true);
        check("tv/", "wild", true);
        check("tv", "wild", false);
        assert_eq!(keys.find("tv/1", "wild"), keys.find("tv/2", "wild"));
        assert_ne!(keys.find("cam1", "first"), keys.find("cam1", "second"));
        assert_eq!(format!("{keys:?}"), "key f");
    }

    /// What `printf '%s' saltkey | sha256sum` writes.
    #[test]
    fn a_line_can_be_made_by_other_programs() {
        assert_eq!(
            key_line("salt", "key"),
            "sha256:salt:4a466ea0657e479545b1d6c2d994824f80d8eecd7030f3092ff42a9bcad751d8"
        );
        assert_eq!(
            key_line("", "test"),
            "sha256::9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        );
    }

    #[test]
    fn mistakes_are_told_by_their_lines_and_show_no_secret() {
        #[track_caller]
        fn check(file: &[u8], expected: &str) {
            let error = StreamKeys::parse("f", file).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
        let fine = key_line("ab", "x");
        check(b"", "1 to 10000 stream keys");
        check(b"# only words\n\n", "1 to 10000 stream keys");
        check(b"\xff\xfe", "is text");
        check(b"cam1 SECRET", "in line 1 nothing but");
        check(format!("cam1 {fine}\n\ncam2 {fine} SECRET\ncam3\n").as_bytes(), "in lines 3, 4 ");
        check(format!("cam1 {fine}0\n").as_bytes(), "in line 1 ");
        check(format!("cam1 md5{fine}\n").as_bytes(), "in line 1 ");
        check(format!("cam1 {fine}:SECRET\n").as_bytes(), "in line 1 ");
        let wild = format!("a* {fine}\n").repeat(WILD_MAX + 1);
        check(wild.as_bytes(), "at most 1000 of them");
        let many = format!("a {fine}\n").repeat(KEYS_MAX + 1);
        check(many.as_bytes(), "1 to 10000 stream keys");
    }
}
