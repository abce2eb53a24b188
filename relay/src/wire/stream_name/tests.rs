#![allow(clippy::unwrap_used)]

use super::*;

fn resolve(app: &str, tc_url: &str, name: &str) -> Result<StreamAddress, NameError> {
    StreamAddress::resolve(app.as_bytes(), tc_url.as_bytes(), name.as_bytes(), &Limits::default())
}

#[test]
fn every_client_arrives_at_the_same_name() {
    #[track_caller]
    fn check(app: &str, name: &str, joined: &str, query: &str) {
        let address = resolve(app, "rtmp://host/x", name).unwrap();
        assert_eq!((address.name.as_str(), address.query.as_str()), (joined, query));
    }
    // rtmp://h/a/b/c?k=v as FFmpeg, rtmpdump, OBS and GStreamer cut it.
    check("a/b", "c?k=v", "a/b/c", "k=v");
    check("a", "b/c?k=v", "a/b/c", "k=v");
    check("a/b/c?k=v", "", "a/b/c", "k=v");
    check("a/b?k=v", "c", "a/b/c", "k=v");
    check("", "a/b/c?k=v", "a/b/c", "k=v");
    // Spaces, quotes, slashes and the default instance.
    check(" \"live\" ", "s", "live/s", "");
    check("/live/", "/s/", "live/s", "");
    check("live/_definst_", "s", "live/s", "");
    check("live/_definst_/", "s", "live/s", "");
    check("_definst_", "s", "s", "");
    check("live//x", "a//b", "live/x/a/b", "");
    check("live", " s ", "live/s", "");
    // Prefixes and suffixes by which players name a container.
    check("live", "mp4:s", "live/s", "");
    check("live", "flv:s", "live/s", "");
    check("live", "mp3:s", "live/s", "");
    check("live", "mp4:s.mp4", "live/s.mp4", "");
    check("live", "s.flv", "live/s", "");
    check("live", "s.flv?k=v", "live/s", "k=v");
    check("live/s.flv", "", "live/s", "");
    // Phones.
    check("live", "key?token=1", "live/key", "token=1");
    check("live/key", "?token=1", "live/key", "token=1");
    check("live", "/key", "live/key", "");
    // The key at the end of the application (GoPro): what follows the first slash.
    check("live/b/c", "", "live/b/c", "");
    // No application at all.
    check("", "s", "s", "");
    check("?k=v", "s", "s", "k=v");
    check("live", "stream name", "live/stream name", "");
    check("live", "\u{fc}ber", "live/\u{fc}ber", "");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let long = "x".repeat(600);
    let query = format!("s?{}", "x".repeat(2_049));
    let check = |app: &str, name: &str, expected| {
        assert_eq!(resolve(app, "", name), Err(expected), "{app:?} {name:?}");
    };
    check("live", "", NameError::Empty);
    check("", "", NameError::Empty);
    check("live/", "?k=v", NameError::Empty);
    check("live", "/", NameError::Empty);
    check("live", ".flv", NameError::Empty);
    check("live", "a\nb", NameError::Characters);
    check("live", "a\0b", NameError::Characters);
    check("li\u{85}ve", "a", NameError::Characters);
    check("live", "../a", NameError::Characters);
    check("live/..", "a", NameError::Characters);
    check("live", "a..b", NameError::Characters);
    check("live", "./a", NameError::Characters);
    check(&long, "a", NameError::TooLong);
    check("live", &long, NameError::TooLong);
    check("live", &query, NameError::TooLong);
    let limits = Limits::default();
    let bad = StreamAddress::resolve(b"live", b"", b"\xff", &limits);
    assert_eq!(bad, Err(NameError::Characters));
    let bad_url = StreamAddress::resolve(b"live", b"\xff", b"s", &limits).unwrap();
    assert_eq!(bad_url.host, "");
}

#[test]
fn the_name_decides_the_query_before_the_app_and_the_app_before_the_url() {
    #[track_caller]
    fn check(app: &str, tc_url: &str, name: &str, query: &str) {
        assert_eq!(resolve(app, tc_url, name).unwrap().query, query);
    }
    check("live?a=1&b=1", "rtmp://h/live?a=2&c=2", "s?b=3", "b=3&a=1&c=2");
    check("live", "rtmp://h/live?a=2", "s", "a=2");
    check("live?a=1", "rtmp://h/live?a=1", "s", "a=1");
    check("live", "", "s?a=1&a=2", "a=1&a=2");
    check("live?flag", "", "s?flag&&x", "flag&x");
}

#[test]
fn the_host_comes_from_the_query_or_the_url() {
    #[track_caller]
    fn check(tc_url: &str, name: &str, host: &str) {
        assert_eq!(resolve("live", tc_url, name).unwrap().host, host);
    }
    check("rtmp://example.org/live", "s", "example.org");
    check("rtmp://example.org:1935/live", "s", "example.org");
    check("\"rtmp://example.org/live\"", "s", "example.org");
    check("rtmps://[2001:db8::1]:443/live", "s", "2001:db8::1");
    check("rtmp://user:secret@example.org/live", "s", "example.org");
    check("rtmp://example.org", "s", "example.org");
    check("rtmp://example.org?x=y", "s", "example.org");
    check("rtmp://example.org/live", "s?vhost=a", "a");
    check("rtmp://example.org/live", "s?domain=b", "b");
    check("rtmp://example.org/live?vhost=c", "s?domain=b", "c");
    check("rtmp://example.org/live", "s?vhost=", "example.org");
    check("example.org/live", "s", "");
    check("", "s", "");
    assert_eq!(resolve("live", "rtmp://a\u{7}b/live", "s"), Err(NameError::Characters));
    assert_eq!(tc_url_host(b"rtmp://example.org:1935/live?x"), "example.org");
}

#[test]
fn settings_are_chosen_by_the_first_segment() {
    let check = |joined: &str, app: &str, stream: &str| {
        let name = resolve("", "", joined).unwrap().name;
        assert_eq!((name.app(), name.stream()), (app, stream));
    };
    check("live/s", "live", "s");
    check("a/b/c", "a", "b/c");
    check("s", "", "s");
}

#[test]
fn the_application_of_connect_is_shown_clean() {
    let check = |app: &str, expected: Result<&str, NameError>| {
        let found = app_name(app.as_bytes(), &Limits::default());
        assert_eq!(found.as_deref().map_err(|error| *error), expected);
    };
    check("/live/?token=1", Ok("live"));
    check("", Ok(""));
    check("a/b", Ok("a/b"));
    check("a\tb", Err(NameError::Characters));
    check(&"x".repeat(257), Err(NameError::TooLong));
}

#[test]
fn connect_has_a_query_of_its_own() {
    let check = |app: &str, tc_url: &str, expected: &str| {
        assert_eq!(connect_query(app.as_bytes(), tc_url.as_bytes()), expected);
    };
    check("live?a=1", "rtmp://h/live?a=2&b=2", "a=1&b=2");
    check("live", "", "");
    assert_eq!(connect_query(b"\xff", b"rtmp://h?a"), "a");
}

#[test]
fn the_query_is_never_printed() {
    let address = resolve("live", "rtmp://h/live", "s?token=secret").unwrap();
    assert!(!format!("{address:?}").contains("secret"));
}
