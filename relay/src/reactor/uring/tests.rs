//! What the io_uring backend alone promises: the price of a send, memory that outlives its
//! operations, and sends without copies that know when to stop.

mod canaries;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{UringOptions, UringReactor};
use crate::reactor::socket::{SocketOptions, listen};
use crate::reactor::{Batch, Completion, ConnectionKey, Operation, Reactor};

/// Turns until `pick` gives something.
fn until<T>(reactor: &mut UringReactor, mut pick: impl FnMut(Completion<'_>) -> Option<T>) -> T {
    let started = Instant::now();
    let mut found = None;
    while found.is_none() {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not come");
        reactor.wait(Some(Duration::from_millis(10)));
        reactor.drain(&mut |completion| found = found.take().or_else(|| pick(completion)));
        reactor.submit(&mut Vec::new());
    }
    found.expect("the loop ends with it")
}

/// A reactor with `count` connections accepted from these peers.
fn connected(
    settings: &UringOptions,
    count: usize,
) -> (UringReactor, Vec<ConnectionKey>, Vec<TcpStream>) {
    let options = SocketOptions::default();
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), 1, &options).unwrap().remove(0);
    let address = listener.local_addr().unwrap();
    let mut reactor = UringReactor::new(settings, options).unwrap();
    let listener = reactor.add_listener(listener).unwrap();
    reactor.submit(&mut vec![Operation::Accept { listener, on: true }]);
    let (mut keys, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let peer = TcpStream::connect(address).unwrap();
        let from = peer.local_addr().unwrap();
        keys.push(until(&mut reactor, |completion| match completion {
            Completion::Accepted { connection, peer, .. } if peer == from => Some(connection),
            _ => None,
        }));
        peers.push(peer);
    }
    (reactor, keys, peers)
}

#[test]
fn sends_of_a_turn_to_peers_that_keep_up_are_one_system_call() {
    let (mut reactor, keys, _peers) = connected(&UringOptions::default(), 50);
    let bytes = Bytes::from(vec![1; 6_250]);
    let forms: [fn(Bytes) -> Batch; 3] = [
        Batch::One,
        |bytes| Batch::Two([bytes.clone(), bytes]),
        |bytes| Batch::Many(vec![bytes; 5]),
    ];
    for form in forms {
        let send = |connection: &ConnectionKey| Operation::Send {
            connection: *connection,
            batch: form(bytes.clone()),
        };
        let before = reactor.counters();
        reactor.submit(&mut keys.iter().map(send).collect());
        assert!(bytes.is_unique(), "all of them are with the kernel, and their memory free again");
        let mut sent = 0;
        reactor.wait(Some(Duration::from_secs(20)));
        reactor.drain(&mut |completion| {
            assert!(matches!(completion, Completion::Sent { .. }), "{completion:?}");
            sent += 1;
        });
        let after = reactor.counters();
        assert_eq!(sent, keys.len());
        assert_eq!(after.syscalls - before.syscalls, 1);
        assert_eq!(after.sends - before.sends, 50);
        assert_eq!(after.short_sends, 0);
    }
}

#[test]
fn what_was_sent_is_told_before_the_peers_end() {
    let (mut reactor, keys, peers) = connected(&UringOptions::default(), 1);
    let connection = keys[0];
    drop(peers);
    let send = Operation::Send { connection, batch: Batch::One(Bytes::from_static(b"farewell")) };
    reactor.submit(&mut vec![Operation::Receive { connection }, send]);
    let mut told = Vec::new();
    until(&mut reactor, |completion| {
        told.push(format!("{completion:?}"));
        matches!(completion, Completion::ReceiveEnded { .. }).then_some(())
    });
    assert!(told.len() == 2 && told[0].starts_with("Sent"), "{told:?}");
}

#[test]
fn more_operations_than_the_queue_holds_are_all_done() {
    let (mut reactor, keys, mut peers) = connected(&UringOptions::default(), 2);
    // Nothing is waited for between them, so that the kernel has them all at once.
    let rounds = 3_000;
    for _ in 0..rounds {
        for connection in &keys {
            let batch = Batch::One(Bytes::from_static(b"x"));
            reactor.start(Operation::Send { connection: *connection, batch });
            // As the worker would be told it is done: the next one may be asked for.
            if let Some(entry) = reactor.connections.get_mut(*connection) {
                entry.sending = None;
            }
        }
    }
    reactor.submit(&mut Vec::new());
    for peer in &mut peers {
        let mut read = vec![0; rounds];
        peer.read_exact(&mut read).unwrap();
        assert!(read.iter().all(|byte| *byte == b'x'));
    }
}

