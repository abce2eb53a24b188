//! What a player costs a worker at each flush: its whole way from the seal to the next wait, sends
//! apart.
//!
//! The workers are real ones. Their reactors are lists: each takes what is sent, tells of it, and
//! hands over what the case has its peers say. That cores add up is seen when the same players are
//! shared out over two workers: the stream comes to the second one by mail.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use relay::limits::Limits;
use relay::reactor::{
    Completion, ConnectionKey, ListenerKey, Operation, Reactor, ReactorCounters, Waker,
};
use relay::session::{ClientRole, ClientSession, ClientSettings};
use relay::wire::control::ControlMessage;
use relay::worker::cells::Cells;
use relay::worker::handle::WorkerHandle;
use relay::worker::mailbox::{Mailbox, mailboxes};
use relay::worker::settings::{AppSettings, Settings};
use relay::worker::{Parts, Shared, TunnelSource, Worker, turn};

use super::material;
use super::segments::WINDOW;
use crate::case::{Case, Per, Work};

pub(super) fn cases() -> [Case; 2] {
    const PER: Per = Per::Each("player and flush");
    [
        Case {
            name: "worker-1000",
            what: "the whole way of a flush to 1,000 players of a worker",
            per: PER,
            aim: None,
            counted: Some((5, 25)),
            prepare: || flushes(1, 1_000),
        },
        Case {
            name: "workers-2x500",
            what: "the same to 500 players of its own and 500 of another worker",
            per: PER,
            aim: None,
            counted: Some((5, 25)),
            prepare: || flushes(2, 500),
        },
    ]
}

/// A flush to so many players of each of so many workers, the first of which has the publisher.
fn flushes(workers: usize, each: usize) -> Work {
    let players = workers * each;
    let mut rig = Rig::new(workers);
    let publisher = rig.connect(0, ClientRole::Publish);
    let mut announced = bytes::BytesMut::new();
    ControlMessage::SetChunkSize(CHUNK_BYTES).write(&mut announced);
    rig.says(0, publisher, announced.to_vec());
    let mut timestamp = 0;
    let mut frame = move |is_key| {
        timestamp += 20;
        let frame = material::video(is_key, timestamp, 5_900);
        let chunk_bytes = usize::try_from(CHUNK_BYTES).expect("a chunk is short");
        (
            material::chunks(std::slice::from_ref(&frame), chunk_bytes),
            frame.assembled().wire_bytes(),
        )
    };
    rig.says(0, publisher, frame(true).0);
    rig.turn_until_quiet();
    for player in 0..players {
        rig.connect(player % workers, ClientRole::Play);
    }
    Work::new(players, move |meter| {
        let (chunks, bytes) = frame(false);
        rig.now += WINDOW;
        rig.says(0, publisher, chunks);
        rig.cores.iter_mut().for_each(|core| core.wire.sent = 0);
        meter.measure(|| rig.turn_until_quiet());
        for core in &rig.cores {
            assert_eq!(core.wire.sent, each * bytes, "every player has everything");
        }
    })
}

/// As most encoders choose it.
const CHUNK_BYTES: u32 = 4_096;

/// Workers, what they are connected to, and their time.
struct Rig {
    cores: Vec<Core>,
    now: Duration,
    peers: u64,
}

struct Core {
    worker: Worker,
    wire: Wire,
    /// Kept for as long as the worker may look what it is asked.
    _handle: WorkerHandle,
}

impl Rig {
    fn new(workers: usize) -> Self {
        // A short log: what a player at the head costs does not depend on it.
        let short = Duration::from_millis(100);
        let limits = Limits { log_span: short, gop_span_max: short, ..Limits::default() };
        let other_apps = AppSettings { flush: Some(Duration::ZERO), ..AppSettings::default() };
        let settings = Arc::new(Settings { limits, other_apps, ..Settings::default() });
        let shared = Arc::new(Shared::of(workers));
        let core = |(index, mailbox): (usize, Mailbox)| {
            let wire = Wire::default();
            let cells = Arc::new(Cells::default());
            let waker = wire.waker();
            mailbox.set_waker(waker.clone());
            let (handle, queries) =
                WorkerHandle::new(index, wire.backend(), String::new(), Arc::clone(&cells), waker);
            let mut worker = Worker::new(Parts {
                settings: Arc::clone(&settings),
                mailbox,
                cells,
                queries,
                shared: Arc::clone(&shared),
                listeners: vec![ListenerKey(0)],
                tunnel: TunnelSource::seeded(1),
                links: None,
                seed: 1,
            });
            worker.start();
            Core { worker, wire, _handle: handle }
        };
        let mailboxes = mailboxes(workers, settings.limits.mail_ring_max);
        let cores = mailboxes.into_iter().enumerate().map(core).collect();
        Self { cores, now: Duration::from_secs(1), peers: 0 }
    }

