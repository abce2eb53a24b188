//! Nodes that are processes of their own: they find each other, feed each other, and turn away
//! whoever is none of them.

mod tls;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::clip::{Clip, LENGTH};
use crate::support::packets::Recording;
use crate::support::relay::{Options, Relay};
use crate::support::scene::END_MAX;
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

pub(crate) const SECRET: &str = "what only the nodes of this test know";

/// A node of a cluster; `name` is also that of its files.
pub(crate) fn node(scratch: &Scratch, name: &str, peers: &[SocketAddr], further: &str) -> Relay {
    node_with(scratch, name, peers, SECRET, further, &[])
}

fn node_with(
    scratch: &Scratch,
    name: &str,
    peers: &[SocketAddr],
    secret: &str,
    further: &str,
    arguments: &[&str],
) -> Relay {
    let file = scratch.file(&format!("{name}.secret"));
    fs::write(&file, secret).unwrap();
    // A node that is alone so far lists an address at which nobody is.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let peers: Vec<String> = match peers {
        [] => vec![nobody.to_string()],
        peers => peers.iter().map(ToString::to_string).collect(),
    };
    let configuration = format!(
        "[node]\nname = \"{name}\"\n[listen]\nlink = \"127.0.0.1:0\"\n[cluster]\n\
         peers = \"{}\"\nsecret_file = {file:?}\n{further}\n[drain]\nwindow = \"0s\"\n\
         [limits]\nstream_grace = \"2s\"\n",
        peers.join(", ")
    );
    let configuration = &configuration;
    let options = Options { configuration, arguments, ..Options::default() };
    Relay::start(scratch.path(), &options)
}

pub(crate) fn link(relay: &Relay) -> SocketAddr {
    relay.link.expect("a node says where others find it")
}

pub(crate) fn wait_for_nodes(relay: &Relay, count: u32) {
    wait_for(&format!("{count} other nodes"), START, || {
        let now = relay.metrics().sum("relay_cluster_nodes", &[]);
        (now == Some(f64::from(count))).then_some(())
    });
}

fn refused(relay: &Relay, reason: &str) -> f64 {
    relay.metrics().sum("relay_link_refused_total", &[("reason", reason)]).unwrap()
}

#[test]
fn nodes_find_each_other_and_show_it() {
    let scratch = Scratch::new("nodes");
    let a = node(&scratch, "a", &[], "");
    // Its list names itself, too.
    let b = node(&scratch, "b", &[link(&a)], "");
    let c = node(&scratch, "c", &[link(&a), link(&b)], "");
    for relay in [&a, &b, &c] {
        wait_for_nodes(relay, 2);
    }
    let page = http::get(b.http, "/api/v1/nodes").unwrap();
    assert_eq!(page.status, 200);
    for part in ["\"node\":\"a\"", "\"node\":\"c\"", "\"connected\":true", "\"protocol\":1"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert!(!page.body.contains(SECRET));
    drop(c);
    wait_for_nodes(&a, 1);
    let log = a.log();
    assert!(log.contains("node c ") && log.contains("is gone"), "{log}");
    assert!(!log.contains(SECRET));
}

#[test]
fn a_stream_published_on_one_node_is_played_on_others_packet_by_packet() {
    let scratch = Scratch::new("hops");
    let a = node(&scratch, "a", &[], "");
    let b = node(&scratch, "b", &[link(&a)], "");
    // One of the two reactors beside the other.
    let c = node_with(&scratch, "c", &[link(&a), link(&b)], SECRET, "", &["--reactor", "mio"]);
    for relay in [&a, &b, &c] {
        wait_for_nodes(relay, 2);
    }
    let dir = scratch.path();
    let file = |name: &str| scratch.file(&format!("{name}.flv"));
    let record =
        |relay: &Relay, name: &str| ffmpeg::record(dir, name, &relay.url("clip"), &file(name));
    let early = [(&a, "early-a"), (&b, "early-b"), (&c, "early-c")];
    let mut players: Vec<_> = early.iter().map(|(relay, name)| record(relay, name)).collect();
    for (relay, _) in early {
        relay.wait_for_role("player", 1);
    }
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &a.url("clip"));
    thread::sleep(LENGTH / 2);
    let state = http::get(b.http, "/api/v1/streams/live/clip").unwrap().body;
    assert!(state.contains("\"source\":\"remote\""), "{state}");
    let links = http::get(b.http, "/api/v1/links").unwrap().body;
    assert!(links.contains("\"way\":\"in\""), "{links}");
    players.push(record(&b, "late-b"));
    publisher.succeed(LENGTH + END_MAX);
    for player in &mut players {
        player.succeed(END_MAX);
    }
    let sent = Clip::Plain.sent();
    for (_, name) in early {
        assert_eq!(sent.check_whole(&Recording::of_file(&file(name))), Ok(()), "{name}");
    }
    let before = sent.check_from_key_frame(&Recording::of_file(&file("late-b"))).unwrap();
    assert!(before > 200, "the late player joined after only {before} packets");
    let metrics = b.metrics();
    let aged = metrics.sum("relay_origin_age_seconds_count", &[]).unwrap();
    let sum = metrics.sum("relay_origin_age_seconds_sum", &[]).unwrap();
    assert!(aged >= 5.0 && sum / aged < 0.2, "{sum} s over {aged}");
}

