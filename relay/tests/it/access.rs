//! Who may publish and who may play, asked by FFmpeg, rtmpdump, librtmp and OBS: the right secret
//! is let in, the wrong one is told why, and no secret is written anywhere.

mod ends;
mod guessing;
mod keys;
mod obs;
mod reloads;
mod rest;
mod told;
mod web;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::client::Client;
use crate::support::clip::Clip;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay, command};
use crate::support::{Scratch, ffmpeg, gstreamer, http, wait_for};

/// Until a client has been refused, or has what it came for.
const END_MAX: Duration = Duration::from_secs(40);

const KEY: &str = "stream-key-of-the-test";
const PASSWORD: &str = "password-of-the-test";
const URL_SECRET: &str = "url-secret-of-the-test";
const TOKEN_SECRET: &str = "token-secret-of-the-test-0123456789";

/// A relay with an application for each kind of rule, none of which lets loopback in as such.
struct Scene {
    scratch: Scratch,
    relay: Relay,
}

impl Scene {
    fn new(test: &str) -> Self {
        Self::with(test, "")
    }

    /// With more of a configuration.
    fn with(test: &str, more: &str) -> Self {
        let scratch = Scratch::new(test);
        let write = |name: &str, text: &str| {
            let path = scratch.file(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let line = printed(&["key", "--stdin", "*"], KEY);
        let line = line.lines().find_map(|line| line.strip_prefix("line: ")).unwrap().to_owned();
        let keys = write("keys", &format!("# made by relay key\n{line}\n"));
        let users = write("users", &format!("cam* alice {PASSWORD}\n"));
        let urls = write("urls", &format!("{URL_SECRET}\n"));
        let tokens = write("tokens", &format!("{TOKEN_SECRET}\n"));
        let configuration = format!(
            "[log]\nlevel = \"debug\"\n[limits]\nauth_failures_per_address = 1000\n\
             [apps.\"key*\"]\npublish = [\"key {keys}\"]\nplay = [\"key {keys}\"]\n\
             [apps.half]\npublish = [\"key {keys}\"]\nplay = [\"everybody\"]\n\
             [apps.url]\npublish = [\"signed {urls}\"]\nplay = [\"signed {urls}\"]\n\
             [apps.named]\nplay = [\"jwt HS256 {tokens} aud=relay iss=login\"]\n\
             [apps.token]\npublish = [\"jwt HS256 {tokens} leeway=0s\"]\nplay = [\"jwt HS256 {tokens}\"]\n\
             [apps.user]\npublish = [\"password {users}\"]\nplay = [\"everybody\"]\n\
             [apps.llnw]\npublish = [\"password {users} llnw\"]\nplay = [\"everybody\"]\n\
             [apps.closed]\npublish = [\"nobody\"]\nplay = [\"nobody\"]\n\
             [apps.far]\npublish = [\"203.0.113.0/24\"]\nplay = [\"2001:db8::/32\"]\n\
             [apps.open]\npublish = [\"everybody\"]\nplay = [\"everybody\"]\n\
             [apps.both]\npublish = [\"127.0.0.0/8 and key {keys}\"]\nplay = [\"private and key {keys}\"]\n\
             [apps.apart]\npublish = [\"203.0.113.0/24 and key {keys}\"]\nplay = [\"2001:db8::/32 and key {keys}\"]\n\
             [apps.near]\npublish = [\"127.0.0.0/8\"]\nplay = [\"private\"]\n{more}"
        );
        let options = Options { configuration: &configuration, ..Options::default() };
        Self { relay: Relay::start(scratch.path(), &options), scratch }
    }

    fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.relay.rtmp)
    }

    fn publishers(&self) -> f64 {
        self.relay.metrics().sum("relay_connections", &[("role", "publisher")]).unwrap_or(0.0)
    }

    fn refused(&self, reason: &str) -> f64 {
        self.relay.metrics().sum("relay_refused_total", &[("reason", reason)]).unwrap_or(0.0)
    }

    /// A signed URL, as `relay sign` prints it.
    fn signed(&self, path: &str, action: &str, further: &[&str]) -> String {
        let secrets = self.scratch.file("urls");
        let url = self.url(path);
        let fixed = ["sign", "--secrets", secrets.to_str().unwrap(), "--action", action];
        printed(&[&fixed[..], further, &[&url]].concat(), "").trim_end().to_owned()
    }

    /// FFmpeg, publishing.
    fn publish(&self, name: &str, url: &str) -> Process {
        ffmpeg::publish(self.scratch.path(), name, Clip::Plain, url)
    }

