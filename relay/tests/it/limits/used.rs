//! How much of each limit is used, as an operator reads it.

use std::fs;
use std::time::Duration;

use super::END_MAX;
use crate::support::client::{Client, Player};
use crate::support::clip::Clip;
use crate::support::relay::{Options, Relay, command};
use crate::support::{Scratch, ffmpeg, wait_for};

const KEY: &str = "stream-key-of-the-limits";

/// The line of a file of keys, as the relay makes it.
fn key_line(scratch: &Scratch) -> String {
    let input = scratch.file("key");
    fs::write(&input, KEY).unwrap();
    let mut command = command();
    command.args(["key", "--stdin", "*"]).stdin(fs::File::open(&input).unwrap());
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    said.lines().find_map(|line| line.strip_prefix("line: ")).unwrap().to_owned()
}

#[test]
fn every_limit_shows_how_much_of_it_is_used() {
    let scratch = Scratch::new("used");
    let dir = scratch.path();
    let keys = scratch.file("keys");
    fs::write(&keys, key_line(&scratch)).unwrap();
    let configuration = format!(
        "[limits]\nexempt = \"nobody\"\n\
         [apps.live]\npublish = [\"key {}\"]\npublishers_per_key_max = 2\nplayers_max = 7\n\
         players_per_stream_max = 5\n",
        keys.display()
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(dir, &options);
    let entered = || {
        let mut client = Client::open(relay.rtmp).unwrap();
        client.enter("live").unwrap();
        client
    };
    let url = relay.url(&format!("cam?key={KEY}"));
    let mut publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Plain, 3, &url);
    relay.wait_for_role("publisher", 1);
    let players =
        [(); 2].map(|()| Player::join(Client::open(relay.rtmp).unwrap(), "live", "cam").unwrap());
    let readers = players.map(|mut player| {
        std::thread::spawn(move || {
            // Until the test ends and the relay with it.
            let end = std::time::Instant::now() + Duration::from_secs(120);
            let _ = player.read(end, |_| false);
        })
    });
    // One that publishes nothing, with the same key.
    let mut idle = entered();
    idle.publish(&format!("other?key={KEY}")).unwrap();

    // The third name of the key is one too many.
    assert!(entered().publish(&format!("third?key={KEY}")).is_err());
    let metrics = relay.metrics();
    let refused = metrics.sum("relay_refused_total", &[("reason", "key_publishers")]);
    assert_eq!(refused, Some(1.0));
    let mut third =
        ffmpeg::publish(dir, "third", Clip::Plain, &relay.url(&format!("third?key={KEY}")));
    assert!(!third.wait(END_MAX).success());
    let why = "Your key publishes as many streams as it may";
    assert!(third.log().contains(why), "{}", third.log());

    let used = |name: &str| relay.metrics().sum("relay_limit_used", &[("name", name)]).unwrap();
    #[track_caller]
    fn check(name: &str, used: impl Fn(&str) -> f64, fits: impl Fn(f64) -> bool) {
        let what = format!("{name} to be used as it is");
        wait_for(&what, END_MAX, || fits(used(name)).then_some(()));
    }
    for (name, exactly) in [
        ("connections_max", 4.0),
        ("connections_per_address_max", 4.0),
        ("streams_max", 2.0),
        ("players_max", 2.0),
        ("players_per_app_max", 2.0),
        ("players_per_stream_max", 2.0),
        ("publishers_per_key_max", 2.0),
    ] {
        check(name, used, |found| found == exactly);
    }
    for (name, least) in [
        ("ingest_rate_max", 20_000.0),
        ("egress_rate_max", 40_000.0),
        ("session_max", 2.0),
        ("publisher_idle_max", 2.0),
        ("log_bytes_total", 10_000.0),
    ] {
        check(name, used, |found| found >= least);
    }
    // Of handshakes the most of a second since the last look.
    wait_for("handshakes to be counted", END_MAX, || {
        let burst = [(); 3].map(|()| Client::open(relay.rtmp).unwrap());
        std::thread::sleep(Duration::from_millis(600));
        let fits = used("handshakes_per_address_max") >= 3.0;
        drop(burst);
        fits.then_some(())
    });
    publisher.must_run();
    drop((publisher, idle, relay));
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn limits_of_applications_are_shown_with_them() {
    let scratch = Scratch::new("app-limits");
    let configuration = "[apps.\"show*\"]\nplayers_max = 10\nplayers_per_stream_max = 9\n\
                         session_max = \"2h\"\n";
    let options = Options { configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let join =
        |app: &str, name: &str| Player::join(Client::open(relay.rtmp).unwrap(), app, name).unwrap();
    let _players = [
        join("show1", "a"),
        join("show1", "a"),
        join("show1", "b"),
        join("show2", "a"),
        join("other", "a"),
    ];
    let shown =
        |metric: &str, name: &str| relay.metrics().sum(metric, &[("app", "show*"), ("name", name)]);
    for (name, limit, used) in [
        ("players_max", 10.0, Some(3.0)),
        ("players_per_stream_max", 9.0, Some(2.0)),
        ("session_max", 7_200.0, None),
    ] {
        assert_eq!(shown("relay_app_limit", name), Some(limit), "{name}");
        wait_for(&format!("{name} to be used as it is"), END_MAX, || {
            (shown("relay_app_limit_used", name) == used).then_some(())
        });
    }
    assert_eq!(relay.metrics().sum("relay_app_limit", &[("app", "*")]), None);
}
