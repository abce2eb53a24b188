//! The inside of the simulated network: connections, listeners, timers, and who must be told.
//!
//! All state lies in one [`Net`], which its handles share on one thread. Whatever happens to one
//! side of a connection ends in [`Net::touch`] of the other, at once or by a timer, and that alone
//! decides whether a reactor has something to do. No real clock, socket or random source is used:
//! the same calls with the same seed give the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;

use super::pipe::Pipe;
use super::state::ReactorState;
use super::{SimFaults, SimRead};
use crate::reactor::slots::Slots;
use crate::reactor::{ConnectionKey, ListenerKey};

/// A connection of the net: the key of a slot, like a reactor's own keys.
pub(super) type LinkKey = ConnectionKey;

/// Is shown each slice that a reactor is asked to send.
pub(super) type Observer = Box<dyn FnMut(&Bytes)>;

/// One side of a connection: 0 dialled, 1 was called.
pub(super) type Side = usize;

/// The network.
pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) rng: fastrand::Rng,
    pub(super) faults: SimFaults,
    /// Bytes that one direction of a new connection holds.
    pub(super) capacity: usize,
    pub(super) links: Slots<Link>,
    pub(super) reactors: Vec<ReactorState>,
    /// Who listens where. The order is that in which they began.
    pub(super) listeners: BTreeMap<SocketAddr, Vec<(usize, ListenerKey)>>,
    /// From whom to whom nothing passes.
    pub(super) cut: BTreeSet<(IpAddr, IpAddr)>,
    pub(super) observer: Option<Observer>,
    /// Sides that are loose; one that is no longer held was dropped.
    pub(super) loose: Vec<(LinkKey, Side, Weak<()>)>,
    timers: BTreeMap<(Duration, u64), Timer>,
    timers_made: u64,
    ports_given: u16,
}

/// A connection between two sides.
pub(super) struct Link {
    pub(super) sides: [SideState; 2],
    /// Bytes from side 0 to side 1, and from side 1 to side 0.
    pub(super) pipes: [Pipe; 2],
    /// When the caller gives up.
    give_up: Duration,
}

/// What one side knows.
pub(super) struct SideState {
    pub(super) address: SocketAddr,
    pub(super) owner: Owner,
    /// The owner has not closed it.
    open: bool,
    /// When a reset arrives, if one is under way.
    reset_at: Option<Duration>,
    /// A reset has arrived.
    pub(super) failed: bool,
    /// The owner only counts: bytes received so far.
    pub(super) counted: Option<u64>,
}

/// Who holds a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A test.
    Endpoint,
    /// Nobody: the call is under way, or nobody takes it.
    Nobody,
    /// A listener: it waits to be accepted.
    Queue,
    /// A reactor that is dialling, with its token.
    Dialling(usize, u64),
    /// A connection of a reactor.
    Reactor(usize, ConnectionKey),
    /// Nobody for the moment: released by one reactor, not yet adopted by another.
    Loose,
}

enum Timer {
    /// Something may have arrived at a side.
    Touch(LinkKey, Side),
    /// A call arrives.
    Call(LinkKey),
    /// The answer to a call arrives: there, or refused.
    Answer(LinkKey, Result<(), ErrorKind>),
}

impl Net {
    pub(super) fn new(seed: u64, faults: SimFaults) -> Self {
        Self {
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(seed),
            faults,
            capacity: CAPACITY,
            links: Slots::new(),
            reactors: Vec::new(),
            listeners: BTreeMap::new(),
            cut: BTreeSet::new(),
            observer: None,
            loose: Vec::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            ports_given: 0,
        }
    }

