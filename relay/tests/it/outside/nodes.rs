//! Pushes and pulls of nodes that are one cluster: each runs on one node only, goes where its
//! publisher goes, and is taken over when its node ends.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{failures, list, post, wait_for_list};
use crate::support::client::Client;
use crate::support::clip::Clip;
use crate::support::nginx::Nginx;
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

/// Longer than any test: what happens within it does not happen because a grace is over.
const GRACE: &str = "60s";

/// A node of a cluster that goes by these settings.
fn node(scratch: &Scratch, name: &str, peers: &[&Relay], further: &str) -> Relay {
    let file = scratch.file("cluster.secret");
    fs::write(&file, "what only the nodes of this test know").unwrap();
    // A node that is alone so far lists an address at which nobody is.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let peers = [nobody].into_iter().chain(peers.iter().filter_map(|peer| peer.link));
    let peers: Vec<String> = peers.map(|peer| peer.to_string()).collect();
    let configuration = format!(
        "[node]\nname = \"{name}\"\n[listen]\nlink = \"127.0.0.1:0\"\n[drain]\nwindow = \"20s\"\n\
         [cluster]\npeers = \"{}\"\nsecret_file = {file:?}\nlink_linger = \"1s\"\n\
         [limits]\nstream_grace = \"{GRACE}\"\npull_linger = \"1s\"\n{further}\n",
        peers.join(", ")
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    Relay::start(scratch.path(), &options)
}

/// Two nodes that know each other.
pub(crate) fn pair(scratch: &Scratch, further: &str) -> (Relay, Relay) {
    let a = node(scratch, "a", &[], further);
    let b = node(scratch, "b", &[&a], further);
    for relay in [&a, &b] {
        wait_for("the other node", START, || {
            (relay.metrics().sum("relay_cluster_nodes", &[]) == Some(1.0)).then_some(())
        });
    }
    (a, b)
}

/// A server outside of the cluster, with a stream for the whole test.
fn outside(scratch: &Scratch) -> (Relay, Process) {
    let there = Relay::start(scratch.path(), &Options::default());
    let url = there.url("clip");
    let publisher = ffmpeg::publish_looped(scratch.path(), "far", Clip::Plain, 9, &url);
    there.wait_for_role("publisher", 1);
    (there, publisher)
}

fn join(relay: &Relay, name: &str) -> Client {
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("live").unwrap();
    client.play(name).unwrap();
    client
}

fn count(relay: &Relay, role: &str) -> f64 {
    relay.metrics().sum("relay_connections", &[("role", role)]).unwrap()
}

fn attempts(relay: &Relay, kind: &str) -> f64 {
    relay.metrics().sum("relay_outside_attempts_total", &[("kind", kind)]).unwrap()
}

/// Waits until a node has so many connections of a role; gives how long that took.
fn time_to(relay: &Relay, role: &str, count: u32) -> Duration {
    let begun = Instant::now();
    relay.wait_for_role(role, count);
    begun.elapsed()
}

/// The longest time without a picture or a sound in a recording, by its own clock.
fn longest_gap(recording: &Recording) -> u32 {
    let times: Vec<u32> = recording.coded().iter().map(|packet| packet.time_ms).collect();
    times.windows(2).map(|two| two[1].saturating_sub(two[0])).max().unwrap_or(u32::MAX)
}

#[test]
fn a_push_goes_from_one_node_only_and_with_its_publisher() {
    let scratch = Scratch::new("push-nodes");
    let dir = scratch.path();
    let nginx = Nginx::start(dir);
    let push = format!("[apps.live]\npush = [\"clip rtmp://{}/live/pushed\"]\n", nginx.address);
    let (a, b) = pair(&scratch, &push);
    let publish = |name: &str, relay: &Relay| {
        ffmpeg::publish_looped(dir, name, Clip::Plain, 9, &relay.url("clip"))
    };
    let mut first = publish("first", &a);
    a.wait_for_role("push", 1);
    wait_for_list(&a, "pushes", "\"state\":\"up\"", START);
    assert_eq!(count(&b, "push"), 0.0);
    // The publisher's connection is lost, and it comes back on the other node.
    first.kill();
    a.wait_for_role("publisher", 0);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(count(&a, "push"), 1.0, "it may come back");
    let mut second = publish("second", &b);
    b.wait_for_role("publisher", 1);
    let left = time_to(&a, "push", 0);
    wait_for_list(&b, "pushes", "\"state\":\"up\"", START);
    println!("left after {left:?}, refused meanwhile: {}", failures(&b, "refused"));
    assert!(left < Duration::from_secs(5), "the old node pushed on for {left:?}");
    // Another takes it over, while the one that has it still sends.
    let mut third = publish("third", &a);
    let left = time_to(&b, "push", 0);
    wait_for_list(&a, "pushes", "\"state\":\"up\"", START);
    println!("taken over after {left:?}, refused meanwhile: {}", failures(&a, "refused"));
    assert!(left < Duration::from_secs(5), "the old node pushed on for {left:?}");
    // And the node that pushes dies.
    third.kill();
    second.stop(Signal::INT);
    a.kill();
    let mut fourth = publish("fourth", &b);
    b.wait_for_role("push", 1);
    wait_for_list(&b, "pushes", "\"state\":\"up\"", START);
    let file = scratch.file("seen.flv");
    let mut seen = ffmpeg::record(dir, "seen", &nginx.url("pushed"), &file);
    wait_for("the target to have it", START, || {
        fs::metadata(&file).is_ok_and(|file| file.len() > 50_000).then_some(())
    });
    fourth.must_run();
    seen.stop(Signal::INT);
    let packets = Recording::of_file(&file).coded().len();
    assert!(packets > 20, "{packets} packets came out of it");
}

#[test]
fn a_pull_lasts_as_long_as_players_of_other_nodes_are_fed_from_it() {
    let scratch = Scratch::new("pull-fed");
    let (there, _far) = outside(&scratch);
    let pull = format!("[apps.live]\npull = [\"rtmp://{}/live/{{name}}\"]\n", there.rtmp);
    let (a, b) = pair(&scratch, &pull);
    let first = join(&a, "clip");
    wait_for_list(&a, "pulls", "\"state\":\"up\"", START);
    let file = scratch.file("second.flv");
    let mut second = ffmpeg::record(scratch.path(), "second", &b.url("clip"), &file);
    b.wait_for_role("player", 1);
    wait_for("the stream to cross", START, || {
        let state = http::get(b.http, "/api/v1/streams/live/clip").ok()?.body;
        state.contains("\"source\":\"remote\"").then_some(())
    });
    drop(first);
    a.wait_for_role("player", 0);
    thread::sleep(Duration::from_secs(6));
    second.must_run();
    assert_eq!((count(&a, "pull"), count(&b, "pull")), (1.0, 0.0));
    assert_eq!((attempts(&a, "pull"), attempts(&b, "pull")), (1.0, 0.0));
    second.stop(Signal::INT);
    a.wait_for_role("pull", 0);
    there.wait_for_role("player", 0);
    let recording = Recording::of_file(&file);
    let gap = longest_gap(&recording);
    assert!(recording.coded().len() > 200 && gap < 1_000, "a gap of {gap} ms");
}

#[test]
fn a_pull_is_handed_over_when_its_node_drains_and_taken_over_when_it_dies() {
    let scratch = Scratch::new("pull-over");
    let (there, _far) = outside(&scratch);
    let pull = format!("[apps.live]\npull = [\"rtmp://{}/live/{{name}}\"]\n", there.rtmp);
    let (mut a, b) = pair(&scratch, &pull);
    let _first = join(&a, "clip");
    wait_for_list(&a, "pulls", "\"state\":\"up\"", START);
    let file = scratch.file("second.flv");
    let mut second = ffmpeg::record(scratch.path(), "second", &b.url("clip"), &file);
    b.wait_for_role("player", 1);
    thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    a.signal(Signal::TERM);
    let handed = time_to(&b, "pull", 1);
    println!("handed over after {handed:?}");
    assert!(handed < Duration::from_secs(5), "it was handed over after {handed:?}");
    // The player of that node has to go; nothing else holds it.
    assert!(a.wait(Duration::from_secs(25)).success());
    println!("the node ended after {:?}", begun.elapsed());
    thread::sleep(Duration::from_secs(2));
    second.must_run();
    // A node that comes anew is fed, and takes over when the one that pulls dies.
    let c = node(&scratch, "c", &[&b], &pull);
    wait_for("the other node", START, || {
        (c.metrics().sum("relay_cluster_nodes", &[]) == Some(1.0)).then_some(())
    });
    let _third = join(&c, "clip");
    wait_for("the stream to cross", START, || {
        let state = http::get(c.http, "/api/v1/streams/live/clip").ok()?.body;
        state.contains("\"source\":\"remote\"").then_some(())
    });
    assert_eq!(count(&c, "pull"), 0.0);
    second.stop(Signal::INT);
    let recording = Recording::of_file(&file);
    let gap = longest_gap(&recording);
    assert!(recording.coded().len() > 300 && gap < 1_000, "a gap of {gap} ms");
    assert_eq!(recording.check_monotonic(), Ok(()));
    b.kill();
    let taken = time_to(&c, "pull", 1);
    println!("taken over after {taken:?}");
    assert!(taken < Duration::from_secs(18), "it was taken over after {taken:?}");
}

#[test]
fn what_is_pulled_always_is_pulled_by_one_node_and_is_no_trouble_to_the_others() {
    let scratch = Scratch::new("pull-always");
    let (there, _far) = outside(&scratch);
    let pull = format!("[apps.live]\npull = [\"clip rtmp://{}/live/clip always\"]\n", there.rtmp);
    let (a, b) = pair(&scratch, &pull);
    wait_for("one node to pull", START, || {
        let both = (count(&a, "pull"), count(&b, "pull"));
        (both == (1.0, 0.0) || both == (0.0, 1.0)).then_some(())
    });
    thread::sleep(Duration::from_secs(1));
    let (with, without) = if count(&a, "pull") > 0.0 { (a, b) } else { (b, a) };
    assert_eq!(count(&without, "pull"), 0.0);
    let before = attempts(&without, "pull");
    // Somebody plays it there, and leaves again.
    drop(join(&without, "clip"));
    thread::sleep(Duration::from_secs(5));
    assert!(attempts(&without, "pull") <= before + 1.0, "it is tried again and again");
    let up = |relay: &Relay| relay.metrics().sum("relay_outside_up", &[]);
    assert_eq!((up(&with), up(&without)), (Some(1.0), None));
    assert!(list(&without, "pulls").contains("\"state\":\"elsewhere\""));
    there.wait_for_role("player", 1);
    with.kill();
    let taken = time_to(&without, "pull", 1);
    println!("taken over after {taken:?}");
    assert!(taken < Duration::from_secs(18), "it was taken over after {taken:?}");
    wait_for_list(&without, "pulls", "\"state\":\"up\"", START);
}

#[test]
fn a_target_that_is_another_node_of_the_cluster_is_refused() {
    let scratch = Scratch::new("push-sibling");
    let (a, b) = pair(&scratch, "");
    let _publisher =
        ffmpeg::publish_looped(scratch.path(), "publisher", Clip::Plain, 3, &a.url("clip"));
    a.wait_for_role("publisher", 1);
    let body = |name: &str, at: &Relay, more: &str| {
        let url = at.url("other");
        format!("{{\"app\":\"live\",\"name\":\"{name}\",\"url\":\"{url}\"{more}}}")
    };
    assert_eq!(post(&a, "pushes", &body("clip", &b, "")).status, 201);
    let loops = || failures(&a, "loop") + failures(&b, "loop");
    wait_for("the push to be refused", START, || (loops() >= 1.0).then_some(()));
    assert_eq!(post(&a, "pulls", &body("x", &b, ",\"always\":true")).status, 201);
    wait_for("the pull to be refused", START, || (loops() >= 2.0).then_some(()));
    let refused = |relay: &Relay| relay.metrics().sum("relay_refused_total", &[("reason", "loop")]);
    assert!(refused(&b) >= Some(2.0), "{:?}", refused(&b));
    let said = "the stream comes from this server";
    assert!(list(&a, "pushes").contains(said), "{}", list(&a, "pushes"));
    assert_eq!(count(&b, "publisher"), 0.0);
}

#[test]
fn what_is_added_to_one_node_runs_where_its_publisher_is_and_is_taken_away_by_any() {
    let scratch = Scratch::new("push-added");
    let dir = scratch.path();
    let nginx = Nginx::start(dir);
    let (a, b) = pair(&scratch, "");
    let target = format!("rtmp://{}/live/secret-key", nginx.address);
    let body = format!("{{\"app\":\"live\",\"name\":\"clip\",\"url\":\"{target}\"}}");
    let made = post(&b, "pushes", &body);
    assert_eq!(made.status, 201, "{}", made.body);
    let id = made.body.split('"').nth(3).unwrap().to_owned();
    wait_for_list(&a, "pushes", &format!("\"id\":\"{id}\""), START);
    let _first = ffmpeg::publish_looped(dir, "first", Clip::Plain, 9, &a.url("clip"));
    wait_for_list(&a, "pushes", "\"state\":\"up\"", START);
    assert_eq!((count(&a, "push"), count(&b, "push")), (1.0, 0.0));
    // A node that comes later goes by it, and the one that was told is not needed any more.
    let c = node(&scratch, "c", &[&a, &b], "");
    wait_for_list(&c, "pushes", &format!("\"id\":\"{id}\""), START);
    b.kill();
    thread::sleep(Duration::from_secs(4));
    assert_eq!(count(&a, "push"), 1.0);
    let logs = a.log() + &c.log();
    for text in [list(&a, "pushes"), list(&c, "pushes"), logs] {
        assert!(!text.contains("secret-key"), "{text}");
    }
    // With the publisher's node dead, it is pushed from where that comes back.
    a.kill();
    let _second = ffmpeg::publish_looped(dir, "second", Clip::Plain, 9, &c.url("clip"));
    wait_for_list(&c, "pushes", "\"state\":\"up\"", START);
    let d = node(&scratch, "d", &[&c], "");
    wait_for_list(&d, "pushes", &format!("\"id\":\"{id}\""), START);
    let delete = |relay: &Relay| {
        http::ask(relay.http, "DELETE", &format!("/api/v1/pushes/{id}")).unwrap().status
    };
    assert_eq!(delete(&d), 204);
    c.wait_for_role("push", 0);
    for relay in [&c, &d] {
        assert_eq!(delete(relay), 404);
        assert_eq!(list(relay, "pushes").trim(), "{\"items\":[],\"next\":null}");
    }
}
