//! Hooks: back ends are asked whether somebody may connect, publish or play, and told what becomes
//! of it.
//!
//! Calls come from workers by a road (`worker/verdicts.rs`), verdicts go back to the worker that
//! asked; every question is answered, whatever the back end does. Calls about one connection are
//! made one after the other, in order; those of different connections side by side, as many as the
//! configuration allows. What waits is bounded by count, what is read by length, what is under way
//! by time. What clients wrote, and secrets, are never logged.
//!
//! ```text
//!   lane      one connection's calls, in order: questions, notifications with their retries
//!   server    one server of one application: how many at a time, its breaker
//!   exchange  one call over HTTP; names: addresses by name; keys: secrets and trust
//!   form      what is sent, nginx-rtmp; json: SRS
//!   reply     what an answer means
//!   cache     verdicts that are remembered
//!   breaker   when a server is left alone
//!   sign      the signature of a call
//! ```

mod breaker;
mod cache;
mod exchange;
mod form;
mod json;
mod keys;
mod lane;
mod names;
mod reply;
mod server;
mod sign;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore};

use super::families::{Families, float};
use super::reload::Reread;
use super::vital::Vital;
use super::{token_fetch, trust};
use crate::config::Config;
use crate::limits::Limits;
use crate::worker::Shared;
use crate::worker::cells::{CellHistogram, Family};
use crate::worker::clock::Clock;
use crate::worker::handle::WorkerHandle;
use crate::worker::hook_settings::{Fail, HookSettings};
use crate::worker::labels::{HookName, HookResult};
use crate::worker::report::ConnectionId;
use crate::worker::settings::Settings;
use crate::worker::verdicts::{Answer, Call, HookClient, Question, Subject, Verdict};
use cache::Cache;
use exchange::Client;
use keys::Keys;
use server::Server;

/// How many calls are taken from the road before others of this thread get their turn.
const CALLS_AT_ONCE: usize = 256;

/// How many times the places that are left to all the questions to one server may be.
const SHARE: usize = 8;

/// How long a worker whose inbox is full is left to empty it.
const INBOX_PAUSE: Duration = Duration::from_millis(2);

/// Servers by application and address.
type Servers = BTreeMap<(Arc<str>, String), Arc<Server>>;

/// What the control thread keeps of all hooks.
pub(super) struct Hooks {
    workers: Vec<WorkerHandle>,
    shared: Arc<Shared>,
    limits: Limits,
    clock: Clock,
    node: String,
    /// Another one after each start.
    service: String,
    vital: Vital,
    client: Client,
    keys: RwLock<Keys>,
    cache: Mutex<Cache>,
    servers: Mutex<Servers>,
    /// Connections with calls under way or waiting.
    lanes: Mutex<HashMap<ConnectionId, VecDeque<Call>>>,
    /// Questions and notifications under way or waiting.
    questions: AtomicUsize,
    notices: AtomicUsize,
    /// Room for questions that wait for the call that decides whether their server works again.
    probe_waiters: Semaphore,
    /// The node ends: what fails is not tried again.
    ending: AtomicBool,
    /// Counted by this thread alone.
    calls: Family<(HookName, HookResult), { HookName::COUNT * HookResult::COUNT }>,
    /// From the beginning of a call to its answer, or to giving up. 1 ms to 32.8 s.
    duration: CellHistogram<1_000_000, 17>,
}

/// What all of it is made of.
pub(super) struct Parts<'a> {
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: &'a Settings,
    pub(super) clock: Clock,
    pub(super) node: &'a str,
    pub(super) vital: Vital,
}

/// The files that hooks name, for a reload.
pub(super) struct Files {
    hooks: Arc<Hooks>,
    read: Option<(Keys, Vec<Arc<HookSettings>>)>,
}

impl Files {
    pub(super) fn new(hooks: &Arc<Hooks>) -> Self {
        Self { hooks: Arc::clone(hooks), read: None }
    }
}

impl Reread for Files {
    fn what(&self) -> &'static str {
        "files of hooks"
    }

    fn prepare(&mut self, config: &Config) -> Result<(), Vec<String>> {
        let keys = files(&config.settings).map_err(|why| vec![why])?;
        // Workers ask by the new settings before they are committed to.
        self.hooks.keys.write().add(&keys);
        self.read = Some((keys, of(&config.settings).cloned().collect()));
        Ok(())
    }

    /// The settings themselves come with each call.
    fn commit(&mut self) {
        if let Some((keys, settings)) = self.read.take() {
            self.hooks.keys.write().replace(keys);
            self.hooks.know_servers(settings.iter());
        }
    }
}

