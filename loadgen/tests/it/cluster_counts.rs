//! What crosses between nodes, counted on the wire and by their own metrics: each stream once, over
//! few connections, and who suffers where the wire is too narrow. `RELAY_TEST_LONG=1` brings all
//! the players that there may be, for whom relay and loadgen have to be built with `--release`.

use std::thread;
use std::time::Duration;

use crate::support::nets::Net;
use crate::support::nodes::{LINK, Node, Options};
use crate::support::programs::{CLEAN, json, loadgen, succeed};
use crate::support::{START, Scratch, wait_for};

/// So that thousands may come at once from one address.
const MANY: &str = "[limits]\nhandshakes_per_address_max = 1000000\nconnections_per_address_max = \
                    100000\n";

const LOCAL: &str = "rtmp://127.0.0.1/live";

/// So many where time is no matter, else so many.
fn long(many: u32, few: u32) -> u32 {
    let is_long = std::env::var_os("RELAY_TEST_LONG").is_some_and(|value| value == "1");
    if is_long { many } else { few }
}

/// Published at the one, played on the other.
fn wait_for_streams(node: &Node, net: &Net, source: &str, count: u32) {
    wait_for(&format!("{count} streams"), START, || {
        let now = node.metric(net, "relay_streams", &[("source", source)]);
        (now == Some(f64::from(count))).then_some(())
    });
}

#[test]
fn each_of_many_streams_crosses_once_over_two_connections() {
    let dir = Scratch::new();
    let dir = dir.path();
    let net = Net::new(dir, 3);
    let options = Options { configuration: MANY, ..Options::default() };
    let nodes = Node::start_all(&net, dir, &options);
    let target = format!("{LOCAL}/s");
    // Clients are on the hosts of their nodes: what passes `eth0` is what nodes say to each other.
    let mut publish = vec!["publish", "--target", &target, "--streams", "200", "--ramp", "3s"];
    publish.extend(["--bitrate", "60k", "--audio", "off", "--fps", "5", "--gop", "2s"]);
    let length = format!("{}s", long(50, 30));
    publish.extend(["--duration", &length]);
    let _publisher = loadgen(&net.host(0).space, dir, "publish", &publish);
    wait_for_streams(&nodes[0], &net, "local", 200);
    // 50 players of each stream are 25 on each of the other nodes.
    let (each, ramp) = (long(25, 4) * 200, format!("{}s", long(12, 3)));
    let each_text = each.to_string();
    let mut play = vec!["play", "--target", &target, "--streams", "200", "--players", &each_text];
    play.extend(["--ramp", &ramp, "--duration", "12s", "--verify", "4%", "--expect"]);
    play.extend(["missing=0,altered=0,backward=0,keyless=0,kept=1,joined=1"]);
    let mut players: Vec<_> = [1, 2]
        .map(|number| loadgen(&net.host(number).space, dir, &format!("play-{number}"), &play))
        .into();
    for node in &nodes[1..] {
        wait_for(&format!("{each} players on relay-{}", node.number), 3 * START, || {
            let now = node.metric(&net, "relay_players", &[]);
            (now == Some(f64::from(each))).then_some(())
        });
        wait_for_streams(node, &net, "remote", 200);
    }
    // The groups of pictures that came first are no part of the rate.
    thread::sleep(Duration::from_secs(2));
    let sum = |number: usize, name: &str, labels: &[(&str, &str)]| {
        nodes[number].metric(&net, name, labels).unwrap()
    };
    let look = || {
        let taken = sum(0, "relay_ingest_bytes_total", &[("via", "publisher")]);
        let wires = [1, 2].map(|number| net.host(number).bytes().0);
        let links = [1, 2].map(|number| sum(number, "relay_link_bytes_total", &[("way", "in")]));
        (taken, wires, links)
    };
    let (taken, wires, links) = look();
    thread::sleep(Duration::from_secs(6));
    let (taken_now, wires_now, links_now) = look();
    let taken = taken_now - taken;
    for at in [0, 1] {
        let wire = f64::from(u32::try_from(wires_now[at] - wires[at]).unwrap()) / taken;
        let link = (links_now[at] - links[at]) / taken;
        println!(
            "to relay-{}: {wire:.3} of the published bytes on the wire, {link:.3} on links",
            at + 1
        );
        assert!((0.8..1.25).contains(&link), "{link}");
        assert!((0.8..1.35).contains(&wire), "{wire}");
    }
    for number in [1, 2] {
        let page = nodes[number].get(&net, "/api/v1/links").unwrap().body;
        let links: serde_json::Value = serde_json::from_str(&page).unwrap();
        // Where a node stood still for a second another one feeds some streams instead.
        let mut media = std::collections::BTreeMap::<&str, usize>::new();
        for link in links["items"].as_array().unwrap().iter().filter(|link| link["way"] == "in") {
            *media.entry(link["process"].as_str().unwrap()).or_default() += 1;
        }
        let streams = sum(number, "relay_link_streams", &[("way", "in")]);
        println!("relay-{number}: {media:?} links bring {streams} streams to {each} players");
        assert!(!media.is_empty() && media.values().all(|count| *count <= 2), "{page}");
        assert_eq!(streams, 200.0);
        // One more per pair to talk, by whoever dialled it.
        let from = net.host(0).address.into();
        let connections = net.host(number).accepted(LINK).remove(&from).unwrap_or(0);
        assert!((1..=3).contains(&connections), "{connections} connections");
    }
    for player in &mut players {
        succeed(player, Duration::from_secs(60));
    }
}

