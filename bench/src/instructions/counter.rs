//! Running a case under callgrind and reading what it counted.

use std::io::{ErrorKind, Write, stdout};
use std::process::{Command, Stdio};

use crate::CannotRun;
use crate::case::MEASURED;

/// What one run counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    instructions: u64,
    /// How many units all rounds handled.
    units: u64,
}

impl Count {
    /// Instructions per unit of what this run did beyond a shorter one.
    pub(super) fn per_unit_beyond(&self, shorter: &Self) -> f64 {
        let instructions = self.instructions.saturating_sub(shorter.instructions);
        let units = self.units.saturating_sub(shorter.units);
        as_float(instructions) / as_float(units)
    }
}

/// Whether the counter is there.
pub(super) fn check() -> Result<(), CannotRun> {
    match Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CannotRun(format!("{PROGRAM} --version ended with {status}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(CannotRun(format!(
            "{PROGRAM} is not installed; it counts the instructions (Debian: apt install {PROGRAM})"
        ))),
        Err(error) => Err(CannotRun(format!("{PROGRAM} cannot be started: {error}"))),
    }
}

/// Counts the instructions of so many rounds of a case, in a process of their own.
pub(super) fn count(case: &str, rounds: u32) -> Result<Count, CannotRun> {
    let failed = |what: String| CannotRun(format!("case {case}, {rounds} rounds: {what}"));
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let file =
        std::env::temp_dir().join(format!("{}-{case}-{rounds}.callgrind", std::process::id()));
    let output = Command::new(PROGRAM)
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["rounds", case, &rounds.to_string()])
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let profile = std::fs::read_to_string(&file);
    // The file may be missing, which is told below.
    let _ = std::fs::remove_file(&file);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("ended with {}: {}", output.status, said.trim())));
    }
    let profile = profile.map_err(|error| failed(format!("no counts: {error}")))?;
    let instructions = total(&profile).ok_or_else(|| failed("no total in the counts".into()))?;
    let units: u64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| failed("the units of a round are missing".into()))?;
    if instructions == 0 {
        return Err(failed(format!("no function called {MEASURED} was seen")));
    }
    Ok(Count { instructions, units: units.saturating_mul(u64::from(rounds)) })
}

/// Tells the counting process how many units a round handles.
pub(super) fn say_units(units: u64) -> Result<(), CannotRun> {
    writeln!(stdout(), "{units}").map_err(|error| CannotRun(error.to_string()))
}

/// The number behind `totals:` in callgrind's profile format.
fn total(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

/// Counts stay far below 2^53.
#[expect(clippy::cast_precision_loss)]
fn as_float(count: u64) -> f64 {
    count as f64
}

const PROGRAM: &str = "valgrind";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_the_profile() {
        for (profile, expected) in [
            ("version: 1\nevents: Ir\nfn=(1) x\n1 5\ntotals: 12345\n", Some(12_345)),
            ("summary: 7\ntotals: 9\n", Some(9)),
            ("totals: many\n", None),
            ("", None),
        ] {
            assert_eq!(total(profile), expected, "{profile}");
        }
    }

    #[test]
    fn what_happens_once_cancels_out() {
        let few = Count { instructions: 1_000 + 5 * 64 * 30, units: 5 * 64 };
        let more = Count { instructions: 1_000 + 25 * 64 * 30, units: 25 * 64 };
        assert_eq!(more.per_unit_beyond(&few), 30.0);
    }
}
