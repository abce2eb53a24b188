//! Media links as far as the cluster's machine is concerned: who feeds whom with which source by
//! which way, and whether it still comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use relay::cluster::{NodeKey, Path, Term};

use super::net::{Slot, Station};
use super::process::{Incoming, Stream};
use super::world::{Event, Planted, World};

/// A link carries something at least this often.
pub(crate) const MEDIA_TICK: Duration = Duration::from_millis(250);

/// One stream from one process to another.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) from: Station,
    pub(crate) from_key: NodeKey,
    pub(crate) to: Station,
    pub(crate) to_key: NodeKey,
    pub(crate) stream: Stream,
    pub(crate) term: Term,
    /// When the last thing arrives that was sent on it.
    last: Duration,
}

impl World {
    pub(crate) fn feed(
        &mut self,
        slot: Slot,
        stream: Stream,
        term: Term,
        to_key: NodeKey,
        path: Path,
    ) {
        let process = self.nodes[slot].as_mut().unwrap();
        let (from, from_key) = (process.station, process.key);
        if let Some(link) = process.feeds.get(&(stream, to_key)).copied() {
            self.links.get_mut(&link).unwrap().term = term;
            self.say_at(link, path);
            return;
        }
        // Whoever is dead is not found; the link then leads to nobody.
        let to = self.by_key.get(&to_key).and_then(|slot| self.nodes[*slot].as_ref());
        let to = to.map_or(Station { slot, life: 0 }, |process| process.station);
        self.issued += 1;
        let link = self.issued;
        let opening = self.weather.latency(slot, to.slot) * 3;
        let last = self.now + opening;
        self.links.insert(link, Link { from, from_key, to, to_key, stream, term, last });
        self.nodes[slot].as_mut().unwrap().feeds.insert((stream, to_key), link);
        self.say_at(link, path);
    }

    pub(crate) fn repath(&mut self, slot: Slot, stream: Stream, path: &Path) {
        let process = self.nodes[slot].as_ref().unwrap();
        let range = (stream, NodeKey(0))..=(stream, NodeKey(u64::MAX));
        let links: Vec<u64> = process.feeds.range(range).map(|(_, link)| *link).collect();
        for link in links {
            self.say_at(link, Arc::clone(path));
        }
    }

    pub(crate) fn stop_feed(&mut self, slot: Slot, stream: Stream, to: NodeKey) {
        if matches!(self.planted, Planted::Forgetful | Planted::Clinging) {
            return;
        }
        let process = self.nodes[slot].as_mut().unwrap();
        if let Some(link) = process.feeds.remove(&(stream, to)) {
            self.after_link(link, Event::LinkGone(link));
        }
    }

    fn say_at(&mut self, link: u64, path: Path) {
        if self.planted != Planted::Deaf {
            self.after_link(link, Event::LinkAt { link, path });
        }
    }

