//! Rules that need no secret of their own, back ends, and rules that go together: FFmpeg publishes
//! and plays, rtmpdump plays, rightly and wrongly.

use super::{KEY, Scene};
use crate::support::backend::{Answer, Backend, Received};

#[test]
fn everybody_back_ends_and_rules_together_let_in_and_keep_out() {
    let right = |request: &Received| match request.json() {
        Some(json) if json["param"] == "?pass=right-for-the-hook" => Answer::Status(200),
        _ => Answer::Status(403),
    };
    let backend = Backend::start(right);
    let url = backend.url("/ask");
    let hooks =
        format!("[apps.hook]\nhooks = \"srs\"\non_publish = \"{url}\"\non_play = \"{url}\"\n");
    let scene = Scene::with("access-rest", &hooks);
    let url = |path: &str| scene.url(path);
    let both = format!("both/cam1?key={KEY}");
    for path in ["open/cam1", "hook/cam1?pass=right-for-the-hook", &both] {
        scene.lets_in(&url(path), &url(path));
    }
    let wrong = url("hook/cam1?pass=wrong-for-the-hook");
    scene.keeps_publisher_out(&wrong, "The back end refused", "hook");
    scene.keeps_player_out(&wrong, "The back end refused", "hook");
    // Either half alone is too little.
    let half = url("both/cam1");
    scene.keeps_publisher_out(&half, "A stream key is missing", "key");
    scene.keeps_player_out(&half, "A stream key is missing", "key");
    let apart = url(&format!("apart/cam1?key={KEY}"));
    scene.keeps_publisher_out(&apart, "Your address may not publish here", "address");
    scene.keeps_player_out(&apart, "Your address may not play here", "address");
    scene.told_no_secret(&["right-for-the-hook", "wrong-for-the-hook"]);
}
