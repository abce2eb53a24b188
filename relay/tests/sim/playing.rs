//! What a player may ask for: pauses, tracks, several plays on one connection.

use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::wire::assembler::{Assembled, MessageAssembler};
use relay::wire::chunk_reader::ChunkReader;
use relay::wire::control::ControlMessage;
use relay::wire::message::{MediaKind, MessageType};
use relay::worker::settings::Settings;

use super::material::read;
use super::player::Pace;
use super::publisher::Plan;
use super::viewer::{Shows, Viewer};
use super::world::{World, millis, secs};

/// A stream on worker 0 and a player on each of two workers.
fn rig(seed: u64, capacity: usize) -> World {
    let mut world = World::new(seed, Settings::default(), 2, capacity);
    world.publish(0, Some(0), Plan::default());
    for worker in [0, 1] {
        world.play(0, Some(worker));
    }
    world.under_way();
    world.run(secs(2));
    world
}

#[test]
fn a_pause_stops_everything_and_ends_at_a_key_frame() {
    let mut world = rig(1, 65_536);
    for _ in 0..3 {
        for player in &mut world.players {
            player.command(1, "pause", &[Value::Null, Value::Boolean(true), Value::Number(0.0)]);
        }
        world.run(millis(50));
        let before = [0, 1].map(|player: usize| world.players[player].viewer.seen);
        world.run(secs(3));
        assert_eq!(before, [0, 1].map(|player: usize| world.players[player].viewer.seen));
        for player in &mut world.players {
            player.command(1, "pause", &[Value::Null, Value::Boolean(false), Value::Number(0.0)]);
        }
        world.run(secs(2));
        for (player, before) in world.players.iter().zip(before) {
            assert!(player.viewer.seen.keys > before.keys);
        }
    }
    world.catch_up();
    world.end(secs(20));
}

#[test]
fn the_bytes_sent_of_a_stream_never_fall() {
    let mut world = rig(20, 65_536);
    world.players[1].leave();
    let at_leaving = world.bytes_out(0);
    world.players[0].leave();
    // Worker 1 forgets the stream; then its home moves there, and worker 0 forgets it.
    let mut least = at_leaving;
    for step in 0..200 {
        world.run(millis(100));
        if step == 100 {
            world.publish(0, Some(1), Plan::default());
        }
        let now = world.bytes_out(0);
        assert!(now >= least && least > 0, "{now} after {least} in step {step}");
        least = now;
    }
    assert_eq!(world.home(0), Some(1));
    world.end(secs(20));
}

#[test]
fn tracks_can_be_left_out_and_taken_up_again() {
    let choices = [("receiveVideo", Shows::AUDIO), ("receiveAudio", Shows::VIDEO)];
    for (seed, (command, shows)) in (2..).zip(choices) {
        let mut world = rig(seed, 65_536);
        for player in &mut world.players {
            player.viewer.choose(shows);
            player.command(1, command, &[Value::Null, Value::Boolean(false)]);
        }
        world.run(millis(200));
        let before = [0, 1].map(|player: usize| world.players[player].viewer.seen);
        world.run(secs(3));
        for (player, before) in world.players.iter().zip(before) {
            let seen = player.viewer.seen;
            assert_eq!(seen.video > before.video, shows.video, "{command}");
            assert_eq!(seen.audio > before.audio, shows.audio, "{command}");
        }
        let views = world.node.stations[0].worker.hub().held_bytes().views;
        assert!(views > 0, "what they read is a view");
        for player in &mut world.players {
            player.viewer.choose(Shows::ALL);
            player.command(1, command, &[Value::Null, Value::Boolean(true)]);
        }
        let before = [0, 1].map(|player: usize| world.players[player].viewer.seen);
        world.run(secs(2));
        for (player, before) in world.players.iter().zip(before) {
            let seen = player.viewer.seen;
            assert!(seen.video > before.video && seen.audio > before.audio, "{command}");
        }
        let views = world.node.stations[0].worker.hub().held_bytes().views;
        assert_eq!(views, 0, "a view goes with its last reader");
        world.catch_up();
        world.end(secs(20));
    }
}

/// A second publisher, and a second play on player 0's connection.
fn second_play(world: &mut World, plan: Plan) {
    world.publish(1, Some(1), plan);
    let ledger = world.ledger.clone();
    let player = &mut world.players[0];
    player.second = Some(Viewer::new(&ledger, 1, "player 0, second play".to_owned()));
    player.stays = true;
    player.command(0, "createStream", &[Value::Null]);
    player.command(2, "play", &[Value::Null, Value::text("s1"), Value::Number(-2.0)]);
}

#[test]
fn two_plays_share_a_connection_and_keep_apart() {
    let mut world = World::new(4, Settings::default(), 2, 65_536);
    world.publish(0, Some(0), Plan::default());
    world.play(0, Some(0));
    world.players[0].line.as_mut().unwrap().tape = Some(Vec::new());
    world.under_way();
    second_play(&mut world, Plan::default());
    world.run(secs(3));
    let seen = world.players[0].second.as_ref().unwrap().seen;
    assert!(seen.keys > 0 && seen.audio > 20);
    assert_eq!(world.players[0].viewer.jumps, 0);
    let tape = world.players[0].line.as_mut().unwrap().tape.take().unwrap();
    let by_message_stream = message_streams(&tape);
    assert!(by_message_stream.len() > 100);
    for (message_stream, stream) in by_message_stream {
        assert_eq!(message_stream, u32::from(stream) + 1, "stream {stream}");
    }
    // The second one ends; the first goes on.
    world.players[0].command(0, "deleteStream", &[Value::Null, Value::Number(2.0)]);
    world.run(millis(100));
    let seen = world.players[0].second.as_ref().unwrap().seen;
    world.run(secs(2));
    assert_eq!(world.players[0].second.as_ref().unwrap().seen, seen);
    world.catch_up();
    world.end(secs(20));
}

