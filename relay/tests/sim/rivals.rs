//! Publishers that want one name: take-over, hold-off, and a home that moves from worker to worker.

use bytes::{Buf, BytesMut};
use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::wire::chunk_writer::write_message;
use relay::wire::message::{MessageHeader, MessageType};
use relay::wire::reply;
use relay::wire::timestamp::Timestamp;
use relay::worker::labels::{CloseReason, RefuseReason, Role};
use relay::worker::report::{Query, StreamKey};
use relay::worker::settings::{AppSettings, PublishConflict, Settings};
use relay::worker::turn;

use super::node::{FIRST_WORKER, on, sum_where};
use super::publisher::Plan;
use super::world::{World, millis, secs};

#[test]
fn a_fight_for_a_name_ends_with_one_of_the_two() {
    let mut world = World::new(1, Settings::default(), 2, 65_536);
    for worker in [0, 1] {
        let publisher = world.publish(0, Some(worker), Plan::default());
        world.publishers[publisher].again_after = Some(millis(200));
        world.play(0, Some(worker));
        world.run(secs(2));
    }
    world.run(secs(40));
    assert!(world.publishers[1].is_live(), "the second took over and holds the name");
    assert_eq!(world.closed(CloseReason::Takeover), 1);
    let as_publisher = world.node.sum(|cells| {
        sum_where(&cells.connections_closed, |(role, _, reason)| {
            role == Role::Publisher && reason == CloseReason::Takeover
        })
    });
    assert_eq!(as_publisher, 1, "it counts as what it was");
    assert!(world.refused(RefuseReason::Holdoff) > 100, "the first keeps asking");
    let settled = world.ledger.borrow().last(0).unwrap().epoch;
    assert_eq!(settled, 1, "each published once");
    world.publishers[0].finish();
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn the_next_publisher_continues_on_another_worker() {
    for (from, to) in [(0, 1), (1, 0), (0, 0)] {
        let mut world = World::new(2, Settings::default(), 2, 65_536);
        world.publish(0, Some(from), Plan { first_timestamp: 500_000, ..Plan::default() });
        for worker in [0, 1, 0, 1] {
            let player = world.play(0, Some(worker));
            world.players[player].viewer.prompt = true;
        }
        world.run(secs(3));
        assert_eq!(world.home(0), Some(from.into()));
        world.publish(0, Some(to), Plan::default());
        world.run(secs(3));
        assert_eq!(world.home(0), Some(to.into()));
        assert!(world.publishers[0].heard("NetStream.Publish.BadName"), "the first was told");
        world.catch_up();
        for player in &world.players {
            assert_eq!((player.viewer.jumps, player.viewer.position.unwrap().epoch), (0, 1));
        }
        let ledger = world.ledger.borrow();
        let tail = ledger.tail(0, 0).unwrap();
        let first = ledger.epoch(0, 1).unwrap().iter().position(|sent| sent.kind.is_coded());
        let first =
            super::material::Id { epoch: 1, seq: u32::try_from(first.unwrap()).unwrap(), ..tail };
        let step = ledger.relayed_time(first).wrapping_sub(ledger.relayed_time(tail));
        assert_eq!(step, 80, "one frame behind the last");
        drop(ledger);
        world.end(secs(20));
    }
}

#[test]
fn of_publishers_that_ask_at_the_same_moment_one_gets_the_name() {
    for holder in 0..3 {
        for first in 0..3 {
            for second in 0..3 {
                ask_at_once(holder, [first, second]);
            }
        }
    }
}

fn ask_at_once(holder: u16, rivals: [u16; 2]) {
    let mut world = World::new(3, Settings::default(), 3, 65_536);
    world.publish(0, Some(holder), Plan::default());
    for worker in 0..3 {
        world.play(0, Some(worker));
    }
    world.run(secs(2));
    for worker in rivals {
        world.publish(0, Some(worker), Plan::default());
    }
    world.run(secs(3));
    let case = format!("held on {holder}, wanted on {rivals:?}");
    let live: Vec<_> = world.publishers.iter().map(|publisher| publisher.is_live()).collect();
    assert_eq!(live.iter().filter(|live| **live).count(), 1, "{case}: {live:?}");
    for (index, publisher) in world.publishers.iter().enumerate() {
        let told = publisher.heard("NetStream.Publish.BadName");
        assert_ne!(publisher.line.is_some(), told, "{case}: {index}: {:?}", publisher.codes);
    }
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_publisher_on_another_worker_is_refused_where_the_application_says_so() {
    let other_apps =
        AppSettings { publish_conflict: PublishConflict::Reject, ..AppSettings::default() };
    let settings = Settings { other_apps, ..Settings::default() };
    let mut world = World::new(4, settings, 2, 65_536);
    world.publish(0, Some(1), Plan::default());
    world.play(0, Some(0));
    world.run(secs(1));
    let second = world.publish(0, Some(0), Plan::default());
    world.run(secs(3));
    assert!(world.publishers[0].is_live() && !world.publishers[second].is_live());
    assert!(world.publishers[second].heard("NetStream.Publish.BadName"));
    assert_eq!(world.refused(RefuseReason::Conflict), 1);
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_publisher_that_vanished_is_taken_over_by_itself() {
    let limits = Limits { publisher_silence_max: secs(20), ..Limits::default() };
    let mut world = World::new(5, Settings { limits, ..Settings::default() }, 2, 65_536);
    world.publish(0, Some(0), Plan::default());
    world.play(0, Some(0));
    world.play(0, Some(1));
    for (worker, seconds) in [(1, 1), (0, 4), (1, 4), (0, 9)] {
        world.run(secs(2));
        world.vanish(0);
        world.run(secs(seconds));
        world.publishers[0].door = on(FIRST_WORKER + worker);
        world.publishers[0].begin(&world.net);
        world.expect("it publishes again", |world| world.publishers[0].is_live());
    }
    world.run(secs(2));
    world.catch_up();
    for player in &world.players {
        assert_eq!(player.viewer.position.unwrap().epoch, 4, "the same play, all the time");
    }
    world.end(secs(20));
}

#[test]
fn a_publisher_that_goes_before_it_is_let_in_leaves_its_name_to_others() {
    for (from, to) in [(1, 0), (1, 1), (0, 1)] {
        let mut world = World::new(6, Settings::default(), 2, 2_000);
        world.play(0, Some(0));
        world.run(secs(1));
        let mut hasty = world.net.connect(on(FIRST_WORKER + from));
        let now = world.now();
        let mut words = asking_to_publish();
        while !words.is_empty() {
            let written = hasty.write(&words);
            words.advance(written);
            turn_alone(&mut world, from, now);
        }
        // Its worker has asked for the name, and loses it, with replies that had no room, before
        // it hears of the grant.
        hasty.reset();
        turn_alone(&mut world, from, now);
        world.run(secs(1));
        let next = world.publish(0, Some(to), Plan::default());
        world.run(secs(3));
        assert!(world.publishers[next].is_live(), "from worker {from} to {to}");
        assert_eq!(world.home(0), Some(to.into()));
        world.catch_up();
        world.end(secs(20));
    }
}

#[test]
fn a_fixed_flush_age_goes_with_the_stream_from_worker_to_worker() {
    let other_apps = AppSettings { flush: Some(millis(800)), ..AppSettings::default() };
    for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))) {
        let settings = Settings { other_apps: other_apps.clone(), ..Settings::default() };
        let mut world = World::new(7, settings, 3, 65_536);
        let plan = Plan { gop: 1_000, new_headers: 0, ..Plan::default() };
        world.play(0, Some(2));
        for worker in [from, to] {
            world.publish(0, Some(worker), plan.clone());
            world.run(secs(2));
            let before = sealed(&world, worker);
            world.run(secs(8));
            let segments = sealed(&world, worker) - before;
            assert!((9..=11).contains(&segments), "{from} to {to}: {segments} on {worker}");
        }
        world.end(secs(20));
    }
}

