//! How a measurement ends: tables on the terminal, aligned, figures in a file, and a verdict.

use std::io::{self, Write, stdout};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{CannotRun, Outcome};

/// The figures of one run of a command.
pub(crate) trait Report: Serialize {
    /// For whoever reads the terminal.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Whether all is as it should be.
    ///
    /// # Errors
    ///
    /// When the figures say nothing.
    fn judge(&self) -> Result<Outcome, CannotRun>;
}

/// Gives the figures out: to `file`, if there is to be one, and to the terminal.
pub(crate) fn give_out(report: &impl Report, file: Option<&PathBuf>) -> Result<Outcome, CannotRun> {
    if let Some(file) = file {
        write_json(file, report)?;
    }
    report
        .write(&mut stdout().lock())
        .map_err(|error| CannotRun(format!("the figures cannot be written: {error}")))?;
    report.judge()
}

/// The verdict on `wrong` frames, of which there may be none.
pub(crate) fn none_wrong(wrong: impl Iterator<Item = u64>) -> Outcome {
    if wrong.sum::<u64>() == 0 { Outcome::Met } else { Outcome::NotMet }
}

/// A table of text. Columns are as wide as their widest cell; the first and the last are
/// left-aligned, all others right-aligned.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row; as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "a cell per heading");
        self.rows.push(cells);
    }

    /// Writes it.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 || column + 1 == columns {
                    line.push_str(&format!("{cell:<width$}  "));
                } else {
                    line.push_str(&format!("{cell:>width$}  "));
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with as many digits as it deserves: three significant ones below a thousand, thousands
/// separated above.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) && !grouped.ends_with('-') {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        return grouped;
    }
    let decimals = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        4
    };
    format!("{value:.decimals$}")
}

/// A figure that may be missing.
pub(crate) fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// A share of a whole.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Writes figures as JSON.
fn write_json(file: &Path, figures: &impl Serialize) -> Result<(), CannotRun> {
    let failed =
        |error: io::Error| CannotRun(format!("{} cannot be written: {error}", file.display()));
    let text = serde_json::to_string_pretty(figures).map_err(|error| failed(error.into()))?;
    std::fs::write(file, text + "\n").map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        for (value, expected) in [
            (0.0, "0.0000"),
            (0.123_45, "0.1235"),
            (1.234, "1.23"),
            (56.78, "56.8"),
            (567.8, "568"),
            (1_234.0, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-123_456.0, "-123,456"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["a", "bbb", "c"]);
        table.row(vec!["dddd".into(), "1".into(), "e".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a     bbb  c\ndddd    1  e\n");
    }
}
