#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::handshake_digest::tests::signed_c1;
use crate::wire::testing::every_split;

type Receive<'a> = &'a mut dyn FnMut(&mut &[u8]) -> Result<HandshakeProgress, HandshakeError>;

/// Feeds pieces until the handshake is done. Gives the replies and what is left of the input.
fn run(receive: Receive<'_>, pieces: &[&[u8]]) -> Result<(Vec<Bytes>, Vec<u8>), HandshakeError> {
    let mut replies = Vec::new();
    let mut left = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match receive(&mut input)? {
                HandshakeProgress::Reply(reply) => replies.push(reply),
                HandshakeProgress::More => {
                    assert!(input.is_empty());
                    break;
                }
                HandshakeProgress::Done => {
                    left.extend_from_slice(input);
                    break;
                }
            }
        }
    }
    Ok((replies, left))
}

/// C0, this C1, an arbitrary C2, and the first bytes of chunks.
fn client_bytes(c1: &[u8; PACKET_BYTES]) -> Vec<u8> {
    [&[3], &c1[..], &[0xEE; PACKET_BYTES], b"chunks"].concat()
}

fn check_server(c1: &[u8; PACKET_BYTES], is_digest: bool, check: impl Fn(&[u8])) {
    let mut whole = None;
    every_split(&client_bytes(c1), |pieces| {
        let mut server = ServerHandshake::new(42);
        let (replies, left) = run(&mut |input| server.receive(input), pieces).unwrap();
        assert_eq!(replies.len(), 1);
        assert_eq!(left, b"chunks");
        assert_eq!(server.is_digest(), is_digest);
        assert_eq!(whole.get_or_insert_with(|| replies[0].clone()), &replies[0]);
    });
    let reply = whole.unwrap();
    assert_eq!(reply.len(), 3073);
    assert_eq!(reply[0], 3);
    check(&reply[1..]);
}

#[test]
fn a_plain_c1_is_echoed() {
    let mut c1 = [0x55; PACKET_BYTES];
    for version in [[0; 4], [9, 0, 124, 2]] {
        c1[4..8].copy_from_slice(&version);
        check_server(&c1, false, |packets| {
            let (s1, s2) = packets.split_at(PACKET_BYTES);
            assert_eq!(s1[4..8], [0; 4], "no promise of a digest");
            assert!(s1[8..].chunks(8).any(|word| word != &s1[8..16]), "random bytes");
            assert_eq!(s2, c1, "an exact echo, the time included");
        });
    }
}

#[test]
fn a_digest_is_answered_with_one() {
    for schema in [Schema::KeyFirst, Schema::DigestFirst] {
        let c1 = signed_c1(schema);
        let (_, c1_digest) = find_digest(Signer::Client, &c1).unwrap();
        check_server(&c1, true, |packets| {
            let (s1, s2) = packets.split_at(PACKET_BYTES);
            assert_eq!(s1[4..8], [4, 5, 0, 1]);
            // Signing what is signed changes nothing.
            let mut signed = *s1.first_chunk().unwrap();
            sign_first(Signer::Server, schema, &mut signed);
            assert_eq!(signed, s1);
            let mut signed = *s2.first_chunk().unwrap();
            sign_second(Signer::Server, &c1_digest, &mut signed);
            assert_eq!(signed, s2);
            assert_ne!(s2, c1);
        });
    }
}

#[test]
fn the_reply_comes_before_c2() {
    let mut server = ServerHandshake::new(0);
    let bytes = client_bytes(&[1; PACKET_BYTES]);
    let mut input = &bytes[..1537];
    assert!(matches!(server.receive(&mut input), Ok(HandshakeProgress::Reply(_))));
    assert_eq!(server.receive(&mut input), Ok(HandshakeProgress::More));
    let mut input = &bytes[1537..];
    assert_eq!(server.receive(&mut input), Ok(HandshakeProgress::Done));
    // And nothing more is taken.
    assert_eq!(server.receive(&mut input), Ok(HandshakeProgress::Done));
    assert_eq!(input, b"chunks");
}

#[test]
fn the_seed_makes_the_random_bytes() {
    let reply = |seed| {
        let mut server = ServerHandshake::new(seed);
        let bytes = client_bytes(&[1; PACKET_BYTES]);
        let (replies, _) = run(&mut |input| server.receive(input), &[&bytes]).unwrap();
        replies[0].clone()
    };
    assert_eq!(reply(7), reply(7));
    assert_ne!(reply(7), reply(8));
    // First outputs of the published generator for the state 1234567.
    let mut word = [0; 8];
    SplitMix64(1_234_567).fill(&mut word);
    assert_eq!(u64::from_le_bytes(word), 6_457_827_717_110_365_317);
}

