//! The StatefulSet of `k8s/overlays/test` under load: pods start side by side, are added, updated
//! one after the other and taken away, and what clients notice of it.
//!
//! Times are aims: they are printed as they are, and asserted at five times as much. The grace
//! period is a promise and is asserted as it stands. `RELAY_TEST_LONG=1` brings 200 players and
//! updates all pods; else there are 40, and the update goes down to ordinal 3, as `partition: 3`
//! would have it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::manifests::Source;
use crate::support::nets::HUB;
use crate::support::nodes::get_at;
use crate::support::pods::Pod;
use crate::support::process::Process;
use crate::support::programs::{clip, json, loadgen, succeed};
use crate::support::stateful::{Ended, StatefulSet, TOKEN};
use crate::support::{START, Scratch, wait_for};

const STREAMS: usize = 3;
const MOST: usize = 5;

/// A player of a pod that was ended plays again so soon after the pod's exit.
const AIM_BACK: Duration = Duration::from_secs(2);

/// Who was fed by a node that is cut off has frames again so soon.
const AIM_REROUTE: Duration = Duration::from_secs(3);

/// Aims are asserted at so many times their figure.
const SLACK: u32 = 5;

fn is_long() -> bool {
    std::env::var_os("RELAY_TEST_LONG").is_some_and(|value| value == "1")
}

/// An encoder: FFmpeg, started again by a loop whenever it ends.
fn encoder(set: &StatefulSet, dir: &Path, file: &Path, name: &str, url: &str) -> Process {
    let script = "while :; do setpriv --pdeathsig KILL ffmpeg -nostdin -loglevel error \
        -re -stream_loop -1 -i \"$1\" -c copy -f flv \"$2\"; sleep 0.3; done";
    let mut command = set.net.outside().command("bash");
    command.args(["-c", script, "encoder"]).arg(file).arg(url);
    Process::start(dir, &format!("encoder-{name}"), &mut command)
}

/// Players of all streams, by way of the balancer; a player that is lost comes back there.
fn players(set: &StatefulSet, dir: &Path, name: &str, count: usize) -> Process {
    let (url, streams, count) = (set.url("cam{}"), STREAMS.to_string(), count.to_string());
    let mut arguments = vec!["failover", "--publishers", "0", "--quiet", "--duration", "600s"];
    arguments.extend(["--at", "6s", "--ramp", "3s", "--within", "10s", "--expect", "altered=0"]);
    arguments.extend(["--target", &url, "--streams", &streams, "--players", &count]);
    loadgen(set.net.outside(), dir, name, &arguments)
}

/// Ends players; what they saw.
fn seen(mut players: Process, dir: &Path, name: &str) -> Value {
    // The process is the program: what started it became it.
    players.signal(Signal::INT);
    let status = players.wait(2 * START);
    // A run that was stopped has no verdict.
    assert_eq!(status.code(), Some(2), "{}", players.said());
    json(dir, name)
}

fn closed_players(pod: &Pod) -> f64 {
    let page = pod.get("/metrics").unwrap();
    page.metric("relay_connections_closed_total", &[("role", "player")]).unwrap()
}

fn playing(pod: &Pod) -> f64 {
    pod.get("/metrics").unwrap().metric("relay_players", &[]).unwrap()
}

fn check_end(set: &StatefulSet, ended: &Ended) {
    let grace = set.manifests.grace();
    let Ended { number, took, status, said } = ended;
    eprintln!("relay-{number} ended after {:.1} s of {grace:?}", took.as_secs_f64());
    assert!(status.success(), "relay-{number}: {status}: {said}");
    if *took > set.manifests.pre_stop() + set.manifests.drain_window() {
        eprintln!("  longer than its window:\n{said}");
    }
    assert!(*took <= grace, "relay-{number} took {took:?}");
}

/// Everybody plays again, and nobody of another pod was touched since `before` was noted.
fn check_players(set: &StatefulSet, all: usize, before: &[(usize, f64)]) {
    let back = set.wait_for_players(all, AIM_BACK * SLACK);
    eprintln!("  all players play {:.2} s after its exit", back.as_secs_f64());
    for (number, closed) in before {
        let more = closed_players(set.pod(*number)) - closed;
        assert!(more == 0.0, "{more} players of relay-{number} were disconnected");
    }
}

