//! Hooks, as a worker sees them: what a connection waits for, what its back end has been told, and
//! what it is still to be told.
//!
//! A question goes to the control thread (`verdicts.rs`) and the session takes no bytes until its
//! verdict is back; the worker goes on. Whatever began and was not refused is told of once more
//! when it ends, whatever ended it, even if that came before the verdict. Connections of
//! applications without hooks pay for none of this.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Worker;
use super::access::Permit;
use super::connection::Connection;
use super::forward::Forwards;
use super::hook_answers::HookRefusal;
use super::hook_settings::{Fail, HookSettings};
use super::labels::HookName::{self, *};
use super::verdicts::{Call, HookClient, HookStream, Question, Subject};
use crate::access::{Action, Reason};
use crate::session::StreamRequest;

/// What a worker keeps of all hooks.
#[derive(Default)]
pub(super) struct Hooks {
    /// Numbers given so far.
    numbered: u64,
    /// Notifications that found no room on the road.
    waiting: VecDeque<Call>,
    /// Connections that ended while a verdict was outstanding, by its number.
    orphans: BTreeMap<u64, Orphan>,
}

/// What is told, or not, when the verdict comes that a connection did not live to hear.
pub(super) struct Orphan {
    /// The end of the stream that was asked about; told if it was let in.
    pub(super) ended: Option<Call>,
    /// The end of the connection.
    pub(super) closed: Option<Call>,
    /// Whether connect itself was asked about, so that its end is told only if it was let in.
    pub(super) of_connect: bool,
}

/// What a connection has to do with hooks.
pub(super) struct Hooked {
    pub(super) client: Arc<HookClient>,
    /// The hooks that connect went by.
    pub(super) settings: Arc<HookSettings>,
    /// The application whose `on_connect` let the connection in.
    pub(super) entered: Option<Box<str>>,
    /// The end of the connection is to be told.
    pub(super) owes_close: bool,
    /// The question that is outstanding, with its number.
    pub(super) asked: Option<(u64, Asked)>,
    pub(super) streams: SmallVec<[HookedStream; 1]>,
    /// Other servers that its back end named, until what they are for begins.
    pub(super) forwards: Forwards,
}

/// A publish or a play whose end is to be told.
pub(super) struct HookedStream {
    pub(super) stream: Arc<HookStream>,
    pub(super) settings: Arc<HookSettings>,
    since: Duration,
    /// When `on_update` is next due.
    next_update: Option<Duration>,
    /// When the verdict that let it in holds no longer.
    next_question: Option<Duration>,
}

/// What the verdict is outstanding on.
pub(super) enum Asked {
    Connect,
    /// Connect, about which nobody was asked before this was asked for.
    Entry(Box<(Action, StreamRequest)>),
    Stream(Box<Permit>),
}

/// How a connect goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookStep {
    /// Nobody has to be asked.
    Go,
    /// The session waits for a verdict.
    Wait,
    /// The question could not be put, and without a verdict nobody is let in.
    Failed,
}

impl Hooked {
    /// Bytes of memory that it takes up.
    pub(super) fn held_bytes(&self) -> usize {
        let streams = self.streams.iter().map(|hooked| hooked.stream.held_bytes());
        let spilled = if self.streams.spilled() { self.streams.capacity() } else { 0 };
        let forwards = self.forwards.iter().map(|(_, rule)| rule.held_bytes()).sum::<usize>();
        let own = size_of::<Self>() + spilled * size_of::<HookedStream>() + forwards;
        own + self.client.held_bytes() + streams.sum::<usize>()
    }

    /// Notes that a stream began, or may begin, so that its end is told.
    fn begin(
        &mut self,
        stream: Arc<HookStream>,
        settings: Arc<HookSettings>,
        now: Duration,
        chance: f64,
    ) {
        let next_update = settings.has(OnUpdate).then(|| now + settings.update_interval);
        let next_question = expiry(&settings, stream.publishes, now, chance);
        self.streams.push(HookedStream {
            stream,
            settings,
            since: now,
            next_update,
            next_question,
        });
    }

    /// Takes out what is known of the stream of this number.
    pub(super) fn forget(&mut self, number: u64) -> Option<HookedStream> {
        let place = self.streams.iter().position(|hooked| hooked.stream.number == number)?;
        Some(self.streams.remove(place))
    }
}

