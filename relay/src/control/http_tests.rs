//! The API and the probes, over the real router, with scripted workers.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use serde_json::Value;
use tower::ServiceExt;

use super::super::state::Phase;
use super::super::testing::{self, Script};
use super::*;
use crate::worker::handle::WorkerHandle;
use crate::worker::labels::{Role, Source, Transport};
use crate::worker::report::{
    ConnectionId, ConnectionShare, Publisher, Query, StreamHome, StreamKey, StreamShare,
    StreamState,
};

#[path = "operating_tests.rs"]
mod operating;
#[path = "watching_tests.rs"]
mod watching;

/// A router over scripted workers, whose threads end with it.
struct Site {
    router: Router,
    state: Arc<State>,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn new(scripts: Vec<Script>) -> Self {
        let (workers, inboxes) = testing::workers(scripts.len());
        for ((worker, inbox), script) in workers.iter().cloned().zip(inboxes).zip(scripts) {
            thread::spawn(move || testing::work(&worker, &inbox, script));
        }
        Self::over(workers)
    }

    fn over(workers: Vec<WorkerHandle>) -> Self {
        Self::of(testing::state(workers))
    }

    fn of(state: State) -> Self {
        let mut force = (*state.in_force()).clone();
        force.limits.http_lists_per_second_max = 1_000_000;
        state.put_in_force(force);
        let state = Arc::new(state);
        state.set_phase(Phase::Running);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        Self { router: router(Arc::clone(&state)), state, runtime }
    }

    fn request(&self, method: &str, path: &str, peer: &str, host: &str) -> (StatusCode, String) {
        self.request_with(method, path, peer, host, &[])
    }

    fn request_with(
        &self,
        method: &str,
        path: &str,
        peer: &str,
        host: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let peer: SocketAddr = peer.parse().unwrap();
        let mut builder = Request::builder().method(method).uri(path).header(header::HOST, host);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        self.answer(builder.extension(ConnectInfo(peer)).body(Body::empty()).unwrap())
    }

    fn answer(&self, request: Request) -> (StatusCode, String) {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 24).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    /// A request of this host with a body.
    fn send(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let peer: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let builder = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        let request = builder.extension(ConnectInfo(peer)).body(body.to_owned().into()).unwrap();
        self.answer(request)
    }