fn noted(set: &StatefulSet, but: &[usize]) -> Vec<(usize, f64)> {
    let others = set.pods().filter(|pod| !but.contains(&pod.number));
    others.map(|pod| (pod.number, closed_players(pod))).collect()
}

#[test]
fn pods_start_scale_and_are_updated_under_load() {
    let dir = Scratch::new();
    let dir = dir.path();
    let mut set = StatefulSet::new(dir, "test", MOST);
    let (early, late) = if is_long() { (50, 150) } else { (15, 25) };
    let replicas = set.manifests.replicas();
    assert_eq!(replicas, 3);

    let begun = Instant::now();
    set.scale(replicas);
    set.wait_until_joined();
    eprintln!("{replicas} pods are one cluster after {:.1} s", begun.elapsed().as_secs_f64());
    let file = clip(dir);
    let encoders: Vec<Process> = (0..STREAMS)
        .map(|number| {
            let name = format!("cam{number}");
            encoder(&set, dir, &file, &name, &set.publish_url(&name))
        })
        .collect();
    wait_for("all streams", START, || {
        let local = set.sum(None, "relay_streams", &[("source", "local")]);
        (local == STREAMS as f64).then_some(())
    });
    let first = players(&set, dir, "early", early);
    set.wait_for_players(early, START);

    let begun = Instant::now();
    let before = noted(&set, &[]);
    set.scale(MOST);
    set.wait_until_joined();
    eprintln!("{MOST} pods are one cluster after {:.1} s", begun.elapsed().as_secs_f64());
    check_players(&set, early, &before);
    let second = players(&set, dir, "late", late);
    let all = early + late;
    set.wait_for_players(all, 2 * START);
    // From then on losses of players are counted.
    thread::sleep(Duration::from_secs(9));

    let mut moved = 0.0;
    let least = if is_long() { 0 } else { 3 };
    for number in (least..MOST).rev() {
        let before = noted(&set, &[number]);
        let own = playing(set.pod(number));
        let ended = set.update(number, |set| check_players(set, all, &before));
        check_end(&set, &ended);
        eprintln!("  it had {own} players");
        moved += own;
        set.wait_until_joined();
    }
    let before = noted(&set, &[3, 4]);
    moved += playing(set.pod(3)) + playing(set.pod(4));
    for ended in set.scale(replicas) {
        check_end(&set, &ended);
    }
    check_players(&set, all, &before);
    for pod in set.pods() {
        assert!(!pod.is_killed(), "a probe would have ended relay-{}", pod.number);
    }
    thread::sleep(Duration::from_secs(2));
    let (mut moves, mut counted, mut recovered) = (0, 0, 0);
    for (players, name) in [(first, "early"), (second, "late")] {
        let run = seen(players, dir, name);
        let counter = |name: &str| run["counters"][name].as_u64().unwrap();
        eprintln!(
            "{name}: gaps {} us; moves {}, doubled {}, missing {}",
            run["spans_us"]["gap"],
            counter("failover_moves"),
            counter("doubled"),
            counter("missing"),
        );
        moves += counter("failover_moves");
        counted += counter("failover_players");
        recovered += counter("failover_recovered");
        for name in ["altered", "keyless", "headless"] {
            assert_eq!(counter(name), 0, "{name}");
        }
    }
    eprintln!("{moves} moves of players, {moved} of them from pods that were to end");
    assert_eq!((counted, recovered), (all as u64, all as u64), "never 10 s without a frame");
    assert!(moves as f64 <= moved, "only players of pods that were to end moved");
    drop(encoders);
}

/// What a pod says of a stream, asked from within, as through `kubectl port-forward`.
fn stream(set: &StatefulSet, number: usize, name: &str) -> Option<Value> {
    let to = ([127, 0, 0, 1], set.manifests.port("http")).into();
    let path = format!("/api/v1/streams/live/{name}");
    let page = get_at(&set.net.host(number).space, to, &path, START)?;
    serde_json::from_str(&page.body).ok()
}

/// Waits until one pod has a stream from its publisher, and every other one from one link.
fn wait_for_one_source(set: &StatefulSet, name: &str) -> Duration {
    let begun = Instant::now();
    let sources = || -> Vec<(bool, f64)> {
        let of = |pod: &Pod| {
            let source = stream(set, pod.number, name)?;
            let links = pod.get("/metrics")?.metric("relay_link_streams", &[("way", "in")])?;
            Some((source["source"] == "local" && source["state"] == "live", links))
        };
        set.pods().filter_map(of).collect()
    };
    wait_for("one source", 2 * START, || {
        let found = sources();
        let one = found.iter().filter(|(local, _)| *local).count() == 1;
        let each = found.iter().all(|(local, links)| *links == if *local { 0.0 } else { 1.0 });
        (found.len() == set.pods().count() && one && each).then_some(())
    });
    begun.elapsed()
}

