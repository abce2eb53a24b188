//! Streams that go to and come from other servers: FFmpeg and nginx as those servers, relay to
//! relay by every transport, and servers that die, do not read, refuse, or are this node itself.

mod carriers;
pub(crate) mod nodes;
mod redirects;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::client::Client;
use crate::support::clip::{Clip, LENGTH};
use crate::support::nginx::Nginx;
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay, command};
use crate::support::scene::END_MAX;
use crate::support::secure::Pair;
use crate::support::{START, Scratch, ffmpeg, http, rtmpdump, wait_for};

/// Packets that may have gone by before a push or pull that was late has begun at a key frame:
/// some seconds of them, since many programs start at once on few cores.
const LATE_MAX: usize = 450;

fn relay(scratch: &Scratch, configuration: &str) -> Relay {
    let configuration = format!("{configuration}\n[limits]\nstream_grace = \"2s\"\n");
    Relay::start(scratch.path(), &Options { configuration: &configuration, ..Options::default() })
}

fn list(relay: &Relay, what: &str) -> String {
    http::get(relay.http, &format!("/api/v1/{what}")).unwrap().body
}

fn post(relay: &Relay, what: &str, body: &str) -> http::Response {
    http::send(relay.http, "POST", &format!("/api/v1/{what}"), body).unwrap()
}

fn failures(relay: &Relay, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    relay.metrics().sum("relay_outside_failures_total", &labels).unwrap()
}

fn wait_for_list(relay: &Relay, what: &str, has: &str, limit: Duration) {
    wait_for(&format!("{what} to say {has}"), limit, || {
        list(relay, what).contains(has).then_some(())
    });
}

fn check(sent: &Recording, got: &Recording, what: &str) {
    let before = sent.check_from_key_frame(got).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    assert!(before <= LATE_MAX, "{what} begins {before} packets late");
}

