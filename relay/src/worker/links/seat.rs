//! The cluster's machine on worker 0: what the registrar and the links tell it, and what it asks.
//!
//! Everything comes by mail, also from this worker, so that nothing happens while a command is
//! carried out. Which link brings a stream is known here; whether it may is the registrar's.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::line::Dialled;
use super::siblings::Siblings;
use super::{FeedOrder, LinkMail};
use crate::cluster::{Cluster, Command, Conflict, Counters, Line, NodeKey, Note, Settings, Term};
use crate::limits::NO_BYTES_LIMIT;
use crate::reactor::ConnectionKey;
use crate::worker::labels::{Label, LinkRefusal};
use crate::worker::mail::{Mail, Order, Party, Refusal, Request, WorkerIndex};
use crate::worker::outside::News;
use crate::worker::registrar::Tiding;
use crate::worker::settings::{PublishConflict, UnknownStream};
use crate::worker::{Ending, Worker};

/// The machine and what belongs to it.
pub(super) struct Seat {
    pub(super) cluster: Cluster,
    lines: HashMap<Line, Place>,
    /// Which link brings a stream from a node.
    takers: BTreeMap<(Arc<str>, NodeKey), Party>,
    /// Which node's link is to be read into each stream's log.
    adopted: BTreeMap<Arc<str>, (NodeKey, Term)>,
    /// The last order to feed each stream to a node, by its number: whatever is heard of an earlier
    /// one is over.
    orders: BTreeMap<(Arc<str>, NodeKey), u64>,
    ordered: u64,
    /// What the machine had refused when it was last looked at.
    counted: Counters,
    /// When clocks were last told to all workers, and audiences to feeders.
    told_clocks: Duration,
    told_audiences: Duration,
    /// What workers were last told of the other nodes.
    pub(super) told_siblings: Siblings,
}

/// Where a control connection is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Dialling(u64),
    Open(WorkerIndex, ConnectionKey),
}

/// How often all workers are told of the clocks of other nodes.
const CLOCKS_EVERY: Duration = Duration::from_secs(1);

/// How often feeders are told how many players depend on what they feed.
const AUDIENCES_EVERY: Duration = Duration::from_secs(2);

impl Seat {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            cluster: Cluster::new(settings),
            lines: HashMap::new(),
            takers: BTreeMap::new(),
            adopted: BTreeMap::new(),
            orders: BTreeMap::new(),
            ordered: 0,
            counted: Counters::default(),
            told_clocks: Duration::ZERO,
            told_audiences: Duration::ZERO,
            told_siblings: Siblings::default(),
        }
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.cluster.next_due()
    }

    /// A connection that was dialled is open on this worker.
    pub(super) fn opened(&mut self, line: Line, key: ConnectionKey) {
        self.lines.insert(line, Place::Open(crate::worker::REGISTRAR, key));
    }
}

impl Worker {
    /// Tells the machine something and does what it asks for.
    pub(super) fn with_cluster(&mut self, now: Duration, tell: impl FnOnce(&mut Cluster)) {
        let Some(seat) = &mut self.links.seat else { return };
        tell(&mut seat.cluster);
        while let Some(command) =
            self.links.seat.as_mut().and_then(|seat| seat.cluster.next_command())
        {
            self.obey_cluster(command, now);
        }
    }

    /// There are other limits from now on.
    pub(in crate::worker) fn limit_cluster(&mut self) {
        if let Some(seat) = &mut self.links.seat {
            seat.cluster.set_limits(&self.limits);
        }
    }

    /// Does what is due.
    pub(in crate::worker) fn drive_cluster(&mut self, now: Duration) {
        if self.links.next_due().is_some_and(|due| due <= now) {
            self.with_cluster(now, |cluster| cluster.tick(now));
        }
    }

    /// The addresses of nodes were looked up.
    pub(in crate::worker) fn take_peers(&mut self, addresses: &[SocketAddr], now: Duration) {
        self.with_cluster(now, |cluster| cluster.addresses(addresses, now));
    }

    /// An operator gives an order that holds on all nodes, or takes one back.
    pub(in crate::worker) fn take_order(&mut self, order: crate::cluster::Order, now: Duration) {
        self.with_cluster(now, |cluster| cluster.order(order, now));
    }