    /// What a peer says is heard with the next turn.
    fn says(&mut self, core: usize, peer: ConnectionKey, bytes: Vec<u8>) {
        self.cores[core].wire.told.push_back(Told::Received(peer, bytes));
    }

    /// Turns until nobody has anything left to do, mail to each other included.
    fn turn_until_quiet(&mut self) {
        let mut quiet = 0;
        while quiet < self.cores.len() {
            quiet += 1;
            for Core { worker, wire, .. } in &mut self.cores {
                let due = turn::step(worker, wire, self.now);
                if due <= self.now || !wire.told.is_empty() {
                    quiet = 0;
                }
            }
        }
    }

    /// A peer that publishes or plays the one stream there is.
    fn connect(&mut self, core: usize, role: ClientRole) -> ConnectionKey {
        let key = ConnectionKey(1 << 24 | self.peers);
        self.peers += 1;
        self.cores[core].wire.told.push_back(Told::Accepted(key));
        let settings = ClientSettings {
            app: "live".to_owned(),
            tc_url: "rtmp://relay.example/live".to_owned(),
            name: "camera".to_owned(),
            role,
            enhanced: false,
        };
        let limits = Arc::new(Limits::default());
        let mut client = ClientSession::new(settings, limits, self.peers, self.now);
        self.cores[core].wire.answers = Some(Vec::new());
        for _ in 0..ROUNDS {
            while let Some(bytes) = client.take_output() {
                self.says(core, key, bytes.to_vec());
            }
            self.turn_until_quiet();
            let answers = self.cores[core].wire.answers.replace(Vec::new()).unwrap_or_default();
            let mut rest = answers.as_slice();
            while client.next_event(&mut rest, self.now).expect("the relay is sound").is_some() {}
        }
        self.cores[core].wire.answers = None;
        key
    }
}

/// Answers after which a client has published or plays.
const ROUNDS: usize = 8;

/// A reactor without a kernel.
#[derive(Default)]
struct Wire {
    told: VecDeque<Told>,
    /// Bytes sent.
    sent: usize,
    /// What was sent, while somebody reads it.
    answers: Option<Vec<u8>>,
    sends: u64,
}

enum Told {
    Accepted(ConnectionKey),
    Received(ConnectionKey, Vec<u8>),
    Sent(ConnectionKey, usize),
}

impl Reactor for Wire {
    fn submit(&mut self, operations: &mut Vec<Operation>) {
        for operation in operations.drain(..) {
            if let Operation::Send { connection, batch } = operation {
                let bytes = batch.bytes();
                if let Some(answers) = &mut self.answers {
                    batch.slices().iter().for_each(|slice| answers.extend_from_slice(slice));
                }
                self.sent += bytes;
                self.sends += 1;
                self.told.push_back(Told::Sent(connection, bytes));
            }
        }
    }

    fn wait(&mut self, _timeout: Option<Duration>) {}

    fn drain(&mut self, each: &mut dyn FnMut(Completion<'_>)) {
        for _ in 0..self.told.len() {
            match self.told.pop_front() {
                Some(Told::Accepted(connection)) => {
                    let number = u32::try_from(connection.slot()).unwrap_or_default();
                    // Each comes from an address of its own: there are limits for one.
                    let host = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
                    let peer = SocketAddr::from((host, 40_000));
                    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 1_935));
                    let listener = ListenerKey(0);
                    each(Completion::Accepted { listener, connection, peer, local });
                }
                Some(Told::Received(connection, bytes)) => {
                    each(Completion::Received { connection, bytes: &bytes });
                }
                Some(Told::Sent(connection, bytes)) => {
                    each(Completion::Sent { connection, bytes });
                }
                None => return,
            }
        }
    }

    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }

    fn counters(&self) -> ReactorCounters {
        ReactorCounters { sends: self.sends, ..ReactorCounters::default() }
    }

    fn backend(&self) -> &'static str {
        "list"
    }
}
