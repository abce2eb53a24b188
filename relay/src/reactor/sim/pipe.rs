//! One direction of a simulated connection: bytes in flight, bytes arrived, and its end.
//!
//! ```text
//!   write -> [ in flight: (arrives at, count) ... ][ arrived ] -> read
//!            |<------------- at most `capacity` ------------>|
//! ```
//!
//! It holds copies, as a kernel does, so that a sender's buffers are free once they were written.
//! It knows no time of its own: a caller says what arrives, by `settle`.

use std::collections::VecDeque;
use std::time::Duration;

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    capacity: usize,
    /// All bytes, the next to be read first.
    bytes: VecDeque<u8>,
    /// How many of them have arrived.
    arrived: usize,
    /// The others: when they arrive, and how many. In order of time.
    flights: VecDeque<(Duration, usize)>,
    /// Nothing arrives before this, so that bytes keep their order whatever their delay.
    latest: Duration,
    /// When the end arrives, once the writer has ended.
    end: Option<Duration>,
    /// The end has arrived.
    ended: bool,
}

impl Pipe {
    /// An open direction that holds `capacity` bytes and in which nothing arrives before `latest`.
    pub(super) fn new(capacity: usize, latest: Duration) -> Self {
        Self {
            capacity,
            bytes: VecDeque::new(),
            arrived: 0,
            flights: VecDeque::new(),
            latest,
            end: None,
            ended: false,
        }
    }

    /// Room for so many bytes more.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Bytes that can be read.
    pub(super) fn arrived(&self) -> usize {
        self.arrived
    }

    /// Whether no byte is under way or unread.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the end has arrived, which it does after all bytes.
    pub(super) fn at_end(&self) -> bool {
        self.ended
    }

    /// Whether the writer has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.end.is_some()
    }

    /// Writes as much as there is room for. The bytes arrive at `arrival` or later; returns how
    /// many and when.
    pub(super) fn write(&mut self, data: &[u8], arrival: Duration) -> (usize, Duration) {
        let count = data.len().min(self.room());
        self.latest = self.latest.max(arrival);
        if count > 0 {
            self.bytes.extend(&data[..count]);
            self.flights.push_back((self.latest, count));
        }
        (count, self.latest)
    }

    /// Ends the direction; returns when the reader learns of it.
    pub(super) fn close(&mut self, arrival: Duration) -> Duration {
        self.latest = self.latest.max(arrival);
        *self.end.get_or_insert(self.latest)
    }

    /// Takes note of what has arrived by `now`.
    pub(super) fn settle(&mut self, now: Duration) {
        while let Some((arrival, count)) = self.flights.front()
            && *arrival <= now
        {
            self.arrived += count;
            self.flights.pop_front();
        }
        self.ended |= self.end.is_some_and(|end| end <= now);
    }

    /// Moves what has arrived into `into`; returns how much.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let count = self.arrived.min(into.len());
        for (place, byte) in into.iter_mut().zip(self.bytes.drain(..count)) {
            *place = byte;
        }
        self.arrived -= count;
        count
    }

    /// Loses what is in flight.
    pub(super) fn lose_flights(&mut self) {
        self.bytes.truncate(self.arrived);
        self.flights.clear();
    }
}
