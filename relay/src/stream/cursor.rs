//! A player's position in a stream.
//!
//! A cursor holds no queue: a position, the rest of what must be sent before it, and what the
//! player was last told. So a player costs the same whether it is at the head or seconds behind,
//! and a slow one costs nobody else anything. How it moves is in `reader.rs`.

use std::time::Duration;

use bytes::Bytes;

use super::segment::Carried;
use super::view::ViewKind;

/// Where a joining player starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// At the newest key frame of the log: a picture at once, at the cost of delay.
    Gop,
    /// At the next key frame.
    Live,
}

/// A player's position. At most one batch is under way at a time.
#[derive(Debug)]
pub struct Cursor {
    /// Bytes that precede the position: a rendered prelude, or the rest of a message that one batch
    /// could not hold. They are pinned here because the log may be trimmed under a message half
    /// sent.
    pub(super) head: Bytes,
    /// The segment to read next.
    pub(super) segment: u64,
    /// Where in it; always where a message begins.
    pub(super) offset: u32,
    /// Bytes handed out and not yet gone.
    pub(super) outstanding: usize,
    pub(super) phase: Phase,
    /// The header of its format, where that has one, was put out.
    pub(super) greeted: bool,
    /// What is read, counted as one reader of it.
    pub(super) view: ViewKind,
    /// What is to be read: from the next key frame if that adds video, else from the next segment.
    pub(super) wanted: ViewKind,
    /// What the player has behind it; `None` when what lies before the position was never meant for
    /// it.
    pub(super) reached: Option<Reached>,
}

/// What a player knows at its position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// Version of the headers that it was told.
    pub(super) version: u64,
    /// The stream's count of messages before the position.
    pub(super) seq: u64,
}

/// Whether a cursor has a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for a place to start, not before `Cursor::segment` unless `join` is [`Join::Gop`].
    Waiting { since: Duration, join: Join },
    /// It plays. `allowance` is how far behind it was when it joined, or less since it caught up:
    /// that is not its fault.
    Playing { allowance: Duration },
}

/// What a player is to do next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// Send what was put out, this many bytes; then [`Cursor::advance`].
    Send {
        /// Sum of the slices' lengths.
        bytes: usize,
    },
    /// Everything sealed was handed out: ask again after the next seal.
    #[default]
    AtHead,
    /// No place to start yet: ask again after the next seal.
    WaitingForKey,
    /// The previous batch is still under way.
    Busy,
    /// The stream is no longer there.
    Gone,
}

/// What [`super::Hub::next_batch`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What to do next.
    pub next: Next,
    /// The player started, or started again after it had to wait.
    pub joined: bool,
    /// The player was moved forward.
    pub jumped: Option<JumpReason>,
    /// Messages that it was moved over. Those passed while waiting are counted when it starts
    /// again.
    pub skipped: u64,
    /// Messages of the log that were put out, preludes not counted.
    pub carried: Carried,
}

/// Why a player was moved forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JumpReason {
    /// It was further behind than `player_lag_max`.
    Lag,
    /// The log no longer reached back to it.
    Trimmed,
}

impl Cursor {
    pub(super) fn new(join: Join, view: ViewKind, segment: u64, now: Duration) -> Self {
        Self {
            head: Bytes::new(),
            segment,
            offset: 0,
            outstanding: 0,
            phase: Phase::Waiting { since: now, join },
            greeted: view.flv_form().is_none(),
            view,
            wanted: view,
            reached: None,
        }
    }

    /// `bytes` of the batch under way are gone: sent, encrypted, or taken by a poll. The next batch
    /// is to be had once all of it is.
    pub fn advance(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.outstanding, "more bytes gone than were handed out");
        self.outstanding = self.outstanding.saturating_sub(bytes);
    }

    /// Bytes handed out and not yet gone.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether what was handed out ends where a message ends, so that another message may follow
    /// it.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.head.is_empty()
    }

    /// The rest of a message, or of a prelude, that was begun: it must be sent before anything
    /// else, even when the player leaves. Empty at a boundary.
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.head)
    }

    /// Whether it plays; else it waits for a place to start.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        matches!(self.phase, Phase::Playing { .. })
    }

    /// The segment to read next.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// What is being read.
    #[must_use]
    pub fn view(&self) -> ViewKind {
        self.view
    }

    /// The player is to be sent this view from the next segment on or, if that adds video, from the
    /// next key frame on (receiveAudio and receiveVideo: RTMP 1.0 sections 7.2.2.4 and 7.2.2.5).
    pub fn set_view(&mut self, view: ViewKind) {
        self.wanted = view;
    }

    /// Starts anew, from `segment` on and with fresh headers.
    pub(super) fn restart(&mut self, segment: u64, now: Duration) {
        self.segment = segment;
        self.offset = 0;
        self.phase = Phase::Waiting { since: now, join: Join::Live };
        self.reached = None;
    }
}
