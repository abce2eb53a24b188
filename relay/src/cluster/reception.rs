//! How a node comes by a stream of another node: it asks the origin, is told a parent, and changes
//! over when that delivers.
//!
//! ```text
//!   Unsent --connected--> Sent --Parent(p)--> Expecting(p) --p delivers--> Content
//!                         ^ |                      | not in PATIENCE          |
//!                         | +--Parent(none)--> Waiting                        | quiet or gone
//!                         +------------------------+--------------------------+
//! ```
//!
//! The old source is read until the new one delivers. A link that comes before the answer that
//! names its sender waits a moment; one that nobody asked for is refused. A link whose path holds
//! this node is never read. Who is further from the origin waits a little longer before it
//! complains, so that a break is mended where it is and not by everybody below it.

use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, Path};
use super::context::Context;
use super::counters::OFFERS_MAX;
use super::identity::{NodeKey, Term};
use super::message::{Message, Part, Report};

/// A stream that this node reads or wants to read.
#[derive(Debug, Default)]
pub(super) struct Reception {
    players: bool,
    /// Until when it goes on coming without players.
    linger: Option<Duration>,
    /// What players were told.
    shown: Option<Term>,
    source: Option<Source>,
    offers: Vec<Offer>,
    ask: Option<Ask>,
    /// The source asked for before, whose origin is told when the new one delivers.
    former: Option<Term>,
    told_leaving: bool,
}

#[derive(Debug)]
struct Source {
    from: NodeKey,
    term: Term,
    path: Path,
    /// Since when nothing has come.
    quiet: Option<Duration>,
}

/// A link that nobody has named yet.
#[derive(Debug)]
struct Offer {
    from: NodeKey,
    term: Term,
    path: Path,
    until: Duration,
}

#[derive(Debug)]
struct Ask {
    term: Term,
    /// The newest answer.
    order: u32,
    state: State,
    /// When to ask again.
    due: Duration,
    /// Whether what was had, or named, does not deliver.
    lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unsent,
    Sent,
    Waiting,
    Expecting(NodeKey),
    Content,
    /// This node had no room for it; its origin counts it out until it asks again.
    Declined,
}

/// A named parent has so long to deliver, and the origin to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who was told to wait asks again after this, in case it was forgotten.
const WAIT: Duration = Duration::from_secs(5);
/// A link may come so long before the answer that names its sender.
const OFFER: Duration = Duration::from_secs(3);
/// How much longer each node on the path waits before it complains.
const PER_HOP: Duration = Duration::from_millis(100);

impl Reception {
    pub(super) fn offers(&self) -> usize {
        self.offers.len()
    }

    /// Players want it, or no longer.
    pub(super) fn set_players(&mut self, players: bool, linger_until: Duration) {
        self.linger = (self.players && !players).then_some(linger_until).or(self.linger);
        if players {
            self.linger = None;
        }
        self.players = players;
    }

    pub(super) fn has_players(&self) -> bool {
        self.players
    }

    fn is_needed(&self, now: Duration) -> bool {
        self.players || self.linger.is_some_and(|until| until > now)
    }

    /// The source that is read.
    pub(super) fn term(&self) -> Option<Term> {
        self.source.as_ref().map(|source| source.term)
    }

    /// The source that was asked for.
    pub(super) fn asked(&self) -> Option<Term> {
        self.ask.as_ref().map(|ask| ask.term)
    }

    /// Who feeds this node.
    pub(super) fn from(&self) -> Option<NodeKey> {
        self.source.as_ref().map(|source| source.from)
    }

