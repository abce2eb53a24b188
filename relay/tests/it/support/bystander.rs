//! A player that watches a clip while others do what they like, and must notice nothing of it.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, Player};
use super::clip::{Clip, LENGTH};
use super::ffmpeg;
use super::packets::Recording;
use super::process::Process;
use super::relay::Relay;

/// From the end of the clip to that of the player, on a busy host.
const END_MAX: Duration = Duration::from_secs(60);

/// A player, and the publisher of its stream.
pub(crate) struct Bystander {
    publisher: Process,
    player: JoinHandle<Result<Recording, String>>,
}

impl Bystander {
    /// Plays `live/clip` from before its first packet on.
    pub(crate) fn join(relay: &Relay, dir: &Path) -> Self {
        let client = Client::open(relay.rtmp).unwrap();
        let mut player = Player::join(client, "live", "clip").unwrap();
        let publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("clip"));
        let player = thread::spawn(move || {
            let end = Instant::now() + LENGTH + END_MAX;
            player.read(end, |player| player.ends > 0).map(|_| player.recording)
        });
        Self { publisher, player }
    }

    /// Waits for the end of the clip: every packet of it came, once and in order.
    pub(crate) fn noticed_nothing(mut self) {
        self.publisher.succeed(LENGTH + END_MAX);
        let recording = self.player.join().unwrap().unwrap();
        assert_eq!(Clip::Plain.sent().check_whole(&recording), Ok(()));
    }
}
