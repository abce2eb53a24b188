//! Health checkers and scanners: they open a connection, say nothing or something else, and go.
//! They are counted and cause no line above the level of information.

use std::io::Write;
use std::sync::{Arc, Mutex};

use relay::worker::labels::{CloseReason, HandshakeResult, Label, RefuseReason, Transport};

use crate::support::node::Node;
use crate::support::script::publishing;

/// Text that a subscriber wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a visit and gives what is logged at `level` and above.
pub(crate) fn logged(level: tracing::Level, visit: impl FnOnce()) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, visit);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn handshakes(node: &Node, result: HandshakeResult) -> u64 {
    node.cells.handshakes.at((result, Transport::Rtmp)).get()
}

fn closed(node: &Node, reason: CloseReason) -> u64 {
    let closed = node.cells.connections_closed.iter();
    closed.filter(|((_, _, of), _)| of.index() == reason.index()).map(|(_, count)| count).sum()
}

#[test]
fn health_checkers_connect_and_close() {
    let mut node = Node::new();
    let log = logged(tracing::Level::WARN, || {
        for _ in 0..3 {
            let client = node.connect();
            node.run(&mut [], 50);
            client.close();
            node.run(&mut [], 50);
        }
        let mut halfway = node.connect();
        halfway.send(&[3; 100]);
        node.run(&mut [&mut halfway], 50);
        halfway.close();
        node.run(&mut [], 50);
    });
    assert_eq!(log, "");
    assert_eq!(handshakes(&node, HandshakeResult::Eof), 4);
}

#[test]
fn scanners_send_http_and_worse() {
    let mut node = Node::new();
    // A request without a host, TLS where there is no certificate, and what nobody speaks.
    let requests: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b"ssh-2.0-x\r\n", b"\x06", b"\0"];
    let log = logged(tracing::Level::WARN, || {
        for request in requests {
            let mut client = node.connect();
            client.send(request);
            node.run(&mut [&mut client], 2_000);
            assert!(client.ended, "{request:?}");
        }
    });
    assert_eq!(log, "");
    assert_eq!(handshakes(&node, HandshakeResult::BadVersion), 3);
    assert_eq!(handshakes(&node, HandshakeResult::Rtmpe), 1);
    assert_eq!(closed(&node, CloseReason::Protocol), 4);
    assert_eq!(closed(&node, CloseReason::Refused), 1);
    for reason in [RefuseReason::HttpMalformed, RefuseReason::NoCertificate] {
        assert_eq!(node.cells.refused.at(reason).get(), 1, "{reason:?}");
    }
}

#[test]
fn scanners_and_old_players_that_ask_for_rtmpe_are_refused_and_told_apart() {
    for version in [6, 8, 9] {
        let mut node = Node::new();
        let log = logged(tracing::Level::INFO, || {
            let mut client = node.connect();
            client.send(&[version]);
            node.run(&mut [&mut client], 50);
            assert!(client.ended);
        });
        let sentence = format!("the peer asks for encrypted RTMP (RTMPE, version {version})");
        assert_eq!(log.matches(&sentence).count(), 1, "{log}");
        assert_eq!(handshakes(&node, HandshakeResult::Rtmpe), 1);
        assert_eq!(handshakes(&node, HandshakeResult::BadVersion), 0);
    }
}

#[test]
fn scanners_that_are_silent_are_closed_in_time() {
    let mut node = Node::new();
    let log = logged(tracing::Level::WARN, || {
        let mut client = node.connect();
        node.run(&mut [&mut client], 11_000);
        assert!(!client.ended);
        node.run(&mut [&mut client], 2_000);
        assert!(client.ended);
    });
    assert_eq!(log, "");
    assert_eq!(handshakes(&node, HandshakeResult::Timeout), 1);
    assert_eq!(closed(&node, CloseReason::Timeout), 1);
}

#[test]
fn atem_and_others_that_fail_leave_their_first_bytes_in_a_log_of_level_debug() {
    let visit = |bytes: &[u8]| {
        let mut node = Node::new();
        let mut client = node.connect();
        client.send(bytes);
        node.run(&mut [&mut client], 13_000);
        assert!(client.ended);
    };
    let hello = [&[3; 3_073][..], b"secret"].concat();
    let log = logged(tracing::Level::DEBUG, || visit(&hello));
    let began = log.lines().find(|line| line.contains("the connection began with")).unwrap();
    assert_eq!(began.matches("03 ").count(), 3_071, "3 KiB of it and no more");
    assert!(log.contains("timeout"), "{log}");
    assert!(!logged(tracing::Level::INFO, || visit(&hello)).contains("began with"));
    // One who got further is of no interest.
    let log = logged(tracing::Level::DEBUG, || {
        let mut node = Node::new();
        let mut client = node.client(&publishing());
        node.run(&mut [&mut client], 40_000);
        assert!(client.ended);
    });
    assert!(log.contains("connection closed") && !log.contains("began with"), "{log}");
}

#[test]
fn dji_out_of_step_is_logged_with_the_bytes_that_it_stumbled_over() {
    let log = logged(tracing::Level::INFO, || {
        let mut node = Node::new();
        let mut drone = node.client(&publishing().hex("A1 0000 10 AB CD"));
        node.run(&mut [&mut drone], 100);
        assert!(drone.ended);
    });
    let sentence = "chunk stream 33 starts with a header of format 2; next came A1 00 00 10 AB CD";
    assert!(log.contains(sentence), "{log}");
}
