//! The record of a synthetic frame: written before its hash is known, read wherever it lies.

use super::hash::Hasher;

/// Bytes that a record takes.
pub const RECORD_BYTES: usize = MAGIC.len() + FIELD_BYTES_ENCODED + HASH_BYTES_ENCODED;

const MAGIC: &[u8; 8] = b"loadgen1";
const FIELD_BYTES: usize = 40;
const FIELD_BYTES_ENCODED: usize = (FIELD_BYTES * 8).div_ceil(7);
const HASH_BYTES_ENCODED: usize = 64_usize.div_ceil(7);

/// How far into a payload a record may start.
const SEARCHED_BYTES: usize = 128;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Which host's clock `sent_ns` is of: [`crate::clock::host_tag`].
    pub host: u32,
    /// Which session of the publisher: another one counts from 0 again.
    pub run: u32,
    /// Number of the stream.
    pub stream: u32,
    /// Number of the frame within the session, audio and video together, from 0.
    pub sequence: u64,
    /// When it was to be sent (not when it was), in nanoseconds since boot.
    pub sent_ns: u64,
    /// The timestamp with which it was published, in milliseconds.
    pub timestamp: u32,
    /// In a key frame: the sum of the hashes of all frames since the last key frame, that one
    /// included. Else 0.
    pub digest: u64,
}

/// What was found in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// No record.
    Absent,
    /// A record.
    Present {
        /// Its fields; not to be believed unless intact.
        truth: Truth,
        /// Whether the payload's bytes hash to what the record says.
        intact: bool,
        /// What they hash to.
        hash: u64,
    },
}

impl Truth {
    /// Appends the record with room for its hash; [`seal`] fills it in.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        let mut fields = [0; FIELD_BYTES];
        let (host, rest) = fields.split_at_mut(4);
        host.copy_from_slice(&self.host.to_be_bytes());
        let (run, rest) = rest.split_at_mut(4);
        run.copy_from_slice(&self.run.to_be_bytes());
        let (stream, rest) = rest.split_at_mut(4);
        stream.copy_from_slice(&self.stream.to_be_bytes());
        let (sequence, rest) = rest.split_at_mut(8);
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        let (sent, rest) = rest.split_at_mut(8);
        sent.copy_from_slice(&self.sent_ns.to_be_bytes());
        let (timestamp, digest) = rest.split_at_mut(4);
        timestamp.copy_from_slice(&self.timestamp.to_be_bytes());
        digest.copy_from_slice(&self.digest.to_be_bytes());
        encode(&fields, out);
        out.extend_from_slice(&[0x80; HASH_BYTES_ENCODED]);
    }

    fn parse(fields: &[u8; FIELD_BYTES]) -> Option<Self> {
        let long = |at: usize| Some(u64::from_be_bytes(*fields.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u32::from_be_bytes(*fields.get(at..)?.first_chunk()?));
        Some(Self {
            host: short(0)?,
            run: short(4)?,
            stream: short(8)?,
            sequence: long(12)?,
            sent_ns: long(20)?,
            timestamp: short(28)?,
            digest: long(32)?,
        })
    }
}

/// Writes the hash of a finished payload into its record, which starts at `record`; gives the hash.
pub(super) fn seal(payload: &mut [u8], record: usize) -> u64 {
    let hash_at = record + RECORD_BYTES - HASH_BYTES_ENCODED;
    let mut hasher = Hasher::default();
    hasher.write(&payload[..hash_at]);
    hasher.write(&payload[hash_at + HASH_BYTES_ENCODED..]);
    let hash = hasher.finish();
    let mut encoded = Vec::with_capacity(HASH_BYTES_ENCODED);
    encode(&hash.to_be_bytes(), &mut encoded);
    payload[hash_at..hash_at + HASH_BYTES_ENCODED].copy_from_slice(&encoded);
    hash
}

/// Reads the record of a payload that comes in pieces. The record must lie in the first one.
pub fn read<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> Reading {
    let Some(head) = pieces.next() else { return Reading::Absent };
    let searched = &head[..head.len().min(SEARCHED_BYTES + MAGIC.len())];
    let record = searched.windows(MAGIC.len()).position(|window| window == MAGIC);
    let Some((record, bytes)) =
        record.and_then(|at| Some((at, head.get(at..)?.first_chunk::<RECORD_BYTES>()?)))
    else {
        return Reading::Absent;
    };
    let (fields, said) = bytes[MAGIC.len()..].split_at(FIELD_BYTES_ENCODED);
    let Some(truth) = Truth::parse(&decode(fields)) else { return Reading::Absent };
    let hash_at = record + RECORD_BYTES - HASH_BYTES_ENCODED;
    let mut hasher = Hasher::default();
    hasher.write(&head[..hash_at]);
    hasher.write(&head[hash_at + HASH_BYTES_ENCODED..]);
    for piece in pieces {
        hasher.write(piece);
    }
    let hash = hasher.finish();
    // Encoded, so that the bits left over in the last byte are judged as well.
    let mut encoded = Vec::with_capacity(HASH_BYTES_ENCODED);
    encode(&hash.to_be_bytes(), &mut encoded);
    let intact = said.starts_with(&encoded);
    Reading::Present { truth, intact, hash }
}

/// Seven bits to a byte, the upper bit always set.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut held, mut bits) = (0_u16, 0);
    for byte in bytes {
        held = held << 8 | u16::from(*byte);
        bits += 8;
        while bits >= 7 {
            bits -= 7;
            out.push(seven(held >> bits));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(seven(held << (7 - bits)));
    }
}

fn seven(bits: u16) -> u8 {
    let [_, low] = bits.to_be_bytes();
    low | 0x80
}

fn decode(bytes: &[u8]) -> [u8; FIELD_BYTES] {
    let mut out = [0; FIELD_BYTES];
    let (mut held, mut bits) = (0_u16, 0);
    let mut places = out.iter_mut();
    for byte in bytes {
        held = held << 7 | u16::from(byte & 0x7f);
        bits += 7;
        if bits >= 8 {
            bits -= 8;
            let Some(place) = places.next() else { break };
            [_, *place] = (held >> bits).to_be_bytes();
            held &= (1 << bits) - 1;
        }
    }
    out
}
