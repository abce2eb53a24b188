//! A proxy between a server and its players that does one thing wrong, once to each player.
//!
//! What the client says passes as it is. What the server says is taken apart into messages and put
//! together again, so that a fault is one of messages and not of bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use loadgen::payload::{Filler, Truth, VideoCodec, video_frame};
use relay::limits::Limits;
use relay::wire::assembler::{Assembled, MessageAssembler};
use relay::wire::chunk_reader::ChunkReader;
use relay::wire::chunk_writer::write_message;
use relay::wire::control::ControlMessage;
use relay::wire::message::{CHUNK_BYTES, MessageHeader, MessageType};

/// What goes wrong: where nothing else is said, with the twentieth inter frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Nothing,
    /// It never comes.
    Drop,
    /// It comes twice.
    Double,
    /// It, and all behind it, waits for so long.
    Delay(Duration),
    /// Its last byte is another.
    Corrupt,
    /// The next one comes first.
    Reorder,
    /// A frame of another stream comes behind it.
    Foreign,
    /// Its timestamp lies half a second back.
    Backward,
    /// From it on every timestamp is 7 ms more.
    Retime,
    /// The sequence header of the video never comes.
    Headless,
    /// The first key frame never comes.
    Keyless,
}

#[derive(Clone)]
struct Message {
    chunk_stream: u32,
    header: MessageHeader,
    payload: Vec<u8>,
}

const VICTIM: usize = 20;

/// Starts a proxy in front of `server`; it ends with the test.
pub(crate) fn start(server: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(server) else { return };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || copy(from, to));
            thread::spawn(move || forward(server, client, fault));
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // One side or the other ends: so does the copying.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Forwards until either side ends.
fn forward(mut server: TcpStream, mut client: TcpStream, fault: Fault) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let mut handshake = [0; 3073];
    server.read_exact(&mut handshake).ok()?;
    client.write_all(&handshake).ok()?;
    let mut out = BytesMut::new();
    let size = u32::try_from(CHUNK_BYTES).unwrap();
    ControlMessage::SetChunkSize(size).write(&mut out);
    client.write_all(&out).ok()?;

    let limits = Limits::default();
    let mut reader = ChunkReader::new(&limits);
    let mut assembler = MessageAssembler::new(&limits);
    assembler.set_publishing(true);
    let mut buffer = vec![0; 65_536];
    let mut wrong = Wrong { fault, inter_frames: 0, key_frames: 0, held: None };
    loop {
        let count = server.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut input = &buffer[..count];
        while let Some(fragment) = reader.next(&mut input).unwrap() {
            let message = match assembler.push(&fragment).unwrap() {
                Some(Assembled::Media { header, message }) => {
                    let payload = message.payload().flatten().copied().collect();
                    Message { chunk_stream: fragment.chunk_stream, header, payload }
                }
                Some(Assembled::Plain { header, payload }) => {
                    if let Ok(Some(ControlMessage::SetChunkSize(size))) =
                        ControlMessage::parse(header.kind, payload)
                    {
                        reader.set_chunk_size(size).unwrap();
                        continue;
                    }
                    let payload = payload.to_vec();
                    Message { chunk_stream: fragment.chunk_stream, header, payload }
                }
                Some(Assembled::Dropped { .. }) | None => continue,
            };
            for message in wrong.pass(message) {
                out.clear();
                let Message { chunk_stream, header, payload } = &message;
                write_message(&mut out, *chunk_stream, header, payload, CHUNK_BYTES);
                client.write_all(&out).ok()?;
            }
        }
    }
}

/// The fault on its way.
struct Wrong {
    fault: Fault,
    inter_frames: usize,
    key_frames: usize,
    held: Option<Message>,
}

impl Wrong {
    /// What is sent in the place of a message.
    fn pass(&mut self, mut message: Message) -> Vec<Message> {
        let is_video = message.header.kind == MessageType::Video;
        let is_media = is_video || message.header.kind == MessageType::Audio;
        let is_inter = is_video && message.payload.starts_with(&[0x27, 1]);
        let is_key = is_video && message.payload.starts_with(&[0x17, 1]);
        let is_header = is_video && message.payload.starts_with(&[0x17, 0]);
        self.inter_frames += usize::from(is_inter);
        self.key_frames += usize::from(is_key);
        let is_victim = is_inter && self.inter_frames == VICTIM;
        match self.fault {
            Fault::Drop if is_victim => return Vec::new(),
            Fault::Headless if is_header => return Vec::new(),
            Fault::Keyless if is_key && self.key_frames == 1 => return Vec::new(),
            Fault::Double if is_victim => return vec![message.clone(), message],
            Fault::Foreign if is_victim => {
                let payload = foreign_frame();
                return vec![message.clone(), Message { payload, ..message }];
            }
            Fault::Reorder if is_victim => {
                self.held = Some(message);
                return Vec::new();
            }
            Fault::Reorder if is_media => {
                return std::iter::once(message).chain(self.held.take()).collect();
            }
            Fault::Delay(span) if is_victim => thread::sleep(span),
            Fault::Corrupt if is_victim => *message.payload.last_mut().unwrap() ^= 0x20,
            Fault::Backward if is_victim => message.header.timestamp.0 -= 500,
            Fault::Retime if is_media && self.inter_frames >= VICTIM => {
                message.header.timestamp.0 += 7;
            }
            _ => {}
        }
        vec![message]
    }
}

/// An inter frame, whole and in order, of stream 77.
fn foreign_frame() -> Vec<u8> {
    let truth = Truth { stream: 77, ..Truth::default() };
    let mut payload = Vec::new();
    video_frame(&mut payload, VideoCodec::H264, false, 500, &truth, &Filler::new(5));
    payload
}
