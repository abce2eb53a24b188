//! Many seeds of whole nodes of a cluster: wires that are cut and slow, nodes that die or drain and
//! come back, publishers that come back on another node, players that come anywhere at any time.
//! After every instant each player's bytes are judged; then all becomes quiet, and everybody must
//! have everything, from one source; then all leave, and nothing must be left.

use std::time::Duration;

use relay::limits::Limits;
use relay::reactor::sim::SimFaults;
use relay::worker::labels::LinkWay;
use relay::worker::report::Query;

use super::cluster::{Rig, door, host};
use super::player::{Player, node_of};
use super::world::{World, millis, secs};

/// Streams, with a publisher each.
const STREAMS: u8 = 2;

/// Players, over all streams and nodes.
const PLAYERS: usize = 12;

/// The time that a node has to drain.
const DRAIN: Duration = secs(2);

/// When the trouble is over.
const TROUBLE: Duration = secs(10);

/// Seeds of every run of the tests.
const SEEDS: u64 = 60;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Cut(usize, usize, bool),
    Crash(usize),
    Drain(usize),
    Restart(usize),
    /// A stream's publisher vanishes without a word, and another one comes on this node.
    Move(u8, usize),
    Play(u8, usize, u16),
    /// A player goes and comes again.
    Return(usize),
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed ^ 0xc1_05);
    let count = random.usize(2..=5);
    let limits = Limits { stream_grace: secs(20), ..Limits::default() };
    // As few as one, so that most nodes are fed by others than the origin.
    let fanout_max = random.usize(1..=3);
    let mut rig = Rig::with_fanout(seed, count, limits, fanout_max);
    // Only nodes without a publisher die.
    let homes: Vec<usize> = (0..usize::from(STREAMS)).map(|_| random.usize(..count)).collect();
    let deeds = script(&mut random, count, &homes);
    for (stream, home) in (0..STREAMS).zip(&homes) {
        let publisher = rig.publish(stream, *home, random.u16(..2));
        rig.world.publishers[publisher].splits = random.bool();
    }
    rig.world.net.set_faults(SimFaults {
        partial_read: random.f64() * 0.3,
        partial_write: random.f64() * 0.3,
        delay_max: millis(random.u64(0..20)),
        ..SimFaults::default()
    });
    let mut players = Vec::new();
    println!("seed {seed}: {count} nodes that feed {fanout_max} each, publishers on {homes:?}");
    for (at, deed) in deeds {
        println!("  {at:?} {deed:?}");
        rig.world.run_to(at);
        perform(&mut rig, deed, count, &mut players, &mut random);
    }
    rig.world.run_to(TROUBLE);
    rig.world.net.set_faults(SimFaults::default());
    for stream in 0..STREAMS {
        let live = rig.world.publishers.iter().filter(|one| one.stream == stream && one.is_live());
        assert_eq!(live.count(), 1, "publishers of stream {stream}");
    }
    rig.world.run(secs(5));
    rig.world.expect("everybody plays", |world| {
        world.players.iter().all(|player| player.viewer.position.is_some())
    });
    rig.world.run(secs(3));
    rig.world.catch_up();
    let (_, fed) = rig.links(LinkWay::In);
    let most = u64::from(STREAMS) * u64::try_from(count - 1).unwrap();
    assert!(fed <= most, "{fed} streams on links between {count} nodes");
    rig.end();
}

