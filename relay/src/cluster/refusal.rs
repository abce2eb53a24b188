//! Why a node does not take another one in. Each is one sentence for the log of both, and one
//! counter.

use std::fmt;

/// Why a connection between nodes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The two have no version of the protocol in common.
    Version {
        /// The oldest and newest version of the node that refuses.
        ours: (u16, u16),
        /// The same of the other one.
        theirs: (u16, u16),
    },
    /// The other does not know the secret.
    Secret,
    /// The other is this very node.
    Oneself,
    /// A process of that name that started later is known.
    Replaced,
    /// Another node drew the same number.
    SameKey,
    /// `nodes_max` is reached.
    TooManyNodes,
    /// There is another connection of the two.
    Duplicate,
    /// `cluster_hello_timeout` is over.
    Timeout,
    /// What came is no message, or none that belongs here.
    Malformed,
    /// `node_silence_max` passed without a byte.
    Silence,
    /// The other said that it leaves.
    Left,
}

/// Every reason by the name of its counter, in the order of [`Refusal::index`].
pub const REFUSALS: [&str; 11] = [
    "version",
    "secret",
    "oneself",
    "replaced",
    "same_key",
    "too_many_nodes",
    "duplicate",
    "timeout",
    "malformed",
    "silence",
    "left",
];

impl Refusal {
    /// Its place in [`REFUSALS`], and its number on the wire.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Version { .. } => 0,
            Self::Secret => 1,
            Self::Oneself => 2,
            Self::Replaced => 3,
            Self::SameKey => 4,
            Self::TooManyNodes => 5,
            Self::Duplicate => 6,
            Self::Timeout => 7,
            Self::Malformed => 8,
            Self::Silence => 9,
            Self::Left => 10,
        }
    }

    /// From its number on the wire; a number that a later version added reads as `Malformed`.
    pub(super) fn from_index(index: u8, ours: (u16, u16), theirs: (u16, u16)) -> Self {
        match index {
            0 => Self::Version { ours, theirs },
            1 => Self::Secret,
            2 => Self::Oneself,
            3 => Self::Replaced,
            4 => Self::SameKey,
            5 => Self::TooManyNodes,
            6 => Self::Duplicate,
            7 => Self::Timeout,
            9 => Self::Silence,
            10 => Self::Left,
            _ => Self::Malformed,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Version { ours, theirs } => {
                return write!(
                    formatter,
                    "this node speaks versions {} to {} of the cluster's protocol, the other one \
                     {} to {}: update the older one",
                    ours.0, ours.1, theirs.0, theirs.1
                );
            }
            Self::Secret => "the other side does not know the cluster's secret",
            Self::Oneself => "the address leads to this very node",
            Self::Replaced => "a process of the same name that started later is the node",
            Self::SameKey => "another node drew the same number; start one of them again",
            Self::TooManyNodes => "nodes_max nodes are known already",
            Self::Duplicate => "the two nodes have another connection, which stays",
            Self::Timeout => "the greeting took longer than cluster_hello_timeout",
            Self::Malformed => "what came is no message of the cluster's protocol",
            Self::Silence => "nothing was heard for node_silence_max",
            Self::Left => "the node left",
        };
        formatter.write_str(text)
    }
}
