//! The truth inside the payload: frames that any server can carry and any player can judge.
//!
//! A synthetic frame is shaped like AVC, HEVC, AV1 or AAC, and holds a record that says which frame
//! of which stream it is, when it was to be sent, and what all of its bytes hash to. The record
//! lies where the codec allows private data (an SEI message, a metadata OBU, a data stream
//! element), so a server that looks inside finds nothing wrong. No byte of the record is 0, so
//! nothing needs escaping.
//!
//! ```text
//!   payload: [ media header | wrapper | RECORD 64 bytes | wrapper | filler, never 0 ]
//!   record:  [ "loadgen1" | 40 bytes as 46 of 7 bits | hash as 10 of 7 bits ]
//!   hash:    every byte of the payload except those ten
//! ```

mod codec;
mod hash;
mod headers;
mod record;

pub use self::codec::{VideoCodec, audio_frame, video_frame};
pub use self::hash::{Hasher, hash_of, mix};
pub use self::headers::{audio_header, metadata, video_header};
pub use self::record::{RECORD_BYTES, Reading, Truth, read};

/// Bytes that are never 0, from which frames are filled up.
#[derive(Debug)]
pub struct Filler(Vec<u8>);

impl Filler {
    /// A pattern that depends on the seed alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self((0..PATTERN_BYTES).map(|_| random.u8(1..)).collect())
    }

    /// Appends `count` bytes, others for each `position`.
    fn append(&self, out: &mut Vec<u8>, position: u64, count: usize) {
        let start = usize::try_from(position % PATTERN_STARTS).unwrap_or_default() * 61;
        let mut left = count;
        let mut at = start;
        while left > 0 {
            let piece = self.0[at..].len().min(left);
            out.extend_from_slice(&self.0[at..at + piece]);
            left -= piece;
            at = 0;
        }
    }
}

const PATTERN_BYTES: usize = 65_536;
/// Positions differ by 61 bytes, and 1,024 of them fit the pattern.
const PATTERN_STARTS: u64 = 1_024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
