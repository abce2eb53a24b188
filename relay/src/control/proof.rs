//! How nodes of one cluster know each other's questions to the API, and the answers: each carries a
//! proof made with the cluster's secret, which itself never crosses the network.
//!
//! A question's proof is over the node that is asked, the moment and the whole question, so it is
//! good for no other node, for a minute only, and for nothing else. An answer's is over that and
//! the whole answer: who has taken a node's address can answer nothing. Neither is hidden; who sees
//! what crosses sees what it says. Nothing here reads a clock.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The scheme of the `Authorization` field of a question.
pub(super) const SCHEME: &str = "Relay-Cluster";

/// The field of an answer that holds its proof.
pub(super) const ANSWER: &str = "relay-proof";

/// How far the clocks of two nodes may be apart, in seconds; and how long a question that somebody
/// has listened to can be repeated.
const APART_SECONDS_MAX: u64 = 60;

/// What a node that asks shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// When it asked, in seconds since 1970.
    at: u64,
    mac: [u8; 32],
}

/// Why a question is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// It is not by a node of this cluster, or it is for another node.
    #[error("the proof is wrong")]
    Secret,
    /// It is, but was asked at another time.
    #[error("the clocks of the two nodes are more than a minute apart")]
    Clock,
}

/// What is asked: of which node, and the path with its query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) node: &'a str,
    pub(super) target: &'a str,
}

impl Question<'_> {
    /// The proof of a node that asks at this moment, in seconds since 1970.
    pub(super) fn prove(self, secret: &[u8], at: u64) -> Proof {
        Proof { at, mac: self.mac(secret, at).finalize().into_bytes().into() }
    }

    /// Judges a proof at this moment; where there is no secret none is good.
    pub(super) fn judge(self, secret: &[u8], proof: &Proof, now: u64) -> Result<(), Wrong> {
        let good = self.mac(secret, proof.at).verify_slice(&proof.mac).is_ok();
        match (good && !secret.is_empty(), proof.at.abs_diff(now) <= APART_SECONDS_MAX) {
            (false, _) => Err(Wrong::Secret),
            (true, false) => Err(Wrong::Clock),
            (true, true) => Ok(()),
        }
    }

    fn mac(self, secret: &[u8], at: u64) -> Hmac<Sha256> {
        let mut mac = keyed(secret, b"relay cluster question ");
        mac.update(&at.to_be_bytes());
        // With its length, so that no byte of the one can be taken for the other's.
        mac.update(&u64::try_from(self.node.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(self.node.as_bytes());
        mac.update(self.target.as_bytes());
        mac
    }
}

impl Proof {
    /// The value of the `Authorization` field.
    pub(super) fn header(&self) -> String {
        format!("{SCHEME} {}.{}", self.at, hex(&self.mac))
    }

    /// What such a value says; `None` when it is of another scheme, and a proof that is wrong when
    /// it is not as it should be.
    pub(super) fn shown(value: &[u8]) -> Option<Self> {
        let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) || rest.first() != Some(&b' ') {
            return None;
        }
        let read = || {
            let (at, mac) = std::str::from_utf8(rest).ok()?.trim().split_once('.')?;
            Some(Self { at: at.parse().ok()?, mac: unhex(mac)? })
        };
        Some(read().unwrap_or(Self { at: 0, mac: [0; 32] }))
    }

    /// The proof of an answer to this question.
    pub(super) fn answer(&self, secret: &[u8], status: u16, body: &[u8]) -> String {
        hex(&self.answered(secret, status, body).finalize().into_bytes())
    }

    /// Whether this is it.
    pub(super) fn is_answered(
        &self,
        secret: &[u8],
        status: u16,
        body: &[u8],
        shown: &[u8],
    ) -> bool {
        let shown = std::str::from_utf8(shown).ok().and_then(unhex);
        shown.is_some_and(|mac| self.answered(secret, status, body).verify_slice(&mac).is_ok())
    }

    fn answered(&self, secret: &[u8], status: u16, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = keyed(secret, b"relay cluster answer ");
        mac.update(&self.mac);
        mac.update(&status.to_be_bytes());
        mac.update(body);
        mac
    }
}

