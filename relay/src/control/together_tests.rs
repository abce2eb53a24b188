//! What lists of several nodes say of nodes, streams and links that more than one of them knows.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn row(name: &str, source: Option<&str>, epoch: u64, node: &str, players: u64) -> Value {
    json!({
        "app": "live", "name": name, "source": source, "epoch": epoch, "players": players,
        "bytes_out": players * 100, "core": epoch,
        "nodes": [{ "node": node, "players": players, "transports": { "rtmp": players } }],
    })
}

#[test]
fn a_stream_of_several_nodes_is_one_row_of_the_publisher_s_node() {
    let rows = [
        ("c", row("show", Some("remote"), 3, "c", 5)),
        ("a", row("show", Some("local"), 3, "a", 1)),
        // It heard of the newer source, and has nothing of it yet.
        ("b", row("show", Some("remote"), 4, "b", 0)),
    ];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut streams = Streams::default();
        for index in order {
            let (node, row) = rows[index].clone();
            streams.add(node, row);
        }
        let joined: Vec<Value> = streams.0.into_values().collect();
        let expected = json!({
            "app": "live", "name": "show", "source": "local", "epoch": 3, "core": 3, "node": "a",
            "players": 6, "bytes_out": 600,
            "nodes": [
                { "node": "a", "players": 1, "transports": { "rtmp": 1 } },
                { "node": "b", "players": 0, "transports": { "rtmp": 0 } },
                { "node": "c", "players": 5, "transports": { "rtmp": 5 } },
            ],
        });
        assert_eq!(joined, [expected], "{order:?}");
    }
}

#[test]
fn of_two_publishers_the_later_counts_and_without_one_there_is_no_node() {
    let mut streams = Streams::default();
    streams.add("a", row("show", Some("local"), 3, "a", 1));
    streams.add("b", row("show", Some("local"), 4, "b", 1));
    streams.add("a", row("soon", None, 0, "a", 2));
    streams.add("b", row("soon", None, 0, "b", 3));
    // What is no row of a stream is passed over.
    streams.add("b", json!({ "app": 5 }));
    let rows: Vec<Value> = streams.0.into_values().collect();
    assert_eq!((&rows[0]["node"], &rows[0]["players"]), (&json!("b"), &json!(2)));
    assert_eq!((&rows[1]["node"], &rows[1]["players"]), (&json!(null), &json!(5)));
    assert_eq!(rows.len(), 2);
}

#[test]
fn a_node_is_asked_for_what_comes_behind_the_cursor() {
    let id = |number| ConnectionId { core: 1, number };
    let wanted = Wanted {
        limit: 7,
        cursor: Some(Far { node: "b".to_owned(), id: id(5) }),
        role: Some("player"),
        transport: None,
        address: Some("2001:db8::1".parse().unwrap()),
        app: Some("live show&x"),
        name: Some("\u{e4}/1"),
    };
    assert_eq!(wanted.of("a"), None);
    assert_eq!(wanted.of("b"), Some(Some(id(5))));
    assert_eq!(wanted.of("c"), Some(None));
    assert_eq!(wanted.target("a"), None);
    let filters = "address=2001:db8::1&role=player&app=live%20show%26x&name=%C3%A4%2F1";
    let cursor = after(&id(5));
    assert_eq!(
        wanted.target("b").unwrap(),
        format!("/api/v1/connections?limit=7&cursor={cursor}&{filters}")
    );
    let target = wanted.target("c").unwrap();
    assert_eq!(target, format!("/api/v1/connections?limit=7&{filters}"));
    // Nobody who is asked asks on.
    assert!(!target.contains("cluster"));
}

#[test]
fn a_name_in_a_path_keeps_its_slashes() {
    assert_eq!(escaped("a/b c?d%", true), "a/b%20c%3Fd%25");
    assert_eq!(escaped("a/b", false), "a%2Fb");
    assert_eq!(escaped("A-z_0.~", true), "A-z_0.~");
}
