//! A page of our own metrics, served while a run goes on.
//!
//! Whoever asks gets the newest page whatever the path; nothing of a request is kept, and one that
//! is slow keeps only the next one waiting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::collect::Collected;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::report;
use crate::run::Watcher;

/// The page and whoever serves it.
#[derive(Debug)]
pub struct Exporter {
    page: Arc<Mutex<String>>,
    /// When the page was written last.
    written: Option<Duration>,
    address: SocketAddr,
}

/// The page is not written more often.
const PAGE_AGE: Duration = Duration::from_millis(500);

/// A client that takes longer is closed.
const PATIENCE: Duration = Duration::from_secs(1);

impl Exporter {
    /// Begins to serve at `host:port`.
    ///
    /// # Errors
    /// One sentence when the address cannot be listened on.
    pub fn begin(address: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(format!("metrics cannot be served at {address}: {error}"))
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let page = Arc::new(Mutex::new(String::new()));
        let served = Arc::clone(&page);
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let page = served.lock().map(|page| page.clone()).unwrap_or_default();
                // Somebody who has gone does not want the page.
                let _ = answer(client, &page);
            }
        });
        Ok(Self { page, written: None, address: bound })
    }

    /// Where the page is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Watcher for Exporter {
    fn look(&mut self, plan: &Plan, collected: &Collected, _: Duration) {
        let now = clock::now();
        if self.written.is_some_and(|written| now < written + PAGE_AGE) {
            return;
        }
        self.written = Some(now);
        let text = report::prometheus(plan, collected);
        if let Ok(mut page) = self.page.lock() {
            *page = text;
        }
    }
}

fn answer(mut client: TcpStream, page: &str) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; 4_096];
    let mut filled = 0;
    // Read to its end, so that closing does not reset the connection.
    while filled < request.len() && !request[..filled].ends_with(b"\r\n\r\n") {
        match client.read(&mut request[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        page.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(page.as_bytes())
}