impl Hooks {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// A file that hooks need cannot be used, in a sentence.
    pub(super) fn new(parts: Parts<'_>) -> Result<Arc<Self>, String> {
        let Parts { workers, shared, settings, clock, node, vital } = parts;
        let started = clock.epoch();
        let keys = files(settings)?;
        let limits = settings.limits.clone();
        let hooks = Self {
            client: Client::new(&limits),
            cache: Mutex::new(Cache::new(limits.hook_cache_max)),
            probe_waiters: Semaphore::new(limits.hook_probe_waiters_max),
            keys: RwLock::new(keys),
            workers,
            shared,
            limits,
            clock,
            node: node.to_owned(),
            service: format!("{:08x}", started.subsec_nanos() ^ std::process::id()),
            vital,
            servers: Mutex::default(),
            lanes: Mutex::default(),
            questions: AtomicUsize::new(0),
            notices: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            calls: Family::default(),
            duration: CellHistogram::default(),
        };
        hooks.know_servers(of(settings));
        Ok(Arc::new(hooks))
    }

    /// Makes calls for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let called = Arc::new(Notify::new());
        let waker = Arc::clone(&called);
        self.shared.hooks().set_waker(move || waker.notify_one());
        loop {
            let mut taken = 0;
            while let Some(call) = self.shared.hooks().take() {
                self.accept(call);
                taken += 1;
                if taken % CALLS_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
            called.notified().await;
        }
    }

    /// The node has ended: what workers sent last is still told, within this time and without
    /// further tries.
    pub(super) async fn settle(self: &Arc<Self>, within: Duration) {
        self.ending.store(true, Ordering::Relaxed);
        while let Some(call) = self.shared.hooks().take() {
            self.accept(call);
        }
        let settled = async {
            while !self.lanes.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(within, settled).await.is_err() {
            let left = self.notices.load(Ordering::Relaxed);
            tracing::warn!(left, "notifications of hooks were not delivered before the end");
        }
    }

    /// Takes one call: answers it at once, or puts it into its connection's lane.
    fn accept(self: &Arc<Self>, call: Call) {
        let (waiting, has_room) = match &call.subject {
            Subject::Ask(question) => {
                if let Some(verdict) = self.remembered(&call, question) {
                    self.count(call.name(), HookResult::Cached);
                    self.answer(&call.client, question.number, verdict);
                    return;
                }
                (&self.questions, self.has_room(&call))
            }
            _ => {
                let waiting = self.notices.load(Ordering::Relaxed);
                (&self.notices, waiting < self.limits.hook_notices_max)
            }
        };
        if !has_room {
            self.count(call.name(), HookResult::Overload);
            match &call.subject {
                Subject::Ask(question) => {
                    let verdict = without_answer(&call.settings, false);
                    self.answer(&call.client, question.number, verdict);
                }
                Subject::Again { stream } => {
                    self.answer(&call.client, stream.number, Verdict::Unheard);
                }
                _ => {}
            }
            return;
        }
        waiting.fetch_add(1, Ordering::Relaxed);
        if let (Subject::Ask(_), Some(server)) = (&call.subject, self.asked(&call)) {
            server.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let id = call.client.id;
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get_mut(&id) {
            lane.push_back(call);
        } else {
            lanes.insert(id, VecDeque::from([call]));
            self.vital.spawn(lane::run(Arc::clone(self), id));
        }
    }

    /// Whether a question may wait. A server that is slow fills most places and leaves some to the
    /// others.
    fn has_room(&self, call: &Call) -> bool {
        let waiting = self.questions.load(Ordering::Relaxed);
        let free = self.limits.hook_questions_max.saturating_sub(waiting);
        let of_server = self.asked(call).map(|server| server.waiting.load(Ordering::Relaxed));
        free > 0 && of_server.unwrap_or_default() < free.saturating_mul(SHARE)
    }

    /// A question has been answered.
    fn answered(&self, call: &Call) {
        self.questions.fetch_sub(1, Ordering::Relaxed);
        if let Some(server) = self.asked(call) {
            server.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The server that a question is put to first.
    fn asked(&self, call: &Call) -> Option<Arc<Server>> {
        let url = call.settings.urls(call.name()).first()?;
        Some(self.server(&call.settings, &url.server()))
    }

    /// What the back end said to the same client about the same, if that is to be remembered.
    fn remembered(&self, call: &Call, question: &Question) -> Option<Verdict> {
        let stream = question.stream.as_ref().filter(|_| !call.settings.cache.is_zero())?;
        let key = cache::Key::new(call.name(), &call.settings, &call.client, stream);
        let meaning = self.cache.lock().get(&key, self.clock.now())?;
        Some(verdict_of(call.name(), meaning, &call.settings, false))
    }

    /// Gives a verdict to the worker that asked, which takes it sooner or later.
    fn answer(&self, client: &HookClient, number: u64, verdict: Verdict) {
        let Some(worker) = self.workers.get(client.id.core) else { return };
        let answer = Answer { id: client.id, key: client.key, number, verdict };
        let Err(mut answer) = worker.answer(answer) else { return };
        let worker = worker.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(INBOX_PAUSE).await;
                match worker.answer(answer) {
                    Ok(()) => return,
                    Err(again) => answer = again,
                }
            }
        });
    }

    fn count(&self, name: HookName, result: HookResult) {
        self.calls.at((name, result)).increment();
    }

    /// Every server that these settings name is there in `/metrics` before it is first called, with
    /// as many places as they say. Others are forgotten, unless a call to them is under way.
    fn know_servers<'a>(&self, settings: impl Iterator<Item = &'a Arc<HookSettings>>) {
        let mut named = BTreeSet::new();
        for hooks in settings {
            let urls = HookName::ALL.iter().flat_map(|name| hooks.urls(*name));
            for url in urls {
                self.server(hooks, &url.server()).resize(hooks.concurrency);
                named.insert((Arc::clone(&hooks.app), url.server()));
            }
        }
        let in_use = |server: &Arc<Server>| Arc::strong_count(server) > 1;
        self.servers.lock().retain(|name, server| named.contains(name) || in_use(server));
    }