    /// A request to the registrar, which lives on this worker.
    pub(in crate::worker) fn decide(&mut self, mut request: Request, now: Duration) {
        if let Some(seat) = &self.links.seat {
            match &mut request {
                Request::Claim { publisher, name, address, conflict, .. } => {
                    let busy = seat.cluster.is_busy(name);
                    let refusal = if busy && *conflict == PublishConflict::Reject {
                        Some(Refusal::Busy)
                    } else if let Err(why) = seat.cluster.may_claim(name) {
                        tracing::warn!(stream = &**name, detail = %why, "publish refused");
                        Some(Refusal::TooManyStreams)
                    } else if busy
                        && let Some(registrar) = &mut self.registrar
                        && registrar.holds_off(name, *address, now, &self.limits)
                    {
                        Some(Refusal::HeldOff)
                    } else {
                        None
                    };
                    if let Some(refusal) = refusal {
                        let publisher = *publisher;
                        let order = Order::Refuse { publisher, refusal };
                        self.mailbox.send(publisher.worker, Mail::Order(order));
                        return;
                    }
                }
                Request::Want { name, unknown, .. }
                    if seat.cluster.stream(name).is_some_and(|known| known.term.is_some()) =>
                {
                    *unknown = UnknownStream::Wait;
                }
                _ => {}
            }
        }
        let settings = Arc::clone(&self.settings);
        self.with_registrar(now, |registrar, send| registrar.handle(request, now, &settings, send));
    }

    /// What the registrar does by itself.
    pub(in crate::worker) fn tick_registrar(&mut self, now: Duration) {
        let (settings, egress) = (Arc::clone(&self.settings), self.shared.egress_total());
        if let (Some(registrar), Some(seat)) = (&mut self.registrar, &self.links.seat) {
            registrar.see_feeds(|name| seat.cluster.is_fed(name), now, &settings);
        }
        self.with_registrar(now, |registrar, send| registrar.tick(egress, now, &settings, send));
    }

    /// Has the registrar do something, sends the mail that follows, and tells the cluster.
    fn with_registrar(
        &mut self,
        now: Duration,
        act: impl FnOnce(&mut crate::worker::registrar::Registrar, &mut dyn FnMut(WorkerIndex, Mail)),
    ) {
        let Some(registrar) = self.registrar.as_mut() else { return };
        if self.links.seat.is_none() {
            let mailbox = &mut self.mailbox;
            act(registrar, &mut |to, mail| mailbox.send(to, mail));
            return;
        }
        let mut sent = Vec::new();
        act(registrar, &mut |to, mail| sent.push((to, mail)));
        let tidings = registrar.take_tidings();
        for (to, mut mail) in sent {
            if let Mail::Order(Order::Grant { name, term: term @ None, link: false, .. }) =
                &mut mail
            {
                let name = Arc::clone(name);
                let mut granted = None;
                self.with_cluster(now, |cluster| {
                    granted = cluster.claim(&name, Conflict::Takeover, now).ok();
                });
                if granted.is_none() {
                    // It became full while the claim waited for another publisher to yield.
                    tracing::warn!(stream = &*name, "the stream is published on this node only");
                }
                *term = granted;
            }
            self.mailbox.send(to, mail);
        }
        for tiding in tidings {
            self.hear_tiding(tiding, now);
        }
    }

    fn hear_tiding(&mut self, tiding: Tiding, now: Duration) {
        match tiding {
            Tiding::Wanted(name) => self.with_cluster(now, |cluster| cluster.wanted(&name, now)),
            Tiding::Unwanted(name) => {
                self.with_cluster(now, |cluster| cluster.unwanted(&name, now))
            }
            Tiding::Live(name) => self.with_cluster(now, |cluster| cluster.live(&name, now)),
            Tiding::Resting(name) => {
                self.with_cluster(now, |cluster| cluster.resting(&name, now));
                self.claim_adopted(&name, now);
            }
            Tiding::Ended(name) => self.with_cluster(now, |cluster| cluster.released(&name, now)),
            Tiding::Rate(name, rate) => {
                let kbit = u32::try_from(rate / 125).unwrap_or(u32::MAX);
                self.with_cluster(now, |cluster| cluster.set_rate(&name, kbit));
            }
        }
    }

    /// The link that is to be read claims the stream's name, unless a publisher here has it.
    fn claim_adopted(&mut self, name: &Arc<str>, now: Duration) {
        let Some(seat) = &self.links.seat else { return };
        let Some((from, term)) = seat.adopted.get(name).copied() else { return };
        let Some(party) = seat.takers.get(&(Arc::clone(name), from)).copied() else { return };
        let Some(registrar) = &self.registrar else { return };
        if registrar.holder(name).is_some_and(|(_, link)| !link) {
            return;
        }
        if registrar.home(name).is_none() && self.is_out_of_memory() {
            self.drop_taking(party);
            self.decline(name, from, now);
            return;
        }
        let players = registrar.players_of(name);
        let settings = Arc::clone(&self.settings);
        self.with_registrar(now, |registrar, send| {
            registrar.claim_link(party, name, term, now, &settings, send);
        });
        // The feeder knows from the start for how many it is.
        self.tell_audience_of(party, players);
    }

