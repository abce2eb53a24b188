//! Material for this room's tests: messages that can be told apart, and what a player understands.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::cursor::{Batch, Cursor, Next};
use super::flv_player::FlvPlayer;
use super::hub::{Hub, StreamKey};
use super::segment::{Segment, Video};
use super::view::{ViewFormat, ViewKind};
use crate::limits::Limits;
use crate::wire::chunk_reader::ChunkReader;
use crate::wire::media::{Class, Role, Tracks};
use crate::wire::message::{CHUNK_BYTES, MediaKind, MediaMessage, MessageType};
use crate::wire::timestamp::Timestamp;

/// A message whose payload is `id` and then filler made from it, `bytes` (at least 4) in all.
pub(super) fn message(role: Role, id: u32, timestamp: u32, bytes: usize) -> MediaMessage {
    on_tracks(role, Tracks::one(0), id, timestamp, bytes)
}

/// The same on given tracks.
pub(super) fn on_tracks(
    role: Role,
    tracks: Tracks,
    id: u32,
    timestamp: u32,
    bytes: usize,
) -> MediaMessage {
    let kind = if role.is_audio() {
        MediaKind::Audio
    } else if role.is_video() {
        MediaKind::Video
    } else {
        MediaKind::Data
    };
    MediaMessage::new(kind, Class { role, tracks }, Timestamp(timestamp), &payload(id, bytes))
}

fn payload(id: u32, bytes: usize) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    let filler = id.to_le_bytes()[0] ^ 0x5a;
    payload.resize(bytes.max(4), filler);
    payload
}

/// What a player received: the message's id, with its filler checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: u32,
    pub(super) timestamp: u32,
    pub(super) kind: MessageType,
    pub(super) message_stream: u32,
}

/// A player's end of the connection: reads chunks as any client does, or FLV.
pub(super) struct Player {
    reader: ChunkReader,
    partial: Vec<Vec<u8>>,
    /// What it reads instead of chunks.
    flv: Option<FlvPlayer>,
    pub(super) seen: VecDeque<Seen>,
}

impl Player {
    pub(super) fn new() -> Self {
        let mut reader = ChunkReader::new(&Limits::default());
        reader.set_chunk_size(u32::try_from(CHUNK_BYTES).unwrap()).unwrap();
        Self { reader, partial: vec![Vec::new(); 8], flv: None, seen: VecDeque::new() }
    }

    /// One that reads what such a view is made into.
    pub(super) fn of(view: ViewKind) -> Self {
        let flv = view.flv_form().map(|form| FlvPlayer::new(form.websocket));
        Self { flv, ..Self::new() }
    }

    /// Whether FLV said in its header that there is audio, and video.
    pub(super) fn promised(&self) -> Option<(bool, bool)> {
        self.flv.as_ref()?.promised()
    }

    pub(super) fn receive(&mut self, mut bytes: &[u8]) {
        if let Some(flv) = &mut self.flv {
            for tag in flv.read(bytes) {
                let id = u32::from_be_bytes(*tag.payload.first_chunk().expect("an id"));
                assert_eq!(tag.payload, payload(id, tag.payload.len()), "the payload of {id}");
                let kind = MessageType::from_id(tag.kind);
                self.seen.push_back(Seen { id, timestamp: tag.timestamp, kind, message_stream: 1 });
            }
            return;
        }
        while let Some(fragment) = self.reader.next(&mut bytes).expect("valid chunks") {
            let partial = &mut self.partial[fragment.slot];
            partial.extend_from_slice(fragment.payload);
            if fragment.last {
                let body = std::mem::take(partial);
                let id = u32::from_be_bytes(*body.first_chunk().expect("an id"));
                assert_eq!(body, payload(id, body.len()), "the payload of message {id}");
                self.seen.push_back(Seen {
                    id,
                    timestamp: fragment.header.timestamp.0,
                    kind: fragment.header.kind,
                    message_stream: fragment.header.message_stream,
                });
            }
        }
        assert!(bytes.is_empty());
    }

    pub(super) fn is_between_messages(&self) -> bool {
        self.partial.iter().all(Vec::is_empty) && self.flv.as_ref().is_none_or(FlvPlayer::is_whole)
    }

    /// The ids seen so far, which are forgotten.
    pub(super) fn ids(&mut self) -> Vec<u32> {
        self.seen.drain(..).map(|seen| seen.id).collect()
    }
}

