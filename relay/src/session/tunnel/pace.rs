//! When a waiting request is answered, and how long the client is asked to wait before the next.
//!
//! A server cannot speak first inside HTTP: what it has to say waits for a request. A request that
//! finds nothing is held for a moment, which spares the client of asking again and again, and is
//! answered as soon as there is something. Media is given at most once an interval: an answer for
//! each message would cost more than what it carries.

use std::time::Duration;

/// What waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ready {
    /// Nothing.
    Nothing,
    /// Media, less than a batch.
    Media,
    /// Replies, or as much media as one answer should carry: not to be delayed.
    Now,
}

/// The pace of one session.
#[derive(Clone, Debug)]
pub struct Pace {
    hold: Duration,
    interval: Duration,
    /// Answers without anything in a row.
    empty: u32,
    /// When media was last given; `None` when more was left, or none was given yet.
    media_at: Option<Duration>,
}

/// After so many answers without anything the client is asked to wait twice as long.
const PATIENCE: u32 = 10;

/// The longest wait asked for, one less than the byte that says so.
const DELAY_MAX: u8 = 32;

impl Pace {
    /// Requests that find nothing are held for up to `hold`, and media is given every `interval`.
    #[must_use]
    pub fn new(hold: Duration, interval: Duration) -> Self {
        Self { hold, interval, empty: 0, media_at: None }
    }

    /// When a request that was whole at `asked` is to be answered, as things are. One that `waits`
    /// wants to hear something; one that does not brought something, and is only told that it came.
    #[must_use]
    pub fn due(&self, asked: Duration, ready: Ready, waits: bool) -> Duration {
        match ready {
            Ready::Now => asked,
            Ready::Nothing if waits => asked.saturating_add(self.hold),
            Ready::Nothing => asked,
            Ready::Media if waits => {
                let turn = self.media_at.map_or(asked, |last| last.saturating_add(self.interval));
                turn.clamp(asked, asked.saturating_add(self.hold))
            }
            Ready::Media => asked,
        }
    }

    /// A request is answered at `now`, with so many bytes of RTMP; `rest` says that more is left.
    pub fn answered(&mut self, bytes: usize, rest: bool, now: Duration) {
        if bytes == 0 {
            self.empty = self.empty.saturating_add(1);
            return;
        }
        self.empty = 0;
        self.media_at = (!rest).then_some(now);
    }

    /// The first byte of an answer: 1 while there is something to say, more when there has been
    /// nothing for long. Flash Player asks the less often the higher it is.
    #[must_use]
    pub fn polling_byte(&self) -> u8 {
        match self.empty / PATIENCE {
            0 => 1,
            doublings @ 1..=6 => (1 << (doublings - 1)).min(DELAY_MAX) + 1,
            _ => DELAY_MAX + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn requests_are_answered_when_there_is_something_or_after_a_while() {
        let check = |media_at: Option<u64>, asked, ready, waits, due| {
            let mut pace = Pace::new(at(100), at(40));
            if let Some(media_at) = media_at {
                pace.answered(9, false, at(media_at));
            }
            let told = pace.due(at(asked), ready, waits);
            assert_eq!(told, at(due), "{media_at:?} {asked} {ready:?} {waits}");
        };
        for media_at in [None, Some(990)] {
            check(media_at, 1_000, Ready::Now, true, 1_000);
            check(media_at, 1_000, Ready::Now, false, 1_000);
            check(media_at, 1_000, Ready::Nothing, true, 1_100);
            check(media_at, 1_000, Ready::Nothing, false, 1_000);
            check(media_at, 1_000, Ready::Media, false, 1_000);
        }
        check(None, 1_000, Ready::Media, true, 1_000);
        check(Some(990), 1_000, Ready::Media, true, 1_030);
        check(Some(960), 1_000, Ready::Media, true, 1_000);
        check(Some(100), 1_000, Ready::Media, true, 1_000);
    }

    #[test]
    fn what_is_left_is_not_delayed() {
        let mut pace = Pace::new(at(100), at(40));
        pace.answered(9, true, at(990));
        assert_eq!(pace.due(at(1_000), Ready::Media, true), at(1_000));
    }

    #[test]
    fn the_polling_byte_rises_while_there_is_nothing() {
        let mut pace = Pace::new(at(100), at(40));
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen.push(pace.polling_byte());
            pace.answered(0, false, at(0));
        }
        seen.dedup();
        assert_eq!(seen, [1, 2, 3, 5, 9, 17, 33]);
        for _ in 0..1_000 {
            pace.answered(0, false, at(0));
            assert_eq!(pace.polling_byte(), 33);
        }
        pace.answered(1, false, at(0));
        assert_eq!(pace.polling_byte(), 1);
    }
}