    /// When the next timer is due, or a loose side that was dropped is to be closed.
    pub(super) fn next_event_time(&self) -> Option<Duration> {
        if self.loose.iter().any(|(_, _, held)| held.strong_count() == 0) {
            return Some(self.now);
        }
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves the clock to `until`, doing on the way what falls due.
    pub(super) fn advance_to(&mut self, until: Duration) {
        self.close_dropped();
        while let Some(timer) = self.timers.first_entry()
            && timer.key().0 <= until
        {
            self.now = self.now.max(timer.key().0);
            match timer.remove() {
                Timer::Touch(link, side) => self.touch(link, side),
                Timer::Call(link) => self.call_arrives(link),
                Timer::Answer(link, answer) => self.answer_arrives(link, answer),
            }
        }
        self.now = self.now.max(until);
    }

    /// A port that no one uses yet.
    pub(super) fn fresh_port(&mut self) -> u16 {
        self.ports_given = (self.ports_given + 1) % FRESH_PORTS;
        FIRST_FRESH_PORT + self.ports_given
    }

    /// True with the probability `chance`. No random number is drawn for a fault that is turned
    /// off, so that turning one on leaves the others' dice alone.
    pub(super) fn strikes(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.rng.f64() < chance
    }

    /// When something sent now arrives.
    pub(super) fn arrival(&mut self) -> Duration {
        self.now + self.delay()
    }

    /// A random delay.
    pub(super) fn delay(&mut self) -> Duration {
        if self.faults.delay_max.is_zero() {
            return Duration::ZERO;
        }
        let longest = u64::try_from(self.faults.delay_max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(0..=longest))
    }

    /// Opens a connection. The call is under way when this returns.
    pub(super) fn dial(&mut self, from: SocketAddr, to: SocketAddr, owner: Owner) -> LinkKey {
        let arrival = self.arrival();
        let side = |address, owner| SideState {
            address,
            owner,
            open: true,
            reset_at: None,
            failed: false,
            counted: None,
        };
        let link = self.links.insert(|_| Link {
            sides: [side(from, owner), side(to, Owner::Nobody)],
            pipes: [Pipe::new(self.capacity, arrival), Pipe::new(self.capacity, arrival)],
            give_up: self.now + GIVE_UP,
        });
        self.at(arrival, Timer::Call(link));
        link
    }

    fn call_arrives(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        let [from, to] = [link.sides[0].address, link.sides[1].address];
        let give_up = link.give_up;
        if self.is_cut(from, to) {
            let now = self.now;
            return if now < give_up {
                self.at((now + TRY_AGAIN).min(give_up), Timer::Call(key));
            } else {
                self.answer_arrives(key, Err(ErrorKind::TimedOut));
            };
        }
        let answer = if self.strikes(self.faults.connect_fail) || !self.queue_call(key, to) {
            Err(ErrorKind::ConnectionRefused)
        } else {
            Ok(())
        };
        let arrival = self.arrival();
        self.at(arrival, Timer::Answer(key, answer));
    }

    /// Puts a call into the queue of one of those who listen; false when nobody takes it.
    fn queue_call(&mut self, key: LinkKey, to: SocketAddr) -> bool {
        let Some(group) = self.listeners.get(&to).filter(|group| !group.is_empty()) else {
            return false;
        };
        let (reactor, listener) = group[self.rng.usize(0..group.len())];
        let taken = self.reactors[reactor].queue_call(listener, key);
        if taken && let Some(link) = self.links.get_mut(key) {
            link.sides[1].owner = Owner::Queue;
        }
        taken
    }

    fn answer_arrives(&mut self, key: LinkKey, answer: Result<(), ErrorKind>) {
        let Some(link) = self.links.get_mut(key) else { return };
        let [from, to] = [link.sides[0].address, link.sides[1].address];
        let give_up = link.give_up;
        let [caller, called] = [link.sides[0].owner, link.sides[1].owner];
        let mut answer = answer;
        if self.now >= give_up {
            answer = Err(ErrorKind::TimedOut);
        } else if self.is_cut(to, from) {
            return self.at((self.now + TRY_AGAIN).min(give_up), Timer::Answer(key, answer));
        }
        if answer.is_err() {
            self.reset(key, 0);
            if called == Owner::Nobody {
                self.forget(key, 1);
            }
        }
        if let Owner::Dialling(reactor, token) = caller {
            match answer {
                Ok(()) if !self.reactors[reactor].alive => self.close(key, 0),
                Ok(()) => {
                    let connection = self.reactors[reactor].add_connection(key, 0);
                    if let Some(link) = self.links.get_mut(key) {
                        link.sides[0].owner = Owner::Reactor(reactor, connection);
                    }
                    self.reactors[reactor].connected(token, connection);
                }
                Err(kind) => {
                    self.reactors[reactor].connect_failed(token, kind.into());
                    self.forget(key, 0);
                }
            }
        }
    }

    /// Writes from a side as much as there is room for.
    ///
    /// # Errors
    ///
    /// When the connection was reset, or the side has ended its direction.
    pub(super) fn write(
        &mut self,
        key: LinkKey,
        side: Side,
        data: &[u8],
    ) -> Result<usize, ErrorKind> {
        self.settle(key, side);
        let arrival = self.arrival();
        let Some(link) = self.links.get_mut(key) else { return Err(ErrorKind::BrokenPipe) };
        if link.sides[side].failed {
            return Err(ErrorKind::ConnectionReset);
        }
        if link.pipes[side].is_closed() {
            return Err(ErrorKind::BrokenPipe);
        }
        if let Some(counted) = &mut link.sides[1 - side].counted {
            *counted += u64::try_from(data.len()).expect("a usize fits into 64 bits");
            return Ok(data.len());
        }
        let (count, arrival) = link.pipes[side].write(data, arrival);
        if count > 0 {
            self.at(arrival, Timer::Touch(key, 1 - side));
        }
        Ok(count)
    }

    /// Reads at a side what has arrived, at most as much as `into` holds.
    pub(super) fn read(&mut self, key: LinkKey, side: Side, into: &mut [u8]) -> SimRead {
        self.settle(key, side);
        let Some(link) = self.links.get_mut(key) else { return SimRead::Reset };
        let count = link.pipes[1 - side].read(into);
        if count > 0 {
            self.touch(key, 1 - side);
            SimRead::Data(count)
        } else if link.sides[side].failed {
            SimRead::Reset
        } else if link.pipes[1 - side].at_end() {
            SimRead::Eof
        } else {
            SimRead::Empty
        }
    }

    /// Bytes that a read at this side would find.
    pub(super) fn arrived(&mut self, key: LinkKey, side: Side) -> usize {
        self.settle(key, side);
        self.links.get_mut(key).map_or(0, |link| link.pipes[1 - side].arrived())
    }

    /// Ends a side's direction, after what it has written.
    pub(super) fn end(&mut self, key: LinkKey, side: Side) {
        let arrival = self.arrival();
        if let Some(link) = self.links.get_mut(key) {
            let arrival = link.pipes[side].close(arrival);
            self.at(arrival, Timer::Touch(key, 1 - side));
        }
    }

    /// Closes a side. As with TCP, bytes that it did not read turn the orderly end into a reset.
    pub(super) fn close(&mut self, key: LinkKey, side: Side) {
        let Some(link) = self.links.get_mut(key) else { return };
        if link.pipes[1 - side].is_empty() {
            self.end(key, side);
        } else {
            self.reset(key, side);
        }
        self.forget(key, side);
    }

    /// Resets the connection as seen from a side; the other learns of it in time.
    pub(super) fn reset(&mut self, key: LinkKey, side: Side) {
        let arrival = self.arrival();
        let Some(link) = self.links.get_mut(key) else { return };
        link.sides[side].failed = true;
        let arrival = *link.sides[1 - side].reset_at.get_or_insert(arrival);
        self.at(arrival, Timer::Touch(key, 1 - side));
    }

    /// Marks a side as closed by its owner. With the second one the connection is gone.
    pub(super) fn forget(&mut self, key: LinkKey, side: Side) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.sides[side].open = false;
        if link.sides.iter().all(|side| !side.open) {
            self.links.remove(key);
        }
    }

