//! Numbers as people write them: `2.5M`, `1m30s`, `10%`, `5k`, in both directions.
//!
//! Every number is judged here, once; nothing else parses text.

use std::time::Duration;

/// Bits per second: `2.5M`, `800k`, `128000`.
///
/// # Errors
/// One sentence when the text is no positive number with one of the units k, M, G.
pub fn bit_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no bit rate: write for example 2.5M, 800k or 128000");
    let text = text.trim();
    let text = text.strip_suffix("bit/s").or_else(|| text.strip_suffix("bps")).unwrap_or(text);
    let value = scaled(text).ok_or_else(wrong)?;
    if (1.0..=1e12).contains(&value) { Ok(whole(value)) } else { Err(wrong()) }
}

/// A number of things: `5000`, `5k`.
///
/// # Errors
/// One sentence when the text is no whole number, perhaps with k or M.
pub fn count(text: &str) -> Result<usize, String> {
    let wrong = || format!("'{text}' is no number of things: write for example 200 or 5k");
    let value = scaled(text.trim()).ok_or_else(wrong)?;
    if value.fract() != 0.0 || !(0.0..=1e9).contains(&value) {
        return Err(wrong());
    }
    usize::try_from(whole(value)).map_err(|_| wrong())
}

/// A span of time: `30s`, `1m30s`, `250ms`, `2h`, or plain seconds.
///
/// # Errors
/// One sentence when it is none, or longer than 30 days.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no span of time: write for example 30s, 1m30s or 250ms");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += value
            * match &rest[..unit] {
                "us" => 1e-6,
                "ms" => 1e-3,
                "s" | "" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    if seconds > 30.0 * 86400.0 { Err(wrong()) } else { Ok(Duration::from_secs_f64(seconds)) }
}

/// A share of a whole, 0 to 1: `0.05`, `5%`, `all`.
///
/// # Errors
/// One sentence when it is none.
pub fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is no share: write for example 0.05, 5% or all");
    let text = text.trim();
    let value = match text.strip_suffix('%') {
        _ if text == "all" => 1.0,
        Some(percent) => percent.parse::<f64>().map_err(|_| wrong())? / 100.0,
        None => text.parse().map_err(|_| wrong())?,
    };
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(wrong()) }
}

fn scaled(text: &str) -> Option<f64> {
    let (digits, factor) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1e3),
        'm' | 'M' => (&text[..text.len() - 1], 1e6),
        'g' | 'G' => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { Some(digits.parse::<f64>().ok()? * factor) } else { None }
}

/// The whole part of a number, brought into range: 0 for what is negative or no number.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a float becomes the nearest end of the range")]
pub fn whole(value: f64) -> u64 {
    value as u64
}

/// Microseconds, the unit of every histogram.
#[must_use]
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Whole milliseconds, the unit of timestamps.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The lower half of a number, for what counts modulo 2^32.
#[must_use]
pub fn low_bits(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("32 bits are left")
}

/// Nanoseconds.
#[must_use]
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A number of things as 64 bits.
#[must_use]
pub fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// `1.23 Mbit/s`.
#[must_use]
pub fn show_rate(bits_per_second: f64) -> String {
    format!("{}bit/s", show_scaled(bits_per_second, 1000.0))
}

/// `1.23 GB`.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    format!("{}B", show_scaled(bytes as f64, 1000.0))
}

/// `12,345`.
#[must_use]
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A span given in microseconds: `850 µs`, `12.3 ms`, `4.56 s`, `2 m 05 s`.
#[must_use]
pub fn show_micros(micros: u64) -> String {
    let value = micros as f64;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.2} ms", value / 1e3),
        10_000..100_000 => format!("{:.1} ms", value / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", value / 1e3),
        1_000_000..60_000_000 => format!("{:.2} s", value / 1e6),
        _ => format!("{} m {:02} s", micros / 60_000_000, micros / 1_000_000 % 60),
    }
}

/// A span as people write it: `1m30s`.
#[must_use]
pub fn show_duration(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match (seconds, millis) {
        (0, millis) => format!("{millis}ms"),
        (seconds @ 0..60, 0) => format!("{seconds}s"),
        (seconds @ 0..60, _) => {
            format!("{:.1}s", Duration::new(seconds, millis * 1_000_000).as_secs_f64())
        }
        (seconds, _) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, _) => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

fn show_scaled(value: f64, base: f64) -> String {
    let mut value = value;
    for unit in ["", "k", "M", "G"] {
        if value < base {
            let decimals = if unit.is_empty() || value >= 100.0 { 0 } else { 2 };
            return format!("{value:.decimals$} {unit}");
        }
        value /= base;
    }
    format!("{value:.2} T")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(bit_rate(text).ok(), expected, "{text}");
        };
        check("2.5M", Some(2_500_000));
        check("800k", Some(800_000));
        check("128000", Some(128_000));
        check("1G", Some(1_000_000_000));
        check("3Mbps", Some(3_000_000));
        check("", None);
        check("fast", None);
        check("-1M", None);
        check("0", None);
        check("inf", None);
        check("nan", None);
    }

    #[test]
    fn counts() {
        let check =
            |text: &str, expected: Option<usize>| assert_eq!(count(text).ok(), expected, "{text}");
        check("200", Some(200));
        check("5k", Some(5_000));
        check("1.5k", Some(1_500));
        check("0", Some(0));
        check("1.5", None);
        check("-3", None);
        check("many", None);
    }

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("30s", Some(30_000));
        check("30", Some(30_000));
        check("1m30s", Some(90_000));
        check("250ms", Some(250));
        check("1.5h", Some(5_400_000));
        check("", None);
        check("s", None);
        check("5 parsecs", None);
        check("40d", None);
    }

    #[test]
    fn shares() {
        let check =
            |text: &str, expected: Option<f64>| assert_eq!(share(text).ok(), expected, "{text}");
        check("0.05", Some(0.05));
        check("5%", Some(0.05));
        check("all", Some(1.0));
        check("1.5", None);
        check("-1", None);
        check("most", None);
    }

    #[test]
    fn shown_as_people_read_them() {
        assert_eq!(show_rate(2_500_000.0), "2.50 Mbit/s");
        assert_eq!(show_rate(12.0), "12 bit/s");
        assert_eq!(show_bytes(1_230_000_000), "1.23 GB");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(999), "999");
        assert_eq!(show_micros(850), "850 µs");
        assert_eq!(show_micros(12_340), "12.3 ms");
        assert_eq!(show_micros(125_000_000), "2 m 05 s");
        assert_eq!(show_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(show_duration(Duration::from_millis(250)), "250ms");
        assert_eq!(whole(-1.0), 0);
    }
}
