//! The header of Enhanced RTMP media messages (veovera enhanced-rtmp v2, "Enhanced Video" and
//! "Enhanced Audio"), walked as far as a relay must know it.
//!
//! Codec data is never looked at, and every step is bounded by the bytes that are there. Version 1
//! is the video half of this without ModEx and multitrack.
//!
//! ```text
//!   byte 0: video 1 | frameType 3 | packetType 4         audio 9 (4 bits) | packetType 4
//!   while packetType is ModEx:  size - 1 (1; 255: two more) | data | modExType 4 | packetType 4
//!   video, frameType command, packetType not Metadata:  command (1), end
//!   packetType Multitrack:  multitrackType 4 | packetType 4
//!   [FourCC 4]  per track: [FourCC 4] [trackId 1] [size 3] body
//! ```

use super::media::Tracks;

/// Which of the two headers it is. They differ in byte 0 and in the number for Multitrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Audio,
    Video,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnhancedHeader {
    /// A video command, without codec or body.
    Command,
    /// Anything else.
    Packet(Packet),
}

/// A header with a codec and a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// One of [`packet_type`], or a number that is not known; never ModEx or Multitrack.
    pub(super) packet_type: u8,
    /// 0 for audio.
    pub(super) frame_type: u8,
    /// The codec; where tracks have different ones, that of the default track or else the first.
    pub(super) four_cc: [u8; 4],
    /// The tracks, in order; 0 without multitrack.
    pub(super) tracks: Tracks,
    /// Whether track 0 is among them (also when the list had no room for it).
    pub(super) default_track: bool,
    /// Whether it is a multitrack message, be it of one track.
    pub(super) multitrack: bool,
    /// Where the body of track 0 is, if it is known to be there.
    pub(super) body: Option<Body>,
}

/// Where a track's body lies in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// Its first byte.
    pub(super) start: usize,
    /// Its length; `None` when it reaches to the end of the payload.
    pub(super) length: Option<usize>,
}

/// Packet types. 4 and above mean something else in audio than in video.
pub(super) mod packet_type {
    pub(in crate::wire) const SEQUENCE_START: u8 = 0;
    pub(in crate::wire) const CODED_FRAMES: u8 = 1;
    pub(in crate::wire) const SEQUENCE_END: u8 = 2;
    pub(in crate::wire) const CODED_FRAMES_X: u8 = 3;
    pub(in crate::wire) const VIDEO_METADATA: u8 = 4;
    pub(in crate::wire) const AUDIO_MULTICHANNEL_CONFIG: u8 = 4;
    pub(in crate::wire) const VIDEO_MPEG2TS_SEQUENCE_START: u8 = 5;
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    pub(in crate::wire) const MOD_EX: u8 = 7;
}

/// The frame type of a video command or info frame.
pub(super) const FRAME_TYPE_COMMAND: u8 = 5;

/// Track ids have one byte: a message with more tracks than this repeats itself.
const TRACKS_PER_MESSAGE_MAX: usize = 256;

impl EnhancedHeader {
    /// Walks the header at the start of `head`, a payload or the beginning of a long one. `None`
    /// when it ends too early or breaks a rule. A list of tracks may be cut short: those seen
    /// count.
    pub(super) fn parse(medium: Medium, head: &[u8]) -> Option<Self> {
        let mut rest = Rest(head);
        let first = rest.byte()?;
        let mut packet_type = first & 0x0F;
        while packet_type == packet_type::MOD_EX {
            let mut size = usize::from(rest.byte()?) + 1;
            if size == 256 {
                let [high, low] = rest.take()?;
                size = usize::from(u16::from_be_bytes([high, low])) + 1;
            }
            rest.skip(size)?;
            packet_type = rest.byte()? & 0x0F;
        }
        let (frame_type, multitrack) = match medium {
            Medium::Audio => (0, packet_type::AUDIO_MULTITRACK),
            Medium::Video => ((first >> 4) & 0x07, packet_type::VIDEO_MULTITRACK),
        };
        // FFmpeg sends metadata with the frame type of a command.
        if frame_type == FRAME_TYPE_COMMAND && packet_type != packet_type::VIDEO_METADATA {
            return Some(Self::Command);
        }
        if packet_type == multitrack {
            return rest.multitrack(head.len(), frame_type, multitrack).map(Self::Packet);
        }
        Some(Self::Packet(Packet {
            packet_type,
            frame_type,
            four_cc: rest.four_cc()?,
            tracks: Tracks::one(0),
            default_track: true,
            multitrack: false,
            body: Some(Body { start: head.len() - rest.0.len(), length: None }),
        }))
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// `whole` is the length of what this was at first.
    fn multitrack(&mut self, whole: usize, frame_type: u8, multitrack: u8) -> Option<Packet> {
        let byte = self.byte()?;
        let packet_type = byte & 0x0F;
        if packet_type == multitrack || packet_type == packet_type::MOD_EX {
            return None;
        }
        let (one_track, many_codecs) = match byte >> 4 {
            0 => (true, false),
            1 => (false, false),
            2 => (false, true),
            _ => return None,
        };
        let mut four_cc = if many_codecs { None } else { Some(self.four_cc()?) };
        let mut tracks = Tracks::default();
        let mut default_track = false;
        let mut body = None;
        for _ in 0..TRACKS_PER_MESSAGE_MAX {
            let own = if many_codecs { self.four_cc() } else { four_cc };
            let (Some(own), Some(id)) = (own, self.byte()) else { break };
            if four_cc.is_none() || (id == 0 && !default_track) {
                four_cc = Some(own);
            }
            let is_default = id == 0 && !default_track;
            default_track |= is_default;
            tracks.push(id);
            let length = if one_track { None } else { self.track_length() };
            if is_default && (one_track || length.is_some()) {
                body = Some(Body { start: whole - self.0.len(), length });
            }
            if length.is_none_or(|length| self.skip(length).is_none()) {
                break;
            }
        }
        // Without any track there is no id, and nothing that could be kept for it.
        if tracks.ids().is_empty() {
            return None;
        }
        let (four_cc, multitrack) = (four_cc?, true);
        Some(Packet { packet_type, frame_type, four_cc, tracks, default_track, multitrack, body })
    }

    fn track_length(&mut self) -> Option<usize> {
        let [a, b, c] = self.take()?;
        usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()
    }

    /// Any four printable characters: codecs that do not exist yet have the same header.
    fn four_cc(&mut self) -> Option<[u8; 4]> {
        self.take().filter(|four_cc| four_cc.iter().all(|byte| (0x20..0x7F).contains(byte)))
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }
}
