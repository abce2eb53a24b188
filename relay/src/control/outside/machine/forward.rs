//! Streams that the back ends of their publishers send on to another server: rules for one stream
//! each, that hold as long as the publisher, and while it may come back.

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

impl Machine {
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
            if self.forwarded.len() + self.added.len() < self.limits().outside_targets_max {
                let forwarded = Forwarded { by: (core, number), rule, over: false };
                self.forwarded.insert(Arc::clone(&name), forwarded);
            } else {
                let detail = "there are outside_targets_max pushes and pulls".to_owned();
                let key = super::TaskKey::push(&name, &rule);
                let fault = OutsideFault::Limit;
                let reason = fault.label();
                tracing::warn!(stream = %name, reason, "a back end's push is refused: {detail}");
                self.count_failure(&key, &OutsideEnd { fault, detail, redirect: None });
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
    pub(in crate::control::outside) fn is_forward(&self, name: &str, rule: &OutsideRule) -> bool {
        let forwarded = self.forwarded.get(name).is_some_and(|known| *known.rule == *rule);
        let configured = || self.settings.app(app_of(name)).push.iter().any(|known| known == rule);
        forwarded && !configured()
    }

    /// The rules for a push of a stream: those of the configuration, those that were added, and
    /// its back end's.
    pub(super) fn push_rules(&mut self, name: &Arc<str>) -> Vec<Arc<OutsideRule>> {
        let mut rules = self.rules(OutsideKind::Push, name);
        rules.extend(self.forwarded(name));
        rules
    }
}
