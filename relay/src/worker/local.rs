//! The streams that this worker has to do with: as their home, or because it has players of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::connection::Parked;
use super::flow::Flow;
use super::labels::{Label, Transport};
use super::limiting::TellRate;
use super::links::Fed;
use super::mail::{Granted, Party, StreamId, WorkerIndex};
use super::origin::Origin;
use super::ring::{Entry, SendRing};
use super::settings::{AppSettings, Join};
use crate::limits::is_sparse;
use crate::stream::StreamKey;

/// One stream on this worker.
pub(super) struct LocalStream {
    pub(super) id: StreamId,
    pub(super) name: Arc<str>,
    /// Where joining players of its application start.
    pub(super) join: Join,
    /// The flush age that its application fixes.
    pub(super) fixed_flush: Option<Duration>,
    /// What flows through it.
    pub(super) flow: Flow,
    /// The log, once there is one.
    pub(super) log: Option<StreamKey>,
    pub(super) place: Place,
    /// Every play of it on this worker.
    pub(super) players: HashSet<Entry>,
    /// How many of them are players that speak how; the rest are pushes.
    by_transport: [usize; Transport::COUNT],
    /// Plays that have all that was sealed, and wait for the next seal; some may be over.
    pub(super) waiting: Vec<Entry>,
    /// How many of those are over.
    stale: usize,
    /// Since when it has had no players.
    pub(super) empty_since: Option<Duration>,
    /// Bytes sent to its players; on the home also what workers had sent that have left since.
    pub(super) bytes_out: u64,
    /// A publisher that was granted before the old home's handover arrived.
    pub(super) granted: Option<Granted>,
    /// Who is to have the stream next, and whether only if its publisher is silent: asked before
    /// the old home's handover arrived.
    pub(super) yield_later: Option<(Party, bool)>,
    /// What the registrar knows of its rate.
    pub(super) rate: TellRate,
    /// Workers that asked for it before it was here.
    pub(super) early_readers: Vec<WorkerIndex>,
    /// Which source of the cluster it is.
    pub(super) origin: Origin,
    /// Which other nodes are fed from here.
    pub(super) fed: Fed,
    /// A local publisher began with this segment, and the cluster has not been told that it is
    /// live.
    pub(super) live_from: Option<u64>,
}

/// Where the log is filled.
pub(super) enum Place {
    /// Nobody has published it yet.
    Nowhere,
    /// On this worker.
    Here {
        /// Who publishes; `None` during grace.
        publisher: Option<Party>,
        /// Workers that are mailed its segments.
        readers: Vec<WorkerIndex>,
        /// When the stream began, here or on another worker.
        since: Duration,
        /// Publishers so far, on whatever worker.
        epoch: u64,
    },
    /// On another worker.
    There {
        home: WorkerIndex,
        /// A subscription is asked for and its snapshot has not come, so segments mean nothing yet.
        awaiting_snapshot: bool,
    },
}

/// All of them.
#[derive(Default)]
pub(super) struct LocalStreams {
    streams: Slab<LocalStream>,
    by_id: HashMap<StreamId, usize>,
    by_log: HashMap<StreamKey, usize>,
}

