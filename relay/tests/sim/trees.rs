//! Trees of nodes: drains, deaths and silent links of a stream's origin, of a node in the middle
//! and of a leaf. Players of other nodes are never disconnected, miss nothing that still is to be
//! had, and see time go forward only.

use std::time::Duration;

use relay::limits::Limits;
use relay::worker::labels::{CloseReason, DrainRole, DrainWay};
use relay::worker::report::Query;

use super::cluster::{Rig, door, host, nodes};
use super::node::{Node, sum_where};
use super::world::{World, millis, secs};

/// What a node is for the stream: it comes from the origin by the middle to the leaf, and to one
/// beside the middle, which has room.
const ORIGIN: usize = 0;
const MIDDLE: usize = 1;
const BESIDE: usize = 2;
const LEAF: usize = 3;

/// A node that has nothing to do with it, for whoever has to go.
const OTHER: usize = 4;

/// Those with players.
const TREE: [usize; 4] = [ORIGIN, MIDDLE, BESIDE, LEAF];

fn node(world: &mut World, node: usize) -> &mut Node {
    match node.checked_sub(1) {
        None => &mut world.node,
        Some(other) => &mut world.others[other],
    }
}

/// A tree of four nodes and one that has no part in it, with players on each of the four.
struct Grown {
    rig: Rig,
    publisher: usize,
    /// Two players of each node; the second of each obeys a request to go elsewhere.
    players: [[usize; 2]; TREE.len()],
}

impl Grown {
    fn new(seed: u64, obeys: bool) -> Self {
        let mut rig = Rig::with_fanout(seed, 5, Limits::default(), 2);
        let publisher = rig.world.add_publisher(0, None, Default::default());
        let source = &mut rig.world.publishers[publisher];
        (source.door, source.obeys) = (door(ORIGIN, 0), obeys);
        source.begin(&rig.world.net);
        let mut players = [[0; 2]; TREE.len()];
        for (node, pair) in players.iter_mut().enumerate() {
            for (worker, player) in pair.iter_mut().enumerate() {
                *player = rig.world.add_player(0, None);
                let made = &mut rig.world.players[*player];
                made.door = door(node, u16::try_from(worker).unwrap());
                made.next_door = Some(door(OTHER, 0));
                made.again_after = Some(millis(50));
                (made.viewer.prompt, made.obeys) = (true, worker == 1);
                made.begin(&rig.world.net);
            }
            rig.world.run(secs(1));
        }
        rig.world.under_way();
        let fed = TREE.map(|node| feeds(&mut rig.world, node));
        assert_eq!(fed, [2, 1, 0, 0], "nodes that each feeds");
        Self { rig, publisher, players }
    }

    fn drain(&mut self, of: usize, window: Duration) {
        for station in &node(&mut self.rig.world, of).stations {
            station.handle.ask(Query::Drain { window }).unwrap();
        }
    }

    /// How often players of a node were disconnected, frames that they missed, and their longest
    /// silence.
    fn harm(&self, of: usize) -> (usize, usize, Duration) {
        let players = self.players[of].map(|player| &self.rig.world.players[player]);
        let ends = |code: &&String| !code.starts_with("NetStream.Play.") || code.contains("Un");
        let lost = players.iter().map(|player| player.codes.iter().filter(ends).count()).sum();
        let missed = players.iter().map(|player| player.viewer.missed).sum();
        (lost, missed, players.iter().map(|player| player.longest_gap).max().unwrap())
    }

    fn sum(&self, read: impl Fn(&relay::worker::cells::Cells) -> u64 + Copy) -> u64 {
        nodes(&self.rig.world).map(|node| node.sum(read)).sum()
    }
}

/// Streams that a node feeds.
fn feeds(world: &mut World, of: usize) -> u64 {
    use relay::worker::labels::LinkWay;
    node(world, of).sum(|cells| cells.link_streams.at(LinkWay::Out).get())
}

