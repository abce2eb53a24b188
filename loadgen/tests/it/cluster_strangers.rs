//! Whoever comes to the port for nodes and is none, or one that does what nodes do not: refused or
//! bounded, told in one sentence, counted.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use relay::cluster::message::{Announced, Message, Part, Phase};

use crate::support::fake_node::FakeNode;
use crate::support::nets::Net;
use crate::support::nodes::{LINK, Node, Options, SECRET};
use crate::support::process::Process;
use crate::support::programs::{CLEAN, loadgen, succeed};
use crate::support::{START, Scratch, wait_for};

fn refused(node: &Node, net: &Net, reason: &str) -> f64 {
    node.metric(net, "relay_link_refused_total", &[("reason", reason)]).unwrap()
}

fn wait_for_refusals(node: &Node, net: &Net, reason: &str, count: f64) {
    wait_for(&format!("{count} refused for {reason}"), START, || {
        (refused(node, net, reason) >= count).then_some(())
    });
}

/// What the first host says when it dials this one, which passes it on to `to`: a whole greeting,
/// with somebody in between.
fn overhear(net: &Net, host: usize, to: SocketAddr) -> Vec<u8> {
    let space = &net.host(host).space;
    let listener = space.within(|| TcpListener::bind(("0.0.0.0", LINK))).unwrap();
    let mut callers = listener.incoming().map(Result::unwrap);
    let first = |inner: &TcpStream| inner.peer_addr().unwrap().ip() == net.host(0).address;
    let mut inner = callers.find(first).unwrap();
    let mut outer = space.within(|| TcpStream::connect(to)).unwrap();
    let (mut back_from, mut back_to) = (outer.try_clone().unwrap(), inner.try_clone().unwrap());
    inner.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
    let (mut said, mut buffer) = (Vec::new(), [0; 65_536]);
    // If this connection of the two is the one that stays, nobody ends it.
    let end = Instant::now() + Duration::from_secs(3);
    while let Ok(count @ 1..) = inner.read(&mut buffer) {
        said.extend_from_slice(&buffer[..count]);
        if outer.write_all(&buffer[..count]).is_err() || Instant::now() > end {
            break;
        }
    }
    said
}

#[test]
fn strangers_at_the_port_for_nodes_are_turned_away_and_counted() {
    let dir = Scratch::new();
    let dir = dir.path();
    let net = Net::new(dir, 4);
    let start = |number| Node::start(&net, dir, number, &Options::default());
    let nodes = [start(0), start(1)];
    nodes.iter().for_each(|node| node.wait_for_nodes(&net, 1));
    let to = SocketAddr::from((net.host(1).address, LINK));

    // A node that was told another secret.
    let other = dir.join("other.secret");
    fs::write(&other, "what nobody else was told").unwrap();
    let environment = [("RELAY_CLUSTER__SECRET_FILE", other.to_str().unwrap())];
    let options = Options { environment: &environment, ..Options::default() };
    let wrong = Node::start(&net, dir, 2, &options);
    wait_for_refusals(&nodes[1], &net, "secret", 1.0);
    assert!(nodes[1].process.said().contains("does not know the cluster's secret"));
    wrong.kill();

    // Programs that are none of ours.
    let url = format!("rtmp://{to}/live/x");
    let mut ffmpeg = net.outside().command("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i", &url, "-f", "null", "-"]);
    let ffmpeg = Process::start(dir, "ffmpeg", &mut ffmpeg);
    wait_for_refusals(&nodes[1], &net, "foreign", 1.0);
    drop(ffmpeg);
    let mut curl = net.outside().command("curl");
    curl.args(["--silent", "--max-time", "5", &format!("http://{to}/")]);
    assert!(!Process::start(dir, "curl", &mut curl).wait(START).success());
    wait_for_refusals(&nodes[1], &net, "foreign", 2.0);

    // A whole greeting, word for word once more: what proved the secret then proves nothing now.
    let said = overhear(&net, 3, to);
    assert!(said.len() > 3_100, "a handshake and a greeting: {} bytes", said.len());
    let before = refused(&nodes[1], &net, "secret");
    let mut again = net.host(3).space.within(|| TcpStream::connect(to)).unwrap();
    again.write_all(&said).unwrap();
    wait_for_refusals(&nodes[1], &net, "secret", before + 1.0);

    // The name that all are found by names each itself.
    assert!(refused(&nodes[1], &net, "oneself") >= 1.0);
    let sentence = "the list of nodes names this one, too";
    assert_eq!(nodes[1].process.said().matches(sentence).count(), 1);
    nodes.iter().for_each(|node| node.wait_for_nodes(&net, 1));
}

