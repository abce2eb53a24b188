//! A client of RTMP inside HTTP (RTMPT), written from the description of the requests alone.
//!
//! Real clients keep to one connection and one request at a time. This one spreads its requests
//! over many connections, sends several at once, stops in the middle, says things twice, and speaks
//! HTTP/1.0, as it is told. [`Bridge`] lets a plain RTMP client speak through it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::client::Client;

/// How requests are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Connections that take turns.
    pub(crate) connections: usize,
    /// Requests sent at once on one connection, before the first answer is read.
    pub(crate) at_once: usize,
    /// HTTP/1.0, one request for each connection.
    pub(crate) old: bool,
    /// Every so manieth request breaks off in its middle and is made again elsewhere.
    pub(crate) cut: Option<u64>,
    /// The connection of one that breaks off stays open, as when a network loses it in silence.
    pub(crate) silent: bool,
    /// Those sent at once each go by a connection of their own, the last one first.
    pub(crate) races: bool,
    /// Every so manieth request is made twice.
    pub(crate) twice: Option<u64>,
    /// The first number.
    pub(crate) first: u64,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            connections: 1,
            at_once: 1,
            old: false,
            cut: None,
            silent: false,
            races: false,
            twice: None,
            first: 0,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// One session.
pub(crate) struct Tunnel {
    pub(crate) address: SocketAddr,
    manner: Manner,
    pub(crate) id: String,
    pub(crate) number: u64,
    sockets: Vec<Option<TcpStream>>,
    turn: usize,
    requests: u64,
    /// Connections that were left open.
    left: Vec<TcpStream>,
}

/// Every answer must have come after this time.
const ANSWER_MAX: Duration = Duration::from_secs(20);

impl Tunnel {
    /// Opens a session.
    pub(crate) fn open(address: SocketAddr, manner: Manner) -> Result<Self, String> {
        let mut socket = connect(address)?;
        let answer = post(&mut socket, &manner, "/open/1", &[0])?;
        if answer.status != 200 {
            return Err(format!("open was answered {}", answer.status));
        }
        let text = String::from_utf8(answer.body).map_err(|_| "the id is no text")?;
        let id = text.strip_suffix('\n').ok_or("no newline behind the id")?.to_owned();
        let sockets = (0..manner.connections).map(|_| None).collect();
        let number = manner.first;
        Ok(Self { address, manner, id, number, sockets, turn: 0, requests: 0, left: Vec::new() })
    }

    /// Says `bytes`, or only asks when there are none. Gives what the server has to say.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let parts = self.manner.at_once.min(bytes.len()).max(1);
        let length = bytes.len().div_ceil(parts).max(1);
        let mut pieces: Vec<&[u8]> = bytes.chunks(length).collect();
        // Others that only ask go along.
        pieces.resize(self.manner.at_once, &[]);
        let requests: Vec<(String, Vec<u8>)> = pieces
            .iter()
            .zip(self.number..)
            .map(|(piece, number)| match piece.is_empty() {
                true => (format!("/idle/{}/{number}", self.id), vec![0]),
                false => (format!("/send/{}/{number}", self.id), piece.to_vec()),
            })
            .collect();
        self.number += requests.len() as u64;
        self.requests += 1;
        let nth =
            |every: Option<u64>| every.is_some_and(|every| self.requests.is_multiple_of(every));
        let (cut, twice) = (nth(self.manner.cut), nth(self.manner.twice));
        if cut {
            // The head and half of the body, and the connection is gone.
            let (target, body) = &requests[0];
            let mut socket = connect(self.address)?;
            let whole = render(&self.manner, target, body);
            let until = whole.len() - body.len().div_ceil(2);
            socket.write_all(&whole[..until]).map_err(|error| error.to_string())?;
            thread::sleep(Duration::from_millis(30));
            if self.manner.silent {
                self.left.push(socket);
                self.left.drain(..self.left.len().saturating_sub(LEFT_MAX));
            }
        }
        let manner = self.manner;
        if manner.races {
            return self.race(&requests);
        }
        let mut socket = self.take_socket()?;
        let all: Vec<u8> =
            requests.iter().flat_map(|(target, body)| render(&manner, target, body)).collect();
        socket.write_all(&all).map_err(|error| error.to_string())?;
        let mut said = Vec::new();
        let mut last = Vec::new();
        for (target, _) in &requests {
            let answer = read_answer(&mut socket)?;
            if answer.status != 200 {
                return Err(format!("{target} was answered {}", answer.status));
            }
            said.extend_from_slice(rtmp_of(&answer)?);
            last = answer.body;
        }
        if twice {
            let (target, body) = requests.last().expect("at least one");
            let again = post(&mut connect(self.address)?, &manner, target, body)?;
            if again.status != 200 || again.body != last {
                return Err(format!("asked again, it was {} and another answer", again.status));
            }
        }
        if !manner.old {
            self.sockets[self.turn] = Some(socket);
        }
        self.turn = (self.turn + 1) % self.sockets.len();
        Ok(said)
    }

    /// Makes requests by a connection each, the last one first.
    fn race(&mut self, requests: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
        let mut sockets = Vec::new();
        for (target, body) in requests.iter().rev() {
            let mut socket = connect(self.address)?;
            let request = render(&self.manner, target, body);
            socket.write_all(&request).map_err(|error| error.to_string())?;
            thread::sleep(Duration::from_millis(5));
            sockets.push(socket);
        }
        let mut said = Vec::new();
        for (target, _) in requests {
            let mut socket = sockets.pop().ok_or("a socket for each request")?;
            let answer = read_answer(&mut socket)?;
            if answer.status != 200 {
                return Err(format!("{target} was answered {}", answer.status));
            }
            said.extend_from_slice(rtmp_of(&answer)?);
        }
        Ok(said)
    }

    /// Ends the session.
    pub(crate) fn close(mut self) -> Result<(), String> {
        let target = format!("/close/{}/{}", self.id, self.number);
        let answer = post(&mut self.take_socket()?, &self.manner, &target, &[0])?;
        match (answer.status, answer.body.as_slice()) {
            (200, [0]) => Ok(()),
            other => Err(format!("close was answered {other:?}")),
        }
    }

    fn take_socket(&mut self) -> Result<TcpStream, String> {
        match self.sockets[self.turn].take() {
            Some(socket) => Ok(socket),
            None => connect(self.address),
        }
    }
}

