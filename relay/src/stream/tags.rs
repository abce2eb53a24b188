//! A log read as FLV: messages become tags, for files that come over HTTP and for WebSockets.
//!
//! What makes the bytes of a segment here is called once per segment and kind of view, never per
//! player. A tag is never cut, so that jumps and slow players stop where they do in chunks; over a
//! WebSocket each tag is a frame of its own.

use bytes::{Bytes, BytesMut};

use super::segment::{Carried, Entry, Segment};
use super::view::ViewKind;
use crate::wire::flv::{FlvHeader, START_BYTES, TAG_BYTES, write_tag_pieces};
use crate::wire::media::Role;
use crate::wire::message::MediaKind;
use crate::wire::plain::Plain;
use crate::wire::timestamp::Timestamp;
use crate::wire::websocket::{HEADER_BYTES_MAX, Opcode, write_header};
use crate::wire::wire_message::{PayloadPieces, WireMessage};

/// How a stream is made into FLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlvForm {
    /// Each tag, and the header before them, is a binary frame of a WebSocket.
    pub websocket: bool,
    /// What of Enhanced RTMP players in browsers stumble over is kept.
    pub extras: bool,
}

/// Most bytes that a message grows by: a tag is longer than a chunk header.
const GROWTH_MAX: usize = TAG_BYTES + HEADER_BYTES_MAX - 12;

/// Bytes of the header that [`put_header`] writes.
pub(super) fn header_bytes(form: FlvForm) -> usize {
    START_BYTES + if form.websocket { 2 } else { 0 }
}

/// Appends what goes before the first tag.
pub(super) fn put_header(out: &mut BytesMut, form: FlvForm, header: FlvHeader) {
    if form.websocket {
        write_header(out, Opcode::Binary, START_BYTES);
    }
    header.write(out);
}

/// Whether anything of a message is shown, by the beginning of its payload and the length of it.
pub(super) fn shows(form: FlvForm, kind: MediaKind, head: &[u8], payload_bytes: usize) -> bool {
    form.extras || Plain::of(kind, head, payload_bytes) != Plain::Nothing
}

/// A segment in tags.
pub(super) fn render(kind: ViewKind, form: FlvForm, source: &Segment) -> Segment {
    let shown = || source.index.iter().filter(|entry| kind.shows(entry.role));
    let most = shown().map(|entry| entry.end() - entry.start() + GROWTH_MAX).sum();
    let mut out = BytesMut::with_capacity(most);
    let mut index = Vec::with_capacity(shown().count());
    for entry in shown() {
        let Some((message, _)) = WireMessage::parse(&source.bytes[entry.start()..entry.end()])
        else {
            continue;
        };
        let start = out.len();
        let header = &message.header;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let pieces = message.payload();
        put(&mut out, (kind, form), message.kind, entry.role, header.timestamp, length, pieces);
        if out.len() > start {
            let length = position(out.len() - start);
            index.push(Entry { offset: position(start), length, ..*entry });
        }
    }
    let mut bytes = Vec::from(out);
    if bytes.len() < bytes.capacity() / 4 * 3 {
        bytes.shrink_to_fit();
    }
    let carried = Carried::of(&index);
    Segment { bytes: Bytes::from(bytes), index: index.into(), carried, ..source.clone() }
}

/// Appends a message of `length` bytes as a tag, or nothing if this kind of view leaves it out.
pub(super) fn put(
    out: &mut BytesMut,
    (kind, form): (ViewKind, FlvForm),
    media: MediaKind,
    role: Role,
    timestamp: Timestamp,
    length: usize,
    pieces: PayloadPieces<'_>,
) {
    let start = out.len();
    // FFmpeg takes metadata at any other time for a track of subtitles.
    let timestamp = if role == Role::Metadata { Timestamp(0) } else { timestamp };
    let head = pieces.clone().next().unwrap_or_default();
    let plain = if form.extras { Plain::Whole } else { Plain::of(media, head, length) };
    match plain {
        Plain::Nothing => return,
        Plain::Whole => {
            put_frame(out, form, length);
            write_tag_pieces(out, media, timestamp, length, pieces);
        }
        Plain::Track(track) => {
            put_frame(out, form, track.payload_bytes());
            let pieces = track.payload(pieces);
            write_tag_pieces(out, media, timestamp, track.payload_bytes(), pieces);
        }
    }
    if role == Role::Metadata {
        for (shown, claim) in [(kind.has_audio(), HAS_AUDIO), (kind.has_video(), HAS_VIDEO)] {
            if !shown {
                set_claim(&mut out[start..], claim, false);
            }
        }
    }
}

/// Makes the metadata of a prelude claim what the header before it does: mpegts.js believes the
/// metadata, and waits for ever for a kind of media that never comes.
pub(super) fn agree(prelude: &mut [u8], header: FlvHeader) {
    set_claim(prelude, HAS_AUDIO, header.audio);
    set_claim(prelude, HAS_VIDEO, header.video);
}

fn put_frame(out: &mut BytesMut, form: FlvForm, payload_bytes: usize) {
    if form.websocket {
        write_header(out, Opcode::Binary, payload_bytes + TAG_BYTES);
    }
}

/// Properties of metadata by which players expect a kind of media, whatever the header says: the
/// key with its length, and the marker of a boolean (AMF0 section 2.3).
const HAS_AUDIO: &[u8] = b"\x00\x08hasAudio\x01";
const HAS_VIDEO: &[u8] = b"\x00\x08hasVideo\x01";

/// Changes a claim, if there is one.
fn set_claim(tag: &mut [u8], claim: &[u8], value: bool) {
    let found = tag.windows(claim.len()).position(|window| window == claim);
    if let Some(claimed) = found.and_then(|at| tag.get_mut(at + claim.len())) {
        *claimed = value.into();
    }
}

fn position(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a segment's tags are little longer than its chunks")
}