#[test]
fn a_drain_costs_viewers_of_other_nodes_nothing() {
    let window = secs(12);
    for seed in 0..2 {
        for drained in [ORIGIN, MIDDLE, LEAF] {
            let mut tree = Grown::new(seed, true);
            let begun = tree.rig.world.now();
            tree.drain(drained, window);
            tree.rig.world.expect("the node has ended", |world| {
                node(world, drained).stations.iter().all(|station| station.worker.has_ended())
            });
            let took = tree.rig.world.now() - begun;
            assert!(took < window, "node {drained} took {took:?}");
            tree.rig.world.run(secs(2));
            for other in TREE.into_iter().filter(|node| *node != drained) {
                let (lost, missed, gap) = tree.harm(other);
                assert_eq!(
                    (lost, missed),
                    (0, 0),
                    "seed {seed}, {drained} drains: players of {other}"
                );
                assert!(gap < millis(600), "seed {seed}, {drained} drains: {gap:?} on {other}");
            }
            let (_, _, gap) = tree.harm(drained);
            assert!(gap < secs(1), "seed {seed}, {drained} drains: {gap:?} for its own players");
            let [slow, obeys] = tree.players[drained].map(|at| &tree.rig.world.players[at]);
            assert_eq!((slow.asked + obeys.asked > 0, obeys.asked), (true, 1));
            assert!(slow.viewer.position.is_some() && obeys.viewer.position.is_some());
            let moved = |role, way| tree.sum(move |cells| cells.drained.at((role, way)).get());
            let publishers = u64::from(drained == ORIGIN);
            assert_eq!(moved(DrainRole::Publisher, DrainWay::Asked), publishers);
            assert_eq!(moved(DrainRole::Publisher, DrainWay::Forced), 0);
            let players =
                [DrainWay::Asked, DrainWay::Ended].map(|way| moved(DrainRole::Player, way));
            assert_eq!(players.iter().sum::<u64>(), 2, "players that were let go: {players:?}");
            if drained == ORIGIN {
                let ledger = tree.rig.world.ledger.borrow();
                assert!(
                    ledger.was_whole(0, 0),
                    "seed {seed}: no frame of the publisher is missing"
                );
            }
            assert!(tree.rig.world.publishers[tree.publisher].is_live());
            tree.rig.world.catch_up();
            replace(&mut tree, drained);
            tree.rig.end();
        }
    }
}

/// A process takes the place of one that has ended, so that the end finds all nodes at rest.
fn replace(tree: &mut Grown, of: usize) {
    let made = tree.rig.node(of);
    *node(&mut tree.rig.world, of) = made;
    tree.rig.tell_peers(5);
    tree.rig.world.run(secs(3));
}

#[test]
fn a_publisher_that_cannot_be_asked_is_ended_in_order_and_comes_back_elsewhere() {
    let mut tree = Grown::new(5, false);
    let publisher = &mut tree.rig.world.publishers[tree.publisher];
    publisher.again_after = Some(millis(300));
    tree.drain(ORIGIN, secs(10));
    tree.rig.world.run(millis(700));
    tree.rig.world.publishers[tree.publisher].door = door(OTHER, 1);
    tree.rig.world.expect("it publishes there", |world| {
        world.publishers[0].is_live() && world.publishers[0].tries == 2
    });
    tree.rig.world.run(secs(11));
    for other in [MIDDLE, BESIDE, LEAF] {
        let (lost, missed, gap) = tree.harm(other);
        assert_eq!((lost, missed), (0, 0), "players of {other}");
        assert!(gap < secs(2), "{gap:?} on {other}");
    }
    tree.rig.world.catch_up();
    replace(&mut tree, ORIGIN);
    tree.rig.end();
}

#[test]
fn when_a_node_dies_players_of_others_stay_and_have_frames_again_within_a_second() {
    for seed in 0..2 {
        for dies in [ORIGIN, MIDDLE, LEAF] {
            let mut tree = Grown::new(seed, false);
            node(&mut tree.rig.world, dies).crash();
            if dies == ORIGIN {
                let publisher = &mut tree.rig.world.publishers[tree.publisher];
                publisher.line = None;
                publisher.epoch = None;
                publisher.door = door(OTHER, 0);
                tree.rig.world.run(secs(3));
                let net = tree.rig.world.net.clone();
                tree.rig.world.publishers[tree.publisher].begin(&net);
            }
            tree.rig.world.run(secs(6));
            for other in TREE.into_iter().filter(|node| *node != dies) {
                let (lost, missed, gap) = tree.harm(other);
                assert_eq!((lost, missed), (0, 0), "seed {seed}, {dies} dies: players of {other}");
                let away = if dies == ORIGIN { secs(3) } else { Duration::ZERO };
                assert!(gap < away + secs(1), "seed {seed}, {dies} dies: {gap:?} on {other}");
            }
            tree.rig.world.catch_up();
            replace(&mut tree, dies);
            tree.rig.end();
        }
    }
}

#[test]
fn a_node_whose_feeder_falls_silent_goes_on_by_position_without_a_gap() {
    for seed in 0..2 {
        let mut tree = Grown::new(seed, false);
        for (from, to) in [(MIDDLE, LEAF), (LEAF, MIDDLE)] {
            tree.rig.world.net.set_cut(host(from), host(to), true);
        }
        tree.rig.world.run(secs(6));
        let (lost, missed, gap) = tree.harm(LEAF);
        assert_eq!((lost, missed), (0, 0), "seed {seed}");
        assert!(gap > millis(900) && gap < millis(2_500), "seed {seed}: {gap:?}");
        let fed = TREE.map(|of| feeds(&mut tree.rig.world, of));
        assert_eq!((fed[ORIGIN], fed[BESIDE]), (2, 1), "seed {seed}: {fed:?}");
        for (from, to) in [(MIDDLE, LEAF), (LEAF, MIDDLE)] {
            tree.rig.world.net.set_cut(host(from), host(to), false);
        }
        tree.rig.world.run(secs(5));
        tree.rig.world.catch_up();
        let closed = |reason| {
            tree.sum(move |cells| sum_where(&cells.connections_closed, |(_, _, why)| why == reason))
        };
        assert_eq!(closed(CloseReason::Fault), 0);
        tree.rig.end();
    }
}

