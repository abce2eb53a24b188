//! How two nodes greet: each proves to the other that it knows the cluster's secret, which itself
//! never crosses the network.
//!
//! ```text
//!   dialler                                     acceptor
//!     Hello(versions, who, role, nonce)    ->
//!                                          <-   Challenge(version, who, nonce), or Refused
//!     Proof(HMAC)                          ->   verified first: a stranger who calls gets no proof
//!                                          <-   Welcome(HMAC), or Refused
//! ```
//!
//! Both proofs are HMAC-SHA256 over the two first messages as they crossed, so they are bound to
//! both ids, both roles, the version and both nonces; and over which side proves, so that one
//! cannot be sent back as the other. Nonces are fresh, so that nothing recorded is of use. Both
//! sides may mix in a value that only the two ends of one TLS connection share. Without TLS the
//! bytes that follow are neither hidden nor protected.
//!
//! The same greeting opens control connections and media links. It never retries and knows no time.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::codec::{CodecError, greeting, read_refusal, unwrap, wrap, write_refusal};
use super::fields::{Input, Output};
use super::identity::{Identity, NODE_NAME_BYTES_MAX, NodeKey};
use super::refusal::Refusal;
use crate::limits::Limits;

/// What every node of a cluster knows and nobody else. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

/// Fewest bytes of a secret. Who was sent one proof can try out secrets in peace, so a short one is
/// as good as none.
pub const SECRET_BYTES_MIN: usize = 16;

impl Secret {
    /// A secret; `None` when it has fewer than [`SECRET_BYTES_MIN`] bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= SECRET_BYTES_MIN).then(|| Self(bytes.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// A random number that is used once.
pub type Nonce = [u8; 32];

/// What only the two ends of a TLS connection share (RFC 9266); `None` without TLS.
pub type Binding = Option<[u8; 32]>;

/// What a connection is for. The dialler says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Control messages; one connection per pair of nodes.
    Control,
    /// Streams that the dialler feeds; one connection per worker and peer.
    Media {
        /// The dialling worker.
        worker: u16,
    },
}

/// What a node greets with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who it is.
    pub identity: Identity,
    /// The secret.
    pub secret: Secret,
    /// The oldest and newest version that it speaks.
    pub versions: RangeInclusive<u16>,
}

/// One end of a greeting.
#[derive(Debug)]
pub struct Greeting {
    credentials: Arc<Credentials>,
    binding: Binding,
    nonce: Nonce,
    /// The first messages as they crossed: the dialler's, the acceptor's.
    hello: Bytes,
    challenge: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The acceptor waits for Hello.
    Hello,
    /// The dialler waits for Challenge.
    Challenge(Role),
    /// The acceptor waits for Proof.
    Proof(Met),
    /// The dialler waits for Welcome.
    Welcome(Met),
    /// Nothing more is to come.
    Over,
}

/// Whom a greeting was with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// What the other one says of itself. True when the greeting is done: it knows the secret.
    pub identity: Identity,
    /// What the connection is for.
    pub role: Role,
    /// The newest version that both speak.
    pub version: u16,
}

/// What follows from a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeted {
    /// This is to be sent; more is to come.
    Reply(Bytes),
    /// The greeting is done; this is to be sent first, if there is anything.
    Done(Met, Option<Bytes>),
    /// The other one, who says that it is this node, does not take us: the connection is closed.
    TurnedAway(Refusal, Option<NodeKey>),
    /// We do not take the other one: this is to be sent, if there is anything, and the connection
    /// closed.
    Refused(Refusal, Option<Bytes>),
}

impl Greeting {
    /// The dialler's end, and what it sends first.
    #[must_use]
    pub fn dial(
        credentials: &Arc<Credentials>,
        role: Role,
        nonce: Nonce,
        binding: Binding,
    ) -> (Self, Bytes) {
        let mut out = Output::default();
        out.u8(greeting::HELLO);
        out.u16(*credentials.versions.start());
        out.u16(*credentials.versions.end());
        write_role(&mut out, role);
        write_party(&mut out, &credentials.identity, &nonce);
        let hello = wrap(out);
        let state = State::Challenge(role);
        (Self::new(credentials, nonce, binding, hello.clone(), state), hello)
    }

