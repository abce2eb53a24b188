//! Several nodes on hosts of their own: found by name, fed over a wire that can be cut, limited and
//! counted.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::nets::Net;
use crate::support::nodes::{LINK, Node, Options};
use crate::support::programs::{
    CLEAN, Packet, clip, hashes, json, loadgen, packets, publish, succeed,
};
use crate::support::{START, Scratch, wait_for};

#[test]
fn hosts_can_be_named_cut_limited_moved_and_counted() {
    let dir = Scratch::new();
    let mut net = Net::new(dir.path(), 3);
    let resolve = |net: &Net, name: &str| {
        let mut found: Vec<String> = net
            .host(0)
            .space
            .run("getent", &["ahostsv4", name])
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(resolve(&net, "relay"), ["10.9.0.10", "10.9.0.11", "10.9.0.12"]);
    assert_eq!(resolve(&net, "relay-2.relay"), ["10.9.0.12"]);
    net.move_host(2);
    wait_for("the new address", START, || {
        (resolve(&net, "relay-2") == ["10.9.0.13"]).then_some(())
    });

    let listener = net.host(1).space.within(|| std::net::TcpListener::bind("0.0.0.0:7")).unwrap();
    let reach = |net: &Net| {
        let to = (net.host(1).address, 7).into();
        let limit = Duration::from_millis(500);
        net.host(0).space.within(|| std::net::TcpStream::connect_timeout(&to, limit))
    };
    let mut stream = reach(&net).unwrap();
    let (mut other, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), net.host(0).address);
    assert_eq!(net.host(1).accepted(7).into_values().sum::<usize>(), 1);

    // 2 MB in 8 s at 2 Mbit/s, and at once without a limit.
    let mut send = || {
        let (begun, before) = (Instant::now(), net.host(0).bytes().1);
        thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut stream, &[0; 1_000_000]).unwrap());
            std::io::Read::read_exact(&mut other, &mut vec![0; 1_000_000]).unwrap();
        });
        let sent = net.host(0).bytes().1 - before;
        assert!((1_000_000..1_200_000).contains(&sent), "{sent} bytes");
        begun.elapsed()
    };
    net.host(0).limit(2_000_000);
    let took = send();
    assert!(took > Duration::from_secs(3), "{took:?}");
    net.host(0).unlimit();
    let took = send();
    assert!(took < Duration::from_secs(2), "{took:?}");

    net.cut(1);
    assert!(reach(&net).is_err());
    net.heal(1);
    wait_for("the wire to be whole", START, || reach(&net).ok());
}

#[test]
fn what_one_node_publishes_is_played_on_five_packet_by_packet() {
    let dir = Scratch::new();
    let net = Net::new(dir.path(), 5);
    let nodes = Node::start_all(&net, dir.path(), &Options::default());
    let file = clip(dir.path());
    let outside = net.outside();
    let (mut sent, sent_file) = hashes(outside, dir.path(), "sent", file.to_str().unwrap());
    succeed(&mut sent, START);
    let players: Vec<_> = nodes
        .iter()
        .map(|node| {
            let name = format!("player-{}", node.number);
            hashes(outside, dir.path(), &name, &node.url(&net, "clip"))
        })
        .collect();
    for node in &nodes {
        wait_for("a player", START, || {
            let count = node.metric(&net, "relay_connections", &[("role", "player")]);
            (count == Some(1.0)).then_some(())
        });
    }
    let mut publisher = publish(outside, dir.path(), &file, &nodes[2].url(&net, "clip"));
    // Other players of other streams on the same nodes, by another program.
    let to = nodes[0].url(&net, "made");
    let from: Vec<String> = nodes.iter().map(|node| node.url(&net, "made")).collect();
    let mut run = vec!["run", "--target", &to, "--players", "10", "--bitrate", "400k"];
    run.extend(["--gop", "1s", "--duration", "5s", "--warmup", "1s", "--expect", CLEAN]);
    run.extend(from.iter().flat_map(|from| ["--play-target", from]));
    let mut made = loadgen(outside, dir.path(), "made", &run);
    succeed(&mut made, Duration::from_secs(40));
    succeed(&mut publisher, Duration::from_secs(30));
    let sent = packets(&sent_file);
    assert!(sent.len() > 700, "{} packets", sent.len());
    let mut recordings = Vec::new();
    for (mut player, file) in players {
        // It ends when the stream's grace is over.
        succeed(&mut player, Duration::from_secs(40));
        recordings.push(packets(&file));
    }
    for (node, played) in recordings.iter().enumerate() {
        assert_eq!(played, &recordings[2], "node {node} beside that of the publisher");
    }
    for kind in ["0", "1"] {
        let of_kind = |packets: &[Packet]| -> Vec<Packet> {
            packets.iter().filter(|packet| packet.0 == kind).cloned().collect()
        };
        let (sent, played) = (of_kind(&sent), of_kind(&recordings[0]));
        // FFmpeg may keep the very first and the very last packet to itself.
        let from = usize::from(played[0] != sent[0]);
        assert!(played.len() + 1 + from >= sent.len(), "{} of {}", played.len(), sent.len());
        assert_eq!(played, sent[from..from + played.len()], "kind {kind}");
    }
    // Each pair of nodes has one connection to talk, whoever dialled.
    let lines: usize =
        (0..5).flat_map(|number| net.host(number).accepted(LINK).into_values()).sum();
    println!("{lines} connections between five nodes");
}