    /// Breaks a connection for both sides at once.
    pub(super) fn fail(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        for side in [0, 1] {
            link.sides[side].failed = true;
            link.pipes[side].lose_flights();
        }
        self.touch(key, 0);
        self.touch(key, 1);
    }

    /// Looks again at every connection, after a cut was mended.
    pub(super) fn touch_all(&mut self) {
        for key in self.links.keys() {
            self.touch(key, 0);
            self.touch(key, 1);
        }
    }

    /// Tells the reactor of a side, if it has one, what it can do now. Bytes that arrive at a
    /// closed side are lost, and answered by a reset.
    pub(super) fn touch(&mut self, key: LinkKey, side: Side) {
        self.settle(key, side);
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.sides[side].open {
            if link.pipes[1 - side].arrived() > 0 {
                self.reset(key, side);
            }
            return;
        }
        if let Owner::Reactor(reactor, connection) = link.sides[side].owner {
            let failed = link.sides[side].failed;
            let incoming = &link.pipes[1 - side];
            let readable = incoming.arrived() > 0 || incoming.at_end() || failed;
            let writable = link.pipes[side].room() > 0 || failed;
            self.reactors[reactor].ready(connection, readable, writable);
        }
    }

    /// Looks at a side once more, later.
    pub(super) fn touch_at(&mut self, at: Duration, key: LinkKey, side: Side) {
        self.at(at, Timer::Touch(key, side));
    }

    /// Lets arrive at a side what is due, unless the way to it is cut.
    fn settle(&mut self, key: LinkKey, side: Side) {
        let Some(link) = self.links.get_mut(key) else { return };
        let way = (link.sides[1 - side].address.ip(), link.sides[side].address.ip());
        if !self.cut.is_empty() && self.cut.contains(&way) {
            return;
        }
        link.pipes[1 - side].settle(self.now);
        if link.sides[side].reset_at.is_some_and(|at| at <= self.now) {
            link.sides[side].failed = true;
            link.pipes[1 - side].lose_flights();
        }
    }

    fn is_cut(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.cut.contains(&(from.ip(), to.ip()))
    }

    /// Sets a timer; what is due now is done at once.
    fn at(&mut self, at: Duration, timer: Timer) {
        match timer {
            Timer::Touch(link, side) if at <= self.now => self.touch(link, side),
            Timer::Call(link) if at <= self.now => self.call_arrives(link),
            Timer::Answer(link, answer) if at <= self.now => self.answer_arrives(link, answer),
            timer => {
                self.timers_made += 1;
                self.timers.insert((at, self.timers_made), timer);
            }
        }
    }
}

/// What one direction holds: what a TCP connection of the relay keeps for a peer that does not
/// read.
const CAPACITY: usize = 64 * 1024;

/// How long a caller keeps trying, as long as `TCP_USER_TIMEOUT` lets a real one.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How long a call or an answer that met a cut waits before it is sent again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Ports for those who do not ask for one.
const FIRST_FRESH_PORT: u16 = 32_768;
const FRESH_PORTS: u16 = 28_000;
