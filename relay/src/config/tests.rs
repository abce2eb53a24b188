//! Configurations good and bad, from all four sources, and the exact sentences about bad ones.

#![allow(clippy::unwrap_used)]

use std::io::Write;

use super::*;
use crate::limits::Limits;
use crate::worker::settings::{Join, PublishConflict, UnknownStream};

/// What one start of the program is given.
#[derive(Default)]
struct Start<'a> {
    file: Option<&'a str>,
    environment: &'a [(&'a str, &'a str)],
    arguments: &'a [&'a str],
}

impl Start<'_> {
    /// The outcome; the file is called `relay.toml` in sentences.
    fn load(&self) -> Result<Command, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut arguments: Vec<OsString> = self.arguments.iter().map(OsString::from).collect();
        if let Some(text) = self.file {
            file.write_all(text.as_bytes()).unwrap();
            arguments.extend(["--config".into(), file.path().into()]);
        }
        let environment = self.environment.iter().map(|(name, value)| (name.into(), value.into()));
        let path = file.path().display().to_string();
        load(arguments, environment).map_err(|error| error.to_string().replace(&path, "relay.toml"))
    }

    fn effective(&self) -> Effective {
        match self.load() {
            Ok(Command::Run(effective)) => *effective,
            other => panic!("not a configuration: {other:?}"),
        }
    }

    fn printed(&self) -> String {
        match self.load() {
            Ok(Command::Print(text)) => text,
            other => panic!("nothing printed: {other:?}"),
        }
    }
}

fn value(effective: &Effective, section: &str, name: &str) -> (String, String) {
    let mut rows = effective.rows.iter();
    let row = rows.find(|row| row.section == section && row.name == name).unwrap();
    (row.value.clone(), row.source.to_string())
}

#[test]
fn nothing_given_means_the_defaults() {
    let Effective { config, rows, .. } = Start::default().effective();
    assert_eq!(config.settings.limits, Limits::default());
    assert_eq!(config.listen.rtmp.to_string(), "[::]:1935");
    assert_eq!(config.listen.http.to_string(), "[::]:8935");
    assert_eq!((config.node.workers, config.node.reactor), (None, ReactorChoice::Auto));
    assert_eq!(config.drain.window, Duration::ZERO);
    assert_eq!(config.log, Log { format: LogFormat::Text, level: LogLevel::Info });
    assert!(!config.node.name.is_empty());
    assert!(rows.iter().all(|row| row.source == Source::Default));
    assert!(rows.iter().all(|row| row.why.ends_with('.') && !row.why.is_empty()));
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    fn check(file: bool, environment: bool, flag: bool, expected: (&str, &str)) {
        let start = Start {
            file: file.then_some("[node]\n\nworkers = 1"),
            environment: if environment { &[("RELAY_NODE__WORKERS", "2")] } else { &[] },
            arguments: if flag { &["--workers", "3"] } else { &[] },
        };
        let found = value(&start.effective(), "node", "workers");
        let source = if expected.1.is_empty() { found.1.clone() } else { expected.1.to_owned() };
        assert_eq!(found, (expected.0.to_owned(), source));
    }
    check(false, false, false, ("\"auto\"", "default"));
    check(true, false, false, ("1", ""));
    check(false, true, false, ("2", "environment RELAY_NODE__WORKERS"));
    check(true, true, false, ("2", "environment RELAY_NODE__WORKERS"));
    check(true, true, true, ("3", "--workers"));
    check(false, false, true, ("3", "--workers"));
}

