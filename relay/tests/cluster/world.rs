//! All processes, and the driver that moves them through virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use relay::cluster::{Cluster, Command, Conflict, Line, NodeKey, Note, Path};
use relay::limits::Limits;

use super::media::{Link, MEDIA_TICK};
use super::net::{Carried, Connection, Connections, End, Slot, Station, Weather};
use super::process::{Plan, Process, Publisher, Stream, limits};

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) seed: u64,
    pub(crate) random: fastrand::Rng,
    pub(crate) nodes: Vec<Option<Process>>,
    /// Processes that each place has had.
    pub(crate) lives: Vec<u32>,
    pub(crate) ips: Vec<Ipv4Addr>,
    pub(crate) by_key: BTreeMap<NodeKey, Slot>,
    pub(crate) by_address: BTreeMap<SocketAddr, Slot>,
    pub(crate) connections: Connections,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) weather: Weather,
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) fanout_max: usize,
    pub(crate) notes: Vec<(Slot, Note)>,
    pub(crate) steps: u64,
    pub(crate) planted: Planted,
    numbers: BTreeMap<Arc<str>, Stream>,
    pub(crate) issued: u64,
    queue: BinaryHeap<Reverse<Item>>,
    sequence: u64,
    ips_given: u32,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Planted {
    #[default]
    Nothing,
    /// A node is made to read from one that reads from it, whatever its machine says.
    Circle,
    /// A publisher that should give way stays.
    Stubborn,
    /// Feeders do not stop when they should. Readers that have changed over refuse what they still
    /// send, so this is mended.
    Forgetful,
    /// The same, and readers refuse nothing.
    Clinging,
    /// Links are never heard of.
    Deaf,
    /// A limit is thought to be smaller than it is.
    Narrow,
}

#[derive(Debug)]
struct Item {
    at: Duration,
    sequence: u64,
    event: Event,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Tick(Station),
    /// A connection attempt, with the tries left while it does not get through.
    Dial {
        from: Station,
        line: Line,
        address: SocketAddr,
        tries: u32,
    },
    /// The connection is open at its dialling end.
    Opened(u64),
    /// The attempt failed.
    Failed {
        from: Station,
        line: Line,
    },
    /// Something arrives at an end of a connection.
    Arrives {
        connection: u64,
        end: usize,
        carried: Carried,
    },
    /// The peer list was looked up.
    Listed(Station),
    /// A publisher sends its first key frame.
    KeyFrame(Station, Stream),
    /// A publisher's grace is over.
    GraceOver(Station, Stream),
    /// A link says where its stream goes on.
    LinkAt {
        link: u64,
        path: Path,
    },
    /// A link's stream was ended by its feeder.
    LinkGone(u64),
    /// A link's stream was refused by its receiver, or could not be opened.
    LinkRefused(u64),
    /// Media moves.
    Media,
}

impl World {
    /// Places that are all empty.
    pub(crate) fn new(seed: u64, nodes: usize, streams: usize, fanout_max: usize) -> Self {
        let names: Vec<Arc<str>> = (0..streams).map(|n| format!("live/s{n}").into()).collect();
        let numbers = names.iter().cloned().zip(0..).collect();
        let mut world = Self {
            now: Duration::from_secs(1),
            seed,
            random: fastrand::Rng::with_seed(seed),
            nodes: (0..nodes).map(|_| None).collect(),
            lives: vec![0; nodes],
            ips: vec![Ipv4Addr::UNSPECIFIED; nodes],
            by_key: BTreeMap::new(),
            by_address: BTreeMap::new(),
            connections: Connections::default(),
            links: BTreeMap::new(),
            weather: Weather::default(),
            names,
            limits: Arc::new(limits(nodes)),
            fanout_max,
            notes: Vec::new(),
            steps: 0,
            planted: Planted::Nothing,
            numbers,
            issued: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            ips_given: 0,
        };
        world.after(MEDIA_TICK, Event::Media);
        world
    }

