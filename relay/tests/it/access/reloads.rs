//! Rules, the files that they name, and hooks change while real programs publish and play: who
//! comes goes by the new ones, who is in loses no frame, and what is wrong changes nothing.

use std::fs;

use super::guessing::{answer, challenge, refusal};
use super::{END_MAX, printed};
use crate::support::backend::{Answer, Backend};
use crate::support::client::Client;
use crate::support::clip::{Clip, LENGTH};
use crate::support::packets::Recording;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, ffmpeg, http};

/// The files of a relay, as the test has them now.
struct Files {
    scratch: Scratch,
}

impl Files {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.scratch.file(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Files with these secrets, and a configuration that names them.
    fn all(&self, secret: &str, gate: &str, backend: &Backend) -> String {
        let line = printed(&["key", "--stdin", "*"], &format!("key-of-the-{secret}-file"));
        let line = line.lines().find_map(|line| line.strip_prefix("line: ")).unwrap().to_owned();
        let keys = self.write("keys", &format!("{line}\n"));
        let users = self.write("users", &format!("* alice password-of-the-{secret}-file\n"));
        let urls = self.write("urls", &format!("url-secret-of-the-{secret}-file\n"));
        let url = backend.url("/h");
        format!(
            "[apps.\"*\"]\nplay = [\"everybody\"]\n\
             [apps.key]\npublish = [\"key {keys}\"]\nplay = [\"everybody\"]\n\
             [apps.user]\npublish = [\"password {users}\"]\nplay = [\"everybody\"]\n\
             [apps.url]\npublish = [\"signed {urls}\"]\nplay = [\"everybody\"]\n\
             [apps.gate]\npublish = [\"{gate}\"]\nplay = [\"everybody\"]\n\
             [apps.asked]\nhooks = \"nginx-rtmp\"\non_publish = \"{url}\"\non_play = \"{url}\"\n"
        )
    }

    fn signed(&self, relay: &Relay, name: &str) -> String {
        let secrets = self.scratch.file("urls");
        let url = format!("rtmp://{}/url/{name}", relay.rtmp);
        let fixed = ["sign", "--secrets", secrets.to_str().unwrap(), "--action", "publish"];
        let signed = printed(&[&fixed[..], &[&url]].concat(), "");
        signed.trim().rsplit_once('/').unwrap().1.to_owned()
    }
}

#[test]
fn a_reload_of_rules_keys_users_and_hooks_under_load_loses_no_frame() {
    let files = Files { scratch: Scratch::new("access-reloads") };
    let backends = [(); 2].map(|()| Backend::start(|_| Answer::Status(200)));
    let configuration = files.all("first", "nobody", &backends[0]);
    let dir = files.scratch.path();
    let relay = Relay::start(dir, &Options { configuration: &configuration, ..Options::default() });
    let publishes = |app: &str, name: &str| {
        let mut client = Client::open(relay.rtmp).unwrap();
        client.enter(app).unwrap();
        client.publish(name).is_ok()
    };
    let logs_in = |secret: &str| {
        let query = answer(&challenge(&relay, ""), &format!("password-of-the-{secret}-file"));
        refusal(&relay, "", &query).is_ok()
    };
    let key = |secret: &str| format!("other?key=key-of-the-{secret}-file");
    let asked = |backend: &Backend, name: &str| {
        let names = backend.received();
        names.iter().filter(|it| it.field("name").as_deref() == Some(name)).count()
    };
    let old_url = files.signed(&relay, "other");

    // Who is there throughout, let in by what holds no longer soon.
    let file = |name: &str| files.scratch.file(&format!("{name}.flv"));
    let url = |path: &str| format!("rtmp://{}/{path}", relay.rtmp);
    let mut players = Vec::new();
    for (app, count) in [("key", 2), ("asked", 1)] {
        for number in 0..count {
            let name = format!("{app}-{number}");
            let player = ffmpeg::record(dir, &name, &url(&format!("{app}/cam")), &file(&name));
            players.push((name, player));
        }
    }
    relay.wait_for_role("player", 3);
    let mut publishers = [
        ffmpeg::publish(dir, "keyed", Clip::Plain, &url("key/cam?key=key-of-the-first-file")),
        ffmpeg::publish(dir, "asked", Clip::Plain, &url("asked/cam")),
    ];
    relay.wait_for_role("publisher", 2);

    let reload = |text: &str| {
        fs::write(dir.join("relay-1.toml"), text).unwrap();
        http::ask(relay.http, "POST", "/api/v1/reload").unwrap()
    };
    let good = files.all("second", "private", &backends[1]);
    let answered = reload(&good);
    assert_eq!(answered.status, 200, "{}", answered.body);
    for publisher in &mut publishers {
        publisher.must_run();
    }
    let new_holds = || {
        assert!(!publishes("key", &key("first")) && publishes("key", &key("second")));
        assert!(!logs_in("first") && logs_in("second"));
        assert!(!publishes("url", &old_url));
        assert!(publishes("gate", "other"));
    };
    new_holds();
    assert!(publishes("url", &files.signed(&relay, "new")));
    assert!(publishes("asked", "new"));
    assert_eq!((asked(&backends[0], "new"), asked(&backends[1], "new")), (0, 1));

    // One mistake in a file, or in a rule, and nothing changes, right as the rest of it may be.
    let right = files.all("third", "nobody", &backends[0]);
    files.write("keys", "cam1 no-digest\n");
    let refused = reload(&right);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("keys") && refused.body.contains("line 1"), "{}", refused.body);
    assert!(!refused.body.contains("no-digest"), "{}", refused.body);
    new_holds();
    files.all("third", "nobody", &backends[0]);
    let refused = reload(&right.replace("[\"nobody\"]", "[\"sesame\"]"));
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("sesame"), "{}", refused.body);
    new_holds();
    assert!(publishes("asked", "newer"));
    assert_eq!((asked(&backends[0], "newer"), asked(&backends[1], "newer")), (0, 1));
    // Again and again, as long as they are there.
    for round in 0..8 {
        let secret = if round % 2 == 0 { "first" } else { "second" };
        let gate = if round % 2 == 0 { "everybody" } else { "nobody" };
        let answered = reload(&files.all(secret, gate, &backends[round % 2]));
        assert_eq!(answered.status, 200, "{}", answered.body);
        assert_eq!(publishes("gate", "other"), round % 2 == 0);
        assert!(publishes("key", &key(secret)));
    }

    for publisher in &mut publishers {
        publisher.succeed(LENGTH + END_MAX);
    }
    let sent = Clip::Plain.sent();
    for (name, player) in &mut players {
        player.succeed(END_MAX);
        assert_eq!(sent.check_whole(&Recording::of_file(&file(name))), Ok(()), "{name}");
    }
    let metrics = relay.metrics();
    for reason in ["hook", "revoked", "limit", "slow"] {
        let closed = metrics.sum("relay_connections_closed_total", &[("reason", reason)]);
        assert_eq!(closed.unwrap_or(0.0), 0.0, "{reason}");
    }
    let reloads = |result| metrics.sum("relay_config_reloads_total", &[("result", result)]);
    assert_eq!((reloads("ok"), reloads("error")), (Some(9.0), Some(2.0)));
}
