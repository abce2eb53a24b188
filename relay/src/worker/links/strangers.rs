//! Whom the port for nodes has places for: so many of an address until they have greeted, so many
//! links of a node, and none for long of a node that the cluster's machine does not know.

use std::net::IpAddr;
use std::time::Duration;

use super::line::{Kind, LinkConnection};
use crate::cluster::NodeKey;
use crate::reactor::ConnectionKey;
use crate::worker::Worker;
use crate::worker::addresses::Key as Source;
use crate::worker::labels::{CloseReason, LinkRefusal};

/// Most links that one node may have to a worker: as many as it may have workers.
const LINKS_PER_NODE_MAX: usize = 256;

impl Worker {
    /// Links of an address that have not greeted: one host must not take the places of all.
    pub(super) fn strangers_of(&self, address: IpAddr) -> usize {
        let of_it = |link: &LinkConnection| {
            link.is_stranger() && Source::of(link.peer.ip()) == Source::of(address)
        };
        self.links.connections.values().filter(|link| of_it(link)).count()
    }

    /// Whether a node may bring streams on one more link. Which worker is at its other end, the
    /// node itself says.
    pub(super) fn has_place_for(&self, node: NodeKey) -> bool {
        let of_it = |link: &LinkConnection| matches!(&link.kind, Kind::Taking(taking) if taking.from == node);
        self.links.connections.values().filter(|link| of_it(link)).count() < LINKS_PER_NODE_MAX
    }

    /// Closes links of nodes that are not known, or no longer: whoever knows the secret could hold
    /// any number of them. A node may be met a little later than its link, and come back after its
    /// control connection broke.
    pub(super) fn end_unknown_links(&mut self, now: Duration) {
        let most = self.limits.node_silence_max + self.limits.redial_max;
        let mut over: Vec<ConnectionKey> = Vec::new();
        for link in self.links.connections.values_mut() {
            let Kind::Taking(taking) = &mut link.kind else { continue };
            if self.links.known.contains_key(&taking.from) {
                taking.unknown_since = None;
            } else if now.saturating_sub(*taking.unknown_since.get_or_insert(now)) >= most {
                over.push(link.key);
            }
        }
        over.sort_unstable();
        for key in over {
            let Some(link) = self.links.connections.remove(&key) else { continue };
            let why = "it brings streams from a node that is not known";
            self.refuse_link(link.peer, LinkRefusal::Unknown, &why, now);
            self.close_link(link, CloseReason::Ended, Some(&why));
        }
    }
}
