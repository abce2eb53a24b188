//! Several nodes: streams published on one and played on others, over links on the same simulated
//! network, so that every message is judged as on one node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use relay::cluster::{Credentials, Identity, NodeKey, Secret};
use relay::limits::Limits;
use relay::worker::labels::{CloseReason, LinkWay};
use relay::worker::report::{NodeShare, Query};
use relay::worker::settings::Settings;

use super::node::{FIRST_WORKER, Node, sum_where};
use super::player::Player;
use super::publisher::Plan;
use super::world::{World, millis, secs};

/// The port for nodes.
pub(crate) const LINK_PORT: u16 = 11_935;

/// Workers of each node.
const WORKERS: usize = 2;

/// A world of `count` nodes that know each other's addresses.
pub(crate) struct Rig {
    pub(crate) world: World,
    settings: Arc<Settings>,
    seed: u64,
    fanout_max: usize,
    zones: Vec<&'static str>,
    started: u64,
}

pub(crate) fn host(node: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, 1 + u8::try_from(node).unwrap()])
}

/// Where worker `worker` of a node takes clients.
pub(crate) fn door(node: usize, worker: u16) -> SocketAddr {
    SocketAddr::new(host(node), FIRST_WORKER + worker)
}

impl Rig {
    pub(crate) fn new(seed: u64, count: usize, limits: Limits) -> Self {
        Self::with_fanout(seed, count, limits, 8)
    }

    /// The same where a node feeds at most so many with one stream.
    pub(crate) fn with_fanout(seed: u64, count: usize, limits: Limits, fanout_max: usize) -> Self {
        Self::in_zones(seed, &vec![""; count], limits, fanout_max)
    }

    /// The same with a zone for each node.
    pub(crate) fn in_zones(
        seed: u64,
        zones: &[&'static str],
        limits: Limits,
        fanout_max: usize,
    ) -> Self {
        let count = zones.len();
        let settings = Arc::new(Settings { limits, ..Settings::default() });
        let world = World::new(seed, Settings::clone(&settings), 0, 65_536);
        let zones = zones.to_vec();
        let mut rig = Self { world, settings, seed, fanout_max, zones, started: 0 };
        for node in 0..count {
            let made = rig.node(node);
            if node == 0 {
                rig.world.node = made;
            } else {
                rig.world.others.push(made);
            }
        }
        rig.tell_peers(count);
        rig.world.expect("all nodes know each other", |world| {
            nodes(world).all(|node| {
                usize::try_from(node.sum(|cells| cells.nodes.get())).unwrap() == count - 1
            })
        });
        rig
    }

    /// A new process on this host.
    pub(crate) fn node(&mut self, node: usize) -> Node {
        self.started += 1;
        let number = self.started;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(self.seed ^ number << 32).to_be_bytes());
        let identity = Identity {
            name: format!("node-{node}").into(),
            key: NodeKey(self.seed.wrapping_mul(1_000).wrapping_add(number)),
            started: number,
            zone: self.zones[node].into(),
            link_port: LINK_PORT,
        };
        let secret = Secret::new(b"a secret of the simulation").unwrap();
        let credentials = Arc::new(Credentials { identity, secret, versions: 1..=1 });
        let cluster = relay::cluster::Settings {
            credentials,
            limits: Arc::new(self.settings.limits.clone()),
            fanout_max: self.fanout_max,
            link_linger: secs(5),
            doors: [format!("rtmp://node-{node}.example").into()].into(),
            operators: None,
            seed,
        };
        let own = self.seed.wrapping_add(number << 16);
        Node::at(&self.world.net, host(node), &self.settings, WORKERS, own, Some(&cluster))
    }

    pub(crate) fn tell_peers(&self, count: usize) {
        let list: Vec<SocketAddr> =
            (0..count).map(|node| SocketAddr::new(host(node), LINK_PORT)).collect();
        for node in nodes(&self.world) {
            node.stations[0].handle.ask(Query::Peers(list.clone())).unwrap();
        }
    }

    pub(crate) fn publish(&mut self, stream: u8, node: usize, worker: u16) -> usize {
        let index = self.world.add_publisher(stream, None, Plan::default());
        self.world.publishers[index].door = door(node, worker);
        self.world.publishers[index].begin(&self.world.net);
        index
    }

    pub(crate) fn play(&mut self, stream: u8, node: usize, worker: u16) -> usize {
        let index = self.world.add_player(stream, None);
        self.world.players[index].door = door(node, worker);
        self.world.players[index].begin(&self.world.net);
        index
    }

    /// Links and streams on them, over all nodes.
    pub(crate) fn links(&self, way: LinkWay) -> (u64, u64) {
        let sum = |read: fn(&relay::worker::cells::Cells, LinkWay) -> u64| {
            nodes(&self.world).map(|node| node.sum(|cells| read(cells, way))).sum()
        };
        (
            sum(|cells, way| cells.links.at(way).get()),
            sum(|cells, way| cells.link_streams.at(way).get()),
        )
    }

