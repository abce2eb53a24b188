//! Several nodes in trouble: slow networks, rivals, no room, strangers, and all of it at random.

use std::net::{IpAddr, SocketAddr};

use relay::limits::Limits;
use relay::reactor::sim::SimFaults;
use relay::worker::labels::{LinkRefusal, LinkWay};

use super::cluster::{LINK_PORT, Rig, door, host, nodes};
use super::publisher::Plan;
use super::world::{millis, secs};

impl Rig {
    /// The sum of a number over all nodes.
    fn sum(&self, read: impl Fn(&relay::worker::cells::Cells) -> u64) -> u64 {
        nodes(&self.world).map(|node| node.sum(&read)).sum()
    }

    fn refused(&self, reason: LinkRefusal) -> u64 {
        self.sum(|cells| cells.link_refused.at(reason).get())
    }
}

#[test]
fn players_of_views_of_their_own_keep_no_node_from_being_fed() {
    let limits = Limits { views_per_stream_max: 0, ..Limits::default() };
    let mut rig = Rig::new(12, 2, limits);
    for stream in 0..3 {
        rig.publish(stream, 0, 0);
        rig.play(stream, 1, 1);
    }
    rig.world.under_way();
    rig.world.run(secs(5));
    assert_eq!(rig.links(LinkWay::Out), (1, 3));
    assert!(rig.world.players.iter().all(|player| player.viewer.jumps == 0));
    rig.world.catch_up();
    rig.end();
}

#[test]
fn a_stream_with_long_groups_of_pictures_is_not_let_go_over_a_slow_network() {
    let mut rig = Rig::new(13, 2, Limits::default());
    let plan = Plan { gop: 200, inter: (4_000, 100), new_headers: 0, ..Plan::default() };
    let index = rig.world.add_publisher(0, None, plan);
    rig.world.publishers[index].door = door(0, 0);
    rig.world.publishers[index].begin(&rig.world.net);
    rig.world.run(secs(15));
    // Whoever joins now is sent 15 s of it, a little at a time.
    let faults = SimFaults { partial_write: 0.9, delay_max: millis(300), ..SimFaults::default() };
    rig.world.net.set_faults(faults);
    let player = rig.play(0, 1, 1);
    rig.world.expect("the player has it", |world| {
        let last = world.ledger.borrow().last(0).unwrap();
        world.players[player].viewer.position.is_some_and(|at| at.seq + 30 > last.seq)
    });
    rig.world.run(secs(5));
    assert_eq!(rig.refused(LinkRefusal::Behind), 0);
    rig.world.net.set_faults(SimFaults::default());
    rig.world.catch_up();
    rig.end();
}

#[test]
fn whoever_comes_back_to_a_node_begins_at_the_live_edge() {
    let mut rig = Rig::new(14, 2, Limits::default());
    rig.publish(0, 0, 0);
    let player = rig.play(0, 1, 0);
    rig.world.under_way();
    rig.world.run(secs(2));
    rig.world.players[player].leave();
    // The feed lingers for 5 s, and the name stays for longer.
    rig.world.run(secs(13));
    let before = rig.world.ledger.borrow().last(0).unwrap().seq;
    rig.world.players[player].begin(&rig.world.net);
    rig.world.run(secs(1));
    let viewer = &rig.world.players[player].viewer;
    assert!(viewer.position.unwrap().seq > before, "{:?}", viewer.position);
    // 13 frames of the second, a group of pictures of now, and one of when the feed ended: what was
    // published in between is more than 60.
    assert!(viewer.seen.video < 40, "{:?}", viewer.seen);
    rig.world.catch_up();
    rig.end();
}

#[test]
fn two_encoders_on_two_nodes_settle_who_publishes() {
    for played in [false, true] {
        let mut rig = Rig::new(15, 2, Limits::default());
        for node in 0..2 {
            if played {
                rig.play(0, node, 1);
            }
            let publisher = rig.publish(0, node, 0);
            rig.world.publishers[publisher].again_after = Some(millis(200));
            rig.world.run(secs(2));
        }
        rig.world.run(secs(40));
        let before = rig.world.ledger.borrow().last(0).unwrap().epoch;
        assert!(before < 12, "{before} publishers in 40 s");
        rig.world.run(secs(20));
        let after = rig.world.ledger.borrow().last(0).unwrap().epoch;
        assert_eq!(before, after, "one of them holds the name");
        assert_eq!(rig.world.publishers.iter().filter(|one| one.is_live()).count(), 1);
        rig.world.publishers.iter_mut().for_each(|publisher| publisher.again_after = None);
        rig.end();
    }
}

#[test]
fn a_stream_for_which_there_is_no_room_is_asked_for_now_and_then() {
    let limits = Limits { streams_max: 1, ..Limits::default() };
    let mut rig = Rig::new(16, 2, limits);
    rig.publish(0, 0, 0);
    let other = rig.publish(1, 1, 0);
    rig.world.run(secs(1));
    let player = rig.play(0, 1, 1);
    rig.world.run(secs(18));
    assert!(rig.world.players[player].viewer.position.is_none());
    let refused = rig.refused(LinkRefusal::NoRoom);
    assert!((2..=6).contains(&refused), "{refused} times in 18 s");
    rig.world.publishers[other].finish();
    rig.world
        .expect("there is room for it", |world| world.players[player].viewer.position.is_some());
    rig.world.catch_up();
    rig.end();
}

#[test]
fn a_publisher_that_sends_nothing_lets_other_nodes_have_the_older_one() {
    let mut rig = Rig::new(17, 3, Limits::default());
    rig.publish(0, 0, 0);
    for node in 1..3 {
        rig.play(0, node, 1);
    }
    rig.world.under_way();
    rig.world.run(secs(2));
    let silent = rig.publish(0, 1, 0);
    rig.world.publishers[silent].silent = true;
    rig.world.run(secs(4));
    assert_eq!(rig.links(LinkWay::Out).1, 1, "what it has begun to publish is not read there");
    let at = |rig: &Rig, player: usize| rig.world.players[player].viewer.position.unwrap();
    let before = at(&rig, 1);
    rig.world.run(secs(2));
    assert!(at(&rig, 1).seq > before.seq + 20 && at(&rig, 1).epoch == 0);
    rig.world.publishers[silent].finish();
    rig.world.expect("it is read there again", |world| {
        let [one, other] = [0, 1].map(|player: usize| world.players[player].viewer.position);
        one.unwrap().epoch == 0 && one.unwrap().seq + 10 > other.unwrap().seq
    });
    rig.end();
}

#[test]
fn one_host_does_not_take_the_places_of_all_nodes() {
    let limits = Limits { cluster_strangers_per_address_max: 4, ..Limits::default() };
    let mut rig = Rig::new(18, 2, limits);
    let port = SocketAddr::new(host(0), LINK_PORT);
    let idle: Vec<_> =
        (0..20).map(|_| rig.world.net.connect_from(IpAddr::from([10, 0, 9, 9]), port)).collect();
    rig.world.run(secs(1));
    assert!(rig.refused(LinkRefusal::Strangers) >= 12, "4 for each of two workers");
    rig.publish(0, 0, 0);
    rig.play(0, 1, 0);
    rig.world.under_way();
    drop(idle);
    rig.world.catch_up();
    rig.end();
}
