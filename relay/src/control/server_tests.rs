//! The bounds on operators' connections, over real sockets.

#![allow(clippy::unwrap_used)]

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

fn bounds() -> Bounds {
    Bounds::of(&Limits::default())
}

/// Serves one short page under these bounds while `act` runs.
fn with_server<F: Future<Output = ()>>(bounds: Bounds, act: impl FnOnce(SocketAddr) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let hang = get(async || std::future::pending::<()>().await);
        let router = Router::new().route("/", get(page)).route("/hang", hang);
        tokio::spawn(serve(listener, router, bounds, Arc::default()));
        timeout(LONG, act(address)).await.unwrap();
    });
}

async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
}

/// Reads one answer and gives its body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 1024];
    loop {
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "ended after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                return body.to_owned();
            }
        }
    }
}

/// Waits until the server ends the connection, and gives what it sent before.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[test]
fn a_handler_knows_its_peer_and_a_connection_may_be_used_again() {
    with_server(bounds(), async |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let peer = stream.local_addr().unwrap().to_string();
        for _ in 0..3 {
            ask(&mut stream).await;
            assert_eq!(answer(&mut stream).await, peer);
        }
    });
}

#[test]
fn past_the_bound_the_longest_idle_connection_makes_room() {
    with_server(Bounds { connections: 3, ..bounds() }, async |address| {
        // One that never says a word, one that was answered, one whose request is in hand.
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut answered = TcpStream::connect(address).await.unwrap();
        ask(&mut answered).await;
        answer(&mut answered).await;
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        sleep(SHORT).await;
        let mut held = Vec::new();
        for idle in [&mut silent, &mut answered] {
            let mut next = TcpStream::connect(address).await.unwrap();
            assert_eq!(rest(idle).await, b"", "it gave way");
            next.write_all(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            sleep(SHORT).await;
            held.push(next);
        }
        // Every place is in use by a request.
        let mut late = TcpStream::connect(address).await.unwrap();
        let _ = late.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(rest(&mut late).await, b"");
        drop(busy);
        // The server hears of the end a moment later.
        for _ in 0..100 {
            sleep(Duration::from_millis(10)).await;
            let mut again = TcpStream::connect(address).await.unwrap();
            let _ = again.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
            if !rest(&mut again).await.is_empty() {
                return;
            }
        }
        panic!("no place came back");
    });
}

#[test]
fn idle_connections_keep_no_probe_out() {
    with_server(bounds(), async |address| {
        let mut idle = Vec::new();
        for _ in 0..300 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        for _ in 0..3 {
            let mut probe = TcpStream::connect(address).await.unwrap();
            ask(&mut probe).await;
            answer(&mut probe).await;
        }
    });
}

#[test]
fn a_header_that_does_not_come_or_does_not_end_costs_the_connection() {
    with_server(Bounds { header: SHORT, ..bounds() }, async |address| {
        let mut silent = TcpStream::connect(address).await.unwrap();
        rest(&mut silent).await;
        let mut trickling = TcpStream::connect(address).await.unwrap();
        let begun = std::time::Instant::now();
        let mut written = 0;
        while trickling
            .write_all(if written == 0 { b"GET / HTTP/1.1\r\nX: " } else { b"x" })
            .await
            .is_ok()
        {
            written += 1;
            sleep(Duration::from_millis(10)).await;
            assert!(begun.elapsed() < Duration::from_secs(20), "trickled for ever");
        }
        let mut idle = TcpStream::connect(address).await.unwrap();
        ask(&mut idle).await;
        answer(&mut idle).await;
        assert_eq!(rest(&mut idle).await, b"");
    });
}

#[test]
fn a_header_that_is_too_long_is_refused() {
    with_server(bounds(), async |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let header = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(2 * bounds().header_bytes));
        let _ = stream.write_all(header.as_bytes()).await;
        let answer = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    });
}

#[test]
fn an_old_connection_is_ended() {
    with_server(Bounds { age: SHORT, linger: SHORT, ..bounds() }, async |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream).await;
        answer(&mut stream).await;
        assert_eq!(rest(&mut stream).await, b"");
    });
}