/// Players of one pod, who stay with it.
fn players_at(set: &StatefulSet, dir: &Path, number: usize, name: &str) -> Process {
    let (pod, port) = (set.pod(number).address, set.manifests.port("rtmp"));
    let url = format!("rtmp://{pod}:{port}/live/cam0");
    let mut arguments = vec!["failover", "--publishers", "0", "--quiet", "--duration", "600s"];
    arguments.extend(["--at", "1s", "--ramp", "1s", "--within", "15s", "--expect", "altered=0"]);
    arguments.extend(["--target", &url, "--streams", "1", "--players", "4"]);
    loadgen(set.net.outside(), dir, name, &arguments)
}

/// Cuts a pod off; how long at most players of the others then had no frames. `meanwhile` is what
/// else happens, once the pod is cut off.
fn cut(set: &StatefulSet, dir: &Path, victim: usize, meanwhile: impl FnOnce()) -> Duration {
    let others: Vec<usize> =
        set.pods().map(|pod| pod.number).filter(|number| *number != victim).collect();
    let name = |number: usize| format!("cut-{victim}-viewers-{number}");
    let viewers: Vec<Process> =
        others.iter().map(|number| players_at(set, dir, *number, &name(*number))).collect();
    wait_for("players of all others", START, || {
        let playing = others.iter().map(|number| playing(set.pod(*number)));
        playing.into_iter().all(|playing| playing >= 4.0).then_some(())
    });
    thread::sleep(Duration::from_secs(3));
    set.net.cut(victim);
    meanwhile();
    thread::sleep(Duration::from_secs(8));
    set.net.heal(victim);
    set.wait_until_joined();
    eprintln!("  one source after {:.1} s", wait_for_one_source(set, "cam0").as_secs_f64());
    thread::sleep(Duration::from_secs(3));
    let mut longest = Duration::ZERO;
    for (number, viewers) in others.into_iter().zip(viewers) {
        let run = seen(viewers, dir, &name(number));
        let counter = |name: &str| run["counters"][name].as_u64().unwrap();
        let gap = Duration::from_micros(run["spans_us"]["gap"]["max"].as_u64().unwrap());
        eprintln!(
            "  relay-{number}: longest gap {:.2} s, moves {}, doubled {}, missing {}",
            gap.as_secs_f64(),
            counter("failover_moves"),
            counter("doubled"),
            counter("missing")
        );
        for name in ["altered", "keyless", "headless", "failover_moves", "players_lost"] {
            assert_eq!(counter(name), 0, "{name} at players of relay-{number}");
        }
        longest = longest.max(gap);
    }
    longest
}

/// Each pod feeds one other at most, so that there is a middle; both a middle and the source are
/// cut off, and come back.
#[test]
fn pods_that_are_cut_off_are_gone_round_and_come_back_to_one_source() {
    let dir = Scratch::new();
    let dir = dir.path();
    let mut set = StatefulSet::new(dir, "test", MOST);
    let settings = set.file(&Source::ConfigMap("relay".to_owned()), "relay.toml");
    settings.push_str("\n[cluster]\nfanout_max = 1\n");
    set.scale(MOST);
    set.wait_until_joined();
    let file = clip(dir);
    let urls: Vec<String> = (0..MOST).map(|number| set.publish_url_at(number, "cam0")).collect();
    // Comes to the next pod each time that it has to start again.
    let script = "file=$1; shift; for url in \"$@\"; do setpriv --pdeathsig KILL ffmpeg -nostdin \
        -loglevel error -re -stream_loop -1 -i \"$file\" -c copy -f flv \"$url\"; done";
    let mut command = set.net.outside().command("bash");
    command.args(["-c", script, "encoder"]).arg(&file).args(&urls);
    let encoder = Process::start(dir, "encoder", &mut command);
    wait_for("the stream", START, || stream(&set, 0, "cam0").filter(|s| s["state"] == "live"));
    let everywhere: Vec<Process> =
        (0..MOST).map(|number| players_at(&set, dir, number, &format!("all-{number}"))).collect();
    wait_for_one_source(&set, "cam0");

    let links = |pod: &Pod, way: &str| {
        pod.get("/metrics").unwrap().metric("relay_link_streams", &[("way", way)]).unwrap()
    };
    let middle = set.pods().find(|pod| links(pod, "in") > 0.0 && links(pod, "out") > 0.0);
    let middle = middle.expect("a chain has a middle").number;
    eprintln!("relay-{middle}, in the middle, is cut off");
    let gap = cut(&set, dir, middle, || ());
    assert!(gap < AIM_REROUTE * SLACK, "{gap:?}");

    eprintln!("relay-0, the source, is cut off, and its encoder goes to relay-1");
    let gap = cut(&set, dir, 0, || {
        let of = encoder.id();
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
        let id = children.split_whitespace().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
    });
    assert!(gap < AIM_REROUTE * SLACK, "{gap:?}");
    assert_eq!(stream(&set, 1, "cam0").unwrap()["source"], "local");
    drop(everywhere);
}

