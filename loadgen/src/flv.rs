//! FLV files as lists of messages, to be published as they are (FLV 10.1 annex E).
//!
//! Nothing inside a message is looked at but what tells headers from frames.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use relay::wire::media::{Role, classify_audio, classify_video};
use relay::wire::message::MediaKind;

use crate::failure::Failure;
use crate::payload::hash_of;

/// One tag.
#[derive(Clone, Debug)]
pub struct FileMessage {
    /// Audio, video or data.
    pub kind: MediaKind,
    /// The tag's timestamp in milliseconds.
    pub time_ms: u32,
    /// The tag's body.
    pub payload: Bytes,
    /// Its number among the coded messages of the file; `None` for headers and data.
    pub number: Option<u64>,
}

/// A whole file.
#[derive(Clone, Debug)]
pub struct FlvFile {
    /// Its messages, in order; at least one coded.
    pub messages: Vec<FileMessage>,
    /// What one round of the loop lasts, in milliseconds.
    pub round_ms: u32,
    /// How many coded messages it has.
    pub coded: u64,
    /// The numbers of the coded messages of each hash.
    places: HashMap<u64, Vec<u64>>,
}

impl FlvFile {
    /// Reads a file.
    ///
    /// # Errors
    /// One sentence when it cannot be read or holds no audio and video.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let bytes = fs::read(path)
            .map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
        Self::parse(Bytes::from(bytes)).map_err(|why| Failure::new(format!("{name} {why}")))
    }

    fn parse(bytes: Bytes) -> Result<Self, &'static str> {
        if !bytes.starts_with(b"FLV\x01") {
            return Err("is no FLV file");
        }
        let header = bytes.get(5..9).and_then(<[u8]>::first_chunk).copied();
        let header = header.map(u32::from_be_bytes).ok_or("ends within its header")?;
        // Behind the header and the size of the tag before the first one.
        let mut at = usize::try_from(header).unwrap_or(usize::MAX).saturating_add(4);
        let mut messages = Vec::new();
        let mut places: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut coded = 0;
        while let Some(tag) = bytes.get(at..).and_then(<[u8]>::first_chunk::<11>) {
            let length = u32::from_be_bytes([0, tag[1], tag[2], tag[3]]);
            let time_ms = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]);
            let start = at + 11;
            let end = start + usize::try_from(length).unwrap_or(usize::MAX);
            if end > bytes.len() {
                // A recording that was cut off ends with part of a tag.
                break;
            }
            let payload = bytes.slice(start..end);
            at = end + 4;
            let (kind, role) = match tag[0] & 0x1f {
                8 => (MediaKind::Audio, classify_audio(&payload).map(|class| class.role)),
                9 => (MediaKind::Video, classify_video(&payload).map(|class| class.role)),
                18 => (MediaKind::Data, Some(Role::Data)),
                _ => continue,
            };
            let Some(role) = role else { continue };
            let number = role.is_coded().then(|| {
                places.entry(hash_of(&payload)).or_default().push(coded);
                coded += 1;
                coded - 1
            });
            messages.push(FileMessage { kind, time_ms, payload, number });
        }
        let times = messages.iter().filter(|message| message.number.is_some());
        let times: Vec<u32> = times.map(|message| message.time_ms).collect();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
            return Err("holds no audio and no video");
        };
        let usual_gap = (last - first) / u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
        let round_ms = (last - first).saturating_add(usual_gap).max(1);
        Ok(Self { messages, round_ms, coded, places })
    }

    /// The time of the first coded message, in milliseconds.
    #[must_use]
    pub fn first_ms(&self) -> u32 {
        let coded = self.messages.iter().filter(|message| message.number.is_some());
        coded.map(|message| message.time_ms).min().unwrap_or_default()
    }

    /// Where in the endless loop a coded message with this hash stands, nearest to `expected`.
    /// `None` when the file has no such message.
    #[must_use]
    pub fn place(&self, hash: u64, expected: Option<u64>) -> Option<u64> {
        let numbers = self.places.get(&hash)?;
        let Some(expected) = expected else { return numbers.first().copied() };
        let round = expected / self.coded;
        let rounds = round.saturating_sub(1)..=round + 1;
        rounds
            .flat_map(|round| numbers.iter().map(move |number| round * self.coded + number))
            .min_by_key(|place| place.abs_diff(expected))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut out = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, time, payload) in tags {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let [high, rest @ ..] = time.to_be_bytes();
            out.push(*kind);
            out.extend_from_slice(&length[1..]);
            out.extend_from_slice(&rest);
            out.extend_from_slice(&[high, 0, 0, 0]);
            out.extend_from_slice(payload);
            out.extend_from_slice(&[0; 4]);
        }
        out
    }

    const TAGS: &[(u8, u32, &[u8])] = &[
        (18, 0, b"\x02\0\x0aonMetaData\x03\0\0\x09"),
        (9, 0, b"\x17\0\0\0\0x"),
        (9, 100, b"\x17\x01\0\0\0key"),
        (8, 110, b"\xaf\x01same"),
        (9, 140, b"\x27\x01\0\0\0inter"),
        (8, 150, b"\xaf\x01same"),
    ];

    #[test]
    fn a_file_is_its_messages_and_a_round() {
        let flv = FlvFile::parse(file(TAGS).into()).unwrap();
        assert_eq!(flv.messages.len(), 6);
        assert_eq!((flv.coded, flv.first_ms(), flv.round_ms), (4, 100, 62));
        let numbers: Vec<_> = flv.messages.iter().filter_map(|message| message.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
    }

    #[test]
    fn a_place_is_the_one_nearest_to_what_is_expected() {
        let flv = FlvFile::parse(file(TAGS).into()).unwrap();
        let same = hash_of(b"\xaf\x01same");
        let check = |expected: Option<u64>, place: u64| {
            assert_eq!(flv.place(same, expected), Some(place), "{expected:?}");
        };
        check(None, 1);
        check(Some(1), 1);
        check(Some(3), 3);
        check(Some(4), 3);
        check(Some(5), 5);
        check(Some(4_001), 4_001);
        assert_eq!(flv.place(1, None), None);
    }

    #[test]
    fn what_is_no_file_is_refused_and_a_cut_one_is_read_as_far_as_it_goes() {
        let refused = |bytes: &[u8]| FlvFile::parse(Bytes::copy_from_slice(bytes)).is_err();
        assert!(refused(b""));
        assert!(refused(b"MP4"));
        assert!(refused(b"FLV\x01\x05\0\0"));
        assert!(refused(&file(&TAGS[..2])));
        let whole = file(TAGS);
        for cut in 0..whole.len() {
            if let Ok(flv) = FlvFile::parse(Bytes::copy_from_slice(&whole[..cut])) {
                assert!(flv.coded <= 4);
            }
        }
    }
}