    /// Publishes with a right secret, and plays with one by rtmpdump and FFmpeg.
    #[track_caller]
    fn lets_in(&self, publish: &str, play: &str) {
        let mut publisher = self.publish("right", publish);
        self.relay.wait_for_role("publisher", 1);
        let dir = self.scratch.path();
        let file = self.scratch.file("right.flv");
        let mut dump = Command::new("rtmpdump");
        dump.args(["--live", "--stop", "1", "-r", play, "-o"]).arg(&file);
        let mut dump = Process::start(dir, "dump", &mut dump);
        let mut player = ffmpeg::Version::System.command();
        player.args(["-i", play, "-t", "1", "-c", "copy", "-f", "null", "-"]);
        let mut player = Process::start(dir, "player", &mut player);
        player.succeed(END_MAX);
        wait_for("rtmpdump to receive the stream", END_MAX, || {
            let length = fs::metadata(&file).ok()?.len();
            (length > 20_000).then_some(())
        });
        dump.kill();
        publisher.must_run();
        publisher.kill();
        self.relay.wait_for_role("publisher", 0);
    }

    /// FFmpeg publishes and is refused, told `why`, and counted.
    #[track_caller]
    fn keeps_publisher_out(&self, url: &str, why: &str, reason: &str) {
        let before = self.refused(reason);
        let mut publisher = self.publish("wrong", url);
        let status = publisher.wait(END_MAX);
        let said = publisher.log();
        assert!(!status.success() && said.contains(why), "{url}: {status}, {said}");
        assert!(self.refused(reason) > before, "{url}: {reason} did not grow");
        println!("FFmpeg that publishes is told: {why} ({reason})");
    }

    /// FFmpeg and rtmpdump play and are refused; FFmpeg says why.
    #[track_caller]
    fn keeps_player_out(&self, url: &str, why: &str, reason: &str) {
        let before = self.refused(reason);
        let mut player = ffmpeg::Version::System.command();
        player.args(["-i", url, "-c", "copy", "-f", "null", "-"]);
        let mut player = Process::start(self.scratch.path(), "wrong", &mut player);
        let status = player.wait(END_MAX);
        let said = player.log();
        assert!(!status.success() && said.contains(why), "{url}: {status}, {said}");
        let mut dump = Command::new("rtmpdump");
        dump.args(["--live", "-r", url, "-o"]).arg(self.scratch.file("wrong.flv"));
        let mut dump = Process::start(self.scratch.path(), "dump", &mut dump);
        let status = dump.wait(END_MAX);
        let said = dump.log();
        assert!(!status.success() && said.contains("NetStream.Play.Failed"), "{status}, {said}");
        assert!(self.refused(reason) >= before + 2.0, "{url}: {reason} did not grow");
        println!("FFmpeg that plays is told: {why}; rtmpdump: NetStream.Play.Failed ({reason})");
    }

    /// Ends the relay. Nothing that is secret was written to its log, its metrics or its API. Gives
    /// the log.
    fn told_no_secret(self, secrets: &[&str]) -> String {
        let mut written = self.relay.metrics().text().to_owned();
        for path in ["/api/v1/connections", "/api/v1/streams", "/api/v1/config"] {
            written += &http::get(self.relay.http, path).unwrap().body;
        }
        let log = self.relay.log_at_end(END_MAX);
        assert!(log.contains("DEBUG"), "the log is not at level debug:\n{log}");
        written += &log;
        for secret in [KEY, PASSWORD, URL_SECRET, TOKEN_SECRET].iter().chain(secrets) {
            let hexadecimal: Vec<_> = secret.bytes().map(|byte| format!("{byte:02X}")).collect();
            for form in [(*secret).to_owned(), hexadecimal.join(" "), hexadecimal.concat()] {
                let at = written.find(&form);
                let context = at.map(|at| &written[at.saturating_sub(300)..at + form.len()]);
                assert_eq!(context, None, "{secret} was written");
            }
        }
        log
    }
}

