//! Who owns a name. Worker 0 holds this table; every publish and every play asks it once.
//!
//! Pure: requests and time in, mail out. A name is in the table while it is live, in its grace, or
//! wanted by a player. A stream's log lives on the worker of its publisher (its *home*); when the
//! next publisher arrives elsewhere, the old home is told to yield and the log goes on at the new
//! one.

mod for_cluster;
mod usage;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) use for_cluster::Tiding;
use for_cluster::VANISHED_GRACE;
pub(super) use usage::AppUsage;

use super::audience::Audience;
use super::circle::Marks;
use super::contest::Contest;
use super::mail::{
    Credential, Mail, Order, Party, PlayRefused, Refusal, Request, StreamId, WorkerIndex,
};
use super::notes::Notes;
use super::outside::{NameNews, News, Watch};
use super::publish::app_of;
use super::settings::{PublishConflict, Settings, UnknownStream};
use crate::cluster::Term;
use crate::limits::{Limits, is_sparse};

/// The table of names.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    names: HashMap<Arc<str>, StreamId>,
    streams: HashMap<StreamId, Entry>,
    issued: u64,
    /// Names that were never published, only wanted by players.
    unpublished: usize,
    /// Who plays and publishes against the limits of that.
    audience: Audience,
    /// Whether there is a cluster to be told of what happens.
    tells: bool,
    tidings: Vec<Tiding>,
    /// What the control thread is to hear of names.
    notes: Notes,
    /// Relays that play, by name.
    marks: Marks,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    /// The worker that holds the log, once there was a publisher.
    home: Option<WorkerIndex>,
    holder: Option<Holder>,
    /// When the grace ends; only while there is no holder.
    grace_until: Option<Duration>,
    /// Players that were let play and have not left.
    players: usize,
    /// Pushes of it to other servers.
    pushes: usize,
    /// Since when it has been published without players, or since its publisher was told so.
    unwatched_since: Option<Duration>,
    /// Bytes a second, as its home last said.
    rate: u64,
    /// Workers with players of this stream.
    readers: Vec<WorkerIndex>,
    /// A yield is under way for the first of these.
    claims: VecDeque<Claim>,
    contest: Contest,
    /// No other node publishes it any more.
    vanished: bool,
}

#[derive(Debug)]
struct Holder {
    publisher: Party,
    address: IpAddr,
    key: Option<Credential>,
    /// It is a link from another node.
    link: bool,
}

#[derive(Debug)]
struct Claim {
    publisher: Party,
    address: IpAddr,
    key: Option<Credential>,
    /// The source that a link from another node brings.
    link: Option<Term>,
}

impl Holder {
    /// Where it calls from; `None` when it does so on another node.
    fn place(&self) -> Option<IpAddr> {
        (!self.link).then_some(self.address)
    }
}

impl Registrar {
    fn end_stream(&mut self, stream: StreamId, send: &mut dyn FnMut(WorkerIndex, Mail)) {
        let Some(entry) = self.streams.get(&stream) else { return };
        let mut told = entry.readers.clone();
        told.extend(entry.home.filter(|home| !entry.readers.contains(home)));
        for worker in told {
            send(worker, Mail::Order(Order::Ended { stream }));
        }
        self.forget(stream);
    }

    /// Names in the table.
    pub(super) fn names(&self) -> usize {
        self.streams.len()
    }

