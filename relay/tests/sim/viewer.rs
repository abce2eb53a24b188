//! What a player may be sent: judges every message of one play against the ledger.
//!
//! - Every byte of the payload is right.
//! - A play starts with the headers in force and a key frame (without video, anywhere).
//! - Then message follows message as they were published. A gap is a jump: forward, to a key frame,
//!   with every header known that is in force there.
//! - Timestamps of coded audio and of coded video never go back, and within an epoch they keep
//!   their distances.
//! - When the player chooses other tracks, no message of those it sees before and after is missing.

use std::time::Duration;

use relay::wire::message::{MediaKind, MediaMessage};
use relay::wire::timestamp::Timestamp;

use super::material::{Headers, Id, Kind, Sent, SharedLedger, payload, read, set_header};

/// Which kinds of media are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shows {
    pub(crate) audio: bool,
    pub(crate) video: bool,
}

impl Shows {
    pub(crate) const ALL: Self = Self { audio: true, video: true };
    pub(crate) const AUDIO: Self = Self { audio: true, video: false };
    pub(crate) const VIDEO: Self = Self { audio: false, video: true };

    fn shows(self, kind: Kind) -> bool {
        match kind.media() {
            MediaKind::Data => true,
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }

    fn and(self, other: Self) -> Self {
        Self { audio: self.audio && other.audio, video: self.video && other.video }
    }
}

/// Judges one play.
pub(crate) struct Viewer {
    ledger: SharedLedger,
    stream: u8,
    /// Words put before every complaint.
    who: String,
    /// What the player asked for, and what it had asked for before: answers to that may still be on
    /// their way.
    wanted: Shows,
    before: Shows,
    /// What it is sent at present.
    shows: Shows,
    /// The newest message that was not a header told again.
    pub(crate) position: Option<Id>,
    /// The headers that it was told, all of one epoch.
    known: Headers,
    known_epoch: u16,
    /// Audio may come first, until there is a key frame.
    pub(crate) audio_first: bool,
    /// It missed something on purpose (a pause), so the next message may be a jump of any length.
    restarted: bool,
    /// The node that it watches.
    pub(crate) node: u8,
    /// It is meant to miss nothing: what it saw an epoch end with goes into the ledger.
    pub(crate) prompt: bool,
    times: [Option<Timestamp>; 2],
    pub(crate) jumps: u32,
    /// Coded messages that jumps passed over, as far as the publisher's later messages tell.
    pub(crate) missed: usize,
    pub(crate) seen: Seen,
}

/// How much of each kind came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) headers: u32,
    pub(crate) keys: u32,
    pub(crate) video: u32,
    pub(crate) audio: u32,
    pub(crate) last_at: Duration,
}

impl Viewer {
    pub(crate) fn new(ledger: &SharedLedger, stream: u8, who: String) -> Self {
        Self {
            ledger: ledger.clone(),
            stream,
            who,
            wanted: Shows::ALL,
            before: Shows::ALL,
            shows: Shows::ALL,
            position: None,
            known: Headers::default(),
            known_epoch: 0,
            audio_first: false,
            restarted: false,
            node: 0,
            prompt: false,
            times: [None; 2],
            jumps: 0,
            missed: 0,
            seen: Seen::default(),
        }
    }

    /// Judges another stream on the same connection.
    pub(crate) fn beside(&self, stream: u8) -> Self {
        let second = Self::new(&self.ledger, stream, format!("{}, second play", self.who));
        Self { node: self.node, ..second }
    }

    /// Another play of the same stream begins, on a connection of its own.
    pub(crate) fn begin_again(&mut self) {
        let fresh = Self::new(&self.ledger, self.stream, std::mem::take(&mut self.who));
        *self = Self { prompt: self.prompt, node: self.node, ..fresh };
    }

    /// The player asks for other tracks.
    pub(crate) fn choose(&mut self, shows: Shows) {
        if shows != self.wanted {
            self.before = std::mem::replace(&mut self.wanted, shows);
        }
    }

    /// The player comes back from a pause: it is told everything anew and may have missed anything.
    pub(crate) fn resume(&mut self) {
        self.restarted = true;
        self.known = Headers::default();
    }

