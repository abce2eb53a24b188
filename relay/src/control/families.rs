//! Series as the `prometheus` crate wants them, made from plain numbers.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::worker::cells::HistogramReading;
use crate::worker::labels::Label;

/// Families in the making, in the order in which they are exposed.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// One family in the making.
pub(super) struct Family<'a> {
    family: &'a mut MetricFamily,
    kind: MetricType,
    names: &'static [&'static str],
}

impl Families {
    /// A family of counters; `names` are those of the labels.
    pub(super) fn counter(
        &mut self,
        name: &str,
        names: &'static [&'static str],
        help: &str,
    ) -> Family<'_> {
        self.family(MetricType::COUNTER, name, names, help)
    }

    /// A family of gauges.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        names: &'static [&'static str],
        help: &str,
    ) -> Family<'_> {
        self.family(MetricType::GAUGE, name, names, help)
    }

    /// A family of histograms.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        names: &'static [&'static str],
        help: &str,
    ) -> Family<'_> {
        self.family(MetricType::HISTOGRAM, name, names, help)
    }

    pub(super) fn into_inner(self) -> Vec<MetricFamily> {
        self.0
    }

    fn family(
        &mut self,
        kind: MetricType,
        name: &str,
        names: &'static [&'static str],
        help: &str,
    ) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push(family);
        let family = self.0.last_mut().expect("one was pushed just now");
        Family { family, kind, names }
    }
}

impl Family<'_> {
    /// Adds a series; as many values as the family has label names.
    pub(super) fn value(&mut self, labels: &[&str], value: f64) -> &mut Self {
        let mut metric = self.metric(labels);
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.family.mut_metric().push(metric);
        self
    }

    /// Adds a series for each cell of a family; `before` are the values of the labels before its
    /// own.
    pub(super) fn cells<L: Label>(
        &mut self,
        before: &[&str],
        cells: impl Iterator<Item = (L, u64)>,
    ) -> &mut Self {
        for (label, count) in cells {
            let mut texts = before.to_vec();
            let mut own = Vec::new();
            label.texts(&mut own);
            texts.extend(own);
            self.value(&texts, float(count));
        }
        self
    }

    /// Adds a histogram of durations, in seconds.
    pub(super) fn reading(&mut self, labels: &[&str], reading: &HistogramReading) -> &mut Self {
        let mut histogram = Histogram::default();
        let bucket = |(bound_ns, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(bound_ns));
            bucket.set_cumulative_count(count);
            bucket
        };
        histogram.set_bucket(reading.cumulative().map(bucket).collect());
        histogram.set_sample_count(reading.count());
        histogram.set_sample_sum(seconds(reading.sum_ns()));
        let mut metric = self.metric(labels);
        metric.set_histogram(histogram);
        self.family.mut_metric().push(metric);
        self
    }

    fn metric(&self, labels: &[&str]) -> Metric {
        debug_assert_eq!(labels.len(), self.names.len(), "{}", self.family.name());
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut pairs: Vec<_> = self.names.iter().zip(labels).map(pair).collect();
        pairs.sort_by(|a, b| a.name().cmp(b.name()));
        Metric::from_label(pairs)
    }
}

/// Prometheus knows only 64-bit floats; above 2^53 the last digits are lost, which no rate shows.
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}
