//! nginx with its RTMP module: a server by other people, to try the measuring itself on and to
//! relay to and from.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use super::process::Process;
use super::{START, wait_for};

/// A running nginx with the application `live`.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    /// Ends the server when dropped.
    _process: Process,
}

impl Nginx {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, "", "")
    }

    /// The same with further directives for the server and for the application.
    pub(crate) fn start_with(dir: &Path, server: &str, app: &str) -> Self {
        // nginx cannot be asked for its port, so one is chosen that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        let file = dir.join("nginx.conf");
        std::fs::write(&file, configuration(dir, address, server, app)).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg(dir.join("nginx.err"));
        let mut process = Process::start(dir, "nginx", &mut command);
        wait_for("nginx to accept connections", START, || {
            process.must_run();
            TcpStream::connect(address).ok()
        });
        Self { address, _process: process }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.address)
    }
}

fn configuration(dir: &Path, address: SocketAddr, server: &str, app: &str) -> String {
    let dir = dir.display();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         daemon off; master_process off; worker_processes 1;\n\
         pid {dir}/nginx.pid; error_log {dir}/nginx.err info;\n\
         events {{ worker_connections 256; }}\n\
         rtmp {{ access_log off; server {{\n\
           listen {address}; chunk_size 4096; {server}\n\
           application live {{ {app}\n\
             live on; wait_key on; wait_video on; publish_notify on; idle_streams on;\n\
           }}\n\
         }} }}\n"
    )
}
