//! Relays that are nodes of one cluster, each on a host of a test's network, as pods would be.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use super::nets::{Host, Net, Space};
use super::process::Process;
use super::servers::{forget_ours, relay_program};
use super::{START, wait_for};

/// Where clients, operators and other nodes are served.
pub(crate) const RTMP: u16 = 1935;
pub(crate) const HTTP: u16 = 8935;
pub(crate) const LINK: u16 = 11_935;

/// What all nodes know.
pub(crate) const SECRET: &str = "what the nodes of this network know";

/// What a node is started with beside what all have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    /// How many cores serve it.
    pub(crate) workers: u8,
    /// Further text of the configuration file; `[cluster]` and `[node]` are there already.
    pub(crate) configuration: &'a str,
    /// Further lines of `[cluster]`.
    pub(crate) cluster: &'a str,
    /// Further arguments.
    pub(crate) arguments: &'a [&'a str],
    /// Further environment.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { workers: 2, configuration: "", cluster: "", arguments: &[], environment: &[] }
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) process: Process,
}

/// A page of HTTP.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Page {
    /// The sum of a metric's series that have all these labels; nothing when there are none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (shown, value) = rest.rsplit_once(' ')?;
            if !(shown.is_empty() || shown.starts_with('{')) {
                return None;
            }
            let has =
                |(label, value): &(&str, &str)| shown.contains(&format!("{label}=\"{value}\""));
            labels.iter().all(has).then(|| value.parse::<f64>().ok())?
        };
        self.body.lines().filter_map(value).reduce(|sum, value| sum + value)
    }
}

impl Node {
    /// Starts node `number` on its host of `net` and waits until it is ready. The others are found
    /// by name.
    pub(crate) fn start(net: &Net, dir: &Path, number: usize, options: &Options<'_>) -> Self {
        let mut node = Self::launch(net, dir, number, options);
        node.wait_until_ready(net);
        node
    }

    /// The same without waiting.
    pub(crate) fn launch(net: &Net, dir: &Path, number: usize, options: &Options<'_>) -> Self {
        let secret = dir.join("cluster.secret");
        // Written once: another node may be reading it.
        if !secret.exists() {
            fs::write(&secret, SECRET).unwrap();
        }
        let name = unused(dir, &format!("relay-{number}"));
        let file = dir.join(format!("{name}.toml"));
        let text = format!(
            "[node]\nname = \"relay-{number}\"\n[cluster]\npeers = \"relay\"\n\
             secret_file = {secret:?}\n{}\n{}\n",
            options.cluster, options.configuration
        );
        fs::write(&file, text).unwrap();
        let mut command = net.host(number).space.command(relay_program());
        command.arg("--config").arg(&file).args(["--workers", &options.workers.to_string()]);
        command.args(options.arguments);
        forget_ours(&mut command);
        command.envs(options.environment.iter().copied());
        Self { number, process: Process::start(dir, &name, &mut command) }
    }

    /// All nodes of a network.
    pub(crate) fn start_all(net: &Net, dir: &Path, options: &Options<'_>) -> Vec<Self> {
        let mut nodes: Vec<Self> =
            (0..net.len()).map(|number| Self::launch(net, dir, number, options)).collect();
        for node in &mut nodes {
            node.wait_until_ready(net);
        }
        for node in &nodes {
            node.wait_for_nodes(net, u32::try_from(net.len() - 1).unwrap());
        }
        nodes
    }

    pub(crate) fn wait_until_ready(&mut self, net: &Net) {
        let host = net.host(self.number);
        wait_for("a node to be ready", START, || {
            self.process.must_run();
            get(host, "/readyz").filter(|page| page.status == 200)
        });
    }

    /// Waits until it knows so many others.
    pub(crate) fn wait_for_nodes(&self, net: &Net, count: u32) {
        wait_for(&format!("relay-{} to know {count} others", self.number), START, || {
            let known = self.metric(net, "relay_cluster_nodes", &[]);
            (known == Some(f64::from(count))).then_some(())
        });
    }

    /// Where a stream is played and published by who comes by the bridge.
    pub(crate) fn url(&self, net: &Net, name: &str) -> String {
        format!("rtmp://{}/live/{name}", SocketAddr::from((net.host(self.number).address, RTMP)))
    }

    /// What it answers to a client on its own host.
    pub(crate) fn get(&self, net: &Net, path: &str) -> Option<Page> {
        get(net.host(self.number), path)
    }

    /// The sum of a metric's series that have all these labels; nothing when there are none.
    pub(crate) fn metric(&self, net: &Net, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.get(net, "/metrics")?.metric(name, labels)
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(mut self) -> ExitStatus {
        self.process.signal(Signal::KILL);
        self.process.wait(START)
    }

    /// Asks it to end in order, and waits for that.
    pub(crate) fn terminate(mut self, limit: Duration) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(limit)
    }
}

/// A page of the node on a host, asked for there.
fn get(host: &Host, path: &str) -> Option<Page> {
    get_at(&host.space, (Ipv4Addr::LOCALHOST, HTTP).into(), path, START)
}

/// A page asked for in a network, which may take so long.
pub(crate) fn get_at(space: &Space, to: SocketAddr, path: &str, limit: Duration) -> Option<Page> {
    space.within(|| {
        let mut stream = TcpStream::connect_timeout(&to, limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Page { status, body: body.to_owned() })
    })
}

/// A name for the files of the next start of a program.
fn unused(dir: &Path, stem: &str) -> String {
    let name = |start: u32| if start == 1 { stem.to_owned() } else { format!("{stem}-{start}") };
    let free = |name: &String| !PathBuf::from(dir).join(format!("{name}.log")).exists();
    (1..).map(name).find(free).expect("numbers do not run out")
}
