//! The judge of one player: what it received against what its publisher sent.
//!
//! Nothing here knows a connection; messages come in with the time of their arrival, counts go out.
//! Each check can be turned off by name, so that a test can see it fail.

mod continuity;

use std::sync::Arc;
use std::time::Duration;

use relay::wire::media::Role;
use relay::wire::message::{MediaKind, MediaMessage};
use relay::wire::timestamp::Timestamp;

pub use self::continuity::{Continuity, Step};
use crate::flv::FileStream;
use crate::measure::{Counters, SpanKind, Spans};
use crate::payload::{Hasher, Reading, Truth, read};
use crate::units::{low_bits, millis, wide};

/// What a player expects to receive.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Synthetic frames of the stream of this number.
    Synthetic(u32),
    /// The frames of a file in a loop.
    File(Arc<FileStream>),
    /// Synthetic frames of whichever stream comes first, or frames without truth.
    Anything,
}

macro_rules! checks {
    ($($name:ident: $meaning:literal;)*) => {
        /// Which checks are made: all of them, unless a test turns one off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Checks {
            $(#[doc = $meaning] pub $name: bool,)*
        }

        impl Default for Checks {
            fn default() -> Self {
                Self { $($name: true,)* }
            }
        }

        impl Checks {
            /// The name of every check.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// All checks but one.
            #[must_use]
            pub fn without(name: &str) -> Self {
                Self { $($name: name != stringify!($name),)* }
            }
        }
    };
}

checks! {
    missing: "Frames that never came.";
    doubled: "Frames that came again.";
    reordered: "Frames that came after later ones.";
    altered: "Bytes that are not the publisher's.";
    foreign: "Frames of another stream.";
    backward: "Timestamps that step back.";
    retimed: "Timestamps that move against the publisher's.";
    headless: "Frames before their sequence header.";
    keyless: "Video before the first key frame.";
    gops: "The hash of each group of pictures.";
    late: "Frames later than a second.";
    stalls: "Silences of more than a second.";
}

/// What one arrival meant for the player.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Coded audio or video.
    pub coded: bool,
    /// A key frame.
    pub key: bool,
}

/// The judge.
#[derive(Debug)]
pub struct Verifier {
    expected: Expected,
    checks: Checks,
    host: u32,
    /// Frames due before this were in the server's cache when the player came.
    playing_since: Duration,
    /// Stream and session that the player is locked to.
    locked: Option<(u32, u32)>,
    continuity: Continuity,
    video: Lane,
    audio: Lane,
    key_seen: bool,
    /// The sum of hashes since the last key frame, once there was one.
    digest: Option<u64>,
    first_arrival: Option<Duration>,
    last_arrival: Option<Duration>,
    last_sent: Option<(Duration, Duration)>,
    /// When the publisher of a file began.
    file_began: Option<Duration>,
}

/// What is remembered of audio or video.
#[derive(Debug, Default)]
struct Lane {
    header_seen: bool,
    newest: Option<Timestamp>,
    /// Received timestamp minus published one.
    shift: Option<i32>,
}

/// A frame or a silence longer than this is late, or a stall.
pub const LATE: Duration = Duration::from_secs(1);

impl Verifier {
    /// A judge for a player that asked to play at `now`, or will: see [`Self::begin`].
    #[must_use]
    pub fn new(expected: Expected, checks: Checks, host: u32, now: Duration) -> Self {
        Self {
            expected,
            checks,
            host,
            playing_since: now,
            locked: None,
            continuity: Continuity::default(),
            video: Lane::default(),
            audio: Lane::default(),
            key_seen: false,
            digest: None,
            first_arrival: None,
            last_arrival: None,
            last_sent: None,
            file_began: None,
        }
    }

    /// The player asks to play only now.
    pub fn begin(&mut self, now: Duration) {
        self.playing_since = now;
    }

    /// Whether there is video, as far as can be told at `now`: it came, or audio has not been alone
    /// for long.
    #[must_use]
    pub fn may_have_video(&self, now: Duration) -> bool {
        let alone = self.first_arrival.map_or(Duration::ZERO, |first| now.saturating_sub(first));
        self.video.header_seen || self.video.newest.is_some() || alone < AUDIO_ALONE
    }

    /// When the last frame came.
    #[must_use]
    pub fn last_arrival(&self) -> Option<Duration> {
        self.last_arrival
    }

