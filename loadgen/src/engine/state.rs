//! The clients of a worker: what timers and completions mean for them.
//!
//! It asks the reactor by a list of operations and is told by completions; it never waits.

mod endings;
mod tunnels;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use relay::reactor::{Completion, ConnectionKey, Operation};
use relay::session::ClientRole;

use super::attack::Attacker;
use super::client::{Client, Role};
use super::crowd::Crowd;
use super::dialogue::{Dialogue, Opening};
use super::lane::Lane;
use super::player::{Player, Turn, Voice};
use super::publisher::Publisher;
use super::task::{Job, Loss, REDIRECTS_MAX, Task};
use super::timers::{Event, Timers};
use super::worker::Shared;
use crate::clock;
use crate::failover::Silence;
use crate::measure::{Meter, SpanKind};
use crate::plan::Pace;
use crate::source::{FileLoop, Source, Synthetic};
use crate::units::{nanos, wide};
use crate::verify::{Expected, Verifier, stream_number};

/// The clients of one worker.
pub(super) struct State {
    shared: Arc<Shared>,
    meter: Meter,
    random: fastrand::Rng,
    operations: Vec<Operation>,
    /// Connections to be made for the first time, by when they are due.
    tasks: VecDeque<Task>,
    timers: Timers,
    clients: HashMap<u64, Client>,
    /// The client of each connection, by the connection's slot.
    by_slot: Vec<Option<(ConnectionKey, u64)>>,
    last_id: u64,
    /// Players that lost their connection and have not begun the next, by number.
    away: HashMap<usize, Silence>,
    end: Duration,
    stopped: bool,
}

/// Connections begun per turn at most, so that those that are there are read meanwhile.
const STARTS_PER_TURN: usize = 64;
/// Other timers fired per turn at most.
const TIMERS_PER_TURN: usize = 1_024;

/// A publisher whose server takes no more is given up when so much waits.
const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Publishers go on for this long after the players are gone, so that no player sees them go.
const PUBLISHERS_STAY: Duration = Duration::from_millis(400);

/// What is later than this is a fault of the generator.
const LATE_TIMER: Duration = Duration::from_millis(10);

const TENTH: Duration = Duration::from_millis(100);

impl State {
    pub(super) fn new(shared: Arc<Shared>, tasks: Vec<Task>, seed: u64) -> Self {
        let end = shared.begin + shared.plan.length();
        let mut timers = Timers::default();
        timers.set(shared.begin, Event::Beat);
        Self {
            shared,
            meter: Meter::default(),
            random: fastrand::Rng::with_seed(seed),
            operations: Vec::new(),
            tasks: tasks.into(),
            timers,
            clients: HashMap::new(),
            by_slot: Vec::new(),
            last_id: 0,
            away: HashMap::new(),
            end,
            stopped: false,
        }
    }

    pub(super) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// What the reactor shall do; to be taken out.
    pub(super) fn operations(&mut self) -> &mut Vec<Operation> {
        &mut self.operations
    }

    pub(super) fn has_operations(&self) -> bool {
        !self.operations.is_empty()
    }

    /// When the load ends, publishers included.
    pub(super) fn end(&self) -> Duration {
        self.end + PUBLISHERS_STAY
    }

    pub(super) fn is_idle(&self) -> bool {
        self.clients.is_empty()
    }

