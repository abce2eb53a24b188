//! What a stream asks of its players, so that a player that did not announce it can be told apart
//! (E-RTMP "Enhancing NetConnection connect Command", RTMP 1.0 section 7.2.1.1).
//!
//! Nothing is decided here: a player that announced too little may understand all the same, as
//! FFmpeg does, which announces nothing of Enhanced RTMP when it plays.

use std::fmt;

use super::enhanced::{EnhancedHeader, Medium};
use super::media::{Codec, Role, codec};
use super::message::MediaKind;

/// One thing that a player must understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A codec, by the name that its messages use for it.
    Codec(Codec),
    /// Messages that name their track.
    Multitrack,
    /// Video metadata (colorInfo).
    VideoMetadata,
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Codec(Codec::FourCc(_)) => formatter.write_str("enhanced ")?,
            Self::Codec(_) | Self::Multitrack | Self::VideoMetadata => {}
        }
        formatter.write_str(match self {
            Self::Codec(codec) => codec.name(),
            Self::Multitrack => "multitrack",
            Self::VideoMetadata => "video metadata",
        })
    }
}

/// Adds to `needs`, once each, what a header with this role and payload asks for.
pub fn add_needs(needs: &mut Vec<Need>, role: Role, payload: &[u8]) {
    let (kind, medium, enhanced) = match payload.first() {
        Some(first) if role.is_video() => (MediaKind::Video, Medium::Video, first & 0x80 != 0),
        Some(first) if role.is_audio() => (MediaKind::Audio, Medium::Audio, first >> 4 == 9),
        _ => return,
    };
    let mut add = |need| {
        if !needs.contains(&need) {
            needs.push(need);
        }
    };
    if role == Role::VideoMetadata {
        add(Need::VideoMetadata);
    } else if let Some(codec) = codec(kind, payload) {
        add(Need::Codec(codec));
    }
    let header = if enhanced { EnhancedHeader::parse(medium, payload) } else { None };
    if matches!(header, Some(EnhancedHeader::Packet(packet)) if packet.multitrack) {
        add(Need::Multitrack);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::testing::bytes as hex;

    #[track_caller]
    fn check(headers: &[(Role, &str)], expected: &str) {
        let mut needs = Vec::new();
        for (role, text) in headers {
            add_needs(&mut needs, *role, &hex(text));
        }
        let needs: Vec<_> = needs.iter().map(Need::to_string).collect();
        assert_eq!(needs.join(", "), expected, "{headers:?}");
    }

    #[test]
    fn headers_tell_what_a_player_must_understand() {
        use Role::{AudioChannels, AudioHeader, Metadata, VideoHeader, VideoMetadata};
        check(&[], "");
        check(&[(Metadata, "02 000A")], "");
        check(&[(VideoHeader, "17 00 000000"), (AudioHeader, "AF 00 1210")], "avc, aac");
        check(&[(VideoHeader, "1C 00 000000"), (AudioHeader, "")], "hevc");
        check(&[(VideoHeader, "90 68766331 01")], "enhanced hevc");
        check(&[(VideoHeader, "90 61763031"), (AudioHeader, "90 4F707573")], {
            "enhanced av1, enhanced opus"
        });
        let color_info = "D4 68766331 02 0009 636F6C6F72496E666F 03 000009";
        check(&[(VideoMetadata, color_info)], "video metadata");
        check(
            &[
                (VideoHeader, "17 00 000000"),
                (VideoHeader, "96 00 61766331 01 01"),
                (AudioHeader, "95 00 6D703461 01 12"),
                (AudioChannels, "95 04 6D703461 01 01 01 00000004"),
            ],
            "avc, enhanced avc, multitrack, enhanced aac",
        );
    }
}
