//! Nodes that speak TLS to each other: with certificates of one authority, with those of another,
//! and with a node that speaks none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{SECRET, link, node, node_with, refused, wait_for_nodes};
use crate::support::clip::{Clip, LENGTH};
use crate::support::packets::Recording;
use crate::support::relay::Relay;
use crate::support::scene::END_MAX;
use crate::support::secure::Pair;
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

/// What all nodes are called in their certificates.
const NAME: &str = "nodes.relay.example";

/// An authority, in a file of its name.
struct Authority {
    file: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(scratch: &Scratch, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = scratch.file(&format!("{name}.ca"));
        std::fs::write(&file, certificate.pem()).unwrap();
        Self { file: file.display().to_string(), issuer: Issuer::new(params, key) }
    }

    /// Lines of `[cluster]` for a node with a certificate of this authority, which trusts `other`.
    fn lines(&self, scratch: &Scratch, name: &str, trusted: &Self) -> String {
        let key = KeyPair::generate().unwrap();
        let names = [NAME.to_owned(), format!("{name}.relay.example")];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer);
        let files = [scratch.file(&format!("{name}.crt")), scratch.file(&format!("{name}.key"))];
        std::fs::write(&files[0], certificate.unwrap().pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        let [certificate, key] = files;
        format!(
            "tls_certificate_file = {certificate:?}\ntls_key_file = {key:?}\ntls_ca_file = {:?}",
            trusted.file
        )
    }
}

/// How often the log says something.
fn said(relay: &Relay, sentence: &str) -> usize {
    relay.log().matches(sentence).count()
}

fn wait_for_refusal(relay: &Relay) {
    wait_for("TLS to be refused", START, || (refused(relay, "tls") >= 1.0).then_some(()));
}

#[test]
fn nodes_talk_and_feed_each_other_in_tls() {
    let scratch = Scratch::new("cluster-tls");
    let authority = Authority::new(&scratch, "own");
    let start = |name: &str, peers: &[SocketAddr], arguments: &[&str]| {
        let lines = authority.lines(&scratch, name, &authority);
        node_with(&scratch, name, peers, SECRET, &lines, arguments)
    };
    let a = start("a", &[], &[]);
    let b = start("b", &[link(&a)], &["--reactor", "mio"]);
    wait_for_nodes(&a, 1);
    wait_for_nodes(&b, 1);
    let dir = scratch.path();
    let file = scratch.file("player.flv");
    let mut player = ffmpeg::record(dir, "player", &b.url("clip"), &file);
    b.wait_for_role("player", 1);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &a.url("clip"));
    thread::sleep(LENGTH / 2);
    for relay in [&a, &b] {
        let links = http::get(relay.http, "/api/v1/links").unwrap().body;
        assert!(links.contains("\"tls\":true") && !links.contains("\"tls\":false"), "{links}");
    }
    let expires = "relay_tls_certificate_expiry_timestamp_seconds";
    let expires = a.metrics().sum(expires, &[("certificate", "cluster"), ("name", NAME)]);
    assert!(expires > Some(1.7e9), "{expires:?}");
    publisher.succeed(LENGTH + END_MAX);
    player.succeed(END_MAX);
    assert_eq!(Clip::Plain.sent().check_whole(&Recording::of_file(&file)), Ok(()));
    for relay in [&a, &b] {
        assert_eq!(refused(relay, "tls"), 0.0, "{}", relay.log());
    }
    // What is said on the port is nothing that can be read.
    let mut plain = TcpStream::connect(link(&a)).unwrap();
    plain.set_read_timeout(Some(START)).unwrap();
    plain.write_all(&[3; 1_537]).unwrap();
    let mut answer = Vec::new();
    // It may be reset behind the alert.
    let _ = plain.read_to_end(&mut answer);
    assert!(matches!(answer[..], [] | [21, 3, ..]), "an alert at most: {answer:?}");
    wait_for_refusal(&a);
    assert_eq!(said(&a, "the other side does not speak TLS and this node does"), 1);
}

