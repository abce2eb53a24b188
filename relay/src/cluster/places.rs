//! Addresses that may lead to nodes, and when each is dialled.
//!
//! An address is dialled unless it leads to a node that is connected. Which node it leads to is
//! known from the last greeting there, or from a connection that came from it. Whoever does not
//! answer is dialled again, more and more seldom, for as long as the list names it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::chance::Chance;
use super::command::{Command, Line, Note};
use super::counters::ADDRESSES_PER_NODE;
use super::identity::NodeKey;
use super::outbox::Outbox;
use crate::limits::Limits;

#[derive(Debug, Default)]
pub(super) struct Places {
    places: BTreeMap<SocketAddr, Place>,
    /// Places that wait, by when they are dialled.
    waiting: BTreeSet<(Duration, SocketAddr)>,
    /// Which places lead to a node that is connected.
    leading: BTreeSet<(NodeKey, SocketAddr)>,
    /// Dials under way.
    dialling: usize,
    dials: u64,
}

#[derive(Debug)]
struct Place {
    state: State,
    failures: u32,
    /// Whether the list names it. One that is dialled when it leaves the list is kept until then.
    listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be dialled then.
    Waiting(Duration),
    /// Being dialled.
    Dialling,
    /// It leads to a node that is connected.
    Leads(NodeKey),
    /// It leads to this node; never dialled again while the list names it.
    Oneself,
}

/// First pause after a failed dial; each further one doubles it up to `redial_max`.
const REDIAL_MIN: Duration = Duration::from_millis(200);

impl Places {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The list was looked up again.
    pub(super) fn list(
        &mut self,
        list: &[SocketAddr],
        limits: &Limits,
        chance: &mut Chance,
        now: Duration,
        out: &mut Outbox,
    ) {
        let most = limits.nodes_max.saturating_mul(ADDRESSES_PER_NODE);
        let named: BTreeSet<SocketAddr> = list.iter().copied().collect();
        let known = named.iter().filter(|address| self.places.contains_key(address)).count();
        let mut room = most.saturating_sub(known);
        let mut passed_over = 0;
        for place in self.places.values_mut() {
            place.listed = false;
        }
        // The more there are, the longer it takes until all are dialled: whoever dials first need
        // not be dialled at all.
        let count = u32::try_from(named.len()).unwrap_or(u32::MAX);
        let spread = PER_ADDRESS.saturating_mul(count).clamp(FIRST_DIAL, limits.redial_max);
        for address in named {
            if let Some(place) = self.places.get_mut(&address) {
                place.listed = true;
            } else if room > 0 {
                room -= 1;
                let state = State::Waiting(now + chance.within(spread));
                self.places.insert(address, Place { state, failures: 0, listed: true });
                self.note_state(address, None, state);
            } else {
                passed_over += 1;
            }
        }
        if passed_over > 0 {
            out.push(Command::Note(Note::TooManyAddresses(passed_over)));
        }
        self.forget_unlisted();
    }

    fn forget_unlisted(&mut self) {
        let (waiting, leading) = (&mut self.waiting, &mut self.leading);
        self.places.retain(|address, place| {
            let kept = place.listed || place.state == State::Dialling;
            if !kept {
                match place.state {
                    State::Waiting(at) => drop(waiting.remove(&(at, *address))),
                    State::Leads(key) => drop(leading.remove(&(key, *address))),
                    State::Dialling | State::Oneself => {}
                }
            }
            kept
        });
    }

    /// The address leads to this node, which is connected.
    pub(super) fn belongs(&mut self, address: SocketAddr, key: NodeKey) {
        if let Some(place) = self.places.get_mut(&address) {
            place.failures = 0;
            self.change(address, State::Leads(key));
        }
    }

    /// The address leads to this very node.
    pub(super) fn is_oneself(&mut self, address: SocketAddr) {
        self.change(address, State::Oneself);
    }

    /// A dial came to nothing. Unless the greeting told where the address leads to.
    pub(super) fn failed(
        &mut self,
        address: SocketAddr,
        limits: &Limits,
        chance: &mut Chance,
        now: Duration,
    ) {
        let Some(place) = self.places.get_mut(&address) else { return };
        if place.state != State::Dialling {
            return;
        }
        let pause = REDIAL_MIN.saturating_mul(2u32.saturating_pow(place.failures.min(16)));
        place.failures = place.failures.saturating_add(1);
        let pause = chance.jitter(pause.min(limits.redial_max));
        self.change(address, State::Waiting(now + pause));
        if !self.places.get(&address).is_some_and(|place| place.listed) {
            self.forget_unlisted();
        }
    }

    /// A node is not connected any more.
    pub(super) fn gone(&mut self, key: NodeKey, chance: &mut Chance, now: Duration) {
        let leading: Vec<SocketAddr> = self
            .leading
            .range((key, LOWEST)..)
            .take_while(|(other, _)| *other == key)
            .map(|(_, address)| *address)
            .collect();
        for address in leading {
            self.change(address, State::Waiting(now + chance.jitter(FIRST_DIAL)));
        }
    }

    /// The next place to dial now.
    pub(super) fn dial(&mut self, limits: &Limits, now: Duration) -> Option<(Line, SocketAddr)> {
        let (at, address) = *self.waiting.first()?;
        if at > now || self.dialling >= limits.dials_max {
            return None;
        }
        self.change(address, State::Dialling);
        self.dials += 1;
        Some((Line::Dialled(self.dials), address))
    }

    /// When the next place is to be dialled. With `dials_max` under way, when one of them ends.
    pub(super) fn next(&self, limits: &Limits) -> Option<Duration> {
        let (at, _) = self.waiting.first().filter(|_| self.dialling < limits.dials_max)?;
        Some(*at)
    }

    fn change(&mut self, address: SocketAddr, state: State) {
        if let Some(place) = self.places.get_mut(&address) {
            let before = std::mem::replace(&mut place.state, state);
            self.note_state(address, Some(before), state);
        }
    }

    fn note_state(&mut self, address: SocketAddr, before: Option<State>, state: State) {
        match before {
            Some(State::Waiting(at)) => drop(self.waiting.remove(&(at, address))),
            Some(State::Leads(key)) => drop(self.leading.remove(&(key, address))),
            Some(State::Dialling) => self.dialling -= 1,
            Some(State::Oneself) | None => {}
        }
        match state {
            State::Waiting(at) => drop(self.waiting.insert((at, address))),
            State::Leads(key) => drop(self.leading.insert((key, address))),
            State::Dialling => self.dialling += 1,
            State::Oneself => {}
        }
    }
}

/// Nodes that start together, or lose a node together, do not all dial at the same instant.
const FIRST_DIAL: Duration = Duration::from_millis(100);

/// What each address adds to that.
const PER_ADDRESS: Duration = Duration::from_millis(3);

/// An address that no other one precedes.
const LOWEST: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
