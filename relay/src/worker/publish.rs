//! Publishing: asking the registrar for a name, media into the hub, and passing a stream on.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::access::Permit;
use super::connection::{Connection, Publish};
use super::labels::{CloseReason, DropReason, RefuseReason};
use super::local::Place;
use super::mail::{Granted, Inheritance, Mail, Party, Refusal, Request, StreamId, WorkerIndex};
use super::origin::Origin;
use super::receive::message_kind;
use crate::access::{Action, KeyId};
use crate::reactor::ConnectionKey;
use crate::session::{PublishEnd, PublishRefusal, PublishRefusalCode, StreamRequest};
use crate::stream::{Dropped, Heritage, StreamKey};
use crate::wire::message::MediaMessage;

impl Worker {
    /// A client wants to publish: its permission first, then the name.
    pub(super) fn ask_to_publish(
        &mut self,
        connection: &mut Connection,
        request: StreamRequest,
        now: Duration,
    ) {
        let app = self.settings.app(request.address.name.app());
        connection.stream_name = Some(app.shown_name(Action::Publish, &request.address));
        if self.shared.is_draining() {
            return self.send_publisher_away(connection, &request);
        }
        if self.is_overloaded() {
            self.refuse_publish(connection, request.message_stream, Refusal::Overloaded);
            return;
        }
        if self.is_out_of_memory() {
            self.refuse_publish(connection, request.message_stream, Refusal::OutOfMemory);
            return;
        }
        self.ask_permission(connection, Action::Publish, request, now);
    }

    /// The publisher may: asks the registrar for the name.
    pub(super) fn claim_name(&mut self, connection: &mut Connection, permit: Permit) {
        let publisher = Party {
            worker: self.index(),
            connection: connection.key,
            message_stream: permit.request.message_stream,
        };
        let name: Arc<str> = permit.name().as_str().into();
        connection.stream_name = Some(Arc::clone(&name));
        let conflict = self.settings.app(permit.name().app()).publish_conflict;
        let address = connection.peer.ip();
        let key = permit.grant.key.map(KeyId::digest);
        connection.permit = permit.into_remembered();
        self.ask_registrar(Request::Claim { publisher, name, address, conflict, key });
    }

    /// The registrar granted a name: this worker is its home now.
    pub(super) fn granted(
        &mut self,
        stream: StreamId,
        publisher: Granted,
        name: &Arc<str>,
        fresh: bool,
        now: Duration,
    ) {
        let local = self.enter_stream(stream, name, now);
        let entry = self.streams.get_mut(local).expect("just entered");
        if !fresh && !entry.is_here() {
            // The old home's handover comes by another ring and may be later than this.
            entry.granted = Some(publisher);
            return;
        }
        if !entry.is_here() {
            let log = self.hub.create();
            self.make_home(
                local,
                log,
                Inheritance {
                    readers: Vec::new(),
                    since: now,
                    epoch: 0,
                    origin: Origin::default(),
                },
                now,
            );
        }
        self.begin_publish(local, publisher, now);
    }

    /// The old home gave its stream up to this worker.
    pub(super) fn inherit(
        &mut self,
        stream: StreamId,
        name: &Arc<str>,
        heritage: Heritage,
        mut inheritance: Inheritance,
        now: Duration,
    ) {
        let local = self.enter_stream(stream, name, now);
        let log = self.streams.get(local).and_then(|entry| entry.log);
        let log = log.unwrap_or_else(|| self.hub.create());
        self.hub.inherit(log, heritage);
        let own = self.index();
        inheritance.readers.retain(|reader| *reader != own);
        self.make_home(local, log, inheritance, now);
        let Some(entry) = self.streams.get_mut(local) else { return };
        let (granted, yield_later) = (entry.granted.take(), entry.yield_later.take());
        if let Some(publisher) = granted {
            self.begin_publish(local, publisher, now);
        }
        if let Some((to, if_silent)) = yield_later {
            self.asked_to_yield(stream, to, if_silent, now);
        }
    }

