//! The server's side: what its process takes, from `/proc` or from its `/metrics`.
//!
//! Watched once a second by a thread of its own; a server that cannot be watched is said so once
//! and never fails the run.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
use crate::plan::Outputs;

/// What the server took between the first look and the last.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerReport {
    /// `process` or the address of the metrics.
    pub source: String,
    /// CPU time, in seconds.
    pub cpu_seconds: f64,
    /// The largest resident memory seen, in bytes.
    pub resident_bytes_max: u64,
    /// CPU time of each thread, in seconds: name and time, busiest first. Only from `/proc`.
    pub threads: Vec<(String, f64)>,
    /// Bytes that the server says it received, where it says so.
    pub ingest_bytes: Option<u64>,
    /// Bytes that the server says it sent, where it says so.
    pub egress_bytes: Option<u64>,
    /// From the first look to the last, in seconds.
    pub seconds: f64,
}

/// A watch that runs until it is ended.
#[derive(Debug)]
pub struct Watch {
    ended: Arc<AtomicBool>,
    looks: Arc<Mutex<Vec<Look>>>,
    thread: JoinHandle<()>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Process(u32),
    Metrics(String),
}

/// One look.
#[derive(Clone, Debug, Default)]
struct Look {
    at: Duration,
    cpu: f64,
    resident: u64,
    threads: BTreeMap<u32, (String, f64)>,
    ingest: Option<u64>,
    egress: Option<u64>,
}

impl Watch {
    /// Begins to watch what the options name; nothing when they name nothing.
    ///
    /// # Errors
    /// One sentence when the server cannot be looked at even once.
    pub fn begin(outputs: &Outputs) -> Result<Option<Self>, Failure> {
        let source = match (outputs.server_pid, &outputs.server_metrics) {
            (Some(id), _) => Source::Process(id),
            (None, Some(address)) => Source::Metrics(address.clone()),
            (None, None) => return Ok(None),
        };
        let first = source.look().map_err(Failure::new)?;
        let looks = Arc::new(Mutex::new(vec![first]));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (ended, looks, source) = (Arc::clone(&ended), Arc::clone(&looks), source.clone());
            move || {
                while !ended.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(500));
                    if let (Ok(look), Ok(mut looks)) = (source.look(), looks.lock()) {
                        looks.push(look);
                    }
                }
            }
        });
        Ok(Some(Self { ended, looks, thread, source }))
    }

    /// Looks a last time and says what the server took.
    #[must_use]
    pub fn end(self) -> ServerReport {
        self.ended.store(true, Ordering::Relaxed);
        // A thread that panicked has looked for as long as it could.
        let _ = self.thread.join();
        // The thread's last look may lie before the last byte of the load.
        if let (Ok(look), Ok(mut looks)) = (self.source.look(), self.looks.lock()) {
            looks.push(look);
        }
        let looks = self.looks.lock().map(|looks| looks.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (looks.first(), looks.last()) else {
            return ServerReport::default();
        };
        let mut threads: Vec<(String, f64)> = last
            .threads
            .iter()
            .map(|(id, (name, cpu))| {
                let before = first.threads.get(id).map_or(0.0, |(_, cpu)| *cpu);
                (name.clone(), cpu - before)
            })
            .filter(|(_, cpu)| *cpu > 0.0)
            .collect();
        threads.sort_by(|a, b| b.1.total_cmp(&a.1));
        let grown = |last: Option<u64>, first: Option<u64>| {
            Some(last?.saturating_sub(first.unwrap_or_default()))
        };
        ServerReport {
            source: match &self.source {
                Source::Process(_) => "process".to_owned(),
                Source::Metrics(address) => address.clone(),
            },
            cpu_seconds: last.cpu - first.cpu,
            resident_bytes_max: looks.iter().map(|look| look.resident).max().unwrap_or_default(),
            threads,
            ingest_bytes: grown(last.ingest, first.ingest),
            egress_bytes: grown(last.egress, first.egress),
            seconds: (last.at - first.at).as_secs_f64(),
        }
    }
}

impl Source {
    fn look(&self) -> Result<Look, String> {
        match self {
            Self::Process(id) => look_at_process(*id),
            Self::Metrics(address) => look_at_metrics(address),
        }
    }
}

