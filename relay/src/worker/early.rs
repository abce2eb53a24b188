//! Workers that asked for a stream before this worker heard that it is its home.
//!
//! The registrar tells the home by one ring and the reader by another, and the reader's request
//! comes by a third: it may be here first. Then it waits for the grant. A request that comes after
//! the stream has ended waits for nothing; its reader is told of the end by the registrar, and it
//! is forgotten here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mail::{StreamId, WorkerIndex};

/// A grant that is under way is here long before this.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// The requests that wait, by stream.
#[derive(Debug, Default)]
pub(super) struct EarlyReaders {
    waiting: BTreeMap<StreamId, (Duration, Vec<WorkerIndex>)>,
}

impl EarlyReaders {
    /// A worker asks for a stream that is not known here.
    pub(super) fn add(&mut self, stream: StreamId, reader: WorkerIndex, now: Duration) {
        let (_, readers) = self.waiting.entry(stream).or_insert_with(|| (now, Vec::new()));
        if !readers.contains(&reader) {
            readers.push(reader);
        }
    }

    /// It no longer does.
    pub(super) fn remove(&mut self, stream: StreamId, reader: WorkerIndex) {
        if let Some((_, readers)) = self.waiting.get_mut(&stream) {
            readers.retain(|waiting| *waiting != reader);
        }
    }

    /// The stream is known from now on: who waits for it.
    pub(super) fn take(&mut self, stream: StreamId) -> Vec<WorkerIndex> {
        self.waiting.remove(&stream).map(|(_, readers)| readers).unwrap_or_default()
    }

    /// Forgets those that waited in vain. Called at every sweep.
    pub(super) fn tick(&mut self, now: Duration) {
        self.waiting.retain(|_, (since, _)| now.saturating_sub(*since) < FORGET_AFTER);
    }

    /// Whether none waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_for_their_stream_and_not_for_ever() {
        let mut early = EarlyReaders::default();
        let at = Duration::from_secs;
        for (stream, reader, now) in [(1, 1, 0), (1, 2, 1), (1, 1, 1), (2, 3, 5), (3, 4, 5)] {
            early.add(StreamId(stream), reader, at(now));
        }
        early.remove(StreamId(1), 2);
        early.remove(StreamId(9), 2);
        assert_eq!(early.take(StreamId(1)), [1]);
        assert_eq!(early.take(StreamId(1)), [0; 0]);
        early.tick(at(14));
        assert_eq!(early.take(StreamId(2)), [3]);
        early.tick(at(15));
        assert!(early.is_empty());
    }
}
