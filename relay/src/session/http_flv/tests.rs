//! Requests for FLV, the answers to them, and what players say.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::session::event::{PlayRefusal, PlayRefusalCode, Redirect};
use crate::session::http::HeadReader;

const NOW: Duration = Duration::from_secs(5);

/// The head of a request given as lines.
fn head(lines: &str) -> RequestHead {
    let text = format!("{}\r\n\r\n", lines.replace('\n', "\r\n"));
    let mut rest = text.as_bytes();
    HeadReader::default().read(&mut rest, &Limits::default()).unwrap().unwrap()
}

fn get(target: &str, fields: &str) -> RequestHead {
    head(format!("GET {target} HTTP/1.1\nHost: relay.example:1935\n{fields}").trim_end())
}

fn read(head: &RequestHead) -> Result<FlvRequest, RequestError> {
    FlvRequest::read(head, &Cors::Any, &Limits::default())
}

const WEBSOCKET: &str = "Upgrade: websocket\nConnection: keep-alive, Upgrade\n\
    Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";

/// A session that asked for this.
fn session(head: &RequestHead, cors: Cors) -> FlvSession {
    let limits = Limits::default();
    let request = FlvRequest::read(head, &cors, &limits).unwrap();
    FlvSession::new(request, Arc::new(cors), Arc::new(limits))
}