    /// Handles one request; `send` takes each piece of mail that follows from it.
    pub(super) fn handle(
        &mut self,
        request: Request,
        now: Duration,
        settings: &Settings,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let limits = &settings.limits;
        match request {
            Request::Claim { publisher, name, address, conflict, key } => {
                let claim = Claim { publisher, address, key, link: None };
                self.claim(claim, &name, conflict, now, settings, send);
            }
            Request::Release { stream, publisher } => self.release(stream, publisher, now, limits),
            Request::Want { player, name, unknown: _, push: true } => {
                self.want_for_push(player, &name, send);
            }
            Request::Want { player, name, unknown, push: false } => {
                self.want(player, &name, unknown, now, settings, send);
            }
            Request::Leave { stream, push } => self.leave(stream, push, now),
            Request::Marks { name, marks, begun } => {
                self.marks.count(&name, &marks, begun);
                self.notes.note(&name);
            }
            Request::Rate { stream, rate } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.rate = rate;
                    let name = Arc::clone(&entry.name);
                    self.tell_cluster(|| Tiding::Rate(name, rate));
                }
            }
            Request::Live { stream } => {
                let name = self.streams.get(&stream).map(|entry| Arc::clone(&entry.name));
                if let Some(name) = name {
                    self.tell_cluster(|| Tiding::Live(name));
                }
            }
            Request::Unwant { worker, stream } => self.unwant(worker, stream),
            Request::Yielded { stream, yielded } => {
                self.yielded(stream, yielded, now, limits, send)
            }
        }
    }

    /// Ends graces that are over, and publishes that nobody watches. Called at every sweep;
    /// `egress`: what all workers send, in bytes a second.
    pub(super) fn tick(
        &mut self,
        egress: u64,
        now: Duration,
        settings: &Settings,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        self.audience.see_egress(egress, now);
        self.end_unwatched(now, settings, send);
        // Who claims a name is owed an answer, and its home's is on its way.
        let over = |entry: &Entry| {
            entry.claims.is_empty() && entry.grace_until.is_some_and(|until| until <= now)
        };
        let mut ended: Vec<StreamId> =
            self.streams.iter().filter(|(_, entry)| over(entry)).map(|(id, _)| *id).collect();
        // In order, so that the same seed gives the same run.
        ended.sort_unstable();
        for stream in ended {
            self.end_stream(stream, send);
        }
    }

    fn end_unwatched(
        &mut self,
        now: Duration,
        settings: &Settings,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let mut over = Vec::new();
        for (stream, entry) in &mut self.streams {
            let (Some(since), Some(holder)) = (entry.unwatched_since, &entry.holder) else {
                continue;
            };
            let own = settings.app(app_of(&entry.name)).limits.unwatched;
            let most = own.unwrap_or(settings.limits.publisher_unwatched_max);
            if !most.is_zero() && now.saturating_sub(since) >= most {
                entry.unwatched_since = Some(now);
                over.push((*stream, holder.publisher));
            }
        }
        // In order, so that the same seed gives the same run.
        over.sort_unstable_by_key(|(stream, _)| *stream);
        for (_, publisher) in over {
            send(publisher.worker, Mail::Order(Order::Unwatched { publisher }));
        }
    }

    fn claim(
        &mut self,
        claim: Claim,
        name: &Arc<str>,
        conflict: PublishConflict,
        now: Duration,
        settings: &Settings,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let limits = &settings.limits;
        let published = self.streams.len() - self.unpublished;
        let known = self.names.get(name).and_then(|stream| self.streams.get(stream));
        let counted = known.is_some_and(|entry| entry.home.is_some());
        if let Some(key) = &claim.key {
            // Who comes back for its own name takes its own place.
            let holder = known.and_then(|entry| entry.holder.as_ref());
            let own = usize::from(holder.is_some_and(|holder| holder.key.as_ref() == Some(key)));
            let of_app = settings.app(app_of(name)).limits.publishers_per_key;
            let most = of_app.unwrap_or(limits.publishers_per_key_max);
            if self.audience.names_of(key).saturating_sub(own) >= most {
                refuse(claim.publisher, Refusal::TooManyOfKey, send);
                return;
            }
        }
        let is_free = counted || published < limits.streams_max;
        let Some(stream) = is_free.then(|| self.intern(name)) else {
            refuse(claim.publisher, Refusal::TooManyStreams, send);
            return;
        };
        let entry = self.streams.get_mut(&stream).expect("interned");
        if !entry.claims.is_empty() {
            if entry.claims.len() < limits.claims_waiting_max
                && conflict == PublishConflict::Takeover
            {
                self.audience.claimed(claim.key);
                entry.claims.push_back(claim);
            } else {
                refuse(claim.publisher, Refusal::Busy, send);
            }
            return;
        }
        // Who is on another node is judged by the cluster.
        let is_held = entry.holder.as_ref().is_some_and(|holder| !holder.link);
        if is_held && conflict == PublishConflict::Reject {
            refuse(claim.publisher, Refusal::Busy, send);
            return;
        }
        self.audience.claimed(claim.key);
        entry.claims.push_back(claim);
        let was_unpublished = entry.home.is_none();
        entry.proceed(stream, now, send);
        self.notes.note(&entry.name);
        self.unpublished -= usize::from(was_unpublished && entry.home.is_some());
    }

    fn release(&mut self, stream: StreamId, publisher: Party, now: Duration, limits: &Limits) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if let Some(holder) = entry.holder.take_if(|holder| holder.publisher == publisher) {
            self.audience.released(holder.key);
            entry.unwatched_since = None;
            entry.rate = 0;
            let most = if entry.vanished { VANISHED_GRACE } else { Duration::MAX };
            entry.grace_until = Some(now + limits.stream_grace.min(most));
            self.notes.note(&entry.name);
            let name = Arc::clone(&entry.name);
            self.tell_cluster(|| Tiding::Resting(name));
        }
    }

    fn want(
        &mut self,
        player: Party,
        name: &Arc<str>,
        unknown: UnknownStream,
        now: Duration,
        settings: &Settings,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let known = self.names.get(name).and_then(|stream| self.streams.get(stream));
        let unpublished = known.is_none_or(|entry| entry.home.is_none());
        let (players, rate) = known.map_or((0, 0), |entry| (entry.players, entry.rate));
        let stream = if unpublished && unknown == UnknownStream::Reject {
            Err(PlayRefused::Unknown)
        } else if let Err(why) = self.audience.room(name, players, rate, settings, now) {
            Err(why)
        } else if let Some(stream) = self.names.get(name) {
            Ok(*stream)
        } else if self.unpublished < settings.limits.wanted_names_max {
            Ok(self.intern(name))
        } else {
            Err(PlayRefused::TooManyNames)
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(why) => {
                refuse_play(player, name, why, send);
                return;
            }
        };
        let entry = self.streams.get_mut(&stream).expect("interned");
        entry.players += 1;
        let first = entry.players == 1;
        if first {
            self.notes.note(name);
        }
        entry.unwatched_since = None;
        self.audience.enter(name, rate, now);
        if !entry.readers.contains(&player.worker) {
            entry.readers.push(player.worker);
        }
        let (name, home) = (Arc::clone(name), entry.home);
        if first {
            self.tell_cluster(|| Tiding::Wanted(Arc::clone(&name)));
        }
        let order = Order::Play { stream, player, name, home, push: false };
        send(player.worker, Mail::Order(order));
    }

    /// A push of a stream that is published here.
    fn want_for_push(
        &mut self,
        player: Party,
        name: &Arc<str>,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let stream = self.names.get(name).copied();
        let known = stream.and_then(|stream| Some((stream, self.streams.get_mut(&stream)?)));
        let Some((stream, entry)) = known.filter(|(_, entry)| entry.home.is_some()) else {
            refuse_play(player, name, PlayRefused::Unknown, send);
            return;
        };
        entry.pushes += 1;
        entry.unwatched_since = None;
        if !entry.readers.contains(&player.worker) {
            entry.readers.push(player.worker);
        }
        let (name, home) = (Arc::clone(name), entry.home);
        let order = Order::Play { stream, player, name, home, push: true };
        send(player.worker, Mail::Order(order));
    }

    fn leave(&mut self, stream: StreamId, push: bool, now: Duration) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if push {
            entry.pushes = entry.pushes.saturating_sub(1);
            return entry.note_players(now);
        }
        if entry.players == 0 {
            return;
        }
        entry.players -= 1;
        self.audience.leave(&entry.name, 1);
        entry.note_players(now);
        if entry.players == 0 {
            self.notes.note(&entry.name);
            let name = Arc::clone(&entry.name);
            self.tell_cluster(|| Tiding::Unwanted(name));
        }
    }

    /// The control thread wants to hear of these names, and how they stand now.
    pub(super) fn watch(&mut self, watch: Watch) {
        let names: Vec<_> =
            self.names.keys().filter(|name| watch.holds(app_of(name))).cloned().collect();
        self.notes.begin(watch, names.into_iter());
    }

    /// Tells how names stand that changed, as long as `send` takes it.
    pub(super) fn tell(&mut self, send: &mut dyn FnMut(News) -> bool) {
        let (names, streams, marks) = (&self.names, &self.streams, &self.marks);
        let how = |name: &Arc<str>| {
            let entry = names.get(name).and_then(|stream| streams.get(stream));
            NameNews {
                name: Arc::clone(name),
                // What comes from another node is pushed by that one.
                live: entry
                    .and_then(|entry| entry.holder.as_ref())
                    .filter(|holder| !holder.link)
                    .map(|holder| holder.publisher.worker),
                // Who tells of it knows the other nodes.
                elsewhere: false,
                grace: entry.is_some_and(|entry| entry.home.is_some() && entry.holder.is_none()),
                wanted: entry.is_some_and(|entry| entry.players > 0),
                marks: marks.of(name),
            }
        };
        if !self.notes.tell(&how, send) {
            let watch = self.notes.watched();
            let watched = self.names.keys().filter(|name| watch.holds(app_of(name)));
            let names: Vec<_> = watched.cloned().collect();
            self.notes.begin_anew(names.into_iter());
        }
    }

    fn unwant(&mut self, worker: WorkerIndex, stream: StreamId) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.readers.retain(|reader| *reader != worker);
        if entry.home.is_none() && entry.readers.is_empty() && entry.claims.is_empty() {
            self.forget(stream);
        }
    }

    fn yielded(
        &mut self,
        stream: StreamId,
        yielded: bool,
        now: Duration,
        limits: &Limits,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let Some(claim) = entry.claims.pop_front() else { return };
        if yielded {
            if let Some(loser) = entry.holder.take() {
                self.audience.released(loser.key);
                if !loser.link && claim.link.is_none() {
                    entry.contest.taken_over(loser.address, Some(claim.address), now, limits);
                }
            }
            entry.grant(stream, claim, false, now, send);
        } else {
            entry.contest.refused(now, limits);
            self.audience.released(claim.key);
            refuse(claim.publisher, Refusal::HeldOff, send);
        }
        self.notes.note(&entry.name);
        entry.proceed(stream, now, send);
    }

    /// The number of a name, new when it has none.
    fn intern(&mut self, name: &Arc<str>) -> StreamId {
        if let Some(stream) = self.names.get(name) {
            return *stream;
        }
        self.issued += 1;
        self.unpublished += 1;
        let stream = StreamId(self.issued);
        self.names.insert(Arc::clone(name), stream);
        self.streams.insert(
            stream,
            Entry {
                name: Arc::clone(name),
                home: None,
                holder: None,
                grace_until: None,
                players: 0,
                pushes: 0,
                unwatched_since: None,
                rate: 0,
                readers: Vec::new(),
                claims: VecDeque::new(),
                contest: Contest::default(),
                vanished: false,
            },
        );
        stream
    }

    fn forget(&mut self, stream: StreamId) {
        if let Some(entry) = self.streams.remove(&stream) {
            self.names.remove(&entry.name);
            self.notes.note(&entry.name);
            self.audience.leave(&entry.name, entry.players);
            for claim in &entry.claims {
                self.audience.released(claim.key);
            }
            self.unpublished -= usize::from(entry.home.is_none());
            if entry.players > 0 {
                self.tell_cluster(|| Tiding::Unwanted(Arc::clone(&entry.name)));
            }
            self.tell_cluster(|| Tiding::Ended(entry.name));
        }
        if is_sparse(self.streams.len(), self.streams.capacity()) {
            self.streams.shrink_to_fit();
            self.names.shrink_to_fit();
        }
    }
}

