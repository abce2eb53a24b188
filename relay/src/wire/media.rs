//! What a relay must know of a media message, and nothing more: its role in the stream, the tracks
//! that it touches, and the name of its codec.
//!
//! No bit of codec data is read. What is not understood is relayed, and neither kept nor joined at.

use super::enhanced::{EnhancedHeader, FRAME_TYPE_COMMAND, Medium, Packet, packet_type};
use super::message::MediaKind;

/// A message's role, by which logs, joins and caches are governed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A video key frame (coded).
    KeyFrame,
    /// A key frame message without track 0 (coded): a place to join only in a stream that has no
    /// such track. Whoever knows the stream makes it one of its two neighbours.
    TrackKeyFrame,
    /// A video frame that needs earlier ones (coded).
    InterFrame,
    /// Video codec configuration.
    VideoHeader,
    /// End of a video sequence.
    VideoEnd,
    /// Video metadata such as colorInfo (E-RTMP packet type 4).
    VideoMetadata,
    /// A video command or info frame (frame type 5): relayed, never kept.
    VideoCommand,
    /// Video that is not understood: relayed, never kept, never a join point.
    VideoOpaque,
    /// Audio codec configuration.
    AudioHeader,
    /// Multichannel layout (E-RTMP audio packet type 4).
    AudioChannels,
    /// End of an audio sequence.
    AudioEnd,
    /// Coded audio, or silence (an empty message).
    AudioFrame,
    /// `onMetaData`, without `@setDataFrame`.
    Metadata,
    /// Other data (`onTextData`, `onCuePoint`): relayed, never kept.
    Data,
}

impl Role {
    /// Whether this belongs to video.
    #[must_use]
    pub fn is_video(self) -> bool {
        matches!(
            self,
            Self::KeyFrame
                | Self::TrackKeyFrame
                | Self::InterFrame
                | Self::VideoHeader
                | Self::VideoEnd
                | Self::VideoMetadata
                | Self::VideoCommand
                | Self::VideoOpaque
        )
    }

    /// Whether this belongs to audio.
    #[must_use]
    pub fn is_audio(self) -> bool {
        matches!(self, Self::AudioHeader | Self::AudioChannels | Self::AudioEnd | Self::AudioFrame)
    }

    /// Whether this is coded media, whose timestamp says where the stream is (headers and metadata
    /// often carry 0).
    #[must_use]
    pub fn is_coded(self) -> bool {
        matches!(
            self,
            Self::KeyFrame
                | Self::TrackKeyFrame
                | Self::InterFrame
                | Self::VideoOpaque
                | Self::AudioFrame
        )
    }

    /// Whether joining players need the newest message of this role (per track).
    #[must_use]
    pub fn is_kept(self) -> bool {
        matches!(
            self,
            Self::Metadata
                | Self::VideoHeader
                | Self::VideoMetadata
                | Self::AudioHeader
                | Self::AudioChannels
        )
    }
}

/// The track ids that one message names; one unless it is an E-RTMP multitrack message. Ids beyond
/// [`Tracks::MAX`] are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tracks {
    ids: [u8; Self::MAX],
    len: u8,
}

impl Tracks {
    /// Most ids listed.
    pub const MAX: usize = 16;

    /// A message of one track.
    #[must_use]
    pub fn one(id: u8) -> Self {
        let mut tracks = Self::default();
        tracks.push(id);
        tracks
    }

    /// Adds an id unless it is there or the list is full.
    pub fn push(&mut self, id: u8) {
        if !self.ids().contains(&id) && usize::from(self.len) < Self::MAX {
            self.ids[usize::from(self.len)] = id;
            self.len += 1;
        }
    }

    /// The ids, in order of appearance.
    #[must_use]
    pub fn ids(&self) -> &[u8] {
        &self.ids[..usize::from(self.len)]
    }
}

/// What classification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// The role; a message of several tracks has one role for all of them.
    pub role: Role,
    /// The tracks named.
    pub tracks: Tracks,
}

/// Classifies a video message (type 9) by the beginning of its payload; its first chunk of
/// [`CHUNK_BYTES`](super::message::CHUNK_BYTES) is enough. `None`: too short to mean anything, to
/// be dropped.
///
/// Groups of pictures are those of the default track, which is track 0 where there is one. A key
/// frame message that does not contain that track is a [`Role::TrackKeyFrame`].
#[must_use]
pub fn classify_video(head: &[u8]) -> Option<Class> {
    let &[first, ..] = head else { return None };
    if first & 0x80 != 0 {
        return Some(match EnhancedHeader::parse(Medium::Video, head) {
            Some(EnhancedHeader::Command) => Class::of_track_0(Role::VideoCommand),
            Some(EnhancedHeader::Packet(packet)) => {
                Class { role: enhanced_video_role(&packet), tracks: packet.tracks }
            }
            None => Class { role: Role::VideoOpaque, tracks: Tracks::default() },
        });
    }
    let (frame_type, codec) = (first >> 4, first & 0x0F);
    let frame = |is_key| if is_key { Role::KeyFrame } else { Role::InterFrame };
    let role = if frame_type == FRAME_TYPE_COMMAND {
        Role::VideoCommand
    } else if matches!(codec, AVC | HEVC | AV1) {
        match head.get(1)? {
            0 => Role::VideoHeader,
            2 => Role::VideoEnd,
            _ => frame(frame_type == KEY || frame_type == GENERATED_KEY),
        }
    } else {
        frame(frame_type == KEY)
    };
    Some(Class::of_track_0(role))
}