#[test]
fn a_receive_that_waits_costs_nothing_and_one_that_is_fed_goes_on() {
    let (mut reactor, keys, mut peers) = connected(&UringOptions::default(), 1);
    let receive = || Operation::Receive { connection: keys[0] };
    reactor.submit(&mut vec![receive()]);
    let before = reactor.counters().syscalls;
    reactor.submit(&mut vec![receive(), receive()]);
    assert_eq!(reactor.counters().syscalls, before, "it is outstanding already");
    for text in [&b"once"[..], b"twice", b"and again"] {
        peers[0].write_all(text).unwrap();
        let got = until(&mut reactor, |completion| match completion {
            Completion::Received { bytes, .. } => Some(bytes.to_vec()),
            _ => None,
        });
        assert_eq!(got, text);
        reactor.submit(&mut vec![receive()]);
    }
}

#[test]
fn all_that_came_is_told_in_one_turn() {
    // More than the kernel runs in one call.
    let (mut reactor, keys, mut peers) = connected(&UringOptions::default(), 44);
    let receive = |connection: &ConnectionKey| Operation::Receive { connection: *connection };
    reactor.submit(&mut keys.iter().map(receive).collect());
    reactor.wait(Some(Duration::ZERO));
    peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
    reactor.wait(Some(Duration::from_secs(20)));
    let mut heard = Vec::new();
    reactor.drain(&mut |completion| match completion {
        Completion::Received { connection, .. } => heard.push(connection),
        other => panic!("{other:?}"),
    });
    assert_eq!(heard, keys);
}

#[test]
fn a_rush_of_room_is_used_a_part_at_a_time() {
    let (mut reactor, keys, mut peers) = connected(&UringOptions::default(), 150);
    let bytes = Bytes::from(vec![5; 8 << 20]);
    let send = |connection: &ConnectionKey| {
        let batch = Batch::One(bytes.clone());
        Operation::Send { connection: *connection, batch }
    };
    reactor.submit(&mut keys.iter().map(send).collect());
    assert_eq!(reactor.counters().short_sends, 150, "no socket takes so much");
    peers.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
    let mut buffer = vec![0; 1 << 20];
    let (mut gone, mut most, mut turns) = (0, 0, 0);
    while gone < keys.len() {
        turns += 1;
        assert!(turns < 100_000, "{gone} are gone");
        for peer in &mut peers {
            while peer.read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
        let before = reactor.counters().sends;
        reactor.wait(Some(Duration::from_millis(10)));
        most = most.max(reactor.counters().sends - before);
        reactor.drain(&mut |completion| gone += usize::from(is_sent(&completion)));
    }
    assert_eq!(most, 64, "all have room at once");
}

#[test]
fn who_leaves_with_room_is_sent_nothing_more() {
    let (mut reactor, keys, mut peers) = connected(&UringOptions::default(), 1);
    let connection = keys[0];
    let batch = Batch::One(Bytes::from(vec![5; 8 << 20]));
    let send = Operation::Send { connection, batch };
    reactor.submit(&mut vec![Operation::Receive { connection }, send]);
    peers[0].set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while reactor.roomy.is_empty() {
        while peers[0].read(&mut buffer).is_ok_and(|count| count > 0) {}
        reactor.wait(Some(Duration::from_millis(10)));
        reactor.drain(&mut |completion| panic!("{completion:?}"));
    }
    let before = reactor.counters().sends;
    reactor.submit(&mut vec![Operation::Close { connection }]);
    until(&mut reactor, |completion| matches!(completion, Completion::Closed { .. }).then_some(()));
    assert_eq!(reactor.counters().sends, before);
}

fn is_sent(completion: &Completion<'_>) -> bool {
    matches!(completion, Completion::Sent { .. })
}

#[test]
fn a_connection_for_which_the_kernel_copies_all_the_same_goes_back_to_copying() {
    let settings = UringOptions {
        zero_copy_bytes_min: Some(32 * 1024),
        zero_copy_to_loopback: true,
        ..UringOptions::default()
    };
    let (mut reactor, keys, mut peers) = connected(&settings, 1);
    let connection = keys[0];
    assert!(reactor.connections.get_mut(connection).unwrap().zero_copy);
    let bytes = Bytes::from(vec![7; 60_000]);
    let mut read = vec![0; bytes.len()];
    let send = |reactor: &mut UringReactor| {
        let batch = Batch::One(bytes.clone());
        reactor.submit(&mut vec![Operation::Send { connection, batch }]);
        until(reactor, |completion| {
            matches!(completion, Completion::Sent { bytes: 60_000, .. }).then_some(())
        });
    };
    send(&mut reactor);
    peers[0].read_exact(&mut read).unwrap();
    // Loopback hands over no pages; the notification says so.
    let started = Instant::now();
    while reactor.connections.get_mut(connection).unwrap().zero_copy {
        assert!(started.elapsed() < Duration::from_secs(20), "no notification");
        reactor.wait(Some(Duration::from_millis(10)));
    }
    assert!(bytes.is_unique(), "with the notification the memory is free");
    send(&mut reactor);
    peers[0].read_exact(&mut read).unwrap();
    assert!(read == bytes && bytes.is_unique());
}

#[test]
fn a_full_socket_is_no_reason_to_go_back_to_copying() {
    let settings = UringOptions {
        zero_copy_bytes_min: Some(32 * 1024),
        zero_copy_to_loopback: true,
        ..UringOptions::default()
    };
    let (mut reactor, keys, mut peers) = connected(&settings, 1);
    let connection = keys[0];
    let stream = &reactor.connections.get_mut(connection).unwrap().stream;
    let (mut filled, zeros) = (0, vec![0; 65_536]);
    while let Ok(count) = rustix::net::send(stream, &zeros, rustix::net::SendFlags::DONTWAIT) {
        filled += count;
    }
    let bytes = Bytes::from(vec![7; 60_000]);
    let batch = Batch::One(bytes.clone());
    reactor.submit(&mut vec![Operation::Send { connection, batch }]);
    let started = Instant::now();
    while reactor.connections.get_mut(connection).unwrap().notifications > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "no notification");
        reactor.wait(Some(Duration::from_millis(10)));
    }
    assert_eq!(reactor.counters().short_sends, 1);
    // The notification said "copied", though there was nothing to copy.
    assert!(reactor.connections.get_mut(connection).unwrap().zero_copy);
    let mut peer = peers.remove(0);
    let reading = std::thread::spawn(move || {
        let mut read = vec![0; filled + 60_000];
        peer.read_exact(&mut read).map(|()| read)
    });
    until(&mut reactor, |completion| matches!(completion, Completion::Sent { .. }).then_some(()));
    assert!(reading.join().unwrap().unwrap()[filled..] == bytes);
}