    /// A server of an application: one and the same for the settings of before a reload and after.
    fn server(&self, settings: &Arc<HookSettings>, server: &str) -> Arc<Server> {
        let mut servers = self.servers.lock();
        let key = (Arc::clone(&settings.app), server.to_owned());
        Arc::clone(servers.entry(key).or_insert_with(|| Server::new(settings.concurrency)))
    }

    /// Adds what was counted to `/metrics`.
    pub(super) fn expose(&self, out: &mut Families, overloaded: &[(HookName, u64)]) {
        let help = "Calls of hooks, and questions and notifications answered or given up without.";
        let mut calls = out.counter("relay_hook_requests_total", &["hook", "result"], help);
        for ((name, result), count) in self.calls.iter() {
            let missed = overloaded.iter().filter(|(missed, _)| *missed == name);
            let missed = missed.map(|(_, count)| *count).sum::<u64>();
            let count = if result == HookResult::Overload { count + missed } else { count };
            calls.value(&[name.label(), result.label()], float(count));
        }
        let help = "From the beginning of a call of a hook to its answer, or to giving up.";
        out.histogram("relay_hook_duration_seconds", &[], help).reading(&[], &self.duration.read());
        let help = "1 while a server of hooks is not called since it failed too often.";
        let mut open = out.gauge("relay_hook_breaker_open", &["app", "server"], help);
        for ((app, server), known) in self.servers.lock().iter() {
            let is_open = known.breaker.lock().is_open();
            open.value(&[app, server], if is_open { 1.0 } else { 0.0 });
        }
        let help = "Questions and notifications of hooks that wait or are under way.";
        let mut waiting = out.gauge("relay_hook_waiting", &["kind"], help);
        let (questions, notices) = self.waiting();
        for (kind, count) in [("question", questions), ("notification", notices)] {
            waiting.value(&[kind], float(count));
        }
    }

    /// What the workers share.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Questions that wait for the call that decides whether their server works again.
    pub(super) fn waiting_for_probe(&self) -> usize {
        self.limits.hook_probe_waiters_max.saturating_sub(self.probe_waiters.available_permits())
    }

    /// Questions, and notifications, that wait or are under way.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let number = |count| u64::try_from(load(count)).unwrap_or(u64::MAX);
        (number(&self.questions), number(&self.notices))
    }
}

/// What the files that hooks need hold. That of another caller of https is only judged here, and
/// read when it calls.
fn files(settings: &Settings) -> Result<Keys, String> {
    if let Some(path) = &settings.token_keys_ca_file {
        trust::by(token_fetch::CA_FILE, Some(path))?;
    }
    Keys::read(of(settings))
}

/// The hooks of all applications.
fn of(settings: &Settings) -> impl Iterator<Item = &Arc<HookSettings>> {
    settings.apps.values().chain([&settings.other_apps]).map(|app| &app.hooks)
}

/// What holds when a back end gave no usable answer.
fn without_answer(settings: &HookSettings, told: bool) -> Verdict {
    match settings.fail {
        Fail::Open => Verdict::Go { told },
        Fail::Closed => Verdict::Failed,
    }
}

fn verdict_of(
    name: HookName,
    meaning: reply::Meaning,
    settings: &HookSettings,
    told: bool,
) -> Verdict {
    match meaning {
        reply::Meaning::Yes => Verdict::Go { told },
        reply::Meaning::Renamed(to) => Verdict::Rename { to, told },
        reply::Meaning::Elsewhere(to) => match name {
            HookName::OnPublish if settings.may_forward() => Verdict::Forward { to, told },
            HookName::OnPlay if settings.may_fetch() => Verdict::Forward { to, told },
            _ => Verdict::Elsewhere { to },
        },
        reply::Meaning::No => Verdict::Refused,
        reply::Meaning::Garbage | reply::Meaning::Broken => without_answer(settings, told),
    }
}
