//! Keys of tokens that are fetched by URL.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{END_MAX, unix};
use crate::support::backend::{Answer, Backend, Received};
use crate::support::client::Client;
use crate::support::relay::{Options, Relay};
use crate::support::secure::Pair;
use crate::support::{Scratch, wait_for};

/// An answer with the keys of `src/access/test_keys`.
fn jwks() -> Answer {
    let keys = include_str!("../../../src/access/test_keys/jwks.json");
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n", keys.len());
    Answer::Raw(format!("{head}\r\n{keys}").leak())
}

/// A relay whose publishers have to show a token that keys from a URL prove.
fn start(dir: &Path, keys: &str, more: &str) -> Relay {
    let configuration = format!(
        "[limits]\ntoken_keys_wait_max = \"2s\"\n[log]\nlevel = \"debug\"\n\
         [apps.live]\npublish = [\"jwt RS256 {keys}\"]\n{more}"
    );
    Relay::start(dir, &Options { configuration: &configuration, ..Options::default() })
}

/// Publishes with a token that names the key of this id.
fn publish(relay: &Relay, id: &str) -> Result<Client, String> {
    let claims = serde_json::json!({"exp": unix() + 600, "publish": "live/cam1"});
    let header = jsonwebtoken::Header {
        kid: Some(id.to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256)
    };
    let key = include_bytes!("../../../src/access/test_keys/rsa.pem");
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(key).unwrap();
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("live").unwrap();
    client.publish(&format!("cam1?token={token}")).map(|()| client)
}

#[test]
fn tokens_are_checked_by_keys_that_are_fetched() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let keys = Backend::start(move |request: &Received| {
        assert_eq!((&*request.line, &*request.fields), ("GET /keys", "name=secret-of-the-url"));
        if is_up.load(Ordering::Relaxed) { jwks() } else { Answer::Reset }
    });
    let scratch = Scratch::new("access-fetched");
    let relay = start(scratch.path(), &keys.url("/keys?name=secret-of-the-url"), "");
    let refused = |reason: &str| {
        relay.metrics().sum("relay_refused_total", &[("reason", reason)]).unwrap_or(0.0)
    };
    assert!(publish(&relay, "rsa-1").is_err(), "there are no keys");
    assert_eq!(refused("unavailable"), 1.0);
    up.store(true, Ordering::Relaxed);
    // Keys that could not be had are not asked for again at once, for whomever.
    let publisher = wait_for("the keys to be fetched", Duration::from_secs(90), || {
        let publisher = publish(&relay, "rsa-1").ok();
        thread::sleep(Duration::from_millis(500));
        publisher
    });
    up.store(false, Ordering::Relaxed);
    assert!(publish(&relay, "rsa-2").is_err(), "there is no such key");
    assert_eq!(refused("token"), 1.0);
    drop(publisher);
    drop(publish(&relay, "rsa-1").unwrap());
    let log = relay.log_at_end(END_MAX);
    assert!(log.contains("keys of tokens fetched"), "{log}");
    assert!(!log.contains("secret-of-the-url"), "{log}");
}

#[test]
fn keys_are_fetched_by_https_from_who_is_trusted() {
    let scratch = Scratch::new("access-https");
    let dir = scratch.path();
    let pairs = ["own", "other"].map(|file| Pair::make(dir, file, &["localhost"]));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_file(&pairs[0].certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&pairs[0].key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let keys = Backend::start_over(
        |_| jwks(),
        move |stream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(rustls::StreamOwned::new(session, stream))
        },
    );
    let url = format!("https://localhost:{}/keys", keys.address.port());
    for (pair, trusted) in pairs.iter().zip([true, false]) {
        let file = pair.certificate.display();
        let more = format!("[access]\ntoken_keys_ca_file = \"{file}\"\n");
        let relay = start(dir, &url, &more);
        assert_eq!(publish(&relay, "rsa-1").is_ok(), trusted);
    }
}
