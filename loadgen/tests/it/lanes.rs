//! RTMP inside TLS, inside HTTP, and inside both, and FLV over HTTP and WebSockets: the same load,
//! the same judgement.

use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};

use crate::support::servers::{Server, relay_with};
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
fn every_lane_carries_publishers_and_players() {
    let dir = Scratch::new();
    let (server, crt) = secure_relay(&dir);
    let ca = crt.to_str().unwrap();
    for scheme in ["rtmps", "rtmpt", "rtmpts"] {
        let url = format!("{scheme}://{}/live/{scheme}", server.address);
        let mut arguments = vec!["run", "--target", &url, "--expect", CLEAN, "--players", "6"];
        arguments.extend(["--streams", "2", "--bitrate", "400k", "--gop", "1s"]);
        arguments.extend(["--duration", "4s", "--cores", "1", "--ca-file", ca]);
        let (ended, json) = tester::program_with_json(dir.path(), &arguments);
        assert_eq!(ended.code, 0, "{scheme}: {}{}", ended.stdout, ended.stderr);
        let polls = json["counters"]["polls"].as_u64().unwrap();
        assert_eq!(polls > 100, scheme != "rtmps", "{scheme}: {polls} polls");
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
fn every_way_in_is_played_by_every_way_out() {
    let dir = Scratch::new();
    let (server, crt) = secure_relay(&dir);
    let at = server.address;
    for way_in in ["rtmp", "rtmps"] {
        let to = format!("{way_in}://{at}/live/{way_in}-{{}}");
        let from: Vec<String> = ["rtmp", "rtmps", "http", "https", "ws", "wss"]
            .map(|way_out| format!("{way_out}://{at}/live/{way_in}-{{}}"))
            .into();
        let mut arguments = vec!["run", "--target", &to, "--expect", CLEAN, "--streams", "2"];
        from.iter().for_each(|url| arguments.extend(["--play-target", url]));
        // Each stream is played by each way out twice.
        arguments.extend(["--players", "24", "--bitrate", "400k", "--gop", "1s"]);
        arguments.extend(["--duration", "5s", "--cores", "1", "--ca-file", crt.to_str().unwrap()]);
        let (ended, json) = tester::program_with_json(dir.path(), &arguments);
        assert_eq!(ended.code, 0, "{way_in}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(json["counters"]["players_kept"], 24, "{way_in}");
        let page = loadgen::server::metrics_page(&server.http.unwrap().to_string()).unwrap();
        assert!(page.contains("transport=\"wsflv\""), "{page}");
    }
    // Players that only count do so over plain HTTP and WebSockets, too.
    let to = format!("rtmp://{at}/live/counted");
    let (http, ws) = (format!("http://{at}/live/counted.flv"), format!("ws://{at}/live/counted"));
    let run = ["run", "--target", &to, "--play-target", &http, "--play-target", &ws];
    let more = ["--players", "40", "--verify", "10%", "--bitrate", "400k", "--duration", "3s"];
    let expect = ["--cores", "1", "--expect", "kept=1,joined=1,errors=0,altered=0,missing=0"];
    let (ended, json) = tester::program_with_json(dir.path(), &[&run[..], &more, &expect].concat());
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(json["counters"]["counted_reads"].as_u64() > Some(500), "{}", json["counters"]);

    // What cannot be done is said.
    let nobody = format!("http://{at}/live/nobody.flv");
    let ended = tester::program(&["play", "--target", &nobody, "--duration", "1s"]);
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("404 Not Found: Nobody publishes this stream."), "{said}");
    let ended = tester::program(&["publish", "--target", &nobody, "--duration", "1s"]);
    assert_eq!(ended.code, 2, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("can only be played"), "{}", ended.stderr);
}
