//! The same command against relay, nginx and FFmpeg: correct results from each.

use std::time::Duration;

use loadgen::flv::FlvFile;
use loadgen::payload::{Reading, Truth, read};
use serde_json::Value;

use crate::support::servers::{
    Server, ffmpeg_player, ffmpeg_recorder, nginx, nginx_that_pushes, relay, wait_until_listening,
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
fn frames_of_every_codec_arrive_as_they_were() {
    let dir = Scratch::new();
    let server = relay(dir.path());
    for codec in ["h264", "hevc", "av1"] {
        let json = runs_clean(&dir, &server, "run", &["--players", "3", "--codec", codec]);
        assert_eq!(json["plan"]["codec"], codec);
        assert!(json["counters"]["gops_equal"].as_u64().unwrap() > 5, "{codec}");
    }
}

#[test]
fn either_reactor_carries_the_load() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    for reactor in ["mio", "io_uring"] {
        if let ("io_uring", Err(_)) = (reactor, relay::reactor::uring::probe()) {
            // Asked for by name, it is never silently another one.
            let target = ["run", "--target", &server.url("none"), "--reactor", reactor];
            let ended = tester::program(&target);
            assert_eq!(ended.code, 2, "{}", ended.stdout);
            assert!(ended.stderr.starts_with("loadgen: io_uring cannot be used"));
            continue;
        }
        let json = runs_clean(&dir, &server, "run", &["--players", "3", "--reactor", reactor]);
        assert_eq!(json["generator"]["reactors"], serde_json::json!([reactor]));
    }
}

/// From one server to the next: what the second one plays is what the first was sent.
#[test]
fn hashes_are_equal_across_hops() {
    let (near, far) = (Scratch::new(), Scratch::new());
    let far = nginx(far.path());
    let near_dir = near.path();
    let near_server = nginx_that_pushes(near_dir, far.address);
    let (to, from) = (near_server.url("hop"), far.url("hop"));
    let arguments = ["run", "--target", &to, "--play-target", &from, "--players", "3"];
    let expect = ["--expect", CLEAN, "--expect", "gops_equal>5"];
    let arguments = [&arguments[..], LOAD, &expect].concat();
    let ended = tester::program(&arguments);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn a_file_is_published_and_compared_frame_by_frame() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    let file = record(&dir);
    let file = file.to_str().unwrap();
    let url = server.url("file");
    // The file lasts about 4.5 s, so it goes round twice and some more: time goes on as if it were
    // one, and each frame says by its place when it was due.
    let expect = "missing=0,doubled=0,reordered=0,altered=0,backward=0,retimed=0,stalls=0,kept=1,\
                  verified>1500,latency.count>1500,p50<500ms";
    let arguments = ["run", "--target", &url, "--file", file, "--players", "3"];
    let arguments = [&arguments[..], &["--duration", "9s", "--expect", expect]].concat();
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
