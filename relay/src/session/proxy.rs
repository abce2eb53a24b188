//! The PROXY header, versions 1 and 2: a proxy in front of us says whose connection it passes on.
//!
//! ```text
//!   version 1   "PROXY TCP4 192.0.2.1 198.51.100.1 56324 1935\r\n"      at most 107 bytes
//!   version 2   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A, version and command, family, length(2),
//!               addresses, further fields, which are passed over
//! ```
//!
//! As HAProxy's `proxy-protocol.txt` has it. Whoever may send one can claim any address, so whom to
//! believe is decided before this is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Longest header of version 1, its line end included (section 2.1).
const LINE_BYTES_MAX: usize = 107;

/// The first bytes of version 2 (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest rest of a header of version 2 that is taken: addresses and a few further fields.
const REST_BYTES_MAX: usize = 4_096;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes; what follows is what the client said.
    pub length: usize,
    /// The client, unless the proxy speaks for itself (a health check) or does not know it.
    pub client: Option<SocketAddr>,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// It does not begin as one.
    #[error("it does not begin as a PROXY header does")]
    Signature,
    /// It is longer than any may be.
    #[error("the PROXY header is too long")]
    TooLong,
    /// Its text or its fields cannot be understood.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Reads the header at the beginning of `bytes`; `None` when it is not complete.