#[test]
fn who_is_no_node_is_turned_away_with_one_sentence() {
    let scratch = Scratch::new("strangers");
    let a = node(&scratch, "a", &[], "");
    // A wrong secret.
    let wrong = node_with(&scratch, "b", &[link(&a)], "a secret that nobody else has", "", &[]);
    wait_for("the wrong secret to be refused", START, || {
        (refused(&a, "secret") >= 1.0).then_some(())
    });
    assert_eq!(a.metrics().sum("relay_cluster_nodes", &[]), Some(0.0));
    assert!(a.log().contains("does not know the cluster's secret"), "{}", a.log());
    drop(wrong);
    // Other programs.
    let url = format!("rtmp://{}/live/clip", link(&a));
    let mut foreign = ffmpeg::publish(scratch.path(), "foreign", Clip::Plain, &url);
    wait_for("FFmpeg to be refused", START, || (refused(&a, "foreign") >= 1.0).then_some(()));
    foreign.stop(rustix::process::Signal::INT);
    let mut web = TcpStream::connect(link(&a)).unwrap();
    web.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    web.set_read_timeout(Some(START)).unwrap();
    let mut answer = Vec::new();
    // It may be reset as well.
    let _ = web.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    wait_for("HTTP to be refused", START, || (refused(&a, "foreign") >= 2.0).then_some(()));
    // Whoever says nothing.
    let silent = TcpStream::connect(link(&a)).unwrap();
    wait_for("silence to be refused", START, || (refused(&a, "timeout") >= 1.0).then_some(()));
    drop(silent);
    // A version that this node does not speak.
    let later = node(&scratch, "c", &[link(&a)], "protocol = \"pretend 2-3\"");
    wait_for("the version to be refused", START, || (refused(&a, "version") >= 1.0).then_some(()));
    assert!(a.log().contains("update the older one"), "{}", a.log());
    drop(later);
    // And nodes still find it.
    let b = node(&scratch, "d", &[link(&a)], "");
    wait_for_nodes(&a, 1);
    wait_for_nodes(&b, 1);
}

#[test]
fn two_versions_of_the_protocol_work_side_by_side() {
    let scratch = Scratch::new("versions");
    let a = node(&scratch, "a", &[], "");
    // The newer one is on the other reactor, too.
    let (newer, mio) = ("protocol = \"pretend 1-2\"", ["--reactor", "mio"]);
    let b = node_with(&scratch, "b", &[link(&a)], SECRET, newer, &mio);
    let c = node(&scratch, "c", &[link(&a), link(&b)], newer);
    for relay in [&a, &b, &c] {
        wait_for_nodes(relay, 2);
    }
    let page = http::get(b.http, "/api/v1/nodes").unwrap().body;
    assert!(page.contains("\"protocol\":1") && page.contains("\"protocol\":2"), "{page}");
    // Each feeds both others.
    let dir = scratch.path();
    let nodes = [(&a, "a"), (&b, "b"), (&c, "c")];
    let mut players = Vec::new();
    for (_, stream) in nodes {
        for (at, name) in nodes.into_iter().filter(|(_, name)| *name != stream) {
            let name = format!("{stream}-{name}");
            let file = scratch.file(&format!("{name}.flv"));
            players.push((ffmpeg::record(dir, &name, &at.url(stream), &file), file));
        }
    }
    for (relay, _) in nodes {
        relay.wait_for_role("player", 2);
    }
    let mut publishers = nodes.map(|(relay, stream)| {
        ffmpeg::publish(dir, &format!("publish-{stream}"), Clip::Plain, &relay.url(stream))
    });
    for publisher in &mut publishers {
        publisher.succeed(LENGTH + END_MAX);
    }
    for (player, file) in &mut players {
        player.succeed(END_MAX);
        let recording = Recording::of_file(file);
        assert_eq!(Clip::Plain.sent().check_whole(&recording), Ok(()), "{}", file.display());
    }
}

#[test]
fn of_two_nodes_with_one_name_the_later_one_stays() {
    let scratch = Scratch::new("namesakes");
    let a = node(&scratch, "a", &[], "");
    let first = node(&scratch, "b", &[link(&a)], "");
    wait_for_nodes(&a, 1);
    thread::sleep(Duration::from_millis(20));
    let second = node(&scratch, "b", &[link(&a), link(&first)], "");
    wait_for_nodes(&second, 1);
    let sentence = "a process of the same name that started later is the node";
    wait_for("the sentence", START, || a.log().contains(sentence).then_some(()));
    wait_for("the first one to be turned away", START, || {
        let page = http::get(a.http, "/api/v1/nodes").ok()?.body;
        (page.matches("\"node\":\"b\"").count() == 1 && refused(&a, "replaced") >= 1.0)
            .then_some(())
    });
}

