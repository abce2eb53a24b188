//! The registrar towards the cluster: what it tells of its names, and what links from other nodes
//! ask of it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::{Claim, Registrar};
use crate::cluster::Term;
use crate::limits::Limits;
use crate::worker::mail::{Mail, Party, StreamId, WorkerIndex};
use crate::worker::settings::{PublishConflict, Settings};

/// A stream of other nodes that none has any more ends after so long: its own grace was theirs.
pub(super) const VANISHED_GRACE: Duration = Duration::from_secs(2);

/// What the cluster is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Tiding {
    /// The first player of a name came.
    Wanted(Arc<str>),
    /// The last one left.
    Unwanted(Arc<str>),
    /// The local publisher of a name can be played.
    Live(Arc<str>),
    /// Whoever published a name is gone.
    Resting(Arc<str>),
    /// A name is free again.
    Ended(Arc<str>),
    /// What a stream takes, in bytes a second.
    Rate(Arc<str>, u64),
}

impl Registrar {
    /// An empty table; `tells`: there is a cluster that takes what [`Self::take_tidings`] gives.
    pub(in crate::worker) fn new(tells: bool) -> Self {
        Self { tells, ..Self::default() }
    }

    /// What the cluster is to be told, in order.
    pub(in crate::worker) fn take_tidings(&mut self) -> Vec<Tiding> {
        std::mem::take(&mut self.tidings)
    }

    pub(super) fn tell_cluster(&mut self, tiding: impl FnOnce() -> Tiding) {
        if self.tells {
            self.tidings.push(tiding());
        }
    }

    /// The number of a name and the worker that has its log, if there is any.
    pub(in crate::worker) fn home(&self, name: &str) -> Option<(StreamId, WorkerIndex)> {
        let stream = *self.names.get(name)?;
        Some((stream, self.streams.get(&stream)?.home?))
    }

    /// Who publishes a name, and whether that is a link from another node.
    pub(in crate::worker) fn holder(&self, name: &str) -> Option<(Party, bool)> {
        let holder = self.streams.get(self.names.get(name)?)?.holder.as_ref()?;
        Some((holder.publisher, holder.link))
    }

    /// Players of a name.
    pub(in crate::worker) fn players_of(&self, name: &str) -> usize {
        let stream = self.names.get(name).and_then(|stream| self.streams.get(stream));
        stream.map_or(0, |entry| entry.players)
    }

    /// It changed whether other nodes publish a name.
    pub(in crate::worker) fn changed_elsewhere(&mut self, name: &Arc<str>) {
        self.notes.note(name);
    }

    /// A local publisher was taken over on another node.
    pub(in crate::worker) fn overtaken(&mut self, name: &str, now: Duration, limits: &Limits) {
        let stream = self.names.get(name).copied();
        let Some(entry) = stream.and_then(|stream| self.streams.get_mut(&stream)) else { return };
        if let Some(holder) = entry.holder.as_ref().filter(|holder| !holder.link) {
            entry.contest.taken_over(holder.address, None, now, limits);
        }
    }

    /// Whether a publisher from here is held off from a name that another node publishes and none
    /// brings here, which would show whether that is silent. If so it has tried once more.
    pub(in crate::worker) fn holds_off(
        &mut self,
        name: &str,
        address: IpAddr,
        now: Duration,
        limits: &Limits,
    ) -> bool {
        let stream = self.names.get(name).copied();
        let Some(entry) = stream.and_then(|stream| self.streams.get_mut(&stream)) else {
            return false;
        };
        let held_off = entry.holder.is_none() && entry.contest.holds_off(address, None, now);
        if held_off {
            entry.contest.refused(now, limits);
            // Or else the next try would be the first one again.
            entry.grace_until = entry.grace_until.map(|until| until.max(entry.contest.until()));
        }
        held_off
    }

    /// Streams that other nodes are fed are watched there. Looked at only where that matters.
    pub(in crate::worker) fn see_feeds(
        &mut self,
        is_fed: impl Fn(&str) -> bool,
        now: Duration,
        settings: &Settings,
    ) {
        if !settings.closes_unwatched() {
            return;
        }
        for entry in self.streams.values_mut() {
            if entry.unwatched_since.is_some() && is_fed(&entry.name) {
                entry.unwatched_since = Some(now);
            }
        }
    }

    /// A link from another node brings a stream, which it takes over from whatever link did.
    pub(in crate::worker) fn claim_link(
        &mut self,
        publisher: Party,
        name: &Arc<str>,
        term: Term,
        now: Duration,
        settings: &Settings,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let claim = Claim { publisher, address, key: None, link: Some(term) };
        self.claim(claim, name, PublishConflict::Takeover, now, settings, send);
    }

    /// Nobody in the cluster publishes this name any more. It ends here soon as well, unless
    /// somebody does: what is heard of a take-over from two nodes may come in any order.
    pub(in crate::worker) fn vanished(&mut self, name: &str, now: Duration, limits: &Limits) {
        let stream = self.names.get(name).copied();
        let Some(entry) = stream.and_then(|stream| self.streams.get_mut(&stream)) else { return };
        if entry.home.is_some() && entry.holder.as_ref().is_none_or(|holder| holder.link) {
            entry.vanished = true;
            if entry.holder.is_none() && entry.claims.is_empty() {
                entry.grace_until = Some(now + limits.stream_grace.min(VANISHED_GRACE));
            }
        }
    }
}
