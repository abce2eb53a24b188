//! relay: a zero-copy RTMP relay cluster.

pub mod limits;
pub mod reactor;
pub mod wire;
pub mod worker;