    /// The local number of a stream, which is new or not. Whoever asked for it before it was known
    /// here is an early reader.
    pub(super) fn enter_stream(
        &mut self,
        stream: StreamId,
        name: &Arc<str>,
        now: Duration,
    ) -> usize {
        let app = self.settings.app(app_of(name));
        let local = self.streams.enter(stream, name, app, now);
        if let Some(entry) = self.streams.get_mut(local) {
            for reader in self.early.take(stream) {
                if !entry.early_readers.contains(&reader) {
                    entry.early_readers.push(reader);
                }
            }
        }
        local
    }

    fn make_home(&mut self, local: usize, log: StreamKey, inheritance: Inheritance, now: Duration) {
        let Inheritance { readers, since, epoch, origin } = inheritance;
        self.streams.set_log(local, log);
        let Some(entry) = self.streams.get_mut(local) else { return };
        entry.place = Place::Here { publisher: None, readers, since, epoch };
        entry.origin = origin;
        let stream = entry.id;
        for reader in std::mem::take(&mut entry.early_readers) {
            self.subscribed(stream, reader, now);
        }
        self.set_level(local);
        self.seat_players(local, now);
    }

    fn begin_publish(&mut self, local: usize, granted: Granted, now: Duration) {
        let Granted { party, term, link, over } = granted;
        if link {
            return self.link_granted(local, party, term, now);
        }
        let connection = self.connections.get(party.connection);
        let is_there = connection.is_some_and(|connection| connection.closing.is_none());
        if over || !is_there {
            return self.vacate(local, party);
        }
        self.begin_source(local, term, Some(0));
        let Some(entry) = self.streams.get_mut(local) else { return };
        let log = entry.log.expect("a home has a log");
        entry.live_from = self.hub.log(log).map(crate::stream::Log::next);
        if let Place::Here { publisher, epoch, .. } = &mut entry.place {
            *publisher = Some(party);
            *epoch += 1;
        }
        let mut present = false;
        self.work(party.connection, now, |worker, connection| {
            present = connection.closing.is_none();
            if !present {
                return;
            }
            worker.hub.begin_publish(log);
            connection.speech.accept_publish(party.message_stream);
            let message_stream = party.message_stream;
            let permit = connection.permit.take();
            let (messages, heard) = (0, now);
            let name = worker.streams.get(local).map(|entry| Arc::clone(&entry.name));
            let forward =
                name.and_then(|name| worker.tell_forward(connection, message_stream, &name));
            connection.publishes.push(Publish {
                message_stream,
                local,
                log,
                since: now,
                permit,
                messages,
                heard,
                ingest: None,
                bytes: 0,
                forward,
            });
            if let Some(entry) = worker.streams.get_mut(local) {
                entry.rate.begin_again();
                let name = Arc::clone(&entry.name);
                worker.begin_session(connection, &name, now);
            }
            worker.update_role(connection);
            connection.log_start("publish started");
            if let Some(source) = term {
                let stream = connection.stream_name.as_deref().unwrap_or("-");
                let id = connection.id;
                // By this other nodes' lines of the stream are found.
                tracing::info!(%id, stream, %source, "publish is known to the cluster");
            }
            worker.resume(connection, now);
        });
        if present {
            self.notify_players(local, now);
        } else {
            self.vacate(local, party);
        }
    }

    /// The publisher is gone: the stream's grace begins.
    pub(super) fn vacate(&mut self, local: usize, party: Party) {
        let Some(entry) = self.streams.get_mut(local) else { return };
        let stream = entry.id;
        if let Place::Here { publisher, .. } = &mut entry.place
            && *publisher == Some(party)
        {
            *publisher = None;
        }
        self.ask_registrar(Request::Release { stream, publisher: party });
    }

    pub(super) fn refused(&mut self, publisher: Party, refusal: Refusal, now: Duration) {
        if self.links.is_link(publisher.connection) {
            self.end_taking(publisher.connection, publisher.message_stream, true, now);
            return;
        }
        self.work(publisher.connection, now, |worker, connection| {
            worker.refuse_publish(connection, publisher.message_stream, refusal);
        });
    }