/// All that is to be sent, as text.
fn said(session: &mut FlvSession) -> String {
    let mut out = Vec::new();
    while let Some(bytes) = session.take_output() {
        out.extend_from_slice(&bytes);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn refusal(code: PlayRefusalCode) -> PlayRefusal {
    PlayRefusal { code, description: "Nobody publishes this stream".into() }
}

#[test]
fn a_target_names_a_stream() {
    #[track_caller]
    fn check(target: &str, name: &str, query: &str) {
        let request = read(&get(target, "")).unwrap();
        let address = &request.stream.address;
        assert_eq!((address.name.as_str(), &*address.query), (name, query), "{target}");
        assert_eq!(address.host, "relay.example");
        assert_eq!(request.stream.message_stream, 1);
    }
    check("/live/a.flv", "live/a", "");
    check("/live/b/c/a.flv", "live/b/c/a", "");
    check("/a.flv", "a", "");
    check("//live//a.flv", "live/a", "");
    check("/live/a.flv?token=x&only=audio", "live/a", "token=x&only=audio");
    check("/live/%61%2Fb.flv", "live/a/b", "");
    check("/live/caf%C3%A9%20bar.flv", "live/caf\u{e9} bar", "");
    check("/live/a.b.flv", "live/a.b", "");
    check("/live/100%25.flv", "live/100%", "");
}

#[test]
fn targets_that_name_none_are_refused() {
    #[track_caller]
    fn check(target: &str, status: u16) {
        let refused = read(&get(target, "")).unwrap_err();
        assert_eq!(refused.status().0, status, "{target}: {refused}");
    }
    for target in [
        "/.flv",
        "/live/../a.flv",
        "/live/..%2Fa.flv",
        "/live/%2e%2e/a.flv",
        "/live/./a.flv",
        "/live/a%00.flv",
        "/live/a%0d%0aX.flv",
        "/live/a%7f.flv",
        "/live/a%FF.flv",
        "/live/a%3Fb.flv",
        "/live/a%.flv",
        "/live/a%4.flv",
        "/live/a%zz.flv",
        "/live/a.flv?only=both",
        "/live/a.flv?only",
    ] {
        check(target, 400);
    }
    check(&format!("/live/{}.flv", "a".repeat(600)), 414);
    check(&format!("/live/{}.flv", "a".repeat(5_000)), 414);
    check(&format!("/live/a.flv?{}", "a".repeat(3_000)), 414);
    for field in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let refused = read(&get("/live/a.flv", field)).unwrap_err();
        assert_eq!((refused, refused.status().0), (RequestError::Body, 413));
    }
    assert!(read(&get("/live/a.flv", "Content-Length: 0")).is_ok());
}

#[test]
fn the_query_chooses_kinds_and_extras() {
    let check = |query: &str, only, extras| {
        let request = read(&get(&format!("/live/a.flv{query}"), "")).unwrap();
        assert_eq!((request.only, request.extras), (only, extras), "{query}");
    };
    check("", Only::Both, false);
    check("?only=audio", Only::Audio, false);
    check("?a=b&only=video&extras=1", Only::Video, true);
    check("?extras=0&ONLY=x", Only::Both, false);
    check("?extras", Only::Both, false);
}

#[test]
fn who_asks_is_told_without_his_secrets() {
    let fields = "User-Agent: Lavf/\u{e9}\nAuthorization: bearer  abc.def \nOrigin: https://a.b";
    let request = read(&get("/live/a.flv?token=secret", fields)).unwrap();
    assert_eq!(request.client, "Lavf/\u{e9}");
    assert_eq!(request.bearer.as_deref(), Some("abc.def"));
    let referred = read(&get("/live/a.flv", "Referer: https://a.b/c?d")).unwrap();
    assert_eq!(referred.page, "https://a.b/c?d");
    let shown = format!("{request:?}");
    assert!(!shown.contains("secret") && !shown.contains("abc.def"), "{shown}");
    let basic = read(&get("/live/a.flv", "Authorization: Basic abc")).unwrap();
    assert_eq!(basic.bearer, None);
    let long = format!("User-Agent: {}", "\u{e9}".repeat(300));
    assert_eq!(read(&get("/live/a.flv", &long)).unwrap().client.len(), 256);
}

#[test]
fn http_is_answered_and_flv_follows() {
    let mut session = session(&get("/live/a.flv", "Range: bytes=0-\nIcy-MetaData: 1"), Cors::Any);
    assert!(session.is_waiting() && said(&mut session).is_empty());
    session.accept_play();
    assert!(!session.is_waiting() && !session.wants_close() && !session.is_answered());
    assert_eq!(
        said(&mut session),
        "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nCache-Control: no-store\r\n\
         Connection: close\r\nX-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n\
         Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n\r\n"
    );
    session.end();
    assert!(session.wants_close() && said(&mut session).is_empty() && session.refusal().is_none());
}

#[test]
fn refusals_say_why_and_leave_the_connection_open() {
    let check = |version: &str, fields: &str, code, status: &str, stays: bool| {
        for method in ["GET", "HEAD"] {
            let head =
                head(format!("{method} /live/a.flv HTTP/{version}\nHost: h\n{fields}").trim_end());
            let mut session = session(&head, Cors::Any);
            session.reject_play(&refusal(code));
            let answer = said(&mut session);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            let (fields, body) = answer.split_once("\r\n\r\n").unwrap();
            let sentence = "Nobody publishes this stream.\n";
            assert_eq!(body, if method == "HEAD" { "" } else { sentence });
            assert!(fields.contains(&format!("Content-Length: {}\r\n", sentence.len())));
            assert!(fields.contains("Access-Control-Allow-Origin: *"), "pages may read why");
            assert_eq!((session.is_answered(), session.wants_close()), (stays, !stays));
            assert_eq!(session.refusal(), Some(sentence.trim_end()), "for whoever logs it");
            let connection = if stays { "keep-alive" } else { "close" };
            assert!(fields.contains(&format!("Connection: {connection}")));
        }
    };
    check("1.1", "", PlayRefusalCode::StreamNotFound, "404 Not Found", true);
    check("1.1", "Connection: close", PlayRefusalCode::Forbidden, "403 Forbidden", false);
    check("1.0", "", PlayRefusalCode::Unauthorized, "401 Unauthorized", false);
    let stays = "Connection: keep-alive";
    check("1.0", stays, PlayRefusalCode::Failed, "503 Service Unavailable", true);
}

#[test]
fn head_asks_only() {
    for (version, stays) in [("1.1", true), ("1.0", false)] {
        let head = head(&format!("HEAD /live/a.flv HTTP/{version}\nHost: h"));
        let mut session = session(&head, Cors::Off);
        assert!(session.request().head_only);
        session.accept_play();
        let answer = said(&mut session);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n"));
        assert!(!answer.contains("Access-Control"));
        assert_eq!((session.is_answered(), session.wants_close()), (stays, !stays));
    }
}

#[test]
fn origins_are_those_that_the_operator_lists() {
    let listed = || Cors::Origins(vec!["https://a.example".to_owned()]);
    let check = |cors: Cors, origin: &str, expected: &[&str]| {
        let field = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\n") };
        let mut session = session(&get("/live/a.flv", &field), cors.clone());
        session.accept_play();
        let options = head(format!("OPTIONS /live/a.flv HTTP/1.1\nHost: h\n{field}").trim_end());
        let preflight = preflight(&options, &cors);
        for answer in [said(&mut session), String::from_utf8_lossy(&preflight).into_owned()] {
            let found: Vec<_> = answer
                .lines()
                .filter(|line| line.contains("Allow-Origin") || line.starts_with("Vary"))
                .collect();
            assert_eq!(found, expected, "{cors:?} {origin}");
        }
    };
    check(Cors::Any, "", &["Access-Control-Allow-Origin: *"]);
    check(Cors::Any, "null", &["Access-Control-Allow-Origin: *"]);
    check(Cors::Off, "https://a.example", &[]);
    check(listed(), "", &["Vary: Origin"]);
    check(listed(), "https://b.example", &["Vary: Origin"]);
    let echoed = ["Access-Control-Allow-Origin: https://a.example", "Vary: Origin"];
    check(listed(), "https://a.example", &echoed);
    // a WebSocket is read by whoever opens it, so it is judged here
    let open = |cors: &Cors, origin: &str| {
        let fields = format!("{WEBSOCKET}{origin}");
        FlvRequest::read(&get("/live/a.flv", &fields), cors, &Limits::default()).map(|_| ())
    };
    assert_eq!(open(&listed(), "Origin: https://b.example"), Err(RequestError::Origin));
    assert_eq!(open(&Cors::Off, "Origin: https://a.example"), Err(RequestError::Origin));
    assert_eq!(open(&listed(), "Origin: https://a.example"), Ok(()));
    assert_eq!(open(&listed(), ""), Ok(()), "no browser");
    assert_eq!(RequestError::Origin.status().0, 403);
}

#[test]
fn options_is_answered_without_a_body() {
    let options = "OPTIONS /live/a.flv HTTP/1.1\nHost: h\nAccess-Control-Request-Method: GET";
    let answer = preflight(&head(options), &Cors::Any);
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n\
         Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
         Access-Control-Allow-Headers: *, Authorization\r\nAccess-Control-Max-Age: 86400\r\n\
         Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n\
         Connection: keep-alive\r\n\r\n"
    );
    assert!(!String::from_utf8_lossy(&preflight(&head(options), &Cors::Off)).contains("Control"));
}

