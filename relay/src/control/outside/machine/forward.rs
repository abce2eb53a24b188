//! Streams that back ends connect with other servers: rules for one stream each. A push holds as
//! long as its publisher, and while that may come back; a pull while somebody plays the stream, and
//! `pull_linger` more.

use std::sync::Arc;
use std::time::Duration;

use super::{Machine, app_of};
use crate::worker::outside::{Forward, OutsideEnd, OutsideFault, OutsideKind};
use crate::worker::outside_url::OutsideRule;

/// Where one stream goes.
#[derive(Debug)]
pub(super) struct Forwarded {
    /// Its publisher: the worker, and the worker's number of it.
    by: (usize, u64),
    rule: Arc<OutsideRule>,
    /// The publisher is gone.
    over: bool,
}

/// Where one stream comes from.
#[derive(Debug)]
pub(super) struct Fetched {
    rule: Arc<OutsideRule>,
    /// When it is forgotten, while nobody plays it.
    until: Option<Duration>,
}

impl Fetched {
    pub(super) fn due(&self) -> Option<Duration> {
        self.until
    }
}

impl Machine {
    /// Whether there are as many as may be of those that nobody wrote into the configuration.
    pub(super) fn is_full(&self) -> bool {
        let count = self.added.len() + self.forwarded.len() + self.fetched.len();
        count >= self.limits().outside_targets_max
    }

    /// Somebody is about to play a stream that is to be had there.
    pub(super) fn fetch(&mut self, name: &Arc<str>, rule: Arc<OutsideRule>, now: Duration) {
        if !self.fetched.contains_key(name) && self.is_full() {
            return self.refuse_of_hook(&super::TaskKey::pull(name), name);
        }
        let until = Some(now + self.limits().pull_linger);
        self.fetched.insert(Arc::clone(name), Fetched { rule, until });
        self.settle(name, now);
    }

    /// A stream is played or not: what is known of where it comes from is kept, or begins to be
    /// forgotten.
    pub(super) fn settle_fetched(&mut self, name: &Arc<str>, wanted: bool, now: Duration) {
        let linger = self.limits().pull_linger;
        if let Some(fetched) = self.fetched.get_mut(name) {
            let until = fetched.until.unwrap_or(now + linger);
            fetched.until = (!wanted).then_some(until);
        }
    }

    /// Forgets where those came from that nobody has played for a while.
    pub(super) fn forget_fetched(&mut self, now: Duration) {
        let over = |fetched: &Fetched| fetched.until.is_some_and(|until| until <= now);
        let over: Vec<Arc<str>> = (self.fetched.iter())
            .filter(|(_, fetched)| over(fetched))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in over {
            self.fetched.remove(&name);
            self.settle(&name, now);
        }
    }

    /// There are too many for what a back end asked for.
    fn refuse_of_hook(&mut self, key: &super::TaskKey, name: &Arc<str>) {
        let detail = "there are outside_targets_max pushes and pulls".to_owned();
        let (kind, fault) = (key.kind.label(), OutsideFault::Limit);
        let reason = fault.label();
        tracing::warn!(kind, stream = %name, reason, "what a back end asked for is refused: {detail}");
        self.count_failure(key, &OutsideEnd { fault, detail, redirect: None });
    }

    /// A publisher began, and its stream goes there, or nowhere.
    pub(super) fn forward(
        &mut self,
        forward: Forward,
        to: Option<Arc<OutsideRule>>,
        now: Duration,
    ) {
        let Forward { name, core, number } = forward;
        let before = self.forwarded.remove(&name);
        if to.is_none() && before.is_none() {
            return;
        }
        if let Some(rule) = to {
            if !self.is_full() {
                let forwarded = Forwarded { by: (core, number), rule, over: false };
                self.forwarded.insert(Arc::clone(&name), forwarded);
            } else {
                self.refuse_of_hook(&super::TaskKey::push(&name, &rule), &name);
            }
        }
        self.settle(&name, now);
    }

    /// A publisher is gone; perhaps another has come already.
    pub(super) fn forward_over(&mut self, forward: Forward, now: Duration) {
        let Forward { name, core, number } = forward;
        let known = self.forwarded.get_mut(&name);
        if let Some(forwarded) = known.filter(|known| known.by == (core, number)) {
            forwarded.over = true;
            self.settle(&name, now);
        }
    }

    /// Where a stream goes by the word of its publisher's back end, if anywhere. What holds no
    /// longer is forgotten.
    pub(super) fn forwarded(&mut self, name: &Arc<str>) -> Option<Arc<OutsideRule>> {
        let forwarded = self.forwarded.get(name)?;
        let state = self.names.get(name).copied().unwrap_or_default();
        // The next publisher of an application without such a back end is not told of.
        let is_told = self.settings.app(app_of(name)).hooks.may_forward();
        if forwarded.over && !(is_told && (state.live.is_some() || state.grace)) {
            self.forwarded.remove(name);
            return None;
        }
        Some(Arc::clone(&forwarded.rule))
    }

    /// Whether a task is what a back end asked for, and nobody else.
    pub(in crate::control::outside) fn is_of_hook(
        &self,
        (kind, name): (OutsideKind, &str),
        rule: &OutsideRule,
    ) -> bool {
        let app = self.settings.app(app_of(name));
        let (named, configured) = match kind {
            OutsideKind::Push => (self.forwarded.get(name).map(|known| &known.rule), &app.push),
            OutsideKind::Pull => (self.fetched.get(name).map(|known| &known.rule), &app.pull),
        };
        named.is_some_and(|known| **known == *rule) && !configured.contains(rule)
    }

    /// The rules for a pull of a stream: where its back end says that it is, then those of the
    /// configuration and those that were added.
    pub(super) fn pull_rules(&self, name: &Arc<str>) -> Vec<Arc<OutsideRule>> {
        let fetched = self.fetched.get(name).map(|fetched| Arc::clone(&fetched.rule));
        fetched.into_iter().chain(self.rules(OutsideKind::Pull, name)).collect()
    }

    /// The rules for a push of a stream: those of the configuration, those that were added, and
    /// its back end's.
    pub(super) fn push_rules(&mut self, name: &Arc<str>) -> Vec<Arc<OutsideRule>> {
        let mut rules = self.rules(OutsideKind::Push, name);
        rules.extend(self.forwarded(name));
        rules
    }
}
