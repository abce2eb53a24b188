//! The handshake (RTMP 1.0 section 5.2), both roles, without input or output of its own.
//!
//! ```text
//!   client   C0 C1 ------------------>            <------------------ C2, chunks   client
//!   server            <------------------ S0 S1 S2 (3073 bytes, at once)           server
//! ```
//!
//! A server answers as soon as C1 is complete: FFmpeg and GStreamer read all of S0, S1 and S2
//! before they send C2. What C2 holds is never compared, since peers that differ work otherwise.
//! The random bytes are an expansion of a seed and no secret: nothing is authenticated by them.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::handshake_digest::{Signer, find_digest, sign_first, sign_second};

pub use super::handshake_digest::Schema;

/// Bytes of C1, C2, S1 and S2 each.
pub const PACKET_BYTES: usize = 1536;

/// The version of plain RTMP in C0 and S0.
const VERSION: u8 = 3;

/// The digest form's version bytes of S1. FFmpeg looks for a digest when the first is 3 or more.
const DIGEST_VERSION: [u8; 4] = [4, 5, 0, 1];

/// The digest form's version bytes of C1, as other servers send them when they are clients.
const CLIENT_VERSION: [u8; 4] = [0x80, 0, 7, 2];

/// How far a handshake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeProgress {
    /// All input is consumed; more is needed.
    More,
    /// These bytes are to be sent. Comes once; the input may hold more, so call again.
    Reply(Bytes),
    /// The peer's last packet is consumed: what is left of the input are chunks.
    Done,
}

/// Why a handshake failed; the connection is to be closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The encrypted variants 6, 8 and 9, which are not implemented.
    #[error("the peer asks for encrypted RTMP (RTMPE, version {0})")]
    RtmpeRefused(u8),
    /// Not RTMP at all, or a version that nobody speaks.
    #[error("the first byte is {0:#04x}, not RTMP version 3")]
    BadVersion(u8),
}

/// The server's side.
#[derive(Debug)]
pub struct ServerHandshake {
    state: ServerState,
    random: SplitMix64,
    digest: bool,
}

#[derive(Debug)]
enum ServerState {
    C0,
    C1(Packet),
    C2 { missing: usize },
    Done,
}

impl ServerHandshake {
    /// A handshake before its first byte; `seed` becomes the random bytes of S1 and S2.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: ServerState::C0, random: SplitMix64(seed), digest: false }
    }

    /// Takes what belongs to the handshake from `input`. The reply comes when C1 is complete, and
    /// [`HandshakeProgress::Done`] when C2 is; afterwards nothing more is consumed.
    ///
    /// # Errors
    /// When C0 is not version 3.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<HandshakeProgress, HandshakeError> {
        loop {
            match &mut self.state {
                ServerState::C0 => {
                    let Some(version) = take_byte(input) else {
                        return Ok(HandshakeProgress::More);
                    };
                    check_version(version)?;
                    self.state = ServerState::C1(Packet::default());
                }
                ServerState::C1(packet) => {
                    let Some(c1) = packet.fill(input) else { return Ok(HandshakeProgress::More) };
                    let digest = find_digest(Signer::Client, c1);
                    self.digest = digest.is_some();
                    let reply = reply(c1, digest, &mut self.random);
                    self.state = ServerState::C2 { missing: PACKET_BYTES };
                    return Ok(HandshakeProgress::Reply(reply));
                }
                ServerState::C2 { missing } => {
                    if !skip(input, missing) {
                        return Ok(HandshakeProgress::More);
                    }
                    self.state = ServerState::Done;
                }
                ServerState::Done => return Ok(HandshakeProgress::Done),
            }
        }
    }

    /// Whether C1 carried a valid digest and was answered with one. Flash Player plays H.264 only
    /// then.
    #[must_use]
    pub fn is_digest(&self) -> bool {
        self.digest
    }
}

/// The client's side, with a plain C1, which every server that was seen takes, or with a digest.
#[derive(Debug)]
pub struct ClientHandshake {
    state: ClientState,
    random: SplitMix64,
    schema: Option<Schema>,
    digest: bool,
}

#[derive(Debug)]
enum ClientState {
    S0,
    S1(Packet),
    S2 { missing: usize },
    Done,
}