#[test]
fn a_websocket_is_opened_as_its_protocol_says() {
    // the example of RFC 6455 section 1.3
    let fields = format!("{WEBSOCKET}Sec-WebSocket-Protocol: chat, superchat");
    let mut opened = session(&get("/live/a.flv", &fields), Cors::Any);
    opened.accept_play();
    assert_eq!(
        said(&mut opened),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    let mut refused = session(&get("/live/a.flv", WEBSOCKET), Cors::Any);
    refused.reject_play(&refusal(PlayRefusalCode::StreamNotFound));
    assert!(said(&mut refused).starts_with("HTTP/1.1 404 Not Found\r\n"));

    let check = |from: &str, to: &str, expected: RequestError, status: u16| {
        let fields = WEBSOCKET.replace(from, to);
        assert_eq!(read(&get("/live/a.flv", &fields)), Err(expected), "{to}");
        assert_eq!(expected.status().0, status);
    };
    check("Version: 13", "Version: 8", RequestError::WebSocketVersion, 426);
    check("Connection: keep-alive, Upgrade", "X: y", RequestError::WebSocketVersion, 426);
    check("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", RequestError::WebSocketKey, 400);
    check("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X: y", RequestError::WebSocketKey, 400);
    check("dGhlIHNhbXBsZSBub25jZQ==", "!!!", RequestError::WebSocketKey, 400);
    let odd = format!("{WEBSOCKET}Sec-WebSocket-Protocol: a b");
    let request = read(&get("/live/a.flv", &odd)).unwrap();
    assert_eq!(request.websocket.unwrap().protocol, None);
    // HEAD opens nothing
    let asked = head(format!("HEAD /a.flv HTTP/1.1\nHost: h\n{WEBSOCKET}").trim_end());
    assert_eq!(read(&asked).unwrap().websocket, None);
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
    out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn playing() -> FlvSession {
    let mut session = session(&get("/live/a.flv", WEBSOCKET), Cors::Any);
    session.accept_play();
    said(&mut session);
    session
}

#[test]
fn players_on_websockets_may_ping_and_leave() {
    let mut session = playing();
    let input = [frame(0x89, b"hi"), frame(0x81, b"text"), frame(0x8A, b"")].concat();
    for byte in &input {
        session.receive(&mut &[*byte][..], NOW).unwrap();
    }
    assert_eq!(session.take_output().unwrap(), b"\x8a\x02hi"[..]);
    assert_eq!(session.take_output(), None);
    let mut rest = &[frame(0x88, &1001u16.to_be_bytes()), frame(0x89, b"late")].concat()[..];
    session.receive(&mut rest, NOW).unwrap();
    assert_eq!(session.take_output().unwrap(), b"\x88\x02\x03\xe9"[..]);
    assert!(session.wants_close() && session.take_output().is_none() && rest.is_empty());
    assert_eq!(session.refusal(), None, "it went by itself");
}

#[test]
fn what_players_may_say_has_its_limits() {
    let limits = Limits::default();
    let mut session = playing();
    for second in [5, 6] {
        for _ in 0..limits.pings_per_second_max * 3 {
            let now = Duration::from_secs(second);
            session.receive(&mut &frame(0x89, b"")[..], now).unwrap();
        }
        let pongs = std::iter::from_fn(|| session.take_output()).count();
        assert_eq!(pongs, limits.pings_per_second_max);
    }
    let error = (0..=limits.messages_per_second_max)
        .find_map(|_| session.receive(&mut &frame(0x82, b"")[..], Duration::from_secs(9)).err());
    assert_eq!(error.unwrap().reason(), "limit");
    assert!(session.wants_close());

    let mut session = playing();
    let mut unmasked = &b"\x82\x01a"[..];
    assert_eq!(session.receive(&mut unmasked, NOW).unwrap_err().reason(), "protocol");
    assert_eq!(session.take_output().unwrap(), b"\x88\x02\x03\xea"[..]);

    let mut session = playing();
    let mut huge = &b"\x82\xff\0\0\0\0\0\x01\0\x01"[..];
    assert_eq!(session.receive(&mut huge, NOW).unwrap_err().reason(), "limit");
    assert_eq!(session.take_output().unwrap(), b"\x88\x02\x03\xf1"[..]);

    let mut http = tests::session(&get("/live/a.flv", ""), Cors::Any);
    http.accept_play();
    let chunk = vec![b'x'; limits.flv_input_bytes_max];
    let mut rest = &chunk[..];
    http.receive(&mut rest, NOW).unwrap();
    assert!(rest.is_empty());
    assert_eq!(http.receive(&mut &b"x"[..], NOW).unwrap_err().reason(), "limit");
}

#[test]
fn when_the_stream_ends_the_websocket_is_closed() {
    let mut session = playing();
    session.end();
    assert_eq!(session.take_output().unwrap(), b"\x88\x02\x03\xe8"[..]);
    assert!(session.wants_close());
    session.end();
    assert_eq!(session.take_output(), None, "once");
}

#[test]
fn a_player_is_sent_elsewhere_but_not_over_a_websocket() {
    let to = Redirect {
        tc_url: "http://b.example:1935".to_owned(),
        url: "http://b.example:1935/live/a.flv?token=x".to_owned(),
        shown: "http://b.example:1935/live/a.flv".to_owned(),
    };
    let full = PlayRefusal { code: PlayRefusalCode::Failed, description: "Full".into() };
    let answer = |head: &RequestHead| {
        let mut session = session(head, Cors::Any);
        session.redirect_play(&full, &to);
        // Once and for all.
        session.redirect_play(&full, &to);
        session.reject_play(&full);
        assert!(session.is_answered() && !session.is_waiting());
        said(&mut session)
    };
    let found = answer(&get("/live/a.flv?token=x", "Origin: https://page.example"));
    assert!(found.starts_with("HTTP/1.1 302 Found\r\n"), "{found}");
    for field in [
        "Location: http://b.example:1935/live/a.flv?token=x",
        "Access-Control-Allow-Origin: *",
        "Cache-Control: no-store",
        "Connection: keep-alive",
    ] {
        assert!(found.contains(&format!("\r\n{field}\r\n")), "{field}: {found}");
    }
    assert!(found.ends_with("\r\n\r\nFull; play it from http://b.example:1935/live/a.flv.\n"));
    let found = answer(&head("HEAD /live/a.flv HTTP/1.1\nHost: relay"));
    assert!(found.starts_with("HTTP/1.1 302 ") && found.ends_with("\r\n\r\n"), "{found}");
    let refused = answer(&get("/live/a.flv", WEBSOCKET));
    assert!(refused.starts_with("HTTP/1.1 503 ") && !refused.contains("Location"), "{refused}");
}
