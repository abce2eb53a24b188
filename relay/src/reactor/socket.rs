//! Sockets as the relay wants them: listening, dialling, their options, and the limit on open
//! files.
//!
//! Every option is set on the listener, from which Linux copies it to each accepted connection, so
//! that accepting costs no further system call. This file never reads, writes or waits.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

/// Options of every connection, and the accept queue of every listener. `Default` gives the
/// documented defaults; `None` leaves the kernel's own setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// TCP_NODELAY: send at once. On by default: the flush window has merged small messages
    /// already.
    pub nodelay: bool,
    /// TCP_NOTSENT_LOWAT in bytes, 64 KiB by default: what waits in the kernel for a peer that does
    /// not read. A stuck player costs some 100 KB with it and up to 4 MB without.
    pub notsent_bytes_max: Option<u32>,
    /// TCP_USER_TIMEOUT, 60 s by default: a connection whose peer acknowledges nothing for this
    /// long fails, one that is being opened too. Above the worker's own deadline for a stalled
    /// send, so that the worker's verdict comes first and carries the reason.
    pub user_timeout: Option<Duration>,
    /// Probes of a connection on which nothing moves in either direction.
    pub keepalive: Option<Keepalive>,
    /// TCP_CONGESTION, `cubic` by default, so that a host whose default is a pacing algorithm
    /// behaves as measured. A name that the kernel does not offer is passed over.
    pub congestion: Option<String>,
    /// Connections that wait to be accepted, per listener: 4,096 by default. The kernel caps it at
    /// `net.core.somaxconn`.
    pub backlog: u16,
}

/// When a silent connection is probed: SO_KEEPALIVE with its three times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe, in whole seconds: 30 s by default.
    pub idle: Duration,
    /// Between probes, in whole seconds: 10 s by default.
    pub interval: Duration,
    /// Unanswered probes after which the connection fails: 3 by default. With a `user_timeout` the
    /// kernel goes by that one instead.
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), interval: Duration::from_secs(10), probes: 3 }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            notsent_bytes_max: Some(64 * 1024),
            user_timeout: Some(Duration::from_secs(60)),
            keepalive: Some(Keepalive::default()),
            congestion: Some("cubic".to_owned()),
            backlog: 4_096,
        }
    }
}

/// Opens `count` listeners on one address, one per worker; the kernel spreads connections over them
/// (SO_REUSEPORT). `[::]` takes IPv4 as well, and becomes `0.0.0.0` on a host without IPv6. With
/// port 0 the first listener chooses and the others follow: ask it for its `local_addr`.
///
/// # Errors
///
/// [`io::ErrorKind::AddrInUse`] when another socket listens on the port, even one that would share
/// it; [`io::ErrorKind::PermissionDenied`] for a port that is reserved; otherwise what the kernel
/// says. A `count` of 0 gives no listener.
pub fn listen(
    address: SocketAddr,
    count: usize,
    options: &SocketOptions,
) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for _ in 0..count {
        let listener = match listeners.first() {
            None => first_listener(address, options)?,
            Some(first) => bound(first.local_addr()?, true, options)?,
        };
        listener.listen(i32::from(options.backlog))?;
        // The first one shares its port only from here on: until it listens, and alone, the kernel
        // finds out whether somebody else has the port. Sharing from the start, two relays of one
        // user would silently split the connections between them.
        listener.set_reuse_port(true)?;
        listeners.push(listener.into());
    }
    Ok(listeners)
}

fn first_listener(address: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    match bound(address, false, options) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            bound(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), false, options)
        }
        result => result,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .map(Errno::raw_os_error)
        .map(Some)
        .contains(&error.raw_os_error())
}

