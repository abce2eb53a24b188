//! What the operator decided about the hooks of an application: which back end is asked and told,
//! in whose contract, and what holds while it does not answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::labels::{HookName, Label};
use crate::access::Action;

/// The callbacks of which server a back end understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contract {
    /// Those of nginx with its RTMP module: form fields, one connection per call, the status
    /// decides.
    NginxRtmp,
    /// Those of SRS: JSON both ways, several URLs per event.
    Srs,
}

/// Where the fields of the nginx-rtmp contract stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// In the body.
    #[default]
    Post,
    /// In the query of the URL.
    Get,
}

/// What holds while a back end gives no usable answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fail {
    /// Nobody is let in.
    #[default]
    Closed,
    /// Everybody is let in.
    Open,
}

/// What becomes of a player whose back end names another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlayElsewhere {
    /// The stream is fetched from there, as nginx has it.
    #[default]
    Pull,
    /// The player is sent there.
    Redirect,
}

/// Where a back end is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookUrl {
    /// As the operator wrote it, with a scheme. May carry a secret.
    pub text: String,
    /// Whether TLS comes first.
    pub tls: bool,
    /// The name or address of the host, without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// Path and query; begins with a slash. May carry a secret.
    pub target: String,
}

impl HookUrl {
    /// Reads `http://host:port/path?query`, or `https://`; without a scheme it is http, as nginx
    /// has it. No user, no fragment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fine = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (scheme, rest) = text.split_once("://")?;
        let (tls, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = match authority.strip_prefix('[') {
            Some(address) => {
                let (host, rest) = address.split_once(']')?;
                let _: std::net::Ipv6Addr = host.parse().ok()?;
                let port = match rest.strip_prefix(':') {
                    Some(port) => port.parse().ok()?,
                    None if rest.is_empty() => port,
                    None => return None,
                };
                (host, port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (authority, port),
            },
        };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_address = authority.starts_with('[');
        if !fine || port == 0 || host.is_empty() || !(is_address || host.bytes().all(named)) {
            return None;
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{target}");
        Some(Self { tls, host: host.into(), port, target, text })
    }

    /// Host and port, for logs and metrics.
    #[must_use]
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The hooks of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSettings {
    /// The application as the configuration names it, which is what counts and breakers go by.
    pub app: Arc<str>,
    /// The contract; `None` for no hooks at all.
    pub contract: Option<Contract>,
    /// The URLs of each event, in the order of [`HookName::ALL`]; called one after the other.
    pub urls: [Vec<HookUrl>; HookName::COUNT],
    /// How the nginx-rtmp contract sends its fields.
    pub method: Method,
    /// How long one call may take, its connection included; `None` for what the contract has.
    pub timeout: Option<Duration>,
    /// From one `on_update` of a session to the next.
    pub update_interval: Duration,
    /// Whether only a 2xx lets a session go on after `on_update`, and not a 3xx too.
    pub update_strict: bool,
    /// What becomes of players whose back end names another server.
    pub play_elsewhere: PlayElsewhere,
    /// What holds while there is no usable answer.
    pub fail: Fail,
    /// Calls under way at a time to one server, for questions, and as many again for
    /// notifications.
    pub concurrency: usize,
    /// How often a notification that failed is sent again.
    pub retries: usize,
    /// How long a verdict holds for the same client asking the same again; zero asks each time.
    pub cache: Duration,
    /// How long a publish or play goes on by one verdict before its back end is asked again; zero
    /// never asks again.
    pub verdict_lifetime: Duration,
    /// So many failures in a row open the breaker.
    pub breaker_failures: usize,
    /// How long it stays open before one question is let through.
    pub breaker_pause: Duration,
    /// The file with the secret that calls are signed by.
    pub secret_file: Option<PathBuf>,
    /// The header of the signature.
    pub signature_header: String,
    /// The file with the certificates that https is trusted by, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Virtual hosts that the SRS contract calls by their name; `*` for all.
    pub vhosts: Vec<String>,
}

impl Default for HookSettings {
    fn default() -> Self {
        Self {
            app: "*".into(),
            contract: None,
            urls: Default::default(),
            method: Method::default(),
            timeout: None,
            update_interval: Duration::from_secs(30),
            update_strict: false,
            play_elsewhere: PlayElsewhere::Pull,
            fail: Fail::default(),
            concurrency: 64,
            retries: 3,
            cache: Duration::ZERO,
            verdict_lifetime: Duration::ZERO,
            breaker_failures: 10,
            breaker_pause: Duration::from_secs(5),
            secret_file: None,
            signature_header: "X-Relay-Signature".to_owned(),
            ca_file: None,
            vhosts: Vec::new(),
        }
    }
}

impl HookSettings {
    /// The URLs of an event; none where there are no hooks.
    #[must_use]
    pub fn urls(&self, name: HookName) -> &[HookUrl] {
        if self.contract.is_none() {
            return &[];
        }
        &self.urls[name.index()]
    }

    /// Whether an event has a URL.
    #[must_use]
    pub fn has(&self, name: HookName) -> bool {
        !self.urls(name).is_empty()
    }

    /// Whether publishers may be sent on to another server: nginx's module asks for that by a
    /// redirect.
    #[must_use]
    pub fn may_forward(&self) -> bool {
        self.contract == Some(Contract::NginxRtmp) && self.has(HookName::OnPublish)
    }

    /// Whether what is played may be fetched from another server.
    #[must_use]
    pub fn may_fetch(&self) -> bool {
        let pulls = self.play_elsewhere == PlayElsewhere::Pull;
        self.contract == Some(Contract::NginxRtmp) && self.has(HookName::OnPlay) && pulls
    }

    /// Whether any of these events has a URL.
    #[must_use]
    pub fn has_any(&self, names: &[HookName]) -> bool {
        names.iter().any(|name| self.has(*name))
    }

    /// Whether an answer may give a stream another name, as that of nginx's module does.
    #[must_use]
    pub fn may_rename(&self, action: Action) -> bool {
        let question = match action {
            Action::Publish => HookName::OnPublish,
            Action::Play => HookName::OnPlay,
        };
        self.contract == Some(Contract::NginxRtmp) && self.has(question)
    }

    /// How long one call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let of_contract = match self.contract {
            Some(Contract::Srs) => Duration::from_secs(30),
            _ => Duration::from_secs(10),
        };
        self.timeout.unwrap_or(of_contract)
    }
}

impl HookName {
    /// The contract that has this event; `None` when both have it.
    #[must_use]
    pub fn contract(self) -> Option<Contract> {
        match self {
            Self::OnConnect | Self::OnPublish | Self::OnPlay => None,
            Self::OnDisconnect
            | Self::OnPublishDone
            | Self::OnPlayDone
            | Self::OnDone
            | Self::OnUpdate => Some(Contract::NginxRtmp),
            Self::OnClose | Self::OnUnpublish | Self::OnStop => Some(Contract::Srs),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        fn check(text: &str, expected: Option<(bool, &str, &str)>) {
            let url = HookUrl::parse(text);
            let found = url.as_ref().map(|url| (url.tls, url.server(), url.target.as_str()));
            let expected = expected.map(|(tls, server, target)| (tls, server.to_owned(), target));
            assert_eq!(found, expected, "{text}");
        }
        check("http://a/", Some((false, "a:80", "/")));
        check("http://a", Some((false, "a:80", "/")));
        check("HTTPS://a.example:8443/x/y?z=1&w", Some((true, "a.example:8443", "/x/y?z=1&w")));
        check("https://a?b", Some((true, "a:443", "/?b")));
        check("localhost:8080/on_publish", Some((false, "localhost:8080", "/on_publish")));
        check("http://[::1]:81/", Some((false, "[::1]:81", "/")));
        check("http://[::1]/", Some((false, "[::1]:80", "/")));
        for bad in [
            "",
            "http://",
            "ftp://a/",
            "http://a:0/",
            "http://a:x/",
            "http://a:65536/",
            "http://u:p@a/",
            "http://a/#f",
            "http://a /",
            "http://[::1",
            "http://[a]/",
            "http://[::1]x/",
            "http://a/\u{e9}",
            "http://a\r\n/",
            "http:///x",
        ] {
            check(bad, None);
        }
    }
}
