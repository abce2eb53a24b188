//! A whole node on one thread under virtual time: N workers, each on a simulated reactor, over one
//! simulated network.
//!
//! The workers are the real ones, turned by `turn::step`. Nothing here knows RTMP.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use relay::reactor::Reactor;
use relay::reactor::sim::{SimNet, SimReactor, SimWatch};
use relay::worker::cells::Cells;
use relay::worker::handle::WorkerHandle;
use relay::worker::labels::{Label, Role};
use relay::worker::mailbox::mailboxes;
use relay::worker::report::{Query, Reply};
use relay::worker::settings::Settings;
use relay::worker::{LinkParts, Parts, Shared, TunnelSource, Worker, turn};

/// Where every worker listens: a call lands on one of them by chance.
pub(crate) const ANY_WORKER: u16 = 1_935;

/// Where worker `n` alone listens: `FIRST_WORKER + n`.
pub(crate) const FIRST_WORKER: u16 = 2_000;

/// Turns of one worker at one instant, beyond which it is taken for going round in a circle.
const TURNS_MAX: u32 = 50_000;

/// The node.
pub(crate) struct Node {
    pub(crate) net: SimNet,
    pub(crate) stations: Vec<Station>,
    pub(crate) shared: Arc<Shared>,
}

/// One worker with its reactor.
pub(crate) struct Station {
    pub(crate) worker: Worker,
    pub(crate) reactor: SimReactor,
    pub(crate) cells: Arc<Cells>,
    pub(crate) handle: WorkerHandle,
    /// What a send costs, beyond what it cost when it was measured: work itself takes no time here.
    pub(crate) dearer: u32,
    counted: Work,
    watch: SimWatch,
    due: Duration,
    turned_at: (Duration, u32),
}

impl Node {
    /// A node whose workers accept.
    pub(crate) fn new(net: &SimNet, settings: &Arc<Settings>, workers: usize, seed: u64) -> Self {
        Self::at(net, on(0).ip(), settings, workers, seed, None)
    }

    /// A node on this host, perhaps of a cluster.
    pub(crate) fn at(
        net: &SimNet,
        host: IpAddr,
        settings: &Arc<Settings>,
        workers: usize,
        seed: u64,
        cluster: Option<&relay::cluster::Settings>,
    ) -> Self {
        let shared = Arc::new(Shared::of(workers));
        let stations = mailboxes(workers, settings.limits.mail_ring_max)
            .into_iter()
            .enumerate()
            .map(|(core, mailbox)| {
                let mut reactor = net.reactor_at(host);
                let own_port = FIRST_WORKER + u16::try_from(core).unwrap();
                let mut listen = |port| reactor.listen(SocketAddr::new(host, port)).0;
                let listeners = [ANY_WORKER, own_port].map(&mut listen);
                let links = cluster.map(|settings| LinkParts {
                    settings: settings.clone(),
                    listener: listen(settings.credentials.identity.link_port),
                    tls: None,
                });
                let all = listeners.iter().copied();
                let all = all.chain(links.as_ref().map(|links| links.listener)).collect();
                let cells = Arc::new(Cells::default());
                let (handle, queries) = WorkerHandle::new(
                    core,
                    reactor.backend(),
                    String::new(),
                    Arc::clone(&cells),
                    reactor.waker(),
                );
                mailbox.set_waker(reactor.waker());
                let mut worker = Worker::new(Parts {
                    settings: Arc::clone(settings),
                    mailbox,
                    cells: Arc::clone(&cells),
                    queries,
                    shared: Arc::clone(&shared),
                    listeners: all,
                    links,
                    tunnel: TunnelSource::seeded(seed.wrapping_add(core.try_into().unwrap())),
                    seed: seed.wrapping_add(core.try_into().unwrap()),
                });
                worker.start();
                let watch = reactor.watch();
                let (due, turned_at) = (Duration::ZERO, (Duration::ZERO, 0));
                Station {
                    worker,
                    reactor,
                    cells,
                    handle,
                    dearer: 0,
                    counted: Work::default(),
                    watch,
                    due,
                    turned_at,
                }
            })
            .collect();
        Self { net: net.clone(), stations, shared }
    }

    /// Turns every worker that has something to do at this instant; false when none had.
    pub(crate) fn turn(&mut self) -> bool {
        let now = self.net.now();
        let mut moved = false;
        for station in &mut self.stations {
            moved |= station.turn(now);
        }
        moved
    }