    /// There is no room for a stream that was taken up: it is asked for again later.
    fn decline(&mut self, name: &Arc<str>, from: NodeKey, now: Duration) {
        let Some(seat) = &mut self.links.seat else { return };
        seat.takers.remove(&(Arc::clone(name), from));
        if seat.adopted.get(name).is_some_and(|(node, _)| *node == from) {
            seat.adopted.remove(name);
        }
        self.cells.link_refused.at(LinkRefusal::NoRoom).increment();
        tracing::warn!(stream = &**name, node = %from, "there is no room for a stream of that node");
        self.with_cluster(now, |cluster| cluster.declined(name, from, now));
    }

    /// What links tell the machine.
    pub(super) fn tell_cluster(&mut self, mail: LinkMail, now: Duration) {
        let Some(seat) = &mut self.links.seat else { return };
        match mail {
            LinkMail::Opened { line, from, party, binding } => {
                seat.lines.insert(line, Place::Open(party.worker, party.connection));
                self.with_cluster(now, |cluster| cluster.accepted(line, from, binding, now));
            }
            LinkMail::Heard { line, payload } => {
                self.with_cluster(now, |cluster| cluster.received(line, &payload, now));
            }
            LinkMail::Closed { line } => {
                let known = seat.lines.remove(&line).is_some();
                self.with_cluster(now, |cluster| {
                    if known {
                        cluster.closed(line, now);
                    }
                });
            }
            LinkMail::Fed { name, from, term, path, by } => {
                let before = seat.takers.insert((Arc::clone(&name), from), by);
                let moved = before.filter(|before| *before != by);
                let reads = seat.adopted.get(&name) == Some(&(from, term));
                if let Some(before) = moved {
                    self.drop_taking(before);
                }
                self.with_cluster(now, |cluster| cluster.fed(&name, from, term, &path, now));
                if moved.is_some() && reads {
                    self.claim_adopted(&name, now);
                }
            }
            LinkMail::Quiet { name, from, by } => {
                let known = seat.takers.get(&(Arc::clone(&name), from)) == Some(&by);
                self.with_cluster(now, |cluster| {
                    if known {
                        cluster.quiet(&name, from, now);
                    }
                });
            }
            LinkMail::Unfed { name, from, by } => {
                let key = (Arc::clone(&name), from);
                if seat.takers.get(&key) == Some(&by) {
                    seat.takers.remove(&key);
                    if seat.adopted.get(&name).is_some_and(|(node, _)| *node == from) {
                        seat.adopted.remove(&name);
                    }
                    self.with_cluster(now, |cluster| cluster.unfed(&name, from, now));
                }
            }
            LinkMail::Declined { name, from, by }
                if seat.takers.get(&(Arc::clone(&name), from)) == Some(&by) =>
            {
                self.decline(&name, from, now);
            }
            LinkMail::Adopted { name } => self.claim_adopted(&name, now),
            LinkMail::Vanished { name } => {
                let limits = Arc::clone(&self.limits);
                self.with_registrar(now, |registrar, _| registrar.vanished(&name, now, &limits));
            }
            LinkMail::FeedEnded { name, to, number } => {
                let key = (Arc::clone(&name), to);
                if seat.orders.get(&key) == Some(&number) {
                    seat.orders.remove(&key);
                    self.with_cluster(now, |cluster| cluster.feed_ended(&name, to, now));
                }
            }
            _ => {}
        }
    }