#[test]
fn who_comes_while_a_node_drains_is_told_where_to_go() {
    let mut tree = Grown::new(3, true);
    let late: Vec<usize> = (0..6)
        .map(|number| {
            let player = tree.rig.world.add_player(0, None);
            let made = &mut tree.rig.world.players[player];
            (made.door, made.obeys) = (door(LEAF, number % 2), number < 2);
            made.begin(&tree.rig.world.net);
            player
        })
        .collect();
    let publisher = tree.rig.world.add_publisher(1, None, Default::default());
    let made = &mut tree.rig.world.publishers[publisher];
    (made.door, made.obeys) = (door(LEAF, 0), true);
    made.begin(&tree.rig.world.net);
    tree.drain(LEAF, secs(10));
    tree.rig.world.run(secs(3));
    for (number, player) in late.into_iter().enumerate() {
        let player = &tree.rig.world.players[player];
        let refused = u32::from(player.heard("NetConnection.Connect.Rejected"));
        assert_eq!(player.asked + refused, 1, "player {number}: {:?}", player.codes);
        assert_eq!(player.viewer.position.is_some(), number < 2, "who obeys plays elsewhere");
    }
    assert!(tree.rig.world.publishers[publisher].is_live(), "so does who publishes");
    let told = |role| tree.sum(move |cells| cells.drained.at((role, DrainWay::Redirected)).get());
    assert_eq!((told(DrainRole::Player), told(DrainRole::Publisher)), (6, 1));
    tree.rig.world.run(secs(10));
    replace(&mut tree, LEAF);
    tree.rig.end();
}

#[test]
fn a_stream_crosses_between_zones_once() {
    let zones = ["a", "b", "b", "b", "a"];
    let mut rig = Rig::in_zones(4, &zones, Limits::default(), 8);
    rig.publish(0, 0, 0);
    for node in [1, 2, 3, 4] {
        rig.play(0, node, 0);
        rig.world.run(secs(1));
    }
    rig.world.under_way();
    let fed: Vec<u64> = (0..5).map(|node| feeds(&mut rig.world, node)).collect();
    assert_eq!(fed, [2, 2, 0, 0, 0], "the origin feeds one of each zone");
    rig.world.catch_up();
    rig.end();
}

#[test]
fn a_node_feeds_no_more_than_it_may_send() {
    // What one node is sent is about 4 KB a second.
    let limits = Limits { egress_rate_max: 9_000, ..Limits::default() };
    let mut rig = Rig::with_fanout(5, 5, limits, 8);
    rig.publish(0, 0, 0);
    rig.world.run(secs(3));
    for node in [1, 2, 3, 4] {
        rig.play(0, node, 0);
        rig.world.run(secs(5));
    }
    rig.world.under_way();
    let fed: Vec<u64> = (0..5).map(|node| feeds(&mut rig.world, node)).collect();
    assert_eq!(fed.iter().sum::<u64>(), 4, "each is fed once");
    assert!(fed.iter().all(|feeds| *feeds <= 2), "{fed:?}");
    rig.world.catch_up();
    rig.end();
}

#[test]
fn a_node_feeds_no_more_than_it_may_send_when_all_come_at_once() {
    for seed in 0..4 {
        // Nobody knows yet what the stream takes, which is about 4 KB a second.
        let limits = Limits { egress_rate_max: 9_000, ..Limits::default() };
        let mut rig = Rig::with_fanout(seed, 5, limits, 8);
        let publisher = rig.publish(0, 0, 0);
        let live = |world: &mut World| world.publishers[publisher].is_live();
        rig.world.expect("it is live", live);
        for node in [1, 2, 3, 4] {
            rig.play(0, node, 0);
        }
        for _ in 0..8 {
            rig.world.run(millis(50));
            let fed: Vec<u64> = (0..5).map(|node| feeds(&mut rig.world, node)).collect();
            // Of what is guessed; where nothing is, one node feeds all four.
            assert!(fed.iter().all(|feeds| *feeds <= 3), "{fed:?}, seed {seed}");
        }
        rig.world.under_way();
        rig.world.catch_up();
        rig.end();
    }
}
