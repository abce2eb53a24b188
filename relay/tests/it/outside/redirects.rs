//! Servers that send a push or a pull on to another one, by `ex.redirect` as a relay says it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::{failures, list, relay, wait_for_list};
use crate::support::backend::{Answer, Backend, Received};
use crate::support::client::Client;
use crate::support::clip::Clip;
use crate::support::relay::{Options, Relay};
use crate::support::{START, Scratch, ffmpeg, wait_for};

fn join(relay: &Relay, name: &str) -> Client {
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("live").unwrap();
    client.play(name).unwrap();
    client
}

/// A relay whose back end sends every player on; `to` is said later.
fn sends_on(scratch: &Scratch, to: &'static OnceLock<String>) -> Relay {
    let backend = Backend::start(move |request: &Received| {
        let to = to.get().filter(|_| request.event() == "play");
        to.map_or(Answer::Status(200), |to| Answer::Redirect(to))
    });
    let url = backend.url("/h");
    let configuration = format!(
        "[apps.\"*\"]\nhooks = \"nginx-rtmp\"\nhooks_play_elsewhere = \"redirect\"\n\
         on_play = \"{url}\"\n"
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    Relay::start(scratch.path(), &options)
}

fn pulls_from(scratch: &Scratch, from: SocketAddr) -> Relay {
    relay(scratch, &format!("[apps.live]\npull = [\"rtmp://{from}/live/{{name}}\"]\n"))
}

#[test]
fn a_pull_follows_a_relay_that_has_no_room() {
    let scratch = Scratch::new("redirect-room");
    let there = relay(&scratch, "");
    let full = {
        let configuration =
            format!("[limits]\nplayers_max = 1\n[overflow]\nto = [\"rtmp://{}\"]\n", there.rtmp);
        let options = Options { configuration: &configuration, ..Options::default() };
        Relay::start(scratch.path(), &options)
    };
    let _occupies = join(&full, "clip");
    let _publisher =
        ffmpeg::publish_looped(scratch.path(), "far", Clip::Plain, 3, &there.url("clip"));
    there.wait_for_role("publisher", 1);
    let here = pulls_from(&scratch, full.rtmp);
    let _player = join(&here, "clip");
    there.wait_for_role("player", 1);
    wait_for_list(&here, "pulls", "\"state\":\"up\"", START);
    assert_eq!(failures(&here, "redirected"), 1.0);
    let shown = list(&here, "pulls");
    assert!(shown.contains(&format!("rtmp://{}/live\"", there.rtmp)), "{shown}");
    assert!(!shown.contains("sent_on"), "{shown}");
}

#[test]
fn a_circle_of_redirects_is_one_sentence_and_shows_no_token() {
    static TO: OnceLock<String> = OnceLock::new();
    let scratch = Scratch::new("redirect-circle");
    let there = sends_on(&scratch, &TO);
    TO.set(format!("rtmp://{}/live/token-segment/clip?key=token-query", there.rtmp)).unwrap();
    let here = pulls_from(&scratch, there.rtmp);
    let _player = join(&here, "clip");
    wait_for("the circle to be given up", START, || {
        (failures(&here, "redirects") >= 1.0).then_some(())
    });
    assert!(failures(&here, "redirected") >= 5.0);
    let shown = list(&here, "pulls");
    let sentence = "sent from server to server more than outside_redirects_max (5) times";
    assert!(shown.contains(sentence), "{shown}");
    thread::sleep(Duration::from_secs(1));
    let (log, metrics) = (here.log(), here.metrics().text().to_owned());
    assert!(log.contains("reason=\"redirects\"") && log.contains(sentence), "{log}");
    for text in [shown, log, metrics] {
        assert!(!text.contains("token-"), "{text}");
    }
}

#[test]
fn relays_that_pull_from_each_other_find_that_out() {
    let scratch = Scratch::new("pull-circle");
    // Each has the other's address only when both run.
    let (a, b) = (relay(&scratch, ""), relay(&scratch, ""));
    for (here, there) in [(&a, &b), (&b, &a)] {
        let body = format!("{{\"app\":\"live\",\"url\":\"rtmp://{}/live/{{name}}\"}}", there.rtmp);
        assert_eq!(super::post(here, "pulls", &body).status, 201);
    }
    let player = join(&a, "nothing");
    wait_for("the circle to be found", START, || (failures(&b, "loop") >= 1.0).then_some(()));
    let refused = a.metrics().sum("relay_refused_total", &[("reason", "loop")]);
    assert!(refused >= Some(1.0), "{refused:?}");
    let shown = list(&b, "pulls");
    assert!(shown.contains("the stream comes from this server"), "{shown}");
    // When the player has gone, nothing is left of it.
    drop(player);
    for relay in [&a, &b] {
        wait_for("no pull to be left", Duration::from_secs(40), || {
            let left = relay.metrics().sum("relay_connections", &[("role", "pull")]);
            (left == Some(0.0) && !list(relay, "pulls").contains("nothing")).then_some(())
        });
    }
    // And a stream that one of them has is had by the other.
    let _publisher =
        ffmpeg::publish_looped(scratch.path(), "publisher", Clip::Plain, 3, &b.url("clip"));
    b.wait_for_role("publisher", 1);
    let _player = join(&a, "clip");
    wait_for_list(&a, "pulls", "\"state\":\"up\"", START);
    b.wait_for_role("player", 1);
}
