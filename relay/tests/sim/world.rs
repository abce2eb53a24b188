//! The node with its clients, and the driver that moves them all through virtual time.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use relay::reactor::sim::{SimFaults, SimNet};
use relay::worker::labels::{CloseReason, RefuseReason};
use relay::worker::report::{Query, StreamKey, StreamShare};
use relay::worker::settings::Settings;

use super::line::Line;
use super::material::SharedLedger;
use super::node::{ANY_WORKER, FIRST_WORKER, Node, Trace, on, sum_where};
use super::player::Player;
use super::publisher::{Plan, Publisher};

/// Everything there is.
pub(crate) struct World {
    pub(crate) net: SimNet,
    pub(crate) node: Node,
    /// Further nodes of a cluster.
    pub(crate) others: Vec<Node>,
    pub(crate) ledger: SharedLedger,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) players: Vec<Player>,
    /// Connections whose owner has vanished without a word.
    pub(crate) graveyard: Vec<Line>,
    pub(crate) trace: Trace,
    pub(crate) random: fastrand::Rng,
}

/// Rounds of clients and workers at one instant, beyond which they go round in a circle.
const ROUNDS_MAX: u32 = 20_000;

impl World {
    /// A node without clients. One direction of a connection holds `capacity` bytes.
    pub(crate) fn new(seed: u64, settings: Settings, workers: usize, capacity: usize) -> Self {
        let net = SimNet::new(seed, SimFaults::default());
        net.set_capacity(capacity);
        let node = Node::new(&net, &Arc::new(settings), workers, seed);
        Self {
            net,
            node,
            others: Vec::new(),
            ledger: Rc::new(RefCell::default()),
            publishers: Vec::new(),
            players: Vec::new(),
            graveyard: Vec::new(),
            trace: Trace::default(),
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.net.now()
    }

    /// A publisher of stream `stream` that has not called yet; `worker`: where it calls.
    pub(crate) fn add_publisher(&mut self, stream: u8, worker: Option<u16>, plan: Plan) -> usize {
        let index = self.publishers.len();
        let seed = self.random.u64(..);
        let (ledger, trace) = (&self.ledger, &self.trace);
        let publisher = Publisher::new(index, stream, door(worker), plan, ledger, seed, trace);
        self.publishers.push(publisher);
        index
    }

    /// The same for a player.
    pub(crate) fn add_player(&mut self, stream: u8, worker: Option<u16>) -> usize {
        let index = self.players.len();
        let seed = self.random.u64(..);
        let (ledger, trace) = (&self.ledger, &self.trace);
        self.players.push(Player::new(index, stream, door(worker), ledger, seed, trace));
        index
    }

    /// A publisher that calls now.
    pub(crate) fn publish(&mut self, stream: u8, worker: Option<u16>, plan: Plan) -> usize {
        let index = self.add_publisher(stream, worker, plan);
        self.publishers[index].begin(&self.net);
        index
    }

    /// A player that calls now.
    pub(crate) fn play(&mut self, stream: u8, worker: Option<u16>) -> usize {
        let index = self.add_player(stream, worker);
        self.players[index].begin(&self.net);
        index
    }

    /// A publisher vanishes: its connection stays and says nothing more.
    pub(crate) fn vanish(&mut self, publisher: usize) {
        self.graveyard.extend(self.publishers[publisher].vanish());
    }

    /// Lets so much time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now() + time;
        self.run_to(end);
    }

    /// Lets time pass until then.
    pub(crate) fn run_to(&mut self, end: Duration) {
        self.until(end, |_| false);
    }

    /// Lets time pass until `reached`, which is looked at after every instant, or until `end`.
    /// Whether it was reached.
    pub(crate) fn until(
        &mut self,
        end: Duration,
        mut reached: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        loop {
            self.settle();
            if reached(self) {
                return true;
            }
            let now = self.now();
            if now >= end {
                return false;
            }
            let next = self.next_event().map_or(end, |next| next.clamp(now, end));
            self.net.advance_to(next);
        }
    }

    /// Waits for something that has to come about.
    pub(crate) fn expect(&mut self, what: &str, reached: impl FnMut(&mut Self) -> bool) {
        let end = self.now() + Duration::from_secs(60);
        assert!(self.until(end, reached), "it never came about that {what}\n{}", self.state());
    }

