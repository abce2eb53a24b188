//! A node of a cluster that is asked by the API to end: who goes when, and what holds it up.

use std::thread;
use std::time::{Duration, Instant};

use crate::outside::nodes::pair;
use crate::support::client::{Client, Quiet};
use crate::support::clip::Clip;
use crate::support::relay::Relay;
use crate::support::{START, Scratch, ffmpeg, http, wait_for};

/// The window of these nodes.
const WINDOW: Duration = Duration::from_secs(20);

/// How long a machine with much to do may be late.
const LATE: Duration = Duration::from_secs(2);

fn enter(relay: &Relay) -> Client {
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("live").unwrap();
    client
}

fn drain(relay: &Relay) {
    let asked = http::send(relay.http, "POST", "/api/v1/drain", "").unwrap();
    assert!((200..300).contains(&asked.status), "{} {}", asked.status, asked.body);
}

/// Reads until the server closes. When that was, and of each picture whether it was a key frame.
fn read_to_the_end(mut client: Client) -> (Instant, Vec<bool>) {
    let mut pictures = Vec::new();
    loop {
        match client.next(Instant::now() + 2 * WINDOW).unwrap() {
            // Headers are no pictures (E.4.3.1 of the FLV specification).
            Ok(message) if message.kind == 9 && message.payload.get(1) == Some(&1) => {
                pictures.push(message.payload[0] >> 4 == 1);
            }
            Ok(_) => {}
            Err(Quiet::Closed) => return (Instant::now(), pictures),
            Err(Quiet::Timeout) => panic!("it was never closed"),
        }
    }
}

#[test]
fn the_api_asks_for_a_drain_and_everybody_goes_in_order() {
    let scratch = Scratch::new("drain-order");
    let (a, b) = pair(&scratch, "");
    let clip = ffmpeg::publish_looped(scratch.path(), "clip", Clip::Plain, 9, &b.url("clip"));
    b.wait_for_role("publisher", 1);
    let idle = enter(&a);
    let mut publisher = enter(&a);
    publisher.publish("own").unwrap();
    let mut player = enter(&a);
    player.play("clip").unwrap();
    // Who has only come may be about to do something.
    thread::sleep(Duration::from_secs(6));
    let begun = Instant::now();
    let of = |client: Client| thread::spawn(move || read_to_the_end(client));
    let [idle, publisher, player] = [idle, publisher, player].map(of);
    drain(&a);
    drain(&a);
    let ready = || http::get(a.http, "/readyz").is_ok_and(|answer| answer.status == 503);
    wait_for("the node to say that it is not ready", START, || ready().then_some(()));
    let (idle, _) = idle.join().unwrap();
    let gone = a.metrics().sum("relay_drain_clients_total", &[("role", "idle")]);
    assert_eq!(gone, Some(1.0));
    let (publisher, _) = publisher.join().unwrap();
    let (player, pictures) = player.join().unwrap();
    let http = a.http;
    assert!(a.wait(WINDOW).success());
    let ended = Instant::now();
    let [idle, publisher, player, ended] =
        [idle, publisher, player, ended].map(|moment| moment.duration_since(begun));
    println!("idle {idle:?}, publisher {publisher:?}, player {player:?}, node {ended:?}");
    let part = |percent: u32| WINDOW * percent / 100;
    assert!((part(5)..part(50) + LATE).contains(&idle), "idle: {idle:?}");
    assert!((part(5)..part(50) + LATE).contains(&publisher), "publisher: {publisher:?}");
    assert!((part(50)..part(95) + LATE).contains(&player), "player: {player:?}");
    assert!(ended < player + LATE, "nobody was left at {player:?}, and it ended at {ended:?}");
    let groups: Vec<usize> = pictures.split(|is_key| *is_key).skip(1).map(<[bool]>::len).collect();
    println!("pictures behind each key frame: {groups:?}");
    assert!(groups.len() > 2, "it played all the while: {groups:?}");
    assert!(http::get(http, "/livez").is_err());
    drop((clip, b));
}

#[test]
fn who_does_nothing_holds_no_drain_up() {
    let scratch = Scratch::new("drain-idle");
    let (a, _b) = pair(&scratch, "");
    let idle: Vec<Client> = (0..3).map(|_| enter(&a)).collect();
    thread::sleep(Duration::from_secs(6));
    let begun = Instant::now();
    drain(&a);
    assert!(a.wait(WINDOW).success());
    let ended = begun.elapsed();
    println!("the node ended after {ended:?}");
    assert!(ended < WINDOW * 5 / 100 + 2 * LATE, "it ended after {ended:?}");
    drop(idle);
}