/// Production's own settings, with TLS, on as many pods as it says; settings and keys are then
/// replaced as the kubelet does it.
#[test]
fn production_starts_side_by_side_and_reads_what_is_replaced() {
    let dir = Scratch::new();
    let dir = dir.path();
    let mut set = StatefulSet::new(dir, "production", 3);
    let begun = Instant::now();
    (0..set.manifests.replicas()).for_each(|number| set.create(number));
    set.wait_until_joined();
    eprintln!("production: one cluster after {:.1} s", begun.elapsed().as_secs_f64());
    wait_for("all pods to be ready", START, || set.pods().all(Pod::is_ready).then_some(()));
    let to = set.net.host(0).address;
    let tls = format!("{to}:{}", set.manifests.port("rtmp"));
    let said = set.net.outside().run("openssl", &["s_client", "-brief", "-connect", &tls]);
    assert!(said.contains("TLSv1.3"), "{said}");

    let hash = |set: &StatefulSet| {
        let page = set.pod(0).get("/metrics").unwrap().body;
        let line = page.lines().find(|line| line.starts_with("relay_config_hash_info{"));
        line.unwrap().to_owned()
    };
    let before = hash(&set);
    let settings = set.file(&Source::ConfigMap("relay".to_owned()), "relay.toml");
    *settings = settings.replace("players_max = 10000", "players_max = 9000");
    set.pod(0).update(&set.manifests, &set.files);
    assert_eq!(hash(&set), before, "nothing is read before it is to be");
    let url = format!("http://{to}:{}/api/v1/reload", set.manifests.port("http"));
    let curl = |token: &str| {
        let token = format!("Authorization: Bearer {token}");
        let asked = ["--silent", "--request", "POST", "--header", &token, &url];
        set.net.outside().run("curl", &asked)
    };
    assert!(curl("wrong").contains("error"));
    let answer = curl(TOKEN);
    assert!(answer.contains("players_max"), "{answer}");
    assert_ne!(hash(&set), before);
}

/// The Job of the component `loadgen`, with fewer players and for a shorter time.
#[test]
fn the_load_test_of_the_manifests_runs_against_their_pods() {
    let dir = Scratch::new();
    let mut set = StatefulSet::new(dir.path(), "test", 2);
    set.scale(2);
    set.wait_until_joined();
    let (arguments, scenario) = set.manifests.load_test(&HUB.to_string(), &set.load_key);
    let file = dir.file("scenario.toml");
    std::fs::write(&file, scenario).unwrap();
    let local = |argument: &String| match argument.strip_suffix("/etc/loadgen/scenario.toml") {
        Some("") => file.to_string_lossy().into_owned(),
        _ => argument.clone(),
    };
    let arguments: Vec<String> = arguments.iter().map(local).collect();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--players", "6", "--bitrate", "300k", "--ramp", "1s", "--duration", "4s"]);
    // How late frames are is nothing to be judged here.
    arguments.extend(["--expect", "gaps=0,kept>=0.999"]);
    let mut load = loadgen(set.net.outside(), dir.path(), "load", &arguments);
    succeed(&mut load, 2 * START);
    wait_for("players of both pods to be gone", START, || {
        set.pods().all(|pod| closed_players(pod) >= 1.0).then_some(())
    });
}
