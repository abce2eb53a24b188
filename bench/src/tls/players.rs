//! Players that count: over RTMP and over RTMPS, in turns, on one server with one publisher.
//!
//! They shake hands and ask to play as every client does, and then throw away what comes: so the
//! load's core can be hundreds of players of TLS, whose bytes it never decrypts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use loadgen::clock;
use loadgen::counting::{Discarded, Discarder};
use relay::limits::Limits;
use relay::session::{ClientEvent, ClientRole, ClientSession, ClientSettings};
use relay::tls::{CertificateFiles, ClientTls, Layer, SealBuffers, Trust};
use serde::Serialize;

use super::cannot;
use super::raw::{self, Raw};
use crate::CannotRun;
use crate::account::cpu_of;
use crate::load::{Habit, Load, Running, Stream};
use crate::place::Place;
use crate::server::{Flush, Kind, OnCore, Server};

/// What is measured.
pub(super) struct Fanout {
    pub(super) kind: Kind,
    pub(super) bits_per_second: u64,
    pub(super) players: usize,
    pub(super) turns: u32,
    pub(super) window: Duration,
}

/// What came of it, the median of all turns.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Delivered {
    pub(super) server: String,
    pub(super) secure: bool,
    /// CPU of the whole server per gigabyte that came.
    pub(super) cpu_per_gb: f64,
    /// Bytes of one send, on average.
    pub(super) bytes_per_send: f64,
}

/// From the players' coming to the measuring, so that all have caught up.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// RTMP and RTMPS, and encrypting by itself, in turns.
pub(super) fn measure(
    fanout: &Fanout,
    files: &CertificateFiles,
    place: &Place,
) -> Result<(Vec<Delivered>, Raw), CannotRun> {
    let settings = [
        ("RELAY_TLS__CERTIFICATES__1__CERTIFICATE", files.certificate.as_path()),
        ("RELAY_TLS__CERTIFICATES__1__KEY", files.key.as_path()),
    ];
    let flush = Flush::Fixed(Duration::from_millis(20));
    let server = Server::start_with(fanout.kind, flush, place, &settings)?;
    let turn = SETTLE + fanout.window + Duration::from_secs(4);
    let publisher = Load {
        stream: Stream { bits_per_second: fanout.bits_per_second },
        streams: 1,
        publishes: true,
        players: 0,
        checking: 0,
        habit: Habit::Eager,
        warmup: Duration::ZERO,
        ramp: Duration::from_secs(1),
        // Longer than all turns can take: it ends with the server.
        window: turn * fanout.turns * 6,
    };
    let _publisher = Running::start(publisher.plan(server.address)?, clock::now())?;
    thread::sleep(Duration::from_secs(3));
    let trust = Trust::Authorities(files.certificate.clone());
    let tls = ClientTls::new(&trust).map_err(|error| cannot("TLS cannot be had", &error))?;
    let mut turns: [Vec<Turn>; 2] = [Vec::new(), Vec::new()];
    let mut raws = Vec::new();
    for number in 0..fanout.turns {
        // First the one, then the other: what a machine drifts by falls on both.
        let first = usize::from(number % 2 == 1);
        for way in [first, 1 - first] {
            let join = |_| player(server.address, Some(&tls).filter(|_| way == 1));
            let sockets = (0..fanout.players).map(join).collect::<Result<_, _>>()?;
            turns[way].push(one_turn(&server, sockets, fanout.window)?);
        }
        let bytes = turns[1].last().map_or(16_384.0, |turn| turn.bytes_per_send);
        let core = OnCore::enter(place.server, place.load())?;
        // A length of a send, so it fits.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length")]
        raws.push(raw::measure(bytes as usize, fanout.players, files, place.load())?);
        drop(core);
    }
    let delivered = turns.map(|turns| {
        let of = |value: fn(&Turn) -> f64| median(turns.iter().map(value).collect());
        (of(|turn| turn.cpu_per_gb), of(|turn| turn.bytes_per_send))
    });
    let row = |(index, (cpu_per_gb, bytes_per_send)): (usize, (f64, f64))| {
        let server = fanout.kind.to_string();
        Delivered { server, secure: index == 1, cpu_per_gb, bytes_per_send }
    };
    let of = |value: fn(&Raw) -> f64| median(raws.iter().map(value).collect());
    let raw = Raw {
        cpu_per_gb: of(|raw| raw.cpu_per_gb),
        beside_per_gb: of(|raw| raw.beside_per_gb),
        sealed_per_gb: of(|raw| raw.sealed_per_gb),
    };
    Ok((delivered.into_iter().enumerate().map(row).collect(), raw))
}