#[test]
fn every_section_of_a_file_is_understood() {
    let file = r#"
        [node]
        name = "edge-1"
        workers = "auto"
        reactor = "mio"
        [listen]
        rtmp = "127.0.0.1:0"
        http = "[::1]:8000"
        [sockets]
        nodelay = false
        congestion = "bbr"
        notsent_bytes_max = "16KiB"
        user_timeout = "90s"
        zero_copy_bytes_min = "32KiB"
        [limits]
        log_span = "2m"
        gop_span_max = "3m"
        log_bytes_max = "16MiB"
        message_bytes_max = 65536
        streams_max = 1_000
        stream_grace = "0s"
        [apps."*"]
        join = "live"
        [apps.live]
        flush = "20ms"
        [apps."a b/c"]
        join = "gop"
        publish_conflict = "reject"
        unknown_stream = "reject"
        [drain]
        window = "30s"
        [log]
        format = "json"
        level = "debug"
    "#;
    let config = Start { file: Some(file), ..Start::default() }.effective().config;
    assert_eq!(config.node.name, "edge-1");
    assert_eq!(config.node.reactor, ReactorChoice::Mio);
    assert_eq!(config.listen.rtmp.to_string(), "127.0.0.1:0");
    assert_eq!(config.listen.http.to_string(), "[::1]:8000");
    let sockets = Sockets {
        nodelay: false,
        congestion: Some("bbr".to_owned()),
        notsent_bytes_max: Some(16 << 10),
        user_timeout: Some(Duration::from_secs(90)),
        zero_copy_bytes_min: Some(32 << 10),
    };
    assert_eq!(config.sockets, sockets);
    let limits = &config.settings.limits;
    assert_eq!(limits.log_span, Duration::from_secs(120));
    assert_eq!(limits.log_bytes_max, 16 << 20);
    assert_eq!(limits.message_bytes_max, 65_536);
    assert_eq!(limits.streams_max, 1_000);
    assert_eq!(limits.stream_grace, Duration::ZERO);
    assert_eq!(config.drain.window, Duration::from_secs(30));
    assert_eq!(config.log, Log { format: LogFormat::Json, level: LogLevel::Debug });

    let apps = &config.settings;
    assert_eq!(apps.app("other").join, Join::Live);
    assert_eq!(apps.app("live").flush, Some(Duration::from_millis(20)));
    assert_eq!(apps.app("live").join, Join::Live, "inherited from *");
    let own = apps.app("a b/c");
    assert_eq!((own.join, own.publish_conflict), (Join::Gop, PublishConflict::Reject));
    assert_eq!(own.unknown_stream, UnknownStream::Reject);
}

#[test]
fn an_application_inherits_from_a_weaker_source_too() {
    let environment = &[
        ("RELAY_APPS__*__JOIN", "live"),
        ("RELAY_APPS__Main__FLUSH", "0ms"),
        ("RELAY_APPS__a__b__FLUSH", "50ms"),
    ];
    let file = Some("[apps.Main]\nunknown_stream = \"reject\"\n[apps.\"*\"]\nflush = \"20ms\"\n");
    let effective = Start { file, environment, ..Start::default() }.effective();
    let settings = &effective.config.settings;
    let main = settings.app("Main");
    assert_eq!((main.flush, main.join), (Some(Duration::ZERO), Join::Live));
    assert_eq!(main.unknown_stream, UnknownStream::Reject);
    assert_eq!(settings.app("main").flush, Some(Duration::from_millis(20)));
    assert_eq!(settings.app("a__b").flush, Some(Duration::from_millis(50)));
    let (join, source) = value(&effective, "apps.Main", "join");
    assert_eq!((join.as_str(), source.as_str()), ("\"live\"", "environment RELAY_APPS__*__JOIN"));
}

#[test]
fn other_variables_are_none_of_our_business() {
    let environment = &[
        ("RELAY_PORT", "tcp://10.0.0.1:1935"),
        ("RELAY_PORT_1935_TCP", "tcp://10.0.0.1:1935"),
        ("RELAY_PORT_1935_TCP_ADDR", "10.0.0.1"),
        ("RELAY_SERVICE_HOST", "10.0.0.1"),
        ("RELAY_SERVICE_PORT", "1935"),
        ("RELAY_SERVICE_PORT_RTMP", "1935"),
        ("RELAY_HTTP_SERVICE_HOST", "10.0.0.1"),
        ("RELAY_HTTP_PORT", "tcp://10.0.0.1:8935"),
        ("RELAY_HTTP_PORT_8935_TCP_PROTO", "tcp"),
        ("RELAYX", "1"),
        ("PATH", "/bin"),
    ];
    Start { environment, ..Start::default() }.effective();
}

