//! How connections come to be: accepted from a listener, or dialled.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::harness::{Harness, Peer};
use super::rig::{Event, Rig, pattern};
use crate::reactor::sim::SimRead;
use crate::reactor::{Batch, ConnectionKey, Operation, Reactor};

pub(super) fn tells_both_addresses<H: Harness>(rig: &mut Rig<H>) {
    rig.accept(true);
    let client = rig.harness.peer(rig.address);
    let (peer, local) = rig.event("connection", |event| match event {
        Event::Accepted { peer, local, .. } => Some((*peer, *local)),
        _ => None,
    });
    assert_eq!((peer, local), (client.address(), rig.address));
}

pub(super) fn starts_turned_off_and_stops_when_told<H: Harness>(rig: &mut Rig<H>) {
    let first = rig.harness.peer(rig.address);
    rig.expect_nothing();
    rig.accept(true);
    accepted(rig, first.address());
    rig.accept(false);
    let second = rig.harness.peer(rig.address);
    rig.expect_nothing();
    rig.accept(true);
    rig.accept(true);
    accepted(rig, second.address());
    let third = rig.harness.peer(rig.address);
    accepted(rig, third.address());
    rig.expect_nothing();
}

pub(super) fn takes_a_bounded_number_per_drain<H: Harness>(rig: &mut Rig<H>) {
    let peers: Vec<_> = (0..200).map(|_| rig.harness.peer(rig.address)).collect();
    rig.settle();
    rig.accept(true);
    // That no drain took more than 64 of them is asserted by the rig.
    rig.until("200 connections", |rig| (rig.events.len() == peers.len()).then_some(()));
    rig.settle();
    assert_eq!(rig.events.len(), peers.len());
}

pub(super) fn a_closed_listener_hands_over_what_was_queued<H: Harness>(rig: &mut Rig<H>) {
    let listener = rig.listener;
    let close = || Operation::CloseListener { listener };
    let mut peers: Vec<_> = (0..150).map(|_| rig.harness.peer(rig.address)).collect();
    rig.expect_nothing();
    rig.submit([close(), close(), Operation::Accept { listener, on: false }]);
    rig.until("end of the listener", |rig| {
        rig.events.ends_with(&[Event::ListenerClosed]).then_some(())
    });
    assert_eq!(rig.events.len(), 150 + 1);
    for event in rig.events.drain(..150).collect::<Vec<_>>() {
        let Event::Accepted { connection, peer, .. } = event else { panic!("{event:?}") };
        let place = peers.iter().position(|other| other.address() == peer);
        let mut peer = peers.remove(place.unwrap());
        let bytes = pattern(connection.0, 100);
        rig.send(connection, Batch::One(bytes.clone().into()));
        rig.expect(&Event::Sent(connection, 100));
        assert_eq!(rig.read_bytes(&mut peer, 100), bytes);
    }
    rig.events.clear();
    // Nothing that names the listener means anything any more.
    rig.submit([Operation::Accept { listener, on: true }]);
    rig.expect_nothing();
    let address = rig.address;
    rig.submit([Operation::Connect { token: 1, address }]);
    rig.expect(&Event::ConnectFailed { token: 1, kind: ErrorKind::ConnectionRefused });
    rig.submit([Operation::Accept { listener, on: true }]);
    rig.expect_nothing();
}

pub(super) fn connects_or_says_why_not<H: Harness>(rig: &mut Rig<H>) {
    let address = rig.harness.nobody();
    rig.submit([Operation::Connect { token: 3, address }]);
    rig.expect(&Event::ConnectFailed { token: 3, kind: ErrorKind::ConnectionRefused });
    rig.expect_nothing();
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
    // Many at once; each answer carries its own token.
    rig.submit((10..20).map(|token| Operation::Connect { token, address }));
    for token in 10..20 {
        rig.expect(&Event::ConnectFailed { token, kind: ErrorKind::ConnectionRefused });
    }
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
}

pub(super) fn a_connection_to_oneself_carries_bytes<H: Harness>(rig: &mut Rig<H>) {
    rig.accept(true);
    let address = rig.address;
    rig.submit([Operation::Connect { token: 5, address }]);
    let (dialled, from) = rig.event("connection", |event| match event {
        Event::Connected { token: 5, connection, peer, local } if *peer == address => {
            Some((*connection, *local))
        }
        _ => None,
    });
    let called = accepted(rig, from);
    for (sender, receiver) in [(dialled, called), (called, dialled)] {
        let bytes = pattern(sender.0, 10_000);
        rig.send(sender, Batch::One(bytes.clone().into()));
        assert_eq!(rig.receive_bytes(receiver, bytes.len()), bytes);
        rig.expect(&Event::Sent(sender, bytes.len()));
    }
    rig.receive(called);
    rig.close(dialled);
    rig.expect(&Event::Closed(dialled));
    rig.expect(&Event::ReceiveEnded(called, None));
    rig.expect_nothing();
}

pub(super) fn fails_when_files_run_out<H: Harness>(rig: &mut Rig<H>) {
    let mut peers: Vec<_> = (0..10).map(|_| rig.harness.peer(rig.address)).collect();
    rig.settle();
    rig.harness.limit_files(&mut rig.reactor, Some(3));
    rig.accept(true);
    rig.expect(&Event::AcceptFailed);
    assert_eq!(rig.events.len(), 3, "{:?}", rig.events);
    // It is off now, and does not spin.
    let before = rig.reactor.counters().syscalls;
    rig.settle();
    assert!(rig.reactor.counters().syscalls - before < 50);
    assert_eq!(rig.events.len(), 3, "{:?}", rig.events);
    // Turned on too early, it fails again, and once.
    rig.accept(true);
    rig.expect(&Event::AcceptFailed);
    let address = rig.address;
    rig.submit([Operation::Connect { token: 1, address }]);
    rig.event("refusal", |event| {
        matches!(event, Event::ConnectFailed { token: 1, .. }).then_some(())
    });
    rig.settle();
    assert_eq!(rig.events.len(), 3, "{:?}", rig.events);
    rig.harness.limit_files(&mut rig.reactor, Some(4));
    rig.accept(true);
    rig.expect(&Event::AcceptFailed);
    assert_eq!(rig.events.len(), 7, "{:?}", rig.events);
    // A listener that cannot take all of its queue closes all the same; the rest is turned away.
    rig.submit([Operation::CloseListener { listener: rig.listener }]);
    rig.expect(&Event::AcceptFailed);
    rig.expect(&Event::ListenerClosed);
    rig.settle();
    assert_eq!(rig.events.len(), 7, "{:?}", rig.events);
    rig.harness.limit_files(&mut rig.reactor, None);
    let served = |peer: &&mut H::Peer| {
        let address = peer.address();
        rig.events
            .iter()
            .any(|event| matches!(event, Event::Accepted { peer, .. } if *peer == address))
    };
    let unserved = peers.iter_mut().filter(|peer| !served(peer));
    let reads: Vec<_> = unserved.map(|peer| peer.read(&mut Vec::new(), 1)).collect();
    assert_eq!(reads, [SimRead::Reset; 3]);
}

fn accepted<H: Harness>(rig: &mut Rig<H>, from: SocketAddr) -> ConnectionKey {
    rig.event("connection", |event| match event {
        Event::Accepted { connection, peer, .. } if *peer == from => Some(*connection),
        _ => None,
    })
}
