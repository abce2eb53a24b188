//! Servers that send clients elsewhere are obeyed: a redirect in the answer to connect, and the
//! Reconnect Request of Enhanced RTMP while a session runs.

use crate::support::scripted::{self, Script};
use crate::support::servers::nginx;
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
