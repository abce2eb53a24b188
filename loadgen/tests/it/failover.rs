//! Nodes that die, are cut off, or drain, under load: what viewers see, on hosts of a network of
//! the test's own.
//!
//! Five nodes, each of which feeds at most two others with one stream, so that there are a source,
//! a middle and leaves. Viewers of each node check every frame. Times are aims: they are printed as
//! they are, and asserted at five times as much. `RELAY_TEST_LONG=1` goes through everything.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::nets::Net;
use crate::support::nodes::{Node, Options};
use crate::support::process::Process;
use crate::support::programs::{clip, json, loadgen};
use crate::support::{Scratch, wait_for};

const NODES: usize = 5;

/// Viewers of each node: 200 in all, or a quarter of that.
fn viewers() -> &'static str {
    if is_long() { "40" } else { "10" }
}

/// The time that a node has to drain.
const WINDOW: Duration = Duration::from_secs(8);

/// From the first viewers to what is done, and from there to their end.
const BEFORE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(13);

/// Aims are asserted at so many times their figure.
const SLACK: u64 = 5;

/// What no viewer may see: whoever feeds its node, each frame comes once, in order, whole, in the
/// stream's time and with what it needs to be shown.
const FAULTS: [&str; 6] = ["altered", "doubled", "reordered", "backward", "keyless", "headless"];

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    Cut,
    Drain,
}

/// Which node it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Source,
    Middle,
    Leaf,
}

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoder {
    /// loadgen, which goes where it is asked to, and comes back by itself.
    Obeys,
    /// FFmpeg, started again by a loop on the next node.
    Loop,
}

/// A cluster under test.
struct Cluster {
    dir: Scratch,
    net: Net,
    nodes: Vec<Option<Node>>,
}

impl Cluster {
    fn new() -> Self {
        let dir = Scratch::new();
        let net = Net::new(dir.path(), NODES);
        let mut cluster = Self { dir, net, nodes: (0..NODES).map(|_| None).collect() };
        for number in 0..NODES {
            cluster.launch(number);
        }
        cluster.settle();
        cluster
    }

    fn launch(&mut self, number: usize) {
        let advertise = format!("rtmp://{}:1935", self.net.host(number).address);
        let environment = [("RELAY_NODE__ADVERTISE", advertise.as_str())];
        let options = Options {
            configuration: &format!("[drain]\nwindow = \"{}s\"\n", WINDOW.as_secs()),
            cluster: "fanout_max = 2",
            environment: &environment,
            ..Options::default()
        };
        self.nodes[number] = Some(Node::launch(&self.net, self.dir.path(), number, &options));
    }

    /// All nodes are there and know each other.
    fn settle(&mut self) {
        for number in 0..NODES {
            if self.nodes[number].is_none() {
                self.launch(number);
            }
        }
        for node in self.nodes.iter_mut().flatten() {
            node.wait_until_ready(&self.net);
        }
        for node in self.nodes.iter().flatten() {
            node.wait_for_nodes(&self.net, u32::try_from(NODES - 1).unwrap());
        }
    }

    fn url(&self, node: usize, stream: &str) -> String {
        format!("rtmp://{}:1935/live/{stream}", self.net.host(node).address)
    }

    /// All URLs of a stream, those of other nodes than `first` behind it.
    fn urls_from(&self, first: usize, stream: &str) -> Vec<String> {
        (0..NODES).map(|step| self.url((first + step) % NODES, stream)).collect()
    }

