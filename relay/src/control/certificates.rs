//! Looks at the files of certificates now and then, and at each reload, and has new ones used.
//!
//! Certificates are renewed by other programs, which do not tell. A pair that cannot be used is
//! logged once and counted; the one before goes on, and its expiry can be watched. Files are read
//! beside this thread: a disk may hang.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::families::Families;
use super::families::float;
use super::reload::Reread;
use super::state::Count;
use crate::config::Config;
use crate::tls::{Read, Reloaded, ServerTls, Watch};

/// From one look at the files to the next. A change counts when it was seen twice.
const INTERVAL: Duration = Duration::from_secs(2);

/// The certificates of a node, those for clients and the one for other nodes, and how often they
/// were replaced.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    clients: Option<Arc<ServerTls>>,
    nodes: Option<Arc<ServerTls>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    reloaded: Count,
    refused: Count,
}

/// The files, for a reload.
pub(super) struct Files {
    tls: Arc<ServerTls>,
    counts: Arc<Counts>,
    read: Option<Read>,
}

impl Certificates {
    pub(super) fn new(clients: Option<Arc<ServerTls>>, nodes: Option<Arc<ServerTls>>) -> Self {
        Self { clients, nodes, counts: Arc::default() }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<ServerTls>> {
        self.clients.iter().chain(&self.nodes)
    }

    /// What a reload reads again.
    pub(super) fn files(&self) -> impl Iterator<Item = Box<dyn Reread>> {
        self.all().map(|tls| {
            let (tls, counts) = (Arc::clone(tls), Arc::clone(&self.counts));
            Box::new(Files { tls, counts, read: None }) as Box<dyn Reread>
        })
    }

    /// Watches the files of one of them for ever.
    pub(super) async fn watch(&self, tls: &Arc<ServerTls>, mut watch: Watch) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let reader = Arc::clone(tls);
            let look = move || {
                let seen = reader.look(&mut watch, unix());
                (watch, seen)
            };
            let (again, seen) = match tokio::task::spawn_blocking(look).await {
                Ok(looked) => looked,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime ends.
                Err(_) => return,
            };
            watch = again;
            match seen {
                None => {}
                Some(Reloaded::Yes) => self.counts.replaced(tls),
                Some(Reloaded::Refused(error)) => {
                    self.counts.refused.increment();
                    tracing::error!(%error, "new certificates cannot be used, the old ones go on");
                }
            }
        }
    }

    pub(super) fn collect(&self, out: &mut Families) {
        let help = "Times that new files of certificates were seen, by what came of it.";
        out.counter("relay_tls_reloads_total", &["result"], help)
            .value(&["ok"], float(self.counts.reloaded.get()))
            .value(&["refused"], float(self.counts.refused.get()));
        if self.all().next().is_none() {
            return;
        }
        let help = "When a certificate expires, in seconds since 1970, by its first name.";
        let labels = &["certificate", "name"];
        let mut expiry = out.gauge("relay_tls_certificate_expiry_timestamp_seconds", labels, help);
        for (index, facts) in self.clients.iter().flat_map(|tls| tls.facts()).enumerate() {
            let number = (index + 1).to_string();
            expiry.value(&[&number, &facts.name], facts.expires.as_secs_f64());
        }
        for facts in self.nodes.iter().flat_map(|tls| tls.facts()) {
            expiry.value(&["cluster", &facts.name], facts.expires.as_secs_f64());
        }
    }
}

impl Counts {
    fn replaced(&self, tls: &ServerTls) {
        self.reloaded.increment();
        let names: Vec<_> = tls.facts().into_iter().map(|facts| facts.name).collect();
        tracing::info!(names = names.join(", "), "certificates reloaded");
    }
}

impl Reread for Files {
    fn what(&self) -> &'static str {
        "certificates"
    }

    /// Other files than those of the start are used after a restart.
    fn prepare(&mut self, _: &Config) -> Result<(), Vec<String>> {
        match self.tls.read(unix()) {
            Ok(read) => {
                self.read = read;
                Ok(())
            }
            Err(error) => {
                self.counts.refused.increment();
                Err(vec![format!("{error}.")])
            }
        }
    }

    fn commit(&mut self) {
        if let Some(read) = self.read.take() {
            self.tls.use_read(read);
            self.counts.replaced(&self.tls);
        }
    }
}

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
