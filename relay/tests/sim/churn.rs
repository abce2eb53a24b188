//! Many seeds: publishers that vanish and return, players that come, go, stall and crawl, a network
//! that splits, delays and resets. After every instant each player's bytes are judged and memory is
//! bounded; then all becomes quiet, and everybody must have everything; then all leave, and nothing
//! must be left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relay::limits::Limits;
use relay::reactor::sim::SimFaults;
use relay::wire::amf::Value;
use relay::worker::labels::{CloseReason, DropReason, JumpReason, MessageKind, RefuseReason};
use relay::worker::settings::Settings;

use super::material::Kind;
use super::player::Pace;
use super::publisher::Plan;
use super::viewer::Shows;
use super::world::{World, millis, secs};

/// Streams, with a publisher each.
const STREAMS: u8 = 2;

/// The stream that some publishers have besides, on the same connection.
const COMPANION: u8 = STREAMS;

/// Players, over all streams.
const PLAYERS: usize = 20;

/// Players that make trouble of their own; the others read as fast as they can.
const TROUBLED: usize = 5;

/// When the trouble is over.
const TROUBLE: Duration = secs(7);

fn limits() -> Limits {
    Limits {
        stream_grace: secs(2),
        publisher_silence_max: secs(3),
        takeover_holdoff: secs(1),
        player_lag_max: millis(1_500),
        send_stall_max: secs(4),
        unsubscribe_linger: millis(500),
        close_linger: millis(300),
        log_span: secs(2),
        gop_span_max: secs(3),
        ..Limits::default()
    }
}

/// What happens to whom, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Call(usize),
    Leave(usize),
    Pace(usize, Pace),
    Vanish(usize),
    Publish(usize),
    Finish(usize),
    Pause(usize, bool),
    Video(usize, bool),
    Faults(SimFaults),
}

/// One seed.
fn run(seed: u64) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut limits = limits();
    if random.u8(..4) == 0 {
        limits.mail_ring_max = random.usize(1..6);
    }
    let is_usual_ring = limits.mail_ring_max > 6;
    let settings = Settings { limits, ..Settings::default() };
    let workers = random.usize(2..4);
    let capacity = [2_000, 4_000, 16_000][random.usize(..3)];
    let mut world = World::new(seed, settings, workers, capacity);
    let mut moves = Vec::new();
    let deeds = script(&mut world, &mut random);
    let is_light = world.publishers.iter().all(|publisher| publisher.plan.large_key.is_none());
    if workers == 2 && is_usual_ring && is_light {
        // Mail from two homes can pass each other only where there is a third worker to read it.
        for player in &mut world.players[TROUBLED..] {
            player.viewer.prompt = true;
        }
    }
    let delay = if is_light { secs(1) } else { TROUBLE };
    for (at, deed) in deeds {
        watched(&mut world, at, delay);
        if matches!(deed, Deed::Publish(_)) {
            moves.extend(world.home(0));
        }
        perform(&mut world, deed);
    }
    watched(&mut world, TROUBLE, delay);
    quiet(&mut world);
    moves.extend(world.home(0));
    moves.dedup();
    world.end(secs(8));
    Outcome::new(&world, moves.len())
}

/// What came about in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Outcome {
    trace: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Outcome {
    fn new(world: &World, homes: usize) -> Self {
        let (node, ledger) = (&world.node, world.ledger.borrow());
        let jumps = |reason| node.sum(|cells| cells.player_jumps.at(reason).get());
        let (closed, refused) = (|of| world.closed(of), |of| world.refused(of));
        let counts = BTreeMap::from([
            ("messages published", ledger.messages().try_into().unwrap()),
            ("key frames published", ledger.count(Kind::Key).try_into().unwrap()),
            ("bytes published", ledger.payload_bytes()),
            ("bytes played", world.players.iter().map(|player| player.bytes).sum()),
            ("moves to another home", homes.saturating_sub(1).try_into().unwrap()),
            ("jumps for lag", jumps(JumpReason::Lag)),
            ("jumps because of trimming", jumps(JumpReason::Trimmed)),
            ("closed by takeover", closed(CloseReason::Takeover)),
            ("closed for slowness", closed(CloseReason::Slow)),
            ("closed for silence", closed(CloseReason::Timeout)),
            ("closed by a fault of the network", closed(CloseReason::Reset)),
            ("closed at the end of a stream", closed(CloseReason::Ended)),
            ("publishers held off", refused(RefuseReason::Holdoff)),
            (
                "second plays",
                world.players.iter().map(|player| u64::from(player.second.is_some())).sum(),
            ),
            (
                "second streams of a publisher",
                u64::from(world.publishers[1].plan.companion.is_some()),
            ),
            ("snapshots", node.sum(|cells| cells.mail_snapshots.get())),
            ("segments lost in the mail", node.sum(|cells| cells.mail_lost.get())),
            (
                "frames before a key frame",
                node.sum(|cells| {
                    cells.messages_dropped.at((MessageKind::Video, DropReason::BeforeKey)).get()
                }),
            ),
        ]);
        Self { trace: world.trace.value(), counts }
    }
}

