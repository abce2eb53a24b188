use super::Role::{
    AudioChannels, AudioEnd, AudioFrame, AudioHeader, InterFrame, KeyFrame, TrackKeyFrame,
    VideoCommand, VideoEnd, VideoHeader, VideoMetadata, VideoOpaque,
};
use super::*;
use crate::wire::testing::bytes;

fn check(kind: MediaKind, text: &str, expected: Option<(Role, &[u8])>, name: Option<&str>) {
    let head = bytes(text);
    let class = match kind {
        MediaKind::Audio => classify_audio(&head),
        _ => classify_video(&head),
    };
    let found = class.as_ref().map(|class| (class.role, class.tracks.ids()));
    assert_eq!(found, expected, "{kind:?} {text}");
    assert_eq!(codec(kind, &head).map(Codec::name), name, "{kind:?} {text}");
}

fn check_video(text: &str, role: Role, tracks: &[u8], name: &str) {
    check(MediaKind::Video, text, Some((role, tracks)), Some(name).filter(|name| !name.is_empty()));
}

fn check_audio(text: &str, role: Role, tracks: &[u8], name: &str) {
    check(MediaKind::Audio, text, Some((role, tracks)), Some(name).filter(|name| !name.is_empty()));
}

#[test]
fn legacy_video() {
    check(MediaKind::Video, "", None, None);
    for (codec, name) in [("7", "avc"), ("C", "hevc"), ("D", "av1")] {
        let check = |text: &str, role| check_video(&text.replace('x', codec), role, &[0], name);
        check("1x 00 000000 01", VideoHeader);
        check("1x 01 000000 01", KeyFrame);
        check("4x 01 000000 01", KeyFrame);
        check("2x 01 000000 01", InterFrame);
        check("3x 01 000000 01", InterFrame);
        check("1x 02", VideoEnd);
        check("2x 02", VideoEnd);
        // The second byte of a command is not looked at.
        check("5x 00", VideoCommand);
        check("5x", VideoCommand);
    }
    check(MediaKind::Video, "17", None, Some("avc"));
    check(MediaKind::Video, "1C", None, Some("hevc"));
    // Codecs without sequence headers.
    check_video("12", KeyFrame, &[0], "h263");
    check_video("22 00", InterFrame, &[0], "h263");
    check_video("32 00", InterFrame, &[0], "h263");
    check_video("14 00", KeyFrame, &[0], "vp6");
    check_video("1E 00", KeyFrame, &[0], "vp8");
    check_video("2F 00", InterFrame, &[0], "vp9");
    check_video("13 00", KeyFrame, &[0], "screen");
    check_video("52 00", VideoCommand, &[0], "h263");
    check_video("01 00", InterFrame, &[0], "other");
}

