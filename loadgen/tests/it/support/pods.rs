//! One pod: the relay with what a StatefulSet gives it, on a host of a test's network.
//!
//! ```text
//!   namespaces   network (the host's), mounts, host name, processes: the relay is process 1
//!   root         a folder of its own, read-only: program, volumes, libraries of this machine
//!   rights       the user and group of the manifest, no capabilities, no new privileges
//!   volumes      files behind `..data`, which is replaced whole, as the kubelet does it
//!   probes       asked by a thread at their periods, from outside
//! ```
//!
//! What it is given comes from the manifests alone; limits of memory and processors are not set.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::manifests::{Manifests, Mount, Probe, Source};
use super::nets::{Host, Space};
use super::nodes::{Page, get_at};
use super::process::Process;
use super::servers::relay_program;
use super::{START, wait_for};

/// Files of ConfigMaps and Secrets, by the name of either and that of the file.
pub(crate) type Files = BTreeMap<Source, BTreeMap<String, String>>;

/// A running pod.
pub(crate) struct Pod {
    pub(crate) number: usize,
    pub(crate) address: Ipv4Addr,
    pub(crate) process: Process,
    /// The relay, as this machine counts processes.
    id: Pid,
    root: PathBuf,
    probed: Arc<Probed>,
    hub: Space,
    http: u16,
}

/// What its probes have found.
#[derive(Default)]
pub(crate) struct Probed {
    started: AtomicBool,
    ready: AtomicBool,
    /// The startup or liveness probe failed so often that the kubelet would end it.
    killed: AtomicBool,
    over: AtomicBool,
}

/// Where a pod starts.
pub(crate) struct Place<'a> {
    /// For its files, in a folder that is made anew.
    pub(crate) dir: &'a Path,
    /// Its ordinal.
    pub(crate) number: usize,
    pub(crate) host: &'a Host,
    pub(crate) zone: &'a str,
    /// From where probes come.
    pub(crate) hub: &'a Space,
}

/// What is done when a pod becomes ready, or is so no longer.
pub(crate) type OnReady = Box<dyn Fn(bool) + Send>;

/// As `mount`, `chroot` and `setpriv` are told; arguments: root, program, name, user, group and the
/// command.
const SCRIPT: &str = r#"set -e
root=$1 program=$2 name=$3 user=$4 group=$5; shift 5
mount --make-rprivate /
hostname "$name"
mount --bind "$root" "$root"
mount --rbind /usr "$root/usr"
mount --bind "$program" "$root/relay"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$group" --clear-groups \
    --no-new-privs --bounding-set=-all --inh-caps=-all --pdeathsig KILL "$@"
"#;

impl Pod {
    /// Starts a pod.
    pub(crate) fn start(
        manifests: &Manifests,
        files: &Files,
        place: &Place<'_>,
        on_ready: OnReady,
    ) -> Self {
        let Place { dir, number, host, zone, hub } = *place;
        let name = format!("relay-{number}");
        let start = (1..).find(|start| !dir.join(format!("{name}.{start}")).exists()).unwrap();
        let root = dir.join(format!("{name}.{start}"));
        make_root(&root, host);
        let (user, group, files_group) = manifests.owners();
        for mount in manifests.mounts() {
            fill(&root, &mount, files, files_group);
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", host.space.path()));
        command.args(["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-c", SCRIPT, "pod"]).arg(&root).arg(relay_program());
        command.args([&name, &user.to_string(), &group.to_string()]);
        command.args(["/usr/bin/env", "--ignore-environment"]);
        // What every container has, wanted or not.
        for always in ["KUBERNETES_SERVICE_HOST=10.9.255.1", "PATH=/usr/bin"] {
            command.arg(always);
        }
        command.arg(format!("HOSTNAME={name}"));
        for (variable, value) in manifests.environment(&name, zone) {
            command.arg(format!("{variable}={value}"));
        }
        command.arg("/relay").args(manifests.arguments());
        let mut process = Process::start(dir, &format!("{name}.{start}"), &mut command);
        let id = wait_for("the first process of a pod", START, || {
            process.must_run();
            let of = process.id();
            let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
            Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
        });
        let probed = Arc::new(Probed::default());
        let http = manifests.port("http");
        let probes = ["startupProbe", "readinessProbe", "livenessProbe"];
        let probes = probes.map(|name| manifests.probe(name));
        let to = Prober { hub: hub.clone(), address: host.address, probed: Arc::clone(&probed) };
        thread::spawn(move || to.run(&probes, &on_ready));
        let (address, hub) = (host.address, hub.clone());
        Self { number, address, process, id, root, probed, hub, http }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.probed.started.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.probed.ready.load(Ordering::Relaxed)
    }

    /// The kubelet would have ended it by now.
    pub(crate) fn is_killed(&self) -> bool {
        self.probed.killed.load(Ordering::Relaxed)
    }

    pub(crate) fn wait_until_ready(&mut self) {
        wait_for(&format!("relay-{} to be ready", self.number), 2 * START, || {
            self.process.must_run();
            self.is_ready().then_some(())
        });
    }

    /// A page of its port for operators, as anybody in the cluster has it.
    pub(crate) fn get(&self, path: &str) -> Option<Page> {
        get_at(&self.hub, SocketAddr::from((self.address, self.http)), path, START)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id, signal).expect("the relay of a pod can be signalled");
    }