#[test]
fn a_node_that_announces_a_million_streams_is_heard_to_its_limit() {
    const STREAMS: u32 = 1_000_000;
    const AT_A_TIME: u32 = 1_000;
    let dir = Scratch::new();
    let dir = dir.path();
    let net = Net::new(dir, 2);
    let node = Node::start(&net, dir, 0, &Options::default());
    let to = SocketAddr::from((net.host(0).address, LINK));
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
    };
    let before = resident();
    let mut fake = FakeNode::join(&net.host(1).space, to, SECRET, "boundless");
    node.wait_for_nodes(&net, 1);
    for from in (0..STREAMS).step_by(AT_A_TIME as usize) {
        let entry = |number| Announced {
            name: format!("live/{number}").into(),
            epoch: 1,
            phase: Phase::Live,
            rate_kbit: 0,
        };
        let entries = (from..from + AT_A_TIME).map(entry).collect();
        let part = Part { first: from == 0, last: from + AT_A_TIME == STREAMS };
        fake.say(&Message::Announce { part, entries });
    }
    // 20,000 is announced_streams_max.
    wait_for_refusals(&node, &net, "announcements", 980_000.0);
    let grown = resident() - before;
    println!("a million streams announced: {grown} MiB for the 20,000 that are known");
    assert!(grown < 100, "{grown} MiB");
    let said = node.process.said();
    let sentences = said.matches("announces more than announced_streams_max").count();
    assert_eq!(sentences, 1, "{said}");
    // It works as before.
    let run = ["run", "--target", "rtmp://127.0.0.1/live/x", "--players", "2", "--bitrate", "300k"];
    let more = ["--gop", "1s", "--duration", "2s", "--expect", CLEAN];
    let mut run = loadgen(&net.host(0).space, dir, "run", &[&run[..], &more].concat());
    succeed(&mut run, 2 * START);
}

#[test]
fn clocks_that_are_minutes_apart_harm_nothing() {
    let dir = Scratch::new();
    let dir = dir.path();
    let net = Net::new(dir, 3);
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(fs::exists(library).unwrap(), "{library} not found: run .ci/install");
    let start = |number, offset| {
        let environment =
            [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        let options = Options { environment: &environment, ..Options::default() };
        let node = Node::start(&net, dir, number, &options);
        // Their own clocks are apart as well: each counts from its start.
        thread::sleep(Duration::from_millis(700));
        node
    };
    let nodes = [start(0, "-10m"), start(1, "+0"), start(2, "+7m")];
    nodes.iter().for_each(|node| node.wait_for_nodes(&net, 2));
    let begun = Instant::now();
    let to = nodes[0].url(&net, "x");
    let from = [nodes[1].url(&net, "x"), nodes[2].url(&net, "x")];
    let mut run = vec!["run", "--target", &to, "--players", "4", "--bitrate", "300k"];
    run.extend(["--gop", "1s", "--duration", "8s", "--expect", CLEAN]);
    run.extend(from.iter().flat_map(|from| ["--play-target", from]));
    succeed(&mut loadgen(net.outside(), dir, "run", &run), 3 * START);
    for node in &nodes[1..] {
        let sum = |name| node.metric(&net, name, &[]).unwrap();
        let (age, count) =
            (sum("relay_origin_age_seconds_sum"), sum("relay_origin_age_seconds_count"));
        println!("relay-{}: {count} ages, {:.4} s on average", node.number, age / count);
        assert!(count >= 3.0 && age / count < 0.5, "{age} {count} {:?}", begun.elapsed());
    }
}
