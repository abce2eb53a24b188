//! What the log says of those who were refused, and of those who were only asked for a password.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{END_MAX, PASSWORD, Scene};
use crate::support::wait_for;

/// The lines of a log that hold all of these.
fn lines<'a>(log: &'a str, parts: &[&str]) -> Vec<&'a str> {
    log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
}

/// Asks for a stream on a connection that stays open, and leaves once the answer is there. Gives
/// its status.
fn leaves_after(scene: &Scene, path: &str, header: &str) -> u16 {
    let mut socket = TcpStream::connect(scene.relay.rtmp).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: h\r\n{header}\r\n").unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..]).parse().unwrap()
}

#[test]
fn refused_players_over_http_are_logged_with_the_reason() {
    let more = "[apps.gone]\nplay = [\"everybody\"]\nplayers_max = 1\nunknown_flv = \"wait\"\n";
    let scene = Scene::with("access-told", more);
    let websocket = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases = [
        ("key", 401, "A stream key is missing.", "key"),
        ("far", 403, "Your address may not play here.", "address"),
        ("open", 404, "Nobody publishes this stream.", "unknown_stream"),
        ("gone", 503, "The application has as many players as it may.", "app_players"),
    ];
    // One waits, and there is room for no other.
    let mut first = TcpStream::connect(scene.relay.rtmp).unwrap();
    write!(first, "GET /gone/first.flv HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    scene.relay.wait_for_role("player", 1);
    for (app, status, ..) in cases {
        for header in ["", "Connection: close\r\n", websocket] {
            assert_eq!(leaves_after(&scene, &format!("/{app}/x.flv"), header), status, "{app}");
        }
    }
    wait_for("them to be gone", END_MAX, || {
        let closed = [("reason", "refused")];
        let closed = scene.relay.metrics().sum("relay_connections_closed_total", &closed);
        (closed == Some(12.0)).then_some(())
    });
    drop(first);
    let log = scene.told_no_secret(&[]);
    for (app, _, why, reason) in cases {
        let detail = format!("detail=\"{why}\"");
        let closed = lines(&log, &["connection closed", "reason=\"refused\"", &detail]);
        assert_eq!(closed.len(), 3, "{app}: {log}");
        // What may be a key is not shown.
        let name = if app == "key" { "***" } else { "x" };
        let stream = format!("stream=\"{app}/{name}\"");
        let reason = format!("reason=\"{reason}\"");
        let warned = lines(&log, &[" WARN ", "play refused", &stream, &reason]);
        assert_eq!(warned.len(), 3, "{app}: {log}");
    }
}

#[test]
fn who_is_asked_for_a_password_is_not_refused_and_who_guesses_one_is_named() {
    let scene = Scene::new("access-asked");
    let url = |app: &str, password: &str| {
        format!("rtmp://alice:{password}@{}/{app}/cam1", scene.relay.rtmp)
    };
    for app in ["user", "llnw"] {
        let mut publisher = scene.publish("right", &url(app, PASSWORD));
        scene.relay.wait_for_role("publisher", 1);
        publisher.kill();
        scene.relay.wait_for_role("publisher", 0);
    }
    // FFmpeg asks which way, is challenged, and answers: each by a connection of its own.
    let closed = |reason: &str| {
        let labels = [("reason", reason)];
        scene.relay.metrics().sum("relay_connections_closed_total", &labels).unwrap_or(0.0)
    };
    assert_eq!((closed("challenge"), closed("refused")), (4.0, 0.0));
    assert_eq!(scene.relay.metrics().sum("relay_refused_total", &[]).unwrap_or(0.0), 0.0);
    let guess = url("user", "a-guess-of-a-password");
    scene.keeps_publisher_out(&guess, "Incorrect username/password", "password");
    assert_eq!(closed("refused"), 1.0);
    let log = scene.told_no_secret(&["a-guess-of-a-password"]);
    let named =
        ["WARN", "connect refused", "reason=\"password\"", "app=\"user\"", "user=\"alice\""];
    assert_eq!(lines(&log, &named).len(), 1, "{log}");
    for secret in ["salt=", "challenge=", "nonce=", "opaque="] {
        let told: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}
