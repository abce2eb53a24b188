//! TLS for tests: certificates made on the spot, and a door that puts plain clients behind TLS.
//!
//! The door speaks the client half of the relay's own TLS; programs by other people, which have
//! their own, are tried beside it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use relay::tls::{ClientTls, Layer, SealBuffers, Trust};

/// A certificate that trusts itself, and its key, in files.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// For these names, in files of this name.
    pub(crate) fn make(dir: &Path, file: &str, names: &[&str]) -> Self {
        Self::write(dir, file, Self::params(names))
    }

    /// What [`Self::make`] starts from, to be changed.
    pub(crate) fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).unwrap()
    }

    pub(crate) fn write(dir: &Path, file: &str, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pair = Self {
            certificate: dir.join(format!("{file}.crt")),
            key: dir.join(format!("{file}.key")),
        };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// Its table in a configuration file.
    pub(crate) fn configuration(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("[[tls.certificates]]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
    }

    /// A client that trusts it and nobody else.
    pub(crate) fn client(&self) -> ClientTls {
        ClientTls::new(&Trust::Authorities(self.certificate.clone())).unwrap()
    }
}

/// Takes plain connections and passes each on inside TLS.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
}

impl Door {
    /// To `to`, which must prove to be `localhost`. It is open until the test ends.
    pub(crate) fn open(to: SocketAddr, client: ClientTls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for inside in listener.incoming().flatten() {
                let Ok(outside) = TcpStream::connect(to) else { continue };
                let Ok(layer) = client.connect("localhost") else { continue };
                pass(inside, outside, layer);
            }
        });
        Self { address }
    }
}

/// Both directions of one connection, on threads of their own.
fn pass(inside: TcpStream, outside: TcpStream, layer: Layer) {
    let both = |socket: &TcpStream| socket.try_clone().unwrap();
    let (mut plain_in, mut plain_out) = (both(&inside), inside);
    let (mut sealed_in, mut sealed_out) = (both(&outside), both(&outside));
    let layer = Arc::new(Mutex::new(layer));
    let hello = layer.lock().unwrap().take_output().unwrap();
    if sealed_out.write_all(&hello).is_err() {
        return;
    }
    let mine = Arc::clone(&layer);
    let mut answer_out = outside;
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = sealed_in.read(&mut buffer).unwrap_or(0);
            let mut plain = Vec::new();
            let (result, closed) = {
                let mut layer = mine.lock().unwrap();
                let result = layer.receive(&buffer[..count], &mut plain);
                if let Some(answer) = layer.take_output()
                    && answer_out.write_all(&answer).is_err()
                {
                    break;
                }
                (result, layer.peer_closed())
            };
            let passed = plain_out.write_all(&plain);
            if count == 0 || closed || result.is_err() || passed.is_err() {
                break;
            }
        }
        let _ = plain_out.shutdown(Shutdown::Both);
        let _ = sealed_in.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let buffers = SealBuffers::default();
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = plain_in.read(&mut buffer) {
            let plain = [Bytes::copy_from_slice(&buffer[..count])];
            // What comes before the handshake is complete waits for it.
            let sealed = loop {
                let mut layer = layer.lock().unwrap();
                if layer.established().is_some() || layer.has_failed() {
                    break layer.seal(&plain, &buffers);
                }
                drop(layer);
                thread::sleep(std::time::Duration::from_millis(2));
            };
            let Ok(sealed) = sealed else { break };
            if sealed_out.write_all(&sealed).is_err() {
                break;
            }
        }
        let _ = sealed_out.shutdown(Shutdown::Write);
    });
}