#[test]
fn every_other_variable_of_ours_is_a_mistake() {
    for (name, value) in [
        ("RELAY_FOO", "4"),
        ("RELAY_", "4"),
        ("RELAY_PORT", "1935"),
        ("RELAY_HTTP_PORT", "8935"),
        ("RELAY_SERVICE_PORT_", "1"),
        ("RELAY_PORT_1935_TCP_ADDRESS", "x"),
        ("RELAY_PORT_X_TCP", "x"),
        ("RELAY_NODE___WORKERS", "4"),
    ] {
        let error = Start { environment: &[(name, value)], ..Start::default() }.load();
        let error = error.unwrap_err();
        let named = error.contains(name) && error.contains("is not a setting; the nearest is ");
        assert!(named && !error.contains('\n'), "{name}: {error}");
    }
}

#[test]
fn every_mistake_of_all_sources_is_told_at_once() {
    let file = "[limits]\nlog_span = 1\nnone = 2\n[apps]\nlive = 3\n";
    let environment = &[("RELAY_LOG__LEVEL", "loud"), ("RELAY_LOG__FORMAT", "json")];
    let arguments = &["--workers", "none"];
    let start = Start { file: Some(file), environment, arguments };
    let error = start.load().unwrap_err();
    let begins =
        ["limits.log_span is", "limits.none (", "apps.live is", "log.level is", "node.workers is"];
    assert_eq!(error.lines().count(), begins.len(), "{error}");
    for (line, begin) in error.lines().zip(begins) {
        assert!(line.starts_with(begin) && line.ends_with('.'), "{begin}: {error}");
    }
    let many: String = (0..2_000).map(|n| format!("a{n} = 1\n")).collect();
    let error = Start { file: Some(&many), ..Start::default() }.load().unwrap_err();
    assert_eq!(error.lines().count(), 21);
    assert_eq!(error.lines().last(), Some("There are 1980 more mistakes."));
}

#[test]
fn mistakes_are_told_in_the_form_of_the_log() {
    let environment = [("RELAY_LOG__FORMAT", "json"), ("RELAY_FOO", "1")];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let error = load([], environment).unwrap_err();
    assert_eq!((error.log.format, error.sentences.len()), (LogFormat::Json, 1));
}

#[test]
fn listeners_must_not_meet() {
    fn check(rtmp: &str, http: &str, good: bool) {
        let start = Start { arguments: &["--rtmp", rtmp, "--http", http], ..Start::default() };
        let expected = format!(
            "listen.http is \"{http}\" (--http), but it must be another address or port than \
             listen.rtmp, which is {rtmp}."
        );
        assert_eq!(start.load().err(), (!good).then_some(expected), "{rtmp} {http}");
    }
    check("[::]:1935", "[::]:1935", false);
    check("[::]:1935", "127.0.0.1:1935", false);
    check("[::1]:1935", "[::]:1935", false);
    check("0.0.0.0:1935", "10.0.0.1:1935", false);
    check("127.0.0.1:1935", "127.0.0.1:1935", false);
    check("127.0.0.1:1935", "127.0.0.2:1935", true);
    check("0.0.0.0:1935", "[::1]:1935", true);
    check("[::]:1935", "[::]:1936", true);
    check("[::]:0", "[::]:0", true);
}

#[test]
fn help_and_check_say_what_is_allowed() {
    let mut config = Start::default().effective().config;
    let app = &mut crate::worker::settings::AppSettings::default();
    let fixed = settings::all().map(|row| (row.why, (row.set)(&mut config, "\0")));
    let fixed: Vec<_> = fixed.collect();
    let apps = settings::of_apps().map(|row| (row.why, (row.set)(app, "\0")));
    let mut choices = 0;
    for (why, allowed) in fixed.into_iter().chain(apps) {
        let allowed = allowed.unwrap_err();
        // Between the names that may be chosen there are only commas and "or".
        let between: Vec<_> = allowed.split('"').step_by(2).collect();
        if between.iter().all(|text| ["", ", ", " or "].contains(text)) {
            choices += 1;
            for name in allowed.split('"').skip(1).step_by(2) {
                assert!(why.contains(&format!("\"{name}\"")), "{name} is not in {why:?}");
            }
        }
    }
    assert_eq!(choices, 19);
}

