//! The client's side of a tunnel: what it says, and what it makes of answers, however they are cut.

use super::*;

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn client() -> TunnelClient {
    TunnelClient::new(TunnelSettings::new("host:80".to_owned()), at(0))
}

fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The first line and the body of a request.
fn said(request: Option<Vec<Bytes>>) -> Option<(String, Vec<u8>)> {
    let bytes = request?.concat();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let body = bytes[end + 4..].to_vec();
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    assert!(head.contains("\r\nHost: host:80\r\n"), "{head}");
    Some((head.lines().next().unwrap().to_owned(), body))
}

fn request(target: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
    Some((format!("POST {target} HTTP/1.1"), body.to_vec()))
}

fn hear(client: &mut TunnelClient, mut bytes: &[u8], now: u64) -> Result<Vec<u8>, TunnelError> {
    let mut heard = Vec::new();
    while let Some(piece) = client.receive(&mut bytes, at(now))? {
        heard.extend_from_slice(piece);
    }
    assert!(bytes.is_empty());
    Ok(heard)
}

/// A client whose session is open.
fn open() -> TunnelClient {
    let mut client = client();
    assert_eq!(said(client.take_request(at(0))), request("/open/1", &[0]));
    assert_eq!(hear(&mut client, &answer(b"abc\n"), 0), Ok(vec![]));
    client
}

#[test]
fn a_session_from_open_to_close() {
    let mut client = client();
    client.push(Bytes::from_static(b"one"));
    assert_eq!(client.next_due(), Some(at(0)));
    assert_eq!(said(client.take_request(at(0))), request("/open/1", &[0]));
    assert_eq!(said(client.take_request(at(0))), None, "one at a time");
    assert_eq!(hear(&mut client, &answer(b" abc \n"), 5), Ok(vec![]));
    client.push(Bytes::from_static(b"two"));
    assert_eq!(client.waiting_bytes(), 6);
    assert_eq!(said(client.take_request(at(5))), request("/send/abc/0", b"onetwo"));
    assert_eq!(client.waiting_bytes(), 0);
    assert_eq!(hear(&mut client, &answer(b"\x01hello"), 9), Ok(b"hello".to_vec()));
    assert_eq!(client.next_due(), Some(at(25)));
    assert_eq!(said(client.take_request(at(24))), None);
    assert_eq!(said(client.take_request(at(25))), request("/idle/abc/1", &[0]));
    assert_eq!(hear(&mut client, &answer(b"\x01"), 30), Ok(vec![]));
    client.push(Bytes::from_static(b"last"));
    client.finish();
    client.push(Bytes::from_static(b"too late"));
    assert_eq!(said(client.take_request(at(30))), request("/send/abc/2", b"last"));
    assert_eq!(hear(&mut client, &answer(b"\x01"), 30), Ok(vec![]));
    assert_eq!(said(client.take_request(at(30))), request("/close/abc/3", &[0]));
    assert!(!client.is_closed());
    assert_eq!(hear(&mut client, &answer(&[0]), 31), Ok(vec![]));
    assert!(client.is_closed());
    assert_eq!(client.next_due(), None);
    assert_eq!(said(client.take_request(at(99))), None);
    assert_eq!(client.polls(), (3, 2));
}

#[test]
fn long_bodies_are_pieces_of_their_own_and_bounded() {
    let mut client = open();
    let frame = Bytes::from(vec![7; 300_000]);
    for _ in 0..3 {
        client.push(frame.clone());
    }
    for (number, length) in [(0, 300_000), (1, 300_000), (2, 300_000)] {
        let pieces = client.take_request(at(0)).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1].as_ptr(), frame.as_ptr(), "not copied");
        let (line, body) = said(Some(pieces)).unwrap();
        assert_eq!(line, format!("POST /send/abc/{number} HTTP/1.1"));
        assert_eq!(body.len(), length);
        hear(&mut client, &answer(&[1]), 0).unwrap();
    }
}

#[test]
fn the_interval_follows_the_answers() {
    let mut client = open();
    let mut now = 0;
    let mut ask = |took: u64, body: &[u8], then: u64| {
        now = now.max(u64::try_from(client.next_due().unwrap().as_millis()).unwrap());
        assert!(client.take_request(at(now)).is_some());
        hear(&mut client, &answer(body), now + took).unwrap();
        assert_eq!(client.next_due(), Some(at(now + then)), "{now}");
    };
    ask(1, b"\x01data", 20);
    ask(1, b"\x01", 40);
    ask(1, b"\x01", 80);
    ask(1, b"\x01", 100);
    ask(1, b"\x01", 100);
    ask(1, b"\x01data", 20);
    // A server that held the request is asked at once.
    ask(90, b"\x01data", 90);
    ask(100, b"\x01", 100);
}

