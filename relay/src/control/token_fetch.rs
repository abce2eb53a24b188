//! Fetching a set of keys: one GET, with TLS where the URL says so, and an answer of bounded
//! length. The caller bounds the time. Redirects are not followed: what tokens are checked by comes
//! from where the operator said, and from nowhere else.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::trust;
use crate::worker::hook_settings::HookUrl;

/// The setting that names the file with the certificates of those who are trusted.
pub(super) const CA_FILE: &str = "access.token_keys_ca_file";

/// The body that a URL answers with, at most `bytes_max` long, or why there is none. The words are
/// for the log and hold nothing of the URL.
pub(super) async fn fetch(
    url: &str,
    bytes_max: usize,
    ca_file: Option<&Path>,
) -> Result<Vec<u8>, String> {
    let url = HookUrl::parse(url).ok_or("it is no URL")?;
    let stream = TcpStream::connect((&*url.host, url.port));
    let stream = stream.await.map_err(|error| format!("no connection: {error}"))?;
    if !url.tls {
        return get(stream, &url, bytes_max).await;
    }
    let name = ServerName::try_from(url.host.to_string()).map_err(|_| "no name for TLS")?;
    let stream = TlsConnector::from(trust::by(CA_FILE, ca_file)?).connect(name, stream).await;
    get(stream.map_err(|error| format!("no TLS: {}", trust::why(&error)))?, &url, bytes_max).await
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
