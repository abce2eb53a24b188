//! What the publisher's worker does to a message before it is part of the log.
//!
//! Places it on the stream's timeline, keeps it for joining players if it is a header, and makes it
//! part of a segment: copied behind the pending one if it is small, a segment by itself, uncopied,
//! if it is large. A key frame always starts a segment. Other workers have none of this: they are
//! sent segments.

use std::sync::Arc;
use std::time::Duration;

use super::log::Log;
use super::pending::{Pending, Start, whole};
use super::prelude::PreludeBuilder;
use super::segment::{Segment, Video};
use super::timeline::Timeline;
use super::view::Renditions;
use crate::limits::Limits;
use crate::wire::media::{Class, Codec, Role, codec};
use crate::wire::message::{MediaKind, MediaMessage};

/// The publishing side of a stream.
#[derive(Debug, Default)]
pub(super) struct Home {
    pending: Pending,
    prelude: PreludeBuilder,
    timeline: Timeline,
    next_number: u64,
    next_seq: u64,
    publishing: bool,
    /// What comes are headers in force, and none of the stream's count.
    restating: bool,
    /// When the newest message was complete at the stream's origin.
    ingested: Duration,
    /// The video track whose key frames are those of the stream: 0 where there is one, or else the
    /// first that came.
    default_track: Option<u8>,
    /// A later publisher has not yet sent a key frame: its inter frames mean nothing to anybody.
    awaiting_key: bool,
    /// When the first message of the present publisher came, and the last coded video of it.
    began: Option<Duration>,
    last_video: Option<Duration>,
    counts: Counts,
}

/// What a publisher sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) payload_bytes: u64,
    pub(super) messages: u64,
    pub(super) dropped: u64,
    pub(super) key_frames: u64,
    pub(super) last_key: Option<Duration>,
    pub(super) gop: Option<Duration>,
    pub(super) last_ingest: Option<Duration>,
    pub(super) audio_codec: Option<Codec>,
    pub(super) video_codec: Option<Codec>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Segments that this message sealed.
    pub sealed: usize,
    /// Why the message is not in the log.
    pub dropped: Option<Dropped>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// A video frame of a returning publisher before its first key frame: what it refers to is
    /// gone.
    BeforeKey,
    /// Nobody publishes the stream here.
    NoPublisher,
    /// It is in the log already, by its place in the count of the stream's source.
    Held,
}

/// What the next publisher's worker must know to continue a stream, when it is another worker.
#[derive(Clone, Copy, Debug)]
pub struct Heritage {
    next_number: u64,
    next_seq: u64,
    ingested: Duration,
    version: u64,
    timeline: Timeline,
    counts: Counts,
}

impl Home {
    /// Continues a stream that had its publisher on another worker.
    pub(super) fn inherit(heritage: Heritage) -> Self {
        Self {
            prelude: PreludeBuilder::starting_at(heritage.version),
            timeline: heritage.timeline,
            next_number: heritage.next_number,
            next_seq: heritage.next_seq,
            ingested: heritage.ingested,
            counts: heritage.counts,
            ..Self::default()
        }
    }

    /// Continues a stream of which only the log is here. What the log does not tell is taken as
    /// unknown.
    pub(super) fn after(log: &Log) -> Self {
        let Some(newest) = log.newest() else { return Self::default() };
        let coded = |segment: &Segment| {
            let mut entries = segment.index.iter().rev();
            entries.find(|entry| entry.role.is_coded()).map(|entry| entry.timestamp)
        };
        Self::inherit(Heritage {
            next_number: log.next(),
            next_seq: newest.end_seq(),
            ingested: newest.ingested,
            version: newest.prelude.version() + 1,
            timeline: Timeline::after(log.newest_first().find_map(coded)),
            counts: Counts::default(),
        })
    }

    /// What another worker needs to continue. Nothing may be pending.
    pub(super) fn heritage(&self) -> Heritage {
        Heritage {
            next_number: self.next_number,
            next_seq: self.next_seq,
            ingested: self.ingested,
            // headers do not pass from one publisher to the next, only the count of their changes
            version: self.prelude.current().version() + 1,
            timeline: self.timeline,
            counts: self.counts,
        }
    }