    fn after_link(&mut self, number: u64, event: Event) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let latency = self.weather.latency(link.from.slot, link.to.slot);
        link.last = link.last.max(self.now + latency);
        let at = link.last;
        self.at(at, event);
    }

    pub(crate) fn link_at(&mut self, number: u64, path: Path) {
        let Some(link) = self.links.get(&number) else { return };
        let (from, to) = (link.from, link.to);
        let (stream, from_key, term) = (link.stream, link.from_key, link.term);
        if self.process(from).is_none() {
            return;
        }
        if self.process(to).is_none_or(|process| process.key != link.to_key) {
            self.after(Duration::from_millis(5), Event::LinkRefused(number));
            return;
        }
        if !self.weather.reaches(from.slot, to.slot) {
            // Opening takes too long; or a later word says the same once the way is clear.
            let opened = self.process(to).unwrap().links.contains_key(&(stream, from_key));
            let event = if opened {
                Event::LinkAt { link: number, path }
            } else {
                Event::LinkRefused(number)
            };
            self.after(Duration::from_secs(1), event);
            return;
        }
        let heard = self.now;
        let process = self.nodes[to.slot].as_mut().unwrap();
        let before = process.links.get(&(stream, from_key)).map(|incoming| incoming.term);
        let incoming =
            Incoming { link: number, term, path: Arc::clone(&path), heard, quiet: false };
        process.links.insert((stream, from_key), incoming);
        let name = Arc::clone(&self.names[stream]);
        if before.is_some_and(|before| before != term) {
            if process.adopted.get(&stream).is_some_and(|(key, _)| *key == from_key) {
                process.adopted.remove(&stream);
            }
            self.act(to.slot, |cluster, now| cluster.unfed(&name, from_key, now));
        }
        self.act(to.slot, |cluster, now| cluster.fed(&name, from_key, term, &path, now));
    }

    pub(crate) fn link_gone(&mut self, number: u64) {
        let Some(link) = self.links.get(&number) else { return };
        let (to, stream, key) = (link.to, link.stream, link.from_key);
        if !self.weather.reaches(link.from.slot, to.slot) && self.process(to).is_some() {
            self.after(Duration::from_secs(1), Event::LinkGone(number));
            return;
        }
        self.links.remove(&number);
        self.link_lost(to, stream, key, number);
    }

    fn link_lost(&mut self, to: Station, stream: Stream, key: NodeKey, number: u64) {
        let Some(process) = self.nodes[to.slot].as_mut() else { return };
        let link = process.links.get(&(stream, key)).map(|incoming| incoming.link);
        if process.station != to || link != Some(number) {
            return;
        }
        process.links.remove(&(stream, key));
        if process.adopted.get(&stream).is_some_and(|(from, _)| *from == key) {
            process.adopted.remove(&stream);
        }
        let name = Arc::clone(&self.names[stream]);
        self.act(to.slot, |cluster, now| cluster.unfed(&name, key, now));
    }

    pub(crate) fn link_refused(&mut self, number: u64) {
        let Some(link) = self.links.remove(&number) else { return };
        let (from, to, stream) = (link.from, link.to_key, link.stream);
        let Some(process) = self.nodes[from.slot].as_mut() else { return };
        if process.station == from && process.feeds.get(&(stream, to)) == Some(&number) {
            process.feeds.remove(&(stream, to));
            let name = Arc::clone(&self.names[stream]);
            self.act(from.slot, |cluster, now| cluster.feed_ended(&name, to, now));
        }
    }

    /// One of a link's ends is dead; the other one hears of it, if anything is heard.
    pub(crate) fn end_link_of_dead(&mut self, number: u64, silently: bool, feeder: bool) {
        let Some(link) = self.links.get(&number) else { return };
        let delay = self.weather.latency(link.from.slot, link.to.slot);
        // A dead machine is noticed when its connection has been silent for long.
        let delay = if silently { Duration::from_secs(5) } else { delay };
        let event = if feeder { Event::LinkGone(number) } else { Event::LinkRefused(number) };
        self.after(delay, event);
    }

    pub(crate) fn adopt(&mut self, slot: Slot, stream: Stream, from: NodeKey, term: Term) {
        let process = self.nodes[slot].as_mut().unwrap();
        assert!(!process.is_origin(stream), "{} reads a stream of its own", self.names[stream]);
        let incoming = process.links.get(&(stream, from));
        let incoming = incoming.expect("only what comes can be read");
        assert_eq!(incoming.term, term, "it is read as what it is");
        process.adopted.insert(stream, (from, term));
        self.check_circle(slot, stream);
    }

    /// Makes a feeder read from one that it feeds.
    pub(crate) fn turn_round(&mut self, stream: Stream) {
        let pairs = self.running().flat_map(|process| {
            let readers = process.feeds.keys().filter(|(of, _)| *of == stream);
            readers.map(|(_, to)| (process.station.slot, *to))
        });
        let Some((feeder, reader)) = pairs.last() else { return };
        let slot = self.by_key[&reader];
        let Some((from, term)) = self.nodes[slot].as_ref().unwrap().adopted.get(&stream).copied()
        else {
            return;
        };
        if self.by_key.get(&from) == Some(&feeder) {
            self.nodes[feeder].as_mut().unwrap().adopted.insert(stream, (reader, term));
            self.check_circle(feeder, stream);
        }
    }

    pub(crate) fn drop_link(&mut self, slot: Slot, stream: Stream, from: NodeKey) {
        if self.planted == Planted::Clinging {
            return;
        }
        let process = self.nodes[slot].as_mut().unwrap();
        if process.adopted.get(&stream).is_some_and(|(key, _)| *key == from) {
            process.adopted.remove(&stream);
        }
        if let Some(incoming) = process.links.remove(&(stream, from)) {
            let Some(link) = self.links.get(&incoming.link) else { return };
            let latency = self.weather.latency(link.from.slot, link.to.slot);
            self.after(latency, Event::LinkRefused(incoming.link));
        }
    }

    /// Everything that an origin sends passes along the links that are read.
    pub(crate) fn media(&mut self) {
        let mut by_feeder: BTreeMap<(NodeKey, Stream), Vec<u64>> = BTreeMap::new();
        for (number, link) in &self.links {
            by_feeder.entry((link.from_key, link.stream)).or_default().push(*number);
        }
        let mut fresh: Vec<(Slot, Stream)> = Vec::new();
        for process in self.running() {
            let origins = process.publishers.keys().filter(|stream| process.is_origin(**stream));
            fresh.extend(origins.map(|stream| (process.station.slot, *stream)));
        }
        let mut seen: BTreeSet<(Slot, Stream)> = fresh.iter().copied().collect();
        let mut woken = Vec::new();
        while let Some((slot, stream)) = fresh.pop() {
            let process = self.nodes[slot].as_ref().unwrap();
            let has = process.adopted.get(&stream).map(|(_, term)| *term);
            let key = process.key;
            for number in by_feeder.get(&(key, stream)).into_iter().flatten() {
                let link = &self.links[number];
                let (to, term) = (link.to, link.term);
                let stale = has.is_some_and(|has| has != term);
                if stale
                    || !self.weather.reaches(slot, to.slot)
                    || self.process(link.from).is_none()
                {
                    continue;
                }
                let now = self.now;
                let Some(process) = self.nodes[to.slot].as_mut() else { continue };
                let reads = process.adopted.get(&stream) == Some(&(key, term));
                let Some(incoming) = process.links.get_mut(&(stream, key)) else { continue };
                if incoming.link != *number {
                    continue;
                }
                incoming.heard = now;
                if incoming.quiet {
                    incoming.quiet = false;
                    woken.push((to, stream, key, term, Arc::clone(&incoming.path)));
                }
                if reads && seen.insert((to.slot, stream)) {
                    fresh.push((to.slot, stream));
                }
            }
        }
        for (to, stream, key, term, path) in woken {
            let name = Arc::clone(&self.names[stream]);
            if self.process(to).is_some() {
                self.act(to.slot, |cluster, now| cluster.fed(&name, key, term, &path, now));
            }
        }
        self.fall_quiet();
    }

    fn fall_quiet(&mut self) {
        let (now, silence) = (self.now, self.limits.link_silence);
        let mut quiet = Vec::new();
        for process in self.nodes.iter_mut().flatten() {
            for ((stream, key), incoming) in &mut process.links {
                if !incoming.quiet && incoming.heard + silence <= now {
                    incoming.quiet = true;
                    quiet.push((process.station, *stream, *key));
                }
            }
        }
        for (station, stream, key) in quiet {
            let name = Arc::clone(&self.names[stream]);
            if self.process(station).is_some() {
                self.act(station.slot, |cluster, now| cluster.quiet(&name, key, now));
            }
        }
    }
}
