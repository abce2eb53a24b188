//! What a client is believed to have announced.

use super::event::ConnectRequest;
use crate::limits::Limits;
use crate::wire::amf::Value;
use crate::wire::connect::ConnectProperties;
use crate::wire::media::Codec;
use crate::wire::needs::Need;

const HEVC: Need = Need::Codec(Codec::FourCc(*b"hvc1"));
const OPUS: Need = Need::Codec(Codec::FourCc(*b"Opus"));
const LEGACY_HEVC: Need = Need::Codec(Codec::Video(12));
const AVC: Need = Need::Codec(Codec::Video(7));
const AAC: Need = Need::Codec(Codec::Audio(10));
const ALL: [Need; 7] = [AVC, AAC, HEVC, OPUS, LEGACY_HEVC, Need::Multitrack, Need::VideoMetadata];

/// Checks which of [`ALL`] a client announced by `properties` of connect.
#[track_caller]
fn check(properties: &[(&'static str, Value<'static>)], announced: &[Need]) {
    let object = properties.iter().map(|(key, value)| (key.as_bytes(), value.clone()));
    let object = Value::Object(object.collect());
    let properties = ConnectProperties::from_value(&object);
    let request = ConnectRequest::new(&properties, &Limits::default()).unwrap().unwrap();
    let found: Vec<_> = ALL.into_iter().filter(|need| request.announced(*need)).collect();
    assert_eq!(found, announced, "{object:?}");
}

#[test]
fn what_a_player_announced_is_what_its_connect_says() {
    let list = |names: &[&'static str]| {
        Value::StrictArray(names.iter().map(|name| Value::text(name)).collect())
    };
    let number = Value::Number;
    let legacy = [AVC, AAC, LEGACY_HEVC];
    check(&[], &legacy);
    // FFmpeg and rtmpdump as players: bits of codecs, nothing of E-RTMP.
    let ffmpeg = [("audioCodecs", number(4071.0)), ("videoCodecs", number(252.0))];
    check(&ffmpeg, &[AVC, AAC]);
    check(&[("audioCodecs", number(2.0)), ("videoCodecs", number(4.0))], &[]);
    check(&[("videoCodecs", number(4096.0))], &[AAC, LEGACY_HEVC]);
    // E-RTMP, version 1 and 2.
    let with = |more: &[Need]| [&legacy[..], more].concat();
    let sorted = |more: &[Need]| {
        let all = with(more);
        ALL.into_iter().filter(|need| all.contains(need)).collect::<Vec<_>>()
    };
    check(&[("fourCcList", list(&["hvc1"]))], &sorted(&[HEVC, Need::VideoMetadata]));
    check(&[("fourCcList", list(&["*"]))], &sorted(&[HEVC, OPUS, Need::VideoMetadata]));
    check(&[("capsEx", number(2.0))], &sorted(&[Need::Multitrack, Need::VideoMetadata]));
    check(&[("capsEx", number(13.0))], &sorted(&[Need::VideoMetadata]));
    check(&[("videoFunction", number(1.0))], &legacy);
    check(&[("videoFunction", number(4.0))], &sorted(&[Need::VideoMetadata]));
    for (bits, takes) in [(1.0, true), (2.0, false), (4.0, true), (3.0, true)] {
        let map = Value::object([("Opus", number(bits))]);
        let more: &[Need] =
            if takes { &[OPUS, Need::VideoMetadata] } else { &[Need::VideoMetadata] };
        check(&[("audioFourCcInfoMap", map)], &sorted(more));
    }
}
