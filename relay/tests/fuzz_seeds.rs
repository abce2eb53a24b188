//! The bodies of the fuzz targets without a fuzzer: on their seeds, and for a while on mutations of
//! them.
//!
//! `RELAY_FUZZ_SECONDS` says how long each body is run on mutations (2 s by default). The number
//! from which all of them follow is printed, and `RELAY_FUZZ_SEED` repeats it.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use relay::{access, cluster, session, stream, wire, worker};

macro_rules! bodies {
    ($($name:ident: $body:path,)*) => {
        /// Every target by its name.
        const TARGETS: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            check(stringify!($name), $body);
        })*
    };
}

bodies! {
    access: access::fuzz::access,
    access_files: access::fuzz::access_files,
    aggregate: wire::fuzz::aggregate,
    amf0: session::fuzz::amf0,
    amf3: session::fuzz::amf3,
    authmod_answer: access::fuzz::authmod_answer,
    chunk_reader: wire::fuzz::chunk_reader,
    client_session: session::fuzz::client_session,
    cluster_greeting: cluster::fuzz::greeting,
    cluster_message: cluster::fuzz::message,
    cluster_peer: cluster::fuzz::peer,
    command: session::fuzz::command,
    control: wire::fuzz::control,
    data_message: session::fuzz::data_message,
    flv: wire::fuzz::flv,
    handshake: wire::fuzz::handshake,
    link_session: session::fuzz::link_session,
    media_header: wire::fuzz::media_header,
    outside_url: worker::fuzz::outside_url,
    proxy_header: session::fuzz::proxy_header,
    request_heads: session::fuzz::request_heads,
    server_session: session::fuzz::server_session,
    stream: stream::fuzz::operations,
    tunnel: session::fuzz::tunnel,
    tunnel_client: session::fuzz::tunnel_client,
    websocket: wire::fuzz::websocket,
    wire_message: wire::fuzz::wire_message,
}

/// Runs a body on its seeds, then on mutations of them.
fn check(name: &str, body: fn(&[u8])) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for (path, seed) in &seeds {
        let survived = catch_unwind(AssertUnwindSafe(|| body(seed)));
        assert!(survived.is_ok(), "{name} on its seed {}", path.display());
    }
    let start = start_number();
    eprintln!("{name}: RELAY_FUZZ_SEED={start}");
    let until = Instant::now() + duration();
    let mut runs: u64 = 0;
    while Instant::now() < until {
        let number = start.wrapping_add(runs);
        let mutated = mutate(&seeds, &mut fastrand::Rng::with_seed(number));
        let survived = catch_unwind(AssertUnwindSafe(|| body(&mutated)));
        assert!(survived.is_ok(), "{name}, RELAY_FUZZ_SEED={number}: {}", hex(&mutated));
        runs += 1;
    }
    eprintln!("{name}: {} seeds, {runs} mutations", seeds.len());
}

fn duration() -> Duration {
    let seconds = std::env::var("RELAY_FUZZ_SECONDS");
    Duration::from_secs_f32(seconds.map_or(2.0, |seconds| seconds.parse().unwrap()))
}

fn start_number() -> u64 {
    match std::env::var("RELAY_FUZZ_SEED") {
        Ok(number) => number.parse().unwrap(),
        Err(_) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(since.subsec_nanos()) << 32 | (since.as_secs() & u64::from(u32::MAX))
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, in the order of their names.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder().join("seeds").join(name))
        .unwrap_or_else(|wrong| panic!("the seeds of {name}: {wrong}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// One seed after a few changes.
fn mutate(seeds: &[(PathBuf, Vec<u8>)], random: &mut fastrand::Rng) -> Vec<u8> {
    const EDGES: [u32; 8] = [0, 1, 0x7F, 0x80, 0xFFFF, 0xFF_FFFF, 0x7FFF_FFFF, u32::MAX];
    let any = |random: &mut fastrand::Rng| &seeds[random.usize(..seeds.len())].1;
    let mut bytes = any(random).clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        let span = at..bytes.len().min(at + random.usize(0..40));
        match random.u8(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => bytes.insert(at, random.u8(..)),
            3 => drop(bytes.drain(span)),
            4 => {
                let copy = bytes[span].to_vec();
                let to = random.usize(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let other = any(random);
                let from = random.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6 => bytes.truncate(at),
            _ => {
                let edge = EDGES[random.usize(..EDGES.len())].to_be_bytes();
                let edge = &edge[random.usize(0..4)..];
                let end = bytes.len().min(at + edge.len());
                bytes.splice(at..end, edge.iter().copied());
            }
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_target_of_the_fuzzer_is_run_here_too() {
    let mut found: Vec<String> = fs::read_dir(folder().join("targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, TARGETS);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
        let target = fs::read_to_string(folder().join(format!("targets/{name}.rs"))).unwrap();
        assert!(target.contains("libfuzzer_sys::fuzz_target!"), "{name}");
    }
}
