//! Limits, the API's token and reloads on the real program: what real players are told, who may ask
//! from where, and what a changed file does to those who are there.

mod used;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::{Client, Player, Quiet};
use crate::support::clip::Clip;
use crate::support::flv::curl;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay, forget_ours};
use crate::support::{Scratch, ffmpeg, http, rtmpdump, wait_for};

const END_MAX: Duration = Duration::from_secs(30);

/// The file of the only relay that was started in `dir`.
fn file_of(dir: &Path) -> PathBuf {
    dir.join("relay-1.toml")
}

fn limit(relay: &Relay, name: &str) -> Option<f64> {
    relay.metrics().sum("relay_limit", &[("name", name)])
}

#[test]
fn real_players_beyond_a_limit_are_told_why_and_where_to_go() {
    let scratch = Scratch::new("full");
    let dir = scratch.path();
    let configuration =
        "[limits]\nplayers_max = 1\n[overflow]\nto = [\"rtmp://other.example:1936\"]\n";
    let relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let url = relay.url("clip");
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &url);
    relay.wait_for_role("publisher", 1);
    let mut first = Player::join(Client::open(relay.rtmp).unwrap(), "live", "clip").unwrap();
    wait_for("a relay that is full not to be ready", END_MAX, || {
        let ready = http::get(relay.http, "/readyz").unwrap();
        (ready.status == 503 && ready.body == "players_max is reached\n").then_some(())
    });

    let words = "The server has as many players as it may; play it from \
                 rtmp://other.example:1936/live/clip";
    let mut second = ffmpeg::record(dir, "second", &url, &scratch.file("second.flv"));
    assert!(!second.wait(END_MAX).success());
    assert!(second.log().contains(words), "{}", second.log());
    let mut third = rtmpdump::record(dir, "third", &url, &scratch.file("third.flv"));
    assert!(!third.wait(END_MAX).success(), "{}", third.log());
    // Over HTTP every client follows.
    let address = format!("http://{}/live/clip.flv?only=audio", relay.rtmp);
    let answer = curl(&["-i", &address]);
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
    let to = "Location: http://other.example:1936/live/clip.flv?only=audio&sent_on=1\r\n";
    assert!(answer.contains(to), "{answer}");
    assert!(
        answer.ends_with("play it from http://other.example:1936/live/clip.flv.\n"),
        "{answer}"
    );
    // Who was sent here for want of room elsewhere is not sent to and fro.
    let answer = http::get(relay.rtmp, "/live/clip.flv?sent_on=1").unwrap();
    assert_eq!(answer.status, 503, "{}", answer.body);
    let mut sent = Client::open(relay.rtmp).unwrap();
    sent.enter("live?sent_on=1").unwrap();
    assert!(sent.play("clip").is_err());
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("relay_refused_total", &[("reason", "node_players")]), Some(5.0));
    assert_eq!(metrics.sum("relay_players_redirected_total", &[]), Some(3.0));
    assert_eq!(metrics.sum("relay_limit_used", &[("name", "players_max")]), Some(1.0));

    // The one that is in was not touched.
    let before = first.recording.0.len();
    let soon = Instant::now() + Duration::from_secs(2);
    assert!(matches!(first.read(soon, |_| false), Ok(Quiet::Timeout)));
    assert!(first.recording.0.len() > before + 10);
    publisher.must_run();
    drop(first);
    wait_for("room to make it ready again", END_MAX, || {
        (http::get(relay.http, "/readyz").unwrap().status == 200).then_some(())
    });
}

#[test]
fn a_kicked_publisher_and_player_are_closed_and_nobody_else() {
    let scratch = Scratch::new("kick");
    let dir = scratch.path();
    let relay = Relay::start(dir, &Options::default());
    let mut kept = Player::join(Client::open(relay.rtmp).unwrap(), "live", "a").unwrap();
    relay.wait_for_role("player", 1);
    let mut kicked = Player::join(Client::open(relay.rtmp).unwrap(), "live", "b").unwrap();
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("a"));
    relay.wait_for_role("publisher", 1);
    relay.wait_for_role("player", 2);
    let list = http::get(relay.http, "/api/v1/connections").unwrap().body;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let id = |role: &str, name: &str| {
        let items = list["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["role"] == role && item["name"] == name);
        item.unwrap_or_else(|| panic!("{role} of {name}: {list}"))["id"].as_str().unwrap()
    };
    for who in [id("player", "b"), id("publisher", "a")] {
        let path = format!("/api/v1/connections/{who}");
        assert_eq!(http::ask(relay.http, "DELETE", &path).unwrap().status, 204, "{who}");
    }
    let end = Instant::now() + END_MAX;
    assert!(matches!(kicked.read(end, |_| false), Ok(Quiet::Closed)));
    assert!(!publisher.wait(END_MAX).success(), "{}", publisher.log());
    let soon = Instant::now() + Duration::from_millis(500);
    assert!(matches!(kept.read(soon, |_| false), Ok(Quiet::Timeout)));
    let path = format!("/api/v1/connections/{}", id("player", "b"));
    assert_eq!(http::ask(relay.http, "DELETE", &path).unwrap().status, 404);
    let closed = relay.metrics().sum("relay_connections_closed_total", &[("reason", "operator")]);
    assert_eq!(closed, Some(2.0));
}

