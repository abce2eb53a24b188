//! relay: a zero-copy RTMP relay cluster.

pub mod limits;
pub mod reactor;
pub mod session;
pub mod wire;
