//! What is pushed and pulled, and when it is tried again.
//!
//! Pure: news, answers and time in, commands out. A *task* is one stream that is to go one way: a
//! push for each live stream and rule, a pull for each name. A task makes one *attempt* at a time,
//! and a second one beside it only when its server asked for that.
//!
//! ```text
//!   rules (configuration, API) + names (live, wanted) -> tasks
//!   task: resting -> looking up, dialling -> up -> waiting -> looking up, dialling -> ...
//! ```
//!
//! A stream is pushed from the node that has its publisher, and from no other: names that are live
//! because another node of a cluster has them are not told as live here, and one whose publisher
//! has come to another node is pushed here no longer, though it might come back. A stream is
//! pulled by one node. When that drains or is gone, every other node that wants it waits a moment,
//! each a moment of its own, and looks again whether there is one that does.

mod added;
mod forward;
mod names;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::orders::AddedId;
use super::task::{Attempt, State, Task, TaskKey};
use crate::access;
use crate::limits::Limits;
use crate::worker::clock::in_seconds;
use crate::worker::outside::{
    NameNews, News, OutsideEnd, OutsideFault, OutsideKind, OutsideNews, Watch,
};
use crate::worker::outside_url::{OutsideRule, OutsideUrl, PullWhen};
use crate::worker::report::ConnectionId;
use crate::worker::settings::Settings;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Command {
    /// Look a host up, and tell [`Machine::looked_up`]. `pulled`: the stream that is to come from
    /// there, unless another node has it.
    LookUp { attempt: u64, host: String, port: u16, pulled: Option<Arc<str>> },
    /// Order a worker to do it.
    Begin(Box<Begin>),
    /// Tell a worker that it is not wanted any more.
    End { attempt: u64, worker: usize },
    /// Tell worker 0 which names are of interest.
    Watch(Watch),
}

/// An order for a worker.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) attempt: u64,
    pub(super) worker: usize,
    pub(super) kind: OutsideKind,
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) url: OutsideUrl,
    /// What is put behind the application, for a server that asks for user and password.
    pub(super) challenge: String,
    pub(super) replaces: bool,
    pub(super) marks: Arc<str>,
}

/// A rule that was added while the node runs.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    pub(crate) kind: OutsideKind,
    pub(crate) app: String,
    pub(crate) rule: Arc<OutsideRule>,
}

/// How a name stands.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    live: Option<usize>,
    /// Another node has it.
    elsewhere: bool,
    grace: bool,
    wanted: bool,
    /// When it may be pulled, or its push begin: another node had it until a moment ago.
    not_before: Duration,
}

/// Everything that is pushed and pulled.
pub(super) struct Machine {
    settings: Arc<Settings>,
    added: BTreeMap<AddedId, Added>,
    numbered: u64,
    names: BTreeMap<Arc<str>, Name>,
    /// The marks of relays that play a name, where there are any.
    marks: BTreeMap<Arc<str>, Arc<str>>,
    /// By the names of streams.
    forwarded: BTreeMap<Arc<str>, forward::Forwarded>,
    fetched: BTreeMap<Arc<str>, forward::Fetched>,
    pub(super) tasks: BTreeMap<TaskKey, Task>,
    attempts: HashMap<u64, TaskKey>,
    attempted: u64,
    watch: Watch,
    /// How many attempts each worker has.
    load: Vec<usize>,
    random: fastrand::Rng,
    commands: VecDeque<Command>,
    ending: bool,
    /// What came of attempts, by kind and fault, and how many there were, by kind.
    pub(super) failures: BTreeMap<(OutsideKind, OutsideFault), u64>,
    pub(super) attempts_made: BTreeMap<OutsideKind, u64>,
}

impl Machine {
    /// Nothing yet; [`Self::configure`] follows.
    pub(super) fn new(workers: usize, seed: u64) -> Self {
        Self {
            settings: Arc::default(),
            added: BTreeMap::new(),
            numbered: 0,
            names: BTreeMap::new(),
            marks: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            fetched: BTreeMap::new(),
            tasks: BTreeMap::new(),
            attempts: HashMap::new(),
            attempted: 0,
            watch: Watch::Nothing,
            load: vec![0; workers.max(1)],
            random: fastrand::Rng::with_seed(seed),
            commands: VecDeque::new(),
            ending: false,
            failures: BTreeMap::new(),
            attempts_made: BTreeMap::new(),
        }
    }