    /// When a worker next does something by itself.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let running = self.stations.iter().filter(|station| !station.worker.has_ended());
        running.map(|station| station.due).min()
    }

    /// Asks a worker; the answer is there after its next turn.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        worker: usize,
        query: impl FnOnce(Reply<T>) -> Query,
    ) -> Answer<T> {
        let (sender, answer) = std::sync::mpsc::channel();
        let reply = Reply::new(move |value| {
            // When nobody waits for it any more there is nobody to tell.
            let _ = sender.send(value);
        });
        self.stations[worker].handle.ask(query(reply)).unwrap();
        Answer(answer)
    }

    /// The sum over all workers.
    pub(crate) fn sum(&self, read: impl Fn(&Cells) -> u64) -> u64 {
        self.stations.iter().map(|station| read(&station.cells)).sum()
    }

    /// Ends at once, without a word to anybody.
    pub(crate) fn crash(&mut self) {
        self.stations.clear();
    }

    /// What was accepted, less what was closed, is what is open.
    pub(crate) fn check_accounts(&self) {
        // Those that we opened have their role from the start. A tunnel's carrier may have gone to
        // another worker.
        let begun = |(of, _)| matches!(of, Role::Pending | Role::Push | Role::Pull);
        let accepted = self.sum(|cells| sum_where(&cells.connections_opened, begun));
        let closed = self.sum(|cells| cells.connections_closed.total());
        let open = self.sum(|cells| cells.connections.total());
        assert_eq!(accepted - closed, open, "{accepted} accepted, {closed} closed");
    }

    /// Nothing is left of anybody: no connection, stream or name, and no memory held for one.
    pub(crate) fn check_empty(&self) {
        self.check_accounts();
        assert_eq!(self.shared.connections(), 0, "connections are still counted");
        assert_eq!(self.shared.most_of_an_address(), 0, "an address has connections left");
        assert_eq!(self.net.connections(), 0, "connections are left in the network");
        for (core, station) in self.stations.iter().enumerate() {
            assert!(station.worker.is_at_rest(), "worker {core} is not at rest");
            assert_eq!(station.reactor.connections(), 0, "worker {core}");
            assert_eq!(station.worker.hub().held_bytes().home, 0, "worker {core}");
            assert_eq!(station.cells.connections.total(), 0, "worker {core}");
            assert_eq!(station.cells.players.total(), 0, "worker {core}");
        }
    }
}

impl Station {
    fn turn(&mut self, now: Duration) -> bool {
        if self.turned_at.0 != now {
            self.turned_at = (now, 0);
        }
        let mut moved = false;
        while !self.worker.has_ended() && (self.due <= now || self.watch.has_work()) {
            self.turned_at.1 += 1;
            assert!(self.turned_at.1 < TURNS_MAX, "a worker turns in a circle at {now:?}");
            self.due = turn::step(&mut self.worker, &mut self.reactor, now);
            self.count_work();
            moved = true;
        }
        moved
    }

    /// Tells the worker how long its sends would have taken: 5.2 us each and 0.2 us for each KiB.
    fn count_work(&mut self) {
        let done = Work { sends: self.cells.sends.get(), bytes: self.cells.egress_bytes.total() };
        let before = std::mem::replace(&mut self.counted, done);
        let (sends, bytes) = (done.sends - before.sends, done.bytes - before.bytes);
        let nanos = sends * 5_200 + bytes * 200 / 1_024;
        self.worker.count_work(Duration::from_nanos(nanos) * self.dearer);
    }
}

/// What a worker has sent.
#[derive(Clone, Copy, Default)]
struct Work {
    sends: u64,
    bytes: u64,
}

/// What a query will be answered.
pub(crate) struct Answer<T>(std::sync::mpsc::Receiver<T>);

impl<T> Answer<T> {
    /// The answer, which must be there.
    pub(crate) fn take(self) -> T {
        self.0.try_recv().unwrap()
    }
}

/// The address of a port of the node.
pub(crate) fn on(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// A number that changes with every event: two runs are the same when theirs are.
#[derive(Clone, Default)]
pub(crate) struct Trace(Rc<RefCell<u64>>);

impl Trace {
    /// Adds an event.
    pub(crate) fn note(&self, at: Duration, who: usize, words: &[u64]) {
        let nanos = u64::try_from(at.as_nanos()).unwrap();
        let mut hash = self.0.borrow_mut();
        for word in [nanos, who.try_into().unwrap()].iter().chain(words) {
            *hash = (*hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }

    /// All events so far.
    pub(crate) fn value(&self) -> u64 {
        *self.0.borrow()
    }
}

/// A label's cell among many, for sums.
pub(crate) fn sum_where<L: Label, const N: usize>(
    family: &relay::worker::cells::Family<L, N>,
    matches: impl Fn(L) -> bool,
) -> u64 {
    family.iter().filter(|(label, _)| matches(*label)).map(|(_, count)| count).sum()
}
