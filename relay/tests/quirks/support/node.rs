//! One real worker on the simulated reactor, under virtual time, and clients of it.

use std::sync::Arc;
use std::time::Duration;

use relay::reactor::Reactor;
use relay::reactor::sim::{SimEndpoint, SimFaults, SimNet, SimReactor, SimRead, SimWatch};
use relay::worker::cells::Cells;
use relay::worker::handle::WorkerHandle;
use relay::worker::mailbox::mailboxes;
use relay::worker::report::{Query, Reply};
use relay::worker::settings::Settings;
use relay::worker::verdicts::Answer;
use relay::worker::{Parts, Shared, TunnelSource, Worker, turn};

use super::script::{HELLO, Script};
use super::shown::{Message, Reader};

/// A node of one worker.
pub(crate) struct Node {
    pub(crate) cells: Arc<Cells>,
    pub(crate) shared: Arc<Shared>,
    net: SimNet,
    worker: Worker,
    reactor: SimReactor,
    watch: SimWatch,
    address: std::net::SocketAddr,
    due: Duration,
    handle: WorkerHandle,
}

/// A client of the node, who reads all that comes.
pub(crate) struct Client {
    endpoint: SimEndpoint,
    unwritten: Vec<u8>,
    received: usize,
    reader: Reader,
    messages: Vec<Message>,
    /// Bytes for a client that reads them by itself.
    raw: Vec<u8>,
    pub(crate) ended: bool,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let net = SimNet::new(1, SimFaults::default());
        let mut reactor = net.reactor();
        let (listener, address) = reactor.listen("10.0.0.1:1935".parse().unwrap());
        let settings = Arc::new(settings);
        let mailbox = mailboxes(1, settings.limits.mail_ring_max).remove(0);
        let cells = Arc::new(Cells::default());
        let (backend, waker) = (reactor.backend(), reactor.waker());
        let (handle, queries) =
            WorkerHandle::new(0, backend, String::new(), Arc::clone(&cells), waker);
        mailbox.set_waker(reactor.waker());
        let shared = Arc::new(Shared::of(1));
        let listeners = vec![listener];
        let (own, tunnel) = (Arc::clone(&cells), TunnelSource::seeded(1));
        let parts = Parts {
            settings,
            mailbox,
            cells: own,
            queries,
            shared: Arc::clone(&shared),
            listeners,
            seed: 1,
            tunnel,
            links: None,
        };
        let mut worker = Worker::new(parts);
        worker.start();
        let watch = reactor.watch();
        let due = Duration::ZERO;
        Self { cells, shared, net, worker, reactor, watch, address, due, handle }
    }

    /// Goes by other settings from the next turn on.
    pub(crate) fn go_by(&mut self, settings: Settings) {
        let (settings, reply) = (Arc::new(settings), Reply::new(|()| {}));
        self.handle.ask(Query::Settings { settings, reply }).unwrap();
        self.run(&mut [], 1);
    }

    /// Brings an answer of a back end, as the control thread does.
    pub(crate) fn answer(&mut self, answer: Answer) {
        self.handle.answer(answer).unwrap();
    }

    /// A client that has connected and said nothing.
    pub(crate) fn connect(&self) -> Client {
        Client::new(self.net.connect(self.address))
    }

    /// The same from another address.
    pub(crate) fn connect_from(&self, host: &str) -> Client {
        Client::new(self.net.connect_from(host.parse().unwrap(), self.address))
    }
    /// A client that sends `script` and is given time for it.
    pub(crate) fn client(&mut self, script: &Script) -> Client {
        let mut client = self.connect();
        client.send(&script.out);
        self.run(&mut [&mut client], 300);
        client
    }

    /// Lets so many milliseconds pass, in which these clients write and read.
    pub(crate) fn run(&mut self, clients: &mut [&mut Client], milliseconds: u64) {
        let end = self.net.now() + Duration::from_millis(milliseconds);
        loop {
            loop {
                let now = self.net.now();
                let mut busy = false;
                while self.due <= now || self.watch.has_work() {
                    self.due = turn::step(&mut self.worker, &mut self.reactor, now);
                    busy = true;
                }
                for client in clients.iter_mut() {
                    busy |= client.work();
                }
                if !busy {
                    break;
                }
            }
            if self.net.now() >= end {
                return;
            }
            let next = self.net.next_event_time().unwrap_or(end).min(self.due).min(end);
            self.net.advance_to(next);
        }
    }
}

impl Client {
    fn new(endpoint: SimEndpoint) -> Self {
        Self {
            endpoint,
            unwritten: Vec::new(),
            received: 0,
            reader: Reader::new(),
            messages: Vec::new(),
            raw: Vec::new(),
            ended: false,
        }
    }

    /// Gives bytes to be sent.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.unwritten.extend_from_slice(bytes);
    }

    /// Leaves without a word.
    pub(crate) fn close(mut self) {
        self.endpoint.close();
    }

    /// What it got since the last call.
    pub(crate) fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    /// The same as text.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.take().iter().map(Message::show).collect()
    }

    /// All bytes since the last call.
    pub(crate) fn take_raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.raw)
    }

    /// Audio, video and data since the last call: type, timestamp, payload.
    pub(crate) fn media(&mut self) -> Vec<(u8, u32, Vec<u8>)> {
        let media = self.take().into_iter().filter(Message::is_media);
        media.map(|m| (m.header.kind.id(), m.header.timestamp.0, m.payload)).collect()
    }

    /// Whether anything moved.
    fn work(&mut self) -> bool {
        let written = self.endpoint.write(&self.unwritten);
        self.unwritten.drain(..written);
        let mut read = Vec::new();
        match self.endpoint.read(&mut read, usize::MAX) {
            SimRead::Data(_) => {}
            SimRead::Empty => return written > 0,
            SimRead::Eof | SimRead::Reset => {
                self.ended = true;
                return written > 0;
            }
        }
        let handshake = HELLO.saturating_sub(self.received).min(read.len());
        self.received += read.len();
        self.raw.extend_from_slice(&read);
        self.messages.extend(self.reader.read(&read[handshake..]));
        true
    }
}
