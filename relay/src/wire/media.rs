//! What a relay must know of a media message, and nothing more: its role in the stream and the tracks that it touches.

/// A message's role, by which logs, joins and caches are governed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A video key frame (coded).
    KeyFrame,
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
        matches!(self, Self::KeyFrame | Self::InterFrame | Self::VideoOpaque | Self::AudioFrame)
    }

    /// Whether joining players need the newest message of this role (per track).
    #[must_use]
    pub fn is_kept(self) -> bool {
        matches!(
            self,
            Self::Metadata | Self::VideoHeader | Self::VideoMetadata | Self::AudioHeader | Self::AudioChannels
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
