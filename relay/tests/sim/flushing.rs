//! Flush levels of whole workers: what one asks for is heard by the others, and nobody is woken in
//! vain.

use std::time::Duration;

use relay::worker::settings::{AppSettings, Settings};

use super::publisher::Plan;
use super::world::{World, millis, secs};

/// Four hundred messages a second, two at a time.
fn busy_stream() -> Plan {
    Plan { tick: millis(5), gop: 200, inter: (300, 100), ..Plan::default() }
}

fn level(world: &World, worker: usize) -> Duration {
    Duration::from_nanos(world.node.stations[worker].cells.flush_level_ns.get())
}

/// Sends a second of a worker.
fn sends(world: &mut World, worker: usize) -> u64 {
    let read = |world: &World| world.node.stations[worker].cells.sends.get();
    let before = read(world);
    world.run(secs(4));
    (read(world) - before) / 4
}

#[test]
fn a_busy_reader_is_sent_more_at_a_time_and_others_are_not() {
    let mut world = World::new(60, Settings::default(), 3, 65_536);
    world.publish(0, Some(0), busy_stream());
    world.publish(1, Some(0), busy_stream());
    for _ in 0..40 {
        world.play(0, Some(1));
    }
    world.play(1, Some(2));
    world.under_way();
    world.run(secs(1));
    let levels = |world: &World| [0, 1, 2].map(|worker| level(world, worker));
    assert_eq!(levels(&world), [Duration::ZERO; 3]);
    let per_player = sends(&mut world, 1) / 40;
    assert!((150..=210).contains(&per_player), "{per_player} sends a second");

    world.node.stations[1].dearer = 100;
    world.run(secs(5));
    assert_eq!(levels(&world), [Duration::ZERO, millis(50), Duration::ZERO]);
    let per_player = sends(&mut world, 1) / 40;
    assert!((16..=22).contains(&per_player), "{per_player} sends a second");
    let other = sends(&mut world, 2);
    assert!((150..=210).contains(&other), "a stream that the busy one does not read: {other}");

    // The same load goes on for a minute: so does the level.
    for _ in 0..60 {
        world.run(secs(1));
        assert_eq!(levels(&world), [Duration::ZERO, millis(50), Duration::ZERO]);
    }
    for player in 2..40 {
        world.players[player].leave();
    }
    world.run(secs(4));
    assert_eq!(level(&world, 1), millis(50), "it waits before it comes down");
    world.run(secs(20));
    assert_eq!(level(&world, 1), Duration::ZERO);
    world.players.drain(2..40);
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_stream_that_moves_home_keeps_its_level() {
    let mut world = World::new(61, Settings::default(), 3, 65_536);
    let first = world.publish(0, Some(0), busy_stream());
    for _ in 0..40 {
        world.play(0, Some(1));
    }
    world.under_way();
    world.node.stations[1].dearer = 100;
    world.run(secs(5));
    assert_eq!(level(&world, 1), millis(50));
    world.publishers[first].finish();
    world.publish(0, Some(2), busy_stream());
    world.run(secs(2));
    assert_eq!(world.home(0), Some(2));
    let per_player = sends(&mut world, 1) / 40;
    assert!((16..=22).contains(&per_player), "{per_player} sends a second");
    world.end(secs(20));
}

#[test]
fn an_application_may_fix_its_level() {
    let app = AppSettings { flush: Some(millis(20)), ..AppSettings::default() };
    let settings = Settings { other_apps: app, ..Settings::default() };
    let mut world = World::new(62, settings, 2, 65_536);
    world.publish(0, Some(0), busy_stream());
    for _ in 0..40 {
        world.play(0, Some(1));
    }
    world.under_way();
    for dearer in [0, 100] {
        world.node.stations[1].dearer = dearer;
        world.run(secs(5));
        let per_player = sends(&mut world, 1) / 40;
        assert!((36..=50).contains(&per_player), "{per_player} sends a second");
    }
    assert_eq!(level(&world, 1), Duration::ZERO, "it would help nothing");
    world.end(secs(20));
}

#[test]
fn who_reads_a_silent_stream_sleeps_and_is_woken_by_what_comes() {
    let mut world = World::new(63, Settings::default(), 2, 65_536);
    world.publish(0, Some(0), Plan::default());
    let player = world.play(0, Some(1));
    world.under_way();
    let turns = |world: &mut World| {
        let before = world.node.stations[1].cells.turns.get();
        world.run(secs(5));
        world.node.stations[1].cells.turns.get() - before
    };
    let busy = turns(&mut world);
    assert!(busy > 500, "while it is fed it looks every 5 ms: {busy} turns in 5 s");
    world.publishers[0].silent = true;
    world.run(secs(1));
    let idle = turns(&mut world);
    assert!(idle < 80, "{idle} turns in 5 s");
    world.publishers[0].speak();
    let before = world.players[player].bytes;
    world.run(millis(1));
    assert!(world.players[player].bytes > before, "it was woken");
    world.end(secs(20));
}