#[test]
fn the_first_player_on_a_cold_node_gets_a_key_frame_at_once_and_a_crowd_one_link() {
    let dir = Scratch::new();
    let dir = dir.path();
    let net = Net::new(dir, 2);
    let options = Options { configuration: MANY, ..Options::default() };
    let nodes = Node::start_all(&net, dir, &options);
    let target = format!("{LOCAL}/s");
    // Key frames are far apart: whoever would wait for the next one is found out.
    let mut publish = vec!["publish", "--target", &target, "--streams", "2", "--bitrate", "400k"];
    publish.extend(["--gop", "10s", "--duration", "40s", "--fps", "10", "--ramp", "0s"]);
    let publisher = loadgen(&net.host(0).space, dir, "publish", &publish);
    wait_for_streams(&nodes[0], &net, "local", 2);
    thread::sleep(Duration::from_secs(3));
    let first = format!("{LOCAL}/s-0");
    let play = ["play", "--target", &first, "--players", "1", "--duration", "2s", "--ramp", "0s"];
    let expect = [&play[..], &["--expect", CLEAN]].concat();
    succeed(&mut loadgen(&net.host(1).space, dir, "one", &expect), 2 * START);
    let join = json(dir, "one")["spans_us"]["join"]["max"].as_u64().unwrap();
    println!("the first player on a cold node had its first key frame after {} ms", join / 1_000);
    assert!(join < 1_250_000, "{join} us");

    let crossed =
        |nodes: &[Node]| nodes[1].metric(&net, "relay_link_bytes_total", &[("way", "in")]).unwrap();
    let taken = |nodes: &[Node]| {
        nodes[0].metric(&net, "relay_ingest_bytes_total", &[("via", "publisher")]).unwrap()
    };
    // The other stream may be of another worker, and would come by another link.
    wait_for("the first link to end", START, || {
        let links = nodes[1].metric(&net, "relay_links", &[("way", "in")]);
        (links == Some(0.0)).then_some(())
    });
    let second = format!("{LOCAL}/s-1");
    let (before, taken_before) = (crossed(&nodes), taken(&nodes));
    let crowd_size = long(10_000, 1_000);
    let crowd_text = crowd_size.to_string();
    let mut storm = vec!["play", "--target", &second, "--players", &crowd_text, "--ramp", "1s"];
    storm.extend(["--duration", "5s", "--verify", "1%", "--expect"]);
    storm.push("missing=0,altered=0,backward=0,keyless=0,kept=1,joined=1");
    let mut crowd = loadgen(&net.host(1).space, dir, "crowd", &storm);
    wait_for("all players", 3 * START, || {
        let now = nodes[1].metric(&net, "relay_players", &[]);
        (now == Some(f64::from(crowd_size))).then_some(())
    });
    for (name, count) in [("relay_links", 1.0), ("relay_link_streams", 1.0)] {
        assert_eq!(nodes[1].metric(&net, name, &[("way", "in")]), Some(count), "{name}");
    }
    let (crossed, taken) = (crossed(&nodes) - before, taken(&nodes) - taken_before);
    println!(
        "{crossed} bytes crossed for {crowd_size} players, {taken} were published of two streams"
    );
    // One of two streams, and a group of pictures of at most 10 s before.
    assert!(crossed < taken / 2.0 + 11.0 * 400_000.0 / 8.0, "{crossed} {taken}");
    succeed(&mut crowd, 3 * START);
    let join = &json(dir, "crowd")["spans_us"]["join"];
    println!("joins of {crowd_size} players within a second: {join}");
    publisher.signal(rustix::process::Signal::INT);
}

