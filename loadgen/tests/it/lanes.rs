//! RTMP inside TLS, inside HTTP, and inside both: the same load, the same judgement.

use rcgen::{CertificateParams, KeyPair};

use crate::support::servers::relay_with;
use crate::support::{Scratch, tester};

const CLEAN: &str = "missing=0,doubled=0,reordered=0,altered=0,foreign=0,backward=0,keyless=0,\
                     headless=0,gops_unequal=0,kept=1,joined=1,errors=0,latency.count>100";

#[test]
fn every_lane_carries_publishers_and_players() {
    let dir = Scratch::new();
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
