//! Joining: what a player costs that comes in the middle of a stream, and what a key frame costs
//! the first one that joins at it.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use relay::stream::{Hub, Join, Next, StreamKey, ViewKind};

use super::material::{self, Message};
use super::segments::{WINDOW, published};
use crate::case::{Case, Per, Work};

pub(super) fn cases() -> [Case; 2] {
    [
        Case {
            name: "join",
            what: "open, first batch with prelude, close",
            per: Per::Each("join"),
            aim: None,
            counted: Some((10, 110)),
            prepare: || joins(64, 1),
        },
        Case {
            name: "join-first",
            what: "the same, first at its key frame: prelude rendered",
            per: Per::Each("join"),
            aim: None,
            counted: Some((10, 110)),
            prepare: || joins(1, 64),
        },
    ]
}

/// `players` join at each of `key_frames` key frames.
fn joins(players: usize, key_frames: usize) -> Work {
    let limits = material::limits();
    let (mut hub, key) = published(&limits);
    let (mut now, mut ready, mut out) = (Duration::ZERO, Vec::new(), Vec::new());
    for message in material::headers() {
        hub.append(key, &mut message.assembled(), now);
    }
    let frame = material::video(true, 0, 6_000);
    let prelude = material::headers().iter().map(wire_bytes).sum::<usize>();
    let expected = prelude + wire_bytes(&frame);
    Work::new(players * key_frames, move |meter| {
        for _ in 0..key_frames {
            hub.append(key, &mut frame.assembled(), now);
            now += WINDOW;
            hub.flush(now, &mut ready);
            ready.clear();
            meter.measure(|| {
                for _ in 0..players {
                    let bytes = join(&mut hub, key, now, &mut out);
                    assert_eq!(bytes, expected, "prelude and key frame");
                }
            });
        }
    })
}

fn join(hub: &mut Hub, key: StreamKey, now: Duration, out: &mut Vec<Bytes>) -> usize {
    let Some(mut cursor) = hub.open(key, Join::Gop, ViewKind::default(), now) else { return 0 };
    let batch = hub.next_batch(key, &mut cursor, now, out);
    black_box(&out);
    out.clear();
    hub.close(key, cursor);
    match batch.next {
        Next::Send { bytes } => bytes,
        _ => 0,
    }
}

fn wire_bytes(message: &Message) -> usize {
    message.assembled().wire_bytes()
}
