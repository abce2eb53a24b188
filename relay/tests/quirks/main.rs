//! Every client's habits, as its bytes, against the server session and, where it matters what
//! players get, against a whole worker in memory.
//!
//! One module per family of clients; [`ROWS`] says which test stands for which habit. `selfcheck`
//! and `attacks` go through what a server must stand from anybody, and `independent` lets another
//! implementation speak with ours.

#![allow(clippy::unwrap_used)]

mod encoders;
mod ffmpeg;
mod flash;
mod gstreamer;
mod librtmp;
mod obs;
mod phones;
mod scanners;
mod servers;
mod support;