    /// A publisher begins. What the previous one left pending must have been sealed.
    pub(super) fn begin(&mut self) {
        self.prelude.reset();
        self.timeline.begin();
        self.counts.audio_codec = None;
        self.counts.video_codec = None;
        // Whether it sends video is not known by what the one before did, or by how long it was
        // gone.
        self.began = None;
        self.last_video = None;
        self.default_track = None;
        self.awaiting_key = self.timeline.continues();
        self.publishing = true;
    }

    /// A link goes on where another one left off.
    pub(super) fn resume(&mut self) {
        self.publishing = true;
    }

    /// What comes now refers to what is here.
    pub(super) fn await_no_key(&mut self) {
        self.awaiting_key = false;
    }

    /// What comes now has the time of the stream's source, moved by this if it was so before.
    pub(super) fn trust_time(&mut self, shift: u32) {
        self.timeline.trust(shift);
    }

    /// By how much timestamps of the stream's source are moved here.
    pub(super) fn shift(&self) -> u32 {
        self.timeline.shift()
    }

    /// The next message by the stream's count.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The count goes on elsewhere. Nothing may be pending.
    pub(super) fn set_next_seq(&mut self, seq: u64) {
        self.next_seq = seq;
    }

    /// Whether what comes now are headers in force, told to players and not counted. Nothing may be
    /// pending.
    pub(super) fn set_restating(&mut self, restating: bool) {
        self.restating = restating;
    }

    /// Whether a header is in force already.
    pub(super) fn knows(&self, message: &MediaMessage) -> bool {
        self.prelude.repeats(message)
    }

    /// The publisher is gone.
    pub(super) fn end(&mut self) {
        self.publishing = false;
    }

    pub(super) fn is_publishing(&self) -> bool {
        self.publishing
    }

    /// Forgets the metadata.
    pub(super) fn clear_metadata(&mut self) {
        self.prelude.clear_metadata();
    }

    /// Number of the pending segment and when its first message came, if anything is pending.
    pub(super) fn pending(&self) -> Option<(u64, Duration)> {
        self.pending.since().map(|since| (self.next_number, since))
    }

    /// Whether a player could start at what is pending.
    pub(super) fn pending_key(&self) -> bool {
        self.pending.starts_with_key()
    }

