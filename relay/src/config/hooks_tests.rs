//! The settings of hooks, with each other and with the rules.

use std::fs;

use super::super::{Command, Effective, load};
use super::*;

fn read(text: &str) -> Result<Effective, Vec<String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let arguments = ["--config".into(), file.path().as_os_str().to_owned()];
    match load(arguments, []) {
        Ok(Command::Run(effective)) => Ok(*effective),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.sentences),
    }
}

#[test]
fn an_application_has_the_hooks_that_the_file_says() {
    let text = "[apps.\"*\"]\nhooks = \"srs\"\nhooks_timeout = \"3s\"\non_publish = [\"http://a/1\", \
                \"https://b:81/2\"]\n[apps.live]\non_play = \"http://c/?x,ftp://y\"\nhooks_retries = 0\n\
                play = [\"private and hook\"]\n[apps.other]\nhooks = \"nginx-rtmp\"\n\
                on_publish = \"localhost:8080/p\"\non_done = \"http://d/\"\nhooks_method = \"get\"\n";
    // A comma parts two URLs, and the second one is none.
    assert!(read(text).is_err());
    let settings = read(&text.replace("x,ftp://y", "x")).unwrap().config.settings;
    let live = settings.app("live");
    let texts = |name: HookName| {
        let urls = live.hooks.urls(name).iter();
        urls.map(|url| url.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts(HookName::OnPublish), ["http://a/1", "https://b:81/2"]);
    assert_eq!(texts(HookName::OnPlay), ["http://c/?x"]);
    assert_eq!((&*live.hooks.app, live.hooks.retries), ("live", 0));
    assert_eq!(live.hooks.timeout(), Duration::from_secs(3));
    assert_eq!(live.publish, Rules::hook(), "nobody wrote rules");
    assert!(live.play.asks_hook() && live.play != Rules::hook());
    let other = settings.app("other");
    assert_eq!(
        (other.hooks.contract, other.hooks.method),
        (Some(Contract::NginxRtmp), Method::Get)
    );
    assert_eq!(other.hooks.urls(HookName::OnPublish)[0].text, "http://localhost:8080/p");
    assert!(other.play.is_private(), "plays are not asked about");
    assert_eq!(&*settings.app("unheard of").hooks.app, "*");
}

#[test]
fn what_contradicts_itself_is_said() {
    #[track_caller]
    fn check(text: &str, words: &[&str]) {
        let sentences = read(text).unwrap_err().join("\n");
        for word in words {
            assert!(sentences.contains(word), "{word} is not in: {sentences}");
        }
    }
    check("[apps.live]\non_publish = \"http://a/\"\n", &["apps.live.on_publish", "off"]);
    let nginx = "[apps.live]\nhooks = \"nginx-rtmp\"\n";
    check(&format!("{nginx}on_stop = \"http://a/\"\n"), &["apps.live.on_stop", "\"srs\""]);
    let two = format!("{nginx}on_publish = [\"http://a/\", \"http://b/\"]\n");
    check(&two, &["apps.live.on_publish", "one URL"]);
    let srs = "[apps.live]\nhooks = \"srs\"\n";
    check(&format!("{srs}on_done = \"http://a/\"\n"), &["apps.live.on_done", "nginx-rtmp"]);
    check("[apps.live]\npublish = [\"hook\"]\n", &["apps.live.publish", "on_publish"]);
    let unasked = format!("{srs}on_play = \"http://a/\"\nplay = [\"private\"]\n");
    check(&unasked, &["apps.live.play", "\"hook\""]);
    check(&format!("{srs}on_play = \"ftp://a/\"\n"), &["apps.live.on_play", "http or https"]);
    check("[apps.live]\nhooks_timeout = \"0s\"\n", &["apps.live.hooks_timeout", "contract"]);
    check("[apps.live]\nhooks_concurrency = 0\n", &["hooks_concurrency", "1 to 4096"]);
    check("[apps.live]\nhooks_signature_header = \"a b\"\n", &["hooks_signature_header"]);
}
