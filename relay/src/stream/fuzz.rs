//! Body of the fuzz target of this room: operations on a publisher's hub, on the hub of another
//! worker that is mailed its segments, and on players of both, against a model that keeps every
//! message for ever.
//!
//! Two bytes make an operation: what is done, and how. A player may only ever receive whole
//! messages that were published, forward, and no video frame whose predecessor it has not got.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cursor::{Cursor, Join, Next};
use super::hub::{Hub, StreamKey};
use super::log::Log;
use super::tags::FlvForm;
use super::view::{VIEW_LINGER, ViewKind, ViewTracks};
use crate::limits::Limits;
use crate::wire::chunk_reader::ChunkReader;
use crate::wire::media::{Class, Role, Tracks};
use crate::wire::message::{CHUNK_BYTES, MediaKind, MediaMessage, MessageHeader, MessageType};
use crate::wire::timestamp::Timestamp;

/// Operations on log, cursors and hubs.
pub fn operations(data: &[u8]) {
    let Some((&shape, data)) = data.split_first() else { return };
    let mut world = World::new(shape);
    for operation in data.chunks_exact(2).take(OPERATIONS_MAX) {
        world.operate(operation[0], operation[1]);
        world.check_logs();
    }
    world.finish();
}

/// More would find nothing that fewer do not.
const OPERATIONS_MAX: usize = 2_000;

/// Players at a time.
const PLAYERS_MAX: usize = 8;

/// A message that was published.
struct Published {
    role: Role,
    timestamp: Timestamp,
    bytes: usize,
    /// The coded video frame before it.
    video_before: Option<usize>,
}

struct World {
    limits: Limits,
    now: Duration,
    home: (Hub, StreamKey),
    remote: (Hub, StreamKey),
    /// What was mailed got lost, so the other worker needs a snapshot.
    lost: bool,
    published: Vec<Published>,
    last_video: Option<usize>,
    players: Vec<Player>,
    ready: Vec<StreamKey>,
}

impl World {
    fn new(shape: u8) -> Self {
        let limits = Limits {
            segment_bytes: 64 + 64 * usize::from(shape & 7),
            batch_bytes_max: 200 + 50 * usize::from(shape >> 3),
            log_span: Duration::from_secs(2),
            gop_span_max: Duration::from_secs(4),
            log_bytes_max: 20_000,
            player_lag_max: Duration::from_secs(1),
            key_wait_max: Duration::from_secs(1),
            video_idle_max: Duration::from_millis(500),
            ..Limits::default()
        };
        let hub = || {
            let mut hub = Hub::new(Arc::new(limits.clone()));
            let key = hub.create();
            (hub, key)
        };
        let (mut home, remote) = (hub(), hub());
        home.0.begin_publish(home.1);
        Self {
            limits,
            now: Duration::from_secs(10),
            home,
            remote,
            lost: false,
            published: Vec::new(),
            last_video: None,
            players: Vec::new(),
            ready: Vec::new(),
        }
    }

    fn operate(&mut self, operation: u8, how: u8) {
        let key = self.home.1;
        match operation % 20 {
            0 => self.publish(Role::KeyFrame, how),
            1..=3 => self.publish(Role::InterFrame, how),
            4..=5 => self.publish(Role::AudioFrame, how),
            6 => self.publish(Role::VideoHeader, how),
            7 => self.publish(Role::AudioHeader, how),
            8 => self.publish(if how & 1 == 0 { Role::Metadata } else { Role::Data }, how),
            9 => self.now += Duration::from_millis(u64::from(how) * 4),
            10 => self.flush(how == 0),
            11 => self.join(how),
            12..=14 => self.serve(how),
            15 if !self.players.is_empty() => {
                let player = self.players.swap_remove(usize::from(how) % self.players.len());
                let (hub, key) = self.hub(player.remote);
                hub.close(key, player.cursor);
            }
            16 if !self.players.is_empty() => self.turn_player(how),
            17 => {
                self.home.0.end_publish(key);
                self.now += Duration::from_millis(u64::from(how));
                self.home.0.begin_publish(key);
            }
            18 => self.mail_snapshot(),
            19 if how & 1 == 0 => self.home.0.clear_metadata(key),
            19 => drop(self.home.0.shrink(usize::from(how) * 100)),
            _ => {}
        }
    }

