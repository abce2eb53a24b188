//! What a player costs a worker at each flush: its whole way from the seal to the next wait, sends
//! apart.
//!
//! The worker is the real one. Its reactor is a list: it takes what is sent, tells of it, and hands
//! over what the case has its peers say.

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
use relay::worker::mailbox::mailboxes;
use relay::worker::settings::{AppSettings, Settings};
use relay::worker::{Parts, Shared, TunnelSource, Worker, turn};

use super::material;
use super::segments::WINDOW;
use crate::case::{Case, Per, Work};

pub(super) fn cases() -> [Case; 1] {
    [Case {
        name: "worker-1000",
        what: "the whole way of a flush to 1,000 players of a worker",
        per: Per::Each("player and flush"),
        aim: None,
        counted: Some((5, 25)),
        prepare: || flushes(1_000),
    }]
}

fn flushes(players: usize) -> Work {
    let mut rig = Rig::new();
    let publisher = rig.connect(ClientRole::Publish);
    let mut announced = bytes::BytesMut::new();
    ControlMessage::SetChunkSize(CHUNK_BYTES).write(&mut announced);
    rig.says(publisher, announced.to_vec());
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
    rig.says(publisher, frame(true).0);
    rig.turn_until_quiet();
    for _ in 0..players {
        rig.connect(ClientRole::Play);
    }
    Work::new(players, move |meter| {
        let (chunks, bytes) = frame(false);
        rig.now += WINDOW;
        rig.says(publisher, chunks);
        rig.wire.sent = 0;
        meter.measure(|| rig.turn_until_quiet());
        assert_eq!(rig.wire.sent, players * bytes, "every player has everything");
    })
}

/// As most encoders choose it.
const CHUNK_BYTES: u32 = 4_096;

/// A worker, what it is connected to, and its time.
struct Rig {
    worker: Worker,
    wire: Wire,
    now: Duration,
    peers: u64,
    /// Kept for as long as the worker may look what it is asked.
    _handle: WorkerHandle,
}

impl Rig {
    fn new() -> Self {
        // A short log: what a player at the head costs does not depend on it.
        let short = Duration::from_millis(100);
        let limits = Limits { log_span: short, gop_span_max: short, ..Limits::default() };
        let other_apps = AppSettings { flush: Some(Duration::ZERO), ..AppSettings::default() };
        let settings = Arc::new(Settings { limits, other_apps, ..Settings::default() });
        let mailbox = mailboxes(1, settings.limits.mail_ring_max).remove(0);
        let wire = Wire::default();
        let cells = Arc::new(Cells::default());
        let waker = wire.waker();
        mailbox.set_waker(waker.clone());
        let (handle, queries) =
            WorkerHandle::new(0, wire.backend(), String::new(), Arc::clone(&cells), waker);
        let mut worker = Worker::new(Parts {
            settings,
            mailbox,
            cells,
            queries,
            shared: Arc::new(Shared::of(1)),
            listeners: vec![ListenerKey(0)],
            tunnel: TunnelSource::seeded(1),
            seed: 1,
        });
        worker.start();
        Self { worker, wire, now: Duration::from_secs(1), peers: 0, _handle: handle }
    }

    /// What a peer says is heard with the next turn.
    fn says(&mut self, peer: ConnectionKey, bytes: Vec<u8>) {
        self.wire.told.push_back(Told::Received(peer, bytes));
    }

    fn turn_until_quiet(&mut self) {
        loop {
            let due = turn::step(&mut self.worker, &mut self.wire, self.now);
            if due > self.now && self.wire.told.is_empty() {
                return;
            }
        }
    }

    /// A peer that publishes or plays the one stream there is.
    fn connect(&mut self, role: ClientRole) -> ConnectionKey {
        let key = ConnectionKey(1 << 24 | self.peers);
        self.peers += 1;
        self.wire.told.push_back(Told::Accepted(key));
        let settings = ClientSettings {
            app: "live".to_owned(),
            tc_url: "rtmp://relay.example/live".to_owned(),
            name: "camera".to_owned(),
            role,
            enhanced: false,
        };
        let limits = Arc::new(Limits::default());
        let mut client = ClientSession::new(settings, limits, self.peers, self.now);
        self.wire.answers = Some(Vec::new());
        for _ in 0..ROUNDS {
            while let Some(bytes) = client.take_output() {
                self.says(key, bytes.to_vec());
            }
            self.turn_until_quiet();
            let answers = self.wire.answers.replace(Vec::new()).unwrap_or_default();
            let mut rest = answers.as_slice();
            while client.next_event(&mut rest, self.now).expect("the relay is sound").is_some() {}
        }
        self.wire.answers = None;
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
