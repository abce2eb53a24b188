//! Looks at the files of certificates now and then, and has new ones used.
//!
//! Certificates are renewed by other programs, which do not tell. A pair that cannot be used is
//! logged once and counted; the one before goes on, and its expiry can be watched.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::families::Families;
use super::families::float;
use super::state::Count;
use crate::tls::{Reloaded, ServerTls, Watch};

/// From one look at the files to the next. A change counts when it was seen twice.
const INTERVAL: Duration = Duration::from_secs(2);

/// The certificates of a node, and how often they were replaced.
#[derive(Debug)]
pub(super) struct Certificates {
    tls: Option<Arc<ServerTls>>,
    reloaded: Count,
    refused: Count,
}

impl Certificates {
    pub(super) fn new(tls: Option<Arc<ServerTls>>) -> Self {
        Self { tls, reloaded: Count::default(), refused: Count::default() }
    }

    /// Watches the files for ever.
    pub(super) async fn watch(&self, mut watch: Watch) {
        let Some(tls) = &self.tls else { return };
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            match tls.look(&mut watch, now) {
                None => {}
                Some(Reloaded::Yes) => {
                    self.reloaded.increment();
                    let names: Vec<_> = tls.facts().into_iter().map(|facts| facts.name).collect();
                    tracing::info!(names = names.join(", "), "certificates reloaded");
                }
                Some(Reloaded::Refused(error)) => {
                    self.refused.increment();
                    tracing::error!(%error, "new certificates cannot be used, the old ones go on");
                }
            }
        }
    }

    pub(super) fn collect(&self, out: &mut Families) {
        let help = "Times that new files of certificates were seen, by what came of it.";
        out.counter("relay_tls_reloads_total", &["result"], help)
            .value(&["ok"], float(self.reloaded.get()))
            .value(&["refused"], float(self.refused.get()));
        let Some(tls) = self.tls.as_ref() else { return };
        let help = "When a certificate expires, in seconds since 1970, by its first name.";
        let labels = &["certificate", "name"];
        let mut expiry = out.gauge("relay_tls_certificate_expiry_timestamp_seconds", labels, help);
        for (index, facts) in tls.facts().iter().enumerate() {
            let number = (index + 1).to_string();
            expiry.value(&[&number, &facts.name], facts.expires.as_secs_f64());
        }
    }
}
