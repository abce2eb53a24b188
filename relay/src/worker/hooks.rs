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
use super::hook_renewals::Renewal;
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
    /// Counts the settings that were in force.
    pub(super) generation: u64,
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

/// A publish or a play that its application's hooks have to do with.
pub(super) struct HookedStream {
    pub(super) stream: Arc<HookStream>,
    /// The hooks that it began with, or those that were in force when it was last called about.
    pub(super) settings: Arc<HookSettings>,
    /// Its back end knows of it, so that it is to hear of its end.
    pub(super) told: bool,
    pub(super) renewal: Renewal,
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
        told: bool,
        renewal: Renewal,
    ) {
        self.streams.push(HookedStream { stream, settings, told, renewal });
    }

    /// Takes out what is known of the stream of this number.
    pub(super) fn forget(&mut self, number: u64) -> Option<HookedStream> {
        let place = self.streams.iter().position(|hooked| hooked.stream.number == number)?;
        Some(self.streams.remove(place))
    }

    /// What is known of the stream of this number.
    pub(super) fn stream(&mut self, number: u64) -> Option<&mut HookedStream> {
        self.streams.iter_mut().find(|hooked| hooked.stream.number == number)
    }
}

impl HookedStream {
    fn end(self, client: &Arc<HookClient>) -> Option<Call> {
        let names: &[HookName] = if self.stream.publishes {
            &[OnPublishDone, OnDone, OnUnpublish]
        } else {
            &[OnPlayDone, OnDone, OnStop]
        };
        (self.told && self.settings.has_any(names)).then(|| Call {
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
        let renewal = Renewal::of_granted(&settings, self.hooks.generation, now);
        hooked(connection, &settings, app).begin(stream, settings, true, renewal);
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
        let sent = self.put_question(question, &settings, &client, asked);
        let (publishes, chance) = (stream.publishes, self.random.f64());
        let renewal = Renewal::new(&settings, publishes, self.hooks.generation, now, chance);
        let Some(hooked) = &mut connection.hooked else { return };
        if sent {
            hooked.asked = Some((stream.number, Asked::Stream(Box::new(permit))));
            hooked.begin(stream, settings, true, renewal);
            return;
        }
        match without_verdict(&settings) {
            HookStep::Failed => {
                let message_stream = request.message_stream;
                self.refuse_by_hook(connection, action, message_stream, HookRefusal::Failed);
            }
            _ => {
                hooked.begin(stream, settings, false, renewal);
                self.permitted(connection, permit);
            }
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
        client.swf_url = said.swf_url.to_string();
        client.tc_url = said.tc_url().into_owned();
        client.host.clone_from(&said.host);
        client.page_url = said.page_url.to_string();
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
