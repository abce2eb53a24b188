//! Tokens of every algorithm, and forged in every way that is known.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::access::Fetched;
use crate::limits::Limits;
use crate::wire::stream_name::StreamAddress;

const NOW: u64 = 1_790_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const RSA: &[u8] = include_bytes!("test_keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("test_keys/rsa.pub");
const EC: &[u8] = include_bytes!("test_keys/ec.pem");
const EC384: &[u8] = include_bytes!("test_keys/ec384.pem");
const JWKS: &[u8] = include_bytes!("test_keys/jwks.json");
const URL: &str = "https://login.example/jwks.json";

fn read(path: &str) -> Result<Vec<u8>, String> {
    let bytes = match path {
        "secret" => SECRET,
        "rsa" => RSA_PUBLIC,
        "ec" => include_bytes!("test_keys/ec.pub"),
        "ec384" => include_bytes!("test_keys/ec384.pub"),
        "jwks" => JWKS,
        "short" => b"0123456789abcdef0123456789abcde\n",
        "private" => b"-----BEGIN SECRET-----\nSECRET\n-----END SECRET-----\n",
        "no-set" => b"{\"SECRET\": 1}",
        "empty-set" => b"{\"keys\": []}",
        _ => return Err(format!("{path} cannot be read")),
    };
    Ok(bytes.to_vec())
}

fn rule(words: &str) -> Result<Tokens, String> {
    let words: Vec<&str> = words.split(' ').collect();
    Tokens::parse(&words, &mut read)
}

fn sign(algorithm: Algorithm, id: Option<&str>, claims: &Value) -> String {
    let key = match algorithm.family() {
        jsonwebtoken::AlgorithmFamily::Hmac => EncodingKey::from_secret(SECRET),
        jsonwebtoken::AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(RSA).unwrap(),
        _ if algorithm == Algorithm::ES384 => EncodingKey::from_ec_pem(EC384).unwrap(),
        _ => EncodingKey::from_ec_pem(EC).unwrap(),
    };
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, &key).unwrap()
}

fn claims() -> Value {
    json!({"exp": NOW + 60, "publish": ["live/cam*"], "play": true})
}

/// Asks with a token in the query.
struct Asker<'a> {
    action: Action,
    name: &'a str,
    unix: u64,
    may_wait: bool,
    fetched: FetchedKeys,
}

fn asker() -> Asker<'static> {
    Asker {
        action: Action::Publish,
        name: "live/cam1",
        unix: NOW,
        may_wait: true,
        fetched: FetchedKeys::default(),
    }
}

impl Asker<'_> {
    fn ask(&self, rule: &Tokens, query: &str, bearer: Option<&str>) -> Judgement {
        let limits = Limits::default();
        let address = StreamAddress::resolve(b"", b"", self.name.as_bytes(), &limits).unwrap();
        let inquiry = Inquiry {
            action: self.action,
            name: &address.name,
            query,
            peer: "203.0.113.7".parse().unwrap(),
            login: None,
            bearer,
            fetched: &self.fetched,
            unix: self.unix,
            is_guessing: false,
            may_wait: self.may_wait,
        };
        rule.judge(&inquiry, self.name)
    }

    #[track_caller]
    fn check(&self, words: &str, token: &str, expected: Option<Reason>) {
        let query = format!("token={token}");
        match (self.ask(&rule(words).unwrap(), &query, None), expected) {
            (Judgement::Granted(_), None) => {}
            (Judgement::Refused(found), Some(expected)) => assert_eq!(found, expected, "{words}"),
            (found, _) => panic!("{words}: {found:?} and not {expected:?}"),
        }
    }
}

