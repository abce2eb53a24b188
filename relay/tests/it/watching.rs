//! What operators look at, with real streams in it: the API held against its own description, the
//! metrics against their rules and each other, the status page in Chromium, `relay top` in tmux.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{link, node, wait_for_nodes};
use crate::support::client::{Client, Player};
use crate::support::clip::Clip;
use crate::support::http::Metrics;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay, command};
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

/// The longest that one outside program may take on a busy host.
const PASS_MAX: Duration = Duration::from_secs(240);

const TOKEN: &str = "a-token-of-the-test-of-many-letters";

/// What `.ci/install` brings besides packages.
fn tools(what: &str) -> PathBuf {
    let cache = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/relay"));
    let tools = std::env::var_os("TEST_TOOLS").map(PathBuf::from).or_else(cache);
    tools.expect("HOME or TEST_TOOLS is set").join(what)
}

fn json(relay: &Relay, path: &str) -> Value {
    let answer = http::get(relay.http, path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// A relay with a stream that is published and played.
struct Scene {
    relay: Relay,
    publisher: Process,
    player: Process,
    scratch: Scratch,
}

impl Scene {
    fn new(test: &str, configuration: &str) -> Self {
        let scratch = Scratch::new(test);
        let dir = scratch.path();
        let relay = Relay::start(dir, &Options { configuration, ..Options::default() });
        let url = relay.url("talk");
        let publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Plain, 30, &url);
        relay.wait_for_role("publisher", 1);
        let player = ffmpeg::record(dir, "player", &url, &scratch.file("seen.flv"));
        relay.wait_for_role("player", 1);
        wait_for("the stream's rate and pictures", START, || {
            let stream = json(&relay, "/api/v1/streams/live/talk");
            (stream["gop_ms"].is_u64() && stream["bits_per_second"].is_u64()).then_some(())
        });
        Self { scratch, relay, publisher, player }
    }
}

#[test]
fn a_stream_is_told_with_all_that_is_known_of_it() {
    let scene = Scene::new("told", "");
    let stream = json(&scene.relay, "/api/v1/streams/live/talk");
    let is = |pointer: &str, expected: Value| {
        assert_eq!(stream.pointer(pointer), Some(&expected), "{pointer}: {stream:#}");
    };
    is("/state", "live".into());
    is("/source", "local".into());
    is("/video/codec", "avc".into());
    is("/video/width", 640.into());
    is("/video/tracks", 1.into());
    is("/audio/codec", "aac".into());
    is("/players", 1.into());
    is("/nodes/0/transports/rtmp", 1.into());
    let near = |name: &str, low: u64, high: u64| {
        let found = stream[name].as_u64().unwrap();
        assert!((low..=high).contains(&found), "{name}: {stream:#}");
    };
    near("gop_ms", 1_900, 2_100);
    // The clip has 1 Mbit/s and comes in at the speed of its clock; a look takes half a second.
    near("bits_per_second", 200_000, 4_000_000);
    let id = stream["publisher"]["id"].as_str().unwrap();
    let list = json(&scene.relay, "/api/v1/connections?role=publisher&app=live&name=talk");
    assert_eq!(list["items"][0]["id"], id);
    let none = json(&scene.relay, "/api/v1/connections?role=publisher&name=other");
    assert_eq!(none["items"], Value::Array(Vec::new()));
    let node = &json(&scene.relay, "/api/v1/nodes")["items"][0];
    assert_eq!((&node["publishers"], &node["players"]), (&1.into(), &1.into()), "{node:#}");
    assert!(node["egress_bytes"].as_u64().unwrap() > 10_000, "{node:#}");
}

#[test]
fn the_api_is_what_its_description_says() {
    let configuration = "[limits]\nhttp_lists_per_second_max = 100000\n[log]\nlevel = \"warn\"\n";
    let mut scene = Scene::new("schemathesis", configuration);
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let served = http::get(scene.relay.http, "/api/v1/openapi.json").unwrap().body;
    assert_eq!(served, fs::read_to_string(&document).unwrap());
    let (dir, http) = (scene.scratch.path().to_owned(), scene.relay.http);
    let hold = |which: &[&str]| {
        let mut command = Command::new("python3");
        command.current_dir(&dir).env("PYTHONPATH", tools("schemathesis"));
        command.args(["-m", "schemathesis.cli", "run"]).arg(&document);
        command.args(["--url", &format!("http://{http}/api/v1")]);
        // This host needs no token, and a cursor cannot be made up: it has to be a next of the
        // list.
        let excluded = "ignored_auth,positive_data_acceptance";
        command.args(["--checks", "all", "--exclude-checks", excluded]).args(which);
        command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "25"]);
        command.args(["--seed", "1", "--workers", "1", "--no-color"]);
        command.args(["--generation-database", "none", "--request-timeout", "20"]);
        let mut run = Process::start(&dir, "schemathesis", &mut command);
        let status = run.wait(PASS_MAX);
        assert!(status.success(), "{status}\n{}", run.log());
    };
    // Neither the request that ends the relay nor the one that ends clients.
    hold(&["--exclude-path", "/drain", "--exclude-operation-id", "closeConnection"]);
    // And nobody who publishes or plays has noticed.
    scene.relay.must_run();
    scene.publisher.must_run();
    scene.player.must_run();
    let stream = json(&scene.relay, "/api/v1/streams/live/talk");
    assert_eq!((&stream["players"], &stream["epoch"]), (&1.into(), &1.into()), "{stream:#}");
    // Ids that are made up are those of clients now and then; these two have done their part.
    hold(&["--include-operation-id", "closeConnection"]);
    scene.relay.must_run();
}

