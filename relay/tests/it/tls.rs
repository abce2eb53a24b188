//! RTMPS with real programs: in and out, by version and name, and certificates that change.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::support::client::{Client, Player};
use crate::support::clip::{Clip, LENGTH};
use crate::support::ffmpeg::Version;
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay, command};
use crate::support::scene::END_MAX;
use crate::support::secure::{Door, Pair};
use crate::support::{Scratch, ffmpeg, http, wait_for};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

/// A relay with certificates and a short grace.
fn relay(scratch: &Scratch, pairs: &[&Pair], more: &str) -> Relay {
    let tables: String = pairs.iter().map(|pair| pair.configuration()).collect();
    let configuration = format!("{more}{tables}[limits]\nstream_grace = \"2s\"\n");
    let options = Options { configuration: &configuration, ..Options::default() };
    Relay::start(scratch.path(), &options)
}

fn secure_url(relay: &Relay, name: &str) -> String {
    format!("rtmps://localhost:{}/live/{name}", relay.rtmp.port())
}

/// FFmpeg publishing over RTMPS.
fn publish(version: Version, dir: &Path, name: &str, url: &str, trusted: Option<&Pair>) -> Process {
    let mut command = version.command();
    command.args(["-re", "-i"]).arg(Clip::Plain.file()).args(["-map", "0", "-c", "copy"]);
    command.args(["-f", "flv"]);
    trust(&mut command, url, trusted);
    Process::start(dir, name, command.arg(url))
}

/// FFmpeg playing over RTMPS into a file of its name.
fn play(
    version: Version,
    scratch: &Scratch,
    name: &str,
    url: &str,
    trusted: Option<&Pair>,
) -> Process {
    let mut command = version.command();
    trust(&mut command, url, trusted);
    command.args(["-copyts", "-i", url, "-c", "copy", "-copyinkf", "-copypriorss", "1"]);
    command.args(["-flush_packets", "1", "-flvflags", "no_duration_filesize", "-f", "flv", "-y"]);
    Process::start(scratch.path(), name, command.arg(scratch.file(&format!("{name}.flv"))))
}

/// Verifies the relay's certificate, or verifies nothing.
fn trust(command: &mut Command, url: &str, trusted: Option<&Pair>) {
    match trusted {
        _ if !url.starts_with("rtmps://") => command,
        Some(pair) => command.args(["-tls_verify", "1", "-ca_file"]).arg(&pair.certificate),
        None => command.args(["-tls_verify", "0"]),
    };
}

fn rtmpdump(scratch: &Scratch, name: &str, url: &str) -> Process {
    let mut command = Command::new("rtmpdump");
    command.args(["--live", "--timeout", "60", "-r", url, "-o"]);
    Process::start(scratch.path(), name, command.arg(scratch.file(&format!("{name}.flv"))))
}

fn gstreamer(scratch: &Scratch, name: &str, url: &str) -> Process {
    let file = scratch.file(&format!("{name}.flv"));
    let (source, sink) = (format!("location={url}"), format!("location={}", file.display()));
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "rtmp2src", &source, "tls-validation-flags=0", "!", "filesink"]);
    Process::start(scratch.path(), name, command.args(["buffer-mode=unbuffered", &sink]))
}

