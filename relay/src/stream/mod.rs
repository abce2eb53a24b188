//! A stream is a log of wire bytes; a player is a position in it.
//!
//! ```text
//!   publisher's worker                                   every worker that has players
//!   MediaMessage -> Timeline -> Pending -> Segment ---+--> Log ----------> Cursor::head, position
//!                   (offset)    (copy)     (sealed)   |     |
//!                       \-> Prelude (headers kept)    |     +-> View -> Log -> Cursor
//!                                                     +--> mail to other workers, Hub::receive
//! ```
//!
//! - [`Segment`]: one flush window of a stream, whole messages, contiguous, immutable, shared by
//!   count. A key frame of the default track always starts one, so joins, jumps and trims fall on
//!   segments.
//! - [`Prelude`]: metadata and codec headers in force, kept for players that join.
//! - [`Log`]: the newest segments within its limits, and where the newest key frame is.
//! - [`Cursor`]: a player's position, and how it joins, falls behind and jumps.
//! - [`Feed`]: a position from which another node is fed, and how it goes on where that left off.
//! - [`ViewKind`]: a reading of the log in other bytes, rendered once per worker while it has
//!   readers.
//! - [`Hub`]: all streams of one worker; the only type that the worker needs to call.
//!
//! Absent on purpose: sockets, threads, locks, clocks, randomness, logging, names of streams, and
//! any work per player other than counting references. Time is the node's, passed in as `now`; a
//! stream's lag is measured by the time of ingest and never by timestamps, which publishers make
//! up.

mod cursor;
mod feed;
#[cfg(test)]
#[path = "testing_flv.rs"]
mod flv_player;
#[doc(hidden)]
pub mod fuzz;
mod home;
mod hub;
mod log;
mod pending;
mod prelude;
mod reader;
mod segment;
mod tags;
mod timeline;
mod view;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod hub_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod join_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod lag_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod log_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod model_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod prelude_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tags_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout)]
mod taken_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod timeline_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod view_tests;

pub use cursor::{Batch, Cursor, Join, JumpReason, Next};
pub use feed::{Feed, FeedStart, FeedStep};
pub use home::{Appended, Dropped, Heritage};
pub use hub::{HeldBytes, Hub, Left, StreamKey, StreamStats};
pub use log::{Log, Pushed};
pub use prelude::Prelude;
pub use segment::{Carried, Entry, Segment, Video};
pub use tags::FlvForm;
pub use view::{ViewFormat, ViewKind, ViewTracks};