    fn obey_cluster(&mut self, command: Command, now: Duration) {
        match command {
            Command::Dial { line, address } => {
                let token = self.dial_link(Dialled::Control(line), address);
                if let Some(seat) = &mut self.links.seat {
                    seat.lines.insert(line, Place::Dialling(token));
                }
            }
            Command::Send { line, payload } => {
                let place = self.links.seat.as_ref().and_then(|seat| seat.lines.get(&line));
                if let Some(Place::Open(worker, connection)) = place.copied() {
                    self.mail_link(worker, LinkMail::Say { connection, payload });
                }
            }
            Command::Close { line } => {
                let place = self.links.seat.as_mut().and_then(|seat| seat.lines.remove(&line));
                match place {
                    Some(Place::Dialling(token)) => {
                        self.links.dialling.remove(&token);
                    }
                    Some(Place::Open(worker, connection)) => {
                        self.mail_link(worker, LinkMail::Close { connection });
                    }
                    None => {}
                }
            }
            // Players learn of a stream when its link is granted; those who would be refused are
            // judged by the directory.
            Command::Appeared { .. } => {}
            Command::Vanished { name } => self.tell_seat(LinkMail::Vanished { name }),
            Command::Changed { name } => {
                if let Some(registrar) = &mut self.registrar {
                    registrar.changed_elsewhere(&name);
                }
            }
            Command::Yield { name, .. } => {
                let holder = self.registrar.as_ref().and_then(|registrar| registrar.holder(&name));
                if let Some((publisher, false)) = holder {
                    tracing::info!(stream = &*name, "the stream was taken over on another node");
                    let order = Mail::Order(Order::Overtaken { publisher });
                    self.mailbox.send(publisher.worker, order);
                }
                if let Some(registrar) = &mut self.registrar {
                    registrar.overtaken(&name, now, &self.limits);
                }
            }
            Command::Met { line, zone } => {
                let place = self.links.seat.as_ref().and_then(|seat| seat.lines.get(&line));
                if let Some(Place::Open(worker, connection)) = place.copied() {
                    let zone = self.links.zone_of(&zone);
                    self.mail_link(worker, LinkMail::Met { connection, zone });
                }
            }
            Command::Feed { name, term, to, address, path } => {
                let Some(seat) = &mut self.links.seat else { return };
                seat.ordered += 1;
                let number = seat.ordered;
                seat.orders.insert((Arc::clone(&name), to), number);
                let order = FeedOrder { number, name, term, to, address, path };
                match self.home(&order.name) {
                    Some((stream, home)) => self.mail_link(home, LinkMail::Feed { stream, order }),
                    None => {
                        let (name, to) = (order.name, order.to);
                        self.tell_seat(LinkMail::FeedEnded { name, to, number });
                    }
                }
            }
            Command::Repath { name, path } => {
                if let Some((stream, home)) = self.home(&name) {
                    self.mail_link(home, LinkMail::Repath { stream, path });
                }
            }
            Command::StopFeed { name, to } => {
                if let Some(seat) = &mut self.links.seat {
                    seat.orders.remove(&(Arc::clone(&name), to));
                }
                if let Some((stream, home)) = self.home(&name) {
                    self.mail_link(home, LinkMail::StopFeed { stream, to });
                }
            }
            Command::Adopt { name, from, term } => {
                tracing::info!(stream = &*name, source = %term, node = %from, "stream comes from");
                if let Some(seat) = &mut self.links.seat {
                    seat.adopted.insert(Arc::clone(&name), (from, term));
                }
                self.tell_seat(LinkMail::Adopted { name });
            }
            Command::Drop { name, from } => {
                let Some(seat) = &mut self.links.seat else { return };
                if seat.adopted.get(&name).is_some_and(|(node, _)| *node == from) {
                    seat.adopted.remove(&name);
                }
                if let Some(party) = seat.takers.remove(&(name, from)) {
                    self.drop_taking(party);
                }
            }
            Command::Ordered(order) => self.tell_news(News::Ordered(order)),
            Command::Note(note) => match note {
                Note::Joined(_) => tracing::info!("{note}"),
                _ => tracing::warn!("{note}"),
            },
        }
    }

    fn drop_taking(&mut self, party: Party) {
        let Party { worker, connection, message_stream } = party;
        self.mail_link(worker, LinkMail::Drop { connection, message_stream });
    }

    fn home(&self, name: &str) -> Option<(crate::worker::mail::StreamId, WorkerIndex)> {
        self.registrar.as_ref()?.home(name)
    }

    fn mail_link(&mut self, to: WorkerIndex, mail: LinkMail) {
        self.mailbox.send(to, Mail::Link(Box::new(mail)));
    }

    /// Whether another node keeps a name. If so the control thread is told besides when that
    /// changes, though nobody here may have anything to do with it.
    pub(in crate::worker) fn is_elsewhere(&mut self, name: &Arc<str>) -> bool {
        let is_kept = self.links.is_kept_elsewhere(name);
        if let Some(registrar) = self.registrar.as_mut().filter(|_| is_kept) {
            registrar.changed_elsewhere(name);
        }
        is_kept
    }

