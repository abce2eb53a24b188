//! How many series there are, whatever clients do.

use std::time::{Duration, Instant};

use crate::support::amf::{self, Value};
use crate::support::client::Client;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, http, wait_for};

/// Series of a page.
fn series(relay: &Relay, path: &str) -> usize {
    let page = http::get(relay.http, path).unwrap();
    assert_eq!(page.status, 200, "{path}");
    page.body.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn ten_thousand_names_do_not_raise_the_number_of_series_beyond_the_cap() {
    const CLIENTS: u32 = 625;
    const EACH: u32 = 16;
    const SHOWN: usize = 200;
    let scratch = Scratch::new("series");
    let configuration = "[limits]\nhandshakes_per_address_max = 100000\nidle_timeout = \"5m\"\n\
                         publisher_silence_max = \"5m\"\n";
    let options = Options { configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let mut first = Client::open(relay.rtmp).unwrap();
    first.enter("live").unwrap();
    first.publish("first").unwrap();
    let before = series(&relay, "/metrics");
    let publish = |client: u32| {
        let mut it = Client::open(relay.rtmp).unwrap();
        it.enter("live").unwrap();
        let create = [Value::String("createStream"), Value::Number(2.0), Value::Null];
        for _ in 1..EACH {
            it.message(20, 0, 0, &amf::bytes(&create));
        }
        for stream in 1..=EACH {
            let name = format!("name-{client}-{stream}");
            let command = [Value::String("publish"), Value::Number(3.0), Value::Null];
            let arguments = [Value::String(&name), Value::String("live")];
            it.message(20, 0, stream, &amf::bytes(&[&command[..], &arguments].concat()));
        }
        it
    };
    let clients: Vec<Client> = (0..CLIENTS).map(publish).collect();
    let page = wait_for("ten thousand names to be live", Duration::from_secs(60), || {
        let page = relay.metrics();
        (page.sum("relay_streams", &[]) == Some(f64::from(CLIENTS * EACH + 1))).then_some(page)
    });
    assert_eq!(page.sum("relay_connections", &[]), Some(f64::from(CLIENTS + 1)));
    assert_eq!(series(&relay, "/metrics"), before);
    let start = Instant::now();
    // Five of each that is shown, as many of all others, and how many those are.
    let of_streams = series(&relay, "/metrics/streams");
    println!(
        "{before} and {of_streams} series, the latter within {:?}; /metrics within {} s",
        start.elapsed(),
        page.sum("relay_scrape_duration_seconds", &[]).unwrap()
    );
    assert!((SHOWN..=(SHOWN + 1) * 5 + 1).contains(&of_streams), "{of_streams}");
    // And so it stays, whichever are shown.
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(series(&relay, "/metrics/streams") <= (SHOWN + 1) * 5 + 1);
    drop(clients);
}
