//! The one source of chance of the cluster's machine: everything follows from its seed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;

use super::hello::Nonce;

/// Numbers that nobody can foretell who does not know the seed.
#[derive(Debug)]
pub(super) struct Chance {
    seed: [u8; 32],
    drawn: u64,
}

impl Chance {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// A nonce: HMAC-SHA256 of a counter.
    pub(super) fn nonce(&mut self) -> Nonce {
        self.drawn += 1;
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.seed).expect("HMAC takes keys of any length");
        mac.update(&self.drawn.to_be_bytes());
        mac.finalize().into_bytes().into()
    }

    /// A time up to `span`.
    pub(super) fn within(&mut self, span: Duration) -> Duration {
        (self.jitter(span) - span / 2) * 2
    }

    /// A time between half of `span` and all of it.
    pub(super) fn jitter(&mut self, span: Duration) -> Duration {
        let [low, high, ..] = self.nonce();
        let share = u32::from(u16::from_be_bytes([low, high]));
        span / 2 + span / 2 * share / u32::from(u16::MAX)
    }
}
