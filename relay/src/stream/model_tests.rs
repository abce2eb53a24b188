//! Random operations on whole hubs against a naive model.
//!
//! The model keeps every message for ever. A publisher's hub and the hub of another worker, whose
//! mail is sometimes lost, serve players of every kind and speed. What each player receives must
//! decode to the prelude, a message where one may start, and then one message after the other; it
//! may be moved only when the hub said so, only forward, and only to such a place.

use std::sync::Arc;
use std::time::Duration;

use super::cursor::{Batch, Cursor, Join, JumpReason, Next};
use super::hub::{Hub, StreamKey};
use super::tags::FlvForm;
use super::testing::{AUDIO_ONLY, Player, Seen, VIDEO_ONLY, message, ms, step};
use super::view::{ViewKind, ViewTracks};
use crate::limits::Limits;
use crate::wire::media::Role;

/// Everything that was published, by the stream's count of messages.
#[derive(Default)]
struct Model {
    messages: Vec<Kept>,
    /// Headers in force: role and id, in the order in which they are told.
    headers: Vec<(Role, u32)>,
}

struct Kept {
    role: Role,
    id: u32,
    timestamp: u32,
    /// Headers in force before it.
    headers: Vec<(Role, u32)>,
}

impl Kept {
    fn is_frame(&self) -> bool {
        self.role.is_video() && self.role.is_coded()
    }
}

const ORDER: [Role; 5] = [
    Role::Metadata,
    Role::AudioHeader,
    Role::AudioChannels,
    Role::VideoHeader,
    Role::VideoMetadata,
];

impl Model {
    fn add(&mut self, role: Role, id: u32, timestamp: u32) {
        let headers = self.headers.clone();
        self.messages.push(Kept { role, id, timestamp, headers });
        if role.is_kept() {
            self.headers.retain(|&(kept, _)| kept != role);
            self.headers.push((role, id));
            self.headers.sort_by_key(|&(kept, _)| ORDER.iter().position(|role| *role == kept));
        }
    }

    /// The first message at or behind `seq` that a view shows.
    fn shown(&self, seq: usize, view: ViewKind) -> Option<usize> {
        (seq..self.messages.len()).find(|&seq| view.shows(self.messages[seq].role))
    }

    /// The ids of those headers that readers of a view are told.
    fn told(headers: &[(Role, u32)], view: ViewKind) -> Vec<u32> {
        headers.iter().filter(|(role, _)| view.shows(*role)).map(|&(_, id)| id).collect()
    }
}

/// One player, and every way in which what it received may be understood.
struct Viewer {
    remote: bool,
    cursor: Cursor,
    player: Player,
    wanted: ViewKind,
    /// How often it takes a batch, in 256ths.
    pace: u8,
    readings: Vec<Reading>,
    moves: Vec<Move>,
    /// Messages that it was moved over, as the hub says; not compared with what is missing after
    /// anything that makes the two differ.
    skipped: usize,
    countable: bool,
}

/// A start that the hub announced.
#[derive(Clone, Copy, Debug)]
struct Move {
    /// What is sent from then on.
    view: ViewKind,
    /// Whether messages may be passed over; else only the view changes.
    skips: bool,
}

/// One way to understand what a player received so far.
#[derive(Clone, Debug, PartialEq)]
struct Reading {
    /// The message it is at; `None` before the first start.
    at: Option<usize>,
    view: ViewKind,
    /// How many of the moves are explained.
    moves: usize,
    /// Headers still to be told before the message that it is at.
    headers: Vec<u32>,
    /// The next video frame must be a key frame.
    needs_key: bool,
    /// Messages that moves passed over.
    missed: usize,
}

impl Reading {
    /// Every way in which `seen` may come next.
    fn read(&self, model: &Model, moves: &[Move], seen: &Seen, next: &mut impl FnMut(Self)) {
        if let Some(after) = self.go_on(model, seen) {
            next(after);
        }
        if !self.headers.is_empty() {
            return;
        }
        for place in self.moves..moves.len() {
            let view = moves[place].view;
            // moves before it may have led to where there was nothing to send
            let skips = moves[self.moves..=place].iter().any(|step| step.skips);
            let first = self.at.unwrap_or(0);
            let known = model.messages.get(first).filter(|_| self.at.is_some());
            for from in first..model.messages.len() {
                let hidden = |seq: usize| !self.view.shows(model.messages[seq].role);
                if from > first && !skips && !hidden(from - 1) {
                    break;
                }
                let start = &model.messages[from].headers;
                let added = view.tracks == ViewTracks::Both
                    && self.view.tracks == VIDEO_ONLY.tracks
                    && !skips;
                let told = Model::told(start, if added { AUDIO_ONLY } else { view });
                let more = (view.has_video() && !self.view.has_video())
                    || (view.has_audio() && !self.view.has_audio());
                let same = |known: &Kept| Model::told(&known.headers, view) == told;
                let knows = !more && known.is_some_and(same);
                // where messages are hidden it cannot be told which of them were passed over
                let counts = self.at.is_some() && [self.view, view] == [ViewKind::default(); 2];
                let early = !model.messages[..from].iter().any(|kept| kept.is_frame());
                let started = Self {
                    at: Some(from),
                    view,
                    moves: place + 1,
                    headers: Vec::new(),
                    needs_key: !early && (skips || self.needs_key || !self.view.has_video()),
                    missed: if counts { self.missed + from - first } else { 0 },
                };
                if let Some(after) = started.go_on(model, seen).filter(|_| knows || told.is_empty())
                {
                    next(after);
                }
                let started = Self { headers: told, ..started };
                if !started.headers.is_empty()
                    && let Some(after) = started.go_on(model, seen)
                {
                    next(after);
                }
            }
        }
    }

