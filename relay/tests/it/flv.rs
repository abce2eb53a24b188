//! FLV over HTTP, HTTPS and WebSockets, beside RTMP and RTMPS: the same packets for everybody.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::clip::{Clip, LENGTH};
use crate::support::ffmpeg::{self, Version};
use crate::support::flv::{curl, record_websocket, record_with_curl};
use crate::support::packets::Recording;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::scene::END_MAX;
use crate::support::{Scratch, wait_for};

/// A relay with a certificate, a short grace, and an application whose players of FLV wait.
fn start(scratch: &Scratch) -> Relay {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (certificate, key) = (scratch.file("certificate.pem"), scratch.file("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let configuration = format!(
        "[[tls.certificates]]\ncertificate = \"{}\"\nkey = \"{}\"\n\
         [limits]\nstream_grace = \"2s\"\n[apps.live]\nunknown_flv = \"wait\"\n",
        certificate.display(),
        key.display()
    );
    Relay::start(scratch.path(), &Options { configuration: &configuration, ..Options::default() })
}

#[test]
fn every_way_in_reaches_every_way_out_packet_by_packet() {
    let scratch = Scratch::new("ways");
    let dir = scratch.path();
    let relay = start(&scratch);
    let at = relay.rtmp;
    let file = |stream: &str, way: &str| scratch.file(&format!("{stream}-{way}.flv"));
    let ways_in = [("plain", "rtmp"), ("tls", "rtmps")];
    let record = |stream: &str, way: &str, version: Version, url: &str| {
        let name = format!("{stream}-{way}");
        ffmpeg::record_with(version, dir, &name, url, &["0:v", "0:a"], &file(stream, way))
    };
    let mut players: Vec<Process> = Vec::new();
    let mut sockets = Vec::new();
    for (stream, _) in ways_in {
        for (way, scheme, end) in [
            ("rtmp", "rtmp", ""),
            ("rtmps", "rtmps", ""),
            ("http", "http", ".flv"),
            ("https", "https", ".flv"),
        ] {
            let url = format!("{scheme}://{at}/live/{stream}{end}");
            players.push(record(stream, way, Version::System, &url));
        }
        let url = format!("http://{at}/live/{stream}.flv");
        players.push(record(stream, "nine", Version::Nine, &url));
        players.push(record_with_curl(dir, &format!("{stream}-curl"), &url, &file(stream, "curl")));
        let path = format!("/live/{stream}.flv");
        sockets.push(record_websocket(at, &path, &file(stream, "ws"), LENGTH + END_MAX * 2));
    }
    relay.wait_for_role("player", 14);
    let mut publishers: Vec<Process> = ways_in
        .iter()
        .map(|(stream, scheme)| {
            let url = format!("{scheme}://{at}/live/{stream}");
            ffmpeg::publish(dir, &format!("{stream}-publisher"), Clip::BFrames, &url)
        })
        .collect();
    thread::sleep(LENGTH / 2);
    for (stream, _) in ways_in {
        let url = format!("http://{at}/live/{stream}.flv");
        players.push(record(stream, "late", Version::System, &url));
    }
    let metrics = relay.metrics();
    let open = |transport| {
        metrics.sum("relay_connections", &[("role", "player"), ("transport", transport)])
    };
    assert!(open("flv") >= Some(8.0), "{:?}", open("flv"));
    assert_eq!(open("wsflv"), Some(2.0));
    for publisher in &mut publishers {
        publisher.succeed(LENGTH + END_MAX);
    }
    for player in &mut players {
        player.succeed(END_MAX);
    }

    let sent = Clip::BFrames.sent();
    for (stream, _) in ways_in {
        let ways = ["rtmp", "rtmps", "http", "https", "nine", "curl", "ws"];
        for way in ways {
            if way == "ws" {
                let messages = sockets.remove(0).join().unwrap();
                assert!(messages > Ok(500), "{stream} over a WebSocket: {messages:?}");
            }
            let received = Recording::of_file(&file(stream, way));
            assert_eq!(sent.check_whole(&received), Ok(()), "{stream} by {way}");
        }
        let received = Recording::of_file(&file(stream, "late"));
        let before = sent.check_from_key_frame(&received).unwrap();
        assert!(before > 200, "{stream}: the late player joined after only {before} packets");
    }
}

/// The flags in the header of a file, and the kinds of its tags.
fn kinds(file: &std::path::Path) -> (u8, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let mut kinds: Vec<u8> =
        crate::support::packets::tags(&bytes).unwrap().iter().map(|tag| tag.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    (bytes[4], kinds)
}

#[test]
fn curl_is_told_what_there_is_and_what_is_not() {
    let scratch = Scratch::new("curl");
    let dir = scratch.path();
    let relay = Relay::start(dir, &Options::default());
    let url = |path: &str| format!("http://{}{path}", relay.rtmp);
    let mut publishers = [
        ffmpeg::publish(dir, "both", Clip::Plain, &relay.url("both")),
        ffmpeg::publish(dir, "picture", Clip::VideoOnly, &relay.url("picture")),
        ffmpeg::publish(dir, "sound", Clip::AudioOnly, &relay.url("sound")),
    ];
    relay.wait_for_role("publisher", 3);

    // three questions on one connection, and the stream behind them
    let both = url("/live/both.flv");
    wait_for("the stream to be there", END_MAX, || {
        curl(&["-I", &both]).starts_with("HTTP/1.1 200 OK\r\n").then_some(())
    });
    let none = url("/live/none.flv");
    let origin = "Origin: https://page.example";
    // Behind each answer: how many connections it took.
    let told = ["-i", "-w", "<%{num_connects}>"];
    let options = ["-X", "OPTIONS", "-H", origin, &both, &none];
    let answers = curl(&[&told[..], &options].concat());
    assert_eq!(answers.matches("HTTP/1.1 204 No Content").count(), 2, "{answers}");
    assert!(answers.contains("<1>") && answers.contains("<0>"), "one connection: {answers}");
    assert!(answers.contains("Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"));
    let answers = curl(&[&told[..], &[&none, &none]].concat());
    assert_eq!(answers.matches("HTTP/1.1 404 Not Found").count(), 2, "{answers}");
    assert_eq!(answers.matches("Nobody publishes this stream.\n").count(), 2, "{answers}");
    assert!(answers.contains("<1>") && answers.contains("<0>"), "one connection: {answers}");
    let head = curl(&["-I", "--http1.0", &both]);
    assert!(head.contains("Content-Type: video/x-flv\r\n") && head.contains("Connection: close"));
    assert!(head.contains("Access-Control-Allow-Origin: *\r\n"));
    let head = curl(&["-I", &none]);
    assert!(head.starts_with("HTTP/1.1 404 ") && head.contains("Content-Length: 30\r\n"));

    // whatever is asked, the flags are true
    let check = |name: &str, query: &str, expected: (u8, &[u8])| {
        let file = scratch.file("taken.flv");
        let path = file.to_string_lossy();
        let address = url(&format!("/live/{name}.flv{query}"));
        // Ended by its own limit.
        curl(&["--max-time", "4", "-H", "Range: bytes=0-", "-o", &path, &address]);
        let (flags, kinds) = kinds(&file);
        assert_eq!((flags, &kinds[..]), expected, "{name}{query}");
    };
    check("both", "", (5, &[8, 9, 18]));
    check("both", "?only=audio", (4, &[8, 18]));
    check("both", "?only=video", (1, &[9, 18]));
    check("picture", "", (1, &[9, 18]));
    check("sound", "", (4, &[8, 18]));
    for publisher in &mut publishers {
        publisher.kill();
    }
}

#[test]
fn a_file_goes_on_when_its_publisher_comes_back() {
    let scratch = Scratch::new("returns");
    let dir = scratch.path();
    // Long enough for a publisher to start on a busy host.
    let configuration = "[limits]\nstream_grace = \"15s\"\n[apps.live]\nunknown_flv = \"wait\"\n";
    let relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let file = scratch.file("taken.flv");
    let url = format!("http://{}/live/clip.flv", relay.rtmp);
    let mut curl = record_with_curl(dir, "curl", &url, &file);
    relay.wait_for_role("player", 1);
    let mut first = ffmpeg::publish(dir, "first", Clip::Plain, &relay.url("clip"));
    wait_for("some seconds of recording", END_MAX, || {
        let taken = fs::metadata(&file).ok()?;
        (taken.len() > 500_000).then_some(())
    });
    first.kill();
    thread::sleep(Duration::from_secs(1));
    let before = Recording::of_file(&file).coded().len();
    let mut second = ffmpeg::publish(dir, "second", Clip::Plain, &relay.url("clip"));
    second.succeed(LENGTH + END_MAX);
    curl.succeed(END_MAX);
    let taken = Recording::of_file(&file);
    assert_eq!(taken.check_monotonic(), Ok(()));
    let coded = taken.coded();
    let sent = Clip::Plain.sent().coded();
    let again = &coded[coded.len() - sent.len().min(coded.len())..];
    let equal = again.iter().rev().zip(sent.iter().rev()).take_while(|(a, b)| a.same_payload(b));
    assert!(equal.count() > sent.len() - 5, "all of the second pass came, from its key frame on");
    assert!(before > 200 && coded.len() >= before + sent.len() - 5);
}

/// The tracks of a clip with two of each kind, as players in browsers get it and as those who ask
/// for everything do.
#[test]
fn extras_are_left_out_unless_asked_for() {
    let scratch = Scratch::new("extras");
    let dir = scratch.path();
    let configuration = "[limits]\nstream_grace = \"2s\"\n[apps.live]\nunknown_flv = \"wait\"\n";
    let relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let url = |query: &str| format!("http://{}/live/clip.flv{query}", relay.rtmp);
    let (plain, all) = (scratch.file("plain.flv"), scratch.file("all.flv"));
    let mut players = [
        record_with_curl(dir, "plain", &url(""), &plain),
        record_with_curl(dir, "all", &url("?extras=1"), &all),
    ];
    relay.wait_for_role("player", 2);
    let mut publisher = ffmpeg::publish(dir, "publisher", Clip::Tracks, &relay.url("clip"));
    publisher.succeed(LENGTH + END_MAX);
    players.iter_mut().for_each(|player| player.succeed(END_MAX));
    let sent = Clip::Tracks.sent();
    assert_eq!(sent.check_whole(&Recording::of_file(&all)), Ok(()));
    let first = Recording(sent.0.iter().filter(|packet| packet.track == 0).cloned().collect());
    let taken = Recording::of_file(&plain);
    assert!(taken.coded().iter().all(|packet| packet.track == 0));
    assert_eq!(first.check_whole(&taken), Ok(()));
}
