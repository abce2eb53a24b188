//! Who may stay when more operators connect than there are places for.
//!
//! A connection without a request in hand gives way to a new one, the longest idle first; so idle
//! connections, however many, keep no probe and no scrape out. Nothing here waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The places of one listener.
#[derive(Clone)]
pub(super) struct Places(Arc<Mutex<Table>>);

/// One connection's place; given back when dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
}

struct Table {
    most: usize,
    /// Counts connections and requests, for who came before whom.
    events: u64,
    open: BTreeMap<u64, Seat>,
}

struct Seat {
    /// The event since which it has no request in hand; `None` while it has one.
    idle_since: Option<u64>,
    /// Dropped or used to end the connection.
    _end: oneshot::Sender<()>,
}

/// How a new connection fared.
pub(super) enum Entered {
    /// There was a place.
    Free(Place, oneshot::Receiver<()>),
    /// An idle one made room.
    Instead(Place, oneshot::Receiver<()>),
    /// Every other one has a request in hand.
    Full,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Table { most, events: 0, open: BTreeMap::new() })))
    }

    /// A place for a new connection, and what ends when it must give it up.
    pub(super) fn enter(&self) -> Entered {
        self.with(|table| {
            let full = table.open.len() >= table.most;
            if full {
                let idle = table.open.iter().filter_map(|(n, seat)| Some((seat.idle_since?, *n)));
                let Some((_, longest)) = idle.min() else { return Entered::Full };
                table.open.remove(&longest);
            }
            let number = table.event();
            let (end, ended) = oneshot::channel();
            table.open.insert(number, Seat { idle_since: Some(number), _end: end });
            let place = Place { places: self.clone(), number };
            if full { Entered::Instead(place, ended) } else { Entered::Free(place, ended) }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        act(&mut self.0.lock())
    }
}

impl Table {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

impl Place {
    /// A request is in hand.
    pub(super) fn begin(&self) {
        self.set(false);
    }

    /// It was answered.
    pub(super) fn end(&self) {
        self.set(true);
    }

    fn set(&self, idle: bool) {
        self.places.with(|table| {
            let now = table.event();
            if let Some(seat) = table.open.get_mut(&self.number) {
                seat.idle_since = idle.then_some(now);
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.with(|table| table.open.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_gives_way_and_whoever_is_busy_stays() {
        let places = Places::new(2);
        let enter = || match places.enter() {
            Entered::Free(place, end) => Some((place, end, false)),
            Entered::Instead(place, end) => Some((place, end, true)),
            Entered::Full => None,
        };
        let gone = |end: &mut oneshot::Receiver<()>| {
            end.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        let (first, mut first_end, instead) = enter().expect("a place");
        assert!(!instead);
        let (second, mut second_end, _) = enter().expect("a place");
        // The first was used last.
        first.begin();
        first.end();
        let (third, mut third_end, instead) = enter().expect("the second's place");
        assert!(instead && gone(&mut second_end) && !gone(&mut first_end));
        drop(second);
        first.begin();
        third.begin();
        assert!(enter().is_none(), "both are busy");
        third.end();
        let (fourth, _fourth_end, _) = enter().expect("the third's place");
        assert!(gone(&mut third_end));
        // What the third does has no effect any more.
        third.begin();
        drop(third);
        drop(fourth);
        let (_fifth, _end, instead) = enter().expect("the fourth's place");
        assert!(!instead);
    }
}
