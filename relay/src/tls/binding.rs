//! What only the two ends of one TLS connection share (RFC 9266, tls-exporter): who proves a secret
//! together with it proves it to the other end of this very connection, and to nobody in between.
//!
//! rustls exports nothing from connections that have no buffers of their own. So the secret of
//! which exports are made is caught where it is offered to logs of keys; what is made of it at once
//! is kept, and the secret is not. There is none with TLS 1.2.

use std::fmt;
use std::sync::OnceLock;

use rustls::KeyLog;
use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::crypto::tls13::OkmBlock;

/// Looks on while one connection is established.
#[derive(Default)]
pub(super) struct Witness(OnceLock<[u8; 32]>);

impl Witness {
    /// What the two ends share, once they do.
    pub(super) fn binding(&self) -> Option<[u8; 32]> {
        self.0.get().copied()
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Witness")
    }
}

impl KeyLog for Witness {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == EXPORTER_SECRET
            && let Some(binding) = exported(secret)
        {
            let _ = self.0.set(binding);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }
}

const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

/// 32 bytes for `EXPORTER-Channel-Binding` without a context (RFC 8446 section 7.5). Which hash
/// was agreed on is told by the secret's length.
fn exported(secret: &[u8]) -> Option<[u8; 32]> {
    let mut suites = ALL_CIPHER_SUITES.iter().filter_map(|suite| suite.tls13());
    let suite = suites.find(|suite| suite.common.hash_provider.output_len() == secret.len())?;
    let nothing = suite.common.hash_provider.hash(&[]);
    let length = u16::try_from(secret.len()).ok()?;
    let of_master = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
    let label = Label::new(length, "EXPORTER-Channel-Binding", nothing.as_ref())?;
    let of_label = suite.hkdf_provider.expander_for_okm(&of_master.expand_block(&label.slices()));
    let mut binding = [0; 32];
    let label = Label::new(32, "exporter", nothing.as_ref())?;
    of_label.expand_slice(&label.slices(), &mut binding).ok()?;
    Some(binding)
}

/// `HkdfLabel` (RFC 8446 section 7.1).
struct Label<'a> {
    length: [u8; 2],
    label_length: [u8; 1],
    label: &'a [u8],
    context_length: [u8; 1],
    context: &'a [u8],
}

impl<'a> Label<'a> {
    fn new(length: u16, label: &'a str, context: &'a [u8]) -> Option<Self> {
        Some(Self {
            length: length.to_be_bytes(),
            label_length: [u8::try_from(PREFIX.len() + label.len()).ok()?],
            label: label.as_bytes(),
            context_length: [u8::try_from(context.len()).ok()?],
            context,
        })
    }

    fn slices(&self) -> [&[u8]; 6] {
        [&self.length, &self.label_length, PREFIX, self.label, &self.context_length, self.context]
    }
}

const PREFIX: &[u8] = b"tls13 ";
