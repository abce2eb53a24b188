//! Bodies of the fuzz targets of this room: plain functions that take any bytes and must not panic.
//!
//! Each checks more than that: what is read must not depend on how the bytes were cut, and what is
//! written must be read back.

use bytes::{Bytes, BytesMut};

use super::aggregate::AggregateParts;
use super::assembler::{AssembleError, Assembled, MessageAssembler};
use super::chunk_reader::{ChunkError, ChunkReader};
use super::control::ControlMessage;
use super::flv::{FlvError, FlvHeader, FlvReader, FlvTag, write_tag};
use super::handshake::{
    ClientHandshake, HandshakeError, HandshakeProgress, Schema, ServerHandshake,
};
use super::media::{Role, classify_audio, classify_video, codec};
use super::message::{MediaKind, MediaMessage, MessageHeader, MessageType};
use super::needs::add_needs;
use super::plain::Plain;
use super::timestamp::Timestamp;
use super::websocket::{CONTROL_BYTES_MAX, ClientFrame, FrameReader};
use super::wire_message::{PayloadPieces, WireMessage};
use crate::limits::Limits;

/// Chunks of a peer through reader and assembler. The first byte says how the rest is cut.
pub fn chunk_reader(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let whole = read(data, data.len());
    let cut = read(data, usize::from(cut % 32) + 1);
    assert_eq!(whole, cut, "the same however the bytes are cut");
}

/// All handshakes, cut as the first byte says.
pub fn handshake(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let run = |piece_bytes: usize| {
        let mut server = ServerHandshake::new(1);
        let server = shake(data, piece_bytes, |input| server.receive(input));
        let clients = [
            ClientHandshake::new(1),
            ClientHandshake::with_digest(Schema::KeyFirst, 1),
            ClientHandshake::with_digest(Schema::DigestFirst, 1),
        ];
        (server, clients.map(|mut client| shake(data, piece_bytes, |input| client.receive(input))))
    };
    assert_eq!(run(data.len()), run(usize::from(cut) + 1), "the same however the bytes are cut");
}

/// Classification of audio and video, and what their headers ask of players.
pub fn media_header(data: &[u8]) {
    let mut needs = Vec::new();
    for role in [Role::VideoHeader, Role::VideoMetadata, Role::AudioHeader, Role::Metadata] {
        add_needs(&mut needs, role, data);
        assert!(needs.iter().all(|need| !need.to_string().is_empty()));
    }
    let audio = classify_audio(data);
    let video = classify_video(data);
    assert!(audio.is_none_or(|class| class.role.is_audio()));
    assert!(video.is_none_or(|class| class.role.is_video()));
    for kind in [MediaKind::Audio, MediaKind::Video, MediaKind::Data] {
        assert!(codec(kind, data).is_none_or(|codec| !codec.name().is_empty()));
        if let Plain::Track(track) = Plain::of(kind, data, data.len()) {
            let left = track.payload(PayloadPieces::whole(data)).flatten().copied();
            let left: Vec<u8> = left.collect();
            assert_eq!(left.len(), track.payload_bytes());
            assert_eq!(Plain::of(kind, &left, left.len()), Plain::Whole, "no extras are left");
        }
    }
}

/// Frames of a WebSocket's client, cut as the first byte says.
pub fn websocket(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let run = |piece_bytes: usize| {
        let mut reader = FrameReader::new(1_000);
        let mut frames = Vec::new();
        for mut input in data.chunks(piece_bytes.max(1)) {
            loop {
                match reader.next(&mut input) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert!(input.is_empty(), "nothing is left to be kept");
        }
        (frames, None)
    };
    let whole = run(data.len());
    for frame in &whole.0 {
        assert!(!matches!(frame, ClientFrame::Ping(payload) if payload.len() > CONTROL_BYTES_MAX));
    }
    assert_eq!(whole, run(usize::from(cut % 32) + 1), "the same however the bytes are cut");
}

/// A control message of the type that the first byte says.
pub fn control(data: &[u8]) {
    let Some((&kind, payload)) = data.split_first() else { return };
    let kind = MessageType::from_id(kind);
    let Ok(Some(message)) = ControlMessage::parse(kind, payload) else { return };
    let mut out = BytesMut::new();
    message.write(&mut out);
    assert_eq!(ControlMessage::parse(kind, &out[12..]), Ok(Some(message)), "read as written");
}

/// The parts of an aggregate message.
pub fn aggregate(data: &[u8]) {
    let aggregate = MessageHeader {
        timestamp: Timestamp(0),
        length: 0,
        kind: MessageType::Aggregate,
        message_stream: 1,
    };
    let limits = Limits::default();
    let parts = AggregateParts::new(&aggregate, data, &limits);
    let bytes: usize = parts.map(|part| part.payload.len() + 11).sum();
    assert!(bytes <= data.len(), "parts do not overlap");
}

/// FLV, cut as the first byte says; and what was read of it, written and read again.
pub fn flv(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let whole = read_flv(data, data.len());
    let cut = read_flv(data, usize::from(cut % 32) + 1);
    assert_eq!(whole, cut, "the same however the bytes are cut");
    let Some(header) = whole.header else { return };
    let mut out = BytesMut::new();
    header.write(&mut out);
    for tag in &whole.tags {
        write_tag(&mut out, tag.kind, tag.timestamp, &tag.payload);
    }
    let again = ReadFlv { header: Some(header), tags: whole.tags, dropped: 0, error: None };
    assert_eq!(read_flv(&out, out.len()), again, "read as written");
}

/// Wire bytes that may be a message in our own layout.
pub fn wire_message(data: &[u8]) {
    let Some((message, rest)) = WireMessage::parse(data) else { return };
    assert_eq!(message.bytes.len() + rest.len(), data.len());
    let payload = message.payload().flatten().copied().collect::<Vec<_>>();
    let Some(class) = classify_audio(&[]) else { return };
    let timestamp = message.header.timestamp;
    let written = MediaMessage::new(message.kind, class, timestamp, &payload).take();
    let (written, _) = WireMessage::parse(&written).expect("what was written is read");
    assert!(written.payload().flatten().eq(&payload));
}

/// All that came out, and the error that ended it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    messages: Vec<(MessageHeader, Bytes)>,
    chunk_error: Option<ChunkError>,
    assemble_error: Option<AssembleError>,
}

