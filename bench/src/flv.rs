//! `bench flv`: what a delivered gigabyte costs over HTTP-FLV and WebSocket-FLV beside RTMP.
//!
//! One server with one publisher; players that count come over each in turns, so that the machine's
//! drift falls on all alike. What is compared includes what making the tags costs, which is the
//! same however many read them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use loadgen::clock;
use loadgen::units;
use serde::Serialize;

use crate::load::{Habit, Load, Running, Stream};
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, give_out, number};
use crate::server::{Flush, Kind, Server};
use crate::tls::cannot;
use crate::tls::players::{SETTLE, Turn, median, one_turn, player};
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench flv`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Players at a time.
    #[arg(long, value_name = "N", default_value = "500", value_parser = units::count)]
    players: usize,
    /// Bits per second of the stream.
    #[arg(long, value_name = "RATE", default_value = "2.5M", value_parser = units::bit_rate)]
    bitrate: u64,
    /// How often each is measured, in turns.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// How long to measure at a time, in whole seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// What FLV may cost, in times of RTMP.
const AIM: f64 = 1.10;

/// How players come, in the order of turns.
const WAYS: [&str; 3] = ["RTMP", "HTTP-FLV", "WebSocket-FLV"];

#[derive(Debug, Serialize)]
struct Row {
    server: String,
    way: &'static str,
    cpu_per_gb: f64,
    bytes_per_send: f64,
    /// Of the cost over RTMP: the median of the turns' ratios.
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    bits_per_second: u64,
    players: usize,
    rows: Vec<Row>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("flv")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let kinds: Vec<Kind> = place.relays().collect();
    let progress = Progress::new(kinds.len());
    let mut rows = Vec::new();
    for &kind in &kinds {
        progress.say(format!("fan-out: {kind}"));
        rows.extend(measure(arguments, kind, &place)?);
        progress.step();
    }
    drop(progress);
    let report = Report {
        machine,
        place: place.describe(),
        bits_per_second: arguments.bitrate,
        players: arguments.players,
        rows,
    };
    give_out(&report, arguments.json.as_ref())
}

fn measure(arguments: &Arguments, kind: Kind, place: &Place) -> Result<Vec<Row>, CannotRun> {
    let server = Server::start(kind, Flush::Fixed(Duration::from_millis(20)), place)?;
    let window = Duration::from_secs(arguments.seconds);
    // Players come one after the other.
    let joining = Duration::from_millis(100) * u32::try_from(arguments.players).unwrap_or(u32::MAX);
    let turn = joining + SETTLE + window + Duration::from_secs(4);
    let publisher = Load {
        stream: Stream { bits_per_second: arguments.bitrate },
        streams: 1,
        publishes: true,
        players: 0,
        checking: 0,
        habit: Habit::Eager,
        warmup: Duration::ZERO,
        ramp: Duration::from_secs(1),
        window: turn * arguments.turns * 3,
    };
    let _publisher = Running::start(publisher.plan(server.address)?, clock::now())?;
    thread::sleep(Duration::from_secs(3));
    let mut turns: [Vec<Turn>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..usize::try_from(arguments.turns).unwrap_or(1) {
        for step in 0..WAYS.len() {
            let way = (round + step) % WAYS.len();
            let join = |_| match way {
                0 => player(server.address, None),
                way => flv_player(server.address, way == 2),
            };
            let sockets = (0..arguments.players).map(join).collect::<Result<_, _>>()?;
            turns[way].push(one_turn(&server, sockets, window)?);
        }
    }
    let plain: Vec<f64> = turns[0].iter().map(|turn| turn.cpu_per_gb).collect();
    let row = |(way, turns): (&'static str, &Vec<Turn>)| Row {
        server: kind.to_string(),
        way,
        cpu_per_gb: median(turns.iter().map(|turn| turn.cpu_per_gb).collect()),
        bytes_per_send: median(turns.iter().map(|turn| turn.bytes_per_send).collect()),
        ratio: median(
            turns.iter().zip(&plain).map(|(turn, plain)| turn.cpu_per_gb / plain).collect(),
        ),
    };
    Ok(WAYS.into_iter().zip(&turns).map(row).collect())
}

/// A player of FLV whose stream has begun, on a socket that does not block.
fn flv_player(address: SocketAddr, websocket: bool) -> Result<TcpStream, CannotRun> {
    let wrong = |error: std::io::Error| cannot("a player of FLV cannot come", &error);
    let mut socket = TcpStream::connect(address).map_err(wrong)?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).map_err(wrong)?;
    let upgrade = if websocket {
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    } else {
        ""
    };
    write!(socket, "GET /live/loadgen-0.flv HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n")
        .map_err(wrong)?;
    let mut buffer = vec![0; 64 << 10];
    let mut answer = Vec::new();
    let expected = if websocket { "HTTP/1.1 101 " } else { "HTTP/1.1 200 " };
    while !answer.windows(3).any(|window| window == b"FLV") {
        let count = socket.read(&mut buffer).map_err(wrong)?;
        answer.extend_from_slice(&buffer[..count]);
        if count == 0 || !answer.starts_with(expected.as_bytes()) && answer.len() > 16 {
            return Err(CannotRun("a player of FLV is refused".to_owned()));
        }
    }
    socket.set_nonblocking(true).map_err(wrong)?;
    Ok(socket)
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        let rate = units::show_rate(self.bits_per_second as f64);
        writeln!(out, "{} players of {rate} that count; flush 20 ms; medians\n", self.players)?;
        let mut table =
            Table::new(&["server", "players", "CPU s/GB", "bytes per send", "of RTMP", ""]);
        for row in &self.rows {
            table.row(vec![
                row.server.clone(),
                row.way.to_owned(),
                number(row.cpu_per_gb),
                number(row.bytes_per_send),
                format!("{:.3}", row.ratio),
                if row.ratio > AIM { "above the aim".to_owned() } else { String::new() },
            ]);
        }
        table.write(out)?;
        writeln!(out, "\naim: FLV at most {AIM} x RTMP")
    }

    /// Its players count bytes and do not check them.
    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(Outcome::Met)
    }
}
