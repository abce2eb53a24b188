//! The table of settings: name, meaning, and how a text becomes a value and a value a text.
//!
//! The limits bring their own table (`limits.rs`); only what may be set beyond their unit is said
//! here.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{
    Config, LogFormat, LogLevel, ReactorChoice, WORKERS_MAX, api, cluster, fronts, hooks, limiting,
    outside, secrets, text,
};
use crate::access::Rules;
use crate::limits::{NO_BYTES_LIMIT, Value};
use crate::worker::settings::{
    AppSettings, Challenges, Cors, Join, PublishConflict, UnknownStream,
};

/// A setting that is there once.
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    /// The flag of the same meaning: as it is typed, and what stands for its value.
    pub(super) flag: Option<(&'static str, &'static str)>,
    /// Takes a text, or says what is allowed.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value as the file has it.
    pub(super) get: fn(&Config) -> String,
}

/// A setting that each application has.
pub(super) struct AppSetting {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    /// Takes a text, or says what is allowed.
    pub(super) set: fn(&mut AppSettings, &str) -> Result<(), String>,
    /// The value as the file has it.
    pub(super) get: fn(&AppSettings) -> String,
    /// Takes the value over from another application.
    pub(super) inherit: fn(&mut AppSettings, &AppSettings),
}

/// A row of a group of settings of each application: the group, name, field, how the field is read
/// and written, meaning. A function with the group's name finds it to be changed.
macro_rules! app_row {
    ($group:ident, $name:literal, $field:ident, $set:expr, $get:expr, $why:literal) => {
        AppSetting {
            name: $name,
            why: $why,
            set: |app, text| ($set)(&mut $group(app).$field, text),
            get: |app| ($get)(&app.$group.$field),
            inherit: |app, other| $group(app).$field.clone_from(&other.$group.$field),
        }
    };
}

pub(super) use app_row;

/// The section whose tables are applications.
pub(super) const APPS: &str = "apps";
/// The section of all limits.
pub(super) const LIMITS: &str = "limits";
/// The application that stands for all those not listed.
pub(super) const ANY_APP: &str = "*";

/// Every section, in the order of the documentation.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    [
        "node", "listen", "tls", "sockets", LIMITS, "overflow", APPS, "access", "outside",
        "http_flv", "cluster", "drain", "api", "log",
    ]
    .into_iter()
}

/// Every setting that is there once, in the order of the documentation within each section.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    let one = SETTINGS.iter().chain(fronts::SETTINGS).chain(limiting::SETTINGS);
    one.chain(api::SETTINGS).chain(outside::SETTINGS).chain(cluster::SETTINGS)
}

/// Every setting that each application has, in the order of the documentation.
pub(super) fn of_apps() -> impl Iterator<Item = &'static AppSetting> {
    let own = APP_SETTINGS.iter().chain(limiting::APP_SETTINGS).chain(hooks::APP_SETTINGS);
    own.chain(outside::APP_SETTINGS)
}

