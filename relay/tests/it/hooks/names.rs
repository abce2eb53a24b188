//! What back ends are told of is what clients are given: however a client writes the name of a
//! stream, where it cuts it, and whatever it asked for before.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::{Scratch, wait_for};
use sha2::{Digest, Sha256};

use crate::support::backend::{Answer, Backend, Received};
use crate::support::client::Client;
use crate::support::flv::curl;
use crate::support::http;
use crate::support::relay::{Options, Relay};

fn start(scratch: &Scratch, configuration: &str) -> Relay {
    Relay::start(scratch.path(), &Options { configuration, ..Options::default() })
}

fn field(request: &Received, name: &str) -> String {
    request.field(name).unwrap_or_default()
}

fn connected(address: SocketAddr, app: &str) -> Result<Client, String> {
    let mut client = Client::open(address).unwrap();
    client.enter(app)?;
    Ok(client)
}

#[test]
fn however_a_name_is_written_its_back_end_is_told_the_same() {
    let scratch = Scratch::new("written");
    let backend = Backend::start(|_| Answer::Status(403));
    let url = backend.url("/h");
    let relay = start(
        &scratch,
        &format!(
            "[apps.gate]\nhooks = \"nginx-rtmp\"\non_play = \"{url}\"\non_publish = \"{url}\"\n"
        ),
    );
    let told = |what: &str, expected: (&str, &str)| {
        let last = backend.received().pop().unwrap_or_else(|| panic!("{what}: nobody was asked"));
        let found = (field(&last, "app"), field(&last, "name"));
        assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{what}");
    };
    let written = [
        ("gate", "x"),
        ("gate", "mp4:x"),
        ("gate", "flv:x.flv"),
        ("gate", "/x"),
        ("gate", "//x/"),
        ("gate", "\"x\""),
        ("gate", " x"),
        ("gate/", "x"),
        ("/gate", "x"),
        ("\"gate\"", "x"),
        ("gate/_definst_", "x"),
        ("gate/x", ""),
        ("", "gate/x"),
        ("_definst_", "/gate//x"),
    ];
    for (app, name) in written {
        let what = format!("{app:?} {name:?}");
        assert!(connected(relay.rtmp, app).unwrap().play(name).is_err(), "{what}");
        told(&what, ("gate", "x"));
        assert!(connected(relay.rtmp, app).unwrap().publish(name).is_err(), "{what}");
        told(&what, ("gate", "x"));
    }
    // Nothing is decoded in RTMP, and what goes behind the first slash is the name's.
    for (app, name, expected) in
        [("gate", "%78", "%2578"), ("gate", "a/x", "a/x"), ("gate/a", "x", "a/x")]
    {
        assert!(connected(relay.rtmp, app).unwrap().play(name).is_err());
        told(name, ("gate", expected));
    }
    for path in ["x", "%78", "/x", "mp4:x", "%22x%22"] {
        let answer = http::get(relay.rtmp, &format!("/gate/{path}.flv")).unwrap();
        assert_eq!(answer.status, 403, "{path}");
        told(path, ("gate", "x"));
    }
    let asked = backend.received().len();
    assert_eq!(asked, 2 * written.len() + 3 + 5);
    assert_eq!(
        relay.metrics().sum("relay_refused_total", &[("reason", "hook")]),
        Some(asked as f64)
    );
}

/// The statuses of GETs of these paths on one connection, one after the other.
fn statuses(address: SocketAddr, paths: &[&str]) -> Vec<String> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut statuses = Vec::new();
    for path in paths {
        write!(socket, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut length = usize::MAX;
        while answer.len() < length {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
            if answer.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
                let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                length = answer.len() + value.unwrap().parse::<usize>().unwrap();
            }
        }
        statuses.push(String::from_utf8_lossy(&answer[9..12]).into_owned());
    }
    statuses
}

#[test]
fn each_request_of_a_connection_is_told_with_its_own_application() {
    let scratch = Scratch::new("kept-alive");
    let backend = Backend::start(|request| match field(request, "app").as_str() {
        "paid" => Answer::Status(403),
        _ => Answer::Status(200),
    });
    let url = backend.url("/h");
    let relay = start(
        &scratch,
        &format!(
            "[apps.\"*\"]\nhooks = \"nginx-rtmp\"\non_play = \"{url}\"\nhooks_cache = \"10m\"\n"
        ),
    );
    let paths = ["/open/x.flv", "/paid/x.flv", "/open/y.flv", "/paid/x.flv"];
    assert_eq!(statuses(relay.rtmp, &paths), ["404", "403", "404", "403"]);
    let received = backend.received();
    let told = received.iter().map(|request| (field(request, "app"), field(request, "tcurl")));
    let expected = ["open", "paid", "open"].map(|app| (app.to_owned(), format!("http://h/{app}")));
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn a_stream_key_in_the_name_is_not_told() {
    let scratch = Scratch::new("keys");
    let backend = Backend::start(|_| Answer::Status(200));
    let (url, keys) = (backend.url("/h"), scratch.file("keys"));
    let digest = Sha256::digest("saltthe-stream-key");
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&keys, format!("cam sha256:salt:{digits}\n")).unwrap();
    let keys = keys.display();
    let relay = start(
        &scratch,
        &format!(
            "[apps.form]\nhooks = \"nginx-rtmp\"\non_publish = \"{url}\"\n\
             on_publish_done = \"{url}\"\npublish = [\"key {keys} and hook\"]\n\
             [apps.json]\nhooks = \"srs\"\non_publish = \"{url}\"\non_unpublish = \"{url}\"\n\
             publish = [\"key {keys} and hook\"]\n\
             [apps.told]\nhooks = \"nginx-rtmp\"\non_publish_done = \"{url}\"\n\
             publish = [\"key {keys}\"]\n"
        ),
    );
    for app in ["form", "json", "told"] {
        connected(relay.rtmp, app).unwrap().publish("cam/the-stream-key").unwrap();
    }
    backend.wait(5, |_| true);
    for request in backend.received() {
        assert!(!request.fields.contains("the-stream-key"), "{request:?}");
        let name = match request.json() {
            Some(json) => format!("{} {}", json["app"], json["stream"]).replace('"', ""),
            None => format!("{} {}", field(&request, "app"), field(&request, "name")),
        };
        assert!(["form cam", "json cam", "told cam"].contains(&&*name), "{name}");
    }
}