fn keyed(secret: &[u8], purpose: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(purpose);
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; 32] = pairs.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from(value(*high)? << 4 | value(*low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"what only the nodes know";
    const ASKED: Question<'_> = Question { node: "b", target: "/api/v1/nodes" };

    #[test]
    fn a_proof_is_good_for_one_node_one_question_and_a_minute() {
        let proof = ASKED.prove(SECRET, 1_000);
        #[track_caller]
        fn check(
            question: Question<'_>,
            secret: &[u8],
            proof: &Proof,
            now: u64,
            expected: Result<(), Wrong>,
        ) {
            assert_eq!(question.judge(secret, proof, now), expected);
        }
        for now in [940, 1_000, 1_060] {
            check(ASKED, SECRET, &proof, now, Ok(()));
        }
        for now in [0, 939, 1_061, u64::MAX] {
            check(ASKED, SECRET, &proof, now, Err(Wrong::Clock));
        }
        let other_node = Question { node: "c", ..ASKED };
        let other_question = Question { target: "/api/v1/nodes?limit=1", ..ASKED };
        // What belongs to the name is not taken for part of the question.
        let shifted = Question { node: "b/", target: "api/v1/nodes" };
        for question in [other_node, other_question, shifted] {
            check(question, SECRET, &proof, 1_000, Err(Wrong::Secret));
        }
        check(ASKED, b"another secret of theirs", &proof, 1_000, Err(Wrong::Secret));
        check(ASKED, SECRET, &Proof { at: 1_001, ..proof }, 1_000, Err(Wrong::Secret));
        check(ASKED, b"", &ASKED.prove(b"", 1_000), 1_000, Err(Wrong::Secret));
    }

    #[test]
    fn a_proof_is_read_as_it_was_shown_and_anything_else_is_a_wrong_one() {
        let proof = ASKED.prove(SECRET, 1_000);
        let header = proof.header();
        assert!(!header.contains(std::str::from_utf8(SECRET).unwrap()));
        assert_eq!(Proof::shown(header.as_bytes()), Some(proof));
        let lower = header.replace(SCHEME, "relay-cluster");
        assert_eq!(Proof::shown(lower.as_bytes()), Some(proof));
        for other in ["", "Bearer abc", "Relay-Clusters 1.00", "Relay-Cluster", "Relay-Clusterx"] {
            assert_eq!(Proof::shown(other.as_bytes()), None, "{other}");
        }
        let wrong = Some(Proof { at: 0, mac: [0; 32] });
        let cut = &header[..header.len() - 1];
        let long = format!("{header}0");
        let odd = header.replace('.', ".\u{e4}");
        for bad in ["Relay-Cluster ", "Relay-Cluster 5", "Relay-Cluster 5.zz", cut, &long, &odd] {
            assert_eq!(Proof::shown(bad.as_bytes()), wrong, "{bad}");
        }
        assert_eq!(Proof::shown(b"Relay-Cluster \xff\xfe"), wrong);
    }

    #[test]
    fn an_answer_belongs_to_its_question_and_is_whole() {
        let proof = ASKED.prove(SECRET, 1_000);
        let shown = proof.answer(SECRET, 200, b"{}");
        #[track_caller]
        fn check(
            proof: &Proof,
            secret: &[u8],
            status: u16,
            body: &[u8],
            shown: &str,
            expected: bool,
        ) {
            let found = proof.is_answered(secret, status, body, shown.as_bytes());
            assert_eq!(found, expected, "{status} {body:?} {shown}");
        }
        check(&proof, SECRET, 200, b"{}", &shown, true);
        check(&proof, SECRET, 404, b"{}", &shown, false);
        check(&proof, SECRET, 200, b"{} ", &shown, false);
        check(&proof, b"another secret of theirs", 200, b"{}", &shown, false);
        check(&ASKED.prove(SECRET, 1_001), SECRET, 200, b"{}", &shown, false);
        check(&proof, SECRET, 200, b"{}", "", false);
        // A question's proof is none of its answer.
        check(&proof, SECRET, 200, b"{}", &hex(&proof.mac), false);
    }
}
