//! Patterns of stream names: `*` stands for any characters, slashes among them, or for none.

use std::fmt;

/// A pattern; what holds no `*` is that one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern(String);

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

impl Pattern {
    /// `None` when it is empty or too long.
    pub(super) fn new(text: &str) -> Option<Self> {
        (1..=PATTERN_BYTES_MAX).contains(&text.len()).then(|| Self(text.to_owned()))
    }

    /// The only name that it fits, if it is one.
    pub(super) fn exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(self.0.as_str())
    }

    /// Whether it fits a name. Each part between two stars is looked for once, from where the one
    /// before it ended: the first place is as good as any later one.
    pub(super) fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        #[track_caller]
        fn check(pattern: &str, fitting: &[&str], others: &[&str]) {
            let pattern = Pattern::new(pattern).unwrap();
            for name in fitting {
                assert!(pattern.fits(name), "{pattern} fits {name}");
            }
            for name in others {
                assert!(!pattern.fits(name), "{pattern} does not fit {name}");
            }
        }
        check("cam1", &["cam1"], &["cam", "cam11", "Cam1", "xcam1", ""]);
        check("*", &["", "a", "a/b", "*"], &[]);
        check("cam*", &["cam", "cam1", "cam/1"], &["ca", "xcam"]);
        check("*cam", &["cam", "1cam", "camcam"], &["cam1", "am"]);
        check("a*b*c", &["abc", "aXbYc", "abbc", "abcbc"], &["ac", "acb", "abcb", "ab"]);
        check("a*a", &["aa", "aba"], &["a"]);
        check("**", &["", "x"], &[]);
        check("a**b", &["ab", "axb"], &["a", "b"]);
        check("live/*/cam", &["live/a/cam", "live//cam", "live/a/b/cam"], &["live/cam"]);
        check("\u{e9}*", &["\u{e9}", "\u{e9}a"], &["e", ""]);
        assert!(Pattern::new("").is_none());
        assert!(Pattern::new(&"x".repeat(1025)).is_none());
        assert_eq!(Pattern::new("a").unwrap().exact(), Some("a"));
        assert_eq!(Pattern::new("a*").unwrap().exact(), None);
    }

    #[test]
    fn patterns_agree_with_the_plainest_matcher() {
        fn plain(pattern: &[u8], name: &[u8]) -> bool {
            match pattern.split_first() {
                None => name.is_empty(),
                Some((b'*', rest)) => (0..=name.len()).any(|at| plain(rest, &name[at..])),
                Some((byte, rest)) => name.first() == Some(byte) && plain(rest, &name[1..]),
            }
        }
        let seed = 11;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text = |letters: &[u8], most| -> String {
            (0..random.usize(..most))
                .map(|_| char::from(*random.choice(letters).unwrap()))
                .collect()
        };
        for _ in 0..20_000 {
            let (pattern, name) = (text(b"ab*", 7), text(b"ab", 9));
            let Some(parsed) = Pattern::new(&pattern) else { continue };
            let expected = plain(pattern.as_bytes(), name.as_bytes());
            assert_eq!(parsed.fits(&name), expected, "seed {seed}: {pattern} and {name}");
        }
    }
}
