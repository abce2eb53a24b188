//! Where a measurement takes place: which core is the server's and which the load's.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::rc::Rc;

use loadgen::pinned::{cores, pin_thread};
use rustix::process::{getpriority_process, setpriority_process};

use crate::CannotRun;
use crate::server::{Flush, Kind, OnCore, Server};

/// Options that every measurement with servers has.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlaceOptions {
    /// The relay to measure; by default the one built beside this program.
    #[arg(long, value_name = "PROGRAM")]
    relay: Option<PathBuf>,
    /// The relay's reactors to measure, separated by commas; by default both, or mio alone where
    /// io_uring may not be used.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ["io_uring", "mio"])]
    reactors: Vec<String>,
    /// Scheduling priority of server and load, -20 (first) to 19 (last): on a machine that others
    /// use too, -10 keeps them out of the figures (root only).
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    nice: Option<i32>,
    /// Cores of the server and of the load; the first two by default.
    #[arg(long, value_name = "SERVER,LOAD", value_delimiter = ',', num_args = 2)]
    cores: Option<Vec<usize>>,
}

const IO_URING: &str = "io_uring";
const REACTORS: [&str; 2] = ["mio", IO_URING];

/// Two cores: the calling thread, and whatever it starts, is on the load's.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The server's core.
    pub(crate) server: usize,
    load: usize,
    relay: Option<PathBuf>,
    reactors: Vec<&'static str>,
    /// Kept for as long as the place is.
    _session: Rc<Option<Session>>,
}

impl Place {
    /// Takes the cores.
    pub(crate) fn take(options: &PlaceOptions) -> Result<Self, CannotRun> {
        let all = cores();
        let (server, load) = match (options.cores.as_deref(), all.as_slice()) {
            (Some([server, load]), _) | (None, [server, load, ..]) => (*server, *load),
            _ => {
                return Err(CannotRun("two cores are needed, and there is one".to_owned()));
            }
        };
        let session = options.nice.map(Session::prefer).transpose()?;
        pin_thread(load)
            .map_err(|error| CannotRun(format!("core {load} is not to be had: {error}")))?;
        let mut place = Self {
            server,
            load,
            relay: options.relay.clone(),
            reactors: REACTORS.to_vec(),
            _session: Rc::new(session),
        };
        if options.reactors.is_empty() {
            // A relay that cannot have io_uring and must have it does not start.
            if Server::start(Kind::Relay(IO_URING), Flush::Auto, &place).is_err() {
                place.reactors.retain(|reactor| *reactor != IO_URING);
            }
        } else {
            place.reactors.retain(|reactor| options.reactors.iter().any(|asked| asked == reactor));
        }
        Ok(place)
    }

    /// The load's core.
    pub(crate) fn load(&self) -> usize {
        self.load
    }

    /// The relay on each reactor to measure.
    pub(crate) fn relays(&self) -> impl Iterator<Item = Kind> {
        self.reactors.iter().map(|reactor| Kind::Relay(reactor))
    }

    /// The relay's program.
    pub(super) fn relay_program(&self) -> Result<PathBuf, CannotRun> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("relay"));
        let program = self.relay.clone().or_else(beside).filter(|program| program.is_file());
        program.ok_or_else(|| {
            let profile = if cfg!(debug_assertions) { "" } else { " --release" };
            CannotRun(format!("there is no relay to measure: cargo build{profile} -p relay"))
        })
    }

    /// Starts a program that is on the server's core from its first instruction.
    pub(super) fn spawn_on_server_core(&self, command: &mut Command) -> Result<Child, CannotRun> {
        let _there = OnCore::enter(self.server, self.load)?;
        command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            CannotRun(format!("{program} cannot be started: {error}"))
        })
    }

    /// Said with every table.
    pub(crate) fn describe(&self) -> String {
        let nice = getpriority_process(None).unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("unknown");
        format!(
            "server on core {}, load on core {}, priority {nice}, load average {load}",
            self.server, self.load
        )
    }
}

/// The scheduling priority of this process and of its session. The kernel weighs sessions against
/// each other before the processes in them (sched(7), autogroups), so the one without the other
/// does nothing.
#[derive(Debug)]
struct Session {
    /// What the session had before; `None` where the kernel does not group sessions.
    before: Option<String>,
}

const SESSION: &str = "/proc/self/autogroup";

impl Session {
    fn prefer(nice: i32) -> Result<Self, CannotRun> {
        let refused = |error: &dyn std::fmt::Display| {
            CannotRun(format!("the priority {nice} is not to be had: {error}"))
        };
        setpriority_process(None, nice).map_err(|error| refused(&error))?;
        let before = fs::read_to_string(SESSION).ok();
        let before = before.and_then(|text| Some(text.trim().rsplit_once(' ')?.1.to_owned()));
        if before.is_some() {
            fs::write(SESSION, nice.to_string()).map_err(|error| refused(&error))?;
        }
        Ok(Self { before })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Whoever started this program goes on as before.
            let _ = fs::write(SESSION, before);
        }
    }
}
