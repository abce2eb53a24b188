//! One stream as a node knows it: its sources in the whole cluster, what this node reads of it, and
//! whom it feeds.
//!
//! Whatever happens only changes what is known; [`Entry::settle`] then makes true what follows from
//! it. So it does not matter in which order things happen, and nothing is forgotten that happened
//! at a bad moment.

use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, Path};
use super::context::Context;
use super::counters::FEEDS_FACTOR;
use super::identity::{NodeKey, Term};
use super::message::{Edge, Message, Part, Phase};
use super::reception::Reception;
use super::tree::{Cost, Step, Tree};

#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The highest epoch seen.
    pub(super) highest: u64,
    /// The highest epoch given to a publisher of this node.
    pub(super) given: u64,
    /// Sources on other nodes.
    pub(super) claims: Vec<Claim>,
    /// The source on this node.
    pub(super) local: Option<Local>,
    pub(super) reception: Option<Reception>,
    pub(super) feeds: Vec<Feed>,
    /// While this node is the origin.
    pub(super) tree: Option<Tree>,
    /// The way that those who are fed were told.
    told: Option<Path>,
    /// When the highest epoch may be forgotten.
    forget: Option<Duration>,
    /// Whether other nodes keep it and whether they are fed from here, as last said.
    said: (bool, bool),
}

/// A source on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) term: Term,
    pub(super) phase: Phase,
    pub(super) rate_kbit: u32,
    /// When it ends, because its node is gone.
    pub(super) lost: Option<Duration>,
}

/// The source on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) epoch: u64,
    pub(super) phase: Phase,
    pub(super) rate_kbit: u32,
}

/// A node that is fed from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) to: NodeKey,
    pub(super) term: Term,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// To be looked at again then, if ever.
    Kept(Option<Duration>),
    /// There is nothing left to know.
    Over,
}

/// How often a source whose node is gone is looked at while its stream still comes.
const STILL_COMING: Duration = Duration::from_secs(1);
/// How often places are looked for in a tree in which somebody waits.
const RETRY: Duration = Duration::from_millis(500);

/// Which source counts: one that sends before one that rests, one that rests before one whose node
/// is gone, and then the higher term.
type Rank = (u8, Term);

impl Claim {
    fn rank(&self) -> Option<Rank> {
        match (self.lost, self.phase) {
            (_, Phase::Pending) => None,
            (Some(_), _) => Some((0, self.term)),
            (None, Phase::Resting) => Some((1, self.term)),
            (None, Phase::Live) => Some((2, self.term)),
        }
    }
}

impl Local {
    pub(super) fn term(&self, me: NodeKey) -> Term {
        Term { epoch: self.epoch, origin: me }
    }

    fn rank(&self, me: NodeKey) -> Option<Rank> {
        match self.phase {
            Phase::Pending => None,
            Phase::Resting => Some((1, self.term(me))),
            Phase::Live => Some((2, self.term(me))),
        }
    }
}

impl Entry {
    /// The source that counts.
    pub(super) fn visible(&self, me: NodeKey) -> Option<Term> {
        let local = self.local.and_then(|local| local.rank(me));
        let claims = self.claims.iter().filter_map(Claim::rank);
        claims.chain(local).max().map(|(_, term)| term)
    }

    /// Whether some node has a publisher of it that stays, as far as that node does.
    pub(super) fn is_busy(&self, draining: impl Fn(NodeKey) -> bool) -> bool {
        let stays = |claim: &Claim| {
            let there = claim.lost.is_none() && claim.phase != Phase::Resting;
            there && !draining(claim.term.origin)
        };
        self.claims.iter().any(stays)
    }

    /// Whether a node that is there, and stays, publishes it, is about to, or waits for its
    /// publisher to come back.
    pub(super) fn is_kept(&self, draining: impl Fn(NodeKey) -> bool) -> bool {
        let keeps = |claim: &Claim| claim.lost.is_none() && !draining(claim.term.origin);
        self.claims.iter().any(keeps)
    }

    /// Says what became of that, and of who is fed from here.
    fn tell_change(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let draining = |key| ctx.members.peer(key).is_some_and(|peer| peer.draining);
        let now = (self.is_kept(draining), !self.feeds.is_empty());
        if std::mem::replace(&mut self.said, now) != now {
            ctx.out.push(Command::Changed { name: Arc::clone(name) });
        }
    }

    /// What this node has of it, and how that comes here, this node included.
    pub(super) fn held(&self, me: NodeKey) -> Option<(Term, Path)> {
        if let Some(local) = self.local.filter(|local| local.phase != Phase::Pending) {
            return Some((local.term(me), [me].into()));
        }
        let reception = self.reception.as_ref()?;
        let path = reception.path()?.iter().copied().chain([me]).collect();
        Some((reception.term()?, path))
    }