/// A stream that is too large for the wire suffers itself, and not those with more players; where
/// nothing fits, streams are let go in the order of their players.
#[test]
fn a_wire_that_is_too_narrow_costs_the_streams_with_the_fewest_players() {
    let dir = Scratch::new();
    let dir = dir.path();
    let net = Net::new(dir, 2);
    // One link carries all of them.
    let nodes = Node::start_all(&net, dir, &Options { workers: 1, ..Options::default() });
    let publish = |name: &str, streams: &str, rate: &str, length: &str| {
        let target = format!("{LOCAL}/{name}");
        let run = ["publish", "--target", &target, "--streams", streams, "--bitrate", rate];
        let more = ["--gop", "1s", "--audio", "off", "--ramp", "0s", "--duration", length];
        loadgen(&net.host(0).space, dir, name, &[&run[..], &more].concat())
    };
    let play = |name: &str, players: &str, length: &str, expect: &str| {
        let target = format!("{LOCAL}/{name}");
        let run = ["play", "--target", &target, "--players", players, "--duration", length];
        let more = ["--ramp", "0s", "--expect", expect];
        let file = format!("play-{name}-{players}");
        loadgen(&net.host(1).space, dir, &file, &[&run[..], &more].concat())
    };
    let let_go = || -> Vec<String> {
        let said = nodes[0].process.said();
        let lines = said.lines().filter(|line| line.contains("a stream is let go"));
        lines.map(|line| line.split_once("stream=").unwrap().1.to_owned()).collect()
    };
    let wait_for_players = |count: f64| {
        wait_for(&format!("{count} players"), START, || {
            (nodes[1].metric(&net, "relay_players", &[]) == Some(count)).then_some(())
        });
    };
    let mut big = publish("big", "1", "40M", "24s");
    let small_publishers = publish("s", "5", "1M", "60s");
    wait_for_streams(&nodes[0], &net, "local", 6);

    // The large one has the fewest players: it alone is let go, again and again.
    let others = "missing=0,altered=0,backward=0,keyless=0,kept=1,joined=1";
    let kept = "altered=0,backward=0,keyless=0,kept=1,joined=1";
    let names = ["s-0", "s-1", "s-2", "s-3", "s-4"];
    let mut small = names.map(|name| play(name, "4", "16s", others));
    let mut large = play("big", "1", "16s", kept);
    wait_for_players(21.0);
    thread::sleep(Duration::from_secs(1));
    net.host(0).limit(20_000_000);
    for player in small.iter_mut().chain([&mut large]) {
        succeed(player, 3 * START);
    }
    for name in names {
        let latency = &json(dir, &format!("play-{name}-4"))["spans_us"]["latency"];
        let at = |part: &str| latency[part].as_u64().unwrap() / 1_000;
        println!(
            "1 Mbit/s beside 40 through 20: {name} is {} ms old, p99 {} ms",
            at("p50"),
            at("p99")
        );
    }
    let first = let_go();
    println!("40 and five times 1 Mbit/s through 20 Mbit/s, let go: {first:#?}");
    assert!(!first.is_empty() && first.iter().all(|line| line.contains("live/big")), "{first:#?}");
    big.wait(START);

    // Nothing fits: all are let go, those with the most players last. Some come back meanwhile, and
    // go again.
    net.host(0).unlimit();
    let played = [("s-0", "2"), ("s-1", "3"), ("s-2", "1"), ("s-3", "5"), ("s-4", "6")];
    let players = played.map(|(name, count)| play(name, count, "60s", "altered=0"));
    wait_for_players(17.0);
    wait_for("five streams over the link", START, || {
        let streams = nodes[1].metric(&net, "relay_link_streams", &[("way", "in")]);
        (streams == Some(5.0)).then_some(())
    });
    // Feeders are told of their players every two seconds.
    thread::sleep(Duration::from_secs(3));
    let before = let_go().len();
    net.host(0).limit(600_000);
    let all_gone = |order: &[String]| {
        names.iter().all(|name| order.iter().any(|line| line.contains(&format!("live/{name}\""))))
    };
    wait_for("all of them to be let go", 2 * START, || {
        all_gone(&let_go().split_off(before)).then_some(())
    });
    let mut order = let_go().split_off(before);
    println!("five times 1 Mbit/s through 600 kbit/s, let go: {order:#?}");
    let mut seen = std::collections::BTreeSet::new();
    order.retain(|line| seen.insert(line.clone()));
    for (line, name) in order.iter().zip(["s-2", "s-0", "s-1", "s-3", "s-4"]) {
        assert!(line.contains(&format!("live/{name}\"")), "{order:#?}");
    }
    drop((players, small_publishers));
}
