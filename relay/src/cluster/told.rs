//! What peers tell each other, and what is told anew on a new connection.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::command::Note;
use super::entry::Claim;
use super::identity::{NodeKey, Term};
use super::machine::Cluster;
use super::message::{Announced, Digest, Edge, Ended, Message, Part, Report};

/// What one peer has told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The streams that it announced.
    pub(super) names: BTreeSet<Arc<str>>,
    /// Where it answers operators.
    pub(super) operators: Option<SocketAddr>,
    /// The same, added up.
    digest: Digest,
    /// Some were passed over, so nothing adds up.
    overflowed: bool,
    refreshed: Duration,
    /// What was in the part of a whole list that has come so far.
    announcing: Option<BTreeSet<Arc<str>>>,
    wanting: Option<BTreeSet<Arc<str>>>,
    pushing: Option<BTreeSet<(Arc<str>, NodeKey)>>,
}

/// So many refreshes may be missed.
const REFRESHES_MISSED_MAX: u32 = 3;

impl Cluster {
    /// Everything is told to a node on a new connection.
    pub(super) fn greet(&mut self, key: NodeKey, now: Duration) {
        let told = self.told.entry(key).or_default();
        told.refreshed = now;
        (told.announcing, told.wanting, told.pushing) = (None, None, None);
        if !self.settings.doors.is_empty() {
            let doors = Message::Doors { doors: Arc::clone(&self.settings.doors) };
            let (_, mut ctx) = self.split(now);
            ctx.tell(key, &doors);
        }
        if let Some(address) = self.settings.operators {
            let (_, mut ctx) = self.split(now);
            ctx.tell(key, &Message::Operators { address });
        }
        self.tell_streams(key, now);
        self.greet_with_orders(key, now);
        let limits = Arc::clone(&self.settings.limits);
        let mut wants = Vec::new();
        for name in &self.reading {
            let entry = self.streams.get_mut(name);
            let reception = entry.and_then(|entry| entry.reception.as_mut());
            let asked = |term: Option<Term>| term.is_some_and(|term| term.origin == key);
            if let Some(reception) = reception.filter(|reception| asked(reception.asked())) {
                wants.extend(reception.resend(name, now));
            }
        }
        let asked: Vec<Arc<str>> = wants.iter().map(|report| Arc::clone(&report.name)).collect();
        let mut pushes = Vec::new();
        for name in &self.own {
            let Some(entry) = self.streams.get(name) else { continue };
            let (Some(tree), Some(local)) = (&entry.tree, entry.local) else { continue };
            pushes.extend(tree.pushes(key).into_iter().map(|child| Edge {
                name: Arc::clone(name),
                epoch: local.epoch,
                child,
            }));
        }
        let (_, mut ctx) = self.split(now);
        for (part, entries) in Message::parts(wants, |report: &Report| &report.name, &limits) {
            ctx.tell(key, &Message::Wants { part, entries });
        }
        for (part, entries) in Message::parts(pushes, |edge: &Edge| &edge.name, &limits) {
            ctx.tell(key, &Message::Pushes { part, entries });
        }
        for name in asked {
            self.settle(&name, now);
        }
        // Trees may have places for it, and it may have places for others.
        let own: Vec<Arc<str>> = self.own.iter().cloned().collect();
        for name in own {
            self.settle(&name, now);
        }
    }

    fn tell_streams(&mut self, key: NodeKey, now: Duration) {
        let limits = Arc::clone(&self.settings.limits);
        let own = self
            .own
            .iter()
            .filter_map(|name| self.streams.get(name)?.local.map(|local| local.announced(name)));
        let own: Vec<Announced> = own.collect();
        let (_, mut ctx) = self.split(now);
        for (part, entries) in Message::parts(own, |entry: &Announced| &entry.name, &limits) {
            ctx.tell(key, &Message::Announce { part, entries });
        }
    }

    /// A node is gone: its streams end after their grace, and whatever was between the two ends.
    pub(super) fn gone(&mut self, key: NodeKey, now: Duration) {
        let mut names = self.told.remove(&key).map_or_else(BTreeSet::new, |told| told.names);
        for others in [&self.own, &self.reading, &self.feeding] {
            names.extend(others.iter().cloned());
        }
        let grace = now + self.settings.limits.stream_grace;
        let mut touched = Vec::new();
        let (streams, mut ctx) = self.split(now);
        for name in &names {
            let Some(entry) = streams.get_mut(name) else { continue };
            let mut is_touched = false;
            for claim in entry.claims.iter_mut().filter(|claim| claim.term.origin == key) {
                claim.lost = claim.lost.or(Some(grace));
                is_touched = true;
            }
            if let Some(reception) = &mut entry.reception {
                is_touched |= reception.lose(name, key, &mut ctx);
            }
            is_touched |= entry.feeds.iter().any(|feed| feed.to == key);
            if entry.tree.as_ref().is_some_and(|tree| tree.contains(key)) {
                entry.left(name, key, &mut ctx);
                is_touched = true;
            }
            if is_touched {
                touched.push(Arc::clone(name));
            }
        }
        for name in touched {
            self.settle(&name, now);
        }
    }

