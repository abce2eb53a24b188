//! Faults between a server and its players are caught, each by the right counter; with any one
//! check turned off the same test fails, so every check has been seen failing.
//!
//! `cargo test -p loadgen --test it faults -- --nocapture` lists what each check is worth.

use std::thread;
use std::time::Duration;

use loadgen::measure::{Counters, SpanKind};
use loadgen::run::Outcome;
use loadgen::verify::Checks;

use crate::support::proxy::{self, Fault};
use crate::support::servers::{Server, nginx};
use crate::support::{Scratch, tester};

/// A fault, and the checks that find it, each with the counter that says so; all others must be 0.
type Caught = (Fault, &'static [(&'static str, &'static str)]);

const FAULTS: &[Caught] = &[
    (Fault::Nothing, &[]),
    (Fault::Drop, &[("missing", "missing"), ("missing", "gaps"), ("gops", "gops_unequal")]),
    (Fault::Double, &[("doubled", "doubled"), ("gops", "gops_unequal")]),
    (Fault::Corrupt, &[("altered", "altered"), ("gops", "gops_unequal")]),
    (Fault::Reorder, &[("reordered", "reordered")]),
    (Fault::Delay(Duration::from_millis(1_300)), &[("late", "late"), ("stalls", "stalls")]),
    (Fault::Foreign, &[("foreign", "foreign")]),
    (Fault::Backward, &[("backward", "backward"), ("retimed", "retimed")]),
    (Fault::Retime, &[("retimed", "retimed")]),
    (Fault::Headless, &[("headless", "headless")]),
    (Fault::Keyless, &[("keyless", "keyless")]),
];

const JUDGING: &[&str] = &[
    "missing",
    "gaps",
    "doubled",
    "reordered",
    "altered",
    "foreign",
    "backward",
    "retimed",
    "headless",
    "keyless",
    "gops_unequal",
    "late",
    "stalls",
    "republished",
];

/// The test itself: the counters of the fault have counted, and no others. Else, which are wrong.
fn judge(counters: &Counters, (_, expected): &Caught) -> Result<(), Vec<&'static str>> {
    let expected: Vec<&str> = expected.iter().map(|(_, counter)| *counter).collect();
    let is_wrong = |counter: &&&str| (count(counters, counter) > 0) != expected.contains(*counter);
    let wrong: Vec<&str> = JUDGING.iter().filter(is_wrong).copied().collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

#[test]
fn each_fault_is_caught_by_its_counters_and_by_no_others() {
    let scratch = Scratch::new();
    let server = nginx(scratch.path());
    thread::scope(|scope| {
        for (number, caught) in FAULTS.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let fault = caught.0;
                let outcome = run(server, &format!("all{number}"), fault, Checks::default());
                let counters = &outcome.collected.counters;
                assert_eq!(judge(counters, caught), Ok(()), "{fault:?}");
                assert!(counters.gops_equal > 0, "{fault:?}");
                let latency = outcome.collected.spans.of(SpanKind::Latency).unwrap();
                let is_delayed = matches!(fault, Fault::Delay(_));
                assert_eq!(latency.max() >= 1_300_000, is_delayed, "{fault:?}");
                if is_delayed {
                    // Each of the 73 frames a second waits until the stop is over, and says how
                    // long: none is left out because an earlier one was late.
                    let waited = latency
                        .sparse()
                        .into_iter()
                        .filter(|(micros, _)| (300_000..=1_300_000).contains(micros));
                    let waited: u64 = waited.map(|(_, count)| count).sum();
                    assert!((60..=90).contains(&waited), "{waited} frames waited");
                }
            });
        }
    });
}

#[test]
fn with_any_one_check_turned_off_the_test_fails() {
    let scratch = Scratch::new();
    let server = nginx(scratch.path());
    thread::scope(|scope| {
        for check in Checks::NAMES {
            let server = &server;
            scope.spawn(move || {
                let finds = |caught: &&Caught| caught.1.iter().any(|(name, _)| name == check);
                let caught = FAULTS.iter().find(finds);
                let caught = caught.unwrap_or_else(|| panic!("no fault for the check '{check}'"));
                let off = Checks::without(check);
                let outcome = run(server, &format!("off-{check}"), caught.0, off);
                let wrong = judge(&outcome.collected.counters, caught);
                let ours = caught.1.iter().filter(|(name, _)| name == check);
                let ours: Vec<&str> = ours.map(|(_, counter)| *counter).collect();
                assert_eq!(wrong, Err(ours.clone()), "{:?} without '{check}'", caught.0);
                eprintln!("without '{check}' the test fails: {:?} goes by {ours:?}", caught.0);
            });
        }
    });
}

/// A publisher at the server, and a player behind a proxy with the fault.
fn run(server: &Server, name: &str, fault: Fault, checks: Checks) -> Outcome {
    let proxy = proxy::start(server.address, fault);
    let line = format!(
        "run --target {} --play-target rtmp://{proxy}/live/{name} --players 1 --bitrate 200k \
         --audio 64k --gop 1s --warmup 1s --ramp 0s --duration 5s --cores 1",
        server.url(name)
    );
    let mut plan = tester::plan(&line);
    plan.checks = checks;
    let outcome = tester::run(plan);
    assert_eq!(outcome.collected.counters.players_joined, 1, "{fault:?}");
    outcome
}

fn count(counters: &Counters, name: &str) -> u64 {
    let table = counters.table();
    table.iter().find(|(known, ..)| *known == name).expect("a counter of that name").1
}
