//! Limits, each at its edge.

use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::worker::labels::{CloseReason, RefuseReason, Role};
use relay::worker::settings::Settings;

use super::node::{FIRST_WORKER, on, sum_where};
use super::player::Pace;
use super::publisher::Plan;
use super::world::{World, millis, secs};

fn with(limits: Limits) -> Settings {
    Settings { limits, ..Settings::default() }
}

#[test]
fn a_full_ring_makes_the_reader_take_a_new_snapshot() {
    let mut world =
        World::new(1, with(Limits { mail_ring_max: 1, ..Limits::default() }), 2, 65_536);
    let plan = Plan { tick: millis(1), gop: 50, inter: (17_000, 0), ..Plan::default() };
    world.publish(0, Some(0), plan);
    world.run(secs(1));
    let player = world.play(0, Some(1));
    world.run(secs(3));
    let lost = world.node.sum(|cells| cells.mail_lost.get());
    let snapshots = world.node.sum(|cells| cells.mail_snapshots.get());
    assert!(lost > 10 && snapshots > 10, "{lost} lost, {snapshots} snapshots");
    assert!(world.players[player].viewer.seen.keys > 10);
    world.publishers[0].plan.tick = millis(100);
    world.run(secs(2));
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_stream_that_is_always_last_into_a_full_ring_arrives_all_the_same() {
    let mut world =
        World::new(11, with(Limits { mail_ring_max: 1, ..Limits::default() }), 2, 65_536);
    // Two streams that are sealed in the same turns, and one place in the ring.
    for stream in [0, 1] {
        world.publish(stream, Some(0), Plan::default());
        world.play(stream, Some(1));
    }
    world.run(secs(5));
    assert!(world.node.sum(|cells| cells.mail_lost.get()) > 0);
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_player_whose_batch_is_not_gone_in_time_is_closed() {
    let limits = Limits { send_stall_max: secs(5), ..Limits::default() };
    let mut world = World::new(2, with(limits), 2, 4_000);
    world.publish(0, Some(0), Plan::default());
    let [stalled, crawling, prompt] = [0, 1, 1].map(|worker| world.play(0, Some(worker)));
    world.under_way();
    world.run(secs(1));
    world.players[stalled].pace = Pace::Stalled;
    world.players[crawling].pace = Pace::Slow { bytes: 150, every: millis(100) };
    world.run(secs(5));
    assert_eq!(world.closed(CloseReason::Slow), 0);
    world.run(secs(3));
    assert_eq!(world.closed(CloseReason::Slow), 1);
    world.players[stalled].pace = Pace::Prompt;
    world.run(secs(12));
    assert!(world.players[stalled].line.is_none());
    assert!(world.players[crawling].viewer.jumps > 0, "it jumps and is not closed");
    assert_eq!(world.players[prompt].viewer.jumps, 0);
    world.players[crawling].pace = Pace::Prompt;
    world.run(secs(2));
    world.players.remove(stalled);
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_peer_that_asks_and_never_reads_is_closed() {
    for plays in [true, false] {
        let mut world = World::new(3, Settings::default(), 1, 4_000);
        if plays {
            world.publish(0, None, Plan::default());
        }
        let player = world.play(0, None);
        world.expect("it is let play", |world| world.players[player].started);
        world.players[player].pace = Pace::Stalled;
        for _ in 0..200 {
            for _ in 0..50 {
                world.players[player].command(0, "getStreamLength", &[]);
            }
            world.run(millis(20));
        }
        assert_eq!(world.closed(CloseReason::Slow), 1);
        let held =
            sum_where(&world.node.stations[0].cells.connections, |(role, _)| role == Role::Player);
        assert_eq!(held, 0);
        world.end(secs(20));
    }
}

#[test]
fn a_stream_has_no_more_players_than_it_may() {
    let limits = Limits { players_per_stream_max: 2, ..Limits::default() };
    let mut world = World::new(4, with(limits), 1, 65_536);
    world.publish(0, None, Plan::default());
    let players = [0; 3].map(|_| world.play(0, None));
    world.run(secs(2));
    let refused: Vec<_> =
        players.iter().filter(|p| world.players[**p].heard("NetStream.Play.Failed")).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(world.refused(RefuseReason::Players), 1);
    world.players[0].leave();
    world.run(millis(100));
    world.players[*refused[0]].begin(&world.net);
    world.run(secs(2));
    assert!(world.players[2].viewer.seen.keys > 0, "a place was left");
    world.end(secs(20));
}

#[test]
fn a_node_has_no_more_names_than_it_may() {
    let mut world = World::new(5, with(Limits { streams_max: 2, ..Limits::default() }), 2, 65_536);
    for stream in 0..3 {
        world.publish(stream, Some(u16::from(stream) % 2), Plan::default());
        world.run(secs(1));
    }
    let live: Vec<_> = world.publishers.iter().map(|publisher| publisher.is_live()).collect();
    assert_eq!(live, [true, true, false]);
    assert!(world.publishers[2].heard("NetStream.Publish.Rejected"));
    assert_eq!(world.refused(RefuseReason::Streams), 1);
    world.publishers[0].finish();
    world.run(secs(16));
    world.publishers[2].begin(&world.net);
    world.run(secs(1));
    assert!(world.publishers[2].is_live(), "names are freed after use");
    world.end(secs(20));
}

#[test]
fn names_that_players_make_up_are_bounded() {
    let limits = Limits { wanted_names_max: 2, ..Limits::default() };
    let mut world = World::new(10, with(limits), 2, 65_536);
    for stream in 0..3 {
        world.play(stream, Some(u16::from(stream) % 2));
        world.run(secs(1));
    }
    assert!(world.players[2].heard("NetStream.Play.Failed"), "{:?}", world.players[2].codes);
    assert_eq!(world.refused(RefuseReason::WantedNames), 1);
    assert_eq!(world.refused(RefuseReason::UnknownStream), 0);
    world.publish(5, Some(1), Plan::default());
    world.run(secs(1));
    assert!(world.publishers[0].is_live(), "players of made-up names keep no publisher out");
    world.players[0].leave();
    // Its worker looks for streams without players twice a second.
    world.run(Limits::default().unsubscribe_linger + secs(1));
    world.players[2].begin(&world.net);
    world.run(secs(1));
    assert!(world.players[2].started);
    world.end(secs(20));
}

#[test]
fn connections_without_a_purpose_are_bounded_per_worker() {
    let limits = Limits { pending_connections_max: 2, ..Limits::default() };
    let mut world = World::new(6, with(limits), 2, 65_536);
    let mut idle: Vec<_> = [0, 0, 0, 1].map(|n| world.net.connect(on(FIRST_WORKER + n))).into();
    world.run(millis(100));
    assert_eq!(world.refused(RefuseReason::Pending), 1);
    assert_eq!(world.node.shared.connections(), 3);
    idle.remove(0);
    world.run(millis(100));
    // Those who play do not count.
    for _ in 0..3 {
        world.play(0, Some(0));
        world.run(millis(200));
    }
    assert!(world.players.iter().all(|player| player.started));
    assert_eq!(world.refused(RefuseReason::Pending), 1);
    world.run(secs(13));
    assert_eq!(world.closed(CloseReason::Timeout), 2, "who never connects is closed");
    drop(idle);
    world.end(secs(20));
}

#[test]
fn connections_are_bounded_per_node() {
    let limits = Limits { connections_max: 3, ..Limits::default() };
    let mut world = World::new(7, with(limits), 2, 65_536);
    world.publish(0, Some(0), Plan::default());
    for worker in [0, 1, 1] {
        world.play(0, Some(worker));
        world.run(secs(1));
    }
    assert_eq!(world.refused(RefuseReason::Connections), 1);
    assert_eq!(world.players[2].codes, ["reset"], "what it had sent was not read");
    world.players[0].leave();
    world.run(millis(100));
    world.players[2].begin(&world.net);
    world.run(secs(1));
    assert!(world.players[2].viewer.seen.keys > 0);
    world.end(secs(20));
}

#[test]
fn logs_shrink_and_then_publishers_are_refused() {
    let limits = Limits { log_bytes_total: 400_000, ..Limits::default() };
    let mut world = World::new(8, with(limits), 2, 65_536);
    // 125 kB and more a second, in groups of a second.
    let plan = Plan { inter: (10_000, 0), key: (10_000, 0), gop: 12, ..Plan::default() };
    world.publish(0, Some(0), plan.clone());
    world.play(0, Some(1));
    for _ in 0..40 {
        world.run(millis(250));
        let held = world.node.stations[0].worker.hub().held_bytes().home;
        assert!(held < 400_000 + 125_000, "{held} bytes");
        let mailed = world.node.stations[1].worker.hub().held_bytes().remote;
        assert!(mailed < 400_000 + 125_000, "{mailed} bytes where it is mailed");
    }
    world.publish(1, Some(1), Plan { gop: 100, ..plan.clone() });
    world.publish(2, Some(1), Plan { gop: 100, ..plan });
    world.run(secs(4));
    assert!(world.node.shared.log_bytes() > 400_000, "groups of pictures are not cut");
    let refused = world.publish(3, Some(0), Plan::default());
    world.run(secs(1));
    assert!(world.publishers[refused].heard("NetStream.Publish.Rejected"));
    assert_eq!(world.refused(RefuseReason::Memory), 1);
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn logs_that_are_mailed_do_not_hold_what_homes_let_go_of() {
    const TOTAL: usize = 600_000;
    let limits = Limits { log_bytes_total: TOTAL, ..Limits::default() };
    let mut world = World::new(14, with(limits), 3, 65_536);
    let plan = Plan { inter: (10_000, 0), key: (10_000, 0), gop: 12, ..Plan::default() };
    for stream in 0..3 {
        let home = u16::from(stream);
        world.publish(stream, Some(home), plan.clone());
        world.play(stream, Some((home + 1) % 3));
    }
    world.run(secs(5));
    for _ in 0..40 {
        world.run(millis(250));
        let mut held = std::collections::BTreeMap::new();
        for station in &world.node.stations {
            let hub = station.worker.hub();
            for segment in hub.keys().filter_map(|key| hub.log(key)).flat_map(|log| log.from(0)) {
                held.insert(segment.bytes.as_ptr(), segment.bytes.len());
            }
        }
        let held: usize = held.values().sum();
        assert!(held < TOTAL + 3 * 125_000, "{held} bytes in all");
    }
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn without_a_key_frame_a_player_gets_the_audio_first() {
    let limits = Limits { key_wait_max: secs(2), ..Limits::default() };
    let mut world = World::new(9, with(limits), 2, 65_536);
    world.publish(0, Some(0), Plan { orphans: 100, ..Plan::default() });
    world.run(secs(1));
    for worker in [0, 1] {
        let player = world.play(0, Some(worker));
        world.players[player].viewer.audio_first = true;
    }
    world.run(millis(1_900));
    assert!(world.players.iter().all(|player| player.viewer.seen.audio == 0));
    world.run(secs(3));
    for player in &world.players {
        assert!(player.viewer.seen.audio > 20 && player.viewer.seen.video == 0);
    }
    world.run(secs(4));
    assert!(world.players.iter().all(|player| player.viewer.seen.keys > 0));
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_stream_has_as_many_players_as_like() {
    let mut world = World::new(12, Settings::default(), 3, 65_536);
    world.publish(0, Some(0), Plan { new_headers: 0, ..Plan::default() });
    world.run(secs(1));
    for player in 0..1_500_u16 {
        world.play(0, Some(player % 3));
    }
    world.under_way();
    world.publishers[0].silent = true;
    world.run(millis(100));
    for player in &mut world.players {
        assert_eq!(player.viewer.jumps, 0);
        player.count_only();
    }
    world.publishers[0].speak();
    world.run(secs(2));
    let counted: std::collections::BTreeSet<_> =
        world.players.iter().map(super::player::Player::counted).collect();
    assert!(counted.len() == 1 && counted.first().is_some_and(|bytes| *bytes > 5_000));
    world.end(secs(20));
}

#[test]
fn who_comes_when_memory_is_used_up_is_refused_and_others_are_not_touched() {
    // Either all logs or all connections may hold no more than is in use.
    let logs = Limits { log_bytes_total: 60_000, ..Limits::default() };
    let connections = Limits { connection_bytes_total: 1_000, ..Limits::default() };
    for limits in [logs, connections] {
        let mut world = World::new(12, with(limits), 2, 65_536);
        // The group of pictures that is kept in any case soon takes more than there is.
        let plan = Plan { gop: 10_000, inter: (500, 100), ..Plan::default() };
        world.publish(0, Some(0), plan);
        let early = [0, 1].map(|worker| world.play(0, Some(worker)));
        world.run(secs(20));
        let late = [0, 1].map(|worker| world.play(0, Some(worker)));
        let other = world.publish(1, Some(1), Plan::default());
        world.run(secs(5));
        for player in late {
            assert!(world.players[player].heard("NetStream.Play.Failed"));
        }
        assert!(world.publishers[other].heard("NetStream.Publish.Rejected"));
        assert_eq!(world.refused(RefuseReason::Memory), 3);
        let keys = early.map(|player| world.players[player].viewer.seen.keys);
        let jumps = early.map(|player| world.players[player].viewer.jumps);
        assert_eq!((keys, jumps), ([1, 1], [0, 0]), "those who were there miss nothing");
        world.publishers[0].finish();
        world.run(secs(20));
        // The log is gone, and so are its players: there is room again.
        world.publishers[other].begin(&world.net);
        let viewer = world.play(1, Some(0));
        world.run(secs(5));
        assert!(world.publishers[other].is_live());
        assert!(world.players[viewer].viewer.seen.keys > 0);
        world.end(secs(20));
    }
}

#[test]
fn plays_that_come_and_go_while_nothing_is_sealed_leave_nothing_behind() {
    let mut world = World::new(13, Settings::default(), 2, 65_536);
    world.publish(0, Some(0), Plan::default());
    let [steady, restless] = [1, 1].map(|worker| world.play(0, Some(worker)));
    world.under_way();
    world.publishers[0].silent = true;
    world.run(millis(200));
    let before = world.node.stations[1].worker.queued_plays();
    let mut most = 0;
    for _ in 0..500 {
        let again = [Value::Null, Value::text("s0"), Value::Number(-2.0)];
        world.players[restless].command(1, "play", &again);
        world.players[restless].plays_anew = true;
        world.run(millis(10));
        most = most.max(world.node.stations[1].worker.queued_plays());
    }
    assert_eq!(before, 2, "both wait for the next seal");
    assert!(most <= 4, "{most} entries for two plays");
    world.players[restless].leave();
    world.players.remove(restless);
    world.publishers[0].speak();
    world.run(secs(1));
    assert_eq!(world.players[steady].viewer.jumps, 0);
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn those_who_come_at_once_are_heard_a_few_in_each_turn() {
    let limits = Limits { newcomers_per_turn: 4, ..Limits::default() };
    let mut world = World::new(13, with(limits), 1, 65_536);
    world.publish(0, None, Plan::default());
    world.run(secs(1));
    let so_far = |world: &World| world.node.stations[0].cells.turns.get();
    let before = so_far(&world);
    for _ in 0..100 {
        world.play(0, None);
    }
    world.settle();
    // Each has to be heard at least twice: when it greets, and when it asks.
    let turns = so_far(&world) - before;
    assert!(turns >= 50, "heard within {turns} turns");
    world.under_way();
    world.catch_up();
    world.end(secs(20));
}
