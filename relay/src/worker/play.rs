//! Playing: asking the registrar for a stream, taking a seat in it, and leaving.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::access::Permit;
use super::connection::{Connection, Parked, Play, PlayNumber};
use super::elsewhere::as_asked;
use super::labels::{CloseReason, JoinSource, RefuseReason};
use super::local::Place;
use super::mail::{Mail, Party, PlayRefused, Request, StreamId, WorkerIndex};
use super::settings::{self, UnknownStream};
use crate::access::{Action, Reason, without_last};
use crate::reactor::ConnectionKey;
use crate::session::{PlayRefusal, PlayRefusalCode, Redirect, StreamRequest};
use crate::stream::{self, Join, ViewKind, ViewTracks};

impl Worker {
    /// A client wants to play: its permission first, then the stream.
    pub(super) fn ask_to_play(
        &mut self,
        connection: &mut Connection,
        request: StreamRequest,
        now: Duration,
    ) {
        let app = self.settings.app(request.address.name.app());
        connection.stream_name = Some(app.shown_name(Action::Play, &request.address));
        // The URL of a publisher, given to a player by mistake: its key is no part of any name.
        let name = &request.address.name;
        if !app.play.take_keys() && app.publish.ends_in_key(name) {
            connection.stream_name = Some(without_last(name));
            let reason = Reason::PublishKey;
            self.not_permitted(connection, Action::Play, request.message_stream, reason);
            return;
        }
        if self.shared.is_draining() {
            return self.send_player_away(connection, &request);
        }
        let refused = if self.is_overloaded() {
            Some((RefuseReason::Overload, "The server is overloaded"))
        } else if self.is_out_of_memory() {
            Some((RefuseReason::Memory, "The server has no memory left for players"))
        } else {
            None
        };
        if let Some((reason, description)) = refused {
            self.reject_play(connection, request.message_stream, reason, &failed(description));
            return;
        }
        self.ask_permission(connection, Action::Play, request, now);
    }

    /// Counts, logs and tells the client that it may not play.
    pub(super) fn reject_play(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        reason: RefuseReason,
        refusal: &PlayRefusal,
    ) {
        self.play_turned_away(connection, message_stream, reason);
        connection.speech.reject_play(message_stream, refusal);
    }

    /// The same for one that is sent elsewhere.
    pub(super) fn redirect_play(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        reason: RefuseReason,
        (refusal, to): (&PlayRefusal, &Redirect),
    ) {
        self.play_turned_away(connection, message_stream, reason);
        connection.speech.redirect_play(message_stream, refusal, to);
    }

    fn play_turned_away(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        reason: RefuseReason,
    ) {
        self.hook_ended(connection, message_stream);
        self.cells.refused.at(reason).increment();
        connection.permit = None;
        if connection.speech.is_outside() {
            // What becomes of a push is told by the control thread.
            return;
        }
        tracing::warn!(
            id = %connection.id,
            peer = %connection.peer,
            stream = connection.stream_name.as_deref().unwrap_or("-"),
            reason = reason.label(),
            "play refused"
        );
    }

    /// The player may: asks the registrar for the stream.
    pub(super) fn want_stream(&mut self, connection: &mut Connection, permit: Permit) {
        let player = Party {
            worker: self.index(),
            connection: connection.key,
            message_stream: permit.request.message_stream,
        };
        let name: Arc<str> = permit.name().as_str().into();
        connection.stream_name = Some(Arc::clone(&name));
        *self.wanted.entry(Arc::clone(&name)).or_default() += 1;
        let fetched = self.tell_fetch(connection, player.message_stream, &name);
        let app = self.settings.app(permit.name().app());
        let unknown = match (connection.speech.is_flv(), app.flv_waits) {
            // It is fetched because it is asked for.
            _ if fetched || app.pulls(&name) => UnknownStream::Wait,
            (false, _) => app.unknown_stream,
            (true, false) => UnknownStream::Reject,
            (true, true) => UnknownStream::Wait,
        };
        if !self.settings.overflow.is_empty() || self.links.siblings.have_doors() {
            connection.asked = Some(Box::new(as_asked(&permit.request)));
        }
        connection.permit = permit.into_remembered();
        self.ask_registrar(Request::Want { player, name, unknown, push: false });
    }

