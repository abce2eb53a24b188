//! Whole nodes in memory: real workers over a simulated network, under virtual time, from a seed.
//!
//! `churn` sends many seeds through comings, goings and faults; the other files are fixed scripts,
//! one subject each. `RELAY_SIM_SEEDS` chooses the seeds: how many from 0 on, or `first..last`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod balance;
mod churn;
mod cluster;
mod cluster_churn;
mod cluster_troubles;
mod counting;
mod edges;
mod ending;
mod flushing;
mod line;
mod material;
mod node;
mod outside;
mod player;
mod playing;
mod publisher;
mod rivals;
mod trees;
mod tunnels;
mod viewer;
mod web;
mod world;