const SETTINGS: &[Setting] = &[
    Setting {
        section: "node",
        name: "name",
        why: "This node's name in logs and metrics; the host's name unless set.",
        flag: Some(("--node", "NAME")),
        set: |config, text| {
            let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if text.is_empty() || text.len() > 63 || !text.chars().all(named) {
                return Err("1 to 63 letters, digits, dots, dashes or underscores".to_owned());
            }
            text.clone_into(&mut config.node.name);
            Ok(())
        },
        get: |config| text::quoted(&config.node.name),
    },
    Setting {
        section: "node",
        name: "workers",
        why: "Worker threads. \"auto\": as many as this process has processors, by affinity and quota.",
        flag: Some(("--workers", "N")),
        set: |config, text| {
            config.node.workers = match (text, text::count(text)) {
                ("auto", _) => None,
                (_, Some(count)) if (1..=WORKERS_MAX).contains(&count) => Some(count),
                _ => return Err(format!("a number from 1 to {WORKERS_MAX}, or \"auto\"")),
            };
            Ok(())
        },
        get: |config| config.node.workers.map_or("\"auto\"".to_owned(), |count| count.to_string()),
    },
    Setting {
        section: "node",
        name: "reactor",
        why: "How workers talk to the kernel: \"auto\" (the best that this host allows), \"io_uring\" or \"mio\".",
        flag: Some(("--reactor", "auto|io_uring|mio")),
        set: |config, text| choose(&mut config.node.reactor, REACTORS, text),
        get: |config| chosen(config.node.reactor, REACTORS),
    },
    Setting {
        section: "listen",
        name: "rtmp",
        why: "Address for publishers and players; port 0 lets the kernel choose.",
        flag: Some(("--rtmp", "ADDR")),
        set: |config, text| address(&mut config.listen.rtmp, 1935, text),
        get: |config| text::quoted(&config.listen.rtmp.to_string()),
    },
    Setting {
        section: "listen",
        name: "http",
        why: "Address for operators: health, metrics, API; port 0 lets the kernel choose.",
        flag: Some(("--http", "ADDR")),
        set: |config, text| address(&mut config.listen.http, 8935, text),
        get: |config| text::quoted(&config.listen.http.to_string()),
    },
    Setting {
        section: "sockets",
        name: "nodelay",
        why: "TCP_NODELAY, \"true\" or \"false\": send at once. The flush window has merged small messages already.",
        flag: None,
        set: |config, text| choose(&mut config.sockets.nodelay, SWITCHES, text),
        get: |config| config.sockets.nodelay.to_string(),
    },
    Setting {
        section: "sockets",
        name: "congestion",
        why: "TCP_CONGESTION by name, such as \"cubic\" or, for far players, \"bbr\"; one that the kernel does not offer is passed over. \"system\": the kernel's own.",
        flag: None,
        set: |config, text| {
            let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if text.is_empty() || text.len() > 15 || !text.chars().all(named) {
                return Err(
                    "\"system\" or a name of 1 to 15 letters, digits, dashes or underscores"
                        .to_owned(),
                );
            }
            config.sockets.congestion = (text != SYSTEM).then(|| text.to_owned());
            Ok(())
        },
        get: |config| text::quoted(config.sockets.congestion.as_deref().unwrap_or(SYSTEM)),
    },
    Setting {
        section: "sockets",
        name: "notsent_bytes_max",
        why: "TCP_NOTSENT_LOWAT: bytes that wait in the kernel for a peer that does not read; it bounds what a stuck player costs. \"system\": the kernel's own, up to megabytes.",
        flag: None,
        set: |config, text| {
            let least = 4 << 10;
            let bytes = text::bytes(text).filter(|bytes| (least..=1 << 30).contains(bytes));
            config.sockets.notsent_bytes_max = match (text, bytes.map(u32::try_from)) {
                (SYSTEM, _) => None,
                (_, Some(Ok(bytes))) => Some(bytes),
                _ => return Err("\"system\" or a number of bytes from 4KiB to 1GiB".to_owned()),
            };
            Ok(())
        },
        get: |config| {
            text::quoted(&config.sockets.notsent_bytes_max.map_or(SYSTEM.to_owned(), |bytes| {
                text::show_bytes(usize::try_from(bytes).unwrap_or(usize::MAX))
            }))
        },
    },
    Setting {
        section: "sockets",
        name: "user_timeout",
        why: "TCP_USER_TIMEOUT: a connection whose peer acknowledges nothing for this long fails. \"auto\": 60s, or 15s more than limits.send_stall_max if that is longer, so that the relay's own verdict comes first and tells the reason.",
        flag: None,
        set: |config, text| {
            let least = Duration::from_secs(1);
            config.sockets.user_timeout = match (text, text::time(text)) {
                (AUTO, _) => None,
                (_, Some(time)) if time >= least => Some(time),
                _ => return Err(format!("\"auto\" or {}", times(least, text::TIME_MAX))),
            };
            Ok(())
        },
        get: |config| {
            text::quoted(&config.sockets.user_timeout.map_or(AUTO.to_owned(), text::show_time))
        },
    },
    Setting {
        section: "sockets",
        name: "zero_copy_bytes_min",
        why: "Under io_uring, send so many bytes or more without copying them, to peers on other hosts. It pays where the network card fetches the bytes by itself and sends are long (32KiB and up: high bitrates, long flush windows), and costs elsewhere; a connection for which the kernel copies all the same goes back to copying. Memory stays in use until the peer has acknowledged it. \"off\": always copy.",
        flag: None,
        set: |config, text| {
            let bytes = text::bytes(text).filter(|bytes| (1 << 10..=1 << 30).contains(bytes));
            config.sockets.zero_copy_bytes_min = match (text, bytes) {
                (OFF, _) => None,
                (_, Some(bytes)) => Some(bytes),
                _ => {
                    return Err("\"off\" or a number of bytes from 1KiB to 1GiB such as \"32KiB\""
                        .to_owned());
                }
            };
            Ok(())
        },
        get: |config| {
            text::quoted(
                &config.sockets.zero_copy_bytes_min.map_or(OFF.to_owned(), text::show_bytes),
            )
        },
    },
    Setting {
        section: "access",
        name: "end_with_token",
        why: "Whether a session ends when the signed URL or token expires with which it began (\"true\"), or may go on as long as it lasts (\"false\").",
        flag: None,
        set: |config, text| choose(&mut config.settings.end_with_token, SWITCHES, text),
        get: |config| config.settings.end_with_token.to_string(),
    },
    Setting {
        section: "access",
        name: "challenges",
        why: "Which node takes the answer of an encoder that is asked for user and password: the one that asked (\"node\"), so that an answer that was overheard is good nowhere; or any with the same file (\"any\"), for clusters behind a balancer that sends each connection of a client elsewhere: then it is good once on each other node, for 60s.",
        flag: None,
        set: |config, text| choose(&mut config.settings.challenges, CHALLENGES, text),
        get: |config| chosen(config.settings.challenges, CHALLENGES),
    },
    Setting {
        section: "access",
        name: "token_keys_ca_file",
        why: "File with the certificates (PEM) that https servers of token keys (jwt rules with a URL) are trusted by; \"\" for those of the system.",
        flag: None,
        set: |config, text| hooks::file(&mut config.settings.token_keys_ca_file, text),
        get: |config| hooks::show_file(&config.settings.token_keys_ca_file),
    },
    Setting {
        section: "http_flv",
        name: "cors",
        why: "Whose pages may play FLV over HTTP and WebSockets: \"*\" (everybody's), \"off\" (nobody's), or a list of origins such as [\"https://example.org\"].",
        flag: None,
        set: |config, text| {
            let cors = match text.trim() {
                "*" => Some(Cors::Any),
                "off" => Some(Cors::Off),
                _ => text::list(text)
                    .filter(|list| !list.is_empty() && list.iter().all(|one| is_origin(one)))
                    .map(Cors::Origins),
            };
            let allowed = "\"*\", \"off\" or a list of origins such as [\"https://example.org\"]";
            config.settings.cors = cors.ok_or_else(|| allowed.to_owned())?.into();
            Ok(())
        },
        get: |config| match &*config.settings.cors {
            Cors::Any => text::quoted("*"),
            Cors::Off => text::quoted("off"),
            Cors::Origins(origins) => {
                let origins: Vec<String> = origins.iter().map(|one| text::quoted(one)).collect();
                format!("[{}]", origins.join(", "))
            }
        },
    },
    Setting {
        section: "http_flv",
        name: "base",
        why: "Where the pages at /watch find FLV: an origin such as \"https://live.example.org\", if a proxy stands before the relay. \"auto\": the port for publishers and players, on the host that the page was asked of.",
        flag: None,
        set: |config, text| {
            config.settings.flv_base = match text {
                AUTO => None,
                _ if is_origin(text) => Some(text.to_owned()),
                _ => {
                    let allowed = "\"auto\" or an origin such as \"https://live.example.org\"";
                    return Err(allowed.to_owned());
                }
            };
            Ok(())
        },
        get: |config| text::quoted(config.settings.flv_base.as_deref().unwrap_or(AUTO)),
    },
    Setting {
        section: "drain",
        name: "window",
        why: "How long connections are given to go after SIGTERM; a second SIGTERM or SIGINT cuts it short. 30s in a cluster unless set.",
        flag: None,
        set: |config, text| {
            config.drain.window =
                text::time(text).ok_or_else(|| times(Duration::ZERO, text::TIME_MAX))?;
            Ok(())
        },
        get: |config| text::quoted(&text::show_time(config.drain.window)),
    },
    Setting {
        section: "log",
        name: "format",
        why: "Form of the log lines on standard error: \"text\" or \"json\".",
        flag: Some(("--log", "text|json")),
        set: |config, text| choose(&mut config.log.format, LOG_FORMATS, text),
        get: |config| chosen(config.log.format, LOG_FORMATS),
    },
    Setting {
        section: "log",
        name: "level",
        why: "The least severe log lines that are written: \"error\", \"warn\", \"info\", \"debug\" or \"trace\".",
        flag: None,
        set: |config, text| choose(&mut config.log.level, LOG_LEVELS, text),
        get: |config| chosen(config.log.level, LOG_LEVELS),
    },
];

