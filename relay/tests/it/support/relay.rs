//! The relay itself: the program that `cargo` built, on ports of its own.
//!
//! It is told to take any free port and says which it took. A relay that ends by itself fails the
//! test that started it; one that is dropped is ended by its id, in order first.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use super::http::{self, Metrics};
use super::process::{Process, resident_bytes};
use super::{START, wait_for};

/// What a relay is started with.
pub(crate) struct Options<'a> {
    /// Where to listen for clients.
    pub(crate) rtmp: &'a str,
    /// The text of a configuration file, or nothing for none.
    pub(crate) configuration: &'a str,
    /// Further arguments.
    pub(crate) arguments: &'a [&'a str],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { rtmp: "127.0.0.1:0", configuration: "", arguments: &[] }
    }
}

/// A running relay.
pub(crate) struct Relay {
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
    /// For other nodes, if it is part of a cluster.
    pub(crate) link: Option<SocketAddr>,
    process: Process,
    killed: bool,
}

impl Relay {
    /// Starts a relay in `dir` and waits until it is ready. Its reactor is the one that
    /// `RELAY_TEST_REACTOR` names, unless the options do; by default it chooses itself.
    pub(crate) fn start(dir: &Path, options: &Options<'_>) -> Self {
        let mut command = command();
        command.args(["--rtmp", options.rtmp, "--http", "127.0.0.1:0"]);
        if !options.configuration.is_empty() {
            let file = unused(dir, "relay", "toml");
            fs::write(&file, options.configuration).expect("the test's directory can be written");
            command.arg("--config").arg(file);
        }
        command.args(options.arguments);
        if let Ok(reactor) = std::env::var("RELAY_TEST_REACTOR")
            && !options.arguments.contains(&"--reactor")
        {
            command.args(["--reactor", &reactor]);
        }
        Self::start_with(dir, &mut command)
    }

    /// The same with a command of the test's own.
    pub(crate) fn start_with(dir: &Path, command: &mut Command) -> Self {
        let said = unused(dir, "relay", "out");
        let name = said.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut process = Process::start_apart(dir, &name, &said, command);
        let mut port = |what: &str| {
            wait_for(&format!("the relay to say its {what} port"), START, || {
                process.must_run();
                address(&fs::read_to_string(&said).unwrap_or_default(), what)
            })
        };
        let (rtmp, http) = (port("rtmp"), port("http"));
        let link = address(&fs::read_to_string(&said).unwrap_or_default(), "link");
        let mut relay = Self { rtmp, http, link, process, killed: false };
        wait_for("the relay to be ready", START, || {
            relay.process.must_run();
            http::get(http, "/readyz").ok().filter(|answer| answer.status == 200)
        });
        relay
    }

    /// Where `name` of the application `live` is published and played.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let page = http::get(self.http, "/metrics").unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(page.status, 200, "{}", page.body);
        Metrics::parse(page.body)
    }

    /// Waits until `count` connections have the role of `role`.
    pub(crate) fn wait_for_role(&self, role: &str, count: u32) {
        wait_for(&format!("{count} connections of role {role}"), START, || {
            let now = self.metrics().sum("relay_connections", &[("role", role)]);
            (now == Some(f64::from(count))).then_some(())
        });
    }

    /// The id of the relay's process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(self.process.id())
    }

    /// Everything that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Ends the relay and gives everything it has logged.
    pub(crate) fn log_at_end(mut self, limit: Duration) -> String {
        self.process.signal(Signal::TERM);
        self.process.succeed(limit);
        self.process.log()
    }

    /// Fails unless the relay still runs.
    pub(crate) fn must_run(&mut self) {
        self.process.must_run();
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for a relay that was told to end.
    pub(crate) fn wait(mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }

    /// Ends the relay as a crash would.
    pub(crate) fn kill(mut self) {
        self.process.kill();
        self.killed = true;
    }

    /// Asks the relay to end and waits for it.
    pub(crate) fn terminate(mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let by_itself = self.process.ended();
        self.process.stop(Signal::INT);
        if let Some(status) = by_itself.filter(|status| !status.success() && !self.killed) {
            assert!(
                std::thread::panicking(),
                "the relay ended by itself with {status}\n{}",
                self.process.tail()
            );
        }
    }
}

/// The program, without arguments.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    forget_ours(&mut command);
    command
}

/// Takes away what is meant for the tests themselves (`RELAY_TEST_LONG`, ...), which the program
/// would take for settings.
pub(crate) fn forget_ours(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let ours = ["RELAY_TEST_", "RELAY_SIM_", "RELAY_FUZZ_"];
        if ours.iter().any(|own| name.to_string_lossy().starts_with(own)) {
            command.env_remove(name);
        }
    }
}

/// The socket address in the line of `said` that names `what`. A relay that listens on all
/// addresses calls itself `localhost`.
fn address(said: &str, what: &str) -> Option<SocketAddr> {
    let whole = &said[..=said.rfind('\n')?];
    let line = whole.lines().find(|line| line.split([' ', ':', '=']).any(|word| word == what))?;
    let line = line.replace("localhost", "127.0.0.1");
    line.split([' ', '=', '/', ',']).find_map(|word| word.parse().ok())
}

/// A name in `dir` that no earlier start has used.
fn unused(dir: &Path, stem: &str, ending: &str) -> PathBuf {
    let name = |number: u32| dir.join(format!("{stem}-{number}.{ending}"));
    (1..).map(name).find(|path| !path.exists()).expect("numbers do not run out")
}

/// Whether something accepts connections at `address`.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}