impl HookedStream {
    fn end(self, client: &Arc<HookClient>) -> Option<Call> {
        let names: &[HookName] = if self.stream.publishes {
            &[OnPublishDone, OnDone, OnUnpublish]
        } else {
            &[OnPlayDone, OnDone, OnStop]
        };
        self.settings.has_any(names).then(|| Call {
            client: Arc::clone(client),
            settings: self.settings,
            subject: Subject::Ended { stream: self.stream, after: None },
        })
    }
}

impl Worker {
    /// A client may publish or play, and nobody had to be asked: only what else its back end is
    /// told of it is noted. A back end that was to be asked hears nothing of it at all.
    pub(super) fn tell_hook(
        &mut self,
        connection: &mut Connection,
        permit: &Permit,
        now: Duration,
    ) {
        let app = permit.request.address.name.app();
        let settings = Arc::clone(&self.settings.app(app).hooks);
        let (question, others) = events(permit.action);
        if settings.has(question) || !settings.has_any(others) {
            return;
        }
        let stream = Arc::new(stream_of(self.hooks.next_number(), permit));
        let chance = self.random.f64();
        hooked(connection, &settings, app).begin(stream, settings, now, chance);
    }

    /// A client may publish or play if its back end agrees.
    pub(super) fn ask_hook(&mut self, connection: &mut Connection, permit: Permit, now: Duration) {
        let (action, request) = (permit.action, &permit.request);
        let settings = Arc::clone(&self.settings.app(request.address.name.app()).hooks);
        let (question, _) = events(action);
        if !settings.has(question) {
            let reason = Reason::Unavailable;
            self.not_permitted(connection, action, request.message_stream, reason);
            return;
        }
        let app = request.address.name.app();
        let client = Arc::clone(&hooked(connection, &settings, app).client);
        let stream = Arc::new(stream_of(self.hooks.next_number(), &permit));
        let asked = Question { number: stream.number, stream: Some(Arc::clone(&stream)) };
        if self.put_question(question, &settings, &client, asked) {
            let Some(hooked) = &mut connection.hooked else { return };
            hooked.asked = Some((stream.number, Asked::Stream(Box::new(permit))));
            hooked.begin(stream, settings, now, self.random.f64());
            return;
        }
        match without_verdict(&settings) {
            HookStep::Failed => {
                let message_stream = request.message_stream;
                self.refuse_by_hook(connection, action, message_stream, HookRefusal::Failed);
            }
            _ => self.permitted(connection, permit),
        }
    }

    /// Sends a question; false when the road is full.
    pub(super) fn put_question(
        &mut self,
        name: HookName,
        settings: &Arc<HookSettings>,
        client: &Arc<HookClient>,
        question: Question,
    ) -> bool {
        let subject = Subject::Ask(question);
        let (settings, client) = (Arc::clone(settings), Arc::clone(client));
        let sent = self.shared.hooks().send(Call { settings, client, subject });
        if sent.is_err() {
            self.cells.hooks_overloaded.at(name).increment();
        }
        sent.is_ok()
    }

    /// What is published or played on a message stream has ended, or was refused after its hook had
    /// let it in.
    pub(super) fn hook_ended(&mut self, connection: &mut Connection, message_stream: u32) {
        let Some(hooked) = &mut connection.hooked else { return };
        hooked.forwards.retain(|(stream, _)| *stream != message_stream);
        let mut streams = hooked.streams.iter();
        let place = streams.position(|hooked| hooked.stream.message_stream == message_stream);
        let Some(place) = place else { return };
        let call = hooked.streams.remove(place).end(&hooked.client);
        self.notify(call);
    }

    /// The connection has ended, and with it all that was published and played on it.
    pub(super) fn hook_closed(&mut self, connection: &mut Connection) {
        let Some(mut hooked) = connection.hooked.take() else { return };
        let asked = hooked.asked.take();
        let waits_for = asked.as_ref().map(|(number, _)| *number);
        let mut unheard = None;
        for stream in std::mem::take(&mut hooked.streams) {
            let is_unheard = Some(stream.stream.number) == waits_for;
            let call = stream.end(&hooked.client);
            if is_unheard {
                unheard = call;
            } else {
                self.notify(call);
            }
        }
        let of_connect = matches!(asked, Some((_, Asked::Connect | Asked::Entry(_))));
        let owes_close = if of_connect {
            hooked.settings.has_any(&[OnDisconnect, OnClose])
        } else {
            hooked.owes_close
        };
        let (sent, received) = (connection.bytes_out, connection.bytes_in);
        let closed = owes_close.then_some(Call {
            settings: hooked.settings,
            client: hooked.client,
            subject: Subject::Closed { after: None, sent, received },
        });
        match waits_for {
            Some(number) => {
                let orphan = Orphan { ended: unheard, closed, of_connect };
                self.hooks.orphans.insert(number, orphan);
            }
            None => self.notify(closed),
        }
    }

