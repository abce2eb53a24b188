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
//! control messages. What a peer speaks is known by its first bytes ([`sniff`]); heads of HTTP
//! requests are read by [`http`], and a player that asks for FLV is a [`http_flv::FlvSession`].

mod client;
mod error;
mod event;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod event_tests;
pub mod http;
pub mod http_flv;
pub mod link;
mod output;
mod parts;
pub mod proxy;
mod scheme;
mod server;
pub mod sniff;
mod transport;
pub mod tunnel;
mod tunnel_client;

pub use client::{ClientEvent, ClientRole, ClientSession, ClientSettings};
pub use error::SessionError;
pub use event::{
    ConnectRefusal, ConnectRefusalCode, ConnectRequest, DropReason, EnhancedClient, PlayRefusal,
    PlayRefusalCode, PublishEnd, PublishRefusal, PublishRefusalCode, Redirect, ServerEvent,
    StreamRequest, StreamWords,
};
pub use scheme::Scheme;
pub use server::{ServerSession, SessionState};
pub use tunnel_client::{TunnelClient, TunnelError, TunnelSettings};

#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;
