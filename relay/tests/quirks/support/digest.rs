//! The digest handshake from the client's side: C1 with a digest, and the judgement of an answer as
//! FFmpeg's player and Flash give it. Written from the description, apart from the product's code.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::script::{PACKET, hex};

const PLAYER: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER: &[u8] = b"Genuine Adobe Flash Media Server 001";
const TAIL: &str = "f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae";

/// C1 with these version bytes and a valid digest in this schema.
pub(crate) fn c1(schema: u8, version: [u8; 4]) -> [u8; PACKET] {
    let mut packet: [u8; PACKET] = std::array::from_fn(|at| (at * 7 + 3).to_le_bytes()[0]);
    packet[..4].fill(0);
    packet[4..8].copy_from_slice(&version);
    let at = position(schema, &packet);
    let digest = mac(PLAYER, &[&packet[..at], &packet[at + 32..]]);
    packet[at..at + 32].copy_from_slice(&digest);
    packet
}

/// Judges S1 and S2 against the C1 that they answer, as a player does that insists on digests.
#[track_caller]
pub(crate) fn assert_answered(schema: u8, c1: &[u8; PACKET], s1: &[u8], s2: &[u8]) {
    assert!(s1[4] >= 3, "a version that promises a digest");
    let at = position(schema, s1);
    assert_eq!(s1[at..at + 32], mac(SERVER, &[&s1[..at], &s1[at + 32..]]), "the digest of S1");
    let at = position(schema, c1);
    let key = mac(&[SERVER, &hex(TAIL)].concat(), &[&c1[at..at + 32]]);
    assert_eq!(s2[1504..], mac(&key, &[&s2[..1504]]), "the signature of S2");
}

fn position(schema: u8, packet: &[u8]) -> usize {
    let pointer = if schema == 0 { 772 } else { 8 };
    let sum: usize = packet[pointer..pointer + 4].iter().map(|&byte| usize::from(byte)).sum();
    pointer + 4 + sum % 728
}

fn mac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}
