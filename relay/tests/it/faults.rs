//! Publishers that die, players that stop, encoders that fight: what the others notice of it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::{Client, Player};
use crate::support::clip::{Clip, LENGTH};
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, ffmpeg, gstreamer, long, rtmpdump, wait_for};

const END_MAX: Duration = Duration::from_secs(30);

/// Bits of `Clip::Heavy` per second, audio included, as bytes.
const HEAVY_BYTES_PER_SECOND: u64 = 4_200_000 / 8;

#[test]
fn players_stay_when_the_publisher_is_killed_and_comes_back_from_zero() {
    let scratch = Scratch::new("killed");
    let dir = scratch.path();
    let configuration = "[limits]\nstream_grace = \"6s\"\n";
    let relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let url = relay.url("clip");
    let file = |name: &str| scratch.file(&format!("{name}.flv"));
    let mut players = [
        ("ffmpeg", ffmpeg::record(dir, "ffmpeg", &url, &file("ffmpeg"))),
        ("dump", rtmpdump::record(dir, "dump", &url, &file("dump"))),
        ("gst", gstreamer::record(dir, "gst", &url, &file("gst"))),
    ];
    let mut bare = Player::join(Client::open(relay.rtmp).unwrap(), "live", "clip").unwrap();
    relay.wait_for_role("player", 4);
    let reading = thread::spawn(move || {
        let end = Instant::now() + LENGTH * 2 + END_MAX * 2;
        bare.read(end, |player| player.ends > 0).map(|why| (why, bare))
    });

    let lives = if long() { 5 } else { 1 };
    for life in 0..lives {
        let mut publisher = ffmpeg::publish(dir, &format!("life-{life}"), Clip::Plain, &url);
        thread::sleep(Duration::from_secs(7));
        publisher.must_run();
        publisher.kill();
        thread::sleep(Duration::from_secs(3));
        for (_, player) in &mut players {
            player.must_run();
        }
    }
    ffmpeg::publish(dir, "last-life", Clip::Plain, &url).succeed(LENGTH + END_MAX);
    for (_, player) in &mut players {
        player.succeed(END_MAX);
    }

    let sent = Clip::Plain.sent();
    let check = |name: &str, recording: &Recording| {
        let parts = sent.check_resumed(recording).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        assert_eq!(parts, lives + 1, "{name}");
        assert_eq!(recording.check_monotonic(), Ok(()), "{name}");
    };
    let (why, bare) = reading.join().unwrap().unwrap();
    assert_eq!(bare.ends, 1, "{why:?} without word that the stream has ended");
    check("bare", &bare.recording);
    for (name, _) in &players {
        check(name, &Recording::of_file(&file(name)));
    }
}

#[test]
fn a_player_that_stops_for_30_s_harms_nobody_and_resumes_at_a_key_frame() {
    let scratch = Scratch::new("stops");
    let dir = scratch.path();
    let configuration = "[limits]\nstream_grace = \"2s\"\n";
    let mut relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let url = relay.url("clip");
    let narrow = Client::open_narrow(relay.rtmp, 16 * 1024).unwrap();
    let mut stopping = Player::join(narrow, "live", "clip").unwrap();
    let mut steady = Player::join(Client::open(relay.rtmp).unwrap(), "live", "clip").unwrap();
    let frozen_file = scratch.file("frozen.flv");
    let mut frozen = ffmpeg::record(dir, "frozen", &url, &frozen_file);
    relay.wait_for_role("player", 3);
    let passes = 3;
    let sent = Clip::Heavy.sent_looped(passes, dir);
    let mut publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Heavy, passes, &url);
    let started = Instant::now();
    let steady = thread::spawn(move || {
        let last = started + LENGTH * passes + END_MAX;
        steady.read(last, |player| player.ends > 0).map(|_| steady)
    });

    // The log is full when the player stops, so that growth from here on is the player's doing.
    stopping.read(started + END_MAX, |player| !player.recording.0.is_empty()).unwrap();
    stopping.read(Instant::now() + Duration::from_secs(18), |_| false).unwrap();
    let at_stop = relay.resident_bytes();
    let mut most = at_stop;
    let stopped = Instant::now();
    frozen.signal(Signal::STOP);
    while stopped.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(200));
        most = most.max(relay.resident_bytes());
    }
    frozen.signal(Signal::CONT);
    let last = started + LENGTH * passes + END_MAX;
    stopping.read(last, |player| player.ends > 0).unwrap();
    publisher.succeed(END_MAX);
    let steady = steady.join().unwrap().unwrap();
    relay.must_run();

    assert_eq!(sent.check_whole(&steady.recording), Ok(()), "the player that went on");
    let gaps = sent.check_jumps(&stopping.recording).unwrap();
    assert_eq!(gaps.len(), 1, "one jump, and not {gaps:?}");
    frozen.succeed(END_MAX);
    // FFmpeg's own receive buffer may hold so much that it hardly falls behind.
    let jumps = sent.check_jumps(&Recording::of_file(&frozen_file)).unwrap();
    assert!(jumps.len() <= 1, "one jump at most, and not {jumps:?}");
    let grown = most.saturating_sub(at_stop);
    // A queue of its own would have grown by 30 s of the stream.
    let bound = HEAVY_BYTES_PER_SECOND * 6;
    eprintln!("standing player: jump {gaps:?}, relay grew by {grown} of at most {bound} bytes");
    assert!(grown < bound, "the relay grew by {grown} bytes while one player stood still");
}