    fn get(&self, path: &str) -> (StatusCode, String) {
        self.request("GET", path, "127.0.0.1:5000", "localhost:8935")
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn error(&self, path: &str) -> (u16, String) {
        let (status, body) = self.get(path);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(body["error"]["message"].as_str().unwrap().ends_with('.'), "{body}");
        (status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for worker in &self.state.workers {
            let _ = worker.ask(Query::Stop);
        }
    }
}

fn share(app: &str, name: &str, players: usize) -> StreamShare {
    let transports = vec![(Transport::Rtmp, players)];
    let key = StreamKey::new(app, name);
    StreamShare { key, players, transports, bytes_out: 1_000, home: None }
}

fn home(epoch: u64) -> StreamHome {
    StreamHome {
        source: Source::Local,
        epoch,
        state: StreamState::Live,
        publisher: Some(Publisher {
            id: ConnectionId { core: 1, number: 7 },
            peer: "[2001:db8::1]:4000".parse().unwrap(),
            since: Duration::ZERO,
            client: "FMLE/3.0".to_owned(),
        }),
        since: Duration::ZERO,
        bytes_in: 99,
        bytes_per_second: Some(125_000),
        dropped: 4,
        log_bytes: 55,
        video: Some("avc1".to_owned()),
        size: Some((1_280, 720)),
        audio: None,
        tracks: (2, 0),
        last_key: Some(Duration::ZERO),
        gop: Some(Duration::from_millis(2_000)),
        needs: vec!["avc".to_owned(), "multitrack".to_owned()],
    }
}

fn connection(core: usize, number: u64) -> ConnectionShare {
    ConnectionShare {
        id: ConnectionId { core, number },
        role: Role::Player,
        transport: Transport::Rtmp,
        peer: "127.0.0.1:6000".parse().unwrap(),
        stream: Some(StreamKey::new("live", "a")),
        client: String::new(),
        since: Duration::ZERO,
        bytes_in: 1,
        bytes_out: 2,
        lag: Some(Duration::from_millis(120)),
        jumps: 3,
        dropped: 80,
    }
}

#[test]
fn a_stream_is_the_sum_of_its_shares() {
    let site = Site::new(vec![
        Script { streams: vec![share("live", "a", 2)], ..Script::default() },
        Script {
            streams: vec![StreamShare { home: Some(home(4)), ..share("live", "a", 3) }],
            ..Script::default()
        },
    ]);
    let list = site.json("/api/v1/streams");
    assert_eq!(list["next"], Value::Null);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let mut stream = list["items"][0].clone();
    let single = site.json("/api/v1/streams/live/a");
    for moving in ["uptime_ms", "last_key_ms"] {
        assert!(stream[moving].is_u64() && single[moving].is_u64(), "{moving}");
        stream[moving] = 0.into();
    }
    let since = stream["since_unix_ms"].clone();
    assert!(since.as_u64().unwrap() > 1_700_000_000_000, "{since}");
    let expected = json!({
        "app": "live", "name": "a", "state": "live", "source": "local", "epoch": 4, "core": 1,
        "since_unix_ms": since, "uptime_ms": 0,
        "publisher": {
            "id": "1-7", "peer": "[2001:db8::1]:4000", "client": "FMLE/3.0", "since_unix_ms": since,
        },
        "players": 5,
        "nodes": [{ "node": site.state.node, "players": 5, "transports": { "rtmp": 5 } }],
        "bytes_in": 99, "bytes_out": 2_000, "bits_per_second": 1_000_000, "dropped": 4,
        "log_bytes": 55,
        "video": { "codec": "avc1", "width": 1280, "height": 720, "tracks": 2 }, "audio": null,
        "last_key_ms": 0, "gop_ms": 2_000, "needs": ["avc", "multitrack"],
    });
    assert_eq!(stream, expected);
}

#[test]
fn of_two_homes_the_later_publisher_s_counts() {
    let stream = |epoch| StreamShare { home: Some(home(epoch)), ..share("live", "a", 1) };
    for epochs in [[1, 2], [2, 1]] {
        let script = |epoch| Script { streams: vec![stream(epoch)], ..Script::default() };
        let site = Site::new(epochs.map(script).into_iter().collect());
        assert_eq!(site.json("/api/v1/streams/live/a")["epoch"], 2);
    }
}

#[test]
fn a_stream_that_is_only_waited_for_says_so() {
    let streams = vec![share("a/b", "x y", 1)];
    let site = Site::new(vec![Script { streams, ..Script::default() }]);
    let stream = site.json("/api/v1/streams/a%2Fb/x%20y");
    assert_eq!((&stream["app"], &stream["name"]), (&"a/b".into(), &"x y".into()));
    assert_eq!((&stream["state"], &stream["publisher"]), (&"waiting".into(), &Value::Null));
    assert_eq!(site.error("/api/v1/streams/live/none"), (404, "not_found".to_owned()));
}

#[test]
fn lists_are_read_page_by_page_without_loss_or_repetition() {
    let names: Vec<String> = (0..57).map(|n| format!("n{n:02}")).collect();
    // Every third stream is on all three workers, the others on one.
    let script = |core: usize| Script {
        streams: names
            .iter()
            .enumerate()
            .filter(|(n, _)| n % 3 == 0 || n % 7 % 3 == core)
            .map(|(_, name)| share("live", name, 1))
            .collect(),
        connections: (1..20).map(|number| connection(core, number)).collect(),
        ..Script::default()
    };
    let site = Site::new((0..3).map(script).collect());
    for limit in [1, 2, 19, 56, 57, 58, 1_000] {
        let walk = |list: &str, field: &str| {
            let mut seen = Vec::new();
            let mut cursor = String::new();
            for _ in 0..200 {
                let page = site.json(&format!("/api/v1/{list}?limit={limit}{cursor}"));
                let items = page["items"].as_array().unwrap();
                assert!(items.len() <= limit);
                seen.extend(items.iter().map(|item| item[field].as_str().unwrap().to_owned()));
                let Some(next) = page["next"].as_str() else { return seen };
                cursor = format!("&cursor={next}");
            }
            panic!("{list} has no end");
        };
        assert_eq!(walk("streams", "name"), names, "{limit}");
        let ids = (0..3).flat_map(|core| (1..20).map(move |number| format!("{core}-{number}")));
        assert_eq!(walk("connections", "id"), ids.collect::<Vec<_>>(), "{limit}");
    }
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=zz", "page=2"] {
        for list in ["streams", "connections"] {
            let error = site.error(&format!("/api/v1/{list}?{query}"));
            assert_eq!(error, (400, "bad_request".to_owned()), "{query}");
        }
    }
}

#[test]
fn a_connection_is_listed_and_closed_by_its_id() {
    let connections = vec![connection(0, 5)];
    let site = Site::new(vec![Script { connections, ..Script::default() }]);
    let mut row = site.json("/api/v1/connections")["items"][0].clone();
    assert!(row["since_unix_ms"].as_u64().unwrap() > 1_700_000_000_000);
    row["since_unix_ms"] = 0.into();
    let expected = json!({
        "id": "0-5", "core": 0, "role": "player", "transport": "rtmp", "peer": "127.0.0.1:6000",
        "client": "", "app": "live", "name": "a", "since_unix_ms": 0, "bytes_in": 1, "bytes_out": 2,
        "lag_ms": 120, "jumps": 3, "dropped": 80,
    });
    assert_eq!(row, expected);
    let close = |id: &str| {
        let path = format!("/api/v1/connections/{id}");
        site.request("DELETE", &path, "[::1]:5000", "[::1]:8935").0.as_u16()
    };
    assert_eq!(close("0-5"), 204);
    assert_eq!(close("0-5"), 404);
    assert_eq!(close("9-5"), 404);
    assert_eq!(close("x"), 400);
}

#[test]
fn limits_are_listed_with_their_units() {
    let site = Site::new(vec![]);
    let list = site.json("/api/v1/limits");
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), site.state.in_force().limits.table().len());
    let find = |name: &str| items.iter().find(|item| item["name"] == name).unwrap();
    let parts = |name: &str| (find(name)["value"].as_f64().unwrap(), find(name)["unit"].clone());
    assert_eq!(parts("mail_poll"), (0.005, "seconds".into()));
    assert_eq!(parts("segment_bytes"), (16_384.0, "bytes".into()));
    assert_eq!(parts("streams_max"), (20_000.0, "count".into()));
    // The one that these tests set for themselves.
    for item in items.iter().filter(|item| item["name"] != "http_lists_per_second_max") {
        assert_eq!(item["default"], item["value"], "{item}: nobody set it");
    }
}