/// Takes one batch, checks its bounds and gives it to the player.
pub(super) fn step(
    hub: &mut Hub,
    key: StreamKey,
    cursor: &mut Cursor,
    now: Duration,
    player: &mut Player,
    bytes_max: usize,
) -> Batch {
    let mut out = Vec::new();
    let batch = hub.next_batch(key, cursor, now, &mut out);
    let total: usize = out.iter().map(Bytes::len).sum();
    assert!(out.len() <= 16, "{} slices", out.len());
    assert!(total <= bytes_max, "{total} bytes");
    assert!(out.iter().all(|slice| !slice.is_empty()));
    match batch.next {
        Next::Send { bytes } => assert_eq!(bytes, total),
        _ => assert_eq!(total, 0),
    }
    assert_eq!(cursor.outstanding(), total);
    out.iter().for_each(|slice| player.receive(slice));
    assert!(!cursor.at_boundary() || player.is_between_messages(), "not where a message ends");
    cursor.advance(total);
    batch
}

/// Takes batches until the player is at the head.
pub(super) fn to_head(
    hub: &mut Hub,
    key: StreamKey,
    cursor: &mut Cursor,
    now: Duration,
    player: &mut Player,
) {
    for _ in 0..10_000 {
        if step(hub, key, cursor, now, player, 61_440).next == Next::AtHead {
            return;
        }
    }
    panic!("the player never gets to the head: {cursor:?}");
}

/// A segment made of messages, outside of any hub.
pub(super) fn segment(number: u64, ingested: Duration, messages: &mut [MediaMessage]) -> Segment {
    use super::pending::{Pending, Start};
    let mut pending = Pending::default();
    for message in messages {
        let (arrived, prelude) = (ingested, std::sync::Arc::default());
        let first_seq = number * 100;
        let start = Start { ingested, arrived, restates: false, first_seq, shift: 0, prelude };
        pending.append(message, 1 << 20, || start);
    }
    pending.seal(number, Video::Flowing).expect("at least one message")
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) const AUDIO_ONLY: ViewKind = ViewKind {
    tracks: super::view::ViewTracks::AudioOnly,
    message_stream: 1,
    format: ViewFormat::Chunks,
};
pub(super) const VIDEO_ONLY: ViewKind = ViewKind {
    tracks: super::view::ViewTracks::VideoOnly,
    message_stream: 1,
    format: ViewFormat::Chunks,
};

/// A hub with one stream that is published, and a clock.
pub(super) struct Rig {
    pub(super) hub: Hub,
    pub(super) key: StreamKey,
    pub(super) now: Duration,
    pub(super) limits: Limits,
    /// Added to the clock to make timestamps.
    pub(super) base: u32,
    next_id: u32,
}

impl Rig {
    pub(super) fn new(limits: Limits) -> Self {
        let mut hub = Hub::new(std::sync::Arc::new(limits.clone()));
        let key = hub.create();
        hub.begin_publish(key);
        Self { hub, key, now: ms(1_000), limits, base: 0, next_id: 1 }
    }

    /// The publisher sends a message now; gives its id.
    pub(super) fn send(&mut self, role: Role, bytes: usize) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let timestamp = u32::try_from(self.now.as_millis()).unwrap().wrapping_add(self.base);
        let appended =
            self.hub.append(self.key, &mut message(role, id, timestamp, bytes), self.now);
        assert_eq!(appended.dropped, None);
        id
    }

    /// The same, sealed at once.
    pub(super) fn seal(&mut self, role: Role, bytes: usize) -> u32 {
        let id = self.send(role, bytes);
        self.hub.seal(self.key);
        id
    }

    pub(super) fn pass(&mut self, milliseconds: u64) {
        self.now += ms(milliseconds);
    }

    /// For so long, a frame of this role every `step` milliseconds, each a segment.
    pub(super) fn run(&mut self, role: Role, milliseconds: u64, step: u64) -> Vec<u32> {
        let mut ids = Vec::new();
        for _ in 0..milliseconds / step {
            self.pass(step);
            ids.push(self.seal(role, 100));
        }
        ids
    }

    /// Forgets views that nobody reads, as if time had passed.
    pub(super) fn forget_left_views(&mut self) {
        self.hub.forget_left_views(self.now + super::view::VIEW_LINGER);
    }

    pub(super) fn open(&mut self, join: super::cursor::Join, view: ViewKind) -> (Cursor, Player) {
        let cursor = self.hub.open(self.key, join, view, self.now).expect("the stream is there");
        (cursor, Player::of(view))
    }

    pub(super) fn step(&mut self, cursor: &mut Cursor, player: &mut Player) -> Batch {
        let bytes_max = self.limits.batch_bytes_max;
        step(&mut self.hub, self.key, cursor, self.now, player, bytes_max)
    }

    /// Takes all there is; gives the last answer and the sum of what happened.
    pub(super) fn drain(&mut self, cursor: &mut Cursor, player: &mut Player) -> Batch {
        let mut sum = Batch::default();
        loop {
            let batch = self.step(cursor, player);
            sum.next = batch.next;
            sum.joined |= batch.joined;
            sum.jumped = sum.jumped.or(batch.jumped);
            sum.skipped += batch.skipped;
            if !matches!(batch.next, Next::Send { .. }) {
                return sum;
            }
        }
    }
}
