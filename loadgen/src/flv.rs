//! FLV files as lists of messages, to be published as they are (FLV 10.1 annex E).
//!
//! Nothing inside a message is looked at but what tells headers from frames.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use relay::limits::Limits;
use relay::wire::flv::{FlvReader, FlvTag};
use relay::wire::media::{Role, classify_audio, classify_video};
use relay::wire::message::{MESSAGE_BYTES_MAX, MediaKind};
use relay::wire::timestamp::Timestamp;

use crate::failure::Failure;
use crate::payload::hash_of;
use crate::units::{nanos, wide};

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
    /// The time of the earliest coded message, in milliseconds.
    pub first_ms: u32,
    /// The numbers of the coded messages of each hash, ascending.
    places: HashMap<u64, Vec<u64>>,
    /// The time of each coded message, from that of the first, in milliseconds.
    due_ms: Vec<u32>,
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

    fn parse(bytes: Bytes) -> Result<Self, String> {
        // The file is at hand as a whole: script data may be as long as a tag can be.
        let limits = Limits { data_bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() };
        let mut reader = FlvReader::new(&limits);
        let mut rest = BytesMut::from(bytes);
        let mut messages = Vec::new();
        let mut places: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut coded = 0;
        // A recording that was cut off ends with part of a tag, which is left out.
        while let Some(tag) =
            reader.next(&mut rest).map_err(|why| format!("is no FLV file: {why}"))?
        {
            let FlvTag { kind, timestamp: Timestamp(time_ms), payload } = tag;
            let role = match kind {
                MediaKind::Audio => classify_audio(&payload).map(|class| class.role),
                MediaKind::Video => classify_video(&payload).map(|class| class.role),
                MediaKind::Data => Some(Role::Data),
            };
            let Some(role) = role else { continue };
            let number = role.is_coded().then(|| {
                places.entry(hash_of(&payload)).or_default().push(coded);
                coded += 1;
                coded - 1
            });
            messages.push(FileMessage { kind, time_ms, payload, number });
        }
        if reader.header().is_none() {
            return Err("ends within its header".to_owned());
        }
        let coded_messages = || messages.iter().filter(|message| message.number.is_some());
        let times: Vec<u32> = coded_messages().map(|message| message.time_ms).collect();
        let first_ms = *times.iter().min().ok_or("holds no audio and no video")?;
        // A round ends one usual step behind the last frame, of audio or of video.
        let end_of = |kind: MediaKind| {
            let of_kind = coded_messages().filter(|message| message.kind == kind);
            let times: Vec<u32> = of_kind.map(|message| message.time_ms).collect();
            let (first, last) = (times.iter().min()?, times.iter().max()?);
            let steps = u32::try_from(times.len() - 1).unwrap_or(u32::MAX).max(1);
            Some(last.saturating_add((last - first).div_ceil(steps)))
        };
        let end_ms = end_of(MediaKind::Audio).max(end_of(MediaKind::Video)).unwrap_or(first_ms);
        let round_ms = end_ms.saturating_sub(first_ms).max(1);
        let due_ms = times.iter().map(|time| time - first_ms).collect();
        Ok(Self { messages, round_ms, coded, first_ms, places, due_ms })
    }

    /// When the coded message at a place of the endless loop is due, in milliseconds from the start
    /// of the loop.
    #[must_use]
    pub fn due_ms(&self, place: u64) -> u64 {
        let number = usize::try_from(place % self.coded).unwrap_or_default();
        let within = self.due_ms.get(number).copied().unwrap_or_default();
        u64::from(within) + place / self.coded * u64::from(self.round_ms)
    }

    /// The place in the endless loop that is due so many milliseconds from its start.
    #[must_use]
    pub fn place_at(&self, milliseconds: u64) -> u64 {
        let round_ms = u64::from(self.round_ms);
        let within = milliseconds % round_ms;
        let number = self.due_ms.partition_point(|due| u64::from(*due) < within);
        milliseconds / round_ms * self.coded + wide(number)
    }

    /// Where in the endless loop a coded message with this hash stands, nearest to `expected`.
    /// `None` when the file has no such message.
    #[must_use]
    pub fn place(&self, hash: u64, expected: Option<u64>) -> Option<u64> {
        let numbers = self.places.get(&hash)?;
        let Some(expected) = expected else { return numbers.first().copied() };
        let round = expected / self.coded;
        let nearest = |round: u64| {
            let base = round * self.coded;
            let wanted = expected.saturating_sub(base);
            // Of silence a file may have thousands of equal messages.
            let behind = numbers.partition_point(|number| *number < wanted);
            let around = [behind.checked_sub(1), Some(behind)].into_iter().flatten();
            around.filter_map(|at| numbers.get(at)).map(move |number| base + number)
        };
        let rounds = round.saturating_sub(1)..=round + 1;
        rounds.flat_map(nearest).min_by_key(|place| place.abs_diff(expected))
    }
}

/// A file that is published in a loop as one stream, and since when.
///
/// The publisher says when it began, and players of the same process read it: that makes latency
/// out of a place in the loop.
#[derive(Debug)]
pub struct FileStream {
    /// The file.
    pub file: Arc<FlvFile>,
    /// In nanoseconds since boot; 0 as long as nobody began.
    began_ns: AtomicU64,
}

impl FileStream {
    /// A stream that has not begun.
    #[must_use]
    pub fn new(file: Arc<FlvFile>) -> Self {
        Self { file, began_ns: AtomicU64::new(0) }
    }

    /// Its publisher begins, perhaps again, with the first message.
    pub fn begin(&self, now: Duration) {
        self.began_ns.store(nanos(now), Ordering::Relaxed);
    }

    /// When its publisher began last, if it is one of this process.
    #[must_use]
    pub fn began(&self) -> Option<Duration> {
        let began_ns = self.began_ns.load(Ordering::Relaxed);
        (began_ns > 0).then(|| Duration::from_nanos(began_ns))
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
        assert_eq!((flv.coded, flv.first_ms, flv.round_ms), (4, 100, 90));
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
    fn places_are_due_on_and_on() {
        let flv = FlvFile::parse(file(TAGS).into()).unwrap();
        for (place, due_ms) in [(0, 0), (1, 10), (2, 40), (3, 50), (4, 90), (7, 140), (8, 180)] {
            assert_eq!(flv.due_ms(place), due_ms, "{place}");
            assert_eq!(flv.place_at(due_ms), place, "{due_ms} ms");
        }
        assert_eq!((flv.place_at(11), flv.place_at(51)), (2, 4));
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
