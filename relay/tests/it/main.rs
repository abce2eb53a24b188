//! The relay against programs by other people: FFmpeg, GStreamer, rtmpdump, OBS.
//!
//! Each test starts the relay and its programs on ports of its own, so all of them run side by
//! side; most last as long as their media does, hence many threads (`RUST_TEST_THREADS=24`) rather
//! than one per core. A program that is missing fails its tests: `.ci/install` brings them all.
//! `RELAY_TEST_LONG=1` asks for longer forms.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod access;
mod bad_http;
mod bad_input;
mod browser;
mod cluster;
mod config;
mod container;
mod drain;
mod enhanced;
mod fanout;
mod faults;
mod flv;
mod fronts;
mod harness;
mod hooks;
mod limits;
mod logs;
mod memory;
mod obs;
mod outside;
mod reactor;
mod readme;
mod relaying;
mod series;
mod strangers;
mod support;
mod time;
mod tls;
mod together;
mod tunnel;
mod watching;
