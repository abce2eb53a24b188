//! Back ends that speak nginx-rtmp's or SRS's callbacks: asked and told as those servers do it,
//! whatever they do themselves.

mod contracts;
mod forward;
mod names;
mod revoked;
mod secrets;
mod storm;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::amf::Value;
use crate::support::backend::{Answer, Backend, Received};
use crate::support::client::{Client, Player};
use crate::support::clip::{Clip, LENGTH};
use crate::support::http;
use crate::support::nginx::Nginx;
use crate::support::packets::Recording;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, ffmpeg, gstreamer, rtmpdump, wait_for};

const END_MAX: Duration = Duration::from_secs(30);

/// Every printable character that may be in a name, and some that are not ASCII.
const ODD_NAME: &str = "a!\"#$%&'()*+,-.:;<=>@[\\]^_`{|}~\u{e9} b";

/// What the nginx-rtmp contract tells of one publisher and one player, in the order of letters.
const EVENTS_OF_BOTH: [&str; 10] = [
    "connect",
    "connect",
    "disconnect",
    "disconnect",
    "done",
    "done",
    "play",
    "play_done",
    "publish",
    "publish_done",
];

/// All events of the nginx-rtmp contract, at one back end.
fn nginx_events(backend: &Backend) -> String {
    let events = ["connect", "disconnect", "publish", "publish_done", "play", "play_done", "done"];
    let line = |event: &&str| format!("on_{event} = \"{}\"\n", backend.url(&format!("/{event}")));
    events.iter().map(line).collect()
}

/// All events of the SRS contract, at one back end.
fn srs_events(backend: &Backend) -> String {
    let events = ["connect", "close", "publish", "unpublish", "play", "stop"];
    let line = |event: &&str| format!("on_{event} = \"{}\"\n", backend.url("/api/v1/clients"));
    events.iter().map(line).collect()
}

/// What a client with odd tastes does with a server: a publisher and a player of its stream, one
/// after the other, each saying everything that can be said.
fn visit(address: SocketAddr, name: &str) {
    let open = || {
        let mut client = Client::open(address).unwrap();
        let url = format!("rtmp://{address}/live?tc=1");
        client
            .enter_with(&[
                ("app", Value::String("live?a=b&c=%20d")),
                ("flashVer", Value::String("FMLE/3.0 (compatible; \"x\")")),
                ("swfUrl", Value::String("http://swf.example/p.swf?x=1&y=2")),
                ("tcUrl", Value::String(&url)),
                ("pageUrl", Value::String("http://page.example/#top")),
            ])
            .unwrap();
        client
    };
    let mut publisher = open();
    publisher.publish(&format!("{name}?key=s+x&y=%41")).unwrap();
    let mut player = open();
    player
        .play_with(&[
            Value::String(name),
            Value::Number(-2000.0),
            Value::Number(-1.0),
            Value::Bool(true),
        ])
        .unwrap();
    drop(player);
    thread::sleep(Duration::from_millis(300));
    drop(publisher);
}

/// Requests in a form that is equal whenever two servers mean the same: without the port of the
/// server in tcUrl, and without the two numbers that count differently.
fn comparable(mut requests: Vec<Received>, address: SocketAddr) -> Vec<Received> {
    for request in &mut requests {
        request.fields = request.fields.replace(&address.to_string(), "SERVER");
        for counted in ["clientid", "epoch"] {
            if let Some(value) = request.field(counted) {
                assert!(value.parse::<u64>().is_ok(), "{counted}={value}");
                let found = format!("&{counted}={value}");
                request.fields = request.fields.replace(&found, &format!("&{counted}=N"));
            }
        }
        for (key, value) in &mut request.headers {
            if key == "Content-Length" && value != "0" {
                *value = "some".to_owned();
            }
        }
    }
    // nginx tells of the end of connections that said nothing, such as those that look whether it
    // listens.
    requests.retain(|request| !request.fields.starts_with("app=&flashver=&"));
    // Two connections end at their own pace.
    requests.sort_by_key(|request| (request.event(), request.fields.clone()));
    requests
}

