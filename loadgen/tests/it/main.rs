//! loadgen against servers by other people and against relay, and against faults made on the way.
//!
//! Each test starts its programs on ports of its own. A program that is missing fails its tests
//! with one sentence: `.ci/install` brings those of other people, `cargo build --workspace` brings
//! relay.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod bad_input;
mod cluster;
mod cluster_counts;
mod cluster_strangers;
mod failover;
mod failover_command;
mod faults;
mod figures;
mod lanes;
mod machine;
mod redirects;
mod reload;
mod servers;
mod statefulset;
mod statefulset_failures;
mod support;
mod zones;
