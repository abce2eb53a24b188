//! What the cluster's machine is told at the start, and by what links speak TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{NodeError, chance};
use crate::cluster::{Credentials, Identity, NodeKey, Secret, Settings};
use crate::config::Config;
use crate::tls::{ClientTls, ServerTls, Trust, Watch};
use crate::worker::LinkTls;

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

/// What links speak TLS by, and its files, to be watched.
pub(super) type LinkCertificates = (LinkTls, (Arc<ServerTls>, Watch));

/// Reads and judges what links speak TLS by, where they do.
pub(super) fn certificates(config: &Config) -> Result<Option<LinkCertificates>, NodeError> {
    let tls = &config.cluster.tls;
    if config.cluster.peers.is_empty() || !tls.is_on() {
        return Ok(None);
    }
    let wrong =
        |name: &str, why: &dyn std::fmt::Display| NodeError(format!("cluster.{name}: {why}."));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Nodes stay connected: no session is ever gone on with.
    let (server, watch) = ServerTls::load(vec![tls.certificate.clone()], 0, 0, now)
        .map_err(|error| wrong("tls_certificate_file", &error))?;
    let client = ClientTls::of_tls13(&Trust::Authorities(tls.ca_file.clone()))
        .map_err(|error| wrong("tls_ca_file", &error))?;
    let first = server.facts().into_iter().next().map(|facts| facts.name).unwrap_or_default();
    let name = if tls.name.is_empty() { first } else { tls.name.clone() };
    let server = Arc::new(server);
    let links = LinkTls::new(Arc::clone(&server), client, &name).map_err(|_| {
        let allowed = "set it to the name that the certificates of all nodes are for";
        wrong("tls_name", &format!("'{name}' is no name of a host, {allowed}"))
    })?;
    Ok(Some((links, (server, watch))))
}
