//! The committed counts, and what is said about a run that differs from them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::CannotRun;

/// The file of bounds. A case may need so many percent more than is committed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    /// By how much a count may exceed what is committed.
    pub(super) margin_percent: f64,
    cases: BTreeMap<String, Committed>,
}

/// What is committed for one case.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Committed {
    per: String,
    instructions: f64,
}

/// One case, measured and committed. One of the two may be missing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) name: String,
    pub(super) per: String,
    pub(super) measured: Option<f64>,
    pub(super) committed: Option<f64>,
    exceeded: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { margin_percent: 10.0, cases: BTreeMap::new() }
    }
}

impl Bounds {
    pub(super) fn read(file: &Path) -> Result<Self, CannotRun> {
        let failed = |error: String| CannotRun(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    pub(super) fn write(&self, file: &Path) -> Result<(), CannotRun> {
        let failed = |error: String| CannotRun(format!("{}: {error}", file.display()));
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.to_string()))?;
        std::fs::write(file, text + "\n").map_err(|error| failed(error.to_string()))
    }

    pub(super) fn clear(&mut self) {
        self.cases.clear();
    }

    /// Commits to a count, rounded to four significant digits: more would change at every build.
    pub(super) fn set(&mut self, name: &str, per: &str, instructions: f64) {
        let instructions = format!("{instructions:.3e}").parse().unwrap_or(instructions);
        self.cases.insert(name.to_owned(), Committed { per: per.to_owned(), instructions });
    }

    /// Judges (name, unit, count) of every case whose name contains `only`.
    pub(super) fn judge(&self, measured: &[(&str, &str, f64)], only: &str) -> Vec<Verdict> {
        let mut verdicts: Vec<_> = measured
            .iter()
            .map(|&(name, per, count)| {
                let committed = self.cases.get(name).map(|committed| committed.instructions);
                let bound = committed.map(|count| count * (1.0 + self.margin_percent / 100.0));
                Verdict {
                    name: name.to_owned(),
                    per: per.to_owned(),
                    measured: Some(count),
                    committed,
                    exceeded: bound.is_some_and(|bound| count > bound),
                }
            })
            .collect();
        let known = |name: &str| measured.iter().any(|&(other, ..)| other == name);
        let gone = self.cases.iter().filter(|(name, _)| name.contains(only) && !known(name));
        verdicts.extend(gone.map(|(name, committed)| Verdict {
            name: name.clone(),
            per: committed.per.clone(),
            measured: None,
            committed: Some(committed.instructions),
            exceeded: false,
        }));
        verdicts
    }
}

impl Verdict {
    /// Whether it is as committed, or better.
    pub(super) fn is_met(&self) -> bool {
        self.measured.is_some() && self.committed.is_some() && !self.exceeded
    }

    /// By how much the count differs from what is committed.
    pub(super) fn change_percent(&self) -> Option<f64> {
        Some((self.measured? / self.committed? - 1.0) * 100.0)
    }

    /// For the table.
    pub(super) fn sentence(&self, margin_percent: f64) -> String {
        match (self.measured, self.committed) {
            (Some(_), None) => "NO BOUND: commit one with --write".to_owned(),
            (None, _) => "NO SUCH CASE: drop its bound with --write".to_owned(),
            (Some(measured), Some(committed)) if self.exceeded => {
                let bound = committed * (1.0 + margin_percent / 100.0);
                let over = (measured / bound - 1.0) * 100.0;
                let more = measured - committed;
                format!(
                    "EXCEEDED: {} more than committed, {over:.1} % over its bound",
                    crate::report::number(more)
                )
            }
            (Some(measured), Some(committed)) if measured < committed * 0.9 => {
                "met; so much better that --write is due".to_owned()
            }
            _ => "met".to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        let mut bounds = Bounds::default();
        bounds.set("cursor-1", "player and flush", 200.0);
        bounds.set("join", "join", 1_000.0);
        bounds
    }

    #[test]
    fn a_run_is_judged_case_by_case() {
        #[track_caller]
        fn check(measured: &[(&str, f64)], only: &str, expected: &[(&str, bool, &str)]) {
            let measured: Vec<_> =
                measured.iter().map(|&(name, count)| (name, "x", count)).collect();
            let verdicts = bounds().judge(&measured, only);
            assert_eq!(verdicts.len(), expected.len(), "{verdicts:?}");
            for (verdict, &(name, met, sentence)) in verdicts.iter().zip(expected) {
                assert_eq!((verdict.name.as_str(), verdict.is_met()), (name, met));
                assert_eq!(verdict.sentence(10.0), sentence);
            }
        }
        let both = |cursor, join| [("cursor-1", cursor), ("join", join)];
        let fine = [("cursor-1", true, "met"), ("join", true, "met")];
        check(&both(200.0, 1_000.0), "", &fine);
        check(&both(219.0, 1_099.0), "", &fine);
        let over = "EXCEEDED: 240 more than committed, 100.0 % over its bound";
        check(&both(440.0, 1_000.0), "", &[("cursor-1", false, over), ("join", true, "met")]);
        let better = "met; so much better that --write is due";
        check(&both(200.0, 500.0), "", &[("cursor-1", true, "met"), ("join", true, better)]);
        let gone = "NO SUCH CASE: drop its bound with --write";
        check(&[("join", 1_000.0)], "", &[("join", true, "met"), ("cursor-1", false, gone)]);
        check(&[("join", 1_000.0)], "join", &[("join", true, "met")]);
        let new = "NO BOUND: commit one with --write";
        check(
            &[("join", 1_000.0), ("join-2", 1.0)],
            "join",
            &[("join", true, "met"), ("join-2", false, new)],
        );
    }

    #[test]
    fn the_committed_file_names_the_cases_that_are_counted() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
        let text = std::fs::read_to_string(file).unwrap();
        let committed: Bounds = serde_json::from_str(&text).unwrap();
        let cases = crate::cases::all().into_iter().filter(|case| case.counted.is_some());
        let mut names: Vec<_> = cases.map(|case| case.name.to_owned()).collect();
        names.sort();
        assert_eq!(committed.cases.into_keys().collect::<Vec<_>>(), names);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = serde_json::to_string(&bounds()).unwrap();
        assert_eq!(serde_json::from_str::<Bounds>(&text).unwrap(), bounds());
        assert!(
            serde_json::from_str::<Bounds>(r#"{"margin_percent":1,"cases":{},"x":1}"#).is_err()
        );
        let mut bounds = bounds();
        bounds.set("join", "join", 0.123_456);
        assert_eq!(bounds.cases["join"].instructions, 0.123_5);
    }
}