    /// What it is after `seen` if that is the next message or header due.
    fn go_on(&self, model: &Model, seen: &Seen) -> Option<Self> {
        if let Some((first, rest)) = self.headers.split_first() {
            let stamped = model.messages[self.at?].timestamp;
            let due =
                *first == seen.id && self.shown_time(model, seen.id, stamped) == seen.timestamp;
            return due.then(|| Self { headers: rest.to_vec(), ..self.clone() });
        }
        let seq = model.shown(self.at?, self.view)?;
        let kept = &model.messages[seq];
        let stamped = self.shown_time(model, kept.id, kept.timestamp);
        let due = kept.id == seen.id && stamped == seen.timestamp;
        let lost = self.needs_key && kept.role == Role::InterFrame;
        let needs_key = self.needs_key && kept.role != Role::KeyFrame;
        (due && !lost).then(|| Self { at: Some(seq + 1), needs_key, ..self.clone() })
    }

    /// When a message is shown: metadata in FLV always at 0.
    fn shown_time(&self, model: &Model, id: u32, timestamp: u32) -> u32 {
        let is = |kept: &&Kept| kept.id == id;
        let metadata =
            || model.messages.iter().find(is).map(|kept| kept.role) == Some(Role::Metadata);
        if self.view.flv_form().is_some() && metadata() { 0 } else { timestamp }
    }
}

impl Viewer {
    /// Judges what was received in a batch.
    fn judge(&mut self, model: &Model, batch: &Batch, before: ViewKind, why: &str) {
        let view = self.cursor.view();
        let skips = batch.joined || (batch.jumped.is_some() && self.cursor.is_playing());
        if skips || view != before {
            self.moves.push(Move { view, skips });
        }
        self.skipped += usize::try_from(batch.skipped).unwrap();
        self.countable &= view == ViewKind::default();
        while let Some(seen) = self.player.seen.pop_front() {
            let mut next = Vec::new();
            for reading in &self.readings {
                reading.read(model, &self.moves, &seen, &mut |after| {
                    if !next.contains(&after) {
                        next.push(after);
                    }
                });
            }
            let (before, moves) = (&self.readings, &self.moves);
            assert!(!next.is_empty(), "{why}: {seen:?} after {before:?}, {moves:?}");
            assert!(next.len() < 1_000, "{why}: too many readings");
            self.readings = next;
        }
        if !matches!(batch.next, Next::Send { .. }) {
            // only the last move can still be to be seen: where it led there was nothing to send
            // yet
            for reading in &mut self.readings {
                reading.moves = reading.moves.max(self.moves.len().saturating_sub(1));
            }
        }
    }
}

/// Longest header in these tests: two chunks.
const HEADER_BYTES_MAX: usize = 70_000;

/// How often what happened, so that a test in which nothing did is seen.
#[derive(Debug, Default)]
struct Tally {
    lags: usize,
    trims: usize,
    joins: usize,
    fallbacks: usize,
    upgrades: usize,
    halves: usize,
    lost: usize,
}