#[test]
fn a_player_that_never_reads_again_is_closed_and_counted() {
    let scratch = Scratch::new("stuck");
    let dir = scratch.path();
    let configuration = "[limits]\nsend_stall_max = \"4s\"\nstream_grace = \"2s\"\n";
    let relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let narrow = Client::open_narrow(relay.rtmp, 16 * 1024).unwrap();
    let _stuck = Player::join(narrow, "live", "clip").unwrap();
    let mut steady = Player::join(Client::open(relay.rtmp).unwrap(), "live", "clip").unwrap();
    let url = relay.url("clip");
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Heavy, &url);
    let reading = thread::spawn(move || {
        let end = Instant::now() + LENGTH + END_MAX;
        steady.read(end, |player| player.ends > 0).map(|_| steady)
    });
    let closed = |relay: &Relay| {
        let labels = [("role", "player"), ("reason", "slow")];
        relay.metrics().sum("relay_connections_closed_total", &labels)
    };
    assert_eq!(closed(&relay), Some(0.0));
    wait_for("the stuck player to be closed", LENGTH, || {
        (closed(&relay) == Some(1.0)).then_some(())
    });
    publisher.succeed(LENGTH + END_MAX);
    let steady = reading.join().unwrap().unwrap();
    assert_eq!(Clip::Heavy.sent().check_whole(&steady.recording), Ok(()));
}

/// One encoder that starts again a moment after it has ended, as hardware encoders do.
struct Stubborn {
    name: &'static str,
    url: String,
    running: Process,
    starts: u32,
}

impl Stubborn {
    fn start(dir: &Path, name: &'static str, address: SocketAddr) -> Self {
        let url = format!("rtmp://{address}/live/clip");
        let running = ffmpeg::publish_looped(dir, name, Clip::Plain, 10, &url);
        Self { name, url, running, starts: 1 }
    }

    fn start_again_if_ended(&mut self, dir: &Path) {
        if self.running.ended().is_some() {
            thread::sleep(Duration::from_millis(300));
            self.starts += 1;
            let name = format!("{}-{}", self.name, self.starts);
            self.running = ffmpeg::publish_looped(dir, &name, Clip::Plain, 10, &self.url);
        }
    }
}

#[test]
fn two_encoders_that_fight_for_a_name_end_with_one_that_stays() {
    let scratch = Scratch::new("fight");
    let dir = scratch.path();
    // Two addresses: an encoder that comes back from its own address is never held off.
    let relay = Relay::start(dir, &Options { rtmp: "[::]:0", ..Options::default() });
    let port = relay.rtmp.port();
    let mut one = Stubborn::start(dir, "one", SocketAddr::from(([127, 0, 0, 1], port)));
    relay.wait_for_role("publisher", 1);
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let mut two = Stubborn::start(dir, "two", v6);

    let fight = Instant::now();
    let quiet_from = Duration::from_secs(15);
    let quiet_to = Duration::from_secs(if long() { 120 } else { 45 });
    let mut holders = HashSet::new();
    while fight.elapsed() < quiet_to {
        one.start_again_if_ended(dir);
        two.start_again_if_ended(dir);
        thread::sleep(Duration::from_millis(100));
        if fight.elapsed() > quiet_from {
            holders.extend([&one, &two].map(|encoder| (encoder.name, encoder.starts)));
        }
    }
    let lives = |name| holders.iter().filter(|(of, _)| *of == name).count();
    let counts = (lives("one"), lives("two"));
    assert!(
        counts.0 == 1 || counts.1 == 1,
        "after {quiet_from:?} both still started again: {counts:?} lives in the rest"
    );
    assert!(counts.0 > 1 || counts.1 > 1, "both encoders ran: {counts:?}");
    relay.wait_for_role("publisher", 1);
}