    fn publish(&self, encoder: Encoder, stream: &str, lasts: Duration) -> Process {
        let (dir, space) = (self.dir.path(), self.net.outside());
        let urls = self.urls_from(0, stream);
        match encoder {
            Encoder::Obeys => {
                let lasts = format!("{}s", lasts.as_secs());
                let mut arguments = vec!["failover", "--players", "0", "--streams", "1", "--quiet"];
                arguments.extend(["--bitrate", "400k", "--gop", "1s", "--at", "0s"]);
                arguments.extend(["--duration", &lasts, "--target", &urls[0]]);
                for url in &urls[1..] {
                    arguments.extend(["--fallback", url]);
                }
                loadgen(space, dir, &format!("{stream}-publisher"), &arguments)
            }
            Encoder::Loop => {
                let file = clip(dir);
                let script = "file=$1; shift; while :; do for url in \"$@\"; do \
                    setpriv --pdeathsig KILL ffmpeg -nostdin -hide_banner -loglevel error -re -stream_loop -1 -i \"$file\" \
                    -c copy -f flv \"$url\"; sleep 0.3; done; done";
                let mut command = space.command("bash");
                command.args(["-c", script, "encoder"]).arg(&file).args(&urls);
                Process::start(dir, &format!("{stream}-encoder"), &mut command)
            }
        }
    }

    /// Viewers of a node.
    fn watch(&self, node: usize, stream: &str) -> Process {
        let urls = self.urls_from(node, stream);
        let (before, all) = (seconds(BEFORE), seconds(BEFORE + AFTER));
        let mut arguments = vec!["failover", "--publishers", "0", "--streams", "1", "--quiet"];
        arguments.extend(["--players", viewers(), "--ramp", "1s", "--at", &before]);
        arguments.extend(["--duration", &all, "--within", "10s", "--target", &urls[0]]);
        // Without an expectation a generator that was short of time gives no verdict at all.
        arguments.extend(["--expect", "altered=0"]);
        for url in &urls[1..] {
            arguments.extend(["--fallback", url]);
        }
        let name = format!("{stream}-viewers-{node}");
        loadgen(self.net.outside(), self.dir.path(), &name, &arguments)
    }

    /// The node that is such a one for the only stream that there is.
    fn at(&self, place: Place) -> usize {
        let fed = |node: &Node, way: &str| {
            let labels = [("way", way)];
            node.metric(&self.net, "relay_link_streams", &labels).unwrap_or(0.0) > 0.0
        };
        let is = |node: &&Node| match (fed(node, "in"), fed(node, "out")) {
            (false, true) => place == Place::Source,
            (true, true) => place == Place::Middle,
            (true, false) => place == Place::Leaf,
            (false, false) => false,
        };
        wait_for(&format!("a {place:?}"), Duration::from_secs(10), || {
            let node = self.nodes.iter().flatten().find(is)?;
            Some(node.number)
        })
    }

    /// Strikes a node under load; what the viewers of each node saw.
    fn strike(&mut self, blow: Blow, place: Place, encoder: Encoder) -> Struck {
        let stream = format!("{blow:?}-{place:?}-{encoder:?}").to_lowercase();
        let lasts = BEFORE + AFTER + Duration::from_secs(6);
        let publisher = self.publish(encoder, &stream, lasts);
        wait_for("the stream", Duration::from_secs(10), || {
            let source = self.nodes[0].as_ref().unwrap();
            source.metric(&self.net, "relay_streams", &[("source", "local")]).filter(|n| *n > 0.0)
        });
        let viewers: Vec<Process> = (0..NODES).map(|node| self.watch(node, &stream)).collect();
        thread::sleep(Duration::from_secs(2) + BEFORE);
        let victim = self.at(place);
        let begun = Instant::now();
        let mut ended = Duration::ZERO;
        match blow {
            Blow::Kill => {
                self.nodes[victim].take().unwrap().kill();
            }
            Blow::Cut => self.net.cut(victim),
            Blow::Drain => {
                let status = self.nodes[victim].take().unwrap().terminate(WINDOW * 2);
                ended = begun.elapsed();
                assert!(status.success(), "{stream}: {status}");
            }
        }
        let mut seen = Vec::new();
        for (node, mut viewers) in viewers.into_iter().enumerate() {
            let is_away = blow == Blow::Cut && node == victim;
            let status = viewers.wait(BEFORE + AFTER + Duration::from_secs(40));
            assert!(status.success() || is_away, "{stream}, node {node}: {}", viewers.said());
            seen.push(json(self.dir.path(), &format!("{stream}-viewers-{node}")));
        }
        publisher.signal(Signal::TERM);
        if blow == Blow::Cut {
            self.net.heal(victim);
        }
        self.settle();
        Struck { stream, victim, seen, ended }
    }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

/// What the viewers of each node saw.
struct Struck {
    stream: String,
    victim: usize,
    seen: Vec<Value>,
    /// How long the victim took to end, if it was to.
    ended: Duration,
}

impl Struck {
    fn gap(&self, node: usize, which: &str) -> Duration {
        let micros = self.seen[node]["spans_us"]["gap"][which].as_u64();
        Duration::from_micros(micros.unwrap_or_else(|| panic!("{}: no gaps", self.stream)))
    }

