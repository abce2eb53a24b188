//! What an operator decides: flags > environment > file > defaults, made into one [`Config`].
//!
//! Every setting is documented once, in the table of `settings.rs` (the limits in `limits.rs`);
//! `--help`, `--check` and all sources read that table. A mistake is one sentence that names the
//! setting, the value and what is allowed. Nothing here opens a socket or starts a thread; secrets
//! are only ever named by the file they are in.

mod api;
mod arguments;
mod cluster;
mod draft;
mod environment;
mod file;
mod fronts;
mod hooks;
mod key;
mod limiting;
mod listing;
mod nearest;
mod outside;
mod reload;
mod secrets;
mod settings;
mod text;
mod tools;

pub use self::api::{Api, Tokens};
pub use self::cluster::{Cluster, ClusterTls, Peer, SecretBytes};
pub use self::reload::{Change, Origin, without_secrets};
pub use self::tools::Top;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::fronts::{Listener, shown};
use crate::tls::CertificateFiles;
use crate::worker::settings::Settings;

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[listen]`
    pub listen: Listen,
    /// `[[listeners]]`
    pub listeners: Vec<Listener>,
    /// `[tls]`
    pub tls: Tls,
    /// `[sockets]`
    pub sockets: Sockets,
    /// `[limits]` and `[apps]`: what workers go by.
    pub settings: Settings,
    /// `[drain]`
    pub drain: Drain,
    /// `[log]`
    pub log: Log,
    /// `[api]`
    pub api: Api,
    /// `[cluster]`
    pub cluster: Cluster,
}

/// `[node]`: this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name: 1 to 63 letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Worker threads, 1 to [`WORKERS_MAX`]; `None` for as many as there are processors for us.
    pub workers: Option<usize>,
    /// The reactor's backend.
    pub reactor: ReactorChoice,
    /// Where it stands; empty when nobody said.
    pub zone: String,
    /// Where clients reach it from outside: URLs without a path.
    pub advertise: Vec<String>,
}

/// Most workers of one node.
pub const WORKERS_MAX: usize = 256;

/// Which backend the reactor is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReactorChoice {
    /// The best that works here.
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// mio (epoll).
    Mio,
}

/// `[listen]`: addresses with ports; port 0 lets the kernel choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For publishers and players.
    pub rtmp: SocketAddr,
    /// For operators.
    pub http: SocketAddr,
    /// For other nodes.
    pub link: SocketAddr,
}

/// `[tls]`: certificates, by the name that clients ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `[[tls.certificates]]`; the first is for clients that ask for no name of theirs.
    pub certificates: Vec<CertificateFiles>,
    /// Tickets sent to each client of TLS 1.3.
    pub tickets: usize,
}

/// `[sockets]`: options of every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// TCP_CONGESTION by name; `None` for the kernel's own.
    pub congestion: Option<String>,
    /// TCP_NOTSENT_LOWAT in bytes; `None` for the kernel's own.
    pub notsent_bytes_max: Option<u32>,
    /// TCP_USER_TIMEOUT; `None` for one above the relay's own deadline.
    pub user_timeout: Option<Duration>,
    /// Shortest send, in bytes, that is not copied; `None` copies all.
    pub zero_copy_bytes_min: Option<usize>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            nodelay: true,
            congestion: Some("cubic".to_owned()),
            notsent_bytes_max: Some(64 << 10),
            user_timeout: None,
            zero_copy_bytes_min: None,
        }
    }
}

/// `[drain]`: the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long connections are given to go after SIGTERM.
    pub window: Duration,
}

/// `[log]`: lines on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Their form.
    pub format: LogFormat,
    /// Which are written.
    pub level: LogLevel,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The least severe log lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what may lead to some.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// And everything else.
    Trace,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run a node. Boxed since it is much larger than the others.
    Run(Box<Effective>),
    /// Print this text and end well: `--help`, `--version`, `--check`.
    Print(String),
    /// Show another relay in this terminal.
    Top(Top),
}

/// A configuration with the origin of each value.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The values.
    pub config: Config,
    /// One row per setting, in the order of the documentation.
    pub rows: Vec<Row>,
    /// Where all of it can be read again.
    pub origin: Arc<Origin>,
}

/// One setting with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The section as written in the file: `node`, `apps."*"`.
    pub section: String,
    /// The name within the section.
    pub name: String,
    /// The value as written in the file, quotes included.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// What it is for.
    pub why: &'static str,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file, with the line.
    File(String, usize),
    /// An environment variable.
    Environment(String),
    /// A flag, with its dashes.
    Flag(&'static str),
}

/// Bad arguments, environment or file, for exit code 2. Its text has one line for each mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .sentences.join("\n"))]
pub struct ConfigError {
    /// Each mistake, as one sentence.
    pub sentences: Vec<String>,
    /// How to say so: what was understood of `[log]` before anything went wrong.
    pub log: Log,
}

/// Reads the command line (without the program's name), the environment and the file they name.
///
/// # Errors
///
/// Every mistake of the file, the environment and the flags, as one sentence each. Arguments that
/// cannot be told apart are one sentence, and end it.
pub fn load(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, ConfigError> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let environment = environment.into_iter().collect();
    let origin = Arc::new(Origin { arguments: arguments.clone(), environment });
    let arguments = match arguments::parse(arguments) {
        Ok(arguments::Parsed::Print(text)) => return Ok(Command::Print(text)),
        Ok(arguments::Parsed::Top(options)) => return Ok(Command::Top(options)),
        Ok(arguments::Parsed::Given(arguments)) => arguments,
        Err((sentence, log)) => return Err(ConfigError { sentences: vec![sentence], log }),
    };
    let mut draft = draft::Draft::new();
    if let Some(path) = &arguments.config {
        match file::read(path) {
            Ok(values) => draft.take(values),
            Err(sentence) => draft.mistaken(sentence),
        }
    }
    match environment::read(origin.environment.clone()) {
        Ok(values) => draft.take(values),
        Err(sentence) => draft.mistaken(sentence),
    }
    draft.take(arguments.settings);
    let effective = Effective { origin, ..draft.finish()? };
    Ok(if arguments.check {
        Command::Print(listing::check(&effective.rows, &draft::Draft::new().rows()))
    } else {
        Command::Run(Box::new(effective))
    })
}

impl Log {
    /// What is written unless somebody asks for something else.
    pub const DEFAULT: Self = Self { format: LogFormat::Text, level: LogLevel::Info };
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

#[cfg(test)]
mod tests;
