//! Series of single other nodes: which link is ill, seen from here.
//!
//! Workers are asked every two seconds, not when somebody scrapes, so what is shown is at most so
//! old. Names are those of nodes that know the cluster's secret, `nodes_max` at most at a time; one
//! that is gone without having said so is shown as down for ten minutes and then forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, interval};

use super::cluster::{self, LinkReport};
use super::families::{Families, float};
use super::state::State;
use crate::worker::labels::LinkWay;
use crate::worker::report::NodeShare;

/// What is known of other nodes, by their names.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<BTreeMap<String, Peer>>);

/// One other node.
#[derive(Debug)]
struct Peer {
    connected: bool,
    draining: bool,
    /// When it was last a member.
    seen: Instant,
    round_trip: Option<Duration>,
    /// What comes from there, and what goes there.
    ways: [Way; 2],
}

/// All links one way.
#[derive(Debug, Default)]
struct Way {
    streams: usize,
    lag: Duration,
    /// What all of them carried, those that are gone included.
    bytes: u64,
    /// What each of those that are there has carried, by its worker and its other end.
    links: BTreeMap<(usize, String), u64>,
}

const WAYS: [LinkWay; 2] = [LinkWay::In, LinkWay::Out];

/// How often workers are asked.
const EVERY: Duration = Duration::from_secs(2);

/// How long a node that is gone without having said so is shown.
const MISSED_FOR: Duration = Duration::from_secs(600);

/// Asks for as long as the node runs; a node that stands alone has nobody to ask about.
pub(super) async fn watch(state: Arc<State>) {
    let mut ticks = interval(EVERY);
    while cluster::is_clustered(&state) {
        ticks.tick().await;
        let (members, links) = tokio::join!(cluster::members(&state), cluster::own_links(&state));
        // A worker that is too busy to answer is asked again soon.
        if let (Ok(members), Ok(links)) = (members, links) {
            let most = state.in_force().limits.nodes_max;
            state.peers.take(members, &links.items, most, Instant::now());
        }
    }
}

impl Peers {
    fn take(&self, members: Vec<NodeShare>, links: &[LinkReport], most: usize, now: Instant) {
        let mut peers = self.0.lock();
        // One that says that it leaves is not missed.
        peers.retain(|_, peer| !peer.draining && now - peer.seen < MISSED_FOR);
        for peer in peers.values_mut() {
            peer.connected = false;
        }
        let mut names = BTreeMap::new();
        for member in members {
            if !peers.contains_key(&member.name) && peers.len() >= most.saturating_mul(2) {
                continue;
            }
            let peer = peers.entry(member.name.clone()).or_insert_with(|| Peer {
                connected: false,
                draining: false,
                seen: now,
                round_trip: None,
                ways: Default::default(),
            });
            (peer.connected, peer.draining, peer.seen) = (member.connected, member.draining, now);
            // Half a round trip is what a clock may be wrong by.
            let half = member.clock_micros.and_then(|(_, error)| u64::try_from(error).ok());
            peer.round_trip = half.map(|half| Duration::from_micros(half.saturating_mul(2)));
            names.insert(member.process, member.name);
        }
        for (name, peer) in peers.iter_mut() {
            for (way, kind) in peer.ways.iter_mut().zip(WAYS) {
                let of =
                    |link: &&LinkReport| link.way == kind && names.get(&link.process) == Some(name);
                way.take(links.iter().filter(of));
            }
        }
    }

    pub(super) fn expose(&self, out: &mut Families) {
        let peers = self.0.lock();
        let help = "1 while there is a control connection to another node.";
        let mut up = out.gauge("relay_link_up", &["peer"], help);
        for (name, peer) in peers.iter() {
            up.value(&[name], f64::from(u8::from(peer.connected)));
        }
        let help = "The shortest of the last round trips to another node.";
        let mut trip = out.gauge("relay_link_rtt_seconds", &["peer"], help);
        for (name, peer) in peers.iter() {
            if let Some(time) = peer.round_trip.filter(|_| peer.connected) {
                trip.value(&[name], time.as_secs_f64());
            }
        }
        let ways = || {
            let of = |(name, peer)| {
                let (name, Peer { ways, .. }): (&String, &Peer) = (name, peer);
                ways.iter().zip(WAYS).map(move |(way, kind)| (name, kind, way))
            };
            peers.iter().flat_map(of)
        };
        let help = "Streams that come from another node, and that it is fed.";
        let mut streams = out.gauge("relay_link_peer_streams", &["peer", "way"], help);
        for (name, kind, way) in ways() {
            streams.value(&[name, kind.label()], float(u64::try_from(way.streams).unwrap_or(0)));
        }
        let help = "Bytes from another node, and to it, on links that carry streams.";
        let mut bytes = out.counter("relay_link_peer_bytes_total", &["peer", "way"], help);
        for (name, kind, way) in ways() {
            bytes.value(&[name, kind.label()], float(way.bytes));
        }
        let help = "How far what another node is fed is behind, on its slowest link.";
        let mut lag = out.gauge("relay_link_lag_seconds", &["peer"], help);
        for (name, kind, way) in ways() {
            if kind == LinkWay::Out {
                lag.value(&[name], way.lag.as_secs_f64());
            }
        }
    }
}