fn script(random: &mut fastrand::Rng, count: usize, homes: &[usize]) -> Vec<(Duration, Deed)> {
    let mut deeds = Vec::new();
    for _ in 0..PLAYERS {
        let at = millis(random.u64(..6_000));
        let deed = Deed::Play(random.u8(..STREAMS), random.usize(..count), random.u16(..2));
        deeds.push((at, deed));
    }
    for _ in 0..random.usize(..4) {
        deeds.push((millis(random.u64(2_000..8_000)), Deed::Return(random.usize(..PLAYERS))));
    }
    for _ in 0..random.usize(1..4) {
        let (one, other) = (random.usize(..count), random.usize(..count));
        let at = random.u64(500..5_000);
        let until = millis(at + random.u64(50..4_000));
        if one != other {
            for (from, to) in [(one, other), (other, one)] {
                deeds.push((millis(at), Deed::Cut(from, to, true)));
                deeds.push((until, Deed::Cut(from, to, false)));
            }
        }
    }
    let victim = random.usize(1..count);
    if !homes.contains(&victim) && random.bool() {
        let at = random.u64(1_500..5_000);
        let end = if random.bool() { Deed::Crash(victim) } else { Deed::Drain(victim) };
        deeds.push((millis(at), end));
        deeds.push((millis(at + random.u64(100..3_500)), Deed::Restart(victim)));
    } else if random.bool() {
        // Not while wires are cut: then both sides would be right.
        deeds.push((millis(9_500), Deed::Move(0, random.usize(..count))));
    }
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

fn perform(
    rig: &mut Rig,
    deed: Deed,
    count: usize,
    players: &mut Vec<usize>,
    random: &mut fastrand::Rng,
) {
    match deed {
        Deed::Cut(from, to, cut) => rig.world.net.set_cut(host(from), host(to), cut),
        Deed::Crash(node) => {
            rig.world.others[node - 1].crash();
            // Their connections are gone with it.
            for player in &mut rig.world.players {
                if player.door.ip() == host(node) {
                    player.leave();
                }
            }
        }
        Deed::Drain(node) => {
            for station in &rig.world.others[node - 1].stations {
                station.handle.ask(Query::Drain { window: DRAIN }).unwrap();
            }
        }
        Deed::Restart(node) => {
            // One that drains may not have ended.
            rig.world.others[node - 1].crash();
            rig.world.others[node - 1] = rig.node(node);
            rig.tell_peers(count);
            for index in 0..rig.world.players.len() {
                if rig.world.players[index].door.ip() == host(node) {
                    join(rig, index);
                }
            }
        }
        Deed::Move(stream, node) => {
            let before = rig.world.publishers.iter().position(|one| one.stream == stream);
            rig.world.vanish(before.unwrap());
            rig.publish(stream, node, random.u16(..2));
        }
        Deed::Play(stream, node, worker) => {
            let player = rig.play(stream, node, worker);
            rig.world.players[player].again_after = Some(millis(200));
            players.push(player);
        }
        Deed::Return(number) => {
            if let Some(player) = players.get(number) {
                rig.world.players[*player].leave();
                join(rig, *player);
            }
        }
    }
}

/// Publishers and players of the second test, over all streams.
const COMERS: usize = 8;

/// Publishers come back on any node and fall silent, wires are cut, players come and go on any node
/// and worker; then it is quiet, and everybody has what there is.
fn comings(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let fanout_max = random.usize(1..=2);
    let mut rig = Rig::with_fanout(seed, 3, Limits::default(), fanout_max);
    for stream in 0..STREAMS {
        rig.publish(stream, random.usize(0..3), random.u16(0..2));
    }
    for stream in (0..STREAMS).cycle().take(COMERS) {
        rig.play(stream, random.usize(0..3), random.u16(0..2));
    }
    rig.world.net.set_faults(SimFaults {
        partial_read: 0.1,
        partial_write: 0.1,
        delay_max: millis(30),
        ..SimFaults::default()
    });
    for _ in 0..60 {
        rig.world.run(millis(random.u64(10..1_500)));
        let (node, worker) = (random.usize(0..3), random.u16(0..2));
        let publisher = random.usize(0..usize::from(STREAMS));
        match random.u8(0..8) {
            0 => {
                let publisher = &mut rig.world.publishers[publisher];
                publisher.door = door(node, worker);
                publisher.begin(&rig.world.net);
            }
            1 => rig.world.publishers[publisher].silent = true,
            2 => rig.world.publishers.iter_mut().for_each(|publisher| publisher.speak()),
            3 => {
                let (from, to) = (host(node), host((node + 1) % 3));
                for cut in [true, false] {
                    rig.world.net.set_cut(from, to, cut);
                    rig.world.net.set_cut(to, from, cut);
                    rig.world.run(millis(random.u64(100..3_000)));
                }
            }
            4 | 5 => rig.world.players[random.usize(0..COMERS)].leave(),
            _ => {
                let player = random.usize(0..COMERS);
                rig.world.players[player].leave();
                rig.world.players[player].door = door(node, worker);
                join(&mut rig, player);
            }
        }
    }
    rig.world.net.set_faults(SimFaults::default());
    rig.world.publishers.iter_mut().for_each(|publisher| publisher.speak());
    rig.world.run(secs(20));
    for publisher in &mut rig.world.publishers {
        if !publisher.is_live() {
            publisher.begin(&rig.world.net);
        }
    }
    rig.world.run(secs(15));
    for player in 0..COMERS {
        if rig.world.players[player].line.is_none() {
            join(&mut rig, player);
        }
    }
    rig.world.run(secs(10));
    rig.world.under_way();
    rig.world.catch_up();
    rig.end();
}

/// A player that is away comes, perhaps to a node that has forgotten the stream.
fn join(rig: &mut Rig, player: usize) {
    let World { players, ledger, net, .. } = &mut rig.world;
    let (stream, door) = (players[player].stream, players[player].door);
    let plays = |other: &Player| {
        other.line.is_some() && (other.stream, other.door.ip()) == (stream, door.ip())
    };
    if !players.iter().any(plays) {
        ledger.borrow_mut().forget_offsets(stream, node_of(door));
    }
    players[player].begin(net);
}

/// Runs every seed, and tells which did not end well.
fn all(run: impl Fn(u64) + std::panic::RefUnwindSafe, usual: u64, name: &str) {
    let mut failed = Vec::new();
    for seed in super::churn::seeds(usual) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
            println!("seed {seed} failed: {text}");
            failed.push(seed);
        }
    }
    let replay = format!("RELAY_SIM_SEEDS=first..last cargo test --test sim {name}");
    assert!(failed.is_empty(), "seeds {failed:?}; replay: {replay}");
}

#[test]
fn nodes_that_die_and_wires_that_are_cut_cost_no_order() {
    all(run, SEEDS, "nodes_that_die");
}

#[test]
fn whoever_comes_and_goes_everybody_has_what_there_is_when_it_is_quiet() {
    all(comings, SEEDS / 2, "whoever_comes_and_goes");
}
