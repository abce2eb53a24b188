//! From messages to sealed segments, and the log that keeps them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use relay::limits::Limits;
use relay::stream::{Hub, Log, Segment, StreamKey};
use relay::wire::message::MediaMessage;

use super::material::{self, Message};
use crate::case::{Case, Per, Work};

pub(super) fn cases() -> [Case; 5] {
    [
        Case {
            name: "append-340",
            what: "append an audio frame, sealing at 16 KiB",
            per: Per::Each("message"),
            aim: None,
            counted: Some((10, 110)),
            prepare: || append(&material::audio(0, 340)),
        },
        Case {
            name: "append-20000",
            what: "append a frame of 20,000 bytes: a segment",
            per: Per::Each("message"),
            aim: None,
            counted: Some((10, 110)),
            prepare: || append(&material::video(false, 0, 20_000)),
        },
        Case {
            name: "window",
            what: "append two frames, seal by age, take for mail",
            per: Per::Each("window"),
            aim: None,
            counted: Some((10, 110)),
            prepare: window,
        },
        Case {
            name: "log-push",
            what: "push a segment, trim the log",
            per: Per::Each("segment"),
            aim: None,
            counted: Some((10, 110)),
            prepare: push,
        },
        Case {
            name: "receive",
            what: "take a segment from another worker's mail",
            per: Per::Each("segment"),
            aim: None,
            counted: Some((10, 110)),
            prepare: receive,
        },
    ]
}

/// A hub with one stream that is published.
pub(super) fn published(limits: &Arc<Limits>) -> (Hub, StreamKey) {
    let mut hub = Hub::new(Arc::clone(limits));
    let key = hub.create();
    hub.begin_publish(key);
    (hub, key)
}

/// Gives messages of one kind to a stream. What is due by age is sealed outside of what is
/// measured.
fn append(message: &Message) -> Work {
    let limits = material::limits();
    let (mut hub, key) = published(&limits);
    let (mut now, mut ready) = (Duration::ZERO, Vec::new());
    let mut messages: Vec<_> = (0..BATCH).map(|_| message.assembled()).collect();
    let (class, wire_bytes) = (message.class(), messages[0].wire_bytes());
    let payload = message.payload.clone();
    let (kind, timestamp) = (message.kind, message.timestamp);
    Work::new(BATCH, move |meter| {
        for message in messages.iter_mut().filter(|message| message.payload_bytes() == 0) {
            *message = MediaMessage::new(kind, class, timestamp, &payload);
        }
        meter.measure(|| {
            for message in &mut messages {
                black_box(hub.append(key, message, now));
            }
        });
        now += WINDOW;
        hub.flush(now, &mut ready);
        ready.clear();
        let sealed: usize = hub.take_sealed(key).map(|segment| segment.bytes.len()).sum();
        assert_eq!(sealed, BATCH * wire_bytes, "bytes in the log");
    })
}

/// What the home worker does for a stream of 2.5 Mbit/s in 20 ms, sends apart.
fn window() -> Work {
    let limits = material::limits();
    let (mut hub, key) = published(&limits);
    let (mut now, mut ready) = (Duration::ZERO, Vec::new());
    let mut messages =
        [material::audio(0, 340).assembled(), material::video(false, 0, 5_900).assembled()];
    Work::new(BATCH, move |meter| {
        let mut mailed = 0;
        meter.measure(|| {
            for _ in 0..BATCH {
                for message in &mut messages {
                    hub.append(key, message, now);
                }
                now += WINDOW;
                hub.flush(now, &mut ready);
                for key in ready.drain(..) {
                    mailed += hub.take_sealed(key).map(black_box).count();
                }
            }
        });
        assert_eq!(mailed, BATCH, "segments");
    })
}

fn push() -> Work {
    let limits = material::limits();
    let (mut log, mut segments) = (Log::default(), Segments::new());
    for _ in 0..1_000 {
        log.push(segments.next());
        log.trim(&limits);
    }
    Work::new(BATCH, move |meter| {
        let mut batch: Vec<_> = (0..BATCH).map(|_| segments.next()).collect();
        meter.measure(|| {
            for segment in batch.drain(..) {
                black_box(log.push(segment));
                log.trim(&limits);
            }
        });
        assert_eq!(log.next(), segments.made, "segments taken");
        assert!(log.next() - log.first() < 1_000, "segments are trimmed");
    })
}

fn receive() -> Work {
    let limits = material::limits();
    let (mut hub, mut segments) = (Hub::new(limits), Segments::new());
    let key = hub.create();
    let mut ready = Vec::new();
    for _ in 0..1_000 {
        hub.receive(key, &segments.next());
    }
    Work::new(BATCH, move |meter| {
        let batch: Vec<_> = (0..BATCH).map(|_| segments.next()).collect();
        meter.measure(|| {
            for segment in &batch {
                black_box(hub.receive(key, segment));
            }
        });
        hub.flush(Duration::ZERO, &mut ready);
        ready.clear();
        assert_eq!(hub.log(key).map(Log::next), Some(segments.made), "segments taken");
    })
}

/// Segments of a stream of 2.5 Mbit/s at 20 ms, a key frame every 2 s, as the home worker mails
/// them.
struct Segments {
    hub: Hub,
    key: StreamKey,
    frames: [MediaMessage; 3],
    now: Duration,
    ready: Vec<StreamKey>,
    made: u64,
}

impl Segments {
    fn new() -> Self {
        // nothing is kept here, so that who takes a segment has it alone
        let none = Duration::ZERO;
        let limits = Limits { log_span: none, gop_span_max: none, ..Limits::default() };
        let (hub, key) = published(&Arc::new(limits));
        let frames = [
            material::video(true, 0, 5_900),
            material::video(false, 0, 5_900),
            material::audio(0, 340),
        ];
        let frames = frames.map(|frame| frame.assembled());
        Self { hub, key, frames, now: Duration::ZERO, ready: Vec::new(), made: 0 }
    }

    fn next(&mut self) -> Segment {
        let [key_frame, inter_frame, audio] = &mut self.frames;
        let video = if self.made.is_multiple_of(100) { key_frame } else { inter_frame };
        self.made += 1;
        self.hub.append(self.key, video, self.now);
        self.hub.append(self.key, audio, self.now);
        self.now += WINDOW;
        self.hub.flush(self.now, &mut self.ready);
        self.ready.clear();
        let mut sealed = self.hub.take_sealed(self.key);
        let segment = sealed.next().expect("one segment a window").clone();
        assert!(sealed.next().is_none(), "one segment a window");
        segment
    }
}

/// The default flush age.
pub(super) const WINDOW: Duration = Duration::from_millis(20);

const BATCH: usize = 64;
