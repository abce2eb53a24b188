//! What one node tells of all: `?cluster=1` of a cluster of three processes, with one that hangs
//! and one that is gone.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{SECRET, link, node, wait_for_nodes};
use crate::support::clip::Clip;
use crate::support::relay::Relay;
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

fn json(relay: &Relay, path: &str) -> Value {
    let answer = http::get(relay.http, path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    assert!(!answer.body.contains(SECRET));
    serde_json::from_str(&answer.body).unwrap()
}

/// The texts of one key of all rows.
fn column<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    let rows = list["items"].as_array().unwrap();
    rows.iter().map(|row| row[key].as_str().unwrap()).collect()
}

fn asked(relay: &Relay, result: &str) -> f64 {
    let page = relay.metrics();
    page.sum("relay_cluster_questions_total", &[("result", result)]).unwrap()
}

#[test]
fn one_node_tells_of_all_and_names_who_does_not_answer() {
    let scratch = Scratch::new("together");
    let dir = scratch.path();
    let a = node(&scratch, "a", &[], "");
    let b = node(&scratch, "b", &[link(&a)], "");
    let mut c = node(&scratch, "c", &[link(&a), link(&b)], "");
    let nodes = [&a, &b, &c];
    for relay in nodes {
        wait_for_nodes(relay, 2);
    }
    let publish =
        |relay: &Relay, name| ffmpeg::publish_looped(dir, name, Clip::Plain, 20, &relay.url(name));
    let _publishers = [publish(&a, "one"), publish(&b, "two"), publish(&b, "three")];
    a.wait_for_role("publisher", 1);
    b.wait_for_role("publisher", 2);
    let _players: Vec<_> = [(&a, "one"), (&b, "one"), (&c, "one"), (&c, "one"), (&c, "two")]
        .into_iter()
        .enumerate()
        .map(|(number, (relay, name))| {
            let file = scratch.file(&format!("{number}.flv"));
            ffmpeg::record(dir, &format!("player-{number}"), &relay.url(name), &file)
        })
        .collect();
    a.wait_for_role("player", 1);
    b.wait_for_role("player", 1);
    c.wait_for_role("player", 3);

    // Every node tells the same.
    for relay in nodes {
        let one = wait_for("all players in one row", START, || {
            let one = json(relay, "/api/v1/streams/live/one?cluster=1");
            (one["players"] == 4).then_some(one)
        });
        assert_eq!((&one["node"], &one["source"]), (&"a".into(), &"local".into()), "{one:#}");
        assert_eq!(one["absent"], Value::Array(Vec::new()));
        let by_node = one["nodes"].as_array().unwrap();
        let by_node: Vec<_> =
            by_node.iter().map(|row| (row["node"].as_str(), row["players"].as_u64())).collect();
        assert_eq!(by_node, [(Some("a"), Some(1)), (Some("b"), Some(1)), (Some("c"), Some(2))]);
        let list = json(relay, "/api/v1/streams?cluster=1");
        assert_eq!(column(&list, "name"), ["one", "three", "two"], "{list:#}");
        assert_eq!(column(&list, "node"), ["a", "b", "b"], "{list:#}");
        let nodes = json(relay, "/api/v1/nodes?cluster=1");
        let mut names = column(&nodes, "node");
        assert_eq!(nodes["items"][0]["own"], true);
        names.sort_unstable();
        assert_eq!(names, ["a", "b", "c"]);
        let rows = nodes["items"].as_array().unwrap();
        for row in rows {
            assert!(row["egress_bytes"].is_u64() && row["cores"].is_array(), "{row:#}");
        }
        let players: u64 = rows.iter().map(|row| row["players"].as_u64().unwrap()).sum();
        assert_eq!(players, 5, "{nodes:#}");
    }
    // A page at a time, without a row twice or left out, in the order of nodes.
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = json(&b, &format!("/api/v1/connections?cluster=1&role=player&limit=2{next}"));
        let rows = page["items"].as_array().unwrap();
        assert!(rows.len() <= 2 && rows.iter().all(|row| row["role"] == "player"), "{page:#}");
        let of = |row: &Value| format!("{} {}", row["node"], row["id"]);
        seen.extend(rows.iter().map(of));
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((seen.len(), &sorted), (5, &seen));
    let streams = json(&c, "/api/v1/streams?cluster=1&limit=2");
    assert_eq!(column(&streams, "name"), ["one", "three"]);
    let cursor = streams["next"].as_str().unwrap();
    let rest = json(&a, &format!("/api/v1/streams?cluster=1&limit=2&cursor={cursor}"));
    assert_eq!((column(&rest, "name"), &rest["next"]), (vec!["two"], &Value::Null));
    let links = json(&a, "/api/v1/links?cluster=1");
    let feeds = links["items"].as_array().unwrap().iter().filter(|row| row["way"] == "out");
    assert!(feeds.filter(|row| row["node"] == "a").count() >= 1, "{links:#}");
    // A list of one node is what it was.
    let own = json(&c, "/api/v1/streams");
    assert!(own["absent"].is_null() && own["items"][0]["node"].is_null(), "{own:#}");
    assert!(asked(&a, "ok") > 0.0);

    // Who hangs is a member for three seconds more. The others' rows come all the same.
    c.signal(Signal::STOP);
    let before = asked(&a, "timeout");
    let start = Instant::now();
    let list = json(&a, "/api/v1/streams?cluster=1");
    let took = start.elapsed();
    c.signal(Signal::CONT);
    assert_eq!(column(&list, "name"), ["one", "three", "two"]);
    let absent = &list["absent"][0];
    assert_eq!((&absent["node"], &absent["reason"]), (&"c".into(), &"timeout".into()), "{list:#}");
    println!("with a node that hangs the answer took {took:?}");
    assert!(took.as_secs() < 10, "{took:?}");
    assert_eq!(asked(&a, "timeout"), before + 1.0);
    wait_for("the node to be back", START, || {
        let list = json(&a, "/api/v1/streams?cluster=1");
        (list["absent"] == Value::Array(Vec::new())).then_some(())
    });
    // Who is gone belongs to no cluster any more.
    drop(c);
    wait_for_nodes(&a, 1);
    let nodes = json(&a, "/api/v1/nodes?cluster=1");
    assert_eq!(column(&nodes, "node"), ["a", "b"]);
}