/// Five nodes, of which one is parted from the others for a while; each side has a publisher and
/// players of its own and of the other side, and a stream that both sides publish.
#[test]
fn a_node_that_is_cut_off_serves_what_it_has_and_is_one_with_the_others_again() {
    let dir = Scratch::new();
    let dir = dir.path();
    let net = Net::new(dir, 5);
    let nodes = Node::start_all(&net, dir, &Options::default());
    let cut = 3;
    let here = |number: usize| &net.host(number).space;
    let local = |name: &str| format!("rtmp://127.0.0.1/live/{name}");
    let load = ["--bitrate", "300k", "--gop", "1s", "--expect"];
    let publish = |number: usize, name: &str, length: &str| {
        let target = local(name);
        let arguments = ["publish", "--target", &target, "--duration", length, load[0], load[1]];
        loadgen(here(number), dir, &format!("publish-{name}-{number}"), &arguments)
    };
    let play = |number: usize, name: &str, expect: &str| {
        let target = local(name);
        let arguments = ["play", "--target", &target, "--players", "3", "--duration", "22s"];
        let all = [&arguments[..], &["--ramp", "0s", "--expect", expect]].concat();
        loadgen(here(number), dir, &format!("play-{name}-{number}"), &all)
    };
    let mut publishers =
        [publish(0, "far", "30s"), publish(cut, "near", "30s"), publish(0, "both", "30s")];
    for (number, name) in [(0, "far"), (cut, "near"), (0, "both")] {
        wait_for(name, START, || {
            let page = nodes[number].get(&net, &format!("/api/v1/streams/live/{name}"))?;
            page.body.contains("\"live\"").then_some(())
        });
    }
    // Whoever is on the publisher's side misses nothing; the others wait, and go on.
    let untouched = CLEAN;
    let parted = "altered=0,foreign=0,backward=0,keyless=0,headless=0,doubled=0,kept=1,joined=1";
    let mut players = [
        play(0, "far", untouched),
        play(1, "far", untouched),
        play(cut, "near", untouched),
        play(cut, "far", parted),
        play(1, "near", parted),
    ];
    thread::sleep(Duration::from_secs(5));
    net.cut(cut);
    for node in &nodes {
        let others = if node.number == cut { 0 } else { 3 };
        node.wait_for_nodes(&net, others);
    }
    // Nobody can know on either side that the other one has it as well.
    let mut again = publish(cut, "both", "10s");
    thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    net.heal(cut);
    for node in &nodes {
        node.wait_for_nodes(&net, 4);
    }
    println!(
        "all nodes know each other {:.1} s after the wire was whole",
        begun.elapsed().as_secs_f64()
    );
    // One of the two sources of one name has ended, and everybody has the other one.
    let publishers_of = |number: usize, name: &str| {
        let page = nodes[number].get(&net, &format!("/api/v1/streams/live/{name}"))?;
        let known: serde_json::Value = serde_json::from_str(&page.body).ok()?;
        Some(known["source"] == "local" && known["state"] == "live")
    };
    wait_for("one source", START, || {
        let local = [0, cut].map(|number| publishers_of(number, "both") == Some(true));
        (local == [false, true]).then_some(())
    });
    println!("one source is left after {:.1} s", begun.elapsed().as_secs_f64());
    let yielded: f64 =
        nodes.iter().filter_map(|node| node.metric(&net, "relay_link_yielded_total", &[])).sum();
    assert_eq!(yielded, 1.0);
    for player in &mut players {
        succeed(player, Duration::from_secs(40));
    }
    for (number, name) in [(cut, "far"), (1, "near")] {
        let run = json(dir, &format!("play-{name}-{number}"));
        let seconds = run["seconds"].as_array().unwrap();
        let silent = seconds.iter().filter(|second| second["bytes_received"] == 0).count();
        println!("{name} on node {number}: nothing came for {silent} s, then all of it");
        // A cut of 6 s and more was felt, and its end as well.
        assert!((4..15).contains(&silent), "{silent} s");
        let last = &seconds[seconds.len() - 3];
        assert!(last["bytes_received"].as_u64() > Some(50_000), "{last}");
    }
    for publisher in &mut publishers[..2] {
        succeed(publisher, Duration::from_secs(40));
    }
    succeed(&mut again, Duration::from_secs(40));
}

#[test]
fn a_node_that_comes_back_with_another_address_is_found_again() {
    let dir = Scratch::new();
    let dir = dir.path();
    let mut net = Net::new(dir, 3);
    let options = Options { configuration: "[drain]\nwindow = \"1s\"\n", ..Options::default() };
    let mut nodes = Node::start_all(&net, dir, &options);
    nodes.pop().unwrap().kill();
    nodes.iter().for_each(|node| node.wait_for_nodes(&net, 1));
    net.move_host(2);
    nodes.push(Node::start(&net, dir, 2, &options));
    nodes.iter().for_each(|node| node.wait_for_nodes(&net, 2));
    for node in nodes {
        assert!(node.terminate(START).success());
    }
}
