//! Fan-out: what a player at the head costs at each flush, sends apart.
//!
//! Players lie in memory as far apart as connections do, and are visited in no order of memory, so
//! that from a thousand of them on the caches are part of the figure.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use relay::limits::Limits;
use relay::session::ServerSession;
use relay::stream::{Cursor, FlvForm, Hub, Join, Next, StreamKey, ViewKind, ViewTracks};
use relay::wire::message::MediaMessage;

use super::material;
use super::segments::WINDOW;
use crate::case::{Aim, Case, Per, Work};

pub(super) fn cases() -> [Case; 6] {
    const PER: Per = Per::Each("player and flush");
    const AIM: Option<Aim> = Some(Aim::Below(100.0));
    [
        Case {
            name: "cursor-1",
            what: "64 streams with one player each",
            per: PER,
            aim: AIM,
            counted: Some((5, 25)),
            prepare: || fan_out(64, 1, Caches::Warm, ViewKind::default()),
        },
        Case {
            name: "cursor-1000",
            what: "one stream with 1,000 players",
            per: PER,
            aim: AIM,
            counted: Some((5, 25)),
            prepare: || fan_out(1, 1_000, Caches::Warm, ViewKind::default()),
        },
        Case {
            name: "cursor-flv",
            what: "one stream with 1,000 players of FLV",
            per: PER,
            aim: AIM,
            counted: Some((5, 25)),
            prepare: || fan_out(1, 1_000, Caches::Warm, flv()),
        },
        Case {
            name: "cursor-5000",
            what: "one stream with 5,000 players",
            per: PER,
            aim: AIM,
            counted: None,
            prepare: || fan_out(1, 5_000, Caches::Warm, ViewKind::default()),
        },
        Case {
            name: "cursor-5000-cold",
            what: "the same, caches emptied before each flush",
            per: PER,
            aim: None,
            counted: None,
            prepare: || fan_out(1, 5_000, Caches::Emptied, ViewKind::default()),
        },
        Case {
            name: "cursor-streams",
            what: "2,000 streams with one player each",
            per: PER,
            aim: None,
            counted: None,
            prepare: || fan_out(2_000, 1, Caches::Warm, ViewKind::default()),
        },
    ]
}

/// What happens to the caches between two flushes. Between two real ones the kernel sends to
/// everybody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caches {
    Warm,
    Emptied,
}

/// A player, and beside it about what else a connection is.
struct Player {
    stream: StreamKey,
    cursor: Cursor,
    _session: [u8; size_of::<ServerSession>()],
}

/// FLV over HTTP.
fn flv() -> ViewKind {
    ViewKind::flv(ViewTracks::Both, FlvForm { websocket: false, extras: false })
}

fn fan_out(streams: usize, players: usize, caches: Caches, view: ViewKind) -> Work {
    // a short log: what a player at the head costs does not depend on it, and many streams' memory
    // does
    let short = Duration::from_millis(100);
    // a stream without audio is not waited for
    let limits = Limits {
        log_span: short,
        gop_span_max: short,
        flv_header_wait: Duration::ZERO,
        ..Limits::default()
    };
    let mut hub = Hub::new(Arc::new(limits));
    let streams: Vec<_> = (0..streams).map(|_| hub.create()).collect();
    streams.iter().for_each(|&stream| hub.begin_publish(stream));
    let mut publisher = Publisher { now: Duration::ZERO, ready: Vec::new() };
    publisher.send(&mut hub, &streams, &mut material::video(true, 0, 5_900).assembled());

    let mut out = Vec::new();
    let mut joined = Vec::new();
    for &stream in &streams {
        for _ in 0..players {
            let cursor = hub.open(stream, Join::Gop, view, publisher.now);
            let mut cursor = cursor.expect("the stream is there");
            while let Next::Send { bytes } =
                hub.next_batch(stream, &mut cursor, publisher.now, &mut out).next
            {
                cursor.advance(bytes);
            }
            assert!(cursor.is_playing(), "there was a key frame");
            joined.push(Player { stream, cursor, _session: [0; size_of::<ServerSession>()] });
        }
    }
    out.clear();
    fastrand::Rng::with_seed(1).shuffle(&mut joined);
    let mut order: Vec<usize> = (0..joined.len()).collect();
    fastrand::Rng::with_seed(2).shuffle(&mut order);

    let mut frame = material::video(false, 0, 5_900).assembled();
    // A tag has 15 bytes besides its payload, a message in one chunk 12.
    let longer = if view == ViewKind::default() { 0 } else { 3 };
    let mut other = vec![0_u8; if caches == Caches::Emptied { 48 << 20 } else { 0 }];
    Work::new(order.len(), move |meter| {
        publisher.send(&mut hub, &streams, &mut frame);
        other.iter_mut().step_by(64).for_each(|line| *line = line.wrapping_add(1));
        let (now, mut sent) = (publisher.now, 0);
        meter.measure(|| {
            for &place in &order {
                let Player { stream, cursor, .. } = &mut joined[place];
                let batch = hub.next_batch(*stream, cursor, now, &mut out);
                if let Next::Send { bytes } = batch.next {
                    sent += bytes;
                    drop::<Option<Bytes>>(black_box(out.pop()));
                    cursor.advance(bytes);
                }
            }
        });
        assert!(out.is_empty(), "one slice each");
        assert_eq!(
            sent,
            order.len() * (frame.wire_bytes() + longer),
            "every player has everything"
        );
    })
}

/// Sends a message to every stream and has it sealed.
struct Publisher {
    now: Duration,
    ready: Vec<StreamKey>,
}

impl Publisher {
    fn send(&mut self, hub: &mut Hub, streams: &[StreamKey], message: &mut MediaMessage) {
        for &stream in streams {
            hub.append(stream, message, self.now);
        }
        self.now += WINDOW;
        hub.flush(self.now, &mut self.ready);
        assert_eq!(self.ready.len(), streams.len(), "every stream has a new segment");
        self.ready.clear();
    }
}
