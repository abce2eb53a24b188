//! What the contracts say beyond the calls that every client causes: updates as nginx sends them,
//! the answers of SRS in JSON, and that whoever waits for an answer is not read meanwhile.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::comparable;
use crate::support::backend::{Answer, Backend, Received};
use crate::support::client::Client;
use crate::support::nginx::Nginx;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, http, wait_for};

const END_MAX: Duration = Duration::from_secs(30);

/// A publisher and a player, who stay until each was told of by an update.
fn stay(address: SocketAddr, backend: &Backend) {
    let mut clients = [(); 2].map(|()| {
        let mut client = Client::open(address).unwrap();
        client.enter("live").unwrap();
        client
    });
    clients[0].publish("cam?key=s+x&y=%41").unwrap();
    clients[1].play("cam?key=t").unwrap();
    for event in ["update_publish", "update_play"] {
        backend.wait(1, |request| request.event() == event);
    }
}

/// The first update of each kind, in a form that is equal whenever two servers mean the same.
fn updates(backend: &Backend, address: SocketAddr) -> Vec<Received> {
    let requests = comparable(backend.received(), address);
    let first = |event| requests.iter().find(|request| request.event() == event).unwrap().clone();
    let mut found = ["update_publish", "update_play"].map(first);
    for update in &mut found {
        for counted in ["time", "timestamp"] {
            let value = update.field(counted).unwrap();
            assert!(value.parse::<u32>().is_ok(), "{counted}={value}");
            let (before, after) = (format!("&{counted}={value}"), format!("&{counted}=N"));
            update.fields = update.fields.replace(&before, &after);
        }
    }
    found.into()
}

#[test]
fn nginx_and_the_relay_tell_alike_that_a_stream_goes_on() {
    for method in ["post", "get"] {
        let scratch = Scratch::new("alike-updates");
        let backends = [(); 2].map(|()| Backend::start(|_| Answer::Status(200)));
        let url = |backend: &Backend| backend.url("/update");
        let nginx = Nginx::start_with(
            scratch.path(),
            "",
            &format!(
                "on_update {}; notify_update_timeout 1s; notify_method {method};",
                url(&backends[0])
            ),
        );
        stay(nginx.address, &backends[0]);
        let configuration = format!(
            "[apps.live]\nhooks = \"nginx-rtmp\"\nhooks_method = \"{method}\"\n\
             hooks_update_interval = \"1s\"\non_update = \"{}\"\n",
            url(&backends[1])
        );
        let options = Options { configuration: &configuration, ..Options::default() };
        let relay = Relay::start(scratch.path(), &options);
        stay(relay.rtmp, &backends[1]);
        let theirs = updates(&backends[0], nginx.address);
        let ours = updates(&backends[1], relay.rtmp);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{method}");
        }
    }
}

#[test]
fn the_code_of_an_answer_of_srs_decides() {
    let scratch = Scratch::new("codes");
    let json = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        Answer::Raw(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).leak())
    };
    let backend = Backend::start(move |request| {
        let said = request.json().unwrap();
        match said["stream"].as_str().unwrap_or_default() {
            "yes" => json("{\"code\":0}"),
            "told" => json("{\"code\":0,\"msg\":\"welcome\",\"data\":null}"),
            "no" => json("{\"code\":1}"),
            "why" => json("{\"code\": 403, \"msg\":\"no such key\"}"),
            "text" => json("{\"code\":\"0\"}"),
            _ => json("{}"),
        }
    });
    let url = backend.url("/api/v1/streams");
    let configuration =
        format!("[apps.live]\nhooks = \"srs\"\non_publish = \"{url}\"\non_play = \"{url}\"\n");
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    for (name, lets_in) in [
        ("yes", true),
        ("told", true),
        ("no", false),
        ("why", false),
        ("text", false),
        ("x", false),
    ] {
        let entered = || {
            let mut client = Client::open(relay.rtmp).unwrap();
            client.enter("live").unwrap();
            client
        };
        let mut publisher = entered();
        assert_eq!(publisher.publish(name).is_ok(), lets_in, "{name}");
        assert_eq!(entered().play(name).is_ok(), lets_in, "{name}");
        let answer = http::get(relay.rtmp, &format!("/live/{name}.flv"));
        if !lets_in {
            assert_eq!(answer.unwrap().status, 403, "{name}");
        }
    }
}

#[test]
fn who_waits_for_a_verdict_is_not_read_and_loses_nothing() {
    const MESSAGES: u32 = 500;
    const EACH: usize = 8 * 1024;
    let scratch = Scratch::new("unread");
    let backend = Backend::start(|_| Answer::Late(Duration::from_secs(4)));
    let configuration = format!(
        "[apps.live]\nhooks = \"nginx-rtmp\"\non_publish = \"{}\"\n",
        backend.url("/publish")
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("live").unwrap();
    client.ask_to_publish("cam");
    let sending = thread::spawn(move || {
        // Audio: raw AAC, without a header before it.
        let mut audio = vec![0x5a; EACH];
        audio[..2].copy_from_slice(&[0xaf, 1]);
        for time in 0..MESSAGES {
            client.message(8, time * 20, 1, &audio);
        }
        client
    });
    backend.wait(1, |request| request.event() == "publish");
    let taken = || {
        let page = http::get(relay.http, "/api/v1/connections").unwrap().body;
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        page["items"][0]["bytes_in"].as_u64().unwrap()
    };
    let before = taken();
    thread::sleep(Duration::from_secs(2));
    let after = taken();
    println!("{before} and then {after} bytes were taken before the verdict");
    assert!(after < 150_000, "{after} bytes were taken before the verdict");
    let audio = || {
        let labels = [("type", "audio")];
        relay.metrics().sum("relay_ingest_messages_total", &labels).unwrap_or(0.0)
    };
    assert_eq!(audio(), 0.0);
    wait_for("all that was sent to be taken", END_MAX, || {
        (audio() == f64::from(MESSAGES)).then_some(())
    });
    drop(sending.join());
}
