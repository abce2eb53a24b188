//! How the relay starts and ends: what it says, and with which exit code.

use std::net::TcpListener;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::{Client, Player, Quiet};
use crate::support::process::Process;
use crate::support::relay::{Options, Relay, accepts, command};
use crate::support::{Scratch, http, wait_for};

const END_MAX: Duration = Duration::from_secs(15);

/// Starts the relay with a configuration and arguments it must not accept.
fn refused(configuration: &str, arguments: &[&str]) -> (ExitStatus, String) {
    let scratch = Scratch::new("refused");
    let file = scratch.file("relay.toml");
    std::fs::write(&file, configuration).unwrap();
    let mut command = command();
    command.args(arguments).arg("--config").arg(file);
    let mut process = Process::start(scratch.path(), "relay", &mut command);
    (process.wait(END_MAX), process.log())
}

/// Checks that a fault is said in one line that holds all of `words`, with exit code `code`.
fn check(code: i32, configuration: &str, arguments: &[&str], words: &[&str]) {
    let any = ["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let any = if arguments.iter().any(|argument| argument.starts_with("--rtmp")) {
        &[][..]
    } else {
        &any
    };
    let (status, said) = refused(configuration, &[any, arguments].concat());
    let context = format!("{configuration:?} {arguments:?} ended with {status}:\n{said}");
    assert_eq!(status.code(), Some(code), "{context}");
    // Beside the fault the log may have said what it found on the way.
    let faults = said.lines().filter(|line| !line.contains(" INFO ")).count();
    assert_eq!(faults, 1, "{context}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not named: {context}");
    }
}

#[test]
fn a_bad_configuration_is_refused_in_one_sentence_naming_key_value_and_what_is_allowed() {
    check(
        2,
        "[limits]\nstream_grace = \"soon\"\n",
        &[],
        &["limits.stream_grace", "soon", "such as"],
    );
    check(2, "[limits]\nstream_grace = 7\n", &[], &["limits.stream_grace", "\"7\"", "such as"]);
    check(2, "[limits]\nstream_grave = \"2s\"\n", &[], &["stream_grave", "limits.stream_grace"]);
    check(2, "[limits]\namf_depth_max = -1\n", &[], &["limits.amf_depth_max", "\"-1\"", "1 to 64"]);
    check(2, "[apps.live]\njoin = \"never\"\n", &[], &["join", "never", "\"gop\" or \"live\""]);
    check(2, "[nodes]\nname = \"a\"\n", &[], &["nodes.name", "node.name"]);
    check(2, "[limits\n", &[], &["relay.toml"]);
    check(2, "", &["--workers", "many"], &["--workers", "\"many\"", "1 to 256"]);
    check(2, "", &["--workers", "0"], &["--workers", "\"0\"", "1 to 256"]);
    check(2, "", &["--reactor", "epoll"], &["--reactor", "\"epoll\"", "auto", "io_uring", "mio"]);
    check(2, "", &["--rtmp", "here"], &["--rtmp", "\"here\"", "an address in digits with a port"]);
    check(2, "", &["--no-such-flag"], &["--no-such-flag"]);
}

#[test]
fn a_port_that_is_taken_is_said_in_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["--rtmp", &address, "--http", "127.0.0.1:0"];
    check(1, "", &arguments, &[&address]);
    let arguments = ["--rtmp", "127.0.0.1:0", "--http", &address];
    check(1, "", &arguments, &[&address]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let file = "[limits]\nstream_grace = 1\nstream_grave = 2\n";
    let (status, said) = refused(file, &["--workers", "0"]);
    assert_eq!(status.code(), Some(2), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, name) in lines.iter().zip(["stream_grace", "stream_grave", "node.workers"]) {
        assert!(line.starts_with("relay: ") && line.contains(name), "{said}");
    }
}

#[test]
fn a_mistyped_variable_is_refused() {
    let scratch = Scratch::new("variable");
    let mut command = command();
    command.env("RELAY_NODE_WORKERS", "4");
    let mut process = Process::start(scratch.path(), "relay", &mut command);
    assert_eq!(process.wait(END_MAX).code(), Some(2));
    let said = process.log();
    assert!(said.contains("RELAY_NODE_WORKERS") && said.contains("RELAY_NODE__WORKERS"), "{said}");
}

/// The lines of a text, each of which must be a JSON object with a level and a message.
fn json_lines(text: &str) -> Vec<serde_json::Value> {
    let lines = text.lines().map(|line| {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|wrong| panic!("{wrong}: {line}"));
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
        line
    });
    lines.collect()
}

