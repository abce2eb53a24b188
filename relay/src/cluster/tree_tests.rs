//! Trees: where nodes are placed, and that no order of events makes a circle.

use std::collections::BTreeMap;

use super::*;

const ROOT: NodeKey = NodeKey(0);

#[derive(Default)]
struct Nodes {
    zones: BTreeMap<NodeKey, &'static str>,
    spare: BTreeMap<NodeKey, u32>,
    draining: Vec<NodeKey>,
    away: Vec<NodeKey>,
}

impl Landscape for Nodes {
    fn facts(&self, node: NodeKey) -> Option<Facts<'_>> {
        let zone = self.zones.get(&node).copied().unwrap_or_default();
        let spare_kbit = self.spare.get(&node).copied().unwrap_or(u32::MAX);
        let draining = self.draining.contains(&node);
        (!self.away.contains(&node)).then_some(Facts { zone, spare_kbit, draining })
    }

    fn promise(&mut self, node: NodeKey, kbit: u32) {
        if let Some(spare) = self.spare.get_mut(&node) {
            *spare = spare.saturating_sub(kbit);
        }
    }
}

const NOW: Duration = Duration::from_secs(1);

/// A tree with children that do what they are told at once.
struct Rig {
    tree: Tree,
    nodes: Nodes,
    cost: Cost,
    steps: Vec<Step>,
}

impl Rig {
    fn new(fanout_max: usize) -> Self {
        let cost = Cost { fanout_max, rate_kbit: 100 };
        Self { tree: Tree::new(ROOT), nodes: Nodes::default(), cost, steps: Vec::new() }
    }

    fn report(&mut self, child: u64, order: u32, source: Option<u64>, lost: bool) {
        self.tell(child, |report| {
            (report.order, report.source, report.lost) = (order, source.map(NodeKey), lost);
        });
    }

    fn tell(&mut self, child: u64, change: impl FnOnce(&mut Report)) {
        let mut report = Report {
            name: "live/s".into(),
            epoch: 1,
            order: 0,
            source: None,
            open: false,
            lost: false,
            leaving: false,
        };
        change(&mut report);
        self.tree.report(NodeKey(child), &report, false, NOW, &mut self.steps);
        self.place();
    }

    fn place(&mut self) {
        self.tree.place(self.cost, &mut self.nodes, NOW, &mut self.steps);
    }

    /// The parent that a child was offered last, if it was any, and the number of that answer.
    fn offered(&mut self, child: u64) -> Option<(u32, u64)> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Parent { child: of, order, parent: Some(parent) } if *of == NodeKey(child) => {
                Some((*order, parent.0))
            }
            _ => None,
        })
    }

    /// A child asks and reads from whom it is told to.
    fn join(&mut self, child: u64) -> u64 {
        self.report(child, 0, None, false);
        self.follow(child)
    }

    fn follow(&mut self, child: u64) -> u64 {
        let (order, parent) = self.offered(child).expect("a parent is offered");
        self.report(child, order, Some(parent), false);
        parent
    }

    fn stopped(&self, parent: u64, child: u64) -> bool {
        let (parent, child) = (NodeKey(parent), NodeKey(child));
        self.steps.contains(&Step::StopPush { parent, child })
    }
}

#[test]
fn the_tree_grows_level_by_level() {
    let mut rig = Rig::new(2);
    let parents: Vec<u64> = (1..=6).map(|child| rig.join(child)).collect();
    assert_eq!(parents, [0, 0, 1, 2, 1, 2]);
    assert_eq!(rig.tree.len(), 6);
}

#[test]
fn who_has_nothing_feeds_nobody_so_others_wait() {
    let mut rig = Rig::new(1);
    rig.report(1, 0, None, false);
    rig.report(2, 0, None, false);
    assert_eq!((rig.offered(1), rig.offered(2)), (Some((1, 0)), None));
    let patience = Step::Parent { child: NodeKey(2), order: 0, parent: None };
    assert_eq!(rig.steps.iter().filter(|step| **step == patience).count(), 1);
    rig.place();
    assert_eq!(rig.steps.iter().filter(|step| **step == patience).count(), 1, "said once");
    rig.report(1, 1, Some(0), false);
    assert_eq!(rig.offered(2), Some((1, 1)), "and is placed when there is room");
}

#[test]
fn a_parent_in_the_same_zone_comes_first() {
    let mut rig = Rig::new(3);
    rig.nodes.zones = [(NodeKey(1), "b"), (NodeKey(2), "c"), (NodeKey(3), "b")].into();
    assert_eq!([rig.join(1), rig.join(2), rig.join(3)], [0, 0, 1]);
}

#[test]
fn budgets_and_draining_nodes_are_respected() {
    let mut rig = Rig::new(8);
    rig.nodes.spare = [(ROOT, 250), (NodeKey(1), 100), (NodeKey(2), 1_000)].into();
    assert_eq!([rig.join(1), rig.join(2)], [0, 0]);
    assert_eq!([rig.join(3), rig.join(4)], [1, 2], "the origin has nothing left");
    rig.nodes.draining = vec![NodeKey(2)];
    rig.nodes.spare.insert(ROOT, 1_000);
    rig.place();
    assert_eq!(rig.offered(4), Some((2, 0)), "whom a draining node feeds is moved");
    assert!(!rig.stopped(2, 4), "but not before it reads from elsewhere");
    rig.follow(4);
    assert!(rig.stopped(2, 4));
}

