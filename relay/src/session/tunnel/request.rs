//! What a tunnel's request asks for: the target of a POST, as bytes and as a value.

/// A request of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelRequest<'a> {
    /// `/open/1`: a new session.
    Open,
    /// A request of a session.
    Session {
        /// What for.
        verb: Verb,
        /// The id, as the client wrote it.
        id: &'a [u8],
        /// The request's number. Clients count from 0 or from 1, whatever the verb.
        number: u64,
    },
    /// `/fcs/ident` and `/fcs/ident2`: Flash Player asks for another address first, and takes "not
    /// found" for "this one".
    Ident,
}

/// What a request of a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `/send`: the body is RTMP.
    Send,
    /// `/idle`: nothing to say; the body is one byte that means nothing.
    Idle,
    /// `/close`: the session is over.
    Close,
}

/// Digits of a request's number; more than any session lives to count.
const DIGITS_MAX: usize = 18;

impl<'a> TunnelRequest<'a> {
    /// Reads the target of a POST; `None` when it is none of the tunnel's. A query is passed over:
    /// some proxies are told apart by one.
    #[must_use]
    pub fn parse(target: &'a [u8]) -> Option<Self> {
        let path = target.split(|byte| *byte == b'?').next()?;
        let mut parts = path.strip_prefix(b"/")?.split(|byte| *byte == b'/');
        let verb = match parts.next()? {
            b"open" => return Some(Self::Open),
            b"fcs" => {
                let ident = parts.next()?.starts_with(b"ident");
                return ident.then_some(Self::Ident);
            }
            b"send" => Verb::Send,
            b"idle" => Verb::Idle,
            b"close" => Verb::Close,
            _ => return None,
        };
        let id = parts.next()?;
        let number = number(parts.next()?)?;
        parts.next().is_none().then_some(Self::Session { verb, id, number })
    }
}

impl Verb {
    /// The first part of the target.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Idle => "idle",
            Self::Close => "close",
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let check = |target: &str, expected: Option<TunnelRequest<'_>>| {
            assert_eq!(TunnelRequest::parse(target.as_bytes()), expected, "{target}");
        };
        let of = |verb, id: &'static str, number| {
            Some(TunnelRequest::Session { verb, id: id.as_bytes(), number })
        };
        check("/open/1", Some(TunnelRequest::Open));
        check("/open", Some(TunnelRequest::Open));
        check("/open/1?x=y", Some(TunnelRequest::Open));
        check("/send/abc/0", of(Verb::Send, "abc", 0));
        check("/idle/a-_Z/12", of(Verb::Idle, "a-_Z", 12));
        check("/close/abc/007", of(Verb::Close, "abc", 7));
        check("/send/abc/3?k=/v", of(Verb::Send, "abc", 3));
        check("/send//3", of(Verb::Send, "", 3));
        check("/send/a/999999999999999999", of(Verb::Send, "a", 999_999_999_999_999_999));
        check("/fcs/ident", Some(TunnelRequest::Ident));
        check("/fcs/ident2", Some(TunnelRequest::Ident));
        for wrong in [
            "",
            "/",
            "*",
            "send/abc/1",
            "/send",
            "/send/abc",
            "/send/abc/",
            "/send/abc/x",
            "/send/abc/-1",
            "/send/abc/1/2",
            "/send/abc/1/",
            "/send/a/1000000000000000000",
            "/SEND/abc/1",
            "/fcs",
            "/fcs/other",
            "/live/a.flv",
            "http://host/send/abc/1",
        ] {
            check(wrong, None);
        }
    }
}
