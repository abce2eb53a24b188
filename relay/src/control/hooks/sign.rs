//! The signature of a call, by which a back end knows that it is this relay that calls.
//!
//! `t=<seconds since 1970>,v1=<HMAC-SHA256 in hex>`, over the seconds, a dot and what is signed: so
//! a call that somebody recorded cannot be put again much later.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header's value.
pub(super) fn signature(secret: &[u8], unix: u64, signed: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{unix}.").as_bytes());
    mac.update(signed);
    let digest = mac.finalize().into_bytes();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={unix},v1={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_others_compute() {
        // printf '1700000000.a=b' | openssl dgst -sha256 -hmac secret
        let expected =
            "t=1700000000,v1=65e2939150c9a8c32406a4d18dcce1cb5abf8152f7cabeb639e9e83f51323f97";
        assert_eq!(signature(b"secret", 1_700_000_000, b"a=b"), expected);
    }
}
