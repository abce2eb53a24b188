//! Sessions: one RTMP connection as a state machine. Bytes and time go in, events and bytes come
//! out.
//!
//! ```text
//!   input bytes --> next_event --> events, at most one verdict outstanding
//!   verdicts, notices ----------> take_output --> bytes to be sent, in order
//!   now --------> next_deadline, check_deadline
//! ```
//!
//! A session speaks for one connection and knows no stream, no other session, no socket and no
//! clock. [`ServerSession`] is what a client connects to; [`ClientSession`] connects to a server,
//! ours or another. Both stand on the same transport: chunks, assembly, acknowledgements and
//! control messages.

mod client;
mod error;
mod event;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod event_tests;
mod output;
mod parts;
mod server;
mod transport;

pub use client::{ClientEvent, ClientRole, ClientSession, ClientSettings};
pub use error::SessionError;
pub use event::{
    ConnectRefusal, ConnectRefusalCode, ConnectRequest, DropReason, EnhancedClient, PlayRefusal,
    PlayRefusalCode, PublishEnd, PublishRefusal, PublishRefusalCode, Redirect, ServerEvent,
    StreamRequest,
};
pub use server::{ServerSession, SessionState};

#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;