#[test]
fn with_json_logs_everything_that_is_said_is_json() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = "[log]\nformat = \"json\"\n[node]\nworkers = 0\nname = \"\"\n";
    let cases: [(&str, &[&str], i32, &str); 4] = [
        (file, &[], 2, "node.name"),
        ("", &["--log", "json", "--workers", "0"], 2, "node.workers"),
        ("", &["--log=json", "--no-such-flag"], 2, "--no-such-flag"),
        ("", &["--log", "json", "--rtmp", &address, "--http", "127.0.0.1:0"], 1, &address),
    ];
    for (configuration, arguments, code, word) in cases {
        let (status, said) = refused(configuration, arguments);
        assert_eq!(status.code(), Some(code), "{said}");
        let lines = json_lines(&said);
        let mut errors = lines.iter().filter(|line| line["level"] == "ERROR");
        assert!(errors.any(|line| line["message"].as_str().unwrap().contains(word)), "{said}");
    }

    let scratch = Scratch::new("json");
    let mut command = command();
    command.args(["--log", "json", "--workers", "1"]);
    command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let mut process = Process::start(scratch.path(), "relay", &mut command);
    wait_for("the relay to start", END_MAX, || process.log().contains("\"started\"").then_some(()));
    process.signal(Signal::TERM);
    process.succeed(END_MAX);
    let lines = json_lines(&process.log());
    let started = lines.iter().find(|line| line["message"] == "started").unwrap();
    assert_eq!(started["workers"], 1);
    let rtmp: std::net::SocketAddr = started["rtmp"].as_str().unwrap().parse().unwrap();
    assert_ne!(rtmp.port(), 0);
}

#[test]
fn output_that_cannot_be_written_is_said() {
    for argument in ["--check", "--help"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command().arg(argument).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{argument}: {said}");
        assert!(said.starts_with("relay: Standard output cannot be written: "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn sighup_ends_nothing() {
    let scratch = Scratch::new("sighup");
    let mut relay = Relay::start(scratch.path(), &Options::default());
    relay.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    relay.must_run();
    assert_eq!(http::get(relay.http, "/readyz").unwrap().status, 200);
    assert!(relay.log_at_end(END_MAX).contains("reloaded"));
}

#[test]
fn many_workers_at_rest_take_little_memory() {
    let scratch = Scratch::new("workers");
    let arguments = &["--workers", "64"][..];
    let relay = Relay::start(scratch.path(), &Options { arguments, ..Options::default() });
    let held = relay.resident_bytes();
    assert!(held < 100 << 20, "{held} bytes");
}

#[test]
fn sigterm_ends_in_order() {
    let scratch = Scratch::new("sigterm");
    let relay = Relay::start(scratch.path(), &Options::default());
    let (rtmp, http) = (relay.rtmp, relay.http);
    assert_eq!(http::get(http, "/livez").unwrap().status, 200);
    let mut player = Player::join(Client::open(rtmp).unwrap(), "live", "none").unwrap();
    let status = relay.terminate(END_MAX);
    assert_eq!(status.code(), Some(0), "{status}");
    let why = player.read(Instant::now() + END_MAX, |_| false);
    assert!(matches!(why, Ok(Quiet::Closed)), "the player's connection: {why:?}");
    assert!(!accepts(rtmp) && !accepts(http), "a port is still open");
}

#[test]
fn a_drain_that_waits_is_cut_short_by_a_second_sigterm_or_a_sigint() {
    for second in [Signal::TERM, Signal::INT] {
        let scratch = Scratch::new("drain");
        let configuration = "[drain]\nwindow = \"60s\"\n";
        let options = Options { configuration, ..Options::default() };
        let mut relay = Relay::start(scratch.path(), &options);
        let client = Client::open(relay.rtmp).unwrap();
        let mut player = Player::join(client, "live", "none").unwrap();
        relay.signal(Signal::TERM);
        wait_for("a relay that drains not to be ready", END_MAX, || {
            let ready = http::get(relay.http, "/readyz").unwrap();
            (ready.status == 503).then_some(())
        });
        let soon = Instant::now() + Duration::from_millis(500);
        let quiet = player.read(soon, |_| false);
        assert!(matches!(quiet, Ok(Quiet::Timeout)), "the player's connection: {quiet:?}");
        relay.must_run();
        relay.signal(second);
        let told = Instant::now();
        let status = relay.wait(END_MAX);
        assert_eq!(status.code(), Some(0), "{second:?}: {status}");
        assert!(told.elapsed() < Duration::from_secs(5), "{second:?}: {:?}", told.elapsed());
    }
}
