//! Where connections come from: on the loopback from another address when one has no port left.
//!
//! One address can reach one port of a server about 28,000 times, as many as there are ephemeral
//! ports. A real network's addresses are given to the machine; the loopback has millions.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// The source addresses of one worker's counting players.
#[derive(Debug)]
pub(super) struct Sources {
    /// 127.0.0.`current` is in use; 1 is what the kernel takes by itself.
    current: u8,
}

/// Source addresses tried on the loopback: 127.0.0.1 to this one.
const LAST: u8 = 32;

/// What Linux has by default, should it not say.
const PORTS: usize = 28_232;

impl Sources {
    /// Sources for a run of so many connections. When they might need all ports of an address,
    /// 127.0.0.1 is left to those that cannot choose.
    pub(super) fn new(connections: usize) -> Self {
        Self { current: if connections > ports() / 2 { 2 } else { 1 } }
    }

    /// Begins to open a connection.
    ///
    /// # Errors
    /// What the kernel says; `AddrNotAvailable` when no port is left.
    pub(super) fn dial(&mut self, to: SocketAddr) -> io::Result<Socket> {
        let may_choose = to.is_ipv4() && to.ip().is_loopback();
        let mut left = LAST;
        loop {
            let kind = Type::STREAM.nonblocking().cloexec();
            let socket = Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
            socket.set_tcp_nodelay(true)?;
            match self.connect(&socket, to, may_choose) {
                // No port is left: connect says the one, bind the other.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse
                    ) && may_choose =>
                {
                    left -= 1;
                    if left == 0 {
                        return Err(ErrorKind::AddrNotAvailable.into());
                    }
                    // Behind the last comes the first again, whose ports may be free by now.
                    self.current = if self.current == LAST { 1 } else { self.current + 1 };
                }
                Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                    return Err(error);
                }
                _ => return Ok(socket),
            }
        }
    }

    fn connect(&self, socket: &Socket, to: SocketAddr, may_choose: bool) -> io::Result<()> {
        if may_choose && self.current > 1 {
            // The port is chosen when the other end is known; else one that is taken from one
            // address would be gone for all.
            setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
            let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, self.current));
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect(&to.into())
    }
}

/// How many ephemeral ports an address has.
fn ports() -> usize {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<usize>().ok());
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) if last >= first => last - first + 1,
        _ => PORTS,
    }
}
