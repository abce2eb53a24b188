//! A pipe in front of a server: counts what passes in both directions, and may hold it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A running pipe; it ends with the test.
pub(crate) struct Pipe {
    pub(crate) address: SocketAddr,
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

/// How the way towards the client is held.
#[derive(Clone, Copy)]
enum Hold {
    /// Each piece for so long.
    Each(Duration),
    /// Everything, until so long after the first connection.
    Late(Duration),
}

impl Pipe {
    /// A pipe that holds each piece towards the client for a while.
    pub(crate) fn start(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::serve(listener, server, Hold::Each(delay))
    }

    /// A pipe through which nobody hears from the server until so long after the first connection.
    pub(crate) fn start_late(server: SocketAddr, late: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::serve(listener, server, Hold::Late(late))
    }

    /// A pipe at a listener of one's own, which holds nothing.
    pub(crate) fn at(listener: TcpListener, server: SocketAddr) -> Self {
        Self::serve(listener, server, Hold::Each(Duration::ZERO))
    }

    fn serve(listener: TcpListener, server: SocketAddr, hold: Hold) -> Self {
        let address = listener.local_addr().unwrap();
        let (up, down) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (Arc::clone(&up), Arc::clone(&down));
        thread::spawn(move || {
            let mut first = None;
            for client in listener.incoming().map_while(Result::ok) {
                let first = *first.get_or_insert_with(Instant::now);
                let server = TcpStream::connect(server).unwrap();
                server.set_nodelay(true).unwrap();
                client.set_nodelay(true).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let up = Arc::clone(&counts.0);
                thread::spawn(move || carry(from, to, &up, || {}));
                let down = Arc::clone(&counts.1);
                thread::spawn(move || match hold {
                    Hold::Each(delay) => carry(server, client, &down, || thread::sleep(delay)),
                    Hold::Late(late) => carry(server, client, &down, || {
                        thread::sleep((first + late).saturating_duration_since(Instant::now()));
                    }),
                });
            }
        });
        Self { address, up, down }
    }

    /// Bytes that passed towards the server.
    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::SeqCst)
    }

    /// Bytes that passed towards clients.
    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64, hold: impl Fn()) {
    let mut buffer = [0; 65_536];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        hold();
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        count.fetch_add(u64::try_from(bytes).unwrap(), Ordering::SeqCst);
    }
    // The other direction ends as well.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
