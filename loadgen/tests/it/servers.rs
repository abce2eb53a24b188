//! The same command against relay, nginx and FFmpeg: correct results from each.

use std::process::Command;
use std::time::Duration;

use loadgen::flv::FlvFile;
use loadgen::payload::{Reading, Truth, read};
use serde_json::Value;

use crate::support::servers::{
    Server, ffmpeg_player, ffmpeg_recorder, nginx, relay, wait_until_listening,
};
use crate::support::{Scratch, tester};

const LOAD: &[&str] = &["--bitrate", "400k", "--gop", "1s", "--duration", "4s", "--cores", "1"];
const CLEAN: &str = "missing=0,doubled=0,reordered=0,altered=0,foreign=0,backward=0,keyless=0,\
                     headless=0,gops_unequal=0,kept=1,joined=1,errors=0,latency.count>100";

fn runs_clean(dir: &Scratch, server: &Server, command: &str, more: &[&str]) -> Value {
    let url = server.url(command);
    let mut arguments = vec![command, "--target", &url, "--expect", CLEAN];
    arguments.extend(LOAD);
    arguments.extend(more);
    let (ended, json) = tester::program_with_json(dir.path(), &arguments);
    assert_eq!(ended.code, 0, "{command}: {}{}", ended.stdout, ended.stderr);
    json
}

#[test]
fn relay_and_nginx_pass_every_kind_of_load() {
    let dir = Scratch::new();
    for (server, name) in [(relay(dir.path()), "relay"), (nginx(dir.path()), "nginx")] {
        let json = runs_clean(&dir, &server, "run", &["--players", "6", "--streams", "2"]);
        assert_eq!(json["judgement"], "met", "{name}");
        assert_eq!(json["counters"]["players_kept"], 6, "{name}");
        // A part of the players counts only.
        let json = runs_clean(&dir, &server, "storm", &["--players", "20", "--verify", "20%"]);
        assert_eq!(json["counters"]["players_kept"], 20, "{name}");
        assert!(json["counters"]["counted_reads"].as_u64().unwrap() > 100, "{name}");
    }
}

#[test]
fn players_that_come_and_go_find_everything_in_order() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let json = runs_clean(&dir, &server, "churn", &["--players", "10", "--stay", "2s"]);
    assert!(json["counters"]["players_planned"].as_u64().unwrap() > 15);
}

#[test]
fn slow_and_hostile_clients_do_not_hurt_the_others() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let json = runs_clean(&dir, &server, "slow", &["--players", "10"]);
    assert_eq!(json["slow_counters"]["players_planned"], 3);
    let json = runs_clean(&dir, &server, "hostile", &["--players", "4"]);
    assert!(json["counters"]["attackers_closed"].as_u64().unwrap() > 5);
}

#[test]
fn processes_are_added_where_one_may_not_open_enough_files() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    let url = server.url("parts");
    let file = dir.file("parts.json");
    let mut command = Command::new("bash");
    // 128 files are kept back in each process: 72 connections fit one, and there are 101.
    command.args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_loadgen")]);
    command.args(["run", "--target", &url, "--players", "100", "--verify", "10%"]);
    command.args(LOAD).args(["--expect", CLEAN, "--json"]).arg(&file);
    let output = command.output().expect("bash can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{wrong}");
    let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(json["generator"]["processes"], 2);
    assert_eq!(json["counters"]["players_kept"], 100);
}

#[test]
fn a_file_is_published_and_compared_frame_by_frame() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    let file = record(&dir);
    let file = file.to_str().unwrap();
    let url = server.url("file");
    let expect = "missing=0,doubled=0,reordered=0,altered=0,kept=1,verified>300";
    let arguments = [
        "run",
        "--target",
        &url,
        "--file",
        file,
        "--players",
        "3",
        "--duration",
        "6s",
        "--expect",
        expect,
    ];
    let ended = tester::program(&arguments);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn ffmpeg_records_what_was_published_and_plays_it_back() {
    let dir = Scratch::new();
    let file = record(&dir);
    let flv = FlvFile::read(&file).unwrap_or_else(|failure| panic!("{failure}"));
    let truths: Vec<Truth> = flv
        .messages
        .iter()
        .filter(|message| message.number.is_some())
        .map(|message| match read([&message.payload[..]].into_iter()) {
            Reading::Present { truth, intact: true, .. } => truth,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(truths.len() > 150, "{} frames", truths.len());
    let mut sequences: Vec<u64> = truths.iter().map(|truth| truth.sequence).collect();
    sequences.sort_unstable();
    let expected: Vec<u64> = (0..).take(truths.len()).collect();
    assert_eq!(sequences, expected, "every frame from the first to the last");

    let (mut server, url) = ffmpeg_player(dir.path(), &file);
    wait_until_listening(&url);
    // Played back, the frames are as old as the recording, so only their content is judged.
    let ended = tester::program(&[
        "play",
        "--target",
        &url,
        "--players",
        "1",
        "--duration",
        "2s",
        "--ramp",
        "0s",
        "--expect",
        "missing=0,doubled=0,altered=0,backward=0,joined=1,verified>50",
    ]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    server.wait(Duration::from_secs(20));
}

/// A few seconds of a synthetic stream, recorded by FFmpeg.
fn record(dir: &Scratch) -> std::path::PathBuf {
    let file = dir.file("recorded.flv");
    let (mut recorder, url) = ffmpeg_recorder(dir.path(), &file);
    wait_until_listening(&url);
    let mut arguments = vec!["publish", "--target", &url];
    arguments.extend(LOAD);
    let ended = tester::program(&arguments);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    recorder.wait(Duration::from_secs(20));
    file
}
