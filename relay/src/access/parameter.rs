//! Parameters of queries, and lines of files.

use std::borrow::Cow;

/// The first value of a parameter that is not empty, with its percent escapes resolved; a plus sign
/// stays one, for base64 has some. What is no UTF-8 then has no value.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let value = raw_parameter(query, name)?;
    if !value.contains('%') {
        return Some(Cow::Borrowed(value));
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail.get(..2).filter(|_| *first == b'%').and_then(hex_byte);
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// The same as it came: who asks for a user and password escapes nothing.
pub(super) fn raw_parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
}

/// Bytes written in hexadecimal digits of either case.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_byte(pair)?;
    }
    Some(bytes)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 0x0F)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The lines of a file that say something, with their numbers from 1, cut into words: neither
/// empty ones nor those that begin with `#`. `None` when the file is no text.
pub(super) fn lines(bytes: &[u8]) -> Option<impl Iterator<Item = (usize, Vec<&str>)>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines = text.lines().enumerate().map(|(number, line)| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        (number + 1, words)
    });
    Some(lines.filter(|(_, words)| words.first().is_some_and(|word| !word.starts_with('#'))))
}

/// What every file of lines says of those that are wrong: their numbers, and never a word of them.
pub(super) fn bad_lines(file: &str, numbers: &[usize], form: &str) -> String {
    const TOLD_MAX: usize = 10;
    let told: Vec<String> = numbers.iter().take(TOLD_MAX).map(usize::to_string).collect();
    let more = numbers.len().saturating_sub(TOLD_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let s = if numbers.len() == 1 { "" } else { "s" };
    format!("a rule whose file {file} has in line{s} {}{more} {form}", told.join(", "))
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_and_unescaped() {
        #[track_caller]
        fn check(query: &str, name: &str, expected: Option<&str>) {
            assert_eq!(parameter(query, name).as_deref(), expected, "{query}");
        }
        check("a=1&b=2", "b", Some("2"));
        check("a=1&b=2", "c", None);
        check("a&a=&a=3&a=4", "a", Some("3"));
        check("a=b=c==", "a", Some("b=c=="));
        check("a=%41%2f%2F", "a", Some("A//"));
        check("a=x+y%20z", "a", Some("x+y z"));
        check("a=%", "a", Some("%"));
        check("a=%4", "a", Some("%4"));
        check("a=%zz%41", "a", Some("%zzA"));
        check("a=%25%32%35", "a", Some("%25"));
        check("a=%ff", "a", None);
        check("a=%c3%a9", "a", Some("\u{e9}"));
        check("a=\u{e9}%41", "a", Some("\u{e9}A"));
        check("", "a", None);
        assert_eq!(raw_parameter("a=%41", "a"), Some("%41"));
    }

    #[test]
    fn hexadecimal_digits_are_read_and_written() {
        assert_eq!(from_hex("00ffA5"), Some([0, 255, 0xA5]));
        assert_eq!(from_hex::<2>("00ffA5"), None);
        assert_eq!(from_hex::<1>("0g"), None);
        assert_eq!(from_hex::<1>("+1"), None);
        assert_eq!(hex(&[0, 255, 0xA5]), "00ffa5");
    }

    #[test]
    fn lines_are_numbered_and_comments_left_out() {
        let text = b"# a\n\n  b  c\n#d\r\ne#f\r\n";
        let found: Vec<_> = lines(text).unwrap().collect();
        assert_eq!(found, [(3, vec!["b", "c"]), (5, vec!["e#f"])]);
        assert!(lines(b"\xff").is_none());
        let many: Vec<usize> = (1..=12).collect();
        let told = bad_lines("f", &many, "x");
        assert_eq!(
            told,
            "a rule whose file f has in lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more x"
        );
    }
}
