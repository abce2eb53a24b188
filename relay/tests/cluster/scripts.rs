//! Fixed stories, one subject each; and judges that are shown something to find.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use relay::cluster::message::{Announced, Message, Part, Phase};
use relay::cluster::{Conflict, Line, Note, Path, Refusal};

use super::churn::{Size, prepared, quiet};
use super::process::Publisher;
use super::world::{Planted, World};

const SECOND: Duration = Duration::from_secs(1);
const TAKE: Conflict = Conflict::Takeover;

/// A cluster in which all know each other.
fn cluster(nodes: usize, streams: usize, fanout_max: usize) -> World {
    let mut world = World::new(1, nodes, streams, fanout_max);
    (0..nodes).for_each(|slot| world.start(slot, true));
    world.relist();
    settle(&mut world, "they meet");
    world
}

#[track_caller]
fn settle(world: &mut World, what: &str) {
    world.until(SECOND * 8, |world| world.unsettled().is_none());
    assert_eq!(world.unsettled(), None, "{what}");
}

/// Publishes and waits for the first key frame.
#[track_caller]
fn publish(world: &mut World, slot: usize, stream: usize) {
    assert!(world.publish(slot, stream, TAKE));
    assert!(world.until(SECOND * 3, |world| holds(world, slot, stream, Publisher::Live)));
}

fn holds(world: &World, slot: usize, stream: usize, phase: Publisher) -> bool {
    let process = world.nodes[slot].as_ref().unwrap();
    process.publishers.get(&stream) == Some(&phase)
}

fn served(world: &World, slot: usize, stream: usize) -> bool {
    world.is_served(world.nodes[slot].as_ref().unwrap(), stream)
}

#[test]
fn no_epoch_of_a_name_is_given_out_twice_by_a_node() {
    let mut world = cluster(2, 1, 8);
    let name = "live/s0".into();
    let mut last = 0;
    for _ in 0..3 {
        let term = world.act(0, |cluster, now| cluster.claim(&name, TAKE, now)).unwrap().unwrap();
        assert!(term.epoch > last, "{} behind {last}", term.epoch);
        last = term.epoch;
        world.act(0, |cluster, now| cluster.live(&name, now));
        world.run(SECOND);
        world.act(0, |cluster, now| cluster.released(&name, now));
        // The grace is over, and nobody knows the name.
        world.run(SECOND * 12);
        assert!(world.running().all(|process| process.cluster.stream(&name).is_none()));
    }
}

#[test]
fn a_way_that_leads_through_the_node_itself_is_not_taken() {
    let mut world = cluster(3, 1, 8);
    publish(&mut world, 0, 0);
    world.play(1, 0, true);
    settle(&mut world, "it is served");
    let process = world.nodes[1].as_ref().unwrap();
    let ((from, term), own) = (process.adopted[&0], process.key);
    let path: Path = [from, own, from].into();
    world.act(1, |cluster, now| cluster.fed(&"live/s0".into(), from, term, &path, now));
    let process = world.nodes[1].as_ref().unwrap();
    assert_eq!(process.cluster.counters().loops_refused, 1);
    assert!(process.cluster.stream("live/s0").unwrap().source.is_none(), "it reads nothing");
    assert!(process.links.is_empty(), "it was told that it is not wanted");
    settle(&mut world, "it is served again");
    assert!(served(&world, 1, 0));
}

#[test]
fn a_link_is_opened_at_once_and_closed_after_its_linger() {
    let mut world = cluster(3, 1, 8);
    publish(&mut world, 0, 0);
    world.play(1, 0, true);
    let read = |world: &World| world.nodes[1].as_ref().unwrap().adopted.contains_key(&0);
    assert!(world.until(Duration::from_millis(250), read), "within 250 ms of the first want");
    world.play(1, 0, false);
    world.run(Duration::from_millis(900));
    assert!(read(&world), "it lingers");
    world.run(Duration::from_millis(300));
    assert!(!read(&world) && world.links.is_empty());
}

