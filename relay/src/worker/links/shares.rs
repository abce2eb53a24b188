//! What operators are shown of the cluster: nodes, links, and how many there are of each.

use std::time::Duration;

use super::line::Kind;
use crate::worker::Worker;
use crate::worker::labels::LinkWay;
use crate::worker::report::{LinkShare, NodeShare};

impl Worker {
    /// The other nodes, as worker 0 knows them.
    pub(in crate::worker) fn node_shares(&self) -> Vec<NodeShare> {
        let Some(seat) = &self.links.seat else { return Vec::new() };
        let share = |peer: crate::cluster::PeerView| NodeShare {
            name: peer.identity.name.to_string(),
            process: peer.identity.key.to_string(),
            zone: peer.identity.zone.to_string(),
            address: peer.address,
            operators: peer.operators,
            connected: peer.connected,
            draining: peer.draining,
            version: peer.version,
            streams: peer.streams,
            clock_micros: peer.clock.map(|clock| (clock.micros, clock.error_micros)),
        };
        seat.cluster.peers().map(share).collect()
    }

    /// The links of this worker that carry streams.
    pub(in crate::worker) fn link_shares(&self) -> Vec<LinkShare> {
        let mut links: Vec<LinkShare> = Vec::new();
        for link in self.links.connections.values() {
            let (node, streams, lag) = match &link.kind {
                Kind::Taking(taking) => (taking.from, taking.streams.len(), Duration::ZERO),
                Kind::Feeding(to) => {
                    let Some(out) = self.links.out.get(to) else { continue };
                    (*to, out.len(), out.lag(&self.hub))
                }
                Kind::Stranger | Kind::Greets(_) | Kind::Dials(..) | Kind::Control(_) => continue,
            };
            links.push(LinkShare {
                process: node.to_string(),
                peer: link.peer,
                way: link.way(),
                streams,
                bytes_in: link.bytes_in,
                bytes_out: link.bytes_out,
                tls: link.tls.is_some(),
                lag,
            });
        }
        links.sort_unstable_by_key(|link| (link.way, link.peer));
        links
    }

    /// Shows how many links and streams there are.
    pub(super) fn show_links(&mut self) {
        let ways = [LinkWay::In, LinkWay::Out, LinkWay::Control];
        for way in ways {
            let of_way = || self.links.connections.values().filter(|link| link.way() == way);
            let streams: usize = match way {
                LinkWay::In => of_way().map(|link| link.taken()).sum(),
                LinkWay::Out => self.links.out.values().map(super::OutLink::len).sum(),
                LinkWay::Control => 0,
            };
            let set = |cell: &crate::worker::cells::Cell64, count: usize| {
                cell.set(u64::try_from(count).unwrap_or(u64::MAX));
            };
            set(self.cells.links.at(way), of_way().count());
            set(self.cells.link_streams.at(way), streams);
        }
        let fed: usize = self.links.out.values().map(super::OutLink::len).sum();
        self.shared.move_feeds(std::mem::replace(&mut self.links.fed, fed), fed);
    }
}