/// Judges a page of metrics by Prometheus' own tool.
fn promtool(dir: &Path, name: &str, page: &str) {
    let file = dir.join(name);
    fs::write(&file, page).unwrap();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::from(fs::File::open(file).unwrap()));
    let output = command.output().expect("promtool is there: .ci/install brings it");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "{name}: {said}");
}

/// Every counter with its labels: what ends in `_total`, and what histograms count.
fn counters(page: &Metrics) -> BTreeMap<String, f64> {
    let lines = page.text().lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    let counts = samples.filter(|(series, _)| {
        let name = series.split('{').next().unwrap_or(series);
        ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
    });
    counts.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect()
}

#[test]
fn metrics_keep_their_rules_and_add_up_while_clients_come_and_go() {
    let scene = Scene::new("invariants", "");
    let relay = &scene.relay;
    let streams = || http::get(relay.http, "/metrics/streams").unwrap().body;
    let mut before = counters(&relay.metrics());
    let mut of_streams = counters(&Metrics::parse(streams()));
    for round in 0..12 {
        // Players and publishers that come, are refused, break off or stay until the next round.
        let client = Client::open(relay.rtmp).unwrap();
        let _player = Player::join(client, "live", "talk").unwrap();
        let _half = std::net::TcpStream::connect(relay.rtmp).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let page = relay.metrics();
        let now = counters(&page);
        for (series, was) in &before {
            let is = now.get(series).unwrap_or_else(|| panic!("{series} vanished"));
            assert!(is >= was, "{series} fell from {was} to {is} in round {round}");
        }
        before = now;
        let sum = |name, labels: &[_]| page.sum(name, labels).unwrap_or_default();
        // One page is read while connections come and go: it may be one or two off, never more.
        let opened = sum("relay_connections_opened_total", &[("role", "pending")]);
        let closed = sum("relay_connections_closed_total", &[]);
        let open = sum("relay_connections", &[]);
        assert!((opened - closed - open).abs() <= 2.0, "{opened} - {closed} is not {open}");
        let now = counters(&Metrics::parse(streams()));
        for (series, was) in &of_streams {
            assert!(now.get(series).is_none_or(|is| is >= was), "{series} fell");
        }
        of_streams = now;
    }
    let gone = |page: &Metrics| {
        let opened = page.sum("relay_connections_opened_total", &[("role", "pending")]);
        let closed = page.sum("relay_connections_closed_total", &[]);
        (opened.unwrap() - closed.unwrap(), page.sum("relay_connections", &[]).unwrap())
    };
    // Publisher and player are left, and now that it is quiet all is exact.
    wait_for("the books to balance", START, || {
        (gone(&relay.metrics()) == (2.0, 2.0)).then_some(())
    });
    let page = relay.metrics();
    promtool(scene.scratch.path(), "metrics", page.text());
    promtool(scene.scratch.path(), "streams", &streams());
    // What the API says is what the metrics say, core by core and in all.
    let node = json(relay, "/api/v1/nodes")["items"][0].clone();
    for core in node["cores"].as_array().unwrap() {
        let label = core["core"].to_string();
        let open = page.sum("relay_connections", &[("core", label.as_str())]).unwrap();
        assert_eq!(core["connections"].as_f64(), Some(open), "{node:#}");
    }
    let all = page.sum("relay_egress_bytes_total", &[]).unwrap();
    assert!(node["egress_bytes"].as_f64().unwrap() >= all, "{node:#}");
    let shown = wait_for("players that left to be left out", START, || {
        let shown = Metrics::parse(streams());
        let players = shown.sum("relay_stream_players", &[("stream", "live/talk")]);
        (players == Some(1.0)).then_some(shown)
    });
    let of_stream = shown.sum("relay_stream_egress_bytes_total", &[("stream", "live/talk")]);
    assert!(of_stream > Some(0.0), "{of_stream:?}");
}

