//! Players that only count: thousands on one core.
//!
//! Each speaks and parses like any other up to its first key frame. From then on the kernel counts
//! its bytes and throws them away ([`crate::counting`]), and all that is left of it is a socket and
//! this file's [`Member`]. It acknowledges what it received, so that no server takes it for dead.
//!
//! Nobody is woken for a single member: the crowd is swept every few milliseconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use relay::session::ClientRole;
use relay::wire::control::ControlMessage;
use slab::Slab;

use super::dialogue::Opening;
use super::player::{Player, Turn, Voice};
use super::sources::Sources;
use super::state::expected;
use super::task::{Job, Loss, REDIRECTS_MAX, Task};
use super::worker::Shared;
use crate::clock;
use crate::counting::{Discarded, Discarder};
use crate::measure::Meter;
use crate::units::{low_bits, wide};
use crate::verify::{LATE, Verifier};

/// The counting players of one worker.
pub(super) struct Crowd {
    shared: Arc<Shared>,
    poll: Poll,
    events: Events,
    members: Slab<Member>,
    /// When each one leaves, and its number, which no other member has.
    leaving: BinaryHeap<Reverse<(Duration, usize, u64)>>,
    last_number: u64,
    discarder: Discarder,
    buffer: Box<[u8]>,
    losses: Vec<(Task, Loss)>,
    /// Those that a server sent elsewhere.
    redirected: Vec<Task>,
    /// Members that are not counting yet.
    opening: u64,
    counting: u64,
    sources: Sources,
    /// When it was last swept.
    swept_at: Duration,
}

#[derive(Debug)]
struct Member {
    number: u64,
    stream: TcpStream,
    task: Task,
    seed: u64,
    state: MemberState,
    /// Bytes that the kernel did not take; usually none, and then without memory.
    unsent: Vec<u8>,
}

#[derive(Debug)]
enum MemberState {
    Connecting,
    Talking(Box<Player>),
    Counting(Count),
}

#[derive(Debug)]
struct Count {
    received: u64,
    /// How much of that the server was told; `None`: it does not want to know.
    acknowledged: Option<u64>,
    last: Duration,
}

/// What servers usually ask for is 2,500,000; half of that is early enough for all.
const ACKNOWLEDGE_BYTES: u64 = 1_250_000;

/// How often the crowd is swept while members are opening, and later.
const SWEEP_OPENING: Duration = Duration::from_millis(1);
const SWEEP_COUNTING: Duration = Duration::from_millis(5);

