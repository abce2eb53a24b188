//! What encrypting costs by itself: the provider's AES-256-GCM over records of the same length, on
//! the server's core, with nothing around it.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use loadgen::clock;
use serde::Serialize;

use super::cannot;
use crate::CannotRun;

/// CPU per encrypted gigabyte.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Raw {
    pub(super) cpu_per_gb: f64,
}

/// How long to encrypt at a time.
const SLICE: Duration = Duration::from_millis(100);

/// Encrypts batches of this length for a while, in records as the relay makes them, each batch from
/// other memory, as the relay's are.
pub(super) fn measure(batch_bytes: usize) -> Result<Raw, CannotRun> {
    let wrong = |error: aws_lc_rs::error::Unspecified| cannot("AES-GCM fails", &error);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(wrong)?);
    let mut batches = vec![vec![0_u8; batch_bytes.max(1)]; 32];
    let begin = clock::thread_cpu();
    let mut bytes = 0_usize;
    while clock::thread_cpu() - begin < SLICE {
        for batch in &mut batches {
            for record in batch.chunks_mut(16_384) {
                let nonce = Nonce::assume_unique_for_key([0; 12]);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 5]), record);
                let _ = std::hint::black_box(tag.map_err(wrong)?);
                bytes += record.len();
            }
        }
    }
    let took = clock::thread_cpu() - begin;
    Ok(Raw { cpu_per_gb: took.as_secs_f64() * 1e9 / bytes as f64 })
}
