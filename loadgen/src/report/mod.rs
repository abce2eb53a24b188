//! What comes of a run: a summary to read, JSON with everything, a page with plots; meanwhile, a
//! line that moves and a page of metrics.

mod html;
mod json;
mod plot;
mod progress;
mod prometheus;
mod summary;

pub use self::html::html;
pub use self::json::json;
pub use self::progress::Progress;
pub use self::prometheus::prometheus;
pub use self::summary::summary;

use crate::plan::Plan;
use crate::units::show_duration;

/// How long each part of a run takes, those left out that take no time.
fn phases(plan: &Plan) -> String {
    let phases =
        [(plan.warmup, "warm-up"), (plan.ramp, "ramp"), (plan.duration, "full load")].into_iter();
    let shown = phases.filter(|(length, _)| !length.is_zero());
    let shown: Vec<_> =
        shown.map(|(length, name)| format!("{} {name}", show_duration(length))).collect();
    shown.join(", ")
}