/// Both ends by this relay, and every transport between them.
fn urls(relay: &Relay, name: impl Fn(&str) -> String) -> [(&'static str, String); 4] {
    ["rtmp", "rtmps", "rtmpt", "rtmpts"].map(|scheme| {
        let url = format!("{scheme}://localhost:{}/live/{}", relay.rtmp.port(), name(scheme));
        (scheme, url)
    })
}

fn array(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_stream_is_pushed_by_every_transport_packet_by_packet() {
    let scratch = Scratch::new("push");
    let dir = scratch.path();
    let pair = Pair::make(dir, "there", &["localhost", "127.0.0.1"]);
    let there = relay(&scratch, &pair.configuration());
    let targets = urls(&there, |scheme| format!("{scheme}-{{name}}?token=hidden"));
    let push = array(targets.iter().map(|(_, url)| url.clone()));
    let ca = pair.certificate.display();
    let here =
        relay(&scratch, &format!("[apps.live]\npush = [{push}]\n[outside]\nca_file = \"{ca}\"\n"));
    assert!(list(&here, "pushes").contains("\"state\":\"resting\""));

    let mut players: Vec<(String, Process)> = Vec::new();
    for (scheme, _) in &targets {
        let (name, url) = (format!("got-{scheme}"), there.url(&format!("{scheme}-clip")));
        let file = scratch.file(&format!("{name}.flv"));
        players.push((name.clone(), rtmpdump::record(dir, &name, &url, &file)));
    }
    there.wait_for_role("player", 4);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::BFrames, &here.url("clip"));
    here.wait_for_role("push", 4);
    wait_for("all four pushes to be up", END_MAX, || {
        (list(&here, "pushes").matches("\"state\":\"up\"").count() == 4).then_some(())
    });
    let metrics = here.metrics();
    assert_eq!(metrics.sum("relay_outside_up", &[("kind", "push")]), Some(4.0));
    for (scheme, _) in &targets {
        let labels = [("role", "push"), ("transport", *scheme)];
        assert_eq!(metrics.sum("relay_connections", &labels), Some(1.0), "{scheme}");
    }
    // Pushes are no players, to limits and to those who count.
    assert_eq!(metrics.sum("relay_players", &[]), Some(0.0));
    assert!(http::get(here.http, "/api/v1/streams").unwrap().body.contains("\"players\":0"));
    publisher.succeed(LENGTH + END_MAX);
    let sent = Clip::BFrames.sent();
    for (name, player) in &mut players {
        player.succeed(END_MAX);
        let got = Recording::of_file(&scratch.file(&format!("{name}.flv")));
        check(&sent, &got, name);
        let metadata = sent.data()[0];
        let told = got.data().iter().any(|data| data.same_payload(&metadata));
        assert!(told, "{name}: {metadata:?} was sent, {:?} came", got.data());
    }
    wait_for("the pushes to end with their stream", END_MAX, || {
        list(&here, "pushes").contains("\"state\":\"resting\"").then_some(())
    });
    for text in [list(&here, "pushes"), here.metrics().text().to_owned(), here.log()] {
        assert!(!text.contains("hidden") && !text.contains("rtmp-clip"), "{text}");
    }
}

#[test]
fn a_stream_is_pulled_by_every_transport_while_somebody_plays_it() {
    let scratch = Scratch::new("pull");
    let dir = scratch.path();
    let pair = Pair::make(dir, "there", &["localhost", "127.0.0.1"]);
    let there = relay(&scratch, &pair.configuration());
    let sources = urls(&there, |_| "clip".to_owned());
    let pull = array(sources.iter().map(|(scheme, url)| format!("from-{scheme} {url}")));
    let ca = pair.certificate.display();
    let here = relay(
        &scratch,
        &format!(
            "[apps.live]\npull = [{pull}]\nunknown_stream = \"reject\"\n\
             [outside]\nca_file = \"{ca}\"\n"
        ),
    );
    thread::sleep(Duration::from_millis(500));
    let none = there.metrics().sum("relay_connections_opened_total", &[("role", "player")]);
    assert_eq!(none, Some(0.0), "nobody plays, so nothing is fetched");

    let mut players: Vec<(String, Process)> = Vec::new();
    for (scheme, _) in &sources {
        let (name, url) = (format!("got-{scheme}"), here.url(&format!("from-{scheme}")));
        let file = scratch.file(&format!("{name}.flv"));
        players.push((name.clone(), ffmpeg::record(dir, &name, &url, &file)));
    }
    here.wait_for_role("pull", 4);
    there.wait_for_role("player", 4);
    for (scheme, _) in &sources {
        let labels = [("role", "pull"), ("transport", *scheme)];
        assert_eq!(here.metrics().sum("relay_connections", &labels), Some(1.0), "{scheme}");
    }
    ffmpeg::publish(dir, "publisher", Clip::Plain, &there.url("clip")).succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    for (name, player) in &mut players {
        player.succeed(END_MAX);
        check(&sent, &Recording::of_file(&scratch.file(&format!("{name}.flv"))), name);
    }
    // With the last player it ends.
    here.wait_for_role("pull", 0);
    there.wait_for_role("player", 0);
}

#[test]
fn a_pull_begins_with_the_first_player_and_lingers_behind_the_last() {
    let scratch = Scratch::new("linger");
    let dir = scratch.path();
    let there = relay(&scratch, "");
    let from = format!("rtmp://{}/{{app}}/{{name}}", there.rtmp);
    let here = {
        let configuration =
            format!("[apps.live]\npull = [\"{from}\"]\n[limits]\npull_linger = \"3s\"\n");
        Relay::start(dir, &Options { configuration: &configuration, ..Options::default() })
    };
    let _publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Plain, 3, &there.url("clip"));
    there.wait_for_role("publisher", 1);
    let join = || {
        let mut client = Client::open(here.rtmp).unwrap();
        client.enter("live").unwrap();
        client.play("clip").unwrap();
        client
    };
    let first = join();
    here.wait_for_role("pull", 1);
    wait_for_list(&here, "pulls", "\"state\":\"up\"", START);
    let second = join();
    drop(first);
    thread::sleep(Duration::from_secs(4));
    here.wait_for_role("pull", 1);
    drop(second);
    thread::sleep(Duration::from_secs(1));
    // Somebody comes back in time.
    let third = join();
    thread::sleep(Duration::from_secs(4));
    let metrics = here.metrics();
    assert_eq!(metrics.sum("relay_outside_attempts_total", &[("kind", "pull")]), Some(1.0));
    assert_eq!(metrics.sum("relay_connections", &[("role", "pull")]), Some(1.0));
    drop(third);
    here.wait_for_role("pull", 0);
    there.wait_for_role("player", 0);
}

