//! The ids of tunnelled sessions: who holds one holds the session, so they cannot be guessed, and
//! each says which node and core its session lives on.
//!
//! ```text
//!   24 bytes, 32 characters of URL-safe base64
//!   node (3) | core (2) | random (16) | seal (3)
//! ```
//!
//! The 128 random bits come from the operating system, anew for each id. The seal is the beginning
//! of an HMAC over all that stands before it, under a key that only this run of the node knows: it
//! costs a guesser's request one hash and no search, and keeps made-up ids from moving connections
//! between cores. What admits is the whole id, looked up where it says its session lives.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Characters of an id. FFmpeg takes up to 63.
pub const TUNNEL_ID_CHARS: usize = 32;

const ID_BYTES: usize = 24;
const NODE_BYTES: usize = 3;
const SEALED_BYTES: usize = 21;

/// The id of one tunnelled session. Its text is a secret of the client: never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId([u8; ID_BYTES]);

/// Makes the ids of one node, and judges those that come back.
#[derive(Clone)]
pub struct TunnelIds {
    node: [u8; NODE_BYTES],
    key: [u8; 32],
}

/// Why an id is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdFault {
    /// It has not the form of an id.
    #[error("it is no id of a session")]
    Malformed,
    /// Another node made it: whatever spreads the load sends this client to the wrong place.
    #[error("it names another node")]
    OtherNode,
    /// Nobody made it, or this node before it was last started.
    #[error("this node never made it")]
    Forged,
}

/// The first four characters of every id of a node of this name, on whatever run of it: what a
/// proxy knows the node by.
#[must_use]
pub fn tunnel_tag(node: &str) -> String {
    URL_SAFE_NO_PAD.encode(node_bytes(node))
}

fn node_bytes(node: &str) -> [u8; NODE_BYTES] {
    let digest = Sha256::digest(node.as_bytes());
    let mut bytes = [0; NODE_BYTES];
    bytes.copy_from_slice(&digest[..NODE_BYTES]);
    bytes
}

impl TunnelIds {
    /// The ids of a node. `key` is drawn from the operating system when the node starts.
    #[must_use]
    pub fn new(node: &str, key: [u8; 32]) -> Self {
        Self { node: node_bytes(node), key }
    }

    /// A new id for a session that lives on `core`, out of bytes that nobody can foretell.
    #[must_use]
    pub fn make(&self, core: u16, random: [u8; 16]) -> TunnelId {
        let mut id = [0; ID_BYTES];
        id[..3].copy_from_slice(&self.node);
        id[3..5].copy_from_slice(&core.to_be_bytes());
        id[5..SEALED_BYTES].copy_from_slice(&random);
        let seal = self.seal(&id).finalize().into_bytes();
        id[SEALED_BYTES..].copy_from_slice(&seal[..ID_BYTES - SEALED_BYTES]);
        TunnelId(id)
    }

    /// Reads an id from a request. It is one of this run of this node, but its session may be over.
    ///
    /// # Errors
    /// When this node did not make it.
    pub fn read(&self, text: &[u8]) -> Result<TunnelId, IdFault> {
        let mut id = [0; ID_BYTES];
        if text.len() != TUNNEL_ID_CHARS {
            return Err(IdFault::Malformed);
        }
        match URL_SAFE_NO_PAD.decode_slice(text, &mut id) {
            Ok(ID_BYTES) => {}
            _ => return Err(IdFault::Malformed),
        }
        if id[..NODE_BYTES] != self.node {
            return Err(IdFault::OtherNode);
        }
        // Compared in constant time.
        let judged = self.seal(&id).verify_truncated_left(&id[SEALED_BYTES..]);
        judged.map_err(|_| IdFault::Forged)?;
        Ok(TunnelId(id))
    }

    fn seal(&self, id: &[u8; ID_BYTES]) -> Hmac<Sha256> {
        let mut hmac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        hmac.update(&id[..SEALED_BYTES]);
        hmac
    }
}

/// The key is not shown.
impl fmt::Debug for TunnelIds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TunnelIds").field("node", &self.node).finish_non_exhaustive()
    }
}

impl TunnelId {
    /// The core that the session lives on.
    #[must_use]
    pub fn core(&self) -> u16 {
        u16::from_be_bytes([self.0[3], self.0[4]])
    }

    /// The characters that the client is told.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// Its text is a secret and not shown.
impl fmt::Debug for TunnelId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TunnelId").field("core", &self.core()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_names_its_core() {
        let ids = TunnelIds::new("node-1", [7; 32]);
        for core in [0, 1, 255, 256, u16::MAX] {
            let id = ids.make(core, [9; 16]);
            let text = id.text();
            assert_eq!(text.len(), TUNNEL_ID_CHARS);
            assert_eq!(text[..4], tunnel_tag("node-1"), "what a proxy goes by");
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            assert_eq!(ids.read(text.as_bytes()), Ok(id));
            assert_eq!(id.core(), core);
            assert!(!format!("{id:?} {ids:?}").contains(&text[8..16]), "neither is shown");
        }
    }

    #[test]
    fn what_this_node_did_not_make_is_refused() {
        let ids = TunnelIds::new("node-1", [7; 32]);
        let good = ids.make(3, [9; 16]).text();
        let check = |text: &str, fault: IdFault| {
            assert_eq!(ids.read(text.as_bytes()), Err(fault), "{text}");
        };
        check("", IdFault::Malformed);
        check(&good[1..], IdFault::Malformed);
        check(&format!("{good}A"), IdFault::Malformed);
        check(&good.replace(&good[5..6], "="), IdFault::Malformed);
        check(&TunnelIds::new("node-2", [7; 32]).make(3, [9; 16]).text(), IdFault::OtherNode);
        check(&TunnelIds::new("node-1", [8; 32]).make(3, [9; 16]).text(), IdFault::Forged);
        assert_eq!(ids.read(&[0xff; TUNNEL_ID_CHARS]), Err(IdFault::Malformed));
        // Any other character in any place.
        for at in 0..TUNNEL_ID_CHARS {
            for other in [b'A', b'z', b'0', b'-', b'_'] {
                let mut text = good.clone().into_bytes();
                if text[at] != other {
                    text[at] = other;
                    assert!(ids.read(&text).is_err(), "{}", String::from_utf8_lossy(&text));
                }
            }
        }
    }

    #[test]
    fn equal_random_bytes_give_other_ids_on_other_cores() {
        let ids = TunnelIds::new("", [0; 32]);
        let texts: Vec<String> = (0..4).map(|core| ids.make(core, [1; 16]).text()).collect();
        for (at, text) in texts.iter().enumerate() {
            assert_eq!(texts.iter().position(|other| other == text), Some(at));
        }
    }
}