    /// The acceptor's end.
    #[must_use]
    pub fn accept(credentials: &Arc<Credentials>, nonce: Nonce, binding: Binding) -> Self {
        Self::new(credentials, nonce, binding, Bytes::new(), State::Hello)
    }

    fn new(
        credentials: &Arc<Credentials>,
        nonce: Nonce,
        binding: Binding,
        hello: Bytes,
        state: State,
    ) -> Self {
        let credentials = Arc::clone(credentials);
        Self { credentials, binding, nonce, hello, challenge: Bytes::new(), state }
    }

    /// Takes the next message. After anything but [`Greeted::Reply`] the greeting is over.
    pub fn receive(&mut self, payload: &[u8], limits: &Limits) -> Greeted {
        match self.step(payload, limits) {
            Ok(greeted) => greeted,
            // A foreign program is told nothing.
            Err(CodecError::Foreign) => self.refuse(Refusal::Malformed, false),
            Err(_) => self.refuse(Refusal::Malformed, true),
        }
    }

    fn step(&mut self, payload: &[u8], limits: &Limits) -> Result<Greeted, CodecError> {
        let (kind, mut input) = unwrap(payload, limits)?;
        match (kind, std::mem::replace(&mut self.state, State::Over)) {
            (greeting::REFUSED, state) => {
                let by = match state {
                    State::Proof(met) | State::Welcome(met) => Some(met.identity.key),
                    State::Hello | State::Challenge(_) | State::Over => None,
                };
                Ok(Greeted::TurnedAway(read_refusal(&mut input)?, by))
            }
            (greeting::HELLO, State::Hello) => self.hello(payload, input),
            (greeting::CHALLENGE, State::Challenge(role)) => self.challenge(payload, input, role),
            (greeting::PROOF, State::Proof(met)) => {
                if !self.proves(DIALLER, met.version, input)? {
                    return Ok(self.refuse(Refusal::Secret, true));
                }
                let welcome = self.proof(greeting::WELCOME, ACCEPTOR, met.version);
                Ok(Greeted::Done(met, Some(welcome)))
            }
            (greeting::WELCOME, State::Welcome(met)) => {
                if !self.proves(ACCEPTOR, met.version, input)? {
                    return Ok(self.refuse(Refusal::Secret, true));
                }
                Ok(Greeted::Done(met, None))
            }
            _ => Ok(self.refuse(Refusal::Malformed, true)),
        }
    }

    fn hello(&mut self, payload: &[u8], mut input: Input<'_>) -> Result<Greeted, CodecError> {
        let theirs = (input.u16()?, input.u16()?);
        let ours = (*self.credentials.versions.start(), *self.credentials.versions.end());
        let version = theirs.1.min(ours.1);
        if version < theirs.0.max(ours.0) {
            return Ok(self.refuse(Refusal::Version { ours, theirs }, true));
        }
        let role = read_role(&mut input)?;
        let identity = read_party(&mut input)?;
        if let Err(refusal) = self.judge(&identity) {
            return Ok(self.refuse(refusal, true));
        }
        let mut out = Output::default();
        out.u8(greeting::CHALLENGE);
        out.u16(version);
        write_party(&mut out, &self.credentials.identity, &self.nonce);
        self.hello = Bytes::copy_from_slice(payload);
        self.challenge = wrap(out);
        self.state = State::Proof(Met { identity, role, version });
        Ok(Greeted::Reply(self.challenge.clone()))
    }