    /// The way to the node that feeds this one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.source.as_ref().map(|source| &source.path)
    }

    /// Whether this source delivers.
    pub(super) fn reads(&self, term: Term) -> bool {
        self.source.as_ref().is_some_and(|source| source.term == term && source.quiet.is_none())
    }

    /// What is to follow from everything that changed. `target`: the source that counts, on another
    /// node. `feeding`: whether other nodes read from this one. False when it is over.
    pub(super) fn settle(
        &mut self,
        name: &Arc<str>,
        target: Option<Term>,
        feeding: bool,
        ctx: &mut Context<'_>,
    ) -> bool {
        let now = ctx.now;
        self.linger = self.linger.filter(|until| *until > now);
        if !self.is_needed(now) && !feeding {
            self.stand_by(name, ctx);
            return false;
        }
        let Some(target) = target else {
            self.drop_links(name, ctx);
            (self.ask, self.former) = (None, None);
            if self.shown.take().is_some() {
                ctx.out.push(Command::Vanished { name: Arc::clone(name) });
            }
            return true;
        };
        if self.shown.replace(target) != Some(target) {
            ctx.out.push(Command::Appeared { name: Arc::clone(name), term: target });
        }
        if self.asked() != Some(target) {
            match self.asked() {
                Some(old) if self.term() == Some(old) => self.former = Some(old),
                Some(old) => ctx.left(name, old),
                None => {}
            }
            let (order, state, lost) = (0, State::Unsent, false);
            self.ask = Some(Ask { term: target, order, state, due: now, lost });
        }
        self.pursue(name, ctx);
        true
    }

    /// This node has the stream itself, or needs it no more.
    pub(super) fn stand_by(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        self.drop_links(name, ctx);
        let asked = self.ask.take().map(|ask| ask.term);
        for term in asked.into_iter().chain(self.former.take()) {
            ctx.left(name, term);
        }
        (self.shown, self.told_leaving) = (None, false);
    }

    fn drop_links(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let source = self.source.take().map(|source| source.from);
        let offers = self.offers.drain(..).map(|offer| offer.from);
        for from in source.into_iter().chain(offers) {
            ctx.drop_link(name, from);
        }
    }

    fn pursue(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let now = ctx.now;
        self.expire_offers(name, ctx);
        self.change_over(name, ctx);
        let leaving = !self.is_needed(now);
        let Some(ask) = &mut self.ask else { return };
        if ask.state == State::Content {
            let source = self.source.as_ref().filter(|source| source.term == ask.term);
            let complaint = match source {
                None => Some(now),
                Some(source) => source.quiet.map(|since| since + source.delay()),
            };
            if complaint.is_some_and(|at| at <= now) {
                ctx.out.counters.pleas += 1;
                (ask.state, ask.lost, ask.due) = (State::Sent, true, now);
            } else if self.told_leaving != leaving {
                // Told in the same state; the answer, if there is one, is a new parent.
                self.told_leaving = leaving;
                self.report(name, ctx);
                return;
            }
        }
        let Some(ask) = &mut self.ask else { return };
        let again = match ask.state {
            State::Unsent => true,
            State::Sent | State::Waiting | State::Declined => ask.due <= now,
            State::Expecting(_) if ask.due <= now => {
                ctx.out.counters.pleas += 1;
                ask.lost = true;
                true
            }
            State::Expecting(_) | State::Content => false,
        };
        if again
            && self
                .source
                .as_ref()
                .is_some_and(|source| source.term == ask.term && source.quiet.is_none())
            && !matches!(ask.state, State::Expecting(_))
        {
            // It came back by itself.
            (ask.state, ask.lost) = (State::Content, false);
            self.report(name, ctx);
        } else if again {
            let sent = ctx.is_connected(ask.term.origin);
            ask.state = if sent { State::Sent } else { State::Unsent };
            ask.due = now + PATIENCE;
            self.told_leaving = leaving;
            self.report(name, ctx);
        }
    }

    /// Takes the named parent up, if it delivers.
    fn change_over(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let me = ctx.me();
        let Some(ask) = &mut self.ask else { return };
        let State::Expecting(parent) = ask.state else { return };
        let wanted = ask.term;
        let is_it = |from: NodeKey, term: Term| from == parent && term == wanted;
        let found = self.offers.iter().position(|offer| is_it(offer.from, offer.term));
        if let Some(source) = &self.source
            && is_it(source.from, source.term)
            && source.quiet.is_none()
        {
            (ask.state, ask.lost) = (State::Content, false);
            self.report(name, ctx);
        } else if let Some(at) = found
            && !self.offers[at].path.contains(&me)
        {
            let offer = self.offers.remove(at);
            (ask.state, ask.lost) = (State::Content, false);
            let (from, term, path) = (offer.from, offer.term, offer.path);
            let old = self.source.replace(Source { from, term, path, quiet: None });
            if let Some(old) = old
                && old.from != from
            {
                ctx.drop_link(name, old.from);
            }
            ctx.out.counters.adopted += 1;
            ctx.out.push(Command::Adopt { name: Arc::clone(name), from, term });
            self.report(name, ctx);
            if let Some(former) = self.former.take() {
                ctx.left(name, former);
            }
        }
    }

    fn expire_offers(&mut self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let now = ctx.now;
        for offer in self.offers.extract_if(.., |offer| offer.until <= now) {
            ctx.out.counters.unasked += 1;
            ctx.drop_link(name, offer.from);
        }
    }

    /// The origin's answer.
    pub(super) fn parent(
        &mut self,
        term: Term,
        order: u32,
        parent: Option<NodeKey>,
        now: Duration,
    ) {
        let Some(ask) = self.ask.as_mut().filter(|ask| ask.term == term) else { return };
        if ask.state == State::Declined {
            return;
        }
        match parent {
            Some(parent) if order > ask.order => {
                (ask.order, ask.state) = (order, State::Expecting(parent));
                ask.due = now + PATIENCE;
            }
            None if ask.state == State::Sent => {
                ask.state = State::Waiting;
                ask.due = now + WAIT;
            }
            _ => {}
        }
    }

    /// A node feeds the stream, or feeds it by another way. Whether the way to this node changed.
    pub(super) fn fed(
        &mut self,
        name: &Arc<str>,
        from: NodeKey,
        term: Term,
        path: Path,
        ctx: &mut Context<'_>,
    ) -> bool {
        if let Some(source) = self.source.as_mut().filter(|source| source.from == from) {
            if source.term == term && !path.contains(&ctx.me()) {
                source.quiet = None;
                let changed = source.path != path;
                source.path = path;
                return changed;
            }
            self.source = None;
            if path.contains(&ctx.me()) {
                ctx.out.counters.loops_refused += 1;
                ctx.drop_link(name, from);
                return false;
            }
        }
        self.offers.retain(|offer| offer.from != from);
        if self.offers.len() == OFFERS_MAX {
            ctx.out.counters.unasked += 1;
            ctx.drop_link(name, from);
        } else {
            self.offers.push(Offer { from, term, path, until: ctx.now + OFFER });
        }
        false
    }

    /// Nothing came from a node for a while.
    pub(super) fn quiet(&mut self, from: NodeKey, now: Duration) {
        if let Some(source) = self.source.as_mut().filter(|source| source.from == from) {
            source.quiet.get_or_insert(now);
        }
    }

    /// A node feeds it no longer.
    pub(super) fn unfed(&mut self, from: NodeKey) {
        self.offers.retain(|offer| offer.from != from);
        self.source = self.source.take().filter(|source| source.from != from);
    }

    /// What a node feeds cannot be taken in.
    pub(super) fn decline(&mut self, name: &Arc<str>, from: NodeKey, ctx: &mut Context<'_>) {
        if self.from() != Some(from) {
            return;
        }
        self.drop_links(name, ctx);
        if let Some(ask) = &mut self.ask {
            (ask.state, ask.due) = (State::Declined, ctx.now + WAIT);
            let term = ask.term;
            ctx.left(name, term);
        }
        if let Some(former) = self.former.take() {
            ctx.left(name, former);
        }
    }

    /// A node is gone, and with it what it feeds or would feed. Whether that was anything.
    pub(super) fn lose(&mut self, name: &Arc<str>, key: NodeKey, ctx: &mut Context<'_>) -> bool {
        let feeds = self.from() == Some(key) || self.offers.iter().any(|offer| offer.from == key);
        if feeds {
            ctx.drop_link(name, key);
            self.unfed(key);
        }
        feeds
    }

    /// What its origin is to be told.
    fn report(&self, name: &Arc<str>, ctx: &mut Context<'_>) {
        let Some(ask) = &self.ask else { return };
        let Some(report) = self.state(name, ctx.now) else { return };
        let message = Message::Wants { part: Part::default(), entries: vec![report] };
        ctx.tell(ask.term.origin, &message);
    }

    /// The same as part of all that its origin is told on a new connection.
    pub(super) fn resend(&mut self, name: &Arc<str>, now: Duration) -> Option<Report> {
        let reads = self.asked().is_some_and(|term| self.reads(term));
        let ask = self.ask.as_mut()?;
        match ask.state {
            State::Unsent | State::Sent | State::Waiting if reads => {
                (ask.state, ask.lost) = (State::Content, false);
            }
            State::Unsent => (ask.state, ask.due) = (State::Sent, now + PATIENCE),
            State::Declined => return None,
            _ => {}
        }
        self.told_leaving = !self.is_needed(now);
        self.state(name, now)
    }

    fn state(&self, name: &Arc<str>, now: Duration) -> Option<Report> {
        let ask = self.ask.as_ref()?;
        let source = self.source.as_ref().filter(|source| source.term == ask.term);
        Some(Report {
            name: Arc::clone(name),
            epoch: ask.term.epoch,
            order: ask.order,
            source: source.map(|source| source.from),
            open: matches!(ask.state, State::Expecting(_)),
            lost: ask.lost,
            leaving: !self.is_needed(now),
        })
    }

    /// When to look at it again.
    pub(super) fn next(&self) -> Option<Duration> {
        let ask = self.ask.as_ref().and_then(|ask| match ask.state {
            State::Unsent => None,
            State::Content => {
                let source = self.source.as_ref()?;
                source.quiet.map(|since| since + source.delay())
            }
            State::Sent | State::Waiting | State::Expecting(_) | State::Declined => Some(ask.due),
        });
        let offers = self.offers.iter().map(|offer| offer.until);
        offers.chain(ask).chain(self.linger).min()
    }
}

impl Source {
    fn delay(&self) -> Duration {
        let hops = u32::try_from(self.path.len().saturating_sub(1)).unwrap_or(u32::MAX);
        PER_HOP.saturating_mul(hops)
    }
}

#[cfg(test)]
#[path = "reception_tests.rs"]
mod tests;
