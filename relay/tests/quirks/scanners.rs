//! Health checkers and scanners: they open a connection, say nothing or something else, and go.
//! They are counted and cause no line above the level of information.

use std::io::Write;
use std::sync::{Arc, Mutex};

use relay::worker::labels::{CloseReason, HandshakeResult, Label, Transport};

use crate::support::node::Node;

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
fn logged(level: tracing::Level, visit: impl FnOnce()) -> String {
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
    let requests: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b"SSH-2.0-x\r\n", b"\x06", b"\0"];
    let log = logged(tracing::Level::WARN, || {
        for request in requests {
            let mut client = node.connect();
            client.send(request);
            node.run(&mut [&mut client], 50);
            assert!(client.ended, "{request:?}");
        }
    });
    assert_eq!(log, "");
    assert_eq!(handshakes(&node, HandshakeResult::BadVersion), 5);
    assert_eq!(closed(&node, CloseReason::Protocol), 5);
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