impl Entry {
    /// Its players or its publisher changed.
    fn note_players(&mut self, now: Duration) {
        let publishes = self.holder.as_ref().is_some_and(|holder| !holder.link);
        let unwatched = self.players == 0 && self.pushes == 0 && publishes;
        self.unwatched_since = unwatched.then(|| self.unwatched_since.unwrap_or(now));
    }

    /// Moves the first claim on: granted at once when there is no log yet, else its home must
    /// yield.
    fn proceed(
        &mut self,
        stream: StreamId,
        now: Duration,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let is_local = self.holder.as_ref().is_some_and(|holder| !holder.link);
        while is_local && self.claims.front().is_some_and(|claim| claim.link.is_some()) {
            // A publisher came in before it, which is newer than what any link brings by now.
            self.claims.pop_front();
        }
        let Some(claim) = self.claims.front() else { return };
        let Some(home) = self.home else {
            let claim = self.claims.pop_front().expect("just seen");
            self.grant(stream, claim, true, now, send);
            return;
        };
        let if_silent = self
            .holder
            .as_ref()
            .is_some_and(|holder| self.contest.holds_off(claim.address, holder.place(), now))
            && claim.link.is_none();
        let order = Order::Yield { stream, to: claim.publisher, if_silent };
        // While the yield is under way the grace must not end the stream.
        self.grace_until = None;
        send(home, Mail::Order(order));
    }

