//! Servers under measurement: started on a core of their own, watched, ended.
//!
//! Whoever measures asks a [`Server`] for nothing but its address and its process, so another
//! program is one more [`Kind`].

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use loadgen::pinned::pin_thread;
use loadgen::server::{metrics_page, samples};

use crate::CannotRun;
use crate::bare::SENDS;
use crate::place::Place;

/// A program to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `bench bare`: the floor.
    Bare,
    /// The relay on a reactor, by its name.
    Relay(&'static str),
}

/// When small messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// The relay chooses.
    Auto,
    /// At this age.
    Fixed(Duration),
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    child: Child,
    /// Where clients go.
    pub(crate) address: SocketAddr,
    /// Where operators go, if there is such a place.
    http: Option<SocketAddr>,
    /// How many sends the bare sender says it made.
    sends: Arc<AtomicU64>,
}

/// How long a server may take to say where it is.
const START: Duration = Duration::from_secs(20);

impl Server {
    /// Starts one on the server's core.
    pub(crate) fn start(kind: Kind, flush: Flush, place: &Place) -> Result<Self, CannotRun> {
        Self::start_with(kind, flush, place, &[])
    }

    /// The same with settings in its environment.
    pub(crate) fn start_with(
        kind: Kind,
        flush: Flush,
        place: &Place,
        settings: &[(&str, &Path)],
    ) -> Result<Self, CannotRun> {
        let mut command = match kind {
            Kind::Bare => bare(flush)?,
            Kind::Relay(reactor) => relay(reactor, flush, place)?,
        };
        command.envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = place.spawn_on_server_core(&mut command)?;
        let output = child.stdout.take();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { kind, child, address, http: None, sends: Arc::default() };
        let output = output.ok_or_else(|| CannotRun(format!("{kind} says nothing")))?;
        server.listen_to(output)?;
        Ok(server)
    }

    /// Reads where it is to be found.
    fn listen_to(&mut self, output: ChildStdout) -> Result<(), CannotRun> {
        let (said, lines) = mpsc::channel();
        // Goes on reading, so that the server never waits for somebody to listen.
        let sends = Arc::clone(&self.sends);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                match line.strip_prefix(SENDS).and_then(|number| number.parse().ok()) {
                    Some(number) => sends.store(number, Ordering::Relaxed),
                    // Nobody listens any more once the server was found.
                    None => drop(said.send(line)),
                }
            }
        });
        let wants_http = matches!(self.kind, Kind::Relay(_));
        loop {
            let line = lines.recv_timeout(START).map_err(|error| match error {
                RecvTimeoutError::Timeout => {
                    CannotRun(format!("{} does not say where it is", self.kind))
                }
                RecvTimeoutError::Disconnected => {
                    CannotRun(format!("{} cannot be started: try it by hand", self.kind))
                }
            })?;
            if let Some(port) = port_in(&line, "rtmp://") {
                self.address = SocketAddr::from(([127, 0, 0, 1], port));
            }
            if let Some(port) = port_in(&line, "http://") {
                self.http = Some(SocketAddr::from(([127, 0, 0, 1], port)));
            }
            if self.address.port() != 0 && (self.http.is_some() || !wants_http) {
                return Ok(());
            }
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends made so far, where it tells.
    pub(crate) fn sends(&self) -> Option<f64> {
        match self.kind {
            Kind::Bare => Some(self.sends.load(Ordering::Relaxed) as f64),
            Kind::Relay(_) => self.metric("relay_sends_total"),
        }
    }

    /// The sum of a metric over all labels; `None` from a server without metrics.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let page = metrics_page(&self.http?.to_string()).ok()?;
        Some(samples(&page, name).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself when it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare => formatter.write_str("floor"),
            Self::Relay(reactor) => write!(formatter, "relay/{reactor}"),
        }
    }
}

impl Flush {
    /// As the relay's configuration wants it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Fixed(age) => format!("{}ms", age.as_millis()),
        }
    }
}

fn bare(flush: Flush) -> Result<Command, CannotRun> {
    let own = std::env::current_exe();
    let own = own.map_err(|error| CannotRun(format!("bench does not find itself: {error}")))?;
    let Flush::Fixed(age) = flush else {
        return Err(CannotRun("the bare sender chooses nothing: name its flush".to_owned()));
    };
    let mut command = Command::new(own);
    command.args(["bare", "--flush", &format!("{}us", age.as_micros())]);
    Ok(command)
}

fn relay(reactor: &str, flush: Flush, place: &Place) -> Result<Command, CannotRun> {
    let program: PathBuf = place.relay_program()?;
    let mut command = Command::new(program);
    command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", "1"]);
    command.args(["--reactor", reactor]);
    // An application is named as it is written, in the environment too.
    command.env("RELAY_APPS__live__FLUSH", flush.name());
    Ok(command)
}

/// The port of the first URL of a scheme in a line.
fn port_in(line: &str, scheme: &str) -> Option<u16> {
    let (_, rest) = line.split_once(scheme)?;
    let authority = rest.split('/').next()?;
    authority.rsplit_once(':')?.1.trim().parse().ok()
}

/// For the time of its life, the calling thread's core is the server's.
pub(crate) struct OnCore {
    home: usize,
}

impl OnCore {
    /// Moves the thread.
    pub(crate) fn enter(core: usize, home: usize) -> Result<Self, CannotRun> {
        pin_thread(core)
            .map_err(|error| CannotRun(format!("core {core} is not to be had: {error}")))?;
        Ok(Self { home })
    }
}

impl Drop for OnCore {
    fn drop(&mut self) {
        // It was there before.
        let _ = pin_thread(self.home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_in_what_servers_say() {
        let check = |line: &str, scheme: &str, port: Option<u16>| {
            assert_eq!(port_in(line, scheme), port, "{line}");
        };
        check("rtmp  rtmp://localhost:1935/live/<name>", "rtmp://", Some(1935));
        check("http  http://localhost:8935/", "http://", Some(8935));
        check("rtmp://127.0.0.1:40001/live", "rtmp://", Some(40001));
        check("relay 0.1.0, node studio, 2 workers on mio", "rtmp://", None);
        check("rtmp://localhost/live", "rtmp://", None);
    }
}