    /// When the next timer is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let task = self.tasks.front().map(|task| task.due);
        [task, self.timers.next_due()].into_iter().flatten().min()
    }

    /// Players and publishers that are at it.
    pub(super) fn present(&self) -> (u64, u64) {
        let (mut players, mut publishers) = (0, 0);
        for client in self.clients.values().filter(|client| !client.leaving) {
            match &client.role {
                Role::Player(player) => players += u64::from(player.joined()),
                Role::Publisher(publisher) => {
                    publishers += u64::from(publisher.started().is_some())
                }
                Role::Opening | Role::Attacker(_) => {}
            }
        }
        (players, publishers)
    }

    /// Ends the load now: whoever is there leaves as if it were time.
    pub(super) fn stop(&mut self, now: Duration) {
        if self.stopped || now >= self.end {
            return;
        }
        self.stopped = true;
        self.end = now;
        self.tasks.clear();
        for (id, client) in &self.clients {
            let stays = if matches!(client.task.job, Job::Player(_)) {
                Duration::ZERO
            } else {
                PUBLISHERS_STAY
            };
            self.timers.set(now + stays, Event::Leave(*id));
        }
    }

    /// Does what is due.
    pub(super) fn fire(&mut self, now: Duration, crowd: &mut Crowd) {
        if self.stopped {
            crowd.leave_all(now);
        }
        for _ in 0..STARTS_PER_TURN {
            if self.tasks.front().is_none_or(|task| task.due > now) {
                break;
            }
            let Some(task) = self.tasks.pop_front() else { break };
            self.fired(task.due);
            self.start(task, crowd);
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some((due, event)) = self.timers.take(now) else { break };
            match event {
                Event::Start(task) => {
                    self.fired(due);
                    self.start(*task, crowd);
                }
                Event::Frame(id) => {
                    self.fired(due);
                    self.send_frames(id, now);
                }
                Event::Beat => {
                    self.fired(due);
                    self.timers.set(due + TENTH, Event::Beat);
                }
                Event::Read(id) => self.read(id),
                Event::Poll(id) => self.poll(id),
                Event::Attack(id, tenth) => self.attack(id, tenth, now),
                Event::Leave(id) => self.leave(id, now),
                Event::Deadline(id) => self.judge_deadline(id, now),
                Event::Close(id) => self.close(id),
            }
        }
    }

    /// Takes what the reactor reports.
    pub(super) fn complete(&mut self, completion: Completion<'_>) {
        match completion {
            Completion::Connected { token, connection, .. } => self.connected(token, connection),
            Completion::ConnectFailed { token, error } => {
                if let Some(client) = self.clients.get(&token) {
                    let (target, address) = client.task.target(&self.shared.plan);
                    self.lost(token, &Loss::connect(&target, address, &error));
                }
            }
            Completion::Received { connection, bytes } => self.received(connection, bytes),
            Completion::ReceiveEnded { connection, error } => {
                if let Some(id) = self.id_of(connection) {
                    let began = self.clients.get(&id).is_some_and(Client::began);
                    let loss = match error {
                        Some(error) => Loss::failed(&error),
                        None => Loss::closed(!began),
                    };
                    self.cut(id, &loss);
                }
            }
            Completion::Sent { connection, bytes } => {
                self.meter.counters.bytes_sent += wide(bytes);
                if let Some(id) = self.id_of(connection) {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.sent();
                    }
                    self.flush(id);
                }
            }
            Completion::SendFailed { connection, error } => {
                if let Some(id) = self.id_of(connection) {
                    self.cut(id, &Loss::failed(&error));
                }
            }
            Completion::Closed { .. }
            | Completion::Accepted { .. }
            | Completion::AcceptFailed { .. }
            | Completion::Released { .. }
            | Completion::Adopted { .. }
            | Completion::AdoptFailed { .. }
            | Completion::ListenerClosed { .. } => {}
        }
    }

    /// A player of the crowd was sent elsewhere.
    pub(super) fn restart(&mut self, task: Task) {
        self.timers.set(task.due, Event::Start(Box::new(task)));
    }

    /// A player of the crowd came to an early end.
    pub(super) fn lost_in_crowd(&mut self, task: Task, loss: &Loss) {
        self.meter.fail(&loss.cause, || loss.sentence.clone());
        self.again(task);
    }

    /// The load is over: whoever is still there is settled.
    pub(super) fn settle(&mut self, now: Duration) {
        for (_, mut silence) in std::mem::take(&mut self.away) {
            self.settle_silence(&mut silence, now);
        }
        let left: Vec<u64> = self.clients.keys().copied().collect();
        for id in left {
            if self.clients.get(&id).is_some_and(|client| !client.leaving) {
                self.leave(id, now);
            }
        }
    }

    fn fired(&mut self, due: Duration) {
        let late = clock::now().saturating_sub(due);
        self.meter.counters.timers += 1;
        self.meter.counters.late_timers += u64::from(late > LATE_TIMER);
        self.meter.spans.record(SpanKind::TimerLate, late);
    }

    fn start(&mut self, mut task: Task, crowd: &mut Crowd) {
        self.follow(&mut task);
        let first = task.attempt == 0 && task.redirects == 0;
        if let Job::Player(arrival) = task.job {
            self.meter.of(task.is_slow()).0.players_planned += u64::from(first);
            if !arrival.verifies {
                crowd.start(task, self.random.u64(..));
                return;
            }
        }
        let (target, address) = task.target(&self.shared.plan);
        self.last_id += 1;
        let token = self.last_id;
        self.operations.push(Operation::Connect { token, address: target.addresses[address] });
        self.clients.insert(token, Client::new(task));
    }

    fn connected(&mut self, id: u64, connection: ConnectionKey) {
        let now = clock::now();
        let Some(client) = self.clients.get_mut(&id) else {
            self.operations.push(Operation::Close { connection });
            return;
        };
        client.key = Some(connection);
        let slot = connection.slot();
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some((connection, id));
        if client.lane.is_some() {
            return self.resume(id, connection);
        }
        let plan = &self.shared.plan;
        let (target, _) = client.task.target(plan);
        let opening = |role, seed| Opening {
            target: &target,
            stream: client.task.stream(plan),
            streams: plan.streams,
            role,
            limits: &self.shared.limits,
            enhanced: plan.enhanced,
            seed,
        };
        let begin = self.shared.begin;
        let (role, leaves) = match client.task.job {
            Job::Attacker(_, kind) => {
                self.meter.counters.attackers_started += 1;
                let mut attacker = Attacker::new(kind, self.random.u64(..));
                if let Some(hello) = attacker.hello() {
                    client.push(hello);
                }
                self.timers.set(now + TENTH, Event::Attack(id, 1));
                (Role::Attacker(Box::new(attacker)), self.end)
            }
            Job::Publisher(index) => {
                let opening = opening(ClientRole::Publish, self.random.u64(..));
                let due = client.task.due;
                let dialogue = Dialogue::new(&opening, due, now, &mut self.meter.spans);
                let source = match self.shared.files.get(index) {
                    Some(stream) => Source::File(FileLoop::new(Arc::clone(stream))),
                    None => Source::Synthetic(Synthetic::new(
                        Arc::clone(&plan.profile),
                        Arc::clone(&self.shared.filler),
                        stream_number(index),
                        self.random.u32(..),
                    )),
                };
                let publisher = Publisher::new(dialogue, source);
                (Role::Publisher(Box::new(publisher)), self.end + PUBLISHERS_STAY)
            }
            Job::Player(arrival) => {
                let opening = opening(ClientRole::Play, self.random.u64(..));
                let due = client.task.due;
                let voice = Voice::new(&opening, due, now, &mut self.meter.spans);
                let expected = expected(&self.shared, opening.stream);
                let verifier = Verifier::new(expected, plan.checks, self.shared.host, now);
                let player = Player::new(voice, verifier, &client.task, arrival.pace);
                let leaves = (begin + arrival.leaves).min(self.end);
                (Role::Player(Box::new(player)), leaves)
            }
        };
        if !matches!(role, Role::Attacker(_)) {
            let deadline = now + self.shared.limits.connect_timeout;
            self.timers.set(deadline, Event::Deadline(id));
        }
        client.role = role;
        if !matches!(client.role, Role::Attacker(_)) {
            match Lane::new(&target, plan.tls.as_ref(), plan.poll, now) {
                Ok(lane) => client.lane = lane.map(Box::new),
                Err(loss) => return self.lost(id, &loss),
            }
        }
        client.push_output();
        self.timers.set(leaves, Event::Leave(id));
        self.operations.push(Operation::Receive { connection });
        self.flush(id);
    }

    fn received(&mut self, connection: ConnectionKey, bytes: &[u8]) {
        let Some(id) = self.id_of(connection) else { return };
        let Some(client) = self.clients.get_mut(&id) else { return };
        let now = clock::now();
        let opened = client.lane.as_mut().map(|lane| lane.receive(bytes, now));
        if client.leaving {
            self.meter.of(client.task.is_slow()).0.bytes_received += wide(bytes.len());
            if client.needs_connection() {
                return self.cut(id, &Loss::closed(false));
            }
            self.operations.push(Operation::Receive { connection });
            if opened.is_some() {
                // The last requests of a tunnel go out.
                self.flush(id);
            }
            return;
        }
        let rtmp = match opened {
            Some(Ok(rtmp)) => Some(rtmp),
            Some(Err(loss)) => return self.lost(id, &loss),
            None => None,
        };
        let (carried, bytes) = (bytes.len(), rtmp.as_deref().unwrap_or(bytes));
        let began = client.began();
        let turn = match &mut client.role {
            Role::Opening => Ok(None),
            Role::Player(player) => player.receive(bytes, now, &mut self.meter),
            Role::Publisher(publisher) => publisher.receive(bytes, now, &mut self.meter),
            Role::Attacker(attacker) => {
                for answer in attacker.receive(bytes) {
                    client.push(answer);
                }
                Ok(None)
            }
        };
        let counters = self.meter.of(client.task.is_slow()).0;
        counters.bytes_received += wide(carried);
        counters.reads += 1;
        counters.full_reads += u64::from(carried >= self.shared.limits.receive_bytes);
        let turn = match turn {
            Ok(turn) => turn,
            Err(error) => return self.refused(id, &error),
        };
        client.push_output();
        if !began
            && let Role::Publisher(publisher) = &client.role
            && let Some(due) = publisher.next_due()
        {
            publisher.headers().into_iter().for_each(|header| client.push(header));
            self.timers.set(due, Event::Frame(id));
        }
        if self.clients.get(&id).is_some_and(Client::needs_connection) {
            self.cut(id, &Loss::closed(!began));
        } else {
            self.flush(id);
            self.rearm(id, connection, carried, now);
        }
        self.take_over(id, now);
        match turn {
            Some(Turn::Ended(code)) => self.lost(id, &Loss::ended(&code)),
            Some(Turn::Elsewhere(tc_url)) => self.move_to(id, tc_url.as_deref(), now),
            None => {}
        }
    }

    /// Receives again, at once or when a slow reader may.
    fn rearm(&mut self, id: u64, connection: ConnectionKey, bytes: usize, now: Duration) {
        let Some(client) = self.clients.get(&id) else { return };
        let joined = matches!(&client.role, Role::Player(player) if player.joined());
        let reads = !matches!(&client.role, Role::Attacker(attacker) if !attacker.reads());
        match client.task.pace() {
            Pace::Share(share) if joined => {
                let rate = self.shared.plan.profile.bits_per_second as f64 * share.max(1e-6);
                let pause = Duration::from_secs_f64((bytes as f64 * 8.0 / rate).min(3600.0));
                self.timers.set(now + pause, Event::Read(id));
            }
            Pace::Stopped if joined => {}
            _ if reads => self.operations.push(Operation::Receive { connection }),
            _ => {}
        }
    }

    fn read(&mut self, id: u64) {
        if let Some(connection) = self.clients.get(&id).and_then(|client| client.key) {
            self.operations.push(Operation::Receive { connection });
        }
    }

    fn send_frames(&mut self, id: u64, now: Duration) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.leaving) else {
            return;
        };
        let waits = !client.is_silent();
        let mut frames = Vec::new();
        let Role::Publisher(publisher) = &mut client.role else { return };
        publisher.due(now, &mut self.meter, &mut frames);
        let next = publisher.next_due();
        self.meter.counters.unsent += if waits { wide(frames.len()) } else { 0 };
        frames.into_iter().for_each(|frame| client.push(frame));
        let full = client.outbox_bytes() > OUTBOX_BYTES_MAX;
        self.flush(id);
        if full {
            let loss = Loss {
                cause: "not_read".to_owned(),
                sentence: "the server does not read what is published".to_owned(),
            };
            self.lost(id, &loss);
        } else if let Some(due) = next {
            self.timers.set(due, Event::Frame(id));
        }
    }

    fn attack(&mut self, id: u64, tenth: u64, now: Duration) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let silent = client.is_silent();
        let Role::Attacker(attacker) = &mut client.role else { return };
        if let Some(bytes) = attacker.step(tenth).filter(|_| silent) {
            client.push(bytes);
        }
        self.timers.set(now + TENTH, Event::Attack(id, tenth + 1));
        self.flush(id);
    }

    fn flush(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(connection) = client.key else { return };
        let batch = match client.next_batch(clock::now()) {
            Ok(batch) => batch,
            Err(loss) => return self.lost(id, &loss),
        };
        if let Some(lane) = &mut client.lane
            && let Some(due) = lane.next_due()
            && lane.watched.is_none_or(|watched| due < watched)
        {
            lane.watched = Some(due);
            self.timers.set(due, Event::Poll(id));
        }
        if let Some(batch) = batch {
            self.operations.push(Operation::Send { connection, batch });
        } else if client.leaving && client.is_silent() {
            if client.task.is_slow() || matches!(client.role, Role::Attacker(_)) {
                // There may be much left to read, and nobody to read it.
                self.close(id);
            } else if !std::mem::replace(&mut client.ended, true) {
                self.operations.push(Operation::Shutdown { connection });
            }
        }
    }

    fn poll(&mut self, id: u64) {
        if let Some(lane) = self.clients.get_mut(&id).and_then(|client| client.lane.as_mut()) {
            lane.watched = None;
            self.flush(id);
        }
    }

    fn close(&mut self, id: u64) {
        self.remove(id);
    }

    fn remove(&mut self, id: u64) -> Option<Client> {
        let client = self.clients.remove(&id)?;
        if let Some(lane) = &client.lane {
            let (polls, empty) = lane.polls();
            self.meter.counters.polls += polls;
            self.meter.counters.empty_polls += empty;
        }
        if let Some(connection) = client.key {
            self.disconnect(connection);
        }
        Some(client)
    }

    fn disconnect(&mut self, connection: ConnectionKey) {
        if let Some(entry) = self.by_slot.get_mut(connection.slot()) {
            *entry = None;
        }
        self.operations.push(Operation::Close { connection });
    }

    fn id_of(&self, connection: ConnectionKey) -> Option<u64> {
        let (key, id) = (*self.by_slot.get(connection.slot())?)?;
        (key == connection).then_some(id)
    }
}

/// What a player of a stream will receive, as far as this run knows.
pub(super) fn expected(shared: &Shared, stream: usize) -> Expected {
    match shared.files.get(stream) {
        Some(file) => Expected::File(Arc::clone(file)),
        None if stream < shared.plan.publishers => Expected::Synthetic(stream_number(stream)),
        _ => Expected::Anything,
    }
}