const APP_SETTINGS: &[AppSetting] = &[
    AppSetting {
        name: "flush",
        why: "How long messages are gathered before they are sent: \"0ms\", \"20ms\", \"50ms\", or one of them by load (\"auto\").",
        set: |app, text| choose(&mut app.flush, FLUSHES, text),
        get: |app| chosen(app.flush, FLUSHES),
        inherit: |app, other| app.flush = other.flush,
    },
    AppSetting {
        name: "join",
        why: "Where a player starts: at the newest key frame there is (\"gop\"), or at the next (\"live\").",
        set: |app, text| choose(&mut app.join, JOINS, text),
        get: |app| chosen(app.join, JOINS),
        inherit: |app, other| app.join = other.join,
    },
    AppSetting {
        name: "publish_conflict",
        why: "A second publisher of a live name takes it over (\"takeover\"), or is refused (\"reject\").",
        set: |app, text| choose(&mut app.publish_conflict, CONFLICTS, text),
        get: |app| chosen(app.publish_conflict, CONFLICTS),
        inherit: |app, other| app.publish_conflict = other.publish_conflict,
    },
    AppSetting {
        name: "unknown_stream",
        why: "A player of a name that nobody publishes waits (\"wait\"), or is refused (\"reject\").",
        set: |app, text| choose(&mut app.unknown_stream, UNKNOWNS, text),
        get: |app| chosen(app.unknown_stream, UNKNOWNS),
        inherit: |app, other| app.unknown_stream = other.unknown_stream,
    },
    AppSetting {
        name: "unknown_flv",
        why: "A player of FLV of a name that nobody publishes is answered 404 at once (\"reject\"), or gets its 200 and waits (\"wait\").",
        set: |app, text| choose(&mut app.flv_waits, FLV_WAITS, text),
        get: |app| chosen(app.flv_waits, FLV_WAITS),
        inherit: |app, other| app.flv_waits = other.flv_waits,
    },
    AppSetting {
        name: "publish",
        why: "Who may publish: a list of rules, any of which suffices. A rule is \"everybody\", \"nobody\", \"private\" (loopback and private networks), an address or network, \"key FILE\" (stream keys), \"signed FILE\" (signed URLs), \"jwt ALGORITHMS FILE-OR-URL\" (tokens), \"password FILE\" (users; encoders are asked for one when they connect), \"hook\" (whoever the hooks say), or several of these with \"and\" between them, which must all hold. The README tells more.",
        set: |app, text| rules(&mut app.publish, text),
        get: |app| app.publish.to_string(),
        inherit: |app, other| app.publish = other.publish.clone(),
    },
    AppSetting {
        name: "play",
        why: "Who may play: a list of rules like that of publish, without \"password\": players are asked for none.",
        set: |app, text| {
            let mut read = Rules::default();
            rules(&mut read, text)?;
            if read.have_users() {
                return Err("without \"password\", which only encoders are asked for".to_owned());
            }
            app.play = read;
            Ok(())
        },
        get: |app| app.play.to_string(),
        inherit: |app, other| app.play = other.play.clone(),
    },
];

