//! Who feeds whom with one stream. The origin alone decides, so there is one table, and it is the
//! tree.
//!
//! A node that wants the stream reports what it has; the answer is a parent, or patience. Until the
//! node says that it has changed over, both its old source and every parent that it was offered
//! count as its parents: whichever of them it really reads from, the table covers it. Nobody is
//! placed below a node that has it above itself in this wider table, so there is no instant at
//! which streams could run in a circle, however late messages come. Nodes report in order, each
//! with the number of the newest answer that it has seen, and promise to change over to no older
//! one.
//!
//! A parent is chosen that has the stream already, has room, lies in the child's zone if there is
//! such a one, and is as near to the origin as can be. A node that wants to go, or drains, keeps
//! its place until those below it have been placed elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::codec::PATH_MAX;
use super::identity::NodeKey;
use super::message::Report;

/// The tree of one stream.
#[derive(Debug)]
pub(super) struct Tree {
    root: NodeKey,
    nodes: BTreeMap<NodeKey, Node>,
    /// Who waits for a parent, in the order of asking.
    waiting: BTreeSet<(u64, NodeKey)>,
    tickets: u64,
    root_children: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Who feeds it, as it said last.
    source: Option<NodeKey>,
    /// Parents that it may change over to, with the number of the answer that named each.
    offered: Vec<(u32, NodeKey)>,
    /// Answers so far.
    order: u32,
    /// Nodes that may read from it.
    children: usize,
    /// Who did not deliver to it, and until when that is remembered.
    avoided: Vec<(NodeKey, Duration)>,
    leaving: bool,
    ticket: Option<u64>,
    /// Whether it knows that it has to wait.
    told: bool,
}

/// What is to be told to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The child's parent; `None` asks for patience.
    Parent { child: NodeKey, order: u32, parent: Option<NodeKey> },
    /// A node, which may be the root, is to feed a child.
    Push { parent: NodeKey, child: NodeKey },
    /// It is to do so no longer.
    StopPush { parent: NodeKey, child: NodeKey },
}

/// What the tree has to know of nodes.
pub(super) trait Landscape {
    /// `None` for a node that is not connected.
    fn facts(&self, node: NodeKey) -> Option<Facts<'_>>;
    /// A node is asked to send so much more.
    fn promise(&mut self, node: NodeKey, kbit: u32);
}

/// What is known of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// Where it stands.
    pub(super) zone: &'a str,
    /// What it could still send, in kbit/s.
    pub(super) spare_kbit: u32,
    /// Whether it wants to feed nobody.
    pub(super) draining: bool,
}

/// What feeding one node takes, and how many one node feeds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) fanout_max: usize,
    pub(super) rate_kbit: u32,
}

/// A parent that did not deliver is not offered again for so long.
const AVOIDED_FOR: Duration = Duration::from_secs(5);
/// Parents that did not deliver, remembered per node.
const AVOIDED_MAX: usize = 8;
/// Answers that a node may be behind; then it must report first.
const OFFERED_MAX: usize = 4;

enum Choice {
    Parent(NodeKey),
    /// There is room, but not for this one.
    NotHere,
    /// There is no room anywhere.
    Full,
}

