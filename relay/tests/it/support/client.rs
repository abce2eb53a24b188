//! A small RTMP client over a plain socket: plays, publishes, and misbehaves on demand.
//!
//! Real players hide what they receive. This one hands over every message as it came, and lets a
//! test stop reading, read slowly, or send bytes that no real client would.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};

use super::amf::{self, Value};
use super::chunk::{self, ChunkReader, Message};
use super::packets::{Packet, Recording};

/// Every answer of a server in order must have come after this time.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Chunk size of what the client writes, announced before the first command.
const CHUNK_BYTES: usize = 4096;

/// Why no message came.
#[derive(Debug)]
pub(crate) enum Quiet {
    /// Nothing yet.
    Timeout,
    /// The connection has ended.
    Closed,
}

/// One connection to a server.
pub(crate) struct Client {
    socket: TcpStream,
    reader: ChunkReader,
    received: u32,
    acknowledged: u32,
    window_bytes: u32,
}

impl Client {
    /// Connects and shakes hands.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    /// The same with a receive buffer of `bytes`, so that the kernel does not read in our place.
    pub(crate) fn open_narrow(address: SocketAddr, bytes: usize) -> io::Result<Self> {
        Self::over(Self::narrow(address, bytes)?)
    }

    /// A connection with such a buffer, on which nothing was said yet.
    pub(crate) fn narrow(address: SocketAddr, bytes: usize) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(bytes)?;
        socket.connect(&address.into())?;
        Ok(socket.into())
    }

    /// Shakes hands (RTMP 1.0 section 5.2) over a connection that is there.
    pub(crate) fn over(mut socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        let mut hello = vec![0; 1537];
        hello[0] = 3;
        socket.write_all(&hello)?;
        let mut answer = vec![0; 1 + 1536 + 1536];
        socket.read_exact(&mut answer)?;
        if answer[0] != 3 || answer[1 + 1536 + 8..] != hello[9..] {
            return Err(io::Error::other("the server's handshake is wrong"));
        }
        socket.write_all(&answer[1..1537])?;
        Ok(Self::bare(socket))
    }

    /// A connection on which no handshake is made, or was made elsewhere.
    pub(crate) fn bare(socket: TcpStream) -> Self {
        let reader = ChunkReader::new();
        Self { socket, reader, received: 0, acknowledged: 0, window_bytes: u32::MAX }
    }

    /// The connection alone, for who only counts what comes.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("a connected socket has an address")
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends one message.
    pub(crate) fn message(&mut self, kind: u8, time_ms: u32, stream: u32, payload: &[u8]) {
        let chunk_stream = match kind {
            1..=6 => 2,
            8 => 4,
            9 => 6,
            20 => 3,
            _ => 5,
        };
        let bytes = chunk::write(chunk_stream, time_ms, kind, stream, payload, CHUNK_BYTES);
        // A server that closed meanwhile is noticed when its answer does not come.
        let _ = self.send(&bytes);
    }

    /// Connects to the application `app` and makes message stream 1.
    pub(crate) fn enter(&mut self, app: &str) -> Result<(), String> {
        let url = format!("rtmp://127.0.0.1/{app}");
        self.enter_with(&[
            ("app", Value::String(app)),
            ("type", Value::String("nonprivate")),
            ("flashVer", Value::String("LNX 9,0,124,2")),
            ("tcUrl", Value::String(&url)),
        ])
    }

    /// The same with properties of the test's own.
    pub(crate) fn enter_with(&mut self, properties: &[(&str, Value<'_>)]) -> Result<(), String> {
        let size = u32::try_from(CHUNK_BYTES).expect("small");
        self.message(1, 0, 0, &size.to_be_bytes());
        let connect = [Value::String("connect"), Value::Number(1.0), Value::Object(properties)];
        self.message(20, 0, 0, &amf::bytes(&connect));
        self.answer("NetConnection.Connect.Success")?;
        let create = [Value::String("createStream"), Value::Number(2.0), Value::Null];
        self.message(20, 0, 0, &amf::bytes(&create));
        self.wait_for("the answer to createStream", |message| {
            message.kind == 20 && amf::command_name(&message.payload) == Some("_result")
        })
    }

    pub(crate) fn play(&mut self, name: &str) -> Result<(), String> {
        self.play_with(&[Value::String(name)])
    }

    /// The same with arguments of the test's own.
    pub(crate) fn play_with(&mut self, arguments: &[Value<'_>]) -> Result<(), String> {
        let play = [Value::String("play"), Value::Number(3.0), Value::Null];
        self.message(20, 0, 1, &amf::bytes(&[&play, arguments].concat()));
        self.answer("NetStream.Play.Start")
    }

    pub(crate) fn publish(&mut self, name: &str) -> Result<(), String> {
        self.ask_to_publish(name);
        self.answer("NetStream.Publish.Start")
    }

    /// The same without waiting for the answer.
    pub(crate) fn ask_to_publish(&mut self, name: &str) {
        let name = Value::String(name);
        let values = [
            Value::String("publish"),
            Value::Number(3.0),
            Value::Null,
            name,
            Value::String("live"),
        ];
        self.message(20, 0, 1, &amf::bytes(&values));
    }

    /// Everything that a client says up to `play`, for one that waits for no answer.
    pub(crate) fn eager_play(app: &str, name: &str) -> Vec<u8> {
        let url = format!("rtmp://127.0.0.1/{app}");
        let properties = [("app", Value::String(app)), ("tcUrl", Value::String(&url))];
        let connect = [Value::String("connect"), Value::Number(1.0), Value::Object(&properties)];
        let create = [Value::String("createStream"), Value::Number(2.0), Value::Null];
        let play = [Value::String("play"), Value::Number(3.0), Value::Null, Value::String(name)];
        let mut bytes = vec![0; 1 + 1536 + 1536];
        bytes[0] = 3;
        for (stream, values) in [(0, &connect[..]), (0, &create[..]), (1, &play[..])] {
            // Chunks of the size that holds before anything was said.
            bytes.extend(chunk::write(3, 0, 20, stream, &amf::bytes(values), 128));
        }
        bytes
    }

    /// Waits for a message with the status `code`.
    fn answer(&mut self, code: &str) -> Result<(), String> {
        self.wait_for(code, |message| {
            message.kind == 20 && amf::status_code(&message.payload) == Some(code)
        })
    }

    fn wait_for(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Result<(), String> {
        let end = Instant::now() + ANSWER_MAX;
        loop {
            match self.next(end)? {
                Ok(message) if fits(&message) => return Ok(()),
                Ok(_) => {}
                Err(quiet) => return Err(format!("{quiet:?} instead of {what}")),
            }
        }
    }

    /// The next message, waited for until `end`. Pings are answered and bytes acknowledged on the
    /// way. Bytes that are no chunk stream are an error.
    pub(crate) fn next(&mut self, end: Instant) -> Result<Result<Message, Quiet>, String> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(message) = self.reader.next()? {
                self.keep_company(&message);
                return Ok(Ok(message));
            }
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("a timeout above zero is fine");
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(Err(Quiet::Closed)),
                Ok(count) => {
                    self.reader.feed(&buffer[..count]);
                    self.received =
                        self.received.wrapping_add(u32::try_from(count).expect("small"));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(Err(Quiet::Timeout)),
                    ErrorKind::Interrupted => {}
                    _ => return Ok(Err(Quiet::Closed)),
                },
            }
        }
    }

    fn keep_company(&mut self, message: &Message) {
        match (message.kind, message.payload.as_slice()) {
            (5, [a, b, c, d]) => self.window_bytes = u32::from_be_bytes([*a, *b, *c, *d]),
            (4, [0, 6, time @ ..]) => self.message(4, 0, 0, &[&[0, 7], time].concat()),
            _ => {}
        }
        if self.received.wrapping_sub(self.acknowledged) >= self.window_bytes / 2 {
            self.acknowledged = self.received;
            self.message(3, 0, 0, &self.received.to_be_bytes());
        }
    }

    /// Waits until the server has closed the connection, throwing away what still comes.
    pub(crate) fn wait_closed(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut buffer = [0; 4096];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("a timeout above zero is fine");
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return true,
                },
            }
        }
        false
    }
}