#[test]
fn a_node_with_a_certificate_of_another_authority_is_not_taken_in() {
    let scratch = Scratch::new("cluster-authority");
    let (own, other) = (Authority::new(&scratch, "own"), Authority::new(&scratch, "other"));
    let start = |name: &str, peers: &[SocketAddr], shows: &Authority, trusts: &Authority| {
        let lines = shows.lines(&scratch, name, trusts);
        node_with(&scratch, name, peers, SECRET, &lines, &[])
    };
    let a = start("a", &[], &own, &own);
    let b = start("b", &[link(&a)], &other, &other);
    // Whoever dials sees it first, and tells the other one.
    wait_for_refusal(&a);
    wait_for_refusal(&b);
    assert!(said(&b, "certificate is not acceptable") >= 1, "{}", b.log());
    assert!(said(&a, "ended TLS with an alert") >= 1, "{}", a.log());
    thread::sleep(Duration::from_secs(1));
    for relay in [&a, &b] {
        assert_eq!(relay.metrics().sum("relay_cluster_nodes", &[]), Some(0.0));
    }
}

#[test]
fn a_node_without_tls_and_one_with_it_say_so() {
    let scratch = Scratch::new("cluster-plain");
    let authority = Authority::new(&scratch, "own");
    let secure = |name: &str, peers: &[SocketAddr]| {
        let lines = authority.lines(&scratch, name, &authority);
        node_with(&scratch, name, peers, SECRET, &lines, &[])
    };
    // Each is dialled by the other kind.
    let a = node(&scratch, "a", &[], "");
    let b = secure("b", &[link(&a)]);
    let c = node(&scratch, "c", &[link(&b)], "");
    for relay in [&a, &b, &c] {
        wait_for_refusal(relay);
    }
    let only_there = "the other side speaks TLS and this node does not";
    assert!(said(&a, only_there) >= 1, "{}", a.log());
    wait_for("both sentences", START, || {
        let left = said(&b, "the other side left before TLS was agreed on") >= 1;
        let plain = said(&b, "the other side does not speak TLS and this node does") >= 1;
        (left && plain).then_some(())
    });
    assert!(said(&c, only_there) >= 1, "{}", c.log());
    for relay in [&a, &b, &c] {
        assert_eq!(relay.metrics().sum("relay_cluster_nodes", &[]), Some(0.0));
    }
}

#[test]
fn tls_that_cannot_be_used_is_told_at_the_start() {
    let scratch = Scratch::new("cluster-files");
    let pair = Pair::make(scratch.path(), "any", &["*.relay.example"]);
    let secret = scratch.file("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let check = |lines: &[String], code: i32, sentence: &str| {
        let configuration = format!(
            "[listen]\nlink = \"127.0.0.1:0\"\n[cluster]\npeers = \"127.0.0.1:9\"\n\
             secret_file = {secret:?}\n{}\n",
            lines.join("\n")
        );
        let file = scratch.file("relay.toml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = crate::support::relay::command();
        command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"]).arg(&file);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(sentence), "{said}");
    };
    let certificate = format!("tls_certificate_file = \"{certificate}\"");
    let key = format!("tls_key_file = \"{key}\"");
    let authority = |file: &str| format!("tls_ca_file = \"{file}\"");
    check(std::slice::from_ref(&certificate), 2, "set where cluster.tls_certificate_file is");
    check(&[certificate.clone(), key.clone()], 2, "cluster.tls_ca_file");
    let files = [certificate, key, authority("/nowhere/ca.pem")];
    check(&files, 1, "cluster.tls_ca_file: /nowhere/ca.pem cannot be read");
    let [certificate, key, _] = files;
    let trusted = authority(&pair.certificate.display().to_string());
    let files = [certificate, key, trusted];
    check(&files, 1, "cluster.tls_name: '*.relay.example' is no name of a host");
}