    /// A process starts at a place; with `moved` under a new address.
    pub(crate) fn start(&mut self, slot: Slot, moved: bool) {
        self.start_with(slot, moved, b"the secret of this cluster", (1, 1));
    }

    pub(crate) fn start_with(
        &mut self,
        slot: Slot,
        moved: bool,
        secret: &'static [u8],
        versions: (u16, u16),
    ) {
        if moved || self.ips[slot].is_unspecified() {
            self.ips_given += 1;
            self.ips[slot] = Ipv4Addr::from(0x0a00_0000 + self.ips_given);
        }
        self.lives[slot] += 1;
        let station = Station { slot, life: self.lives[slot] };
        let key = NodeKey(self.random.u64(..));
        let process = Process::new(Plan {
            station,
            name: format!("relay-{slot}"),
            key,
            started: u64::from(self.lives[slot]),
            zone: ["a", "b", "c"][slot % 3],
            ip: self.ips[slot],
            now: self.now,
            fanout_max: self.fanout_max,
            limits: Arc::clone(&self.limits),
            secret,
            versions,
        });
        self.by_key.insert(key, slot);
        self.by_address.retain(|_, other| *other != slot);
        self.by_address.insert(process.address, slot);
        self.nodes[slot] = Some(process);
        self.after(Duration::ZERO, Event::Listed(station));
    }

    /// Everybody's list of peers changes some time soon.
    pub(crate) fn relist(&mut self) {
        for slot in 0..self.nodes.len() {
            let Some(station) = self.nodes[slot].as_ref().map(|process| process.station) else {
                continue;
            };
            let delay = Duration::from_millis(self.random.u64(..2_000));
            self.after(delay, Event::Listed(station));
        }
    }

    /// A process ends. `silently`: as if its machine lost power.
    pub(crate) fn kill(&mut self, slot: Slot, silently: bool) {
        let Some(process) = self.nodes[slot].take() else { return };
        self.by_key.remove(&process.key);
        for (connection, end) in process.lines.into_values() {
            self.connections.get_mut(connection).unwrap().ends[end].open = false;
            if silently {
                self.sweep(connection);
            } else {
                self.carry(connection, 1 - end, Carried::Closed);
            }
        }
        for link in process.feeds.into_values() {
            self.end_link_of_dead(link, silently, true);
        }
        for incoming in process.links.into_values() {
            self.end_link_of_dead(incoming.link, silently, false);
        }
    }

    /// A process ends in order.
    pub(crate) fn leave(&mut self, slot: Slot) {
        self.act(slot, |cluster, now| cluster.leave(now));
        self.kill(slot, false);
    }

    /// A control connection breaks at both ends.
    pub(crate) fn reset(&mut self, connection: u64) {
        if self.connections.get(connection).is_some() {
            self.carry(connection, 0, Carried::Closed);
            self.carry(connection, 1, Carried::Closed);
        }
    }

