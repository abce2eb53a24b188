//! Zones: a node is fed from its own zone where that can be, and what crosses zones is counted
//! apart.

use std::time::Duration;

use crate::support::programs::{CLEAN, loadgen, succeed};
use crate::support::stateful::StatefulSet;
use crate::support::{START, Scratch, wait_for};

/// Bytes of the stream that is published, in its whole length, at the least.
const STREAM: f64 = 200_000.0;

#[test]
fn a_stream_enters_a_zone_once_and_what_crosses_is_counted_apart() {
    let dir = Scratch::new();
    let dir = dir.path();
    let mut set = StatefulSet::new(dir, "test", 5);
    set.scale(5);
    set.wait_until_joined();
    let outside = set.net.outside();
    let publish = set.publish_url_at(0, "cam");
    let arguments = ["publish", "--target", &publish, "--bitrate", "300k", "--gop", "1s"];
    let length = ["--duration", "20s"];
    let mut publisher = loadgen(outside, dir, "publisher", &[&arguments[..], &length].concat());
    // The first of another zone has it from the publisher's; whoever comes later has a choice.
    let mut players = Vec::new();
    for number in [1, 3, 2, 4] {
        let at = format!("rtmp://{}/live/cam", set.pod(number).address);
        let play = ["play", "--target", &at, "--players", "2", "--duration", "12s"];
        let more = ["--ramp", "0s", "--expect", CLEAN];
        let name = format!("player-{number}");
        players.push(loadgen(outside, dir, &name, &[&play[..], &more].concat()));
        wait_for("players", START, || {
            let playing = set.pod(number).get("/metrics")?.metric("relay_players", &[])?;
            let links = set.pod(number).get("/metrics")?;
            let links = links.metric("relay_link_streams", &[("way", "in")])?;
            (playing >= 2.0 && links >= 1.0).then_some(())
        });
    }
    players.iter_mut().for_each(|player| succeed(player, 2 * START));
    let bytes = |number: usize, way: &str, zone: &str| {
        let page = set.pod(number).get("/metrics").unwrap();
        page.metric("relay_link_bytes_total", &[("way", way), ("zone", zone)]).unwrap()
    };
    for number in 0..5 {
        let zone = StatefulSet::zone(number);
        let shown = ["in", "out", "control"].map(|way| {
            let of_zone = ["same", "other", "unknown"].map(|zone| bytes(number, way, zone));
            format!("{way} {of_zone:?}")
        });
        println!("relay-{number} ({zone}), bytes of the same, another, an unknown zone: {shown:?}");
    }
    for (number, from) in [(1, "other"), (3, "same"), (2, "same"), (4, "same")] {
        let not = if from == "same" { "other" } else { "same" };
        assert!(bytes(number, "in", from) > STREAM, "relay-{number} {from}");
        // Another feeder may have offered it, and sent nothing.
        assert!(bytes(number, "in", not) < STREAM / 20.0, "relay-{number} {not}");
    }
    // Whoever has not said who it is says little.
    let unknown: f64 = (0..5).map(|number| bytes(number, "in", "unknown")).sum();
    assert!(unknown < STREAM / 4.0, "{unknown}");
    // What one end sends the other one has, but for what was under way.
    let (sent, taken) = (bytes(0, "out", "other"), bytes(1, "in", "other"));
    assert!((sent - taken).abs() < STREAM / 4.0, "{sent} {taken}");
    assert!(bytes(0, "control", "other") > 0.0 && bytes(0, "control", "same") > 0.0);
    succeed(&mut publisher, START + Duration::from_secs(20));
}
