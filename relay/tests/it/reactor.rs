//! Where io_uring may not be used, and where files run out: what the relay does then and says.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::geteuid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::support::client::{Client, Player};
use crate::support::relay::{Options, Relay, command, forget_ours};
use crate::support::{Scratch, process::Process, wait_for};

const END_MAX: Duration = Duration::from_secs(20);

/// Runs `work`, and whatever it starts, where every call of io_uring fails with `errno`: as in a
/// container whose seccomp profile leaves them out. The thread keeps the filter, so it has its own.
fn without_io_uring<T: Send>(errno: Errno, work: impl FnOnce() -> T + Send) -> T {
    let code = u32::try_from(errno.raw_os_error()).unwrap();
    // io_uring_setup, io_uring_enter and io_uring_register: numbers that all architectures share.
    let rules: BTreeMap<i64, _> = (425..=427).map(|call| (call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let refuse = SeccompAction::Errno(code);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let confined = || {
        seccompiler::apply_filter(&program).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(confined).join().unwrap())
}

fn names(errno: Errno) -> &'static str {
    if errno == Errno::PERM { "EPERM" } else { "ENOSYS" }
}

#[test]
fn a_relay_that_may_not_use_io_uring_says_so_once_and_runs_on_mio() {
    for errno in [Errno::PERM, Errno::NOSYS] {
        let scratch = Scratch::new("confined");
        let arguments = &["--reactor", "auto", "--workers", "2"][..];
        let options = Options { arguments, ..Options::default() };
        let relay = without_io_uring(errno, || Relay::start(scratch.path(), &options));
        let info = relay.metrics().sum("relay_reactor_info", &[("backend", "mio")]);
        assert_eq!(info, Some(2.0), "both workers");
        let player = Player::join(Client::open(relay.rtmp).unwrap(), "live", "none").unwrap();
        relay.wait_for_role("player", 1);
        drop(player);
        let log = relay.log_at_end(END_MAX);
        let lines: Vec<_> = log.lines().filter(|line| line.contains("io_uring")).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        for word in ["the reactor is mio", names(errno)] {
            assert!(lines[0].contains(word), "{word:?} is missing in {:?}", lines[0]);
        }
    }
}

#[test]
fn asked_for_nothing_but_io_uring_it_does_not_start_where_it_may_not() {
    for errno in [Errno::PERM, Errno::NOSYS] {
        let scratch = Scratch::new("only");
        let mut command = command();
        command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--reactor", "io_uring"]);
        let start = || Process::start(scratch.path(), "relay", &mut command);
        let mut process = without_io_uring(errno, start);
        let status = process.wait(END_MAX);
        let said = process.log();
        assert_eq!(status.code(), Some(1), "{said}");
        let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let [line] = lines[..] else { panic!("not one line: {said}") };
        for word in ["node.reactor is io_uring", names(errno)] {
            assert!(line.contains(word), "{word:?} is missing in {line:?}");
        }
    }
}

#[test]
fn where_io_uring_can_be_had_it_is_used() {
    let scratch = Scratch::new("uring");
    for arguments in [&["--reactor", "auto"][..], &["--reactor", "io_uring"]] {
        let options = Options { arguments, ..Options::default() };
        let relay = Relay::start(scratch.path(), &options);
        let info = relay.metrics().sum("relay_reactor_info", &[("backend", "io_uring")]);
        assert!(info.is_some_and(|workers| workers >= 1.0), "{arguments:?}: {info:?}");
    }
}

/// Connects and sends the first byte of a handshake; the answer is for later.
fn knock(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    let mut hello = vec![0; 1 + 1_536];
    hello[0] = 3;
    socket.write_all(&hello).unwrap();
    socket
}

/// Whether the relay answered the handshake within `limit`.
fn is_served(socket: &mut TcpStream, limit: Duration) -> bool {
    socket.set_read_timeout(Some(limit)).unwrap();
    match socket.read(&mut [0; 64]) {
        Ok(count) => count > 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            false
        }
    }
}

/// Takes out one that was answered.
fn take_served(knocking: &mut Vec<TcpStream>) -> Option<TcpStream> {
    let soon = Duration::from_millis(20);
    let place = knocking.iter_mut().position(|socket| is_served(socket, soon))?;
    Some(knocking.remove(place))
}

/// The files that a relay has open without connections.
fn files_at_rest(backend: &str) -> usize {
    let scratch = Scratch::new("rest");
    let arguments = &["--reactor", backend, "--workers", "1"][..];
    let relay = Relay::start(scratch.path(), &Options { arguments, ..Options::default() });
    let files = || std::fs::read_dir(format!("/proc/{}/fd", relay.id())).unwrap().count();
    // The connection by which it was asked whether it is ready may still be there.
    let ten_times = || {
        (0..10).map(|_| {
            thread::sleep(Duration::from_millis(20));
            files()
        })
    };
    ten_times().min().unwrap()
}

