//! A StatefulSet of an overlay of `k8s/`, with its Services: this does what the cluster's own
//! programs do with it, in their order, and leaves everything else to the manifests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use super::balancer::Balancer;
use super::manifests::{Manifests, Source};
use super::nets::{HUB, Net};
use super::pods::{Files, Place, Pod};
use super::servers::relay_program;
use super::{START, wait_for};

/// A StatefulSet and its pods.
pub(crate) struct StatefulSet {
    pub(crate) manifests: Manifests,
    /// What ConfigMaps and Secrets hold.
    pub(crate) files: Files,
    pub(crate) net: Net,
    dir: PathBuf,
    balancer: Balancer,
    /// By ordinal.
    pods: Vec<Option<Pod>>,
    /// Hosts that had a pod before: another one there has another address.
    used: Vec<bool>,
    /// What publishers of `cam*` show.
    key: String,
    /// What the Job that tests a cluster shows.
    pub(crate) load_key: String,
}

/// How a pod ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) number: usize,
    /// From its deletion to its exit.
    pub(crate) took: Duration,
    pub(crate) status: ExitStatus,
    /// What it said from SIGTERM on.
    pub(crate) said: String,
}

impl StatefulSet {
    /// The overlay with room for `most` pods, of which none is there yet.
    pub(crate) fn new(dir: &Path, overlay: &str, most: usize) -> Self {
        let manifests = Manifests::of_overlay(overlay);
        assert!(manifests.is_parallel() && manifests.names_unready());
        let own = format!("{}.svc.cluster.local", manifests.namespace());
        let mut net = Net::searching(dir, most, &[&own, "svc.cluster.local", "cluster.local"]);
        (0..most).for_each(|number| net.list(number, false));
        let balancer = Balancer::start(dir, net.outside(), most, manifests.port("rtmp"));
        let ((key, line), (load_key, load_line)) = (make_key("cam*"), make_key("loadtest*"));
        let lines = line + &load_line;
        let secrets = [("stream-keys", lines.as_str()), ("api-tokens", TOKEN), ("cluster", SECRET)];
        let mut files: Files = BTreeMap::new();
        for mount in manifests.mounts() {
            let of_volume = match &mount.source {
                Source::ConfigMap(name) => manifests.config_map(name),
                Source::Secret(name) if name == "relay" => pairs(&secrets),
                Source::Secret(name) if name == "relay-tls" => certificate(),
                Source::Secret(name) => panic!("nobody knows what is in the Secret {name}"),
            };
            files.insert(mount.source, of_volume.into_iter().collect());
        }
        let (dir, pods) = (dir.to_owned(), (0..most).map(|_| None).collect());
        Self { manifests, files, net, dir, balancer, pods, used: vec![false; most], key, load_key }
    }

