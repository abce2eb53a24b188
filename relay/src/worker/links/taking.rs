//! Streams that other nodes feed: offered, taken up, read into the log, and ended.
//!
//! An offer is told to the cluster's machine. When that takes it up, the link claims the stream's
//! name like a publisher; when it is granted, the feeder is told where the log ends and begins to
//! send. Where that is need not be exact: what comes is taken by its place in the count of the
//! stream's source, by the one law of the log, and what is there already is dropped and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::LinkMail;
use super::line::{Kind, LinkConnection};
use crate::cluster::message::{At, Message};
use crate::cluster::{NodeKey, Path, Position, Term};
use crate::reactor::ConnectionKey;
use crate::stream::StreamKey;
use crate::wire::message::MediaMessage;
use crate::worker::labels::{DropReason, LinkRefusal, MessageKind};
use crate::worker::local::Place;
use crate::worker::mail::{Mail, Party};
use crate::worker::origin::Beginning;
use crate::worker::receive::message_kind;
use crate::worker::{REGISTRAR, Worker};

/// A link that brings streams.
pub(super) struct Taking {
    pub(super) from: NodeKey,
    /// The other node's worker.
    pub(super) worker: u16,
    /// By message stream id.
    pub(super) streams: HashMap<u32, Taken>,
    /// Since when the cluster's machine has not known that node.
    pub(super) unknown_since: Option<Duration>,
}

/// A stream on such a link.
pub(super) struct Taken {
    pub(super) name: Arc<str>,
    /// Its source, once that was said.
    term: Option<Term>,
    path: Path,
    /// The next message that comes, by the count of its source.
    seq: u64,
    /// It was taken up, and the headers that answer have not come: media before them is of an
    /// earlier reader, and comes again if it is wanted.
    awaits_headers: bool,
    /// Where it is read into, once it was granted.
    log: Option<(usize, StreamKey)>,
    /// What comes are headers and no part of the stream.
    headers: bool,
    heard: Duration,
    quiet: bool,
    /// When the origin took the next message in, by its clock, if that was said.
    ingested: Option<u64>,
    /// How old the last message was of which that was said.
    age: Duration,
    players: Option<u32>,
}

impl Taking {
    pub(super) fn new(from: NodeKey, worker: u16) -> Self {
        Self { from, worker, streams: HashMap::new(), unknown_since: None }
    }
}

impl Worker {
    /// The other node offers a stream.
    pub(super) fn offered(
        &mut self,
        link: &mut LinkConnection,
        message_stream: u32,
        name: &Bytes,
        now: Duration,
    ) -> Result<(), String> {
        let longest = self.limits.app_bytes_max + 1 + self.limits.name_bytes_max;
        let name = std::str::from_utf8(name).ok().filter(|name| {
            name.len() <= longest && name.contains('/') && !name.chars().any(char::is_control)
        });
        let Some(name) = name else { return Err("a stream's name is not valid".to_owned()) };
        // Whatever came on this message stream before is over: its end was said, or need not be.
        self.no_longer_fed(link, message_stream);
        let Kind::Taking(taking) = &mut link.kind else { return Ok(()) };
        if taking.streams.len() >= self.limits.link_streams_max {
            self.cells.link_refused.at(LinkRefusal::Streams).increment();
            link.session.refuse_stream(message_stream);
            return Ok(());
        }
        let taken = Taken {
            name: name.into(),
            term: None,
            path: Arc::new([]),
            seq: 0,
            awaits_headers: false,
            log: None,
            headers: false,
            heard: now,
            quiet: false,
            ingested: None,
            age: Duration::ZERO,
            players: None,
        };
        taking.streams.insert(message_stream, taken);
        Ok(())
    }

    /// The other node says something about a stream.
    pub(super) fn taking_told(
        &mut self,
        link: &mut LinkConnection,
        message_stream: u32,
        payload: &[u8],
        now: Duration,
    ) -> Result<(), String> {
        let message = Message::decode(payload, &self.limits).map_err(|error| error.to_string())?;
        let party = self.on_link(link.key, message_stream);
        let Kind::Taking(taking) = &mut link.kind else { return Ok(()) };
        let Some(taken) = taking.streams.get_mut(&message_stream) else { return Ok(()) };
        match message {
            Some(Message::At(at)) => self.goes_on(taking.from, taken, party, at, now),
            Some(Message::Headers) => (taken.headers, taken.awaits_headers) = (true, false),
            // What a later build adds.
            _ => {}
        }
        Ok(())
    }

