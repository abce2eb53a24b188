//! Servers and clients of this room against each other, in memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use super::*;

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Writes a certificate that trusts itself for these names, and its key.
fn pair(dir: &Path, file: &str, names: &[&str]) -> CertificateFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    written(dir, file, CertificateParams::new(names).unwrap())
}

fn written(dir: &Path, file: &str, params: CertificateParams) -> CertificateFiles {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let files = CertificateFiles {
        certificate: dir.join(format!("{file}.crt")),
        key: dir.join(format!("{file}.key")),
    };
    fs::write(&files.certificate, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

fn server(files: &[CertificateFiles], tickets: usize) -> (ServerTls, Watch) {
    ServerTls::load(files.to_vec(), tickets, 16, now()).unwrap()
}

fn trusting(files: &CertificateFiles) -> Trust {
    Trust::Authorities(files.certificate.clone())
}

/// Two ends, and what passed between them.
struct Ends {
    server: Layer,
    client: Layer,
    /// Plaintext that arrived at the server, at the client.
    arrived: [Vec<u8>; 2],
}

impl Ends {
    fn new(server: &ServerTls, client: &ClientTls, name: &str) -> Self {
        let (server, client) = (server.accept().unwrap(), client.connect(name).unwrap());
        Self { server, client, arrived: [Vec::new(), Vec::new()] }
    }

    /// Passes what waits on both sides, in pieces of at most `piece` bytes, until nothing does.
    fn pass(&mut self, piece: usize) -> Result<(), TlsError> {
        loop {
            let (up, down) = (self.client.take_output(), self.server.take_output());
            if up.is_none() && down.is_none() {
                return Ok(());
            }
            let [at_server, at_client] = &mut self.arrived;
            for bytes in up.iter().flat_map(|bytes| bytes.chunks(piece)) {
                self.server.receive(bytes, at_server)?;
            }
            for bytes in down.iter().flat_map(|bytes| bytes.chunks(piece)) {
                self.client.receive(bytes, at_client)?;
            }
        }
    }
}

#[test]
fn what_is_sealed_arrives_at_every_split_and_both_versions() {
    let dir = TempDir::new().unwrap();
    let files = pair(dir.path(), "a", &["localhost"]);
    let (server, _) = server(std::slice::from_ref(&files), 0);
    let buffers = SealBuffers::default();
    let trust = trusting(&files);
    for client in [ClientTls::new(&trust).unwrap(), ClientTls::of_tls12(&trust).unwrap()] {
        for piece in [1, 2, 3, 5, 100, 4_096, 100_000] {
            let mut ends = Ends::new(&server, &client, "localhost");
            ends.pass(piece).unwrap();
            assert!(ends.server.established().is_some() && ends.client.established().is_some());
            let long = Bytes::from((0..70_000u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
            let short: Vec<_> = (0..20).map(|n| long.slice(n * 7..n * 9)).collect();
            for slices in [&[long.clone()][..], &short, &[], &[long.clone(), long.slice(..9)]] {
                let sealed = ends.server.seal(slices, &buffers).unwrap();
                ends.arrived[1].clear();
                for bytes in sealed.chunks(piece) {
                    let [_, at_client] = &mut ends.arrived;
                    ends.client.receive(bytes, at_client).unwrap();
                }
                assert_eq!(ends.arrived[1], slices.concat(), "pieces of {piece}");
                let back = ends.client.seal(slices, &buffers).unwrap();
                ends.arrived[0].clear();
                for bytes in back.chunks(piece) {
                    let [at_server, _] = &mut ends.arrived;
                    ends.server.receive(bytes, at_server).unwrap();
                }
                assert_eq!(ends.arrived[0], slices.concat(), "pieces of {piece}");
            }
            ends.server.close();
            ends.server.close();
            ends.pass(piece).unwrap();
            assert!(ends.client.peer_closed() && !ends.server.peer_closed());
        }
    }
}

#[test]
fn sessions_go_on_as_the_version_and_the_tickets_allow() {
    let dir = TempDir::new().unwrap();
    let files = pair(dir.path(), "a", &["localhost"]);
    let trust = trusting(&files);
    let check = |client: ClientTls, tickets: usize, expected: [(bool, bool); 2]| {
        let (server, _) = server(std::slice::from_ref(&files), tickets);
        for (is_tls13, resumed) in expected {
            let mut ends = Ends::new(&server, &client, "localhost");
            ends.pass(10_000).unwrap();
            assert_eq!(ends.server.established(), Some(Established { is_tls13, resumed }));
        }
    };
    check(ClientTls::new(&trust).unwrap(), 0, [(true, false), (true, false)]);
    check(ClientTls::new(&trust).unwrap(), 2, [(true, false), (true, true)]);
    check(ClientTls::of_tls12(&trust).unwrap(), 0, [(false, false), (false, true)]);
    let never = ClientTls::of_tls12(&trust).unwrap().without_resumption();
    check(never, 0, [(false, false), (false, false)]);
}

#[test]
fn both_ends_of_one_connection_are_bound_by_what_nobody_else_has() {
    let dir = TempDir::new().unwrap();
    let files = pair(dir.path(), "a", &["localhost"]);
    let (server, _) = server(std::slice::from_ref(&files), 0);
    let client = ClientTls::of_tls13(&trusting(&files)).unwrap();
    let bound = |client: &ClientTls| {
        let (server, client) = (server.accept_bound(), client.connect_bound("localhost"));
        let arrived = [Vec::new(), Vec::new()];
        let mut ends = Ends { server: server.unwrap(), client: client.unwrap(), arrived };
        assert_eq!((ends.server.binding(), ends.client.binding()), (None, None));
        ends.pass(700).unwrap();
        (ends.server.binding(), ends.client.binding())
    };
    let (one, other) = (bound(&client), bound(&client));
    assert!(one.0.is_some() && one.0 == one.1, "{one:?}");
    assert!(other.0.is_some() && other.0 == other.1 && other != one, "{one:?} {other:?}");
    let old = ClientTls::of_tls12(&trusting(&files)).unwrap();
    assert_eq!(bound(&old), (None, None), "there is none with TLS 1.2");
    let mut unbound = Ends::new(&server, &client, "localhost");
    unbound.pass(700).unwrap();
    assert_eq!(unbound.server.binding(), None, "nor where nobody asked for it");
}

/// What we export ourselves is what rustls exports where it does (RFC 9266).
#[test]
fn the_binding_is_the_one_that_others_find() {
    let dir = TempDir::new().unwrap();
    let files = pair(dir.path(), "a", &["localhost"]);
    let (server, _) = server(std::slice::from_ref(&files), 0);
    for name in ["TLS13_AES_128_GCM_SHA256", "TLS13_AES_256_GCM_SHA384"] {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()) == name);
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
        roots.add(certificate).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = "localhost".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), host).unwrap();
        let mut server = server.accept_bound().unwrap();
        while client.is_handshaking() || client.wants_write() {
            let mut up = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut up).unwrap();
            }
            server.receive(&up, &mut Vec::new()).unwrap();
            let down = server.take_output().unwrap_or_default();
            client.read_tls(&mut &down[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        let label = b"EXPORTER-Channel-Binding";
        let found = client.export_keying_material([0; 32], label, Some(&[])).unwrap();
        assert_eq!(server.binding(), Some(found), "{name}");
    }
}

#[test]
fn a_certificate_is_chosen_by_name_and_the_first_is_for_the_rest() {
    let dir = TempDir::new().unwrap();
    let first = pair(dir.path(), "first", &["one.test", "127.0.0.1"]);
    let second = pair(dir.path(), "second", &["two.test", "*.three.test"]);
    let (server, _) = server(&[first.clone(), second.clone()], 0);
    let check = |name: &str, trusted: &CertificateFiles, fits: bool| {
        let client = ClientTls::new(&trusting(trusted)).unwrap();
        let result = Ends::new(&server, &client, name).pass(10_000);
        assert_eq!(result.is_ok(), fits, "{name}: {result:?}");
    };
    check("one.test", &first, true);
    check("One.Test", &first, true);
    check("one.test", &second, false);
    check("two.test", &second, true);
    check("a.three.test", &second, true);
    check("127.0.0.1", &first, true);
    check("three.test", &second, false);
    check("other.test", &first, false);
}

#[test]
fn a_client_takes_nobody_whom_it_does_not_trust_and_says_so() {
    let dir = TempDir::new().unwrap();
    let files = pair(dir.path(), "a", &["localhost"]);
    let other = pair(dir.path(), "b", &["localhost"]);
    let (server, _) = server(&[files], 0);
    let client = ClientTls::new(&trusting(&other)).unwrap();
    let mut ends = Ends::new(&server, &client, "localhost");
    let error = ends.pass(10_000).unwrap_err();
    assert_eq!(error.reason(), "certificate", "{error}");
    let alert = ends.pass(10_000).unwrap_err();
    assert_eq!(alert.reason(), "alert", "{alert}");
    assert!(client.connect("no host").is_err());
}

#[test]
fn what_is_no_tls_is_answered_with_an_alert_and_nothing_follows() {
    let dir = TempDir::new().unwrap();
    let (server, _) = server(&[pair(dir.path(), "a", &["localhost"])], 0);
    for bytes in
        [&b"\x16\x03\x01\x00\x04\xFF\0\0\0"[..], b"\x16\x03\x01\xFF\xFF", b"GET / HTTP/1.1\r\n"]
    {
        let mut layer = server.accept().unwrap();
        let mut plain = Vec::new();
        let error = layer.receive(bytes, &mut plain).unwrap_err();
        assert_eq!(error.reason(), "malformed", "{error}");
        assert_eq!(layer.take_output().map(|alert| alert[0]), Some(0x15), "{bytes:?}");
        assert_eq!(layer.receive(bytes, &mut plain), Ok(()), "what follows is not looked at");
        assert!(layer.seal(&[Bytes::from_static(b"x")], &SealBuffers::default()).is_err());
        assert!(plain.is_empty());
    }
    // A part of a message is kept, and then found to be none: in one piece and in two.
    let bytes = b"\x16\x03\x01\x00\x08\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
    for cut in [bytes.len(), 6, 10] {
        let mut layer = server.accept().unwrap();
        let mut plain = Vec::new();
        let first = layer.receive(&bytes[..cut], &mut plain);
        let error = first.and_then(|()| layer.receive(&bytes[cut..], &mut plain)).unwrap_err();
        assert_eq!(error.reason(), "malformed", "{error}");
    }
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_complete() {
    let dir = TempDir::new().unwrap();
    let (server, _) = server(&[pair(dir.path(), "a", &["localhost"])], 0);
    let mut layer = server.accept().unwrap();
    assert!(layer.seal(&[Bytes::from_static(b"x")], &SealBuffers::default()).is_err());
    layer.close();
    assert!(!layer.has_output());
}

#[test]
fn pairs_that_no_client_would_take_are_refused_by_file_and_reason() {
    let dir = TempDir::new().unwrap();
    let good = pair(dir.path(), "good", &["localhost"]);
    let other = pair(dir.path(), "other", &["localhost"]);
    let check = |files: &CertificateFiles, file: &Path, reason: &str| {
        let error = ServerTls::load(vec![good.clone(), files.clone()], 0, 1, now()).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.file, file, "{text}");
        assert!(text.contains(reason), "{text:?} says {reason:?}");
    };
    let at = |days: u64| {
        let time = UNIX_EPOCH + now() - Duration::from_secs(100 * 86_400);
        rcgen::date_time_ymd(1970, 1, 1)
            + (time + Duration::from_secs(days * 86_400)).duration_since(UNIX_EPOCH).unwrap()
    };
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (at(0), at(90));
    let expired = written(dir.path(), "expired", params.clone());
    check(&expired, &expired.certificate, "has expired, on ");
    (params.not_before, params.not_after) = (at(110), at(120));
    let early = written(dir.path(), "early", params);
    check(&early, &early.certificate, "is not valid yet, but from ");
    let nameless = pair(dir.path(), "nameless", &[]);
    check(&nameless, &nameless.certificate, "names no host");
    let mixed = CertificateFiles { key: other.key.clone(), ..good.clone() };
    check(&mixed, &other.key, "is not the key of the certificate in ");
    let swapped = CertificateFiles { certificate: good.key.clone(), key: good.certificate.clone() };
    check(&swapped, &good.key, "holds no certificate");
    let keyless = CertificateFiles { key: good.certificate.clone(), ..good.clone() };
    check(&keyless, &good.certificate, "holds no private key");
    let missing = CertificateFiles { key: dir.path().join("none"), ..good.clone() };
    check(&missing, &missing.key, "cannot be read");
    let long = dir.path().join("long");
    fs::write(&long, vec![b'x'; (1 << 20) + 1]).unwrap();
    check(&CertificateFiles { key: long.clone(), ..good.clone() }, &long, "is longer than");
}

#[test]
fn a_reload_uses_new_files_at_once_and_is_not_repeated() {
    let dir = TempDir::new().unwrap();
    let files = pair(dir.path(), "a", &["one.test"]);
    let (server, mut watch) = server(std::slice::from_ref(&files), 0);
    let name = || server.facts().first().map(|facts| facts.name.clone()).unwrap();
    assert!(server.read(now()).unwrap().is_none(), "nothing is new");
    // Those in use may expire meanwhile.
    let late = now() + Duration::from_secs(100 * 366 * 24 * 3_600);
    assert!(server.read(late).unwrap().is_none());
    pair(dir.path(), "a", &["two.test"]);
    let read = server.read(now()).unwrap().expect("they are others");
    assert_eq!(name(), "one.test", "it is only read");
    server.use_read(read);
    assert_eq!(name(), "two.test");
    let mut look = || server.look(&mut watch, now());
    assert_eq!((look(), look()), (None, None), "who watches has nothing to tell");
    fs::write(&files.key, "no key").unwrap();
    assert_eq!(server.read(now()).unwrap_err().file, files.key);
    assert_eq!(name(), "two.test");
    assert_eq!(look(), None);
    assert!(matches!(look(), Some(Reloaded::Refused(_))));
}

#[test]
fn new_files_are_used_once_they_were_seen_twice_and_bad_ones_never() {
    let dir = TempDir::new().unwrap();
    let files = pair(dir.path(), "a", &["one.test"]);
    let (server, mut watch) = server(std::slice::from_ref(&files), 0);
    let mut look = || server.look(&mut watch, now());
    let name = || server.facts().first().map(|facts| facts.name.clone()).unwrap();
    assert_eq!(look(), None);
    let old = fs::read(&files.key).unwrap();
    pair(dir.path(), "a", &["two.test"]);
    assert_eq!(look(), None);
    assert_eq!(look(), Some(Reloaded::Yes));
    assert_eq!((look(), name().as_str()), (None, "two.test"));
    // Half of a pair.
    let new = fs::read(&files.key).unwrap();
    fs::write(&files.key, &old).unwrap();
    assert_eq!(look(), None);
    assert!(matches!(look(), Some(Reloaded::Refused(error)) if error.file == files.key));
    assert_eq!((look(), name().as_str()), (None, "two.test"), "it is told once");
    fs::remove_file(&files.key).unwrap();
    assert_eq!(look(), None);
    assert!(matches!(look(), Some(Reloaded::Refused(_))));
    fs::write(&files.key, new).unwrap();
    assert_eq!((look(), look()), (None, Some(Reloaded::Yes)));
    // A change that is undone at once is none.
    fs::write(&files.key, &old).unwrap();
    assert_eq!(look(), None);
    let facts = server.facts();
    assert!(facts[0].expires > now());
}

#[test]
fn a_certificate_that_is_not_accepted_is_refused_in_a_sentence() {
    let dir = TempDir::new().unwrap();
    let check = |params: CertificateParams, trusted: bool, name: &str, expected: &str| {
        let files = written(dir.path(), "judged", params);
        let (server, _) = server(std::slice::from_ref(&files), 0);
        let mut other = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        other.distinguished_name.push(rcgen::DnType::CommonName, "other");
        let other = written(dir.path(), "other", other);
        let client = ClientTls::new(&trusting(if trusted { &files } else { &other })).unwrap();
        let mut ends = Ends::new(&server, &client, name);
        let error = ends.pass(usize::MAX).unwrap_err();
        let expected = format!("the peer's certificate is not acceptable: {expected}");
        assert_eq!(error.to_string(), expected);
        // The other side is told by an alert.
        let alert = ends.client.take_output().unwrap();
        let error = ends.server.receive(&alert, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("the peer ended TLS with an alert: "), "{error}");
        assert!(!error.contains("received fatal"), "{error}");
    };
    let params = || CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let mut authority = params();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let why = "it is that of an authority (basicConstraints CA:TRUE), not of a server";
    check(authority, true, "localhost", why);
    check(params(), false, "localhost", "it is issued by nobody who is trusted here");
    check(params(), true, "a.test", "it is not for a.test; its names: localhost");
}