impl Way {
    fn take<'a>(&mut self, links: impl Iterator<Item = &'a LinkReport>) {
        let before = std::mem::take(&mut self.links);
        (self.streams, self.lag) = (0, Duration::ZERO);
        for link in links {
            self.streams += link.streams;
            self.lag = self.lag.max(Duration::from_millis(link.lag_ms));
            let bytes = if link.way == LinkWay::In { link.bytes_in } else { link.bytes_out };
            let key = (link.core, link.peer.clone());
            // A port that is used again is another connection.
            let known = before.get(&key).copied().filter(|known| *known <= bytes).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(bytes - known);
            self.links.insert(key, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, connected: bool, draining: bool) -> NodeShare {
        NodeShare {
            name: name.to_owned(),
            process: format!("process of {name}"),
            zone: String::new(),
            address: ([10, 0, 0, 7], 11_935).into(),
            operators: None,
            connected,
            draining,
            version: 1,
            streams: 0,
            clock_micros: Some((-5, 150)),
        }
    }

    fn link(name: &str, port: u16, way: LinkWay, bytes: u64) -> LinkReport {
        LinkReport {
            core: 0,
            process: format!("process of {name}"),
            peer: format!("10.0.0.7:{port}"),
            way,
            streams: 2,
            bytes_in: bytes,
            bytes_out: bytes * 10,
            tls: false,
            lag_ms: 30,
        }
    }

    /// Up, streams out, bytes in, bytes out.
    fn shown(peers: &Peers, name: &str) -> Option<(bool, usize, u64, u64)> {
        let peers = peers.0.lock();
        let peer = peers.get(name)?;
        let [from, to] = &peer.ways;
        Some((peer.connected, to.streams, from.bytes, to.bytes))
    }

    #[test]
    fn bytes_of_links_add_up_and_never_fall() {
        let (peers, now) = (Peers::default(), Instant::now());
        let take = |links: &[LinkReport]| peers.take(vec![member("b", true, false)], links, 9, now);
        let out = |port, bytes| link("b", port, LinkWay::Out, bytes);
        take(&[out(1, 5), out(2, 1), link("b", 3, LinkWay::In, 7)]);
        assert_eq!(shown(&peers, "b"), Some((true, 4, 7, 60)));
        take(&[out(1, 6), link("c", 9, LinkWay::Out, 100)]);
        assert_eq!(shown(&peers, "b"), Some((true, 2, 7, 70)), "one is gone, one is another's");
        take(&[out(1, 2)]);
        assert_eq!(shown(&peers, "b"), Some((true, 2, 7, 90)), "a connection from the same port");
        take(&[]);
        assert_eq!(shown(&peers, "b"), Some((true, 0, 7, 90)));
        assert_eq!(peers.0.lock()["b"].round_trip, Some(Duration::from_micros(300)));
    }

    #[test]
    fn who_is_gone_is_down_for_a_while_and_who_took_leave_is_not() {
        let (peers, start) = (Peers::default(), Instant::now());
        let at = |seconds, members: &[(&str, bool, bool)]| {
            let members = members.iter().map(|(name, up, leaves)| member(name, *up, *leaves));
            peers.take(members.collect(), &[], 2, start + Duration::from_secs(seconds));
            let all = peers.0.lock();
            all.iter().map(|(name, peer)| format!("{name} {}", peer.connected)).collect::<Vec<_>>()
        };
        let all = [("b", true, false), ("c", true, false)];
        assert_eq!(at(0, &all), ["b true", "c true"]);
        assert_eq!(at(2, &[("b", true, true), ("c", false, false)]), ["b true", "c false"]);
        assert_eq!(at(4, &[]), ["c false"]);
        assert_eq!(at(601, &[]), ["c false"]);
        assert_eq!(at(603, &[]), [""; 0]);
        // Names are bounded, whoever comes.
        let many = ["d", "e", "f", "g", "h"].map(|name| (name, true, false));
        assert_eq!(at(604, &many).len(), 4);
    }
}