#[test]
fn nginx_and_the_relay_call_a_back_end_alike() {
    for method in ["post", "get"] {
        let scratch = Scratch::new("alike");
        let mut lists = Vec::new();
        for ours in [false, true] {
            let backend = Backend::start(|_| Answer::Status(200));
            let address = if ours {
                let configuration = format!(
                    "[apps.live]\nhooks = \"nginx-rtmp\"\nhooks_method = \"{method}\"\n{}",
                    nginx_events(&backend)
                );
                let configuration = &configuration;
                let options = Options { configuration, ..Options::default() };
                let relay = Relay::start(scratch.path(), &options);
                visit(relay.rtmp, ODD_NAME);
                backend.wait(10, |_| true);
                relay.rtmp
            } else {
                let events = nginx_events(&backend).replace(" = ", " ").replace("\"\n", "\";\n");
                let (of_server, of_app): (Vec<&str>, Vec<&str>) =
                    events.lines().partition(|line| line.contains("connect"));
                let method = format!("notify_method {method};");
                let server = format!("{}{method}", of_server.concat());
                let app = format!("{}{method}", of_app.concat());
                let nginx = Nginx::start_with(scratch.path(), &server, &app);
                // nginx leaves out what the relay tells too: it cannot call for names that hold a
                // quote or the like any differently.
                visit(nginx.address, ODD_NAME);
                backend.wait(10, |_| true);
                nginx.address
            };
            thread::sleep(Duration::from_millis(500));
            lists.push(comparable(backend.received(), address));
        }
        let events: Vec<String> = lists[0].iter().map(Received::event).collect();
        assert_eq!(events, EVENTS_OF_BOTH, "{:#?}", lists[0]);
        for (theirs, ours) in lists[0].iter().zip(&lists[1]) {
            assert_eq!(ours, theirs, "{method}");
        }
        assert_eq!(lists[0].len(), lists[1].len());
    }
}