#[test]
fn enhanced_video() {
    check_video("90 68766331 01", VideoHeader, &[0], "hevc");
    check_video("91 68766331 00002A 01", KeyFrame, &[0], "hevc");
    check_video("93 68766331 01", KeyFrame, &[0], "hevc");
    check_video("C3 68766331 01", KeyFrame, &[0], "hevc");
    check_video("A1 68766331 000000", InterFrame, &[0], "hevc");
    check_video("A3 68766331 01", InterFrame, &[0], "hevc");
    check_video("92 68766331", VideoEnd, &[0], "hevc");
    check_video("A2 68766331", VideoEnd, &[0], "hevc");
    check_video("91 61763031 01", KeyFrame, &[0], "av1");
    check_video("95 61763031 01", VideoHeader, &[0], "av1");
    check_video("91 76703039 01", KeyFrame, &[0], "vp9");
    check_video("90 61766331 01", VideoHeader, &[0], "avc");
    check_video("90 76766331 01", VideoHeader, &[0], "vvc");
    check_video("91 78787878 01", KeyFrame, &[0], "other");
    // Metadata has any frame type, that of a command included.
    let color_info = "68766331 02 0009 636F6C6F72496E666F 03 000009";
    for first in ["94", "84", "D4"] {
        check_video(&format!("{first} {color_info}"), VideoMetadata, &[0], "hevc");
    }
    check_video("D0 00", VideoCommand, &[0], "");
    check_video("D1 68766331", VideoCommand, &[0], "");
    // ModEx, once, twice, with the long size, with an unknown type.
    check_video("97 02 0F423F 01 68766331 000000", KeyFrame, &[0], "hevc");
    check_video("A7 02 0F423F 07 00 00 11 68766331 000000", InterFrame, &[0], "hevc");
    check_video("97 FF 00FF a*256 00 68766331", VideoHeader, &[0], "hevc");
    check_video("97 FF 0000 00 00 68766331", VideoHeader, &[0], "hevc");
    check_video("97 02 000000 F1 68766331", KeyFrame, &[0], "hevc");
    check_video("D7 02 000000 01 00", VideoCommand, &[0], "");
    check_video("D7 02 000000 04 68766331 01", VideoMetadata, &[0], "hevc");
    check_video("97 02 000000 06 01 68766331 03", TrackKeyFrame, &[3], "hevc");
    // Unknown packet types.
    check_video("98 68766331 01", VideoOpaque, &[0], "hevc");
    check_video("9F 68766331 01", VideoOpaque, &[0], "hevc");
}

#[test]
fn multitrack_video() {
    let tracks = "68766331 00 000003 AABBCC 01 000002 DDEE";
    check_video(&format!("96 10 {tracks}"), VideoHeader, &[0, 1], "hevc");
    check_video(&format!("96 11 {tracks}"), KeyFrame, &[0, 1], "hevc");
    check_video(&format!("A6 11 {tracks}"), InterFrame, &[0, 1], "hevc");
    check_video(&format!("96 14 {tracks}"), VideoMetadata, &[0, 1], "hevc");
    check_video(&format!("96 12 {tracks}"), VideoEnd, &[0, 1], "hevc");
    check_video(&format!("96 15 {tracks}"), VideoHeader, &[0, 1], "hevc");
    check_video(&format!("96 18 {tracks}"), VideoOpaque, &[0, 1], "hevc");
    let codecs = "61763031 00 000001 AA 68766331 01 000001 BB";
    check_video(&format!("96 20 {codecs}"), VideoHeader, &[0, 1], "av1");
    let codecs = "61763031 05 000001 AA 68766331 00 000001 BB";
    check_video(&format!("96 21 {codecs}"), KeyFrame, &[5, 0], "hevc");
    // Key frames of other tracks are those of the stream only if it has no track 0.
    check_video("96 01 61763031 02 01", TrackKeyFrame, &[2], "av1");
    check_video("96 01 61763031 00 01", KeyFrame, &[0], "av1");
    check_video("96 00 61763031 02 01", VideoHeader, &[2], "av1");
    check_video("96 11 68766331 02 000001 AA 01 000001 AA", TrackKeyFrame, &[2, 1], "hevc");
    // A track listed twice, a list cut short by the end of what is there.
    check_video("96 10 68766331 01 000000 01 000000", VideoHeader, &[1], "hevc");
    check_video("96 11 68766331 01 FFFFFF AA", TrackKeyFrame, &[1], "hevc");
    check_video("96 11 68766331 00 0000", KeyFrame, &[0], "hevc");
    check_video("96 20 61763031 03 000000 6876", VideoHeader, &[3], "av1");
    // More tracks than are listed: the default track counts all the same.
    let many: String = (1..=20).map(|id| format!("{id:02X} 000000 ")).collect();
    let first_16: Vec<u8> = (1..=16).collect();
    check_video(&format!("96 11 68766331 {many}"), TrackKeyFrame, &first_16, "hevc");
    check_video(&format!("96 11 68766331 {many} 00 000001 AA"), KeyFrame, &first_16, "hevc");
}

