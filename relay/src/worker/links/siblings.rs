//! The other nodes as places for clients: who is there and stays, and by which URLs clients reach
//! it; and by which marks a stream that went round through other servers is known.
//!
//! Worker 0 knows all nodes; the others are told when something changes.

use std::sync::Arc;

use super::LinkMail;
use crate::cluster::{NodeKey, PeerView};
use crate::worker::Worker;
use crate::worker::mail::Mail;

/// What every worker knows of the other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::worker) struct Siblings {
    /// Of each that is connected and does not drain: where clients reach it; nothing where it does
    /// not say.
    doors: Arc<[Arc<[Arc<str>]>]>,
    /// The same of those that take more players.
    with_room: Arc<[Arc<[Arc<str>]>]>,
    /// All of them.
    keys: Arc<[NodeKey]>,
}

/// A node's mark is its key as it is shown.
const MARK_BYTES: usize = 16;

impl Siblings {
    /// Whether a mark is that of another node.
    pub(in crate::worker) fn are_marked(&self, mark: &str) -> bool {
        mark.len() == MARK_BYTES
            && mark.bytes().all(|byte| byte.is_ascii_hexdigit())
            && u64::from_str_radix(mark, 16).is_ok_and(|key| self.keys.contains(&NodeKey(key)))
    }

    /// Whether there is any that stays.
    pub(in crate::worker) fn are_there(&self) -> bool {
        !self.doors.is_empty()
    }

    /// What each of them says; nothing where it does not say.
    pub(in crate::worker) fn all(&self) -> impl Iterator<Item = &Arc<[Arc<str>]>> {
        self.doors.iter()
    }

    /// What those say that take more players.
    pub(in crate::worker) fn with_room(&self) -> impl Iterator<Item = &Arc<[Arc<str>]>> {
        self.with_room.iter()
    }

    /// Whether any of them said something.
    pub(in crate::worker) fn have_doors(&self) -> bool {
        self.doors.iter().any(|doors| !doors.is_empty())
    }
}

impl Worker {
    /// Tells every worker of the other nodes, if they are others than before.
    pub(super) fn tell_siblings(&mut self) {
        let Some(seat) = &mut self.links.seat else { return };
        let peers = || seat.cluster.peers();
        let there = || peers().filter(|peer| peer.connected && !peer.draining);
        let has_room = |peer: &PeerView| !peer.full && peer.spare_kbit > 0;
        let siblings = Siblings {
            doors: there().map(|peer| peer.doors).collect(),
            with_room: there().filter(has_room).map(|peer| peer.doors).collect(),
            keys: peers().map(|peer| peer.identity.key).collect(),
        };
        if seat.told_siblings == siblings {
            return;
        }
        seat.told_siblings = siblings.clone();
        for worker in 0..self.mailbox.workers() {
            let mail = LinkMail::Siblings { siblings: siblings.clone() };
            self.mailbox.send(worker, Mail::Link(Box::new(mail)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_is_there_and_is_no_place_to_go() {
        let doors = |list: &[&[&str]]| Siblings {
            keys: [NodeKey(0xa1), NodeKey(u64::MAX)].into(),
            with_room: Arc::default(),
            doors: list
                .iter()
                .map(|doors| doors.iter().map(|door| (*door).into()).collect())
                .collect(),
        };
        let none = Siblings::default();
        assert!(!none.are_there() && !none.have_doors());
        let silent = doors(&[&[], &[]]);
        assert!(silent.are_there() && !silent.have_doors());
        let some = doors(&[&["rtmp://a"], &[], &["rtmp://c", "https://c"]]);
        assert!(some.have_doors());
        assert_eq!(some.all().map(|doors| doors.len()).collect::<Vec<_>>(), [1, 0, 2]);
        let own = ["00000000000000a1", "ffffffffffffffff"];
        assert!(own.iter().all(|mark| some.are_marked(mark)));
        let foreign = ["", "a1", "+0000000000000a1", "00000000000000a2", "x"];
        assert!(!foreign.iter().any(|mark| some.are_marked(mark)));
    }
}