/// FFmpeg as a server, which takes one publisher and records it.
fn ffmpeg_server(dir: &Path, name: &str, address: SocketAddr) -> Process {
    let url = format!("rtmp://{address}/in/key");
    let mut command = ffmpeg::Version::System.command();
    command.args(["-copyts", "-listen", "1", "-i", &url, "-c", "copy", "-copyinkf"]);
    command.args(["-copypriorss", "1", "-flush_packets", "1"]);
    command.args(["-flvflags", "no_duration_filesize", "-f", "flv", "-y"]);
    Process::start(dir, name, command.arg(dir.join(format!("{name}.flv"))))
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap()
}

#[test]
fn ffmpeg_as_a_server_receives_a_push_which_is_tried_until_it_is_there() {
    let scratch = Scratch::new("listen");
    let dir = scratch.path();
    let server = free();
    let push = format!("[apps.live]\npush = [\"clip rtmp://{server}/in/key\"]\n");
    let here = relay(&scratch, &push);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &here.url("clip"));
    wait_for("a try that fails", START, || (failures(&here, "dial") >= 1.0).then_some(()));
    assert_eq!(here.metrics().sum("relay_outside_up", &[]), Some(0.0));
    let mut recorder = ffmpeg_server(dir, "server", server);
    wait_for_list(&here, "pushes", "\"state\":\"up\"", START);
    publisher.succeed(LENGTH + END_MAX);
    recorder.wait(END_MAX);
    let got = Recording::of_file(&scratch.file("server.flv"));
    let sent = Clip::Plain.sent();
    let before = sent.check_from_key_frame(&got).unwrap();
    assert!(before < sent.coded().len() * 3 / 4, "{before} packets went before");
}

#[test]
fn nginx_receives_a_push_and_serves_a_pull() {
    let scratch = Scratch::new("nginx");
    let dir = scratch.path();
    let nginx = Nginx::start(dir);
    let there = nginx.address;
    let here = relay(
        &scratch,
        &format!(
            "[apps.live]\npush = [\"clip rtmp://{there}/live/pushed\"]\n\
             pull = [\"back rtmp://{there}/live/pushed always\"]\n"
        ),
    );
    let record = |name: &str, url: &str| {
        rtmpdump::record(dir, name, url, &scratch.file(&format!("{name}.flv")))
    };
    // Out to nginx, in from there under another name, and out to a player.
    let mut players =
        [record("at-nginx", &nginx.url("pushed")), record("back-here", &here.url("back"))];
    here.wait_for_role("player", 1);
    wait_for_list(&here, "pulls", "\"state\":\"up\"", START);
    ffmpeg::publish(dir, "publisher", Clip::Plain, &here.url("clip")).succeed(LENGTH + END_MAX);
    let sent = Clip::Plain.sent();
    // nginx keeps its players when a publisher ends.
    thread::sleep(Duration::from_secs(4));
    for (player, name) in players.iter_mut().zip(["at-nginx", "back-here"]) {
        player.stop(Signal::INT);
        let got = Recording::of_file(&scratch.file(&format!("{name}.flv")));
        check(&sent, &got, name);
    }
}

