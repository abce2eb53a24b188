//! The contract of [`crate::reactor`] as one suite of tests, run on every backend.
//!
//! A case is a function of a [`rig::Rig`], which drives any backend, real or simulated, and keeps a
//! ledger of its own: completions nobody asked for, asked-for ones that come twice and those of
//! closed connections fail any case. Cases name no backend. Adding one here runs it on all of them.

mod accepting;
mod bytes;
mod ending;
mod harness;
mod load;
mod moving;
mod rig;

use std::time::Duration;

use self::harness::{
    Harness, Kernel, KernelHarness, Mio, NarrowUring, SimHarness, Uring, ZeroCopyUring,
};
use self::rig::Rig;
use crate::reactor::sim::SimFaults;

macro_rules! contract {
    ($($room:ident::$case:ident,)*) => {
        mod mio {
            $(#[test]
            fn $case() {
                super::$room::$case(&mut super::rig::<super::Mio>());
            })*
        }

        mod io_uring {
            $(#[test]
            fn $case() {
                super::$room::$case(&mut super::rig::<super::Uring>());
            })*
        }

        mod io_uring_narrow {
            $(#[test]
            fn $case() {
                super::$room::$case(&mut super::rig::<super::NarrowUring>());
            })*
        }

        mod io_uring_zero_copy {
            $(#[test]
            fn $case() {
                super::$room::$case(&mut super::rig::<super::ZeroCopyUring>());
            })*
        }

        mod sim {
            $(#[test]
            fn $case() {
                super::$room::$case(&mut super::perfect_sim());
            })*
        }

        mod sim_with_faults {
            $(#[test]
            fn $case() {
                for seed in 0..super::SEEDS {
                    super::$room::$case(&mut super::faulty_sim(seed));
                }
            })*
        }
    };
}

contract! {
    accepting::tells_both_addresses,
    accepting::starts_turned_off_and_stops_when_told,
    accepting::takes_a_bounded_number_per_drain,
    accepting::a_closed_listener_hands_over_what_was_queued,
    accepting::connects_or_says_why_not,
    accepting::a_connection_to_oneself_carries_bytes,
    bytes::receives_once_per_request,
    bytes::a_peer_that_is_not_received_from_stops,
    bytes::sends_whole_batches_in_order,
    bytes::a_stalled_batch_is_held_until_it_is_gone,
    bytes::a_second_send_is_refused,
    bytes::what_is_at_hand_ends_the_wait,
    bytes::a_wake_ends_the_wait,
    ending::a_shutdown_comes_after_what_was_sent,
    ending::the_peers_end_is_told_as_often_as_asked,
    ending::a_reset_fails_what_is_outstanding,
    ending::a_close_abandons_what_is_outstanding,
    ending::a_close_overtakes_completions_not_yet_drained,
    ending::a_key_of_the_past_means_nothing,
    moving::a_released_connection_goes_on_in_another_reactor,
    moving::a_release_abandons_what_is_outstanding,
    moving::a_loose_socket_that_nobody_adopts_is_closed,
    moving::a_connection_that_was_reset_meanwhile_ends_where_it_went,
    load::a_thousand_connections_leave_nothing_behind,
    load::random_traffic_arrives_complete_and_in_order,
}

/// Seeds per case on the simulation with faults.
const SEEDS: u64 = 16;

fn rig<K: Kernel>() -> Rig<KernelHarness<K>> {
    Rig::new(KernelHarness::new())
}

fn perfect_sim() -> Rig<SimHarness> {
    Rig::new(SimHarness::new(1, SimFaults::default()))
}

fn faulty_sim(seed: u64) -> Rig<SimHarness> {
    let faults = SimFaults {
        partial_read: 0.4,
        partial_write: 0.4,
        delay_max: Duration::from_millis(5),
        ..SimFaults::default()
    };
    Rig::new(SimHarness::new(seed, faults))
}

#[test]
fn sim_accepting_fails_when_files_run_out() {
    accepting::fails_when_files_run_out(&mut perfect_sim());
    for seed in 0..SEEDS {
        accepting::fails_when_files_run_out(&mut faulty_sim(seed));
    }
}

#[test]
fn mio_accepting_fails_when_files_run_out() {
    alone("mio_accepting_fails_when_files_run_out", &mut || rig::<Mio>());
}

#[test]
fn io_uring_accepting_fails_when_files_run_out() {
    alone("io_uring_accepting_fails_when_files_run_out", &mut || rig::<Uring>());
}

/// A limit on open files concerns the whole process, so this case runs in one of its own.
fn alone<H: Harness>(name: &str, rig: &mut dyn FnMut() -> Rig<H>) {
    const CHILD: &str = "RELAY_TEST_IN_A_PROCESS_OF_ITS_OWN";
    if std::env::var_os(CHILD).is_some() {
        accepting::fails_when_files_run_out(&mut rig());
        return;
    }
    let program = std::env::current_exe().expect("a test knows its program");
    let output = std::process::Command::new(program)
        .args(["--exact", &format!("reactor::contract::{name}"), "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("a test can run its own program");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
