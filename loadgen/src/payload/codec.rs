//! Frames in the shape of a codec, with the record where the codec allows private data.
//!
//! The slices behind it are filler: a demuxer, a server or a muxer finds every length right, a
//! decoder finds nothing to look at.

use super::Filler;
use super::record::{RECORD_BYTES, Truth, seal};
use crate::units::wide;

/// The codec that synthetic video is shaped like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// AVC in the legacy FLV form (FLV section E.4.3).
    H264,
    /// HEVC by FourCC `hvc1` (E-RTMP "Enhanced Video").
    Hevc,
    /// AV1 by FourCC `av01` (E-RTMP "Enhanced Video").
    Av1,
}

impl VideoCodec {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Hevc => "hevc",
            Self::Av1 => "av1",
        }
    }
}

/// The UUID of user data that nobody else defines; no byte of it is 0.
const UUID: &[u8; 16] = b"rtmp-loadgen-uid";

/// Writes a video message of about `size` bytes into `out`; gives its hash. A size below what the
/// record needs is raised to that.
pub fn video_frame(
    out: &mut Vec<u8>,
    codec: VideoCodec,
    key: bool,
    size: usize,
    truth: &Truth,
    filler: &Filler,
) -> u64 {
    out.clear();
    let record = match codec {
        VideoCodec::H264 => {
            // Key or inter frame of AVC, a NAL unit, composition time 0.
            out.extend_from_slice(&[if key { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
            user_data(out, &[0x06], truth)
        }
        VideoCodec::Hevc => {
            // CodedFramesX: composition time 0 and not written.
            out.push(if key { 0x93 } else { 0xa3 });
            out.extend_from_slice(b"hvc1");
            user_data(out, &[39 << 1, 1], truth)
        }
        VideoCodec::Av1 => {
            out.push(if key { 0x91 } else { 0xa1 });
            out.extend_from_slice(b"av01");
            // A metadata OBU with its size, of a type left to users, closed by its trailing bit.
            out.extend_from_slice(&[5 << 3 | 2, SMALL + 2, 6]);
            let record = out.len();
            truth.append(out);
            out.push(0x80);
            record
        }
    };
    let slice = slice_start(codec, key);
    let length_bytes = 4;
    let filled = size.saturating_sub(out.len() + length_bytes + slice.len()).max(1);
    if codec == VideoCodec::Av1 {
        out.extend_from_slice(slice);
        out.extend_from_slice(&leb128(filled + 1));
        // Shown, a key frame or an inter frame (AV1 bitstream specification, section 5.9.2).
        out.push(if key { 0x10 } else { 0x30 });
    } else {
        out.extend_from_slice(&length(slice.len() + filled));
        out.extend_from_slice(slice);
    }
    filler.append(out, truth.sequence, filled);
    seal(out, record)
}

/// Writes an AAC message of about `size` bytes into `out`; gives its hash. The raw data block holds
/// data stream elements (ISO/IEC 14496-3 section 4.4.2.6) and nothing to be heard.
pub fn audio_frame(out: &mut Vec<u8>, size: usize, truth: &Truth, filler: &Filler) -> u64 {
    out.clear();
    out.extend_from_slice(&[0xaf, 1]);
    out.extend_from_slice(&[DATA_ELEMENT, SMALL]);
    let record = out.len();
    truth.append(out);
    let mut number = 0;
    while size > out.len() + 3 {
        let filled = (size - out.len() - 3).min(usize::from(ELEMENT_BYTES_MAX));
        let length = u8::try_from(filled).unwrap_or(ELEMENT_BYTES_MAX);
        out.extend_from_slice(&[DATA_ELEMENT, length]);
        filler.append(out, truth.sequence + number, filled);
        number += 1;
    }
    out.push(0xe0);
    seal(out, record)
}

/// A data stream element with tag 0, its bytes aligned.
const DATA_ELEMENT: u8 = 0b1000_0001;
/// 255 would announce a second length.
const ELEMENT_BYTES_MAX: u8 = 254;
const SMALL: u8 = 64;
const _: () = assert!(RECORD_BYTES == 64);

/// The start of a coded picture, as far as servers and muxers look into it: without a slice type
/// some would take a frame for another kind of frame, and say so in the first byte of the message.
fn slice_start(codec: VideoCodec, key: bool) -> &'static [u8] {
    match (codec, key) {
        // NAL unit type 5 or 1; macroblock 0, slice type 7 (I) or 5 (P), parameter set 0, frame
        // number (ISO/IEC 14496-10 section 7.3.3).
        (VideoCodec::H264, true) => &[0x65, 0x88, 0x84],
        (VideoCodec::H264, false) => &[0x41, 0x9a, 0x21],
        // NAL unit type 19 or 1; first slice, parameter set 0, slice type 2 (I) or 1 (P)
        // (ISO/IEC 23008-2 section 7.3.6.1).
        (VideoCodec::Hevc, true) => &[19 << 1, 1, 0xaf],
        (VideoCodec::Hevc, false) => &[1 << 1, 1, 0xd7],
        // A frame OBU with its size; the frame header comes behind the size, see below.
        (VideoCodec::Av1, _) => &[6 << 3 | 2],
    }
}

/// An SEI message with user data behind a NAL unit header; gives where the record starts.
fn user_data(out: &mut Vec<u8>, header: &[u8], truth: &Truth) -> usize {
    const UNREGISTERED: u8 = 5;
    let content = UUID.len() + RECORD_BYTES;
    out.extend_from_slice(&length(header.len() + 2 + content + 1));
    out.extend_from_slice(header);
    out.extend_from_slice(&[UNREGISTERED, u8::try_from(content).unwrap_or_default()]);
    out.extend_from_slice(UUID);
    let record = out.len();
    truth.append(out);
    out.push(0x80);
    record
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

fn leb128(value: usize) -> Vec<u8> {
    let mut rest = wide(value);
    let mut out = Vec::new();
    loop {
        let low = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
