//! Verdicts that hold no longer: whoever was let in is asked about again, however it was let in, at
//! the back end that is in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::support::backend::{Answer, Backend, Received};
use crate::support::client::Client;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, http, wait_for};

/// Until a session has ended whose verdict is over; with room for a slow host.
const END_MAX: Duration = Duration::from_secs(30);

/// A back end whose answers a test changes: a status, or 0 for a reset.
fn changing(status: &Arc<AtomicU16>) -> Backend {
    let status = Arc::clone(status);
    Backend::start(move |_| match status.load(Ordering::Relaxed) {
        0 => Answer::Reset,
        status => Answer::Status(status),
    })
}

fn start(scratch: &Scratch, configuration: &str) -> Relay {
    Relay::start(scratch.path(), &Options { configuration, ..Options::default() })
}

fn publish(relay: &Relay, name: &str) -> Client {
    let mut client = Client::open(relay.rtmp).unwrap();
    client.enter("live").unwrap();
    client.publish(name).unwrap();
    client
}

fn called(backend: &Backend, event: &str, name: &str) -> usize {
    let fits = |request: &&Received| {
        request.event() == event && request.field("name").as_deref() == Some(name)
    };
    backend.received().iter().filter(fits).count()
}

fn counted(relay: &Relay, result: &str) -> f64 {
    relay.metrics().sum("relay_hook_requests_total", &[("result", result)]).unwrap_or(0.0)
}

fn closed(relay: &Relay) -> f64 {
    let labels = [("reason", "hook")];
    relay.metrics().sum("relay_connections_closed_total", &labels).unwrap_or(0.0)
}

/// All that the contract tells of publishers.
fn events(backend: &Backend) -> String {
    let url = backend.url("/h");
    format!("on_publish = \"{url}\"\non_publish_done = \"{url}\"\n")
}

#[test]
fn whoever_was_let_in_by_a_remembered_verdict_is_asked_about_again() {
    let scratch = Scratch::new("remembered");
    let status = Arc::new(AtomicU16::new(200));
    let backend = changing(&status);
    let relay = start(
        &scratch,
        &format!(
            "[apps.live]\nhooks = \"nginx-rtmp\"\nhooks_cache = \"10m\"\n\
             hooks_verdict_lifetime = \"1s\"\n{}",
            events(&backend)
        ),
    );
    drop(publish(&relay, "x"));
    backend.wait(1, |request| request.event() == "publish_done");
    let mut second = publish(&relay, "x");
    assert_eq!(counted(&relay, "cached"), 1.0);
    let asked = called(&backend, "publish", "x");
    backend.wait(asked + 1, |request| request.event() == "publish");
    status.store(403, Ordering::Relaxed);
    assert!(second.wait_closed(END_MAX), "its permission has gone");
    assert_eq!(closed(&relay), 1.0);
    // Its back end heard of it when it was asked again, and so hears of its end.
    backend.wait(2, |request| request.event() == "publish_done");
}

#[test]
fn whoever_was_let_in_while_the_back_end_was_down_is_asked_about_when_it_is_back() {
    let scratch = Scratch::new("open");
    let status = Arc::new(AtomicU16::new(0));
    let backend = changing(&status);
    let relay = start(
        &scratch,
        &format!(
            "[apps.live]\nhooks = \"nginx-rtmp\"\nhooks_fail = \"open\"\n\
             hooks_verdict_lifetime = \"1s\"\nhooks_retries = 0\nhooks_breaker_failures = 1\n\
             hooks_breaker_pause = \"1s\"\n{}",
            events(&backend)
        ),
    );
    // The first is let in since its call failed, the second without one.
    let mut clients = [publish(&relay, "called"), publish(&relay, "spared")];
    assert_eq!(counted(&relay, "breaker"), 1.0);
    assert_eq!(called(&backend, "publish", "spared"), 0);
    // They stay while there is no answer.
    backend.wait(3, |_| true);
    assert_eq!(closed(&relay), 0.0);
    status.store(403, Ordering::Relaxed);
    for client in &mut clients {
        assert!(client.wait_closed(END_MAX), "its back end is there and says no");
    }
    assert_eq!(closed(&relay), 2.0);
    assert!(called(&backend, "publish", "spared") > 0);
}

#[test]
fn after_a_reload_the_back_end_in_force_is_asked() {
    let scratch = Scratch::new("moved");
    let statuses = [200, 200].map(|status| Arc::new(AtomicU16::new(status)));
    let backends = statuses.each_ref().map(changing);
    let app = |backend: &Backend, more: &str| {
        format!("[apps.live]\nhooks = \"nginx-rtmp\"\n{more}{}", events(backend))
    };
    let relay = start(&scratch, &app(&backends[0], ""));
    let mut publisher = publish(&relay, "x");
    assert_eq!(called(&backends[0], "publish", "x"), 1);
    let file = scratch.path().join("relay-1.toml");
    let reload = |text: String| {
        std::fs::write(&file, text).unwrap();
        let answer = http::ask(relay.http, "POST", "/api/v1/reload").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    // The back end moves, and verdicts hold for a time from now on.
    reload(app(&backends[1], "hooks_verdict_lifetime = \"1s\"\n"));
    backends[1].wait(2, |request| request.event() == "publish");
    assert_eq!(called(&backends[0], "publish", "x"), 1, "the one of before is left alone");
    statuses[1].store(403, Ordering::Relaxed);
    assert!(publisher.wait_closed(END_MAX));
    assert_eq!(closed(&relay), 1.0);
    backends[1].wait(1, |request| request.event() == "publish_done");
    assert_eq!(called(&backends[0], "publish_done", "x"), 0);

    // Without hooks nobody is asked any more; the end is told where the beginning was.
    statuses[1].store(200, Ordering::Relaxed);
    let publisher = publish(&relay, "y");
    reload("[apps.live]\nhooks = \"off\"\n".to_owned());
    let asked = called(&backends[1], "publish", "y");
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(called(&backends[1], "publish", "y"), asked);
    drop(publisher);
    wait_for("the end to be told", END_MAX, || {
        (called(&backends[1], "publish_done", "y") == 1).then_some(())
    });
}