struct World {
    random: fastrand::Rng,
    seed: u64,
    limits: Limits,
    now: Duration,
    home: (Hub, StreamKey),
    remote: (Hub, StreamKey),
    /// The other worker's mail was lost: it needs a snapshot.
    lost: bool,
    model: Model,
    viewers: Vec<Viewer>,
    next_id: u32,
    time: u32,
    tally: Tally,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits {
            segment_bytes: random.usize(500..20_000),
            batch_bytes_max: random.usize(200..70_000),
            log_span: ms(random.u64(100..3_000)),
            gop_span_max: ms(random.u64(100..6_000)),
            log_bytes_max: random.usize(50_000..2_000_000),
            player_lag_max: ms(random.u64(50..2_000)),
            key_wait_max: ms(random.u64(50..3_000)),
            video_idle_max: ms(random.u64(100..1_000)),
            ..Limits::default()
        };
        let hub = || {
            let mut hub = Hub::new(Arc::new(limits.clone()));
            let key = hub.create();
            (hub, key)
        };
        let (mut home, remote) = (hub(), hub());
        home.0.begin_publish(home.1);
        home.0.set_flush_age(home.1, ms(random.u64(0..50)));
        Self {
            seed,
            limits: limits.clone(),
            now: ms(5_000),
            home,
            remote,
            lost: false,
            model: Model::default(),
            viewers: Vec::new(),
            next_id: 1,
            time: random.u32(..),
            tally: Tally::default(),
            random,
        }
    }

    /// A size for a message of this role.
    fn size(&mut self, role: Role) -> usize {
        match self.random.u8(..) {
            0..4 if role.is_kept() => HEADER_BYTES_MAX,
            0..4 => self.random.usize(60_000..250_000),
            4..40 => self.random.usize(4..30_000),
            _ => self.random.usize(4..1_500),
        }
    }

    fn publish(&mut self, role: Role, bytes: usize) {
        let id = self.next_id;
        self.next_id += 1;
        // headers come a little before the frame that they belong to
        self.time = self.time.wrapping_add(1);
        let mut message = message(role, id, self.time, bytes);
        let (hub, key) = &mut self.home;
        let appended = hub.append(*key, &mut message, self.now);
        if appended.dropped.is_none() {
            self.model.add(role, id, message.timestamp().0);
        }
        self.time = self.time.wrapping_add(u32::from(role.is_coded()) * self.random.u32(1..40));
        let held = hub.held_bytes().home;
        let one = hub.log(*key).and_then(|log| {
            log.newest().map(|newest| newest.held_bytes() + newest.prelude.held_bytes())
        });
        // a prelude rendered for joining players is held too
        let log = self.limits.log_bytes_max.max(one.unwrap_or(0));
        assert!(held <= log + 5 * (HEADER_BYTES_MAX + 30), "seed {}", self.seed);
    }

    fn flush(&mut self) {
        let mut ready = Vec::new();
        self.home.0.flush(self.now, &mut ready);
        for segment in self.home.0.take_sealed(self.home.1) {
            if self.random.u8(..) == 0 {
                self.lost = true;
                self.tally.lost += 1;
            }
            if !self.lost {
                self.remote.0.receive(self.remote.1, segment);
            }
        }
        if self.lost && self.random.u8(..) < 64 {
            for segment in self.home.0.snapshot(self.home.1) {
                self.remote.0.receive(self.remote.1, &segment);
            }
            self.lost = false;
        }
        self.remote.0.flush(self.now, &mut ready);
    }

    fn join(&mut self) {
        let remote = self.random.bool();
        let (hub, key) = if remote { &mut self.remote } else { &mut self.home };
        let join = if self.random.bool() { Join::Gop } else { Join::Live };
        let form = FlvForm { websocket: self.random.bool(), extras: self.random.bool() };
        let wanted = match self.random.u8(0..9) {
            0 => AUDIO_ONLY,
            1 => VIDEO_ONLY,
            2 => ViewKind { message_stream: 7, ..ViewKind::default() },
            3 => ViewKind::flv(ViewTracks::Both, form),
            4 => ViewKind::flv(ViewTracks::AudioOnly, form),
            5 => ViewKind::flv(ViewTracks::VideoOnly, form),
            _ => ViewKind::default(),
        };
        let cursor = hub.open(*key, join, wanted, self.now).unwrap();
        self.viewers.push(Viewer {
            remote,
            cursor,
            player: Player::of(wanted),
            wanted,
            pace: self.random.u8(5..=255),
            readings: vec![Reading {
                at: None,
                view: wanted,
                moves: 0,
                headers: Vec::new(),
                needs_key: true,
                missed: 0,
            }],
            moves: Vec::new(),
            skipped: 0,
            countable: wanted == ViewKind::default(),
        });
    }

    fn leave(&mut self) {
        if !self.viewers.is_empty() {
            let place = self.random.usize(..self.viewers.len());
            let viewer = self.viewers.swap_remove(place);
            let (hub, key) = if viewer.remote { &mut self.remote } else { &mut self.home };
            hub.close(*key, viewer.cursor);
        }
    }

    /// One batch for the viewer at this place; `false` when there was none.
    fn serve(&mut self, place: usize) -> bool {
        let viewer = &mut self.viewers[place];
        let (hub, key) = if viewer.remote { &mut self.remote } else { &mut self.home };
        let before = viewer.cursor.view();
        let bytes_max = self.limits.batch_bytes_max;
        let (cursor, player) = (&mut viewer.cursor, &mut viewer.player);
        let batch = step(hub, *key, cursor, self.now, player, bytes_max);
        let why = format!("seed {}, viewer {place}", self.seed);
        viewer.judge(&self.model, &batch, before, &why);
        let (tally, after) = (&mut self.tally, viewer.cursor.view());
        tally.lags += usize::from(batch.jumped == Some(JumpReason::Lag));
        tally.trims += usize::from(batch.jumped == Some(JumpReason::Trimmed));
        tally.joins += usize::from(batch.joined);
        tally.fallbacks += usize::from(before.has_video() && !after.has_video());
        tally.upgrades += usize::from(!before.has_video() && after.has_video());
        tally.halves += usize::from(!viewer.cursor.at_boundary());
        matches!(batch.next, Next::Send { .. })
    }

    fn rejoin(&mut self, place: usize) {
        let viewer = &mut self.viewers[place];
        let (hub, key) = if viewer.remote { &mut self.remote } else { &mut self.home };
        hub.rejoin(*key, &mut viewer.cursor, self.now);
        viewer.countable = false;
    }

    fn turn(&mut self) {
        let role = match self.random.u8(..) {
            0..4 => Role::Metadata,
            4..8 => Role::AudioHeader,
            8..12 => Role::VideoHeader,
            12..14 => Role::AudioChannels,
            14..16 => Role::VideoMetadata,
            16..22 => Role::KeyFrame,
            22..100 => Role::AudioFrame,
            100..104 => Role::Data,
            _ => Role::InterFrame,
        };
        match self.random.u8(..) {
            0 => {
                self.home.0.end_publish(self.home.1);
                self.now += ms(self.random.u64(0..1_000));
                self.home.0.begin_publish(self.home.1);
                self.model.headers.clear();
                self.time = self.random.u32(..);
            }
            1..6 => self.join(),
            6..8 => self.leave(),
            8 if !self.viewers.is_empty() => {
                let place = self.random.usize(..self.viewers.len());
                self.rejoin(place);
            }
            9 => {
                self.home.0.shrink(0);
            }
            _ => {
                let bytes = self.size(role);
                self.publish(role, bytes);
            }
        }
        self.now += ms(self.random.u64(0..30));
        self.flush();
        for place in 0..self.viewers.len() {
            while self.random.u8(..) < self.viewers[place].pace && self.serve(place) {}
        }
    }

    /// At rest everybody is at the head.
    fn finish(&mut self) {
        self.home.0.begin_publish(self.home.1);
        self.model.headers.clear();
        self.lost = true;
        for role in [Role::AudioFrame, Role::KeyFrame, Role::AudioFrame] {
            self.publish(role, 100);
        }
        self.home.0.seal(self.home.1);
        let snapshot = self.home.0.snapshot(self.home.1);
        for segment in &snapshot {
            self.remote.0.receive(self.remote.1, segment);
        }
        for place in 0..self.viewers.len() {
            while self.serve(place) {}
            let viewer = &self.viewers[place];
            let seed = self.seed;
            assert_eq!(viewer.cursor.view(), viewer.wanted, "seed {seed}, viewer {place}");
            let done = viewer.readings.iter().any(|reading| {
                let rest = self.model.shown(reading.at.unwrap_or(0), viewer.wanted);
                rest.is_none() && (!viewer.countable || reading.missed == viewer.skipped)
            });
            let (skipped, readings) = (viewer.skipped, &viewer.readings);
            assert!(done, "seed {seed}, viewer {place}: skipped {skipped}, {readings:?}");
        }
        while !self.viewers.is_empty() {
            self.leave();
        }
        for (hub, _) in [&mut self.home, &mut self.remote] {
            hub.forget_left_views(self.now + super::view::VIEW_LINGER);
        }
        for (hub, key) in [&self.home, &self.remote] {
            assert_eq!(hub.held_bytes().views, 0, "seed {}", self.seed);
            let log = hub.log(*key).unwrap();
            for segment in log.from(0) {
                let there = self.home.0.log(self.home.1).unwrap().get(segment.number);
                assert!(there.is_none_or(|there| there.bytes == segment.bytes));
            }
        }
    }
}

#[test]
fn random_streams_are_understood_by_every_player() {
    let mut sum = [0; 7];
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.turn();
        }
        world.finish();
        let Tally { lags, trims, joins, fallbacks, upgrades, halves, lost } = world.tally;
        let these = [lags, trims, joins, fallbacks, upgrades, halves, lost];
        sum.iter_mut().zip(these).for_each(|(sum, this)| *sum += this);
    }
    assert!(sum.iter().all(|&sum| sum > 200), "too little happened: {sum:?}");
}
