//! A proxy between a server and its players that does one thing wrong, once to each player.
//!
//! What the client says passes as it is. What the server says is taken apart into messages and put
//! together again, so that a fault is one of messages and not of bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use relay::limits::Limits;
use relay::wire::assembler::{Assembled, MessageAssembler};
use relay::wire::chunk_reader::ChunkReader;
use relay::wire::chunk_writer::write_message;
use relay::wire::control::ControlMessage;
use relay::wire::message::{CHUNK_BYTES, MessageHeader, MessageType};

/// What goes wrong with the twentieth inter frame.
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
}

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
    let mut frames = 0;
    let mut held: Option<Message> = None;
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
            let is_inter = message.header.kind == MessageType::Video
                && message.payload.starts_with(&[0x27, 1]);
            frames += usize::from(is_inter);
            let is_victim = is_inter && frames == VICTIM;
            for message in wronged(message, is_victim, fault, &mut held) {
                out.clear();
                let Message { chunk_stream, header, payload } = &message;
                write_message(&mut out, *chunk_stream, header, payload, CHUNK_BYTES);
                client.write_all(&out).ok()?;
            }
        }
    }
}

/// What is sent in the place of a message.
fn wronged(
    mut message: Message,
    is_victim: bool,
    fault: Fault,
    held: &mut Option<Message>,
) -> Vec<Message> {
    if !is_victim {
        let is_media = matches!(message.header.kind, MessageType::Video | MessageType::Audio);
        let late = if is_media { held.take() } else { None };
        return std::iter::once(message).chain(late).collect();
    }
    match fault {
        Fault::Nothing => vec![message],
        Fault::Drop => Vec::new(),
        Fault::Double => {
            let (chunk_stream, header) = (message.chunk_stream, message.header);
            let again = Message { chunk_stream, header, payload: message.payload.clone() };
            vec![message, again]
        }
        Fault::Delay(span) => {
            thread::sleep(span);
            vec![message]
        }
        Fault::Corrupt => {
            *message.payload.last_mut().unwrap() ^= 0x20;
            vec![message]
        }
        Fault::Reorder => {
            *held = Some(message);
            Vec::new()
        }
    }
}
