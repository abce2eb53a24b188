//! What the mio backend alone promises: real addresses, the price of a send, the kernel's patience.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::{Domain, SockAddr, Socket, Type};

use super::PollReactor;
use super::connection::Connection;
use crate::reactor::socket::{SocketOptions, dial, listen};
use crate::reactor::{Batch, Completion, Operation, Reactor, ReactorCounters};

/// Turns until `pick` gives something.
fn until<T>(reactor: &mut PollReactor, mut pick: impl FnMut(Completion<'_>) -> Option<T>) -> T {
    let started = Instant::now();
    let mut found = None;
    while found.is_none() {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not come");
        reactor.wait(Some(Duration::from_millis(10)));
        reactor.drain(&mut |completion| found = found.take().or_else(|| pick(completion)));
    }
    found.expect("the loop ends with it")
}

/// A reactor that accepts at this address, with any port.
fn server(host: IpAddr) -> (PollReactor, u16) {
    let options = SocketOptions::default();
    let listener = listen(SocketAddr::new(host, 0), 1, &options).unwrap().remove(0);
    let port = listener.local_addr().unwrap().port();
    let mut reactor = PollReactor::new(65_536, options).unwrap();
    let listener = reactor.add_listener(listener).unwrap();
    reactor.submit(&mut vec![Operation::Accept { listener, on: true }]);
    (reactor, port)
}

#[test]
fn a_dual_stack_listener_tells_each_client_by_its_own_address() {
    let (mut reactor, port) = server(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let client = TcpStream::connect((host, port)).unwrap();
        let addresses = until(&mut reactor, |completion| match completion {
            Completion::Accepted { peer, local, .. } => Some((peer, local)),
            _ => None,
        });
        assert_eq!(addresses, (client.local_addr().unwrap(), SocketAddr::new(host, port)));
    }
}

#[test]
fn a_send_to_a_peer_that_keeps_up_is_one_system_call() {
    let (mut reactor, port) = server(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let connection = until(&mut reactor, |completion| match completion {
        Completion::Accepted { connection, .. } => Some(connection),
        _ => None,
    });
    let bytes = Bytes::from(vec![1; 6_250]);
    for batch in [Batch::One(bytes.clone()), Batch::Many(vec![bytes.clone(), bytes])] {
        let before = reactor.counters();
        reactor.submit(&mut vec![Operation::Send { connection, batch }]);
        let mut sent = 0;
        reactor.drain(&mut |completion| {
            assert!(matches!(completion, Completion::Sent { .. }), "{completion:?}");
            sent += 1;
        });
        let after = reactor.counters();
        assert_eq!(sent, 1);
        assert_eq!(after.syscalls - before.syscalls, 1);
        assert_eq!(after.sends - before.sends, 1);
        assert_eq!(after.short_sends, 0);
    }
}

#[test]
fn a_socket_known_to_be_empty_is_not_read() {
    let (mut reactor, port) = server(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    client.write_all(b"once").unwrap();
    let connection = until(&mut reactor, |completion| match completion {
        Completion::Accepted { connection, .. } => Some(connection),
        _ => None,
    });
    let receive = || Operation::Receive { connection };
    reactor.submit(&mut vec![receive()]);
    until(&mut reactor, |completion| {
        matches!(completion, Completion::Received { bytes: b"once", .. }).then_some(())
    });
    // This one finds out that there is nothing more; waiting and asking again read no more.
    reactor.submit(&mut vec![receive()]);
    reactor.drain(&mut |completion| panic!("{completion:?}"));
    let before = reactor.counters().syscalls;
    reactor.submit(&mut vec![receive(), receive()]);
    reactor.drain(&mut |completion| panic!("{completion:?}"));
    assert_eq!(reactor.counters().syscalls, before);
    client.write_all(b"twice").unwrap();
    until(&mut reactor, |completion| {
        matches!(completion, Completion::Received { bytes: b"twice", .. }).then_some(())
    });
}

#[test]
fn a_connect_that_nobody_answers_is_given_up() {
    // A listener whose queue is full lets further calls go unanswered.
    let options = SocketOptions { backlog: 0, ..SocketOptions::default() };
    let full: Vec<TcpListener> =
        listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1, &options).unwrap();
    let address = full[0].local_addr().unwrap();
    let _callers: Vec<_> = (0..4).map(|_| dial(address, &options).unwrap()).collect();
    let user_timeout = Some(Duration::from_millis(500));
    let options = SocketOptions { user_timeout, ..SocketOptions::default() };
    let mut reactor = PollReactor::new(65_536, options).unwrap();
    reactor.submit(&mut vec![Operation::Connect { token: 9, address }]);
    assert_eq!(reactor.connections(), 1);
    let kind = until(&mut reactor, |completion| match completion {
        Completion::ConnectFailed { token: 9, error } => Some(error.kind()),
        completion => panic!("{completion:?}"),
    });
    assert_eq!(kind, ErrorKind::TimedOut);
    assert_eq!(reactor.connections(), 0);
}

#[test]
fn a_connection_of_a_socket_to_itself_is_refused() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
    socket.connect(&socket.local_addr().unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = mio::net::TcpStream::from_std(socket.into());
    let mut connection = Connection::new(stream, Some(1));
    let error = connection.connected(&mut ReactorCounters::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
