//! Rules that operators add while the node runs, to this node or to another one of its cluster.

use std::time::Duration;

use super::super::orders::{self, AddedId};
use super::{Added, Machine};
use crate::worker::outside::{NodeKey, Order, OutsideKind};

impl Machine {
    /// Adds a rule; gives its id, or `None` when there are `outside_targets_max`. `node`: this one,
    /// where it is one of a cluster.
    pub(in crate::control::outside) fn add(
        &mut self,
        added: Added,
        node: Option<NodeKey>,
        now: Duration,
    ) -> Option<AddedId> {
        if self.is_full() {
            return None;
        }
        self.numbered += 1;
        let id = AddedId { number: self.numbered, node };
        self.added.insert(id, added);
        self.rules_changed(now);
        Some(id)
    }

    /// Takes a rule that was added away. Whether there was one of this kind.
    pub(in crate::control::outside) fn remove(
        &mut self,
        kind: OutsideKind,
        id: AddedId,
        now: Duration,
    ) -> bool {
        let is = self.added.get(&id).is_some_and(|added| added.kind == kind);
        if is {
            self.added.remove(&id);
            self.rules_changed(now);
        }
        is
    }

    /// A rule was added to another node, or taken away there.
    pub(super) fn ordered(&mut self, order: Order, now: Duration) {
        let id = AddedId::of(order.id);
        let Some(text) = order.text else {
            self.added.remove(&id);
            return self.rules_changed(now);
        };
        let Some(added) = orders::read(&text) else {
            tracing::warn!(%id, "another node was given an order that this build does not know");
            return;
        };
        let (kind, target) = (added.kind.label(), added.rule.url.target());
        if self.is_full() {
            let why = "there are outside_targets_max pushes and pulls";
            tracing::warn!(%id, kind, target, "what was added to another node is passed over: {why}");
            return;
        }
        tracing::info!(%id, kind, target, "added to another node");
        self.added.insert(id, added);
        self.rules_changed(now);
    }

    /// The rules that were added.
    pub(in crate::control::outside) fn added(&self) -> impl Iterator<Item = (AddedId, &Added)> {
        self.added.iter().map(|(id, added)| (*id, added))
    }
}