    fn counter(&self, node: usize, name: &str) -> u64 {
        self.seen[node]["counters"][name].as_u64().unwrap()
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        let victim = self.victim;
        (0..NODES).filter(move |node| *node != victim)
    }

    fn show(&self) {
        for node in 0..NODES {
            let gap = &self.seen[node]["spans_us"]["gap"];
            let struck = if node == self.victim { ", struck" } else { "" };
            eprintln!(
                "{} node {node}{struck}: longest gap of {} viewers p50 {} p99 {} max {} us; \
                 recovered {}, moved {}, missing {}, doubled {}, reordered {}, backward {}",
                self.stream,
                gap["count"],
                gap["p50"],
                gap["p99"],
                gap["max"],
                self.seen[node]["failover"]["recovered"],
                self.counter(node, "failover_moves"),
                self.counter(node, "missing"),
                self.counter(node, "doubled"),
                self.counter(node, "reordered"),
                self.counter(node, "backward"),
            );
        }
        if !self.ended.is_zero() {
            eprintln!("{}: ended after {:?} of {WINDOW:?}", self.stream, self.ended);
        }
    }

    /// Viewers of nodes that were not struck stayed where they were, and had frames again within
    /// this aim.
    fn others_stay(&self, aim: Duration) {
        for node in self.others() {
            let stream = &self.stream;
            assert_eq!(self.counter(node, "failover_moves"), 0, "{stream}: viewers of {node}");
            assert_eq!(self.counter(node, "players_lost"), 0, "{stream}: viewers of {node}");
            // Everybody was there before the blow, and is judged.
            let watched: u64 = viewers().parse().unwrap();
            assert_eq!(self.counter(node, "failover_players"), watched, "{stream}: node {node}");
            let faults = FAULTS.map(|name| (name, self.counter(node, name)));
            assert_eq!(faults, FAULTS.map(|name| (name, 0)), "{stream}: viewers of {node}");
            let most = aim * u32::try_from(SLACK).unwrap();
            assert!(self.gap(node, "max") < most, "{stream}: {:?}", self.gap(node, "max"));
        }
    }