fn script(world: &mut World, random: &mut fastrand::Rng) -> Vec<(Duration, Deed)> {
    let mut deeds = vec![(Duration::ZERO, Deed::Faults(faults(random)))];
    for stream in 0..STREAMS {
        let publisher = world.add_publisher(stream, None, plan(random));
        world.publishers[publisher].splits = random.bool();
        world.publishers[publisher].again_after = Some(millis(300));
        deeds.push((millis(random.u64(..1_500)), Deed::Publish(publisher)));
    }
    // The publisher of the other stream than that which changes hands.
    let has_companion = random.u8(..3) == 0;
    world.publishers[1].plan.companion = has_companion.then_some(COMPANION);
    let streams = if has_companion { COMPANION + 1 } else { STREAMS };
    let vanishes = millis(random.u64(2_000..4_000));
    let returns = vanishes + millis(random.u64(100..3_500));
    deeds.extend([(vanishes, Deed::Vanish(0)), (returns, Deed::Publish(0))]);
    if random.bool() {
        // Another encoder is set up with the same name, and does not give up.
        let rival = world.add_publisher(0, None, plan(random));
        world.publishers[rival].again_after = Some(millis(random.u64(100..900)));
        deeds.push((millis(random.u64(1_000..5_000)), Deed::Publish(rival)));
        deeds.push((TROUBLE, Deed::Finish(rival)));
    }
    for _ in 0..PLAYERS {
        let player = world.add_player(random.u8(..streams), None);
        world.players[player].again_after = Some(millis(200));
        if player >= TROUBLED && random.u8(..5) == 0 {
            let other = (world.players[player].stream + 1) % streams;
            world.players[player].second_stream = Some(other);
        }
        world.players[player].splits = random.u8(..4) == 0;
        deeds.push((millis(random.u64(..5_000)), Deed::Call(player)));
    }
    let crawl = Pace::Slow { bytes: random.usize(100..400), every: millis(100) };
    deeds.push((millis(500), Deed::Pace(0, crawl)));
    let stalls = random.u64(2_000..4_000);
    deeds.push((millis(stalls), Deed::Pace(1, Pace::Stalled)));
    let goes_on = millis(stalls + random.u64(500..3_000));
    deeds.push((goes_on.min(TROUBLE), Deed::Pace(1, Pace::Prompt)));
    let leaves = random.u64(2_000..5_000);
    deeds.push((millis(leaves), Deed::Leave(2)));
    deeds.push((millis(leaves + random.u64(100..2_000)), Deed::Call(2)));
    for at in [random.u64(1_000..3_500), random.u64(3_500..5_500)].map(millis) {
        let until = at + millis(random.u64(50..2_000));
        deeds.extend([(at, Deed::Pause(3, true)), (until.min(TROUBLE), Deed::Pause(3, false))]);
        deeds.extend([(at, Deed::Video(4, false)), (until.min(TROUBLE), Deed::Video(4, true))]);
    }
    for deed in [Deed::Pause(3, false), Deed::Video(4, true)] {
        deeds.push((TROUBLE, deed));
    }
    deeds.push((TROUBLE, Deed::Pace(0, Pace::Prompt)));
    deeds.push((TROUBLE, Deed::Faults(SimFaults::default())));
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

fn faults(random: &mut fastrand::Rng) -> SimFaults {
    let sometimes = |random: &mut fastrand::Rng, most: f64| {
        if random.bool() { most * random.f64() } else { 0.0 }
    };
    SimFaults {
        partial_read: sometimes(random, 0.3),
        partial_write: sometimes(random, 0.3),
        delay_max: millis([0, 5, 60][random.usize(..3)]),
        reset: sometimes(random, 0.002),
        connect_fail: sometimes(random, 0.1),
    }
}

fn plan(random: &mut fastrand::Rng) -> Plan {
    Plan {
        gop: random.u32(5..15),
        large_key: (random.u8(..4) == 0).then(|| (6, random.usize(15_000..140_000))),
        first_timestamp: [0, 0, 0xFF_FFFF - 3_000, u32::MAX - 3_000][random.usize(..4)],
        orphans: if random.bool() { random.u32(..4) } else { 0 },
        aggregates: random.u8(..4) == 0,
        aborts: if random.u8(..4) == 0 { 40 } else { 0 },
        ..Plan::default()
    }
}

fn perform(world: &mut World, deed: Deed) {
    match deed {
        Deed::Call(player) => world.players[player].begin(&world.net),
        Deed::Leave(player) => world.players[player].leave(),
        Deed::Pace(player, pace) => world.players[player].pace = pace,
        Deed::Vanish(publisher) => world.vanish(publisher),
        Deed::Publish(publisher) => {
            // Whoever returns begins at zero.
            if world.publishers[publisher].tries > 0 {
                world.publishers[publisher].plan.first_timestamp = 0;
            }
            world.publishers[publisher].begin(&world.net);
        }
        Deed::Pause(player, paused) => {
            let arguments = [Value::Null, Value::Boolean(paused), Value::Number(0.0)];
            if world.players[player].started {
                world.players[player].command(1, "pause", &arguments);
            }
        }
        Deed::Video(player, wanted) => {
            if world.players[player].started {
                let shows = if wanted { Shows::ALL } else { Shows::AUDIO };
                world.players[player].viewer.choose(shows);
                let arguments = [Value::Null, Value::Boolean(wanted)];
                world.players[player].command(1, "receiveVideo", &arguments);
            }
        }
        Deed::Finish(publisher) => world.publishers[publisher].finish(),
        Deed::Faults(faults) => world.net.set_faults(faults),
    }
}

/// Lets time pass; after every instant memory must be within its formula. What is published may
/// take up to `delay` to arrive.
fn watched(world: &mut World, until: Duration, delay: Duration) {
    world.until(until, |world| {
        check_memory(world, delay);
        false
    });
}

/// No worker holds more than a log of each stream, with what was published within the longest span
/// that a log may have; a view holds no more than what it shows.
fn check_memory(world: &World, delay: Duration) {
    let ledger = world.ledger.borrow();
    let span = limits().gop_span_max + delay;
    let most: usize = (0..=COMPANION).map(|stream| ledger.log_bytes_max(stream, span)).sum();
    for (core, station) in world.node.stations.iter().enumerate() {
        let held = station.worker.hub().held_bytes();
        let logs = held.home + held.remote;
        assert!(logs <= most, "worker {core} holds {logs} bytes, more than {most}");
        // Message streams 1 and 2, each with the video and without; the first of them is the log.
        assert!(held.views <= 3 * logs, "worker {core}: {} bytes of views", held.views);
    }
}

/// Faults are over: everybody gets a picture, and then the last message of all.
fn quiet(world: &mut World) {
    world.expect("every publisher is live", |world| {
        let wanted = usize::from(STREAMS);
        world.publishers[..wanted].iter().all(|publisher| publisher.is_live())
    });
    world.expect("every player plays", |world| {
        world.players.iter().all(|player| player.started && player.viewer.position.is_some())
    });
    // Whoever jumped to the head meanwhile waits for a key frame.
    world.run(secs(2));
    world.catch_up();
    world.node.check_accounts();
}

/// The seeds to run: so many, or what `RELAY_SIM_SEEDS` says.
pub(crate) fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RELAY_SIM_SEEDS") else { return 0..usual };
    let number = |text: &str| text.trim().parse::<u64>().expect("RELAY_SIM_SEEDS is a number");
    match text.split_once("..") {
        Some((first, last)) => number(first)..number(last),
        None => 0..number(&text),
    }
}

#[test]
fn every_seed_ends_well() {
    let seeds = seeds(1_000);
    let many = seeds.end.saturating_sub(seeds.start) >= 300;
    let mut sums = BTreeMap::<_, u64>::new();
    for seed in seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(outcome) => {
                for (what, count) in outcome.counts {
                    *sums.entry(what).or_default() += count;
                }
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
                let only = format!("RELAY_SIM_SEEDS={seed}..{}", seed + 1);
                panic!("seed {seed}: {text}\nreplay: {only} cargo test --test sim every_seed");
            }
        }
    }
    // Trouble that never came about proves nothing.
    for (what, count) in &sums {
        assert!(*count > 0 || !many, "in all these runs: no {what}");
    }
    println!("{sums:#?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut runs = BTreeSet::new();
    for seed in 5_000..5_008 {
        let first = run(seed);
        assert_eq!(first, run(seed), "seed {seed}");
        runs.insert(first);
    }
    assert_eq!(runs.len(), 8, "other seeds give other runs");
}