#[test]
fn whoever_waits_for_a_name_gets_it_when_it_is_published_anywhere() {
    let mut world = cluster(4, 1, 8);
    (0..4).for_each(|slot| world.play(slot, 0, true));
    world.run(SECOND);
    publish(&mut world, 2, 0);
    assert!(world.until(SECOND, |world| (0..4).all(|slot| served(world, slot, 0))));
    world.unpublish(2, 0);
    world.run(world.limits.stream_grace - SECOND);
    let told = |world: &World, slot: usize| world.nodes[slot].as_ref().unwrap().shown.len();
    assert_eq!(told(&world, 3), 1, "the grace runs");
    world.run(SECOND * 2);
    assert_eq!(told(&world, 3), 0, "and is over");
}

#[test]
fn a_publisher_that_appears_elsewhere_takes_over_at_its_first_key_frame() {
    let mut world = cluster(4, 1, 8);
    publish(&mut world, 0, 0);
    world.play(3, 0, true);
    settle(&mut world, "played");
    assert!(world.publish(1, 0, TAKE));
    assert!(holds(&world, 0, 0, Publisher::Live), "until then the old one plays on");
    assert!(served(&world, 3, 0));
    settle(&mut world, "taken over");
    world.run(SECOND * 2);
    assert!(holds(&world, 1, 0, Publisher::Live));
    assert!(world.nodes[0].as_ref().unwrap().publishers.is_empty(), "the loser was told");
    assert!(!world.publish(2, 0, Conflict::Reject), "or it is refused, by configuration");
    world.unpublish(1, 0);
    world.run(SECOND);
    assert!(world.publish(2, 0, Conflict::Reject), "but not within the grace of one who left");
}

#[test]
fn a_cluster_cut_in_two_serves_what_it_has_and_heals() {
    let mut world = cluster(6, 2, 2);
    publish(&mut world, 0, 0);
    publish(&mut world, 5, 1);
    for slot in 0..6 {
        world.play(slot, 0, true);
        world.play(slot, 1, true);
    }
    settle(&mut world, "played");
    world.weather.split(3..6);
    world.run(SECOND * 5);
    assert!((0..3).all(|slot| served(&world, slot, 0)), "one side has its own");
    assert!((3..6).all(|slot| served(&world, slot, 1)), "and so has the other");
    publish(&mut world, 4, 0);
    world.run(SECOND * 6);
    assert!((0..3).all(|slot| served(&world, slot, 0)));
    assert!((3..6).all(|slot| served(&world, slot, 0)), "a source on either side");
    world.weather.clear();
    world.cleared();
    settle(&mut world, "whole again, with one source");
    assert!(holds(&world, 4, 0, Publisher::Live), "the later one");
}

#[test]
fn a_silent_death_in_the_middle_of_a_tree_is_mended() {
    let mut world = cluster(8, 1, 2);
    publish(&mut world, 0, 0);
    (1..8).for_each(|slot| world.play(slot, 0, true));
    settle(&mut world, "played");
    let middle = (1..8).find(|slot| !world.nodes[*slot].as_ref().unwrap().feeds.is_empty());
    let middle = middle.expect("two children each are three levels");
    world.kill(middle, true);
    let others = |world: &World| (1..8).filter(|s| *s != middle).all(|s| served(world, s, 0));
    world.run(SECOND);
    assert!(!others(&world), "a second later it is noticed");
    assert!(world.until(SECOND * 3 / 2, others), "and within 2.5 s mended");
}

#[test]
fn the_death_of_the_origin_disconnects_nobody() {
    let mut world = cluster(5, 1, 2);
    publish(&mut world, 0, 0);
    (1..5).for_each(|slot| world.play(slot, 0, true));
    settle(&mut world, "played");
    world.kill(0, false);
    world.run(SECOND * 2);
    let told = |world: &World| (1..5).all(|s| world.nodes[s].as_ref().unwrap().shown.len() == 1);
    assert!(told(&world), "players stay");
    publish(&mut world, 3, 0);
    assert!(world.until(SECOND, |world| (1..5).all(|slot| served(world, slot, 0))));
    assert!(told(&world));
}

