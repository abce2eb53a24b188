//! What the cluster's machine is told at the start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::chance;
use crate::cluster::{Credentials, Identity, NodeKey, Secret, Settings};
use crate::config::Config;

/// The settings of a node that other nodes find at `link`; `None` for one that stands alone.
/// `http` is where it answers operators.
pub(super) fn settings(
    config: &Config,
    link: Option<SocketAddr>,
    http: SocketAddr,
) -> Option<Settings> {
    let link = link?;
    let cluster = &config.cluster;
    let secret = Secret::new(&cluster.secret.0)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let identity = Identity {
        name: config.node.name.as_str().into(),
        key: NodeKey(u64::from_be_bytes(chance::bytes())),
        started: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        zone: config.node.zone.as_str().into(),
        link_port: link.port(),
    };
    let versions = cluster.protocol.0..=cluster.protocol.1;
    Some(Settings {
        credentials: Arc::new(Credentials { identity, secret, versions }),
        limits: Arc::new(config.settings.limits.clone()),
        fanout_max: cluster.fanout_max,
        link_linger: cluster.link_linger,
        operators: Some(http),
        doors: config.node.advertise.iter().map(|url| url.as_str().into()).collect(),
        seed: chance::bytes(),
    })
}