impl LocalStreams {
    /// The stream of this number, new if need be.
    pub(super) fn enter(
        &mut self,
        id: StreamId,
        name: &Arc<str>,
        app: &AppSettings,
        now: Duration,
    ) -> usize {
        *self.by_id.entry(id).or_insert_with(|| {
            self.streams.insert(LocalStream {
                id,
                name: Arc::clone(name),
                join: app.join,
                fixed_flush: app.flush,
                flow: Flow::default(),
                log: None,
                place: Place::Nowhere,
                players: HashSet::new(),
                by_transport: [0; Transport::COUNT],
                waiting: Vec::new(),
                stale: 0,
                empty_since: Some(now),
                bytes_out: 0,
                granted: None,
                yield_later: None,
                rate: TellRate::default(),
                early_readers: Vec::new(),
                origin: Origin::default(),
                fed: Fed::default(),
                live_from: None,
            })
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The local number of a stream.
    pub(super) fn find(&self, id: StreamId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The local number of a log's stream.
    pub(super) fn find_log(&self, log: StreamKey) -> Option<usize> {
        self.by_log.get(&log).copied()
    }

    /// Gives a stream its log.
    pub(super) fn set_log(&mut self, local: usize, log: StreamKey) {
        if let Some(stream) = self.streams.get_mut(local) {
            stream.log = Some(log);
            self.by_log.insert(log, local);
        }
    }

    pub(super) fn get(&self, local: usize) -> Option<&LocalStream> {
        self.streams.get(local)
    }

    pub(super) fn get_mut(&mut self, local: usize) -> Option<&mut LocalStream> {
        self.streams.get_mut(local)
    }

    /// Forgets a stream and gives back what there was.
    pub(super) fn remove(&mut self, local: usize) -> Option<LocalStream> {
        let stream = self.streams.try_remove(local)?;
        self.by_id.remove(&stream.id);
        if let Some(log) = stream.log {
            self.by_log.remove(&log);
        }
        Some(stream)
    }

    /// Gives back room that is not needed.
    pub(super) fn shrink(&mut self) {
        if is_sparse(self.by_id.len(), self.by_id.capacity()) {
            self.streams.shrink_to_fit();
            self.by_id.shrink_to_fit();
            self.by_log.shrink_to_fit();
        }
        for (_, stream) in &mut self.streams {
            let players = stream.players.len();
            if is_sparse(players, stream.players.capacity()) {
                stream.players.shrink_to_fit();
            }
            if is_sparse(players.max(stream.waiting.len()), stream.waiting.capacity()) {
                stream.waiting.shrink_to(players);
            }
        }
    }

    /// Whether any is filled by another worker.
    pub(super) fn reads_remote(&self) -> bool {
        self.streams.iter().any(|(_, entry)| matches!(entry.place, Place::There { .. }))
    }

    /// Every local number is below this.
    pub(super) fn slots(&self) -> usize {
        self.streams.capacity()
    }

    /// The local number of every stream there is now.
    pub(super) fn locals(&self) -> Vec<usize> {
        self.streams.iter().map(|(local, _)| local).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &LocalStream)> {
        self.streams.iter()
    }
}

impl LocalStream {
    /// A play begins, of a player that speaks so.
    pub(super) fn join(&mut self, play: Entry, transport: Option<Transport>) {
        if self.players.insert(play)
            && let Some(transport) = transport
        {
            self.by_transport[transport.index()] += 1;
        }
        self.empty_since = None;
    }

    /// A play is over.
    pub(super) fn leave(
        &mut self,
        play: &Entry,
        transport: Option<Transport>,
        parked: Parked,
        now: Duration,
    ) {
        if self.players.remove(play)
            && let Some(transport) = transport
        {
            let count = &mut self.by_transport[transport.index()];
            *count = count.saturating_sub(1);
        }
        self.stale += usize::from(parked == Parked::Waiting);
        if self.players.is_empty() {
            self.empty_since = Some(now);
            self.players = HashSet::new();
            self.waiting = Vec::new();
            self.stale = 0;
        } else if self.stale > self.players.len() {
            // Now and then, so that who leaves a crowd need not look for itself in it.
            self.waiting.retain(|waiting| self.players.contains(waiting));
            self.waiting.shrink_to(self.players.len());
            self.stale = 0;
        }
    }

    /// A segment was sealed: the list of those who wait moves to the send ring as it is.
    pub(super) fn wake_all(&mut self, ring: &mut SendRing) {
        ring.push_heads(self.waiting.drain(..), std::mem::take(&mut self.stale));
    }

    /// How many players speak how, without those of whom there are none.
    pub(super) fn transports(&self) -> impl Iterator<Item = (Transport, usize)> {
        let counts = self.by_transport.iter().enumerate();
        let counts = counts.map(|(index, count)| (Transport::at(index), *count));
        counts.filter(|(_, count)| *count > 0)
    }

    /// Its players, in an order that does not change from run to run.
    pub(super) fn players_in_order(&self) -> Vec<Entry> {
        let mut players: Vec<_> = self.players.iter().copied().collect();
        players.sort_unstable();
        players
    }

    /// Whether this worker is its home.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.place, Place::Here { .. })
    }
}
