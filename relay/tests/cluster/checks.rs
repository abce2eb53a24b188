//! The judges: what must be so after every step, and what must be so when all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use relay::cluster::{ADDRESSES_PER_NODE, FEEDS_FACTOR, OFFERS_MAX, Usage};

use super::net::Slot;
use super::process::{Process, Publisher, Stream};
use super::world::{Planted, World};

impl World {
    /// Following what is read from node to node never leads back.
    pub(crate) fn check_circle(&self, slot: Slot, stream: Stream) {
        let mut passed = BTreeSet::from([slot]);
        let mut at = slot;
        loop {
            let process = self.nodes[at].as_ref();
            let from = process.and_then(|process| process.adopted.get(&stream));
            let Some(next) = from.and_then(|(from, _)| self.by_key.get(from)) else { return };
            let name = &self.names[stream];
            assert!(passed.insert(*next), "{name} runs in a circle through {passed:?}");
            at = *next;
        }
    }

    /// No node holds more than its limits allow, and each said what changed.
    pub(crate) fn check_memory(&self) {
        for process in self.running() {
            self.check_usage(process);
            for (stream, name) in self.names.iter().enumerate() {
                let now = (process.cluster.is_kept(name), process.cluster.is_fed(name));
                let said = process.said.get(&stream).copied().unwrap_or_default();
                assert_eq!(said, now, "{name}: kept, and fed from here");
            }
        }
    }

    fn check_usage(&self, process: &Process) {
        let usage = process.cluster.usage();
        let limits = &self.limits;
        let nodes = limits.nodes_max - 1;
        let streams = self.names.len();
        let most = Usage {
            peers: if self.planted == Planted::Narrow { 1 } else { nodes },
            lines: nodes + limits.dials_max + limits.cluster_strangers_max,
            addresses: limits.nodes_max * ADDRESSES_PER_NODE,
            names: streams,
            claims: streams * nodes,
            own: streams,
            wants: streams,
            offers: usage.wants * OFFERS_MAX,
            feeds: streams * self.fanout_max * FEEDS_FACTOR,
            placed: usage.own * nodes,
            deadlines: 3 * nodes + limits.cluster_strangers_max + limits.dials_max + streams,
        };
        let pairs = [
            (usage.peers, most.peers, "peers"),
            (usage.lines, most.lines, "lines"),
            (usage.addresses, most.addresses, "addresses"),
            (usage.names, most.names, "names"),
            (usage.claims, most.claims, "claims"),
            (usage.own, most.own, "own"),
            (usage.wants, most.wants, "wants"),
            (usage.offers, most.offers, "offers"),
            (usage.feeds, most.feeds, "feeds"),
            (usage.placed, most.placed, "placed"),
            (usage.deadlines, most.deadlines, "deadlines"),
        ];
        for (has, most, what) in pairs {
            assert!(has <= most, "relay-{}: {has} {what}, at most {most}", process.station.slot);
        }
    }

