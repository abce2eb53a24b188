//! Who guesses, by every kind of secret, as the relay sees it behind a proxy that it believes: from
//! addresses of their own, of which IPv6 gives each customer very many.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::{END_MAX, KEY, PASSWORD, TOKEN_SECRET, URL_SECRET, printed, token, unix};
use crate::support::Scratch;
use crate::support::amf::{self, Value};
use crate::support::chunk;
use crate::support::client::Client;
use crate::support::relay::{Options, Relay};

/// Wrong secrets that an address may show.
const GUESSES: usize = 5;

/// A relay with an application for each kind of secret, and nobody else let in.
struct House {
    scratch: Scratch,
    relay: Relay,
}

impl House {
    fn new(test: &str) -> Self {
        let scratch = Scratch::new(test);
        let relay = Self::relay(&scratch, "");
        Self { scratch, relay }
    }

    /// A node with these files, and with more of a configuration.
    fn relay(scratch: &Scratch, more: &str) -> Relay {
        let write = |name: &str, text: &str| {
            let path = scratch.file(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let line = printed(&["key", "--stdin", "*"], KEY);
        let line = line.lines().find_map(|line| line.strip_prefix("line: ")).unwrap().to_owned();
        let keys = write("keys", &format!("{line}\n"));
        let urls = write("urls", &format!("{URL_SECRET}\n"));
        let tokens = write("tokens", &format!("{TOKEN_SECRET}\n"));
        let users = write("users", &format!("* alice {PASSWORD}\n"));
        let configuration = format!(
            "[listen]\nproxy_from = \"127.0.0.0/8\"\n[log]\nlevel = \"debug\"\n\
             [limits]\nauth_failures_per_address = {GUESSES}\nauth_failure_window = \"10m\"\n\
             [apps.key]\npublish = [\"key {keys}\"]\n[apps.url]\npublish = [\"signed {urls}\"]\n\
             [apps.token]\npublish = [\"jwt HS256 {tokens}\"]\n\
             [apps.user]\npublish = [\"password {users}\"]\n{more}"
        );
        let options = Options { configuration: &configuration, ..Options::default() };
        Relay::start(scratch.path(), &options)
    }

    /// The name that shows the right secret of this application.
    fn right(&self, app: &str) -> String {
        match app {
            "key" => format!("cam?key={KEY}"),
            "url" => {
                let secrets = self.scratch.file("urls");
                let url = format!("rtmp://{}/url/cam", self.relay.rtmp);
                let signed = printed(
                    &["sign", "--secrets", secrets.to_str().unwrap(), "--action", "publish", &url],
                    "",
                );
                signed.trim().rsplit_once('/').unwrap().1.to_owned()
            }
            _ => {
                let claims = serde_json::json!({"exp": unix() + 600, "publish": true});
                format!("cam?token={}", token(TOKEN_SECRET, &claims))
            }
        }
    }

    fn refused(&self, reason: &str) -> f64 {
        self.relay.metrics().sum("relay_refused_total", &[("reason", reason)]).unwrap_or(0.0)
    }
}

/// A connection that a proxy says is from `address`; without a proxy where that is empty.
fn behind(relay: &Relay, address: &str) -> Client {
    if address.is_empty() {
        return Client::open(relay.rtmp).unwrap();
    }
    let mut socket = TcpStream::connect(relay.rtmp).unwrap();
    let family = if address.contains(':') { "TCP6" } else { "TCP4" };
    write!(socket, "PROXY {family} {address} {address} 4000 1935\r\n").unwrap();
    Client::over(socket).unwrap()
}

fn publish(relay: &Relay, address: &str, app: &str, name: &str) -> bool {
    let mut client = behind(relay, address);
    client.enter(app).unwrap();
    client.publish(name).is_ok()
}

#[test]
fn who_guesses_is_locked_out_by_its_address_or_ipv6_network() {
    let house = House::new("access-guessers");
    let relay = &house.relay;
    let wrong = |app: &str, number: usize| match app {
        "key" => format!("cam{number}?key=guess-{number}"),
        "url" => house.right("url").replace("cam", &format!("cam{number}")),
        _ => {
            let claims = serde_json::json!({"exp": unix() + 600, "publish": true, "n": number});
            format!("cam?token={}", token("another-secret-of-some-length-012345", &claims))
        }
    };
    for (place, (app, reason)) in
        [("key", "key"), ("url", "signature"), ("token", "token")].into_iter().enumerate()
    {
        // One address of IPv4; many of one network of IPv6.
        let four = |_| format!("203.0.113.{}", 10 + place);
        let six = |number: usize| format!("2001:db8:{place}:1::{}", number + 1);
        let near: [&dyn Fn(usize) -> String; 2] = [&four, &six];
        let far = [format!("203.0.113.{}", 110 + place), format!("2001:db8:{place}:2::1")];
        for (near, far) in near.into_iter().zip(far) {
            let before = (house.refused(reason), house.refused("guessing"));
            for number in 0..GUESSES {
                assert!(!publish(relay, &near(number), app, &wrong(app, number)));
            }
            assert_eq!(house.refused(reason), before.0 + 5.0, "{app}");
            let right = house.right(app);
            assert!(!publish(relay, &near(99), app, &right), "{app}: it is not looked at");
            assert_eq!(house.refused("guessing"), before.1 + 1.0, "{app}");
            assert_eq!(house.refused(reason), before.0 + 5.0, "{app}");
            assert!(publish(relay, &far, app, &right), "{app}: a neighbour is let in");
        }
    }
}

/// Connects as an encoder with this query; what the server says when it refuses.
pub(super) fn refusal(relay: &Relay, address: &str, query: &str) -> Result<(), String> {
    let mut client = behind(relay, address);
    let app = format!("user{query}");
    let properties = [
        ("app", Value::String(&app)),
        ("type", Value::String("nonprivate")),
        ("flashVer", Value::String("FMLE/3.0 (compatible; test)")),
        ("tcUrl", Value::String("rtmp://h/user")),
    ];
    let connect = [Value::String("connect"), Value::Number(1.0), Value::Object(&properties)];
    // In chunks of the size that holds before anything was said.
    client.send(&chunk::write(3, 0, 20, 0, &amf::bytes(&connect), 128)).unwrap();
    let end = Instant::now() + END_MAX;
    loop {
        let message = client.next(end).unwrap().expect("an answer");
        match amf::command_name(&message.payload) {
            Some("_result") => return Ok(()),
            Some("_error") => return Err(String::from_utf8_lossy(&message.payload).into_owned()),
            _ => {}
        }
    }
}

/// The question that a client of this user is asked, as Adobe's way has it.
pub(super) fn challenge(relay: &Relay, address: &str) -> String {
    let said = refusal(relay, address, "?authmod=adobe&user=alice").unwrap_err();
    assert!(said.contains("reason=needauth"), "{said}");
    said
}

/// The query that answers it.
pub(super) fn answer(question: &str, password: &str) -> String {
    let value = |name: &str| {
        let (_, rest) = question.split_once(&format!("&{name}=")).unwrap();
        rest.split('&').next().unwrap().to_owned()
    };
    let digest = |text: String| STANDARD.encode(Md5::digest(text));
    let (salt, opaque) = (value("salt"), value("opaque"));
    let inner = digest(format!("alice{salt}{password}"));
    let response = digest(format!("{inner}{opaque}0badcafe"));
    format!("?authmod=adobe&user=alice&challenge=0badcafe&response={response}&opaque={opaque}")
}

#[test]
fn an_answer_to_a_challenge_is_good_once_and_where_it_was_asked() {
    let house = House::new("access-replayed");
    let relay = &house.relay;
    let other = House::relay(&house.scratch, "");
    let (here, there) = ("203.0.113.7", "203.0.113.8");
    let asked_anew = |relay: &Relay, address: &str, query: &str| {
        let said = refusal(relay, address, query).unwrap_err();
        assert!(said.contains("reason=needauth"), "{said}");
    };
    let query = answer(&challenge(relay, here), PASSWORD);
    // Whoever heard it on its way comes first, from somewhere else.
    asked_anew(relay, there, &query);
    asked_anew(&other, there, &query);
    refusal(relay, here, &query).unwrap();
    asked_anew(relay, here, &query);
    // Another node with the same file does not take what this one asked, from anywhere.
    asked_anew(&other, here, &query);
    let query = answer(&challenge(relay, here), PASSWORD);
    asked_anew(&other, here, &query);
    refusal(relay, here, &query).unwrap();
    // Unless the operator wants that: then it is good once at each.
    let any = "[access]\nchallenges = \"any\"\n";
    let [one, two] = [(); 2].map(|()| House::relay(&house.scratch, any));
    let query = answer(&challenge(&one, here), PASSWORD);
    for node in [&two, &one] {
        refusal(node, here, &query).unwrap();
        asked_anew(node, here, &query);
    }

    // Wrong ones count, whoever is named.
    for guess in 0..GUESSES {
        let query = answer(&challenge(relay, there), &format!("guess-{guess}"));
        let said = refusal(relay, there, &query).unwrap_err();
        assert!(said.contains("authfailed"), "{said}");
    }
    assert_eq!(house.refused("password"), 5.0);
    let said = refusal(relay, there, "?authmod=adobe&user=alice").unwrap_err();
    assert!(said.contains("Too many wrong secrets"), "{said}");
    assert_eq!(house.refused("guessing"), 1.0);
    challenge(relay, here);
    // Of IPv6 a network counts as one, whichever of its addresses is shown next.
    for guess in 0..GUESSES {
        let near = format!("2001:db8:7:1::{}", guess + 1);
        let query = answer(&challenge(relay, &near), &format!("guess-{guess}"));
        assert!(refusal(relay, &near, &query).unwrap_err().contains("authfailed"));
    }
    let near = "2001:db8:7:1:ffff::9";
    let said = refusal(relay, near, "?authmod=adobe&user=alice").unwrap_err();
    assert!(said.contains("Too many wrong secrets"), "{said}");
    let far = "2001:db8:7:2::1";
    refusal(relay, far, &answer(&challenge(relay, far), PASSWORD)).unwrap();
}
