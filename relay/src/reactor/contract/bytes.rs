//! How bytes pass: received once per request, sent whole and in order, paused by either end.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::harness::{Harness, Peer};
use super::rig::{Event, Rig, pattern};
use crate::reactor::{Batch, Reactor, SLICES_MAX};

pub(super) fn receives_once_per_request<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    let bytes = pattern(1, 20_000);
    rig.write_bytes(&mut peer, &bytes);
    rig.expect_nothing();
    let mut received: Vec<u8> = Vec::new();
    while received.len() < bytes.len() {
        rig.receive(connection);
        rig.receive(connection);
        rig.settle();
        match &rig.events[..] {
            [Event::Received(from, more)] if *from == connection => received.extend(more),
            events => panic!("not one receive: {events:?}"),
        }
        rig.events.clear();
    }
    assert_eq!(received, bytes);
    // One that waits is served by what comes later.
    rig.receive(connection);
    rig.expect_nothing();
    rig.write_bytes(&mut peer, b"later");
    let later = rig.event("bytes", |event| match event {
        Event::Received(from, bytes) if *from == connection => Some(bytes.clone()),
        _ => None,
    });
    assert!(b"later".starts_with(&later));
}

pub(super) fn a_peer_that_is_not_received_from_stops<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    let block = pattern(2, 64 * 1024);
    let mut written = 0;
    loop {
        let count = peer.write(&block[written % block.len()..]);
        written += count;
        assert!(written < 64 * 1024 * 1024, "nothing stops the peer");
        if count == 0 {
            rig.settle();
            let count = peer.write(&block[written % block.len()..]);
            written += count;
            if count == 0 {
                break;
            }
        }
    }
    assert_eq!(rig.events, []);
    let received = rig.receive_bytes(connection, written);
    let expected: Vec<u8> = block.iter().copied().cycle().take(written).collect();
    assert!(received == expected, "{}: the bytes differ", rig.harness.describe());
    rig.write_bytes(&mut peer, b"on we go");
    assert_eq!(rig.receive_bytes(connection, 8), b"on we go");
}

pub(super) fn sends_whole_batches_in_order<H: Harness>(rig: &mut Rig<H>) {
    let slices = |seed, lengths: &[usize]| -> Vec<Bytes> {
        let mut all = Bytes::from(pattern(seed, lengths.iter().sum()));
        lengths.iter().map(|length| all.split_to(*length)).collect()
    };
    let rows: [(&str, Vec<Bytes>); 9] = [
        ("one byte", slices(1, &[1])),
        ("a segment", slices(2, &[16_384])),
        ("several", slices(3, &[100, 61_440, 1])),
        ("empty ones between", slices(4, &[0, 5, 0, 0, 7, 0])),
        ("as many as one call takes", slices(5, &[11; SLICES_MAX])),
        ("more than one call takes", slices(6, &[1_001; 3 * SLICES_MAX + 1])),
        ("more than the buffers hold", slices(7, &[1_000_000])),
        ("the same in parts", slices(8, &[99_999; 13])),
        ("nothing", slices(9, &[0])),
    ];
    let (mut peer, connection) = rig.pair();
    for (name, slices) in rows {
        let expected = slices.concat();
        let batch = match &slices[..] {
            [one] => Batch::One(one.clone()),
            many => Batch::Many(many.to_vec()),
        };
        assert_eq!(batch.bytes(), expected.len());
        rig.send(connection, batch);
        let read = rig.read_bytes(&mut peer, expected.len());
        assert!(read == expected, "{}: {name}: the bytes differ", rig.harness.describe());
        rig.expect(&Event::Sent(connection, expected.len()));
    }
    rig.expect_nothing();
    // An empty list, too, is a whole batch.
    rig.send(connection, Batch::Many(Vec::new()));
    rig.expect(&Event::Sent(connection, 0));
    let counters = rig.reactor.counters();
    assert!(counters.sends > counters.short_sends && counters.short_sends > 0, "{counters:?}");
}

pub(super) fn a_stalled_batch_is_held_until_it_is_gone<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    let bytes = rig.stall(connection);
    assert_eq!(rig.events, []);
    assert!(!bytes.is_unique(), "the reactor holds the batch");
    let before = rig.reactor.counters();
    rig.settle();
    // Not even when something arrives from the peer.
    rig.write_bytes(&mut peer, b"hello");
    assert_eq!(rig.receive_bytes(connection, 5), b"hello");
    rig.expect_nothing();
    assert_eq!(rig.reactor.counters().sends, before.sends, "nothing is tried without room");
    let read = rig.read_bytes(&mut peer, bytes.len());
    assert!(read == bytes, "{}: the bytes differ", rig.harness.describe());
    rig.expect(&Event::Sent(connection, bytes.len()));
    if !rig.harness.copies() {
        rig.until("the peer's acknowledgement", |_| bytes.is_unique().then_some(()));
    }
    assert!(bytes.is_unique(), "the reactor let go of the batch");
}

pub(super) fn a_second_send_is_refused<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    let bytes = rig.stall(connection);
    let second = Bytes::from(b"too early".to_vec());
    rig.send(connection, Batch::One(second.clone()));
    rig.expect(&Event::SendFailed(connection, ErrorKind::InvalidInput));
    assert!(second.is_unique());
    let read = rig.read_bytes(&mut peer, bytes.len());
    rig.expect(&Event::Sent(connection, bytes.len()));
    rig.expect_nothing();
    assert!(read == bytes, "{}: the bytes differ", rig.harness.describe());
}

pub(super) fn what_is_at_hand_ends_the_wait<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    rig.write_bytes(&mut peer, &pattern(3, 50_000));
    rig.settle();
    let started = Instant::now();
    rig.send(connection, Batch::One(Bytes::from_static(b"x")));
    rig.reactor.wait(Some(Duration::from_secs(20)));
    rig.drain();
    assert_eq!(rig.events, [Event::Sent(connection, 1)]);
    // No event announces the rest of what arrived at once: the reactor has to remember it.
    let mut received = 0;
    while received < 50_000 {
        rig.events.clear();
        rig.receive(connection);
        rig.reactor.wait(Some(Duration::from_secs(20)));
        rig.drain();
        match &rig.events[..] {
            [Event::Received(from, bytes)] if *from == connection => received += bytes.len(),
            events => panic!("{}: {events:?}", rig.harness.describe()),
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it waited for what was at hand");
    }
}

pub(super) fn a_wake_ends_the_wait<H: Harness>(rig: &mut Rig<H>) {
    let waker = rig.reactor.waker();
    let started = Instant::now();
    waker.wake();
    rig.reactor.wait(Some(Duration::from_secs(20)));
    let other = waker.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        other.wake();
    });
    rig.reactor.wait(Some(Duration::from_secs(20)));
    thread.join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "it slept on");
    rig.expect_nothing();
}