#[test]
fn a_name_may_have_slashes_and_a_path_may_end_in_one() {
    let streams = vec![share("live", "a/b/c", 1), share("live", "d", 2)];
    let connections = vec![connection(0, 5)];
    let site = Site::new(vec![Script { streams, connections, ..Script::default() }]);
    for path in ["live/a/b/c", "live/a%2Fb/c", "live/a/b/c/"] {
        assert_eq!(site.json(&format!("/api/v1/streams/{path}"))["name"], "a/b/c", "{path}");
    }
    assert_eq!(site.json("/api/v1/streams/live/d/")["name"], "d");
    for list in ["streams", "connections", "limits"] {
        let [plain, slash] = ["", "/"].map(|end| site.json(&format!("/api/v1/{list}{end}")));
        let count = |list: &Value| list["items"].as_array().unwrap().len();
        assert_eq!(count(&plain), count(&slash), "{list}");
    }
    let (status, _) =
        site.request("DELETE", "/api/v1/connections/0-5/", "127.0.0.1:1", "localhost");
    assert_eq!(status, StatusCode::NO_CONTENT);
}

#[test]
fn every_answer_ends_with_an_end_of_line_and_every_error_is_our_own_sentence() {
    let site = Site::new(vec![Script::default()]);
    for path in ["/api/v1/streams", "/api/v1/limits", "/api/v1/x", "/", "/metrics", "/livez"] {
        let (_, body) = site.get(path);
        assert!(body.ends_with('\n') && !body.ends_with("\n\n"), "{path}: {body:?}");
    }
    let check = |path: &str, message: &str| {
        let body: Value = serde_json::from_str(&site.get(path).1).unwrap();
        assert_eq!(body["error"]["message"], message, "{path}");
    };
    let query = "The query may be limit, a number of rows, cursor, a next of this list, and \
                 cluster, 0 or 1.";
    check("/api/v1/streams?limit=x", query);
    let query = "The query may be limit, cursor, role, transport, address, app, name and \
                 cluster.";
    check("/api/v1/connections?page=2", query);
    let of = "cluster must be 0, this node, or 1, all of them.";
    for list in ["nodes", "links", "pushes", "pulls", "streams/live/a"] {
        check(&format!("/api/v1/{list}?cluster=2"), of);
    }
    check("/api/v1/connections?address=x", query);
    let transports = "transport must be one of rtmp, rtmps, rtmpt, rtmpts, flv, wsflv.";
    check("/api/v1/connections?transport=x", transports);
    let path = "The path must be UTF-8 text, with %XX for other bytes.";
    check("/api/v1/streams/live/%ff", path);
}

#[test]
fn numbers_and_spans_are_said_as_people_say_them() {
    let check = |seconds, expected: &str| assert_eq!(up(seconds), expected);
    check(0, "0 s");
    check(59, "59 s");
    check(60, "1 min 0 s");
    check(3_599, "59 min 59 s");
    check(3_605, "1 h 0 min");
    check(90_000, "1 d 1 h");
    assert_eq!([0, 1, 2].map(|n| counted(n, "player")), ["0 players", "1 player", "2 players"]);
}

