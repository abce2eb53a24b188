//! Values as people write them, and back: times, bytes, counts, addresses.

use std::net::SocketAddr;
use std::time::Duration;

/// A whole number of `us`, `ms`, `s`, `m` or `h`, up to 24 hours.
pub(super) fn time(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let micros = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60 * 1_000_000,
        "h" => 3_600 * 1_000_000,
        _ => return None,
    };
    let time = Duration::from_micros(number.checked_mul(micros)?);
    (time <= TIME_MAX).then_some(time)
}

/// Longest time that can be set.
pub(super) const TIME_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The shortest way to write a time.
pub(super) fn show_time(time: Duration) -> String {
    let micros = time.as_micros();
    if micros.is_multiple_of(1_000_000) {
        format!("{}s", time.as_secs())
    } else if micros.is_multiple_of(1_000) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{micros}us")
    }
}

/// A whole number of bytes, `KiB`, `MiB` or `GiB`.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}

/// The shortest way to write a number of bytes.
pub(super) fn show_bytes(bytes: usize) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A whole number; `_` may part its digits.
pub(super) fn count(text: &str) -> Option<usize> {
    match number_and_unit(text)? {
        (number, "") => usize::try_from(number).ok(),
        _ => None,
    }
}

/// Texts between commas, or a TOML array of strings; `None` when it is neither, or has more than
/// [`LIST_MAX`]. An empty text is an empty list.
pub(super) fn list(text: &str) -> Option<Vec<String>> {
    let items: Vec<String> = if text.trim_start().starts_with('[') {
        let table: toml::Table = format!("list = {text}").parse().ok()?;
        let items = table.get("list")?.as_array()?;
        items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()?
    } else {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    };
    (items.len() <= LIST_MAX).then_some(items)
}

/// Most items of one list.
pub(super) const LIST_MAX: usize = 64;

/// An address with a port.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// A string as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A foreign value as part of a sentence: on one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String = text.chars().take(CHARS_MAX).collect();
    if shown.contains(char::is_control) {
        shown = shown.escape_debug().to_string();
    }
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let proper = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('_');
    let number = proper.then(|| number.replace('_', ""))?.parse().ok()?;
    Some((number, unit.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        fn check(text: &str, micros: Option<u64>, shown: &str) {
            assert_eq!(time(text), micros.map(Duration::from_micros), "{text:?}");
            if let Some(micros) = micros {
                let written = show_time(Duration::from_micros(micros));
                assert_eq!(written, shown, "{text:?}");
                assert_eq!(time(&written), Some(Duration::from_micros(micros)), "{text:?}");
            }
        }
        check("45s", Some(45_000_000), "45s");
        check("20ms", Some(20_000), "20ms");
        check("20 ms", Some(20_000), "20ms");
        check("1_500ms", Some(1_500_000), "1500ms");
        check("0ms", Some(0), "0s");
        check("7us", Some(7), "7us");
        check("2m", Some(120_000_000), "120s");
        check("24h", Some(86_400_000_000), "86400s");
        for bad in [
            "",
            "s",
            "5",
            "5 ",
            "-5s",
            "+5s",
            "1.5s",
            "5S",
            "5sec",
            "5s5s",
            "25h",
            "_5s",
            "5_s",
            "99999999999999999999s",
            "18446744073709551615h",
            "\u{0665}s",
        ] {
            check(bad, None, "");
        }
    }

    #[test]
    fn bytes_are_read_and_written() {
        fn check(text: &str, expected: Option<usize>, shown: &str) {
            assert_eq!(bytes(text), expected, "{text:?}");
            if let Some(expected) = expected {
                assert_eq!(show_bytes(expected), shown, "{text:?}");
                assert_eq!(bytes(&show_bytes(expected)), Some(expected), "{text:?}");
            }
        }
        check("0", Some(0), "0");
        check("1000", Some(1_000), "1000");
        check("10B", Some(10), "10");
        check("65536", Some(65_536), "64KiB");
        check("64KiB", Some(65_536), "64KiB");
        check("32 MiB", Some(32 << 20), "32MiB");
        check("1024MiB", Some(1 << 30), "1GiB");
        check("16777215", Some(16_777_215), "16777215");
        for bad in ["", "KiB", "64K", "64kb", "64KB", "1.5MiB", "-1", "99999999999999999999", "1 2"]
        {
            check(bad, None, "");
        }
    }

    #[test]
    fn counts_are_plain() {
        for (text, expected) in
            [("7", Some(7)), ("100_000", Some(100_000)), ("7s", None), ("", None), ("-7", None)]
        {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lists_are_written_with_commas_or_as_arrays() {
        fn check(text: &str, expected: Option<&[&str]>) {
            let expected = expected.map(|items| items.iter().map(ToString::to_string).collect());
            assert_eq!(list(text), expected, "{text:?}");
        }
        check("", Some(&[]));
        check("a", Some(&["a"]));
        check(" a , b,, c ", Some(&["a", "b", "c"]));
        check("[\"a\", \"b,c\"]", Some(&["a", "b,c"]));
        check("[]", Some(&[]));
        check("[1]", None);
        check("[\"a\"", None);
        check(&"a,".repeat(LIST_MAX), Some(&["a"; LIST_MAX]));
        check(&"a,".repeat(LIST_MAX + 1), None);
    }

    #[test]
    fn a_foreign_value_stays_on_one_short_line() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert_eq!(shown(&"x".repeat(60)), "x".repeat(60));
        assert_eq!(shown(&"x".repeat(61)), format!("{}...", "x".repeat(60)));
    }
}