/// Texts and the values they stand for.
pub(super) type Choices<T> = &'static [(&'static str, T)];

/// What leaves a decision to the kernel, to the relay, or aside.
const SYSTEM: &str = "system";
const AUTO: &str = "auto";
const OFF: &str = "off";

const CHALLENGES: Choices<Challenges> =
    &[("node", Challenges::OwnNode), ("any", Challenges::AnyNode)];
pub(super) const SWITCHES: Choices<bool> = &[("true", true), ("false", false)];
const REACTORS: Choices<ReactorChoice> = &[
    ("auto", ReactorChoice::Auto),
    ("io_uring", ReactorChoice::IoUring),
    ("mio", ReactorChoice::Mio),
];
const LOG_FORMATS: Choices<LogFormat> = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOG_LEVELS: Choices<LogLevel> = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FLUSHES: Choices<Option<Duration>> = &[
    ("auto", None),
    ("0ms", Some(Duration::ZERO)),
    ("20ms", Some(Duration::from_millis(20))),
    ("50ms", Some(Duration::from_millis(50))),
];
const JOINS: Choices<Join> = &[("gop", Join::Gop), ("live", Join::Live)];
const CONFLICTS: Choices<PublishConflict> =
    &[("takeover", PublishConflict::Takeover), ("reject", PublishConflict::Reject)];
const UNKNOWNS: Choices<UnknownStream> =
    &[("wait", UnknownStream::Wait), ("reject", UnknownStream::Reject)];

const FLV_WAITS: Choices<bool> = &[("reject", false), ("wait", true)];

pub(super) fn choose<T: Copy>(to: &mut T, choices: Choices<T>, text: &str) -> Result<(), String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        *to = *value;
        return Ok(());
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let (last, others) = names.split_last().map_or(("", names.as_slice()), |(l, o)| (l, o));
    Err(format!("{} or {last}", others.join(", ")))
}

