//! What is left of a media message for players that stumble over the extras of Enhanced RTMP.
//!
//! Players in browsers end at the first message that they do not know, however well they could have
//! played the rest: video metadata, multichannel layouts, messages that name their track, ModEx.
//! Track 0 of a multitrack message is the stream that such a player can show, so it is given that
//! one as if it were alone. Codecs are not judged, and no codec data is read.

use super::enhanced::{Body, EnhancedHeader, Medium, Packet, packet_type};
use super::message::MediaKind;
use super::wire_message::PayloadPieces;

/// What is left of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// All of it.
    Whole,
    /// One track, under a header of its own.
    Track(PlainTrack),
    /// Nothing that such a player understands.
    Nothing,
}

/// One track of a message, as if there were no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainTrack {
    header: [u8; HEADER_BYTES],
    /// Where in the payload the track's body lies.
    start: usize,
    length: usize,
}

/// Frame and packet type, and FourCC.
const HEADER_BYTES: usize = 5;

impl Plain {
    /// Judges a message by the beginning of its payload, of which its first chunk of
    /// [`CHUNK_BYTES`](super::message::CHUNK_BYTES) is enough, and by the length of all of it.
    #[must_use]
    pub fn of(kind: MediaKind, head: &[u8], payload_bytes: usize) -> Self {
        let medium = match (kind, head.first()) {
            (MediaKind::Video, Some(first)) if first & 0x80 != 0 => Medium::Video,
            (MediaKind::Audio, Some(first)) if first >> 4 == 9 => Medium::Audio,
            _ => return Self::Whole,
        };
        let Some(EnhancedHeader::Packet(packet)) = EnhancedHeader::parse(medium, head) else {
            return Self::Nothing;
        };
        let known = match medium {
            Medium::Audio => packet.packet_type <= packet_type::SEQUENCE_END,
            Medium::Video => packet.packet_type <= packet_type::CODED_FRAMES_X,
        };
        let modified = head.first().is_some_and(|first| first & 0x0F == packet_type::MOD_EX);
        match packet.body {
            _ if !known => Self::Nothing,
            _ if !modified && !packet.multitrack => Self::Whole,
            Some(body) => Self::track(medium, &packet, body, payload_bytes),
            None => Self::Nothing,
        }
    }

    fn track(medium: Medium, packet: &Packet, body: Body, payload_bytes: usize) -> Self {
        let Some(there) = payload_bytes.checked_sub(body.start) else { return Self::Nothing };
        let length = body.length.unwrap_or(there);
        if length > there {
            return Self::Nothing;
        }
        let first = match medium {
            Medium::Audio => 0x90 | packet.packet_type,
            Medium::Video => 0x80 | packet.frame_type << 4 | packet.packet_type,
        };
        let [a, b, c, d] = packet.four_cc;
        Self::Track(PlainTrack { header: [first, a, b, c, d], start: body.start, length })
    }
}

impl PlainTrack {
    /// Bytes of the new payload.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        HEADER_BYTES + self.length
    }

    /// The pieces of the new payload, out of those of the message's.
    pub fn payload<'a>(
        &'a self,
        pieces: PayloadPieces<'a>,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut skip = self.start;
        let mut left = self.length;
        let body = pieces.map(move |piece| {
            let passed = skip.min(piece.len());
            skip -= passed;
            let taken = left.min(piece.len() - passed);
            left -= taken;
            &piece[passed..passed + taken]
        });
        std::iter::once(&self.header[..]).chain(body)
    }
}

#[cfg(test)]
mod tests;