    /// Looks after links and the machine. Called at every sweep.
    pub(in crate::worker) fn tend_links(&mut self, now: Duration) {
        if !self.links.is_on() {
            return;
        }
        self.end_late_links(now);
        self.end_unknown_links(now);
        self.hear_silence(now);
        self.tend_out_links(now);
        self.show_links();
        let Some(seat) = &mut self.links.seat else { return };
        let most = self.limits.egress_rate_max;
        let used = usize::try_from(self.shared.egress_total()).unwrap_or(usize::MAX);
        let spare = match most {
            NO_BYTES_LIMIT.. => u32::MAX,
            _ => u32::try_from(most.saturating_sub(used) / 125).unwrap_or(u32::MAX),
        };
        seat.cluster.set_spare(spare, self.ending != Ending::No);
        seat.cluster.set_full(self.cells.full.iter().any(|(_, full)| full > 0));
        self.tell_siblings();
        let Some(seat) = &mut self.links.seat else { return };
        let counters = *seat.cluster.counters();
        self.cells.link_adopted.set(counters.adopted);
        self.cells.link_yielded.set(counters.yielded);
        self.cells.nodes.set(u64::try_from(seat.cluster.usage().peers).unwrap_or(u64::MAX));
        for (index, count) in counters.refused.into_iter().enumerate() {
            let own = self.links.refused.get(index).copied().unwrap_or(0);
            self.cells.link_refused.at(LinkRefusal::at(index)).set(own + count);
        }
        let before = std::mem::replace(&mut seat.counted, counters);
        let oneself = crate::cluster::Refusal::Oneself.index();
        if before.refused[oneself] == 0 && counters.refused[oneself] > 0 {
            tracing::info!("the list of nodes names this one, too: it is passed over");
        }
        let strangers = counters.strangers_refused - before.strangers_refused;
        if strangers > 0 {
            tracing::warn!(links = strangers, "links refused: too many have not greeted yet");
        }
        let announced = counters.announcements_refused - before.announcements_refused;
        for (reason, more) in [
            (LinkRefusal::Strangers, strangers),
            (LinkRefusal::Announcements, announced),
            (LinkRefusal::Unasked, counters.unasked - before.unasked),
            (LinkRefusal::Loop, counters.loops_refused - before.loops_refused),
        ] {
            self.cells.link_refused.at(reason).add(more);
        }
        if now >= seat.told_clocks + CLOCKS_EVERY {
            seat.told_clocks = now;
            self.tell_known();
        }
        let Some(seat) = &mut self.links.seat else { return };
        if now >= seat.told_audiences + AUDIENCES_EVERY {
            seat.told_audiences = now;
            self.tell_audiences();
        }
    }

    fn tell_known(&mut self) {
        let Some(seat) = &self.links.seat else { return };
        let known = seat.cluster.peers().map(|peer| (peer.identity.key, peer.clock));
        let nodes: Arc<[_]> = known.collect();
        for worker in 0..self.mailbox.workers() {
            self.mail_link(worker, LinkMail::Known { nodes: Arc::clone(&nodes) });
        }
    }

    fn tell_audiences(&mut self) {
        let (Some(seat), Some(registrar)) = (&self.links.seat, &self.registrar) else { return };
        let audience = |(name, (from, _)): (&Arc<str>, &(NodeKey, Term))| {
            let party = *seat.takers.get(&(Arc::clone(name), *from))?;
            Some((party, registrar.players_of(name)))
        };
        let audiences: Vec<(Party, usize)> = seat.adopted.iter().filter_map(audience).collect();
        for (party, players) in audiences {
            self.tell_audience_of(party, players);
        }
    }

    fn tell_audience_of(&mut self, party: Party, players: usize) {
        let Party { worker, connection, message_stream } = party;
        let players = u32::try_from(players).unwrap_or(u32::MAX);
        self.mail_link(worker, LinkMail::Audience { connection, message_stream, players });
    }

    /// The node is on its way out: who is fed from here is to be fed from elsewhere.
    pub(in crate::worker) fn drain_links(&mut self, now: Duration) {
        self.with_cluster(now, |cluster| cluster.drain(now));
    }

    /// The node ends: the others need not wait until it is silent.
    pub(super) fn leave_cluster(&mut self, now: Duration) {
        let mut said = Vec::new();
        if let Some(seat) = &mut self.links.seat {
            seat.cluster.leave(now);
            while let Some(command) = seat.cluster.next_command() {
                if let Command::Send { line, payload } = command
                    && let Some(Place::Open(0, connection)) = seat.lines.get(&line)
                {
                    said.push((*connection, payload));
                }
            }
        }
        for (connection, payload) in said {
            self.say_on_line(connection, &payload, now);
        }
    }
}
