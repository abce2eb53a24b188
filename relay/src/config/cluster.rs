//! `[cluster]`, and what of `[node]` and `[listen]` belongs to it: which nodes there are, by what
//! they know each other, and where they meet.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::Setting;
use super::{Config, secrets, text};
use crate::cluster::{FANOUT_MAX, LINK_LINGER, SECRET_BYTES_MIN, VERSIONS};
use crate::tls::CertificateFiles;

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The other nodes, and perhaps this one; empty for a node that stands alone.
    pub peers: Vec<Peer>,
    /// The file that holds the secret; empty for none.
    pub secret_file: String,
    /// What is in it.
    pub secret: SecretBytes,
    /// By what TLS is spoken among nodes, if it is.
    pub tls: ClusterTls,
    /// Most nodes that one node feeds with one stream.
    pub fanout_max: usize,
    /// How long a stream and a link go on after nobody needs them.
    pub link_linger: Duration,
    /// The oldest and newest version of the cluster's protocol that is spoken.
    pub protocol: (u16, u16),
}

/// An entry of the list of nodes: a name, behind which there may be many, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name or address.
    pub host: String,
    /// The port for nodes there.
    pub port: u16,
}

/// `[cluster] tls_...`: all files are set, or none is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTls {
    /// What this node shows to others; empty for no TLS.
    pub certificate: CertificateFiles,
    /// Authorities of the certificates that others show.
    pub ca_file: PathBuf,
    /// The name that those are for; empty for the first one of the own.
    pub name: String,
}

/// A secret. `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(pub Vec<u8>);

/// The port for nodes.
pub(super) const LINK_PORT: u16 = 11_935;

/// Most entries of the list of nodes; a name may stand for many.
const PEERS_MAX: usize = 256;

/// Before versions of the protocol that this build does not speak, by tests of how nodes of
/// different versions meet.
const PRETEND: &str = "pretend ";

/// Most places of a node that clients are sent to.
const DOORS_MAX: usize = 8;

/// The drain window of a node that is part of a cluster, unless it is set.
pub(super) const DRAIN_WINDOW: Duration = Duration::from_secs(30);

impl Default for Cluster {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            secret_file: String::new(),
            secret: SecretBytes::default(),
            tls: ClusterTls::default(),
            fanout_max: FANOUT_MAX,
            link_linger: LINK_LINGER,
            protocol: VERSIONS,
        }
    }
}

