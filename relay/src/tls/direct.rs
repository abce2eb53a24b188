//! AES-GCM of TLS 1.3 that encrypts records where they are to be sent from.
//!
//! rustls asks for each record as memory of its own and then copies it to where its caller wants
//! it: beside encrypting the segments of a live stream, allocating and copying cost as much again.
//! Here a caller may set a buffer out ([`into_buffer`]), and the records of application data go
//! straight into it; rustls is given empty ones instead.
//!
//! ```text
//!   into_buffer(batch, || traffic.encrypt(plain, scratch))
//!        encrypt -> rustls: numbers, limits, key updates -> DirectEncrypter -> batch
//!                                                       \-> scratch: what else is to be sent first
//! ```
//!
//! Which number a record has, when keys are used up and what the handshake says stay with rustls:
//! there is no second account of anything. Everything but application data, and whatever is
//! encrypted while no buffer is set out, goes the usual way.

use std::cell::RefCell;
use std::sync::LazyLock;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Nonce, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm, UnsupportedOperationError,
    make_tls13_aad,
};
use rustls::{
    CipherSuite, CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
};

use super::buffers::SealBuffer;

/// Bytes in front of a record (RFC 8446 section 5.1).
pub(super) const RECORD_HEADER_BYTES: usize = 5;

/// Bytes of the tag behind one (RFC 8446 section 5.2; RFC 5116 section 5.1).
const TAG_BYTES: usize = 16;

thread_local! {
    /// Where the records of application data go that are encrypted now.
    static BUFFER: RefCell<Option<SealBuffer>> = const { RefCell::new(None) };
}

/// Does `work`, in which records of application data are encrypted into `buffer` by the suites that
/// are [direct](is_direct). In what it writes itself, each of them is left as an empty record.
pub(super) fn into_buffer<T>(buffer: SealBuffer, work: impl FnOnce() -> T) -> (T, SealBuffer) {
    /// Takes the buffer back even if `work` panics: it is nobody else's.
    struct Taken;
    impl Drop for Taken {
        fn drop(&mut self) {
            let _ = BUFFER.take();
        }
    }
    BUFFER.set(Some(buffer));
    let taken = Taken;
    let result = work();
    let buffer = BUFFER.take().expect("whoever writes into it leaves it there");
    drop(taken);
    (result, buffer)
}

/// Whether records of a suite can go straight into a buffer.
pub(super) fn is_direct(suite: CipherSuite) -> bool {
    matches!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS13_AES_256_GCM_SHA384)
}

/// Puts the suites that are direct in the place of those that are not.
pub(super) fn make_direct(provider: &mut CryptoProvider) {
    for suite in &mut provider.cipher_suites {
        if let Some((_, direct)) = SUITES.iter().find(|(usual, _)| usual == suite) {
            *suite = SupportedCipherSuite::Tls13(direct);
        }
    }
}

/// The usual suites, and those that take their places.
static SUITES: LazyLock<Vec<(SupportedCipherSuite, &'static Tls13CipherSuite)>> =
    LazyLock::new(|| {
        [
            (TLS13_AES_128_GCM_SHA256, &aead::AES_128_GCM),
            (TLS13_AES_256_GCM_SHA384, &aead::AES_256_GCM),
        ]
        .into_iter()
        .filter_map(|(usual, algorithm)| {
            let limit = usual.tls13()?.common.confidentiality_limit;
            Some((usual, suite(usual, algorithm, limit)?))
        })
        .collect()
    });

/// A suite that is as the usual one, but direct. Made once for each, so that what it leaves behind
/// is little.
fn suite(
    usual: SupportedCipherSuite,
    algorithm: &'static aead::Algorithm,
    confidentiality_limit: u64,
) -> Option<&'static Tls13CipherSuite> {
    let usual = usual.tls13()?;
    let common = &usual.common;
    Some(Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: common.suite,
            hash_provider: common.hash_provider,
            confidentiality_limit,
        },
        hkdf_provider: usual.hkdf_provider,
        aead_alg: Box::leak(Box::new(DirectAead { usual: usual.aead_alg, algorithm })),
        quic: None,
    })))
}

/// Encrypts directly; everything else is done as usual.
struct DirectAead {
    usual: &'static dyn Tls13AeadAlgorithm,
    algorithm: &'static aead::Algorithm,
}

impl Tls13AeadAlgorithm for DirectAead {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let key = UnboundKey::new(self.algorithm, key.as_ref());
        let key = LessSafeKey::new(key.expect("a key is as long as key_len says"));
        Box::new(DirectEncrypter { key, iv })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.usual.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.usual.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.usual.extract_keys(key, iv)
    }
}

/// The keys of one direction of one connection.
struct DirectEncrypter {
    key: LessSafeKey,
    iv: Iv,
}

