//! The cluster: how nodes find each other, agree on where each stream comes from, and feed it to
//! each other.
//!
//! ```text
//!   peer list --> Places --dial--> Members --greeting--> a known node
//!   messages  --> Told ----------> Entry, one per stream: sources, reception, feeds, tree
//!                                    |
//!                                    +--> Feed, Adopt, Drop, Yield, ... to who carries media
//! ```
//!
//! Everything here is a machine: what happened goes in with the time, [`Command`]s come out. It
//! opens no socket, moves no media and waits for nothing; [`Cluster`] is the only type that is
//! driven, and [`Greeting`] opens media links too.
//!
//! - *Nodes* find each other by addresses and know each other by what they say when they greet
//!   ([`Identity`], [`Greeting`]). Each pair keeps one control connection. A node that is silent
//!   for `node_silence_max` is gone, which only cleans up.
//! - *Sources*: a node with a publisher announces it to all with a [`Term`], which is higher than
//!   all that it has seen of that name. Everywhere the highest that sends counts; the others end.
//!   An announcement stands until it is withdrawn or its node is gone for the stream's grace; a
//!   digest repeats it every `directory_refresh`.
//! - *Trees*: who wants a stream asks its origin, which alone decides who feeds whom. Why no
//!   stream can run in a circle is told in `tree.rs`.
//! - *Links are pushed*: the node that feeds opens the media connection. How a node changes over
//!   from one to another is told in `reception.rs`.
//! - *Orders* of operators hold on all nodes (`orders.rs`).
//! - *Nothing is lost for good*: after a connection broke, everything is told anew on the next one,
//!   and what is not told any more is over.

mod chance;
mod clock;
mod codec;
mod command;
mod context;
mod counters;
mod deadlines;
mod entry;
mod fields;
#[doc(hidden)]
pub mod fuzz;
mod hello;
mod identity;
mod machine;
mod members;
pub mod message;
mod orders;
mod outbox;
mod places;
mod reception;
mod refusal;
mod settings;
mod told;
mod tree;

pub use clock::ClockOffset;
pub use codec::{CodecError, PATH_MAX, VERSIONS};
pub use command::{Command, Line, Note, Path};
pub use counters::{ADDRESSES_PER_NODE, Counters, FEEDS_FACTOR, OFFERS_MAX, Usage};
pub use hello::{
    Binding, Credentials, Greeted, Greeting, Met, Nonce, Role, SECRET_BYTES_MIN, Secret, asks_for,
};
pub use identity::{EPOCH_MAX, Identity, NODE_NAME_BYTES_MAX, NodeKey, Position, SEQ_MAX, Term};
pub use machine::{ClaimRefused, Cluster, Conflict, PeerView, StreamView};
pub use orders::{ORDER_BYTES_MAX, Order, OrderId, OrderText, TAKEN_BACK_MAX};
pub use refusal::{REFUSALS, Refusal};
pub use settings::{DOOR_BYTES_MAX, DOORS_MAX, FANOUT_MAX, LINK_LINGER, Settings};
