//! OBS Studio against each rule, with the right secret and a wrong one: its fields for user and
//! password, and what can be written into its stream key.

use std::fs;
use std::time::Duration;

use super::{KEY, PASSWORD, Scene, TOKEN_SECRET, token, unix};
use crate::support::backend::{Answer, Backend, Received};
use crate::support::obs::{Login, Obs};
use crate::support::wait_for;

/// OBS takes some seconds to come up.
const OBS_MAX: Duration = Duration::from_secs(60);

/// What OBS is told to show, and why it is refused, if it is.
struct Shown<'a> {
    app: &'a str,
    name: String,
    login: Option<Login<'a>>,
    refused: Option<&'a str>,
}

/// Starts OBS once for each, which has to be let in, or refused for that reason.
fn obs_is_judged(scene: &Scene, all: Vec<Shown<'_>>) {
    for (number, shown) in all.into_iter().enumerate() {
        let dir = scene.scratch.path().join(format!("obs-{number}"));
        fs::create_dir_all(&dir).unwrap();
        let Shown { app, name, login, refused } = shown;
        let before = refused.map_or(0.0, |reason| scene.refused(reason));
        let obs = Obs::publish_as(&dir, &scene.url(app), &name, login);
        wait_for(&format!("OBS to be judged in {app} ({refused:?})"), OBS_MAX, || match refused {
            None => (scene.publishers() == 1.0).then_some(()),
            Some(reason) => (scene.refused(reason) > before).then_some(()),
        });
        assert!(refused.is_none() || scene.publishers() == 0.0, "{app}: {refused:?}");
        if refused.is_some() {
            let said = obs.process.log();
            let told: Vec<_> = said.lines().filter(|line| line.contains("[rtmp stream")).collect();
            println!("OBS in {app} ({refused:?}): {told:#?}");
        }
        drop(obs);
        scene.relay.wait_for_role("publisher", 0);
    }
}

#[test]
fn obs_shows_its_password_and_its_key() {
    let scene = Scene::new("access-obs");
    let user = |app: &'static str, password: &'static str, refused: Option<&'static str>| Shown {
        app,
        name: "cam-obs".to_owned(),
        login: Some(Login { user: "alice", password }),
        refused,
    };
    let key = |key: &str, refused: Option<&'static str>| {
        let name = format!("cam-obs?key={key}");
        Shown { app: "key", name, login: None, refused }
    };
    let all = vec![
        user("user", PASSWORD, None),
        user("user", "a-guess-of-a-password", Some("password")),
        user("llnw", PASSWORD, None),
        user("llnw", "a-guess-of-a-password", Some("password")),
        key(KEY, None),
        key("a-guess-of-a-key", Some("key")),
    ];
    obs_is_judged(&scene, all);
    scene.told_no_secret(&["a-guess-of-a-key", "a-guess-of-a-password"]);
}

#[test]
fn obs_goes_by_signed_urls_tokens_addresses_and_hooks() {
    let lets_in = |request: &Received| match request.json() {
        Some(json) if json["param"] == "?pass=right-for-the-hook" => Answer::Status(200),
        _ => Answer::Status(403),
    };
    let backend = Backend::start(lets_in);
    let url = backend.url("/publish");
    let more = format!("[apps.hook]\nhooks = \"srs\"\non_publish = \"{url}\"\n");
    let scene = Scene::with("access-obs-rules", &more);
    let signed = scene.signed("url/cam1", "publish", &[]);
    let signed = signed.rsplit('/').next().unwrap();
    let token = |publish: &str| {
        let claims = serde_json::json!({"exp": unix() + 600, "publish": publish});
        token(TOKEN_SECRET, &claims)
    };
    let (fine, other) = (token("token/cam1"), token("token/cam2"));
    let shown = |app: &'static str, name: &str, refused: Option<&'static str>| Shown {
        app,
        name: name.to_owned(),
        login: None,
        refused,
    };
    let all = vec![
        shown("url", signed, None),
        shown("url", &signed.replace("cam1", "cam2"), Some("signature")),
        shown("token", &format!("cam1?token={fine}"), None),
        shown("token", &format!("cam1?token={other}"), Some("scope")),
        shown("far", "cam1", Some("address")),
        shown("near", "cam1", None),
        shown("open", "cam1", None),
        shown("closed", "cam1", Some("nobody")),
        shown("hook", "cam1?pass=right-for-the-hook", None),
        shown("hook", "cam1?pass=wrong-for-the-hook", Some("hook")),
    ];
    obs_is_judged(&scene, all);
    let signature = |text: &str, sign: char| text.rsplit_once(sign).unwrap().1.to_owned();
    let secrets = [signature(signed, '='), signature(&fine, '.'), signature(&other, '.')];
    let secrets =
        [&secrets[0], &secrets[1], &secrets[2], "right-for-the-hook", "wrong-for-the-hook"];
    scene.told_no_secret(&secrets);
}