#[test]
fn empty_sections_are_no_mistake() {
    let file = "[node]\n#name = \"x\"\n[limits]\n[apps]\n[apps.live]\n[log]\n[drain]\n[listen]\n";
    Start { file: Some(file), ..Start::default() }.effective();
}

#[test]
fn a_bad_file_is_one_sentence() {
    fn check(file: &str, sentence: &str) {
        let outcome = Start { file: Some(file), ..Start::default() }.load();
        assert_eq!(outcome.unwrap_err(), sentence, "{file}");
        assert!(!sentence.contains('\n') && sentence.ends_with('.'));
    }
    check(
        "[limits]\nlog_span = \"12\"",
        "limits.log_span is \"12\" (relay.toml:2), but it must be a time from 1ms to 86400s such as \
         \"45s\" or \"20ms\".",
    );
    check(
        "[limits]\nlog_span = 12",
        "limits.log_span is \"12\" (relay.toml:2), but it must be a time from 1ms to 86400s such as \
         \"45s\" or \"20ms\".",
    );
    check(
        "limits.message_bytes_max = \"17MiB\"",
        "limits.message_bytes_max is \"17MiB\" (relay.toml:1), but it must be a number of bytes from \
         1KiB to 16777215 such as \"64KiB\" or \"32MiB\".",
    );
    check(
        "[limits]\namf_depth_max = 1000",
        "limits.amf_depth_max is \"1000\" (relay.toml:2), but it must be a number from 1 to 64.",
    );
    check(
        "[limits]\nlog_spam = \"12s\"",
        "limits.log_spam (relay.toml:2) is not a setting; the nearest is limits.log_span.",
    );
    check(
        "[limit]\nlog_span = \"12s\"",
        "limit.log_span (relay.toml:2) is not a setting; the nearest is limits.log_span.",
    );
    check(
        "[limits]\ningest_over = \"slow\"",
        "limits.ingest_over (relay.toml:2) is not a setting; the nearest is \
         apps.\"*\".ingest_over.",
    );
    check(
        "[apps.live]\nstreams_max = 5",
        "apps.live.streams_max (relay.toml:2) is not a setting; the nearest is limits.streams_max.",
    );
    check("workers = 2", "workers (relay.toml:1) is not a setting; the nearest is node.workers.");
    check("[listn]", "listn (relay.toml:1) is not a setting; the nearest is listen.rtmp.");
    check(
        "[node.extra]\nworkers = 2",
        "node.extra.workers (relay.toml:2) is not a setting; the nearest is node.workers.",
    );
    check(
        "[apps.live]\nflsh = \"auto\"",
        "apps.live.flsh (relay.toml:2) is not a setting; the nearest is apps.live.flush.",
    );
    check(
        "[apps.\"*\"]\nflush = \"30ms\"",
        "apps.\"*\".flush is \"30ms\" (relay.toml:2), but it must be \"auto\", \"0ms\", \"20ms\" or \
         \"50ms\".",
    );
    check(
        "[apps.live]\njoin = true",
        "apps.live.join is \"true\" (relay.toml:2), but it must be \"gop\" or \"live\".",
    );
    check(
        "[node]\nworkers = [1, 2]",
        "node.workers is \"[1, 2]\" (relay.toml:2), but it must be a number from 1 to 256, or \
         \"auto\".",
    );
    check(
        "[node]\nname = \"a b\"",
        "node.name is \"a b\" (relay.toml:2), but it must be 1 to 63 letters, digits, dots, dashes or \
         underscores.",
    );
    check(
        "[listen]\nrtmp = 1935",
        "listen.rtmp is \"1935\" (relay.toml:2), but it must be an address in digits with a port: \
         \"[::]:1935\" for every address of this host, \"127.0.0.1:1935\" for this host alone.",
    );
    check(
        "[apps]\nlive = 5",
        "apps.live is \"5\" (relay.toml:2), but it must be a table: [apps.live].",
    );
    check("limits = 5", "limits is \"5\" (relay.toml:1), but it must be a table: [limits].");
    check(
        "[[apps.live]]\nflush = \"0ms\"",
        "apps.live is \"[[apps.live]]\" (relay.toml:1), but it must be a table: [apps.live].",
    );
    check(
        "[drain]\nwindow = \"-1s\"",
        "drain.window is \"-1s\" (relay.toml:2), but it must be a time from 0s to 86400s such as \
         \"45s\" or \"20ms\".",
    );
    check(
        "[log]\nlevel = \"all\"",
        "log.level is \"all\" (relay.toml:2), but it must be \"error\", \"warn\", \"info\", \"debug\" \
         or \"trace\".",
    );
    check(
        "[limits]\nlog_span = \"60s\"",
        "limits.log_span is \"60s\" (relay.toml:2), but it must be at most limits.gop_span_max, 40s.",
    );
    for app in ["*", "live*"] {
        check(
            &format!("[apps.\"{app}\"]\npull = [\"news rtmp://h/live/key always\"]"),
            &format!(
                "apps.\"{app}\".pull is \"***\" (relay.toml:2), but it must be a list without \
                 \"always\": these settings are for many applications, so no stream can be named \
                 that is pulled before somebody plays it."
            ),
        );
    }
    check(
        "[limits]\nlog_bytes_total = \"1MiB\"",
        "limits.log_bytes_max is \"32MiB\" (default), but it must be at most limits.log_bytes_total, \
         1MiB.",
    );
}

