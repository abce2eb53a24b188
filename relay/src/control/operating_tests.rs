//! Tokens, the configuration and its reload, over the real router, with scripted workers.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::{self, Command, Effective};
use crate::control::testing;
use crate::worker::labels::Full;

const TOKEN: &str = "a-token-of-many-letters";

/// A folder that goes with the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn load(file: &Path) -> Effective {
    match config::load([OsString::from("--config"), file.into()], []) {
        Ok(Command::Run(effective)) => *effective,
        other => panic!("{other:?}"),
    }
}

/// A site of one worker under the configuration of a file.
fn site(file: &Path) -> Site {
    let (workers, mut inboxes) = testing::workers(1);
    let (worker, inbox) = (workers[0].clone(), inboxes.remove(0));
    thread::spawn(move || testing::work(&worker, &inbox, Script::default()));
    Site::of(testing::state_of(workers, load(file)))
}

#[test]
fn from_other_hosts_a_token_is_needed_and_must_be_right() {
    let dir = folder();
    let tokens = write(dir.path(), "tokens", &format!("# one\n{TOKEN}\n"));
    let file = format!("[api]\ntoken_file = \"{}\"\n", tokens.display());
    let site = site(&write(dir.path(), "relay.toml", &file));
    let check = |peer: &str, headers: &[(&str, &str)], expected: u16| {
        for (method, path, good) in [
            ("GET", "/api/v1/streams", 200),
            ("GET", "/api/v1/config", 200),
            ("DELETE", "/api/v1/connections/0-1", 404),
            ("POST", "/api/v1/reload", 200),
        ] {
            let (status, body) = site.request_with(method, path, peer, "relay.example", headers);
            let expected = if expected == 200 { good } else { expected };
            assert_eq!(status.as_u16(), expected, "{method} {path} {headers:?}: {body}");
            assert!(!body.contains(TOKEN), "{body}");
        }
    };
    let right = format!("Bearer {TOKEN}");
    let remote = "192.0.2.7:1000";
    check(remote, &[("authorization", &right)], 200);
    check(remote, &[("authorization", &format!("bearer  {TOKEN} "))], 200);
    let wrong = [
        String::new(),
        TOKEN.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", &TOKEN[1..]),
        format!("Basic {TOKEN}"),
        "Bearer # one".to_owned(),
    ];
    for wrong in &wrong {
        check(remote, &[("authorization", wrong)], 401);
    }
    check(remote, &[], 401);
    // What anybody can write counts for nothing.
    for forwarded in ["x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-host"] {
        check(remote, &[(forwarded, "127.0.0.1")], 401);
    }
    // This host needs none, unless a page in its browser asks under a name of its own.
    let (status, _) = site.request("GET", "/api/v1/streams", "127.0.0.1:1", "localhost");
    assert_eq!(status, StatusCode::OK);
    check("127.0.0.1:1", &[], 401);
    check("127.0.0.1:1", &[("authorization", &right)], 200);
    assert!(site.state.api_refused.get() > 40);
}

#[test]
fn the_configuration_is_shown_with_its_sources_and_without_secrets() {
    let dir = folder();
    let tokens = write(dir.path(), "tokens", TOKEN);
    let file = format!("[api]\ntoken_file = \"{}\"\n", tokens.display());
    let site = site(&write(dir.path(), "relay.toml", &file));
    let (_, text) = site.get("/api/v1/config");
    assert!(!text.contains(TOKEN), "{text}");
    let list = site.json("/api/v1/config");
    let find = |section: &str, name: &str| {
        let items = list["items"].as_array().unwrap();
        let is = |item: &&Value| item["section"] == section && item["name"] == name;
        items.iter().find(is).unwrap().clone()
    };
    let span = find("limits", "log_span");
    assert_eq!((&span["value"], &span["source"]), (&"\"12s\"".into(), &"default".into()));
    assert_eq!(span["live"], true);
    assert_eq!(find("node", "workers")["live"], false);
    let source = find("api", "token_file")["source"].as_str().unwrap().to_owned();
    assert!(source.ends_with("relay.toml:2"), "{source}");
}

