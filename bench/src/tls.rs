//! `bench tls`: what RTMPS costs beside RTMP.
//!
//! Three things count: a delivered gigabyte, beside the same without TLS and beside what
//! encrypting those bytes costs by itself, in the same run; a handshake; and what a storm of
//! handshakes does to those who play already.

mod beside;
mod handshakes;
pub(crate) mod players;
mod raw;
mod storm;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use loadgen::units;
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use relay::tls::CertificateFiles;
use serde::Serialize;

use self::handshakes::Handshakes;
use self::players::Delivered;
use self::raw::{Raw, Record};
use self::storm::Storm;
use crate::machine::Machine;
use crate::place::{Place, PlaceOptions};
use crate::progress::Progress;
use crate::report::{self, Table, figure, give_out, none_wrong, number, percent};
use crate::server::OnCore;
use crate::{CannotRun, Outcome, release_only};

/// Arguments of `bench tls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Players at a time.
    #[arg(long, value_name = "N", default_value = "300", value_parser = units::count)]
    players: usize,
    /// Players that are there during the storm of handshakes.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = units::count)]
    residents: usize,
    /// Bits per second of the stream.
    #[arg(long, value_name = "RATE", default_value = "2.5M", value_parser = units::bit_rate)]
    bitrate: u64,
    /// How often each is measured, in turns.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// How long to measure at a time, in whole seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceOptions,
}

/// What RTMPS may cost beyond RTMP, in times of what encrypting the bytes costs by itself.
const AIM: f64 = 1.25;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    place: String,
    bits_per_second: u64,
    players: usize,
    delivered: Vec<Delivered>,
    raw: Vec<Raw>,
    records: Vec<Record>,
    handshakes: Vec<Handshakes>,
    storms: Vec<Storm>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, CannotRun> {
    release_only("tls")?;
    let machine = Machine::here();
    let place = Place::take(&arguments.place)?;
    let dir = tempfile::tempdir().map_err(|error| cannot("a directory cannot be made", &error))?;
    let files = certificate(dir.path(), &rcgen::PKCS_ECDSA_P256_SHA256)?;
    let kinds: Vec<_> = place.relays().collect();
    let progress = Progress::new(kinds.len() * 2 + 2);
    let mut report = Report {
        machine,
        place: place.describe(),
        bits_per_second: arguments.bitrate,
        players: arguments.players,
        delivered: Vec::new(),
        raw: Vec::new(),
        records: Vec::new(),
        handshakes: Vec::new(),
        storms: Vec::new(),
    };
    let window = Duration::from_secs(arguments.seconds);
    for &kind in &kinds {
        progress.say(format!("fan-out: {kind}"));
        let load = players::Fanout {
            kind,
            bits_per_second: arguments.bitrate,
            players: arguments.players,
            turns: arguments.turns,
            window,
        };
        let (delivered, raw) = players::measure(&load, &files, &place)?;
        report.delivered.extend(delivered);
        report.raw.push(raw);
        progress.step();
    }
    let core = OnCore::enter(place.server, place.load())?;
    report.records = raw::records()?;
    drop(core);
    for (name, algorithm) in
        [("ECDSA P-256", &rcgen::PKCS_ECDSA_P256_SHA256), ("RSA 2048", &rcgen::PKCS_RSA_SHA256)]
    {
        progress.say(format!("handshakes: {name}"));
        let files = certificate(dir.path(), algorithm)?;
        report.handshakes.extend(handshakes::measure(name, files, &place)?);
        progress.step();
    }
    let files = certificate(dir.path(), &rcgen::PKCS_ECDSA_P256_SHA256)?;
    for &kind in &kinds {
        progress.say(format!("storm: {kind}"));
        report.storms.push(storm::measure(kind, arguments.residents, &files, &place)?);
        progress.step();
    }
    drop(progress);
    give_out(&report, arguments.json.as_ref())
}

