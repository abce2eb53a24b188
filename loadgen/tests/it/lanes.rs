//! RTMP inside TLS, inside HTTP, and inside both, and FLV over HTTP and WebSockets: the same load,
//! the same judgement.

use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};

use crate::support::servers::{Server, nginx_before, relay_with};
use crate::support::{Scratch, tester};

const CLEAN: &str = "missing=0,doubled=0,reordered=0,altered=0,foreign=0,backward=0,keyless=0,\
                     headless=0,gops_unequal=0,kept=1,joined=1,errors=0,latency.count>100";

/// A relay with a certificate, and the file of that.
fn secure_relay(dir: &Scratch) -> (Server, PathBuf) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let (crt, pem) = (dir.file("tls.crt"), dir.file("tls.key"));
    std::fs::write(&crt, certificate.pem()).unwrap();
    std::fs::write(&pem, key.serialize_pem()).unwrap();
    let file = dir.file("relay.toml");
    let (shown_crt, shown_key) = (crt.display(), pem.display());
    let pair = format!("certificate = \"{shown_crt}\"\nkey = \"{shown_key}\"\n");
    std::fs::write(&file, format!("[[tls.certificates]]\n{pair}")).unwrap();
    let server = relay_with(dir.path(), &["--config", file.to_str().unwrap(), "--workers", "2"]);
    (server, crt)
}

#[test]
fn every_way_in_reaches_every_way_out() {
    let dir = Scratch::new();
    let (server, crt) = secure_relay(&dir);
    let ca = crt.to_str().unwrap();
    let only_out = ["http", "https", "ws", "wss"];
    for way_in in ["rtmp", "rtmps", "rtmpt", "rtmpts"] {
        let url = |scheme: &str| format!("{scheme}://{}/live/{way_in}", server.address);
        let to = url(way_in);
        let from: Vec<_> =
            ["rtmp", "rtmps", "rtmpt", "rtmpts"].into_iter().chain(only_out).map(url).collect();
        // Two players for each way out, in turn.
        let mut arguments = vec!["run", "--target", &to, "--expect", CLEAN, "--players", "16"];
        arguments.extend(from.iter().flat_map(|from| ["--play-target", from]));
        arguments.extend(["--bitrate", "400k", "--gop", "1s", "--expect", "gops_equal>15"]);
        arguments.extend(["--duration", "5s", "--cores", "1", "--ca-file", ca]);
        let (ended, json) = tester::program_with_json(dir.path(), &arguments);
        assert_eq!(ended.code, 0, "{way_in}: {}{}", ended.stdout, ended.stderr);
        let polls = json["counters"]["polls"].as_u64().unwrap();
        assert!(polls > 100, "{way_in}: {polls} polls");
    }
    // Who is not the one that is trusted is not spoken to.
    let other = dir.file("other.crt");
    let own = KeyPair::generate().unwrap();
    let stranger = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&own).unwrap();
    std::fs::write(&other, stranger.pem()).unwrap();
    let url = format!("rtmps://{}/live/a", server.address);
    let run = ["play", "--target", &url, "--duration", "1s", "--players", "1", "--ca-file"];
    let ended = tester::program(&[&run[..], &[other.to_str().unwrap()]].concat());
    assert_ne!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn flv_is_counted_and_refused_as_rtmp_is() {
    let dir = Scratch::new();
    let (server, _) = secure_relay(&dir);
    let at = server.address;
    // Players that only count do so over plain HTTP and WebSockets, too.
    let to = format!("rtmp://{at}/live/counted");
    let (http, ws) = (format!("http://{at}/live/counted.flv"), format!("ws://{at}/live/counted"));
    let run = ["run", "--target", &to, "--play-target", &http, "--play-target", &ws];
    let more = ["--players", "40", "--verify", "10%", "--bitrate", "400k", "--duration", "3s"];
    let expect = ["--cores", "1", "--expect", "kept=1,joined=1,errors=0,altered=0,missing=0"];
    let (ended, json) = tester::program_with_json(dir.path(), &[&run[..], &more, &expect].concat());
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(json["counters"]["counted_reads"].as_u64() > Some(100), "{}", json["counters"]);

    // What cannot be done is said.
    let nobody = format!("http://{at}/live/nobody.flv");
    let ended = tester::program(&["play", "--target", &nobody, "--duration", "1s"]);
    assert_eq!(ended.code, 2, "{}{}", ended.stdout, ended.stderr);
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("404 Not Found: Nobody publishes this stream."), "{said}");
    let ended = tester::program(&["publish", "--target", &nobody, "--duration", "1s"]);
    assert_eq!(ended.code, 2, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("can only be played"), "{}", ended.stderr);
}

/// Through a proxy that ends connections after a few requests, and asks the server by one
/// connection for each.
#[test]
fn a_tunnel_goes_on_when_its_connection_is_ended() {
    let dir = Scratch::new();
    let file = dir.file("relay.toml");
    let text = "[limits]\nhandshakes_per_address_max = 1000000\n";
    std::fs::write(&file, text).unwrap();
    let server = relay_with(dir.path(), &["--config", file.to_str().unwrap(), "--workers", "2"]);
    for requests in [1, 9] {
        let proxy = nginx_before(dir.path(), server.address, requests);
        let url = format!("rtmpt://{}/live/{requests}", proxy.address);
        let mut arguments = vec!["run", "--target", &url, "--expect", CLEAN, "--players", "4"];
        arguments.extend(["--streams", "2", "--bitrate", "400k", "--gop", "1s"]);
        arguments.extend(["--duration", "4s", "--cores", "1"]);
        let (ended, json) = tester::program_with_json(dir.path(), &arguments);
        assert_eq!(ended.code, 0, "{requests}: {}{}", ended.stdout, ended.stderr);
        let [polls, carriers] =
            ["polls", "carriers"].map(|name| json["counters"][name].as_u64().unwrap());
        println!("{polls} requests, {carriers} further connections");
        assert!(carriers >= polls / u64::from(requests) - 20, "{polls} {carriers}");
        assert!(carriers > 30, "{polls} {carriers}");
    }
}
