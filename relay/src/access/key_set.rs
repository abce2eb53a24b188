//! Keys by which tokens are checked: a secret, a public key (PEM), or a set of keys (JWKS, RFC
//! 7517), from a file or fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Most keys of one set.
const TOKEN_KEYS_MAX: usize = 64;

/// Shortest secret, in bytes: what RFC 7518 section 3.2 asks for at least.
const SECRET_BYTES_MIN: usize = 32;

/// Keys, each with what it is for.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<TokenKey>,
    /// Of what it was read from, to tell sets apart.
    digest: [u8; 32],
}

/// The key sets that were fetched, by their URL. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct FetchedKeys(Arc<BTreeMap<String, Fetched>>);

/// A set of keys that was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The keys; `None` when none that may still be used could be had.
    pub keys: Option<KeySet>,
    /// When, in seconds since 1970, they were last fetched or tried to be.
    pub tried: u64,
}

#[derive(Clone)]
struct TokenKey {
    id: Option<String>,
    algorithm: Option<String>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a file's content.
    ///
    /// # Errors
    /// What it must be and is not, without a word of it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let digest = Sha256::digest(bytes).into();
        let trimmed = bytes.trim_ascii();
        let one = |key| Self { keys: vec![TokenKey { id: None, algorithm: None, key }], digest };
        if trimmed.first() == Some(&b'{') {
            Self::parse_set(bytes, true)
        } else if trimmed.starts_with(b"-----BEGIN") {
            let rsa = DecodingKey::from_rsa_pem(bytes);
            let key = rsa.or_else(|_| DecodingKey::from_ec_pem(bytes));
            key.map(one)
                .map_err(|_| "holds no public key of RSA or of an elliptic curve".to_owned())
        } else if trimmed.len() >= SECRET_BYTES_MIN {
            Ok(one(DecodingKey::from_secret(trimmed)))
        } else {
            Err(format!(
                "holds no set of keys (JWKS), no public key (PEM), and no secret of at least \
                 {SECRET_BYTES_MIN} bytes"
            ))
        }
    }

    /// Reads a set of keys that was fetched. Secret ones are passed over: whoever can fetch it
    /// could make tokens with them.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse_fetched(bytes: &[u8]) -> Result<Self, String> {
        Self::parse_set(bytes, false)
    }

    /// Keys of a kind that is not known are passed over, as RFC 7517 section 5 asks.
    fn parse_set(bytes: &[u8], secrets: bool) -> Result<Self, String> {
        let none = || "is no set of keys (JWKS)".to_owned();
        let set: Value = serde_json::from_slice(bytes).map_err(|_| none())?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or_else(none)?;
        if listed.len() > TOKEN_KEYS_MAX {
            return Err(format!("has more than {TOKEN_KEYS_MAX} keys"));
        }
        let keys: Vec<_> = listed.iter().filter_map(|key| TokenKey::new(key, secrets)).collect();
        if keys.is_empty() {
            return Err("has no key that can be used".to_owned());
        }
        Ok(Self { keys, digest: Sha256::digest(bytes).into() })
    }

    /// The keys that a token of this algorithm may be signed with: those of its key id, and those
    /// that have none; all when it names none.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &DecodingKey> {
        let name = format!("{algorithm:?}");
        let keys = self.keys.iter().filter(move |key| {
            let named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            let meant = key.algorithm.as_ref().is_none_or(|own| *own == name);
            named && meant && key.key.family() == algorithm.family()
        });
        keys.map(|key| &key.key)
    }

    /// Whether the key of that id is among them.
    pub(super) fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }
}

impl TokenKey {
    fn new(value: &Value, secrets: bool) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        if matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let secret = key.family() == AlgorithmFamily::Hmac;
        if key.family() == AlgorithmFamily::Ed || (secret && !secrets) {
            return None;
        }
        if secret && !key.try_get_as_bytes().is_ok_and(|key| key.len() >= SECRET_BYTES_MIN) {
            return None;
        }
        let algorithm = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
        Some(Self { id: jwk.common.key_id, algorithm, key })
    }
}

impl FetchedKeys {
    /// The keys of one URL.
    #[must_use]
    pub fn get(&self, url: &str) -> Option<&Fetched> {
        self.0.get(url)
    }
}

impl FromIterator<(String, Fetched)> for FetchedKeys {
    fn from_iter<T: IntoIterator<Item = (String, Fetched)>>(fetched: T) -> Self {
        Self(Arc::new(fetched.into_iter().collect()))
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for KeySet {}

impl fmt::Debug for KeySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} keys", self.keys.len())
    }
}