pub(super) fn chosen<T: Copy + PartialEq>(value: T, choices: Choices<T>) -> String {
    let name = choices.iter().find(|(_, choice)| *choice == value).map(|(name, _)| *name);
    text::quoted(name.unwrap_or_default())
}

/// Whether this is a scheme of the web with a host, and maybe a port (RFC 6454 section 6.2).
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    host.is_some_and(|host| !host.is_empty() && host.chars().all(part))
}

/// A list of rules: an array as in the file, or texts with commas between them.
fn rules(to: &mut Rules, text: &str) -> Result<(), String> {
    let listed = text::list(text)
        .ok_or_else(|| "a list of texts such as [\"private\", \"203.0.113.0/24\"]".to_owned())?;
    let listed = listed.iter().map(String::as_str);
    *to = Rules::parse(listed, &mut secrets::read).map_err(|error| error.to_string())?;
    Ok(())
}

pub(super) fn address(to: &mut SocketAddr, port: u16, text: &str) -> Result<(), String> {
    *to = text::address(text).ok_or_else(|| {
        format!(
            "an address in digits with a port: \"[::]:{port}\" for every address of this host, \
             \"127.0.0.1:{port}\" for this host alone"
        )
    })?;
    Ok(())
}

/// A text as the value of a limit whose present value tells the unit, or what is allowed.
pub(super) fn limit(name: &str, present: Value, text: &str) -> Result<Value, String> {
    match present {
        Value::Time(_) => {
            let least = least_time(name);
            let value = text::time(text).filter(|time| *time >= least);
            value.map(Value::Time).ok_or_else(|| times(least, text::TIME_MAX))
        }
        Value::Bytes(_) => {
            let range = bytes_range(name);
            let value = text::bytes(text).filter(|bytes| range.contains(bytes));
            value.map(Value::Bytes).ok_or_else(|| {
                let [least, most] = [range.start(), range.end()].map(|end| text::show_bytes(*end));
                format!("a number of bytes from {least} to {most} such as \"64KiB\" or \"32MiB\"")
            })
        }
        Value::Count(_) => {
            let range = count_range(name);
            let value = text::count(text).filter(|count| range.contains(count));
            value
                .map(Value::Count)
                .ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
        }
    }
}

/// A limit's value as the file has it.
pub(super) fn show_limit(value: Value) -> String {
    match value {
        Value::Time(time) => text::quoted(&text::show_time(time)),
        Value::Bytes(bytes) => text::quoted(&text::show_bytes(bytes)),
        Value::Count(count) => count.to_string(),
    }
}

pub(super) fn times(least: Duration, most: Duration) -> String {
    let [least, most] = [least, most].map(text::show_time);
    format!("a time from {least} to {most} such as \"45s\" or \"20ms\"")
}

/// Without time a connection could not even begin; where nothing waits, no time is a choice.
fn least_time(name: &str) -> Duration {
    match name {
        "close_linger"
        | "key_wait_max"
        | "stream_grace"
        | "takeover_holdoff"
        | "unsubscribe_linger"
        | "session_max"
        | "publisher_idle_max"
        | "publisher_unwatched_max" => Duration::ZERO,
        _ => Duration::from_millis(1),
    }
}

fn bytes_range(name: &str) -> RangeInclusive<usize> {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    match name {
        // The length field has 24 bits.
        "message_bytes_max" => KIB..=(16 * MIB - 1),
        // A connect command has to fit.
        "command_bytes_max" | "partial_bytes_idle_max" | "output_bytes_max" => 4 * KIB..=16 * MIB,
        // Allocated as one piece.
        "receive_bytes" | "segment_bytes" | "batch_bytes_max" => KIB..=16 * MIB,
        // A header has to fit.
        "hook_reply_bytes_max" => 8 * KIB..=16 * MIB,
        _ => 1..=NO_BYTES_LIMIT,
    }
}

fn count_range(name: &str) -> RangeInclusive<usize> {
    match name {
        // Values are parsed by recursion.
        "amf_depth_max" => 1..=64,
        // Control, commands, data, audio and video each have a chunk stream of their own.
        "chunk_streams_max" => 5..=65_599,
        // Rings and queues of this many places.
        "mail_ring_max" | "control_mail_max" | "hook_calls_max" => 16..=1 << 20,
        "sends_per_turn" | "newcomers_per_turn" | "tls_handshakes_per_turn" => 1..=65_536,
        _ => 1..=1_000_000_000,
    }
}
