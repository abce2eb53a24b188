//! What the operator decided about the hooks of an application: which back end is asked and told,
//! in whose contract, and what holds while it does not answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::labels::{HookName, Label};

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

/// The hooks of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSettings {
    /// The application as the configuration names it, which is what counts and breakers go by.
    pub app: Arc<str>,
    /// The contract; `None` for no hooks at all.
    pub contract: Option<Contract>,
    /// The URLs of each event, in the order of [`HookName::ALL`]; called one after the other.
    pub urls: [Vec<String>; HookName::COUNT],
    /// How the nginx-rtmp contract sends its fields.
    pub method: Method,
    /// How long one call may take, its connection included; `None` for what the contract has.
    pub timeout: Option<Duration>,
    /// From one `on_update` of a session to the next.
    pub update_interval: Duration,
    /// Whether only a 2xx lets a session go on after `on_update`, and not a 3xx too.
    pub update_strict: bool,
    /// What holds while there is no usable answer.
    pub fail: Fail,
    /// Calls under way at a time to one server, for questions, and as many again for
    /// notifications.
    pub concurrency: usize,
    /// How often a notification that failed is sent again.
    pub retries: usize,
    /// How long a verdict holds for the same client asking the same again; zero asks each time.
    pub cache: Duration,
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
            fail: Fail::default(),
            concurrency: 64,
            retries: 3,
            cache: Duration::ZERO,
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
    pub fn urls(&self, name: HookName) -> &[String] {
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

    /// Whether any of these events has a URL.
    #[must_use]
    pub fn has_any(&self, names: &[HookName]) -> bool {
        names.iter().any(|name| self.has(*name))
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