#[test]
fn malformed_enhanced_video_is_opaque() {
    let cut = ["90", "90 6876", "97", "97 02 0000", "97 00 00", "97 FF", "97 FF FF", "96", "96 00"];
    let wrong = [
        "90 00000000",                // no FourCC
        "90 68766380",                // nor this
        "97 FF FFFF 00 01 68766331",  // a ModEx longer than the message
        "96 00 68766331",             // no track
        "96 20 61763031",             // nor here
        "96 30 68766331 00 01",       // an unknown kind of multitrack
        "96 06 68766331 00 01",       // multitrack in multitrack
        "96 07 00 00 68766331 00 01", // ModEx in multitrack
    ];
    for text in cut.into_iter().chain(wrong) {
        check_video(text, VideoOpaque, &[], "");
    }
}

#[test]
fn legacy_audio() {
    check_audio("", AudioFrame, &[0], "");
    check_audio("AF 00 1210", AudioHeader, &[0], "aac");
    check_audio("AF 01 00", AudioFrame, &[0], "aac");
    check_audio("AF 02 00", AudioFrame, &[0], "aac");
    check(MediaKind::Audio, "AF", None, Some("aac"));
    check_audio("2F 00", AudioFrame, &[0], "mp3");
    check_audio("EF", AudioFrame, &[0], "mp3");
    check_audio("DF 00", AudioFrame, &[0], "opus");
    check_audio("BF 00", AudioFrame, &[0], "speex");
    for (format, name) in [("0", "pcm"), ("1", "adpcm"), ("3", "pcm"), ("7", "g711")] {
        check_audio(&format!("{format}F 00"), AudioFrame, &[0], name);
    }
    for (format, name) in [("4", "nellymoser"), ("6", "nellymoser"), ("8", "g711"), ("C", "other")]
    {
        check_audio(&format!("{format}F 00"), AudioFrame, &[0], name);
    }
}

#[test]
fn enhanced_audio() {
    check_audio("90 4F707573 01", AudioHeader, &[0], "opus");
    check_audio("90 4F707573", AudioHeader, &[0], "opus");
    check_audio("91 4F707573 01", AudioFrame, &[0], "opus");
    check_audio("92 664C6143", AudioEnd, &[0], "flac");
    check_audio("93 664C6143", AudioFrame, &[0], "flac");
    check_audio("94 6D703461 01 06", AudioChannels, &[0], "aac");
    check_audio("91 2E6D7033 01", AudioFrame, &[0], "mp3");
    check_audio("91 61632D33 01", AudioFrame, &[0], "ac3");
    check_audio("91 65632D33 01", AudioFrame, &[0], "eac3");
    check_audio("95 01 6D703461 01 00", AudioFrame, &[1], "aac");
    check_audio("95 00 6D703461 01 00", AudioHeader, &[1], "aac");
    check_audio("95 14 6D703461 00 000002 0106 01 000002 0106", AudioChannels, &[0, 1], "aac");
    check_audio("97 02 000001 00 4F707573", AudioHeader, &[0], "opus");
    // Multitrack is 5 here, and 6 is only a number.
    check_audio("96 4F707573 01", AudioFrame, &[0], "opus");
    for malformed in ["90", "90 4F70", "97 FF", "95", "95 05 4F707573 00", "95 00 4F707573"] {
        check_audio(malformed, AudioFrame, &[], "");
    }
}

#[test]
fn roles_belong_to_one_medium() {
    let coded = [KeyFrame, TrackKeyFrame, InterFrame, VideoOpaque];
    let video = [&coded[..], &[VideoHeader, VideoEnd, VideoMetadata, VideoCommand]].concat();
    let audio = [AudioHeader, AudioChannels, AudioEnd, AudioFrame];
    assert!(video.iter().all(|role| role.is_video() && !role.is_audio()));
    assert!(audio.iter().all(|role| role.is_audio() && !role.is_video()));
    for role in [Role::Metadata, Role::Data] {
        assert!(!role.is_video() && !role.is_audio() && !role.is_coded());
    }
}
