//! Signatures, right and wrong in every part.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::access::FetchedKeys;

const SECRET: &[u8] = b"0123456789abcdef";
const EXPIRES: u64 = 1_790_000_000;

fn judge(query: &str, action: Action, name: &str, peer: &str, unix: u64) -> Result<Grant, Reason> {
    let file = b"# new, then old\nnew-secret-of-the-day\n0123456789abcdef\n";
    let secrets = Secrets::parse("f", file).unwrap();
    let address = StreamAddress::resolve(b"", b"", name.as_bytes(), &Limits::default()).unwrap();
    let inquiry = Inquiry {
        action,
        name: &address.name,
        query,
        peer: peer.parse().unwrap(),
        login: None,
        bearer: None,
        fetched: &FetchedKeys::default(),
        unix,
        is_guessing: false,
        may_wait: true,
    };
    secrets.judge(&inquiry, name)
}

fn claim(address: Option<&str>) -> Claim<'static> {
    let address = address.map(|address| address.parse().unwrap());
    Claim { action: Action::Publish, name: "live/cam1", expires: EXPIRES, address }
}

/// Made with Python's `hmac` and `base64`.
#[test]
fn signatures_are_those_of_other_programs() {
    let play = Claim { action: Action::Play, ..claim(None) };
    assert_eq!(
        play.sign(SECRET),
        "expires=1790000000&signature=5sy1U-6TnSP1P-i7-sgIHRmhohXMqsyT9LzyP_Vi9RM"
    );
    assert_eq!(
        claim(Some("2001:db8::/32")).sign(SECRET),
        "expires=1790000000&address=2001%3Adb8%3A%3A%2F32\
         &signature=gzO3kz0zOyCvFo5fFsyIjlcYhZQBhzCrk-eGohK5Md8"
    );
}

#[test]
fn a_signature_holds_for_what_was_signed_and_nothing_else() {
    use Action::{Play, Publish};
    #[track_caller]
    fn check(query: &str, action: Action, name: &str, peer: &str, unix: u64, no: Option<Reason>) {
        assert_eq!(judge(query, action, name, peer, unix).err(), no, "{query}");
    }
    let (free, peer) = (claim(None).sign(SECRET), "203.0.113.7");
    let wrong = Some(Reason::WrongSignature);
    check(&free, Publish, "live/cam1", peer, EXPIRES - 1, None);
    check(&free, Publish, "live/cam1", "2001:db8::1", 0, None);
    check(&free, Publish, "live/cam1", peer, EXPIRES, Some(Reason::Expired));
    check(&free, Publish, "live/cam1", peer, u64::MAX, Some(Reason::Expired));
    check(&free, Play, "live/cam1", peer, 0, wrong);
    check(&free, Publish, "live/cam2", peer, 0, wrong);
    check(&free, Publish, "live/cam1/x", peer, 0, wrong);
    check("", Publish, "live/cam1", peer, 0, Some(Reason::NoSignature));
    check("expires=1790000000", Publish, "live/cam1", peer, 0, Some(Reason::NoSignature));
    for forged in [
        free.replace("1790000000", "1790000001"),
        free.replace("1790000000", "+1790000000"),
        free.replace("1790000000", ""),
        free.replace("1790000000", "99999999999999999999"),
        free.replace("expires=", "x="),
        format!("address=203.0.113.7&{free}"),
        format!("{free}x"),
        format!("{free}="),
        free[..free.len() - 1].to_owned(),
        free.replace("signature=", "signature=%00"),
        claim(None).sign(b"0123456789abcdeg"),
        claim(None).sign(b""),
    ] {
        check(&forged, Publish, "live/cam1", peer, 0, wrong);
    }
    let new = claim(None).sign(b"new-secret-of-the-day");
    check(&new, Publish, "live/cam1", peer, 0, None);

    let bound = claim(Some(peer)).sign(SECRET);
    check(&bound, Publish, "live/cam1", peer, 0, None);
    check(&bound, Publish, "live/cam1", "::ffff:203.0.113.7", 0, None);
    check(&bound, Publish, "live/cam1", "203.0.113.8", 0, Some(Reason::OtherAddress));
    check(&bound.replace("113.7", "113.8"), Publish, "live/cam1", "203.0.113.8", 0, wrong);
    check(&bound.replace("&address=203.0.113.7", ""), Publish, "live/cam1", peer, 0, wrong);
    let network = claim(Some("2001:db8::/32")).sign(SECRET);
    check(&network, Publish, "live/cam1", "2001:db8:1::1", 0, None);
    check(&network, Publish, "live/cam1", "2001:db9::1", 0, Some(Reason::OtherAddress));
}

#[test]
fn a_grant_ends_with_its_url_and_is_known_by_it() {
    let query = claim(None).sign(SECRET);
    let granted = |query: &str| judge(query, Action::Publish, "live/cam1", "::1", 5).unwrap();
    let grant = granted(&query);
    assert_eq!((grant.until, &grant.name), (Some(EXPIRES), &None));
    assert_eq!(granted(&format!("a=b&{query}")).key, grant.key);
    let later = Claim { expires: EXPIRES + 1, ..claim(None) };
    assert_ne!(granted(&later.sign(SECRET)).key, grant.key);
}

#[test]
fn files_of_secrets_are_judged_without_showing_any() {
    #[track_caller]
    fn check(file: &[u8], expected: &str) {
        let error = Secrets::parse("f", file).unwrap_err();
        assert!(error.contains(expected) && !error.contains("SECRET"), "{error}");
    }
    check(b"", "1 to 16 secrets");
    check(b"SECRET-too-short\nSECRET", "in line 2 one secret");
    check(b"two words-SECRET-SECRET", "in line 1 one secret");
    check("SECRET-SECRET-SECRET\n".repeat(17).as_bytes(), "1 to 16 secrets");
    check(b"\xff", "is text");
    let secrets = Secrets::parse("f", b"SECRET-SECRET-SECRET").unwrap();
    assert_eq!(format!("{secrets:?}"), "signed f");
}

#[test]
fn the_name_in_a_url_is_the_one_that_the_relay_will_know() {
    let check = |url: &str, expected: Option<&str>| {
        assert_eq!(signed_name(url).as_ref().map(StreamName::as_str), expected, "{url}");
    };
    check("rtmp://host/live/cam1", Some("live/cam1"));
    check("rtmps://host:1936/live/a/b?x=y", Some("live/a/b"));
    check("http://[::1]:1935/live/cam1.flv?only=audio", Some("live/cam1"));
    check("wss://host/live/cam1.flv", Some("live/cam1"));
    check("http://host/live/a%20b.flv?x=%20", Some("live/a b"));
    check("wss://host/%6cive%2Fcam%31.flv", Some("live/cam1"));
    check("rtmp://host/live/a%20b?x=y", Some("live/a%20b"));
    check("http://host/live/a%3Fb.flv", None);
    check("rtmp://host/live", None);
    check("rtmp://host", None);
    check("rtmp:///live/cam1", None);
    check("file://host/live/cam1", None);
    check("live/cam1", None);
}
