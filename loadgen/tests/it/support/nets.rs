//! Networks of a test's own: several hosts at one bridge, and names for them, as the pods of a
//! StatefulSet behind a headless Service have them. Needs root.
//!
//! ```text
//!   host 0          host 1          ...    each a network namespace with an `eth0`
//!     | 10.9.0.10     | 10.9.0.11
//!   --+---------------+------------------  a bridge in a namespace of its own, at 10.9.0.1, from
//!                                          where clients come; dnsmasq answers there
//! ```
//!
//! `relay` stands for every host that is listed, ready or not, `relay-2` and `relay-2.relay` for
//! one. Namespaces have no names: they are held by descriptors of the test, so nothing is left
//! behind however it ends, and tests that run side by side have nothing in common, not even the
//! same addresses.
//! Everything between hosts and clients goes through `eth0`, which can be cut, limited, moved and
//! counted; what a host says to itself does not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::Process;
use super::{START, wait_for};

/// The bridge's address, for clients and dnsmasq.
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// Where names are looked for, as in a cluster of Kubernetes; names of hosts end with the first.
const SEARCH: [&str; 1] = ["test.svc"];

/// Hosts at a bridge.
pub(crate) struct Net {
    hub: Space,
    hosts: Vec<Host>,
    /// Addresses given so far.
    given: usize,
    dns: Process,
    names: PathBuf,
    /// What the names of hosts end with.
    domain: String,
}

/// One of them.
pub(crate) struct Host {
    pub(crate) space: Space,
    pub(crate) address: Ipv4Addr,
    /// Its port at the bridge.
    port: String,
    /// Whether names lead to it.
    listed: bool,
}

/// A network namespace; a clone is the same one.
#[derive(Clone)]
pub(crate) struct Space {
    held: Arc<File>,
    /// `resolv.conf` for what runs in it.
    resolver: PathBuf,
}

impl Net {
    /// Makes `count` hosts; files go to `dir`.
    pub(crate) fn new(dir: &Path, count: usize) -> Self {
        Self::searching(dir, count, &SEARCH)
    }

    /// The same with names looked for elsewhere.
    pub(crate) fn searching(dir: &Path, count: usize, search: &[&str]) -> Self {
        let resolver = dir.join("resolv.conf");
        let lines = format!("nameserver {HUB}\nsearch {}\noptions ndots:5\n", search.join(" "));
        fs::write(&resolver, lines).unwrap();
        let domain = search[0].to_owned();
        let hub = Space::new(&resolver);
        hub.ip(&format!(
            "link set lo up\nlink add name lan type bridge\naddr add {HUB}/24 dev lan\n\
             link set lan up\n"
        ));
        let mut hosts = Vec::new();
        for number in 0..count {
            let space = Space::new(&resolver);
            let (port, address) = (format!("port{number}"), address(number));
            hub.ip(&format!(
                "link add name {port} type veth peer name eth0 netns {}\n\
                 link set {port} master lan up\n",
                space.path()
            ));
            space
                .ip(&format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n"));
            hosts.push(Host { space, address, port, listed: true });
        }
        let names = dir.join("names");
        write_names(&names, &hosts, &domain);
        let mut command = hub.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root"]);
        command.args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file="]);
        command.arg(format!("--listen-address={HUB}"));
        command.arg("--log-facility=-").arg(format!("--local=/{domain}/"));
        command.arg(format!("--addn-hosts={}", names.display()));
        let mut dns = Process::start(dir, "dnsmasq", &mut command);
        wait_for("dnsmasq to answer", START, || {
            dns.must_run();
            hub.within(|| TcpStream::connect((HUB, 53)).ok())
        });
        Self { hub, given: hosts.len(), hosts, dns, names, domain }
    }

    pub(crate) fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Where clients are.
    pub(crate) fn outside(&self) -> &Space {
        &self.hub
    }

    /// Parts a host from all others: its `eth0` has no carrier, and nobody is told anything.
    pub(crate) fn cut(&self, number: usize) {
        self.hub.ip(&format!("link set {} down\n", self.hosts[number].port));
    }

    /// Undoes [`Net::cut`].
    pub(crate) fn heal(&self, number: usize) {
        self.hub.ip(&format!("link set {} up\n", self.hosts[number].port));
    }

    /// Gives a host another address and its names with it, as a pod that was started again has.
    pub(crate) fn move_host(&mut self, number: usize) {
        let address = address(self.given);
        self.given += 1;
        let host = &mut self.hosts[number];
        let before = std::mem::replace(&mut host.address, address);
        host.space.ip(&format!("addr del {before}/24 dev eth0\naddr add {address}/24 dev eth0\n"));
        self.tell_names();
    }

    /// Lets names lead to a host, or no longer.
    pub(crate) fn list(&mut self, number: usize, listed: bool) {
        self.hosts[number].listed = listed;
        self.tell_names();
    }

    fn tell_names(&self) {
        write_names(&self.names, &self.hosts, &self.domain);
        self.dns.signal(Signal::HUP);
    }
}

impl Host {
    /// Lets it send no more than so many bits per second; what does not fit a queue of 256 KiB is
    /// lost.
    pub(crate) fn limit(&self, rate: u64) {
        let rate = format!("{rate}bit");
        let queue = ["tbf", "rate", &rate, "burst", "64kb", "limit", "256kb"];
        self.space.run("tc", &[&["qdisc", "replace", "dev", "eth0", "root"][..], &queue].concat());
    }