/// A client that plays one stream and keeps account of what comes.
pub(crate) struct Player {
    client: Client,
    pub(crate) recording: Recording,
    /// Over the chunks of all audio, video and data messages, as they came.
    bytes: Sha256,
    /// How often the stream was said to have ended.
    pub(crate) ends: usize,
}

impl Player {
    pub(crate) fn join(mut client: Client, app: &str, name: &str) -> Result<Self, String> {
        client.enter(app)?;
        client.play(name)?;
        let recording = Recording::default();
        Ok(Self { client, recording, bytes: Sha256::new(), ends: 0 })
    }

    /// Reads until `end`, or until `enough` says so. Gives `Closed` when the server has closed.
    pub(crate) fn read(
        &mut self,
        end: Instant,
        mut enough: impl FnMut(&Self) -> bool,
    ) -> Result<Quiet, String> {
        while Instant::now() < end && !enough(self) {
            match self.client.next(end)? {
                Ok(message) => self.note(&message),
                Err(quiet) => return Ok(quiet),
            }
        }
        Ok(Quiet::Timeout)
    }

    /// The hash of every audio, video and data chunk that came, headers included.
    pub(crate) fn bytes_hash(&self) -> [u8; 32] {
        self.bytes.clone().finalize().into()
    }

    fn note(&mut self, message: &Message) {
        match message.kind {
            8 | 9 | 18 => {
                self.bytes.update(&message.wire);
                let packet = Packet::new(message.kind, message.time_ms, &message.payload);
                self.recording.0.push(packet);
            }
            20 if amf::status_code(&message.payload) == Some("NetStream.Play.UnpublishNotify") => {
                self.ends += 1;
            }
            _ => {}
        }
    }
}
