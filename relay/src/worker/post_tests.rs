//! Mail that arrives in an order other than that in which it was caused.

use std::sync::Arc;

use super::*;
use crate::reactor::{ConnectionKey, Waker};
use crate::worker::cells::Cells;
use crate::worker::handle::WorkerHandle;
use crate::worker::mail::Party;
use crate::worker::mailbox::{Mailbox, mailboxes};
use crate::worker::settings::Settings;
use crate::worker::{Parts, Shared, TunnelSource};

/// Worker 1 without connections, and the mailbox of worker 0.
fn home() -> (Worker, Mailbox) {
    let mut boxes = mailboxes(2, 16);
    let (mailbox, other) = (boxes.pop().unwrap(), boxes.pop().unwrap());
    let cells = Arc::new(Cells::default());
    let waker = Waker::new(|| {});
    let (_, queries) = WorkerHandle::new(1, "none", String::new(), Arc::clone(&cells), waker);
    let (settings, shared) = (Arc::<Settings>::default(), Arc::<Shared>::default());
    let listeners = Vec::new();
    let tunnel = TunnelSource::seeded(1);
    let parts = Parts {
        settings,
        mailbox,
        cells,
        queries,
        shared,
        listeners,
        tunnel,
        links: None,
        seed: 1,
    };
    (Worker::new(parts), other)
}

fn granted(home: &mut Worker, stream: StreamId, now: Duration) {
    let publisher = Party { worker: 1, connection: ConnectionKey(5), message_stream: 1 };
    let granted = Granted { publisher, term: None, link: false };
    home.granted(stream, granted, &"live/a".into(), true, now);
}

fn snapshots(mailbox: &mut Mailbox, of: StreamId) -> usize {
    let mail = std::iter::from_fn(|| mailbox.receive());
    mail.filter(|mail| matches!(mail, Mail::Snapshot { stream, .. } if *stream == of)).count()
}

#[test]
fn a_reader_that_asks_before_the_home_was_granted_the_stream_is_served() {
    let (mut home, mut reader) = home();
    let (stream, now) = (StreamId(7), Duration::from_secs(1));
    home.subscribed(stream, 0, now);
    home.subscribed(stream, 0, now);
    assert_eq!(snapshots(&mut reader, stream), 0);
    granted(&mut home, stream, now);
    assert_eq!(snapshots(&mut reader, stream), 1);
}

#[test]
fn a_reader_that_asked_too_early_and_left_is_not_served() {
    let (mut home, mut reader) = home();
    let (stream, now) = (StreamId(7), Duration::from_secs(1));
    home.subscribed(stream, 0, now);
    home.unsubscribed(stream, 0, 0);
    granted(&mut home, stream, now);
    assert_eq!(snapshots(&mut reader, stream), 0);
}
