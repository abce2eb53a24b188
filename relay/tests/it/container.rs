//! The image of `k8s/Dockerfile`, run as Kubernetes would run it: read-only, as nobody in
//! particular, without capabilities, under either seccomp profile and under limits.
//!
//! Needs podman and a static build of the program, which `.ci/test` makes first. Containers share
//! the host's network, so that the relay says its ports as ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::{Client, Player};
use crate::support::clip::Clip;
use crate::support::process::Process;
use crate::support::relay::Relay;
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

/// Ending in order without a drain window, podman's own work included.
const END_MAX: Duration = Duration::from_secs(20);

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn podman() -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_CONF", root().join(".ci/containers.conf"));
    command
}

/// Runs podman to its end and gives what it says.
fn ask_podman(arguments: &[&str]) -> Result<String, String> {
    let output = podman().args(arguments).output();
    let output = output.map_err(|_| "podman not found: run .ci/install".to_owned())?;
    let [said, wrong] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    if output.status.success() { Ok(said) } else { Err(format!("podman {arguments:?}: {wrong}")) }
}

/// The image, built once for all tests that run at the time.
struct Image(String);

impl Image {
    fn get() -> Arc<Self> {
        static BUILT: Mutex<Weak<Image>> = Mutex::new(Weak::new());
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = built.upgrade() {
            return image;
        }
        let image = Arc::new(Self::build());
        *built = Arc::downgrade(&image);
        image
    }

    fn build() -> Self {
        let ours = Path::new(env!("CARGO_BIN_EXE_relay"));
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let program = ours.ancestors().nth(2).unwrap().join(target).join("release/relay");
        assert!(
            program.exists(),
            "{} is not there: build it as k8s/README.md says",
            program.display()
        );
        let context = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::copy(&program, context.path().join("relay")).unwrap();
        let dockerfile = root().join("k8s/Dockerfile");
        let folder = context.path().to_string_lossy();
        let arguments = ["build", "--quiet", "--file", &dockerfile.to_string_lossy(), &folder];
        Self(ask_podman(&arguments).unwrap_or_else(|wrong| panic!("{wrong}")))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(wrong) = ask_podman(&["rmi", &self.0]) {
            eprintln!("{wrong}");
        }
    }
}

/// A name that podman knows a container by; taken away from it at the end, whatever went wrong.
struct Name(String);

impl Name {
    fn of(scratch: &Scratch) -> Self {
        let folder = scratch.path().file_name().unwrap().to_string_lossy();
        Self(format!("relay-it-{}-{folder}", std::process::id()))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Err(wrong) = ask_podman(&["rm", "--force", "--ignore", "--time", "2", &self.0]) {
            eprintln!("{wrong}");
        }
    }
}

/// A relay in a container. Podman hands signals and the exit code through, so it is used like any
/// other. Its parts end in this order: the relay in order, what is left of the container, the
/// image.
struct Container {
    relay: Option<Relay>,
    name: Name,
    _image: Arc<Image>,
}

