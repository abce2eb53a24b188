//! The line that moves while servers are measured. It shows on a terminal and nowhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The line.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A line for so many turns.
    pub(crate) fn new(turns: usize) -> Self {
        let bar = ProgressBar::new(loadgen::units::wide(turns));
        let template = "{spinner} {bar:24} {pos}/{len}  {elapsed}/{duration}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Says what is measured now.
    pub(crate) fn say(&self, what: String) {
        self.bar.set_message(what);
    }

    /// A turn is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
