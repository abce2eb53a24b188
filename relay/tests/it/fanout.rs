//! Many players over several workers: everybody gets the same bytes.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Player};
use crate::support::clip::{Clip, LENGTH};
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, ffmpeg, long};

const END_MAX: Duration = Duration::from_secs(40);

#[test]
fn two_workers_give_200_players_equal_bytes() {
    let count = if long() { 500 } else { 200 };
    let scratch = Scratch::new("fanout");
    let dir = scratch.path();
    let configuration = "[limits]\nstream_grace = \"2s\"\n";
    let arguments = &["--workers", "2"][..];
    let relay = Relay::start(dir, &Options { configuration, arguments, ..Options::default() });
    let mut players = Vec::new();
    for _ in 0..count {
        let client = Client::open(relay.rtmp).unwrap();
        let mut player = Player::join(client, "live", "clip").unwrap();
        let builder = thread::Builder::new().stack_size(256 * 1024);
        let reading = builder.spawn(move || {
            let end = Instant::now() + LENGTH + END_MAX * 3;
            player.read(end, |player| player.ends > 0).map(|why| (why, player))
        });
        players.push(reading.unwrap());
    }
    relay.wait_for_role("player", u32::try_from(count).unwrap());
    let metrics = relay.metrics();
    for core in ["0", "1"] {
        let labels = [("role", "player"), ("core", core)];
        let here = metrics.sum("relay_connections", &labels).unwrap();
        assert!(here > f64::from(count) / 10.0, "only {here} players on core {core}");
    }

    ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("clip")).succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    let mut hashes: HashMap<_, usize> = HashMap::new();
    for (number, player) in players.into_iter().enumerate() {
        let (why, player) = player.join().unwrap().unwrap();
        assert_eq!(player.ends, 1, "player {number}: {why:?} before the end of the stream");
        assert_eq!(sent.check_whole(&player.recording), Ok(()), "player {number}");
        *hashes.entry(player.bytes_hash()).or_default() += 1;
    }
    assert_eq!(hashes.len(), 1, "the chunks differ in groups of {:?}", hashes.values());
}
