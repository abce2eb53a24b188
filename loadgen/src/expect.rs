//! Expectations: `p99<50ms,gaps=0,kept>=0.999`, judged against a finished run.
//!
//! A term is a name, a comparison and a number. Names are counters, spans with a statistic
//! (`join.p99`), and a few figures of the whole run. What cannot be true or is not measured is
//! refused before anything runs.

use std::time::Duration;

use crate::measure::{Counters, SpanKind};
use crate::units;

/// One term.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    text: String,
    figure: Figure,
    comparison: Comparison,
    value: f64,
}

/// What a term looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// A statistic of a span, in microseconds.
    Span(SpanKind, Statistic),
    /// A counter by its name.
    Counter(String),
    /// Players that received from their join to their planned end, as a share of those planned.
    Kept,
    /// Players that joined, as a share of those planned.
    Joined,
    /// Players that recovered from what `failover` did, as a share of those that played.
    Recovered,
    /// Failures of any cause.
    Errors,
    /// Received bits per second while the full load was on.
    Rate,
}

/// A statistic of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// A percentile, 0 to 100.
    Percentile(f64),
    /// The mean.
    Mean,
    /// The largest.
    Max,
    /// How many.
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Below,
    AtMost,
    Equal,
    NotEqual,
    AtLeast,
    Above,
}

/// Longest first, because one starts with another.
const COMPARISONS: &[(&str, Comparison)] = &[
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("!=", Comparison::NotEqual),
    ("==", Comparison::Equal),
    ("<", Comparison::Below),
    (">", Comparison::Above),
    ("=", Comparison::Equal),
];

/// What became of a term.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The term as written.
    pub text: String,
    /// What was measured, in words; nothing when there was nothing to measure.
    pub measured: String,
    /// Whether it holds. Something never measured does not.
    pub met: bool,
    /// Whether a generator that is too slow may be why it does not hold.
    pub by_slowness: bool,
}

/// Reads a list of terms, separated by commas.
///
/// # Errors
/// One sentence naming the term that is not understood or cannot be met.
pub fn parse(text: &str) -> Result<Vec<Expectation>, String> {
    let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms.map(Expectation::parse).collect()
}

impl Expectation {
    fn parse(term: &str) -> Result<Self, String> {
        let at = term.find(['<', '>', '=', '!']);
        let split = at.and_then(|at| {
            let (name, rest) = term.split_at(at);
            let (sign, comparison) = COMPARISONS.iter().find(|(sign, _)| rest.starts_with(sign))?;
            Some((name.trim(), *comparison, rest[sign.len()..].trim()))
        });
        let Some((name, comparison, value)) = split else {
            return Err(format!(
                "'{term}' is no expectation: write for example p99<50ms or gaps=0"
            ));
        };
        let figure = Figure::parse(name)
            .ok_or_else(|| format!("'{name}' in the expectation '{term}' is not measured"))?;
        let value = figure.value(value).ok_or_else(|| {
            format!("'{value}' in the expectation '{term}' is no {}", figure.unit_name())
        })?;
        let expectation = Self { text: term.to_owned(), figure, comparison, value };
        if expectation.is_impossible() {
            return Err(format!("the expectation '{term}' can never be met"));
        }
        Ok(expectation)
    }

    fn is_impossible(&self) -> bool {
        let share = matches!(self.figure, Figure::Kept | Figure::Joined | Figure::Recovered);
        match self.comparison {
            Comparison::Below => self.value <= 0.0,
            Comparison::AtMost => self.value < 0.0,
            Comparison::Equal | Comparison::AtLeast => share && self.value > 1.0,
            Comparison::Above => share && self.value >= 1.0,
            Comparison::NotEqual => false,
        }
    }

    /// What the term looks at.
    #[must_use]
    pub fn figure(&self) -> &Figure {
        &self.figure
    }

    /// Judges what was measured; `None` when there was nothing to measure.
    #[must_use]
    pub fn judge(&self, measured: Option<f64>) -> Verdict {
        let met = measured.is_some_and(|measured| match self.comparison {
            Comparison::Below => measured < self.value,
            Comparison::AtMost => measured <= self.value,
            Comparison::Equal => measured == self.value,
            Comparison::NotEqual => measured != self.value,
            Comparison::AtLeast => measured >= self.value,
            Comparison::Above => measured > self.value,
        });
        let measured =
            measured.map_or_else(|| "nothing".to_owned(), |value| self.figure.show(value));
        Verdict { text: self.text.clone(), measured, met, by_slowness: self.figure.by_slowness() }
    }
}

