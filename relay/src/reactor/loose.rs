//! A connection between two reactors: released by one, not yet adopted by the other.
//!
//! Only the worker that hands it over and the one that takes it see it, as a thing without
//! operations. Nothing reads or writes it meanwhile; what the peer sends waits in the kernel.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::ConnectionKey;

/// A connection without a reactor. It may be sent to another thread; dropping it closes it.
pub struct LooseSocket(pub(super) Loose);

/// What it is, for the backends.
pub(super) enum Loose {
    /// A socket of the kernel.
    Kernel(TcpStream),
    /// A side of a simulated connection.
    Sim(SimSide),
}

/// A side of a simulated connection; the network closes it when this is gone and nobody adopted
/// it.
pub(super) struct SimSide {
    pub(super) link: ConnectionKey,
    pub(super) side: usize,
    /// Held as long as the side is loose.
    pub(super) held: Arc<()>,
}

impl LooseSocket {
    /// The other end's address, canonical, if the kernel still knows it.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.0 {
            Loose::Kernel(stream) => stream.peer_addr().ok().map(super::socket::canonical),
            Loose::Sim(_) => None,
        }
    }

    /// The socket of the kernel.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] for a simulated connection, which no kernel can take.
    pub(super) fn into_stream(self) -> io::Result<TcpStream> {
        match self.0 {
            Loose::Kernel(stream) => Ok(stream),
            Loose::Sim(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl From<TcpStream> for LooseSocket {
    fn from(stream: TcpStream) -> Self {
        Self(Loose::Kernel(stream))
    }
}

impl fmt::Debug for LooseSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Loose::Kernel(stream) => formatter.debug_tuple("LooseSocket").field(stream).finish(),
            Loose::Sim(side) => formatter.debug_tuple("LooseSocket").field(&side.link).finish(),
        }
    }
}
