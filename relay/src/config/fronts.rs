//! Settings about what is in front of RTMP: certificates, further listeners, proxies.
//!
//! Certificates and listeners are numbered tables: `[[tls.certificates]]` in the file, counted from
//! 1, and `RELAY_TLS__CERTIFICATES__1__KEY` in the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::settings::Setting;
use super::{Config, text};
use crate::worker::settings::Speaks;

/// A setting of each of several numbered tables.
pub(super) struct ItemSetting {
    /// The tables' name: `tls.certificates`.
    pub(super) table: &'static [&'static str],
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    /// Takes a text for the table of an index, which is there, or says what is allowed.
    pub(super) set: fn(&mut Config, usize, &str) -> Result<(), String>,
    /// The value as the file has it.
    pub(super) get: fn(&Config, usize) -> String,
}

/// A listener besides `listen.rtmp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Where; port 0 lets the kernel choose. `None` was not told, which is a mistake.
    pub address: Option<SocketAddr>,
    /// What it takes.
    pub speaks: Speaks,
}

pub(super) const CERTIFICATES: &[&str] = &["tls", "certificates"];
pub(super) const LISTENERS: &[&str] = &["listeners"];

/// Most tables of one name.
pub(super) const ITEMS_MAX: usize = 64;

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        section: "listen",
        name: "proxy_from",
        why: "Networks or addresses of proxies whose PROXY headers (version 1 or 2) are believed, between commas, such as \"10.0.0.0/8, fd00::/8\". From everywhere else such a header is refused. Those proxies may also connect without one.",
        flag: None,
        set: |config, text| {
            let networks = text::list(text).and_then(|items| {
                items.iter().map(|item| network(item)).collect::<Option<Vec<_>>>()
            });
            config.settings.proxy_from = networks.ok_or_else(|| {
                format!(
                    "networks or addresses such as \"10.0.0.0/8, fd00::1\", at most {}",
                    text::LIST_MAX
                )
            })?;
            Ok(())
        },
        get: |config| {
            let networks = config.settings.proxy_from.iter().map(ToString::to_string);
            text::quoted(&networks.collect::<Vec<_>>().join(", "))
        },
    },
    Setting {
        section: "tls",
        name: "tickets",
        why: "Tickets sent to each client of TLS 1.3, with which it can go on later without a new signature, 0 to 8. librtmp (rtmpdump) fails on any.",
        flag: None,
        set: |config, text| {
            let tickets = text::count(text).filter(|count| *count <= TICKETS_MAX);
            config.tls.tickets =
                tickets.ok_or_else(|| format!("a number from 0 to {TICKETS_MAX}"))?;
            Ok(())
        },
        get: |config| config.tls.tickets.to_string(),
    },
];

const TICKETS_MAX: usize = 8;

pub(super) const ITEM_SETTINGS: &[ItemSetting] = &[
    ItemSetting {
        table: LISTENERS,
        name: "address",
        why: "Address of a further listener for clients, such as \"[::]:443\"; port 0 lets the kernel choose.",
        set: |config, index, text| {
            let address =
                text::address(text).ok_or("an address in digits with a port: \"[::]:443\"")?;
            config.listeners[index].address = Some(address);
            Ok(())
        },
        get: |config, index| {
            let address = config.listeners[index].address;
            text::quoted(&address.map_or(String::new(), |address| address.to_string()))
        },
    },
    ItemSetting {
        table: LISTENERS,
        name: "speaks",
        why: "What it takes, between commas, of \"rtmp\", \"rtmps\" (RTMP inside TLS), \"http\" (FLV and tunnels) and \"https\"; everything else is refused. listen.rtmp takes all of them.",
        set: |config, index, text| {
            config.listeners[index].speaks = speaks(text)
                .ok_or("one or more of \"rtmp\", \"rtmps\", \"http\", \"https\", between commas")?;
            Ok(())
        },
        get: |config, index| text::quoted(&shown(config.listeners[index].speaks)),
    },
    ItemSetting {
        table: CERTIFICATES,
        name: "certificate",
        why: "File with a certificate and those that lead to its authority (PEM). With one at least, listeners take TLS. It is chosen by the name that a client asks for; the first is for all others. Files are looked at every few seconds, and new ones are used for new connections.",
        set: |config, index, text| {
            config.tls.certificates[index].certificate = path(text)?;
            Ok(())
        },
        get: |config, index| {
            text::quoted(&config.tls.certificates[index].certificate.to_string_lossy())
        },
    },
    ItemSetting {
        table: CERTIFICATES,
        name: "key",
        why: "File with its private key (PEM).",
        set: |config, index, text| {
            config.tls.certificates[index].key = path(text)?;
            Ok(())
        },
        get: |config, index| text::quoted(&config.tls.certificates[index].key.to_string_lossy()),
    },
];

