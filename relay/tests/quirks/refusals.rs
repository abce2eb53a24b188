//! Who is refused is told why, and so is the operator: one line, with the words of the refusal.

use relay::worker::settings::{AppSettings, PublishConflict, Settings, UnknownStream};

use crate::scanners::logged;
use crate::support::node::Node;
use crate::support::script::{Script, publishing};

/// Lets a client ask, beside a publisher of `live/s`, and gives the line of its end.
fn closing_line(settings: &Settings, script: &Script) -> String {
    let log = logged(tracing::Level::INFO, || {
        let mut node = Node::with(settings.clone());
        let mut holder = node.client(&publishing());
        node.run(&mut [&mut holder], 100);
        let mut client = node.client(script);
        node.run(&mut [&mut holder, &mut client], 3_000);
        assert!(client.ended);
    });
    let mut lines = log.lines().filter(|line| line.contains("connection closed"));
    let line = lines.next().unwrap_or_else(|| panic!("nobody was closed: {log}")).to_owned();
    assert_eq!(lines.next(), None, "{log}");
    line
}

#[test]
fn a_refusal_is_logged_with_its_words() {
    let strict = AppSettings {
        publish_conflict: PublishConflict::Reject,
        unknown_stream: UnknownStream::Reject,
        ..AppSettings::default()
    };
    let settings = Settings { other_apps: strict, ..Settings::default() };
    let check = |script: Script, words: &str| {
        let line = closing_line(&settings, &script);
        let expected = format!("reason=\"refused\" detail=\"{words}\"");
        assert!(line.contains(&expected), "{words}: {line}");
    };
    let ready = || Script::plain().connect_encoder("live").create_stream(2.0);
    check(ready().publish(1, ""), "the stream name is empty");
    check(ready().publish(1, &"x".repeat(600)), "the stream name is too long");
    check(ready().publish(7, "x"), "There is no such message stream");
    check(ready().play(7, "x"), "There is no such message stream");
    check(ready().publish(1, "s"), "Stream already publishing");
    check(ready().play(1, "unheard-of"), "Nobody publishes this stream");
}

#[test]
fn a_publish_that_is_refused_is_logged_with_its_label() {
    let strict =
        AppSettings { publish_conflict: PublishConflict::Reject, ..AppSettings::default() };
    let settings = Settings { other_apps: strict, ..Settings::default() };
    let log = logged(tracing::Level::WARN, || {
        let mut node = Node::with(settings);
        let mut clients = [node.client(&publishing()), node.client(&publishing())];
        let [first, second] = &mut clients;
        node.run(&mut [first, second], 1_000);
    });
    assert!(log.contains("publish refused") && log.contains("reason=\"conflict\""), "{log}");
}

#[test]
fn an_end_without_more_to_say_has_no_detail_and_a_time_in_milliseconds() {
    let log = logged(tracing::Level::INFO, || {
        let mut node = Node::new();
        let client = node.connect();
        node.run(&mut [], 1_234);
        client.close();
        node.run(&mut [], 50);
    });
    let line = log.lines().find(|line| line.contains("connection closed")).unwrap();
    assert!(line.contains("reason=\"eof\"") && !line.contains("detail"), "{line}");
    let seconds = line.split("seconds=").nth(1).unwrap().split(' ').next().unwrap();
    let fraction = seconds.split_once('.').map_or("", |(_, fraction)| fraction);
    assert!(seconds.starts_with("1.2") && fraction.len() <= 3, "{line}");
}