    /// The pods that are there.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().flatten()
    }

    pub(crate) fn pod(&self, number: usize) -> &Pod {
        self.pods[number].as_ref().unwrap_or_else(|| panic!("no relay-{number}"))
    }

    /// A pod that nobody waits for any more; another one may be made in its place.
    pub(crate) fn take(&mut self, number: usize) -> Pod {
        self.pods[number].take().unwrap_or_else(|| panic!("no relay-{number}"))
    }

    /// A file of a volume, to be read or changed.
    pub(crate) fn file(&mut self, source: &Source, name: &str) -> &mut String {
        let files = self.files.get_mut(source).unwrap_or_else(|| panic!("no {source:?}"));
        files.get_mut(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Where clients of a stream come to, publishers with their key.
    pub(crate) fn url(&self, stream: &str) -> String {
        format!("rtmp://{HUB}:{}/live/{stream}", self.manifests.port("rtmp"))
    }

    pub(crate) fn publish_url(&self, stream: &str) -> String {
        format!("{}?key={}", self.url(stream), self.key)
    }

    /// The same at one pod.
    pub(crate) fn publish_url_at(&self, number: usize, stream: &str) -> String {
        let pod = self.pod(number).address;
        format!("rtmp://{pod}:{}/live/{stream}?key={}", self.manifests.port("rtmp"), self.key)
    }

    /// Zones of pods take turns.
    pub(crate) fn zone(number: usize) -> &'static str {
        ["zone-a", "zone-b"][number % 2]
    }

    /// Makes as many pods as are to be, or takes the highest ones away, all at once.
    pub(crate) fn scale(&mut self, count: usize) -> Vec<Ended> {
        let (mut fresh, mut surplus) = (Vec::new(), Vec::new());
        for (number, pod) in self.pods.iter().enumerate() {
            match pod {
                None if number < count => fresh.push(number),
                Some(_) if number >= count => surplus.push(number),
                _ => {}
            }
        }
        fresh.iter().for_each(|number| self.create(*number));
        let ended = self.delete(&surplus);
        for number in fresh {
            self.wait_until_available(number);
        }
        ended
    }

    /// A pod without waiting for it.
    pub(crate) fn create(&mut self, number: usize) {
        if std::mem::replace(&mut self.used[number], true) {
            self.net.move_host(number);
        }
        self.net.list(number, true);
        let switch = self.balancer.switch();
        switch.place(number, self.net.host(number).address);
        let place = Place {
            dir: &self.dir,
            number,
            host: self.net.host(number),
            zone: Self::zone(number),
            hub: self.net.outside(),
        };
        let on_ready = Box::new(move |ready| switch.offer(number, ready));
        self.pods[number] = Some(Pod::start(&self.manifests, &self.files, &place, on_ready));
    }

    /// Ready for as long as the manifests want to see.
    fn wait_until_available(&mut self, number: usize) {
        let pod = self.pods[number].as_mut().unwrap();
        pod.wait_until_ready();
        thread::sleep(self.manifests.min_ready());
        assert!(pod.is_ready(), "relay-{number} is ready no longer");
    }

    /// Waits until each pod knows all others.
    pub(crate) fn wait_until_joined(&self) {
        let others = self.pods().count() - 1;
        for pod in self.pods() {
            wait_for(&format!("relay-{} to know {others} others", pod.number), START, || {
                let known = pod.get("/metrics")?.metric("relay_cluster_nodes", &[])?;
                (known == others as f64).then_some(())
            });
        }
    }

    /// Deletes pods side by side: at once no new client comes to them, names lead to them until
    /// they are gone.
    fn delete(&mut self, numbers: &[usize]) -> Vec<Ended> {
        let switch = self.balancer.switch();
        numbers.iter().for_each(|number| switch.offer(*number, false));
        let pods: Vec<Pod> = numbers.iter().map(|at| self.pods[*at].take().unwrap()).collect();
        let manifests = &self.manifests;
        let ended = thread::scope(|scope| {
            let end = |pod: Pod| {
                scope.spawn(move || {
                    let number = pod.number;
                    let (took, status, said) = pod.end(manifests);
                    Ended { number, took, status, said }
                })
            };
            let ending: Vec<_> = pods.into_iter().map(end).collect();
            ending.into_iter().map(|end| end.join().expect("a pod ends in time")).collect()
        });
        numbers.iter().for_each(|number| self.net.list(*number, false));
        ended
    }

    /// One step of an update: the pod is deleted, `gone` is done as soon as it is, and another one
    /// of its name is made and waited for.
    pub(crate) fn update(&mut self, number: usize, gone: impl FnOnce(&Self)) -> Ended {
        let ended = self.delete(&[number]).remove(0);
        gone(self);
        self.create(number);
        self.wait_until_available(number);
        ended
    }

    /// The sum of a metric over all pods but one.
    pub(crate) fn sum(&self, but: Option<usize>, name: &str, labels: &[(&str, &str)]) -> f64 {
        let others = self.pods().filter(|pod| Some(pod.number) != but);
        others.filter_map(|pod| pod.get("/metrics")?.metric(name, labels)).sum()
    }

    /// Waits until as many players play on pods as there are; since when that is awaited.
    pub(crate) fn wait_for_players(&self, count: usize, limit: Duration) -> Duration {
        let begun = Instant::now();
        wait_for(&format!("{count} players"), limit, || {
            (self.sum(None, "relay_players", &[]) >= count as f64).then_some(())
        });
        begun.elapsed()
    }
}

/// What operators show, and what nodes know each other by.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "fedcba9876543210fedcba9876543210";

/// A key for such names, and its line for the file.
fn make_key(names: &str) -> (String, String) {
    let output = Command::new(relay_program()).args(["key", names]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let part = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {said}")).to_owned()
    };
    (part("key: "), part("line: ") + "\n")
}

fn certificate() -> Vec<(String, String)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    pairs(&[("tls.crt", &made.cert.pem()), ("tls.key", &made.signing_key.serialize_pem())])
}

fn pairs(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}