/// How many tables of a name there are.
pub(super) fn items(config: &Config, table: &[&str]) -> usize {
    if table == LISTENERS { config.listeners.len() } else { config.tls.certificates.len() }
}

/// Makes sure that there are so many.
pub(super) fn grow(config: &mut Config, table: &[&str], count: usize) {
    if table == LISTENERS {
        let count = count.max(config.listeners.len());
        config.listeners.resize(count, Listener::default());
    } else {
        let count = count.max(config.tls.certificates.len());
        config.tls.certificates.resize_with(count, Default::default);
    }
}

/// The table, its number, the setting, its text, and what is allowed.
type Mistake = (&'static [&'static str], usize, &'static str, String, String);

/// What tables lack, or what cannot be together.
pub(super) fn mistakes(config: &Config) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut mistake = |table, index: usize, name, text: String, allowed: String| {
        found.push((table, index + 1, name, text, allowed));
    };
    for (index, files) in config.tls.certificates.iter().enumerate() {
        for (name, path) in [("certificate", &files.certificate), ("key", &files.key)] {
            if path.as_os_str().is_empty() {
                mistake(CERTIFICATES, index, name, String::new(), "a file".to_owned());
            }
        }
    }
    let mut others = vec![
        ("listen.rtmp".to_owned(), config.listen.rtmp),
        ("listen.http".to_owned(), config.listen.http),
    ];
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(address) = listener.address else {
            let allowed = "an address with a port".to_owned();
            mistake(LISTENERS, index, "address", String::new(), allowed);
            continue;
        };
        if let Some((name, other)) =
            others.iter().find(|(_, other)| super::draft::overlap(*other, address))
        {
            let allowed = format!("another address or port than {name}, which is {other}");
            mistake(LISTENERS, index, "address", address.to_string(), allowed);
        }
        let Speaks { rtmp, http, .. } = listener.speaks;
        if !rtmp && !http && config.tls.certificates.is_empty() {
            let allowed = "more than TLS, since tls.certificates names none".to_owned();
            mistake(LISTENERS, index, "speaks", shown(listener.speaks), allowed);
        }
        others.push((format!("listeners.{}.address", index + 1), address));
    }
    found
}

/// What a listener takes, as the file has it.
pub fn shown(speaks: Speaks) -> String {
    let Speaks { rtmp, rtmps, http, https } = speaks;
    let names = [("rtmp", rtmp), ("rtmps", rtmps), ("http", http), ("https", https)];
    let names = names.into_iter().filter(|(_, taken)| *taken).map(|(name, _)| name);
    names.collect::<Vec<_>>().join(", ")
}

fn speaks(text: &str) -> Option<Speaks> {
    let mut speaks = Speaks { rtmp: false, rtmps: false, http: false, https: false };
    let names = text::list(text).filter(|names| !names.is_empty())?;
    for name in names {
        match name.as_str() {
            "rtmp" => speaks.rtmp = true,
            "rtmps" => speaks.rtmps = true,
            "http" => speaks.http = true,
            "https" => speaks.https = true,
            _ => return None,
        }
    }
    Some(speaks)
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("the path of a file".to_owned());
    }
    Ok(text.into())
}

fn network(text: &str) -> Option<ipnet::IpNet> {
    let whole = || text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
    text.parse().ok().or_else(whole)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "fronts_tests.rs"]
mod tests;