fn look_at_process(id: u32) -> Result<Look, String> {
    let gone = |_| format!("there is no process {id} to watch");
    let mut look = Look { at: crate::clock::now(), ..Look::default() };
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).map_err(gone)?;
    look.cpu = cpu_of(&stat).unwrap_or_default().1;
    let status = fs::read_to_string(format!("/proc/{id}/status")).map_err(gone)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    look.resident = kib.unwrap_or_default() * 1024;
    for entry in fs::read_dir(format!("/proc/{id}/task")).map_err(gone)?.flatten() {
        let thread = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let stat = fs::read_to_string(entry.path().join("stat")).ok();
        if let (Some(thread), Some(cpu)) = (thread, stat.as_deref().and_then(cpu_of)) {
            look.threads.insert(thread, cpu);
        }
    }
    Ok(look)
}

/// Name and CPU seconds from a line of `stat` (proc(5)): the name stands in parentheses and may
/// hold anything, and user and system time are the 12th and 13th field behind it.
fn cpu_of(stat: &str) -> Option<(String, f64)> {
    let (head, fields) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Some((name.to_owned(), (user + system) as f64 / ticks as f64))
}

fn look_at_metrics(address: &str) -> Result<Look, String> {
    let text = metrics_page(address)?;
    let sum = |name: &str| {
        let values: Vec<f64> = samples(&text, name).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>())
    };
    let bytes = |name: &str| sum(name).map(crate::units::whole);
    Ok(Look {
        at: crate::clock::now(),
        cpu: sum("process_cpu_seconds_total").unwrap_or_default(),
        resident: bytes("process_resident_memory_bytes").unwrap_or_default(),
        threads: BTreeMap::new(),
        ingest: bytes("relay_ingest_bytes_total"),
        egress: bytes("relay_egress_bytes_total"),
    })
}

/// The values of every sample of a metric on a page, whatever its labels.
pub fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse().ok()
    })
}

/// The page of metrics at `host:port`, `http://host:port` or with another path than `/metrics`.
///
/// # Errors
/// One sentence when there is none.
pub fn metrics_page(address: &str) -> Result<String, String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let plain = address.strip_prefix("http://").unwrap_or(address);
    let (host, path) =
        plain.split_once('/').map_or((plain, "metrics"), |(host, path)| (host, path));
    let failed = |error: std::io::Error| format!("no metrics at {address}: {error}");
    let socket = host.to_socket_addrs().map_err(failed)?.next();
    let socket = socket.ok_or_else(|| format!("no metrics at {address}: no such host"))?;
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page).map_err(failed)?;
    let page = String::from_utf8_lossy(&page);
    let (head, body) = page.split_once("\r\n\r\n").unwrap_or((&page, ""));
    let answer = head.lines().next().unwrap_or_default();
    if answer.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(format!("no metrics at {address}: the answer is '{answer}'"))
    }
}

/// Far more than any page of metrics.
const PAGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 200 0 0 20";
        let (name, cpu) = cpu_of(stat).unwrap();
        assert_eq!(name, "a) b (c");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert!((cpu - 500.0 / ticks).abs() < 1e-9);
        assert_eq!(cpu_of("7 (cut"), None);
        assert_eq!(cpu_of("7 (cut) S 1 2"), None);
    }

    #[test]
    fn samples_are_summed_over_labels_and_nothing_else() {
        let text = "# HELP a_total x\na_total{core=\"0\",via=\"b}c\"} 5\na_total{core=\"1\"} 7 123\n\
                    a_total_more 100\na 3\n";
        assert_eq!(samples(text, "a_total").sum::<f64>(), 12.0);
        assert_eq!(samples(text, "a").sum::<f64>(), 3.0);
    }

    #[test]
    fn this_process_can_be_watched_and_no_other_number() {
        let outputs = Outputs { server_pid: Some(std::process::id()), ..Outputs::default() };
        let watch = Watch::begin(&outputs).unwrap().unwrap();
        let report = watch.end();
        assert!(report.resident_bytes_max > 100_000);
        let nobody = Outputs { server_pid: Some(u32::MAX), ..Outputs::default() };
        assert!(Watch::begin(&nobody).is_err());
        assert!(Watch::begin(&Outputs::default()).unwrap().is_none());
    }
}
