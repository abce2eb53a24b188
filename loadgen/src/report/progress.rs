//! The line that moves while a run goes on. It shows on a terminal and nowhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::collect::Collected;
use crate::plan::Plan;
use crate::run::Watcher;
use crate::units::{micros, show_count, show_duration, show_micros, show_rate};

/// The line. It goes away when dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A line for a plan.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let bar = ProgressBar::new(micros(plan.length()));
        let template = "{spinner} {bar:24} {prefix}  {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| {
            // The template is a constant; a plain bar does as well.
            ProgressStyle::default_bar()
        }));
        Self { bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Watcher for Progress {
    fn look(&mut self, plan: &Plan, collected: &Collected, elapsed: Duration) {
        self.bar.set_position(micros(elapsed.min(plan.length())));
        let shown = Duration::from_secs(elapsed.as_secs());
        self.bar.set_prefix(format!("{}/{}", show_duration(shown), show_duration(plan.length())));
        self.bar.set_message(line(plan, collected));
        self.bar.tick();
    }
}

/// The state of a run in one line: that of the last second which all workers have told of.
fn line(plan: &Plan, collected: &Collected) -> String {
    let Some(second) = collected.whole_second() else { return "beginning".to_owned() };
    let mut parts = Vec::new();
    if plan.publishers > 0 {
        parts.push(format!("publishers {}", show_count(second.publishers)));
    }
    let counters = &collected.counters;
    if plan.players > 0 {
        parts.push(format!("players {}", show_count(second.players)));
        parts.push(show_rate(second.counters.bytes_received as f64 * 8.0));
        if let Some(p99) = second.latency(99.0) {
            parts.push(format!("p99 {}", show_micros(p99)));
        }
        parts.push(format!("gaps {}", show_count(counters.gaps)));
    } else {
        parts.push(show_rate(second.counters.bytes_sent as f64 * 8.0));
    }
    let errors = collected.errors();
    if errors > 0 {
        parts.push(format!("errors {}", show_count(errors)));
    }
    parts.join(" · ")
}