#[test]
fn what_is_no_toml_is_one_sentence_with_a_line() {
    for file in ["[node", "a = ", "a = 1\na = 2", "\u{0}", "[a]\nb = \"\n\""] {
        let error = Start { file: Some(file), ..Start::default() }.load().unwrap_err();
        let begins = error.starts_with("The configuration file relay.toml is not TOML at line ");
        assert!(begins && error.ends_with('.') && !error.contains('\n'), "{file:?}: {error:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    let arguments = &["--config", "/no/such/file"];
    let error = Start { arguments, ..Start::default() }.load().unwrap_err();
    let expected = "The configuration file /no/such/file cannot be read: No such file or directory \
                    (os error 2).";
    assert_eq!(error, expected);
}

#[test]
fn bad_arguments_and_variables_are_one_sentence() {
    fn check(environment: &[(&str, &str)], arguments: &[&str], sentence: &str) {
        let outcome = Start { file: None, environment, arguments }.load();
        assert_eq!(outcome.unwrap_err(), sentence, "{environment:?} {arguments:?}");
    }
    check(
        &[],
        &["--workers", "0"],
        "node.workers is \"0\" (--workers), but it must be a number from 1 to 256, or \"auto\".",
    );
    check(
        &[],
        &["--reactor", "epoll"],
        "node.reactor is \"epoll\" (--reactor), but it must be \"auto\", \"io_uring\" or \"mio\".",
    );
    check(
        &[("RELAY_NODE__WORKER", "2")],
        &[],
        "node.worker (environment RELAY_NODE__WORKER) is not a setting; the nearest is node.workers, \
         as RELAY_NODE__WORKERS.",
    );
    check(
        &[("RELAY_NODE_WORKERS", "2")],
        &[],
        "node_workers (environment RELAY_NODE_WORKERS) is not a setting; the nearest is node.workers, \
         as RELAY_NODE__WORKERS.",
    );
    check(
        &[("RELAY_APPS__live__JION", "live")],
        &[],
        "apps.live.jion (environment RELAY_APPS__live__JION) is not a setting; the nearest is \
         apps.live.join, as RELAY_APPS__live__JOIN.",
    );
    check(
        &[("RELAY_LOG_LEVELS", "debug")],
        &[],
        "log_levels (environment RELAY_LOG_LEVELS) is not a setting; the nearest is log.level, as \
         RELAY_LOG__LEVEL.",
    );
    check(
        &[("RELAY_LOG__FORMAT", "xml")],
        &["--log", "json"],
        "log.format is \"xml\" (environment RELAY_LOG__FORMAT), but it must be \"text\" or \"json\".",
    );
    for address in ["localhost:8935", ":8935", "8935", "[::]", "10.0.0.1"] {
        let sentence = format!(
            "listen.http is \"{address}\" (--http), but it must be an address in digits with a \
             port: \"[::]:8935\" for every address of this host, \"127.0.0.1:8935\" for this host \
             alone."
        );
        check(&[], &["--http", address], &sentence);
    }
    check(
        &[],
        &["--worker", "2"],
        "The arguments are wrong: unexpected argument '--worker' found; the nearest is --workers.",
    );
    check(
        &[],
        &["--rtmp"],
        "The arguments are wrong: a value is required for '--rtmp <ADDR>' but none was supplied; see \
         --help.",
    );
    check(
        &[],
        &["file.toml"],
        "The arguments are wrong: unrecognized subcommand 'file.toml'; see --help.",
    );
}

#[test]
fn a_hostile_value_cannot_break_the_sentence() {
    let file = format!("[log]\nlevel = \"{}\"", "x\\n".repeat(1_000));
    let error = Start { file: Some(&file), ..Start::default() }.load().unwrap_err();
    assert!(error.len() < 300 && !error.contains('\n'), "{error}");
}

#[test]
fn what_check_prints_is_a_file_of_the_same_configuration() {
    let file = "[apps.\"a \\\"b\\\"\"]\njoin = \"live\"\n[limits]\nmail_poll = \"1500us\"\n";
    let environment = &[("RELAY_NODE__WORKERS", "2")];
    let start = |arguments| Start { file: Some(file), environment, arguments };
    let text = start(&["--check", "--rtmp", "127.0.0.1:0"]).printed();
    let again = Start { file: Some(&text), ..Start::default() }.effective();
    let first = start(&["--rtmp", "127.0.0.1:0"]).effective();
    let values = |effective: &Effective| {
        let row = |row: &Row| (row.section.clone(), row.name.clone(), row.value.clone());
        effective.rows.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&first));
    let workers = "workers = 2 # environment RELAY_NODE__WORKERS; default: \"auto\"\n";
    assert!(text.contains(workers), "{text}");
    assert!(text.contains("rtmp = \"127.0.0.1:0\" # --rtmp; default: \"[::]:1935\"\n"), "{text}");
    assert!(text.contains("log_span = \"12s\" # default\n"), "{text}");
    assert!(text.contains("mail_poll = \"1500us\" # "), "{text}");
    assert!(text.contains("; default: \"5ms\"\n"), "{text}");
    assert!(text.contains("; default: \"gop\"\n"), "{text}");
}

#[test]
fn help_names_every_setting() {
    let help = Start { arguments: &["--help"], ..Start::default() }.printed();
    for row in Start::default().effective().rows {
        assert!(help.contains(&format!("  {} = ", row.name)), "{} is missing", row.name);
    }
    for flag in ["--config", "--check", "--rtmp", "--http", "--node", "--workers", "--reactor"] {
        assert!(help.contains(flag), "{flag} is missing");
    }
    let version = Start { arguments: &["--version"], ..Start::default() }.printed();
    assert_eq!(version, format!("relay {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_default_may_be_set() {
    for row in Start::default().effective().rows {
        let file = format!("[{}]\n{} = {}\n", row.section, row.name, row.value);
        let effective = Start { file: Some(&file), ..Start::default() }.effective();
        let (found, source) = value(&effective, &row.section, &row.name);
        assert_eq!(found, row.value, "{file}");
        assert!(source.ends_with(":2"), "{source}");
    }
}

#[test]
fn only_publishers_can_be_asked_for_a_password() {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "* user word\n").unwrap();
    let rule = format!("private and password {}", users.path().display());
    let file = format!("[apps.live]\npublish = [\"{rule}\"]\nplay = [\"everybody\"]");
    Start { file: Some(&file), ..Start::default() }.load().unwrap();
    let file = format!("[apps.live]\npublish = [\"{rule}\"]\nplay = [\"private\", \"{rule}\"]");
    let wrong = Start { file: Some(&file), ..Start::default() }.load().unwrap_err();
    let end = "but it must be without \"password\", which only encoders are asked for.";
    assert!(wrong.starts_with("apps.live.play is ") && wrong.ends_with(end), "{wrong}");
}
