//! What encrypting costs by itself, and what the relay's sealing adds to it, on the server's core.
//!
//! Raw is AES-256-GCM over the batches of a fan-out and nothing else: the same plaintext for
//! everybody, under a key for each player, in place, in as many buffers as the relay has in flight.
//! Sealing is the relay's own way from a segment to records that can be sent. Both take turns of a
//! few milliseconds, so that the machine's drift falls on both alike.

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use loadgen::clock;
use relay::tls::{CertificateFiles, ClientTls, Layer, SealBuffers, ServerTls, TlsError, Trust};
use ring::aead as ring_aead;
use serde::Serialize;

use super::players::median;
use super::{beside, cannot};
use crate::CannotRun;

/// CPU per encrypted gigabyte.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Raw {
    /// The provider's AES-256-GCM alone.
    pub(super) cpu_per_gb: f64,
    /// What it adds to bare sends of the same bytes.
    pub(super) beside_per_gb: f64,
    /// The relay's sealing.
    pub(super) sealed_per_gb: f64,
}

/// What one provider takes for records of one size, under one key.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    pub(super) provider: &'static str,
    pub(super) record_bytes: usize,
    pub(super) cpu_per_gb: f64,
}

/// Most plaintext bytes of a record (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16_384;

/// Batches that are encrypted before the first of them is gone, as in the relay.
const IN_FLIGHT: usize = 32;

/// How often and how long each is measured.
const ROUNDS: usize = 21;
const SLICE: Duration = Duration::from_millis(10);

/// Raw encryption and sealing of batches of `batch_bytes`, for so many players. `load` is the core of
/// receivers.
pub(super) fn measure(
    batch_bytes: usize,
    players: usize,
    files: &CertificateFiles,
    load: usize,
) -> Result<Raw, CannotRun> {
    let batch_bytes = batch_bytes.max(1);
    let wrong = |error: aws_lc_rs::error::Unspecified| cannot("AES-GCM fails", &error);
    let key = |number: usize| -> Result<LessSafeKey, CannotRun> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).map_err(wrong)?))
    };
    let keys = (0..players.max(1)).map(key).collect::<Result<Vec<_>, _>>()?;
    let mut batches = vec![vec![0_u8; batch_bytes]; IN_FLIGHT];
    let mut layers = layers(players.max(1), files)?;
    let plain = [Bytes::from(vec![7; batch_bytes])];
    let buffers = SealBuffers::default();
    let mut sealed = Vec::with_capacity(IN_FLIGHT);
    let (mut raws, mut seals) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raws.push(per_gb(batch_bytes * keys.len(), || {
            for (number, key) in keys.iter().enumerate() {
                for record in batches[number % IN_FLIGHT].chunks_mut(RECORD_BYTES) {
                    let nonce = Nonce::assume_unique_for_key([0; 12]);
                    let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 5]), record);
                    let _ = black_box(tag.map_err(wrong)?);
                }
            }
            Ok(())
        })?);
        seals.push(per_gb(batch_bytes * layers.len(), || {
            for layer in &mut layers {
                if sealed.len() == IN_FLIGHT {
                    sealed.clear();
                }
                let records = layer.seal(&plain, &buffers);
                sealed.push(records.map_err(|error| cannot("sealing fails", &error))?);
            }
            Ok(())
        })?);
    }
    let beside_per_gb = beside::measure(batch_bytes, players, load)?;
    Ok(Raw { cpu_per_gb: median(raws), beside_per_gb, sealed_per_gb: median(seals) })
}

/// Each provider over a batch of 60 KiB in records of several sizes.
pub(super) fn records() -> Result<Vec<Record>, CannotRun> {
    let wrong = |_: aws_lc_rs::error::Unspecified| CannotRun("AES-GCM fails".to_owned());
    let refused = |_: ring::error::Unspecified| CannotRun("AES-GCM of ring fails".to_owned());
    let aws = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(wrong)?);
    let ring = ring_aead::UnboundKey::new(&ring_aead::AES_256_GCM, &[7; 32]).map_err(refused)?;
    let ring = ring_aead::LessSafeKey::new(ring);
    let mut batch = vec![0_u8; 60 << 10];
    let bytes = batch.len();
    let mut rows = Vec::new();
    for record_bytes in [1_024, 4_096, RECORD_BYTES] {
        let (mut of_aws, mut of_ring) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            of_aws.push(per_gb(bytes, || {
                for record in batch.chunks_mut(record_bytes) {
                    let nonce = Nonce::assume_unique_for_key([0; 12]);
                    let tag = aws.seal_in_place_separate_tag(nonce, Aad::from([0; 5]), record);
                    let _ = black_box(tag.map_err(wrong)?);
                }
                Ok(())
            })?);
            of_ring.push(per_gb(bytes, || {
                for record in batch.chunks_mut(record_bytes) {
                    let nonce = ring_aead::Nonce::assume_unique_for_key([0; 12]);
                    let aad = ring_aead::Aad::from([0; 5]);
                    let tag = ring.seal_in_place_separate_tag(nonce, aad, record);
                    let _ = black_box(tag.map_err(refused)?);
                }
                Ok(())
            })?);
        }
        for (provider, values) in [("aws-lc-rs", of_aws), ("ring", of_ring)] {
            rows.push(Record { provider, record_bytes, cpu_per_gb: median(values) });
        }
    }
    Ok(rows)
}

/// Does `pass`, over so many bytes, for a slice of time: CPU seconds per gigabyte.
fn per_gb(bytes: usize, mut pass: impl FnMut() -> Result<(), CannotRun>) -> Result<f64, CannotRun> {
    let begin = clock::thread_cpu();
    let mut done = 0;
    loop {
        pass()?;
        done += bytes;
        let took = clock::thread_cpu() - begin;
        if took >= SLICE {
            return Ok(took.as_secs_f64() * 1e9 / done as f64);
        }
    }
}

/// The server's side of as many connections over TLS 1.3.
fn layers(players: usize, files: &CertificateFiles) -> Result<Vec<Layer>, CannotRun> {
    let wrong = |error| cannot("TLS cannot be had", &error);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (server, _) = ServerTls::load(vec![files.clone()], 0, 1_024, now).map_err(wrong)?;
    let client = ClientTls::new(&Trust::Authorities(files.certificate.clone())).map_err(wrong)?;
    let established = || -> Result<Layer, TlsError> {
        let (mut ours, mut theirs) = (server.accept()?, client.connect("localhost")?);
        while ours.established().is_none() || theirs.has_output() {
            let mut plain = Vec::new();
            if let Some(bytes) = theirs.take_output() {
                ours.receive(&bytes, &mut plain)?;
            }
            if let Some(bytes) = ours.take_output() {
                theirs.receive(&bytes, &mut plain)?;
            }
        }
        Ok(ours)
    };
    let layer = |_| established().map_err(|error| cannot("a handshake fails", &error));
    (0..players).map(layer).collect()
}