#[test]
fn what_goes_in_by_rtmp_or_rtmps_comes_out_by_both_packet_by_packet() {
    let scratch = Scratch::new("rtmps");
    let pair = Pair::make(scratch.path(), "relay", NAMES);
    let relay = relay(&scratch, &[&pair], "");
    let (nine, five) = (Version::Nine, Version::System);
    let secure = |name: &str| secure_url(&relay, name);
    let mut players = vec![
        ("five-verifying", play(five, &scratch, "five-verifying", &secure("five"), Some(&pair))),
        ("nine-verifying", play(nine, &scratch, "nine-verifying", &secure("five"), Some(&pair))),
        ("dump", rtmpdump(&scratch, "dump", &secure("five"))),
        ("gst", gstreamer(&scratch, "gst", &secure("five"))),
        ("secure-to-plain", play(five, &scratch, "secure-to-plain", &relay.url("five"), None)),
        ("nine-to-five", play(five, &scratch, "nine-to-five", &secure("nine"), None)),
        ("plain-to-secure", play(nine, &scratch, "plain-to-secure", &secure("plain"), None)),
    ];
    relay.wait_for_role("player", 7);
    let metrics = relay.metrics();
    let secured = metrics.sum("relay_connections", &[("transport", "rtmps")]);
    assert_eq!(secured, Some(6.0), "players by RTMPS");
    assert!(metrics.sum("relay_memory_bytes", &[("kind", "tls")]).unwrap() > 6.0 * 1_000.0);
    let dir = scratch.path();
    let mut publishers = [
        publish(five, dir, "publisher-five", &secure("five"), Some(&pair)),
        publish(nine, dir, "publisher-nine", &secure("nine"), Some(&pair)),
        ffmpeg::publish(dir, "publisher-plain", Clip::Plain, &relay.url("plain")),
    ];
    for publisher in &mut publishers {
        publisher.succeed(LENGTH + END_MAX);
    }
    let sent = Clip::Plain.sent();
    for (name, player) in &mut players {
        player.succeed(END_MAX);
        let recording = Recording::of_file(&scratch.file(&format!("{name}.flv")));
        // What is on its way inside GStreamer when the stream ends may be lost.
        let lost_max = if *name == "gst" { 2 } else { 0 };
        assert_eq!(sent.check_whole_but_last(&recording, lost_max), Ok(()), "{name}");
    }
    let full = relay.metrics().sum("relay_tls_handshakes_total", &[]).unwrap();
    assert_eq!(full, 8.0, "six players and two publishers, and nothing failed");
}