    /// Judges a message that arrived at `now`.
    pub fn receive(
        &mut self,
        message: &MediaMessage,
        now: Duration,
        counters: &mut Counters,
        spans: &mut Spans,
    ) -> Seen {
        let role = message.class().role;
        let lane = if role.is_audio() { &mut self.audio } else { &mut self.video };
        if matches!(role, Role::AudioHeader | Role::VideoHeader) {
            lane.header_seen = true;
        }
        // An empty message is silence, which some servers put in front.
        if !role.is_coded() || message.payload_bytes() == 0 {
            return Seen::default();
        }
        counters.messages_received += 1;
        let key = role == Role::KeyFrame;
        if role.is_video() && !key && !self.key_seen && self.checks.keyless {
            counters.keyless += 1;
        }
        if !lane.header_seen && self.checks.headless && needs_header(message) {
            counters.headless += 1;
        }
        self.key_seen |= key;
        self.first_arrival.get_or_insert(now);
        self.judge_silence(now, counters);
        match self.expected.clone() {
            Expected::File(stream) => self.judge_file(&stream, message, now, counters, spans),
            Expected::Synthetic(_) | Expected::Anything => {
                self.judge_synthetic(message, key, now, counters, spans);
            }
        }
        self.judge_timestamp(message, counters);
        Seen { coded: true, key }
    }

    /// The player leaves at `now`: what is still open is settled.
    pub fn finish(&mut self, now: Duration, counters: &mut Counters) {
        self.settle(u64::MAX, counters);
        if self.last_arrival.is_some() {
            self.judge_silence(now, counters);
        }
    }

    fn judge_silence(&mut self, now: Duration, counters: &mut Counters) {
        let silence = self.last_arrival.map(|last| now.saturating_sub(last));
        if self.checks.stalls && silence.is_some_and(|silence| silence > LATE) {
            counters.stalls += 1;
        }
        self.last_arrival = Some(now);
    }

    fn judge_file(
        &mut self,
        stream: &FileStream,
        message: &MediaMessage,
        now: Duration,
        counters: &mut Counters,
        spans: &mut Spans,
    ) {
        let began = stream.began();
        if began != self.file_began {
            if self.file_began.is_some() {
                self.begin_anew(counters);
            }
            self.file_began = began;
        }
        let since = began.map(|began| now.saturating_sub(began));
        let due = since.map(|since| stream.file.place_at(millis(since)));
        let mut hasher = Hasher::default();
        message.payload().for_each(|piece| hasher.write(piece));
        let Some(place) = stream.file.place(hasher.finish(), self.continuity.next().or(due)) else {
            self.altered(counters);
            return;
        };
        counters.verified += 1;
        if self.continuity_counts(now) {
            self.step(place, counters);
        }
        let due_ms = stream.file.due_ms(place);
        if let Some(began) = began {
            self.judge_shift(message, Timestamp(low_bits(due_ms)), counters);
            self.measure(began + Duration::from_millis(due_ms), now, counters, spans);
        }
    }

    fn judge_synthetic(
        &mut self,
        message: &MediaMessage,
        key: bool,
        now: Duration,
        counters: &mut Counters,
        spans: &mut Spans,
    ) {
        let (truth, intact, hash) = match read(message.payload()) {
            Reading::Present { truth, intact, hash } => (truth, intact, hash),
            Reading::Absent
                if matches!(self.expected, Expected::Anything) && self.locked.is_none() =>
            {
                counters.unverified += 1;
                return;
            }
            Reading::Absent => return self.altered(counters),
        };
        if !intact {
            // Fields that may be altered as well are no ground to judge on.
            self.digest = self.digest.map(|digest| digest.wrapping_add(hash));
            return self.altered(counters);
        }
        counters.verified += 1;
        if self.is_foreign(&truth, counters) {
            return;
        }
        if key {
            let equal = self.digest.map(|digest| digest == truth.digest);
            if self.checks.gops {
                counters.gops_equal += u64::from(equal == Some(true));
                counters.gops_unequal += u64::from(equal == Some(false));
            }
            self.digest = Some(0);
        }
        self.digest = self.digest.map(|digest| digest.wrapping_add(hash));
        if self.continuity_counts(now) {
            self.step(truth.sequence, counters);
        }
        self.judge_shift(message, Timestamp(truth.timestamp), counters);
        if truth.host == self.host {
            self.measure(Duration::from_nanos(truth.sent_ns), now, counters, spans);
        }
    }

