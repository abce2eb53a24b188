#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::testing::bytes;

struct Vector {
    schema: Schema,
    c1_at: usize,
    c1: &'static str,
    s1_at: usize,
    s1: &'static str,
    key: &'static str,
    s2: &'static str,
}

/// Computed by an independent implementation.
const VECTORS: [Vector; 2] = [
    Vector {
        schema: Schema::KeyFirst,
        c1_at: 1014,
        c1: "ee57cd4468042a4a1d0356c6fa2a54e53deff6e11afca7fc1e8b559bf25ec48e",
        s1_at: 982,
        s1: "02dc9177e1ec6181c585e541cca3c6c26ce16c7bda28eaa9d95e73f039e61b9a",
        key: "045fa54ed54046cc01d617a89b624f936326ac7eaf267d1c1042ad877958d8a0",
        s2: "c90539960d453a49e2239f723127d2a28e206d0c75f94988dc57739b6830b9df",
    },
    Vector {
        schema: Schema::DigestFirst,
        c1_at: 66,
        c1: "57558039f689da2cd14bff731a86b6af64501620e140ff7d2265d3260626b728",
        s1_at: 98,
        s1: "7cb37cd4208ef4af898dc05914bdf50cdefb0698a4678bb98a88286382e508e2",
        key: "3772041411b24c091dc640ae5e43a20f8560e50a82f41c7a24548b582d46b29c",
        s2: "964220eb7debb562d9c3d9852e88448608975a7d4a0424be6cebfcb34508e89a",
    },
];

/// Four bytes of time 0, the version, and bytes that count up in steps.
fn packet(version: [u8; 4], step: usize, first: usize) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[4..8].copy_from_slice(&version);
    for (at, byte) in packet[8..].iter_mut().enumerate() {
        *byte = (step * at + first).to_le_bytes()[0];
    }
    packet
}

/// A C1 with a digest, as a player makes it.
pub(crate) fn signed_c1(schema: Schema) -> [u8; PACKET_BYTES] {
    let mut c1 = packet([0x80, 0, 7, 2], 7, 3);
    sign_first(Signer::Client, schema, &mut c1);
    c1
}

#[test]
fn vectors() {
    for vector in VECTORS {
        let schema = vector.schema;
        let mut c1 = signed_c1(schema);
        assert_eq!(c1[vector.c1_at..vector.c1_at + 32], bytes(vector.c1));
        let (found, c1_digest) = find_digest(Signer::Client, &c1).unwrap();
        assert_eq!((found, c1_digest.to_vec()), (schema, bytes(vector.c1)));

        let mut s1 = packet([4, 5, 0, 1], 11, 5);
        sign_first(Signer::Server, schema, &mut s1);
        assert_eq!(s1[vector.s1_at..vector.s1_at + 32], bytes(vector.s1));

        let mut s2: [u8; PACKET_BYTES] = std::array::from_fn(|at| (13 * at + 1).to_le_bytes()[0]);
        sign_second(Signer::Server, &c1_digest, &mut s2);
        assert_eq!(s2[1504..], bytes(vector.s2));
        assert_eq!(hmac(&[SERVER_TEXT, &KEY_TAIL].concat(), &[&c1_digest])[..], bytes(vector.key));

        // What one signs is nothing to who looks for the other.
        assert_eq!(find_digest(Signer::Server, &c1), None);
        assert_eq!(find_digest(Signer::Client, &s1), None);

        // One bit changed anywhere that is digested: a plain C1.
        for at in [0, 5, 100, 700, 1000, 1535] {
            c1[at] ^= 1;
            assert_eq!(find_digest(Signer::Client, &c1), None, "bit of byte {at}");
            c1[at] ^= 1;
        }
        // Version 0 is plain, whatever else is there.
        c1[4..8].fill(0);
        assert_eq!(find_digest(Signer::Client, &c1), None);
    }
    assert_eq!([PLAYER_TEXT.len(), SERVER_TEXT.len(), KEY_TAIL.len()], [30, 36, 32]);
}

#[test]
fn digests_stay_inside_the_packet() {
    for byte in 0..=255 {
        let packet = [byte; PACKET_BYTES];
        assert!(Schema::DigestFirst.digest_position(&packet) + 32 <= 772);
        assert!(Schema::KeyFirst.digest_position(&packet) + 32 <= PACKET_BYTES);
    }
}
