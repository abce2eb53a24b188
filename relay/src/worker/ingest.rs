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
        Self { rate, room: per(rate, window), over, owed, looked: now, received, measured }
    }

    /// Something else may be sent beside. What is sent of each is judged apart then; this one
    /// closes nobody of whom a part may be slowed down.
    pub(super) fn widen(&mut self, rate: usize, window: Duration, over: IngestOver) {
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        self.rate = self.rate.saturating_add(rate);
        self.room = per(self.rate, window);
        if over == IngestOver::Slow {
            self.over = over;
        }
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
        match self.over {
            _ if self.owed <= self.room => Verdict::Fine,
            IngestOver::Slow => Verdict::Wait,
            IngestOver::Close => Verdict::Close,
        }
    }

    /// What is over, if anything is: how much came, and how much may.
    pub(super) fn excess(&self) -> Option<String> {
        let Self { rate, room, owed, measured, .. } = self;
        let window = room.saturating_mul(1_000).checked_div(*rate).unwrap_or(0);
        (owed > room).then(|| {
            format!(
                "{measured} bytes came in the last second, {rate} a second may, or {room} at once \
                 ({window} ms of it)"
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
    fn two_streams_of_a_connection_may_send_what_both_may() {
        let mut ingest = Ingest::new(1_000, WINDOW, IngestOver::Close, Duration::ZERO);
        ingest.widen(2_000, WINDOW, IngestOver::Close);
        ingest.received(30_000);
        assert_eq!(ingest.look(Duration::ZERO), Verdict::Fine);
        assert_eq!(ingest.excess(), None);
        ingest.received(1);
        assert_eq!(ingest.look(Duration::ZERO), Verdict::Close);
        let excess = ingest.excess().unwrap();
        assert!(excess.contains(" 3000 a second may, or 30000 at once (10000 ms"), "{excess}");
        ingest.widen(0, WINDOW, IngestOver::Slow);
        assert_eq!(ingest.look(Duration::ZERO), Verdict::Wait);
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
