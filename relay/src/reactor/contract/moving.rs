//! How connections move from one reactor to another.

use crate::reactor::sim::SimRead;
use crate::reactor::{Batch, Operation};

use super::harness::{Harness, Peer};
use super::rig::{Event, Rig, pattern};

pub(super) fn a_released_connection_goes_on_in_another_reactor<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, old) = rig.pair();
    let at = rig.address;
    let bytes = pattern(11, 9_000);
    rig.write_bytes(&mut peer, &bytes);
    rig.settle();
    let socket = rig.release(old);
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
    // Its key means nothing any more.
    rig.submit([
        Operation::Receive { connection: old },
        Operation::Send { connection: old, batch: Batch::One(bytes.clone().into()) },
        Operation::Release { connection: old },
        Operation::Close { connection: old },
    ]);
    rig.expect_nothing();
    let first = rig.change_reactor();
    rig.submit([Operation::Adopt { token: 7, socket }]);
    let (new, from, local) = rig.event("adoption", |event| match event {
        Event::Adopted { token: 7, connection, peer, local } => Some((*connection, *peer, *local)),
        _ => None,
    });
    assert_eq!((from, local), (peer.address(), at));
    assert_eq!(rig.harness.connections(&rig.reactor), 1);
    drop(first);
    // What came before is there, and both directions go on.
    assert_eq!(rig.receive_bytes(new, bytes.len()), bytes);
    rig.receive(new);
    rig.expect_nothing();
    rig.write_bytes(&mut peer, b"more");
    let more = rig.event("bytes", |event| match event {
        Event::Received(from, bytes) if *from == new => Some(bytes.clone()),
        _ => None,
    });
    assert!(b"more".starts_with(&more));
    let many = pattern(12, 300_000);
    rig.send(new, Batch::One(many.clone().into()));
    assert!(rig.read_bytes(&mut peer, many.len()) == many);
    rig.expect(&Event::Sent(new, many.len()));
    rig.close(new);
    rig.expect(&Event::Closed(new));
    rig.until("end at the peer", |_| {
        matches!(peer.read(&mut Vec::new(), 10), SimRead::Eof | SimRead::Reset).then_some(())
    });
}

pub(super) fn a_release_abandons_what_is_outstanding<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, old) = rig.pair();
    let bytes = rig.stall(old);
    rig.receive(old);
    rig.expect_nothing();
    let socket = rig.release(old);
    assert!(bytes.is_unique() || !rig.harness.copies(), "its buffers are released");
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
    rig.write_bytes(&mut peer, b"hello");
    rig.submit([Operation::Adopt { token: 8, socket }]);
    let new = rig.event("adoption", |event| match event {
        Event::Adopted { token: 8, connection, .. } => Some(*connection),
        _ => None,
    });
    assert_ne!(old, new);
    assert_eq!(rig.receive_bytes(new, 5), b"hello");
    rig.expect_nothing();
}

pub(super) fn a_loose_socket_that_nobody_adopts_is_closed<H: Harness>(rig: &mut Rig<H>) {
    for forget_early in [false, true] {
        let (mut peer, connection) = rig.pair();
        if forget_early {
            rig.submit([Operation::Release { connection }, Operation::Close { connection }]);
            rig.expect(&Event::Released(connection));
            rig.sockets.clear();
        } else {
            drop(rig.release(connection));
        }
        rig.until("end at the peer", |_| {
            (peer.read(&mut Vec::new(), 10) == SimRead::Eof).then_some(())
        });
        rig.expect_nothing();
    }
}

pub(super) fn a_connection_that_was_reset_meanwhile_ends_where_it_went<H: Harness>(
    rig: &mut Rig<H>,
) {
    let (peer, old) = rig.pair();
    let socket = rig.release(old);
    peer.reset();
    rig.settle();
    rig.submit([Operation::Adopt { token: 9, socket }]);
    // The kernel no longer knows the address of a connection that was reset.
    let adopted = rig.event("answer", |event| match event {
        Event::Adopted { token: 9, connection, .. } => Some(Some(*connection)),
        Event::AdoptFailed { token: 9 } => Some(None),
        _ => None,
    });
    if let Some(connection) = adopted {
        rig.receive(connection);
        rig.event("end", |event| matches!(event, Event::ReceiveEnded(..)).then_some(()));
        rig.close(connection);
        rig.expect(&Event::Closed(connection));
    }
    rig.expect_nothing();
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
}