/// A certificate for `localhost` that trusts itself.
fn certificate(
    dir: &std::path::Path,
    algorithm: &'static SignatureAlgorithm,
) -> Result<CertificateFiles, CannotRun> {
    let wrong = |error: rcgen::Error| cannot("no certificate can be made", &error);
    let key = KeyPair::generate_for(algorithm).map_err(wrong)?;
    let params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(wrong)?;
    let certificate = params.self_signed(&key).map_err(wrong)?;
    let files = CertificateFiles { certificate: dir.join("relay.crt"), key: dir.join("relay.key") };
    std::fs::write(&files.certificate, certificate.pem())
        .and_then(|()| std::fs::write(&files.key, key.serialize_pem()))
        .map_err(|error| cannot("a certificate cannot be written", &error))?;
    Ok(files)
}

pub(crate) fn cannot(what: &str, why: &dyn std::fmt::Display) -> CannotRun {
    CannotRun(format!("{what}: {why}"))
}

impl report::Report for Report {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}; {}", self.machine.describe(), self.place)?;
        let rate = units::show_rate(self.bits_per_second as f64);
        writeln!(out, "{} players of {rate} that count; flush 20 ms; medians\n", self.players)?;
        let mut table = Table::new(&[
            "server",
            "RTMP s/GB",
            "RTMPS s/GB",
            "more",
            "raw s/GB",
            "more/raw",
            "beside sends",
            "more/that",
            "sealing s/GB",
            "sealing/raw",
            "",
        ]);
        for (delivered, raw) in self.delivered.chunks(2).zip(&self.raw) {
            let [plain, secure] = delivered else { continue };
            let more = secure.cpu_per_gb - plain.cpu_per_gb;
            let ratio = more / raw.cpu_per_gb;
            table.row(vec![
                plain.server.clone(),
                number(plain.cpu_per_gb),
                number(secure.cpu_per_gb),
                number(more),
                number(raw.cpu_per_gb),
                number(ratio),
                number(raw.beside_per_gb),
                number(more / raw.beside_per_gb),
                number(raw.sealed_per_gb),
                number(raw.sealed_per_gb / raw.cpu_per_gb),
                if ratio > AIM { "above the aim".to_owned() } else { String::new() },
            ]);
        }
        table.write(out)?;
        writeln!(
            out,
            "\naim: RTMPS at most RTMP + {AIM} x raw (AES-256-GCM of those bytes, a key for each \
             player);\nbeside sends: what the same encrypting adds to bare sends; sealing: the relay's own \
             work on them, measured beside raw\n"
        )?;
        let mut table = Table::new(&["provider", "bytes per record", "s/GB"]);
        for row in &self.records {
            table.row(vec![
                row.provider.to_owned(),
                row.record_bytes.to_string(),
                number(row.cpu_per_gb),
            ]);
        }
        table.write(out)?;
        writeln!(out)?;
        let mut table = Table::new(&["certificate", "version", "per second and core", "kind"]);
        for row in &self.handshakes {
            let kind = if row.resumed { "resumed" } else { "full" };
            table.row(vec![
                row.certificate.to_owned(),
                row.version.to_owned(),
                number(row.per_second),
                kind.to_owned(),
            ]);
        }
        table.write(out)?;
        writeln!(out)?;
        let mut table = Table::new(&[
            "server",
            "players",
            "calm: p50 ms",
            "p99",
            "in the storm: p50",
            "p99",
            "max",
            "handshakes/s",
            "core",
            "",
        ]);
        for storm in &self.storms {
            let wrong = storm.wrong > 0;
            table.row(vec![
                storm.server.clone(),
                storm.residents.to_string(),
                figure(storm.quiet_p50_ms),
                figure(storm.quiet_p99_ms),
                figure(storm.storm_p50_ms),
                figure(storm.storm_p99_ms),
                figure(storm.storm_max_ms),
                number(storm.handshakes_per_second),
                percent(storm.busy),
                if wrong { format!("{} WRONG FRAMES", storm.wrong) } else { String::new() },
            ]);
        }
        table.write(out)
    }

    fn judge(&self) -> Result<Outcome, CannotRun> {
        Ok(none_wrong(self.storms.iter().map(|storm| storm.wrong)))
    }
}
