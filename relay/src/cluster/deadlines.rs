//! What is to be looked at, and when: one time per key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Keys in the order of their times.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    times: BTreeMap<K, Duration>,
    order: BTreeSet<(Duration, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { times: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// The key is due then, and not when it was due before.
    pub(super) fn set(&mut self, key: K, at: Duration) {
        match self.times.insert(key.clone(), at) {
            Some(before) if before == at => return,
            Some(before) => drop(self.order.remove(&(before, key.clone()))),
            None => {}
        }
        self.order.insert((at, key));
    }

    /// The key is not due any more.
    pub(super) fn cancel(&mut self, key: &K) {
        if let Some(at) = self.times.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// Takes a key that is due.
    pub(super) fn pop(&mut self, now: Duration) -> Option<K> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.times.remove(&key);
        Some(key)
    }

    /// When the first one is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_due_once_at_the_time_set_last() {
        let at = Duration::from_secs;
        let mut deadlines = Deadlines::default();
        deadlines.set("a", at(5));
        deadlines.set("b", at(3));
        deadlines.set("a", at(1));
        deadlines.set("c", at(2));
        deadlines.cancel(&"c");
        assert_eq!((deadlines.next(), deadlines.len()), (Some(at(1)), 2));
        assert_eq!(deadlines.pop(at(0)), None);
        assert_eq!(deadlines.pop(at(9)), Some("a"));
        assert_eq!(deadlines.pop(at(9)), Some("b"));
        assert_eq!((deadlines.pop(at(9)), deadlines.next()), (None, None));
    }
}
