//! What a backend must offer to be put through the suite: a reactor, peers that talk to it, and
//! time.

use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::reactor::poll::PollReactor;
use crate::reactor::sim::{SimEndpoint, SimFaults, SimNet, SimReactor, SimRead};
use crate::reactor::socket::{SocketOptions, listen};
use crate::reactor::uring::{UringOptions, UringReactor};
use crate::reactor::{ListenerKey, Reactor};

/// A backend under test.
pub(super) trait Harness {
    type Reactor: Reactor;
    type Peer: Peer;

    /// A reactor with one listener, which does not accept yet.
    fn reactor(&mut self) -> (Self::Reactor, ListenerKey, SocketAddr);
    /// A peer that connects.
    fn peer(&mut self, to: SocketAddr) -> Self::Peer;
    /// An address at which nobody listens.
    fn nobody(&mut self) -> SocketAddr;
    /// The connections that the reactor keeps.
    fn connections(&self, reactor: &Self::Reactor) -> usize;
    /// Leaves room for so many files more, or (`None`) lifts the limit.
    fn limit_files(&mut self, reactor: &mut Self::Reactor, more: Option<usize>);
    /// Lets time pass until something may have happened.
    fn step(&mut self);
    /// Turns without any completion after which nothing more is to be expected, if `is_quiet` too.
    fn quiet_turns(&self) -> usize;
    /// Whether nothing is under way, as far as can be known.
    fn is_quiet(&self) -> bool;
    /// Whether the test has waited for too long.
    fn is_overdue(&self) -> bool;
    /// Whether batches are copied, so that none is held for a peer that does not acknowledge.
    fn copies(&self) -> bool {
        true
    }
    /// How to repeat a failed run.
    fn describe(&self) -> String;
}

/// The other end of a connection; dropping it closes it.
pub(super) trait Peer {
    fn address(&self) -> SocketAddr;
    /// Writes what fits; 0 when nothing does.
    fn write(&mut self, data: &[u8]) -> usize;
    fn read(&mut self, into: &mut Vec<u8>, max: usize) -> SimRead;
    fn shutdown(&mut self);
    fn reset(self);
}

/// A backend that speaks to the kernel.
pub(super) trait Kernel {
    type Reactor: Reactor;
    const NAME: &'static str;
    const COPIES: bool = true;

    /// A reactor with small receive buffers, which make many reads of few bytes.
    fn reactor(options: SocketOptions) -> Self::Reactor;
    fn add_listener(reactor: &mut Self::Reactor, listener: TcpListener) -> ListenerKey;
    fn connections(reactor: &Self::Reactor) -> usize;
}

/// The mio backend.
pub(super) struct Mio;

impl Kernel for Mio {
    type Reactor = PollReactor;
    const NAME: &'static str = "mio";

    fn reactor(options: SocketOptions) -> PollReactor {
        PollReactor::new(RECEIVE_BYTES, options).unwrap()
    }

    fn add_listener(reactor: &mut PollReactor, listener: TcpListener) -> ListenerKey {
        reactor.add_listener(listener).unwrap()
    }

    fn connections(reactor: &PollReactor) -> usize {
        reactor.connections()
    }
}

/// One way in which the io_uring backend may have to run.
pub(super) trait UringForm {
    const NAME: &'static str;
    const COPIES: bool = true;

    fn settings() -> UringOptions;
}

impl<F: UringForm> Kernel for F {
    type Reactor = UringReactor;
    const NAME: &'static str = F::NAME;
    const COPIES: bool = F::COPIES;

    fn reactor(options: SocketOptions) -> UringReactor {
        let settings = UringOptions { receive_bytes: RECEIVE_BYTES, ..F::settings() };
        UringReactor::new(&settings, options).unwrap()
    }

    fn add_listener(reactor: &mut UringReactor, listener: TcpListener) -> ListenerKey {
        reactor.add_listener(listener).unwrap()
    }

    fn connections(reactor: &UringReactor) -> usize {
        reactor.connections()
    }
}

/// As it runs on a recent kernel.
pub(super) struct Uring;

impl UringForm for Uring {
    const NAME: &'static str = "io_uring";

    fn settings() -> UringOptions {
        UringOptions::default()
    }
}

/// Short of everything: two slots in the file table, four receive buffers.
pub(super) struct NarrowUring;

impl UringForm for NarrowUring {
    const NAME: &'static str = "io_uring, narrow";

    fn settings() -> UringOptions {
        UringOptions { receive_bytes_total: 0, table: 2, ..UringOptions::default() }
    }
}

/// Copying nothing, whatever the length.
pub(super) struct ZeroCopyUring;

impl UringForm for ZeroCopyUring {
    const NAME: &'static str = "io_uring, zero copy";
    const COPIES: bool = false;

    fn settings() -> UringOptions {
        UringOptions {
            zero_copy_bytes_min: Some(1),
            zero_copy_to_loopback: true,
            zero_copy_though_copied: true,
            ..UringOptions::default()
        }
    }
}