    /// A node says something.
    pub(super) fn hear(&mut self, key: NodeKey, message: Message, now: Duration) {
        match message {
            Message::Doors { doors } => self.members.set_doors(key, doors),
            Message::Orders { entries } => self.hear_orders(entries, now),
            Message::Operators { address } => {
                if let Some(told) = self.told.get_mut(&key) {
                    told.operators = Some(address);
                }
            }
            Message::Announce { part, entries } => self.announced(key, part, entries, now),
            Message::Withdraw { entries } => {
                for ended in entries {
                    self.withdrawn(key, &ended, now);
                }
            }
            Message::Refresh(digest) => {
                let Some(told) = self.told.get_mut(&key) else { return };
                told.refreshed = now;
                if told.digest != digest && !told.overflowed && told.announcing.is_none() {
                    self.out.counters.resyncs += 1;
                    let (_, mut ctx) = self.split(now);
                    ctx.tell(key, &Message::Resync);
                }
            }
            Message::Resync => self.tell_streams(key, now),
            Message::Wants { part, entries } => self.reported(key, part, &entries, now),
            Message::Left(ended) => {
                let (streams, mut ctx) = self.split(now);
                let entry = streams.get_mut(&ended.name);
                let is_it = |local: Option<super::entry::Local>| {
                    local.is_some_and(|local| local.epoch == ended.epoch)
                };
                if let Some(entry) = entry.filter(|entry| is_it(entry.local)) {
                    entry.left(&ended.name, key, &mut ctx);
                    self.settle(&ended.name, now);
                }
            }
            Message::Parent { name, epoch, order, parent } => {
                let term = Term { epoch, origin: key };
                let entry = self.streams.get_mut(&name);
                if let Some(reception) = entry.and_then(|entry| entry.reception.as_mut()) {
                    reception.parent(term, order, parent, now);
                    self.settle(&name, now);
                }
            }
            Message::Pushes { part, entries } => self.pushed(key, part, entries, now),
            Message::StopPush(edge) => {
                let term = Term { epoch: edge.epoch, origin: key };
                let (streams, mut ctx) = self.split(now);
                if let Some(entry) = streams.get_mut(&edge.name)
                    && entry.feeds.iter().any(|feed| feed.to == edge.child && feed.term == term)
                {
                    entry.stop_feed(&edge.name, edge.child, &mut ctx);
                    self.settle(&edge.name, now);
                }
            }
            Message::Unfed(edge) => {
                if let Some(entry) = self.streams.get_mut(&edge.name)
                    && entry.local.is_some_and(|local| local.epoch == edge.epoch)
                {
                    entry.unfed(edge.child, key, now);
                    self.settle(&edge.name, now);
                }
            }
            // Those that the membership has taken, and what belongs on media links.
            Message::Refused(_)
            | Message::Beat(_)
            | Message::Bye
            | Message::At(_)
            | Message::Headers
            | Message::Take { .. }
            | Message::Audience { .. } => {
                self.out.counters.unknown += 1;
            }
        }
    }

    fn announced(&mut self, key: NodeKey, part: Part, entries: Vec<Announced>, now: Duration) {
        let Some(told) = self.told.get_mut(&key) else { return };
        if part.first {
            told.announcing = Some(BTreeSet::new());
            told.overflowed = false;
        }
        for entry in entries {
            self.announce_one(key, entry, now);
        }
        let Some(told) = self.told.get_mut(&key) else { return };
        if part.last
            && let Some(listed) = told.announcing.take()
        {
            let over: Vec<Arc<str>> =
                told.names.iter().filter(|name| !listed.contains(*name)).cloned().collect();
            for name in over {
                let claims = self.streams.get(&name).map_or(&[][..], |entry| &entry.claims);
                let claim = claims.iter().find(|claim| claim.term.origin == key);
                if let Some(epoch) = claim.map(|claim| claim.term.epoch) {
                    self.withdrawn(key, &Ended { name, epoch }, now);
                }
            }
        }
    }

    fn announce_one(&mut self, key: NodeKey, announced: Announced, now: Duration) {
        let Announced { name, epoch, phase, rate_kbit } = announced;
        let limits = &self.settings.limits;
        let Some(told) = self.told.get_mut(&key) else { return };
        // One text for all that know it.
        let name = self.streams.get_key_value(&name).map_or(name, |(known, _)| Arc::clone(known));
        let fits = told.names.contains(&name)
            || (told.names.len() < limits.announced_streams_max
                && (self.streams.contains_key(&name)
                    || self.streams.len() < limits.directory_names_max));
        if !fits {
            self.out.counters.announcements_refused += 1;
            let first = !std::mem::replace(&mut told.overflowed, true);
            let identity = self.members.peer(key).map(|peer| peer.identity.clone());
            if let Some(identity) = identity.filter(|_| first) {
                self.note(Note::TooManyStreams(identity));
            }
            return;
        }
        if let Some(listed) = &mut told.announcing {
            listed.insert(Arc::clone(&name));
        }
        let entry = self.streams.entry(Arc::clone(&name)).or_default();
        entry.highest = entry.highest.max(epoch);
        if let Some(old) = entry.claims.iter().position(|claim| claim.term.origin == key) {
            let old = entry.claims.remove(old);
            if told.names.contains(&name) {
                told.digest.remove(&name, old.term.epoch, old.phase);
            }
        }
        let term = Term { epoch, origin: key };
        entry.claims.push(Claim { term, phase, rate_kbit, lost: None });
        told.digest.add(&name, epoch, phase);
        told.names.insert(Arc::clone(&name));
        self.settle(&name, now);
    }