    fn goes_on(&mut self, from: NodeKey, taken: &mut Taken, by: Party, at: At, now: Duration) {
        let term = Term { epoch: at.position.epoch, origin: at.origin };
        let news = taken.term != Some(term) || taken.path != at.path || taken.quiet;
        if taken.term.is_some_and(|before| before != term) {
            let name = Arc::clone(&taken.name);
            self.tell_seat(LinkMail::Unfed { name, from, by });
            self.taken_ended(taken.log.take(), by);
        }
        (taken.term, taken.heard, taken.quiet) = (Some(term), now, false);
        (taken.headers, taken.seq) = (false, at.position.seq);
        taken.ingested = (at.ingested > 0).then_some(at.ingested);
        if news {
            taken.path = Arc::clone(&at.path);
            let name = Arc::clone(&taken.name);
            self.tell_seat(LinkMail::Fed { name, from, term, path: at.path, by });
        }
    }

    /// A message of a stream; `None`: one that cannot be used.
    pub(super) fn take_media(
        &mut self,
        taking: &mut Taking,
        message_stream: u32,
        message: Option<&mut MediaMessage>,
        now: Duration,
    ) {
        let kind = message.as_deref().map_or(MessageKind::Data, message_kind);
        let Some(taken) = taking.streams.get_mut(&message_stream) else {
            return self.count_drop(kind, DropReason::Unpublished);
        };
        taken.heard = now;
        let log = taken.log;
        if taken.headers {
            if let (Some((_, log)), Some(message)) = (log, message) {
                self.hub.append_header(log, message, now);
            }
            return;
        }
        let seq = taken.seq;
        taken.seq += 1;
        if let Some(ingested) = taken.ingested.take() {
            self.observe_age(taken, ingested, now);
        }
        let Some((_, log)) = log else {
            return self.count_drop(kind, DropReason::Unpublished);
        };
        if taken.awaits_headers {
            // It comes again if it is wanted.
            return self.count_drop(kind, DropReason::Held);
        }
        let Some(message) = message else {
            self.hub.pass(log, seq);
            return self.count_drop(kind, DropReason::Malformed);
        };
        self.cells.ingest_messages.at(kind).increment();
        let ingested = now.saturating_sub(taken.age);
        if let Some(dropped) = self.hub.append_at(log, seq, message, ingested, now).dropped {
            self.count_drop(kind, dropped.into());
        }
    }

    /// Sees how old a message is that its origin took in then, by its clock.
    fn observe_age(&mut self, taken: &mut Taken, ingested: u64, now: Duration) {
        let Some(term) = taken.term else { return };
        let Some(clock) = self.links.known.get(&term.origin).copied().flatten() else { return };
        let (age, ahead) = (now.saturating_sub(clock.here(ingested)), clock.micros);
        taken.age = age;
        self.cells.origin_age.observe(age);
        let hops = u32::try_from(taken.path.len()).unwrap_or(u32::MAX).max(1);
        self.cells.hop_latency.observe(age / hops);
        let Some((local, _)) = taken.log else { return };
        if let Some(entry) = self.streams.get_mut(local) {
            entry.origin.ahead_micros = Some(ahead);
        }
    }

    /// The registrar granted a stream to a link: this worker is its home now, and the other node
    /// may send.
    pub(in crate::worker) fn link_granted(
        &mut self,
        local: usize,
        party: Party,
        term: Option<Term>,
        now: Duration,
    ) {
        let Some(mut link) = self.links.connections.remove(&party.connection) else {
            self.vacate(local, party);
            return;
        };
        let taken = match &mut link.kind {
            Kind::Taking(taking) => taking.streams.get_mut(&party.message_stream),
            _ => None,
        };
        let taken = taken.filter(|taken| term.is_some() && taken.term == term);
        let log = self.streams.get(local).and_then(|entry| entry.log);
        let (Some(taken), Some(log), Some(term)) = (taken, log, term) else {
            // It ended, or is another source's by now.
            self.vacate(local, party);
            self.put_link(link, now);
            return;
        };
        if taken.log == Some((local, log)) {
            // It was granted before, and is read: the claim was made twice.
            return self.put_link(link, now);
        }
        let beginning = self.begin_source(local, Some(term), None);
        let goes_on = !matches!(beginning, Beginning::New(_));
        match beginning {
            Beginning::GoesOn => self.hub.resume_publish(log),
            Beginning::Returns(left) => self.hub.return_link(log, left),
            Beginning::New(left) => self.hub.begin_link(log, left),
        }
        // Behind another source it begins at a key frame, best at the newest one.
        let seq = self.hub.next_seq(log).filter(|seq| goes_on && *seq > 0);
        (taken.log, taken.heard, taken.awaits_headers) = (Some((local, log)), now, true);
        // What players would jump over need not come.
        let newest = self.hub.log(log).and_then(|log| Some(log.newest()?.ingested));
        let is_near = newest.is_some_and(|at| now.saturating_sub(at) <= self.limits.player_lag_max);
        let position = seq.filter(|_| is_near).map(|seq| Position { epoch: term.epoch, seq });
        link.session.say(party.message_stream, &Message::Take { position }.encode());
        if let Some(entry) = self.streams.get_mut(local) {
            entry.rate.begin_again();
            entry.live_from = None;
            if let Place::Here { publisher, epoch, .. } = &mut entry.place {
                *publisher = Some(party);
                *epoch += u64::from(!goes_on);
            }
        }
        self.put_link(link, now);
        self.notify_players(local, now);
    }

