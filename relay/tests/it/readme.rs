//! What the README says is what happens: its commands run, its sample is what is printed, its file
//! is a configuration.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Player};
use crate::support::process::Process;
use crate::support::relay::{Options, Relay, command};
use crate::support::{START, Scratch, wait_for};

/// The code blocks of one language, in order.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(path).unwrap();
    let opening = format!("```{language}\n");
    let blocks = text.split(&opening).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The one block of a language that holds `word`.
pub(crate) fn block(language: &str, word: &str) -> String {
    let mut blocks = blocks(language).into_iter().filter(|block| block.contains(word));
    let block = blocks.next().unwrap_or_else(|| panic!("no block with {word}"));
    assert_eq!(blocks.next(), None, "two blocks with {word}");
    block
}

#[test]
fn the_sample_of_the_start_is_what_is_printed() {
    let scratch = Scratch::new("sample");
    let said = scratch.file("said");
    let mut command = command();
    command.args(["--node", "studio", "--workers", "2", "--rtmp", "[::]:0", "--http", "[::]:0"]);
    let mut process = Process::start_apart(scratch.path(), "relay", &said, &mut command);
    let printed = wait_for("the relay to say where it is", START, || {
        process.must_run();
        let said = fs::read_to_string(&said).unwrap();
        (said.lines().count() == 5 && said.ends_with('\n')).then_some(said)
    });
    process.stop(rustix::process::Signal::INT);
    // The ports were the kernel's choice, and the reactor is what it allows.
    let general = |text: &str| {
        let plain = |word: &str| match word {
            "mio" | "io_uring" => "REACTOR".to_owned(),
            word => match word.split_once("localhost:") {
                Some((before, rest)) => {
                    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                    format!("{before}localhost:PORT{after}")
                }
                None => word.to_owned(),
            },
        };
        let line = |line: &str| line.split(' ').map(plain).collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(general(&printed), general(&block("text", "node studio")));
}

#[test]
fn the_gstreamer_command_publishes() {
    let scratch = Scratch::new("readme-gst");
    let relay = Relay::start(scratch.path(), &Options::default());
    let said = block("sh", "gst-launch-1.0");
    let address = "rtmp://localhost/live/talk";
    assert!(said.contains(address), "{said}");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec {}", said.replace(address, &relay.url("talk"))));
    let mut gstreamer = Process::start(scratch.path(), "gst", &mut shell);
    let mut player = Player::join(Client::open(relay.rtmp).unwrap(), "live", "talk").unwrap();
    let end = Instant::now() + START;
    let why = player.read(end, |player| player.recording.coded().len() >= 60);
    let received = player.recording.coded().len();
    assert!(received >= 60, "{received} packets, then {why:?}\n{}", gstreamer.log());
    gstreamer.must_run();
    gstreamer.stop(rustix::process::Signal::INT);
}

#[test]
fn the_sample_of_a_file_is_a_configuration() {
    let scratch = Scratch::new("readme-toml");
    let file = scratch.file("relay.toml");
    fs::write(&file, block("toml", "[limits]")).unwrap();
    let mut command = command();
    command.arg("--check").arg("--config").arg(file);
    let mut process = Process::start(scratch.path(), "relay", &mut command);
    process.succeed(Duration::from_secs(20));
    assert!(process.log().contains("\nwindow = \"30s\" # "), "{}", process.log());
    let hooks = scratch.file("hooks.toml");
    fs::write(&hooks, block("toml", "hooks_fail")).unwrap();
    let mut command = self::command();
    command.arg("--check").arg("--config").arg(hooks);
    Process::start(scratch.path(), "hooks", &mut command).succeed(Duration::from_secs(20));
    let outside = scratch.file("outside.toml");
    fs::write(&outside, block("toml", "STREAM-KEY")).unwrap();
    let mut command = self::command();
    command.arg("--check").arg("--config").arg(outside);
    let mut process = Process::start(scratch.path(), "outside", &mut command);
    process.succeed(Duration::from_secs(20));
    assert!(process.log().contains("rtmps://live.example.org:443/app/***"), "{}", process.log());
    assert!(!process.log().contains("STREAM-KEY"), "{}", process.log());
    // Of who may publish and play, with the files that it names.
    let access = block("toml", "jwks.json");
    let keys = include_str!("../../src/access/test_keys/jwks.json");
    let digest = "0123456789abcdef".repeat(4);
    for (name, text) in [
        ("stream-keys", format!("cam1 sha256:salt:{digest}\n")),
        ("jwks.json", keys.to_owned()),
        ("users", "cam* alice a-password\n".to_owned()),
        ("url-secrets", "a-secret-of-some-length\n".to_owned()),
    ] {
        assert!(access.contains(&format!("/etc/relay/{name}")), "{name}: {access}");
        fs::write(scratch.file(name), text).unwrap();
    }
    let folder = scratch.path().to_str().unwrap();
    fs::write(scratch.file("access.toml"), access.replace("/etc/relay", folder)).unwrap();
    let mut command = self::command();
    command.arg("--check").arg("--config").arg(scratch.file("access.toml"));
    let mut process = Process::start(scratch.path(), "access", &mut command);
    process.succeed(Duration::from_secs(20));
    assert!(process.log().contains("203.0.113.0/24 and password"), "{}", process.log());
}
