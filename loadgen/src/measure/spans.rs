//! Spans of time in histograms of three digits, from 1 µs to an hour.
//!
//! Histograms travel between threads and processes as the list of their filled buckets.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::units::micros;

macro_rules! spans {
    ($($kind:ident $name:literal $title:literal: $meaning:literal;)*) => {
        /// A kind of span.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum SpanKind {
            $(#[doc = $meaning] $kind,)*
        }

        impl SpanKind {
            /// Every kind, in the order in which reports show them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in JSON and in expectations.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The name in reports.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }

            /// What it is.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$kind => $meaning,)* }
            }
        }
    };
}

spans! {
    Latency "latency" "latency": "From when a frame was due at the publisher to its arrival at a player.";
    Jitter "jitter" "jitter": "How much the distance of two arrivals differs from that of their sending.";
    Join "join" "join": "From when a player was due to its first key frame.";
    Tcp "tcp" "TCP connect": "From when a connection was due to its being there.";
    Handshake "handshake" "handshake": "From the connection to the end of the handshake.";
    Connect "connect" "connect": "From there to the server's answer to connect.";
    CreateStream "create_stream" "createStream": "From there to the answer to createStream.";
    Publish "publish" "publish": "From there to Publish.Start.";
    FirstByte "first_byte" "play to first byte": "From the play command to the first audio or video.";
    FirstKey "first_key" "play to first key frame": "From the play command to the first key frame.";
    Outage "outage" "outage": "From a player's last frame before a loss to its first after it.";
    Gap "gap" "longest gap": "A player's longest time without a frame that ended after the command of failover.";
    TimerLate "timer_late" "late timers": "How late the generator itself did what was due.";
}

/// The filled buckets of a histogram: value in microseconds, count.
pub type Sparse = Vec<(u64, u64)>;

/// One histogram.
#[derive(Clone, Debug)]
pub struct Span(Histogram<u64>);

const LONGEST_MICROS: u64 = 3_600_000_000;

impl Default for Span {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_MICROS, 3).expect("the bounds are sound"))
    }
}

impl Span {
    /// Records a span; what is longer than an hour counts as an hour.
    pub fn record(&mut self, span: Duration) {
        self.0.saturating_record(micros(span).clamp(1, LONGEST_MICROS));
    }

    /// Adds filled buckets.
    pub fn add(&mut self, sparse: &Sparse) {
        for (value, count) in sparse {
            self.0.saturating_record_n((*value).clamp(1, LONGEST_MICROS), *count);
        }
    }

    /// The filled buckets.
    #[must_use]
    pub fn sparse(&self) -> Sparse {
        let filled = self.0.iter_recorded();
        filled.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect()
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value in microseconds that so many percent do not exceed; 0 when nothing was recorded.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_percentile(percent) }
    }

    /// The largest in microseconds.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The smallest in microseconds.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.min() }
    }

    /// The mean in microseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.mean() }
    }
}

/// A histogram for each kind that occurred.
#[derive(Clone, Debug, Default)]
pub struct Spans(BTreeMap<SpanKind, Span>);

impl Spans {
    /// Records a span.
    pub fn record(&mut self, kind: SpanKind, span: Duration) {
        self.0.entry(kind).or_default().record(span);
    }

    /// The histogram of a kind, if anything was recorded.
    #[must_use]
    pub fn of(&self, kind: SpanKind) -> Option<&Span> {
        self.0.get(&kind).filter(|span| span.count() > 0)
    }

    /// Adds what [`Self::take`] gave. Names that are not known are passed over.
    pub fn add(&mut self, more: &BTreeMap<String, Sparse>) {
        for kind in SpanKind::ALL {
            if let Some(sparse) = more.get(kind.name()) {
                self.0.entry(*kind).or_default().add(sparse);
            }
        }
    }

    /// Gives everything recorded since the last call.
    pub fn take(&mut self) -> BTreeMap<String, Sparse> {
        let mut taken = BTreeMap::new();
        for (kind, span) in &mut self.0 {
            if span.count() > 0 {
                taken.insert(kind.name().to_owned(), span.sparse());
                span.0.reset();
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_added_elsewhere_is_the_same() {
        let mut worker = Spans::default();
        let mut sum = Spans::default();
        let mut direct = Span::default();
        for round in 1..=3 {
            for value in [1, 900, 12_345, 7_000_000] {
                let span = Duration::from_micros(value * round);
                worker.record(SpanKind::Latency, span);
                direct.record(span);
            }
            sum.add(&worker.take());
        }
        assert!(worker.take().is_empty());
        let latency = sum.of(SpanKind::Latency).expect("recorded");
        assert_eq!(latency.count(), 12);
        for percent in [0.0, 50.0, 99.0, 100.0] {
            assert_eq!(latency.percentile(percent), direct.percentile(percent));
        }
        assert!(sum.of(SpanKind::Join).is_none());
    }

    #[test]
    fn extremes_stay_in_range() {
        let mut span = Span::default();
        assert_eq!((span.percentile(50.0), span.max(), span.min()), (0, 0, 0));
        span.record(Duration::ZERO);
        span.record(Duration::from_secs(1_000_000));
        assert_eq!(span.min(), 1);
        assert!(span.max() >= LONGEST_MICROS);
    }
}