#[test]
fn tokens_of_every_algorithm_are_good_for_their_own_key() {
    let files = [("HS", "secret"), ("RSPS", "rsa"), ("ES256", "ec"), ("ES384", "ec384")];
    for (name, algorithm) in ALGORITHMS {
        let token = sign(*algorithm, None, &claims());
        for (kind, file) in files {
            let fits = kind == *name || (kind.len() < 5 && kind.contains(&name[..2]));
            match rule(&format!("{name} {file}")) {
                Ok(_) if fits => asker().check(&format!("{name} {file}"), &token, None),
                Ok(_) => {
                    // Two curves: the key is one of an elliptic curve, and of the wrong one.
                    assert!(name.starts_with("ES") && file.starts_with("ec"), "{name} {file}");
                    asker().check(&format!("{name} {file}"), &token, Some(Reason::WrongToken));
                }
                Err(error) => assert!(!fits && error.contains("a key for each"), "{error}"),
            }
        }
        // The same token where another algorithm is the rule.
        let other = if name.starts_with("HS") { "RS256 rsa" } else { "HS256 secret" };
        asker().check(other, &token, Some(Reason::WrongToken));
    }
}

#[test]
fn a_token_says_nothing_about_how_it_is_to_be_judged() {
    let wrong = Some(Reason::WrongToken);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let fine = sign(Algorithm::RS256, None, &claims());
    let body = part(&claims());
    // The public key, which everybody has, taken for a secret.
    let key = EncodingKey::from_secret(RSA_PUBLIC);
    let confused = encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
    let (message, signature) = fine.rsplit_once('.').unwrap();
    let header = message.split_once('.').unwrap().0;
    let own_key = json!({"alg": "RS256", "jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}});
    for forged in [
        confused,
        format!("{}.{body}.", part(&json!({"alg": "none"}))),
        format!("{}.{body}.{signature}", part(&json!({"alg": "none"}))),
        format!("{}.{body}.", part(&json!({"alg": "None"}))),
        format!("{}.{body}.{signature}", part(&json!({"alg": "RS384"}))),
        format!("{}.{body}.{signature}", part(&own_key)),
        format!("{message}."),
        format!("{message}.{}", signature.replace(&signature[..4], "AAAA")),
        format!("{header}.{}.{signature}", part(&json!({"exp": NOW + 99, "publish": true}))),
        message.to_owned(),
        header.to_owned(),
        format!("{fine}."),
        format!("{fine}.x"),
        ".".to_owned(),
        "..".to_owned(),
        "x".to_owned(),
        "\u{e9}.\u{e9}.\u{e9}".to_owned(),
        sign(Algorithm::HS256, None, &claims()),
    ] {
        asker().check("RS256 rsa", &forged, wrong);
    }
    for at in (0..fine.len()).step_by(7) {
        let mut changed = fine.clone();
        let other = if changed[at..=at] == *"A" { "B" } else { "A" };
        changed.replace_range(at..=at, other);
        asker().check("RS256 rsa", &changed, wrong);
    }
    asker().check("RS256 rsa", &fine, None);
}

#[test]
fn claims_decide_what_the_bearer_may_do() {
    #[track_caller]
    fn check(claims: &Value, action: Action, name: &str, expected: Option<Reason>) {
        let token = sign(Algorithm::HS256, None, claims);
        Asker { action, name, ..asker() }.check("HS256 secret", &token, expected);
    }
    use Action::{Play, Publish};
    let scope = Some(Reason::Scope);
    check(&claims(), Publish, "live/cam1", None);
    check(&claims(), Publish, "live/tv", scope);
    check(&claims(), Publish, "other/cam1", scope);
    check(&claims(), Play, "other/x", None);
    let allows = |permission: Value| json!({"exp": NOW + 60, "publish": permission});
    check(&allows(json!("live/*")), Publish, "live/cam1", None);
    check(&allows(json!("live/*")), Play, "live/cam1", scope);
    check(&allows(json!(["a", "live/cam1", 7])), Publish, "live/cam1", None);
    for none in [json!(false), json!(null), json!(1), json!([]), json!(""), json!({"live": true})] {
        check(&allows(none), Publish, "live/cam1", scope);
    }

    let at = |exp: Value| json!({"exp": exp, "publish": true});
    let expired = Some(Reason::Expired);
    check(&at(json!(NOW + 1)), Publish, "a", None);
    check(&at(json!(NOW - LEEWAY + 1)), Publish, "a", None);
    check(&at(json!(NOW - LEEWAY)), Publish, "a", expired);
    check(&at(json!(0)), Publish, "a", expired);
    check(&at(json!(1.5)), Publish, "a", expired);
    check(&at(json!(1.79e9 + 60.25)), Publish, "a", None);
    check(&at(json!(u64::MAX)), Publish, "a", None);
    let undated = Some(Reason::Undated);
    for none in [json!(-1), json!("1790000060"), json!(null), json!(1e300)] {
        check(&at(none), Publish, "a", undated);
    }
    check(&json!({"publish": true}), Publish, "a", undated);
    let from = |nbf: Value| json!({"exp": NOW + 900, "nbf": nbf, "publish": true});
    check(&from(json!(NOW + LEEWAY)), Publish, "a", None);
    check(&from(json!(NOW + LEEWAY + 1)), Publish, "a", Some(Reason::Early));
    check(&from(json!("soon")), Publish, "a", undated);
}

#[test]
fn audience_issuer_and_leeway_are_as_the_rule_says() {
    let check = |options: &str, further: Value, expected: Option<Reason>| {
        let mut claims = claims();
        for (name, value) in further.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = sign(Algorithm::HS256, None, &claims);
        asker().check(&format!("HS256 secret{options}"), &token, expected);
    };
    let (issuer, audience) = (Some(Reason::Issuer), Some(Reason::Audience));
    check("", json!({"aud": "x", "iss": "y"}), None);
    check(" aud=relay", json!({"aud": "relay"}), None);
    check(" aud=relay", json!({"aud": ["other", "relay"]}), None);
    check(" aud=relay", json!({"aud": ["other"]}), audience);
    check(" aud=relay", json!({"aud": "relays"}), audience);
    check(" aud=relay", json!({}), audience);
    check(" iss=https://a/b?c=d", json!({"iss": "https://a/b?c=d"}), None);
    check(" iss=https://a", json!({"iss": ["https://a"]}), issuer);
    check(" iss=https://a", json!({"iss": "https://a/"}), issuer);
    check(" iss=https://a", json!({}), issuer);
    check(" leeway=0s", json!({"exp": NOW}), Some(Reason::Expired));
    check(" leeway=0s", json!({"exp": NOW + 1}), None);
    check(" leeway=60s", json!({"exp": NOW - 59}), None);
}

#[test]
fn a_token_is_shown_in_one_of_three_places() {
    let rule = rule("HS256 secret").unwrap();
    let token = sign(Algorithm::HS256, None, &claims());
    let is_granted = |query: &str, bearer: Option<&str>| {
        matches!(asker().ask(&rule, query, bearer), Judgement::Granted(_))
    };
    assert!(is_granted(&format!("a=b&token={token}"), None));
    assert!(is_granted(&format!("jwt={token}"), None));
    assert!(is_granted("", Some(&token)));
    assert!(!is_granted("token=x", Some(&token)), "the query is what was meant");
    assert_eq!(asker().ask(&rule, "", None), Judgement::Refused(Reason::NoToken));
}

#[test]
fn who_shows_tokens_of_one_subject_is_one() {
    let rule = rule("HS256 secret").unwrap();
    let key = |further: Value, exp: u64| {
        let mut claims = claims();
        claims["exp"] = json!(exp);
        for (name, value) in further.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = sign(Algorithm::HS256, None, &claims);
        match asker().ask(&rule, &format!("token={token}"), None) {
            Judgement::Granted(grant) => (grant.key.unwrap(), grant.until),
            other => panic!("{other:?}"),
        }
    };
    let (own, until) = key(json!({"sub": "a"}), NOW + 1);
    assert_eq!(until, Some(NOW + 1 + LEEWAY));
    assert_eq!(own, key(json!({"sub": "a"}), NOW + 2).0);
    assert_ne!(own, key(json!({"sub": "b"}), NOW + 1).0);
    assert_ne!(own, key(json!({"sub": "a", "iss": "x"}), NOW + 1).0);
    assert_ne!(key(json!({}), NOW + 1).0, key(json!({}), NOW + 2).0);
}

#[test]
fn keys_of_a_set_are_chosen_by_their_id_and_use() {
    let wrong = Some(Reason::WrongToken);
    // PS256: no key of the set is for it, since the one of RSA says that it is for RS256.
    assert!(rule("RS256+PS256 jwks").is_err());
    let check = |algorithm, id, expected| {
        let token = sign(algorithm, id, &claims());
        asker().check("RS256+ES256+HS256 jwks", &token, expected);
    };
    check(Algorithm::RS256, Some("rsa-1"), None);
    check(Algorithm::RS256, None, None);
    check(Algorithm::RS256, Some("rsa-2"), wrong);
    check(Algorithm::RS256, Some("enc-1"), wrong);
    check(Algorithm::ES256, Some("ec-1"), None);
    check(Algorithm::ES256, Some("rsa-1"), wrong);
    check(Algorithm::HS256, Some("secret-1"), None);
    check(Algorithm::RS512, Some("rsa-1"), wrong);
}

#[test]
fn keys_that_are_fetched_are_waited_for_and_asked_for_again() {
    let rule = rule(&format!("RS256 {URL}")).unwrap();
    assert_eq!(rule.url(), Some(URL));
    let fetched = |keys: Option<&[u8]>, tried| {
        let keys = keys.map(|bytes| KeySet::parse_fetched(bytes).unwrap());
        FetchedKeys::from_iter([(URL.to_owned(), Fetched { keys, tried })])
    };
    let check = |fetched: &FetchedKeys, id: &str, may_wait: bool, expected: &str| {
        let token = sign(Algorithm::RS256, Some(id), &claims());
        let asker = Asker { fetched: fetched.clone(), may_wait, ..asker() };
        let found = format!("{:?}", asker.ask(&rule, &format!("token={token}"), None));
        assert!(found.starts_with(expected), "{id} {fetched:?}: {found}");
    };
    let none = FetchedKeys::default();
    check(&none, "rsa-1", true, "Ask(Keys)");
    check(&none, "rsa-1", false, "Refused(Unavailable)");
    let failed = fetched(None, NOW);
    check(&failed, "rsa-1", true, "Refused(Unavailable)");
    let failed = fetched(None, NOW - REFETCH_SECONDS);
    check(&failed, "rsa-1", true, "Ask(Keys)");
    for (age, unknown) in [(0, "Refused(UnknownKey)"), (REFETCH_SECONDS, "Ask(Keys)")] {
        let fetched = fetched(Some(JWKS), NOW - age);
        check(&fetched, "rsa-1", true, "Granted");
        check(&fetched, "rsa-2", true, unknown);
        check(&fetched, "rsa-2", false, "Refused(UnknownKey)");
    }
    // A secret in a set that everybody can fetch is no secret.
    let oct = br#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;
    assert!(KeySet::parse_fetched(oct).is_err());
    assert!(KeySet::parse(oct).is_ok());
}

#[test]
fn rules_are_read_and_written_alike_and_mistakes_told() {
    for words in [
        "HS256 secret",
        "RS256+ES256 jwks aud=relay iss=https://a",
        "PS512 rsa leeway=5s",
        "ES384 https://a/b",
    ] {
        let parsed = rule(words).unwrap();
        assert_eq!(parsed.to_string(), format!("jwt {words}"));
    }
    let check = |words: &str, expected: &str| {
        let error = rule(words).err().unwrap();
        assert!(error.contains(expected) && !error.contains("SECRET"), "{words}: {error}");
    };
    let form = "a rule such as \"jwt RS256";
    for words in [
        "RS256",
        "none rsa",
        "EdDSA rsa",
        "rs256 rsa",
        "RS256+ rsa",
        "RS256 rsa x",
        "RS256 rsa aud=",
        "RS256 rsa leeway=5",
        "RS256 rsa leeway=3601s",
        "RS256 rsa leeway=-1s",
        "RS256 rsa sub=x",
    ] {
        check(words, form);
    }
    check("HS256 https://a/b", "the secret of HS algorithms in a file");
    check("RS256 nowhere", "nowhere cannot be read");
    check("RS256 secret", "a key for each algorithm");
    check("HS256 rsa", "a key for each algorithm");
    check("HS256 short", "no secret of at least 32 bytes");
    check("RS256 private", "no public key");
    check("RS256 no-set", "no set of keys");
    check("RS256 empty-set", "no key that can be used");
}
