//! Zero copy, proved on the real workers: what a message costs does not depend on how many play it.
//!
//! - Every slice that leaves for a player lies within a segment of the log, or is a rendered
//!   prelude, of which there is one per key frame and worker, or a reply before the media. Another
//!   worker's log lies at the same addresses.
//! - Allocations per message are the same for 10 players and for 1,000, but for a list of slices
//!   where several segments leave in one send.
//! - A byte that comes in is copied at most twice (when its message is assembled, and behind other
//!   small messages into a segment), while it goes out a thousand times.

#![allow(clippy::unwrap_used, clippy::print_stdout)]
// The simulation's own scripts use what is not used here.
#![allow(dead_code)]

#[path = "../sim/line.rs"]
mod line;
#[path = "../sim/material.rs"]
mod material;
#[path = "../sim/node.rs"]
mod node;
#[path = "../sim/player.rs"]
mod player;
#[path = "../sim/publisher.rs"]
mod publisher;
#[path = "../sim/viewer.rs"]
mod viewer;
#[path = "../sim/world.rs"]
mod world;

mod sent;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use relay::wire::data::SET_DATA_FRAME;
use relay::worker::labels::{MessageKind, Role};
use relay::worker::settings::Settings;

use self::publisher::Plan;
use self::sent::SentSlices;
use self::world::{World, millis, secs};

/// Video of 2 Mbit/s and audio: messages that are copied into a segment, and messages that are a
/// segment of their own.
fn plan() -> Plan {
    Plan {
        tick: millis(40),
        gop: 50,
        inter: (4_000, 8_000),
        key: (30_000, 25_000),
        audio: (200, 200),
        new_headers: 0,
        ..Plan::default()
    }
}

/// The same with messages longer than a batch, too.
fn large() -> Plan {
    Plan { key: (70_000, 20_000), ..plan() }
}

/// The same with new headers before every second key frame, which leave together with it.
fn renewed() -> Plan {
    Plan { new_headers: 2, ..large() }
}

/// A stream that `players` play, all of them at the head and only counting.
fn steady(players: usize, plan: Plan) -> World {
    let mut world = World::new(1, Settings::default(), 1, 65_536);
    world.publish(0, None, plan);
    world.run(secs(3));
    for _ in 0..players {
        world.play(0, None);
    }
    world.under_way();
    world.players.iter_mut().for_each(player::Player::count_only);
    world.run(secs(5));
    world
}

/// What came about while a stream was played for a time.
#[derive(Debug, Default)]
struct Cost {
    messages: u64,
    metadata: u64,
    ingress: u64,
    egress: u64,
    /// Bytes that the players counted.
    arrived: u64,
    /// Bytes that the hubs copied, and bytes that the sessions copied to put messages together.
    hub: u64,
    assembled: u64,
    allocations: AllocationInfo,
}

impl Cost {
    /// Plays for so long, from quiet to quiet.
    fn of(world: &mut World, time: Duration) -> Self {
        world.publishers[0].silent = true;
        world.run(millis(200));
        let before = Self::so_far(world);
        world.publishers[0].speak();
        let allocations = watched(world, time);
        world.publishers[0].silent = true;
        world.run(millis(200));
        let after = Self::so_far(world);
        world.publishers[0].speak();
        Self {
            messages: after.messages - before.messages,
            metadata: after.metadata - before.metadata,
            arrived: after.arrived - before.arrived,
            ingress: after.ingress - before.ingress,
            egress: after.egress - before.egress,
            hub: after.hub - before.hub,
            assembled: after.assembled - before.assembled,
            allocations,
        }
    }