    /// Goes by these settings from now on. What runs and is still asked for goes on.
    pub(super) fn configure(&mut self, settings: Arc<Settings>, now: Duration) {
        self.settings = settings;
        self.rules_changed(now);
    }

    /// The node ends: nothing is begun any more.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// Takes news of a worker.
    pub(super) fn hear(&mut self, news: News, now: Duration) {
        match news {
            News::Anew => {
                self.marks.clear();
                for name in std::mem::take(&mut self.names).into_keys() {
                    self.settle(&name, now);
                }
            }
            News::Name(NameNews { name, .. }) if !self.watch.holds(app_of(&name)) => {}
            News::Name(news) => self.hear_name(news, now),
            News::Ordered(order) => self.ordered(order, now),
            News::Forward { forward, to } => self.forward(forward, to, now),
            News::Fetch { name, from } => self.fetch(&name, from, now),
            News::ForwardOver(forward) => self.forward_over(forward, now),
            News::Outside { id, what, .. } => self.hear_of(id, what, now),
        }
    }

    /// What a host's name stands for.
    pub(super) fn looked_up(
        &mut self,
        attempt: u64,
        addresses: Result<Vec<SocketAddr>, String>,
        now: Duration,
    ) {
        let Some(key) = self.attempts.get(&attempt).cloned() else { return };
        let home = self.names.get(&key.name).and_then(|name| name.live);
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let turn = usize::try_from(task.attempts).unwrap_or_default();
        let replaces = task.next.as_ref().is_some_and(|next| next.id == attempt);
        let Some(current) = task.attempt_mut(attempt) else { return };
        let address = addresses.and_then(|addresses| match addresses.len() {
            0 => Err("the name of the server stands for no address".to_owned()),
            count => Ok(addresses[turn % count]),
        });
        let address = match address {
            Ok(address) => address,
            Err(detail) => {
                let fault = OutsideFault::Resolve;
                let end = OutsideEnd { fault, detail, redirect: None };
                return self.hear_of(attempt, OutsideNews::Ended(end), now);
            }
        };
        // A push reads the log where it is; a pull goes where least is done.
        let idlest = (0..self.load.len()).min_by_key(|worker| self.load[*worker]).unwrap_or(0);
        let home = home.filter(|home| key.kind == OutsideKind::Push && *home < self.load.len());
        let worker = home.unwrap_or(idlest);
        current.worker = Some(worker);
        let (url, challenge) = (current.url.clone(), current.challenge.clone());
        let marks = Arc::clone(&current.marks);
        self.load[worker] += 1;
        let TaskKey { kind, name, .. } = key;
        let begin = Begin { attempt, worker, kind, name, address, url, challenge, replaces, marks };
        self.commands.push_back(Command::Begin(Box::new(begin)));
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Duration) {
        let due = |task: &Task| task.due().is_some_and(|due| due <= now);
        let due: Vec<TaskKey> =
            self.tasks.iter().filter(|(_, task)| due(task)).map(|(key, _)| key.clone()).collect();
        for key in due {
            let over = self
                .tasks
                .get_mut(&key)
                .is_some_and(|task| task.unwanted_until.take_if(|until| *until <= now).is_some());
            if over {
                self.drop_task(&key);
                continue;
            }
            self.begin(&key, now);
        }
        self.forget_fetched(now);
    }

