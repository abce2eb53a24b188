//! Who a node is, and which of several sources of one stream counts.
//!
//! A node is a name and a random number drawn at its start. Both are learned from the node itself
//! when it greets, never from DNS, whose addresses move from one process to another.

use std::fmt;
use std::sync::Arc;

/// One process of a node: the random number that it drew at its start. A node that starts again is
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub u64);

impl fmt::Display for NodeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name that operators gave it, at most [`NODE_NAME_BYTES_MAX`] bytes.
    pub name: Arc<str>,
    /// Its incarnation.
    pub key: NodeKey,
    /// Grows with every start of this name; milliseconds since 1970 will do. Of two processes with
    /// one name the one with the higher number is the node.
    pub started: u64,
    /// Where it stands, at most [`NODE_NAME_BYTES_MAX`] bytes; empty when nobody said.
    pub zone: Arc<str>,
    /// The port on which it takes links.
    pub link_port: u16,
}

/// Longest name of a node or zone; a DNS name has no more.
pub const NODE_NAME_BYTES_MAX: usize = 253;

impl fmt::Display for Term {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.epoch, self.origin)
    }
}

impl Identity {
    /// Whether of two connections of a pair the one that this node dialled stays.
    #[must_use]
    pub fn dials_for(&self, other: &Self) -> bool {
        (&self.name, self.key) < (&other.name, other.key)
    }

    /// Whether of two processes with one name this one is the node.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        (self.started, self.key) > (other.started, other.key)
    }
}

/// A publisher's time as the source of a stream. Everywhere the highest counts: first the epoch,
/// which each new source sets to one more than the highest it has seen; between equal ones the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    /// A Lamport counter of the stream's name, from 1 to [`EPOCH_MAX`].
    pub epoch: u64,
    /// The node that the publisher is connected to.
    pub origin: NodeKey,
}

/// Epochs beyond this are made up: at one source per millisecond it takes 8,000 years to get there.
pub const EPOCH_MAX: u64 = 1 << 48;

/// Messages beyond this are made up: at a million in a second it takes 8 years to get there.
pub const SEQ_MAX: u64 = 1 << 48;

/// A place in a stream: the origin counts its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The source's epoch.
    pub epoch: u64,
    /// The message's number, up to [`SEQ_MAX`].
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_agrees_on_who_dials_and_who_is_the_node() {
        let node = |name: &str, key, started| Identity {
            name: name.into(),
            key: NodeKey(key),
            started,
            zone: "".into(),
            link_port: 1,
        };
        let (a, b) = (node("a", 9, 5), node("b", 1, 5));
        assert!(a.dials_for(&b) && !b.dials_for(&a), "the smaller name");
        let (old, new) = (node("a", 9, 5), node("a", 1, 6));
        assert!(new.dials_for(&old) && !old.dials_for(&new), "of one name the smaller key");
        assert!(new.replaces(&old) && !old.replaces(&new), "whoever started later");
        let twin = node("a", 10, 5);
        assert!(twin.replaces(&old) && !old.replaces(&twin), "one of two that started at once");
    }

    #[test]
    fn terms_are_ordered_by_epoch_and_then_by_origin() {
        let term = |epoch, origin| Term { epoch, origin: NodeKey(origin) };
        assert!(term(2, 1) > term(1, 9));
        assert!(term(2, 2) > term(2, 1));
    }
}
