//! Addresses of back ends by name: looked up once for all who ask, remembered for a while.
//!
//! The system's resolver may hang for long. At most one look-up per name is under way, whoever gave
//! up waiting for it; when it fails, the addresses known before are still used.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long addresses are used before the name is looked up again.
const FRESH: Duration = Duration::from_secs(30);

/// How long they are used when it cannot be looked up.
const STALE: Duration = Duration::from_secs(3_600);

/// What is known of names. There are as many as the configuration has.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<Known>>>>);

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    at: Option<Instant>,
}

impl Names {
    /// The addresses of a host, with its port.
    pub(super) async fn resolve(&self, host: &Arc<str>, port: u16) -> io::Result<Vec<SocketAddr>> {
        let with_port = |address: &IpAddr| SocketAddr::new(*address, port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![with_port(&address)]);
        }
        let known = Arc::clone(self.0.lock().entry(Arc::clone(host)).or_default());
        let known = known.lock_owned().await;
        if known.at.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(known.addresses.iter().map(with_port).collect());
        }
        let host = Arc::clone(host);
        // It goes on when who asked gives up, and keeps others from asking meanwhile.
        let looking_up = tokio::spawn(async move {
            let mut known = known;
            let found = tokio::net::lookup_host((&*host, 0)).await;
            match found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>()) {
                Ok(addresses) if !addresses.is_empty() => {
                    known.addresses = addresses;
                    known.at = Some(Instant::now());
                }
                Ok(_) => return Err(io::Error::other("the name has no address")),
                Err(error) if known.at.is_none_or(|at| at.elapsed() >= STALE) => return Err(error),
                Err(_) => {}
            }
            Ok(known.addresses.clone())
        });
        let addresses = looking_up.await.map_err(io::Error::other)??;
        Ok(addresses.iter().map(with_port).collect())
    }
}
