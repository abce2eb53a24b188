//! Reloads: sessions that began before one go on by what they began with.

use super::*;
use crate::config::{self, Command};

/// What a configuration of hooks with this file of a secret is read as.
fn configured(secret: &std::path::Path, url: &str) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "[apps.\"*\"]\nhooks = \"nginx-rtmp\"\non_publish = \"{url}\"\nhooks_secret_file = \"{}\"\n",
        secret.display()
    );
    std::fs::write(file.path(), text).unwrap();
    match config::load(["--config".into(), file.path().into()], []) {
        Ok(Command::Run(effective)) => effective.config,
        Ok(other) => panic!("{other:?}"),
        Err(error) => panic!("{:?}", error.sentences),
    }
}

#[test]
fn a_secret_of_before_a_reload_is_good_while_somebody_uses_it() {
    run(async {
        let secret = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        };
        let (old, new) = (secret("old"), secret("new"));
        let path = old.path().to_owned();
        let change = move |settings: &mut HookSettings, _: &mut Limits| {
            settings.secret_file = Some(path);
        };
        let scene = Scene::new(change, always(OK)).await;
        let url = scene.settings.urls(HookName::OnPublish)[0].text.clone();
        let config = configured(new.path(), &url);
        let settings = Arc::clone(&config.settings.other_apps.hooks);
        let by = async |number: u64, settings: &Arc<HookSettings>| {
            let question = Question { number, stream: Some(Scene::stream(number, true)) };
            let (settings, client) = (Arc::clone(settings), Scene::client(number));
            let call = Call { settings, client, subject: Subject::Ask(question) };
            assert!(scene.hooks.shared.hooks().send(call).is_ok());
            let verdict = scene.answer().await.verdict;
            let request = scene.requests.lock().pop().unwrap_or_default();
            let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
            let signed = |secret: &[u8]| {
                let header = request.lines().find_map(|line| line.split_once(": t="));
                let unix = header.unwrap().1.split(',').next().unwrap().parse().unwrap();
                request.contains(&sign::signature(secret, unix, body.as_bytes()))
            };
            assert_eq!(verdict, Verdict::Go { told: true });
            ["old", "new"].map(|secret| signed(secret.as_bytes()))
        };
        assert_eq!(by(1, &scene.settings).await, [true, false]);
        let mut files = Files::new(&scene.hooks);
        files.prepare(&config).unwrap();
        // Workers have the new settings before all is committed.
        assert_eq!(by(2, &settings).await, [false, true]);
        files.commit();
        assert_eq!(by(3, &settings).await, [false, true]);
        assert_eq!(by(4, &scene.settings).await, [true, false]);
        // Once nobody goes by the old settings, their secret is forgotten.
        let weak = Arc::downgrade(&scene.settings);
        let Scene { settings: before, hooks, .. } = scene;
        drop(before);
        while weak.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        files.prepare(&config).unwrap();
        files.commit();
        assert!(hooks.keys.read().secret(old.path()).is_none());
        assert!(hooks.keys.read().secret(new.path()).is_some());
    });
}