impl Crowd {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let buffer = vec![0; shared.limits.receive_bytes].into_boxed_slice();
        let sources = Sources::new(shared.plan.connections_max());
        Ok(Self {
            shared,
            poll: Poll::new()?,
            events: Events::with_capacity(4_096),
            members: Slab::new(),
            leaving: BinaryHeap::new(),
            last_number: 0,
            discarder: Discarder::default(),
            buffer,
            losses: Vec::new(),
            redirected: Vec::new(),
            opening: 0,
            counting: 0,
            sources,
            swept_at: Duration::ZERO,
        })
    }

    /// How long the worker may wait elsewhere.
    pub(super) fn patience(&self) -> Duration {
        if self.members.is_empty() {
            return Duration::MAX;
        }
        match (self.opening, self.shared.plan.sweep) {
            (0, Some(sweep)) => (self.swept_at + sweep).saturating_sub(clock::now()),
            (0, None) => SWEEP_COUNTING,
            _ => SWEEP_OPENING,
        }
    }

    /// Whether a sweep asked for at fixed times is not due yet. Members that are opening are not
    /// made to wait.
    fn rests(&self, now: Duration) -> bool {
        let sweep = self.shared.plan.sweep.filter(|_| self.opening == 0);
        sweep.is_some_and(|sweep| now < self.swept_at + sweep)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members that receive.
    pub(super) fn present(&self) -> u64 {
        self.counting
    }

    /// Those that came to an early end since the last call.
    pub(super) fn take_losses(&mut self) -> Vec<(Task, Loss)> {
        std::mem::take(&mut self.losses)
    }

    /// Those that a server sent elsewhere since the last call, due at once.
    pub(super) fn take_redirected(&mut self) -> Vec<Task> {
        std::mem::take(&mut self.redirected)
    }

    /// Opens a connection for a player.
    pub(super) fn start(&mut self, task: Task, seed: u64) {
        let (target, address) = task.target(&self.shared.plan);
        let to = target.addresses[address];
        let stream = match self.sources.dial(to) {
            Ok(socket) => TcpStream::from_std(socket.into()),
            Err(error) => {
                self.losses.push((task, Loss::connect(&target, address, &error)));
                return;
            }
        };
        self.last_number += 1;
        let number = self.last_number;
        if let Job::Player(arrival) = task.job {
            let leaves = self.shared.begin + arrival.leaves;
            self.leaving.push(Reverse((leaves, self.members.vacant_key(), number)));
        }
        let state = MemberState::Connecting;
        let member = Member { number, stream, task, seed, state, unsent: Vec::new() };
        let key = self.members.insert(member);
        self.opening += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered =
            self.poll.registry().register(&mut self.members[key].stream, Token(key), interest);
        if let Err(error) = registered {
            self.lose(key, Loss::failed(&error));
        }
    }

    /// Sweeps: reads what came, lets go whose time is over.
    pub(super) fn turn(&mut self, meter: &mut Meter) {
        let now = clock::now();
        if self.members.is_empty() || self.rests(now) {
            return;
        }
        self.swept_at = now;
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("epoll fails only when it is misused: {error}"),
        }
        let ready: Vec<(usize, bool, bool)> = self
            .events
            .iter()
            .map(|event| {
                let ends = event.is_read_closed() || event.is_error();
                (event.token().0, event.is_writable(), ends)
            })
            .collect();
        for (key, writable, ends) in ready {
            self.ready(key, writable, ends, now, meter);
        }
        while let Some(Reverse((due, key, number))) = self.leaving.peek().copied() {
            if due > now {
                break;
            }
            self.leaving.pop();
            if self.members.get(key).is_some_and(|member| member.number == number) {
                self.leave(key, now, meter);
            }
        }
    }

    /// Everybody leaves.
    pub(super) fn leave_all(&mut self, now: Duration) {
        let due: Vec<_> = self.leaving.drain().collect();
        for Reverse((leaves, key, number)) in due {
            self.leaving.push(Reverse((leaves.min(now), key, number)));
        }
    }

    /// The load is over.
    pub(super) fn settle(&mut self, now: Duration, meter: &mut Meter) {
        let keys: Vec<usize> = self.members.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.leave(key, now, meter);
        }
    }

    fn ready(&mut self, key: usize, writable: bool, ends: bool, now: Duration, meter: &mut Meter) {
        let Some(member) = self.members.get_mut(key) else { return };
        if matches!(member.state, MemberState::Connecting) {
            if !writable && !ends {
                return;
            }
            match member.stream.take_error() {
                Ok(None) if member.stream.peer_addr().is_ok() => self.open(key, now, meter),
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => {
                    let (target, address) = member.task.target(&self.shared.plan);
                    self.lose(key, Loss::connect(&target, address, &error));
                    return;
                }
            }
        }
        let Some(member) = self.members.get_mut(key) else { return };
        if writable && let Err(error) = member.flush(&mut meter.counters.bytes_sent) {
            self.lose(key, Loss::failed(&error));
            return;
        }
        let result = match &member.state {
            MemberState::Connecting => return,
            MemberState::Talking(_) => self.talk(key, meter),
            MemberState::Counting(_) => self.count(key, ends, now, meter),
        };
        if let Err(loss) = result {
            if self.redirect(key, now, meter) {
                return;
            }
            let lost = match self.members.get_mut(key).map(|member| &mut member.state) {
                Some(MemberState::Talking(player)) => {
                    player.finish(now, meter);
                    player.started()
                }
                Some(MemberState::Counting(_)) => true,
                _ => false,
            };
            meter.counters.players_lost += u64::from(lost);
            self.lose(key, loss);
        }
    }

    /// Whether the server that refused a member named another one, where it then goes.
    fn redirect(&mut self, key: usize, now: Duration, meter: &mut Meter) -> bool {
        let Some(member) = self.members.get(key) else { return false };
        let MemberState::Talking(player) = &member.state else { return false };
        let (target, _) = member.task.target(&self.shared.plan);
        let elsewhere = player.voice.redirect().map(|to| target.redirected(Some(to)));
        let Some(Ok(target)) = elsewhere else { return false };
        if member.task.redirects >= REDIRECTS_MAX {
            return false;
        }
        meter.counters.redirects += 1;
        let redirects = member.task.redirects + 1;
        let target = Some(Arc::new(target));
        self.redirected.push(Task { target, redirects, due: now, ..member.task.clone() });
        self.remove(key);
        true
    }

    /// The connection is there: the dialogue begins.
    fn open(&mut self, key: usize, now: Duration, meter: &mut Meter) {
        let Some(member) = self.members.get_mut(key) else { return };
        let plan = &self.shared.plan;
        let stream = member.task.stream(plan);
        let opening = Opening {
            target: &member.task.target(plan).0,
            stream,
            streams: plan.streams,
            role: ClientRole::Play,
            limits: &self.shared.limits,
            enhanced: plan.enhanced,
            seed: member.seed,
        };
        let voice = Voice::new(&opening, member.task.due, now, &mut meter.spans);
        let verifier =
            Verifier::new(expected(&self.shared, stream), plan.checks, self.shared.host, now);
        let player = Player::new(voice, verifier, &member.task, member.task.pace());
        member.state = MemberState::Talking(Box::new(player));
        // The hello goes out with the flush that follows.
        member.say(meter);
    }

    fn talk(&mut self, key: usize, meter: &mut Meter) -> Result<(), Loss> {
        loop {
            let Some(member) = self.members.get_mut(key) else { return Ok(()) };
            let MemberState::Talking(player) = &mut member.state else { return Ok(()) };
            let bytes = match member.stream.read(&mut self.buffer) {
                Ok(0) => return Err(Loss::closed(!player.started())),
                Ok(count) => &self.buffer[..count],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Loss::failed(&error)),
            };
            let now = clock::now();
            meter.counters.bytes_received += wide(bytes.len());
            let turn = player.receive(bytes, now, meter)?;
            match turn {
                Some(Turn::Ended(code)) => return Err(Loss::ended(&code)),
                Some(Turn::Elsewhere(_)) | None => {}
            }
            let joined = player.joined();
            let received = player.voice.bytes_received();
            let acknowledged = player.voice.acknowledges().then_some(received);
            member.say(meter);
            if joined {
                // Its session, its judge and their buffers go.
                member.state = MemberState::Counting(Count { received, acknowledged, last: now });
                member.task.joined_before = true;
                self.opening -= 1;
                self.counting += 1;
                return self.count(key, false, now, meter);
            }
        }
    }

    fn count(
        &mut self,
        key: usize,
        ends: bool,
        now: Duration,
        meter: &mut Meter,
    ) -> Result<(), Loss> {
        loop {
            let Some(member) = self.members.get_mut(key) else { return Ok(()) };
            let MemberState::Counting(count) = &mut member.state else { return Ok(()) };
            meter.counters.counted_reads += 1;
            match self.discarder.discard(&member.stream) {
                Ok(Discarded::Bytes { count: bytes, full }) => {
                    meter.counters.bytes_received += wide(bytes);
                    count.received += wide(bytes);
                    let stalled = now.saturating_sub(count.last) > LATE;
                    meter.counters.stalls += u64::from(stalled && self.shared.plan.checks.stalls);
                    count.last = now;
                    let due = |told: &u64| count.received - told >= ACKNOWLEDGE_BYTES;
                    if count.acknowledged.as_ref().is_some_and(due) {
                        count.acknowledged = Some(count.received);
                        member.acknowledge(&mut meter.counters.bytes_sent);
                    }
                    if !full && !ends {
                        return Ok(());
                    }
                }
                Ok(Discarded::Nothing) => return Ok(()),
                Ok(Discarded::Ended) => return Err(Loss::closed(false)),
                Err(error) => return Err(Loss::failed(&error)),
            }
        }
    }

    /// A member's time is over: it goes without a word, as most players do.
    fn leave(&mut self, key: usize, now: Duration, meter: &mut Meter) {
        let Some(member) = self.remove(key) else { return };
        match member.state {
            MemberState::Connecting => {
                meter.fail("still_opening", || "no answer came before the end".to_owned());
            }
            MemberState::Talking(mut player) => {
                player.finish(now, meter);
                meter.fail("no_media", || "no key frame came before the end".to_owned());
            }
            MemberState::Counting(count) => {
                let stalled = now.saturating_sub(count.last) > LATE;
                meter.counters.stalls += u64::from(stalled && self.shared.plan.checks.stalls);
                meter.counters.players_kept += u64::from(member.task.attempt == 0);
            }
        }
    }

    fn lose(&mut self, key: usize, loss: Loss) {
        let Some(member) = self.remove(key) else { return };
        let mut task = member.task;
        if let MemberState::Counting(count) = member.state {
            task.outage_since = Some(count.last);
        }
        self.losses.push((task, loss));
    }

    fn remove(&mut self, key: usize) -> Option<Member> {
        let member = self.members.try_remove(key)?;
        match member.state {
            MemberState::Counting(_) => self.counting -= 1,
            MemberState::Connecting | MemberState::Talking(_) => self.opening -= 1,
        }
        // Dropping the stream closes it and takes it out of the poll.
        Some(member)
    }
}

impl Member {
    /// Puts what the session has to say behind what waits, and sends it.
    fn say(&mut self, meter: &mut Meter) {
        if let MemberState::Talking(player) = &mut self.state
            && let Some(bytes) = player.voice.take_output()
        {
            self.unsent.extend_from_slice(&bytes);
        }
        // A failure is met again by the next read.
        let _ = self.flush(&mut meter.counters.bytes_sent);
    }

    fn acknowledge(&mut self, sent: &mut u64) {
        let MemberState::Counting(count) = &self.state else { return };
        // The count goes modulo 2^32 (RTMP 1.0 section 5.4.3).
        let sequence = low_bits(count.received);
        let mut out = BytesMut::new();
        ControlMessage::Acknowledgement { sequence }.write(&mut out);
        self.unsent.extend_from_slice(&out);
        let _ = self.flush(sent);
    }

    fn flush(&mut self, sent: &mut u64) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    *sent += wide(count);
                    self.unsent.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent = Vec::new();
        Ok(())
    }
}