#[test]
fn a_target_that_dies_is_picked_up_again_and_one_that_does_not_read_harms_nobody() {
    let scratch = Scratch::new("dies");
    let dir = scratch.path();
    let (dying, stuck) = (free(), free());
    let configuration = format!(
        "[apps.live]\npush = [\"rtmp://{dying}/in/key\", \"rtmp://{stuck}/in/key\"]\n\
         [limits]\nsend_stall_max = \"3s\"\nstream_grace = \"2s\"\n"
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let here = Relay::start(dir, &options);
    let mut first = ffmpeg_server(dir, "first", dying);
    let mut frozen = ffmpeg_server(dir, "frozen", stuck);
    let mut player = ffmpeg::record(dir, "player", &here.url("clip"), &scratch.file("player.flv"));
    here.wait_for_role("player", 1);
    let mut publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Heavy, 2, &here.url("clip"));
    wait_for("both to be up", START, || {
        (list(&here, "pushes").matches("\"state\":\"up\"").count() == 2).then_some(())
    });
    frozen.signal(Signal::STOP);
    first.kill();
    wait_for("the dead one to be noticed", START, || {
        (failures(&here, "lost") >= 1.0).then_some(())
    });
    let mut second = ffmpeg_server(dir, "second", dying);
    wait_for("the one that does not read to be given up", Duration::from_secs(30), || {
        (failures(&here, "slow") >= 1.0).then_some(())
    });
    wait_for("the one that came back to be served", START, || {
        list(&here, "pushes").contains("\"state\":\"up\"").then_some(())
    });
    publisher.succeed(LENGTH * 2 + END_MAX);
    player.succeed(END_MAX);
    second.wait(END_MAX);
    let got = Recording::of_file(&scratch.file("player.flv"));
    let bytes = std::fs::read(Clip::Heavy.file()).unwrap().len();
    let seen: usize = got.coded().iter().map(|packet| packet.bytes).sum();
    assert!(seen > bytes * 2 * 19 / 20, "the player saw {seen} bytes of twice {bytes}");
    let jumps = here.metrics().sum("relay_players_dropped_total", &[]).unwrap();
    assert_eq!(jumps, 0.0);
    let again = Recording::of_file(&scratch.file("second.flv"));
    assert!(again.coded().len() > 100, "{} packets after the return", again.coded().len());
    frozen.kill();
}

