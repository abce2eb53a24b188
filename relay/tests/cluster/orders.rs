//! Orders of operators: every node goes by all of them, and by none that was taken back, whoever
//! was there when they were given.

use std::collections::BTreeMap;
use std::time::Duration;

use relay::cluster::{Order, OrderId, OrderText};

use super::net::Slot;
use super::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// Tells a node of an order, or that it is taken back.
fn tell(world: &mut World, slot: Slot, id: OrderId, stands: bool) {
    let text = stands.then(|| OrderText("push live rtmp://h/a/key".into()));
    world.act(slot, |cluster, now| cluster.order(Order { id, text }, now));
    world.nodes[slot].as_mut().unwrap().orders.insert(id, stands);
}

/// Gives an order to a node.
fn give(world: &mut World, slot: Slot, number: u64) -> OrderId {
    let id = OrderId { number, node: world.nodes[slot].as_ref().unwrap().key };
    tell(world, slot, id, true);
    id
}

#[track_caller]
fn check(world: &World, expected: &[(OrderId, bool)]) {
    let expected: BTreeMap<_, _> = expected.iter().copied().collect();
    for process in world.running() {
        assert_eq!(process.orders, expected, "{:?}", process.key);
    }
}

#[test]
fn an_order_is_heard_of_everywhere_and_outlives_the_node_that_was_told() {
    let mut world = World::new(1, 5, 1, 2);
    (0..4).for_each(|slot| world.start(slot, true));
    world.relist();
    world.run(SECOND * 8);
    let first = give(&mut world, 0, 1);
    let second = give(&mut world, 1, 1);
    world.run(SECOND);
    check(&world, &[(first, true), (second, true)]);
    // Taken back by another node than that which was told.
    tell(&mut world, 3, first, false);
    world.run(SECOND);
    check(&world, &[(first, false), (second, true)]);
    world.kill(1, false);
    world.run(SECOND * 5);
    // A node that comes late hears of all of it.
    world.start(4, true);
    world.relist();
    world.run(SECOND * 8);
    check(&world, &[(first, false), (second, true)]);
    // Two sides that know nothing of each other agree when they meet.
    world.weather.split(2..5);
    world.run(SECOND * 5);
    let third = give(&mut world, 0, 2);
    tell(&mut world, 4, second, false);
    world.run(SECOND * 5);
    world.weather.clear();
    world.run(SECOND * 20);
    check(&world, &[(first, false), (second, false), (third, true)]);
}
