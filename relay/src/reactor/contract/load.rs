//! Many connections: nothing of them is left, and nothing of their bytes is lost or mixed up.

use std::collections::BTreeMap;

use super::harness::{Harness, Peer};
use super::rig::{Event, Rig, pattern};
use crate::reactor::sim::SimRead;
use crate::reactor::{Batch, ConnectionKey, Operation};

pub(super) fn a_thousand_connections_leave_nothing_behind<H: Harness>(rig: &mut Rig<H>) {
    rig.accept(true);
    let bytes = bytes::Bytes::from(pattern(8, 2_000));
    for _ in 0..20 {
        let peers: Vec<_> = (0..50).map(|_| rig.harness.peer(rig.address)).collect();
        let mut open = Vec::new();
        while open.len() < peers.len() {
            open.push(rig.event("connection", |event| match event {
                Event::Accepted { connection, .. } => Some(*connection),
                _ => None,
            }));
        }
        for (place, (connection, mut peer)) in open.iter().copied().zip(peers).enumerate() {
            rig.receive(connection);
            rig.send(connection, Batch::One(bytes.clone()));
            match place % 4 {
                0 => drop(peer),
                1 => peer.reset(),
                2 => peer.shutdown(),
                _ => assert_eq!(peer.write(b"hello"), 5),
            }
            rig.turn();
        }
        rig.submit(open.iter().map(|connection| Operation::Close { connection: *connection }));
        for connection in open {
            rig.expect(&Event::Closed(connection));
        }
        rig.events.clear();
    }
    rig.expect_nothing();
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
    assert!(bytes.is_unique(), "no batch is left");
}

/// One connection of the random test and what the two ends should have seen of each other.
struct Line<P> {
    peer: P,
    written: Vec<u8>,
    received: Vec<u8>,
    receiving: bool,
    sent: Vec<u8>,
    read: Vec<u8>,
    sending: bool,
}

pub(super) fn random_traffic_arrives_complete_and_in_order<H: Harness>(rig: &mut Rig<H>) {
    let seed = 0x7aff_1c00;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut lines = BTreeMap::new();
    for _ in 0..8 {
        let (peer, connection) = rig.pair();
        lines.insert(
            connection,
            Line {
                peer,
                written: Vec::new(),
                received: Vec::new(),
                receiving: false,
                sent: Vec::new(),
                read: Vec::new(),
                sending: false,
            },
        );
    }
    for step in 0..3_000 {
        let last = step > 2_000;
        let place = rng.usize(..lines.len());
        let (connection, line) = lines.iter_mut().nth(place).unwrap();
        match rng.u8(if last { 4..8 } else { 0..8 }) {
            0 => {
                let data = pattern(rng.u64(..), rng.usize(1..20_000));
                let count = line.peer.write(&data);
                line.written.extend(&data[..count]);
            }
            1 if !line.sending => {
                let slices: Vec<bytes::Bytes> = (0..rng.usize(1..6))
                    .map(|_| pattern(rng.u64(..), rng.usize(0..60_000)).into())
                    .collect();
                line.sent.extend(slices.concat());
                line.sending = true;
                rig.send(*connection, Batch::Many(slices));
            }
            2 if !line.sending => {
                let data = pattern(rng.u64(..), rng.usize(0..61_440));
                line.sent.extend(&data);
                line.sending = true;
                rig.send(*connection, Batch::One(data.into()));
            }
            3 | 4 if !line.receiving => {
                line.receiving = true;
                rig.receive(*connection);
            }
            5 | 6 => {
                let _ = line.peer.read(&mut line.read, rng.usize(1..100_000));
            }
            _ => {
                rig.turn();
            }
        }
        book(&mut rig.events, &mut lines, seed);
    }
    // All that is left arrives.
    rig.until("the rest", |rig| {
        for (connection, line) in &mut lines {
            while matches!(line.peer.read(&mut line.read, 65_536), SimRead::Data(_)) {}
            if !line.receiving && line.received.len() < line.written.len() {
                line.receiving = true;
                rig.receive(*connection);
            }
        }
        rig.turn();
        book(&mut rig.events, &mut lines, seed);
        lines
            .values()
            .all(|line| {
                !line.sending
                    && line.read.len() >= line.sent.len()
                    && line.received.len() >= line.written.len()
            })
            .then_some(())
    });
    let about = rig.harness.describe();
    for (connection, line) in &lines {
        assert!(!line.written.is_empty() && !line.sent.is_empty(), "seed {seed}: too little");
        assert!(line.received == line.written, "{about}, traffic {seed}: {connection:?} in");
        assert!(line.read == line.sent, "{about}, traffic {seed}: {connection:?} out");
    }
}

fn book<P>(events: &mut Vec<Event>, lines: &mut BTreeMap<ConnectionKey, Line<P>>, seed: u64) {
    for event in events.drain(..) {
        match event {
            Event::Received(connection, bytes) => {
                let line = lines.get_mut(&connection).unwrap();
                line.received.extend(bytes);
                line.receiving = false;
            }
            Event::Sent(connection, _) => lines.get_mut(&connection).unwrap().sending = false,
            event => panic!("traffic {seed}: {event:?}"),
        }
    }
}