    /// Sends a notification, now or when there is room.
    pub(super) fn notify(&mut self, call: Option<Call>) {
        let Some(call) = call else { return };
        if self.hooks.waiting.len() >= self.limits.hook_notices_max {
            self.cells.hooks_overloaded.at(call.name()).increment();
            return;
        }
        self.hooks.waiting.push_back(call);
        self.send_notices();
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn send_notices(&mut self) {
        while let Some(call) = self.hooks.waiting.pop_front() {
            if let Err(call) = self.shared.hooks().send(call) {
                self.hooks.waiting.push_front(call);
                return;
            }
        }
    }

    /// The worker ends and hears no more verdicts: what depends on one is told with that condition.
    pub(super) fn give_up_verdicts(&mut self) {
        for (number, orphan) in std::mem::take(&mut self.hooks.orphans) {
            for mut call in [orphan.ended, orphan.closed].into_iter().flatten() {
                match &mut call.subject {
                    Subject::Ended { after, .. } => *after = Some(number),
                    Subject::Closed { after, .. } if orphan.of_connect => *after = Some(number),
                    _ => {}
                }
                self.notify(Some(call));
            }
        }
    }

    /// Tells of a connection's streams that they go on, and asks again whether they may, where that
    /// is due.
    pub(super) fn hook_updates(&mut self, key: crate::reactor::ConnectionKey, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(hooked) = &mut connection.hooked else { return };
        let outstanding = hooked.asked.as_ref().map(|(number, _)| *number);
        let mut due =
            SmallVec::<[(Arc<HookStream>, Arc<HookSettings>, Option<Duration>); 1]>::new();
        for hooked in &mut hooked.streams {
            if Some(hooked.stream.number) == outstanding {
                continue;
            }
            let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
            let (stream, settings) = (&hooked.stream, &hooked.settings);
            if is_due(hooked.next_update) {
                hooked.next_update = Some(now + settings.update_interval);
                let time = now.saturating_sub(hooked.since);
                due.push((Arc::clone(stream), Arc::clone(settings), Some(time)));
            }
            if is_due(hooked.next_question) {
                let chance = self.random.f64();
                hooked.next_question = expiry(settings, stream.publishes, now, chance);
                due.push((Arc::clone(stream), Arc::clone(settings), None));
            }
        }
        let client = Arc::clone(&hooked.client);
        for (stream, settings, time) in due {
            let subject = match time {
                Some(time) => {
                    let timestamp = self.last_timestamp(key, &stream);
                    Subject::Goes { stream, time, timestamp }
                }
                None => Subject::Again { stream },
            };
            let client = Arc::clone(&client);
            if let Err(unsent) = self.shared.hooks().send(Call { settings, client, subject }) {
                self.cells.hooks_overloaded.at(unsent.name()).increment();
            }
        }
    }

    /// The timestamp of the last message that was received or sent, in milliseconds.
    fn last_timestamp(&self, key: crate::reactor::ConnectionKey, stream: &HookStream) -> u32 {
        let timestamp = || {
            let connection = self.connections.get(key)?;
            let message_stream = stream.message_stream;
            let newest = |log| Some(self.hub.log(log)?.newest()?.index.last()?.timestamp.0);
            if stream.publishes {
                return newest(connection.publish(message_stream)?.log);
            }
            let mut plays = connection.plays.iter();
            let play = plays.find(|play| play.message_stream == message_stream)?;
            let log = self.streams.get(play.local)?.log?;
            let lag = self.hub.lag(log, play.cursor.as_ref()?).as_millis();
            Some(newest(log)?.wrapping_sub(u32::try_from(lag).unwrap_or(u32::MAX)))
        };
        timestamp().unwrap_or_default()
    }
}

impl Hooks {
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// Takes out the connection that did not live to hear this verdict.
    pub(super) fn orphan(&mut self, number: u64) -> Option<Orphan> {
        self.orphans.remove(&number)
    }

    /// Whether nothing waits, for tests.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.orphans.is_empty()
    }
}

/// Whether a client is let in when there is no verdict.
pub(super) fn without_verdict(settings: &HookSettings) -> HookStep {
    match settings.fail {
        Fail::Open => HookStep::Go,
        Fail::Closed => HookStep::Failed,
    }
}

