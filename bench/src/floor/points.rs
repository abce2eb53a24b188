//! Which loads the relay and the floor take turns at.

use std::time::Duration;

use serde::Serialize;

use crate::load::Habit;
use crate::server::Flush;

/// A load to measure at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) players: usize,
    pub(super) bits_per_second: u64,
    pub(super) flush: Flush,
    pub(super) habit: Habit,
}

/// A point in words.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Name {
    pub(super) players: usize,
    pub(super) bits_per_second: u64,
    pub(super) flush: String,
    pub(super) receivers: Habit,
}

/// Players, kbit/s, flush levels in ms (`None`: chosen by the relay).
type Loads = &'static [(usize, u64, &'static [Option<u64>])];

const ALL: Loads = &[
    (100, 2_500, &[Some(0)]),
    (500, 2_500, &[None, Some(20), Some(50)]),
    (2_000, 2_500, &[None, Some(20), Some(50)]),
    (4_000, 2_500, &[Some(50)]),
    (4_000, 500, &[Some(50)]),
    (500, 8_000, &[Some(20), Some(50)]),
];

const QUICK: Loads = &[(30, 2_500, &[Some(0)]), (100, 500, &[Some(50)])];

/// Every point, or the two of a smoke run.
pub(super) fn points(quick: bool, habits: &[Habit]) -> Vec<Point> {
    let mut points = Vec::new();
    for &(players, kbit, levels) in if quick { QUICK } else { ALL } {
        for level in levels {
            let flush =
                level.map_or(Flush::Auto, |millis| Flush::Fixed(Duration::from_millis(millis)));
            points.extend(habits.iter().map(|&habit| Point {
                players,
                bits_per_second: kbit * 1_000,
                flush,
                habit,
            }));
        }
    }
    points
}

impl Point {
    /// In words, as `--only` finds it.
    pub(super) fn text(&self) -> String {
        let Point { players, bits_per_second, flush, habit } = self;
        let rate = *bits_per_second as f64 / 1e6;
        format!("{players} x {rate} Mbit/s, {}, {}", flush.name(), habit.name())
    }

    /// For reports.
    pub(super) fn name(&self) -> Name {
        Name {
            players: self.players,
            bits_per_second: self.bits_per_second,
            flush: self.flush.name(),
            receivers: self.habit,
        }
    }
}
