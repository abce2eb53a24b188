//! The way out, with scripted workers on threads of their own.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::thread;

use super::super::ending;
use super::super::testing::{self, Script};
use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

/// How long the way out may take.
struct Times {
    window: Duration,
    patience: Duration,
}

/// The state over these workers, with a drain window that a reload reads again.
fn state(workers: Vec<crate::worker::handle::WorkerHandle>, window: Duration) -> Arc<State> {
    let window = format!("{}ms", window.as_millis());
    let effective = testing::effective_with([("RELAY_DRAIN__WINDOW", window.as_str())]);
    Arc::new(testing::state_of(workers, effective))
}

/// Runs a node of these workers. The wishes come one after the other, 100 ms apart.
fn run(scripts: Vec<Script>, wishes: &[Wish], times: Times) -> (Outcome, Duration) {
    let (workers, inboxes) = testing::workers(scripts.len());
    let (guards, endings) = ending::channel(scripts.len());
    let threads = workers.iter().cloned().zip(inboxes).zip(scripts).zip(guards);
    for (((worker, inbox), script), guard) in threads {
        thread::spawn(move || {
            let _guard = guard;
            testing::work(&worker, &inbox, script);
        });
    }
    let state = state(workers, times.window);
    state.set_phase(Phase::Running);
    let (sender, receiver) = mpsc::unbounded_channel();
    let wishes = wishes.to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begun = std::time::Instant::now();
    let outcome = runtime.block_on(async {
        tokio::spawn(async move {
            for wish in wishes {
                tokio::time::sleep(Duration::from_millis(100)).await;
                sender.send(wish).unwrap();
            }
            // Signals may come at any time, so the sender lives on.
            std::future::pending::<()>().await;
        });
        tokio::time::timeout(LONG, live(&state, endings, receiver, times.patience)).await.unwrap()
    });
    assert_eq!(state.phase(), Phase::Draining);
    (outcome, begun.elapsed())
}

fn clinging() -> Script {
    Script { clings: true, ..Script::default() }
}

#[test]
fn sigterm_without_a_window_and_sigint_end_the_node_at_once() {
    let scripts = || vec![clinging(), Script::default()];
    for (wish, window) in [(Wish::Drain, Duration::ZERO), (Wish::Stop, LONG)] {
        let times = Times { window, patience: LONG };
        assert_eq!(run(scripts(), &[wish], times).0, Outcome::InOrder, "{wish:?}");
    }
}

#[test]
fn sigterm_drains_and_the_node_ends_with_its_last_worker() {
    let times = Times { window: LONG, patience: LONG };
    let scripts = vec![Script::default(), Script::default(), Script::default()];
    assert_eq!(run(scripts, &[Wish::Drain], times).0, Outcome::InOrder);
}

#[test]
fn sighup_ends_nothing() {
    let times = Times { window: LONG, patience: LONG };
    let wishes = [Wish::Reload, Wish::Drain, Wish::Reload, Wish::Stop];
    let (outcome, took) = run(vec![clinging()], &wishes, times);
    assert_eq!(outcome, Outcome::InOrder);
    assert!(took >= Duration::from_millis(400), "a reload ended it: {took:?}");
}

#[test]
fn a_second_signal_cuts_the_window_short() {
    for second in [Wish::Drain, Wish::Stop] {
        let times = Times { window: LONG, patience: LONG };
        let (outcome, took) = run(vec![clinging()], &[Wish::Drain, second], times);
        assert_eq!(outcome, Outcome::InOrder, "{second:?}");
        assert!(took >= Duration::from_millis(200), "the first signal ended it: {took:?}");
    }
}

#[test]
fn a_worker_that_stays_beyond_the_window_is_stopped() {
    let times = Times { window: SHORT, patience: SHORT };
    let (outcome, took) = run(vec![clinging(), Script::default()], &[Wish::Drain], times);
    assert_eq!(outcome, Outcome::InOrder);
    assert!(took >= Duration::from_millis(200), "stopped before the window was over: {took:?}");
}

#[test]
fn a_worker_that_panics_ends_the_others_and_fails_the_node() {
    let times = Times { window: LONG, patience: LONG };
    let panics = Script { panics: true, ..Script::default() };
    let scripts = vec![clinging(), panics, clinging()];
    assert_eq!(run(scripts, &[Wish::Drain], times).0, Outcome::Failed);
}

#[test]
fn a_worker_that_ends_unasked_fails_the_node() {
    let (workers, mut inboxes) = testing::workers(2);
    let (mut guards, endings) = ending::channel(2);
    drop(guards.remove(0));
    let (worker, inbox, guard) = (workers[1].clone(), inboxes.remove(1), guards.remove(0));
    thread::spawn(move || {
        let _guard = guard;
        testing::work(&worker, &inbox, Script::default());
    });
    let state = state(workers, LONG);
    state.set_phase(Phase::Running);
    let (_sender, receiver) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(live(&state, endings, receiver, LONG));
    assert_eq!(outcome, Outcome::Failed);
}

#[test]
fn a_worker_that_does_not_end_makes_the_node_fail_and_not_hang() {
    let (workers, _inboxes) = testing::workers(1);
    let (_guards, endings) = ending::channel(1);
    let state = state(workers, LONG);
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(Wish::Stop).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(live(&state, endings, receiver, SHORT)), Outcome::Failed);
}

#[test]
fn an_order_reaches_a_worker_whose_ring_was_full() {
    let (workers, mut inboxes) = testing::workers(1);
    let (mut guards, endings) = ending::channel(1);
    while workers[0].ask(Query::Drain { window: LONG }).is_ok() {}
    let (worker, inbox, guard) = (workers[0].clone(), inboxes.remove(0), guards.remove(0));
    thread::spawn(move || {
        let _guard = guard;
        thread::sleep(Duration::from_millis(200));
        testing::work(&worker, &inbox, clinging());
    });
    let state = state(workers, LONG);
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(Wish::Stop).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(live(&state, endings, receiver, LONG)), Outcome::InOrder);
}
