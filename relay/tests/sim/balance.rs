//! Connections that go from a full worker to an empty one.

use relay::worker::settings::Settings;

use super::publisher::Plan;
use super::world::{World, millis, secs};

/// 750 kB a second.
fn heavy() -> Plan {
    Plan { tick: millis(40), gop: 25, inter: (30_000, 0), key: (30_000, 0), ..Plan::default() }
}

fn moved(world: &World) -> [u64; 4] {
    let cells = |worker: usize| &world.node.stations[worker].cells;
    let given = |worker| cells(worker).connections_given.get();
    let taken = |worker| cells(worker).connections_taken.get();
    [given(0), given(1), taken(0), taken(1)]
}

/// Two workers, the first of which sends 30 MB a second to forty players.
fn full() -> World {
    let mut world = World::new(70, Settings::default(), 2, 65_536);
    world.publish(0, Some(0), heavy());
    for _ in 0..40 {
        world.play(0, Some(0));
    }
    world.under_way();
    world.players.iter_mut().for_each(|player| player.count_only());
    world.run(secs(2));
    world
}

#[test]
fn every_second_connection_to_a_full_worker_goes_to_an_empty_one() {
    let mut world = full();
    assert_eq!(moved(&world), [0; 4]);
    let late: Vec<_> = (0..10).map(|_| world.play(0, Some(0))).collect();
    world.expect("those who come late play", |world| {
        late.iter().all(|player| world.players[*player].viewer.position.is_some())
    });
    assert_eq!(moved(&world), [5, 0, 0, 5]);
    // Who calls the empty one stays there.
    world.play(0, Some(1));
    world.run(secs(1));
    assert_eq!(moved(&world), [5, 0, 0, 5]);
    assert_eq!(world.node.shared.connections(), 52);
    world.end(secs(20));
}

#[test]
fn publishers_move_too_and_a_call_that_ends_on_the_way_leaves_nothing() {
    let mut world = full();
    let publisher = world.publish(1, Some(0), Plan::default());
    world.run(secs(1));
    assert!(world.publishers[publisher].is_live());
    assert_eq!(world.home(1), Some(1));
    for _ in 0..20 {
        let player = world.play(0, Some(0));
        world.players[player].leave();
    }
    world.run(secs(1));
    assert_eq!(world.node.shared.connections(), 42);
    world.end(secs(20));
}

#[test]
fn workers_that_send_much_alike_keep_what_they_accept() {
    let mut world = full();
    for _ in 0..40 {
        world.play(0, Some(1));
    }
    world.run(secs(3));
    for _ in 0..10 {
        world.play(0, Some(0));
    }
    world.run(secs(1));
    assert_eq!(moved(&world), [0; 4]);
    world.end(secs(20));
}