///
/// # Errors
/// When it cannot be one, as soon as that can be known.
pub fn read(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => version_1(bytes),
        Some(_) => version_2(bytes),
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let start = b"PROXY ";
    let beginning = bytes.get(..start.len().min(bytes.len())).unwrap_or_default();
    if !start.starts_with(beginning) {
        return Err(ProxyError::Signature);
    }
    let line = bytes.get(..LINE_BYTES_MAX.min(bytes.len())).unwrap_or_default();
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        let too_long = line.len() == LINE_BYTES_MAX;
        return if too_long { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let text = line.get(start.len()..end).and_then(|text| text.strip_suffix(b"\r"));
    let text = text.and_then(|text| std::str::from_utf8(text).ok()).ok_or(ProxyError::Malformed)?;
    let words: Vec<&str> = text.split(' ').collect();
    let client = match words[..] {
        // What follows is to be ignored.
        ["UNKNOWN", ..] => None,
        ["TCP4", source, destination, port, other] => {
            let source: Ipv4Addr = source.parse().map_err(|_| ProxyError::Malformed)?;
            let _: Ipv4Addr = destination.parse().map_err(|_| ProxyError::Malformed)?;
            Some((IpAddr::from(source), port, other))
        }
        ["TCP6", source, destination, port, other] => {
            let source: Ipv6Addr = source.parse().map_err(|_| ProxyError::Malformed)?;
            let _: Ipv6Addr = destination.parse().map_err(|_| ProxyError::Malformed)?;
            Some((IpAddr::from(source), port, other))
        }
        _ => return Err(ProxyError::Malformed),
    };
    let client = match client {
        None => None,
        Some((source, port, other)) => {
            let port: u16 = port.parse().map_err(|_| ProxyError::Malformed)?;
            let _: u16 = other.parse().map_err(|_| ProxyError::Malformed)?;
            Some(SocketAddr::new(source.to_canonical(), port))
        }
    };
    Ok(Some(ProxyHeader { length: end + 1, client }))
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let beginning = bytes.get(..SIGNATURE.len().min(bytes.len())).unwrap_or_default();
    if !SIGNATURE.starts_with(beginning) {
        return Err(ProxyError::Signature);
    }
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Err(ProxyError::Malformed);
    }
    if rest > REST_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(rest) = bytes.get(16..16 + rest) else { return Ok(None) };
    let client = match (command & 15, family) {
        // LOCAL: the proxy's own connection; and what is neither TCP over IPv4 nor over IPv6.
        (0, _) => None,
        (1, 0x11) => {
            let Some(([a, b, c, d], port)) = rest.first_chunk::<4>().zip(rest.get(8..10)) else {
                return Err(ProxyError::Malformed);
            };
            Some((IpAddr::from([*a, *b, *c, *d]), port))
        }
        (1, 0x21) => {
            let Some((source, port)) = rest.first_chunk::<16>().zip(rest.get(32..34)) else {
                return Err(ProxyError::Malformed);
            };
            if rest.len() < 36 {
                return Err(ProxyError::Malformed);
            }
            Some((IpAddr::from(*source), port))
        }
        (1, _) => None,
        _ => return Err(ProxyError::Malformed),
    };
    if client.is_some() && rest.len() < 12 {
        return Err(ProxyError::Malformed);
    }
    let client = client.map(|(source, port)| {
        let port = port.try_into().map_or(0, u16::from_be_bytes);
        SocketAddr::new(source.to_canonical(), port)
    });
    Ok(Some(ProxyHeader { length: 16 + rest.len(), client }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Reads a header, of which every beginning is one that is not complete.
    fn read_whole(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
        let whole = read(bytes);
        if let Ok(Some(header)) = whole {
            for end in 0..header.length {
                assert_eq!(read(&bytes[..end]), Ok(None), "{end} of {bytes:?}");
            }
            let more = [bytes, b"\x03more"].concat();
            assert_eq!(read(&more), whole);
        }
        whole
    }

    #[test]
    fn version_1() {
        fn check(text: &str, expected: Result<Option<&str>, ProxyError>) {
            let header = read_whole(text.as_bytes());
            let expected = expected.map(|client| {
                let client = client.map(|client| client.parse().unwrap());
                Some(ProxyHeader { length: text.len(), client })
            });
            assert_eq!(header, expected, "{text:?}");
        }
        check("PROXY TCP4 192.0.2.1 198.51.100.1 56324 1935\r\n", Ok(Some("192.0.2.1:56324")));
        check("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", Ok(Some("[2001:db8::1]:1")));
        check("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Ok(Some("192.0.2.1:1")));
        check("PROXY UNKNOWN\r\n", Ok(None));
        check("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Ok(None));
        let bad = Err(ProxyError::Malformed);
        check("PROXY TCP4 192.0.2.1 198.51.100.1 56324 1935\n", bad);
        check("PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", bad);
        check("PROXY TCP4 192.0.2.1 198.51.100.1 65536 1935\r\n", bad);
        check("PROXY TCP4 192.0.2.1 198.51.100.1 1 x\r\n", bad);
        check("PROXY TCP4 ::1 198.51.100.1 1 2\r\n", bad);
        check("PROXY TCP6 192.0.2.1 ::1 1 2\r\n", bad);
        check("PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n", bad);
        check("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", bad);
        check("PROXY \r\n", bad);
        check("PROXY TCP4 \u{e9}\r\n", bad);
        check("PROXX TCP4 192.0.2.1\r\n", Err(ProxyError::Signature));
        check(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)), Ok(None));
        check(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)), Err(ProxyError::TooLong));
        assert_eq!(read(&[b'P'; 7]), Err(ProxyError::Signature));
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    #[test]
    fn version_2() {
        fn check(bytes: &[u8], expected: Result<Option<&str>, ProxyError>) {
            let expected = expected.map(|client| {
                let client = client.map(|client| client.parse().unwrap());
                Some(ProxyHeader { length: bytes.len(), client })
            });
            assert_eq!(read_whole(bytes), expected, "{bytes:?}");
        }
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 4, 7, 0x8F];
        check(&v2(0x21, 0x11, &v4), Ok(Some("192.0.2.1:56324")));
        check(
            &v2(0x21, 0x11, &[&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat()),
            Ok(Some("192.0.2.1:56324")),
        );
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[33]) = (0x20, 9, 7);
        check(&v2(0x21, 0x21, &v6), Ok(Some("[2000::9]:7")));
        check(&v2(0x20, 0x11, &v4), Ok(None));
        check(&v2(0x20, 0, &[]), Ok(None));
        check(&v2(0x21, 0, &[]), Ok(None));
        check(&v2(0x21, 0x31, &[0; 216]), Ok(None));
        check(&v2(0x21, 0x12, &v4), Ok(None));
        let bad = Err(ProxyError::Malformed);
        check(&v2(0x21, 0x11, &v4[..11]), bad);
        check(&v2(0x21, 0x21, &v6[..35]), bad);
        check(&v2(0x22, 0x11, &v4), bad);
        check(&v2(0x11, 0x11, &v4), bad);
        check(&v2(0x21, 0x11, &[0; 4_097]), Err(ProxyError::TooLong));
        check(b"\r\n\r\n\0\r\nQUIT\r\x21\x11\0\0", Err(ProxyError::Signature));
    }
}
