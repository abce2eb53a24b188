//! How much a publisher sends, against what it may.
//!
//! Pure. What was received fills a bucket that drains at the permitted rate and holds as much as
//! may come within the window; it is looked at twice a second, and counted in once for each buffer
//! received.

use std::time::Duration;

use super::settings::IngestOver;

/// One publisher's bucket.
#[derive(Debug)]
pub(super) struct Ingest {
    /// Bytes per second that it may send.
    rate: u64,
    window: Duration,
    /// What the bucket holds, in bytes.
    room: u64,
    over: IngestOver,
    /// What is in the bucket.
    owed: u64,
    looked: Duration,
    /// Bytes since the last look.
    received: u64,
    /// What it sent per second until the last look.
    measured: u64,
}

/// What follows from what a publisher sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// It goes on, and is read.
    Fine,
    /// It is not read for now.
    Wait,
    /// It is to be closed.
    Close,
}

impl Ingest {
    /// An empty bucket: `rate` in bytes per second.
    pub(super) fn new(rate: usize, window: Duration, over: IngestOver, now: Duration) -> Self {
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let (owed, received, measured) = (0, 0, 0);
        let room = per(rate, window);
        Self { rate, window, room, over, owed, looked: now, received, measured }
    }

    /// What is sent together may have what `parts` may have together: they are judged one by one
    /// besides, and a part that may be slowed down is no reason to close them all. Room is lost as
    /// it empties, so that a part that is over makes nobody guilty of what was in order.
    pub(super) fn fit<'a>(&mut self, parts: impl Iterator<Item = &'a Self>) {
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return;
        }
        (self.rate, self.over) = (0, IngestOver::Close);
        for part in parts {
            self.rate = self.rate.saturating_add(part.rate);
            if part.over == IngestOver::Slow {
                self.over = part.over;
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.room = per(self.rate, self.window).max(self.room.min(self.owed));
    }

    /// So many bytes came. Whether they are read on.
    pub(super) fn received(&mut self, bytes: u64) -> bool {
        self.received = self.received.saturating_add(bytes);
        self.owed = self.owed.saturating_add(bytes);
        self.over != IngestOver::Slow || self.owed <= self.room
    }

    /// Looks at what came. To be called about twice a second.
    pub(super) fn look(&mut self, now: Duration) -> Verdict {
        let passed = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        let received = std::mem::take(&mut self.received);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        self.measured = received.saturating_mul(1_000).checked_div(millis).unwrap_or(self.measured);
        self.owed = self.owed.saturating_sub(per(self.rate, passed));
        self.settle();
        match self.over {
            _ if self.owed <= self.room => Verdict::Fine,
            IngestOver::Slow => Verdict::Wait,
            IngestOver::Close => Verdict::Close,
        }
    }

    /// What is over, if anything is: how much came, and how much may.
    pub(super) fn excess(&self) -> Option<String> {
        let Self { rate, room, owed, measured, .. } = self;
        let window = self.window.as_millis();
        (owed > room).then(|| {
            format!(
                "{measured} bytes a second came, {rate} may, or {room} at once ({window} ms of it)"
            )
        })
    }

    /// Bytes per second until the last look.
    pub(super) fn measured(&self) -> u64 {
        self.measured
    }
}

/// What comes at a rate per second within a time.
fn per(rate: u64, time: Duration) -> u64 {
    let product = u128::from(rate).saturating_mul(time.as_millis()) / 1_000;
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::from_millis(500);

    /// Sends `each` bytes in every half second and gives after how many it was not fine, of 1,000.
    fn after(rate: usize, over: IngestOver, each: u64) -> Option<(usize, Verdict)> {
        let mut ingest = Ingest::new(rate, WINDOW, over, Duration::ZERO);
        let mut now = Duration::ZERO;
        (1..=1_000).find_map(|step| {
            ingest.received(each);
            now += STEP;
            let verdict = ingest.look(now);
            assert_eq!(ingest.measured(), each * 2);
            (verdict != Verdict::Fine).then_some((step, verdict))
        })
    }

    #[test]
    fn what_is_sent_together_may_have_what_all_that_is_there_may_have() {
        let part = |rate, over| Ingest::new(rate, WINDOW, over, Duration::ZERO);
        let (one, two) = (part(1_000, IngestOver::Close), part(2_000, IngestOver::Close));
        let mut of_all = part(1_000, IngestOver::Close);
        of_all.fit([&one, &two].into_iter());
        of_all.received(30_000);
        assert_eq!(of_all.look(Duration::ZERO), Verdict::Fine);
        // What was in order stays in order when a part is over, and is no room for more.
        of_all.fit([&one].into_iter());
        assert_eq!(of_all.look(Duration::ZERO), Verdict::Fine);
        assert_eq!(of_all.excess(), None);
        of_all.received(1);
        assert_eq!(of_all.look(Duration::ZERO), Verdict::Close);
        let excess = of_all.excess().unwrap();
        assert!(excess.contains(" 1000 a second may, or 30000 at once (10000 ms"), "{excess}");
        of_all.fit([&one, &part(0, IngestOver::Slow)].into_iter());
        assert_eq!(of_all.look(Duration::ZERO), Verdict::Wait);
        assert_eq!(of_all.look(Duration::from_secs(21)), Verdict::Fine);
        assert_eq!((of_all.owed, of_all.room), (9_001, 10_000));
    }

    #[test]
    fn nobody_gets_more_by_beginning_again() {
        let mut of_all = Ingest::new(1_000, WINDOW, IngestOver::Close, Duration::ZERO);
        let closed = (1..=100).find(|step| {
            of_all.fit([].into_iter());
            let again = Ingest::new(1_000, WINDOW, IngestOver::Close, Duration::ZERO);
            of_all.fit([&again].into_iter());
            of_all.received(1_000);
            of_all.look(STEP * *step) == Verdict::Close
        });
        assert_eq!(closed, Some(20 + 1));
    }

    #[test]
    fn a_rate_is_judged_over_the_window() {
        fn check(each: u64, expected: Option<usize>) {
            let found = after(1_000, IngestOver::Close, each);
            assert_eq!(found, expected.map(|step| (step, Verdict::Close)), "{each}");
        }
        check(0, None);
        check(500, None);
        // Twice the rate: the window is full after as long as it is.
        check(1_000, Some(21));
        // A tenth more, ten times as long.
        check(550, Some(201));
        check(10_000, Some(2));
        check(10_500, Some(2));
        check(10_501, Some(1));
        check(u64::MAX / 4_000, Some(1));
    }

    #[test]
    fn who_is_slowed_gets_the_rate_and_no_more() {
        let mut ingest = Ingest::new(1_000, WINDOW, IngestOver::Slow, Duration::ZERO);
        let (mut now, mut taken, mut reads) = (Duration::ZERO, 0, true);
        for _ in 0..400 {
            for _ in 0..100 {
                if reads {
                    taken += 100;
                    reads = ingest.received(100);
                }
            }
            now += STEP;
            reads = ingest.look(now) == Verdict::Fine;
        }
        // 200 s at 1,000 bytes, and what the bucket holds.
        assert!((200_000..=211_000).contains(&taken), "{taken}");
    }
}