    pub(super) fn refuse_publish(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        refusal: Refusal,
    ) {
        use PublishRefusalCode::{BadName, Rejected};
        let (reason, code, description) = match refusal {
            Refusal::Busy => (RefuseReason::Conflict, BadName, "Stream already publishing"),
            Refusal::HeldOff => {
                (RefuseReason::Holdoff, BadName, "Another publisher took the stream over just now")
            }
            Refusal::TooManyStreams => {
                (RefuseReason::Streams, Rejected, "The server carries as many streams as it may")
            }
            Refusal::TooManyOfKey => {
                let description = "Your key publishes as many streams as it may";
                (RefuseReason::KeyPublishers, Rejected, description)
            }
            Refusal::OutOfMemory => {
                (RefuseReason::Memory, Rejected, "The server has no memory left for streams")
            }
            Refusal::Overloaded => (RefuseReason::Overload, Rejected, "The server is overloaded"),
            Refusal::Draining => (RefuseReason::Draining, Rejected, "The server is about to end"),
        };
        let refusal = PublishRefusal { code, description: description.into() };
        self.reject_publish(connection, message_stream, reason, &refusal);
    }

    /// Counts, logs and tells the client that it may not publish.
    pub(super) fn reject_publish(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        reason: RefuseReason,
        refusal: &PublishRefusal,
    ) {
        self.hook_ended(connection, message_stream);
        self.cells.refused.at(reason).increment();
        tracing::warn!(
            id = %connection.id,
            peer = %connection.peer,
            stream = connection.stream_name.as_deref().unwrap_or("-"),
            reason = reason.label(),
            "publish refused"
        );
        connection.permit = None;
        connection.speech.reject_publish(message_stream, refusal);
    }

    /// One media message into the log. The hot path of ingest.
    pub(super) fn append(&mut self, log: StreamKey, message: &mut MediaMessage, now: Duration) {
        let kind = message_kind(message);
        self.cells.ingest_messages.at(kind).increment();
        if let Some(dropped) = self.hub.append(log, message, now).dropped {
            self.count_drop(kind, dropped.into());
        }
    }

    pub(super) fn end_publish(&mut self, connection: &mut Connection, message_stream: u32) {
        let place = connection.publishes.iter().position(|p| p.message_stream == message_stream);
        let Some(place) = place else { return };
        let publish = connection.publishes.swap_remove(place);
        connection.said_goodbye = true;
        self.publish_ended(connection.key, &publish);
        self.hook_ended(connection, message_stream);
        self.update_role(connection);
    }

    /// A publish is over, whatever ended it.
    pub(super) fn publish_ended(&mut self, key: ConnectionKey, publish: &Publish) {
        self.hub.end_publish(publish.log);
        self.forward_over(publish);
        let (worker, message_stream) = (self.index(), publish.message_stream);
        self.vacate(publish.local, Party { worker, connection: key, message_stream });
    }

    /// Another publisher wants the stream of which this worker is the home.
    pub(super) fn asked_to_yield(
        &mut self,
        stream: StreamId,
        to: Party,
        if_silent: bool,
        now: Duration,
    ) {
        let local = self.streams.find(stream);
        if let Some(entry) = local.and_then(|local| self.streams.get_mut(local))
            && entry.granted.is_some()
        {
            // The handover comes by another ring and may be later than this: there is nothing to
            // pass on yet.
            entry.yield_later = Some((to, if_silent));
            return;
        }
        let yielded = self.try_to_yield(stream, to, if_silent, now);
        self.ask_registrar(Request::Yielded { stream, yielded });
    }

