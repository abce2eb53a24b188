//! Ends: of a stream, of a grace, of the node.

use relay::limits::Limits;
use relay::worker::labels::{CloseReason, RefuseReason};
use relay::worker::report::Query;
use relay::worker::settings::{AppSettings, Settings, UnknownStream};

use super::publisher::Plan;
use super::world::{World, millis, secs};

const GONE: &str = "NetStream.Play.UnpublishNotify";

#[test]
fn when_the_grace_is_over_players_on_every_worker_are_told() {
    for vanishes in [false, true] {
        let limits = Limits { publisher_silence_max: secs(5), ..Limits::default() };
        let grace = limits.stream_grace;
        let mut world = World::new(1, Settings { limits, ..Settings::default() }, 2, 65_536);
        world.publish(0, Some(0), Plan::default());
        for worker in [0, 1, 0, 1] {
            world.play(0, Some(worker));
        }
        world.run(secs(2));
        let silence = if vanishes {
            world.vanish(0);
            secs(5)
        } else {
            world.publishers[0].finish();
            secs(0)
        };
        world.run(silence + grace - secs(1));
        assert!(world.players.iter().all(|player| player.line.is_some() && !player.heard(GONE)));
        let late = world.play(0, Some(1));
        world.run(secs(2));
        for (index, player) in world.players.iter().enumerate() {
            assert!(player.heard(GONE), "player {index}: {:?}", player.codes);
        }
        assert!(world.players[late].viewer.seen.keys > 0, "the log outlives its publisher");
        assert_eq!(world.closed(CloseReason::Ended), 5);
        world.end(secs(1));
    }
}

#[test]
fn a_stream_that_comes_back_in_its_grace_goes_on() {
    for worker in [0, 1] {
        let mut world = World::new(2, Settings::default(), 2, 65_536);
        world.publish(0, Some(0), Plan::default());
        for worker in [0, 1] {
            let player = world.play(0, Some(worker));
            world.players[player].viewer.prompt = true;
        }
        world.run(secs(2));
        world.publishers[0].finish();
        world.run(secs(14));
        let next = world.publish(0, Some(worker), Plan { orphans: 3, ..Plan::default() });
        world.run(secs(2));
        assert!(world.publishers[next].is_live());
        world.catch_up();
        for player in &world.players {
            assert_eq!((player.viewer.jumps, player.viewer.position.unwrap().epoch), (0, 1));
        }
        world.end(secs(20));
    }
}

#[test]
fn an_unknown_stream_is_refused_where_the_application_says_so() {
    let other_apps =
        AppSettings { unknown_stream: UnknownStream::Reject, ..AppSettings::default() };
    let settings = Settings { other_apps, ..Settings::default() };
    let mut world = World::new(3, settings, 2, 65_536);
    for worker in [0, 1] {
        let player = world.play(0, Some(worker));
        world.run(secs(1));
        assert!(world.players[player].heard("NetStream.Play.StreamNotFound"));
        assert!(world.players[player].line.is_none());
    }
    assert_eq!(world.refused(RefuseReason::UnknownStream), 2);
    world.publish(0, Some(0), Plan::default());
    world.run(secs(1));
    for worker in [0, 1] {
        world.play(0, Some(worker));
    }
    world.run(secs(2));
    assert!(world.players[2..].iter().all(|player| player.viewer.seen.keys > 0));
    world.end(secs(20));
}

#[test]
fn a_player_waits_for_a_stream_that_nobody_publishes_yet() {
    let mut world = World::new(4, Settings::default(), 2, 65_536);
    for worker in [0, 1] {
        world.play(0, Some(worker));
    }
    world.run(secs(3));
    world.publish(0, Some(1), Plan::default());
    world.run(secs(2));
    for player in &world.players {
        assert!(player.heard("NetStream.Play.PublishNotify"), "{:?}", player.codes);
        assert_eq!(player.viewer.jumps, 0);
    }
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn a_drain_lets_those_inside_finish_and_nobody_in() {
    let mut world = World::new(5, Settings::default(), 2, 65_536);
    world.publish(0, Some(0), Plan::default());
    for worker in [0, 1] {
        world.play(0, Some(worker));
    }
    world.run(secs(2));
    for core in [0, 1] {
        world.node.stations[core].handle.ask(Query::Drain { window: secs(3) }).unwrap();
    }
    world.run(millis(200));
    let late = world.play(0, Some(0));
    world.run(secs(2));
    assert_eq!(world.players[late].codes, ["reset"], "nobody listens any more");
    assert!(world.publishers[0].is_live());
    world.publishers[0].silent = true;
    world.run(millis(300));
    assert!(world.players[..2].iter().all(|player| player.viewer.is_up_to_date()));
    world.run(secs(2));
    for (core, station) in world.node.stations.iter().enumerate() {
        assert!(station.worker.has_ended(), "worker {core}");
        assert_eq!(station.cells.connections.total(), 0, "worker {core}");
        assert_eq!(station.reactor.connections(), 0, "worker {core}");
    }
    assert_eq!(world.closed(CloseReason::Drain), 3);
    assert_eq!(world.node.shared.connections(), 0);
    world.node.check_accounts();
    world.players.iter_mut().for_each(super::player::Player::leave);
    world.publishers[0].finish();
    world.run(secs(1));
    assert_eq!(world.net.connections(), 0);
}