/// Segments of the one stream so far, as its home knows.
fn sealed(world: &World, worker: u16) -> u64 {
    let hub = world.node.stations[usize::from(worker)].worker.hub();
    hub.keys().find_map(|key| hub.log(key)).unwrap().next()
}

#[test]
fn what_is_known_of_a_stream_goes_with_it_from_worker_to_worker() {
    let mut world = World::new(8, Settings::default(), 3, 65_536);
    world.run(secs(1));
    let mut last = 0;
    for (epoch, worker) in (1..).zip([0_u16, 1, 2, 2, 0]) {
        world.publish(0, Some(worker), Plan::default());
        world.run(secs(3));
        let key = StreamKey::new("live", "s0");
        let answer = world.node.ask(usize::from(worker), |reply| Query::Stream { key, reply });
        world.settle();
        let home = answer.take().unwrap().home.unwrap();
        assert_eq!(home.epoch, epoch);
        assert!(home.since < secs(2), "it began {:?} after the node", home.since);
        // At least 3 s of 25 messages of 20 bytes and more.
        assert!(home.bytes_in > last + 1_500, "{} after {last}", home.bytes_in);
        last = home.bytes_in;
    }
    world.end(secs(20));
}

#[test]
fn a_verdict_that_never_comes_ends_the_connection() {
    let mut world = World::new(9, Settings::default(), 2, 65_536);
    let mut asking = world.net.connect(on(FIRST_WORKER + 1));
    assert!(asking.write(&asking_to_publish()) > 3_000);
    // The registrar's worker stands still.
    let timeout = Limits::default().verdict_timeout;
    for (time, closed) in [(timeout - secs(1), 0), (secs(2), 1)] {
        let end = world.now() + time;
        while world.now() < end {
            let now = world.now() + millis(100);
            world.net.advance_to(now);
            turn_alone(&mut world, 1, now);
        }
        assert_eq!(world.closed(CloseReason::Timeout), closed, "{time:?}");
    }
    drop(asking);
    world.end(secs(20));
}

/// Turns of one worker, while the others stand still.
fn turn_alone(world: &mut World, worker: u16, now: std::time::Duration) {
    let station = &mut world.node.stations[usize::from(worker)];
    for _ in 0..4 {
        turn::step(&mut station.worker, &mut station.reactor, now);
    }
}

/// All that a publisher says until it is let in, without waiting for any answer.
fn asking_to_publish() -> BytesMut {
    let mut out = BytesMut::new();
    out.extend_from_slice(&[3]);
    out.extend_from_slice(&[0; 2 * 1_536]);
    let app = Value::object([("app", Value::text("live"))]);
    let publish = [Value::Null, Value::text("s0"), Value::text("live")];
    let calls: [(u32, &str, &[Value<'_>]); 3] =
        [(0, "connect", &[app]), (0, "createStream", &[Value::Null]), (1, "publish", &publish)];
    for (place, (message_stream, name, values)) in calls.into_iter().enumerate() {
        let mut payload = BytesMut::new();
        reply::call(&mut payload, name, f64::from(u32::try_from(place).unwrap() + 1), values);
        let kind = MessageType::CommandAmf0;
        let header = MessageHeader { timestamp: Timestamp(0), length: 0, kind, message_stream };
        write_message(&mut out, 3, &header, &payload, 128);
    }
    out
}
