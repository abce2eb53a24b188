//! How names stand, as the registrar tells it, and what follows when a stream goes from one node of
//! a cluster to another.

use std::sync::Arc;
use std::time::Duration;

use super::super::task::{Attempt, State, TaskKey};
use super::{Machine, Name};
use crate::worker::outside::NameNews;

impl Machine {
    /// A name stands otherwise than before, perhaps.
    pub(super) fn hear_name(&mut self, news: NameNews, now: Duration) {
        let NameNews { name, live, elsewhere, grace, wanted, marks } = news;
        let before = self.names.get(&name).copied().unwrap_or_default();
        let spread = u64::try_from(HAND_OVER_SPREAD.as_millis()).unwrap_or(u64::MAX);
        let begins = live.is_some() && before.live.is_none();
        let not_before = if begins && (elsewhere || before.elsewhere) {
            now + PUSH_AFTER
        } else if before.elsewhere && !elsewhere {
            now + Duration::from_millis(self.random.u64(..=spread))
        } else {
            before.not_before
        };
        let state = Name { live, elsewhere, grace, wanted, not_before };
        let here = live.is_some() || grace || wanted;
        // What only other nodes have to do with is remembered where it would be pulled.
        let is_one = here || (elsewhere || not_before > now) && self.is_always(&name);
        if is_one {
            self.names.insert(Arc::clone(&name), state);
        } else {
            self.names.remove(&name);
        }
        self.note_marks(&name, marks, live.is_some() || grace, now);
        self.settle_from(&name, not_before, now);
    }

    /// Remembers the relays that play a name. A pull of it that was begun without knowing one of
    /// them, and of which nothing has come, is begun again: two relays that wait for each other
    /// would do so for ever.
    fn note_marks(&mut self, name: &Arc<str>, marks: Arc<str>, has_come: bool, now: Duration) {
        if marks.is_empty() {
            self.marks.remove(name);
            return;
        }
        self.marks.insert(Arc::clone(name), Arc::clone(&marks));
        let key = TaskKey::pull(name);
        let Some(task) = self.tasks.get_mut(&key).filter(|_| !has_come) else { return };
        let known = |attempt: &Attempt| marks.split(',').all(|mark| attempt.marks.contains(mark));
        let Some(old) = task.current.take_if(|current| !known(current)) else { return };
        task.state = State::Resting;
        self.give_up(&old);
        self.begin(&key, now);
    }
}

/// Nodes that would take over what another one pulled begin within this time, by chance, so that
/// few of them do so at once.
const HAND_OVER_SPREAD: Duration = Duration::from_millis(500);

/// A publisher that another node had begins to be pushed after this, when that node has ended its
/// push: many targets refuse a second one.
const PUSH_AFTER: Duration = Duration::from_millis(300);