    /// Everybody leaves; then no stream and no link is left.
    pub(crate) fn end(mut self) {
        self.world.publishers.iter_mut().for_each(|publisher| publisher.finish());
        self.world.run(secs(20));
        self.world.players.iter_mut().for_each(Player::leave);
        self.world.run(secs(50));
        self.world.ledger.borrow().check_tails();
        for node in nodes(&self.world) {
            for (core, station) in node.stations.iter().enumerate() {
                assert!(station.worker.is_at_rest(), "worker {core} is not at rest");
                assert_eq!(station.worker.hub().held_bytes().home, 0, "worker {core}");
            }
        }
        for way in [LinkWay::In, LinkWay::Out] {
            assert_eq!(self.links(way), (0, 0), "{way:?}");
        }
    }
}

pub(crate) fn nodes(world: &World) -> impl Iterator<Item = &Node> {
    std::iter::once(&world.node).chain(&world.others)
}

#[test]
fn nodes_find_each_other_and_say_who_they_are() {
    let mut rig = Rig::new(1, 3, Limits::default());
    rig.world.run(secs(5));
    let answer = rig.world.others[0].ask(0, |reply| Query::Nodes { reply });
    rig.world.settle();
    let mut known: Vec<NodeShare> = answer.take();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = known.iter().map(|node| (node.name.as_str(), node.connected)).collect();
    assert_eq!(names, [("node-0", true), ("node-2", true)]);
    let (offset, error) = known[0].clock_micros.unwrap();
    assert!(offset.abs() <= error, "clocks are the same: {offset} +- {error}");
    assert_eq!(rig.links(LinkWay::Control).0, 6, "one connection for each pair, at both ends");
    rig.end();
}

#[test]
fn a_stream_is_played_on_every_node_and_worker() {
    for seed in 0..3 {
        let mut rig = Rig::new(seed, 3, Limits::default());
        rig.publish(0, 0, 1);
        for node in 0..3 {
            for worker in [0, 1] {
                rig.play(0, node, worker);
            }
        }
        rig.world.under_way();
        rig.world.run(secs(5));
        assert_eq!(rig.links(LinkWay::Out), (2, 2), "one link to each other node");
        assert_eq!(rig.links(LinkWay::In), (2, 2));
        rig.world.catch_up();
        let nodes: Vec<&Node> = nodes(&rig.world).collect();
        let aged = |node: &Node| node.sum(|cells| cells.origin_age.read().count());
        assert_eq!(aged(nodes[0]), 0, "it has the stream from its publisher");
        assert!(aged(nodes[1]) >= 3 && aged(nodes[2]) >= 3);
        rig.end();
    }
}

#[test]
fn a_player_that_waits_gets_the_stream_when_it_is_published_elsewhere() {
    let mut rig = Rig::new(4, 2, Limits::default());
    let player = rig.play(0, 1, 0);
    rig.world.run(secs(3));
    assert!(rig.world.players[player].viewer.position.is_none());
    rig.publish(0, 0, 0);
    let asked = rig.world.now();
    rig.world.under_way();
    let took = rig.world.now() - asked;
    assert!(took < millis(1_000), "{took:?}");
    rig.world.catch_up();
    rig.end();
}

#[test]
fn a_cold_node_gets_one_link_and_one_group_of_pictures_for_many_players() {
    let mut rig = Rig::new(5, 2, Limits::default());
    rig.publish(0, 0, 0);
    rig.world.run(secs(3));
    for player in 0..400 {
        rig.play(0, 1, player % 2);
    }
    let begun = rig.world.now();
    rig.world.under_way();
    let took = rig.world.now() - begun;
    assert!(took < millis(250), "{took:?}");
    rig.world.run(secs(2));
    assert_eq!(rig.links(LinkWay::Out), (1, 1));
    let crossed = rig.world.others[0]
        .sum(|cells| sum_where(&cells.link_bytes, |(way, _)| way == LinkWay::In));
    let taken = rig.world.node.sum(|cells| {
        sum_where(&cells.ingest_bytes, |role| role == relay::worker::labels::Role::Publisher)
    });
    assert!(crossed < taken * 2, "{crossed} bytes crossed of {taken}");
    rig.world.catch_up();
    rig.end();
}