    /// Viewers of the node that was struck play again, elsewhere.
    fn own_come_back(&self, aim: Duration) {
        let players = self.counter(self.victim, "failover_players");
        assert_eq!(self.counter(self.victim, "failover_recovered"), players, "{}", self.stream);
        let most = aim * u32::try_from(SLACK).unwrap();
        let gap = self.gap(self.victim, "max");
        assert!(gap < most, "{}: viewers of the node came back after {gap:?}", self.stream);
    }
}

fn is_long() -> bool {
    std::env::var_os("RELAY_TEST_LONG").is_some_and(|value| value == "1")
}

const AIM_MIDDLE: Duration = Duration::from_secs(1);
const AIM_CUT: Duration = Duration::from_millis(2_500);
const AIM_DRAIN: Duration = Duration::from_millis(500);
const AIM_BACK: Duration = Duration::from_secs(2);

#[test]
fn a_node_in_the_middle_dies_or_is_cut_off() {
    let mut cluster = Cluster::new();
    let killed = cluster.strike(Blow::Kill, Place::Middle, Encoder::Obeys);
    killed.show();
    killed.others_stay(AIM_MIDDLE);
    killed.own_come_back(AIM_BACK);
    let cut = cluster.strike(Blow::Cut, Place::Middle, Encoder::Obeys);
    cut.show();
    cut.others_stay(AIM_CUT);
    if is_long() {
        let killed = cluster.strike(Blow::Kill, Place::Leaf, Encoder::Obeys);
        killed.show();
        killed.others_stay(AIM_DRAIN);
        killed.own_come_back(AIM_BACK);
    }
}

#[test]
fn the_source_dies_and_the_encoder_comes_back_elsewhere() {
    let mut cluster = Cluster::new();
    let encoders =
        if is_long() { &[Encoder::Loop, Encoder::Obeys][..] } else { &[Encoder::Loop][..] };
    for encoder in encoders {
        let killed = cluster.strike(Blow::Kill, Place::Source, *encoder);
        killed.show();
        // The encoder's own time away is no fault of the nodes: whoever had frames first after it
        // had them from the node where it came back.
        let first = killed.others().map(|node| killed.gap(node, "min")).min().unwrap();
        let last = killed.others().map(|node| killed.gap(node, "max")).max().unwrap();
        eprintln!("{}: frames {:?} after the first node's", killed.stream, last - first);
        assert!(last - first < AIM_MIDDLE * u32::try_from(SLACK).unwrap());
        killed.others_stay(first + AIM_MIDDLE);
    }
}

#[test]
fn a_drain_costs_viewers_of_other_nodes_no_frame() {
    let mut cluster = Cluster::new();
    let places =
        if is_long() { &[Place::Source, Place::Middle, Place::Leaf][..] } else { &[Place::Source] };
    for place in places {
        let drained = cluster.strike(Blow::Drain, *place, Encoder::Obeys);
        drained.show();
        drained.others_stay(AIM_DRAIN);
        drained.own_come_back(AIM_BACK);
        for node in drained.others() {
            assert_eq!(drained.counter(node, "missing"), 0, "{}: node {node}", drained.stream);
        }
        assert!(drained.ended <= WINDOW + Duration::from_secs(1), "{:?}", drained.ended);
    }
}

#[test]
fn all_nodes_are_updated_one_after_the_other() {
    let mut cluster = Cluster::new();
    // A node takes its window, and a moment to start again.
    let updated = if is_long() { NODES } else { 2 };
    let load = (WINDOW + Duration::from_secs(5)) * u32::try_from(updated).unwrap();
    let load = load + Duration::from_secs(10);
    let lasts = load + Duration::from_secs(10);
    let stream = "rolling";
    let publisher = cluster.publish(Encoder::Obeys, stream, lasts);
    thread::sleep(Duration::from_secs(2));
    let dir = cluster.dir.path().to_owned();
    let urls = cluster.urls_from(0, stream);
    let mut arguments = vec!["failover", "--publishers", "0", "--streams", "1", "--quiet"];
    let load = seconds(load);
    arguments.extend(["--players", "200", "--ramp", "2s", "--at", "2s", "--duration", &load]);
    arguments.extend(["--within", "10s", "--expect", "altered=0"]);
    for url in &urls {
        arguments.extend(["--target", url]);
    }
    let mut viewers = loadgen(cluster.net.outside(), &dir, "rolling-viewers", &arguments);
    thread::sleep(Duration::from_secs(6));
    for number in (0..NODES).rev().take(updated) {
        let begun = Instant::now();
        let status = cluster.nodes[number].take().unwrap().terminate(WINDOW * 2);
        assert!(status.success(), "node {number}: {status}");
        eprintln!("rolling: node {number} ended after {:?}", begun.elapsed());
        cluster.settle();
    }
    assert!(viewers.wait(Duration::from_secs(120)).success(), "{}", viewers.said());
    publisher.signal(Signal::TERM);
    let seen = json(Path::new(&dir), "rolling-viewers");
    eprintln!(
        "rolling: gaps {} recovered {}",
        seen["spans_us"]["gap"], seen["failover"]["recovered"]
    );
    let (players, recovered) = (
        seen["counters"]["failover_players"].as_u64().unwrap(),
        seen["counters"]["failover_recovered"].as_u64().unwrap(),
    );
    assert_eq!((players, recovered), (200, 200));
}
