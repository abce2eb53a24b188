//! Back ends that hang, answer nonsense, break off or are slow while thousands want to play: those
//! who are in notice nothing, and what waits is bounded.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::END_MAX;
use crate::support::backend::{Answer, Backend};
use crate::support::client::{Client, Player};
use crate::support::clip::{Clip, LENGTH};
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, ffmpeg, long, wait_for};

#[test]
fn a_back_end_that_misbehaves_harms_nobody_who_is_in() {
    let scratch = Scratch::new("storm");
    let dir = scratch.path();
    let kinds = [
        ("hang", Answer::Hang),
        ("garbage", Answer::Raw("SSH-2.0-no\r\n\r\n")),
        ("reset", Answer::Reset),
        ("slow", Answer::Late(Duration::from_millis(400))),
    ];
    let backends: Vec<(&str, Backend)> = kinds
        .iter()
        .map(|(app, answer)| {
            let answer = answer.clone();
            (*app, Backend::start(move |_| answer.clone()))
        })
        .collect();
    let mut configuration = String::from("[limits]\nstream_grace = \"2s\"\n");
    for (app, backend) in &backends {
        let url = backend.url("/play");
        configuration.push_str(&format!(
            "[apps.{app}]\nhooks = \"srs\"\non_play = \"{url}\"\nhooks_timeout = \"2s\"\n\
             hooks_breaker_failures = 20\nhooks_breaker_pause = \"60s\"\nhooks_concurrency = 32\n"
        ));
    }
    // 2,000 a second, for half a second or for ten, while a clip is played once or three times.
    let (joins, time, passes) = if long() {
        (20_000, Duration::from_secs(10), 3)
    } else {
        (1_000, Duration::from_millis(500), 1)
    };
    let options = Options { configuration: &configuration, ..Options::default() };
    let mut relay = Relay::start(dir, &options);
    let steady: Vec<_> = (0..3)
        .map(|_| {
            let client = Client::open(relay.rtmp).unwrap();
            let mut player = Player::join(client, "live", "clip").unwrap();
            thread::spawn(move || {
                let end = Instant::now() + LENGTH * passes + END_MAX;
                let mut longest = Duration::ZERO;
                while player.ends == 0 && Instant::now() < end {
                    let (since, count) = (Instant::now(), player.recording.0.len());
                    player
                        .read(end, |player| player.ends > 0 || player.recording.0.len() > count)?;
                    if count > 0 && player.ends == 0 {
                        longest = longest.max(since.elapsed());
                    }
                }
                Ok::<_, String>((player.recording, longest))
            })
        })
        .collect();
    relay.wait_for_role("player", 3);
    let mut publisher =
        ffmpeg::publish_looped(dir, "publisher", Clip::Plain, passes, &relay.url("clip"));
    wait_for("media", END_MAX, || {
        relay.metrics().sum("relay_egress_messages_total", &[]).filter(|sent| *sent > 100.0)
    });

    let before = relay.resident_bytes();
    let mut most = before;
    for (app, backend) in &backends {
        let joined = storm(relay.rtmp, app, joins, time);
        most = most.max(relay.resident_bytes());
        assert!(backend.connections() <= 40, "{app}: {} connections", backend.connections());
        drop(joined);
    }
    relay.must_run();
    wait_for("the storm to be over", END_MAX, || {
        let waiting = relay.metrics().sum("relay_hook_waiting", &[("kind", "question")]);
        (waiting == Some(0.0)).then_some(())
    });
    let metrics = relay.metrics();
    for app in ["hang", "garbage", "reset"] {
        let open = metrics.sum("relay_hook_breaker_open", &[("app", app)]);
        assert_eq!(open, Some(1.0), "{app}");
    }
    assert_eq!(metrics.sum("relay_hook_breaker_open", &[("app", "slow")]), Some(0.0));
    let result = |result| metrics.sum("relay_hook_requests_total", &[("result", result)]);
    for expected in ["timeout", "garbage", "unreachable", "breaker", "allowed"] {
        assert!(result(expected) > Some(0.0), "{expected}");
    }
    let grown = most.saturating_sub(before);
    println!("{grown} bytes more at the most, {before} before");
    assert!(grown < 96 << 20, "{grown} bytes more for 4,000 joins");

    publisher.succeed(LENGTH * passes + END_MAX);
    let sent = Clip::Plain.sent_looped(passes, dir);
    for player in steady {
        let (recording, longest) = player.join().unwrap().unwrap();
        assert_eq!(sent.check_whole(&recording), Ok(()));
        println!("longest silence of a player that was in: {longest:?}");
        assert!(longest < Duration::from_secs(3), "{longest:?} without a message");
    }
}

/// Clients that stay at a time: a process may open so many files only.
const STAY_MAX: usize = 6_000;

/// So many clients that connect within `time` and ask to play in `app`; the last of them stay while
/// the result is kept. None waits for an answer.
fn storm(
    address: SocketAddr,
    app: &str,
    count: u32,
    time: Duration,
) -> VecDeque<std::net::TcpStream> {
    let begun = Instant::now();
    let mut sockets = VecDeque::new();
    let mut joined = 0;
    let hello = Client::eager_play(app, "x");
    for number in 0..count {
        if let Ok(mut socket) = std::net::TcpStream::connect(address) {
            let _ = socket.set_nonblocking(true);
            let _ = socket.write_all(&hello);
            sockets.push_back(socket);
            joined += 1;
        }
        if sockets.len() > STAY_MAX {
            sockets.pop_front();
        }
        let due = time * number / count;
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    println!("{app}: {joined} joins in {:?}", begun.elapsed());
    sockets
}
