//! The properties of `connect` (RTMP 1.0 section 7.2.1.1, and E-RTMP "Enhancing NetConnection
//! connect Command"), borrowed from the message.
//!
//! Only `app` matters to every client; everything may be missing, null, or of another kind than
//! written down, and keys are compared without regard to case.

use super::amf::Value;

/// Capability bits of E-RTMP's `capsEx`.
pub mod caps {
    /// The peer follows a reconnect request.
    pub const RECONNECT: u32 = 1;
    /// The peer understands multitrack messages.
    pub const MULTITRACK: u32 = 2;
    /// The peer understands modifier packets.
    pub const MOD_EX: u32 = 4;
    /// The peer understands nanosecond offsets.
    pub const TIMESTAMP_NANO_OFFSET: u32 = 8;
}

/// Most codecs read from one of E-RTMP's lists.
pub const CODECS_MAX: usize = 64;

/// Longest name of a codec that is read: it is a FourCC, or `*` for every codec.
pub const CODEC_BYTES_MAX: usize = 4;

/// What the peer said about itself. Strings are bytes as they came; what is missing is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectProperties<'a> {
    /// The application, perhaps with a query.
    pub app: &'a [u8],
    /// The URL that the peer was given, without the stream's name; perhaps with a query.
    pub tc_url: &'a [u8],
    /// The peer's name and version.
    pub flash_ver: &'a [u8],
    /// Where the player program came from.
    pub swf_url: &'a [u8],
    /// The page that the player program is on.
    pub page_url: &'a [u8],
    /// `nonprivate` from encoders.
    pub kind: &'a [u8],
    /// Whether the peer uses a proxy.
    pub fpad: bool,
    /// Bits of no consequence.
    pub capabilities: u32,
    /// Legacy audio codecs, one bit each.
    pub audio_codecs: u32,
    /// Legacy video codecs, one bit each.
    pub video_codecs: u32,
    /// Video functions; E-RTMP: client seek 1, HDR 2, video metadata 4, large-scale tile 8.
    pub video_function: u32,
    /// 0 for AMF0, 3 for AMF3; `None` when the peer did not say.
    pub object_encoding: Option<f64>,
    /// E-RTMP fields; `None` when the peer sent none of them.
    pub enhanced: Option<EnhancedProperties<'a>>,
}

/// What E-RTMP adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnhancedProperties<'a> {
    /// Capability bits, see [`caps`].
    pub caps_ex: u32,
    /// `fourCcList`: codecs that the peer supports. In this and the maps at most [`CODECS_MAX`]
    /// names of at most [`CODEC_BYTES_MAX`] bytes.
    pub four_cc_list: Vec<&'a [u8]>,
    /// `videoFourCcInfoMap`: can decode 1, can encode 2, can forward 4.
    pub video_four_cc: Vec<(&'a [u8], u32)>,
    /// `audioFourCcInfoMap`, likewise.
    pub audio_four_cc: Vec<(&'a [u8], u32)>,
}

impl<'a> ConnectProperties<'a> {
    /// Picks the properties out of the command object.
    #[must_use]
    pub fn from_value(object: &Value<'a>) -> Self {
        let text = |key| object.get(key).and_then(Value::as_bytes).unwrap_or_default();
        let number = |key| object.get(key).and_then(Value::as_u32).unwrap_or_default();
        Self {
            app: text("app"),
            tc_url: text("tcUrl"),
            flash_ver: text("flashVer"),
            swf_url: text("swfUrl"),
            page_url: text("pageUrl"),
            kind: text("type"),
            fpad: object.get("fpad").and_then(Value::as_boolean).unwrap_or_default(),
            capabilities: number("capabilities"),
            audio_codecs: number("audioCodecs"),
            video_codecs: number("videoCodecs"),
            video_function: number("videoFunction"),
            object_encoding: object.get("objectEncoding").and_then(Value::as_number),
            enhanced: EnhancedProperties::from_value(object),
        }
    }

    /// The longest of the strings that have no limit of their own, in bytes.
    #[must_use]
    pub fn longest_other_string(&self) -> usize {
        let lengths = [self.flash_ver, self.swf_url, self.page_url, self.kind].map(<[u8]>::len);
        lengths.into_iter().max().unwrap_or_default()
    }
}

impl<'a> EnhancedProperties<'a> {
    fn from_value(object: &Value<'a>) -> Option<Self> {
        let caps_ex = object.get("capsEx");
        let list = object.get("fourCcList");
        let video = object.get("videoFourCcInfoMap");
        let audio = object.get("audioFourCcInfoMap");
        if [caps_ex, list, video, audio].iter().all(Option::is_none) {
            return None;
        }
        Some(Self {
            caps_ex: caps_ex.and_then(Value::as_u32).unwrap_or_default(),
            four_cc_list: list.map(codec_list).unwrap_or_default(),
            video_four_cc: video.map(codec_map).unwrap_or_default(),
            audio_four_cc: audio.map(codec_map).unwrap_or_default(),
        })
    }
}

fn codec_list<'a>(value: &Value<'a>) -> Vec<&'a [u8]> {
    let Value::StrictArray(elements) = value else { return Vec::new() };
    elements.iter().filter_map(Value::as_bytes).filter(is_codec).take(CODECS_MAX).collect()
}

fn codec_map<'a>(value: &Value<'a>) -> Vec<(&'a [u8], u32)> {
    let properties = value.properties().map(Vec::as_slice).unwrap_or_default();
    properties
        .iter()
        .filter(|(key, _)| is_codec(key))
        .filter_map(|(key, value)| value.as_u32().map(|bits| (*key, bits)))
        .take(CODECS_MAX)
        .collect()
}

fn is_codec(name: &&[u8]) -> bool {
    (1..=CODEC_BYTES_MAX).contains(&name.len())
}
