//! What cannot be run ends with one sentence and exit code 2.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::support::scripted::{self, Script};
use crate::support::servers::nginx;
use crate::support::{Scratch, free_port, tester};

fn check(arguments: &[&str], part: &str) {
    let ended = tester::program(arguments);
    assert_eq!(ended.code, 2, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    let sentence = ended.stderr.trim_end();
    assert!(sentence.starts_with("loadgen: ") && !sentence.contains('\n'), "{sentence}");
    assert!(sentence.contains(part), "{arguments:?}: {sentence}");
}

#[test]
fn a_wrong_url_or_expectation() {
    check(&["run", "--target", "srt://127.0.0.1/live"], "is none of rtmp");
    check(&["run", "--target", "http://127.0.0.1/live"], "can only be played");
    check(&["run", "--target", "rtmp://no-such-host.invalid/live"], "not known");
    let target = ["run", "--target", "rtmp://127.0.0.1/live", "--expect"];
    check(&[&target[..], &["kept>=2"]].concat(), "can never be met");
    check(&[&target[..], &["speed<3"]].concat(), "not measured");
}

#[test]
fn a_refused_connection() {
    let url = format!("rtmp://127.0.0.1:{}/live", free_port());
    check(&["run", "--target", &url, "--players", "3"], "refused the connection");
    check(&["play", "--target", &url, "--players", "3"], "refused the connection");
}

#[test]
fn a_target_that_speaks_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 100]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    check(&["publish", "--target", &url], "does not speak RTMP");
}

#[test]
fn a_server_that_lets_nobody_publish() {
    let address = scripted::start(Script::RefusePublish);
    let url = format!("rtmp://{address}/live/a");
    check(&["run", "--target", &url], "no publisher could begin: the server refused");
    check(&["publish", "--target", &url], "wrong key");
}

#[test]
fn a_server_that_wants_a_password() {
    let address = scripted::start(Script::RefuseConnect);
    let url = format!("rtmp://{address}/live/a");
    check(&["run", "--target", &url], "no publisher could begin: the server refused");
    check(&["play", "--target", &url], "no password");
    // As nginx does it: it closes.
    let dir = Scratch::new();
    let server = nginx(dir.path());
    let url = format!("rtmp://{}/closed/a", server.address);
    check(&["publish", "--target", &url], "no publisher could begin: the server");
}

#[test]
fn single_players_are_counted_by_cause() {
    let dir = Scratch::new();
    let address = scripted::start(Script::RefuseSomePlayers);
    let url = format!("rtmp://{address}/live/a");
    let arguments = ["run", "--target", &url, "--players", "6", "--duration", "1s"];
    let arguments = [&arguments[..], &["--warmup", "200ms", "--expect", "altered=0"]].concat();
    let (ended, json) = tester::program_with_json(dir.path(), &arguments);
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    let causes = json["errors_by_cause"].as_object().unwrap();
    let count = |cause: &str| causes[cause]["count"].as_u64().unwrap();
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert_eq!((count("NetStream.Play.Failed"), count("no_media")), (3, 3));
    assert_eq!(json["errors"], 6);
}

#[test]
fn a_report_that_cannot_be_written_and_a_server_that_cannot_be_watched() {
    let target = ["run", "--target", "rtmp://127.0.0.1:1/live"];
    check(&[&target[..], &["--json", "/nowhere/run.json"]].concat(), "/nowhere/run.json");
    check(&[&target[..], &["--server-pid", "4294967295"]].concat(), "no process");
    check(&[&target[..], &["--server-metrics", "127.0.0.1:1"]].concat(), "no metrics");
    check(&[&target[..], &["--metrics", "192.0.2.1:1"]].concat(), "metrics cannot be served");
}

#[test]
fn an_expectation_that_is_not_met_is_exit_code_1() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    let url = server.url("unmet");
    let arguments = ["run", "--target", &url, "--players", "2", "--duration", "2s", "--expect"];
    // Not even a generator that has no time to itself could be to blame.
    let ended = tester::program(&[&arguments[..], &["altered>0"]].concat());
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("NOT met"), "{}", ended.stdout);
}
