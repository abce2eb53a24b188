//! What the cluster's machine has counted since the node started, and what it holds now.

use super::refusal::{REFUSALS, Refusal};

/// Sums since start. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Control messages sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Control messages received.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Messages of kinds that this build does not know.
    pub unknown: u64,
    /// Connections dialled.
    pub dialled: u64,
    /// Greetings that ended well.
    pub greeted: u64,
    /// Accepted connections that were closed unheard because `cluster_strangers_max` others had not
    /// greeted yet.
    pub strangers_refused: u64,
    /// Connections and nodes that this side ended, by reason; see [`REFUSALS`].
    pub refused: [u64; REFUSALS.len()],
    /// Connections that the other side ended, by reason.
    pub turned_away: [u64; REFUSALS.len()],
    /// Announced streams that were passed over for `announced_streams_max` or
    /// `directory_names_max`.
    pub announcements_refused: u64,
    /// Orders of operators that were passed over for `outside_targets_max`.
    pub orders_refused: u64,
    /// Times that what a node had announced did not add up and was asked for again.
    pub resyncs: u64,
    /// Local publishers that were taken over on another node.
    pub yielded: u64,
    /// Sources that this node took up.
    pub adopted: u64,
    /// Sources that were lost or fell silent, so that another one was asked for.
    pub pleas: u64,
    /// Links that were refused because nobody had asked for them.
    pub unasked: u64,
    /// Links that were refused because the stream came to them through this node.
    pub loops_refused: u64,
    /// Places in a tree that were given out.
    pub placed: u64,
    /// Nodes that had to wait for a place in a tree.
    pub waited: u64,
    /// Feeds that were asked of this node and that it could not give.
    pub unfed: u64,
}

impl Counters {
    pub(super) fn refuse(&mut self, why: Refusal) {
        if let Some(count) = self.refused.get_mut(why.index()) {
            *count += 1;
        }
    }

    pub(super) fn turn_away(&mut self, why: Refusal) {
        if let Some(count) = self.turned_away.get_mut(why.index()) {
            *count += 1;
        }
    }
}

/// What the machine holds now. Each number has its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Known nodes, at most `nodes_max - 1`.
    pub peers: usize,
    /// Connections, greeting ones among them: one per peer, one per dial under way,
    /// `cluster_strangers_max` accepted ones.
    pub lines: usize,
    /// Addresses that are dialled or would be, at most [`ADDRESSES_PER_NODE`] times `nodes_max`.
    pub addresses: usize,
    /// Names in the directory, at most `directory_names_max` besides local and wanted ones.
    pub names: usize,
    /// Sources of other nodes, at most `announced_streams_max` per peer.
    pub claims: usize,
    /// Sources of this node, at most `streams_max`.
    pub own: usize,
    /// Streams that this node reads or would, at most `wanted_names_max` and those that it feeds.
    pub wants: usize,
    /// Links that wait for being asked for, at most [`OFFERS_MAX`] per want.
    pub offers: usize,
    /// Nodes that are fed, summed over streams: at most [`FEEDS_FACTOR`] times `fanout_max` per
    /// stream.
    pub feeds: usize,
    /// Places in trees of this node, at most `nodes_max` per own stream.
    pub placed: usize,
    /// Times to look at something.
    pub deadlines: usize,
}

/// Addresses per node that may be listed: two families, and the old ones beside the new ones while
/// all nodes start again.
pub const ADDRESSES_PER_NODE: usize = 4;

/// Links of one stream that may come before this node is told who feeds it.
pub const OFFERS_MAX: usize = 4;

/// A node feeds a child while another one is about to; so a feeder may have more than `fanout_max`
/// for a moment.
pub const FEEDS_FACTOR: usize = 2;