impl ClientHandshake {
    /// A handshake before its first byte; `seed` becomes the random bytes of C1.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: ClientState::S0, random: SplitMix64(seed), schema: None, digest: false }
    }

    /// The same with a digest in C1, for servers that want one. One that answers with a plain S1 is
    /// good as well.
    #[must_use]
    pub fn with_digest(schema: Schema, seed: u64) -> Self {
        Self { schema: Some(schema), ..Self::new(seed) }
    }

    /// C0 and C1 (1537 bytes), to be sent first.
    #[must_use]
    pub fn hello(&mut self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + PACKET_BYTES);
        out.put_u8(VERSION);
        let version = if self.schema.is_some() { CLIENT_VERSION } else { [0; 4] };
        let mut c1 = first_packet(version, &mut self.random);
        if let Some(schema) = self.schema {
            sign_first(Signer::Client, schema, &mut c1);
        }
        out.put_slice(&c1);
        out.freeze()
    }

    /// Whether C1 and S1 both carried a digest.
    #[must_use]
    pub fn is_digest(&self) -> bool {
        self.digest
    }

    /// Takes what belongs to the handshake from `input`. C2 is the reply when S1 is complete: an
    /// echo of it, or, to a digest that answers ours, the proof that it was read. Then
    /// [`HandshakeProgress::Done`] comes when S2 is complete, whatever it holds.
    ///
    /// # Errors
    /// When S0 is not version 3.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<HandshakeProgress, HandshakeError> {
        loop {
            match &mut self.state {
                ClientState::S0 => {
                    let Some(version) = take_byte(input) else {
                        return Ok(HandshakeProgress::More);
                    };
                    check_version(version)?;
                    self.state = ClientState::S1(Packet::default());
                }
                ClientState::S1(packet) => {
                    let Some(s1) = packet.fill(input) else { return Ok(HandshakeProgress::More) };
                    let digest = self.schema.and_then(|_| find_digest(Signer::Server, s1));
                    let mut c2 = *s1;
                    if let Some((_, digest)) = digest {
                        self.random.fill(&mut c2);
                        sign_second(Signer::Client, &digest, &mut c2);
                    }
                    self.digest = digest.is_some();
                    let reply = Bytes::copy_from_slice(&c2);
                    self.state = ClientState::S2 { missing: PACKET_BYTES };
                    return Ok(HandshakeProgress::Reply(reply));
                }
                ClientState::S2 { missing } => {
                    if !skip(input, missing) {
                        return Ok(HandshakeProgress::More);
                    }
                    self.state = ClientState::Done;
                }
                ClientState::Done => return Ok(HandshakeProgress::Done),
            }
        }
    }
}

/// S0, S1 and S2.
fn reply(
    c1: &[u8; PACKET_BYTES],
    digest: Option<(Schema, [u8; 32])>,
    random: &mut SplitMix64,
) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 2 * PACKET_BYTES);
    out.put_u8(VERSION);
    match digest {
        Some((schema, c1_digest)) => {
            let mut s1 = first_packet(DIGEST_VERSION, random);
            sign_first(Signer::Server, schema, &mut s1);
            let mut s2 = [0; PACKET_BYTES];
            random.fill(&mut s2);
            sign_second(Signer::Server, &c1_digest, &mut s2);
            out.put_slice(&s1);
            out.put_slice(&s2);
        }
        None => {
            // An FFmpeg player takes any other version for the promise of a digest, and some
            // clients compare S2 with all of C1, its time included.
            out.put_slice(&first_packet([0; 4], random));
            out.put_slice(c1);
        }
    }
    out.freeze()
}

/// C1 or S1: time 0, version, random bytes.
fn first_packet(version: [u8; 4], random: &mut SplitMix64) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[4..8].copy_from_slice(&version);
    random.fill(&mut packet[8..]);
    packet
}

fn check_version(version: u8) -> Result<(), HandshakeError> {
    match version {
        VERSION => Ok(()),
        6 | 8 | 9 => Err(HandshakeError::RtmpeRefused(version)),
        _ => Err(HandshakeError::BadVersion(version)),
    }
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = input.split_first()?;
    *input = rest;
    Some(byte)
}

/// Consumes up to `missing` bytes. Whether none are missing any more.
fn skip(input: &mut &[u8], missing: &mut usize) -> bool {
    let skipped = input.len().min(*missing);
    *input = &input[skipped..];
    *missing -= skipped;
    *missing == 0
}

/// A packet that arrives in pieces.
#[derive(Debug, Default)]
struct Packet(Vec<u8>);

impl Packet {
    /// Adds bytes from `input` and gives the packet when it is complete.
    fn fill(&mut self, input: &mut &[u8]) -> Option<&[u8; PACKET_BYTES]> {
        let taken = input.len().min(PACKET_BYTES - self.0.len());
        self.0.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        self.0.first_chunk()
    }
}

/// Sebastiano Vigna's SplitMix64: a small generator that expands a seed. Not for secrets.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn fill(&mut self, out: &mut [u8]) {
        for piece in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^= word >> 31;
            piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests;
