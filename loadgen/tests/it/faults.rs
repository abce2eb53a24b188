//! Faults between a server and its players are caught, each by the right counter; with the check
//! turned off, the same fault goes unseen, so each check has been seen failing.

use std::thread;
use std::time::Duration;

use loadgen::measure::{Counters, SpanKind};
use loadgen::run::Outcome;
use loadgen::verify::Checks;

use crate::support::proxy::{self, Fault};
use crate::support::servers::{Server, nginx};
use crate::support::{Scratch, tester};

/// A fault, the checks that find it, and the counters that say so; all others must be 0.
const FAULTS: &[(Fault, &[(&str, &str)])] = &[
    (Fault::Nothing, &[]),
    (Fault::Drop, &[("missing", "missing"), ("missing", "gaps"), ("gops", "gops_unequal")]),
    (Fault::Double, &[("doubled", "doubled"), ("gops", "gops_unequal")]),
    (Fault::Corrupt, &[("altered", "altered"), ("gops", "gops_unequal")]),
    (Fault::Reorder, &[("reordered", "reordered")]),
    (Fault::Delay(Duration::from_millis(1_300)), &[("late", "late"), ("stalls", "stalls")]),
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

#[test]
fn each_fault_is_caught_by_its_counters_and_by_no_others() {
    let scratch = Scratch::new();
    let server = nginx(scratch.path());
    thread::scope(|scope| {
        for (number, (fault, expected)) in FAULTS.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let outcome = run(server, &format!("all{number}"), *fault, Checks::default());
                let counters = &outcome.collected.counters;
                let expected: Vec<&str> = expected.iter().map(|(_, counter)| *counter).collect();
                for counter in JUDGING {
                    let found = count(counters, counter) > 0;
                    assert_eq!(found, expected.contains(counter), "{fault:?}: {counter}");
                }
                assert!(counters.gops_equal > 0, "{fault:?}");
                let latency = outcome.collected.spans.of(SpanKind::Latency).unwrap().max();
                let is_delayed = matches!(fault, Fault::Delay(_));
                assert_eq!(latency >= 1_300_000, is_delayed, "{fault:?}: {latency} µs");
            });
        }
    });
}

#[test]
fn with_its_check_turned_off_each_fault_goes_unseen() {
    let scratch = Scratch::new();
    let server = nginx(scratch.path());
    thread::scope(|scope| {
        for (fault, expected) in FAULTS {
            for (check, counter) in *expected {
                let server = &server;
                scope.spawn(move || {
                    let name = format!("off-{check}-{counter}-{}", expected[0].1);
                    let outcome = run(server, &name, *fault, Checks::without(check));
                    let found = count(&outcome.collected.counters, counter);
                    assert_eq!(found, 0, "{fault:?} with the check '{check}' off: {counter}");
                });
            }
        }
    });
}

/// A publisher at the server, and a player behind a proxy with the fault.
fn run(server: &Server, name: &str, fault: Fault, checks: Checks) -> Outcome {
    let proxy = proxy::start(server.address, fault);
    let line = format!(
        "run --target {} --play-target rtmp://{proxy}/live/{name} --players 1 --bitrate 200k \
         --audio 64k --gop 1s --warmup 1s --ramp 0s --duration 6s --cores 1",
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
