//! Handshakes in memory: what the server's half of one takes, by certificate and version.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loadgen::clock;
use relay::tls::{CertificateFiles, ClientTls, Layer, ServerTls, TlsError, Trust};
use serde::Serialize;

use super::cannot;
use crate::CannotRun;
use crate::place::Place;
use crate::server::OnCore;

/// Handshakes of one kind.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Handshakes {
    pub(super) certificate: &'static str,
    pub(super) version: &'static str,
    pub(super) resumed: bool,
    /// By the CPU time of the server's half.
    pub(super) per_second: f64,
}

const ROUNDS: u32 = 400;

/// Full and resumed ones, of both versions, on the server's core.
pub(super) fn measure(
    certificate: &'static str,
    files: CertificateFiles,
    place: &Place,
) -> Result<Vec<Handshakes>, CannotRun> {
    let trust = Trust::Authorities(files.certificate.clone());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let load = |tickets| {
        let loaded = ServerTls::load(vec![files.clone()], tickets, 1_024, now);
        loaded.map(|(tls, _)| tls).map_err(|error| cannot("the certificate is bad", &error))
    };
    let bad = |error| cannot("TLS cannot be had", &error);
    let new = ClientTls::new(&trust).map_err(bad)?;
    let old = ClientTls::of_tls12(&trust).map_err(bad)?;
    let _core = OnCore::enter(place.server, place.load())?;
    let mut rows = Vec::new();
    for (version, client, tickets) in [("1.3", new, 1), ("1.2", old, 0)] {
        for resumed in [false, true] {
            let server = load(if resumed { tickets } else { 0 })?;
            let client = if resumed { client.clone() } else { client.without_resumption() };
            // The first gives what the others go on with.
            shake_hands(&server, &client).map_err(|error| cannot("a handshake fails", &error))?;
            let mut took = Duration::ZERO;
            for _ in 0..ROUNDS {
                let (cpu, found) = shake_hands(&server, &client)
                    .map_err(|error| cannot("a handshake fails", &error))?;
                if found != resumed {
                    return Err(CannotRun("a handshake was not of its kind".to_owned()));
                }
                took += cpu;
            }
            let per_second = f64::from(ROUNDS) / took.as_secs_f64();
            rows.push(Handshakes { certificate, version, resumed, per_second });
        }
    }
    Ok(rows)
}

/// One handshake: the CPU time of the server's half, and whether it was resumed.
fn shake_hands(server: &ServerTls, client: &ClientTls) -> Result<(Duration, bool), TlsError> {
    let mut client = client.connect("localhost")?;
    let mut cpu = Duration::ZERO;
    let mut timed = |work: &mut dyn FnMut() -> Result<(), TlsError>| {
        let begin = clock::thread_cpu();
        let result = work();
        cpu += clock::thread_cpu() - begin;
        result
    };
    let mut accepted: Option<Layer> = None;
    loop {
        let (mut plain, hello) = (Vec::new(), client.take_output());
        let mut answer = None;
        timed(&mut || {
            let layer = match accepted.as_mut() {
                Some(layer) => layer,
                None => accepted.insert(server.accept()?),
            };
            if let Some(hello) = &hello {
                layer.receive(hello, &mut plain)?;
            }
            answer = layer.take_output();
            Ok(())
        })?;
        if let Some(answer) = &answer {
            client.receive(answer, &mut plain)?;
        }
        let established = accepted.as_ref().and_then(Layer::established);
        if let Some(established) = established.filter(|_| client.established().is_some())
            && !client.has_output()
        {
            return Ok((cpu, established.resumed));
        }
        if hello.is_none() && answer.is_none() {
            return Err(TlsError::Internal("both sides wait".to_owned()));
        }
    }
}
