//! `bench bare`: the least that a server can do, which others are measured against.
//!
//! It answers commands with the relay's own session and reads its one publisher as the relay does;
//! from then on a player is a socket and a number, and all that happens is one `send` of what is
//! pending, to one after the other, whenever the relay would let go of bytes too. No accounting, no
//! limits, no readiness: whom the kernel refuses is tried again at the next window.

mod client;
mod frames;
mod log;

use std::io::{self, ErrorKind, Write, stdout};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use loadgen::{clock, units};
use relay::limits::Limits;
use relay::reactor::socket::{SocketOptions, listen, raise_file_limit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::client::{Client, Gone};
use self::frames::Frames;
use self::log::Log;
use crate::load::Stream;
use crate::{CannotRun, Outcome};

/// Arguments of `bench bare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Age at which small messages are sent.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    flush: Duration,
}

/// What stands before the number of sends.
pub(crate) const SENDS: &str = "sends ";

/// Serves until it is killed.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    let failed = |error: io::Error| CannotRun(format!("the bare sender failed: {error}"));
    Server::new(arguments).and_then(|server| server.serve()).map_err(failed)?;
    Ok(Outcome::Met)
}

struct Server {
    listener: TcpListener,
    limits: Arc<Limits>,
    clients: Vec<Client>,
    /// How many of them talk: publishers, and players that do not play yet.
    talking: usize,
    log: Log,
    /// Up to where everybody was sent, but for those whom the kernel refused.
    served: u64,
    buffer: Box<[u8]>,
    sends: u64,
    told_at: Duration,
}

/// How long it waits at most: for nothing, as whoever connects ends the wait.
const PATIENCE: Duration = Duration::from_millis(500);

/// While several talk, who are not waited for one by one.
const PATIENCE_TALKING: Duration = Duration::from_millis(1);

/// `sends_per_turn` of the relay: after so many sends it looks what the publisher sent.
const SENDS_PER_TURN: usize = 256;

/// How often it tells how many sends it made.
const TELLING: Duration = Duration::from_millis(500);

impl Server {
    fn new(arguments: &Arguments) -> io::Result<Self> {
        raise_file_limit()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // The listener's options become those of its connections: the same as the relay's.
        let listener = listen(address, 1, &SocketOptions::default())?.remove(0);
        listener.set_nonblocking(true)?;
        let limits = Arc::new(Limits::default());
        Ok(Self {
            listener,
            clients: Vec::new(),
            talking: 0,
            log: Log::new(arguments.flush),
            served: 0,
            buffer: vec![0; limits.receive_bytes].into_boxed_slice(),
            limits,
            sends: 0,
            told_at: Duration::ZERO,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        writeln!(stdout(), "rtmp://{}/live", self.listener.local_addr()?)?;
        loop {
            let now = clock::now();
            if now >= self.told_at + TELLING {
                writeln!(stdout(), "{SENDS}{}", self.sends)?;
                self.told_at = now;
            }
            self.accept(now)?;
            self.take_in(now);
            if self.log.head() > self.served || self.talking > 1 {
                self.served = self.log.head();
                self.send();
            }
            self.wait()?;
        }
    }

    /// Takes what talkers say, and lets go what is due.
    fn take_in(&mut self, now: Duration) {
        let (buffer, log) = (&mut self.buffer, &mut self.log);
        if self.talking == 1 {
            // Its publisher, with whom it all began: the first one.
            let talker = self.clients.iter_mut().position(|client| client.talks());
            if let Some(talker) = talker
                && self.clients[talker].receive(buffer, log, now).is_err()
            {
                self.clients.remove(talker);
            }
        } else if self.talking > 1 {
            self.clients.retain_mut(|client| client.receive(buffer, log, now).is_ok());
        }
        if self.talking > 1 || self.clients.first().is_none_or(|client| !client.talks()) {
            self.talking = self.clients.iter().filter(|client| client.talks()).count();
        }
        self.log.flush(now);
    }

    /// Sends to everybody, a turn's share at a time.
    fn send(&mut self) {
        let mut next = 0;
        while next < self.clients.len() {
            let turn = next..self.clients.len().min(next + SENDS_PER_TURN);
            next = turn.end;
            for client in &mut self.clients[turn] {
                match client.send(&self.log) {
                    Ok(sends) => self.sends += sends,
                    Err(Gone) => client.end(),
                }
            }
            if next < self.clients.len() {
                self.take_in(clock::now());
            }
        }
    }

    fn accept(&mut self, now: Duration) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.clients.push(Client::new(stream, &self.limits, now));
                    self.talking += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for what is due next, for a client, or for what a publisher sends.
    fn wait(&self) -> io::Result<()> {
        let now = clock::now();
        if self.log.head() > self.served {
            return Ok(());
        }
        let talker = self.clients.iter().find(|client| self.talking == 1 && client.talks());
        let patience = if self.talking > 1 { PATIENCE_TALKING } else { PATIENCE };
        let left = self.log.due().map_or(patience, |due| due.saturating_sub(now).min(patience));
        let mut sockets = vec![PollFd::new(&self.listener, PollFlags::IN)];
        sockets.extend(talker.map(|client| PollFd::new(&client.stream, PollFlags::IN)));
        match poll(&mut sockets, Some(&timespec(left))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn timespec(span: Duration) -> Timespec {
    let tv_sec = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: span.subsec_nanos().into() }
}

/// How many pieces a second the flush rule cuts a stream into, each of which is a send to every
/// player.
pub(crate) fn segments_per_second(stream: Stream, age: Duration) -> f64 {
    const SECONDS: u64 = 20;
    let mut log = Log::new(age);
    let mut frames = Frames::new(&stream.profile());
    let (mut segments, mut head) = (0_u32, 0);
    for at in (0..SECONDS * 1_000).map(Duration::from_millis) {
        frames.due(at, Duration::ZERO, |message| log.append(message, at));
        log.flush(at);
        segments += u32::from(log.head() > head);
        head = log.head();
    }
    f64::from(segments) / SECONDS as f64
}