    /// Ends it as the kubelet does, first waiting as the manifest says; how long all of it took,
    /// how it ended, and what it said of that.
    ///
    /// # Panics
    /// It is still there when the grace period is over.
    pub(crate) fn end(mut self, manifests: &Manifests) -> (Duration, ExitStatus, String) {
        let begun = Instant::now();
        thread::sleep(manifests.pre_stop());
        let ready = self.get("/readyz").map(|page| page.status);
        assert_eq!(ready, Some(200), "until SIGTERM relay-{} is as ever", self.number);
        self.probed.over.store(true, Ordering::Relaxed);
        self.signal(Signal::TERM);
        let status = self.process.wait(manifests.grace().saturating_sub(begun.elapsed()));
        let took = begun.elapsed();
        let said = self.process.said();
        let draining = said.find("\"draining\"").unwrap_or(0);
        (took, status, said[draining..].to_owned())
    }

    /// Gives a volume other files, all at once.
    pub(crate) fn update(&self, manifests: &Manifests, files: &Files) {
        let (_, _, group) = manifests.owners();
        for mount in manifests.mounts() {
            fill(&self.root, &mount, files, group);
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.probed.over.store(true, Ordering::Relaxed);
    }
}

/// A root with nothing in it but what every container has, and the libraries of this machine, since
/// the program that tests are built with needs them.
fn make_root(root: &Path, host: &Host) {
    for folder in ["usr", "proc", "dev", "sys", "etc"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for link in ["bin", "lib", "lib64"] {
        let to = fs::read_link(Path::new("/").join(link)).expect("a system with a merged /usr");
        symlink(to, root.join(link)).unwrap();
    }
    fs::write(root.join("relay"), "").unwrap();
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n").unwrap();
    fs::copy(host.space.resolver(), root.join("etc/resolv.conf")).unwrap();
}

/// Writes the files of a volume. A Secret that is not there keeps a real pod from being made at
/// all, and a file that it lacks is not there.
fn fill(root: &Path, mount: &Mount, files: &Files, group: u32) {
    let Some(files) = files.get(&mount.source) else { panic!("nothing for {mount:?}") };
    let volume = root.join(mount.path.strip_prefix("/").unwrap());
    fs::create_dir_all(&volume).unwrap();
    let fresh = |count: &u32| !volume.join(format!("..{count}")).exists();
    let now = format!("..{}", (1..).find(fresh).unwrap());
    fs::create_dir(volume.join(&now)).unwrap();
    for (name, text) in files {
        let file = volume.join(&now).join(name);
        fs::write(&file, text).unwrap();
        chown(&file, Some(0), Some(group)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mount.mode)).unwrap();
        let link = volume.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    symlink(&now, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

/// Asks for the probes of one pod.
struct Prober {
    hub: Space,
    address: Ipv4Addr,
    probed: Arc<Probed>,
}

impl Prober {
    fn run(&self, [startup, readiness, liveness]: &[Probe; 3], on_ready: &OnReady) {
        let begun = Instant::now();
        let most = startup.period * startup.failures;
        while !self.ask(startup) {
            if self.is_over() || begun.elapsed() > most {
                return self.probed.killed.store(!self.is_over(), Ordering::Relaxed);
            }
            self.pause(startup.period);
        }
        self.probed.started.store(true, Ordering::Relaxed);
        let (mut unready, mut dead) = (0, 0);
        let (mut next_ready, mut next_live) = (Instant::now(), Instant::now() + liveness.period);
        while !self.is_over() {
            if Instant::now() >= next_ready {
                next_ready = Instant::now() + readiness.period;
                let good = self.ask(readiness);
                unready = if good { 0 } else { unready + 1 };
                let is = good || (unready < readiness.failures && self.is_ready());
                if self.probed.ready.swap(is, Ordering::Relaxed) != is && !self.is_over() {
                    on_ready(is);
                }
            }
            if Instant::now() >= next_live {
                next_live = Instant::now() + liveness.period;
                dead = if self.ask(liveness) { 0 } else { dead + 1 };
                if dead >= liveness.failures {
                    return self.probed.killed.store(true, Ordering::Relaxed);
                }
            }
            self.pause(Duration::from_millis(100));
        }
    }

    fn ask(&self, probe: &Probe) -> bool {
        let to = SocketAddr::from((self.address, probe.port));
        get_at(&self.hub, to, &probe.path, probe.timeout).is_some_and(|page| page.status == 200)
    }

    fn is_ready(&self) -> bool {
        self.probed.ready.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.probed.over.load(Ordering::Relaxed)
    }

    fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        while Instant::now() < end && !self.is_over() {
            thread::sleep(Duration::from_millis(20).min(length));
        }
    }
}
