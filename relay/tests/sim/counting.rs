//! What is counted is what happened: ends by their reasons, times by what took them.

use relay::wire::amf::Value;
use relay::worker::labels::{CloseReason, HandshakeResult, RefuseReason, Role, Transport};
use relay::worker::report::{ConnectionFilter, Query};
use relay::worker::settings::Settings;

use super::node::FIRST_WORKER;
use super::node::on;
use super::publisher::Plan;
use super::world::{World, millis, secs};

#[test]
fn an_orderly_close_is_no_refusal_and_a_refusal_is_one() {
    let mut world = World::new(1, Settings::default(), 1, 65_536);
    world.publish(0, None, Plan::default());
    let [orderly, wordy] = [0, 0].map(|stream| world.play(stream, None));
    world.under_way();
    world.players[orderly].command(0, "close", &[Value::Null]);
    world.run(secs(3));
    let ends = |world: &World| [CloseReason::Client, CloseReason::Refused].map(|r| world.closed(r));
    assert_eq!(ends(&world), [1, 0]);
    assert_eq!(world.refused(RefuseReason::Name), 0);
    let name = "x".repeat(600);
    let play = [Value::Null, Value::text(&name), Value::Number(-2.0)];
    world.players[wordy].command(1, "play", &play);
    world.run(secs(3));
    assert_eq!(ends(&world), [1, 1]);
    assert_eq!(world.refused(RefuseReason::Name), 1);
    world.end(secs(20));
}

#[test]
fn a_handshake_that_we_end_is_not_the_peers() {
    let mut world = World::new(2, Settings::default(), 1, 65_536);
    let [operator, peer, drain] = [0; 3].map(|_| world.net.connect(on(FIRST_WORKER)));
    world.run(millis(100));
    let filter = ConnectionFilter::default();
    let list =
        world.node.ask(0, |reply| Query::Connections { after: None, filter, limit: 9, reply });
    world.settle();
    let pending: Vec<_> =
        list.take().iter().map(|connection| (connection.id, connection.role)).collect();
    assert_eq!(pending.len(), 3);
    assert!(pending.iter().all(|(_, role)| *role == Role::Pending));
    let (connection, _) = pending[0];
    let closed = world.node.ask(0, |reply| Query::Close { connection, reply });
    world.run(millis(100));
    assert!(closed.take());
    let results = |world: &World| {
        [HandshakeResult::Closed, HandshakeResult::Eof].map(|result| {
            world.node.sum(|cells| cells.handshakes.at((result, Transport::Rtmp)).get())
        })
    };
    assert_eq!(results(&world), [1, 0]);
    drop(peer);
    world.run(millis(100));
    assert_eq!(results(&world), [1, 1]);
    world.node.stations[0].handle.ask(Query::Stop).unwrap();
    world.run(secs(1));
    assert_eq!(results(&world), [2, 1]);
    drop((operator, drain));
}

#[test]
fn what_a_player_joins_with_is_not_the_relays_delay() {
    let mut world = World::new(3, Settings::default(), 1, 65_536);
    world.publish(0, None, Plan { gop: 100, ..Plan::default() });
    world.run(secs(7));
    world.play(0, None);
    world.run(secs(2));
    let cells = &world.node.stations[0].cells;
    let mean_ms = |reading: &relay::worker::cells::HistogramReading| {
        assert!(reading.count() > 10, "{} observed", reading.count());
        reading.sum_ns() / reading.count() / 1_000_000
    };
    let (_, fanout) = cells.fanout_lag.iter().next().unwrap();
    assert!(mean_ms(&fanout) < 50, "{} ms", mean_ms(&fanout));
    // It was seven seconds behind its publisher once, which it was asked to be.
    let lag = cells.player_lag.read();
    assert!(lag.count() > 10 && lag.count() >= fanout.count(), "{} observed", lag.count());
    let sends = cells.sends.get();
    assert!(sends >= lag.count(), "{sends} sends");
    world.end(secs(20));
}
