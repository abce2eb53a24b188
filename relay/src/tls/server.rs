//! The certificates of a node, in the form in which connections use them, and their replacement.
//!
//! Files are compared with what they held, every few seconds and by whoever has time for it (the
//! control thread). Certificates are renewed file by file, so a change counts when two looks in a
//! row saw the same. A pair that cannot be used changes nothing: the one before goes on.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ServerConfig, version};
use sha2::{Digest, Sha256};

use super::binding::Witness;
use super::certificates::{CertificateError, CertificateFiles, Chooser, Pair, PairText};
use super::layer::Layer;
use super::{TlsError, provider};

/// The server's side of TLS, shared by all workers.
#[derive(Debug)]
pub struct ServerTls {
    files: Vec<CertificateFiles>,
    tickets: usize,
    sessions: usize,
    current: RwLock<Current>,
    /// What was put to use by [`Self::use_read`], for the next look.
    used: Mutex<Option<Vec<PairText>>>,
}

/// Pairs that were read and judged, and are not used yet.
#[derive(Debug)]
pub struct Read {
    texts: Vec<PairText>,
    current: Current,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    facts: Vec<CertificateFacts>,
    /// Of what the files held.
    digest: [u8; 32],
}

/// What an operator wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The first of the names that it is for.
    pub name: String,
    /// Until when it is valid, since 1970.
    pub expires: Duration,
}

/// What was seen of the files.
#[derive(Debug)]
pub struct Watch {
    /// What is in use, or was judged and refused.
    known: Result<Vec<PairText>, CertificateError>,
    /// What was seen last, if it is something else.
    seen: Option<Result<Vec<PairText>, CertificateError>>,
}

/// What came of looking at the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// New connections get the new certificates.
    Yes,
    /// There is something new that cannot be used. What was in use goes on.
    Refused(CertificateError),
}

impl ServerTls {
    /// Reads and judges the pairs, at `now` since 1970. `tickets` are sent to each client of TLS
    /// 1.3; `sessions` are remembered for clients that come again.
    ///
    /// # Errors
    /// The first pair that cannot be used.
    pub fn load(
        files: Vec<CertificateFiles>,
        tickets: usize,
        sessions: usize,
        now: Duration,
    ) -> Result<(Self, Watch), CertificateError> {
        let texts = read(&files)?;
        let current = Current::new(&files, &texts, tickets, sessions, now)?;
        let current = RwLock::new(current);
        let used = Mutex::new(None);
        Ok((
            Self { files, tickets, sessions, current, used },
            Watch { known: Ok(texts), seen: None },
        ))
    }

    /// A connection just accepted.
    ///
    /// # Errors
    /// See [`Layer::server`].
    pub fn accept(&self) -> Result<Layer, TlsError> {
        // Held for as long as it takes to count a handle.
        let config = Arc::clone(&self.current.read().config);
        Layer::server(config)
    }

    /// The same with a [`Layer::binding`].
    ///
    /// # Errors
    /// See [`Layer::server`].
    pub fn accept_bound(&self) -> Result<Layer, TlsError> {
        let witness = Arc::new(Witness::default());
        let mut config = ServerConfig::clone(&self.current.read().config);
        config.key_log = Arc::clone(&witness) as _;
        Ok(Layer::server(Arc::new(config))?.with_witness(witness))
    }

    /// What is in use, one for each pair of files, in order.
    #[must_use]
    pub fn facts(&self) -> Vec<CertificateFacts> {
        self.current.read().facts.clone()
    }

    /// Reads the files as they are now, at `now` since 1970, and judges them if they are others
    /// than those in use, which may have expired since: who does not change them is not kept from
    /// changing something else. `None` when they are the same. Nothing is used yet.
    ///
    /// # Errors
    /// The first pair that cannot be used.
    pub fn read(&self, now: Duration) -> Result<Option<Read>, CertificateError> {
        let texts = read(&self.files)?;
        if self.current.read().digest == digest(&texts) {
            return Ok(None);
        }
        let current = Current::new(&self.files, &texts, self.tickets, self.sessions, now)?;
        Ok(Some(Read { texts, current }))
    }

    /// Uses what was read for new connections.
    pub fn use_read(&self, read: Read) {
        let Read { texts, current } = read;
        *self.current.write() = current;
        *self.used.lock() = Some(texts);
    }

    /// Looks at the files, and uses what is new in them once it was seen twice. `None` when there
    /// is nothing to tell.
    pub fn look(&self, watch: &mut Watch, now: Duration) -> Option<Reloaded> {
        let found = read(&self.files);
        if let Some(texts) = self.used.lock().take() {
            *watch = Watch { known: Ok(texts), seen: None };
        }
        if found == watch.known {
            watch.seen = None;
            return None;
        }
        if watch.seen.as_ref() != Some(&found) {
            watch.seen = Some(found);
            return None;
        }
        watch.seen = None;
        let judged = found
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|texts| Current::new(&self.files, texts, self.tickets, self.sessions, now));
        watch.known = found;
        Some(match judged {
            Ok(current) => {
                *self.current.write() = current;
                Reloaded::Yes
            }
            Err(error) => Reloaded::Refused(error),
        })
    }
}

impl Current {
    fn new(
        files: &[CertificateFiles],
        texts: &[PairText],
        tickets: usize,
        sessions: usize,
        now: Duration,
    ) -> Result<Self, CertificateError> {
        let pairs: Vec<Pair> = files
            .iter()
            .zip(texts)
            .map(|(files, text)| Pair::judge(files, text, now))
            .collect::<Result<_, _>>()?;
        let facts = pairs
            .iter()
            .map(|pair| CertificateFacts {
                name: pair.names.first().cloned().unwrap_or_default(),
                expires: pair.expires,
            })
            .collect();
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("the provider has suites of both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Chooser::new(&pairs)));
        config.send_tls13_tickets = tickets;
        // Sessions do not outlive the certificates under which they began.
        config.session_storage = ServerSessionMemoryCache::new(sessions);
        Ok(Self { config: Arc::new(config), facts, digest: digest(texts) })
    }
}

/// What files are the same by.
fn digest(texts: &[PairText]) -> [u8; 32] {
    let mut digest = Sha256::new();
    texts.iter().for_each(|text| text.add_to(&mut digest));
    digest.finalize().into()
}

fn read(files: &[CertificateFiles]) -> Result<Vec<PairText>, CertificateError> {
    files.iter().map(PairText::read).collect()
}