    /// Locks to the first stream and session; true when the frame is of another stream.
    fn is_foreign(&mut self, truth: &Truth, counters: &mut Counters) -> bool {
        let (stream, run) = match (self.locked, &self.expected) {
            (Some(locked), _) => locked,
            (None, Expected::Synthetic(stream)) => (*stream, truth.run),
            (None, _) => (truth.stream, truth.run),
        };
        if truth.stream != stream {
            counters.foreign += u64::from(self.checks.foreign);
            return true;
        }
        if truth.run != run {
            self.begin_anew(counters);
        }
        self.locked = Some((stream, truth.run));
        false
    }

    /// The publisher began another session.
    fn begin_anew(&mut self, counters: &mut Counters) {
        counters.republished += 1;
        self.settle(u64::MAX, counters);
        self.continuity = Continuity::default();
        self.digest = None;
        self.last_sent = None;
        (self.video.shift, self.audio.shift) = (None, None);
    }

    /// A join may skip frames up to the first key frame; from there on every frame counts.
    fn continuity_counts(&self, now: Duration) -> bool {
        self.key_seen || !self.may_have_video(now)
    }

    fn step(&mut self, sequence: u64, counters: &mut Counters) {
        match self.continuity.take(sequence) {
            Step::InOrder | Step::Ahead => {}
            Step::Late => counters.reordered += u64::from(self.checks.reordered),
            Step::Again => counters.doubled += u64::from(self.checks.doubled),
        }
        let settled = self.continuity.next().unwrap_or_default();
        self.settle(settled.saturating_sub(REORDER_FRAMES), counters);
    }

    fn settle(&mut self, before: u64, counters: &mut Counters) {
        while let Some(hole) = self.continuity.settle(before) {
            if self.checks.missing {
                counters.gaps += 1;
                counters.missing += hole.end - hole.start;
            }
        }
    }

    fn altered(&mut self, counters: &mut Counters) {
        counters.altered += u64::from(self.checks.altered);
        // It stands in the place of the frame that was expected.
        if let Some(next) = self.continuity.next() {
            self.continuity.take(next);
        }
    }

    fn judge_shift(
        &mut self,
        message: &MediaMessage,
        published: Timestamp,
        counters: &mut Counters,
    ) {
        let shift = message.timestamp().since(published);
        let lane = self.lane(message.kind());
        let moved = lane.shift.is_some_and(|before| before != shift);
        lane.shift = Some(shift);
        counters.retimed += u64::from(moved && self.checks.retimed);
    }

    fn judge_timestamp(&mut self, message: &MediaMessage, counters: &mut Counters) {
        let timestamp = message.timestamp();
        let backward_is_judged = self.checks.backward;
        let lane = self.lane(message.kind());
        if lane.newest.is_some_and(|newest| timestamp.since(newest) < 0) {
            counters.backward += u64::from(backward_is_judged);
        } else {
            lane.newest = Some(timestamp);
        }
    }

    fn lane(&mut self, kind: MediaKind) -> &mut Lane {
        if kind == MediaKind::Audio { &mut self.audio } else { &mut self.video }
    }

    /// A frame that was due at `sent` has arrived.
    fn measure(
        &mut self,
        sent: Duration,
        now: Duration,
        counters: &mut Counters,
        spans: &mut Spans,
    ) {
        if sent < self.playing_since {
            return;
        }
        let latency = now.saturating_sub(sent);
        spans.record(SpanKind::Latency, latency);
        counters.late += u64::from(latency > LATE && self.checks.late);
        if let Some((last_sent, last_arrival)) = self.last_sent {
            let sending = sent.saturating_sub(last_sent);
            spans.record(SpanKind::Jitter, now.saturating_sub(last_arrival).abs_diff(sending));
        }
        self.last_sent = Some((sent, now));
    }
}

/// A frame that came so many frames too late is no longer waited for.
const REORDER_FRAMES: u64 = 128;

/// Audio that was alone for this long is a stream without video.
const AUDIO_ALONE: Duration = Duration::from_secs(2);

/// Whether frames of the message's codec cannot be read without a sequence header.
fn needs_header(message: &MediaMessage) -> bool {
    let first = message.payload_head().first().copied().unwrap_or_default();
    match message.kind() {
        MediaKind::Audio => matches!(first >> 4, 9 | 10),
        MediaKind::Video => first & 0x80 != 0 || matches!(first & 0x0f, 7 | 12 | 13),
        MediaKind::Data => false,
    }
}

/// The number of a stream as it stands in a record.
#[must_use]
pub fn stream_number(index: usize) -> u32 {
    low_bits(wide(index))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