/// A plain connection on this machine whose bytes go through a tunnel.
pub(crate) struct Bridge {
    end: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<Tunnel, String>>>,
}

impl Bridge {
    /// A plain client, hands shaken, and what carries it.
    pub(crate) fn client(address: SocketAddr, manner: Manner) -> Result<(Client, Self), String> {
        let say = |error: io::Error| error.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").map_err(say)?;
        let near = TcpStream::connect(listener.local_addr().map_err(say)?).map_err(say)?;
        let (far, _) = listener.accept().map_err(say)?;
        let tunnel = Tunnel::open(address, manner)?;
        let end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&end);
        let thread = thread::spawn(move || carry(far, tunnel, &ends));
        let bridge = Self { end, thread: Some(thread) };
        Ok((Client::over(near).map_err(say)?, bridge))
    }

    /// Stops carrying, and gives the session, which is still open.
    pub(crate) fn stop(mut self) -> Result<Tunnel, String> {
        self.end.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().map_err(|_| "the bridge panicked")?
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn carry(mut near: TcpStream, mut tunnel: Tunnel, end: &AtomicBool) -> Result<Tunnel, String> {
    near.set_read_timeout(Some(Duration::from_millis(2))).map_err(|error| error.to_string())?;
    let mut buffer = vec![0; 64 * 1024];
    while !end.load(Ordering::Relaxed) {
        let count = match near.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => 0,
                _ => break,
            },
        };
        let said = tunnel.exchange(&buffer[..count])?;
        if near.write_all(&said).is_err() {
            break;
        }
    }
    Ok(tunnel)
}

pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let set = socket.set_nodelay(true).and(socket.set_read_timeout(Some(ANSWER_MAX)));
    set.map_err(|error| error.to_string())?;
    Ok(socket)
}

/// Connections that are left open at a time.
const LEFT_MAX: usize = 8;

/// What an answer holds behind the byte that says how often to ask.
fn rtmp_of(answer: &Answer) -> Result<&[u8], String> {
    match answer.body.split_first() {
        Some((1..=33, rest)) => Ok(rest),
        other => Err(format!("{other:?} begins an answer")),
    }
}

/// One request and its answer.
pub(crate) fn post(
    socket: &mut TcpStream,
    manner: &Manner,
    target: &str,
    body: &[u8],
) -> Result<Answer, String> {
    socket.write_all(&render(manner, target, body)).map_err(|error| error.to_string())?;
    read_answer(socket)
}

fn render(manner: &Manner, target: &str, body: &[u8]) -> Vec<u8> {
    let version = if manner.old { "1.0" } else { "1.1" };
    let host = if manner.old { "" } else { "Host: tunnel\r\n" };
    let length = body.len();
    let head = format!("POST {target} HTTP/{version}\r\n{host}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Reads an answer as librtmp does: by the very letters of the status line and of the length.
pub(crate) fn read_answer(socket: &mut TcpStream) -> Result<Answer, String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => return Err(format!("closed after {:?}", String::from_utf8_lossy(&head))),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("{error} instead of an answer")),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| format!("no status in {head:?}"))?;
    let from = head.find("Content-").ok_or("no length")?;
    let length = head[from..].strip_prefix("Content-Length: ").ok_or("the length is not first")?;
    let length = length.split('\r').next().and_then(|digits| digits.parse().ok());
    let mut body = vec![0; length.ok_or("the length is no number")?];
    socket.read_exact(&mut body).map_err(|error| format!("{error} within a body"))?;
    Ok(Answer { status, head, body })
}