/// What `openssl s_client` says of a handshake.
fn s_client(address: SocketAddr, arguments: &[&str]) -> String {
    let address = address.to_string();
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl not found: run .ci/install");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The names of the certificate that a client is shown who asks for `name`.
fn names_shown(address: SocketAddr, name: &str, dir: &Path) -> String {
    let said = s_client(address, &["-servername", name]);
    let begin = said.find("-----BEGIN CERTIFICATE-----").expect("a certificate is shown");
    let file = dir.join("shown.crt");
    std::fs::write(&file, &said[begin..]).unwrap();
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(&file);
    let output = command.stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn versions_and_names_are_as_openssl_sees_them() {
    let scratch = Scratch::new("openssl");
    let first = Pair::make(scratch.path(), "first", &["one.test"]);
    let second = Pair::make(scratch.path(), "second", &["two.test", "*.three.test"]);
    let relay = relay(&scratch, &[&first, &second], "");
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(relay.rtmp, &[version]);
        assert!(said.contains(&format!("New, {shown}, Cipher is ")), "{version}: {said}");
        assert!(!said.contains("New Session Ticket"), "no tickets by default: {said}");
    }
    let said = s_client(relay.rtmp, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(said.contains("alert protocol version") || said.contains("Cipher is (NONE)"), "{said}");
    let again = s_client(relay.rtmp, &["-tls1_2", "-reconnect"]);
    assert!(again.matches("Reused, TLSv1.2").count() >= 4, "{again}");
    for (name, expected) in [
        ("one.test", "one.test"),
        ("two.test", "two.test"),
        ("a.three.test", "two.test"),
        ("four.test", "one.test"),
    ] {
        let shown = names_shown(relay.rtmp, name, scratch.path());
        assert!(shown.contains(expected), "{name}: {shown}");
    }
    let metrics = relay.metrics();
    let count = |result| metrics.sum("relay_tls_handshakes_total", &[("result", result)]);
    assert!(count("resumed_1_2") >= Some(4.0));
    assert_eq!(count("incompatible"), Some(1.0));
    let name = [("certificate", "2"), ("name", "two.test")];
    let expiry = metrics.sum("relay_tls_certificate_expiry_timestamp_seconds", &name);
    assert!(expiry > Some(1.8e9), "{expiry:?}");
}

#[test]
fn a_certificate_is_replaced_while_50_players_watch() {
    let scratch = Scratch::new("replaced");
    let dir = scratch.path();
    let pair = Pair::make(dir, "relay", &["localhost", "old.test"]);
    let relay = relay(&scratch, &[&pair], "");
    let door = Door::open(relay.rtmp, pair.client());
    let players: Vec<_> = (0..50)
        .map(|_| {
            let client = Client::open(door.address).unwrap();
            let mut player = Player::join(client, "live", "clip").unwrap();
            thread::spawn(move || {
                let end = Instant::now() + LENGTH + END_MAX * 3;
                player.read(end, |player| player.ends > 0).map(|why| (why, player))
            })
        })
        .collect();
    relay.wait_for_role("player", 50);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("clip"));
    thread::sleep(LENGTH / 4);
    let reloads = |result: &str| {
        relay.metrics().sum("relay_tls_reloads_total", &[("result", result)]).unwrap()
    };
    Pair::make(dir, "relay", &["localhost", "new.test"]);
    wait_for("the new certificate to be used", END_MAX, || (reloads("ok") > 0.0).then_some(()));
    assert!(names_shown(relay.rtmp, "localhost", dir).contains("new.test"));
    // Half of another pair.
    let other = Pair::make(dir, "other", NAMES);
    std::fs::copy(&other.key, &pair.key).unwrap();
    wait_for("the bad pair to be refused", END_MAX, || (reloads("refused") > 0.0).then_some(()));
    assert!(names_shown(relay.rtmp, "localhost", dir).contains("new.test"));
    assert_eq!((reloads("ok"), reloads("refused")), (1.0, 1.0));
    publisher.succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    for (number, player) in players.into_iter().enumerate() {
        let (why, player) = player.join().unwrap().unwrap();
        assert_eq!(player.ends, 1, "player {number}: {why:?} before the end of the stream");
        assert_eq!(sent.check_whole(&player.recording), Ok(()), "player {number}");
    }
    let log = relay.log_at_end(END_MAX);
    assert!(log.contains("is not the key of the certificate"), "{log}");
}

#[test]
fn a_reload_uses_certificates_at_once_or_says_what_is_wrong_with_them() {
    let scratch = Scratch::new("reloaded");
    let dir = scratch.path();
    let pair = Pair::make(dir, "relay", &["localhost", "old.test"]);
    let relay = relay(&scratch, &[&pair], "");
    let reload = || http::send(relay.http, "POST", "/api/v1/reload", "").unwrap();
    let shows = |name: &str| names_shown(relay.rtmp, "localhost", dir).contains(name);
    Pair::make(dir, "relay", &["localhost", "new.test"]);
    let answer = reload();
    assert!(answer.status == 200 && answer.body.contains("\"certificates\""), "{}", answer.body);
    assert!(shows("new.test"));
    std::fs::write(&pair.key, "no key\n").unwrap();
    let answer = reload();
    assert!((400..500).contains(&answer.status), "{}", answer.body);
    assert!(answer.body.contains("relay.key holds no private key"), "{}", answer.body);
    assert!(shows("new.test"));
}

#[test]
fn certificates_that_no_client_would_take_keep_the_relay_from_starting() {
    let scratch = Scratch::new("bad-pairs");
    let dir = scratch.path();
    let good = Pair::make(dir, "good", NAMES);
    let other = Pair::make(dir, "other", NAMES);
    let mut params = Pair::params(NAMES);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let expired = Pair::write(dir, "expired", params);
    let mut params = Pair::params(NAMES);
    params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    let early = Pair::write(dir, "early", params);
    let nameless = Pair::make(dir, "nameless", &[]);
    let mixed = Pair { key: other.key.clone(), ..good.clone() };
    let missing = Pair { key: dir.join("missing.key"), ..good.clone() };
    for (pair, file, reason) in [
        (&expired, "expired.crt", "has expired, on "),
        (&early, "early.crt", "is not valid yet, but from "),
        (&nameless, "nameless.crt", "names no host"),
        (&mixed, "other.key", "is not the key of the certificate in "),
        (&missing, "missing.key", "cannot be read"),
    ] {
        let configuration = dir.join("bad.toml");
        std::fs::write(&configuration, pair.configuration()).unwrap();
        let mut command = command();
        command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"]);
        let output = command.arg(&configuration).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{file}: {said}");
        assert!(said.contains(file) && said.contains(reason), "{file}, {reason}: {said}");
    }
}

/// The same as [`s_client`], which stays for a second: long enough to be told a ticket.
fn s_client_for_a_second(address: SocketAddr, arguments: &str) -> String {
    let script = format!("sleep 1 | openssl s_client -connect {address} {arguments} 2>&1");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tickets_are_given_by_choice_and_taken() {
    let scratch = Scratch::new("tickets");
    let pair = Pair::make(scratch.path(), "relay", NAMES);
    let relay = relay(&scratch, &[&pair], "[tls]\ntickets = 2\n");
    let file = scratch.file("session.pem");
    let said = s_client_for_a_second(relay.rtmp, &format!("-tls1_3 -sess_out {}", file.display()));
    assert_eq!(said.matches("Post-Handshake New Session Ticket arrived").count(), 2, "{said}");
    let again = s_client(relay.rtmp, &["-tls1_3", "-sess_in", &file.to_string_lossy()]);
    assert!(again.contains("Reused, TLSv1.3"), "{again}");
    let labels = [("result", "resumed_1_3")];
    assert_eq!(relay.metrics().sum("relay_tls_handshakes_total", &labels), Some(1.0));
}

#[test]
fn a_certificate_with_an_rsa_key_serves_both_versions() {
    let scratch = Scratch::new("rsa");
    let pair = Pair { certificate: scratch.file("rsa.crt"), key: scratch.file("rsa.key") };
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-keyout").arg(&pair.key).arg("-out").arg(&pair.certificate);
    assert!(command.stderr(Stdio::null()).status().unwrap().success());
    let relay = relay(&scratch, &[&pair], "");
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(relay.rtmp, &[version]);
        assert!(said.contains("Peer signature type: RSA-PSS"), "{version}: {said}");
    }
    // As devices of that time do: no RSA-PSS, and one suite.
    let suite = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-sigalgs", "RSA+SHA256"];
    let said = s_client(relay.rtmp, &suite);
    assert!(said.contains("Cipher is ECDHE-RSA-AES128-GCM-SHA256"), "{said}");
    let door = Door::open(relay.rtmp, pair.client());
    drop(Player::join(Client::open(door.address).unwrap(), "live", "a").unwrap());
}

#[test]
fn a_handshake_that_fails_is_closed_as_tls_and_says_why() {
    let scratch = Scratch::new("tls-failed");
    let pair = Pair::make(scratch.path(), "relay", NAMES);
    let relay = relay(&scratch, &[&pair], "");
    let other = Pair::make(scratch.path(), "other", NAMES);
    let other = other.certificate.to_string_lossy().into_owned();
    s_client(relay.rtmp, &["-verify_return_error", "-CAfile", &other]);
    s_client(relay.rtmp, &["-tls1_2", "-cipher", "AES128-SHA256"]);
    let mut garbage = std::net::TcpStream::connect(relay.rtmp).unwrap();
    std::io::Write::write_all(&mut garbage, &[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    wait_for("three failed handshakes", END_MAX, || {
        let closed = [("reason", "tls")];
        (relay.metrics().sum("relay_connections_closed_total", &closed) == Some(3.0)).then_some(())
    });
    let log = relay.log_at_end(END_MAX);
    let closed: Vec<_> = log.lines().filter(|line| line.contains("connection closed")).collect();
    for why in [
        "the peer ended TLS with an alert: it does not know who issued the certificate",
        "TLS cannot be agreed on: no key exchange is common to both sides",
        "the peer broke TLS: ",
    ] {
        let told = closed.iter().any(|line| line.contains("\"tls\"") && line.contains(why));
        assert!(told, "{why}: {log}");
    }
    println!("{}", closed.join("\n"));
}