    /// Undoes [`Host::limit`].
    pub(crate) fn unlimit(&self) {
        self.space.run("tc", &["qdisc", "del", "dev", "eth0", "root"]);
    }

    /// Bytes that came and went through `eth0` so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let table = self.space.read("net/dev");
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
        let numbers: Vec<u64> =
            line.unwrap().split_whitespace().map(|word| word.parse().unwrap()).collect();
        (numbers[0], numbers[8])
    }

    /// Connections that others have to a port of this host, by their address.
    pub(crate) fn accepted(&self, port: u16) -> BTreeMap<IpAddr, usize> {
        let mut found = BTreeMap::new();
        for line in self.connections() {
            if line.0.port() == port {
                *found.entry(line.1.ip()).or_default() += 1;
            }
        }
        found
    }

    /// Both ends of all that are established, this host's first.
    fn connections(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let established = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let of = |at: usize| words.get(at).copied();
            (of(3)? == "01").then(|| Some((of_table(of(1)?)?, of_table(of(2)?)?)))?
        };
        let tables = ["net/tcp", "net/tcp6"].map(|name| self.space.read(name));
        tables.iter().flat_map(|table| table.lines().filter_map(established)).collect()
    }
}

impl Space {
    fn new(resolver: &Path) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo made && read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare can be started");
        let mut said = String::new();
        let stdout = holder.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "made\n", "a network namespace can be made: are you root?");
        let held = Arc::new(File::open(format!("/proc/{}/ns/net", holder.id())).unwrap());
        drop(holder.stdin.take());
        holder.wait().unwrap();
        Self { held, resolver: resolver.to_owned() }
    }

    /// A path that leads to it for as long as this is there.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.held.as_raw_fd())
    }

    /// `resolv.conf` for what runs in it.
    pub(crate) fn resolver(&self) -> &Path {
        &self.resolver
    }

    /// A program in it, by the process that is started and no other, which looks names up there.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).args(["unshare", "--mount", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"").arg(&self.resolver);
        command.arg(program);
        command
    }

    /// Runs a program in it that ends by itself and well; what it said.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = self.command(program);
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        said
    }

    /// Does something in it: sockets that it opens are of this network.
    pub(crate) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.held.as_fd(), network).unwrap();
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// One of the tables below `/proc/<thread>`.
    fn read(&self, table: &str) -> String {
        self.within(|| fs::read_to_string(format!("/proc/thread-self/{table}")).unwrap())
    }

    /// Commands of `ip`, one per line.
    fn ip(&self, commands: &str) {
        let mut ip = Command::new("nsenter")
            .arg(format!("--net={}", self.path()))
            .args(["ip", "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nsenter can be started");
        ip.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success(), "{commands}");
    }
}

/// The address that is given after so many others.
fn address(given: usize) -> Ipv4Addr {
    let [a, b, c, _] = HUB.octets();
    Ipv4Addr::new(a, b, c, u8::try_from(10 + given).expect("few hosts"))
}

/// All addresses behind one name, and each behind its own.
fn write_names(file: &Path, hosts: &[Host], domain: &str) {
    let listed = hosts.iter().enumerate().filter(|(_, host)| host.listed);
    let lines = listed.map(|(number, host)| {
        let own = format!("relay-{number}.{domain} relay-{number}.relay.{domain}");
        format!("{} relay.{domain} {own}\n", host.address)
    });
    // Whole at once: it is read at any time.
    let written = file.with_extension("written");
    fs::write(&written, lines.collect::<String>()).unwrap();
    fs::rename(&written, file).unwrap();
}

/// An address as the tables of connections write it: words of 32 bits, each in the host's order.
fn of_table(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 16]>::try_from(bytes.as_slice()) {
        Ok(long) => IpAddr::from(long).to_canonical(),
        Err(_) => IpAddr::from(<[u8; 4]>::try_from(bytes.as_slice()).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