/// A socket bound to the address, with the options that its connections inherit.
fn bound(address: SocketAddr, share: bool, options: &SocketOptions) -> io::Result<Socket> {
    let socket = socket_for(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    apply(&socket, options)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Starts to connect. The connection is there, or has failed, once the stream is writable.
///
/// # Errors
///
/// What the kernel says at once, for example that no file descriptor is left or that the address is
/// of a family that it does not have.
pub(super) fn dial(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    let socket = socket_for(address)?;
    apply(&socket, options)?;
    match socket.connect(&SockAddr::from(address)) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn socket_for(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(address), kind, None)
}

fn apply(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(bytes) = options.notsent_bytes_max {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    if let Some(keepalive) = options.keepalive {
        let parameters = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes);
        socket.set_tcp_keepalive(&parameters)?;
    }
    if let Some(name) = &options.congestion {
        // Missing in this kernel, or not allowed to an ordinary user: the default does as well.
        let _ = socket.set_tcp_congestion(name.as_bytes());
    }
    Ok(())
}

/// The address with IPv4-mapped IPv6 written as IPv4, so that one peer has one name whichever
/// listener it came by.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The canonical addresses of a connection: the other end's and ours.
///
/// # Errors
///
/// [`io::ErrorKind::NotConnected`] when the connection was reset meanwhile.
pub(super) fn addresses(stream: &impl AsFd) -> io::Result<(SocketAddr, SocketAddr)> {
    let socket = SockRef::from(stream);
    let address = |address: SockAddr| address.as_socket().map(canonical);
    let family = || io::Error::from(io::ErrorKind::Unsupported);
    let peer = address(socket.peer_addr()?).ok_or_else(family)?;
    Ok((peer, address(socket.local_addr()?).ok_or_else(family)?))
}

/// Whether a dialled connection is there: its addresses, or `None` for not yet.
///
/// # Errors
///
/// Why it failed. [`io::ErrorKind::ConnectionRefused`] too when it was opened to itself, as TCP
/// lets a socket do that was given the very port of this host that it dials.
pub(super) fn connected(stream: &impl AsFd) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    if let Some(error) = SockRef::from(stream).take_error()? {
        return Err(error);
    }
    match addresses(stream) {
        Ok((peer, local)) if peer == local => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(both) => Ok(Some(both)),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a failure to accept is that of one connection and not of the listener: Linux reports at
/// accept what happened to the connection meanwhile, "treat them like EAGAIN by retrying"
/// (accept(2)).
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    const PASSING: [Errno; 11] = [
        Errno::INTR,
        Errno::CONNABORTED,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::TIMEDOUT,
    ];
    PASSING.iter().any(|errno| Some(errno.raw_os_error()) == error.raw_os_error())
}

/// Raises the soft limit on open files to the hard one. Returns the soft limit before and now;
/// `u64::MAX` stands for no limit.
///
/// # Errors
///
/// What the kernel says; the limit is then unchanged.
pub fn raise_file_limit() -> io::Result<(u64, u64)> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok((current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn listeners_of_one_address_share_its_connections() {
        let listeners = listen(ANY, 4, &SocketOptions::default()).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        assert_ne!(port, 0);
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap().port(), port);
        }
        let clients: Vec<_> =
            (0..400).map(|_| TcpStream::connect(loopback(port)).unwrap()).collect();
        let mut counts = Vec::new();
        for listener in &listeners {
            let mut count = 0;
            while let Ok((_, peer)) = listener.accept() {
                assert_eq!(canonical(peer).ip(), Ipv4Addr::LOCALHOST);
                count += 1;
            }
            counts.push(count);
        }
        assert_eq!(counts.iter().sum::<usize>(), clients.len());
        // Evenly would be 100 each; 20 or less happens by chance once in 10^20 runs.
        assert!(counts.iter().all(|count| *count > 20), "unevenly spread: {counts:?}");
    }

    #[test]
    fn a_taken_port_is_said_to_be_taken() {
        let options = SocketOptions::default();
        let sharing = listen(ANY, 2, &options).unwrap();
        let plain = TcpListener::bind(loopback(0)).unwrap();
        for taken in [&sharing[0], &plain] {
            let port = taken.local_addr().unwrap().port();
            for address in [loopback(port), SocketAddr::new(ANY.ip(), port)] {
                let error = listen(address, 1, &options).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
            }
        }
        let port = sharing[0].local_addr().unwrap().port();
        drop(sharing);
        listen(SocketAddr::new(ANY.ip(), port), 1, &options).unwrap();
    }

    #[test]
    fn a_port_is_free_again_while_its_last_connections_linger() {
        let options = SocketOptions::default();
        let listeners = listen(loopback(0), 1, &options).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listeners[0].accept().unwrap();
        drop((server, listeners, client)); // The server closes first: its end is in TIME_WAIT.
        listen(address, 2, &options).unwrap();
    }

    #[test]
    fn accepted_and_dialled_connections_carry_the_options() {
        for options in [
            SocketOptions::default(),
            SocketOptions {
                nodelay: false,
                notsent_bytes_max: Some(16 * 1024),
                user_timeout: Some(Duration::from_secs(7)),
                keepalive: Some(Keepalive {
                    idle: Duration::from_secs(11),
                    interval: Duration::from_secs(3),
                    probes: 5,
                }),
                congestion: Some("reno".to_owned()),
                backlog: 8,
            },
        ] {
            let listeners = listen(ANY, 1, &options).unwrap();
            let port = listeners[0].local_addr().unwrap().port();
            let dialled = dial(loopback(port), &options).unwrap();
            let accepted = loop {
                if let Ok((accepted, _)) = listeners[0].accept() {
                    break accepted;
                }
            };
            for stream in [accepted, dialled] {
                let socket = Socket::from(stream);
                assert_eq!(socket.tcp_nodelay().unwrap(), options.nodelay);
                assert_eq!(Some(socket.tcp_notsent_lowat().unwrap()), options.notsent_bytes_max);
                assert_eq!(socket.tcp_user_timeout().unwrap(), options.user_timeout);
                assert!(socket.keepalive().unwrap());
                let keepalive = Keepalive {
                    idle: socket.tcp_keepalive_time().unwrap(),
                    interval: socket.tcp_keepalive_interval().unwrap(),
                    probes: socket.tcp_keepalive_retries().unwrap(),
                };
                assert_eq!(Some(keepalive), options.keepalive);
                let congestion = socket.tcp_congestion().unwrap();
                let name = congestion.split(|byte| *byte == 0).next().unwrap();
                assert_eq!(Some(name), options.congestion.as_deref().map(str::as_bytes));
            }
        }
    }

    #[test]
    fn an_unknown_congestion_control_is_passed_over() {
        let options = SocketOptions {
            congestion: Some("no-such-one".to_owned()),
            ..SocketOptions::default()
        };
        listen(loopback(0), 1, &options).unwrap();
    }

    #[test]
    fn the_file_limit_is_raised_to_the_hard_one() {
        let (_, now) = raise_file_limit().unwrap();
        assert_eq!(raise_file_limit().unwrap(), (now, now));
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), now);
    }
}
