//! Back ends that name another server: by nginx's contract what is published goes on to it, too,
//! and what is played is fetched from it.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::END_MAX;
use crate::support::backend::{Answer, Backend, Received};
use crate::support::client::Client;
use crate::support::clip::{Clip, LENGTH};
use crate::support::http;
use crate::support::nginx::Nginx;
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::{START, Scratch, ffmpeg, rtmpdump, wait_for};

/// Packets that may have gone by before a push has begun at a key frame.
const LATE_MAX: usize = 450;

/// A back end that answers to the publish or play of `name` with the `Location` that stands beside
/// it, and lets in whatever else there is.
fn back_end(locations: Vec<(&'static str, String)>) -> Backend {
    let locations: Vec<(&str, &'static str)> =
        locations.into_iter().map(|(name, to)| (name, &*to.leak())).collect();
    Backend::start(move |request: &Received| {
        let name = request.field("name").unwrap_or_default();
        let asked = ["publish", "play"].contains(&request.event().as_str());
        // Unless it is asked with this, in the query of the name.
        let asked = asked && request.field("stays").is_none();
        let found = locations.iter().find(|(known, _)| asked && *known == name);
        found.map_or(Answer::Status(200), |(_, to)| Answer::Redirect(to))
    })
}

fn pushes(relay: &Relay) -> String {
    http::get(relay.http, "/api/v1/pushes").unwrap().body
}

fn record(dir: &Path, name: &str, url: &str) -> Process {
    rtmpdump::record(dir, name, url, &dir.join(format!("{name}.flv")))
}

fn check(dir: &Path, name: &str) {
    let got = Recording::of_file(&dir.join(format!("{name}.flv")));
    let before = Clip::Plain.sent().check_from_key_frame(&got);
    let before = before.unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    assert!(before <= LATE_MAX, "{name} begins {before} packets late");
}

/// nginx itself and the relay, with the same back end, in front of the same other server.
#[test]
fn nginx_and_the_relay_push_what_a_back_end_sends_on() {
    let scratch = Scratch::new("sent-on");
    let dir = scratch.path();
    let there = Nginx::start(dir);
    for ours in [false, true] {
        let what = if ours { "relay" } else { "nginx" };
        let dir = dir.join(what);
        std::fs::create_dir(&dir).unwrap();
        let backend = back_end(vec![("clip", format!("{}?t=h1dden", there.url(what)))]);
        let url = backend.url("/h");
        let (own, relay, nginx) = if ours {
            let configuration = format!(
                "[limits]\nstream_grace = \"2s\"\n[apps.live]\nhooks = \"nginx-rtmp\"\n\
                 on_publish = \"{url}\"\non_publish_done = \"{url}\"\n"
            );
            let options = Options { configuration: &configuration, ..Options::default() };
            let relay = Relay::start(&dir, &options);
            (relay.url("clip"), Some(relay), None)
        } else {
            let app = format!("on_publish {url}; on_publish_done {url};");
            let nginx = Nginx::start_with(&dir, "", &app);
            (nginx.url("clip"), None, Some(nginx))
        };
        let mut players = [record(&dir, "there", &there.url(what)), record(&dir, "here", &own)];
        let mut publisher = ffmpeg::publish(&dir, "publisher", Clip::Plain, &own);
        if let Some(relay) = &relay {
            wait_for("the push to be up", START, || {
                pushes(relay).contains("\"state\":\"up\"").then_some(())
            });
            let (shown, metrics) = (pushes(relay), relay.metrics());
            let target = format!("\"target\":\"rtmp://{}/live\"", there.address);
            for part in ["\"source\":\"hook\"", "\"id\":null", "\"name\":\"clip\"", &target] {
                assert!(shown.contains(part), "{part} is not in {shown}");
            }
            assert_eq!(metrics.sum("relay_connections", &[("role", "push")]), Some(1.0));
            let elsewhere = [("hook", "on_publish"), ("result", "elsewhere")];
            assert_eq!(metrics.sum("relay_hook_requests_total", &elsewhere), Some(1.0));
        }
        publisher.succeed(LENGTH + END_MAX);
        backend.wait(1, |request| request.event() == "publish_done");
        // nginx keeps its players when a publisher ends.
        std::thread::sleep(Duration::from_secs(3));
        for (player, name) in players.iter_mut().zip(["there", "here"]) {
            player.stop(Signal::INT);
            check(&dir, name);
        }
        drop(nginx);
        let Some(relay) = relay else { continue };
        wait_for("the push to end with its stream", END_MAX, || {
            (pushes(&relay).trim() == "{\"items\":[],\"next\":null}").then_some(())
        });
        for text in [relay.metrics().text().to_owned(), relay.log()] {
            assert!(!text.contains("h1dden"), "{text}");
        }
    }
}

/// The same for players.
#[test]
fn nginx_and_the_relay_fetch_what_a_back_end_names() {
    let scratch = Scratch::new("fetched");
    let dir = scratch.path();
    let there = Nginx::start(dir);
    let mut watching = Vec::new();
    for ours in [false, true] {
        let dir = dir.join(if ours { "relay" } else { "nginx" });
        std::fs::create_dir(&dir).unwrap();
        let backend = back_end(vec![("clip", format!("{}?t=h1dden", there.url("far")))]);
        let url = backend.url("/h");
        let (own, relay, nginx) = if ours {
            let configuration = format!(
                "[apps.live]\nhooks = \"nginx-rtmp\"\nunknown_stream = \"reject\"\n\
                 on_play = \"{url}\"\non_play_done = \"{url}\"\n"
            );
            let options = Options { configuration: &configuration, ..Options::default() };
            let relay = Relay::start(&dir, &options);
            (relay.url("clip"), Some(relay), None)
        } else {
            let nginx = Nginx::start_with(&dir, "", &format!("on_play {url}; on_play_done {url};"));
            (nginx.url("clip"), None, Some(nginx))
        };
        let player = record(&dir, "here", &own);
        backend.wait(1, |request| request.event() == "play");
        watching.push((dir, player, backend, relay, nginx));
    }
    let (_, _, _, relay, _) = &watching[1];
    let relay = relay.as_ref().unwrap();
    let pulls = || http::get(relay.http, "/api/v1/pulls").unwrap().body;
    wait_for("the pull to be up", START, || pulls().contains("\"state\":\"up\"").then_some(()));
    assert!(pulls().contains("\"source\":\"hook\""), "{}", pulls());
    // nginx has had longer.
    ffmpeg::publish(dir, "far", Clip::Plain, &there.url("far")).succeed(LENGTH + END_MAX);
    std::thread::sleep(Duration::from_secs(3));
    for (dir, player, backend, relay, _) in &mut watching {
        player.stop(Signal::INT);
        check(dir, "here");
        backend.wait(1, |request| request.event() == "play_done");
        let Some(relay) = relay else { continue };
        relay.wait_for_role("pull", 0);
        wait_for("the pull to be forgotten", Duration::from_secs(30), || {
            let body = http::get(relay.http, "/api/v1/pulls").unwrap().body;
            (body.trim() == "{\"items\":[],\"next\":null}").then_some(())
        });
        for text in [relay.metrics().text().to_owned(), relay.log()] {
            assert!(!text.contains("h1dden"), "{text}");
        }
    }
}

#[test]
fn a_stream_is_sent_on_by_the_word_about_its_present_publisher() {
    let scratch = Scratch::new("sent-now");
    let dir = scratch.path();
    let there = Relay::start(dir, &Options::default());
    let backend = back_end(vec![
        ("one", format!("rtmp://{}/live?t=h1dden", there.rtmp)),
        ("bad", "rtmp://192.0.2.1/".to_owned()),
    ]);
    let url = backend.url("/h");
    let configuration = format!(
        "[limits]\nstream_grace = \"20s\"\n[apps.live]\nhooks = \"nginx-rtmp\"\n\
         on_publish = \"{url}\"\npublish_conflict = \"takeover\"\n"
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let here = Relay::start(dir, &options);
    let publish = |name: &str| {
        let mut client = Client::open(here.rtmp).unwrap();
        client.enter("live").unwrap();
        client.publish(name).map(|()| client)
    };
    // Its name is left to us.
    let first = publish("one").unwrap();
    there.wait_for_role("publisher", 1);
    let streams = http::get(there.http, "/api/v1/streams").unwrap().body;
    assert!(streams.contains("\"name\":\"one\""), "{streams}");
    // While it may come back the push goes on, and after that, too.
    drop(first);
    here.wait_for_role("publisher", 0);
    let second = publish("one").unwrap();
    let third = publish("one").unwrap();
    there.wait_for_role("publisher", 1);
    assert_eq!(here.metrics().sum("relay_outside_attempts_total", &[("kind", "push")]), Some(1.0));
    drop((second, third));
    // The next one's back end names no other server: the push ends, though there is a publisher.
    let last = publish("one?stays=1").unwrap();
    there.wait_for_role("publisher", 0);
    here.wait_for_role("publisher", 1);
    drop(last);

    // What cannot be pushed to keeps its publisher out, and is not repeated.
    let refused = publish("bad").err().unwrap();
    assert!(refused.contains("Closed"), "{refused}");
    let refused = here.metrics().sum("relay_refused_total", &[("reason", "hook_failed")]);
    assert_eq!(refused, Some(1.0));
    let log = here.log_at_end(END_MAX);
    assert!(!log.contains("192.0.2.1") && !log.contains("h1dden"), "{log}");
    there.wait_for_role("publisher", 0);
}
