//! Connections of operators: bounded in number, in the size and time of their requests, and in age.
//!
//! Past the bound a connection is closed at once, without an answer. What is open is never waited
//! for when the node ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// What operators may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time.
    pub(super) connections: usize,
    /// From the end of an answer (or the start) to the end of the next request's header.
    pub(super) header: Duration,
    /// The age at which a connection is asked to end after its present answer.
    pub(super) age: Duration,
    /// How long it then has.
    pub(super) linger: Duration,
}

/// The bounds of every node.
pub(super) const BOUNDS: Bounds = Bounds {
    connections: 128,
    header: Duration::from_secs(20),
    age: Duration::from_secs(120),
    linger: Duration::from_secs(20),
};

/// Bytes of one request's header, and of a connection's read buffer.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Pause after a failed accept, when most likely no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, router: Router, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let router = router.clone();
                tokio::spawn(async move {
                    connection(stream, peer, router, bounds).await;
                    drop(place);
                });
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "no connection of an operator can be accepted");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends with the connection, whatever the reason: an operator's fault is not worth a log line.
async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, bounds: Bounds) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    if timeout(bounds.age, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(bounds.linger, connection).await;
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
