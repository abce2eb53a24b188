//! Connections that move between reactors: let go by one, taken over by another.
//!
//! Bytes that wait in the kernel move along unseen; readiness is learned anew by registering.

use std::io;

use mio::net::TcpStream;

use super::{Each, Item, PollReactor, add_connection};
use crate::reactor::socket::addresses;
use crate::reactor::{Completion, ConnectionKey, LooseSocket};

impl PollReactor {
    pub(super) fn release(&mut self, connection: ConnectionKey) {
        let Some(mut entry) = self.connections.remove(connection) else { return };
        self.counters.syscalls += 1;
        // It fails only for a socket that is not registered.
        let _ = self.poll.registry().deregister(&mut entry.stream);
        let socket = LooseSocket::from(std::net::TcpStream::from(entry.stream));
        self.queue.push_back(Item::Released(connection, socket));
    }

    pub(super) fn adopt(&mut self, token: u64, socket: LooseSocket) {
        let item = match self.adopted(socket) {
            Ok(connection) => Item::Adopted(token, connection),
            Err(error) => Item::AdoptFailed(token, error),
        };
        self.queue.push_back(item);
    }

    fn adopted(&mut self, socket: LooseSocket) -> io::Result<ConnectionKey> {
        let stream = socket.into_stream()?;
        self.counters.syscalls += 2;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        add_connection(&mut self.connections, self.poll.registry(), stream, None)
    }

    pub(super) fn finish_adopt(
        &mut self,
        token: u64,
        connection: ConnectionKey,
        each: &mut Each<'_>,
    ) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        self.counters.syscalls += 2;
        match addresses(&entry.stream) {
            Ok((peer, local)) => each(Completion::Adopted { token, connection, peer, local }),
            Err(error) => {
                self.connections.remove(connection);
                each(Completion::AdoptFailed { token, error });
            }
        }
    }
}