#[test]
fn clocks_are_known_however_far_they_are_apart() {
    let mut world = cluster(2, 0, 8);
    world.run(SECOND * 97);
    world.kill(1, false);
    world.start(1, false);
    world.run(SECOND * 10);
    let [a, b] = [0, 1].map(|slot| world.nodes[slot].as_ref().unwrap());
    let offset = a.cluster.clock(b.key).expect("heartbeats were answered");
    let wrong = offset.micros - (b.skew - a.skew);
    assert!(wrong.abs() <= offset.error_micros, "wrong by {wrong} of {offset:?}");
    assert!(offset.error_micros < 10_000, "{offset:?}");
}

#[test]
fn who_is_not_taken_in_is_told_why() {
    let mut world = World::new(1, 3, 1, 8);
    world.start(0, true);
    world.start_with(1, true, b"not the secret of this one", (1, 1));
    world.start_with(2, true, b"the secret of this cluster", (2, 3));
    world.relist();
    world.run(SECOND * 5);
    assert!(world.running().all(|process| process.cluster.connected() == 0));
    let said = |slot: usize, of: fn(Refusal) -> bool| {
        world.notes.iter().any(|(at, note)| match note {
            Note::Refused(_, why) | Note::TurnedAway(_, why) => *at == slot && of(*why),
            _ => false,
        })
    };
    assert!(said(0, |why| why == Refusal::Secret) && said(1, |why| why == Refusal::Secret));
    let versions = |why: Refusal| matches!(why, Refusal::Version { .. });
    assert!(said(0, versions) && said(2, versions));
    let counters = world.nodes[0].as_ref().unwrap().cluster.counters();
    assert!(counters.refused[0] + counters.turned_away[0] > 0);
    assert!(counters.refused[1] + counters.turned_away[1] > 0);
}

#[test]
fn two_versions_work_side_by_side() {
    let mut world = World::new(1, 3, 1, 8);
    world.start(0, true);
    world.start_with(1, true, b"the secret of this cluster", (1, 2));
    world.start_with(2, true, b"the secret of this cluster", (1, 2));
    world.relist();
    settle(&mut world, "they meet");
    let spoken = |slot: usize| {
        let process = world.nodes[slot].as_ref().unwrap();
        process.cluster.peers().map(|peer| peer.version).max()
    };
    assert_eq!((spoken(0), spoken(1)), (Some(1), Some(2)));
    publish(&mut world, 1, 0);
    (0..3).for_each(|slot| world.play(slot, 0, true));
    settle(&mut world, "played");
}

#[test]
fn of_two_nodes_with_one_name_the_later_one_stays() {
    let mut world = cluster(3, 1, 8);
    let older = world.nodes[2].take().unwrap();
    world.start(2, true);
    world.run(SECOND * 4);
    for slot in 0..2 {
        let peers: Vec<_> = world.nodes[slot].as_ref().unwrap().cluster.peers().collect();
        assert_eq!(peers.len(), 2);
        assert!(peers.iter().all(|peer| peer.identity.key != older.key));
    }
    let replaced = |(_, note): &(usize, Note)| matches!(note, Note::Lost(_, Refusal::Replaced));
    assert_eq!(world.notes.iter().filter(|note| replaced(note)).count(), 2);
    // The older one comes back to life and is taken in by nobody.
    let newer = world.nodes[2].replace(older).unwrap();
    world.notes.clear();
    world.by_address.insert(world.nodes[2].as_ref().unwrap().address, 2);
    world.by_address.remove(&newer.address);
    world.act(2, |cluster, now| cluster.tick(now));
    // As long as the newer one is known, which is silent now.
    world.run(SECOND * 2);
    let stays = |slot: usize| {
        let process = world.nodes[slot].as_ref().unwrap();
        process
            .cluster
            .peers()
            .all(|peer| peer.identity.key != world.nodes[2].as_ref().unwrap().key)
    };
    assert!(stays(0) && stays(1));
}

