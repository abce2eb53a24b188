//! The digest form of the handshake: what Flash Player asked for before it played H.264, and what
//! FFmpeg still offers. It is in no specification; every implementation carries the same constants.
//!
//! A packet holds the HMAC-SHA256 of its other 1504 bytes at a position that four of them
//! determine. The keys are public, so this authenticates nobody and needs no comparison in constant
//! time. The Diffie-Hellman keys that share the packet belong to RTMPE and stay random here.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::handshake::PACKET_BYTES;

/// In which half of the packet the digest lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Schema 0: key, then digest.
    KeyFirst,
    /// Schema 1: digest, then key.
    DigestFirst,
}

const DIGEST_BYTES: usize = 32;

/// Digest positions modulo this, so that the digest stays inside its half.
const POSITIONS: usize = 728;

const PLAYER_TEXT: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_TEXT: &[u8] = b"Genuine Adobe Flash Media Server 001";

/// Follows a text in the full keys.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
    0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

/// Who signs a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    /// C1 and C2.
    Client,
    /// S1 and S2.
    Server,
}

/// The signer's digest in its first packet, and where it was found; `None` when the packet is
/// plain.
pub(super) fn find_digest(
    signer: Signer,
    packet: &[u8; PACKET_BYTES],
) -> Option<(Schema, [u8; DIGEST_BYTES])> {
    if packet[4..8] == [0; 4] {
        return None;
    }
    [Schema::KeyFirst, Schema::DigestFirst].into_iter().find_map(|schema| {
        let at = schema.digest_position(packet);
        let digest = digest_around(signer.text(), packet, at);
        (packet[at..at + DIGEST_BYTES] == digest).then_some((schema, digest))
    })
}

/// Puts the signer's digest into its first packet, which is otherwise complete.
pub(super) fn sign_first(signer: Signer, schema: Schema, packet: &mut [u8; PACKET_BYTES]) {
    let at = schema.digest_position(packet);
    let digest = digest_around(signer.text(), packet, at);
    packet[at..at + DIGEST_BYTES].copy_from_slice(&digest);
}

/// Ends the signer's second packet, otherwise of random bytes, with the proof that the other's
/// digest was read.
pub(super) fn sign_second(
    signer: Signer,
    digest: &[u8; DIGEST_BYTES],
    packet: &mut [u8; PACKET_BYTES],
) {
    let key = hmac(&[signer.text(), &KEY_TAIL].concat(), &[digest]);
    let (body, signature) = packet.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
    signature.copy_from_slice(&hmac(&key, &[body]));
}

impl Signer {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Client => PLAYER_TEXT,
            Self::Server => SERVER_TEXT,
        }
    }
}

impl Schema {
    /// Where the digest lies in a packet: four of its bytes, added up, say it.
    fn digest_position(self, packet: &[u8; PACKET_BYTES]) -> usize {
        let pointer = match self {
            Self::KeyFirst => 772,
            Self::DigestFirst => 8,
        };
        let sum: usize = packet[pointer..pointer + 4].iter().map(|&byte| usize::from(byte)).sum();
        pointer + 4 + sum % POSITIONS
    }
}

/// The HMAC of a packet without the 32 bytes at `at`.
fn digest_around(key: &[u8], packet: &[u8; PACKET_BYTES], at: usize) -> [u8; DIGEST_BYTES] {
    hmac(key, &[&packet[..at], &packet[at + DIGEST_BYTES..]])
}

fn hmac(key: &[u8], pieces: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
pub(super) mod tests;
