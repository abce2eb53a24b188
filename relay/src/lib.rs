//! relay: a zero-copy RTMP relay cluster.

pub mod config;
pub mod control;
pub mod limits;
pub mod node;
pub mod reactor;
pub mod session;
pub mod stream;
pub mod wire;
pub mod worker;