    /// What publishers and players are at, for complaints.
    fn state(&self) -> String {
        let mut text = format!("now {:?}", self.now());
        for (index, publisher) in self.publishers.iter().enumerate() {
            let last = self.ledger.borrow().last(publisher.stream);
            let codes = &publisher.codes[publisher.codes.len().saturating_sub(3)..];
            let live = publisher.is_live();
            text += &format!("\npublisher {index}: live {live}, newest {last:?}, {codes:?}");
        }
        for (index, player) in self.players.iter().enumerate() {
            let (at, jumps) = (player.viewer.position, player.viewer.jumps);
            let codes = &player.codes[player.codes.len().saturating_sub(3)..];
            text += &format!("\nplayer {index}: at {at:?}, {jumps} jumps, {codes:?}");
        }
        text
    }

    /// Everything that is possible at this instant.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for publisher in &mut self.publishers {
                moved |= publisher.act(&self.net);
            }
            for player in &mut self.players {
                moved |= player.act(&self.net);
            }
            moved |= self.node.turn();
            for node in &mut self.others {
                moved |= node.turn();
            }
            if !moved {
                return;
            }
        }
        panic!("no rest at {:?}", self.now());
    }

    /// When something next happens by itself.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        let clients = self.publishers.iter().filter_map(Publisher::next);
        let clients = clients.chain(self.players.iter().filter_map(Player::next));
        let others = self.others.iter().filter_map(Node::next_due);
        clients.chain(self.net.next_event_time()).chain(self.node.next_due()).chain(others).min()
    }

    /// The worker that is a stream's home; `None` when nobody ever published it.
    pub(crate) fn home(&mut self, stream: u8) -> Option<usize> {
        let shares = self.shares(stream).into_iter();
        shares
            .enumerate()
            .find(|(_, share)| share.as_ref().is_some_and(|s| s.home.is_some()))
            .map(|(core, _)| core)
    }

    /// Bytes sent of a stream, as all workers together tell it.
    pub(crate) fn bytes_out(&mut self, stream: u8) -> u64 {
        self.shares(stream).into_iter().flatten().map(|share| share.bytes_out).sum()
    }

    /// What each worker knows of a stream.
    fn shares(&mut self, stream: u8) -> Vec<Option<StreamShare>> {
        let key = StreamKey::new("live", &format!("s{stream}"));
        let workers = 0..self.node.stations.len();
        let ask = |core| {
            let key = key.clone();
            self.node.ask(core, move |reply| Query::Stream { key, reply })
        };
        let answers: Vec<_> = workers.map(ask).collect();
        self.settle();
        answers.into_iter().map(|answer| answer.take()).collect()
    }

    /// Waits until every publisher and every player is well under way.
    pub(crate) fn under_way(&mut self) {
        self.expect("all are under way", |world| {
            world.publishers.iter().all(Publisher::is_live)
                && world.players.iter().all(|player| player.viewer.position.is_some())
        });
    }

    /// Publishers fall silent; every player must then have everything that was published.
    pub(crate) fn catch_up(&mut self) {
        self.publishers.iter_mut().for_each(|publisher| publisher.silent = true);
        self.expect("every player has everything", |world| {
            world.players.iter().all(Player::is_up_to_date)
        });
        self.publishers.iter_mut().for_each(Publisher::speak);
    }

    /// Connections that the node closed for this reason.
    pub(crate) fn closed(&self, of: CloseReason) -> u64 {
        self.node.sum(|cells| sum_where(&cells.connections_closed, |(_, _, reason)| reason == of))
    }

    /// What the node turned away for this reason.
    pub(crate) fn refused(&self, reason: RefuseReason) -> u64 {
        self.node.sum(|cells| cells.refused.at(reason).get())
    }

    /// Everybody leaves in order; then nothing must be left of anybody.
    pub(crate) fn end(&mut self, grace: Duration) {
        self.publishers.iter_mut().for_each(Publisher::finish);
        self.graveyard.clear();
        self.run(grace);
        self.players.iter_mut().for_each(Player::leave);
        self.run(grace);
        self.ledger.borrow().check_tails();
        self.node.check_empty();
    }
}

pub(crate) fn door(worker: Option<u16>) -> SocketAddr {
    on(worker.map_or(ANY_WORKER, |worker| FIRST_WORKER + worker))
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