    fn withdrawn(&mut self, key: NodeKey, ended: &Ended, now: Duration) {
        let Some(told) = self.told.get_mut(&key) else { return };
        let Some(entry) = self.streams.get_mut(&ended.name) else { return };
        let term = Term { epoch: ended.epoch, origin: key };
        let Some(at) = entry.claims.iter().position(|claim| claim.term == term) else { return };
        let claim = entry.claims.remove(at);
        if told.names.remove(&ended.name) {
            told.digest.remove(&ended.name, claim.term.epoch, claim.phase);
        }
        self.settle(&ended.name, now);
    }

    /// Streams of nodes that do not say any more that they have them end after their grace. The
    /// next time that such a node says how many it has, it is asked for all of them.
    pub(super) fn forget_stale(&mut self, now: Duration) {
        let longest = self.settings.limits.directory_refresh.saturating_mul(REFRESHES_MISSED_MAX);
        let grace = now + self.settings.limits.stream_grace;
        let stale = self.told.iter_mut().filter(|(_, told)| {
            now.saturating_sub(told.refreshed) > longest && !told.names.is_empty()
        });
        let mut touched = Vec::new();
        for (key, told) in stale {
            told.digest = Digest::default();
            for name in std::mem::take(&mut told.names) {
                let claims = self.streams.get_mut(&name).map(|entry| entry.claims.iter_mut());
                for claim in claims.into_iter().flatten() {
                    if claim.term.origin == *key {
                        claim.lost = claim.lost.or(Some(grace));
                    }
                }
                touched.push(name);
            }
        }
        for name in touched {
            self.settle(&name, now);
        }
    }

    fn reported(&mut self, key: NodeKey, part: Part, entries: &[Report], now: Duration) {
        let Some(told) = self.told.get_mut(&key) else { return };
        if part.first {
            told.wanting = Some(BTreeSet::new());
        }
        let anew = told.wanting.is_some();
        for report in entries {
            if !self.own.contains(&report.name) {
                continue;
            }
            if let Some(wanting) = self.told.get_mut(&key).and_then(|told| told.wanting.as_mut()) {
                wanting.insert(Arc::clone(&report.name));
            }
            let (streams, mut ctx) = self.split(now);
            if let Some(entry) = streams.get_mut(&report.name) {
                entry.report(&report.name, key, report, anew, &mut ctx);
                self.settle(&report.name, now);
            }
        }
        let told = self.told.get_mut(&key);
        let Some(told) = told.filter(|_| part.last) else { return };
        let Some(wanted) = told.wanting.take() else { return };
        let over: Vec<Arc<str>> =
            self.own.iter().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in over {
            let (streams, mut ctx) = self.split(now);
            if let Some(entry) = streams.get_mut(&name)
                && entry.tree.as_ref().is_some_and(|tree| tree.contains(key))
            {
                entry.left(&name, key, &mut ctx);
                self.settle(&name, now);
            }
        }
    }

    fn pushed(&mut self, key: NodeKey, part: Part, entries: Vec<Edge>, now: Duration) {
        let Some(told) = self.told.get_mut(&key) else { return };
        if part.first {
            told.pushing = Some(BTreeSet::new());
        }
        let anew = told.pushing.is_some();
        for Edge { name, epoch, child } in entries {
            let term = Term { epoch, origin: key };
            let (streams, mut ctx) = self.split(now);
            if let Some(entry) = streams.get_mut(&name) {
                entry.push(&name, term, child, anew, &mut ctx);
                self.settle(&name, now);
            } else {
                ctx.unfed(&name, term, child);
            }
            // Only streams that are known are remembered.
            let known = self.streams.contains_key(&name);
            let told = self.told.get_mut(&key).filter(|_| known);
            if let Some(pushing) = told.and_then(|told| told.pushing.as_mut()) {
                pushing.insert((name, child));
            }
        }
        let told = self.told.get_mut(&key);
        let Some(told) = told.filter(|_| part.last) else { return };
        let Some(pushed) = told.pushing.take() else { return };
        let feeding = self.feeding.clone();
        let (streams, mut ctx) = self.split(now);
        let mut touched = Vec::new();
        for name in &feeding {
            let Some(entry) = streams.get_mut(name) else { continue };
            let over: Vec<NodeKey> = entry
                .feeds
                .iter()
                .filter(|feed| feed.term.origin == key)
                .map(|feed| feed.to)
                .filter(|to| !pushed.contains(&(Arc::clone(name), *to)))
                .collect();
            for to in over {
                entry.stop_feed(name, to, &mut ctx);
                touched.push(Arc::clone(name));
            }
        }
        for name in touched {
            self.settle(&name, now);
        }
    }
}
