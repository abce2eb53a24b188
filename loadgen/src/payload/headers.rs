//! What precedes the frames: metadata and the sequence headers of the synthetic codecs.
//!
//! The configuration records are real ones, of 1280x720: servers look into them.

use bytes::BytesMut;
use relay::wire::amf::Value;
use relay::wire::amf0::{write_string, write_value};

use super::codec::VideoCodec;

/// The sequence header message of a codec.
#[must_use]
pub fn video_header(codec: VideoCodec) -> Vec<u8> {
    match codec {
        // Frame type key, codec AVC, packet type sequence header, composition time 0.
        VideoCodec::H264 => [&[0x17, 0, 0, 0, 0], AVC].concat(),
        // Frame type key, packet type SequenceStart, FourCC.
        VideoCodec::Hevc => [b"\x90hvc1", HEVC].concat(),
        VideoCodec::Av1 => [b"\x90av01", AV1].concat(),
    }
}

/// The sequence header message of AAC: low complexity, 44,100 Hz, two channels.
#[must_use]
pub fn audio_header() -> Vec<u8> {
    vec![0xaf, 0, 0x12, 0x10]
}

/// `onMetaData` for the whole stream.
#[must_use]
pub fn metadata(
    codec: VideoCodec,
    frames_per_second: f64,
    video_bits_per_second: u64,
    audio_bits_per_second: u64,
) -> Vec<u8> {
    let video_codec = match codec {
        VideoCodec::H264 => 7.0,
        VideoCodec::Hevc => f64::from(u32::from_be_bytes(*b"hvc1")),
        VideoCodec::Av1 => f64::from(u32::from_be_bytes(*b"av01")),
    };
    let mut properties = vec![
        (&b"duration"[..], Value::Number(0.0)),
        (b"width", Value::Number(1280.0)),
        (b"height", Value::Number(720.0)),
        (b"videocodecid", Value::Number(video_codec)),
        (b"videodatarate", Value::Number(video_bits_per_second as f64 / 1000.0)),
        (b"framerate", Value::Number(frames_per_second)),
    ];
    if audio_bits_per_second > 0 {
        properties.extend([
            (&b"audiocodecid"[..], Value::Number(10.0)),
            (b"audiodatarate", Value::Number(audio_bits_per_second as f64 / 1000.0)),
            (b"audiosamplerate", Value::Number(44_100.0)),
            (b"audiosamplesize", Value::Number(16.0)),
            (b"stereo", Value::Boolean(true)),
        ]);
    }
    properties.push((b"encoder", Value::text("loadgen")));
    let mut out = BytesMut::new();
    write_string(&mut out, b"onMetaData");
    write_value(&mut out, &Value::EcmaArray(properties));
    out.into()
}

/// AVCDecoderConfigurationRecord (ISO/IEC 14496-15): constrained baseline, level 3.1.
const AVC: &[u8] = &[
    0x01, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16,
    0xec, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc6, 0x0c, 0xa8, 0x01,
    0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];

/// HEVCDecoderConfigurationRecord (ISO/IEC 14496-15): main profile, level 3.1.
const HEVC: &[u8] = &[
    0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x5d, 0xf0, 0x00, 0xfc,
    0xfd, 0xf8, 0xf8, 0x00, 0x00, 0x0f, 0x03, 0x20, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01, 0x0c, 0x01,
    0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
    0x5d, 0x92, 0x80, 0x90, 0x21, 0x00, 0x01, 0x00, 0x2a, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00,
    0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d, 0xa0, 0x02, 0x80, 0x80, 0x2d,
    0x16, 0x59, 0x2a, 0x49, 0x32, 0xbc, 0x05, 0xa0, 0x20, 0x00, 0x00, 0x03, 0x00, 0x20, 0x00, 0x00,
    0x03, 0x03, 0xc1, 0x22, 0x00, 0x01, 0x00, 0x07, 0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40,
];

/// AV1CodecConfigurationRecord with its sequence header OBU: main profile, level 3.1.
const AV1: &[u8] = &[
    0x81, 0x05, 0x0c, 0x00, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x2d, 0x4c, 0xff, 0xb3, 0xcd, 0xaf, 0x90,
    0x04,
];