    /// The registrar knows the stream.
    pub(super) fn play_granted(
        &mut self,
        (stream, push): (StreamId, bool),
        player: Party,
        name: &Arc<str>,
        home: Option<WorkerIndex>,
        now: Duration,
    ) {
        self.no_longer_wanted(name);
        let local = self.enter_stream(stream, name, now);
        if let Some(home) = home {
            self.look_to(local, home);
        }
        let message_stream = player.message_stream;
        let mut plays = false;
        self.work(player.connection, now, |worker, connection| {
            let Some(entry) = worker.streams.get_mut(local) else { return };
            if connection.closing.is_some() {
                return;
            }
            if connection.speech.only_asks() {
                worker.hook_ended(connection, message_stream);
                (connection.permit, connection.asked) = (None, None);
                connection.speech.accept_play(message_stream);
                return worker.resume(connection, now);
            }
            let view = connection.speech.view(message_stream);
            if entry.log.is_some_and(|log| !worker.hub.has_room(log, view)) {
                let refusal = failed("The stream is played in too many ways");
                worker.reject_play(connection, message_stream, RefuseReason::Views, &refusal);
                return;
            }
            plays = true;
            let marks = (!push).then(|| Self::marks_of(connection)).flatten();
            worker.plays += 1;
            let number = worker.plays;
            let permit = connection.permit.take();
            let transport = connection.transport();
            entry.join((connection.key, number), (!push).then_some(transport));
            connection.speech.accept_play(message_stream);
            connection.plays.push(Play {
                number,
                transport,
                message_stream,
                local,
                cursor: None,
                view,
                paused: false,
                silenced: false,
                parked: Parked::No,
                asked: now,
                started: false,
                found: JoinSource::Cold,
                push,
                leaves: false,
                permit,
                marks: marks.clone(),
            });
            if let Some(marks) = marks {
                let name = Arc::clone(name);
                worker.ask_registrar(Request::Marks { name, marks, begun: true });
            }
            connection.asked = None;
            worker.begin_session(connection, name, now);
            worker.players += u64::from(!push);
            worker.count_players();
            worker.update_role(connection);
            connection.log_start("play started");
            worker.seat(connection, number, now);
            worker.resume(connection, now);
        });
        if !plays {
            self.ask_registrar(Request::Leave { stream, push });
        }
    }

    pub(super) fn play_refused(
        &mut self,
        player: Party,
        name: &Arc<str>,
        why: PlayRefused,
        now: Duration,
    ) {
        self.no_longer_wanted(name);
        let (reason, refusal) = match why {
            PlayRefused::Unknown => {
                let description = "Nobody publishes this stream".into();
                let code = PlayRefusalCode::StreamNotFound;
                (RefuseReason::UnknownStream, PlayRefusal { code, description })
            }
            PlayRefused::TooManyNames => {
                let refusal = failed("The server waits for as many streams as it may");
                (RefuseReason::WantedNames, refusal)
            }
            PlayRefused::Full => {
                (RefuseReason::Players, failed("The stream has as many players as it may"))
            }
            PlayRefused::AppFull => {
                (RefuseReason::AppPlayers, failed("The application has as many players as it may"))
            }
            PlayRefused::NodeFull => {
                (RefuseReason::NodePlayers, failed("The server has as many players as it may"))
            }
            PlayRefused::EgressFull => {
                (RefuseReason::Egress, failed("The server sends as much as it may"))
            }
        };
        let lacks_room = !matches!(why, PlayRefused::Unknown | PlayRefused::TooManyNames);
        let message_stream = player.message_stream;
        let mut told = false;
        self.work(player.connection, now, |worker, connection| {
            told = true;
            let to = if lacks_room { worker.elsewhere(connection) } else { None };
            connection.asked = None;
            match to {
                Some(to) => {
                    worker.cells.players_redirected.increment();
                    worker.redirect_play(connection, message_stream, reason, (&refusal, &to));
                }
                None => worker.reject_play(connection, message_stream, reason, &refusal),
            }
            if connection.speech.is_flv() {
                // It may ask for something else.
                worker.resume(connection, now);
            }
        });
        if !told {
            self.cells.refused.at(reason).increment();
        }
    }