fn read(data: &[u8], piece_bytes: usize) -> Read {
    let limits = Limits::default();
    let mut reader = ChunkReader::new(&limits);
    let mut assembler = MessageAssembler::new(&limits);
    let mut read = Read::default();
    for mut input in data.chunks(piece_bytes.max(1)) {
        loop {
            let fragment = match reader.next(&mut input) {
                Ok(Some(fragment)) => fragment,
                Ok(None) => break,
                Err(error) => {
                    read.chunk_error = Some(error);
                    return read;
                }
            };
            let (header, payload) = match assembler.push(&fragment) {
                Ok(Some(Assembled::Media { header, message })) => (header, message.take()),
                Ok(Some(Assembled::Plain { header, payload })) => {
                    (header, Bytes::copy_from_slice(payload))
                }
                Ok(Some(Assembled::Dropped { header, .. })) => (header, Bytes::new()),
                Ok(None) => continue,
                Err(error) => {
                    read.assemble_error = Some(error);
                    return read;
                }
            };
            match ControlMessage::parse(header.kind, &payload) {
                Ok(Some(ControlMessage::SetChunkSize(size))) => {
                    read.chunk_error = reader.set_chunk_size(size).err();
                }
                Ok(Some(ControlMessage::Abort { chunk_stream })) => {
                    if let Some(slot) = reader.abort(chunk_stream) {
                        assembler.abort(slot);
                    }
                }
                _ => {}
            }
            read.messages.push((header, payload));
            if read.chunk_error.is_some() {
                return read;
            }
        }
        assert!(input.is_empty(), "all input is consumed");
    }
    read
}

/// All that came out of FLV, and the error that ended it.
#[derive(Debug, PartialEq, Eq)]
struct ReadFlv {
    header: Option<FlvHeader>,
    tags: Vec<FlvTag>,
    dropped: usize,
    error: Option<FlvError>,
}

fn read_flv(data: &[u8], piece_bytes: usize) -> ReadFlv {
    let mut reader = FlvReader::new(&Limits::default());
    let (mut input, mut tags, mut error) = (BytesMut::new(), Vec::new(), None);
    for piece in data.chunks(piece_bytes.max(1)) {
        input.extend_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(tag)) => tags.push(tag),
                Ok(None) => break,
                Err(wrong) => {
                    error = Some(wrong);
                    break;
                }
            }
        }
    }
    ReadFlv { header: reader.header(), tags, dropped: reader.dropped(), error }
}

/// What a handshake said, and how many bytes it left.
type Shaken = (Vec<HandshakeProgress>, usize, Option<HandshakeError>);

fn shake(
    data: &[u8],
    piece_bytes: usize,
    mut receive: impl FnMut(&mut &[u8]) -> Result<HandshakeProgress, HandshakeError>,
) -> Shaken {
    let mut said = Vec::new();
    let mut left = 0;
    for mut input in data.chunks(piece_bytes.max(1)) {
        loop {
            match receive(&mut input) {
                Ok(HandshakeProgress::More) => break,
                Ok(HandshakeProgress::Done) => {
                    left += input.len();
                    break;
                }
                Ok(reply) => said.push(reply),
                Err(error) => return (said, left, Some(error)),
            }
        }
    }
    (said, left, None)
}

#[cfg(test)]
mod tests;
