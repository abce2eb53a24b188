//! RTMP inside HTTP, seen from the server: RTMPT, and RTMPTS once TLS is taken off.
//!
//! A client that can only speak HTTP puts the bytes of its RTMP connection into the bodies of POST
//! requests, and is given ours in the answers. Requests are numbered; the session outlives the TCP
//! connections, the *carriers*, that bring them. RTMP inside is what it is everywhere and does not
//! know that it is tunnelled.
//!
//! ```text
//!   POST /open/1         00      -> the session's id, newline     TunnelIds makes and judges ids
//!   POST /send/ID/N      bytes   -> polling byte, bytes           TunnelRequest reads the target
//!   POST /idle/ID/N      00      -> polling byte, bytes           Order says whose turn it is
//!   POST /close/ID/N     00      -> 00                            Pace says when to answer
//! ```
//!
//! Nothing here holds a socket, reads HTTP heads or keeps bytes of a body: a request that comes
//! before its turn waits in its carrier, unread. The tunnel is in no specification; this follows
//! what Flash Player, librtmp and FFmpeg do.

mod id;
mod order;
mod pace;
mod request;

pub use id::{IdFault, TUNNEL_ID_CHARS, TunnelId, TunnelIds, tunnel_tag};
pub use order::{AHEAD_MAX, Numbered, Order, OrderFault, Repeat, Turn};
pub use pace::{Pace, Ready};
pub use request::{TunnelRequest, Verb};

/// The type of every body, of requests and of answers.
pub const CONTENT_TYPE: &str = "application/x-fcs";