#[test]
fn nobody_gets_past_on_connect_by_naming_the_application_later() {
    let scratch = Scratch::new("entry");
    let backend = Backend::start(|request| {
        match (request.event().as_str(), field(request, "app").as_str()) {
            ("connect", "gate") => Answer::Status(403),
            ("connect", "alias") => Answer::Redirect("inner/room"),
            _ => Answer::Status(200),
        }
    });
    let url = backend.url("/h");
    let hooks = format!(
        "hooks = \"nginx-rtmp\"\non_connect = \"{url}\"\non_disconnect = \"{url}\"\n\
         play = [\"everybody\"]\npublish = [\"everybody\"]\n"
    );
    let apps = ["gate", "open", "alias", "inner"];
    let relay = start(&scratch, &apps.map(|app| format!("[apps.{app}]\n{hooks}")).concat());
    assert!(connected(relay.rtmp, "gate").is_err());
    for name in ["gate/s", "mp4:gate/s"] {
        assert!(connected(relay.rtmp, "").unwrap().play(name).is_err(), "{name}");
        assert!(connected(relay.rtmp, "").unwrap().publish(name).is_err(), "{name}");
    }
    let told = |event: &str, app: &str| {
        let received = backend.received();
        let fits = |request: &&Received| request.event() == event && field(request, "app") == app;
        received.iter().filter(fits).count()
    };
    assert_eq!(told("connect", "gate"), 5);

    // Who is let in is let in once, and leaves once.
    let mut both = connected(relay.rtmp, "").unwrap();
    both.publish("open/s").unwrap();
    let mut usual = connected(relay.rtmp, "open").unwrap();
    usual.play("s").unwrap();
    assert_eq!((told("connect", "open"), told("disconnect", "open")), (2, 0));
    let paths = ["/gate/s.flv", "/open/none.flv", "/open/other.flv", "/gate/s.flv"];
    assert_eq!(statuses(relay.rtmp, &paths), ["403", "404", "404", "403"]);
    drop((both, usual));
    backend.wait(3, |request| request.event() == "disconnect" && field(request, "app") == "open");
    assert_eq!((told("connect", "open"), told("connect", "gate")), (3, 7));
    assert_eq!(told("disconnect", "gate"), 0);

    // A connect that is let in elsewhere is let in there.
    let mut renamed = connected(relay.rtmp, "").unwrap();
    renamed.publish("alias/x").unwrap();
    let found = http::get(relay.http, "/api/v1/streams/inner/room/x").unwrap();
    assert_eq!(found.status, 200);
    assert_eq!(told("connect", "inner"), 0);
}

#[test]
fn who_is_sent_on_asks_for_what_it_asked_for_here() {
    let scratch = Scratch::new("asked");
    let backend = Backend::start(|request| match request.event().as_str() {
        "connect" => Answer::Redirect("inner/room"),
        _ => Answer::Status(200),
    });
    let url = backend.url("/h");
    let relay = start(
        &scratch,
        &format!(
            "[overflow]\nto = [\"rtmp://other.example:1936\"]\n\
             [apps.the-key]\nhooks = \"nginx-rtmp\"\non_connect = \"{url}\"\n\
             [apps.inner]\nplayers_max = 1\n"
        ),
    );
    let mut publisher = connected(relay.rtmp, "the-key").unwrap();
    publisher.publish("x").unwrap();
    let mut first = connected(relay.rtmp, "the-key").unwrap();
    first.play("x").unwrap();
    let mut second = connected(relay.rtmp, "the-key?token=t").unwrap();
    assert!(second.play("x").is_err());
    let said = "play it from rtmp://other.example:1936\"";
    wait_for("the reason in the log", Duration::from_secs(5), || {
        relay.log().contains(said).then_some(())
    });
    let answer = curl(&["-i", &format!("http://{}/the-key/x.flv?token=t", relay.rtmp)]);
    let to = "Location: http://other.example:1936/the-key/x.flv?token=t&sent_on=1\r\n";
    assert!(answer.contains(to) && !answer.contains("inner"), "{answer}");
}

#[test]
fn a_stream_gets_another_name_within_its_application() {
    let scratch = Scratch::new("renamed");
    let backend = Backend::start(|_| Answer::Redirect("other"));
    let url = backend.url("/h");
    let relay = start(
        &scratch,
        &format!(
            "[limits]\nstream_grace = \"0s\"\n[apps.ren]\nhooks = \"nginx-rtmp\"\non_publish = \"{url}\"\n"
        ),
    );
    for (app, name) in [("ren", "x"), ("", "ren/x"), ("ren/sub", "x"), ("ren/x", "")] {
        let mut publisher = connected(relay.rtmp, app).unwrap();
        publisher.publish(name).unwrap();
        let found = http::get(relay.http, "/api/v1/streams/ren/other").unwrap();
        assert_eq!(found.status, 200, "{app:?} {name:?}");
        drop(publisher);
        wait_for("the end of the publisher", Duration::from_secs(5), || {
            let left = http::get(relay.http, "/api/v1/streams/ren/other").unwrap();
            (left.status == 404).then_some(())
        });
    }
}