    fn try_to_yield(
        &mut self,
        stream: StreamId,
        to: Party,
        if_silent: bool,
        now: Duration,
    ) -> bool {
        let Some(local) = self.streams.find(stream) else { return true };
        let Some(entry) = self.streams.get(local) else { return true };
        let Place::Here { publisher, .. } = &entry.place else { return true };
        let publisher = *publisher;
        if let Some(holder) = publisher.filter(|holder| self.links.is_link(holder.connection)) {
            let log = entry.log.expect("a home has a log");
            // A link speaks up for a publisher on another node; that is heard by what it brings.
            let last = self.hub.stats(log).and_then(|stats| stats.last_ingest);
            let silent = |last: Duration| now.saturating_sub(last) >= self.limits.silent_after;
            if if_silent && !last.is_none_or(silent) {
                return false;
            }
            self.hub.seal(log);
            if holder != to {
                self.supersede(holder, local);
            }
        } else if let Some(holder) = publisher {
            let connection = self.connections.get(holder.connection);
            let last = connection.map_or(Duration::ZERO, |connection| connection.last_received);
            if if_silent && now.saturating_sub(last) < self.limits.silent_after {
                return false;
            }
            self.take_over(holder, now);
        }
        if to.worker != self.index() {
            self.hand_over(local, to.worker, now);
        }
        true
    }

    /// The stream was taken over on another node.
    pub(super) fn overtaken(&mut self, publisher: Party, now: Duration) {
        let connection = self.connections.get(publisher.connection);
        let publish = connection.and_then(|it| it.publish(publisher.message_stream));
        if let Some(local) = publish.map(|publish| publish.local) {
            self.take_over(publisher, now);
            return self.vacate(local, publisher);
        }
        // It waits for the handover of the old home, which this worker must take all the same.
        for local in self.streams.locals() {
            let granted = self.streams.get_mut(local).and_then(|entry| entry.granted.as_mut());
            if let Some(granted) = granted.filter(|granted| granted.party == publisher) {
                granted.over = true;
                self.refused(publisher, Refusal::Busy, now);
                return;
            }
        }
    }

    fn take_over(&mut self, holder: Party, now: Duration) {
        self.work(holder.connection, now, |worker, connection| {
            let message_stream = holder.message_stream;
            let place =
                connection.publishes.iter().position(|p| p.message_stream == message_stream);
            let Some(place) = place else { return };
            let publish = connection.publishes.swap_remove(place);
            worker.hub.end_publish(publish.log);
            worker.forward_over(&publish);
            if let Some(entry) = worker.streams.get_mut(publish.local)
                && let Place::Here { publisher, .. } = &mut entry.place
            {
                *publisher = None;
            }
            worker.hook_ended(connection, message_stream);
            connection.speech.publish_ended(message_stream, PublishEnd::TakenOver);
            worker.close_soon(connection, CloseReason::Takeover, now);
            worker.update_role(connection);
        });
    }

    /// Sends the stream's log on its way to its new home; from here on this worker only reads it.
    fn hand_over(&mut self, local: usize, to: WorkerIndex, now: Duration) {
        let own = self.index();
        let Some(log) = self.streams.get(local).and_then(|entry| entry.log) else { return };
        self.hub.end_publish(log);
        // What was just sealed goes to the readers before the handover does.
        self.flush(now);
        let heritage = self.hub.hand_over(log).or_else(|| {
            // Whoever was granted the stream was gone before it could begin. The next home waits
            // for the handover all the same.
            self.hub.begin_publish(log);
            self.hub.hand_over(log)
        });
        let Some(heritage) = heritage else { return };
        let Some(entry) = self.streams.get_mut(local) else { return };
        let place = Place::There { home: to, awaiting_snapshot: false };
        let Place::Here { mut readers, since, epoch, .. } =
            std::mem::replace(&mut entry.place, place)
        else {
            return;
        };
        readers.push(own);
        let inheritance = Inheritance { readers, since, epoch, origin: entry.origin };
        self.reads_remote = true;
        let (stream, name) = (entry.id, Arc::clone(&entry.name));
        let heritage = Box::new(heritage);
        self.mailbox.send(to, Mail::Handover { stream, name, heritage, inheritance });
        self.hand_over_feeds(local, to);
    }
}

impl From<Dropped> for DropReason {
    fn from(dropped: Dropped) -> Self {
        match dropped {
            Dropped::BeforeKey => Self::BeforeKey,
            Dropped::NoPublisher => Self::Unpublished,
            Dropped::Held => Self::Held,
        }
    }
}

/// The application in a stream's name: its first part, wherever the client cut it.
pub(super) fn app_of(name: &str) -> &str {
    name.split_once('/').map_or("", |(app, _)| app)
}
