//! No buffer is let go before its last completion: each one is spoilt when it is, and receivers
//! that are quick, slow, dead or stopped look at every byte.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::Socket;

use super::{UringOptions, connected};
use crate::reactor::{Batch, Completion, ConnectionKey, Operation, Reactor};

/// Memory that is spoilt as soon as nobody holds it.
struct Canary {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Canary {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.bytes.fill(SPOILT);
        // The writes above are not to be optimised away.
        std::hint::black_box(&self.bytes);
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

const SPOILT: u8 = 0xdd;

/// What stands at an offset of a line: never the spoilt byte.
fn expected(line: usize, offset: usize) -> u8 {
    let mixed = (offset / 7 + offset * 31 + line * 131) % 211;
    u8::try_from(mixed).expect("less than 211")
}

fn canary(line: usize, offset: usize, length: usize, alive: &Arc<AtomicUsize>) -> Bytes {
    alive.fetch_add(1, Ordering::Relaxed);
    let bytes = (offset..offset + length).map(|offset| expected(line, offset)).collect();
    Bytes::from_owner(Canary { bytes, alive: Arc::clone(alive) })
}

/// How a receiver behaves.
#[derive(Clone, Copy, Debug)]
enum Habit {
    Quick,
    Slow,
    /// Stops reading, and resets after a while.
    Dies,
}

/// Reads to the end and looks at every byte; gives how many there were.
fn receive(line: usize, habit: Habit, mut peer: TcpStream) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut buffer = vec![0; 20_000];
        let mut offset = 0;
        loop {
            let count = match peer.read(&mut buffer) {
                Ok(0) | Err(_) => return offset,
                Ok(count) => count,
            };
            for (place, byte) in buffer[..count].iter().enumerate() {
                let at = offset + place;
                assert_eq!(*byte, expected(line, at), "line {line}, {habit:?}, byte {at}");
            }
            offset += count;
            match habit {
                Habit::Quick => {}
                Habit::Slow => thread::sleep(Duration::from_millis(1)),
                Habit::Dies if offset > 200_000 => {
                    thread::sleep(Duration::from_millis(50));
                    let socket = Socket::from(peer);
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                    return offset;
                }
                Habit::Dies => {}
            }
        }
    })
}

struct Line {
    connection: ConnectionKey,
    offset: usize,
    sending: bool,
    open: bool,
}

impl Line {
    /// The next batch of random length and form.
    fn batch(&mut self, number: usize, rng: &mut fastrand::Rng, alive: &Arc<AtomicUsize>) -> Batch {
        let mut slice = |length| {
            let bytes = canary(number, self.offset, length, alive);
            self.offset += length;
            bytes
        };
        match rng.u8(..4) {
            0 => Batch::Two([slice(rng.usize(1..5_000)), slice(rng.usize(1..60_000))]),
            1 => {
                let count = rng.usize(1..40);
                Batch::Many((0..count).map(|_| slice(rng.usize(1..3_000))).collect())
            }
            _ => Batch::One(slice(rng.usize(1..200_000))),
        }
    }
}

/// Runs lines with every habit until all of them have ended, or drops the reactor at some point.
fn check(settings: &UringOptions, seed: u64, drop_early: bool) {
    const LINES: usize = 24;
    const LINE_BYTES: usize = 1_500_000;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let alive = Arc::new(AtomicUsize::new(0));
    let (mut reactor, keys, peers) = connected(settings, LINES);
    let habits = [Habit::Quick, Habit::Slow, Habit::Dies];
    let readers: Vec<_> = peers
        .into_iter()
        .enumerate()
        .map(|(line, peer)| receive(line, habits[line % 3], peer))
        .collect();
    let mut lines: Vec<_> = keys
        .into_iter()
        .map(|connection| Line { connection, offset: 0, sending: false, open: true })
        .collect();
    let started = Instant::now();
    let (mut closed, mut most_alive) = (0, 0);
    while closed < LINES {
        assert!(started.elapsed() < Duration::from_secs(60), "seed {seed}: it does not end");
        let mut operations = Vec::new();
        for (number, line) in lines.iter_mut().enumerate().filter(|(_, line)| line.open) {
            // Some are closed in the midst of a batch, most after their last.
            if line.offset >= LINE_BYTES && !line.sending || rng.u32(..5_000) == 0 {
                line.open = false;
                operations.push(Operation::Close { connection: line.connection });
            } else if !line.sending {
                line.sending = true;
                let batch = line.batch(number, &mut rng, &alive);
                operations.push(Operation::Send { connection: line.connection, batch });
            }
        }
        reactor.submit(&mut operations);
        most_alive = most_alive.max(alive.load(Ordering::Relaxed));
        if drop_early && started.elapsed() > Duration::from_millis(30) {
            break;
        }
        reactor.wait(Some(Duration::from_millis(1)));
        let mut failed = Vec::new();
        reactor.drain(&mut |completion| match completion {
            Completion::Sent { connection, .. } => {
                let line = lines.iter_mut().find(|line| line.connection == connection).unwrap();
                line.sending = false;
            }
            Completion::SendFailed { connection, .. } => {
                let line = lines.iter_mut().find(|line| line.connection == connection).unwrap();
                line.open = false;
                failed.push(Operation::Close { connection });
            }
            Completion::Closed { .. } => closed += 1,
            completion => panic!("seed {seed}: {completion:?}"),
        });
        reactor.submit(&mut failed);
    }
    if !drop_early {
        assert_eq!(alive.load(Ordering::Relaxed), 0, "seed {seed}: closed, and still held");
    }
    drop(reactor);
    assert_eq!(alive.load(Ordering::Relaxed), 0, "seed {seed}: dropped, and still held");
    assert!(most_alive > 0, "seed {seed}: nothing was ever held");
    let received: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert!(received > 1_000_000, "seed {seed}: only {received} bytes arrived");
}

const SEEDS: std::ops::Range<u64> = 0..3;

fn zero_copy() -> UringOptions {
    UringOptions {
        zero_copy_bytes_min: Some(1),
        zero_copy_to_loopback: true,
        zero_copy_though_copied: true,
        ..UringOptions::default()
    }
}

#[test]
fn a_batch_is_held_until_the_kernel_has_it() {
    SEEDS.for_each(|seed| check(&UringOptions::default(), seed, false));
}

#[test]
fn a_batch_that_is_not_copied_is_held_until_its_notification() {
    SEEDS.for_each(|seed| check(&zero_copy(), seed, false));
}

#[test]
fn a_reactor_that_is_dropped_waits_for_what_the_kernel_has() {
    SEEDS.for_each(|seed| check(&UringOptions::default(), seed, true));
    SEEDS.for_each(|seed| check(&zero_copy(), seed, true));
}
