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
