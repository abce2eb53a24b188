//! `bench bare`: the least that a server can do, which others are measured against.
//!
//! It answers a player's commands with the relay's own session; from then on that player is a
//! socket and a number, and all that happens is one `send` of what is pending, to one after the
//! other, whenever the relay would let go of bytes too. No parsing, no accounting, no limits, no
//! readiness: whom the kernel refuses is tried again at the next window. It makes up its stream
//! itself, unless it is to forward what a publisher sends.

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

use self::client::Client;
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
    /// Bits per second of its stream.
    #[arg(long, value_name = "RATE", value_parser = units::bit_rate)]
    bitrate: u64,
    /// Forward what a publisher sends instead.
    #[arg(long)]
    forward: bool,
}

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
    /// How many of them talk.
    talking: usize,
    log: Log,
    frames: Option<Frames>,
    started: Duration,
    buffer: Box<[u8]>,
}

/// How long it waits at most: for nothing, as whoever connects ends the wait.
const PATIENCE: Duration = Duration::from_millis(500);

/// While somebody talks, who is not waited for one by one.
const PATIENCE_TALKING: Duration = Duration::from_millis(1);

impl Server {
    fn new(arguments: &Arguments) -> io::Result<Self> {
        raise_file_limit()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // The listener's options become those of its connections: the same as the relay's.
        let listener = listen(address, 1, &SocketOptions::default())?.remove(0);
        listener.set_nonblocking(true)?;
        let stream = Stream { bits_per_second: arguments.bitrate };
        let limits = Arc::new(Limits::default());
        Ok(Self {
            listener,
            clients: Vec::new(),
            talking: 0,
            log: Log::new(arguments.flush),
            frames: (!arguments.forward).then(|| Frames::new(&stream.profile())),
            started: clock::now(),
            buffer: vec![0; limits.receive_bytes].into_boxed_slice(),
            limits,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        writeln!(stdout(), "rtmp://{}/live", self.listener.local_addr()?)?;
        loop {
            let now = clock::now();
            let before = self.log.head();
            if let Some(frames) = &mut self.frames {
                frames.due(now, self.started, |message| self.log.append(message, now));
            }
            self.accept(now)?;
            if self.talking > 0 {
                self.listen_to_clients(now);
            }
            self.log.flush(now);
            if self.log.head() > before || self.talking > 0 {
                let log = &self.log;
                self.clients.retain_mut(|client| client.send(log).is_ok());
            }
            self.wait()?;
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

    fn listen_to_clients(&mut self, now: Duration) {
        let (buffer, log) = (&mut self.buffer, &mut self.log);
        self.clients.retain_mut(|client| client.receive(buffer, log, now).is_ok());
        self.talking = self.clients.iter().filter(|client| client.talks()).count();
    }

    /// Waits for what is due next, for a client, or for what a publisher sends.
    fn wait(&self) -> io::Result<()> {
        let now = clock::now();
        let frame = self.frames.as_ref().map(|frames| frames.next_due(self.started));
        let due = frame.into_iter().chain(self.log.due()).min();
        let talker = self.clients.iter().find(|client| self.talking == 1 && client.talks());
        let patience = if self.talking > 1 { PATIENCE_TALKING } else { PATIENCE };
        let left = due.map_or(patience, |due| due.saturating_sub(now).min(patience));
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