#[test]
fn streams_of_one_node_share_a_link_and_linger_on_it() {
    let mut rig = Rig::new(6, 2, Limits::default());
    for stream in 0..6 {
        rig.publish(stream, 0, 0);
        rig.play(stream, 1, 1);
    }
    rig.world.under_way();
    rig.world.run(secs(2));
    assert_eq!(rig.links(LinkWay::Out), (1, 6));
    rig.world.catch_up();
    for player in 0..3 {
        rig.world.players[player].leave();
    }
    rig.world.run(secs(4));
    assert_eq!(rig.links(LinkWay::Out), (1, 6), "they linger");
    rig.world.run(secs(3));
    assert_eq!(rig.links(LinkWay::Out), (1, 3));
    rig.world.players.iter_mut().for_each(Player::leave);
    rig.world.run(secs(7));
    assert_eq!(rig.links(LinkWay::Out).1, 0);
    rig.world.run(secs(6));
    assert_eq!(rig.links(LinkWay::Out), (0, 0), "so does the link");
    rig.end();
}

#[test]
fn a_publisher_that_comes_back_on_another_node_takes_its_stream_over() {
    for (seed, first, second, worker) in [(7, 0, 1, 0), (8, 1, 0, 1), (9, 1, 2, 1)] {
        let mut rig = Rig::new(seed, 3, Limits::default());
        rig.publish(0, first, worker);
        for node in 0..3 {
            for worker in [0, 1] {
                rig.play(0, node, worker);
            }
        }
        rig.world.under_way();
        rig.world.run(secs(3));
        rig.publish(0, second, 0);
        rig.world.expect("everybody has the second one", |world| {
            let on_second = |player: &Player| {
                player.viewer.position.is_some_and(|position| position.epoch == 1)
            };
            world.players.iter().all(on_second)
        });
        rig.world.run(secs(2));
        assert!(rig.world.publishers[0].heard("NetStream.Publish.BadName"), "it was told");
        let ended: u64 = nodes(&rig.world)
            .map(|node| {
                node.sum(|cells| {
                    sum_where(&cells.connections_closed, |(_, _, reason)| {
                        reason == CloseReason::Takeover
                    })
                })
            })
            .sum();
        assert_eq!(ended, 1, "from {first} to {second}");
        assert_eq!(rig.links(LinkWay::Out).1, 2, "one source, and two nodes that are fed");
        rig.world.catch_up();
        rig.end();
    }
}

#[test]
fn a_node_that_is_cut_off_comes_back() {
    let mut rig = Rig::new(10, 2, Limits::default());
    rig.publish(0, 0, 0);
    rig.play(0, 0, 1);
    rig.play(0, 1, 1);
    rig.world.under_way();
    rig.world.run(secs(3));
    for (from, to) in [(0, 1), (1, 0)] {
        rig.world.net.set_cut(host(from), host(to), true);
    }
    rig.world.run(secs(8));
    let at = |rig: &Rig, player: usize| rig.world.players[player].viewer.position.unwrap().seq;
    let behind = at(&rig, 0) - at(&rig, 1);
    assert!(behind > 50, "{behind} messages");
    for (from, to) in [(0, 1), (1, 0)] {
        rig.world.net.set_cut(host(from), host(to), false);
    }
    let healed = rig.world.now();
    rig.world.expect("the player is up to date again", |world| {
        let [here, there] = [0, 1].map(|player: usize| world.players[player].viewer.position);
        there.unwrap().seq + 10 >= here.unwrap().seq
    });
    let took = rig.world.now() - healed;
    assert!(took < secs(8), "{took:?}");
    rig.world.catch_up();
    rig.end();
}

#[test]
fn a_node_that_dies_takes_its_streams_with_it_and_comes_back_as_another_one() {
    let mut rig = Rig::new(11, 3, Limits::default());
    rig.publish(0, 1, 0);
    let player = rig.play(0, 2, 0);
    rig.world.under_way();
    rig.world.run(secs(2));
    rig.world.others[0].crash();
    rig.world.publishers[0].line = None;
    rig.world.run(secs(2));
    rig.world.others[0] = rig.node(1);
    rig.tell_peers(3);
    let again = rig.publish(0, 1, 1);
    rig.world.expect("the player has the second one", |world| {
        let position = world.players[player].viewer.position;
        position.is_some_and(|position| position.epoch == 1)
    });
    assert!(rig.world.publishers[again].is_live());
    rig.world.run(secs(2));
    rig.world.catch_up();
    rig.end();
}

#[test]
fn a_publisher_is_watched_by_players_of_other_nodes() {
    let limits = Limits { publisher_unwatched_max: secs(10), ..Limits::default() };
    let mut rig = Rig::new(12, 2, limits);
    let publishers = [rig.publish(0, 0, 0), rig.publish(1, 0, 1)];
    let player = rig.play(0, 1, 1);
    rig.world.run(secs(30));
    let is_live = |rig: &Rig| publishers.map(|index| rig.world.publishers[index].is_live());
    assert_eq!(is_live(&rig), [true, false], "the other one is watched nowhere");
    rig.world.players[player].leave();
    rig.world.run(secs(9));
    assert_eq!(is_live(&rig), [true, false]);
    // What lingers on its way to the other node counts as watched.
    rig.world.run(secs(8));
    assert_eq!(is_live(&rig), [false, false]);
    rig.end();
}
