//! What players cost in user space: the figures of "How much memory" in the README.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use relay::reactor::socket::raise_file_limit;

use crate::support::client::Client;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, wait_for};

/// Enough that what the program takes anyway does not show.
const PLAYERS: u32 = 2_000;

/// What the program may take before anybody comes.
const EMPTY_MAX: u64 = 16 * 1024 * 1024;

/// What a player may cost that waits for a publisher.
const IDLE_MAX: u64 = 4 * 1024;

/// What a player may cost that is sent a stream, the stream's log apart.
const PLAYING_MAX: u64 = 8 * 1024;

/// Bytes of a picture; 25 of them a second are 500 kbit/s.
const PICTURE: usize = 2_500;

#[test]
fn a_player_costs_no_more_memory_than_is_said() {
    raise_file_limit().unwrap();
    let scratch = Scratch::new("memory");
    let relay = Relay::start(scratch.path(), &Options::default());
    // What is taken once is taken before it is measured.
    play(&relay);
    relay.metrics();
    let empty = relay.resident_bytes();
    let players: Vec<_> = (0..PLAYERS).map(|_| play(&relay)).collect();
    relay.wait_for_role("player", PLAYERS);
    thread::sleep(Duration::from_secs(1));
    let idle = (relay.resident_bytes() - empty) / u64::from(PLAYERS);

    let crowd = Crowd::of(players);
    let log = publish(&relay, Duration::from_secs(10));
    let each = crowd.received() / u64::from(PLAYERS);
    let playing = (relay.resident_bytes() - empty).saturating_sub(log) / u64::from(PLAYERS);
    println!("the program takes {empty} bytes");
    println!("an idle player costs {idle} bytes, a playing one {playing} ({each} bytes played)");
    assert!(each > 500_000, "only {each} bytes came per player");
    assert!(empty < EMPTY_MAX, "the program takes {empty} bytes");
    assert!(idle < IDLE_MAX, "an idle player costs {idle} bytes");
    assert!(playing < PLAYING_MAX, "a playing player costs {playing} bytes");
    drop(crowd);
    wait_for("the players' memory to be given back", Duration::from_secs(20), || {
        let held = relay.metrics().sum("relay_memory_bytes", &[("kind", "connection")]);
        (held == Some(0.0)).then_some(())
    });
}

/// A player of a stream that is not there yet.
fn play(relay: &Relay) -> TcpStream {
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("live").unwrap();
    client.play("clip").unwrap();
    client.into_socket()
}

/// Publishes the stream for so long, by the clock, and gives the bytes of its log then.
fn publish(relay: &Relay, time: Duration) -> u64 {
    let mut publisher = Client::open(relay.rtmp).unwrap();
    publisher.enter("live").unwrap();
    publisher.publish("clip").unwrap();
    publisher.message(9, 0, 1, &[0x17, 0, 0, 0, 0, 1, 2, 3, 4]);
    let begun = Instant::now();
    for frame in 0_u32.. {
        let at = Duration::from_millis(40) * frame;
        if at >= time {
            break;
        }
        thread::sleep(at.saturating_sub(begun.elapsed()));
        let mut picture = vec![0x27, 1, 0, 0, 0];
        if frame.is_multiple_of(50) {
            picture[0] = 0x17;
        }
        picture.resize(PICTURE, 0x55);
        publisher.message(9, frame * 40, 1, &picture);
    }
    // The sum is made twice a second.
    thread::sleep(Duration::from_secs(1));
    let log = relay.metrics().sum("relay_memory_bytes", &[("kind", "log")]).unwrap();
    assert!(log > 100_000.0, "the log holds {log} bytes");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let log = log as u64;
    log
}

/// Sockets from which a thread takes everything at once.
struct Crowd {
    received: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Crowd {
    fn of(mut sockets: Vec<TcpStream>) -> Self {
        let (received, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&received), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            while !end.load(Ordering::Relaxed) {
                for socket in &mut sockets {
                    match socket.read(&mut buffer) {
                        Ok(0) => panic!("a player was closed"),
                        Ok(bytes) => {
                            let bytes = u64::try_from(bytes).unwrap();
                            count.fetch_add(bytes, Ordering::Relaxed);
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => panic!("a player was closed: {error}"),
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { received, over, thread: Some(thread) }
    }

    /// Bytes so far, over all of them.
    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the players failed");
    }
}
