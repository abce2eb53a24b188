//! Servers that send clients elsewhere are obeyed: a redirect in the answer to connect, and the
//! Reconnect Request of Enhanced RTMP while a session runs.

use crate::support::scripted::{self, Script};
use crate::support::servers::{nginx, relay, relay_with};
use crate::support::{Scratch, tester};

#[test]
fn a_redirect_is_followed() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    let front = scripted::start(Script::Redirect(format!("rtmp://{}/live", server.address)));
    for verify in ["all", "0%"] {
        let line = format!(
            "run --target rtmp://{front}/live/moved --players 3 --verify {verify} --bitrate 200k \
             --gop 1s --duration 3s --cores 1"
        );
        let outcome = tester::run(tester::plan(&line));
        let counters = &outcome.collected.counters;
        assert_eq!(counters.redirects, 4, "{verify}");
        assert_eq!((counters.players_planned, counters.players_kept), (3, 3), "{verify}");
        assert_eq!((counters.missing, outcome.collected.errors()), (0, 0), "{verify}");
    }
}

#[test]
fn a_reconnect_request_is_obeyed() {
    let dir = Scratch::new();
    let server = nginx(dir.path());
    let to = format!("rtmp://{}/live", server.address);
    let front = scripted::start(Script::AskElsewhere(to));
    // The publisher begins at the front, is sent to the server, and is heard there.
    let line = format!(
        "run --target rtmp://{front}/live/moved --play-target {} --players 2 --bitrate 200k --gop 1s \
         --duration 5s --cores 1",
        server.url("moved")
    );
    let outcome = tester::run(tester::plan(&line));
    let counters = &outcome.collected.counters;
    assert_eq!(counters.redirects, 1);
    assert_eq!((counters.publishers_started, counters.publishers_lost), (2, 0));
    assert_eq!((counters.players_kept, counters.missing), (2, 0));
    assert_eq!(outcome.collected.errors(), 0);
}

/// A relay that takes two players sends the others to the one that it has its streams from, over
/// HTTP by a 302, over RTMP by its refusal.
#[test]
fn players_that_a_full_relay_sends_on_are_all_served() {
    let dir = Scratch::new();
    let far = relay(dir.path());
    let near_dir = dir.file("near");
    std::fs::create_dir(&near_dir).unwrap();
    let file = dir.file("near.toml");
    let text = format!(
        "[limits]\nplayers_max = 2\n[overflow]\nto = [\"http://{0}\", \"rtmp://{0}\"]\n\
         [apps.live]\npull = [\"rtmp://{0}/{{app}}/{{name}}\"]\n",
        far.address
    );
    std::fs::write(&file, text).unwrap();
    let near = relay_with(&near_dir, &["--config", file.to_str().unwrap()]);
    for (scheme, verify) in [("http", "all"), ("http", "0%"), ("rtmp", "all")] {
        let what = format!("{scheme} {verify}");
        let name = format!("{scheme}-{}", &verify[..1]);
        let flv = if scheme == "http" { ".flv" } else { "" };
        let line = format!(
            "run --target rtmp://{}/live/{name} --play-target {scheme}://{}/live/{name}{flv} \
             --players 6 --verify {verify} --bitrate 200k --gop 1s --duration 4s --cores 1",
            far.address, near.address
        );
        let outcome = tester::run(tester::plan(&line));
        let counters = &outcome.collected.counters;
        assert_eq!(counters.redirects, 4, "{what}");
        assert_eq!((counters.players_planned, counters.players_kept), (6, 6), "{what}");
        assert_eq!((counters.missing, outcome.collected.errors()), (0, 0), "{what}");
    }
}
