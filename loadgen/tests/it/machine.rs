//! loadgen and its machine: few files, few ports, several addresses, no time to itself, and whoever
//! watches it from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::pipe::Pipe;
use crate::support::process::Process;
use crate::support::servers::{relay, relay_program};
use crate::support::{START, Scratch, free_port, wait_for};

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");
const LOAD: &[&str] = &["--bitrate", "300k", "--gop", "1s", "--cores", "1"];
const KEPT: &str = "missing=0,altered=0,kept=1,joined=1,errors=0";

/// Runs loadgen by a script of bash, which finds it in `$loadgen`; gives its JSON.
fn scripted(dir: &Scratch, command: &mut Command, arguments: &[&str]) -> Value {
    let file = dir.file("run.json");
    let output = command
        .args(arguments)
        .args(LOAD)
        .arg("--json")
        .arg(&file)
        .env("loadgen", LOADGEN)
        .stdin(Stdio::null())
        .output()
        .expect("a shell can be started");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()
}

#[test]
fn processes_are_added_where_one_may_not_open_enough_files() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let url = server.url("parts");
    // 128 files are kept back in each process: 72 connections fit one, and there are 101.
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -n 200 && exec \"$loadgen\" run \"$@\"", "loadgen"]);
    let players = ["--players", "100", "--verify", "10%", "--duration", "3s"];
    let arguments = [&["--target", &url, "--expect", KEPT], &players[..]].concat();
    let json = scripted(&dir, &mut command, &arguments);
    assert_eq!(json["generator"]["processes"], 2);
    assert_eq!(json["counters"]["players_kept"], 100);
}

#[test]
fn other_addresses_are_taken_where_one_has_no_port_left() {
    let dir = Scratch::new();
    // A network of its own, with the loopback and a hundred ports.
    let script = "ip link set lo up && echo '40000 40099' > /proc/sys/net/ipv4/ip_local_port_range \
         && { \"$relay\" --rtmp 127.0.0.1:1935 --http 127.0.0.1:8935 > /dev/null & server=$!; } \
         && trap 'kill $server' EXIT \
         && for _ in {1..200}; do \
            (: < /dev/tcp/127.0.0.1/8935) 2> /dev/null && break; sleep 0.1; done \
         && \"$loadgen\" run \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "bash", "-c", script, "loadgen"]);
    command.env("relay", relay_program());
    let players = ["--players", "350", "--verify", "10%", "--duration", "3s"];
    let target = ["--target", "rtmp://127.0.0.1/live/ports", "--expect", KEPT];
    let json = scripted(&dir, &mut command, &[&target[..], &players].concat());
    // A hundred ports of one address would have been 99 players.
    assert_eq!(json["counters"]["players_kept"], 350);
}

#[test]
fn every_address_of_a_name_and_every_target_gets_its_share() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let first = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.3", port)).unwrap();
    let pipes = [Pipe::at(first, server.address), Pipe::at(second, server.address)];
    let third = Pipe::start(server.address, Duration::ZERO);

    let hosts = dir.file("hosts");
    fs::write(&hosts, "127.0.0.2 several.test\n127.0.0.3 several.test\n").unwrap();
    let script = "mount --bind \"$hosts\" /etc/hosts && exec \"$loadgen\" run \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "bash", "-c", script, "loadgen"]);
    command.env("hosts", &hosts);
    let name = format!("rtmp://several.test:{port}/live/shared");
    let other = format!("rtmp://{}/live/shared", third.address);
    let targets = ["--target", &name, "--target", &other, "--expect", KEPT];
    let players = ["--players", "8", "--duration", "3s"];
    let json = scripted(&dir, &mut command, &[&targets[..], &players].concat());
    assert_eq!(json["counters"]["players_kept"], 8);
    // Eight players of 300 kbit/s for 3 s: four at the third, two at each address of the name.
    let [first, second] = pipes.map(|pipe| pipe.down());
    for (bytes, players) in [(first, 2), (second, 2), (third.down(), 4)] {
        let expected = players * 3 * 300_000 / 8;
        assert!(bytes > expected * 8 / 10, "{bytes} bytes for {players} players");
        assert!(bytes < expected * 25 / 10, "{bytes} bytes for {players} players");
    }
}

/// Stops the program for 60 ms of each 100, as a limit on its CPU time does.
#[test]
fn a_generator_without_time_to_itself_gives_no_verdict_on_speed() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    for (number, (expect, code)) in [("p99<1ms", 2), ("altered=0", 0)].into_iter().enumerate() {
        let url = server.url(&format!("starved{number}"));
        let file = dir.file("starved.json");
        let mut command = Command::new(LOADGEN);
        command.args(["run", "--target", &url, "--players", "5", "--duration", "3s"]);
        command.args(LOAD).args(["--expect", expect, "--json"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            kill_process(id, Signal::STOP).unwrap();
            thread::sleep(Duration::from_millis(60));
            kill_process(id, Signal::CONT).unwrap();
            thread::sleep(Duration::from_millis(40));
        };
        assert_eq!(status.code(), Some(code), "{expect}");
        let json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(json["valid"], false, "{expect}");
        let why = json["invalid_because"][0].as_str().unwrap();
        assert!(why.contains("timers"), "{why}");
    }
}

#[test]
fn a_run_can_be_watched_from_outside() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let (url, port) = (server.url("watched"), free_port());
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(LOADGEN);
    command.args(["run", "--target", &url, "--players", "4", "--duration", "4s"]);
    command.args(LOAD).args(["--metrics", &address]);
    let mut running = Process::start(dir.path(), "loadgen", &mut command);
    let page = wait_for("four players on the page of metrics", START, || {
        running.must_run();
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        page.contains("\nloadgen_players_present 4\n").then_some(page)
    });
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/plain; version=0.0.4"));
    for line in [
        "# TYPE loadgen_bytes_received_total counter",
        "loadgen_altered_total 0",
        "# TYPE loadgen_latency_seconds summary",
    ] {
        assert!(body.lines().any(|known| known == line), "{line}: {body}");
    }
    assert!(body.contains("loadgen_latency_seconds{quantile=\"0.99\"} 0."), "{body}");
    assert!(running.wait(START).success());
}
