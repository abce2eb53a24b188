//! What stands for the Service that clients come by: HAProxy at the bridge, which is told which
//! pods there are and are ready, and knows nothing else. Who has a connection keeps it.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::nets::{HUB, Space};
use super::process::Process;
use super::{START, wait_for};

/// HAProxy.
pub(crate) struct Balancer {
    _process: Process,
    socket: Switch,
}

/// What tells it of a pod; a clone is the same.
#[derive(Clone)]
pub(crate) struct Switch(PathBuf);

impl Balancer {
    /// Starts it at the bridge's address for as many pods as there may be.
    pub(crate) fn start(dir: &Path, hub: &Space, pods: usize, port: u16) -> Self {
        let socket = dir.join("balancer.sock");
        let servers: String = (0..pods)
            .map(|pod| format!("  server relay-{pod} 0.0.0.0:{port} disabled\n"))
            .collect();
        let settings = format!(
            "global\n  stats socket {} mode 600 level admin\n  maxconn 4000\n\
             defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1h\n  timeout server 1h\n\
             listen pods\n  bind {HUB}:{port}\n  balance roundrobin\n{servers}",
            socket.display()
        );
        let file = dir.join("balancer.cfg");
        fs::write(&file, settings).unwrap();
        let mut command: Command = hub.command("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let mut process = Process::start(dir, "balancer", &mut command);
        wait_for("HAProxy", START, || {
            process.must_run();
            UnixStream::connect(&socket).ok()
        });
        Self { _process: process, socket: Switch(socket) }
    }

    pub(crate) fn switch(&self) -> Switch {
        self.socket.clone()
    }
}

impl Switch {
    /// A pod has this address.
    pub(crate) fn place(&self, pod: usize, address: Ipv4Addr) {
        self.say(&format!("set server pods/relay-{pod} addr {address}"));
    }

    /// New connections go to a pod, or no longer.
    pub(crate) fn offer(&self, pod: usize, ready: bool) {
        let state = if ready { "ready" } else { "drain" };
        self.say(&format!("set server pods/relay-{pod} state {state}"));
    }

    fn say(&self, order: &str) {
        // It may have ended with the test.
        let Ok(mut stream) = UnixStream::connect(&self.0) else { return };
        let mut answer = String::new();
        let said = stream.write_all(format!("{order}\n").as_bytes());
        let _ = said.and_then(|()| stream.read_to_string(&mut answer));
    }
}
