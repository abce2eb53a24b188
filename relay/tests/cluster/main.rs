//! Many nodes of the cluster's machine on a simulated network, under virtual time, from a seed.
//!
//! Control messages travel as bytes over connections that are slow, cut and reset; media links are
//! played by a driver that only moves what counts: which node has which source, by which way, and
//! whether it still comes. `churn` sends many seeds through trouble; `scripts` are fixed stories,
//! one subject each; `planted` breaks the machine's surroundings on purpose, so that each judge has
//! been seen to find something. `RELAY_CLUSTER_SEEDS` chooses the seeds of the small clusters: how
//! many from 0 on, or `first..last`; `RELAY_CLUSTER_LARGE` those of 300 nodes, and
//! `RELAY_CLUSTER_NODES=1000` their size. `table` prints how one stream reaches everybody.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod checks;
mod churn;
mod media;
mod net;
mod orders;
mod process;
mod scripts;
mod table;
mod world;