impl Tree {
    pub(super) fn new(root: NodeKey) -> Self {
        Self {
            root,
            nodes: BTreeMap::new(),
            waiting: BTreeSet::new(),
            tickets: 0,
            root_children: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes that wait for a parent.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn contains(&self, node: NodeKey) -> bool {
        self.nodes.contains_key(&node)
    }

    /// What this parent is to feed, as far as it was told so: for a parent that may have missed it.
    pub(super) fn pushes(&self, parent: NodeKey) -> Vec<NodeKey> {
        let fed = self.nodes.iter().filter(|(_, node)| node.parents().any(|key| key == parent));
        fed.map(|(child, _)| *child).collect()
    }

    /// A node says what it has. `anew`: over another connection, so that answers may be lost.
    pub(super) fn report(
        &mut self,
        child: NodeKey,
        report: &Report,
        anew: bool,
        now: Duration,
        steps: &mut Vec<Step>,
    ) {
        if !self.nodes.contains_key(&child) {
            // Some may read from it since before it was lost.
            let children = self.pushes(child).len();
            self.nodes.insert(child, Node { children, ..Node::default() });
        }
        let node = self.nodes.get_mut(&child).expect("just seen");
        node.order = node.order.max(report.order);
        node.leaving = report.leaving;
        let before: Vec<NodeKey> = node.parents().collect();
        let failed = node.offered.iter().find(|(order, _)| *order == report.order);
        let failed = [node.source, report.source, failed.map(|(_, parent)| *parent)];
        node.source = report.source;
        node.offered
            .retain(|(order, _)| *order > report.order || (*order == report.order && report.open));
        if report.lost {
            for parent in failed.into_iter().flatten() {
                node.avoid(parent, now);
            }
        }
        let lacks = report.lost || node.source.is_none();
        let missed = node.offered.iter().filter(|(order, _)| anew && *order > report.order);
        for (order, parent) in missed {
            steps.push(Step::Parent { child, order: *order, parent: Some(*parent) });
        }
        let needs = lacks && node.offered.is_empty();
        self.recount(child, &before, steps);
        if needs {
            self.wait(child);
            if let Some(node) = self.nodes.get_mut(&child) {
                node.told = false;
            }
        } else {
            self.stop_waiting(child);
        }
    }

    /// A node has left, or is gone.
    pub(super) fn remove(&mut self, child: NodeKey, steps: &mut Vec<Step>) {
        self.stop_waiting(child);
        let Some(node) = self.nodes.get_mut(&child) else { return };
        let before: Vec<NodeKey> = node.parents().collect();
        (node.source, node.offered) = (None, Vec::new());
        self.recount(child, &before, steps);
        self.nodes.remove(&child);
        // Who has no other parent is placed anew at once; the others will tell.
        let orphans: Vec<NodeKey> = self
            .nodes
            .iter()
            .filter(|(_, node)| {
                let mut parents = node.parents().peekable();
                parents.peek().is_some() && parents.all(|parent| parent == child)
            })
            .map(|(key, _)| *key)
            .collect();
        for orphan in orphans {
            let node = self.nodes.get_mut(&orphan).expect("just seen");
            if node.offered.len() < OFFERED_MAX {
                self.wait(orphan);
            }
        }
    }

    /// A parent says that it cannot feed a child.
    pub(super) fn unfed(&mut self, parent: NodeKey, child: NodeKey, now: Duration) {
        let Some(node) = self.nodes.get_mut(&child) else { return };
        let newest = node.offered.last().is_some_and(|(_, offered)| *offered == parent);
        if newest && node.offered.len() < OFFERED_MAX {
            node.avoid(parent, now);
            self.wait(child);
        }
    }

    /// Gives out places. Who has to wait is told so once.
    pub(super) fn place(
        &mut self,
        cost: Cost,
        landscape: &mut impl Landscape,
        now: Duration,
        steps: &mut Vec<Step>,
    ) {
        self.move_on(landscape);
        let queue: Vec<(u64, NodeKey)> = self.waiting.iter().copied().collect();
        for (_, child) in queue {
            match self.choose(child, cost, landscape, now) {
                Choice::Parent(parent) => {
                    landscape.promise(parent, cost.rate_kbit);
                    self.offer(child, parent, steps);
                }
                Choice::NotHere => {}
                Choice::Full => break,
            }
        }
        for (_, child) in &self.waiting {
            if let Some(node) = self.nodes.get_mut(child)
                && !std::mem::replace(&mut node.told, true)
            {
                steps.push(Step::Parent { child: *child, order: node.order, parent: None });
            }
        }
    }

    /// Those below a node that wants to go are placed elsewhere.
    fn move_on(&mut self, landscape: &impl Landscape) {
        let going = |key: &NodeKey, node: &Node| {
            node.leaving || landscape.facts(*key).is_some_and(|facts| facts.draining)
        };
        let going: BTreeSet<NodeKey> = self
            .nodes
            .iter()
            .filter(|(key, node)| node.children > 0 && going(key, node))
            .map(|(key, _)| *key)
            .collect();
        if going.is_empty() {
            return;
        }
        let stuck = |node: &Node| {
            node.offered.is_empty() && node.source.is_some_and(|source| going.contains(&source))
        };
        let movers: Vec<NodeKey> =
            self.nodes.iter().filter(|(_, node)| stuck(node)).map(|(key, _)| *key).collect();
        for mover in movers {
            self.wait(mover);
        }
    }

    fn offer(&mut self, child: NodeKey, parent: NodeKey, steps: &mut Vec<Step>) {
        self.stop_waiting(child);
        let Some(node) = self.nodes.get_mut(&child) else { return };
        let before: Vec<NodeKey> = node.parents().collect();
        node.order = node.order.saturating_add(1);
        node.offered.push((node.order, parent));
        let order = node.order;
        self.recount(child, &before, steps);
        steps.push(Step::Parent { child, order, parent: Some(parent) });
        steps.push(Step::Push { parent, child });
    }

    fn choose(
        &self,
        child: NodeKey,
        cost: Cost,
        landscape: &impl Landscape,
        now: Duration,
    ) -> Choice {
        let Some(node) = self.nodes.get(&child) else { return Choice::NotHere };
        let Some(own) = landscape.facts(child) else { return Choice::NotHere };
        let avoided = |key: NodeKey| {
            node.avoided.iter().any(|(avoided, until)| *avoided == key && *until > now)
        };
        let mut is_full = true;
        let mut best: Option<(bool, bool, usize, usize, NodeKey)> = None;
        let every = std::iter::once((self.root, self.root_children));
        let others = self.nodes.iter().filter(|(_, other)| other.source.is_some());
        for (key, children) in every.chain(others.map(|(key, other)| (*key, other.children))) {
            let Some(facts) = landscape.facts(key) else { continue };
            let leaving = self.nodes.get(&key).is_some_and(|other| other.leaving);
            let again = node.parents().any(|parent| parent == key);
            // A parent that is to feed this child anyway needs no more room for it.
            let has_room =
                again || (children < cost.fanout_max.max(1) && facts.spare_kbit >= cost.rate_kbit);
            if !has_room || ((leaving || facts.draining) && key != self.root) {
                continue;
            }
            is_full = false;
            let Some(depth) = self.depth(key, child, 0) else { continue };
            if depth + 1 < PATH_MAX {
                let rank = (avoided(key), facts.zone != own.zone, depth, children, key);
                best = Some(best.map_or(rank, |best| best.min(rank)));
            }
        }
        match best {
            Some((.., key)) => Choice::Parent(key),
            None if is_full => Choice::Full,
            None => Choice::NotHere,
        }
    }

    /// How far a node is from the root by its longest way; `None` when it is, or may be, below
    /// `child`, or is not known to be below the root at all.
    fn depth(&self, key: NodeKey, child: NodeKey, passed: usize) -> Option<usize> {
        if key == self.root {
            return Some(0);
        }
        if key == child || passed > PATH_MAX {
            return None;
        }
        let mut deepest = None;
        for parent in self.nodes.get(&key)?.parents() {
            deepest = Some(self.depth(parent, child, passed + 1)?.max(deepest.unwrap_or(0)));
        }
        deepest.map(|depth| depth + 1)
    }

    /// After a change to a node's parents: who lost it as a child and who got it.
    fn recount(&mut self, child: NodeKey, before: &[NodeKey], steps: &mut Vec<Step>) {
        let after: Vec<NodeKey> =
            self.nodes.get(&child).map(|node| node.parents().collect()).unwrap_or_default();
        for parent in before.iter().filter(|parent| !after.contains(parent)) {
            if let Some(children) = self.children(*parent) {
                *children = children.saturating_sub(1);
            }
            steps.push(Step::StopPush { parent: *parent, child });
        }
        for parent in after.iter().filter(|parent| !before.contains(parent)) {
            if let Some(children) = self.children(*parent) {
                *children += 1;
            }
        }
    }

    /// How many read from a parent; `None` when that is not in the tree.
    fn children(&mut self, parent: NodeKey) -> Option<&mut usize> {
        if parent == self.root {
            return Some(&mut self.root_children);
        }
        self.nodes.get_mut(&parent).map(|node| &mut node.children)
    }

    fn wait(&mut self, child: NodeKey) {
        let Some(node) = self.nodes.get_mut(&child) else { return };
        if node.ticket.is_none() {
            self.tickets += 1;
            node.ticket = Some(self.tickets);
            node.told = node.source.is_some();
            self.waiting.insert((self.tickets, child));
        }
    }

    fn stop_waiting(&mut self, child: NodeKey) {
        if let Some(node) = self.nodes.get_mut(&child)
            && let Some(ticket) = node.ticket.take()
        {
            self.waiting.remove(&(ticket, child));
        }
    }
}

impl Node {
    fn avoid(&mut self, parent: NodeKey, now: Duration) {
        self.avoided.retain(|(avoided, until)| *until > now && *avoided != parent);
        if self.avoided.len() == AVOIDED_MAX {
            self.avoided.remove(0);
        }
        self.avoided.push((parent, now + AVOIDED_FOR));
    }

    /// Whoever may feed this node, each once.
    fn parents(&self) -> impl Iterator<Item = NodeKey> {
        let source = self.source;
        let offered = self.offered.iter().enumerate().filter(move |(at, (_, parent))| {
            let earlier = self.offered[..*at].iter().any(|(_, other)| other == parent);
            !earlier && Some(*parent) != source
        });
        source.into_iter().chain(offered.map(|(_, (_, parent))| *parent))
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
