//! `failover` as a program with a command of its own: what the command does is seen in the gaps of
//! players; one that fails takes no report away; and none is run after Ctrl-C.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::Process;
use crate::support::programs::json;
use crate::support::servers::{Server, relay};
use crate::support::{START, Scratch};

/// Players on one server, with something done 2 s after the full load is on.
fn failover(dir: &Path, server: &Server, name: &str, more: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["failover", "--target", &server.url(name), "--players", "5"]);
    command.args(["--bitrate", "200k", "--gop", "1s", "--duration", "7s"]);
    command.args(["--cores", "1", "--json"]).arg(dir.join(format!("{name}.json"))).args(more);
    Process::start(dir, name, &mut command)
}

/// The longest of the players' gaps, in seconds.
fn longest_gap(report: &Value) -> f64 {
    let gaps = report["failover"]["gaps_us"].as_array().unwrap();
    let micros = |gap: &Value| gap.as_array().unwrap()[0].as_u64().unwrap();
    let most = gaps.iter().map(micros).max().unwrap();
    Duration::from_micros(most).as_secs_f64()
}

#[test]
fn what_the_command_does_is_seen_in_the_gaps() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let id = server.process.id();
    let strike = format!("kill -STOP {id}; sleep 1.5; kill -CONT {id}");
    let more = ["--at", "2s", "--command", &strike, "--expect", "recovered=1,gap.max>1s"];
    let mut run = failover(dir.path(), &server, "strike", &more);
    let status = run.wait(3 * START);
    let report = json(dir.path(), "strike");
    println!("{}", run.said());
    assert!(status.success(), "{status}");
    assert_eq!(report["failover"]["players"], 5);
    assert_eq!(report["failover"]["ran"]["exit_code"], 0);
    assert!(run.said().contains("gap "), "the summary has a histogram");
    let gap = longest_gap(&report);
    assert!((1.3..5.0).contains(&gap), "{gap} s");
}

#[test]
fn a_command_that_fails_or_does_not_end_takes_no_report_away() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    for (name, command, says) in [
        ("fails", "exit 3", "the command ended with exit code 3"),
        ("stays", "sleep 99", "--command-max"),
    ] {
        let began = Instant::now();
        let more = ["--at", "2s", "--command", command, "--command-max", "1s"];
        let mut run = failover(dir.path(), &server, name, &more);
        assert_eq!(run.wait(3 * START).code(), Some(2), "{name}");
        assert!(began.elapsed() < Duration::from_secs(40), "{name}");
        let said = run.said();
        assert!(said.contains("5 of 5 players recovered") && said.contains(says), "{said}");
        let report = json(dir.path(), name);
        assert_eq!(
            (&report["judgement"], &report["failover"]["players"]),
            (&"unknown".into(), &5.into())
        );
        let failure = report["failover"]["ran"]["failure"].as_str().unwrap();
        assert!(failure.contains(says), "{failure}");
    }
}

#[test]
fn no_command_is_run_after_a_signal() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let file = dir.file("struck");
    let command = format!("touch {}", file.display());
    let more = ["--command", &command, "--at", "6s"];
    let mut run = failover(dir.path(), &server, "ended", &more);
    std::thread::sleep(Duration::from_secs(2));
    run.signal(Signal::INT);
    let began = Instant::now();
    assert_eq!(run.wait(START).code(), Some(2), "{}", run.said());
    assert!(began.elapsed() < Duration::from_secs(4), "it waited for the command's time");
    std::thread::sleep(Duration::from_secs(7));
    assert!(!file.exists(), "the command was run all the same");
    assert!(run.said().contains("ended early"), "{}", run.said());
}