    fn hub(&mut self, remote: bool) -> (&mut Hub, StreamKey) {
        let (hub, key) = if remote { &mut self.remote } else { &mut self.home };
        (hub, *key)
    }

    fn publish(&mut self, role: Role, how: u8) {
        let id = self.published.len();
        // Now and then a message of several chunks, which is a segment of its own.
        let bytes = if how == u8::MAX { CHUNK_BYTES + 100 } else { 8 + 4 * usize::from(how) };
        let millis = u32::try_from(self.now.as_millis()).unwrap_or(u32::MAX);
        let timestamp = Timestamp(millis.wrapping_add(u32::from(how) << 24));
        let class = Class { role, tracks: Tracks::one(0) };
        let mut message = MediaMessage::new(kind(role), class, timestamp, &payload(id, bytes));
        let appended = self.home.0.append(self.home.1, &mut message, self.now);
        if appended.dropped.is_some() {
            return;
        }
        let (timestamp, video_before) = (message.timestamp(), self.last_video);
        self.published.push(Published { role, timestamp, bytes, video_before });
        if role.is_video() && role.is_coded() {
            self.last_video = Some(id);
        }
    }

    /// What a worker does once a turn. The mail to the other worker may be lost.
    fn flush(&mut self, lose: bool) {
        self.ready.clear();
        self.home.0.flush(self.now, &mut self.ready);
        for segment in self.home.0.take_sealed(self.home.1) {
            self.lost |= lose;
            if !self.lost {
                self.remote.0.receive(self.remote.1, segment);
            }
        }
        self.remote.0.flush(self.now, &mut self.ready);
    }

    fn mail_snapshot(&mut self) {
        for segment in self.home.0.snapshot(self.home.1) {
            self.remote.0.receive(self.remote.1, &segment);
        }
        for segment in self.home.0.take_sealed(self.home.1) {
            self.remote.0.receive(self.remote.1, segment);
        }
        self.lost = false;
    }

    fn join(&mut self, how: u8) {
        if self.players.len() >= PLAYERS_MAX {
            return;
        }
        let (remote, now) = (how & 1 != 0, self.now);
        let join = if how & 2 == 0 { Join::Gop } else { Join::Live };
        let view = view(how >> 2);
        let (hub, key) = self.hub(remote);
        let cursor = hub.open(key, join, view, now).expect("the stream is there");
        self.players.push(Player::new(remote, cursor, view));
    }

    /// Pauses and goes on, or chooses other tracks.
    fn turn_player(&mut self, how: u8) {
        let (place, now) = (usize::from(how) % self.players.len(), self.now);
        let player = &mut self.players[place];
        let (hub, key) = if player.remote { &mut self.remote } else { &mut self.home };
        if how & 64 == 0 {
            hub.rejoin(*key, &mut player.cursor, now);
        } else {
            // The message stream and the format of a play never change.
            let tracks = view(how >> 3).tracks;
            player.cursor.set_view(ViewKind { tracks, ..player.cursor.view() });
        }
    }

    fn serve(&mut self, how: u8) {
        if let Some(place) = usize::from(how).checked_rem(self.players.len()) {
            self.step(place);
        }
    }

    /// One batch. Whether there was one.
    fn step(&mut self, place: usize) -> bool {
        let player = &mut self.players[place];
        let (hub, key) = if player.remote { &mut self.remote } else { &mut self.home };
        let mut out: Vec<Bytes> = Vec::new();
        let batch = hub.next_batch(*key, &mut player.cursor, self.now, &mut out);
        let total: usize = out.iter().map(Bytes::len).sum();
        assert!(out.len() <= 16 && total <= self.limits.batch_bytes_max, "a batch has its bounds");
        let Next::Send { bytes } = batch.next else {
            assert_eq!(total, 0, "{:?}", batch.next);
            return false;
        };
        assert!(bytes == total && total > 0);
        for slice in &out {
            player.receive(slice, &self.published);
        }
        player.cursor.advance(total);
        let whole = player.partial.iter().all(Vec::is_empty) && player.flv.is_empty();
        assert!(!player.cursor.at_boundary() || whole, "a boundary is where a message ends");
        true
    }