    /// Whether a message belongs to this viewer's stream.
    pub(crate) fn is_of(&self, message: &MediaMessage) -> bool {
        let bytes: Vec<u8> = message.payload().flatten().copied().collect();
        read(message.kind(), &bytes).is_some_and(|id| id.stream == self.stream)
    }

    /// Judges the next message; gives its name.
    pub(crate) fn take(&mut self, message: &MediaMessage, now: Duration) -> Id {
        let bytes: Vec<u8> = message.payload().flatten().copied().collect();
        let Some(id) = read(message.kind(), &bytes) else {
            panic!("{}: {now:?}: a payload that nobody published", self.who);
        };
        let sent = self.ledger.borrow().get(id).copied();
        let Some(sent) = sent else { panic!("{}: {id:?} was never published", self.who) };
        let expected = payload(id, sent.kind, sent.bytes);
        assert!(
            bytes == expected,
            "{}: {now:?}: the payload of {id:?} is not as published",
            self.who
        );
        assert_eq!(id.stream, self.stream, "{}: {now:?}: {id:?} of another stream", self.who);
        self.check_time(id, sent.kind, message.timestamp());
        self.place(id, &sent, now);
        self.count(sent.kind, now);
        if sent.kind.is_coded() {
            self.ledger.borrow_mut().check_offset(id, message.timestamp().0, self.node);
        }
        id
    }

    /// Whether everything that was published is here.
    pub(crate) fn is_up_to_date(&self) -> bool {
        let last = self.ledger.borrow().last(self.stream);
        last.is_some() && self.position == last
    }

    fn place(&mut self, id: Id, sent: &Sent, now: Duration) {
        if self.follows(id, sent.kind) {
            if self.prompt
                && let Some(last) = self.position
                && last.epoch != id.epoch
            {
                self.ledger.borrow_mut().note_tail(last);
            }
            self.learn(id, sent.kind);
            self.position = Some(id);
            return;
        }
        if !sent.kind.is_coded() {
            // A header told (again) before a start or a jump.
            self.learn(id, sent.kind);
            return;
        }
        self.start(id, sent.kind, now);
    }

    /// Whether the message is the next one, or the next of the tracks chosen meanwhile.
    fn follows(&mut self, id: Id, kind: Kind) -> bool {
        let Some(position) = self.position.filter(|_| !self.restarted) else { return false };
        if id <= position {
            return false;
        }
        for next in [self.shows, self.wanted, self.before] {
            // Video is added by a start, at a key frame.
            let adds_video = next.video && !self.shows.video;
            let fits = next.shows(kind) && !adds_video;
            if fits && !self.misses(position, id, self.shows.and(next)) {
                if next != self.shows && kind.is_coded() {
                    self.check_headers(id, next);
                }
                self.shows = next;
                return true;
            }
        }
        false
    }

    /// Whether a message that had to be shown lies between two others.
    fn misses(&self, after: Id, before: Id, shows: Shows) -> bool {
        let ledger = self.ledger.borrow();
        if before.epoch > after.epoch {
            // How much of the older epoch arrived nobody here knows; the new one begins at 0. Of
            // one between them nothing need have arrived.
            let mut between = after.epoch + 1..before.epoch;
            let earlier = ledger.epoch(before.stream, before.epoch).unwrap_or_default();
            return between.any(|epoch| ledger.was_relayed(after.stream, epoch))
                || any_shown(earlier, 0, before.seq, shows, before.epoch > 0);
        }
        let epoch = ledger.epoch(after.stream, after.epoch).unwrap_or_default();
        any_shown(epoch, after.seq + 1, before.seq, shows, before.epoch > 0)
    }

