//! What the log tells: each connection by one id from accept to close, a stream by one mark on all
//! nodes, and under an attack so many lines and no more, the rest counted.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cluster::{link, node, wait_for_nodes};
use crate::support::clip::Clip;
use crate::support::relay::{Options, Relay};
use crate::support::{START, Scratch, ffmpeg, wait_for};

/// The lines of a log that say this.
fn lines<'a>(log: &'a str, message: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(&format!(" {message} "))).collect()
}

/// The value of a field in a line of text.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    Some(rest.split(' ').next().unwrap_or(rest).trim_matches('"'))
}

#[test]
fn a_connection_has_one_id_from_accept_to_close_and_its_last_line_says_all() {
    let scratch = Scratch::new("ids");
    let dir = scratch.path();
    let relay = Relay::start(dir, &Options::default());
    let mut publisher = ffmpeg::publish_looped(dir, "talk", Clip::Plain, 20, &relay.url("talk"));
    relay.wait_for_role("publisher", 1);
    let file = scratch.file("talk.flv");
    let mut player = ffmpeg::record(dir, "player", &relay.url("talk"), &file);
    relay.wait_for_role("player", 1);
    thread::sleep(Duration::from_secs(2));
    player.stop(Signal::INT);
    publisher.stop(Signal::INT);
    let log = wait_for("both to be closed", START, || {
        let log = relay.log();
        (lines(&log, "connection closed").len() == 2).then_some(log)
    });
    for (role, message) in [("publisher", "publish started"), ("player", "play started")] {
        let of = |line: &&&str| field(line, "role") == Some(role);
        let closed = lines(&log, "connection closed");
        let end = closed.iter().find(of).unwrap();
        let count = |message| {
            let same = |line: &&&str| field(line, "id") == field(end, "id");
            lines(&log, message).iter().filter(same).count()
        };
        assert_eq!((count("connection opened"), count(message)), (1, 1), "{role}: {log}");
        let found = ["stream", "transport"].map(|name| field(end, name));
        assert_eq!(found, [Some("live/talk"), Some("rtmp")], "{end}");
        assert!(field(end, "peer").unwrap().starts_with("127.0.0.1:"), "{end}");
        let number = |name| field(end, name).and_then(|text| text.parse::<f64>().ok());
        assert!(number("seconds") > Some(1.5) && field(end, "reason").is_some(), "{end}");
        let bytes = if role == "publisher" { "bytes_in" } else { "bytes_out" };
        assert!(number(bytes) > Some(50_000.0), "{end}");
        for name in ["lag_ms", "jumps", "dropped"] {
            assert_eq!(number(name).is_some(), role == "player", "{name}: {end}");
        }
    }
}

#[test]
fn a_stream_has_one_mark_in_the_logs_of_all_nodes() {
    let scratch = Scratch::new("marks");
    let dir = scratch.path();
    let a = node(&scratch, "a", &[], "");
    let b = node(&scratch, "b", &[link(&a)], "");
    for relay in [&a, &b] {
        wait_for_nodes(relay, 1);
    }
    let _publisher = ffmpeg::publish_looped(dir, "talk", Clip::Plain, 20, &a.url("talk"));
    a.wait_for_role("publisher", 1);
    let _player = ffmpeg::record(dir, "player", &b.url("talk"), &scratch.file("talk.flv"));
    b.wait_for_role("player", 1);
    let log = wait_for("the stream to come", START, || {
        let log = b.log();
        log.contains("stream comes from").then_some(log)
    });
    let there = log.lines().find(|line| line.contains("stream comes from")).unwrap();
    let source = field(there, "source").unwrap();
    let log = a.log();
    let known = log.lines().find(|line| line.contains("publish is known to the cluster")).unwrap();
    assert_eq!(field(known, "source"), Some(source), "{there}\n{known}");
    assert_eq!(field(there, "stream"), Some("live/talk"), "{there}");
    // From there on by the id, to its address.
    let id = field(known, "id").unwrap();
    let opened = log.lines().find(|line| line.contains("connection opened")).unwrap();
    assert_eq!(field(opened, "id"), Some(id), "{log}");
}

#[test]
fn under_an_attack_so_many_lines_are_written_and_the_rest_is_counted() {
    const LINES: usize = 20;
    const WORKERS: usize = 2;
    let scratch = Scratch::new("flood");
    let configuration = format!(
        "[node]\nworkers = {WORKERS}\n[limits]\nlog_lines_per_second_max = {LINES}\n\
         handshakes_per_address_max = 1000000\n"
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let start = Instant::now();
    let mut opened = 0_u32;
    while opened < 3_000 && start.elapsed() < Duration::from_secs(5) {
        drop(TcpStream::connect(relay.rtmp).unwrap());
        opened += 1;
    }
    let closed = |page: &crate::support::http::Metrics| {
        page.sum("relay_connections_closed_total", &[]).unwrap()
    };
    let page = wait_for("all to be closed", START, || {
        let page = relay.metrics();
        (closed(&page) >= f64::from(opened)).then_some(page)
    });
    // The thread that writes is given a moment, too.
    thread::sleep(Duration::from_millis(300));
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 2;
    let log = relay.log();
    let written = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    let kinds = ["connection opened", "connection closed"].map(written);
    println!("{opened} connections in {:?}: {kinds:?} lines", start.elapsed());
    for lines in kinds {
        assert!((LINES..=LINES * WORKERS * seconds).contains(&lines), "{lines} lines");
    }
    let left_out = page.sum("relay_log_lines_left_out_total", &[]).unwrap();
    let all = kinds.iter().sum::<usize>();
    let missing = 2.0 * f64::from(opened) - f64::from(u32::try_from(all).unwrap());
    // Each line is either there or counted.
    assert_eq!(left_out, missing, "{log}");
    assert_eq!(page.sum("relay_log_lines_lost_total", &[]), Some(0.0));
    // That is looked at twice a second.
    let told = || relay.log().contains("log lines were left out").then_some(());
    wait_for("the log to tell of it", START, told);
}
