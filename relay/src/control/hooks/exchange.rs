//! One call over HTTP: connect, with TLS where the URL says so, send, read an answer of bounded
//! length. The caller bounds the time.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::names::Names;
use super::reply::Reply;
use crate::control::trust;
use crate::limits::Limits;
use crate::worker::hook_settings::HookUrl;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// None in time.
    Timeout,
    /// No connection, no trust, or it broke before the answer.
    Unreachable,
    /// What came is no HTTP, or too much of it.
    Garbage,
}

/// Why a call came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// How it is counted.
    pub(super) failure: Failure,
    /// The cause, for the log: nothing of what was asked, and nothing that the server wrote.
    pub(super) why: String,
}

impl Failed {
    pub(super) fn new(failure: Failure, why: impl Into<String>) -> Self {
        Self { failure, why: why.into() }
    }

    fn unreachable(error: &io::Error) -> Self {
        Self::new(Failure::Unreachable, error.to_string())
    }
}

/// Who makes calls.
pub(super) struct Client {
    names: Names,
    /// Connections that may be used again, the last used last.
    idle: Mutex<HashMap<Target, Vec<SendRequest<Full<Bytes>>>>>,
    idle_max: usize,
    reply_bytes_max: usize,
}

/// A server that connections can be used again for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    tls: bool,
    host: Arc<str>,
    port: u16,
    ca_file: Option<PathBuf>,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) url: &'a HookUrl,
    pub(super) request: Request<Full<Bytes>>,
    /// How https servers are trusted.
    pub(super) trust: Option<(Option<PathBuf>, Arc<rustls::ClientConfig>)>,
    /// Whether the connection may be one that was used before, and be used again.
    pub(super) reuse: bool,
}

impl Client {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            names: Names::default(),
            idle: Mutex::default(),
            idle_max: limits.hook_idle_connections_max,
            reply_bytes_max: limits.hook_reply_bytes_max,
        }
    }

    /// Makes a call.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Reply, Failed> {
        let target = Target {
            tls: call.url.tls,
            host: Arc::clone(&call.url.host),
            port: call.url.port,
            ca_file: call.trust.as_ref().and_then(|(file, _)| file.clone()),
        };
        let mut request = call.request;
        while let Some(mut sender) = self.take_idle(&target).filter(|_| call.reuse) {
            // A server may close what is idle at any time: what was never sent is sent anew.
            match sender.try_send_request(request).await {
                Ok(response) => return self.finish(target, sender, response, true).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failure(&error.into_error())),
                },
            }
        }
        let mut sender = self.connect(call.url, call.trust.map(|(_, trust)| trust)).await?;
        let response = sender.send_request(request).await.map_err(|error| failure(&error))?;
        self.finish(target, sender, response, call.reuse).await
    }

    async fn connect(
        &self,
        url: &HookUrl,
        trust: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<SendRequest<Full<Bytes>>, Failed> {
        let unreachable = |error: io::Error| Failed::unreachable(&error);
        let addresses = self.names.resolve(&url.host, url.port).await.map_err(unreachable)?;
        let stream = connect_any(&addresses).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        if !url.tls {
            return self.begin(stream).await;
        }
        let untrusted = |why: String| Failed::new(Failure::Unreachable, format!("no TLS: {why}"));
        let trust = trust.ok_or_else(|| untrusted("there is nobody to trust".to_owned()))?;
        let name = ServerName::try_from(url.host.to_string())
            .map_err(|error| untrusted(error.to_string()))?;
        let stream = TlsConnector::from(trust).connect(name, stream).await;
        self.begin(stream.map_err(|error| untrusted(trust::why(&error)))?).await
    }

    async fn begin(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, Failed> {
        let (sender, connection) = Builder::new()
            .title_case_headers(true)
            .max_buf_size(self.reply_bytes_max)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failure(&error))?;
        // Ends with its sender, or with the connection.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn finish(
        &self,
        target: Target,
        sender: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
        reuse: bool,
    ) -> Result<Reply, Failed> {
        let location = response.headers().get(header::LOCATION);
        let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let status = response.status().as_u16();
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| failure(&error))?;
            if let Some(data) = frame.data_ref() {
                if body.len() + data.len() > self.reply_bytes_max {
                    let why = format!("the answer is longer than {} bytes", self.reply_bytes_max);
                    return Err(Failed::new(Failure::Garbage, why));
                }
                body.extend_from_slice(data);
            }
        }
        if reuse {
            self.keep_idle(target, sender).await;
        }
        Ok(Reply { status, location, body })
    }

    fn take_idle(&self, target: &Target) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        let senders = idle.get_mut(target)?;
        while let Some(sender) = senders.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    async fn keep_idle(&self, target: Target, mut sender: SendRequest<Full<Bytes>>) {
        // The connection's own task sees the end of the answer a moment later, or its close.
        if sender.ready().await.is_err() {
            return;
        }
        let mut idle = self.idle.lock();
        let senders = idle.entry(target).or_default();
        senders.retain(|sender| !sender.is_closed());
        if senders.len() < self.idle_max {
            senders.push(sender);
        }
    }
}

/// The first address that takes the connection.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Says nothing of what came, as the texts of hyper's errors do not either.
fn failure(error: &hyper::Error) -> Failed {
    let is_garbage = error.is_parse() || error.is_parse_too_large();
    let failure = if is_garbage { Failure::Garbage } else { Failure::Unreachable };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Failed::new(failure, format!("{error}{}", cause.unwrap_or_default()))
}