#[test]
fn a_changed_file_takes_effect_by_signal_and_a_bad_one_changes_nothing() {
    let scratch = Scratch::new("reload");
    let dir = scratch.path();
    let configuration = "[limits]\nstreams_max = 100\n";
    let mut relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let mut player = Player::join(Client::open(relay.rtmp).unwrap(), "live", "a").unwrap();
    assert_eq!(limit(&relay, "streams_max"), Some(100.0));
    let write = |text: &str| std::fs::write(file_of(dir), text).unwrap();

    write("[limits]\nstreams_max = 7\n[node]\nworkers = 3\n[log]\nlevel = \"debug\"\n");
    relay.signal(Signal::HUP);
    wait_for("the new limit", END_MAX, || {
        (limit(&relay, "streams_max") == Some(7.0)).then_some(())
    });
    wait_for("the log to tell of it", END_MAX, || {
        let log = relay.log();
        let applied = log.contains("setting changed") && log.contains("limits.streams_max");
        let restart = log.contains("setting changes with a restart only")
            && log.contains("name=\"node.workers\" from=\"\\\"auto\\\"\" to=\"3\"");
        (applied && restart && log.contains("reloaded")).then_some(())
    });

    write("[limits]\nstreams_max = 8\nstreams_mix = 1\nstream_grace = 2\n");
    relay.signal(Signal::HUP);
    wait_for("the log to tell of a bad file", END_MAX, || {
        let log = relay.log();
        let words = ["streams_mix", "limits.stream_grace is", "not reloaded; nothing has changed"];
        words.iter().all(|word| log.contains(word)).then_some(())
    });
    assert_eq!(limit(&relay, "streams_max"), Some(7.0));
    let answer = http::ask(relay.http, "POST", "/api/v1/reload").unwrap();
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("streams_mix") && answer.body.contains("stream_grace"));
    let reloads = |result| relay.metrics().sum("relay_config_reloads_total", &[("result", result)]);
    assert_eq!((reloads("ok"), reloads("error")), (Some(1.0), Some(2.0)));

    std::fs::remove_file(file_of(dir)).unwrap();
    assert_eq!(http::ask(relay.http, "POST", "/api/v1/reload").unwrap().status, 422);
    write("");
    let answer = http::ask(relay.http, "POST", "/api/v1/reload").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["restart"], serde_json::json!([]), "{answer}");
    assert_eq!(limit(&relay, "streams_max"), Some(20_000.0));

    // Whoever was there is there.
    let soon = Instant::now() + Duration::from_millis(300);
    assert!(matches!(player.read(soon, |_| false), Ok(Quiet::Timeout)));
}

/// Runs a script beside a relay in a network of its own, whose addresses are no loopback: 192.0.2.1
/// and some of 2001:db8::/32. Whoever connects to one of them comes from it.
fn in_a_network(name: &str, configuration: &str, script: &str) -> String {
    let scratch = Scratch::new(name);
    let file = scratch.file("relay.toml");
    std::fs::write(scratch.file("tokens"), "the-right-token-of-many\n").unwrap();
    let tokens = scratch.file("tokens");
    let configuration = configuration.replace("TOKENS", tokens.to_str().unwrap());
    std::fs::write(&file, configuration).unwrap();
    let before = "set -eu\nip link set lo up\nip address add 192.0.2.1/32 dev lo\n\
        for a in 2001:db8:1::1 2001:db8:1::2 2001:db8:1::3 2001:db8:2::1; do \
           ip -6 address add $a/128 dev lo nodad; done\n\
        \"$relay\" --rtmp '[::]:1935' --http '[::]:8935' --config \"$file\" > \"$out\" 2>&1 &\n\
        server=$!\ntrap 'kill $server' EXIT\n\
        for _ in {1..200}; do (: < /dev/tcp/127.0.0.1/8935) 2> /dev/null && break; sleep 0.1; done\n\
        ask() { exec 3<>\"/dev/tcp/$1/8935\"; \
           printf '%s %s HTTP/1.1\\r\\nHost: x\\r\\n%bConnection: close\\r\\n\\r\\n' \
             \"$2\" \"$3\" \"${4:-}\" >&3; cat <&3; exec 3>&-; }\n\
        status() { ask \"$@\" | head -n 1 | cut -d ' ' -f 2; }\n";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "bash", "-c", &format!("{before}{script}")]);
    command.env("relay", env!("CARGO_BIN_EXE_relay")).env("file", file);
    command.env("out", scratch.file("relay.out"));
    forget_ours(&mut command);
    let mut process = Process::start(scratch.path(), name, &mut command);
    process.succeed(END_MAX);
    process.log()
}