impl ClusterTls {
    /// Whether nodes speak TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certificate.certificate.as_os_str().is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(address) => write!(f, "{}", SocketAddr::new(address, self.port)),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Peer {
    /// Reads `name`, `name:port`, `192.0.2.1`, `192.0.2.1:port`, `[2001:db8::1]:port` or
    /// `2001:db8::1`.
    fn parse(text: &str) -> Option<Self> {
        let peer = |host: &str, port| Some(Self { host: host.to_owned(), port });
        if let Ok(address) = text.parse::<SocketAddr>() {
            return peer(&address.ip().to_string(), address.port());
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return peer(&address.to_string(), LINK_PORT);
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (text, LINK_PORT),
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let valid = !host.is_empty() && host.len() <= 253 && host.chars().all(named);
        if valid { peer(host, port) } else { None }
    }
}

/// What contradicts itself: section, name, text and what is allowed.
pub(super) fn mistakes(config: &Config) -> Option<(&'static str, String, String)> {
    let cluster = &config.cluster;
    if !cluster.peers.is_empty() && cluster.secret.0.is_empty() {
        let allowed = "set where cluster.peers is: a node joins no others without a secret";
        return Some(("secret_file", String::new(), allowed.to_owned()));
    }
    let files = [
        ("tls_certificate_file", &cluster.tls.certificate.certificate),
        ("tls_key_file", &cluster.tls.certificate.key),
        ("tls_ca_file", &cluster.tls.ca_file),
    ];
    let set = |(_, file): &&(&str, &PathBuf)| !file.as_os_str().is_empty();
    let there = files.iter().find(set)?.0;
    let (missing, _) = files.iter().find(|file| !set(file))?;
    Some((missing, String::new(), format!("set where cluster.{there} is")))
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        section: "node",
        name: "zone",
        why: "Where this node stands, such as a zone of a cloud: streams are fed within a zone where that can be. \"\": nobody said.",
        flag: None,
        set: |config, text| {
            let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if text.len() > 63 || !text.chars().all(named) {
                return Err("at most 63 letters, digits, dots, dashes or underscores".to_owned());
            }
            text.clone_into(&mut config.node.zone);
            Ok(())
        },
        get: |config| text::quoted(&config.node.zone),
    },
    Setting {
        section: "node",
        name: "advertise",
        why: "Where clients reach this node, and no other, from outside: at most 8 URLs of a host without a path, such as \"rtmp://relay-0.example.org\", between commas. Other nodes that end send their clients there, and those that are full their players. \"\": they are asked to connect again to where they came from.",
        flag: None,
        set: |config, text| {
            let urls = text::list(text).filter(|urls| {
                urls.len() <= DOORS_MAX && urls.iter().all(|url| super::limiting::is_base(url))
            });
            config.node.advertise = urls.ok_or_else(|| {
                format!(
                    "at most {DOORS_MAX} URLs such as \"rtmp://a.example:1935, https://a.example\", \
                     or \"\" for none"
                )
            })?;
            Ok(())
        },
        get: |config| text::quoted(&config.node.advertise.join(", ")),
    },
    Setting {
        section: "listen",
        name: "link",
        why: "Address for other nodes, opened only where cluster.peers is set; port 0 lets the kernel choose.",
        flag: Some(("--link", "ADDR")),
        set: |config, text| super::settings::address(&mut config.listen.link, LINK_PORT, text),
        get: |config| text::quoted(&config.listen.link.to_string()),
    },
    Setting {
        section: "cluster",
        name: "peers",
        why: "The nodes of the cluster, between commas: names, behind which there may be many addresses and which are looked up again and again, or addresses, each with its port if that is not 11935. This node may be among them. \"\": this node stands alone.",
        flag: Some(("--peers", "LIST")),
        set: |config, text| {
            let listed = if text.trim().is_empty() { Some(Vec::new()) } else { text::list(text) };
            let peers = listed.and_then(|items| {
                items.iter().map(|item| Peer::parse(item.trim())).collect::<Option<Vec<_>>>()
            });
            let peers = peers.filter(|peers| peers.len() <= PEERS_MAX);
            config.cluster.peers = peers.ok_or_else(|| {
                format!(
                    "at most {PEERS_MAX} names or addresses such as \"relay.example.org, \
                     192.0.2.7:11935\""
                )
            })?;
            Ok(())
        },
        get: |config| {
            let peers = config.cluster.peers.iter().map(ToString::to_string);
            text::quoted(&peers.collect::<Vec<_>>().join(", "))
        },
    },
    Setting {
        section: "cluster",
        name: "secret_file",
        why: "File of the secret by which nodes know each other: 16 bytes or more, the same on all of them; blanks and line ends around it do not count.",
        flag: None,
        set: |config, text| {
            let secret = if text.is_empty() {
                Vec::new()
            } else {
                let file = secrets::read(text);
                let file = file.map_err(|why| format!("a file with a secret, but {why}"))?;
                let secret = file.trim_ascii().to_vec();
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(format!(
                        "a file with a secret, but what is in {text} has fewer than \
                         {SECRET_BYTES_MIN} bytes"
                    ));
                }
                secret
            };
            config.cluster.secret_file = text.to_owned();
            config.cluster.secret = SecretBytes(secret);
            Ok(())
        },
        get: |config| text::quoted(&config.cluster.secret_file),
    },
    Setting {
        section: "cluster",
        name: "tls_certificate_file",
        why: "PEM file of the certificate, and what leads to its authority, that this node shows to others: nodes then speak TLS 1.3 to each other and nothing else, so set it on all of them or on none. \"\": links are not encrypted.",
        flag: None,
        set: |config, text| file(&mut config.cluster.tls.certificate.certificate, text),
        get: |config| shown(&config.cluster.tls.certificate.certificate),
    },
    Setting {
        section: "cluster",
        name: "tls_key_file",
        why: "PEM file of its private key.",
        flag: None,
        set: |config, text| file(&mut config.cluster.tls.certificate.key, text),
        get: |config| shown(&config.cluster.tls.certificate.key),
    },
    Setting {
        section: "cluster",
        name: "tls_ca_file",
        why: "PEM file of the authorities by which the certificates of other nodes must be known.",
        flag: None,
        set: |config, text| file(&mut config.cluster.tls.ca_file, text),
        get: |config| shown(&config.cluster.tls.ca_file),
    },
    Setting {
        section: "cluster",
        name: "tls_name",
        why: "The name that the certificates of all nodes are for, whatever else they are for. \"\": the first one in the certificate of this node.",
        flag: None,
        set: |config, text| {
            let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if text.len() > 253 || !text.chars().all(named) {
                return Err("the name of a host, or \"\"".to_owned());
            }
            text.clone_into(&mut config.cluster.tls.name);
            Ok(())
        },
        get: |config| text::quoted(&config.cluster.tls.name),
    },
    Setting {
        section: "cluster",
        name: "fanout_max",
        why: "Most nodes that one node feeds with one stream; further ones are fed by those. 8: 1,000 nodes are four deep.",
        flag: None,
        set: |config, text| {
            let count = text::count(text).filter(|count| (1..=128).contains(count));
            config.cluster.fanout_max = count.ok_or_else(|| "a number from 1 to 128".to_owned())?;
            Ok(())
        },
        get: |config| config.cluster.fanout_max.to_string(),
    },
    Setting {
        section: "cluster",
        name: "link_linger",
        why: "How long a stream goes on coming from another node after its last player left, and how long a link without streams stays open.",
        flag: None,
        set: |config, text| {
            config.cluster.link_linger = text::time(text)
                .ok_or_else(|| super::settings::times(Duration::ZERO, text::TIME_MAX))?;
            Ok(())
        },
        get: |config| text::quoted(&text::show_time(config.cluster.link_linger)),
    },
    Setting {
        section: "cluster",
        name: "protocol",
        why: "The oldest and newest version of the cluster's protocol that is spoken, such as \"1-1\": for bringing in a new version on all nodes before any speaks it.",
        flag: None,
        set: |config, text| {
            let pretended = text.strip_prefix(PRETEND);
            let parsed = pretended.unwrap_or(text).split_once('-').and_then(|(oldest, newest)| {
                let (oldest, newest) = (oldest.trim().parse().ok()?, newest.trim().parse().ok()?);
                (0 < oldest && oldest <= newest).then_some((oldest, newest))
            });
            let spoken = |(oldest, newest): &(u16, u16)| {
                pretended.is_some() || (VERSIONS.0 <= *oldest && *newest <= VERSIONS.1)
            };
            config.cluster.protocol = parsed.filter(spoken).ok_or_else(|| {
                let (oldest, newest) = VERSIONS;
                format!("two numbers from {oldest} to {newest}, such as \"{oldest}-{newest}\"")
            })?;
            Ok(())
        },
        get: |config| {
            let (oldest, newest) = config.cluster.protocol;
            let spoken = VERSIONS.0 <= oldest && newest <= VERSIONS.1;
            let word = if spoken { "" } else { PRETEND };
            text::quoted(&format!("{word}{oldest}-{newest}"))
        },
    },
];

fn file(to: &mut PathBuf, text: &str) -> Result<(), String> {
    if text.contains(char::is_control) {
        return Err("the path of a file, or \"\"".to_owned());
    }
    *to = text.into();
    Ok(())
}

fn shown(file: &Path) -> String {
    text::quoted(&file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_list_is_a_name_or_an_address_with_or_without_a_port() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            let parsed = Peer::parse(text).map(|peer| peer.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text:?}");
        }
        check("relay.example.org", Some("relay.example.org:11935"));
        check("relay-0.relay:7", Some("relay-0.relay:7"));
        check("192.0.2.1", Some("192.0.2.1:11935"));
        check("192.0.2.1:80", Some("192.0.2.1:80"));
        check("2001:db8::1", Some("[2001:db8::1]:11935"));
        check("[2001:db8::1]", Some("[2001:db8::1]:11935"));
        check("[2001:db8::1]:80", Some("[2001:db8::1]:80"));
        for bad in ["", ":", "a:", "a:0", "a:65536", "a b", "rtmp://a", "a:1:2", "[::1"] {
            check(bad, None);
        }
    }
}