    /// A play starts, or starts again behind a gap.
    fn start(&mut self, id: Id, kind: Kind, now: Duration) {
        let who = &self.who;
        let position = self.position;
        assert!(
            position.is_none_or(|position| id > position),
            "{who}: {now:?}: {id:?} comes after {position:?}"
        );
        // Whoever has the audio while it waits for a key frame goes on with it after a jump.
        let has_audio = self.shows == Shows::AUDIO && position.is_some();
        let is_asked = !self.wanted.video || !self.before.video;
        let may_start = is_asked || self.audio_first || has_audio;
        let is_audio_start = kind == Kind::Audio && may_start;
        assert!(
            kind == Kind::Key || is_audio_start,
            "{who}: {now:?}: starts with {kind:?} {id:?} behind {position:?}, no key frame"
        );
        self.shows = match kind {
            Kind::Key if self.wanted.video => self.wanted,
            Kind::Key => self.before,
            _ => Shows::AUDIO,
        };
        self.check_headers(id, self.shows);
        self.jumps += u32::from(position.is_some() && !self.restarted);
        if let Some(before) = position.filter(|_| !self.restarted) {
            let passed = self.passed(before, id);
            self.missed += passed;
            if self.prompt && passed == 0 && before.epoch != id.epoch {
                self.ledger.borrow_mut().note_tail(before);
            }
        }
        self.restarted = false;
        self.position = Some(id);
    }

    /// Coded messages between two of the same epoch, or from the first key frame of a later one on.
    fn passed(&self, before: Id, id: Id) -> usize {
        let ledger = self.ledger.borrow();
        let epoch = ledger.epoch(id.stream, id.epoch).unwrap_or_default();
        let first_key = epoch.iter().position(|sent| sent.kind == Kind::Key).unwrap_or(usize::MAX);
        let from = if before.epoch == id.epoch { before.seq + 1 } else { 0 };
        let range = usize::try_from(from).unwrap()..usize::try_from(id.seq).unwrap();
        let coded = |(at, sent): &(usize, &Sent)| {
            sent.kind.is_coded() && (before.epoch == id.epoch || *at >= first_key)
        };
        range.clone().zip(&epoch[range]).filter(coded).count()
    }

    /// Every header in force at a message is known.
    fn check_headers(&self, id: Id, shows: Shows) {
        let mut in_force = self.ledger.borrow().in_force(id);
        let mut known = if self.known_epoch == id.epoch { self.known } else { Headers::default() };
        for headers in [&mut in_force, &mut known] {
            headers[1] = headers[1].filter(|_| shows.audio);
            headers[2] = headers[2].filter(|_| shows.video);
            headers[3] = headers[3].filter(|_| shows.video);
        }
        let who = &self.who;
        assert_eq!(known, in_force, "{who}: at {id:?}: the headers told are not those in force");
    }

    fn learn(&mut self, id: Id, kind: Kind) {
        if kind.is_coded() {
            return;
        }
        if self.known_epoch != id.epoch {
            self.known_epoch = id.epoch;
            self.known = Headers::default();
        }
        set_header(&mut self.known, kind, id.seq);
    }

    fn check_time(&mut self, id: Id, kind: Kind, time: Timestamp) {
        if !kind.is_coded() {
            return;
        }
        let last = &mut self.times[usize::from(kind == Kind::Audio)];
        if let Some(last) = last.replace(time) {
            let step = time.since(last);
            assert!(step >= 0, "{}: {id:?} {kind:?} goes back by {step} ms", self.who);
        }
    }

    fn count(&mut self, kind: Kind, now: Duration) {
        let seen = &mut self.seen;
        seen.last_at = now;
        match kind {
            Kind::Metadata | Kind::AudioHeader | Kind::VideoHeader | Kind::Colour => {
                seen.headers += 1;
            }
            Kind::Audio => seen.audio += 1,
            Kind::Inter => seen.video += 1,
            Kind::Key => {
                seen.video += 1;
                seen.keys += 1;
            }
        }
    }
}

/// Whether one of these messages had to be shown. A later epoch's inter frames before its first key
/// frame may be left out: what they refer to is gone.
fn any_shown(epoch: &[Sent], from: u32, to: u32, shows: Shows, later: bool) -> bool {
    let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
    let first_key = epoch.iter().position(|sent| sent.kind == Kind::Key).unwrap_or(usize::MAX);
    let mut between = range.clone().zip(&epoch[range]);
    between.any(|(at, sent)| {
        let orphan = later && sent.kind == Kind::Inter && at < first_key;
        shows.shows(sent.kind) && !orphan
    })
}