#[test]
fn a_peer_that_announces_without_end_is_bounded() {
    let mut world = cluster(2, 0, 8);
    let limit = world.limits.announced_streams_max;
    let process = world.nodes[0].as_ref().unwrap();
    let line = *process.lines.keys().next().unwrap();
    let mut noted = 0;
    for block in 0..100 {
        let entries = (0..500).map(|n| Announced {
            name: format!("live/{block}/{n}").into(),
            epoch: 1,
            phase: Phase::Live,
            rate_kbit: 0,
        });
        let message = Message::Announce { part: Part::default(), entries: entries.collect() };
        let payload = message.encode();
        world.act(0, |cluster, now| cluster.received(line, &payload, now));
        let many = |(_, note): &&(usize, Note)| matches!(note, Note::TooManyStreams(_));
        noted = world.notes.iter().filter(many).count();
    }
    let cluster = &world.nodes[0].as_ref().unwrap().cluster;
    assert_eq!(cluster.usage().claims, limit);
    assert_eq!(cluster.counters().announcements_refused, 50_000 - u64::try_from(limit).unwrap());
    assert_eq!(noted, 1, "one sentence in the log");
}

#[test]
fn strangers_are_bounded_and_time_out() {
    let mut world = cluster(2, 0, 8);
    let most = world.limits.cluster_strangers_max;
    let from = "192.0.2.1:4000".parse().unwrap();
    let process = world.nodes[0].as_mut().unwrap();
    let now = process.clock(world.now);
    for number in 0..most + 10 {
        let line = Line::Accepted(1_000_000 + u64::try_from(number).unwrap());
        process.cluster.accepted(line, from, None, now);
    }
    assert_eq!(process.cluster.counters().strangers_refused, 10);
    assert_eq!(process.cluster.usage().lines, most + 1);
    while process.cluster.next_command().is_some() {}
    process.cluster.tick(now + world.limits.cluster_hello_timeout);
    while process.cluster.next_command().is_some() {}
    assert!(process.cluster.usage().lines <= 1);
}

#[test]
fn what_was_missed_is_asked_for_again() {
    let mut world = cluster(2, 1, 8);
    publish(&mut world, 0, 0);
    world.run(SECOND);
    // A withdrawal that was never sent.
    let (line, key) = {
        let process = world.nodes[1].as_ref().unwrap();
        (*process.lines.keys().next().unwrap(), world.nodes[0].as_ref().unwrap().key)
    };
    let ended = relay::cluster::message::Ended { name: world.names[0].clone(), epoch: 1 };
    let payload = Message::Withdraw { entries: vec![ended] }.encode();
    world.act(1, |cluster, now| cluster.received(line, &payload, now));
    let known = |world: &World| {
        let view = world.nodes[1].as_ref().unwrap().cluster.stream(&world.names[0]);
        view.and_then(|view| view.term).is_some_and(|term| term.origin == key)
    };
    assert!(!known(&world));
    assert!(world.until(world.limits.directory_refresh + SECOND, known));
    assert_eq!(world.nodes[1].as_ref().unwrap().cluster.counters().resyncs, 1);
}

/// With something broken on purpose a judge must find it, in words that hold `expected`.
#[track_caller]
fn finds(planted: Planted, expected: &str) {
    let size = Size { nodes: 6, streams: 2, readers: 5, trouble: Duration::ZERO, deeds: 0 };
    let mut found = Vec::new();
    for seed in 0..20 {
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut world = prepared(seed, size);
            world.planted = planted;
            world.run(SECOND * 4);
            if planted == Planted::Circle {
                world.turn_round(0);
            }
            world.publish(5, 1, TAKE);
            world.publish(4, 0, TAKE);
            world.run(SECOND * 4);
            quiet(&mut world, size)
        }));
        if let Err(panic) = run {
            let text = panic.downcast_ref::<String>().cloned();
            found.push(text.unwrap_or_else(|| "a panic".to_owned()));
        }
    }
    assert_eq!(found.is_empty(), expected.is_empty(), "{found:?}");
    assert!(expected.is_empty() || found.iter().any(|text| text.contains(expected)), "{found:?}");
}

#[test]
fn what_is_broken_on_purpose_is_found() {
    finds(Planted::Nothing, "");
    finds(Planted::Circle, "runs in a circle");
    finds(Planted::Stubborn, "reads a stream of its own");
    finds(Planted::Forgetful, "");
    finds(Planted::Deaf, "is not served");
    finds(Planted::Narrow, "peers, at most");
    finds(Planted::Clinging, "and nobody");
}
