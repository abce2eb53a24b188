//! Pushes and pulls inside HTTP through proxies that end connections: the session goes on by the
//! next one, and not a byte is lost.

use std::fs;

use super::{array, check, list, relay};
use crate::support::clip::{Clip, LENGTH};
use crate::support::nginx::Nginx;
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::scene::END_MAX;
use crate::support::secure::Pair;
use crate::support::{Scratch, ffmpeg, rtmpdump, wait_for};

/// After how many requests a proxy ends a connection, and whether it speaks TLS.
const PROXIES: [(&str, u32, bool); 3] = [("one", 1, false), ("nine", 9, false), ("tls", 7, true)];

#[test]
fn sessions_outlive_the_connections_that_proxies_end() {
    let scratch = Scratch::new("carriers");
    let dir = scratch.path();
    let pair = Pair::make(dir, "proxy", &["localhost", "127.0.0.1"]);
    let there = relay(&scratch, "");
    let proxies = PROXIES.map(|(name, requests, tls)| {
        let own = scratch.file(name);
        fs::create_dir(&own).unwrap();
        (name, Nginx::before(&own, there.rtmp, requests, tls.then_some(&pair)))
    });
    let url = |place: usize, stream: &str| {
        let scheme = if PROXIES[place].2 { "rtmpts" } else { "rtmpt" };
        format!("{scheme}://localhost:{}/live/{stream}", proxies[place].1.address.port())
    };
    let places = || 0..PROXIES.len();
    let push = places().map(|place| format!("clip {}", url(place, PROXIES[place].0)));
    let pull = places().map(|place| format!("from-{} {}", PROXIES[place].0, url(place, "far")));
    let here = relay(
        &scratch,
        &format!(
            "[apps.live]\npush = [{}]\npull = [{}]\n[outside]\nca_file = \"{}\"\n",
            array(push),
            array(pull),
            pair.certificate.display()
        ),
    );
    let mut players: Vec<(String, Clip, Process)> = Vec::new();
    for (name, _, _) in PROXIES {
        let file = |name: &str| scratch.file(&format!("{name}.flv"));
        let (pushed, pulled) = (format!("pushed-{name}"), format!("pulled-{name}"));
        let player = rtmpdump::record(dir, &pushed, &there.url(name), &file(&pushed));
        players.push((pushed, Clip::Heavy, player));
        let from = here.url(&format!("from-{name}"));
        let player = ffmpeg::record(dir, &pulled, &from, &file(&pulled));
        players.push((pulled, Clip::BFrames, player));
    }
    here.wait_for_role("pull", 3);
    let mut far = ffmpeg::publish(dir, "far", Clip::BFrames, &there.url("far"));
    let mut near = ffmpeg::publish(dir, "near", Clip::Heavy, &here.url("clip"));
    wait_for("all of them to be up", END_MAX, || {
        let up = |what| list(&here, what).matches("\"state\":\"up\"").count();
        (up("pushes") == 3 && up("pulls") == 3).then_some(())
    });
    for publisher in [&mut far, &mut near] {
        publisher.succeed(LENGTH + END_MAX);
    }
    let metrics = here.metrics();
    for kind in ["push", "pull"] {
        let attempts = metrics.sum("relay_outside_attempts_total", &[("kind", kind)]);
        assert_eq!(attempts, Some(3.0), "{kind}: each went by one session");
    }
    let dialled = metrics.sum("relay_dials_total", &[("result", "ok")]);
    println!("six sessions went by {dialled:?} connections");
    assert!(dialled > Some(500.0), "{dialled:?} connections");
    for (name, clip, player) in &mut players {
        player.succeed(END_MAX);
        check(&clip.sent(), &Recording::of_file(&scratch.file(&format!("{name}.flv"))), name);
    }
    // Nothing is left of them, and the server was told that they are over.
    here.wait_for_role("push", 0);
    here.wait_for_role("pull", 0);
    there.wait_for_role("player", 0);
    let tunnels =
        |relay: &crate::support::relay::Relay| relay.metrics().sum("relay_tunnel_sessions", &[]);
    wait_for("the sessions to be over", END_MAX, || (tunnels(&there) == Some(0.0)).then_some(()));
}