impl MessageEncrypter for DirectEncrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        number: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let length = sealed_len(message.payload.len());
        // The number is used once, by rustls.
        let nonce = aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, number).0);
        let record = |payload| {
            let version = ProtocolVersion::TLSv1_2;
            OutboundOpaqueMessage::new(ContentType::ApplicationData, version, payload)
        };
        if message.typ == ContentType::ApplicationData && is_set_out() {
            BUFFER.with_borrow_mut(|buffer| {
                let buffer = buffer.as_mut().ok_or(Error::EncryptError)?;
                match message.payload {
                    OutboundChunks::Single(plain) => self.encrypt_into(buffer, plain, nonce),
                    plain => self.encrypt_into(buffer, &plain.to_vec(), nonce),
                }
            })?;
            return Ok(record(PrefixedPayload::with_capacity(0)));
        }
        let mut payload = PrefixedPayload::with_capacity(length);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(make_tls13_aad(length)), &mut payload)
            .map_err(|_| Error::EncryptError)?;
        Ok(record(payload))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        if is_set_out() { 0 } else { sealed_len(payload_len) }
    }
}

impl DirectEncrypter {
    /// Writes a record of application data: its header, which is also what the tag vouches for, the
    /// plaintext and its kind, encrypted, and the tag.
    fn encrypt_into(
        &self,
        buffer: &mut SealBuffer,
        plain: &[u8],
        nonce: aead::Nonce,
    ) -> Result<(), Error> {
        let length = sealed_len(plain.len());
        let header: [u8; RECORD_HEADER_BYTES] = make_tls13_aad(length);
        let record = buffer.room().get_mut(..RECORD_HEADER_BYTES + length);
        let record = record.ok_or(Error::EncryptError)?;
        let (head, rest) = record.split_at_mut(RECORD_HEADER_BYTES);
        let (content, kind_and_tag) = rest.split_at_mut(plain.len());
        head.copy_from_slice(&header);
        let kind = ContentType::ApplicationData.to_array();
        let aad = Aad::from(header);
        // From where it lies in the log to where it is sent from, without a copy between.
        self.key
            .seal_out_of_place_scatter(nonce, aad, plain, content, &kind, kind_and_tag)
            .map_err(|_| Error::EncryptError)?;
        buffer.fill(RECORD_HEADER_BYTES + length);
        Ok(())
    }
}

/// Whether a buffer is set out.
fn is_set_out() -> bool {
    BUFFER.with_borrow(Option::is_some)
}

/// What a record has behind its header: the plaintext, its kind, and the tag (RFC 8446 section
/// 5.2).
fn sealed_len(plain: usize) -> usize {
    plain + 1 + TAG_BYTES
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use bytes::Bytes;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, RootCertStore, ServerConfig, version};

    use super::super::layer::Layer;
    use super::super::{SealBuffers, provider};
    use super::*;

    /// A server whose suite is this, and a client whose cryptography is all rustls' own.
    fn ends(suite: SupportedCipherSuite) -> [Layer; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let own = Arc::new(CryptoProvider { cipher_suites: vec![suite], ..provider() });
        let server = ServerConfig::builder_with_provider(own)
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let usual = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(usual)
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = Layer::server(Arc::new(server)).unwrap();
        let mut client = Layer::client(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        while server.established().is_none() || client.established().is_none() {
            let mut plain = Vec::new();
            client.take_output().iter().for_each(|out| server.receive(out, &mut plain).unwrap());
            server.take_output().iter().for_each(|out| client.receive(out, &mut plain).unwrap());
        }
        [server, client]
    }

    #[test]
    fn keys_are_updated_in_order_when_they_are_used_up() {
        for (usual, algorithm) in [
            (TLS13_AES_128_GCM_SHA256, &aead::AES_128_GCM),
            (TLS13_AES_256_GCM_SHA384, &aead::AES_256_GCM),
        ] {
            // Keys for seven records each.
            let few = SupportedCipherSuite::Tls13(suite(usual, algorithm, 7).unwrap());
            let [mut server, mut client] = ends(few);
            let buffers = SealBuffers::default();
            let (mut sent, mut arrived, mut records) = (Vec::new(), Vec::new(), Vec::new());
            for number in 0..60_u8 {
                let plain = Bytes::from(vec![number; usize::from(number) * 1_500]);
                let sealed = server.seal(std::slice::from_ref(&plain), &buffers).unwrap();
                let mut rest = &sealed[..];
                while let Some([kind, 3, 3, high, low]) = rest.first_chunk() {
                    assert_eq!(*kind, 23);
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    records.push(length);
                    rest = &rest[RECORD_HEADER_BYTES + length..];
                }
                assert_eq!(rest, b"");
                client.receive(&sealed, &mut arrived).unwrap();
                sent.extend_from_slice(&plain);
            }
            assert!(arrived == sent, "what arrived is what was sent");
            // An update has five bytes, and what every record has.
            let updates = records.iter().filter(|length| **length == sealed_len(5)).count();
            assert!(updates > 20, "{updates} updates in {} records", records.len());
        }
    }

    #[test]
    fn a_buffer_that_was_set_out_is_taken_back_whatever_happens() {
        let buffers = SealBuffers::default();
        let (found, buffer) = into_buffer(buffers.take(9), is_set_out);
        assert!(found && !is_set_out() && buffer.filled() == 0);
        let buffer = AssertUnwindSafe(buffer);
        let caught = catch_unwind(|| into_buffer(buffer.0, || panic!("as intended")));
        assert!(caught.is_err() && !is_set_out());
    }

    #[test]
    fn suites_are_replaced_by_direct_ones_of_the_same_name() {
        let usual = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        let ours = provider().cipher_suites;
        assert_eq!(usual, ours);
        let direct = ours.iter().filter(|suite| is_direct(suite.suite()));
        assert_eq!(direct.count(), 2);
    }
}