/// What a command of the relay prints.
fn printed(arguments: &[&str], input: &str) -> String {
    let mut command = command();
    command.args(arguments);
    let scratch = Scratch::new("printed");
    let file = scratch.file("input");
    fs::write(&file, input).unwrap();
    command.stdin(fs::File::open(&file).unwrap());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A token, signed as RFC 7515 says.
fn token(secret: &str, claims: &serde_json::Value) -> String {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    let part = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let header = part(br#"{"alg":"HS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", part(claims.to_string().as_bytes()));
    let mut code = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    code.update(message.as_bytes());
    format!("{message}.{}", part(&code.finalize().into_bytes()))
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn stream_keys_let_in_and_keep_out() {
    let scene = Scene::new("access-keys");
    let url = |path: &str| scene.url(path);
    let (query, last) = (format!("key/cam1?key={KEY}"), format!("keys/cam1/{KEY}"));
    scene.lets_in(&url(&query), &url(&query));
    scene.lets_in(&url(&last), &url(&format!("keys/cam1?key={KEY}")));
    let guess = "a-guess-of-a-key";
    for path in [format!("key/cam1?key={guess}"), format!("key/cam1/{guess}")] {
        scene.keeps_publisher_out(&url(&path), "The stream key is wrong", "key");
    }
    scene.keeps_player_out(&url("key/cam1?key=x"), "The stream key is wrong", "key");
    scene.keeps_player_out(&url("key/cam1"), "A stream key is missing", "key");
    // The URL of a publisher, given to players.
    let pasted = format!("half/cam1/{KEY}");
    scene.keeps_player_out(&url(&pasted), "The name ends in a stream key", "key");
    let answer = http::get(scene.relay.rtmp, &format!("/{pasted}.flv")).unwrap();
    assert_eq!(answer.status, 403);
    // The commonest slip: the key alone, where the name belongs.
    scene.keeps_publisher_out(&url(&format!("key/{KEY}")), "A stream key is missing", "key");
    scene.told_no_secret(&[guess]);
}

#[test]
fn signed_urls_let_in_and_keep_out() {
    let scene = Scene::new("access-urls");
    let publish = scene.signed("url/cam1", "publish", &[]);
    let play = scene.signed("url/cam1", "play", &["--address", "127.0.0.0/8"]);
    scene.lets_in(&publish, &play);
    // Until it expires it is good again.
    scene.lets_in(&publish, &play);
    scene.keeps_publisher_out(&play, "The signature of the URL is wrong", "signature");
    let other = publish.replace("cam1", "cam2");
    scene.keeps_publisher_out(&other, "The signature of the URL is wrong", "signature");
    let http = format!("http://{}/url/a%20b.flv", scene.relay.rtmp);
    let secrets = scene.scratch.file("urls");
    let arguments = ["sign", "--secrets", secrets.to_str().unwrap(), "--expires", "1h", &http];
    let escaped = printed(&arguments, "");
    let target = escaped.trim().split_once("/url").unwrap().1;
    let answer = http::get(scene.relay.rtmp, &format!("/url{target}")).unwrap();
    assert_eq!(answer.status, 404, "{}", answer.body);
    let unsigned = scene.url("url/cam1");
    scene.keeps_player_out(&unsigned, "The signature of the URL is missing", "signature");
    let far = scene.signed("url/cam1", "play", &["--address", "203.0.113.7"]);
    let why = "The signature of the URL holds for another address";
    scene.keeps_player_out(&far, why, "signed_address");
    let short = scene.signed("url/cam1", "play", &["--expires", "1s"]);
    thread::sleep(Duration::from_millis(2_100));
    scene.keeps_player_out(&short, "What was shown has expired", "expired");
    let signature = |url: &str| url.rsplit_once('=').unwrap().1.to_owned();
    let shown = [publish, play, far, short].map(|url| signature(&url));
    scene.told_no_secret(&shown.each_ref().map(String::as_str));
}

#[test]
fn tokens_let_in_and_keep_out() {
    let scene = Scene::new("access-tokens");
    let claims = serde_json::json!({"exp": unix() + 600, "publish": "token/cam1", "play": true});
    let fine = token(TOKEN_SECRET, &claims);
    let forged = token("another-secret-of-some-length-012345", &claims);
    let mut old = claims.clone();
    old["exp"] = (unix() - 600).into();
    let old = token(TOKEN_SECRET, &old);
    let url = |name: &str, parameter: &str, token: &str| {
        scene.url(&format!("token/{name}?{parameter}={token}"))
    };
    scene.lets_in(&url("cam1", "token", &fine), &url("cam1", "jwt", &fine));
    scene.keeps_publisher_out(&url("cam1", "token", &forged), "The token is wrong", "token");
    let why = "What was shown does not allow publishing this stream";
    scene.keeps_publisher_out(&url("cam2", "token", &fine), why, "scope");
    scene.keeps_player_out(&url("cam1", "token", &old), "What was shown has expired", "expired");
    scene.keeps_player_out(&scene.url("token/cam1"), "A token is missing", "token");
    let mut further = Vec::new();
    for (change, why, reason) in [
        (("aud", "else".into()), "The token is not for this server (aud)", "token_audience"),
        (("iss", "else".into()), "The token is not from whom it must be (iss)", "token_issuer"),
        (("exp", "soon".into()), "The token does not say in seconds when it holds", "token_times"),
        (("exp", ().into()), "The token does not say in seconds when it holds", "token_times"),
        (("play", "named/*2".into()), "What was shown does not allow playing", "scope"),
    ] {
        let mut claims = claims.clone();
        (claims["aud"], claims["iss"]) = ("relay".into(), "login".into());
        claims[change.0] = change.1;
        further.push(token(TOKEN_SECRET, &claims));
        let url = scene.url(&format!("named/cam1?token={}", further.last().unwrap()));
        scene.keeps_player_out(&url, why, reason);
    }
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    let mut shown: Vec<_> = [fine, forged, old].iter().map(|token| signature(token)).collect();
    shown.extend(further.iter().map(|token| signature(token)));
    scene.told_no_secret(&shown.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn users_with_passwords_are_asked_for_them() {
    let scene = Scene::new("access-users");
    let with = |app: &str, name: &str, password: &str| {
        format!("rtmp://alice:{password}@{}/{app}/{name}", scene.relay.rtmp)
    };
    for app in ["user", "llnw"] {
        let play = scene.url(&format!("{app}/cam1"));
        scene.lets_in(&with(app, "cam1", PASSWORD), &play);
        let wrong = with(app, "cam1", "a-guess-of-a-password");
        scene.keeps_publisher_out(&wrong, "Incorrect username/password", "password");
    }
    let why = "The user may not use this stream name";
    scene.keeps_publisher_out(&with("user", "tv", PASSWORD), why, "user");
    // Without a user FFmpeg does not know what to answer, and says so.
    let mut publisher = scene.publish("nobody", &scene.url("user/cam1"));
    let status = publisher.wait(END_MAX);
    let said = publisher.log();
    assert!(!status.success() && said.contains("No credentials set"), "{status}, {said}");
    // librtmp, by GStreamer. Where it is built with GnuTLS, as Debian's is, it cannot do Adobe's
    // way: it prints base64 that nothing ends, and overruns what it allocated whatever it was
    // asked.
    for (password, lets_in) in [(PASSWORD, true), ("a-guess-of-a-password", false)] {
        let before = scene.relay.metrics().sum("relay_ingest_bytes_total", &[]).unwrap_or(0.0);
        let target = format!(
            "location=\"rtmp://{}/llnw/cam1 pubUser=alice pubPasswd={password} live=1\"",
            scene.relay.rtmp
        );
        let mut librtmp = gstreamer::publish_by_librtmp(scene.scratch.path(), Clip::Plain, &target);
        let status = librtmp.wait(END_MAX);
        let after = scene.relay.metrics().sum("relay_ingest_bytes_total", &[]).unwrap_or(0.0);
        let said = librtmp.log();
        assert_eq!(status.success(), lets_in, "{password}: {said}");
        assert_eq!(after - before > 1e6, lets_in, "{password}: {said}");
    }
    scene.told_no_secret(&["a-guess-of-a-password"]);
}

#[test]
fn addresses_let_in_and_keep_out() {
    let scene = Scene::new("access-addresses");
    let url = |path: &str| scene.url(path);
    scene.lets_in(&url("near/cam1"), &url("near/cam1"));
    scene.keeps_publisher_out(&url("closed/cam1"), "Nobody may publish here", "nobody");
    scene.keeps_player_out(&url("closed/cam1"), "Nobody may play here", "nobody");
    scene.keeps_publisher_out(&url("far/cam1"), "Your address may not publish here", "address");
    scene.keeps_player_out(&url("far/cam1"), "Your address may not play here", "address");
    scene.told_no_secret(&[]);
}

#[test]
fn who_guesses_keys_is_refused_whatever_it_shows_next() {
    let scratch = Scratch::new("access-guessing");
    let line = printed(&["key", "--stdin", "*"], KEY);
    let keys = scratch.file("keys");
    let line = line.lines().find_map(|line| line.strip_prefix("line: ")).unwrap();
    fs::write(&keys, line).unwrap();
    let configuration = format!(
        "[limits]\nauth_failures_per_address = 5\nauth_failure_window = \"4s\"\n\
         [apps.live]\npublish = [\"key {}\"]\n[node]\nworkers = 2\n",
        keys.display()
    );
    let options = Options { configuration: &configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let publish_as = |name: &str, key: &str| {
        let mut client = Client::open(relay.rtmp).unwrap();
        client.enter("live").unwrap();
        client.publish(&format!("{name}?key={key}"))
    };
    let publish = |key: &str| publish_as("cam1", key);
    let refused = |reason: &str| {
        relay.metrics().sum("relay_refused_total", &[("reason", reason)]).unwrap_or(0.0)
    };
    for guess in 0..5 {
        assert!(publish(&guess.to_string()).is_err());
    }
    assert_eq!((refused("key"), refused("guessing")), (5.0, 0.0));
    assert!(publish(KEY).is_err(), "the right key is not looked at either");
    assert!(publish("6").is_err());
    assert_eq!((refused("key"), refused("guessing")), (5.0, 2.0));
    // Here an address stands for many, of whom others publish other streams.
    publish_as("cam2", KEY).unwrap();
    wait_for("the guesses to be forgotten", END_MAX, || publish(KEY).ok());
}

#[test]
fn an_unconfigured_relay_refuses_public_addresses_and_says_so() {
    let scratch = Scratch::new("access-default");
    // A network of its own, in which this host has a public address besides its loopback.
    let script = "ip link set lo up && ip address add 203.0.113.7/32 dev lo \
         && ip -6 address add 2001:db8::7/128 dev lo nodad \
         && { \"$relay\" --rtmp '[::]:1935' --http 127.0.0.1:8935 > \"$said\" & server=$!; } \
         && trap 'kill $server' EXIT \
         && for _ in {1..200}; do \
            (: < /dev/tcp/127.0.0.1/8935) 2> /dev/null && break; sleep 0.1; done \
         && for host in 203.0.113.7 '[2001:db8::7]' 127.0.0.1 '[::1]'; do \
            echo \"from $host\"; ffmpeg -nostdin -hide_banner -loglevel error -re -i \"$clip\" \
            -t 1 -c copy -f flv \"rtmp://$host/live/a\" 2>&1; echo \"ended $?\"; \
            done; exec 3<> /dev/tcp/127.0.0.1/8935 \
         && printf 'GET /metrics HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' >&3 \
         && grep '^relay_refused_total' <&3";
    let said = scratch.file("said");
    let mut shell = Command::new("unshare");
    shell.args(["--map-root-user", "--net", "bash", "-c", script]);
    shell.env("relay", env!("CARGO_BIN_EXE_relay")).env("clip", Clip::Plain.file());
    shell.env("said", &said);
    let output = shell.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let context = format!("{found}\n{}", String::from_utf8_lossy(&output.stderr));
    let results: Vec<&str> = found.split("from ").skip(1).collect();
    assert_eq!(results.len(), 4, "{context}");
    for (result, is_public) in results.iter().zip([true, true, false, false]) {
        let refused = result.contains("Your address may not publish here");
        assert_eq!(refused, is_public, "{context}");
        assert_eq!(!result.contains("ended 0\n"), is_public, "{context}");
    }
    let counted = "reason=\"address\"} 2";
    assert!(found.contains(counted), "{context}");
    let said = fs::read_to_string(said).unwrap();
    let line = "Loopback and private networks may publish and play, nobody else;";
    assert!(said.contains(line), "{said}");
}

#[test]
fn commands_refuse_what_they_cannot_do() {
    let scratch = Scratch::new("access-commands");
    let secrets = scratch.file("secrets");
    fs::write(&secrets, "too-short\n").unwrap();
    let secrets = secrets.to_str().unwrap();
    let url = "rtmp://host/live/a";
    for (arguments, why) in [
        (vec!["sign", "--secrets", secrets, url], "at least 16 characters"),
        (vec!["sign", "--secrets", "/nowhere", url], "/nowhere cannot be read"),
        (vec!["sign", url], "--secrets"),
        (vec!["sign", "--secrets", secrets, "--action", "watch", url], "watch"),
        (vec!["sign", "--secrets", secrets, "--address", "here", url], "here"),
        (vec!["key", "a b"], "spaces"),
        (vec!["key"], "STREAM"),
    ] {
        let mut command = command();
        command.args(&arguments).stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    fs::write(secrets, "a-secret-that-is-long-enough\n").unwrap();
    for (further, why) in [
        (vec!["--expires", "soon", url], "--expires is \"soon\""),
        (vec!["rtmp://host/live"], "no URL of a stream"),
    ] {
        let mut command = command();
        let output = command.args(["sign", "--secrets", secrets]).args(&further).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(why), "{further:?}: {said}");
    }
    let made = printed(&["key", "--user", "bob", "cam*"], "");
    let line = made.lines().next().unwrap();
    assert!(line.starts_with("line: cam* bob md5:") && made.contains("\npassword: "), "{made}");
}