#[test]
fn the_api_adds_and_takes_away_while_the_node_runs() {
    let scratch = Scratch::new("outside-api");
    let dir = scratch.path();
    let (there, here) = (relay(&scratch, ""), relay(&scratch, ""));
    let _publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Plain, 3, &here.url("clip"));
    here.wait_for_role("publisher", 1);
    let body = format!(
        "{{\"app\":\"live\",\"name\":\"clip\",\"url\":\"rtmp://{}/live/copy\"}}",
        there.rtmp
    );
    let made = post(&here, "pushes", &body);
    assert_eq!((made.status, made.body.trim()), (201, "{\"id\":\"1\"}"));
    there.wait_for_role("publisher", 1);
    wait_for_list(&here, "pushes", "\"state\":\"up\"", START);
    let shown = list(&here, "pushes");
    let target = format!("\"target\":\"rtmp://{}/live\"", there.rtmp);
    assert!(shown.contains("\"source\":\"api\"") && shown.contains(&target), "{shown}");

    // And back, under another name, from the start on.
    let body = format!(
        "{{\"app\":\"live\",\"name\":\"back\",\"url\":\"rtmp://{}/live/copy\",\"always\":true}}",
        there.rtmp
    );
    let made = post(&here, "pulls", &body);
    assert_eq!((made.status, made.body.trim()), (201, "{\"id\":\"2\"}"));
    wait_for("the stream to come back", START, || {
        let streams = http::get(here.http, "/api/v1/streams/live/back").ok()?;
        streams.body.contains("\"state\":\"live\"").then_some(())
    });
    let delete = |path: &str| http::ask(here.http, "DELETE", path).unwrap().status;
    assert_eq!(delete("/api/v1/pulls/1"), 404, "that one is a push");
    assert_eq!(delete("/api/v1/pulls/2"), 204);
    here.wait_for_role("pull", 0);
    assert_eq!(delete("/api/v1/pushes/1"), 204);
    here.wait_for_role("push", 0);
    there.wait_for_role("publisher", 0);
    assert_eq!(delete("/api/v1/pushes/1"), 404);
    assert_eq!(list(&here, "pushes").trim(), "{\"items\":[],\"next\":null}");

    for (body, says) in [
        ("{\"app\":\"live\",\"url\":\"http://a/b/secret\"}", "the scheme of a URL must be rtmp"),
        ("{\"app\":\"live\",\"url\":\"rtmp://a/secret\"}", "needs an application and a name"),
        ("{\"app\":\"live\",\"url\":\"rtmp://a/b/{secret}\"}", "only {app} and {name}"),
        ("{\"app\":\"a/b\",\"url\":\"rtmp://a/b/secret\"}", "The body must be JSON such as"),
        ("{\"secret\":1}", "The body must be JSON such as"),
        ("secret", "The body must be JSON such as"),
    ] {
        let answer = post(&here, "pushes", body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.body.contains(says), "{body}: {}", answer.body);
        assert!(!answer.body.contains("secret"), "{}", answer.body);
    }
    let refused =
        |reason: &str| here.metrics().sum("relay_outside_refused_total", &[("reason", reason)]);
    assert_eq!(refused("scheme"), Some(1.0));
    assert_eq!(refused("body"), Some(3.0));
}

#[test]
fn what_leads_back_here_is_found_and_what_cannot_be_is_said_in_one_sentence() {
    let scratch = Scratch::new("outside-bad");
    let dir = scratch.path();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = relay(&scratch, "[apps.live]\npublish = [\"nobody\"]\n");
    let here = relay(&scratch, "");
    let _publisher = ffmpeg::publish_looped(dir, "publisher", Clip::Plain, 3, &here.url("clip"));
    here.wait_for_role("publisher", 1);
    let add = |what: &str, name: &str, url: &str| {
        let always = if what == "pulls" { ",\"always\":true" } else { "" };
        let body = format!("{{\"app\":\"live\",\"name\":\"{name}\",\"url\":\"{url}\"{always}}}");
        assert_eq!(post(&here, what, &body).status, 201);
    };
    let own = here.rtmp;
    add("pushes", "clip", &format!("rtmp://{own}/live/clip"));
    add("pushes", "clip", &format!("rtmp://{own}/live/other"));
    add("pulls", "round", &format!("rtmp://{own}/live/round"));
    wait_for("three loops to be found", START, || (failures(&here, "loop") >= 3.0).then_some(()));
    assert_eq!(here.metrics().sum("relay_refused_total", &[("reason", "loop")]), Some(3.0));
    assert!(list(&here, "pushes").contains("\"state\":\"broken\""));
    add("pushes", "clip", &format!("rtmp://{}/live/no", there.rtmp));
    wait_for("a refusal", START, || (failures(&here, "refused") >= 1.0).then_some(()));
    add("pushes", "clip", "rtmp://no-such-host.invalid/live/x");
    wait_for("a name without address", START, || (failures(&here, "resolve") >= 1.0).then_some(()));
    add("pushes", "clip", &format!("rtmp://{}/live/x", deaf.local_addr().unwrap()));
    wait_for("silence to be given up", Duration::from_secs(30), || {
        (failures(&here, "timeout") >= 1.0).then_some(())
    });
    // The stream itself is none the worse.
    here.wait_for_role("publisher", 1);
    let log = here.log();
    for says in ["reason=\"loop\"", "reason=\"refused\"", "reason=\"resolve\""] {
        let line = log
            .lines()
            .find(|line| line.contains("outside connection failed") && line.contains(says));
        assert!(line.is_some(), "no line says {says}:\n{log}");
    }
    drop(TcpStream::connect(deaf.local_addr().unwrap()));
}