#[test]
fn a_thousand_requests_a_second_leave_players_untouched() {
    let mut scene = Scene::new("requests", "");
    let jumps = |page: &Metrics| page.sum("relay_player_jumps_total", &[]).unwrap();
    let before = jumps(&scene.relay.metrics());
    let (address, end) = (scene.relay.http, std::time::Instant::now() + Duration::from_secs(4));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut statuses = BTreeMap::<u16, u32>::new();
                while std::time::Instant::now() < end {
                    let answer = http::get(address, "/api/v1/streams").map(|answer| answer.status);
                    *statuses.entry(answer.unwrap_or(0)).or_default() += 1;
                }
                statuses
            })
        })
        .collect();
    let mut statuses = BTreeMap::<u16, u32>::new();
    for asker in askers {
        for (status, count) in asker.join().unwrap() {
            *statuses.entry(status).or_default() += count;
        }
    }
    let asked: u32 = statuses.values().sum();
    println!("{asked} requests in 4 s: {statuses:?}");
    assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses[&200] <= 50 * 6, "{statuses:?}");
    let page = scene.relay.metrics();
    assert_eq!(jumps(&page), before);
    let refused = page.sum("relay_refused_total", &[("reason", "api")]).unwrap();
    assert_eq!(refused, f64::from(statuses.get(&429).copied().unwrap_or(0)));
    scene.player.must_run();
    scene.publisher.must_run();
}

