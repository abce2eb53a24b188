//! What encrypting costs where a fan-out does it: between sends.
//!
//! By itself AES-GCM finds keys, text and its own code in the nearest cache. Between sends the
//! kernel has had these caches meanwhile, whoever encrypts. So here the least that any server does
//! is measured both ways, window by window: one `send` of the same text to each of many sockets,
//! and the same behind AES-256-GCM from the text into one buffer, under a key for each socket.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use loadgen::clock;
use loadgen::counting::Discarder;
use loadgen::pinned::pin_thread;

use super::cannot;
use super::players::median;
use crate::CannotRun;
use crate::load::sleep_until;

/// How often text comes, and how many windows of it are sent: every other one encrypted.
const WINDOW: Duration = Duration::from_millis(20);
const WINDOWS: usize = 200;

/// Texts that come one after the other, as in a log.
const TEXTS: usize = 64;

/// Most plaintext bytes of a record (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16_384;

/// Bytes of a record besides its plaintext (RFC 8446 section 5.2).
const OVERHEAD: usize = 5 + 1 + 16;

/// CPU seconds per gigabyte that encrypting adds to sends of `batch_bytes` to so many sockets, on
/// the calling thread's core. Receivers are on core `load`.
pub(super) fn measure(batch_bytes: usize, sockets: usize, load: usize) -> Result<f64, CannotRun> {
    let wrong = |error: std::io::Error| cannot("sockets cannot be had", &error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..sockets.max(1) {
        let there = TcpStream::connect(address).map_err(wrong)?;
        there.set_nonblocking(true).map_err(wrong)?;
        let (here, _) = listener.accept().map_err(wrong)?;
        here.set_nodelay(true).map_err(wrong)?;
        theirs.push(there);
        ours.push((here, key(number)?));
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| read(&theirs, load, &over));
        let more = send(&mut ours, batch_bytes.max(1));
        over.store(true, Ordering::Relaxed);
        more
    })
}

/// Sends windows in turns; what the encrypted ones took more.
fn send(sockets: &mut [(TcpStream, LessSafeKey)], bytes: usize) -> Result<f64, CannotRun> {
    let failed = |error: std::io::Error| cannot("a send failed", &error);
    let texts = vec![vec![7_u8; bytes]; TEXTS];
    let mut buffer = vec![0; bytes + bytes.div_ceil(RECORD_BYTES) * OVERHEAD];
    let begin = clock::now();
    let (mut plain, mut more) = (Duration::ZERO, Vec::new());
    for (number, text) in (0..WINDOWS).zip(texts.iter().cycle()) {
        sleep_until(begin + WINDOW * u32::try_from(number).unwrap_or(u32::MAX));
        let before = clock::thread_cpu();
        for (socket, key) in &mut *sockets {
            let sent: &[u8] = if number % 2 == 0 {
                text
            } else {
                encrypt(key, text, &mut buffer)?;
                &buffer
            };
            socket.write_all(sent).map_err(failed)?;
        }
        let took = clock::thread_cpu() - before;
        if number % 2 == 0 {
            plain = took;
        } else {
            let difference = took.as_secs_f64() - plain.as_secs_f64();
            more.push(difference * 1e9 / (bytes * sockets.len()) as f64);
        }
    }
    Ok(median(more))
}

/// Records of a text, from where it lies to where it is sent from.
fn encrypt(key: &LessSafeKey, text: &[u8], buffer: &mut [u8]) -> Result<(), CannotRun> {
    let records = buffer.chunks_mut(RECORD_BYTES + OVERHEAD);
    for (text, record) in text.chunks(RECORD_BYTES).zip(records) {
        let (head, rest) = record.split_at_mut(5);
        let (content, tag) = rest.split_at_mut(text.len());
        head.copy_from_slice(&[23, 3, 3, 0, 0]);
        // Nobody reads it.
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.seal_out_of_place_scatter(nonce, Aad::from([0; 5]), text, content, &[23], tag)
            .map_err(|error| cannot("AES-GCM fails", &error))?;
    }
    Ok(())
}

fn key(number: usize) -> Result<LessSafeKey, CannotRun> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let key = UnboundKey::new(&AES_256_GCM, &bytes);
    Ok(LessSafeKey::new(key.map_err(|error| cannot("AES-GCM fails", &error))?))
}

/// Throws away what comes.
fn read(sockets: &[TcpStream], core: usize, over: &AtomicBool) {
    // Where it is not to be had, receivers take a share of the sender's core, in both ways alike.
    let _ = pin_thread(core);
    let mut discarder = Discarder::default();
    while !over.load(Ordering::Relaxed) {
        for socket in sockets {
            let _ = discarder.discard(socket);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