const RECEIVE_BYTES: usize = 4_096;

/// A backend over the real loopback interface.
pub(super) struct KernelHarness<K> {
    started: Instant,
    backend: PhantomData<K>,
}

impl<K: Kernel> KernelHarness<K> {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), backend: PhantomData }
    }
}

impl<K: Kernel> Harness for KernelHarness<K> {
    type Reactor = K::Reactor;
    type Peer = TcpStream;

    fn reactor(&mut self) -> (K::Reactor, ListenerKey, SocketAddr) {
        let options = SocketOptions::default();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = listen(loopback, 1, &options).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let mut reactor = K::reactor(options);
        let key = K::add_listener(&mut reactor, listener);
        (reactor, key, address)
    }

    fn peer(&mut self, to: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        // Small, so that a peer that does not read soon stops the reactor.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&SockAddr::from(to)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.into()
    }

    fn nobody(&mut self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap()
    }

    fn connections(&self, reactor: &K::Reactor) -> usize {
        K::connections(reactor)
    }

    fn limit_files(&mut self, _reactor: &mut K::Reactor, more: Option<usize>) {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
        let current = match more {
            None => maximum,
            Some(more) => {
                // Descriptors are given lowest first, and must lie below the limit.
                let open: std::collections::BTreeSet<usize> = std::fs::read_dir("/proc/self/fd")
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    // Less the one that is only open for this listing.
                    .filter(|path| std::fs::read_link(path).is_ok_and(|to| !to.ends_with("fd")))
                    .map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
                    .collect();
                let limit = (0_usize..).filter(|fd| !open.contains(fd)).nth(more);
                limit.map(|limit| u64::try_from(limit).unwrap())
            }
        };
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }

    fn step(&mut self) {}

    fn quiet_turns(&self) -> usize {
        20
    }

    fn is_quiet(&self) -> bool {
        true
    }

    fn is_overdue(&self) -> bool {
        self.started.elapsed() > Duration::from_secs(60)
    }

    fn copies(&self) -> bool {
        K::COPIES
    }

    fn describe(&self) -> String {
        format!("{} over loopback", K::NAME)
    }
}

impl Peer for TcpStream {
    fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }

    fn write(&mut self, data: &[u8]) -> usize {
        match Write::write(self, data) {
            Ok(count) => count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                0
            }
        }
    }

    fn read(&mut self, into: &mut Vec<u8>, max: usize) -> SimRead {
        let start = into.len();
        into.resize(start + max, 0);
        let result = Read::read(self, &mut into[start..]);
        into.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => SimRead::Eof,
            Ok(count) => SimRead::Data(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => SimRead::Empty,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                SimRead::Reset
            }
        }
    }

    fn shutdown(&mut self) {
        TcpStream::shutdown(self, Shutdown::Write).unwrap();
    }

    fn reset(self) {
        Socket::from(self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The simulation.
pub(super) struct SimHarness {
    net: SimNet,
    seed: u64,
    turns: usize,
}

impl SimHarness {
    pub(super) fn new(seed: u64, faults: SimFaults) -> Self {
        Self { net: SimNet::new(seed, faults), seed, turns: 0 }
    }
}

impl Harness for SimHarness {
    type Reactor = SimReactor;
    type Peer = SimEndpoint;

    fn reactor(&mut self) -> (SimReactor, ListenerKey, SocketAddr) {
        let mut reactor = self.net.reactor();
        let (key, address) = reactor.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        (reactor, key, address)
    }

    fn peer(&mut self, to: SocketAddr) -> SimEndpoint {
        self.net.connect(to)
    }

    fn nobody(&mut self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 9))
    }

    fn connections(&self, reactor: &SimReactor) -> usize {
        reactor.connections()
    }

    fn limit_files(&mut self, reactor: &mut SimReactor, more: Option<usize>) {
        let limit = more.map_or(usize::MAX, |more| reactor.connections() + more);
        reactor.set_files_max(limit);
    }

    fn step(&mut self) {
        self.turns += 1;
        if let Some(next) = self.net.next_event_time() {
            self.net.advance_to(next);
        }
    }

    fn quiet_turns(&self) -> usize {
        2
    }

    fn is_quiet(&self) -> bool {
        self.net.next_event_time().is_none()
    }

    fn is_overdue(&self) -> bool {
        self.turns > 1_000_000
    }

    fn describe(&self) -> String {
        format!("sim with seed {} at {:?}", self.seed, self.net.now())
    }
}

impl Peer for SimEndpoint {
    fn address(&self) -> SocketAddr {
        SimEndpoint::address(self)
    }

    fn write(&mut self, data: &[u8]) -> usize {
        SimEndpoint::write(self, data)
    }

    fn read(&mut self, into: &mut Vec<u8>, max: usize) -> SimRead {
        SimEndpoint::read(self, into, max)
    }

    fn shutdown(&mut self) {
        SimEndpoint::shutdown(self);
    }

    fn reset(mut self) {
        SimEndpoint::reset(&mut self);
    }
}
