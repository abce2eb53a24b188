//! One core: the only room that introduces the other rooms to each other.

pub mod cells;
pub mod handle;
pub mod labels;
pub mod report;
pub mod settings;
