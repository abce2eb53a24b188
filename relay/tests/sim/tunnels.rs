//! Players inside HTTP: they see what others see, over whatever connections, and leave nothing
//! behind.

use relay::limits::Limits;
use relay::reactor::sim::SimFaults;
use relay::worker::settings::{Exempt, Settings};

use super::publisher::Plan;
use super::world::{World, millis, secs};

fn settings() -> Settings {
    let limits = Limits {
        stream_grace: secs(2),
        unsubscribe_linger: millis(500),
        tunnel_idle_timeout: secs(3),
        connections_per_address_max: 10_000,
        handshakes_per_address_max: 1_000_000,
        ..Limits::default()
    };
    Settings { limits, exempt: Exempt::Nobody, ..Settings::default() }
}

/// A publisher, plain players, and as many inside HTTP, on any worker.
fn rig(seed: u64, workers: usize, capacity: usize) -> World {
    let mut world = World::new(seed, settings(), workers, capacity);
    let publisher = world.publish(0, Some(0), Plan::default());
    world.publishers[publisher].again_after = Some(millis(300));
    for number in 0..8 {
        let player = world.add_player(0, None);
        world.players[player].tunnelled = number % 2 == 0;
        world.players[player].splits = number % 4 == 2;
        world.players[player].again_after = Some(millis(300));
        world.players[player].begin(&world.net);
    }
    world
}

fn sessions(world: &World) -> u64 {
    world.node.sum(|cells| cells.tunnels.get())
}

#[test]
fn tunnelled_players_see_what_others_see() {
    for seed in 0..20 {
        let mut world = rig(seed, 1 + usize::try_from(seed % 3).unwrap(), 16_000);
        world.under_way();
        assert_eq!(sessions(&world), 4, "seed {seed}");
        world.run(secs(3));
        world.catch_up();
        let (polls, empty) = (
            world.node.sum(|cells| cells.tunnel_polls.get()),
            world.node.sum(|cells| cells.tunnel_empty_polls.get()),
        );
        assert!(polls > 4 * 20 && polls < 4 * 60 * 8, "seed {seed}: {polls} polls");
        assert!(empty < polls, "seed {seed}: {empty} of {polls} polls were empty");
        world.end(secs(8));
        assert_eq!(sessions(&world), 0, "seed {seed}");
    }
}

#[test]
fn tunnelled_players_outlive_their_connections() {
    let (mut moves, mut stale) = (0, 0);
    for seed in 0..40 {
        let mut world = rig(seed, 3, 4_000);
        world.net.set_faults(SimFaults {
            partial_read: 0.2,
            partial_write: 0.2,
            delay_max: millis([0, 5, 60][usize::try_from(seed % 3).unwrap()]),
            reset: 0.004,
            connect_fail: 0.0,
        });
        world.run(secs(5));
        world.net.set_faults(SimFaults::default());
        world.run(secs(1));
        world.under_way();
        world.run(secs(2));
        world.catch_up();
        moves += world.node.sum(|cells| cells.tunnel_moves.get());
        stale += world.node.sum(|cells| cells.refused.total());
        world.end(secs(8));
        assert_eq!(sessions(&world), 0, "seed {seed}");
    }
    assert!(moves > 20, "{moves} connections came to another core than their session's");
    assert!(stale < 400, "{stale} refusals");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = rig(seed, 3, 4_000);
        world.net.set_faults(SimFaults { reset: 0.004, ..SimFaults::default() });
        world.run(secs(4));
        world.trace.value()
    };
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}