impl Container {
    /// Runs the image with these options of podman and arguments of the relay.
    fn run(scratch: &Scratch, options: &[&str], arguments: &[&str]) -> Self {
        let image = Image::get();
        let name = Name::of(scratch);
        let mut command = podman();
        command.args(["run", "--rm", "--name", &name.0, "--network", "host", "--read-only"]);
        command.args(["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
        command.args(options).arg(&image.0);
        command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(arguments);
        let mut container = Self { relay: None, name, _image: image };
        container.relay = Some(Relay::start_with(scratch.path(), &mut command));
        container
    }

    fn relay(&mut self) -> &mut Relay {
        self.relay.as_mut().unwrap()
    }

    /// A field of the status of the relay's process, as the kernel tells it.
    fn status(&self, field: &str) -> String {
        let id = ask_podman(&["inspect", "--format", "{{.State.Pid}}", &self.name.0]).unwrap();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().to_owned()
    }

    fn workers(&mut self, backend: &str) -> Option<f64> {
        self.relay().metrics().sum("relay_reactor_info", &[("backend", backend)])
    }
}

/// The profile that the repository ships.
fn profile() -> String {
    let path: PathBuf = root().join("k8s/seccomp/relay.json");
    format!("seccomp={}", path.display())
}

/// Publishes with FFmpeg and plays.
fn passes_media(scratch: &Scratch, relay: &Relay) {
    let url = relay.url("clip");
    let mut publisher = ffmpeg::publish(scratch.path(), "publisher", Clip::Plain, &url);
    let mut player = Player::join(Client::open(relay.rtmp).unwrap(), "live", "clip").unwrap();
    let why = player.read(Instant::now() + START, |p| p.recording.coded().len() >= 60);
    let received = player.recording.coded().len();
    assert!(received >= 60, "{received} packets, then {why:?}");
    publisher.stop(Signal::INT);
}

#[test]
fn the_image_runs_read_only_as_nobody_and_without_rights_on_mio() {
    let scratch = Scratch::new("image");
    let begun = Instant::now();
    let image = Image::get();
    println!("the image was built after {:?}", begun.elapsed());
    let bytes = ask_podman(&["image", "inspect", "--format", "{{.Size}}", &image.0]).unwrap();
    let bytes: f64 = bytes.parse().unwrap();
    println!("the image has {:.1} MB", bytes / 1e6);
    // One program, line tables for its backtraces included, and nothing else.
    assert!(bytes < 200e6, "{bytes}");
    let begun = Instant::now();
    let mut container = Container::run(&scratch, &[], &[]);
    println!("a container of it was ready after {:?}, podman's work included", begun.elapsed());
    for (field, expected) in [
        ("Uid", "65532"),
        ("Gid", "65532"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(container.status(field), expected, "{field}");
    }
    assert!(container.workers("mio").is_some_and(|workers| workers >= 1.0));
    assert_eq!(container.workers("io_uring"), None);
    passes_media(&scratch, container.relay());
    let log = container.relay.take().unwrap().log_at_end(END_MAX);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn with_the_profile_of_the_repository_it_runs_on_io_uring() {
    let scratch = Scratch::new("profile");
    let mut container = Container::run(&scratch, &["--security-opt", &profile()], &[]);
    assert!(container.workers("io_uring").is_some_and(|workers| workers >= 1.0));
    assert_eq!(container.workers("mio"), None);
    assert_eq!(container.status("Seccomp"), "2");
    passes_media(&scratch, container.relay());
    let status = container.relay.take().unwrap().terminate(END_MAX);
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn with_the_profile_of_the_repository_mio_is_complete_too() {
    let scratch = Scratch::new("profile-mio");
    let options = &["--security-opt", &profile()];
    let mut container = Container::run(&scratch, options, &["--reactor", "mio"]);
    passes_media(&scratch, container.relay());
}

#[test]
fn as_the_first_process_it_drains_after_sigterm_and_ends_in_order() {
    const WINDOW: Duration = Duration::from_secs(3);
    let scratch = Scratch::new("first");
    let settings = scratch.file("relay.toml");
    fs::write(&settings, "[drain]\nwindow = \"3s\"\n").unwrap();
    let volume = format!("{}:/etc/relay/relay.toml:ro", settings.display());
    let arguments = &["--config", "/etc/relay/relay.toml"];
    let mut container = Container::run(&scratch, &["--volume", &volume], arguments);
    let relay = container.relay();
    let _player = Player::join(Client::open(relay.rtmp).unwrap(), "live", "none").unwrap();
    relay.wait_for_role("player", 1);
    let http = relay.http;
    relay.signal(Signal::TERM);
    let begun = Instant::now();
    wait_for("a relay that drains not to be ready", WINDOW, || {
        http::get(http, "/readyz").ok().filter(|ready| ready.status == 503)
    });
    let status = container.relay.take().unwrap().wait(WINDOW + END_MAX);
    assert_eq!(status.code(), Some(0), "{status}");
    let took = begun.elapsed();
    assert!(took >= WINDOW - Duration::from_secs(1), "the player had only {took:?}");
}

#[test]
fn limits_of_processors_give_workers_and_those_of_memory_budgets() {
    for (options, workers) in
        [(&["--cpus", "1.9"][..], 1.0), (&["--cpus", "0.5"], 1.0), (&["--cpuset-cpus", "0"], 1.0)]
    {
        let scratch = Scratch::new("limits");
        let options = [options, &["--memory", "256m"]].concat();
        let mut container = Container::run(&scratch, &options, &["--reactor", "mio"]);
        assert_eq!(container.workers("mio"), Some(workers), "{options:?}");
        let metrics = container.relay().metrics();
        let used = metrics.sum("process_resident_memory_bytes", &[]);
        assert!(used.is_some_and(|bytes| bytes < 64e6), "{used:?}");
        // Three quarters, less 16 MiB for the program: 176 MiB for all totals.
        let totals = ["log_bytes_total", "connection_bytes_total", "tunnel_bytes_total"];
        let limit = |name: &&str| metrics.sum("relay_limit", &[("name", name)]).unwrap();
        let budget: f64 = totals.iter().map(limit).sum();
        assert!((175.9..=176.0).contains(&(budget / f64::from(1 << 20))), "{budget}");
    }
}

#[test]
fn a_configuration_that_the_container_has_no_memory_for_does_not_start() {
    let image = Image::get();
    let scratch = Scratch::new("small");
    let name = Name::of(&scratch);
    let mut command = podman();
    command.args(["run", "--rm", "--name", &name.0, "--network", "none", "--read-only"]);
    command.args(["--memory", "128m", "--env", "RELAY_LIMITS__LOG_BYTES_TOTAL=512MiB", &image.0]);
    let mut process = Process::start(scratch.path(), "podman", &mut command);
    let status = process.wait(END_MAX);
    let said = process.log();
    assert_eq!(status.code(), Some(1), "{said}");
    for word in
        ["may use 128 MiB", "limits.log_bytes_total (512 MiB)", "raise the container's limit"]
    {
        assert!(said.contains(word), "{word:?} is missing in {said:?}");
    }
}