#[test]
fn a_worker_that_does_not_answer_costs_an_error_and_no_more() {
    let (workers, inboxes) = testing::workers(2);
    // The one answers; the other lets one question wait, and then its ring is full.
    let mut inboxes = inboxes.into_iter();
    let (first, inbox) = (workers[0].clone(), inboxes.next().unwrap());
    thread::spawn(move || testing::work(&first, &inbox, Script::default()));
    let site = Site::over(workers);
    let busy = (503, "worker_busy".to_owned());
    assert_eq!(site.error("/api/v1/streams"), busy);
    while site.state.workers[1].ask(Query::Stop).is_ok() {}
    for _ in 0..100 {
        assert_eq!(site.error("/api/v1/streams"), busy);
        assert_eq!(site.error("/api/v1/connections"), busy);
    }
    assert_eq!(site.get("/metrics").0, StatusCode::OK);
}

#[test]
fn only_this_host_may_use_the_api() {
    let site = Site::new(vec![Script::default()]);
    let check = |peer: &str, host: &str, path: &str, expected: u16| {
        let (status, body) = site.request("GET", path, peer, host);
        assert_eq!(status.as_u16(), expected, "{peer} {host} {path}: {body}");
        if expected == 403 {
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["error"]["code"], "forbidden");
        }
    };
    for path in ["/", "/api/v1/streams", "/api/v1/connections", "/api/v1/limits", "/secret"] {
        let found = if path == "/secret" { 404 } else { 200 };
        for peer in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            check(peer, "127.0.0.1:8935", path, found);
        }
        check("127.0.0.1:1", "LocalHost", path, found);
        check("127.0.0.1:1", "[::1]:8935", path, found);
        for peer in ["10.0.0.1:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1", "0.0.0.0:1"] {
            check(peer, "127.0.0.1:8935", path, 403);
        }
        check("127.0.0.1:1", "evil.example:8935", path, 403);
        check("127.0.0.1:1", "", path, 403);
    }
    for path in ["/livez", "/metrics"] {
        check("10.0.0.1:1", "relay-0.relay:8935", path, 200);
    }
    let told = |name: &str, value: &str| {
        let headers = [(name, value)];
        let host = "localhost:8935";
        site.request_with("POST", "/api/v1/reload", "127.0.0.1:1", host, &headers).0.as_u16()
    };
    for (name, value) in [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("X-Real-IP", "192.0.2.1"),
        ("Via", "1.1 proxy"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://localhost:1"),
    ] {
        assert_eq!(told(name, value), 403, "{name}: {value}");
    }
    for (name, value) in [("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost:8935")] {
        assert_ne!(told(name, value), 403, "{name}: {value}");
    }
    // Another method is no way around the guard.
    let path = "/api/v1/connections/0-1";
    let (status, _) = site.request("DELETE", path, "10.0.0.1:1", "localhost");
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[test]
fn wrong_paths_and_methods_are_errors_of_the_same_form() {
    let site = Site::new(vec![]);
    assert_eq!(site.error("/nothing"), (404, "not_found".to_owned()));
    assert_eq!(site.error("/api/v1/connections/0-1"), (405, "method_not_allowed".to_owned()));
    let (status, body) = site.request("POST", "/livez", "10.0.0.1:1", "x");
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(body.contains("method_not_allowed"), "{body}");
}

#[test]
fn probes_follow_the_life_of_the_node() {
    let (workers, _inboxes) = testing::workers(2);
    let site = Site::over(workers);
    let check = |expected: [(u16, &str); 3]| {
        let found = ["/startupz", "/readyz", "/livez"].map(|path| site.get(path));
        let found = found.each_ref().map(|(status, body)| (status.as_u16(), body.as_str()));
        assert_eq!(found, expected);
    };
    const OK: (u16, &str) = (200, "ok\n");
    site.state.set_phase(Phase::Starting);
    check([(503, "starting\n"), (503, "starting\n"), OK]);
    site.state.set_phase(Phase::Running);
    site.state.workers[0].cells.turns.increment();
    let waiting = (503, "worker 1 has not turned yet\n");
    check([waiting, waiting, OK]);
    site.state.workers[1].cells.turns.increment();
    check([OK, OK, OK]);
    for worker in &site.state.workers {
        worker.cells.connections.at((Role::Player, Transport::Rtmp)).set(50_000);
    }
    check([OK, (503, "connections_max (100000) is reached\n"), OK]);
    site.state.workers[0].cells.connections.at((Role::Player, Transport::Rtmp)).set(0);
    check([OK, OK, OK]);
    site.state.set_phase(Phase::Draining);
    check([OK, (503, "draining\n"), OK]);
}

#[test]
fn the_first_page_tells_what_is_where() {
    let site = Site::new(vec![Script::default()]);
    let (status, text) = site.get("/");
    assert_eq!(status, StatusCode::OK);
    for words in ["/api/v1/streams", "/metrics", "/readyz", ", running, up ", "1 worker, 0 conn"] {
        assert!(text.contains(words), "{text}");
    }
}
