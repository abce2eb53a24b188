//! How connections end: by either side, in order or not, and what is left of them.

use std::io::ErrorKind;

use super::harness::{Harness, Peer};
use super::rig::{Event, Rig, pattern};
use crate::reactor::sim::SimRead;
use crate::reactor::{Batch, Operation};

pub(super) fn a_shutdown_comes_after_what_was_sent<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    let bytes = rig.stall(connection);
    let shutdown = || Operation::Shutdown { connection };
    rig.submit([shutdown(), shutdown()]);
    let read = rig.read_bytes(&mut peer, bytes.len());
    assert!(read == bytes, "{}: the bytes differ", rig.harness.describe());
    rig.expect(&Event::Sent(connection, bytes.len()));
    rig.until("end at the peer", |_| {
        (peer.read(&mut Vec::new(), 10) == SimRead::Eof).then_some(())
    });
    rig.send(connection, Batch::One(bytes.slice(..5)));
    rig.expect(&Event::SendFailed(connection, ErrorKind::BrokenPipe));
    // The other direction goes on.
    rig.write_bytes(&mut peer, b"still here");
    assert_eq!(rig.receive_bytes(connection, 10), b"still here");
    rig.expect_nothing();
    drop(peer);
    rig.receive(connection);
    rig.expect(&Event::ReceiveEnded(connection, None));
}

pub(super) fn the_peers_end_is_told_as_often_as_asked<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    let bytes = pattern(4, 30_000);
    rig.write_bytes(&mut peer, &bytes);
    peer.shutdown();
    rig.expect_nothing();
    assert_eq!(rig.receive_bytes(connection, bytes.len()), bytes);
    for _ in 0..3 {
        rig.receive(connection);
        rig.expect(&Event::ReceiveEnded(connection, None));
        rig.expect_nothing();
    }
    // We can still send.
    rig.send(connection, Batch::One(bytes.clone().into()));
    assert_eq!(rig.read_bytes(&mut peer, bytes.len()), bytes);
    rig.expect(&Event::Sent(connection, bytes.len()));
}

pub(super) fn a_reset_fails_what_is_outstanding<H: Harness>(rig: &mut Rig<H>) {
    let (peer, connection) = rig.pair();
    let bytes = rig.stall(connection);
    rig.receive(connection);
    peer.reset();
    let error = rig.event("end", |event| match event {
        Event::ReceiveEnded(from, error) if *from == connection => Some(*error),
        _ => None,
    });
    let kind = rig.event("failed send", |event| match event {
        Event::SendFailed(to, kind) if *to == connection => Some(*kind),
        _ => None,
    });
    // The kernel tells one of the two why; the other finds the connection ended.
    let resets = [error == Some(ErrorKind::ConnectionReset), kind == ErrorKind::ConnectionReset];
    assert!(resets.contains(&true), "{error:?}, {kind:?}");
    assert!(bytes.is_unique(), "a failed send lets go of its batch");
    // Failures leave the connection in place until it is closed.
    rig.send(connection, Batch::One(bytes.slice(..5)));
    rig.event("failed send", |event| matches!(event, Event::SendFailed(..)).then_some(()));
    rig.close(connection);
    rig.expect(&Event::Closed(connection));
    rig.expect_nothing();
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
}

pub(super) fn a_close_abandons_what_is_outstanding<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    let bytes = rig.stall(connection);
    rig.receive(connection);
    rig.submit([Operation::Shutdown { connection }]);
    rig.expect_nothing();
    rig.submit([Operation::Close { connection }, Operation::Close { connection }]);
    rig.expect(&Event::Closed(connection));
    assert!(bytes.is_unique(), "its buffers are released");
    assert_eq!(rig.harness.connections(&rig.reactor), 0);
    let mut read = Vec::new();
    rig.until("end at the peer", |_| match peer.read(&mut read, 65_536) {
        SimRead::Eof | SimRead::Reset => Some(()),
        SimRead::Data(_) | SimRead::Empty => None,
    });
    assert!(read.len() < bytes.len() && bytes.starts_with(&read), "a beginning of the batch");
    rig.expect_nothing();
}

pub(super) fn a_close_overtakes_completions_not_yet_drained<H: Harness>(rig: &mut Rig<H>) {
    let (mut peer, connection) = rig.pair();
    rig.write_bytes(&mut peer, b"never received");
    rig.settle();
    let bytes = bytes::Bytes::from(pattern(5, 1_000));
    rig.submit([
        Operation::Receive { connection },
        Operation::Send { connection, batch: Batch::One(bytes.clone()) },
        Operation::Close { connection },
        Operation::Send { connection, batch: Batch::One(bytes.clone()) },
    ]);
    rig.expect(&Event::Closed(connection));
    assert!(bytes.is_unique());
    rig.expect_nothing();
}

pub(super) fn a_key_of_the_past_means_nothing<H: Harness>(rig: &mut Rig<H>) {
    let (peer, old) = rig.pair();
    rig.close(old);
    rig.expect(&Event::Closed(old));
    drop(peer);
    let (mut peer, new) = rig.pair();
    assert_ne!(old, new);
    rig.write_bytes(&mut peer, b"for the new one");
    let bytes = bytes::Bytes::from(pattern(6, 100));
    rig.submit([
        Operation::Receive { connection: old },
        Operation::Send { connection: old, batch: Batch::One(bytes.clone()) },
        Operation::Shutdown { connection: old },
        Operation::Close { connection: old },
    ]);
    rig.expect_nothing();
    assert!(bytes.is_unique(), "a batch for nobody is dropped");
    assert_eq!(peer.read(&mut Vec::new(), 100), SimRead::Empty);
    assert_eq!(rig.receive_bytes(new, 15), b"for the new one");
    assert_eq!(rig.harness.connections(&rig.reactor), 1);
}
