//! What is there before workers start: the sockets of all listeners, and certificates.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{NodeError, bound, open};
use crate::config::Config;
use crate::reactor::socket::SocketOptions;
use crate::tls::{ServerTls, Watch};

/// Sockets for clients.
pub(super) struct Fronts {
    /// Those of each worker: `listen.rtmp`, then the further listeners in order.
    pub(super) sockets: Vec<Vec<TcpListener>>,
    /// Where they listen, with the ports that the kernel chose.
    pub(super) addresses: Vec<SocketAddr>,
    /// Where other nodes find this one, if it is part of a cluster. The socket of it is each
    /// worker's last.
    pub(super) link: Option<SocketAddr>,
}

impl Fronts {
    /// Opens every listener once for each worker.
    pub(super) fn open(
        config: &Config,
        workers: usize,
        options: &SocketOptions,
    ) -> Result<Self, NodeError> {
        let further = config.listeners.iter().enumerate().filter_map(|(index, listener)| {
            Some((format!("listeners.{}.address", index + 1), listener.address?))
        });
        let all = std::iter::once(("listen.rtmp".to_owned(), config.listen.rtmp)).chain(further);
        let mut fronts = Self {
            sockets: (0..workers).map(|_| Vec::new()).collect(),
            addresses: Vec::new(),
            link: None,
        };
        for (name, address) in all {
            let sockets = open(&name, address, workers, options)?;
            fronts.addresses.push(bound(sockets.first(), address));
            for (of_worker, socket) in fronts.sockets.iter_mut().zip(sockets) {
                of_worker.push(socket);
            }
        }
        if !config.cluster.peers.is_empty() {
            let sockets = open("listen.link", config.listen.link, workers, options)?;
            fronts.link = Some(bound(sockets.first(), config.listen.link));
            for (of_worker, socket) in fronts.sockets.iter_mut().zip(sockets) {
                of_worker.push(socket);
            }
        }
        Ok(fronts)
    }
}

/// Reads the certificates, if there are any, and judges them.
pub(super) fn certificates(config: &Config) -> Result<Option<(Arc<ServerTls>, Watch)>, NodeError> {
    if config.tls.certificates.is_empty() {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let sessions = config.settings.limits.tls_sessions_max;
    let files = config.tls.certificates.clone();
    let (tls, watch) = ServerTls::load(files, config.tls.tickets, sessions, now)
        .map_err(|error| NodeError(format!("tls.certificates: {error}.")))?;
    Ok(Some((Arc::new(tls), watch)))
}
