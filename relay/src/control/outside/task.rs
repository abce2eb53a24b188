//! One stream that goes one way: what is tried for it, and how it stands.

use std::sync::Arc;
use std::time::Duration;

use crate::worker::outside::{OutsideFault, OutsideKind};
use crate::worker::outside_url::{OutsideRule, OutsideUrl};
use crate::worker::report::ConnectionId;

/// Which task it is. Those of a name lie side by side.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TaskKey {
    /// The stream here, `app/name`.
    pub(super) name: Arc<str>,
    pub(super) kind: OutsideKind,
    /// Of a push its rule as written, which may be secret; of a pull nothing.
    rule: String,
}

/// One task.
pub(super) struct Task {
    /// Where to or from: of a pull the alternatives, in order.
    pub(super) rules: Vec<Arc<OutsideRule>>,
    /// Which of them is tried, counted on.
    pub(super) turn: usize,
    pub(super) state: State,
    pub(super) current: Option<Attempt>,
    /// One that takes the place of `current` once it has started.
    pub(super) next: Option<Attempt>,
    /// Where a server sent us.
    pub(super) moved: Option<OutsideUrl>,
    pub(super) redirects: usize,
    /// What is said to a server that asks for user and password.
    pub(super) challenge: String,
    pub(super) answers: u32,
    /// In a row.
    pub(super) failures: u32,
    pub(super) attempts: u64,
    pub(super) failed: u64,
    pub(super) last: Option<(OutsideFault, String)>,
    /// When it ends unless somebody plays it.
    pub(super) unwanted_until: Option<Duration>,
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is tried.
    Resting,
    /// An attempt is under way.
    Beginning,
    /// The stream flows.
    Up { since: Duration },
    /// It is tried again later.
    Waiting { until: Duration },
    /// It failed too often, and is tried again much later.
    Broken { until: Duration },
}

/// One attempt.
pub(super) struct Attempt {
    pub(super) id: u64,
    /// Who has the order.
    pub(super) worker: Option<usize>,
    /// Once it has started.
    pub(super) connection: Option<ConnectionId>,
    pub(super) url: OutsideUrl,
    pub(super) challenge: String,
    /// The relays that played the stream when it was begun.
    pub(super) marks: Arc<str>,
}

impl TaskKey {
    pub(super) fn push(name: &Arc<str>, rule: &OutsideRule) -> Self {
        let rule = rule.text().to_owned();
        Self { name: Arc::clone(name), kind: OutsideKind::Push, rule }
    }

    pub(super) fn pull(name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name), kind: OutsideKind::Pull, rule: String::new() }
    }

    /// Goes before all others of its name.
    pub(super) fn first(name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name), kind: OutsideKind::Push, rule: String::new() }
    }
}

impl Task {
    pub(super) fn new() -> Self {
        Self {
            rules: Vec::new(),
            turn: 0,
            state: State::Resting,
            current: None,
            next: None,
            moved: None,
            redirects: 0,
            challenge: String::new(),
            answers: 0,
            failures: 0,
            attempts: 0,
            failed: 0,
            last: None,
            unwanted_until: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) fn is_resting(&self) -> bool {
        self.state == State::Resting
    }

    /// Since when it is up.
    pub(super) fn up_for(&self, now: Duration) -> Duration {
        match self.state {
            State::Up { since } => now.saturating_sub(since),
            _ => Duration::ZERO,
        }
    }

    /// When it is to be looked at.
    pub(super) fn due(&self) -> Option<Duration> {
        let again = match self.state {
            State::Waiting { until } | State::Broken { until } => Some(until),
            _ => None,
        };
        [again, self.unwanted_until].into_iter().flatten().min()
    }

    pub(super) fn attempt_mut(&mut self, id: u64) -> Option<&mut Attempt> {
        let mut attempts = self.current.iter_mut().chain(&mut self.next);
        attempts.find(|attempt| attempt.id == id)
    }

    /// Takes an attempt out, and says whether it was the current one.
    pub(super) fn take_attempt(&mut self, id: u64) -> Option<(Attempt, bool)> {
        let current = self.current.take_if(|current| current.id == id);
        match current {
            Some(current) => Some((current, true)),
            None => self.next.take_if(|next| next.id == id).map(|next| (next, false)),
        }
    }

    /// The rule that is tried.
    pub(super) fn rule(&self) -> Option<&Arc<OutsideRule>> {
        self.rules.get(self.turn % self.rules.len().max(1))
    }

    /// What of the server may be shown.
    pub(super) fn target(&self, name: &str) -> String {
        let url = self.current.as_ref().map(|attempt| attempt.url.target());
        url.or_else(|| Some(self.rule()?.url.filled(name).target())).unwrap_or_default()
    }
}
