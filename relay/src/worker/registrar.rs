//! Who owns a name. Worker 0 holds this table; every publish and every play asks it once.
//!
//! Pure: requests and time in, mail out. A name is in the table while it is live, in its grace, or
//! wanted by a player. A stream's log lives on the worker of its publisher (its *home*); when the
//! next publisher arrives elsewhere, the old home is told to yield and the log goes on at the new
//! one.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::audience::Audience;
use super::mail::{
    Credential, Mail, Order, Party, PlayRefused, Refusal, Request, StreamId, WorkerIndex,
};
use super::notes::Notes;
use super::outside::{NameNews, News, Watch};
use super::publish::app_of;
use super::settings::{PublishConflict, Settings, UnknownStream};
use crate::limits::{Limits, is_sparse};

/// How often the hold-off doubles at most (10 s becomes at most 5 min 20 s).
const HOLDOFF_DOUBLINGS_MAX: u32 = 5;

/// How often the holder's own address may take over before it counts as a fight.
const RECONNECTS_MAX: u32 = 3;

/// After so many hold-offs without a take-over, those before are forgotten.
const QUIET_HOLDOFFS: u32 = 10;

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
    /// What the control thread is to hear of names.
    notes: Notes,
}

/// How much of the limits that the registrar judges is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) wanted_names: usize,
    pub(super) players: usize,
    /// Players of the application that has the most.
    pub(super) of_app: usize,
    /// Players of the stream that has the most.
    pub(super) of_stream: usize,
    /// Names of the key that has the most.
    pub(super) of_key: usize,
    /// Whether there are as many players as there may be.
    pub(super) is_full: bool,
    /// Whether as much is sent as may be.
    pub(super) is_sending_all: bool,
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
}

#[derive(Debug)]
struct Holder {
    publisher: Party,
    address: IpAddr,
    key: Option<Credential>,
}

#[derive(Debug)]
struct Claim {
    publisher: Party,
    address: IpAddr,
    key: Option<Credential>,
}

/// The memory of take-overs, so that two encoders cannot fight for ever: who was taken over is held
/// off, each refused try renews the hold-off, and each further take-over doubles it.
///
/// Who comes from the holder's own address is taken for the holder itself, back from a network that
/// failed, and is let in at once; but only [`RECONNECTS_MAX`] times without a quiet spell, since
/// two encoders may share an address.
#[derive(Debug, Default)]
struct Contest {
    loser: Option<IpAddr>,
    until: Duration,
    takeovers: u32,
    /// Take-overs from the holder's own address.
    reconnects: u32,
    last: Duration,
}

impl Registrar {
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
                let claim = Claim { publisher, address, key };
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
            Request::Rate { stream, rate } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.rate = rate;
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
            let entry = self.streams.get_mut(&stream).expect("just found");
            let mut told = entry.readers.clone();
            told.extend(entry.home.filter(|home| !entry.readers.contains(home)));
            for worker in told {
                send(worker, Mail::Order(Order::Ended { stream }));
            }
            self.forget(stream);
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

    /// How much of the limits that are judged here is used.
    pub(super) fn usage(&self, now: Duration, settings: &Settings) -> Usage {
        Usage {
            wanted_names: self.unpublished,
            players: self.audience.players(),
            of_app: self.audience.most_of_app(),
            of_stream: self.streams.values().map(|entry| entry.players).max().unwrap_or(0),
            of_key: self.audience.most_of_key(),
            is_full: self.audience.is_full(settings),
            is_sending_all: self.audience.is_sending_all(settings, now),
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
        if entry.holder.is_some() && conflict == PublishConflict::Reject {
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
            entry.grace_until = Some(now + limits.stream_grace);
            self.notes.note(&entry.name);
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
        if entry.players == 1 {
            self.notes.note(name);
        }
        entry.unwatched_since = None;
        self.audience.enter(name, rate, now);
        if !entry.readers.contains(&player.worker) {
            entry.readers.push(player.worker);
        }
        let (name, home) = (Arc::clone(name), entry.home);
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
        let (names, streams) = (&self.names, &self.streams);
        let how = |name: &Arc<str>| {
            let entry = names.get(name).and_then(|stream| streams.get(stream));
            NameNews {
                name: Arc::clone(name),
                live: entry.and_then(|entry| Some(entry.holder.as_ref()?.publisher.worker)),
                grace: entry.is_some_and(|entry| entry.home.is_some() && entry.holder.is_none()),
                wanted: entry.is_some_and(|entry| entry.players > 0),
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
                entry.contest.taken_over(loser.address, claim.address, now, limits);
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
        let unwatched = self.players == 0 && self.pushes == 0 && self.holder.is_some();
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
        let Some(claim) = self.claims.front() else { return };
        let Some(home) = self.home else {
            let claim = self.claims.pop_front().expect("just seen");
            self.grant(stream, claim, true, now, send);
            return;
        };
        let if_silent = self
            .holder
            .as_ref()
            .is_some_and(|holder| self.contest.holds_off(claim.address, holder.address, now));
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
        let publisher = claim.publisher;
        self.holder = Some(Holder { publisher, address: claim.address, key: claim.key });
        self.note_players(now);
        let name = Arc::clone(&self.name);
        send(home, Mail::Order(Order::Grant { stream, publisher, name, fresh }));
        for reader in &self.readers {
            if moved || *reader != home {
                send(*reader, Mail::Order(Order::Appeared { stream, home }));
            }
        }
    }
}

impl Contest {
    fn taken_over(&mut self, loser: IpAddr, winner: IpAddr, now: Duration, limits: &Limits) {
        // A quiet spell makes the next take-over the first one again.
        let spell = limits.takeover_holdoff.saturating_mul(QUIET_HOLDOFFS);
        if now > self.until.max(self.last).saturating_add(spell) {
            (self.takeovers, self.reconnects) = (0, 0);
        }
        self.last = now;
        if loser == winner {
            self.reconnects = self.reconnects.saturating_add(1);
            if self.reconnects <= RECONNECTS_MAX {
                return;
            }
        }
        self.takeovers = self.takeovers.saturating_add(1);
        self.loser = Some(loser);
        self.until = now.saturating_add(self.holdoff(limits));
    }

    fn refused(&mut self, now: Duration, limits: &Limits) {
        self.until = now.saturating_add(self.holdoff(limits));
    }

    fn holds_off(&self, address: IpAddr, holder: IpAddr, now: Duration) -> bool {
        let may_be_holder = address == holder && self.reconnects <= RECONNECTS_MAX;
        self.loser == Some(address) && now < self.until && !may_be_holder
    }

    fn holdoff(&self, limits: &Limits) -> Duration {
        let doublings = self.takeovers.saturating_sub(1).min(HOLDOFF_DOUBLINGS_MAX);
        limits.takeover_holdoff.saturating_mul(2u32.pow(doublings))
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