#[test]
fn only_long_sends_to_other_hosts_are_not_copied() {
    let far = "192.0.2.1:5".parse().unwrap();
    for (min, expected) in [(None, false), (Some(32 * 1024), true)] {
        let settings = UringOptions { zero_copy_bytes_min: min, ..UringOptions::default() };
        let (mut reactor, keys, mut peers) = connected(&settings, 1);
        assert!(!reactor.connections.get_mut(keys[0]).unwrap().zero_copy, "{min:?} to loopback");
        let other = reactor.add_connection(peers.remove(0), None, far);
        assert_eq!(reactor.connections.get_mut(other).unwrap().zero_copy, expected, "{min:?}");
    }
}

/// Locked memory is limited per user, and root is exempt: so this runs in a process of its own, as
/// nobody if we are root.
#[test]
fn a_limit_on_locked_memory_makes_a_send_copy() {
    const CHILD: &str = "RELAY_TEST_WITH_LITTLE_LOCKED_MEMORY";
    if std::env::var_os(CHILD).is_none() {
        let name = "reactor::uring::tests::a_limit_on_locked_memory_makes_a_send_copy";
        let mut command = std::process::Command::new("prlimit");
        command.arg("--memlock=1048576:1048576");
        if rustix::process::geteuid().is_root() {
            command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        // The file of this program, which nobody may read where it lies, but may where it is open.
        let program = std::fs::File::open("/proc/self/exe").unwrap();
        let output = command
            .arg("/proc/self/fd/0")
            .args(["--exact", name, "--test-threads=1"])
            .stdin(program)
            .env(CHILD, "1")
            .current_dir("/")
            .output()
            .expect("prlimit and setpriv belong to the system");
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{error}");
        return;
    }
    let settings = UringOptions {
        zero_copy_bytes_min: Some(1),
        zero_copy_to_loopback: true,
        zero_copy_though_copied: true,
        ..UringOptions::default()
    };
    let (mut reactor, keys, mut peers) = connected(&settings, 1);
    let connection = keys[0];
    let bytes = Bytes::from(vec![9; 4 * 1024 * 1024]);
    let batch = Batch::One(bytes.clone());
    reactor.submit(&mut vec![Operation::Send { connection, batch }]);
    // The first attempt, longer than the limit, was refused; the second one copies.
    assert_eq!(reactor.counters().sends, 2);
    let mut peer = peers.remove(0);
    let reading = std::thread::spawn(move || {
        let mut read = vec![0; 4 * 1024 * 1024];
        peer.read_exact(&mut read).map(|()| read)
    });
    until(&mut reactor, |completion| matches!(completion, Completion::Sent { .. }).then_some(()));
    assert!(reading.join().unwrap().unwrap() == bytes);
    let entry = reactor.connections.get_mut(connection).unwrap();
    assert!(entry.zero_copy, "shorter ones may fit");
}
