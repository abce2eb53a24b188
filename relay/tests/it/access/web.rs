//! Secrets that are shown over HTTP: in the query and the path of FLV, in a header, through a
//! WebSocket and through a tunnel. They let in, and are written nowhere.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{END_MAX, KEY, Scene, TOKEN_SECRET, token, unix};
use crate::support::process::Process;
use crate::support::{ffmpeg, http};

/// FFmpeg, playing for a second.
fn plays(scene: &Scene, name: &str, further: &[&str], url: &str) -> (bool, String) {
    let mut command = ffmpeg::Version::System.command();
    command.args(further).args(["-i", url, "-t", "1", "-c", "copy", "-f", "null", "-"]);
    let mut player = Process::start(scene.scratch.path(), name, &mut command);
    let status = player.wait(END_MAX);
    (status.success(), player.log())
}

/// The status that an upgrade to a WebSocket is answered with.
fn upgrade(scene: &Scene, path: &str, header: &str) -> String {
    let mut socket = TcpStream::connect(scene.relay.rtmp).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n"
    )
    .unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

#[test]
fn secrets_shown_over_http_let_in_and_are_written_nowhere() {
    let scene = Scene::new("access-web");
    let claims = serde_json::json!({"exp": unix() + 600, "publish": true, "play": true});
    let (right, wrong) =
        (token(TOKEN_SECRET, &claims), token("another-secret-of-some-length-012345", &claims));
    let at = scene.relay.rtmp;
    // A publisher through a tunnel, and one of an application with keys.
    let tunnel = format!("rtmpt://{at}/token/cam1?token={right}");
    let mut tunnelled = scene.publish("tunnelled", &tunnel);
    let mut keyed = scene.publish("keyed", &scene.url(&format!("key/cam1?key={KEY}")));
    scene.relay.wait_for_role("publisher", 2);

    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let flv = format!("http://{at}/token/cam1.flv");
    let told = |what: &str, found: (bool, String), expected: bool| {
        assert_eq!(found.0, expected, "{what}: {}", found.1);
    };
    told("query", plays(&scene, "query", &[], &format!("{flv}?token={right}")), true);
    told("bad query", plays(&scene, "bad-query", &[], &format!("{flv}?token={wrong}")), false);
    told("bearer", plays(&scene, "bearer", &["-headers", &bearer(&right)], &flv), true);
    told("bad bearer", plays(&scene, "bad", &["-headers", &bearer(&wrong)], &flv), false);
    told("nothing", plays(&scene, "none", &[], &flv), false);
    told(
        "tunnel",
        plays(&scene, "tunnel", &[], &format!("rtmpt://{at}/token/cam1?jwt={right}")),
        true,
    );
    let keyed_flv = format!("http://{at}/key/cam1");
    told("key", plays(&scene, "key", &[], &format!("{keyed_flv}.flv?key={KEY}")), true);
    told("path", plays(&scene, "path", &[], &format!("{keyed_flv}/{KEY}.flv")), true);
    for (path, header, status) in [
        (format!("/token/cam1.flv?token={right}"), String::new(), "101"),
        (format!("/token/cam1.flv?token={wrong}"), String::new(), "401"),
        ("/token/cam1.flv".to_owned(), bearer(&right), "101"),
        ("/token/cam1.flv".to_owned(), bearer(&wrong), "401"),
        (format!("/key/cam1.flv?key={KEY}"), String::new(), "101"),
        (format!("/key/cam1/{KEY}.flv"), String::new(), "101"),
        ("/key/cam1/a-guess-of-a-key.flv".to_owned(), String::new(), "401"),
    ] {
        assert_eq!(upgrade(&scene, &path, &header), status, "{path} {header}");
    }
    tunnelled.must_run();
    keyed.must_run();
    // Nor while they are there.
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    let shown = [signature(&right), signature(&wrong), "a-guess-of-a-key".to_owned()];
    for path in ["/metrics/streams", "/api/v1/connections", "/api/v1/streams", "/api/v1/links", "/"]
    {
        let page = http::get(scene.relay.http, path).unwrap().body;
        for secret in shown.iter().map(String::as_str).chain([KEY, TOKEN_SECRET]) {
            assert!(!page.contains(secret), "{secret} is on {path}");
        }
    }
    scene.told_no_secret(&shown.each_ref().map(String::as_str));
}