    /// Somebody else publishes a stream now that a link brought.
    pub(in crate::worker) fn supersede(&mut self, holder: Party, local: usize) {
        if let Some(link) = self.links.connections.get_mut(&holder.connection)
            && let Kind::Taking(taking) = &mut link.kind
            && let Some(taken) = taking.streams.get_mut(&holder.message_stream)
            && let Some((_, log)) = taken.log.take()
        {
            self.hub.end_publish(log);
        }
        if let Some(entry) = self.streams.get_mut(local)
            && let Place::Here { publisher, .. } = &mut entry.place
        {
            *publisher = None;
        }
    }

    /// The other node feeds a stream no longer.
    pub(super) fn no_longer_fed(&mut self, link: &mut LinkConnection, message_stream: u32) {
        let by = self.on_link(link.key, message_stream);
        let Kind::Taking(taking) = &mut link.kind else { return };
        let from = taking.from;
        if let Some(taken) = taking.streams.remove(&message_stream) {
            self.tell_seat(LinkMail::Unfed { name: taken.name, from, by });
            self.taken_ended(taken.log, by);
        }
    }

    /// A stream is not wanted, which the cluster's machine said; or it cannot be taken in here,
    /// which that is told.
    pub(in crate::worker) fn end_taking(
        &mut self,
        connection: ConnectionKey,
        message_stream: u32,
        declined: bool,
        now: Duration,
    ) {
        let by = self.on_link(connection, message_stream);
        self.with_link(connection, now, |worker, link| {
            let Kind::Taking(taking) = &mut link.kind else { return };
            let from = taking.from;
            let Some(taken) = taking.streams.remove(&message_stream) else { return };
            link.session.refuse_stream(message_stream);
            if declined {
                worker.tell_seat(LinkMail::Declined { name: taken.name, from, by });
            }
            worker.taken_ended(taken.log, by);
        });
    }

    /// A link that brought streams is gone.
    pub(super) fn taking_ended(&mut self, key: ConnectionKey, taking: Taking) {
        let from = taking.from;
        let mut streams: Vec<(u32, Taken)> = taking.streams.into_iter().collect();
        streams.sort_unstable_by_key(|(message_stream, _)| *message_stream);
        for (message_stream, taken) in streams {
            let by = self.on_link(key, message_stream);
            self.tell_seat(LinkMail::Unfed { name: taken.name, from, by });
            self.taken_ended(taken.log, by);
        }
    }

    /// Gives the stream's name back. The machine must know by then that the link brings it no
    /// longer, or else the link would be given the name once more.
    fn taken_ended(&mut self, log: Option<(usize, StreamKey)>, by: Party) {
        if let Some((local, log)) = log {
            self.hub.end_publish(log);
            self.vacate(local, by);
        }
    }

    /// Finds streams of which nothing came for `link_silence`.
    pub(super) fn hear_silence(&mut self, now: Duration) {
        let silence = self.limits.link_silence;
        let mut quiet = Vec::new();
        for link in self.links.connections.values_mut() {
            let Kind::Taking(taking) = &mut link.kind else { continue };
            for (message_stream, taken) in &mut taking.streams {
                if !taken.quiet && now.saturating_sub(taken.heard) >= silence {
                    taken.quiet = true;
                    let place = (link.key, *message_stream);
                    quiet.push((place, taking.from, Arc::clone(&taken.name)));
                }
            }
        }
        quiet.sort_unstable();
        for ((key, message_stream), from, name) in quiet {
            let by = self.on_link(key, message_stream);
            self.tell_seat(LinkMail::Quiet { name, from, by });
        }
    }

    /// Tells the feeder how many players depend on a stream.
    pub(super) fn tell_audience(
        &mut self,
        connection: ConnectionKey,
        message_stream: u32,
        players: u32,
        now: Duration,
    ) {
        let downstream = self.links.connections.get(&connection).and_then(|link| {
            let Kind::Taking(taking) = &link.kind else { return None };
            let (local, _) = taking.streams.get(&message_stream)?.log?;
            Some(self.players_downstream(local))
        });
        let players = players.saturating_add(downstream.unwrap_or(0));
        self.with_link(connection, now, |_, link| {
            if let Kind::Taking(taking) = &mut link.kind
                && let Some(taken) = taking.streams.get_mut(&message_stream)
                && taken.players.replace(players) != Some(players)
            {
                link.session.say(message_stream, &Message::Audience { players }.encode());
            }
        });
    }

    pub(super) fn tell_seat(&mut self, mail: LinkMail) {
        self.mailbox.send(REGISTRAR, Mail::Link(Box::new(mail)));
    }
}