#[test]
fn the_relay_calls_a_back_end_of_srs_as_its_documents_say() {
    let scratch = Scratch::new("srs");
    let backend = Backend::start(|_| Answer::Status(200));
    let configuration = format!(
        "[node]\nname = \"n1\"\n[apps.live]\nhooks = \"srs\"\nhooks_vhosts = \"v.example\"\n{}",
        srs_events(&backend)
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    visit(relay.rtmp, "livestream.flv");
    backend.wait(8, |_| true);
    thread::sleep(Duration::from_millis(300));
    let requests = backend.received();
    let mut events: Vec<String> = requests.iter().map(Received::event).collect();
    events.sort();
    let expected = [
        "on_close",
        "on_close",
        "on_connect",
        "on_connect",
        "on_play",
        "on_publish",
        "on_stop",
        "on_unpublish",
    ];
    assert_eq!(events, expected);
    let keys = |event: &str| {
        let request = requests.iter().find(|request| request.event() == event).unwrap();
        assert_eq!(request.line, "POST /api/v1/clients");
        let json = request.json().unwrap();
        assert_eq!(json["server_id"], "n1");
        assert_eq!((&json["vhost"], &json["app"]), (&"__defaultVhost__".into(), &"live".into()));
        assert_eq!(json["ip"], "127.0.0.1");
        let mut keys: Vec<String> = json.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        (keys.join(" "), json)
    };
    let common = "action app client_id ";
    let (connect, json) = keys("on_connect");
    let rest = "ip pageUrl param server_id service_id stream tcUrl vhost";
    assert_eq!(connect, format!("{common}{rest}"));
    assert_eq!(json["param"], "?a=b&c=%20d&tc=1");
    assert_eq!(json["pageUrl"], "http://page.example/#top");
    let (close, json) = keys("on_close");
    assert_eq!(close, format!("{common}ip recv_bytes send_bytes server_id service_id vhost"));
    assert!(json["recv_bytes"].as_u64() > Some(3_000), "{json}");
    let rest = "ip param server_id service_id stream stream_id stream_url tcUrl vhost";
    for event in ["on_publish", "on_unpublish"] {
        let (keys, json) = keys(event);
        assert_eq!(keys, format!("{common}{rest}"));
        assert_eq!(json["stream"], "livestream");
        assert_eq!(json["stream_url"], "/live/livestream");
        assert_eq!(json["param"], "?key=s+x&y=%41&a=b&c=%20d&tc=1");
        assert_eq!(json["tcUrl"], format!("rtmp://{}/live?tc=1", relay.rtmp));
    }
    let (stop, _) = keys("on_stop");
    assert_eq!(stop, format!("{common}{rest}"));
    let (play, _) = keys("on_play");
    assert_eq!(play, format!("{common}ip pageUrl {}", rest.strip_prefix("ip ").unwrap()));
    // Each client is one client from its first call to its last.
    let ids = |event: &str| {
        let of = requests.iter().filter(|request| request.event() == event);
        of.map(|request| request.json().unwrap()["client_id"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids("on_publish"), ids("on_unpublish"));
    assert_eq!(ids("on_play"), ids("on_stop"));
    assert_ne!(ids("on_play"), ids("on_publish"));
}

#[test]
fn real_programs_are_let_in_kept_out_and_let_in_under_another_name() {
    let scratch = Scratch::new("verdicts");
    let dir = scratch.path();
    let by_name = |request: &Received| {
        let name = request.field("name").unwrap_or_default();
        match (request.event().as_str(), name.as_str()) {
            ("publish", "s3cr3t-key") => Answer::Redirect("camera"),
            ("play", "alias") => Answer::Redirect("camera"),
            ("play", "elsewhere") => Answer::Redirect("rtmp://192.0.2.1/live/x"),
            ("publish" | "play", "camera") if request.field("key").as_deref() != Some("t0ken") => {
                Answer::Status(403)
            }
            _ => Answer::Status(200),
        }
    };
    let backend = Backend::start(by_name);
    std::fs::write(scratch.file("secret"), "h00k-secret\n").unwrap();
    let url = backend.url("/h?backend=p4ssword");
    let configuration = format!(
        "[limits]\nstream_grace = \"2s\"\n[log]\nlevel = \"trace\"\n\
         [apps.live]\nhooks = \"nginx-rtmp\"\non_publish = \"{url}\"\non_play = \"{url}\"\n\
         on_publish_done = \"{url}\"\non_play_done = \"{url}\"\nhooks_secret_file = \"{}\"\n\
         hooks_play_elsewhere = \"redirect\"\n",
        scratch.file("secret").display()
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(dir, &options);
    let file = |name: &str| scratch.file(&format!("{name}.flv"));

    // Players wait for the stream under its own name, with a token, and under another one.
    let mut players = [
        ("ffmpeg", ffmpeg::record(dir, "ffmpeg", &relay.url("camera?key=t0ken"), &file("ffmpeg"))),
        ("dump", rtmpdump::record(dir, "dump", &relay.url("alias"), &file("dump"))),
        ("gst", gstreamer::record(dir, "gst", &relay.url("alias"), &file("gst"))),
    ];
    relay.wait_for_role("player", 3);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("s3cr3t-key"));
    relay.wait_for_role("publisher", 1);

    // Meanwhile others are kept out, and are told.
    let mut refused_programs = [
        ffmpeg::publish(dir, "refused", Clip::Plain, &relay.url("camera?key=wr0ng")),
        gstreamer::publish(dir, "refused-gst", Clip::Plain, &relay.url("camera")),
        ffmpeg::record(dir, "unwanted", &relay.url("camera"), &file("unwanted")),
        ffmpeg::record(dir, "elsewhere", &relay.url("elsewhere"), &file("elsewhere")),
    ];
    for program in &mut refused_programs {
        assert!(!program.wait(END_MAX).success());
    }
    let mut dump = rtmpdump::record(dir, "unwanted-dump", &relay.url("camera"), &file("none"));
    dump.wait(END_MAX);
    let written = std::fs::metadata(file("none")).map_or(0, |file| file.len());
    assert!(written < 100, "{written} bytes for a player that was kept out");
    let metrics = relay.metrics();
    let refused = |reason| metrics.sum("relay_refused_total", &[("reason", reason)]);
    assert!(refused("hook") >= Some(4.0), "{:?}", refused("hook"));
    assert_eq!(refused("hook_elsewhere"), Some(1.0));
    assert_eq!(metrics.sum("relay_players_redirected_total", &[]), Some(1.0));
    let [.., elsewhere] = &refused_programs;
    let said = elsewhere.log();
    assert!(said.contains("play it from rtmp://192.0.2.1/live/x"), "{said}");
    let answer = http::get(relay.rtmp, "/live/elsewhere.flv").unwrap();
    assert_eq!(answer.status, 302, "{}", answer.body);
    assert!(answer.body.contains("http://192.0.2.1:1935/live/x.flv"), "{}", answer.body);
    let results = |result| metrics.sum("relay_hook_requests_total", &[("result", result)]);
    assert_eq!(results("renamed"), Some(3.0));

    publisher.succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    for (name, player) in &mut players {
        player.succeed(END_MAX);
        assert_eq!(sent.check_whole(&Recording::of_file(&file(name))), Ok(()), "{name}");
    }

    // Each start that was let in was told of once more; nobody else was.
    backend.wait(4, |request| request.event().ends_with("_done"));
    thread::sleep(Duration::from_millis(300));
    let requests = backend.received();
    let names = |event: &str| {
        let of = requests.iter().filter(|request| request.event() == event);
        let mut names: Vec<_> = of.filter_map(|request| request.field("name")).collect();
        names.sort();
        names
    };
    assert_eq!(names("publish_done"), ["s3cr3t-key"]);
    assert_eq!(names("play_done"), ["alias", "alias", "camera"]);
    assert!(requests.iter().all(|request| request.header("x-relay-signature").is_some()));
    let log = relay.log_at_end(END_MAX);
    for secret in ["h00k-secret", "p4ssword", "t0ken", "wr0ng", "s3cr3t-key"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn an_end_is_told_once_even_if_it_comes_before_the_verdict_or_with_the_relay() {
    let scratch = Scratch::new("ends");
    let slow = |request: &Received| match request.event().as_str() {
        "publish" => Answer::Late(Duration::from_millis(1_500)),
        _ => Answer::Status(200),
    };
    let backend = Backend::start(slow);
    let configuration = format!("[apps.live]\nhooks = \"nginx-rtmp\"\n{}", nginx_events(&backend));
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let mut hasty = Client::open(relay.rtmp).unwrap();
    hasty.enter("live").unwrap();
    hasty.ask_to_publish("hasty");
    backend.wait(1, |request| request.event() == "publish");
    drop(hasty);
    // It is gone long before its back end has answered.
    wait_for("the end of the hasty one", Duration::from_secs(1), || {
        let metrics = relay.metrics();
        let waiting = metrics.sum("relay_hook_waiting", &[("kind", "question")]);
        assert_eq!(waiting, Some(1.0), "the verdict came before the end was seen");
        let ended = metrics.sum("relay_connections_closed_total", &[]);
        (ended >= Some(1.0)).then_some(())
    });
    let mut steady = Player::join(Client::open(relay.rtmp).unwrap(), "live", "x").unwrap();
    backend.wait(1, |request| request.event() == "publish_done");
    backend.wait(1, |request| request.event() == "disconnect");
    let whole = ["connect", "publish", "publish_done", "done", "disconnect"];
    let of_hasty = |requests: &[Received]| {
        let id = requests
            .iter()
            .find_map(|request| request.field("clientid").filter(|_| request.event() == "publish"));
        let own = requests.iter().filter(|request| request.field("clientid") == id);
        own.map(Received::event).collect::<Vec<_>>()
    };
    assert_eq!(of_hasty(&backend.received()), &whole[1..]);

    // What plays when the relay ends is told of before it is gone.
    assert!(relay.terminate(END_MAX).success());
    steady.read(Instant::now() + Duration::from_millis(10), |_| false).unwrap();
    let mut events = backend.events();
    events.sort();
    assert_eq!(events, EVENTS_OF_BOTH);
}

#[test]
fn an_update_tells_of_time_and_may_end_the_client() {
    let scratch = Scratch::new("update");
    let thrice = |request: &Received| match request.field("time") {
        Some(time) if time.parse::<u64>().unwrap() >= 3 => Answer::Status(403),
        _ => Answer::Status(200),
    };
    let backend = Backend::start(thrice);
    let configuration = format!(
        "[apps.live]\nhooks = \"nginx-rtmp\"\nhooks_update_interval = \"1s\"\n\
         on_update = \"{0}\"\non_publish_done = \"{0}\"\n",
        backend.url("/u")
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let dir = scratch.path();
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &relay.url("x"));
    assert!(!publisher.wait(Duration::from_secs(15)).success(), "it was to be ended after 3 s");
    backend.wait(1, |request| request.event() == "publish_done");
    let requests = backend.received();
    let updates: Vec<_> =
        requests.iter().filter(|request| request.event() == "update_publish").collect();
    assert!(updates.len() >= 3, "{updates:?}");
    for update in updates {
        let number = |name: &str| update.field(name).unwrap().parse::<f64>().unwrap();
        let (time, timestamp) = (number("time") * 1_000.0, number("timestamp"));
        assert!((timestamp - time).abs() < 2_500.0, "{update:?}");
    }
    assert_eq!(
        relay.metrics().sum("relay_connections_closed_total", &[("reason", "hook")]),
        Some(1.0)
    );
}

#[test]
fn a_verdict_is_asked_for_again_when_its_time_is_over() {
    let scratch = Scratch::new("lifetime");
    let dir = scratch.path();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let backend = Backend::start(move |request| match request.event().as_str() {
        "publish" | "on_publish" | "play" | "on_play" if is_over.load(Ordering::Relaxed) => {
            Answer::Status(403)
        }
        _ => Answer::Status(200),
    });
    let mut configuration = String::from("[limits]\nstream_grace = \"60s\"\n");
    for (app, contract, done) in [
        ("form", "nginx-rtmp", ["publish_done", "play_done"]),
        ("json", "srs", ["unpublish", "stop"]),
    ] {
        let events = ["publish", "play", done[0], done[1]];
        let url = backend.url("/h");
        let urls: String = events.iter().map(|event| format!("on_{event} = \"{url}\"\n")).collect();
        configuration.push_str(&format!(
            "[apps.{app}]\nhooks = \"{contract}\"\nhooks_verdict_lifetime = \"1s\"\n\
             hooks_cache = \"10m\"\n{urls}"
        ));
    }
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(dir, &options);
    let mut programs = Vec::new();
    for app in ["form", "json"] {
        let url = format!("rtmp://{}/{app}/x", relay.rtmp);
        programs.push(ffmpeg::publish(dir, &format!("{app}-in"), Clip::Plain, &url));
        let file = scratch.file(&format!("{app}.flv"));
        programs.push(rtmpdump::record(dir, &format!("{app}-out"), &url, &file));
    }
    let asked = |times: usize| {
        for event in ["publish", "play", "on_publish", "on_play"] {
            backend.wait(times, move |request| request.event() == event);
        }
    };
    asked(3);
    for program in &mut programs {
        program.must_run();
    }
    over.store(true, Ordering::Relaxed);
    let since = Instant::now();
    for program in &mut programs {
        program.wait(END_MAX);
    }
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    // Each is told of once more, when it has ended.
    for event in ["publish_done", "play_done", "on_unpublish", "on_stop"] {
        backend.wait(1, move |request| request.event() == event);
    }
    let closed = relay.metrics().sum("relay_connections_closed_total", &[("reason", "hook")]);
    assert_eq!(closed, Some(4.0));
    // What is remembered is the last verdict.
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("json").unwrap();
    assert!(client.publish("x").is_err());
}

#[test]
fn https_goes_by_a_private_ca() {
    let scratch = Scratch::new("https");
    let ca = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = params.self_signed(&ca).unwrap();
    let issuer = rcgen::Issuer::new(params, ca);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(scratch.file("ca.pem"), ca_certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let backend = Backend::start_over(
        |_| Answer::Status(200),
        move |stream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(rustls::StreamOwned::new(session, stream))
        },
    );
    let port = backend.address.port();
    for (trusted, contract) in [(true, "srs"), (true, "nginx-rtmp"), (false, "srs")] {
        let ca_file =
            if trusted { scratch.file("ca.pem").display().to_string() } else { String::new() };
        let configuration = format!(
            "[apps.live]\nhooks = \"{contract}\"\nhooks_ca_file = \"{ca_file}\"\n\
             on_play = \"https://localhost:{port}/play\"\n"
        );
        let options = Options { configuration: &configuration, ..Options::default() };
        let relay = Relay::start(scratch.path(), &options);
        for _ in 0..3 {
            let client = Client::open(relay.rtmp).unwrap();
            let outcome = Player::join(client, "live", "x").map(|_| ());
            assert_eq!(outcome.is_ok(), trusted, "{contract}: {outcome:?}");
        }
        let result = if trusted { "allowed" } else { "unreachable" };
        let counted = relay.metrics().sum("relay_hook_requests_total", &[("result", result)]);
        assert_eq!(counted, Some(3.0), "{contract}");
        let log = relay.log_at_end(END_MAX);
        let told = log.lines().find(|line| line.contains("a back end gives no answer"));
        assert_eq!(told.is_none(), trusted, "{log}");
        let why = "why=\"no TLS: its certificate is not acceptable: it is issued by nobody";
        let why = told.is_none_or(|line| line.contains(why) && line.contains(" WARN "));
        assert!(why, "{told:?}");
    }
}