#[test]
fn chromium_shows_the_status_page_live() {
    let scratch = Scratch::new("status");
    let dir = scratch.path();
    let tokens = scratch.file("tokens");
    fs::write(&tokens, format!("{TOKEN}\n")).unwrap();
    let further = format!("[api]\ntoken_file = \"{}\"", tokens.display());
    let relay = node(&scratch, "studio", &[], &further);
    // Another node of its cluster, whose player counts as well.
    let edge = node(&scratch, "edge", &[link(&relay)], "");
    wait_for_nodes(&relay, 1);
    let publish = |name: &str, clip| ffmpeg::publish_looped(dir, name, clip, 20, &relay.url(name));
    let _publishers = [
        publish("talk", Clip::Plain),
        publish("hevc", Clip::Hevc),
        publish("tracks", Clip::Tracks),
    ];
    relay.wait_for_role("publisher", 3);
    let _players: Vec<_> = (0..5)
        .map(|number| {
            let file = scratch.file(&format!("{number}.flv"));
            ffmpeg::record(dir, &format!("player-{number}"), &relay.url("talk"), &file)
        })
        .collect();
    // Somebody waits for a stream that nobody publishes, and somebody is turned away.
    let client = Client::open(relay.rtmp).unwrap();
    let _waiting = Player::join(client, "live", "soon").unwrap();
    let _ = http::get(relay.rtmp, "/live/nobody.flv");
    relay.wait_for_role("player", 6);
    let file = scratch.file("far.flv");
    let _far = ffmpeg::record(dir, "far", &edge.url("talk"), &file);
    edge.wait_for_role("player", 1);

    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    fs::create_dir_all(&shots).unwrap();
    println!("the pictures are kept in {}", shots.display());
    let (profile, said, follow) =
        (dir.join("profile"), dir.join("status.json"), dir.join("follow"));
    fs::create_dir(&profile).unwrap();
    fs::write(&follow, "").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/status.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(tools("browser")).arg(profile);
    command.arg(format!("http://{}/", relay.http)).arg(shots);
    command.arg(format!("http://relay.test:{}/", relay.http.port())).arg(TOKEN).arg(&follow);
    let mut browser = Process::start_apart(dir, "node", &said, &mut command);
    // Between a stream's coming and going the browser says when it has seen it.
    let mut heard = |word: &str| {
        wait_for(&format!("the browser to say {word}"), PASS_MAX, || {
            let text = fs::read_to_string(&follow).unwrap();
            let ended = browser.ended().filter(|status| !status.success());
            assert!(ended.is_none(), "{}", browser.log());
            text.lines().any(|line| line == word).then_some(())
        });
    };
    heard("more");
    let mut later = publish("later", Clip::Plain);
    heard("less");
    later.stop(Signal::INT);
    browser.succeed(PASS_MAX);

    let seen: Value = serde_json::from_str(&fs::read_to_string(said).unwrap()).unwrap();
    let first = &seen["first"];
    assert_eq!((&first["state"], &first["trouble"]), (&"running".into(), &"".into()), "{seen:#}");
    assert_eq!((&first["streams"], &first["players"]), (&"3".into(), &"7".into()), "{first:#}");
    let rows: Vec<Vec<String>> = serde_json::from_value(first["rows"].clone()).unwrap();
    assert_eq!(rows.len(), 4, "{rows:?}");
    let talk = &rows[0];
    assert_eq!((&*talk[0], &*talk[1], &*talk[2]), ("live/talk", "live", "6"), "most players first");
    assert_eq!(talk[6], "studio", "{talk:?}");
    let nodes: Vec<Vec<String>> = serde_json::from_value(first["nodes"].clone()).unwrap();
    let shown: Vec<_> = nodes.iter().map(|row| (&*row[0], &*row[1])).collect();
    assert_eq!(shown, [("studio", "6"), ("edge", "1")], "{nodes:?}");
    assert!(nodes.iter().all(|row| row[3].contains("bit/s")), "{nodes:?}");
    let between: Vec<Vec<String>> = serde_json::from_value(first["between"].clone()).unwrap();
    assert_eq!((between.len(), &*between[0][0], &*between[0][1]), (1, "studio", "edge"));
    assert!(between[0][3].contains("bit/s"), "{between:?}");
    assert!(talk[3].contains("bit/s") && talk[4].contains("bit/s"), "{talk:?}");
    assert!(talk[5].starts_with("avc 640×360, aac"), "{talk:?}");
    assert!(rows.iter().any(|row| row[0] == "live/soon" && row[1] == "waited for"), "{rows:?}");
    assert!(rows.iter().any(|row| row[5].contains("2 tracks")), "{rows:?}");
    let drops = first["drops"].to_string();
    assert!(drops.contains("Turned away") && drops.contains("unknown stream"), "{drops}");
    assert!(first["links"].to_string().contains("/watch/live/talk"), "{first:#}");
    assert_eq!((&seen["filtered"], &seen["unfiltered"]), (&0.into(), &4.into()));
    assert_eq!(seen["sorted"], "name", "by keyboard");
    assert!(seen["focused"].as_str().unwrap().starts_with("/watch/live/"), "{seen:#}");
    assert_eq!(seen["focused"], seen["still_focused"], "a new look takes the focus from nobody");
    assert!(seen["played"].as_f64().unwrap() > 1.0);
    assert_eq!(seen["wrong"]["trouble"], "The token is wrong.");
    assert_eq!(
        (&seen["unlocked"]["asks"], &seen["unlocked"]["streams"]),
        (&false.into(), &"3".into())
    );
    for (view, overflow) in seen["overflow"].as_object().unwrap() {
        assert_eq!(overflow, false, "{view} scrolls sideways");
    }
    let own = [relay.http, relay.rtmp].map(|address| format!("//{address}/"));
    let named = format!("//relay.test:{}/", relay.http.port());
    for request in seen["requests"].as_array().unwrap() {
        let request = request.as_str().unwrap();
        let ours = own.iter().any(|own| request.contains(own)) || request.contains(&named);
        assert!(ours || request.starts_with("blob:") || request.starts_with("data:"), "{request}");
    }
    // Chromium itself tells of answers that are no success: those that ask for the token.
    let said = seen["said"].as_array().unwrap();
    let fine = |line: &Value| {
        let line = line.as_str().unwrap();
        line.contains("401") || line.starts_with("warning: [")
    };
    assert!(said.iter().all(fine), "{said:#?}");
}