#[test]
fn without_a_file_left_accepting_pauses_and_goes_on_when_a_connection_ends() {
    for backend in ["io_uring", "mio"] {
        let scratch = Scratch::new("files");
        let limit = files_at_rest(backend) + 5;
        let mut command = Command::new("prlimit");
        forget_ours(&mut command);
        command.arg(format!("--nofile={limit}:{limit}")).arg(env!("CARGO_BIN_EXE_relay"));
        command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", "1"]);
        command.args(["--reactor", backend]);
        let relay = Relay::start_with(scratch.path(), &mut command);
        let mut knocking: Vec<_> = (0..12).map(|_| knock(relay.rtmp)).collect();
        let mut served = Vec::new();
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < Duration::from_millis(1_500) {
            if let Some(socket) = take_served(&mut knocking) {
                served.push(socket);
                quiet_since = Instant::now();
            }
        }
        let room = served.len();
        assert!((2..=8).contains(&room), "{backend}: {room} are served where some 5 have room");
        drop(served.pop());
        wait_for(&format!("{backend}: the next to be served"), END_MAX, || {
            take_served(&mut knocking).map(|socket| served.push(socket))
        });
        assert_eq!(served.len(), room);
        drop(served);
        while let Some(mut socket) = knocking.pop() {
            assert!(is_served(&mut socket, END_MAX), "{backend}: not served where there is room");
        }
        let refused = relay.metrics().sum("relay_refused_total", &[("reason", "files")]);
        assert!(refused.is_some_and(|count| (1.0..60.0).contains(&count)), "{refused:?}");
        let log = relay.log_at_end(END_MAX);
        assert!(log.contains("raise the limit of open files"), "{backend}: {log}");
    }
}

#[test]
fn the_limit_on_open_files_is_raised_and_bounds_the_connections() {
    let scratch = Scratch::new("limit");
    let mut command = Command::new("prlimit");
    forget_ours(&mut command);
    command.arg("--nofile=100:300").arg(env!("CARGO_BIN_EXE_relay"));
    command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", "2"]);
    let relay = Relay::start_with(scratch.path(), &mut command);
    // 64 for the node and 8 for each worker are kept back.
    assert_eq!(relay.metrics().sum("relay_limit", &[("name", "connections_max")]), Some(220.0));
    let log = relay.log_at_end(END_MAX);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("open files")).collect();
    let [line] = lines[..] else { panic!("not one line: {lines:?}") };
    for word in ["before=100", "files=300", "connections_max=220"] {
        assert!(line.contains(word), "{word:?} is missing in {line:?}");
    }
}

/// Locked memory is counted for a user, and not at all for root: so this relay is nobody's. What it
/// has is what an ordinary login has.
#[test]
fn under_the_limits_of_an_ordinary_login_every_worker_has_its_ring() {
    let scratch = Scratch::new("login");
    // Where nobody may come: the program may lie where it may not.
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = open.path().join("relay");
    std::fs::copy(env!("CARGO_BIN_EXE_relay"), &program).unwrap();
    let mut command = Command::new("prlimit");
    forget_ours(&mut command);
    command.args(["--memlock=8388608:8388608", "--nofile=1024:20000"]);
    if geteuid().is_root() {
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.arg(&program).current_dir("/");
    command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", "4"]);
    command.args(["--reactor", "io_uring"]);
    let relay = Relay::start_with(scratch.path(), &mut command);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", relay.id())).unwrap();
    for (limit, expected) in [("Max locked memory", "8388608"), ("Max open files", "20000")] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert!(line.split_whitespace().any(|word| word == expected), "{line:?}");
    }
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("relay_reactor_info", &[("backend", "io_uring")]), Some(4.0));
    // 64 for the node and 8 for each worker are kept back.
    assert_eq!(metrics.sum("relay_limit", &[("name", "connections_max")]), Some(19_904.0));
    let players: Vec<_> = (0..8)
        .map(|_| Player::join(Client::open(relay.rtmp).unwrap(), "live", "none").unwrap())
        .collect();
    relay.wait_for_role("player", 8);
    drop(players);
    let log = relay.log_at_end(END_MAX);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("open files")).collect();
    let [line] = lines[..] else { panic!("not one line: {lines:?}") };
    for word in ["before=1024", "files=20000", "connections_max=19904"] {
        assert!(line.contains(word), "{word:?} is missing in {line:?}");
    }
}