    /// Whatever waited for the way to be clear goes on.
    pub(crate) fn cleared(&mut self) {
        let waiting: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.ends.iter().any(|end| !end.held.is_empty()))
            .map(|(number, _)| number)
            .collect();
        for number in waiting {
            for end in 0..2 {
                let Some(connection) = self.connections.get_mut(number) else { break };
                let held: VecDeque<Carried> = std::mem::take(&mut connection.ends[end].held);
                for carried in held {
                    self.carry(number, end, carried);
                }
            }
        }
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Item { at, sequence: self.sequence, event }));
    }

    /// Lets time pass until then.
    pub(crate) fn run_to(&mut self, end: Duration) {
        while let Some(Reverse(item)) = self.queue.peek()
            && item.at <= end
        {
            let Some(Reverse(Item { at, event, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.steps += 1;
            self.happen(event);
        }
        self.now = end;
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_to(self.now + time);
    }

    /// Lets time pass until it comes about, at most until `longest` has passed.
    pub(crate) fn until(
        &mut self,
        longest: Duration,
        mut reached: impl FnMut(&Self) -> bool,
    ) -> bool {
        let end = self.now + longest;
        while self.now < end {
            if reached(self) {
                return true;
            }
            self.run(Duration::from_millis(50));
        }
        reached(self)
    }

    pub(crate) fn process(&self, station: Station) -> Option<&Process> {
        self.nodes[station.slot].as_ref().filter(|process| process.station == station)
    }

    /// The processes that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter().flatten()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(station) => {
                if self.process(station).is_some_and(|process| process.tick == Some(self.now)) {
                    self.act(station.slot, Cluster::tick);
                }
            }
            Event::Dial { from, line, address, tries } => self.dial(from, line, address, tries),
            Event::Opened(number) => {
                let Some(connection) = self.connections.get(number) else { return };
                let end = &connection.ends[0];
                let (station, line) = (end.station, end.line);
                if end.open && self.process(station).is_some() {
                    self.act(station.slot, |cluster, _| cluster.dialled(line, None));
                }
            }
            Event::Failed { from, line } => {
                if self.process(from).is_some() {
                    self.act(from.slot, |cluster, now| cluster.closed(line, now));
                }
            }
            Event::Arrives { connection, end, carried } => self.arrive(connection, end, carried),
            Event::Listed(station) => {
                if self.process(station).is_some() {
                    let list: Vec<SocketAddr> = self.by_address.keys().copied().collect();
                    self.act(station.slot, |cluster, now| cluster.addresses(&list, now));
                }
            }
            Event::KeyFrame(station, stream) => {
                let node = self.nodes[station.slot].as_mut();
                let node = node.filter(|process| process.station == station);
                let publisher = node.and_then(|process| process.publishers.get_mut(&stream));
                if let Some(publisher) = publisher.filter(|it| **it == Publisher::Pending) {
                    *publisher = Publisher::Live;
                    let name = Arc::clone(&self.names[stream]);
                    self.act(station.slot, |cluster, now| cluster.live(&name, now));
                }
            }
            Event::GraceOver(station, stream) => {
                let node = self.nodes[station.slot].as_mut();
                let node = node.filter(|process| process.station == station);
                if let Some(process) = node
                    && process.publishers.get(&stream) == Some(&Publisher::Resting)
                {
                    process.publishers.remove(&stream);
                    let name = Arc::clone(&self.names[stream]);
                    self.act(station.slot, |cluster, now| cluster.released(&name, now));
                }
            }
            Event::LinkAt { link, path } => self.link_at(link, path),
            Event::LinkGone(link) => self.link_gone(link),
            Event::LinkRefused(link) => self.link_refused(link),
            Event::Media => {
                self.media();
                self.check_memory();
                self.after(MEDIA_TICK, Event::Media);
            }
        }
    }

    fn dial(&mut self, from: Station, line: Line, address: SocketAddr, tries: u32) {
        let Some(process) = self.process(from) else { return };
        if !process.lines.contains_key(&line) && tries < DIAL_TRIES {
            // Given up meanwhile.
            return;
        }
        let slot = self.by_address.get(&address).copied();
        let there = slot.filter(|slot| self.weather.reaches(from.slot, *slot));
        let Some(slot) = there else {
            if tries > 0 {
                let event = Event::Dial { from, line, address, tries: tries - 1 };
                self.after(Duration::from_secs(1), event);
            } else {
                self.after(Duration::ZERO, Event::Failed { from, line });
            }
            return;
        };
        let latency = self.weather.latency(from.slot, slot);
        let Some(process) = self.nodes[slot].as_mut() else {
            self.after(latency, Event::Failed { from, line });
            return;
        };
        process.accepted += 1;
        let accepted = Line::Accepted(process.accepted);
        let to = process.station;
        let end = |station, line| End {
            station,
            line,
            open: true,
            held: VecDeque::new(),
            last: Duration::ZERO,
        };
        let ends = [end(from, line), end(to, accepted)];
        let number = self.connections.insert(Connection { ends });
        process.lines.insert(accepted, (number, 1));
        let dialler = self.nodes[from.slot].as_mut().unwrap();
        dialler.lines.insert(line, (number, 0));
        let source = SocketAddr::new(dialler.address.ip(), 40_000);
        self.after(latency * 2, Event::Opened(number));
        self.act(slot, |cluster, now| cluster.accepted(accepted, source, None, now));
    }

    /// Sends something to an end of a connection.
    fn carry(&mut self, number: u64, end: usize, carried: Carried) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        let [a, b] = [connection.ends[0].station.slot, connection.ends[1].station.slot];
        let to = &mut connection.ends[end];
        if !self.weather.reaches(a, b) || !to.held.is_empty() {
            to.held.push_back(carried);
            return;
        }
        let at = to.last.max(self.now + self.weather.latency(a, b));
        to.last = at;
        self.at(at, Event::Arrives { connection: number, end, carried });
    }

    fn arrive(&mut self, number: u64, end: usize, carried: Carried) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        let [a, b] = [connection.ends[0].station.slot, connection.ends[1].station.slot];
        let to = &mut connection.ends[end];
        if !self.weather.reaches(a, b) {
            to.held.push_back(carried);
            return;
        }
        let (station, line) = (to.station, to.line);
        if !to.open || self.process(station).is_none() {
            return;
        }
        match carried {
            Carried::Message(payload) => {
                self.act(station.slot, |cluster, now| cluster.received(line, &payload, now));
            }
            Carried::Closed => {
                self.connections.get_mut(number).unwrap().ends[end].open = false;
                self.nodes[station.slot].as_mut().unwrap().lines.remove(&line);
                self.sweep(number);
                self.act(station.slot, |cluster, now| cluster.closed(line, now));
            }
        }
    }

    /// Forgets a connection that is closed at both ends.
    fn sweep(&mut self, number: u64) {
        let over = |connection: &Connection| connection.ends.iter().all(|end| !end.open);
        if self.connections.get(number).is_some_and(over) {
            self.connections.remove(number);
        }
    }

    /// Calls a process's machine, does what it asks for and judges what came of it.
    pub(crate) fn act<R>(
        &mut self,
        slot: Slot,
        call: impl FnOnce(&mut Cluster, Duration) -> R,
    ) -> Option<R> {
        let process = self.nodes[slot].as_mut()?;
        let now = process.clock(self.now);
        let result = call(&mut process.cluster, now);
        while let Some(command) = self.nodes[slot].as_mut()?.cluster.next_command() {
            self.perform(slot, command);
        }
        let process = self.nodes[slot].as_mut()?;
        let due = process.cluster.next_due().map(|at| process.world_time(at).max(self.now));
        let due = due.map(|at| at.max(self.now + Duration::from_micros(1)));
        if let Some(at) =
            due.filter(|at| process.tick.is_none_or(|tick| *at < tick || tick <= self.now))
        {
            process.tick = Some(at);
            let station = process.station;
            self.at(at, Event::Tick(station));
        }
        Some(result)
    }

    fn perform(&mut self, slot: Slot, command: Command) {
        let process = self.nodes[slot].as_mut().unwrap();
        let station = process.station;
        match command {
            Command::Dial { line, address } => {
                let event = Event::Dial { from: station, line, address, tries: DIAL_TRIES };
                self.after(Duration::ZERO, event);
            }
            Command::Send { line, payload } => self.send(slot, line, payload),
            Command::Close { line } => {
                if let Some((connection, end)) = process.lines.remove(&line) {
                    let ends = &mut self.connections.get_mut(connection).unwrap().ends;
                    ends[end].open = false;
                    if ends[1 - end].open {
                        self.carry(connection, 1 - end, Carried::Closed);
                    } else {
                        self.sweep(connection);
                    }
                }
            }
            Command::Appeared { name, term } => {
                process.shown.insert(self.numbers[&name], term);
            }
            Command::Vanished { name } => process.vanished(self.numbers[&name]),
            Command::Changed { name } => process.changed(self.numbers.get(&name), &name),
            Command::Ordered(order) => process.ordered(&order),
            Command::Yield { name, .. } => {
                if self.planted != Planted::Stubborn {
                    process.publishers.remove(&self.numbers[&name]);
                }
            }
            Command::Feed { name, term, to, path, .. } => {
                self.feed(slot, self.numbers[&name], term, to, path);
            }
            Command::Repath { name, path } => self.repath(slot, self.numbers[&name], &path),
            Command::StopFeed { name, to } => self.stop_feed(slot, self.numbers[&name], to),
            Command::Adopt { name, from, term } => {
                self.adopt(slot, self.numbers[&name], from, term);
            }
            Command::Drop { name, from } => self.drop_link(slot, self.numbers[&name], from),
            Command::Met { .. } => {}
            Command::Note(note) => self.notes.push((slot, note)),
        }
    }

    fn send(&mut self, slot: Slot, line: Line, payload: Bytes) {
        let process = self.nodes[slot].as_ref().unwrap();
        let (connection, end) = *process.lines.get(&line).expect("only open lines are written to");
        assert!(payload.len() <= self.limits.cluster_message_bytes_max, "{} bytes", payload.len());
        self.carry(connection, 1 - end, Carried::Message(payload));
    }

    /// A publisher comes to a place; whether it was let in.
    pub(crate) fn publish(&mut self, slot: Slot, stream: Stream, conflict: Conflict) -> bool {
        let name = Arc::clone(&self.names[stream]);
        let granted = self.act(slot, |cluster, now| cluster.claim(&name, conflict, now));
        if granted.is_none_or(|granted| granted.is_err()) {
            return false;
        }
        let key_frame = Duration::from_millis(self.random.u64(..1_500));
        let process = self.nodes[slot].as_mut().unwrap();
        let station = process.station;
        match process.publishers.get_mut(&stream) {
            // The machine takes one that is back for live; so the same is done here.
            Some(publisher @ Publisher::Resting) => *publisher = Publisher::Live,
            Some(_) => {}
            None => {
                process.publishers.insert(stream, Publisher::Pending);
                self.after(key_frame, Event::KeyFrame(station, stream));
            }
        }
        true
    }

    /// A publisher leaves a place.
    pub(crate) fn unpublish(&mut self, slot: Slot, stream: Stream) {
        let grace = self.limits.stream_grace;
        let Some(process) = self.nodes[slot].as_mut() else { return };
        let station = process.station;
        match process.publishers.get_mut(&stream) {
            Some(Publisher::Pending) => drop(process.publishers.remove(&stream)),
            Some(publisher @ Publisher::Live) => {
                *publisher = Publisher::Resting;
                self.after(grace, Event::GraceOver(station, stream));
            }
            Some(Publisher::Resting) | None => return,
        }
        let name = Arc::clone(&self.names[stream]);
        self.act(slot, |cluster, now| cluster.resting(&name, now));
    }

    /// The first player comes to a place, or the last one leaves.
    pub(crate) fn play(&mut self, slot: Slot, stream: Stream, plays: bool) {
        let name = Arc::clone(&self.names[stream]);
        let Some(process) = self.nodes[slot].as_mut() else { return };
        if plays && process.players.insert(stream) {
            self.act(slot, |cluster, now| cluster.wanted(&name, now));
        } else if !plays && process.players.remove(&stream) {
            process.shown.remove(&stream);
            self.act(slot, |cluster, now| cluster.unwanted(&name, now));
        }
    }
}

/// After the first one, at intervals of a second.
const DIAL_TRIES: u32 = 3;
