//! Addresses and networks of addresses (CIDR), of both families.
//!
//! An IPv4 address that comes mapped into IPv6 (`::ffff:192.0.2.1`, as dual-stack listeners see
//! it) is the IPv4 address, in rules and in what is judged alike.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: every address whose first bits are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Loopback, and what is routed on no public network: the networks of RFC 1918, link-local ones,
/// and the unique local addresses of RFC 4193.
pub(super) const PRIVATE: &[Network] = &[
    Network::v4([127, 0, 0, 0], 8),
    Network::v4([10, 0, 0, 0], 8),
    Network::v4([172, 16, 0, 0], 12),
    Network::v4([192, 168, 0, 0], 16),
    Network::v4([169, 254, 0, 0], 16),
    Network::v6(Ipv6Addr::LOCALHOST, 128),
    Network::v6(Ipv6Addr::new(0xFC00, 0, 0, 0, 0, 0, 0, 0), 7),
    Network::v6(Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// Whether an address is a loopback, private, link-local or unique local one.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    PRIVATE.iter().any(|network| network.contains(address))
}

impl Network {
    const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(address: Ipv6Addr, bits: u8) -> Self {
        Self { address: IpAddr::V6(address), bits }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    /// An address, or an address with the number of its bits that count: `192.0.2.0/24`. Bits
    /// beyond must be 0, since one who wrote others meant another network.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let address = written.to_canonical();
        let width = |address| if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
        let bits = match bits {
            None => width(address),
            Some(bits) if bits.len() > 3 || !bits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(NotANetwork);
            }
            Some(bits) => {
                let bits: u8 = bits.parse().map_err(|_| NotANetwork)?;
                // Those of a mapped address are counted in the address as it was written.
                bits.checked_sub(width(written) - width(address)).ok_or(NotANetwork)?
            }
        };
        let host = match address {
            IpAddr::V4(_) if bits > 32 => return Err(NotANetwork),
            IpAddr::V6(_) if bits > 128 => return Err(NotANetwork),
            IpAddr::V4(address) => {
                u128::from(u32::from(address).checked_shl(bits.into()).unwrap_or(0))
            }
            IpAddr::V6(address) => u128::from(address).checked_shl(bits.into()).unwrap_or(0),
        };
        if host == 0 { Ok(Self { address, bits }) } else { Err(NotANetwork) }
    }
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANetwork;

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.bits) {
            (IpAddr::V4(address), 32) => write!(formatter, "{address}"),
            (IpAddr::V6(address), 128) => write!(formatter, "{address}"),
            (address, bits) => write!(formatter, "{address}/{bits}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_their_bits_say() {
        #[track_caller]
        fn check(network: &str, inside: &[&str], outside: &[&str]) {
            let parsed: Network = network.parse().unwrap();
            for address in inside {
                assert!(parsed.contains(address.parse().unwrap()), "{address} in {network}");
            }
            for address in outside {
                assert!(!parsed.contains(address.parse().unwrap()), "{address} not in {network}");
            }
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::1", "::"]);
        check("::/0", &["::1", "2001:db8::1"], &["1.2.3.4", "::ffff:1.2.3.4"]);
        check("192.0.2.7", &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.6", "::192.0.2.7"]);
        check("192.0.2.0/24", &["192.0.2.0", "192.0.2.255"], &["192.0.3.0", "192.0.1.255"]);
        check("192.0.2.128/25", &["192.0.2.128", "192.0.2.255"], &["192.0.2.127"]);
        check("128.0.0.0/1", &["128.0.0.0", "255.0.0.1"], &["127.255.255.255"]);
        check("2001:db8::/32", &["2001:db8:ffff::1"], &["2001:db9::", "32.1.13.184"]);
        check("2001:db8::/33", &["2001:db8:7fff::"], &["2001:db8:8000::"]);
        check("::1", &["::1"], &["::2", "::ffff:0.0.0.1"]);
        check("::ffff:10.0.0.0/104", &["10.1.2.3", "::ffff:10.9.9.9"], &["11.0.0.0", "::1"]);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "1.2.3.4/",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "1.2.3.4/24",
            "1.2.3",
            "::/129",
            "::1/64",
            "::ffff:10.0.0.0/95",
            "::ffff:10.0.0.1/104",
            "fe80::1%eth0",
            "[::1]",
            "localhost",
            "1.2.3.4:5",
            "10.0.0.0/8/8",
            "10.0.0.0/0x8",
            "010.0.0.1",
            "::/0000",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }

    #[test]
    fn private_networks_are_known_by_their_edges() {
        let check = |address: &str, expected| {
            assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
        };
        for address in [
            "127.0.0.1",
            "127.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.1",
            "192.168.255.255",
            "169.254.1.1",
            "::1",
            "fc00::",
            "fdff:ffff::1",
            "fe80::1",
            "febf:ffff::",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:192.168.1.1",
        ] {
            check(address, true);
        }
        for address in [
            "0.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "100.64.0.1",
            "203.0.113.1",
            "8.8.8.8",
            "::",
            "::2",
            "fbff::",
            "fe00::",
            "fec0::",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:0001::",
            "255.255.255.255",
        ] {
            check(address, false);
        }
    }
}