    /// When [`Self::tick`] next has something to do.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let fetched = self.fetched.values().filter_map(forward::Fetched::due);
        self.tasks.values().filter_map(Task::due).chain(fetched).min()
    }

    /// What is to be done next.
    pub(super) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    // ---- from rules and names to tasks

    fn rules_changed(&mut self, now: Duration) {
        let watch = self.of_interest();
        if watch != self.watch {
            self.watch = watch.clone();
            self.names.retain(|name, _| watch.holds(app_of(name)));
            self.marks.retain(|name, _| watch.holds(app_of(name)));
            self.commands.push_back(Command::Watch(watch));
        }
        let mut names: BTreeSet<Arc<str>> = self.names.keys().cloned().collect();
        // Those that are no longer heard of have tasks to be ended.
        names.extend(self.tasks.keys().map(|key| Arc::clone(&key.name)));
        names.extend(self.always());
        for name in names {
            self.settle(&name, now);
        }
    }

    /// Makes the tasks of a name what they are to be.
    fn settle(&mut self, name: &Arc<str>, now: Duration) {
        let not_before = self.names.get(name).map_or(Duration::ZERO, |name| name.not_before);
        self.settle_from(name, not_before, now);
    }

    /// The same; what is not under way begins then at the earliest.
    fn settle_from(&mut self, name: &Arc<str>, not_before: Duration, now: Duration) {
        let state = self.names.get(name).copied().unwrap_or_default();
        let mut wanted: BTreeMap<TaskKey, Vec<Arc<OutsideRule>>> = BTreeMap::new();
        self.settle_fetched(name, state.wanted, now);
        let pushes = self.push_rules(name);
        if state.live.is_some() {
            for rule in pushes {
                let key = TaskKey::push(name, &rule);
                wanted.insert(key, vec![rule]);
            }
        } else if state.grace && !state.elsewhere {
            // The publisher may come back, and the stream goes on: so does what was begun.
            for rule in pushes {
                let key = TaskKey::push(name, &rule);
                if self.tasks.contains_key(&key) {
                    wanted.insert(key, vec![rule]);
                }
            }
        }
        let pull = TaskKey::pull(name);
        let rules = self.pull_rules(name);
        let always = rules.iter().any(|rule| rule.when == PullWhen::Always);
        let lingers = !rules.is_empty() && !always && !state.wanted;
        let is_up = self.tasks.get(&pull).is_some_and(Task::is_up);
        // Somebody else publishes it, here or on another node.
        let is_taken = (state.live.is_some() || state.elsewhere) && !is_up;
        if !rules.is_empty() && (always || state.wanted) && !is_taken {
            wanted.insert(pull.clone(), rules);
        }
        let before: Vec<TaskKey> = self.tasks_of(name);
        for key in before {
            if wanted.contains_key(&key) {
                continue;
            }
            let linger = self.limits().pull_linger;
            match self.tasks.get_mut(&key) {
                // The last player left a moment ago; another may come.
                Some(task) if key == pull && lingers && task.is_up() => {
                    task.unwanted_until.get_or_insert(now + linger);
                }
                _ => self.drop_task(&key),
            }
        }
        for (key, rules) in wanted {
            let task = self.tasks.entry(key.clone()).or_insert_with(Task::new);
            task.unwanted_until = None;
            let known = task.rules == rules;
            if !known {
                task.rules = rules;
                task.turn = 0;
            }
            if task.is_resting() && not_before > now {
                task.state = State::Waiting { until: not_before };
            } else if task.is_resting() {
                self.begin(&key, now);
            }
        }
    }

    fn tasks_of(&self, name: &Arc<str>) -> Vec<TaskKey> {
        let first = TaskKey::first(name);
        let of_name = self.tasks.range(first..).take_while(|(key, _)| key.name == *name);
        of_name.map(|(key, _)| key.clone()).collect()
    }

    /// A task is not wanted any more.
    fn drop_task(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.remove(key) else { return };
        for attempt in task.current.into_iter().chain(task.next) {
            self.give_up(&attempt);
        }
    }

    fn give_up(&mut self, attempt: &Attempt) {
        self.attempts.remove(&attempt.id);
        if let Some(worker) = attempt.worker {
            self.load[worker] = self.load[worker].saturating_sub(1);
            self.commands.push_back(Command::End { attempt: attempt.id, worker });
        }
    }

    // ---- attempts

    fn begin(&mut self, key: &TaskKey, now: Duration) {
        let running = self.attempts.len();
        let (most, pause) = (self.limits().outside_max, self.limits().outside_retry_max);
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.current.is_some() {
            return;
        }
        if self.ending {
            task.state = State::Resting;
            return;
        }
        if running >= most {
            let detail = "outside_max are pushed and pulled already".to_owned();
            task.last = Some((OutsideFault::Limit, detail));
            task.state = State::Waiting { until: now + pause };
            return;
        }
        let Some(rule) = task.rule() else { return };
        let url = task.moved.clone().unwrap_or_else(|| rule.url.filled(&key.name));
        let challenge = task.challenge.clone();
        let attempt = self.attempt(key, url, challenge);
        if let Some(task) = self.tasks.get_mut(key) {
            task.state = State::Beginning;
            task.current = Some(attempt);
        }
    }

    fn attempt(&mut self, key: &TaskKey, url: OutsideUrl, challenge: String) -> Attempt {
        self.attempted += 1;
        let id = self.attempted;
        *self.attempts_made.entry(key.kind).or_default() += 1;
        if let Some(task) = self.tasks.get_mut(key) {
            task.attempts += 1;
        }
        self.attempts.insert(id, key.clone());
        let (host, port) = (url.host.clone(), url.port);
        let pulled = (key.kind == OutsideKind::Pull).then(|| Arc::clone(&key.name));
        self.commands.push_back(Command::LookUp { attempt: id, host, port, pulled });
        let marks = self.marks.get(&key.name).cloned().unwrap_or_default();
        Attempt { id, worker: None, connection: None, url, challenge, marks }
    }

    fn hear_of(&mut self, id: u64, what: OutsideNews, now: Duration) {
        let Some(key) = self.attempts.get(&id).cloned() else { return };
        match what {
            OutsideNews::Started { connection } => self.started(&key, id, connection, now),
            OutsideNews::Reconnect { tc_url } => self.asked_to_move(&key, id, tc_url.as_deref()),
            OutsideNews::Ended(end) => {
                self.attempts.remove(&id);
                let Some(task) = self.tasks.get_mut(&key) else { return };
                let Some((attempt, was_current)) = task.take_attempt(id) else { return };
                if let Some(worker) = attempt.worker {
                    self.load[worker] = self.load[worker].saturating_sub(1);
                }
                if was_current {
                    self.ended(&key, &attempt, end, now);
                } else {
                    // The one that was to take over came to nothing; the other goes on.
                    self.count_failure(&key, &end);
                }
            }
        }
    }

    fn started(&mut self, key: &TaskKey, id: u64, connection: ConnectionId, now: Duration) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if let Some(next) = task.next.take_if(|next| next.id == id) {
            let old = task.current.replace(next);
            if let Some(old) = old {
                self.give_up(&old);
            }
        }
        let Some(task) = self.tasks.get_mut(key) else { return };
        if let Some(attempt) = task.attempt_mut(id) {
            attempt.connection = Some(connection);
            tracing::info!(
                kind = key.kind.label(), stream = %key.name, target = attempt.url.target(),
                %connection, "outside connection is up"
            );
        }
        task.state = State::Up { since: now };
        task.redirects = 0;
        // It may be that the name is not wanted any more, or is somebody else's.
        self.settle(&Arc::clone(&key.name), now);
    }

    /// The server asks to connect again, there or to the same URL.
    fn asked_to_move(&mut self, key: &TaskKey, id: u64, tc_url: Option<&str>) {
        let Some(task) = self.tasks.get(key) else { return };
        let Some(current) = task.current.as_ref().filter(|current| current.id == id) else {
            return;
        };
        if task.next.is_some() || self.ending {
            return;
        }
        let Ok(url) = current.url.moved(tc_url.unwrap_or_default()) else { return };
        tracing::info!(
            kind = key.kind.label(), stream = %key.name, target = url.target(),
            "the server asks to connect again"
        );
        let challenge = current.challenge.clone();
        let attempt = self.attempt(key, url, challenge);
        if let Some(task) = self.tasks.get_mut(key) {
            task.next = Some(attempt);
        }
    }

    fn ended(&mut self, key: &TaskKey, attempt: &Attempt, end: OutsideEnd, now: Duration) {
        let most = self.limits().outside_redirects_max;
        let chance = self.random.u64(..);
        let Some(task) = self.tasks.get_mut(key) else { return };
        // One that was to take over goes on alone.
        if let Some(next) = task.next.take() {
            task.current = Some(next);
            task.state = State::Beginning;
            return;
        }
        let up_for = task.up_for(now);
        if up_for >= SETTLED {
            task.failures = 0;
        }
        let end = match (&end.redirect, end.fault) {
            (Some(to), _) => match attempt.url.moved(to) {
                Ok(url) if task.redirects < most => {
                    task.redirects += 1;
                    task.moved = Some(url);
                    let end = OutsideEnd { fault: OutsideFault::Redirected, ..end };
                    self.count_failure(key, &end);
                    return self.again(key, now);
                }
                Ok(_) => {
                    let detail = format!(
                        "sent from server to server more than outside_redirects_max ({most}) times"
                    );
                    OutsideEnd { fault: OutsideFault::Redirects, detail, redirect: None }
                }
                Err(fault) => {
                    let detail = fault.to_string();
                    OutsideEnd { fault: OutsideFault::Url, detail, redirect: None }
                }
            },
            (None, OutsideFault::Refused) => {
                let user = attempt.url.user.as_ref();
                let user = user.map(|(user, password)| (user.as_str(), password.as_str()));
                let app = attempt.url.app("");
                let asks = end.detail.contains("authmod=");
                let answer = user.and_then(|user| access::answer(&end.detail, user, &app, chance));
                match answer.filter(|_| task.answers < AUTH_STEPS_MAX) {
                    Some(answer) => {
                        task.answers += 1;
                        task.challenge = answer;
                        return self.again(key, now);
                    }
                    None if asks => {
                        let detail = "the server wants another user or password".to_owned();
                        OutsideEnd { fault: OutsideFault::Password, detail, redirect: None }
                    }
                    None => end,
                }
            }
            _ => end,
        };
        let Some(task) = self.tasks.get_mut(key) else { return };
        (task.moved, task.redirects) = (None, 0);
        (task.challenge, task.answers) = (String::new(), 0);
        match end.fault {
            OutsideFault::Stopped
            | OutsideFault::Ended
            | OutsideFault::Takeover
            | OutsideFault::Elsewhere => {
                task.last = Some((end.fault, end.detail));
                // What is known of its name is about to change; until then it waits.
                let until = now + self.settings.limits.outside_retry_min;
                task.state = State::Waiting { until };
                self.settle(&Arc::clone(&key.name), now);
            }
            _ => self.failed(key, end, now),
        }
    }

    /// Tries again at once: the last answer told how.
    fn again(&mut self, key: &TaskKey, now: Duration) {
        if let Some(task) = self.tasks.get_mut(key) {
            task.state = State::Resting;
        }
        self.begin(key, now);
    }

    fn failed(&mut self, key: &TaskKey, end: OutsideEnd, now: Duration) {
        self.count_failure(key, &end);
        let jitter = self.random.f64() / 4.0;
        let limits = self.settings.limits.clone();
        // One for relays that play the stream here is no loop any more when they have gone.
        let for_relays = self.marks.contains_key(&key.name) && key.kind == OutsideKind::Pull;
        let looped = end.fault == OutsideFault::Loop && !for_relays;
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.failures = task.failures.saturating_add(1);
        task.turn = task.turn.wrapping_add(1);
        let failures = usize::try_from(task.failures).unwrap_or(usize::MAX);
        let is_broken = looped || failures >= limits.outside_breaker_failures;
        let pause = if is_broken {
            limits.outside_breaker_pause
        } else {
            let doubled = 2_u32.saturating_pow(task.failures.saturating_sub(1));
            let pause = limits.outside_retry_min.saturating_mul(doubled);
            pause.min(limits.outside_retry_max).mul_f64(1.0 - jitter)
        };
        let until = now.saturating_add(pause);
        task.state = if is_broken { State::Broken { until } } else { State::Waiting { until } };
        let again = in_seconds(pause);
        tracing::warn!(
            kind = key.kind.label(), stream = %key.name, reason = end.fault.label(),
            detail = end.detail, failures, again_in_seconds = again, "outside connection failed"
        );
        task.last = Some((end.fault, end.detail));
    }

    fn count_failure(&mut self, key: &TaskKey, end: &OutsideEnd) {
        *self.failures.entry((key.kind, end.fault)).or_default() += 1;
        if let Some(task) = self.tasks.get_mut(key) {
            task.failed += 1;
        }
    }
}

fn app_of(name: &str) -> &str {
    name.split_once('/').map_or("", |(app, _)| app)
}

/// One that was up for so long has not failed at once.
const SETTLED: Duration = Duration::from_secs(10);

/// Questions for user and password that are answered in a row.
const AUTH_STEPS_MAX: u32 = 3;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "machine_tests.rs"]
mod tests;