/// The message stream id of each media message and the stream that its payload names.
fn message_streams(tape: &[u8]) -> Vec<(u32, u8)> {
    const HANDSHAKE_BYTES: usize = 1 + 2 * 1_536;
    let limits = Limits::default();
    let mut reader = ChunkReader::new(&limits);
    let mut assembler = MessageAssembler::new(&limits);
    let mut found = Vec::new();
    let mut input = &tape[HANDSHAKE_BYTES..];
    while let Some(fragment) = reader.next(&mut input).unwrap() {
        match assembler.push(&fragment).unwrap() {
            Some(Assembled::Media { header, message }) => {
                let payload: Vec<u8> = message.payload().flatten().copied().collect();
                let id = read(message.kind(), &payload).unwrap();
                found.push((header.message_stream, id.stream));
            }
            Some(Assembled::Plain { header, payload }) => match header.kind {
                MessageType::DataAmf0 => {
                    let id = read(MediaKind::Data, payload);
                    found.extend(id.map(|id| (header.message_stream, id.stream)));
                }
                kind => {
                    if let Ok(Some(ControlMessage::SetChunkSize(size))) =
                        ControlMessage::parse(kind, payload)
                    {
                        reader.set_chunk_size(size).unwrap();
                    }
                }
            },
            Some(Assembled::Dropped { .. }) | None => {}
        }
    }
    found
}

/// How a play ends while one of its messages is half sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    StreamIsGone,
    PlayerCloses,
    PlayerPlaysAnother,
}

#[test]
fn a_message_half_sent_is_finished_whatever_ends_its_play() {
    for end in [End::StreamIsGone, End::PlayerCloses, End::PlayerPlaysAnother] {
        let mut world = World::new(5, Settings::default(), 2, 4_000);
        world.publish(0, Some(0), Plan::default());
        world.play(0, Some(0));
        world.under_way();
        // Every key frame is larger than two batches, and than all replies together may be.
        let plan = Plan { key: (300_000, 0), gop: 40, ..Plan::default() };
        second_play(&mut world, plan);
        world.players[0].pace = Pace::Slow { bytes: 2_000, every: millis(10) };
        world.expect("the large key frame is on its way", |world| {
            world.ledger.borrow().last(1).is_some() && world.players[0].bytes > 100_000
        });
        world.players[0].pace = Pace::Stalled;
        world.run(millis(500));
        // A reply that has to wait for the end of the message.
        world.players[0].command(0, "getStreamLength", &[]);
        world.run(millis(100));
        match end {
            End::StreamIsGone => world.publishers[1].finish(),
            End::PlayerCloses => world.players[0].command(2, "closeStream", &[Value::Null]),
            End::PlayerPlaysAnother => {
                let again = [Value::Null, Value::text("s9"), Value::Number(-2.0)];
                world.players[0].command(2, "play", &again);
            }
        }
        world.run(secs(17));
        assert_eq!(world.players[0].second.as_ref().unwrap().seen.keys, 0);
        world.players[0].pace = Pace::Prompt;
        world.run(secs(3));
        let player = &world.players[0];
        assert!(player.line.is_some(), "{end:?}: {:?}", player.codes);
        assert_eq!(player.second.as_ref().unwrap().seen.keys, 1, "{end:?}: it came whole");
        if end == End::StreamIsGone {
            assert!(player.heard("NetStream.Play.UnpublishNotify"), "{:?}", player.codes);
        }
        world.publishers[1].finish();
        world.catch_up();
        world.end(secs(20));
    }
}

#[test]
fn a_play_anew_on_the_same_message_stream_begins_behind_the_batch_under_way() {
    for (seed, worker) in [(7, 0), (8, 1)] {
        let mut world = World::new(seed, Settings::default(), 2, 4_000);
        let plan = Plan { key: (30_000, 0), inter: (9_000, 0), ..Plan::default() };
        world.publish(0, Some(0), plan);
        world.play(0, Some(worker));
        world.under_way();
        for _ in 0..5 {
            world.players[0].pace = Pace::Stalled;
            world.run(secs(1));
            let again = [Value::Null, Value::text("s0"), Value::Number(-2.0)];
            world.players[0].command(1, "play", &again);
            world.players[0].plays_anew = true;
            // The batch of the play before goes while the new one has its seat and nothing sent.
            world.run(millis(300));
            world.players[0].pace = Pace::Prompt;
            world.run(secs(2));
            assert!(!world.players[0].plays_anew, "{:?}", world.players[0].codes);
            assert!(world.players[0].viewer.seen.keys > 0, "the new play plays");
        }
        world.publishers[0].plan.key = (400, 0);
        world.run(secs(1));
        world.catch_up();
        world.end(secs(20));
    }
}
