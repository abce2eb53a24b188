//! A hash that finds every accidental change, at memory speed. It is no defence against somebody
//! who wants to deceive.
//!
//! Each step is a bijection of the state for a given word and of the word for a given state, so a
//! change within one word of eight bytes always changes the result.

/// Hashes bytes that come in pieces; how they are cut makes no difference.
#[derive(Clone, Debug)]
pub struct Hasher {
    state: u64,
    held: [u8; 8],
    held_bytes: usize,
    length: u64,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, held: [0; 8], held_bytes: 0, length: 0 }
    }
}

impl Hasher {
    /// Takes in bytes.
    pub fn write(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(crate::units::wide(bytes.len()));
        if self.held_bytes > 0 {
            let taken = bytes.len().min(8 - self.held_bytes);
            let (now, later) = bytes.split_at(taken);
            self.held[self.held_bytes..self.held_bytes + taken].copy_from_slice(now);
            self.held_bytes += taken;
            bytes = later;
            if self.held_bytes < 8 {
                return;
            }
            self.state = mix(self.state, u64::from_le_bytes(self.held));
            self.held_bytes = 0;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        self.state =
            words.iter().fold(self.state, |state, word| mix(state, u64::from_le_bytes(*word)));
        self.held[..rest.len()].copy_from_slice(rest);
        self.held_bytes = rest.len();
    }

    /// The hash of everything written.
    #[must_use]
    pub fn finish(mut self) -> u64 {
        self.held[self.held_bytes..].fill(0);
        let state = mix(mix(self.state, u64::from_le_bytes(self.held)), self.length);
        mix(state, 0)
    }
}

/// The hash of bytes in one piece.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = Hasher::default();
    hasher.write(bytes);
    hasher.finish()
}

/// One step.
#[must_use]
pub fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed.rotate_right(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_gives_the_same_and_every_change_another() {
        let bytes: Vec<u8> = (0..61).map(|index| index * 3 + 1).collect();
        let whole = hash_of(&bytes);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut hasher = Hasher::default();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    hasher.write(piece);
                }
                assert_eq!(hasher.finish(), whole, "cut at {first} and {second}");
            }
        }
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert_ne!(hash_of(&changed), whole, "byte {place}, bit {bit}");
            }
        }
        assert_ne!(hash_of(&[]), hash_of(&[0]));
    }
}