#[test]
fn the_api_answers_other_hosts_for_a_token_only() {
    let script = "for peer in 192.0.2.1 2001:db8:1::1 127.0.0.1; do\n\
        status $peer GET /api/v1/config\n\
        status $peer GET /api/v1/config 'X-Forwarded-For: 127.0.0.1\\r\\nX-Real-IP: ::1\\r\\n'\n\
        status $peer GET /api/v1/config 'Authorization: Bearer the-wrong-token-of-many\\r\\n'\n\
        status $peer GET /api/v1/config 'Authorization: Bearer the-right-token-of-many\\r\\n'\n\
        status $peer DELETE /api/v1/connections/0-99 'Authorization: Bearer the-right-token-of-many\\r\\n'\n\
        status $peer POST /api/v1/reload 'Authorization: Bearer the-right-token-of-many\\r\\n'\n\
        status $peer GET /livez\ndone\n";
    let said = in_a_network("token", "[api]\ntoken_file = \"TOKENS\"\n", script);
    let remote = ["401", "401", "401", "200", "404", "200", "200"];
    // A page in a browser of this host may ask by any name, and a proxy on it for anybody: whoever
    // asks loopback for neither an address nor localhost needs the token too.
    let expected = [remote; 3].concat().join("\n");
    assert_eq!(said.trim(), expected);
    let said = in_a_network("none", "", "status 192.0.2.1 GET /api/v1/config\n");
    assert_eq!(said.trim(), "403");
}

#[test]
fn connections_count_by_address_and_by_ipv6_network() {
    let configuration = "[limits]\nconnections_per_address_max = 2\n\
                         [apps.\"*\"]\npublish = [\"everybody\"]\nplay = [\"everybody\"]\n";
    let script = "open() { exec {fd}<>\"/dev/tcp/$1/1935\"; }\n\
        told() { sleep 1; ask 127.0.0.1 GET /metrics | \
           grep -E '^relay_(refused_total|limit_used).*(address_connections|per_address_max)' | \
           grep -v handshakes | cut -d ' ' -f 2 | tr '\\n' ' '; echo; }\n\
        for a in 2001:db8:1::1 2001:db8:1::2; do open $a; done; told\n\
        for a in 2001:db8:1::3 2001:db8:1::1; do open $a; done; told\n\
        for a in 2001:db8:2::1 192.0.2.1 192.0.2.1; do open $a; done; told\n\
        for a in 192.0.2.1 127.0.0.1 127.0.0.1 127.0.0.1; do open $a; done; told\n";
    let said = in_a_network("addresses", configuration, script);
    let lines: Vec<_> = said.lines().map(str::trim).collect();
    // The most of one address, and how many were refused.
    assert_eq!(lines, ["2 0", "2 2", "2 2", "2 3"]);
}

#[test]
fn who_sends_too_much_is_told_of_with_figures_and_rules_in_force_at_the_start() {
    let scratch = Scratch::new("too-much");
    let configuration = "[limits]\ningest_rate_max = \"10KiB\"\ningest_window = \"2s\"\n\
                         [apps.live]\nplay = [\"everybody\"]\n";
    let options = Options { configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let mut publisher = ffmpeg::publish(scratch.path(), "p", Clip::Plain, &relay.url("clip"));
    assert!(!publisher.wait(END_MAX).success(), "{}", publisher.log());
    // What is asked by POST says so.
    let mut socket = std::net::TcpStream::connect(relay.rtmp).unwrap();
    std::io::Write::write_all(&mut socket, b"GET /open/1 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let answer = std::io::read_to_string(socket).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nAllow: POST\r\n"),
        "{answer}"
    );
    let log = relay.log_at_end(END_MAX);
    let closed =
        log.lines().find(|line| line.contains("connection closed") && line.contains("\"limit\""));
    let closed = closed.unwrap_or_else(|| panic!("{log}"));
    let figures =
        ["it sends more than it may: ", " bytes a second came, 10240 may, or 20480 at once"];
    assert!(figures.iter().all(|part| closed.contains(part)), "{closed}");
    println!("{closed}");
    for access in [
        "live: publish [\"private\"], play [\"everybody\"]",
        "*: publish [\"private\"], play [\"private\"]",
    ] {
        assert!(log.contains(access), "{log}");
    }
}