    fn so_far(world: &World) -> Self {
        let sum = |read: &dyn Fn(&relay::worker::cells::Cells) -> u64| world.node.sum(read);
        let stations = world.node.stations.iter();
        let ledger = world.ledger.borrow();
        Self {
            messages: MessageKind::ALL
                .iter()
                .map(|kind| sum(&|cells| cells.ingest_messages.at(*kind).get()))
                .sum(),
            metadata: u64::try_from(ledger.count(material::Kind::Metadata)).unwrap(),
            arrived: world.players.iter().map(player::Player::counted).sum(),
            ingress: sum(&|cells| cells.ingest_bytes.at(Role::Publisher).get()),
            egress: sum(&|cells| cells.egress_bytes.at(Role::Player).get()),
            hub: stations.map(|station| station.worker.hub().copied_bytes()).sum(),
            assembled: sum(&|cells| cells.assembled_bytes.get()),
            allocations: AllocationInfo::default(),
        }
    }
}

/// Lets time pass and counts the allocations of the workers, their reactors included.
fn watched(world: &mut World, time: Duration) -> AllocationInfo {
    let end = world.now() + time;
    let mut allocations = AllocationInfo::default();
    loop {
        let mut moved = true;
        while moved {
            moved = world.publishers[0].act(&world.net);
            allocations += measure(|| moved |= world.node.turn());
        }
        if world.now() >= end {
            return allocations;
        }
        let next = world.next_event().map_or(end, |next| next.min(end));
        world.net.advance_to(next);
    }
}

#[test]
fn allocations_do_not_depend_on_the_number_of_players() {
    for plan in [plan(), large(), renewed()] {
        let [few, many] =
            [10, 1_000].map(|players| Cost::of(&mut steady(players, plan.clone()), secs(8)));
        let counts = [&few, &many].map(|cost| cost.allocations.count_total);
        println!("{} messages: {counts:?} allocations with 10 and 1,000 players", few.messages);
        assert_eq!(few.messages, many.messages);
        // Two segments that leave in one send leave as a list of slices; everything else for
        // nothing.
        let lists = 990 * many.metadata;
        let growth = few.messages / 20;
        assert!(counts[1] <= counts[0] + lists + growth, "{few:#?} {many:#?}");
    }
}

#[test]
fn a_byte_is_copied_at_most_twice_and_sent_a_thousand_times() {
    for plan in [plan(), large(), renewed()] {
        let cost = Cost::of(&mut steady(1_000, plan), secs(8));
        println!("{cost:#?}");
        assert!(cost.messages > 300);
        // Metadata comes in behind a name that does not go out.
        let names = cost.metadata * u64::try_from(SET_DATA_FRAME.len()).unwrap();
        assert_eq!(cost.egress, 1_000 * (cost.ingress - names), "everybody is sent all of it");
        assert_eq!(cost.arrived, cost.egress, "and it arrives");
        assert!(cost.hub + cost.assembled <= 2 * cost.ingress);
        // Once when they are put together, data a second time, and no buffer has to grow.
        assert!(cost.assembled > cost.ingress * 9 / 10, "the sessions count what they copy");
        assert!(cost.assembled <= cost.ingress + 2 * 1_024 * cost.metadata);
    }
}

#[test]
fn everything_sent_lies_in_the_log() {
    let mut world = World::new(2, Settings::default(), 2, 65_536);
    let mut sent = SentSlices::watch(&world.net);
    world.publish(0, Some(0), renewed());
    let mut joining = 0..1_000_u16;
    let end = secs(16);
    while world.now() < end {
        // They join at all points of several groups of pictures, on both workers.
        let calls = if world.now() >= secs(3) { 1 } else { 0 };
        for player in joining.by_ref().take(calls) {
            world.play(0, Some(player % 2));
        }
        let next = world.now() + millis(10);
        world.until(next, |world| {
            sent.check(&world.node);
            false
        });
        for player in &mut world.players {
            if player.viewer.seen.keys > 1 && player.pace == player::Pace::Prompt {
                player.count_only();
            }
        }
    }
    assert!(joining.is_empty());
    let keys = world.ledger.borrow().count(material::Kind::Key);
    println!("{sent:#?}");
    assert!(sent.preludes >= 1_000, "every player is told the headers");
    assert!(sent.prelude_places.len() <= 2 * keys, "once rendered per key frame and worker");
    assert!(sent.log_bytes > 1_000 * 1_000_000);
    assert!(sent.reply_bytes < 1_000 * 6_000, "replies are the handshake and little more");
}