#[test]
fn a_reload_applies_what_differs_and_a_bad_file_changes_nothing() {
    let dir = folder();
    let tokens = write(dir.path(), "tokens", TOKEN);
    let api = format!("[api]\ntoken_file = \"{}\"\n", tokens.display());
    let file = write(dir.path(), "relay.toml", &api);
    let site = site(&file);
    let reload = || {
        let (status, body) =
            site.request("POST", "/api/v1/reload", "127.0.0.1:1", "localhost:8935");
        (status.as_u16(), serde_json::from_str::<Value>(&body).unwrap())
    };
    let span = || {
        let list = site.json("/api/v1/limits");
        let items = list["items"].as_array().unwrap().clone();
        items.iter().find(|item| item["name"] == "log_span").unwrap()["value"].as_f64().unwrap()
    };
    let (status, same) = reload();
    assert_eq!(status, 200, "{same}");
    assert_eq!((&same["changed"], &same["restart"]), (&json!([]), &json!([])));
    assert_eq!(same["unconfirmed"], json!([]));

    let new = format!("[limits]\nlog_span = \"9s\"\n[node]\nworkers = 3\n{api}");
    write(dir.path(), "relay.toml", &new);
    let (status, done) = reload();
    assert_eq!(status, 200, "{done}");
    let changed = json!([{"name": "limits.log_span", "from": "\"12s\"", "to": "\"9s\""}]);
    assert_eq!(done["changed"], changed);
    let restart = json!([{"name": "node.workers", "from": "\"auto\"", "to": "3"}]);
    assert_eq!((&done["restart"], span()), (&restart, 9.0));
    assert_eq!(reload().1["restart"], restart, "it is told each time");

    // Every mistake is told, and the good lines among them change nothing.
    let bad = "[limits]\nlog_span = \"8s\"\nlog_spam = 1\nstream_grace = 5\n[api]\n\
               token_file = \"/no/such/file\"\n";
    write(dir.path(), "relay.toml", bad);
    let hash = site.state.in_force().hash.clone();
    let (status, refused) = reload();
    assert_eq!((status, &refused["error"]["code"]), (422, &"bad_configuration".into()));
    let message = refused["error"]["message"].as_str().unwrap();
    for word in ["log_spam", "stream_grace", "/no/such/file"] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(message.lines().count(), 3, "{message}");
    assert_eq!((span(), &site.state.in_force().hash), (9.0, &hash));
    let reloads = &site.state.reloads;
    assert_eq!((reloads.good.get(), reloads.bad.get()), (3, 1));

    // A token file is read again though its name is the same; a bad one keeps the old one.
    write(dir.path(), "relay.toml", &new);
    let asks = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        site.request_with("GET", "/api/v1/streams", "192.0.2.7:1", "x", &headers).0.as_u16()
    };
    write(dir.path(), "tokens", "short\n");
    assert_eq!((reload().0, asks(TOKEN)), (422, 200));
    write(dir.path(), "tokens", "another-token-of-letters\n");
    assert_eq!((reload().0, asks(TOKEN), asks("another-token-of-letters")), (200, 401, 200));
}

/// A part that fails as it is told to, and notes what happened to it.
struct Part(Arc<parking_lot::Mutex<Vec<&'static str>>>, bool);

impl crate::control::reload::Reread for Part {
    fn what(&self) -> &'static str {
        "a part"
    }

    fn prepare(&mut self, _: &config::Config) -> Result<(), Vec<String>> {
        self.0.lock().push("prepared");
        if self.1 { Ok(()) } else { Err(vec!["A part is bad.".to_owned()]) }
    }

    fn commit(&mut self) {
        self.0.lock().push("committed");
    }
}

#[test]
fn parts_are_all_read_before_one_is_used() {
    let dir = folder();
    let site = site(&write(dir.path(), "relay.toml", ""));
    let noted = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let reload = |goods: &[bool]| {
        let parts = goods.iter().map(|good| Box::new(Part(Arc::clone(&noted), *good)) as _);
        site.runtime.block_on(async { site.state.reloader.lock().await.parts = parts.collect() });
        let (status, _) = site.request("POST", "/api/v1/reload", "127.0.0.1:1", "localhost");
        (status.as_u16(), std::mem::take(&mut *noted.lock()))
    };
    assert_eq!(reload(&[true, false, true]), (422, vec!["prepared"; 3]));
    assert_eq!(reload(&[true]), (200, vec!["prepared", "committed"]));
}

#[test]
fn a_node_that_cannot_find_its_cluster_is_started_and_alive_and_not_ready() {
    let dir = folder();
    let secret = write(dir.path(), "secret", "sixteen bytes and more");
    let text = format!("[cluster]\npeers = \"no.such.name.invalid\"\nsecret_file = {secret:?}\n");
    let site = site(&write(dir.path(), "relay.toml", &text));
    while site.get("/startupz").0 != StatusCode::OK {
        thread::sleep(Duration::from_millis(5));
    }
    let (status, why) = site.get("/readyz");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let expected =
        "no name in cluster.peers can be looked up yet, such as no.such.name.invalid:11935";
    assert_eq!(why, format!("{expected}\n"));
    assert_eq!(site.get("/livez").0, StatusCode::OK);
    site.state.peers_found.set(()).unwrap();
    assert_eq!(site.get("/readyz").0, StatusCode::OK);
}

