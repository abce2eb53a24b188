//! The timeline: what a stream's timestamps become when one publisher follows another.
//!
//! The first publisher's timestamps pass unchanged. A later one starts anywhere, often at zero; one
//! offset for audio and video, fixed by its first coded frame, puts that frame one frame behind the
//! newest that the previous publisher sent. Headers carry no time of their own worth keeping: one
//! that would land before that point is stamped with the stream's newest time instead.
//!
//! Only a stream's origin decides its time. A node that is fed moves it only where it does not go
//! on from what was here; that is this node's own affair, and taken off again for those that it
//! feeds: whoever feeds a node, it is told the same time.

use crate::wire::media::Role;
use crate::wire::timestamp::Timestamp;

/// Maps the publisher's timestamps to the stream's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timeline {
    offset: Offset,
    /// Newest time of any coded frame, and the newest that a previous publisher reached.
    newest: Option<Timestamp>,
    floor: Option<Timestamp>,
    /// Last frame of each kind, and the last step between two frames of video (of audio, without
    /// one).
    video: Option<Timestamp>,
    audio: Option<Timestamp>,
    step: Option<u32>,
    /// Another node feeds the stream.
    fed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Offset {
    #[default]
    Unset,
    /// Like unset, but if what comes goes on from the newest frame when it is moved by this, it is
    /// moved by this.
    Trusting(u32),
    Fixed(u32),
}

impl Timeline {
    /// A timeline whose newest frame was at this time, if there was any.
    pub(super) fn after(newest: Option<Timestamp>) -> Self {
        Self { newest, ..Self::default() }
    }

    /// A publisher begins.
    pub(super) fn begin(&mut self) {
        self.fed = false;
        self.floor = self.newest;
        self.offset = if self.newest.is_some() { Offset::Unset } else { Offset::Fixed(0) };
    }

    /// What just began comes from another node: it may be on the stream's own time, moved by this
    /// if it was so before.
    pub(super) fn trust(&mut self, shift: u32) {
        self.fed = true;
        if let Offset::Unset = self.offset {
            self.offset = Offset::Trusting(shift);
        }
    }

    /// Whether another node feeds the stream.
    pub(super) fn is_fed(&self) -> bool {
        self.fed
    }

    /// By how much this node has moved what another one feeds it.
    pub(super) fn shift(&self) -> u32 {
        match self.offset {
            Offset::Fixed(offset) | Offset::Trusting(offset) if self.fed => offset,
            _ => 0,
        }
    }

    /// Whether a publisher before this one sent frames.
    pub(super) fn continues(&self) -> bool {
        self.floor.is_some()
    }

    /// The newest time of a coded frame.
    #[cfg(test)]
    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// The stream's time of a message. To be called once per message, in order.
    pub(super) fn place(&mut self, role: Role, timestamp: Timestamp) -> Timestamp {
        let newest = self.newest.unwrap_or(timestamp);
        let mut placed = match self.offset {
            Offset::Fixed(offset) => timestamp.plus(offset),
            Offset::Trusting(offset)
                if role.is_coded()
                    && (-INTERLEAVE_MAX..DISORDER_MAX)
                        .contains(&timestamp.plus(offset).since(newest)) =>
            {
                self.offset = Offset::Fixed(offset);
                timestamp.plus(offset)
            }
            Offset::Unset | Offset::Trusting(_) if role.is_coded() => {
                let first = newest.plus(self.step.unwrap_or(STEP_DEFAULT));
                self.offset = Offset::Fixed(first.0.wrapping_sub(timestamp.0));
                first
            }
            Offset::Unset | Offset::Trusting(_) => newest,
        };
        if let Some(floor) = self.floor {
            let behind = floor.since(placed);
            if role.is_coded() {
                // audio and video interleave with jitter; a longer step back is the publisher's own
                if (1..INTERLEAVE_MAX).contains(&behind) {
                    placed = floor;
                }
            } else if behind > 0 {
                placed = newest;
            }
        }
        if role.is_coded() {
            self.note(role, placed);
        }
        placed
    }

    fn note(&mut self, role: Role, placed: Timestamp) {
        let last = if role.is_video() { &mut self.video } else { &mut self.audio };
        let step = last.replace(placed).map_or(0, |last| placed.since(last));
        if (1..=STEP_MAX).contains(&step) && (role.is_video() || self.video.is_none()) {
            self.step = Some(step.unsigned_abs());
        }
        // a frame slightly older than the newest is interleaving; a far older one moves the stream
        // back
        if !self.newest.is_some_and(|newest| (1..DISORDER_MAX).contains(&newest.since(placed))) {
            self.newest = Some(placed);
        }
    }
}

/// Milliseconds between two publishers' frames when the first one's rate is not known.
const STEP_DEFAULT: u32 = 20;
/// Longest step between two frames believed to be the rate, in milliseconds.
const STEP_MAX: i32 = 100;
/// How far before the previous publisher's end a frame may land and be moved up to it, in
/// milliseconds.
const INTERLEAVE_MAX: i32 = 1_000;
/// How much older than the newest a frame may be without moving the stream back, in milliseconds.
const DISORDER_MAX: i32 = 10_000;
