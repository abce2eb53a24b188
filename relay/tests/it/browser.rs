//! The page at `/watch` in a real browser: Chromium, without a screen, driven by playwright-core.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::clip::Clip;
use crate::support::process::Process;
use crate::support::relay::{Relay, command};
use crate::support::{Scratch, ffmpeg, wait_for};

/// How many seconds a page is watched. On a busy host a browser without a graphics card skips
/// pictures.
const WATCHED: u32 = 24;

/// Starting a browser on a busy host, and watching.
const PASS_MAX: Duration = Duration::from_secs(240);

/// What `.ci/install` brings: the folder of node_modules.
fn tools() -> PathBuf {
    let cache = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/relay"));
    let tools = std::env::var_os("TEST_TOOLS").map(PathBuf::from).or_else(cache);
    tools.expect("HOME or TEST_TOOLS is set").join("browser")
}

/// Watches these pages side by side; gives what was seen of each. The screenshots stay in `target`.
fn watch(dir: &Path, pages: &[(&str, String)]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/watch.mjs");
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    fs::create_dir_all(&shots).unwrap();
    let (profile, said) = (dir.join("profile"), dir.join("watch.json"));
    fs::create_dir(&profile).unwrap();
    let mut command = Command::new("node");
    command.arg(script).arg(tools()).arg(profile).arg(WATCHED.to_string());
    for (name, url) in pages {
        let shot = shots.join(format!("{name}.png"));
        println!("{url} is kept in {}", shot.display());
        command.arg(url).arg(shot);
    }
    Process::start_apart(dir, "node", &said, &mut command).succeed(PASS_MAX);
    let seen: Value = serde_json::from_str(&fs::read_to_string(said).unwrap()).unwrap();
    println!("Chromium {}", seen["version"]);
    seen["pages"].as_array().unwrap().clone()
}

/// The last sample of a page.
fn last(page: &Value) -> &Value {
    page["samples"].as_array().unwrap().last().unwrap()
}

/// Checks a page that plays: time and frames go on, and nothing was complained of.
fn check_plays(page: &Value, relay: &Relay) {
    let samples = page["samples"].as_array().unwrap();
    let number = |sample: &Value, key: &str| sample[key].as_f64().unwrap();
    let begun = samples.iter().position(|sample| number(sample, "time") > 0.0);
    let playing = &samples[begun.unwrap_or_else(|| panic!("it never plays: {page:#}"))..];
    let (first, end) = (&playing[0], last(page));
    let played = number(end, "time") - number(first, "time");
    assert!(played >= 10.0, "only {played} s were played: {page:#}");
    let steps = playing.windows(2).filter(|two| number(&two[1], "time") > number(&two[0], "time"));
    assert!(steps.count() + 2 >= playing.len(), "it stands still: {page:#}");
    assert!(number(end, "frames") > 200.0, "{end:#}");
    assert!(number(end, "audio_bytes") > 50_000.0, "{end:#}");
    assert_eq!((end["width"].as_u64(), end["height"].as_u64()), (Some(640), Some(360)));
    assert_eq!(end["errors"], Value::Array(Vec::new()));
    // From elsewhere the page asks the API in vain.
    let own = page["url"].as_str().unwrap().contains("127.0.0.1");
    let fits =
        |line: &str| line.starts_with("warning: [") || (!own && line.ends_with("403 (Forbidden)"));
    let said = page["said"].as_array().unwrap();
    assert!(said.iter().all(|line| fits(line.as_str().unwrap())), "{said:#?}");
    assert!(end["status"].as_str().unwrap().starts_with("Live, 640"), "{end:#}");
    assert_eq!(end["curtain"], "");
    check_page(page, relay);
}

/// Whatever a page shows: nothing comes from elsewhere, and it fits a phone.
fn check_page(page: &Value, relay: &Relay) {
    let own = [relay.http, relay.rtmp].map(|address| format!("//{address}/"));
    for request in page["requests"].as_array().unwrap() {
        let request = request.as_str().unwrap();
        let request = request.replace(&own_address().to_string(), "127.0.0.1");
        assert!(own.iter().any(|own| request.contains(own)) || request.starts_with("blob:"));
    }
    assert_eq!((&last(page)["overflow"], &page["phone_overflow"]), (&false.into(), &false.into()));
}

/// A relay on all addresses. To a page that comes from another one than loopback the API is closed,
/// and the application is open to everybody.
fn start(dir: &Path) -> Relay {
    let file = dir.join("open.toml");
    fs::write(&file, "[apps.live]\nplay = [\"everybody\"]\n").unwrap();
    let mut command = command();
    command.args(["--rtmp", "[::]:0", "--http", "[::]:0", "--config"]).arg(file);
    Relay::start_with(dir, &mut command)
}

/// An address of this host that is not loopback. Nothing is sent to find it.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").expect("the host has a route to other hosts");
    socket.local_addr().unwrap().ip()
}

#[test]
fn chromium_plays_over_http_and_a_websocket_and_says_why_it_does_not() {
    let scratch = Scratch::new("browser");
    let dir = scratch.path();
    let relay = start(dir);
    let publish = |name: &str, clip| ffmpeg::publish_looped(dir, name, clip, 5, &relay.url(name));
    let _publishers =
        [publish("avc", Clip::Plain), publish("hevc", Clip::Hevc), publish("tracks", Clip::Tracks)];
    relay.wait_for_role("publisher", 3);
    wait_for("the streams to have key frames", PASS_MAX, || {
        let streams = crate::support::http::get(relay.http, "/api/v1/streams").ok()?.body;
        (streams.matches("\"last_key_ms\":null").count() == 0).then_some(())
    });
    let page = |path: &str| format!("http://{}/watch/live/{path}", relay.http);
    let elsewhere = |path: &str| page(path).replace("127.0.0.1", &own_address().to_string());
    let seen = watch(
        dir,
        &[
            ("http", page("avc")),
            ("websocket", page("avc?transport=ws")),
            ("hevc", page("hevc")),
            ("tracks", page("tracks")),
            ("nobody", page("nobody")),
            ("elsewhere", elsewhere("avc")),
            ("hevc-elsewhere", elsewhere("hevc")),
        ],
    );
    let [http, websocket, hevc, tracks, nobody, far, far_hevc] = &seen[..] else {
        panic!("{seen:#?}")
    };
    for page in [http, websocket, tracks, far] {
        check_plays(page, &relay);
    }
    assert!(last(tracks)["note"].as_str().unwrap().contains("several tracks"), "{tracks:#}");
    let asked = |page: &Value, start: &str| {
        let requests = page["requests"].as_array().unwrap();
        requests.iter().any(|request| request.as_str().unwrap().starts_with(start))
    };
    let (over_http, over_ws) = (format!("http://{}", relay.rtmp), format!("ws://{}", relay.rtmp));
    assert!(asked(http, &over_http) && !asked(http, &over_ws));
    assert!(asked(websocket, &over_ws) && !asked(websocket, &over_http));

    for page in [hevc, far_hevc] {
        let reason = last(page)["curtain"].as_str().unwrap();
        assert!(reason.contains("H.265 (HEVC), which this browser cannot play"), "{page:#}");
    }
    assert!(last(nobody)["status"].as_str().unwrap().starts_with("Nobody publishes"), "{nobody:#}");
    for page in [hevc, far_hevc, nobody] {
        assert_eq!(last(page)["time"], 0.0);
        check_page(page, &relay);
    }
}