    fn challenge(
        &mut self,
        payload: &[u8],
        mut input: Input<'_>,
        role: Role,
    ) -> Result<Greeted, CodecError> {
        let version = input.u16()?;
        let identity = read_party(&mut input)?;
        if !self.credentials.versions.contains(&version) {
            return Ok(self.refuse(Refusal::Malformed, true));
        }
        if let Err(refusal) = self.judge(&identity) {
            return Ok(self.refuse(refusal, true));
        }
        self.challenge = Bytes::copy_from_slice(payload);
        let proof = self.proof(greeting::PROOF, DIALLER, version);
        self.state = State::Welcome(Met { identity, role, version });
        Ok(Greeted::Reply(proof))
    }

    /// The process at the other end may be this one.
    fn judge(&self, other: &Identity) -> Result<(), Refusal> {
        let own = &self.credentials.identity;
        match (own.key == other.key, own.name == other.name) {
            (true, true) => Err(Refusal::Oneself),
            (true, false) => Err(Refusal::SameKey),
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, refusal: Refusal, aloud: bool) -> Greeted {
        self.state = State::Over;
        Greeted::Refused(refusal, aloud.then(|| refused(refusal)))
    }

    fn proof(&self, kind: u8, side: &[u8], version: u16) -> Bytes {
        let mut out = Output::default();
        out.u8(kind);
        out.put(&self.mac(side, version).finalize().into_bytes());
        wrap(out)
    }

    /// Compared in constant time.
    fn proves(&self, side: &[u8], version: u16, mut input: Input<'_>) -> Result<bool, CodecError> {
        let proof: [u8; 32] = input.array()?;
        Ok(self.mac(side, version).verify_slice(&proof).is_ok())
    }

    fn mac(&self, side: &[u8], version: u16) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.credentials.secret.0)
            .expect("HMAC takes keys of any length");
        mac.update(b"relay cluster greeting ");
        mac.update(side);
        mac.update(&version.to_be_bytes());
        // With their lengths, so that no byte can be taken for the other message's.
        for message in [&self.hello, &self.challenge] {
            mac.update(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
            mac.update(message);
        }
        mac.update(&[u8::from(self.binding.is_some())]);
        mac.update(&self.binding.unwrap_or_default());
        mac
    }
}

/// What a dialler wants of a connection, by the first message on it; `None` when that is no
/// greeting. Nothing is proven by it.
#[must_use]
pub fn asks_for(payload: &[u8], limits: &Limits) -> Option<Role> {
    let (kind, mut input) = unwrap(payload, limits).ok()?;
    if kind != greeting::HELLO {
        return None;
    }
    let _versions = (input.u16().ok()?, input.u16().ok()?);
    read_role(&mut input).ok()
}

/// What a side sends before it closes a connection for this reason.
pub(super) fn refused(refusal: Refusal) -> Bytes {
    let mut out = Output::default();
    write_refusal(&mut out, refusal);
    wrap(out)
}

const DIALLER: &[u8] = b"dialler ";
const ACCEPTOR: &[u8] = b"acceptor";

fn write_role(out: &mut Output, role: Role) {
    let (kind, worker) = match role {
        Role::Control => (0, 0),
        Role::Media { worker } => (1, worker),
    };
    out.u8(kind);
    out.u16(worker);
}

fn read_role(input: &mut Input<'_>) -> Result<Role, CodecError> {
    match (input.u8()?, input.u16()?) {
        (0, _) => Ok(Role::Control),
        (1, worker) => Ok(Role::Media { worker }),
        _ => Err(CodecError::Number),
    }
}

fn write_party(out: &mut Output, identity: &Identity, nonce: &Nonce) {
    out.text(&identity.name);
    out.u64(identity.key.0);
    out.u64(identity.started);
    out.text(&identity.zone);
    out.u16(identity.link_port);
    out.put(nonce);
}

fn read_party(input: &mut Input<'_>) -> Result<Identity, CodecError> {
    let identity = Identity {
        name: input.text(NODE_NAME_BYTES_MAX, false)?,
        key: NodeKey(input.u64()?),
        started: input.u64()?,
        zone: input.text(NODE_NAME_BYTES_MAX, true)?,
        link_port: input.u16()?,
    };
    // The other's nonce is in the bytes that are signed.
    let _nonce: Nonce = input.array()?;
    Ok(identity)
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