    /// Makes true whatever follows from what is known.
    pub(super) fn settle(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) -> Fate {
        let (me, now) = (ctx.me(), ctx.now);
        self.expire(now);
        self.give_way(name, ctx);
        let target = self.visible(me);
        let is_origin = target.is_some_and(|term| term.origin == me);
        let feeding = !self.feeds.is_empty();
        if let Some(reception) = &mut self.reception {
            // A publisher that has only come here takes the place of what was read.
            let goes_on = if is_origin || self.local.is_some() {
                reception.stand_by(name, ctx);
                reception.has_players()
            } else {
                reception.settle(name, target, feeding, ctx)
            };
            if !goes_on {
                self.reception = None;
            }
        }
        self.tend_feeds(name, target, ctx);
        if is_origin {
            self.place(name, ctx);
        } else {
            self.tree = None;
        }
        // Who only passed it on has nothing left to pass on.
        if self.feeds.is_empty()
            && feeding
            && !is_origin
            && self.local.is_none()
            && let Some(reception) = &mut self.reception
            && !reception.settle(name, target, false, ctx)
        {
            self.reception = None;
        }
        self.tell_change(name, ctx);
        self.fate(ctx)
    }

    /// Sources whose nodes are gone end, unless their stream still comes.
    fn expire(&mut self, now: Duration) {
        let reception = self.reception.as_ref();
        self.claims.retain_mut(|claim| {
            let Some(until) = claim.lost.filter(|until| *until <= now) else {
                return claim.lost.is_none() || claim.phase != Phase::Pending;
            };
            let comes = reception.is_some_and(|reception| reception.reads(claim.term));
            claim.lost = Some(if comes { now + STILL_COMING } else { until });
            comes
        });
    }

    /// The local source ends when another one counts.
    fn give_way(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let me = ctx.me();
        let Some(local) = self.local else { return };
        let own = local.rank(me).unwrap_or((2, local.term(me)));
        let other = self.claims.iter().filter_map(Claim::rank).max();
        if let Some((rank, to)) = other.filter(|other| *other > own) {
            debug_assert!(rank > 0, "a source that is gone ends no other");
            self.local = None;
            ctx.out.counters.yielded += 1;
            ctx.out.push(Command::Yield { name: Arc::clone(name), to });
            ctx.withdraw(name, local);
        }
    }

    /// Ends feeds of what this node does not have any more, and tells the others the way.
    fn tend_feeds(&mut self, name: &Arc<str>, target: Option<Term>, ctx: &mut Context<'_>) {
        let held = self.held(ctx.me());
        let term = held.as_ref().map(|(term, _)| *term);
        let gives_up = target.is_none() || self.reception.is_none() || self.local.is_some();
        let is_over = term.is_none() && gives_up;
        let ended = |feed: &mut Feed| {
            let other = term.is_some_and(|term| term != feed.term);
            is_over || other || ctx.members.peer(feed.to).is_none()
        };
        let ended: Vec<Feed> = self.feeds.extract_if(.., ended).collect();
        for feed in ended {
            ctx.stop_feed(name, feed.to);
        }
        if let Some((_, path)) = held {
            let told = self.told.replace(Arc::clone(&path));
            if told.is_some_and(|told| told != path) && !self.feeds.is_empty() {
                ctx.repath(name, path);
            }
        }
        if self.feeds.is_empty() {
            self.told = None;
        }
    }

    /// As the origin: gives out places.
    fn place(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let me = ctx.me();
        let Some(local) = self.local else { return };
        let tree = self.tree.get_or_insert_with(|| Tree::new(me));
        let cost = Cost { fanout_max: ctx.settings.fanout_max, rate_kbit: local.rate_kbit };
        let mut steps = Vec::new();
        let (now, waited) = (ctx.now, tree.waiting());
        tree.place(cost, ctx, now, &mut steps);
        ctx.out.counters.waited +=
            u64::try_from(tree.waiting().saturating_sub(waited)).unwrap_or(0);
        self.perform(name, steps, ctx);
    }

    /// A node that reads from this origin reports.
    pub(super) fn report(
        &mut self,
        name: &Arc<str>,
        child: NodeKey,
        report: &super::message::Report,
        anew: bool,
        ctx: &mut Context<'_>,
    ) {
        let is_current = self.local.is_some_and(|local| local.epoch == report.epoch);
        let Some(tree) = self.tree.as_mut().filter(|_| is_current) else { return };
        let mut steps = Vec::new();
        tree.report(child, report, anew, ctx.now, &mut steps);
        self.perform(name, steps, ctx);
    }

