//! What the cluster's machine is told at start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::hello::Credentials;
use crate::limits::Limits;

/// What does not change while the node runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this node is, the secret, and the versions that it speaks.
    pub credentials: Arc<Credentials>,
    /// Every limit.
    pub limits: Arc<Limits>,
    /// Most nodes that one node feeds with one stream; at least 1.
    pub fanout_max: usize,
    /// Where clients reach this node from outside, told to the others: at most [`DOORS_MAX`]
    /// texts of [`DOOR_BYTES_MAX`] bytes, which mean nothing to the machine. Mostly there is one.
    pub doors: Arc<[Arc<str>]>,
    /// Where this node answers operators, told to the others; an address of no host in particular
    /// is that by which they know the node.
    pub operators: Option<SocketAddr>,
    /// How long a stream goes on coming after its last player left this node.
    pub link_linger: Duration,
    /// 32 bytes that nobody else knows: nonces and jitter follow from them.
    pub seed: [u8; 32],
}

/// Most texts of [`Settings::doors`].
pub const DOORS_MAX: usize = 8;

/// Longest text of [`Settings::doors`]: a scheme, a host name and a port.
pub const DOOR_BYTES_MAX: usize = 300;

/// Default of [`Settings::fanout_max`]: 1,000 nodes are four deep.
pub const FANOUT_MAX: usize = 8;

/// Default of [`Settings::link_linger`].
pub const LINK_LINGER: Duration = Duration::from_secs(5);