#[test]
fn answers_are_the_same_however_they_are_cut() {
    let answers = [
        b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length:  9 \r\nX: y\r\n\r\n\x21one".to_vec(),
        b"POST!".to_vec(),
    ]
    .concat();
    for cut in 0..=answers.len() {
        for second in [cut, (cut + answers.len()) / 2] {
            let mut client = open();
            client.take_request(at(100)).unwrap();
            let mut heard = hear(&mut client, &answers[..cut], 1).unwrap();
            heard.extend(hear(&mut client, &answers[cut..second], 1).unwrap());
            heard.extend(hear(&mut client, &answers[second..], 1).unwrap());
            assert_eq!(heard, b"onePOST!", "{cut} {second}");
            assert!(client.take_request(at(1_000)).is_some(), "the answer has ended");
        }
    }
}

#[test]
fn what_is_no_answer_ends_the_tunnel() {
    let check = |bytes: &[u8], error: TunnelError| {
        let mut client = open();
        client.take_request(at(100)).unwrap();
        let text = String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(hear(&mut client, bytes, 1), Err(error), "{text}");
    };
    let status = |status| TunnelError::Status { status };
    check(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", status(404));
    check(b"HTTP/1.0 503 Busy\r\n\r\n", status(503));
    check(b"HTTP/1.1 200 OK\r\n\r\n", TunnelError::NoLength);
    check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TunnelError::NoLength);
    check(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", TunnelError::NoLength);
    check(b"\x03\x00\x00\x00\x00\n\n", TunnelError::NotHttp);
    check(&[b'x'; HEAD_BYTES_MAX + 1], TunnelError::HeadTooLong);
    let twice = [answer(&[1]), answer(&[1])].concat();
    check(&twice, TunnelError::Unasked);
    assert_eq!(hear(&mut client(), b"H", 0), Err(TunnelError::Unasked));
    for id in [&b""[..], b"\n", b"a/b\n", b"a b\n", b"\xff\n", b"a\r\nX: y", &[b'a'; 300]] {
        let mut client = client();
        client.take_request(at(0)).unwrap();
        assert_eq!(hear(&mut client, &answer(id), 0), Err(TunnelError::BadId), "{id:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut client = open();
    client.take_request(at(100)).unwrap();
    assert_eq!(client.next_due(), Some(at(20_100)));
    assert_eq!(client.check_deadline(at(20_099)), Ok(()));
    assert_eq!(client.check_deadline(at(20_100)), Err(TunnelError::NoAnswer));
}

#[test]
fn the_session_outlives_its_connections() {
    let whole = answer(b"\x01hello");
    for cut in 0..whole.len() {
        let mut client = open();
        client.push(Bytes::from_static(b"hi"));
        assert_eq!(client.repeat_request(), None);
        client.take_request(at(0)).unwrap();
        let mut heard = hear(&mut client, &whole[..cut], 1).unwrap();
        client.reconnected();
        assert_eq!(said(client.repeat_request()), request("/send/abc/0", b"hi"));
        heard.extend(hear(&mut client, &whole, 1).unwrap());
        assert_eq!(heard, b"hello", "{cut}");
    }
    // Even while it is opened.
    let whole = answer(b"abc\n");
    for cut in 0..whole.len() {
        let mut client = client();
        client.take_request(at(0)).unwrap();
        hear(&mut client, &whole[..cut], 1).unwrap();
        assert!(!client.outlives_connection());
        client.reconnected();
        assert_eq!(said(client.repeat_request()), request("/open/1", &[0]));
        hear(&mut client, &whole, 1).unwrap();
        assert!(client.outlives_connection());
        assert_eq!(said(client.take_request(at(100))), request("/idle/abc/0", &[0]), "{cut}");
    }
    for (head, over) in [
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\n", false),
        ("HTTP/1.0 200 OK\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: x, keep-alive\r\n", false),
    ] {
        let mut client = open();
        client.take_request(at(100)).unwrap();
        let bytes = format!("{head}Content-Length: 1\r\n\r\n\x01");
        hear(&mut client, bytes.as_bytes(), 1).unwrap();
        assert_eq!(client.needs_connection(), over, "{head}");
        assert_eq!(client.take_request(at(1_000)).is_none(), over);
        client.reconnected();
        assert!(over == client.take_request(at(1_000)).is_some());
    }
}

#[test]
fn a_session_is_given_up_when_connections_in_a_row_are_of_no_use() {
    let mut client = open();
    let mut now = 0;
    for _ in 0..2 {
        let lives = (0..4).map(|_| client.outlives_connection()).collect::<Vec<_>>();
        assert_eq!(lives, [true, true, true, false]);
        // One on which something was answered makes up for those before.
        now += 1_000;
        client.take_request(at(now)).unwrap();
        hear(&mut client, &answer(&[1]), now).unwrap();
    }
}

#[test]
fn a_tunnel_that_was_never_opened_is_closed_at_once() {
    let mut client = client();
    client.finish();
    assert!(client.is_closed());
    assert_eq!(said(client.take_request(at(0))), None);
    let mut client = self::client();
    client.take_request(at(0)).unwrap();
    client.finish();
    hear(&mut client, &answer(b"abc\n"), 0).unwrap();
    assert_eq!(said(client.take_request(at(0))), request("/close/abc/0", &[0]));
}