#[test]
fn a_node_that_has_no_room_for_players_is_not_ready_and_says_why() {
    let dir = folder();
    let site = site(&write(dir.path(), "relay.toml", ""));
    while site.get("/readyz").0 != StatusCode::OK {
        thread::sleep(Duration::from_millis(5));
    }
    for full in Full::ALL {
        let cell = site.state.workers[0].cells.full.at(*full);
        cell.set(1);
        let (status, why) = site.get("/readyz");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(why, format!("{} is reached\n", full.label()));
        assert_eq!(site.get("/livez").0, StatusCode::OK);
        cell.set(0);
        assert_eq!(site.get("/readyz").0, StatusCode::OK);
    }
    site.state.workers[0].cells.accepts_failed.set(1);
    let (status, why) = site.get("/readyz");
    assert_eq!((status.as_u16(), &*why), (503, "worker 0 cannot accept connections\n"));
    assert_eq!(site.get("/livez").0, StatusCode::OK);
}

#[test]
fn other_nodes_of_the_cluster_may_read_and_their_answers_are_proven() {
    use crate::control::gather::unix_seconds;
    use crate::control::proof::{self, Question};

    const SECRET: &str = "what only the nodes of this cluster know";
    let dir = folder();
    let secret = write(dir.path(), "secret", SECRET);
    let file = format!(
        "[node]\nname = \"b\"\n[cluster]\npeers = \"192.0.2.1\"\nsecret_file = \"{}\"\n",
        secret.display()
    );
    let site = site(&write(dir.path(), "relay.toml", &file));
    let ask = |method: &str, path: &str, asked: Question<'_>, secret: &str, at: u64| {
        let proof = asked.prove(secret.as_bytes(), at);
        // From wherever it comes: the proof alone counts.
        let peer: SocketAddr = "10.0.0.9:5000".parse().unwrap();
        let request = Request::builder().method(method).uri(path).header(header::HOST, "b");
        let request = request.header(header::AUTHORIZATION, proof.header());
        let request = request.extension(ConnectInfo(peer)).body(Body::empty()).unwrap();
        site.runtime.block_on(async {
            let response = site.router.clone().oneshot(request).await.unwrap();
            let (head, body) = response.into_parts();
            let body = to_bytes(body, 1 << 24).await.unwrap();
            let shown = head.headers.get(proof::ANSWER).map(|value| value.as_bytes().to_vec());
            let status = head.status.as_u16();
            let proven = shown
                .is_some_and(|shown| proof.is_answered(secret.as_bytes(), status, &body, &shown));
            (status, proven)
        })
    };
    let now = unix_seconds();
    let check = |method, path, asked, secret, at, expected| {
        assert_eq!(ask(method, path, asked, secret, at), expected, "{method} {path} {asked:?}");
    };
    let target = "/api/v1/streams?limit=3";
    let asked = Question { node: "b", target };
    check("GET", target, asked, SECRET, now, (200, true));
    let unknown = "/api/v1/streams/live/nothing";
    let question = Question { node: "b", target: unknown };
    check("GET", unknown, question, SECRET, now, (404, true));
    // Another secret, another node, another question, another time, and more than reading.
    check("GET", target, asked, "another secret of somebody", now, (401, false));
    check("GET", target, Question { node: "c", target }, SECRET, now, (401, false));
    check("GET", "/api/v1/config", asked, SECRET, now, (401, false));
    check("GET", target, asked, SECRET, now - 3_600, (401, false));
    let drain = Question { node: "b", target: "/api/v1/drain" };
    check("POST", "/api/v1/drain", drain, SECRET, now, (401, false));
}

#[test]
fn nodes_of_a_cluster_have_one_digest_of_their_settings() {
    let digest = |variables: [(&str, &str); 3]| {
        crate::control::state::hash(&testing::effective_with(variables))
    };
    let other = ("RELAY_LIMITS__STREAM_GRACE", "7s");
    let same = ("RELAY_LIMITS__STREAM_GRACE", "8s");
    let a = digest([("RELAY_NODE__NAME", "a"), ("RELAY_NODE__ZONE", "x"), same]);
    let b = digest([("RELAY_NODE__NAME", "b"), ("RELAY_LISTEN__HTTP", "127.0.0.1:1"), same]);
    let c = digest([("RELAY_NODE__NAME", "a"), ("RELAY_NODE__ZONE", "x"), other]);
    assert_eq!(a, b, "who and where a node is");
    assert_ne!(a, c, "what it does");
}

#[test]
fn a_body_that_is_too_long_is_told_so_wherever_there_is_one() {
    let site = Site::new(vec![Script::default()]);
    let body = format!("{{\"app\":\"{}\"}}", "a".repeat(70_000));
    for (method, path) in
        [("POST", "/api/v1/pushes"), ("POST", "/api/v1/pulls"), ("PUT", "/api/v1/log")]
    {
        let peer: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.extension(ConnectInfo(peer)).body(body.clone().into()).unwrap();
        let (status, said) = site.answer(request);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((status.as_u16(), &said["error"]["code"]), (413, &"too_large".into()), "{path}");
    }
}
