//! Fetching a set of keys: one GET, with TLS where the URL says so, and an answer of bounded
//! length. The caller bounds the time. Redirects are not followed: what tokens are checked by comes
//! from where the operator said, and from nowhere else.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::worker::hook_settings::HookUrl;

/// The body that a URL answers with, at most `bytes_max` long, or why there is none. The words are
/// for the log and hold nothing of the URL.
pub(super) async fn fetch(url: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let url = HookUrl::parse(url).ok_or("it is no URL")?;
    let stream = TcpStream::connect((&*url.host, url.port));
    let stream = stream.await.map_err(|error| format!("no connection: {error}"))?;
    if !url.tls {
        return get(stream, &url, bytes_max).await;
    }
    let name = ServerName::try_from(url.host.to_string()).map_err(|_| "no name for TLS")?;
    let stream = TlsConnector::from(trust()?).connect(name, stream).await;
    get(stream.map_err(|error| format!("no TLS: {error}"))?, &url, bytes_max).await
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &HookUrl,
    bytes_max: usize,
) -> Result<Vec<u8>, String> {
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with its sender, or with the connection.
    tokio::spawn(connection);
    let request = Request::get(&url.target)
        .header(header::HOST, url.server())
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    if response.status() != hyper::StatusCode::OK {
        return Err(format!("the answer has status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    let body = body.map_err(|error| format!("no whole answer: {error}"))?;
    Ok(body.to_bytes().to_vec())
}

/// Whom the system trusts.
fn trust() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