/// What a server took for players that counted for a while.
pub(crate) struct Turn {
    pub(crate) cpu_per_gb: f64,
    pub(crate) bytes_per_send: f64,
}

/// Counts what comes to players whose streams have begun.
pub(crate) fn one_turn(
    server: &Server,
    sockets: Vec<TcpStream>,
    window: Duration,
) -> Result<Turn, CannotRun> {
    let mut discarder = Discarder::default();
    let mut read = |until: Instant| -> Result<usize, CannotRun> {
        let mut bytes = 0;
        while Instant::now() < until {
            for socket in &sockets {
                match discarder.discard(socket) {
                    Ok(Discarded::Bytes { count, .. }) => bytes += count,
                    Ok(Discarded::Nothing) => {}
                    Ok(Discarded::Ended) => {
                        return Err(CannotRun("the server closed a player".to_owned()));
                    }
                    Err(error) => return Err(cannot("a player failed", &error)),
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(bytes)
    };
    read(Instant::now() + SETTLE)?;
    let sends = server.sends().unwrap_or(0.0);
    let cpu = cpu_of(server.id());
    let bytes = read(Instant::now() + window)?;
    let cpu = cpu_of(server.id()).saturating_sub(cpu);
    let sends = server.sends().unwrap_or(0.0) - sends;
    if bytes == 0 {
        return Err(CannotRun("nothing came".to_owned()));
    }
    Ok(Turn {
        cpu_per_gb: cpu.as_secs_f64() * 1e9 / bytes as f64,
        bytes_per_send: bytes as f64 / sends.max(1.0),
    })
}

/// A player whose stream has begun, on a socket that does not block.
pub(crate) fn player(
    address: SocketAddr,
    secure: Option<&ClientTls>,
) -> Result<TcpStream, CannotRun> {
    let wrong = |error: std::io::Error| cannot("a player cannot come", &error);
    let mut socket = TcpStream::connect(address).map_err(wrong)?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).map_err(wrong)?;
    // Small words after each other must not wait for acknowledgements.
    socket.set_nodelay(true).map_err(wrong)?;
    let mut tls = match secure {
        Some(tls) => Some(tls.connect("localhost").map_err(|e| cannot("TLS fails", &e))?),
        None => None,
    };
    let settings = ClientSettings {
        app: "live".to_owned(),
        tc_url: format!("rtmp://{address}/live"),
        name: "loadgen-0".to_owned(),
        role: ClientRole::Play,
        enhanced: false,
    };
    let mut session = ClientSession::new(settings, Arc::new(Limits::default()), 1, Duration::ZERO);
    let (buffers, mut buffer) = (SealBuffers::default(), vec![0; 64 << 10]);
    loop {
        say(&mut socket, &mut session, tls.as_mut(), &buffers)?;
        let count = socket.read(&mut buffer).map_err(wrong)?;
        if count == 0 {
            return Err(CannotRun("the server closed a player that came".to_owned()));
        }
        let mut plain = Vec::new();
        let mut input = match &mut tls {
            Some(tls) => {
                tls.receive(&buffer[..count], &mut plain).map_err(|e| cannot("TLS fails", &e))?;
                plain.as_slice()
            }
            None => &buffer[..count],
        };
        loop {
            match session.next_event(&mut input, Duration::ZERO) {
                Ok(Some(ClientEvent::Started { .. })) => {
                    socket.set_nonblocking(true).map_err(wrong)?;
                    return Ok(socket);
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Err(cannot("a player is refused", &error)),
            }
        }
    }
}

fn say(
    socket: &mut TcpStream,
    session: &mut ClientSession,
    tls: Option<&mut Layer>,
    buffers: &SealBuffers,
) -> Result<(), CannotRun> {
    let wrong = |error: std::io::Error| cannot("a player cannot speak", &error);
    let Some(tls) = tls else {
        return session
            .take_output()
            .map_or(Ok(()), |bytes| socket.write_all(&bytes).map_err(wrong));
    };
    if let Some(bytes) = tls.take_output() {
        socket.write_all(&bytes).map_err(wrong)?;
    }
    if tls.established().is_some()
        && let Some(bytes) = session.take_output()
    {
        let sealed = tls.seal(&[bytes], buffers).map_err(|e| cannot("TLS fails", &e))?;
        socket.write_all(&sealed).map_err(wrong)?;
    }
    Ok(())
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