    /// Logs against what a log is: numbers without a gap, sums that are true, bytes within limits.
    fn check_logs(&self) {
        for (hub, key) in [&self.home, &self.remote] {
            let log: &Log = hub.log(*key).expect("the stream is there");
            let mut number = log.first();
            let (mut held, mut newest_key, mut seq) = (0, None, None);
            for segment in log.from(0) {
                assert_eq!(segment.number, number, "numbers go on");
                assert!(seq.is_none_or(|seq| seq == segment.first_seq), "counts go on");
                let starts_with_key =
                    segment.index.first().is_some_and(|entry| entry.role == Role::KeyFrame);
                assert_eq!(segment.key, starts_with_key);
                newest_key = if segment.key { Some(number) } else { newest_key };
                held += segment.held_bytes();
                number += 1;
                seq = Some(segment.end_seq());
            }
            assert_eq!(number, log.next());
            assert_eq!(newest_key, log.newest_key());
            assert!(log.held_bytes() >= held, "what is held is counted");
            let newest =
                log.newest().map_or(0, |last| last.held_bytes() + last.prelude.held_bytes());
            assert!(held <= self.limits.log_bytes_max.max(newest), "the log keeps its limit");
        }
    }

    /// At rest every player is at the head, and nothing is held for players that are gone.
    fn finish(mut self) {
        self.publish(Role::KeyFrame, 1);
        self.home.0.seal(self.home.1);
        self.mail_snapshot();
        for place in 0..self.players.len() {
            while self.step(place) {}
            let player = &self.players[place];
            assert!(player.cursor.at_boundary() && player.cursor.outstanding() == 0);
        }
        for player in std::mem::take(&mut self.players) {
            let (hub, key) = self.hub(player.remote);
            hub.close(key, player.cursor);
        }
        for (hub, _) in [&mut self.home, &mut self.remote] {
            hub.forget_left_views(self.now + VIEW_LINGER);
            assert_eq!(hub.held_bytes().views, 0, "no view outlives its readers for long");
        }
    }
}

/// A player's end: chunks to messages, and what it got last.
struct Player {
    remote: bool,
    message_stream: u32,
    cursor: Cursor,
    reader: ChunkReader,
    partial: Vec<Vec<u8>>,
    /// Of FLV, what is not read yet, and whether its header was.
    flv: Vec<u8>,
    greeted: bool,
    /// The newest message that was no header.
    newest: Option<usize>,
    last_video: Option<usize>,
}

impl Player {
    fn new(remote: bool, cursor: Cursor, view: ViewKind) -> Self {
        let mut reader = ChunkReader::new(&Limits::default());
        let chunk_bytes = u32::try_from(CHUNK_BYTES).expect("60,000 fits 32 bits");
        reader.set_chunk_size(chunk_bytes).expect("a chunk size of ours");
        Self {
            remote,
            message_stream: view.message_stream,
            cursor,
            reader,
            partial: vec![Vec::new(); 4],
            flv: Vec::new(),
            greeted: false,
            newest: None,
            last_video: None,
        }
    }

    fn receive(&mut self, mut bytes: &[u8], published: &[Published]) {
        if let Some(form) = self.cursor.view().flv_form() {
            self.flv.extend_from_slice(bytes);
            return self.receive_flv(form, published);
        }
        while let Some(fragment) = self.reader.next(&mut bytes).expect("valid chunks") {
            self.partial[fragment.slot].extend_from_slice(fragment.payload);
            if fragment.last {
                let body = std::mem::take(&mut self.partial[fragment.slot]);
                self.judge(&fragment.header, &body, published);
            }
        }
    }

