//! Connections of operators: bounded in number, in the size and time of their requests, and in age.
//!
//! Past the bound the longest idle connection makes room (`places.rs`); when none is idle the new
//! one is closed at once, without an answer. Both are counted. What is open is never waited for
//! when the node ends.

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
use tokio::time::{sleep, timeout};

use super::places::{Entered, Place, Places};
use super::state::Count;
use crate::limits::Limits;

/// What operators may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time.
    pub(super) connections: usize,
    /// From the end of an answer (or the start) to the end of the next request's header.
    pub(super) header: Duration,
    /// Bytes of one request's header, and of a connection's read buffer.
    pub(super) header_bytes: usize,
    /// The age at which a connection is asked to end after its present answer.
    pub(super) age: Duration,
    /// How long it then has.
    pub(super) linger: Duration,
}

/// Fixed: an age at which scrapers that stay have long paid for their connection.
const AGE: Duration = Duration::from_secs(120);

/// Fixed: longer than any answer takes that somebody still reads.
const LINGER: Duration = Duration::from_secs(20);

/// Least that the HTTP library takes for a read buffer.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

impl Bounds {
    /// Those that are limits, and those that are fixed.
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            connections: limits.http_connections_max,
            header: limits.http_header_timeout,
            header_bytes: limits.http_header_bytes_max.max(BUFFER_BYTES_MIN),
            age: AGE,
            linger: LINGER,
        }
    }
}

/// Pause after a failed accept, when most likely no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves for ever.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    refused: Arc<Count>,
) {
    let places = Places::new(bounds.connections);
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                let (place, ended) = match places.enter() {
                    Entered::Free(place, ended) => (place, ended),
                    Entered::Instead(place, ended) => {
                        refused.increment();
                        (place, ended)
                    }
                    Entered::Full => {
                        refused.increment();
                        continue;
                    }
                };
                let router = router.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, peer, router, Arc::new(place), bounds) => {}
                        // Somebody else has its place.
                        _ = ended => {}
                    }
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
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    place: Arc<Place>,
    bounds: Bounds,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let place = Arc::clone(&place);
        place.begin();
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            place.end();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_buf_size(bounds.header_bytes)
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