impl Figure {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "kept" => return Some(Self::Kept),
            "joined" => return Some(Self::Joined),
            "recovered" => return Some(Self::Recovered),
            "errors" => return Some(Self::Errors),
            "rate" => return Some(Self::Rate),
            _ => {}
        }
        let (span, statistic) = name.split_once('.').unwrap_or(("latency", name));
        // Percentiles may have decimals: p99.9 is the latency's, not the 9 of a span 'p99'.
        let (span, statistic) =
            if statistic_of(name).is_some() { ("latency", name) } else { (span, statistic) };
        let kind = SpanKind::ALL.iter().find(|kind| kind.name() == span);
        if let (Some(kind), Some(statistic)) = (kind, statistic_of(statistic)) {
            return Some(Self::Span(*kind, statistic));
        }
        let known = Counters::default().table().iter().any(|(counter, ..)| *counter == name);
        known.then(|| Self::Counter(name.to_owned()))
    }

    /// Slowness makes frames late, and a server may leave out some for a reader that is slow; it
    /// makes none double, altered or out of order.
    fn by_slowness(&self) -> bool {
        !matches!(self, Self::Counter(name) if OF_CONTENT.contains(&name.as_str()))
    }

    fn value(&self, text: &str) -> Option<f64> {
        match self {
            Self::Span(_, Statistic::Count) | Self::Counter(_) | Self::Errors => {
                units::count(text).ok().map(|count| count as f64)
            }
            Self::Span(..) => {
                // A bare number has no unit that everybody would guess.
                let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
                let span = units::duration(text).ok().filter(|span| has_unit || span.is_zero());
                span.map(|span: Duration| units::micros(span) as f64)
            }
            Self::Kept | Self::Joined | Self::Recovered => text
                .strip_suffix('%')
                .map_or_else(|| text.parse().ok(), |share| Some(share.parse::<f64>().ok()? / 100.0))
                .filter(|share: &f64| share.is_finite()),
            Self::Rate => units::bit_rate(text).ok().map(|rate| rate as f64),
        }
    }

    fn unit_name(&self) -> &'static str {
        match self {
            Self::Span(_, Statistic::Count) | Self::Counter(_) | Self::Errors => "whole number",
            Self::Span(..) => "span of time with its unit, such as 50ms",
            Self::Kept | Self::Joined | Self::Recovered => "share, such as 0.999",
            Self::Rate => "bit rate, such as 2.5M",
        }
    }

    fn show(&self, value: f64) -> String {
        match self {
            Self::Span(_, Statistic::Count) | Self::Counter(_) | Self::Errors => {
                units::show_count(units::whole(value))
            }
            Self::Span(..) => units::show_micros(units::whole(value)),
            Self::Kept | Self::Joined | Self::Recovered => {
                // Rounded down, so that 0.9999 is never shown as 1.
                format!("{}", (value * 1e5).floor() / 1e5)
            }
            Self::Rate => units::show_rate(value),
        }
    }
}

/// Counters of what no reader's slowness can bring about.
const OF_CONTENT: &[&str] =
    &["doubled", "reordered", "altered", "foreign", "backward", "retimed", "headless", "keyless"];

fn statistic_of(text: &str) -> Option<Statistic> {
    match text {
        "mean" => Some(Statistic::Mean),
        "max" => Some(Statistic::Max),
        "count" => Some(Statistic::Count),
        _ => {
            let percent: f64 = text.strip_prefix('p')?.parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(Statistic::Percentile(percent))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_judged() {
        let check = |text: &str, measured: Option<f64>, met: bool| {
            let terms = parse(text).unwrap();
            assert_eq!(terms.len(), 1, "{text}");
            assert_eq!(terms[0].judge(measured).met, met, "{text} with {measured:?}");
        };
        check("p99<50ms", Some(49_999.0), true);
        check("p99<50ms", Some(50_000.0), false);
        check("p99<50ms", None, false);
        check("p99.9 <= 1s", Some(1_000_000.0), true);
        check("join.max<2s", Some(2_500_000.0), false);
        check("latency.mean<2s", Some(1.0), true);
        check("gaps=0", Some(0.0), true);
        check("gaps=0", Some(1.0), false);
        check("gaps==0", Some(1.0), false);
        check("missing!=0", Some(1.0), true);
        check("kept>=0.999", Some(0.9991), true);
        check("kept>=99.9%", Some(0.998), false);
        check("joined=1", Some(1.0), true);
        check("recovered>=0.99", Some(0.995), true);
        check("recovered=1", None, false);
        check("gap.max<1s", Some(2e6), false);
        check("rate>100M", Some(1.0e8 + 1.0), true);
        check("errors=0", Some(0.0), true);
        check("latency.count>1k", Some(1_001.0), true);
    }

    #[test]
    fn slowness_excuses_what_it_can_bring_about() {
        let counters = Counters::default();
        for name in OF_CONTENT {
            assert!(counters.table().iter().any(|(counter, ..)| counter == name), "{name}");
        }
        let check = |text: &str, by_slowness: bool| {
            assert_eq!(parse(text).unwrap()[0].judge(None).by_slowness, by_slowness, "{text}");
        };
        check("p99<50ms", true);
        check("missing=0", true);
        check("kept=1", true);
        check("altered=0", false);
        check("doubled=0", false);
    }

    #[test]
    fn lists_keep_their_order() {
        let terms = parse("p99<50ms, gaps=0 ,kept>=0.999,").unwrap();
        let texts: Vec<_> = terms.iter().map(|term| term.text.as_str()).collect();
        assert_eq!(texts, ["p99<50ms", "gaps=0", "kept>=0.999"]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_cannot_be_judged_is_refused_in_one_sentence() {
        let check = |text: &str, part: &str| {
            let sentence = parse(text).unwrap_err();
            assert!(sentence.contains(part), "{text}: {sentence}");
        };
        check("fast", "is no expectation");
        check("gaps~0", "is no expectation");
        check("speed<1", "not measured");
        check("p101<1s", "not measured");
        check("p99<50", "span of time with its unit");
        check("gaps=none", "whole number");
        check("kept>=most", "share");
        check("rate>much", "bit rate");
        check("kept>=1.1", "can never be met");
        check("kept>1", "can never be met");
        check("recovered>=1.5", "can never be met");
        check("p99<0ms", "can never be met");
        check("gaps<0", "can never be met");
    }
}
