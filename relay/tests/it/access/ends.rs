//! Permissions that end while they are used, as real programs see it.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{END_MAX, Scene, TOKEN_SECRET, token, unix};
use crate::support::clip::Clip;
use crate::support::ffmpeg;
use crate::support::process::Process;

/// What was shown is good for some seconds; who began in them stays, or is ended and told why.
#[test]
fn sessions_end_with_their_permission_where_that_is_wanted() {
    thread::scope(|scope| {
        for ends in [true, false] {
            scope.spawn(move || session_outlives_permission(ends));
        }
    });
}

fn session_outlives_permission(ends: bool) {
    const LIFE_SECONDS: u64 = 14;
    let more = format!("[access]\nend_with_token = {ends}\n");
    let scene = Scene::with(&format!("access-until-{ends}"), &more);
    let dir = scene.scratch.path();
    let publish = |name: &str, url: &str| ffmpeg::publish_looped(dir, name, Clip::Plain, 3, url);
    let mut lasting = publish("lasting", &scene.signed("url/cam1", "publish", &[]));
    scene.relay.wait_for_role("publisher", 1);
    let began = Instant::now();
    let life = format!("{LIFE_SECONDS}s");
    let play = scene.signed("url/cam1", "play", &["--expires", &life]);
    let claims = serde_json::json!({"exp": unix() + LIFE_SECONDS, "publish": "token/cam1"});
    let token = token(TOKEN_SECRET, &claims);
    let mut publisher = publish("token", &scene.url(&format!("token/cam1?token={token}")));
    let mut player = ffmpeg::Version::System.command();
    player.args(["-i", &play, "-c", "copy", "-f", "null", "-"]);
    let mut player = Process::start(dir, "player", &mut player);
    let mut dump = Command::new("rtmpdump");
    dump.args(["--live", "-r", &play, "-o"]).arg(scene.scratch.file("until.flv"));
    let mut dump = Process::start(dir, "dump", &mut dump);
    scene.relay.wait_for_role("publisher", 2);
    scene.relay.wait_for_role("player", 2);
    let began_late = began.elapsed();
    assert!(began_late < Duration::from_secs(LIFE_SECONDS - 2), "they took {began_late:?}");
    let over = Duration::from_secs(LIFE_SECONDS + 3);
    thread::sleep(over.saturating_sub(began.elapsed()));
    let revoked = || {
        let reason = [("reason", "revoked")];
        scene.relay.metrics().sum("relay_connections_closed_total", &reason).unwrap_or(0.0)
    };
    lasting.must_run();
    if !ends {
        for process in [&mut publisher, &mut player, &mut dump] {
            process.must_run();
        }
        assert_eq!(revoked(), 0.0);
        return;
    }
    assert!(!publisher.wait(END_MAX).success());
    player.wait(END_MAX);
    dump.wait(END_MAX);
    assert_eq!(revoked(), 3.0);
    lasting.must_run();
    for (process, why) in [
        (&publisher, "What was shown has expired"),
        (&player, "What was shown has expired"),
        (&dump, "NetStream.Play.Failed"),
    ] {
        let said = process.log();
        assert!(said.contains(why), "{why} is not in {said}");
    }
    scene.told_no_secret(&[token.rsplit('.').next().unwrap(), play.rsplit('=').next().unwrap()]);
}