/// When a verdict of now holds no longer; `None` when it holds for as long as its session lasts. By
/// `chance`, from 0 to 1, up to a tenth early: those who came at once are not asked about at once
/// for ever.
fn expiry(
    settings: &HookSettings,
    publishes: bool,
    now: Duration,
    chance: f64,
) -> Option<Duration> {
    let question = if publishes { OnPublish } else { OnPlay };
    let ends = settings.has(question) && !settings.verdict_lifetime.is_zero();
    ends.then(|| now + settings.verdict_lifetime.mul_f64(1.0 - chance / 10.0))
}

/// The event that asks about an action, and those that tell what becomes of it.
fn events(action: Action) -> (HookName, &'static [HookName]) {
    match action {
        Action::Publish => (OnPublish, &[OnPublishDone, OnDone, OnUnpublish, OnUpdate]),
        Action::Play => (OnPlay, &[OnPlayDone, OnDone, OnStop, OnUpdate]),
    }
}

/// Under the name that was granted: without the stream key that may have stood at its end.
fn stream_of(number: u64, permit: &Permit) -> HookStream {
    let request = &permit.request;
    HookStream {
        number,
        publishes: permit.action == Action::Publish,
        message_stream: request.message_stream,
        name: permit.name().as_str().into(),
        words: request.words.clone(),
        query: request.address.query.clone(),
        host: request.address.host.clone(),
    }
}

/// What a connection has to do with hooks, from the first time that it has. `app` is the
/// application of who named none when connecting, and of HTTP, where each request may be for
/// another one.
pub(super) fn hooked<'a>(
    connection: &'a mut Connection,
    settings: &Arc<HookSettings>,
    app: &str,
) -> &'a mut Hooked {
    let client = match &connection.hooked {
        Some(hooked) if !connection.speech.is_flv() => Arc::clone(&hooked.client),
        _ => Arc::new(client_of(connection, app)),
    };
    let hooked = connection.hooked.get_or_insert_with(|| {
        Box::new(Hooked {
            client: Arc::clone(&client),
            settings: Arc::clone(settings),
            entered: None,
            owes_close: false,
            asked: None,
            streams: SmallVec::new(),
            forwards: Forwards::new(),
        })
    });
    hooked.client = client;
    hooked
}

/// Who the client is, as it says itself.
fn client_of(connection: &Connection, app: &str) -> HookClient {
    let mut client = HookClient {
        id: connection.id,
        key: connection.key,
        peer: connection.peer,
        since: connection.since,
        app: String::new(),
        args: String::new(),
        query: String::new(),
        flash_ver: String::new(),
        swf_url: String::new(),
        tc_url: String::new(),
        host: String::new(),
        page_url: String::new(),
    };
    if let Some(said) = connection.speech.client() {
        client.app.clone_from(&said.app);
        let args = said.raw_app().split_once('?').map(|(_, args)| args.to_owned());
        client.args = args.unwrap_or_default();
        client.query = said.query();
        client.flash_ver.clone_from(&said.flash_ver);
        client.swf_url.clone_from(&said.swf_url);
        client.tc_url = said.tc_url().into_owned();
        client.host.clone_from(&said.host);
        client.page_url.clone_from(&said.page_url);
    }
    if let Some(asked) = connection.speech.flv_request() {
        let address = &asked.stream.address;
        address.name.app().clone_into(&mut client.app);
        client.query.clone_from(&address.query);
        client.flash_ver.clone_from(&asked.client);
        client.tc_url = format!("http://{}/{}", address.host, address.name.app());
        client.host.clone_from(&address.host);
        client.page_url.clone_from(&asked.page);
    }
    if client.app.is_empty() {
        app.clone_into(&mut client.app);
    }
    client
}

#[cfg(test)]
mod tests {
    use super::super::hook_settings::{Contract, HookUrl};
    use super::super::labels::Label;
    use super::*;

    #[test]
    fn verdicts_of_one_moment_end_at_many() {
        let mut settings = HookSettings::default();
        let at = |settings: &HookSettings, chance| {
            expiry(settings, true, Duration::from_secs(7), chance).map(|time| time.as_secs())
        };
        settings.verdict_lifetime = Duration::from_secs(100);
        assert_eq!(at(&settings, 0.0), None, "nobody was asked");
        settings.contract = Some(Contract::Srs);
        settings.urls[OnPublish.index()] = HookUrl::parse("http://h/").into_iter().collect();
        for (chance, expected) in [(0.0, 107), (0.5, 102), (1.0, 97)] {
            assert_eq!(at(&settings, chance), Some(expected));
        }
        settings.verdict_lifetime = Duration::ZERO;
        assert_eq!(at(&settings, 0.5), None);
    }
}