    /// A node that read from this origin has left, or is gone.
    pub(super) fn left(&mut self, name: &Arc<str>, child: NodeKey, ctx: &mut Context<'_>) {
        let Some(tree) = &mut self.tree else { return };
        let mut steps = Vec::new();
        tree.remove(child, &mut steps);
        self.perform(name, steps, ctx);
    }

    fn perform(&mut self, name: &Arc<str>, steps: Vec<Step>, ctx: &mut Context<'_>) {
        let me = ctx.me();
        let Some(local) = self.local else { return };
        let (term, epoch) = (local.term(me), local.epoch);
        for step in steps {
            match step {
                Step::Parent { child, order, parent } => {
                    ctx.out.counters.placed += u64::from(parent.is_some());
                    let name = Arc::clone(name);
                    ctx.tell(child, &Message::Parent { name, epoch, order, parent });
                }
                Step::Push { parent, child } if parent == me => self.feed(name, term, child, ctx),
                Step::StopPush { parent, child } if parent == me => {
                    self.stop_feed(name, child, ctx);
                }
                Step::Push { parent, child } => {
                    let entries = vec![Edge { name: Arc::clone(name), epoch, child }];
                    ctx.tell(parent, &Message::Pushes { part: Part::default(), entries });
                }
                Step::StopPush { parent, child } => {
                    let edge = Edge { name: Arc::clone(name), epoch, child };
                    ctx.tell(parent, &Message::StopPush(edge));
                }
            }
        }
    }

    /// An origin asks this node to feed another one. `anew`: it only says again what it said.
    pub(super) fn push(
        &mut self,
        name: &Arc<str>,
        term: Term,
        child: NodeKey,
        anew: bool,
        ctx: &mut Context<'_>,
    ) {
        let has = self.held(ctx.me()).is_some_and(|(held, _)| held == term);
        let feeds = self.feeds.iter().any(|feed| feed.to == child);
        let has_room = self.feeds.len() < ctx.settings.fanout_max.saturating_mul(FEEDS_FACTOR);
        if !has || !(has_room || feeds) || ctx.members.peer(child).is_none() {
            ctx.unfed(name, term, child);
        } else if !(feeds && anew) {
            self.feed(name, term, child, ctx);
        }
    }

    fn feed(&mut self, name: &Arc<str>, term: Term, to: NodeKey, ctx: &mut Context<'_>) {
        let Some((_, path)) = self.held(ctx.me()) else { return };
        let Some(address) = ctx.members.peer(to).map(|peer| peer.address) else { return };
        self.feeds.retain(|feed| feed.to != to);
        self.feeds.push(Feed { to, term });
        let name = Arc::clone(name);
        ctx.out.push(Command::Feed { name, term, to, address, path });
    }

    pub(super) fn stop_feed(&mut self, name: &Arc<str>, to: NodeKey, ctx: &mut Context<'_>) {
        for feed in self.feeds.extract_if(.., |feed| feed.to == to) {
            ctx.stop_feed(name, feed.to);
        }
    }

    /// What this node fed was not taken, or its link broke.
    pub(super) fn feed_ended(&mut self, name: &Arc<str>, to: NodeKey, ctx: &mut Context<'_>) {
        let ended: Vec<Feed> = self.feeds.extract_if(.., |feed| feed.to == to).collect();
        for feed in ended {
            if feed.term.origin == ctx.me() {
                self.unfed(to, ctx.me(), ctx.now);
            } else {
                ctx.unfed(name, feed.term, to);
            }
        }
    }

    /// As the origin: a parent cannot feed a child.
    pub(super) fn unfed(&mut self, child: NodeKey, parent: NodeKey, now: Duration) {
        if let Some(tree) = &mut self.tree {
            tree.unfed(parent, child, now);
        }
    }

    fn fate(&mut self, ctx: &Context<'_>) -> Fate {
        let nothing = self.claims.is_empty()
            && self.local.is_none()
            && self.reception.is_none()
            && self.feeds.is_empty();
        let grace = ctx.now + ctx.settings.limits.stream_grace;
        self.forget = nothing.then(|| self.forget.unwrap_or(grace));
        if self.forget.is_some_and(|at| at <= ctx.now) {
            return Fate::Over;
        }
        let claims = self.claims.iter().filter_map(|claim| claim.lost);
        let reception = self.reception.as_ref().and_then(Reception::next);
        let waits = self.tree.as_ref().is_some_and(|tree| tree.waiting() > 0);
        let retry = waits.then(|| ctx.now + RETRY);
        Fate::Kept(claims.chain(reception).chain(retry).chain(self.forget).min())
    }
}