    fn grant(
        &mut self,
        stream: StreamId,
        claim: Claim,
        fresh: bool,
        now: Duration,
        send: &mut dyn FnMut(WorkerIndex, Mail),
    ) {
        let home = claim.publisher.worker;
        let moved = self.home != Some(home);
        self.home = Some(home);
        self.grace_until = None;
        self.vanished = false;
        let publisher = claim.publisher;
        let link = claim.link.is_some();
        self.holder = Some(Holder { publisher, address: claim.address, key: claim.key, link });
        self.note_players(now);
        let name = Arc::clone(&self.name);
        let term = claim.link;
        send(home, Mail::Order(Order::Grant { stream, publisher, name, fresh, term, link }));
        for reader in &self.readers {
            if moved || *reader != home {
                send(*reader, Mail::Order(Order::Appeared { stream, home }));
            }
        }
    }
}

fn refuse_play(
    player: Party,
    name: &Arc<str>,
    why: PlayRefused,
    send: &mut dyn FnMut(WorkerIndex, Mail),
) {
    let name = Arc::clone(name);
    send(player.worker, Mail::Order(Order::RefusePlay { player, name, why }));
}

fn refuse(publisher: Party, refusal: Refusal, send: &mut dyn FnMut(WorkerIndex, Mail)) {
    send(publisher.worker, Mail::Order(Order::Refuse { publisher, refusal }));
}

#[cfg(test)]
#[path = "registrar_tests.rs"]
mod tests;