#[test]
fn nobody_is_placed_below_whoever_may_be_below_it() {
    let mut rig = Rig::new(1);
    assert_eq!([rig.join(1), rig.join(2), rig.join(3)], [0, 1, 2]);
    // 1 lost the origin. Below it are 2 and 3, and there is nobody else.
    rig.report(1, 1, Some(0), true);
    assert_eq!(rig.offered(1), Some((2, 0)), "the origin once more, as there is no other");
    // 2 may change over to another place, and until it has said so it counts as below 1.
    let mut rig = Rig::new(2);
    assert_eq!([rig.join(1), rig.join(2), rig.join(3), rig.join(4)], [0, 0, 1, 2]);
    rig.report(3, 1, Some(1), true);
    let (_, other) = rig.offered(3).expect("another place");
    assert_ne!(other, 1);
    rig.report(1, 1, Some(0), true);
    assert_ne!(rig.offered(1), Some((2, 3)), "3 may still read from 1");
}

#[test]
fn an_offer_that_may_still_be_taken_up_counts() {
    let mut rig = Rig::new(4);
    assert_eq!(rig.join(1), 0);
    rig.report(2, 0, None, false);
    assert_eq!(rig.offered(2), Some((1, 0)));
    rig.tell(2, |report| (report.order, report.open) = (1, true));
    assert!(!rig.stopped(0, 2), "it says that it still waits for that one");
    rig.tell(2, |report| (report.order, report.lost) = (1, true));
    assert!(rig.stopped(0, 2), "it says that it does not");
    assert_eq!(rig.offered(2), Some((2, 1)), "and is offered another");
}

#[test]
fn a_parent_that_is_gone_leaves_nobody_behind() {
    let mut rig = Rig::new(1);
    assert_eq!([rig.join(1), rig.join(2)], [0, 1]);
    rig.nodes.away = vec![NodeKey(1)];
    rig.tree.remove(NodeKey(1), &mut rig.steps);
    rig.place();
    assert!(rig.stopped(0, 1));
    assert_eq!(rig.offered(2), Some((2, 0)), "placed anew without being asked");
    // Until 2 says where it reads from, that is not known, and so nobody is placed below it.
    rig.nodes.away.clear();
    rig.report(1, 5, Some(7), false);
    assert_eq!(rig.tree.pushes(NodeKey(1)), [NodeKey(2)], "still counted with whom it fed");
    assert_eq!(rig.follow(2), 0);
    assert!(rig.tree.pushes(NodeKey(1)).is_empty());
}

#[test]
fn whoever_leaves_keeps_its_place_until_nobody_needs_it() {
    let mut rig = Rig::new(1);
    assert_eq!([rig.join(1), rig.join(2)], [0, 1]);
    rig.tell(1, |report| {
        (report.order, report.source, report.leaving) = (1, Some(ROOT), true);
    });
    assert_eq!(rig.offered(2), Some((1, 1)), "there is no room elsewhere");
    rig.cost.fanout_max = 2;
    rig.place();
    assert_eq!(rig.offered(2), Some((2, 0)));
    rig.follow(2);
    assert!(rig.stopped(1, 2));
    rig.tree.remove(NodeKey(1), &mut rig.steps);
    assert!(rig.stopped(0, 1));
    assert_eq!(rig.tree.len(), 1);
}

#[test]
fn who_cannot_feed_is_replaced() {
    let mut rig = Rig::new(2);
    assert_eq!([rig.join(1), rig.join(2)], [0, 0]);
    rig.report(3, 0, None, false);
    let (_, first) = rig.offered(3).expect("a parent");
    rig.tree.unfed(NodeKey(first), NodeKey(3), NOW);
    rig.place();
    let (order, second) = rig.offered(3).expect("another parent");
    assert_eq!((order, first != second), (2, true));
    rig.tree.unfed(NodeKey(first), NodeKey(3), NOW);
    rig.place();
    assert_eq!(rig.offered(3), Some((2, second)), "it is no longer asked, so it matters no more");
}

#[test]
fn whatever_children_do_the_wider_table_has_no_circle() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new(random.usize(1..4));
        // What each node really has: the source, and the newest answer that it has seen.
        let mut real: BTreeMap<u64, (Option<u64>, u32)> = BTreeMap::new();
        for _ in 0..200 {
            let child = random.u64(1..12);
            let (source, order) = real.get(&child).copied().unwrap_or_default();
            let newest = rig.offered(child).filter(|(newest, _)| *newest > order);
            match (random.u8(..8), newest) {
                (0..5, Some((newest, parent))) => {
                    let source = if random.u8(..4) > 0 { Some(parent) } else { source };
                    real.insert(child, (source, newest));
                    rig.report(child, newest, source, source != Some(parent));
                }
                (5, _) => {
                    real.remove(&child);
                    rig.tree.remove(NodeKey(child), &mut rig.steps);
                    rig.steps.retain(|step| {
                        !matches!(step, Step::Parent { child: of, .. } if *of == NodeKey(child))
                    });
                    rig.place();
                }
                _ => {
                    real.entry(child).or_default();
                    rig.report(child, order, source, source.is_some());
                }
            }
            for start in real.keys() {
                let mut at = *start;
                let mut passed = 0;
                while let Some(next) = real.get(&at).and_then(|(source, _)| *source) {
                    (at, passed) = (next, passed + 1);
                    assert!(passed < 20, "seed {seed}: a circle through {start}");
                }
            }
        }
    }
}