#[test]
fn the_first_byte_decides() {
    for version in 0..=255 {
        let expected = match version {
            3 => Ok(HandshakeProgress::More),
            6 | 8 | 9 => Err(HandshakeError::RtmpeRefused(version)),
            _ => Err(HandshakeError::BadVersion(version)),
        };
        assert_eq!(ServerHandshake::new(0).receive(&mut &[version][..]), expected);
        assert_eq!(ClientHandshake::new(0).receive(&mut &[version][..]), expected);
    }
}

#[test]
fn a_client_echoes_s1_and_takes_any_s2() {
    let hello = ClientHandshake::new(5).hello();
    assert_eq!((hello.len(), hello[0], &hello[5..9]), (1537, 3, &[0; 4][..]));
    let s1 = [0x77; PACKET_BYTES];
    let bytes = [&[3], &s1[..], &[0x11; PACKET_BYTES], b"chunks"].concat();
    every_split(&bytes, |pieces| {
        let mut client = ClientHandshake::new(5);
        let (replies, left) = run(&mut |input| client.receive(input), pieces).unwrap();
        assert_eq!(replies, [&s1[..]]);
        assert_eq!(left, b"chunks");
    });
}

#[test]
fn both_sides_understand_each_other() {
    let (mut client, mut server) = (ClientHandshake::new(1), ServerHandshake::new(2));
    let hello = client.hello();
    let (reply, _) = run(&mut |input| server.receive(input), &[&hello]).unwrap();
    let (echo, _) = run(&mut |input| client.receive(input), &[&reply[0]]).unwrap();
    assert_eq!(client.receive(&mut &[][..]), Ok(HandshakeProgress::Done));
    assert_eq!(server.receive(&mut &echo[0][..]), Ok(HandshakeProgress::Done));
    assert_eq!(reply[0][1537..], hello[1..], "S2 is C1");
    assert_eq!(reply[0][1..1537], echo[0], "C2 is S1");
}

#[test]
fn a_client_signs_in_either_schema_and_proves_that_it_read_the_servers_digest() {
    for schema in [Schema::KeyFirst, Schema::DigestFirst] {
        let (mut client, mut server) =
            (ClientHandshake::with_digest(schema, 1), ServerHandshake::new(2));
        let hello = client.hello();
        assert_eq!((hello.len(), hello[0], &hello[5..9]), (1537, 3, &[0x80, 0, 7, 2][..]));
        let (found, _) = find_digest(Signer::Client, hello[1..].first_chunk().unwrap()).unwrap();
        assert_eq!(found, schema);
        let (reply, _) = run(&mut |input| server.receive(input), &[&hello]).unwrap();
        assert!(server.is_digest());
        let s1: &[u8; PACKET_BYTES] = reply[0][1..].first_chunk().unwrap();
        let (answered, s1_digest) = find_digest(Signer::Server, s1).unwrap();
        assert_eq!(answered, schema);
        let (c2, _) = run(&mut |input| client.receive(input), &[&reply[0]]).unwrap();
        assert!(client.is_digest());
        let mut signed = *c2[0].first_chunk().unwrap();
        sign_second(Signer::Client, &s1_digest, &mut signed);
        assert_eq!(signed[..], c2[0], "signing what is signed changes nothing");
        assert_ne!(c2[0], s1[..], "no echo");
        assert_eq!(client.receive(&mut &[][..]), Ok(HandshakeProgress::Done));
        assert_eq!(server.receive(&mut &c2[0][..]), Ok(HandshakeProgress::Done));
    }
}

#[test]
fn a_client_with_a_digest_takes_a_plain_answer() {
    for version in [[0; 4], [4, 5, 0, 1]] {
        let mut s1 = [0x77; PACKET_BYTES];
        s1[4..8].copy_from_slice(&version);
        let bytes = [&[3], &s1[..], &[0x11; PACKET_BYTES], b"chunks"].concat();
        every_split(&bytes, |pieces| {
            let mut client = ClientHandshake::with_digest(Schema::DigestFirst, 5);
            let (replies, left) = run(&mut |input| client.receive(input), pieces).unwrap();
            assert_eq!(replies, [&s1[..]], "an echo");
            assert_eq!((client.is_digest(), &left[..]), (false, &b"chunks"[..]));
        });
    }
}