#[test]
fn a_server_that_cannot_prove_its_name_is_sent_nothing() {
    let scratch = Scratch::new("outside-strangers");
    let dir = scratch.path();
    let pair = Pair::make(dir, "there", &["localhost"]);
    let there = relay(&scratch, &pair.configuration());
    let port = there.rtmp.port();
    let url = |host: &str| format!("rtmps://{host}:{port}/live/{host}");
    // Trusted by the system, which is told to trust it, and by nobody.
    for (trusted, host, proves) in
        [(true, "localhost", true), (true, "127.0.0.1", false), (false, "localhost", false)]
    {
        let mut command = command();
        command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        if trusted {
            command.env("SSL_CERT_FILE", &pair.certificate);
        }
        let here = Relay::start_with(dir, &mut command);
        let body = format!("{{\"app\":\"live\",\"name\":\"clip\",\"url\":\"{}\"}}", url(host));
        assert_eq!(post(&here, "pushes", &body).status, 201);
        let _publisher =
            ffmpeg::publish_looped(dir, "publisher", Clip::Plain, 2, &here.url("clip"));
        if proves {
            there.wait_for_role("publisher", 1);
            assert_eq!(failures(&here, "tls"), 0.0);
        } else {
            wait_for("a refusal", START, || (failures(&here, "tls") >= 1.0).then_some(()));
            let line = here.log();
            let line = line
                .lines()
                .find(|line| line.contains("WARN") && line.contains("reason=\"tls\""))
                .unwrap_or("");
            assert!(line.contains("outside connection failed"), "{}", here.log());
        }
    }
    let published = there.metrics().sum("relay_streams", &[]);
    assert!(published <= Some(1.0), "{published:?}");
}

#[test]
fn a_chain_of_relays_finds_its_own_end() {
    let scratch = Scratch::new("circle");
    let dir = scratch.path();
    let (first, second) = (relay(&scratch, ""), relay(&scratch, ""));
    for (from, to) in [(&first, &second), (&second, &first)] {
        let body = format!("{{\"app\":\"live\",\"url\":\"rtmp://{}/live/{{name}}\"}}", to.rtmp);
        assert_eq!(post(from, "pushes", &body).status, 201);
    }
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &first.url("clip"));
    wait_for("the circle to be found", START, || (failures(&second, "loop") >= 1.0).then_some(()));
    second.wait_for_role("publisher", 1);
    assert_eq!(first.metrics().sum("relay_refused_total", &[("reason", "loop")]), Some(1.0));
    publisher.succeed(LENGTH + END_MAX);
}

#[test]
fn a_server_that_wants_user_and_password_is_told_them() {
    let scratch = Scratch::new("outside-user");
    let dir = scratch.path();
    let users = scratch.file("users");
    std::fs::write(&users, "* ann secret-word\n").unwrap();
    let file = users.display();
    let there = relay(&scratch, &format!("[apps.live]\npublish = [\"password {file}\"]\n"));
    let here = relay(
        &scratch,
        &format!(
            "[apps.live]\npush = [\"rtmp://ann:secret-word@{0}/live/right\", \
             \"rtmp://ann:wrong-word@{0}/live/wrong\"]\n",
            there.rtmp
        ),
    );
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Plain, &here.url("clip"));
    there.wait_for_role("publisher", 1);
    wait_for("the wrong one to fail", START, || (failures(&here, "password") >= 1.0).then_some(()));
    publisher.succeed(LENGTH + END_MAX);
    let streams = here.log() + &there.log();
    assert!(!streams.contains("-word"), "{streams}");
}
