//! A relay whose grace is short, and players of one stream of it that record into files.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, Player};
use super::clip::LENGTH;
use super::packets::Recording;
use super::process::Process;
use super::relay::{Options, Relay};
use super::{Scratch, ffmpeg, gstreamer, rtmpdump};

/// From a publisher's last packet to the end of every player: the grace below and room to spare.
pub(crate) const END_MAX: Duration = Duration::from_secs(30);

/// Short, so that players end soon after their publisher. They may all come before it.
const SHORT_GRACE: &str = "[limits]\nstream_grace = \"2s\"\n[apps.live]\nunknown_flv = \"wait\"\n";

/// A relay with a short grace in a directory of its own.
pub(crate) struct Scene {
    pub(crate) relay: Relay,
    pub(crate) scratch: Scratch,
}

impl Scene {
    pub(crate) fn new(test: &str, rtmp: &str) -> Self {
        let scratch = Scratch::new(test);
        let options = Options { rtmp, configuration: SHORT_GRACE, ..Options::default() };
        Self { relay: Relay::start(scratch.path(), &options), scratch }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.file(&format!("{name}.flv"))
    }

    pub(crate) fn url(&self) -> String {
        self.relay.url("clip")
    }

    pub(crate) fn ffmpeg_player(&self, name: &str) -> Process {
        ffmpeg::record(self.scratch.path(), name, &self.url(), &self.file(name))
    }

    pub(crate) fn rtmpdump_player(&self, name: &str) -> Process {
        rtmpdump::record(self.scratch.path(), name, &self.url(), &self.file(name))
    }

    pub(crate) fn gstreamer_player(&self, name: &str) -> Process {
        gstreamer::record(self.scratch.path(), name, &self.url(), &self.file(name))
    }

    /// A player that hides nothing, read on a thread until its stream has ended.
    pub(crate) fn bare_player(&self) -> JoinHandle<Result<Recording, String>> {
        let client = Client::open(self.relay.rtmp).unwrap();
        let mut player = Player::join(client, "live", "clip").unwrap();
        thread::spawn(move || {
            let end = Instant::now() + LENGTH + END_MAX * 2;
            let why = player.read(end, |player| player.ends > 0)?;
            if player.ends == 0 {
                return Err(format!("{why:?} before the end of the stream was told"));
            }
            Ok(player.recording)
        })
    }

    pub(crate) fn recording(&self, name: &str) -> Recording {
        Recording::of_file(&self.file(name))
    }
}
