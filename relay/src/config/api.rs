//! `[api]`: who may use the API from elsewhere.

use sha2::{Digest, Sha256};

use super::settings::Setting;
use super::{secrets, text};

/// `[api]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// The file that holds the tokens; empty for none.
    pub token_file: String,
    /// What is in it.
    pub tokens: Tokens,
}

/// Bearer tokens, by their digests. `Debug` shows none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<[u8; 32]>);

/// Shortest token: 128 bits as hexadecimal digits have twice as many.
const TOKEN_BYTES_MIN: usize = 16;

/// Longest token.
const TOKEN_BYTES_MAX: usize = 4_096;

/// Most tokens of one file; each is compared with what a request shows.
const TOKENS_MAX: usize = 64;

impl Tokens {
    /// Whether this is one of them. Takes the same time whichever it is, and whether it is any.
    #[must_use]
    pub fn hold(&self, token: &[u8]) -> bool {
        let shown: [u8; 32] = Sha256::digest(token).into();
        let differs = |known: &[u8; 32]| {
            // Digests are compared to their end, and a digest tells nothing of how near a guess is.
            known.iter().zip(&shown).fold(0, |sum, (a, b)| sum | (a ^ b)) != 0
        };
        self.0.iter().fold(false, |found, known| found | !differs(known))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One token a line; empty lines and those that begin with `#` are passed over. What is wrong
    /// is said without what was read.
    fn parse(file: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(file).map_err(|_| "is not UTF-8 text".to_owned())?;
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let mut tokens = Vec::new();
        for (number, line) in lines {
            let length = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&line.len());
            if !length || !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "has a line {} that is no token of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} \
                     printable ASCII characters",
                    number + 1
                ));
            }
            tokens.push(Sha256::digest(line).into());
        }
        match tokens.len() {
            0 => Err("has no token".to_owned()),
            1..=TOKENS_MAX => Ok(Self(tokens)),
            _ => Err(format!("has more than {TOKENS_MAX} tokens")),
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

pub(super) const SETTINGS: &[Setting] = &[Setting {
    section: "api",
    name: "token_file",
    why: "File of bearer tokens, one a line, with any of which the API may be used from other hosts; read again by a reload. \"\": from this host alone, which needs none.",
    flag: None,
    set: |config, text| {
        let tokens = if text.is_empty() {
            Tokens::default()
        } else {
            let allowed = |why: String| format!("a file of tokens, but {text} {why}");
            let file = secrets::read(text).map_err(|why| format!("a file of tokens, but {why}"))?;
            Tokens::parse(&file).map_err(allowed)?
        };
        config.api = Api { token_file: text.to_owned(), tokens };
        Ok(())
    },
    get: |config| text::quoted(&config.api.token_file),
}];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_token_a_line() {
        let one = "0123456789abcdef";
        let file = format!("# for the dashboard\n{one}\n\n  {one}x  \r\n");
        let tokens = Tokens::parse(file.as_bytes()).unwrap();
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
        for (token, good) in [
            (one.to_owned(), true),
            (format!("{one}x"), true),
            (format!("{one}y"), false),
            (one[1..].to_owned(), false),
            (String::new(), false),
            ("# for the dashboard".to_owned(), false),
        ] {
            assert_eq!(tokens.hold(token.as_bytes()), good, "{token:?}");
        }
        assert!(!Tokens::default().hold(b""));
    }

    #[test]
    fn a_bad_file_is_told_without_what_it_holds() {
        fn check(file: &[u8], expected: &str) {
            let error = Tokens::parse(file).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        check(b"", "has no token");
        check(b"# nothing\n\n", "has no token");
        check(b"short-secret\n", "has a line 1 that is no token");
        check(b"0123456789abcdef\n0123456789 secret\n", "has a line 2 that is no token");
        check(b"\xff0123456789abcdef", "is not UTF-8 text");
        check(&b"0123456789abcdef\n".repeat(65), "has more than 64 tokens");
    }
}
