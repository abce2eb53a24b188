//! What a peer speaks, by its first bytes: one port takes everything.
//!
//! Peers of every kind speak first, so looking at a few bytes delays nobody. RTMP needs one. What
//! is none of these is taken for RTMP, whose handshake says what is wrong with it.

/// What the first bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// Too few bytes to tell. At most 5 are needed.
    More,
    /// RTMP, or nothing that is known here.
    Rtmp,
    /// A TLS record that carries a handshake.
    Tls,
    /// An HTTP request.
    Http,
    /// A PROXY header, of version 1 or 2, in front of something else.
    Proxy,
}

/// Looks at the first bytes of a connection, or of what is inside its TLS.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Sniffed {
    match bytes {
        [] | [0x16] => Sniffed::More,
        [0x16, 3, ..] => Sniffed::Tls,
        [b'\r', ..] => Sniffed::Proxy,
        // No method of HTTP begins so.
        [b'P', b'R', b'O', b'X', b'Y', ..] => Sniffed::Proxy,
        _ if b"PROXY".starts_with(bytes) => Sniffed::More,
        [b'A'..=b'Z', ..] => Sniffed::Http,
        _ => Sniffed::Rtmp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        fn check(bytes: &[u8], expected: Sniffed) {
            assert_eq!(sniff(bytes), expected, "{bytes:?}");
            for end in 0..bytes.len() {
                let earlier = sniff(&bytes[..end]);
                assert!(earlier == Sniffed::More || earlier == expected, "{:?}", &bytes[..end]);
            }
        }
        check(b"", Sniffed::More);
        check(b"\x03", Sniffed::Rtmp);
        check(b"\x03\0\0\0\0", Sniffed::Rtmp);
        for version in [0, 4, 6, 8, 9, 0xF3, 0xFF] {
            check(&[version], Sniffed::Rtmp);
        }
        check(b"\x16\x03\x01\x02\0", Sniffed::Tls);
        check(b"\x16\x03", Sniffed::Tls);
        check(b"\x16\x04\x01", Sniffed::Rtmp);
        check(b"\x15\x03\x01", Sniffed::Rtmp);
        for method in ["GET", "POST", "PUT", "PATCH", "PROPFIND", "HEAD", "OPTIONS", "CONNECT"] {
            check(format!("{method} / HTTP/1.1\r\n").as_bytes(), Sniffed::Http);
        }
        check(b"SSH-2.0-x", Sniffed::Http);
        check(b"get / HTTP/1.1", Sniffed::Rtmp);
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Sniffed::Proxy);
        check(b"PROXY", Sniffed::Proxy);
        check(b"PROXI", Sniffed::Http);
        check(b"\r\n\r\n\0\r\nQUIT\n", Sniffed::Proxy);
    }
}
