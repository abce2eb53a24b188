//! What operators look at besides lists: nodes, filters, the log's level, the first page, and how
//! often workers may be asked.

use super::*;
use crate::control::life;

#[test]
fn a_node_tells_its_totals_its_drops_and_its_cores() {
    let site = Site::new(vec![Script::default(), Script::default()]);
    for worker in &site.state.workers {
        let cells = &worker.cells;
        cells.opened(Transport::Rtmp);
        cells.changed_role(Role::Pending, Role::Publisher, Transport::Rtmp);
        cells.egress_bytes.at(Role::Player).add(500);
        cells.busy_ns.add(2_500_000);
        cells.refused.at(crate::worker::labels::RefuseReason::Conflict).add(3);
    }
    let list = site.json("/api/v1/nodes");
    let node = &list["items"][0];
    let expected = [
        ("own", json!(true)),
        ("state", json!("running")),
        ("connections", json!(2)),
        ("publishers", json!(2)),
        ("players", json!(0)),
        ("egress_bytes", json!(1_000)),
        ("refused", json!({ "conflict": 6 })),
        ("node", json!(site.state.node)),
    ];
    for (name, value) in expected {
        assert_eq!(node[name], value, "{name}: {node:#}");
    }
    assert_eq!(node["players_dropped"]["slow"], 0, "what may be lost is there from the start");
    assert_eq!((&node["cores"][1]["core"], &node["cores"][1]["busy_ms"]), (&1.into(), &2.into()));
    assert_eq!(site.json("/api/v1/links"), json!({ "items": [], "next": null }));
}

#[test]
fn connections_are_filtered_where_they_are() {
    let mut publisher = connection(0, 2);
    publisher.role = Role::Publisher;
    let mut other = connection(0, 3);
    other.stream = Some(StreamKey::new("other", "b"));
    let connections = vec![connection(0, 1), publisher, other];
    let site = Site::new(vec![Script { connections, ..Script::default() }]);
    let ids = |query: &str| {
        let list = site.json(&format!("/api/v1/connections?{query}"));
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("role=player"), ["0-1", "0-3"]);
    assert_eq!(ids("role=publisher&app=live"), ["0-2"]);
    assert_eq!(ids("app=other&limit=1"), ["0-3"]);
    assert_eq!(ids("transport=rtmp&address=127.0.0.1&name=a").len(), 3, "the script knows no more");
    for query in ["role=x", "transport=", "address=1", "app=a&app=b", "id=0-1"] {
        let error = site.error(&format!("/api/v1/connections?{query}"));
        assert_eq!(error, (400, "bad_request".to_owned()), "{query}");
    }
}

#[test]
fn lists_are_asked_of_workers_so_often_and_no_more() {
    let site = Site::new(vec![Script::default()]);
    let mut force = (*site.state.in_force()).clone();
    force.limits.http_lists_per_second_max = 10;
    site.state.put_in_force(force);
    let lists = ["/api/v1/streams", "/api/v1/connections", "/api/v1/streams/live/none"];
    let statuses: Vec<u16> =
        (0..200).map(|n| site.get(lists[n % lists.len()]).0.as_u16()).collect();
    let of = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert!(of(429) > 100, "{statuses:?}");
    assert_eq!(of(429) + of(200) + of(404), 200);
    assert_eq!(site.error(lists[0]), (429, "too_many_requests".to_owned()));
    assert!(site.state.api_refused.get() > 100);
    // What needs no worker goes on.
    for path in ["/api/v1/nodes", "/api/v1/limits", "/metrics", "/livez"] {
        assert_eq!(site.get(path).0, StatusCode::OK, "{path}");
    }
}

#[test]
fn the_log_s_level_is_shown_and_changed() {
    let site = Site::new(vec![]);
    assert_eq!(site.json("/api/v1/log")["level"], "info");
    let put = |body: &str| site.send("PUT", "/api/v1/log", body);
    let (status, answer) = put("{\"level\":\"debug\"}");
    assert_eq!(status, StatusCode::OK, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["level"], &answer["lost"]), (&"debug".into(), &0.into()));
    assert_eq!(site.json("/api/v1/log")["level"], "debug");
    let wrong = [
        "",
        "{}",
        "\"debug\"",
        "{\"level\":\"loud\"}",
        "{\"level\":1}",
        "{\"level\":\"info\",\"x\":1}",
    ];
    for body in wrong {
        let (status, answer) = put(body);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.contains("one of error, warn, info, debug and trace"), "{answer}");
    }
    let long = format!("{{\"level\":\"{}\"}}", "x".repeat(70_000));
    let (status, answer) = put(&long);
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
    assert!(answer.contains("\"too_large\""), "{answer}");
    assert_eq!(site.json("/api/v1/log")["level"], "debug");
}

#[test]
fn a_drain_by_the_api_is_a_wish_that_may_be_repeated() {
    let site = Site::new(vec![]);
    let drain = || site.request("POST", "/api/v1/drain", "127.0.0.1:1", "localhost");
    assert_eq!(drain().0, StatusCode::SERVICE_UNAVAILABLE, "nobody listens yet");
    let (sender, mut wishes) = tokio::sync::mpsc::unbounded_channel();
    site.state.wishes.set(sender).unwrap();
    for _ in 0..2 {
        let (status, body) = drain();
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(body, "{\"window_ms\":0}\n");
        assert_eq!(wishes.try_recv(), Ok(life::Wish::DrainOnce));
    }
}

#[test]
fn browsers_get_a_page_and_others_some_lines() {
    let site = Site::new(vec![Script::default()]);
    let html = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    // The page is open, since it knows nothing.
    for peer in ["127.0.0.1:1", "192.0.2.7:1"] {
        let (status, body) = site.request_with("GET", "/", peer, "relay.example", &html);
        assert_eq!(status, StatusCode::OK);
        assert!(body.starts_with("<!doctype html>"), "{body}");
    }
    let (status, body) = site.get("/");
    assert!(status == StatusCode::OK && body.starts_with("relay "), "{body}");
    let (status, _) = site.request("GET", "/", "192.0.2.7:1", "localhost");
    assert_eq!(status, StatusCode::FORBIDDEN);
    for part in ["/web/status.css", "/web/status.js"] {
        assert_eq!(site.request("GET", part, "192.0.2.7:1", "x").0, StatusCode::OK);
    }
}

#[test]
fn series_of_streams_are_open_and_made_once_a_second() {
    let stream = StreamShare { home: Some(home(1)), ..share("live", "a", 2) };
    let script = |streams| Script { streams, ..Script::default() };
    let site = Site::new(vec![script(vec![stream]), script(vec![share("live", "a", 3)])]);
    let page = || site.request("GET", "/metrics/streams", "192.0.2.7:1", "x").1;
    let text = page();
    for line in [
        "relay_stream_players{stream=\"live/a\"} 5\n",
        "relay_stream_players{stream=\"_other\"} 0\n",
        "relay_stream_ingest_bytes_total{stream=\"live/a\"} 99\n",
        "relay_stream_egress_bytes_total{stream=\"live/a\"} 2000\n",
        "relay_stream_series_shown 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    assert!(
        text.contains("relay_stream_publisher_start_timestamp_seconds{stream=\"live/a\"} 1"),
        "{text}"
    );
    assert_eq!(page(), text);
}
