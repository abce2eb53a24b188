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
    let lines = said.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(lines, 1, "{context}");
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
    check(2, "", &["--rtmp", "here"], &["--rtmp", "\"here\"", "an address with a port"]);
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