    fn no_longer_wanted(&mut self, name: &Arc<str>) {
        if let Some(count) = self.wanted.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(name);
            }
        }
    }

    /// Reads the stream from this home from now on.
    fn look_to(&mut self, local: usize, home: WorkerIndex) {
        let own = self.index();
        let Some(entry) = self.streams.get_mut(local) else { return };
        match &mut entry.place {
            _ if home == own => return,
            // This worker has not yet been told to yield.
            Place::Here { .. } => return,
            // The old home names us to the new one, or passes our subscription on.
            Place::There { home: known, .. } => {
                *known = home;
                return;
            }
            Place::Nowhere => {}
        }
        entry.place = Place::There { home, awaiting_snapshot: true };
        self.reads_remote = true;
        let stream = entry.id;
        self.mailbox.send(home, Mail::Subscribe { stream, worker: own });
    }

    /// The registrar says that the stream has a publisher, here or elsewhere.
    pub(super) fn appeared(&mut self, stream: StreamId, home: WorkerIndex, now: Duration) {
        let Some(local) = self.streams.find(stream) else { return };
        self.look_to(local, home);
        self.notify_players(local, now);
    }

    /// Tells players that waited for a publisher that there is one.
    pub(super) fn notify_players(&mut self, local: usize, now: Duration) {
        let Some(entry) = self.streams.get(local) else { return };
        for (key, number) in entry.players_in_order() {
            self.work(key, now, |_, connection| {
                if let Some(play) = connection.play_numbered(number)
                    && !play.started
                    && play.asked < now
                {
                    let message_stream = play.message_stream;
                    connection.speech.publish_notify(message_stream);
                }
            });
        }
    }

    /// Gives every player of a stream whose log is now there its position.
    pub(super) fn seat_players(&mut self, local: usize, now: Duration) {
        let Some(entry) = self.streams.get(local) else { return };
        for (key, number) in entry.players_in_order() {
            self.work(key, now, |worker, connection| worker.seat(connection, number, now));
        }
    }

    fn seat(&mut self, connection: &mut Connection, number: PlayNumber, now: Duration) {
        let key = connection.key;
        let Some(play) = connection.play_numbered(number) else { return };
        if play.cursor.is_some() {
            return;
        }
        let Some(entry) = self.streams.get(play.local) else { return };
        let Some(log) = entry.log else { return };
        let join = match entry.join {
            settings::Join::Gop => Join::Gop,
            settings::Join::Live => Join::Live,
        };
        let found = self.hub.log(log).filter(|log| log.newest_key().is_some());
        play.found = match found.and_then(stream::Log::newest) {
            None => JoinSource::Cold,
            Some(newest) if newest.is_remote() => JoinSource::Remote,
            Some(_) => JoinSource::Local,
        };
        play.cursor = self.hub.open(log, join, play.view, now);
        if play.cursor.is_some() && play.parked == Parked::No {
            play.parked = Parked::Ring;
            self.ring.push_behind((key, number));
        }
    }

    pub(super) fn pause(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        paused: bool,
        now: Duration,
    ) {
        let Some(play) = connection.play_mut(message_stream) else { return };
        let changed = std::mem::replace(&mut play.paused, paused) != paused;
        if changed && !paused {
            self.go_on(connection, message_stream, now);
        }
    }

    pub(super) fn choose_tracks(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        audio: bool,
        video: bool,
        now: Duration,
    ) {
        let Some(play) = connection.play_mut(message_stream) else { return };
        let tracks = match (audio, video) {
            (true, true) => ViewTracks::Both,
            (true, false) => ViewTracks::AudioOnly,
            (false, true) => ViewTracks::VideoOnly,
            (false, false) => {
                play.silenced = true;
                return;
            }
        };
        let view = ViewKind { tracks, message_stream, ..play.view };
        let log = self.streams.get(play.local).and_then(|entry| entry.log);
        if log.is_some_and(|log| !self.hub.has_room(log, view)) {
            self.cells.refused.at(RefuseReason::Views).increment();
            return;
        }
        play.view = view;
        let was_silenced = std::mem::take(&mut play.silenced);
        if let Some(cursor) = play.cursor.as_mut() {
            cursor.set_view(play.view);
        }
        if was_silenced {
            self.go_on(connection, message_stream, now);
        }
    }

    /// Plays on after a pause, from the next key frame and with fresh headers.
    fn go_on(&mut self, connection: &mut Connection, message_stream: u32, now: Duration) {
        let key = connection.key;
        let Some(play) = connection.play_mut(message_stream) else { return };
        let log = self.streams.get(play.local).and_then(|entry| entry.log);
        if play.is_stopped() {
            return;
        }
        if let (Some(log), Some(cursor)) = (log, play.cursor.as_mut()) {
            self.hub.rejoin(log, cursor, now);
            if play.parked == Parked::No {
                play.parked = Parked::Ring;
                self.ring.push_behind((key, play.number));
            }
        }
    }

    pub(super) fn end_play(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        now: Duration,
    ) {
        let place = connection.plays.iter().position(|p| p.message_stream == message_stream);
        let Some(place) = place else { return };
        let mut play = connection.plays.swap_remove(place);
        connection.said_goodbye = true;
        leave_rest(connection, &mut play);
        self.play_ended(connection.key, play, now);
        self.hook_ended(connection, message_stream);
        self.update_role(connection);
    }

    /// A play is over before its stream is.
    pub(super) fn play_ended(&mut self, key: ConnectionKey, play: Play, now: Duration) {
        if let Some(entry) = self.streams.get(play.local) {
            let stream = entry.id;
            self.ask_registrar(Request::Leave { stream, push: play.push });
        }
        self.forget_play(key, play, now);
    }

    fn forget_play(&mut self, key: ConnectionKey, mut play: Play, now: Duration) {
        let name = self.streams.get(play.local).map(|entry| Arc::clone(&entry.name));
        if let (Some(marks), Some(name)) = (play.marks.take(), name) {
            self.ask_registrar(Request::Marks { name, marks, begun: false });
        }
        self.players -= u64::from(!play.push);
        self.count_players();
        let Some(entry) = self.streams.get_mut(play.local) else { return };
        let transport = (!play.push).then_some(play.transport);
        entry.leave(&(key, play.number), transport, play.parked, now);
        if play.parked == Parked::Ring {
            self.ring.left();
        }
        if let (Some(log), Some(cursor)) = (entry.log, play.cursor) {
            self.hub.close(log, cursor);
        }
    }

    /// The grace is over: the stream is gone for good, on this worker and everywhere.
    pub(super) fn ended(&mut self, stream: StreamId, now: Duration) {
        let Some(local) = self.streams.find(stream) else { return };
        let Some(entry) = self.streams.get(local) else { return };
        for (key, number) in entry.players_in_order() {
            self.work(key, now, |worker, connection| {
                let place = connection.plays.iter().position(|play| play.number == number);
                let Some(place) = place else { return };
                let mut play = connection.plays.swap_remove(place);
                let message_stream = play.message_stream;
                leave_rest(connection, &mut play);
                worker.forget_play(connection.key, play, now);
                worker.hook_ended(connection, message_stream);
                connection.speech.unpublish_notify(message_stream);
                if connection.plays.is_empty() && connection.publishes.is_empty() {
                    worker.close_soon(connection, CloseReason::Ended, now);
                }
            });
        }
        self.forget_stream(local);
    }

    pub(super) fn forget_stream(&mut self, local: usize) {
        self.end_feeds(local);
        if let Some(log) = self.streams.remove(local).and_then(|entry| entry.log) {
            self.hub.remove(log);
        }
    }
}

/// Keeps the rest of a message that this play had begun. Only one play of a connection can be
/// within a message.
pub(super) fn leave_rest(connection: &mut Connection, play: &mut Play) {
    if let Some(cursor) = play.cursor.as_mut().filter(|cursor| !cursor.at_boundary()) {
        connection.rest = cursor.take_rest();
    }
}

pub(super) fn failed(description: &'static str) -> PlayRefusal {
    PlayRefusal { code: PlayRefusalCode::Failed, description: description.into() }
}
