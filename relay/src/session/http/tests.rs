use super::*;

/// Reads a head at once and at every split; what follows it is left.
fn read(bytes: &[u8]) -> Result<Option<RequestHead>, HttpError> {
    let limits =
        Limits { request_head_bytes_max: 300, request_headers_max: 4, ..Limits::default() };
    let whole = HeadReader::default().read(&mut &bytes[..], &limits);
    for split in 0..=bytes.len() {
        let (mut first, mut second) = bytes.split_at(split);
        let mut reader = HeadReader::default();
        let mut found = reader.read(&mut first, &limits);
        if found == Ok(None) {
            assert!(first.is_empty());
            found = reader.read(&mut second, &limits);
        }
        assert_eq!(found, whole, "split at {split}");
    }
    whole
}

fn head(text: &str) -> RequestHead {
    read(text.as_bytes()).unwrap().unwrap()
}

#[test]
fn a_head_is_read_and_what_follows_is_left() {
    let text = b"GET /live/a.flv?x=1 HTTP/1.1\r\nHost: h\r\nX-Y:  a b \r\n\r\nPOST";
    let mut input = &text[..];
    let head = HeadReader::default().read(&mut input, &Limits::default()).unwrap().unwrap();
    assert_eq!(input, b"POST");
    assert_eq!((&*head.method, head.minor), ("GET", 1));
    assert_eq!((head.path(), head.query()), ("/live/a.flv", "x=1"));
    assert_eq!(head.header("x-y"), Some("a b"));
    assert_eq!(head.header("x-z"), None);
    assert_eq!(format!("{head:?}"), "GET /live/a.flv HTTP/1.1", "a query may be a secret");
}

#[test]
fn heads_may_end_their_lines_as_old_clients_do() {
    assert_eq!(head("\r\n\nGET / HTTP/1.0\n\n").path(), "/");
    assert_eq!(head("GET / HTTP/1.1\nHost: a\n\r\n").header("host"), Some("a"));
    assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
}

#[test]
fn a_target_may_be_a_whole_url() {
    let target = |text: &str| head(&format!("GET {text} HTTP/1.0\r\n\r\n")).target;
    assert_eq!(target("http://h:1935/live/a.flv?x=http://y/"), "/live/a.flv?x=http://y/");
    assert_eq!(target("HTTPS://h/"), "/");
    assert_eq!(target("http://h"), "/");
    assert_eq!(target("/a://b"), "/a://b");
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    fn check(text: &str, status: u16) {
        let error = read(text.as_bytes()).unwrap_err();
        assert_eq!(error.status().0, status, "{text:?}: {error}");
    }
    check("GET / FTP/1.1\r\n\r\n", 505);
    check("GET /\r\n\r\n", 400);
    check("GET / HTTP/2.0\r\n\r\n", 505);
    check("GET /\0 HTTP/1.0\r\n\r\n", 400);
    check("GET /\u{e4} HTTP/1.0\r\n\r\n", 400);
    check("GET ftp://h/ HTTP/1.0\r\n\r\n", 400);
    check("GET http://h?x HTTP/1.0\r\n\r\n", 400);
    check("CONNECT h:1 HTTP/1.0\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
    check("GET / HTTP/1.0\r\n Folded: x\r\n\r\n", 400);
    check("GET / HTTP/1.0\r\nNo colon\r\n\r\n", 400);
    check("GET / HTTP/1.0\r\nA : b\r\n\r\n", 400);
    check("GET / HTTP/1.0\r\nA: b\rc\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nContent-Length: +1\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nContent-Length: 0x1\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nContent-Length:\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nContent-Length: 9999999999999999\r\n\r\n", 400);
    let both =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(both, 400);
    check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    check(&format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(300)), 431);
    check(&format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(5)), 431);
}

#[test]
fn a_connection_stays_as_its_version_and_its_field_say() {
    fn check(version: &str, connection: &str, stays: bool) {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        assert_eq!(head(&text).keeps_alive(), stays, "{text}");
    }
    check("1.1", "", true);
    check("1.1", "Upgrade, Keep-Alive", true);
    check("1.1", "x, Close", false);
    check("1.0", "", false);
    check("1.0", "Keep-Alive", true);
    assert!(
        head("GET / HTTP/1.0\r\nConnection: a\r\nConnection: b, C\r\n\r\n")
            .lists("connection", "c")
    );
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    assert_eq!(head("POST / HTTP/1.0\r\n\r\n").body_bytes(), Some(0));
    assert_eq!(head("POST / HTTP/1.0\r\nContent-Length: 17\r\n\r\n").body_bytes(), Some(17));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head(chunked).body_bytes(), None);
}

#[test]
fn answers_are_written_in_order() {
    let answer = plain_response((404, "Not Found"), &[("Connection", "close")], "Nothing.");
    let expected = "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\
        Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\nNothing.\n";
    assert_eq!(answer, expected);
    assert_eq!(response_head((200, "OK"), &[("A", "b")]), "HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
}