    /// Number of the segment that is being filled or will be next.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes copied so far.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.pending.copied_bytes() + self.prelude.copied_bytes()
    }

    /// Takes a message into the stream. `ingested`: when it was complete at the stream's origin,
    /// which is taken to be no later than now and no earlier than of the message before. Segments
    /// that it completes go to `log`.
    pub(super) fn append(
        &mut self,
        message: &mut MediaMessage,
        limits: &Limits,
        ingested: Duration,
        now: Duration,
        log: &mut Renditions,
    ) -> Appended {
        self.find_default_track(message);
        let role = message.class().role;
        if let Some(reason) = self.refuses(role) {
            self.counts.dropped += 1;
            return Appended { sealed: 0, dropped: Some(reason) };
        }
        self.count(message, now);
        self.ingested = ingested.max(self.ingested).min(now);
        let sent = message.timestamp();
        let timestamp = self.timeline.place(role, sent);
        if timestamp != sent {
            message.set_timestamp(timestamp);
        }
        let shift = if self.timeline.is_fed() { timestamp.minus(sent.0).0 } else { 0 };
        let mut sealed = 0;
        let large = message.wire_bytes() >= limits.segment_bytes.min(SEGMENT_BYTES_CEILING);
        let waits = !large && role != Role::KeyFrame;
        let fits = self.pending.has_room(message.wire_bytes());
        if waits && !fits {
            self.pending.note_outgrown();
        }
        let moved_alike = self.pending.shift().is_none_or(|pending| pending == shift);
        if !waits || !fits || !moved_alike {
            sealed += usize::from(self.seal(limits, log));
        }
        let seq = self.next_seq;
        let (ingested, restates) = (self.ingested, self.restating);
        self.next_seq += u64::from(!restates);
        let prelude = &self.prelude;
        let start = || Start {
            ingested,
            arrived: now,
            restates,
            first_seq: seq,
            shift,
            prelude: Arc::clone(prelude.current()),
        };
        if large {
            let start = start();
            self.prelude.keep(message, limits);
            let number = self.take_number();
            let video = self.video(now, limits);
            log.push(whole(message, number, start, video), limits);
            return Appended { sealed: sealed + 1, dropped: None };
        }
        // sealed at this size, a segment ends below that and one message of less than that
        let room = limits.segment_bytes.min(SEGMENT_BYTES_CEILING).saturating_mul(2);
        self.pending.append(message, room, start);
        self.prelude.keep(message, limits);
        if self.pending.len() >= limits.segment_bytes.min(SEGMENT_BYTES_CEILING) {
            sealed += usize::from(self.seal(limits, log));
        }
        Appended { sealed, dropped: None }
    }

    /// Ends the pending segment and gives it to `log`. `false` when nothing is pending.
    pub(super) fn seal(&mut self, limits: &Limits, log: &mut Renditions) -> bool {
        let Some(since) = self.pending.since() else { return false };
        let video = self.video(since, limits);
        let number = self.take_number();
        let segment: Option<Segment> = self.pending.seal(number, video);
        segment.is_some_and(|segment| log.push(segment, limits))
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Learns which video track is the default one, and tells a key frame of that track from one of
    /// another.
    fn find_default_track(&mut self, message: &mut MediaMessage) {
        let Class { role, tracks } = *message.class();
        match role {
            Role::KeyFrame => self.default_track = Some(0),
            Role::TrackKeyFrame | Role::InterFrame | Role::VideoHeader => {
                let has_0 = tracks.ids().contains(&0);
                let first = if has_0 { Some(0) } else { tracks.ids().first().copied() };
                self.default_track = first.filter(|_| has_0).or(self.default_track).or(first);
            }
            _ => return,
        }
        if role == Role::TrackKeyFrame {
            let own = self.default_track.is_some_and(|track| tracks.ids().contains(&track));
            message.set_role(if own { Role::KeyFrame } else { Role::InterFrame });
        }
    }

    fn refuses(&mut self, role: Role) -> Option<Dropped> {
        if !self.publishing {
            return Some(Dropped::NoPublisher);
        }
        match role {
            Role::KeyFrame => self.awaiting_key = false,
            Role::InterFrame if self.awaiting_key => return Some(Dropped::BeforeKey),
            _ => {}
        }
        None
    }

    fn count(&mut self, message: &MediaMessage, now: Duration) {
        let role = message.class().role;
        self.began.get_or_insert(now);
        if role.is_video() && role.is_coded() {
            self.last_video = Some(now);
        }
        let counts = &mut self.counts;
        counts.payload_bytes += u64::try_from(message.payload_bytes()).unwrap_or(u64::MAX);
        counts.messages += 1;
        counts.last_ingest = Some(now);
        if role == Role::KeyFrame {
            counts.key_frames += 1;
            let last = counts.last_key.replace(now);
            counts.gop = last.map(|last| now.saturating_sub(last)).or(counts.gop);
        }
        self.learn_codec(message);
    }

    /// Headers tell of changes; without headers the first frame tells the codec.
    fn learn_codec(&mut self, message: &MediaMessage) {
        let role = message.class().role;
        let counts = &mut self.counts;
        let (known, header, track) = match message.kind() {
            MediaKind::Audio => (&mut counts.audio_codec, role == Role::AudioHeader, Some(0)),
            MediaKind::Video => {
                (&mut counts.video_codec, role == Role::VideoHeader, self.default_track)
            }
            MediaKind::Data => return,
        };
        if known.is_none() || (header && message.class().tracks.ids().first().copied() == track) {
            *known = codec(message.kind(), message.payload_head()).or(*known);
        }
    }

    /// What is known of the stream's video at `at`.
    fn video(&self, at: Duration, limits: &Limits) -> Video {
        let idle = |since: Duration| at.saturating_sub(since) >= limits.video_idle_max;
        match (self.last_video, self.began) {
            (Some(last), _) if idle(last) => Video::Idle,
            (None, Some(began)) if idle(began) => Video::Never,
            _ => Video::Flowing,
        }
    }
}

/// Largest `segment_bytes` obeyed, so that offsets within a segment fit their fields.
const SEGMENT_BYTES_CEILING: usize = 1024 * 1024;