    /// Why the cluster is not yet as it will stay; `None` when it is. All who run reach each other.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let running = self.running().count();
        for process in self.running() {
            let connected = process.cluster.connected();
            let slot = process.station.slot;
            let known = process.cluster.usage().peers;
            if connected + 1 != running || known + 1 != running {
                return Some(format!("relay-{slot} knows {known} and reaches {connected} nodes"));
            }
        }
        let origins = match self.origins() {
            Ok(origins) => origins,
            Err(why) => return Some(why),
        };
        for process in self.running() {
            let slot = process.station.slot;
            for stream in &process.players {
                let Some(origin) = origins.get(stream) else { continue };
                let origin = self.nodes[*origin].as_ref().unwrap();
                if origin.publishers.get(stream) == Some(&Publisher::Live)
                    && !self.is_served(process, *stream)
                {
                    let view = process.cluster.stream(&self.names[*stream]);
                    let state = process.cluster.describe(&self.names[*stream]);
                    return Some(format!(
                        "a player of {} at relay-{slot} is not served: {view:?}, {state}",
                        self.names[*stream]
                    ));
                }
            }
            for (stream, (from, _)) in &process.adopted {
                let origin = origins.get(stream).map(|slot| self.nodes[*slot].as_ref().unwrap());
                let view = process.cluster.stream(&self.names[*stream]).unwrap_or_default();
                if view.source.map(|(from, _)| from) != Some(*from) {
                    return Some(format!("relay-{slot} reads what it does not know of"));
                }
                if view.source.map(|(_, term)| term.origin) != origin.map(|origin| origin.key) {
                    return Some(format!("relay-{slot} reads {} of another", self.names[*stream]));
                }
            }
        }
        self.leftover_link()
    }

    /// The one origin of each stream that has one.
    fn origins(&self) -> Result<BTreeMap<Stream, Slot>, String> {
        let mut origins = BTreeMap::new();
        for process in self.running() {
            for stream in process.publishers.keys() {
                if let Some(other) = origins.insert(*stream, process.station.slot) {
                    let slot = process.station.slot;
                    let name = &self.names[*stream];
                    return Err(format!("{name} has sources at relay-{other} and relay-{slot}"));
                }
                let local = process.cluster.stream(&self.names[*stream]);
                if !local.is_some_and(|view| view.local) {
                    return Err(format!("{} has a source nobody knows", self.names[*stream]));
                }
            }
        }
        Ok(origins)
    }

    /// Whether a player of the stream sees it move.
    pub(crate) fn is_served(&self, process: &Process, stream: Stream) -> bool {
        if process.is_origin(stream) {
            return true;
        }
        let Some((from, _)) = process.adopted.get(&stream) else { return false };
        let incoming = process.links.get(&(stream, *from));
        incoming.is_some_and(|incoming| {
            process.shown.contains_key(&stream)
                && incoming.heard + super::media::MEDIA_TICK * 2 > self.now
        })
    }

    /// The longest way that any stream takes.
    pub(crate) fn deepest(&self) -> usize {
        let depth = |process: &Process, stream: Stream| {
            let mut at = process;
            let mut depth = 0;
            while let Some((from, _)) = at.adopted.get(&stream) {
                let Some(next) = self.by_key.get(from).and_then(|s| self.nodes[*s].as_ref()) else {
                    break;
                };
                (at, depth) = (next, depth + 1);
            }
            depth
        };
        let all = self
            .running()
            .flat_map(|process| process.adopted.keys().map(move |stream| depth(process, *stream)));
        all.max().unwrap_or(0)
    }

    /// A link that nobody reads, or that its feeder does not know of.
    fn leftover_link(&self) -> Option<String> {
        for process in self.running() {
            let slot = process.station.slot;
            for ((stream, from), incoming) in &process.links {
                let name = &self.names[*stream];
                if process.adopted.get(stream).map(|(from, _)| from) != Some(from) {
                    return Some(format!("{name} comes to relay-{slot} and nobody reads it"));
                }
                let feeder = self.by_key.get(from).and_then(|slot| self.nodes[*slot].as_ref());
                let feeds = feeder.map(|feeder| {
                    let view = feeder.cluster.stream(name).unwrap_or_default();
                    let known = view.feeds.contains(&process.key);
                    known && feeder.feeds.get(&(*stream, process.key)) == Some(&incoming.link)
                });
                if feeds != Some(true) {
                    return Some(format!("{name} comes to relay-{slot} and nobody feeds it"));
                }
            }
            for (stream, to) in process.feeds.keys() {
                let reader = self.by_key.get(to).and_then(|slot| self.nodes[*slot].as_ref());
                let reads = reader.and_then(|reader| reader.adopted.get(stream));
                if reads.map(|(from, _)| *from) != Some(process.key) {
                    let name = &self.names[*stream];
                    return Some(format!("relay-{slot} feeds {name} to who does not read it"));
                }
            }
        }
        None
    }

    /// When nobody publishes or plays any more, nodes know each other and nothing else.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let running = self.running().count();
        for process in self.running() {
            let usage = process.cluster.usage();
            let expected = Usage {
                peers: running - 1,
                lines: running - 1,
                addresses: usage.addresses,
                deadlines: usage.deadlines,
                ..Usage::default()
            };
            let slot = process.station.slot;
            let deadlines = 2 * (running - 1);
            if usage != expected || usage.deadlines > deadlines {
                return Some(format!("relay-{slot} still holds {usage:?}"));
            }
            if !process.feeds.is_empty() || !process.links.is_empty() {
                return Some(format!("relay-{slot} still has links"));
            }
        }
        let connections = self.connections.iter();
        let open = connections.filter(|(_, it)| it.ends.iter().any(|end| end.open));
        let (open, pairs) = (open.count(), running * (running - 1) / 2);
        (open != pairs).then(|| format!("{open} connections for {pairs} pairs"))
    }
}
