//! What was promised of the relay beside the floor, and what became of it.

use serde::Serialize;

use super::Row;
use crate::server::{Flush, Kind};

/// One promise at one point.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Aim {
    /// Where and what.
    what: String,
    measured: f64,
    /// What was promised, in words.
    promised: &'static str,
    pub(super) met: bool,
}

impl Aim {
    /// In one line.
    pub(super) fn line(&self) -> String {
        let verdict = if self.met { "met   " } else { "MISSED" };
        format!("{verdict}  {}: {:.3}, aim {}", self.what, self.measured, self.promised)
    }
}

/// Judges the rows of one point.
pub(super) fn judge(rows: &[Row]) -> Vec<Aim> {
    let mut aims = Vec::new();
    for row in rows.iter().filter(|row| row.kind != Kind::Bare) {
        let mut add = |what: &str, measured: Option<f64>, promised, met: fn(f64) -> bool| {
            let Some(measured) = measured else { return };
            let what = format!("{}, {}: {what}", row.point.text(), row.kind);
            aims.push(Aim { what, measured, promised, met: met(measured) });
        };
        let level = match row.point.flush {
            Flush::Auto => None,
            Flush::Fixed(age) => Some(age.as_millis()),
        };
        let (players, rate) = (row.point.players, row.point.bits_per_second);
        if level == Some(50) {
            add("CPU of the floor's", row.ratio, "<= 1.05", |ratio| ratio <= 1.05);
        } else {
            add("CPU of the floor's", row.ratio, "<= 1.10", |ratio| ratio <= 1.10);
        }
        if (players, rate) == (4_000, 2_500_000) {
            add("delivered", Some(row.turn.delivered), ">= 0.999", |share| share >= 0.999);
        }
        if (players, rate, row.point.habit.name()) == (2_000, 2_500_000, "eager") {
            let (cost, late) = (Some(row.turn.cpu_per_gb), row.turn.p99_ms);
            match level {
                Some(50) => {
                    add("s/GB", cost, "< 0.45", |cost| cost < 0.45);
                    add("p99 in ms", late, "< 60", |late| late < 60.0);
                }
                Some(20) => {
                    add("s/GB", cost, "< 0.9", |cost| cost < 0.9);
                    add("p99 in ms", late, "< 30", |late| late < 30.0);
                }
                _ => {}
            }
        }
    }
    aims
}
