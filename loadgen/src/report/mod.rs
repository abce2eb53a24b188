//! What comes of a run: a summary to read, JSON with everything, a page with plots, and the line
//! that moves meanwhile.

mod html;
mod json;
mod plot;
mod progress;
mod summary;

pub use self::html::html;
pub use self::json::json;
pub use self::progress::Progress;
pub use self::summary::summary;
