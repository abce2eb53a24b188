//! Receiving without copying: the kernel counts the bytes of a socket and throws them away.
//!
//! `MSG_TRUNC` on a TCP socket lets go of what waits in the receive queue without copying it, so
//! that one core can be thousands of players. What was received is known by its number alone.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Reads from sockets and keeps nothing.
#[derive(Debug)]
pub struct Discarder {
    /// Says how much one call may take. The kernel never writes to it, so no page of it is ever
    /// there.
    room: Box<[u8]>,
}

/// What one call to [`Discarder::discard`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// So many bytes, at least 1. More may wait only when `full`.
    Bytes {
        /// How many.
        count: usize,
        /// Whether the call took as much as it could.
        full: bool,
    },
    /// Nothing waits.
    Nothing,
    /// The peer has ended its direction.
    Ended,
}

/// More than the kernel lets wait on one socket by default.
const ROOM_BYTES: usize = 8 * 1024 * 1024;

impl Default for Discarder {
    fn default() -> Self {
        Self { room: vec![0; ROOM_BYTES].into_boxed_slice() }
    }
}

impl Discarder {
    /// Throws away what waits on a socket. Never blocks.
    ///
    /// # Errors
    /// What the kernel says of the connection, for example that the peer has reset it.
    pub fn discard(&mut self, socket: impl AsFd) -> io::Result<Discarded> {
        let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        loop {
            match recv(&socket, &mut self.room[..], flags) {
                Ok((_, 0)) => return Ok(Discarded::Ended),
                Ok((_, count)) => {
                    return Ok(Discarded::Bytes { count, full: count >= self.room.len() });
                }
                Err(Errno::INTR) => {}
                Err(error) if error == Errno::AGAIN => return Ok(Discarded::Nothing),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    /// Discards until `wanted` comes up or ten seconds have passed; gives the bytes on the way.
    fn until(socket: &TcpStream, wanted: Discarded) -> usize {
        let mut discarder = Discarder::default();
        let mut bytes = 0;
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let found = discarder.discard(socket).unwrap();
            if let Discarded::Bytes { count, .. } = found {
                bytes += count;
            }
            if found == wanted {
                return bytes;
            }
            assert!(Instant::now() < end, "no {wanted:?} after {bytes} bytes");
            std::thread::yield_now();
        }
    }

    #[test]
    fn every_byte_is_counted_and_the_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        assert_eq!(Discarder::default().discard(&receiver).unwrap(), Discarded::Nothing);
        let writer = std::thread::spawn(move || {
            for _ in 0..50 {
                sender.write_all(&[7; 99_991]).unwrap();
            }
        });
        assert_eq!(until(&receiver, Discarded::Ended), 50 * 99_991);
        writer.join().unwrap();
    }

    #[test]
    fn the_room_stays_without_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        sender.write_all(&[7; 10_000]).unwrap();
        let mut discarder = Discarder::default();
        loop {
            match discarder.discard(&receiver).unwrap() {
                Discarded::Nothing => std::thread::yield_now(),
                Discarded::Bytes { .. } => break,
                Discarded::Ended => panic!("ended"),
            }
        }
        assert!(discarder.room.iter().all(|byte| *byte == 0), "the kernel wrote into the room");
    }
}