#[test]
fn a_node_without_a_secret_does_not_start() {
    let mut command = crate::support::relay::command();
    command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let output = command.args(["--peers", "127.0.0.1:9"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cluster.secret_file"), "{said}");
}

#[test]
fn a_publisher_that_comes_back_on_another_node_goes_on_there() {
    let scratch = Scratch::new("takeover");
    let a = node(&scratch, "a", &[], "");
    let b = node(&scratch, "b", &[link(&a)], "");
    wait_for_nodes(&a, 1);
    wait_for_nodes(&b, 1);
    let dir = scratch.path();
    let file = scratch.file("player.flv");
    let mut player = ffmpeg::record(dir, "player", &a.url("clip"), &file);
    a.wait_for_role("player", 1);
    let mut first = ffmpeg::publish(dir, "first", Clip::Plain, &a.url("clip"));
    thread::sleep(LENGTH / 4);
    let mut second = ffmpeg::publish(dir, "second", Clip::Plain, &b.url("clip"));
    wait_for("the first one to be taken over", START, || {
        (a.metrics().sum("relay_link_yielded_total", &[]) == Some(1.0)).then_some(())
    });
    first.stop(rustix::process::Signal::INT);
    second.succeed(LENGTH + END_MAX);
    player.succeed(END_MAX);
    let recording = Recording::of_file(&file);
    assert_eq!(recording.check_monotonic(), Ok(()));
    let times: Vec<u32> = recording.coded().iter().map(|packet| packet.time_ms).collect();
    let longest = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
    assert!(longest < Some(1_000), "a gap of {longest:?} ms in one timeline");
    let span = times.last().unwrap() - times.first().unwrap();
    assert!(span > 20_000, "{span} ms are of both publishers");
}

#[test]
fn players_that_find_no_room_are_sent_to_a_node_that_has_some() {
    let scratch = Scratch::new("room");
    // Two players a node; the last one says nowhere where clients reach it.
    let start = |name: &str, peers: &[SocketAddr], advertise: &str| {
        let environment = format!("[node]\nname = \"{name}\"\nadvertise = \"{advertise}\"\n");
        let file = scratch.file(&format!("{name}.secret"));
        fs::write(&file, SECRET).unwrap();
        let peers: Vec<String> = match peers {
            [] => vec!["127.0.0.1:9".to_owned()],
            peers => peers.iter().map(ToString::to_string).collect(),
        };
        let configuration = format!(
            "{environment}[listen]\nlink = \"127.0.0.1:0\"\n[cluster]\npeers = \"{}\"\n\
             secret_file = {file:?}\n[drain]\nwindow = \"0s\"\n[limits]\nplayers_max = 2\n",
            peers.join(", ")
        );
        let options = Options { configuration: &configuration, ..Options::default() };
        Relay::start(scratch.path(), &options)
    };
    let a = start("a", &[], "rtmp://a.example");
    let b = start("b", &[link(&a)], "rtmp://b.example:1936, https://b.example");
    let c = start("c", &[link(&a), link(&b)], "");
    for relay in [&a, &b, &c] {
        wait_for_nodes(relay, 2);
    }
    let join = |relay: &Relay| {
        let mut client = Client::open(relay.rtmp).unwrap();
        client.enter("live").unwrap();
        client.play("x").unwrap();
        client
    };
    let full: Vec<Client> = (0..2).map(|_| join(&a)).collect();
    let flv = |query: &str| http::get(a.rtmp, &format!("/live/x.flv{query}")).unwrap();
    // An unknown stream of FLV is refused before there is a lack of room.
    let mut publisher =
        ffmpeg::publish_looped(scratch.path(), "publisher", Clip::Plain, 5, &b.url("x"));
    let told = |query: &str| {
        let answer = flv(query);
        (answer.status, answer.body)
    };
    wait_for("a to know of the stream and to send players to b", START, || {
        (told("").0 == 302).then_some(())
    });
    let (_, body) = told("");
    assert!(body.contains("play it from https://b.example/live/x.flv"), "{body}");
    let mut legacy = ffmpeg::record(scratch.path(), "legacy", &a.url("x"), &scratch.file("x.flv"));
    assert!(!legacy.wait(END_MAX).success());
    let words = "play it from rtmp://b.example:1936/live/x";
    assert!(legacy.log().contains(words), "{}", legacy.log());
    // Nobody is sent to and fro.
    assert_eq!(told("?sent_on=1").0, 503);
    // Nor to a node that is full, or has gone.
    let others: Vec<Client> = (0..2).map(|_| join(&b)).collect();
    wait_for("b to be known to be full", START, || (told("").0 == 503).then_some(()));
    drop(others);
    publisher.must_run();
    wait_for("b to be known to have room", START, || (told("").0 == 302).then_some(()));
    drop(b);
    wait_for("b to be known to have gone", START, || (told("").0 != 302).then_some(()));
    drop((full, publisher));
}