/// Classifies an audio message (type 8) as [`classify_video`] does. An empty one means silence.
#[must_use]
pub fn classify_audio(head: &[u8]) -> Option<Class> {
    let format = head.first().map(|first| first >> 4);
    Some(match format {
        Some(ENHANCED_AUDIO) => match EnhancedHeader::parse(Medium::Audio, head) {
            Some(EnhancedHeader::Packet(packet)) => {
                let role = match packet.packet_type {
                    packet_type::SEQUENCE_START => Role::AudioHeader,
                    packet_type::SEQUENCE_END => Role::AudioEnd,
                    packet_type::AUDIO_MULTICHANNEL_CONFIG => Role::AudioChannels,
                    _ => Role::AudioFrame,
                };
                Class { role, tracks: packet.tracks }
            }
            _ => Class { role: Role::AudioFrame, tracks: Tracks::default() },
        },
        Some(AAC) => match head.get(1)? {
            0 => Class::of_track_0(Role::AudioHeader),
            _ => Class::of_track_0(Role::AudioFrame),
        },
        _ => Class::of_track_0(Role::AudioFrame),
    })
}

/// The codec of a media message by the beginning of its payload; of several tracks' codecs that of
/// track 0, or else the first. `None` when the message does not say.
#[must_use]
pub fn codec(kind: MediaKind, head: &[u8]) -> Option<Codec> {
    let &first = head.first()?;
    let medium = match kind {
        MediaKind::Video if first & 0x80 == 0 => return Some(Codec::Video(first & 0x0F)),
        MediaKind::Video => Medium::Video,
        MediaKind::Audio if first >> 4 != ENHANCED_AUDIO => return Some(Codec::Audio(first >> 4)),
        MediaKind::Audio => Medium::Audio,
        MediaKind::Data => return None,
    };
    match EnhancedHeader::parse(medium, head)? {
        EnhancedHeader::Packet(packet) => Some(Codec::FourCc(packet.four_cc)),
        EnhancedHeader::Command => None,
    }
}

/// A codec as the message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The codec id of a legacy video message (FLV section E.4.3.1, and 12 to 15 as used in
    /// practice).
    Video(u8),
    /// The sound format of a legacy audio message (FLV section E.4.2.1, and 13 as used in
    /// practice).
    Audio(u8),
    /// The FourCC of an Enhanced RTMP message.
    FourCc([u8; 4]),
}

impl Codec {
    /// A name for logs and metrics, the same for the legacy and the FourCC form; `other` for codecs
    /// that are not known, so that there are never more names than in this table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Video(2) => "h263",
            Self::Video(3 | 6) => "screen",
            Self::Video(4 | 5) => "vp6",
            Self::Video(AVC) | Self::FourCc([b'a', b'v', b'c', b'1']) => "avc",
            Self::Video(HEVC) | Self::FourCc([b'h', b'v', b'c', b'1']) => "hevc",
            Self::Video(AV1) | Self::FourCc([b'a', b'v', b'0', b'1']) => "av1",
            Self::Video(14) | Self::FourCc([b'v', b'p', b'0', b'8']) => "vp8",
            Self::Video(15) | Self::FourCc([b'v', b'p', b'0', b'9']) => "vp9",
            Self::FourCc([b'v', b'v', b'c', b'1']) => "vvc",
            Self::Audio(0 | 3) => "pcm",
            Self::Audio(1) => "adpcm",
            Self::Audio(2 | 14) | Self::FourCc([b'.', b'm', b'p', b'3']) => "mp3",
            Self::Audio(4..=6) => "nellymoser",
            Self::Audio(7 | 8) => "g711",
            Self::Audio(AAC) | Self::FourCc([b'm', b'p', b'4', b'a']) => "aac",
            Self::Audio(11) => "speex",
            Self::Audio(13) | Self::FourCc([b'O', b'p', b'u', b's']) => "opus",
            Self::FourCc([b'a', b'c', b'-', b'3']) => "ac3",
            Self::FourCc([b'e', b'c', b'-', b'3']) => "eac3",
            Self::FourCc([b'f', b'L', b'a', b'C']) => "flac",
            _ => "other",
        }
    }
}

impl Class {
    fn of_track_0(role: Role) -> Self {
        Self { role, tracks: Tracks::one(0) }
    }
}

fn enhanced_video_role(packet: &Packet) -> Role {
    match packet.packet_type {
        packet_type::SEQUENCE_START | packet_type::VIDEO_MPEG2TS_SEQUENCE_START => {
            Role::VideoHeader
        }
        packet_type::SEQUENCE_END => Role::VideoEnd,
        packet_type::VIDEO_METADATA => Role::VideoMetadata,
        packet_type::CODED_FRAMES | packet_type::CODED_FRAMES_X => {
            match (matches!(packet.frame_type, KEY | GENERATED_KEY), packet.default_track) {
                (true, true) => Role::KeyFrame,
                (true, false) => Role::TrackKeyFrame,
                (false, _) => Role::InterFrame,
            }
        }
        _ => Role::VideoOpaque,
    }
}

/// Frame types (FLV section E.4.3.1).
const KEY: u8 = 1;
const GENERATED_KEY: u8 = 4;

/// Legacy video codecs whose second byte tells headers from frames. Only AVC is in the FLV
/// specification; the other two are common all the same.
const AVC: u8 = 7;
const HEVC: u8 = 12;
const AV1: u8 = 13;

/// Sound formats (FLV section E.4.2.1).
const ENHANCED_AUDIO: u8 = 9;
const AAC: u8 = 10;

#[cfg(test)]
mod tests;