    /// Reads the tags that are whole, and the header before them. Over a WebSocket each of them
    /// lies in a frame of its own.
    fn receive_flv(&mut self, form: FlvForm, published: &[Published]) {
        while let Some((frame, unit)) = self.next_unit(form) {
            let unit: Vec<u8> = self.flv.drain(..frame + unit).skip(frame).collect();
            if !std::mem::replace(&mut self.greeted, true) {
                assert!(unit.starts_with(b"FLV\x01"), "the header comes first");
                continue;
            }
            let [kind, l0, l1, l2, t0, t1, t2, t3] =
                *unit.first_chunk().expect("a tag has 15 bytes and more");
            let header = MessageHeader {
                timestamp: Timestamp(u32::from_be_bytes([t3, t0, t1, t2])),
                length: u32::from_be_bytes([0, l0, l1, l2]),
                kind: MessageType::from_id(kind),
                message_stream: self.message_stream,
            };
            assert!(unit.ends_with(&(header.length + 11).to_be_bytes()), "the size of the tag");
            self.judge(&header, &unit[11..unit.len() - 4], published);
        }
    }

    /// The lengths of the frame's header and of what is in it, if that is all there.
    fn next_unit(&self, form: FlvForm) -> Option<(usize, usize)> {
        let frame = match (form.websocket, self.flv.get(..2)) {
            (false, _) => 0,
            (true, Some([0x82, 0..=125])) => 2,
            (true, Some([0x82, 126])) => 4,
            (true, Some([0x82, 127])) => 10,
            (true, Some(other)) => panic!("{other:?} begins no frame of ours"),
            (true, None) => return None,
        };
        let unit = if self.greeted {
            let [_, a, b, c] = *self.flv.get(frame..)?.first_chunk()?;
            15 + usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("24 bits fit")
        } else {
            13
        };
        (self.flv.len() >= frame + unit).then_some((frame, unit))
    }

    fn judge(&mut self, header: &MessageHeader, body: &[u8], published: &[Published]) {
        let id: [u8; 4] = *body.first_chunk().expect("the id comes first");
        let id = usize::try_from(u32::from_be_bytes(id)).expect("32 bits fit");
        let message = published.get(id).expect("it was published");
        assert_eq!(header.message_stream, self.message_stream);
        assert_eq!(header.kind, kind(message.role).message_type());
        assert!(body == payload(id, message.bytes), "the payload of message {id}");
        if message.role.is_kept() {
            return;
        }
        assert_eq!(header.timestamp, message.timestamp, "only headers are stamped anew");
        assert!(self.newest.is_none_or(|newest| newest < id), "only ever forward");
        self.newest = Some(id);
        if message.role == Role::InterFrame {
            let before = message.video_before;
            assert!(before.is_none() || before == self.last_video, "nothing to decode {id} from");
        }
        if message.role.is_video() {
            self.last_video = Some(id);
        }
    }
}

fn kind(role: Role) -> MediaKind {
    if role.is_video() {
        MediaKind::Video
    } else if role.is_audio() {
        MediaKind::Audio
    } else {
        MediaKind::Data
    }
}

fn view(how: u8) -> ViewKind {
    let tracks = match how & 3 {
        0 => ViewTracks::AudioOnly,
        1 => ViewTracks::VideoOnly,
        _ => ViewTracks::Both,
    };
    let form = |websocket| FlvForm { websocket, extras: how & 4 == 0 };
    match how & 28 {
        4 => ViewKind { tracks, message_stream: 7, ..ViewKind::default() },
        8 | 12 => ViewKind::flv(tracks, form(false)),
        16 | 20 => ViewKind::flv(tracks, form(true)),
        _ => ViewKind { tracks, ..ViewKind::default() },
    }
}

/// The number of a message, and then filler made from it.
fn payload(id: usize, bytes: usize) -> Vec<u8> {
    let mut payload = u32::try_from(id).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    payload.resize(bytes, id.to_le_bytes()[0] ^ 0x5a);
    payload
}