/// A tmux server of the test's own.
struct Tmux(String);

impl Tmux {
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.0, "-f", "/dev/null"]).args(arguments).env_remove("TMUX");
        let output = command.output().expect("tmux is there: .ci/install brings it");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn top_shows_the_relay_in_a_terminal_and_gives_it_back() {
    let scene = Scene::new("top", "");
    let api = format!("http://{}", scene.relay.http);

    let mut once = command();
    once.args(["top", "--once", "--api", &api]);
    let mut once = Process::start(scene.scratch.path(), "once", &mut once);
    once.succeed(START);
    let said = once.log();
    assert!(said.starts_with("relay ") && !said.contains('\u{1b}'), "{said}");
    assert!(said.contains("live/talk") && said.contains("avc 640x360 aac"), "{said}");

    let tmux = Tmux(format!("relay-{}", std::process::id()));
    let program = env!("CARGO_BIN_EXE_relay");
    let shell = "exec env -i TERM=screen PS1=ready: sh";
    tmux.run(&["new-session", "-d", "-x", "110", "-y", "24", shell]);
    tmux.run(&["send-keys", &format!("{program} top --interval 200ms --api {api}"), "Enter"]);
    let shows = |what: &str| {
        wait_for(what, START, || Some(tmux.screen()).filter(|screen| screen.contains(what)))
    };
    let screen = shows("live/talk");
    println!("{screen}");
    assert!(screen.contains("1 streams, 1 publishing, 1 players"), "{screen}");
    assert!(screen.contains("STREAM") && screen.contains("q quit"), "{screen}");
    wait_for("a rate", START, || {
        let screen = tmux.screen();
        let row = screen.lines().find(|line| line.starts_with("live/talk"))?;
        (row.matches("bit/s").count() == 2).then_some(())
    });
    // Another size, a pause, a relay that goes: the screen follows.
    tmux.run(&["resize-window", "-x", "60", "-y", "12"]);
    wait_for("the small screen", START, || {
        let screen = tmux.screen();
        let fits = screen.lines().all(|line| line.chars().count() <= 60);
        (fits && screen.contains("live/talk") && screen.contains("q quit")).then_some(())
    });
    tmux.run(&["resize-window", "-x", "110", "-y", "24"]);
    tmux.run(&["send-keys", "Space"]);
    shows("PAUSED");
    tmux.run(&["send-keys", "Space"]);
    drop(scene.relay);
    shows("cannot be asked");
    tmux.run(&["send-keys", "q"]);
    let screen = shows("ready:");
    assert!(!screen.contains("q quit"), "the old screen is back: {screen}");
    tmux.run(&["send-keys", "stty -a | grep -o ' icanon'", "Enter"]);
    shows("\n icanon");
}
